// SPDX-License-Identifier: Apache-2.0
//
// What the guest's serial port is connected to on the host: this process's terminal, a pty, a file
// or nothing.
#ifndef VN_CONSOLE_H
#define VN_CONSOLE_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/program_options.h"
#include "cli/pty.h"

#define CONSOLE_ESCAPE 0x01 // Ctrl-A

// Bytes on their way from one descriptor to another; they wait here, and nothing more is read,
// until all of them are written.
struct relay {
	uint8_t buffer[4096];
	size_t start, count;
};

#define CONSOLE_POLL_MAX 4

// Owned by main. The pipes stand between the library, which has one end of each, and what the
// main thread relays.
struct console {
	enum serial_mode mode;
	bool terminal; // standard input is one
	bool escaped; // Ctrl-A was typed
	int in; // for the library: what the guest receives, or -1
	int out; // and where it sends, or -1
	int input; // relayed from: the terminal or the pty's master; -1 at its end
	int input_pipe; // relayed to; its other end is `in`
	int output_pipe; // relayed to the pty; its other end is `out`
	struct pty pty;
	struct relay to_guest;
};

enum console_event { CONSOLE_NOTHING, CONSOLE_QUIT };

// Opens what `serial` names; `console` must stay where it is. console_close() after
// success; on failure nothing is left open.
int console_open(
	struct console *console, const struct serial_options *serial, struct veneer_error *error);
void console_close(struct console *console);

// Fill in what to poll for, at most CONSOLE_POLL_MAX entries (-1 as descriptor: skip), and lower
// *timeout_ms where something must be looked at again without being told.
unsigned console_poll(struct console *console, struct pollfd *fds, int *timeout_ms);

// Relay what there is to relay; never blocks.
enum console_event console_relay(struct console *console);

// Between veneer_stop() and veneer_wait(), which waits until the library's last output is taken:
// make room for it, since nobody relays meanwhile.
void console_make_room(struct console *console);

// After the guest's end: relay what is left of its output, as long as someone takes it.
void console_drain(struct console *console);

// Take the escapes out of what was typed, in place, and return the bytes left. Stops at the one
// that quits.
size_t console_filter(
	struct console *console, uint8_t *bytes, size_t count, enum console_event *event);

#endif
