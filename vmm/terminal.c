// SPDX-License-Identifier: Apache-2.0
//
// Terminal modes, and the relaying between a terminal and the pipes that the library reads and
// writes. The library could read a terminal itself; what it cannot do is look for the escape key
// and keep off while this process is in the background.
#include "vmm/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/fail.h"

// How often to look whether the terminal is ours again, or the pty is used: neither is told.
#define BACKGROUND_MS 200
#define PTY_MS        50

#define DRAIN_PATIENCE_MS 1000

// Written by the main thread, read also by a signal handler on any thread: `saved` is whole before
// `raw` is set.
static struct {
	struct termios saved;
	volatile sig_atomic_t raw;
} terminal;

static const int fatal_signals[] = {
	SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGQUIT};

#define FATAL_COUNT (sizeof(fatal_signals) / sizeof(fatal_signals[0]))

static struct sigaction previous[FATAL_COUNT];

static bool in_foreground(void)
{
	return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

bool terminal_enter(void)
{
	if (terminal.raw)
		return true;
	if (!isatty(STDIN_FILENO) || !in_foreground())
		return false;
	if (tcgetattr(STDIN_FILENO, &terminal.saved) < 0)
		return false;
	struct termios raw = terminal.saved;
	cfmakeraw(&raw);
	raw.c_oflag = terminal.saved.c_oflag;
	terminal.raw = 1;
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	return true;
}

void terminal_leave(void)
{
	// In the background its modes are someone else's by now.
	if (terminal.raw && in_foreground())
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal.saved);
	terminal.raw = 0;
}

void terminal_forget(void)
{
	terminal.raw = 0;
}

// Restore, and let the signal do what it would have done without us: a fault happens again when
// this returns; what was sent must be sent again.
static void on_fatal_signal(int signal, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	(void)context;
	terminal_leave();
	for (size_t i = 0; i < FATAL_COUNT; i++) {
		if (fatal_signals[i] == signal)
			sigaction(signal, &previous[i], NULL);
	}
	if (info->si_code <= 0)
		raise(signal);
	errno = saved_errno;
}

void terminal_init(void)
{
	struct sigaction action = {.sa_sigaction = on_fatal_signal, .sa_flags = SA_SIGINFO};

	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < FATAL_COUNT; i++) {
		sigaction(fatal_signals[i], NULL, &previous[i]);
		if (previous[i].sa_handler != SIG_IGN)
			sigaction(fatal_signals[i], &action, NULL);
	}
}

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
		return fail_with(error, -errno, "serial port: no pipe: %s", strerror(errno));
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
// are blocked by now. A terminal must not become ours. What follows is to block as usual. An old log stays,
// and what a rotator truncates is written to at its new end.
static int open_file(struct console *console, const char *path, struct veneer_error *error)
{
	const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

	console->out = open(path, flags, 0666);
	if (console->out < 0 && errno == ENXIO)
		return fail_with(error, -ENXIO, "--serial: nobody reads or answers at '%s'", path);
	if (console->out < 0 || fcntl(console->out, F_SETFL, O_APPEND) < 0)
		return fail_with(
			error, -errno, "--serial: cannot write '%s': %s", path, strerror(errno));
	return 0;
}

// The other side is opened and closed once: only from then on does the master say whether anyone
// uses it.
static int open_pty(struct console *console, struct veneer_error *error)
{
	char name[64];
	struct termios modes;
	int slave;
	int fds[2];

	int ret = open_pipe(fds, 0, error);
	if (ret < 0)
		return ret;
	console->output_pipe = fds[0];
	console->out = fds[1];
	if (openpty(&console->input, &slave, name, NULL, NULL) < 0)
		return fail_with(error, -errno, "--serial: no pty: %s", strerror(errno));
	if (tcgetattr(slave, &modes) == 0) {
		cfmakeraw(&modes);
		tcsetattr(slave, TCSANOW, &modes);
	}
	close(slave);
	if (fcntl(console->input, F_SETFL, O_NONBLOCK) < 0 ||
		fcntl(console->input, F_SETFD, FD_CLOEXEC) < 0)
		return fail_with(error, -errno, "--serial: no pty: %s", strerror(errno));
	fprintf(stderr, "veneer: the serial port is %s\n", name);
	return open_input(console, console->input, error);
}

int console_open(struct console *console, const struct options *options, struct veneer_error *error)
{
	int ret = 0;

	*console = (struct console){.mode = options->serial,
		.in = -1,
		.out = -1,
		.input = -1,
		.input_pipe = -1,
		.output_pipe = -1};
	switch (options->serial) {
	case SERIAL_STDIO:
		ret = open_stdio(console, error);
		break;
	case SERIAL_NONE:
		break;
	case SERIAL_FILE:
		ret = open_file(console, options->serial_path, error);
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
	if (console->input != STDIN_FILENO)
		close_fd(&console->input);
	close_fd(&console->input_pipe);
	close_fd(&console->output_pipe);
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
			console->escaped = byte == TERMINAL_ESCAPE;
			if (!console->escaped)
				bytes[kept++] = byte;
			continue;
		}
		console->escaped = false;
		if (byte == 'x') {
			*event = CONSOLE_QUIT;
			break;
		}
		if (byte == 'a' || byte == TERMINAL_ESCAPE)
			bytes[kept++] = TERMINAL_ESCAPE;
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

// Whether anyone has the other side of the pty open.
static bool pty_used(const struct console *console)
{
	struct pollfd pfd = {.fd = console->input};

	return poll(&pfd, 1, 0) == 0;
}

static void relay_pty(struct console *console)
{
	bool used = pty_used(console);

	// Output that nobody reads is dropped, as a cable without a terminal does.
	relay_read(&console->from_guest, console->output_pipe);
	if (used)
		relay_write(&console->from_guest, console->input);
	else
		console->from_guest.count = 0;
	relay_write(&console->to_guest, console->input_pipe);
	if (used)
		relay_read(&console->to_guest, console->input);
	relay_write(&console->to_guest, console->input_pipe);
}

enum console_event console_relay(struct console *console)
{
	if (console->mode == SERIAL_PTY)
		relay_pty(console);
	else if (console->input >= 0)
		return relay_terminal(console);
	return CONSOLE_NOTHING;
}

void console_drain(struct console *console)
{
	struct pollfd left = {.fd = console->output_pipe, .events = POLLIN};

	if (console->mode != SERIAL_PTY)
		return;
	while (console->from_guest.count || poll(&left, 1, 0) > 0) {
		struct pollfd room = {.fd = console->input, .events = POLLOUT};
		relay_pty(console);
		if (console->from_guest.count && poll(&room, 1, DRAIN_PATIENCE_MS) <= 0)
			return;
	}
}

static void lower(int *timeout_ms, int limit)
{
	if (*timeout_ms < 0 || *timeout_ms > limit)
		*timeout_ms = limit;
}

unsigned console_poll(struct console *console, struct pollfd *fds, int *timeout_ms)
{
	bool pty = console->mode == SERIAL_PTY;
	bool listen = console->input >= 0;

	if (pty && !pty_used(console)) {
		listen = false;
		lower(timeout_ms, PTY_MS);
	} else if (listen && console->terminal && !terminal_enter()) {
		listen = false;
		lower(timeout_ms, BACKGROUND_MS);
	}
	bool writing = console->to_guest.count > 0;
	short events =
		(short)((writing ? 0 : POLLIN) | (pty && console->from_guest.count ? POLLOUT : 0));
	// What is waited for on one side is not polled for on the other.
	fds[0] = (struct pollfd){.fd = listen && events ? console->input : -1, .events = events};
	fds[1] = (struct pollfd){.fd = writing ? console->input_pipe : -1, .events = POLLOUT};
	fds[2] = (struct pollfd){
		.fd = console->from_guest.count ? -1 : console->output_pipe, .events = POLLIN};
	return CONSOLE_POLL_MAX;
}
