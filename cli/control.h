// SPDX-License-Identifier: Apache-2.0
//
// Control of a running guest, by SIGTERM and by requests on its socket:
//
//     GET /state                      {"state":"running"}
//     POST /pause, /resume, /reset    answered with the state afterwards: {"state":"paused"}
//     POST /stop, /stop?time=SECONDS  press the power button, SECONDS later cut the power;
//                                     answered when the run has ended
//     GET /wait                       the same: {"end":"poweroff","status":0}
//
// A request that the guest's state does not allow is refused with 409 and the library's line. The
// main thread calls the library itself: during a pause or reset, which waits for the requests in
// flight, it does nothing else.
#ifndef VN_CONTROL_H
#define VN_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/server.h"
#include "veneer.h"

#define CONTROL_GRACE_S     10 // between the first press of the power button and the cut
#define CONTROL_GRACE_MAX_S 1000000000u

// The main thread's.
struct control {
	struct veneer *const *vm; // the guest; NULL there: none runs
	bool has_button; // whether its kernel may know the power button
	bool pressed; // the guest is to end: --reboot does not start it again
	bool signalled; // SIGTERM has pressed the button
	bool cut; // the caller of control_tick() is to end the guest now
	uint64_t press_ns, cut_ns; // time of the next press and of the cut (CLOCK_MONOTONIC), or 0
	const char *end; // how the run has ended, or NULL
	int status; // its exit status
};

// For server_add(), with a struct control.
extern const struct server_resource control_resources[];

// SIGTERM: press the guest's power button, now and every 3 seconds until the guest has ended. A
// paused guest is resumed, to see the button. False: this is the second SIGTERM, or there is no
// button, or no guest runs. A button that POST /stop has pressed is pressed again, and the guest
// keeps the time that it was given.
bool control_press(struct control *control);

// Lower *timeout_ms (-1: none), of poll(2), to the time until control_tick() is due.
void control_timeout(const struct control *control, int *timeout_ms);

// Press the button again, or set `cut`, if it is time. Only while a guest runs.
void control_tick(struct control *control);

// The run has ended in this way, and its process exits with this status: answer the clients that
// wait.
void control_end(struct control *control, const char *end, int status, struct server *server);

#endif
