// SPDX-License-Identifier: Apache-2.0
//
// A pseudo-terminal as the guest's serial port, which others open and close as they like. Output
// that nobody is there to read is kept, the newest 64 KiB of it, for the next who comes; input is
// taken at any time, also from one who writes and closes at once.
#ifndef VN_PTY_H
#define VN_PTY_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "veneer.h"

#define PTY_BACKLOG 65536 // bytes

struct pty {
	int master; // non-blocking
	int watch; // readable when the other side was opened; -1: it cannot be watched
	char name[64]; // of the other side
	bool used; // somebody had it open when we last looked
	bool unread; // the kernel may hold output that nobody has read
	uint64_t settled_ns; // output waits until then, of CLOCK_MONOTONIC
	uint8_t *backlog; // a ring
	size_t start, count;
};

// pty_close() after success; on failure nothing is left open.
int pty_open(struct pty *pty, struct veneer_error *error);
void pty_close(struct pty *pty);

// Look whether anybody is there; before what follows.
void pty_look(struct pty *pty);

// Move output from the pipe `from`, which does not block, to who is there or to the backlog.
void pty_relay_output(struct pty *pty, int from);

// Fill in what to poll for on the pty (POLLIN where input is wanted), on what watches it, and on
// the pipe `from`; -1 as descriptor: skip. In how many milliseconds to look again without being
// told; -1: never.
int pty_poll(const struct pty *pty, struct pollfd fds[3], bool input, int from);

// Once the guest is stopped: empty the pipe, so that it has room for all that the serial port still
// holds. Gives up when whoever is there takes nothing for a second.
void pty_empty_pipe(struct pty *pty, int from);

// At the end: relay what is left to who is there, as long as they take it, and wait until they have
// read it, since the other side's input is discarded with the pty.
void pty_drain(struct pty *pty, int from);

#endif
