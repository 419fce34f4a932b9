// SPDX-License-Identifier: Apache-2.0
//
// Relaying between a terminal or a pty and the pipes that the library reads and writes. The library
// could read a terminal itself; what it cannot do is look for the escape key and keep off while
// this process is in the background.
#include "cli/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/terminal.h"

// How often to look whether the terminal is ours again: nobody tells.
#define BACKGROUND_MS 200

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

// A pipe whose end `ours` (0: reading, 1: writing) does not block.
static int open_pipe(int fds[2], int ours, struct veneer_error *error)
{
	if (pipe2(fds, O_CLOEXEC) < 0 || fcntl(fds[ours], F_SETFL, O_NONBLOCK) < 0)
		return vn_fail(error, -errno, "serial port: no pipe: %s", strerror(errno));
	return 0;
}

// Connect the library's input to a relay from `input`.
static int open_input(struct console *console, int input, struct veneer_error *error)
{
	int fds[2];
	int ret = open_pipe(fds, 1, error);

	if (ret < 0)
		return ret;
	console->input = input;
	console->in = fds[0];
	console->input_pipe = fds[1];
	return 0;
}

static int open_stdio(struct console *console, struct veneer_error *error)
{
	console->out = STDOUT_FILENO;
	console->terminal = isatty(STDIN_FILENO);
	if (console->terminal)
		return open_input(console, STDIN_FILENO, error);
	console->in = STDIN_FILENO; // nothing to look for in it
	return 0;
}

// A FIFO that nobody reads must be refused: waiting for its reader would be deaf to signals, which
// are blocked by now. A terminal must not become ours. What follows is to block as usual. An old
// log stays, and what a rotator truncates is written to at its new end.
static int open_file(struct console *console, const char *path, struct veneer_error *error)
{
	const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

	console->out = open(path, flags, 0666);
	if (console->out < 0 && errno == ENXIO)
		return vn_fail(error, -ENXIO, "--serial: nobody reads or answers at '%s'", path);
	if (console->out < 0 || fcntl(console->out, F_SETFL, O_APPEND) < 0)
		return vn_fail(
			error, -errno, "--serial: cannot write '%s': %s", path, strerror(errno));
	return 0;
}

static int open_pty(struct console *console, struct veneer_error *error)
{
	int fds[2];

	int ret = open_pipe(fds, 0, error);
	if (ret < 0)
		return ret;
	console->output_pipe = fds[0];
	console->out = fds[1];
	ret = pty_open(&console->pty, error);
	if (ret < 0)
		return ret;
	fprintf(stderr, "veneer: the serial port is %s\n", console->pty.name);
	return open_input(console, console->pty.master, error);
}

int console_open(
	struct console *console, const struct serial_options *serial, struct veneer_error *error)
{
	int ret = 0;

	*console = (struct console){.mode = serial->mode,
		.in = -1,
		.out = -1,
		.input = -1,
		.input_pipe = -1,
		.output_pipe = -1,
		.pty = {.master = -1, .watch = -1}};
	switch (serial->mode) {
	case SERIAL_STDIO:
		ret = open_stdio(console, error);
		break;
	case SERIAL_NONE:
		break;
	case SERIAL_FILE:
		ret = open_file(console, serial->path, error);
		break;
	case SERIAL_PTY:
		ret = open_pty(console, error);
		break;
	}
	if (ret < 0)
		console_close(console);
	return ret;
}

void console_close(struct console *console)
{
	terminal_leave();
	if (console->in != STDIN_FILENO)
		close_fd(&console->in);
	if (console->out != STDOUT_FILENO)
		close_fd(&console->out);
	close_fd(&console->input_pipe);
	close_fd(&console->output_pipe);
	pty_close(&console->pty);
}

static bool transient(ssize_t result)
{
	return result < 0 && (errno == EAGAIN || errno == EINTR);
}

// Write what waits. False when the other side is gone, and the bytes with it.
static bool relay_write(struct relay *relay, int to)
{
	if (!relay->count)
		return true;
	ssize_t written = write(to, relay->buffer + relay->start, relay->count);
	if (transient(written))
		return true;
	if (written <= 0) {
		relay->count = 0;
		return false;
	}
	relay->start += (size_t)written;
	relay->count -= (size_t)written;
	return true;
}

static bool readable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLIN);
}

// Read more if nothing waits, and there is something (the descriptor may block). False at the end.
static bool relay_read(struct relay *relay, int from)
{
	struct pollfd pfd = {.fd = from, .events = POLLIN};

	if (relay->count || poll(&pfd, 1, 0) <= 0)
		return true;
	ssize_t got = read(from, relay->buffer, sizeof(relay->buffer));
	if (transient(got))
		return true;
	relay->start = 0;
	relay->count = got > 0 ? (size_t)got : 0;
	return got > 0;
}

static void print_keys(void)
{
	fputs("\n"
	      "Ctrl-A x       stop the guest and leave\n"
	      "Ctrl-A a       send Ctrl-A to the guest; so does Ctrl-A Ctrl-A\n"
	      "Ctrl-A h       this help\n",
		stderr);
}

size_t console_filter(
	struct console *console, uint8_t *bytes, size_t count, enum console_event *event)
{
	size_t kept = 0;

	*event = CONSOLE_NOTHING;
	for (size_t i = 0; i < count; i++) {
		uint8_t byte = bytes[i];
		if (!console->escaped) {
			console->escaped = byte == CONSOLE_ESCAPE;
			if (!console->escaped)
				bytes[kept++] = byte;
			continue;
		}
		console->escaped = false;
		if (byte == 'x') {
			*event = CONSOLE_QUIT;
			break;
		}
		if (byte == 'a' || byte == CONSOLE_ESCAPE)
			bytes[kept++] = CONSOLE_ESCAPE;
		else if (byte == 'h')
			print_keys();
	}
	return kept;
}

// The guest receives nothing more; the library finds the end of the pipe.
static void end_input(struct console *console)
{
	console->input = -1;
	close_fd(&console->input_pipe);
}

static enum console_event relay_terminal(struct console *console)
{
	struct relay *relay = &console->to_guest;
	enum console_event event = CONSOLE_NOTHING;

	if (!relay_write(relay, console->input_pipe)) {
		end_input(console);
		return CONSOLE_NOTHING;
	}
	if (relay->count || !terminal_enter())
		return CONSOLE_NOTHING;
	if (!relay_read(relay, console->input)) {
		end_input(console);
		return CONSOLE_NOTHING;
	}
	relay->count = console_filter(console, relay->buffer, relay->count, &event);
	relay_write(relay, console->input_pipe);
	return event;
}

// Whatever was written and closed is there to be read, though nobody is; where somebody is, poll(2)
// tells of more.
static void relay_pty(struct console *console)
{
	struct relay *relay = &console->to_guest;

	pty_look(&console->pty);
	pty_relay_output(&console->pty, console->output_pipe);
	do {
		relay_write(relay, console->input_pipe);
		relay_read(relay, console->input);
		relay_write(relay, console->input_pipe);
	} while (!console->pty.used && !relay->count && readable(console->input));
}

enum console_event console_relay(struct console *console)
{
	if (console->mode == SERIAL_PTY)
		relay_pty(console);
	else if (console->input >= 0)
		return relay_terminal(console);
	return CONSOLE_NOTHING;
}

void console_make_room(struct console *console)
{
	if (console->mode == SERIAL_PTY)
		pty_empty_pipe(&console->pty, console->output_pipe);
}

void console_drain(struct console *console)
{
	if (console->mode == SERIAL_PTY)
		pty_drain(&console->pty, console->output_pipe);
}

// What is waited for on one side is not polled for on the other.
unsigned console_poll(struct console *console, struct pollfd *fds, int *timeout_ms)
{
	bool writing = console->to_guest.count > 0;
	bool listen = console->input >= 0 && !writing;
	int again_ms = -1;

	for (unsigned i = 0; i < CONSOLE_POLL_MAX; i++)
		fds[i] = (struct pollfd){.fd = -1};
	if (writing)
		fds[0] = (struct pollfd){.fd = console->input_pipe, .events = POLLOUT};
	if (console->mode == SERIAL_PTY)
		again_ms = pty_poll(&console->pty, fds + 1, listen, console->output_pipe);
	else if (console->terminal && console->input >= 0 && !terminal_enter())
		again_ms = BACKGROUND_MS;
	else if (listen)
		fds[1] = (struct pollfd){.fd = console->input, .events = POLLIN};
	if (again_ms >= 0 && (*timeout_ms < 0 || *timeout_ms > again_ms))
		*timeout_ms = again_ms;
	return CONSOLE_POLL_MAX;
}
