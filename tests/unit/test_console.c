// SPDX-License-Identifier: Apache-2.0
//
// The pty that others open and close as they like: what was printed before is there, what is typed
// arrives, nothing is waited for in vain. The test is the program's main thread and the library in
// one: it polls and relays, and has the library's ends of the pipes.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/console.h"

#define LIMIT_MS 60000 // for what must happen

static struct console console;

static int open_console(void **state)
{
	const struct serial_options options = {.mode = SERIAL_PTY};
	struct veneer_error error = {.code = 0};

	(void)state;
	assert_int_equal(console_open(&console, &options, &error), 0);
	assert_true(console.pty.watch >= 0);
	assert_int_equal(fcntl(console.out, F_SETFL, O_NONBLOCK), 0);
	return 0;
}

static int close_console(void **state)
{
	(void)state;
	console_close(&console);
	return 0;
}

// One turn of the main loop, of at most `ms`: how many descriptors were ready.
static int turn(int ms)
{
	struct pollfd fds[CONSOLE_POLL_MAX];
	int timeout_ms = ms;
	unsigned count = console_poll(&console, fds, &timeout_ms);
	int ready = poll(fds, count, timeout_ms);

	console_relay(&console);
	return ready;
}

// Until nothing is ready and nothing is to be looked at again: what would be a busy loop never gets
// there.
static void settle(void)
{
	struct pollfd fds[CONSOLE_POLL_MAX];
	int timeout_ms;

	for (int i = 0; i < 1000; i++) {
		timeout_ms = -1;
		unsigned count = console_poll(&console, fds, &timeout_ms);
		if (poll(fds, count, 0) == 0 && timeout_ms < 0)
			return;
		turn(1);
	}
	fail_msg("the main loop does not come to rest");
}

static int open_reader(void)
{
	int fd = open(console.pty.name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

// What the guest prints: numbered lines of 16 bytes, from `first` on.
static void print_lines(unsigned first, unsigned count)
{
	char line[17];

	for (unsigned i = first; i < first + count; i++) {
		snprintf(line, sizeof(line), "line %10u\n", i);
		for (int tries = 0; write(console.out, line, 16) != 16; tries++) {
			assert_int_equal(errno, EAGAIN);
			assert_true(tries < LIMIT_MS);
			turn(1);
		}
	}
}

// `count` bytes, of which the reader finds lines from `first` on.
static void expect_lines(int fd, unsigned first, unsigned count)
{
	char line[16];
	char expected[17];

	for (unsigned i = first; i < first + count; i++) {
		size_t have = 0;
		for (int tries = 0; have < sizeof(line); tries++) {
			ssize_t got = read(fd, line + have, sizeof(line) - have);
			assert_true(got > 0 || errno == EAGAIN);
			assert_true(tries < LIMIT_MS);
			have += got > 0 ? (size_t)got : 0;
			turn(got > 0 ? 0 : 1);
		}
		snprintf(expected, sizeof(expected), "line %10u\n", i);
		assert_memory_equal(line, expected, sizeof(line));
	}
}

static void expect_nothing_more(int fd)
{
	char byte;

	settle();
	assert_int_equal(read(fd, &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

static void expect_input(const char *text)
{
	char got[64];
	size_t have = 0;

	for (int tries = 0; have < strlen(text); tries++) {
		struct pollfd pfd = {.fd = console.in, .events = POLLIN};
		assert_true(tries < LIMIT_MS);
		if (poll(&pfd, 1, 0) > 0) {
			ssize_t count = read(console.in, got + have, strlen(text) - have);
			assert_true(count > 0);
			have += (size_t)count;
		} else {
			turn(1);
		}
	}
	assert_memory_equal(got, text, have);
}

static void what_was_printed_before_waits(void **state)
{
	(void)state;
	print_lines(0, 100);
	settle();
	int fd = open_reader();
	expect_lines(fd, 0, 100);
	print_lines(100, 10);
	expect_lines(fd, 100, 10);
	expect_nothing_more(fd);
	close(fd);
}

// More than all buffers hold, and nobody ever comes: the guest is not held up. The next one gets
// the newest 64 KiB.
static void the_backlog_is_bounded(void **state)
{
	(void)state;
	print_lines(0, 20000);
	settle();
	int fd = open_reader();
	expect_lines(fd, 20000 - PTY_BACKLOG / 16, PTY_BACKLOG / 16);
	expect_nothing_more(fd);
	close(fd);
}

static void each_reader_goes_on(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		print_lines(i * 200, 100);
		settle();
		int fd = open_reader();
		print_lines(i * 200 + 100, 100);
		expect_lines(fd, i * 200, 200);
		expect_nothing_more(fd);
		close(fd);
		settle();
	}
}

// A reader that leaves before it has read all: the next one gets the rest, in order.
static void what_was_not_read_waits(void **state)
{
	(void)state;
	print_lines(0, 3000);
	int fd = open_reader();
	expect_lines(fd, 0, 10);
	close(fd);
	settle();
	print_lines(3000, 100);
	fd = open_reader();
	expect_lines(fd, 10, 3090);
	close(fd);
}

// The same, and then more than the backlog holds: what the kernel still had is older than that.
static void the_oldest_goes_first(void **state)
{
	(void)state;
	print_lines(0, 3000);
	int fd = open_reader();
	expect_lines(fd, 0, 10);
	close(fd);
	print_lines(3000, 20000);
	settle();
	fd = open_reader();
	expect_lines(fd, 23000 - PTY_BACKLOG / 16, PTY_BACKLOG / 16);
	expect_nothing_more(fd);
	close(fd);
}

// Until the output is held up. Returns how many lines, from 0 on, were taken.
static unsigned fill(void)
{
	unsigned lines = 0;
	char line[17];

	for (int full = 0; full < 200; full++) {
		snprintf(line, sizeof(line), "line %10u\n", lines);
		if (write(console.out, line, 16) == 16) {
			lines++;
			full = 0;
		} else {
			turn(1);
		}
	}
	return lines;
}

// Somebody is there and does not read: as with flow control, the output waits, and all of it.
static void a_slow_reader_loses_nothing(void **state)
{
	(void)state;
	int fd = open_reader();
	turn(0);
	unsigned lines = fill();
	assert_true(lines > (PTY_BACKLOG + 65536) / 16);
	settle();
	expect_lines(fd, 0, lines);
	// It leaves: the guest goes on.
	print_lines(0, 3000);
	close(fd);
	print_lines(3000, 20000);
	settle();
}

// Programs set the line's modes first, and discard what has come until then.
static void the_backlog_waits_for_modes(void **state)
{
	struct termios modes;

	(void)state;
	print_lines(0, 1000);
	settle();
	int fd = open_reader();
	turn(0);
	turn(0);
	assert_int_equal(tcgetattr(fd, &modes), 0);
	assert_int_equal(tcsetattr(fd, TCSAFLUSH, &modes), 0);
	assert_int_equal(tcflush(fd, TCIOFLUSH), 0);
	expect_lines(fd, 0, 1000);
	close(fd);
}

static void input_arrives(void **state)
{
	(void)state;
	int fd = open_reader();
	assert_int_equal(write(fd, "one\n", 4), 4);
	expect_input("one\n");
	close(fd);
	settle();
	for (int i = 0; i < 3; i++) {
		fd = open_reader();
		assert_int_equal(write(fd, "written and closed\n", 19), 19);
		close(fd);
		expect_input("written and closed\n");
		settle();
	}
}

// The guest has not opened its end: a pipe and a kernel's buffer full wait for it, at rest.
static void input_waits(void **state)
{
	char bytes[1000];
	size_t sent = 0, received = 0;

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	int fd = open_reader();
	for (int full = 0; full < 50; full++) {
		ssize_t written = write(fd, bytes, sizeof(bytes));
		if (written > 0) {
			sent += (size_t)written;
			full = 0;
		}
		turn(0);
	}
	assert_true(sent > 65536);
	settle();
	close(fd);
	settle();
	for (int tries = 0; received < sent && tries < LIMIT_MS; tries++) {
		struct pollfd pfd = {.fd = console.in, .events = POLLIN};
		if (poll(&pfd, 1, 0) > 0)
			received += (size_t)read(console.in, bytes, sizeof(bytes));
		else
			turn(1);
	}
	assert_int_equal(received, sent);
	settle();
}

// Each state in which nothing happens is one of rest.
static void nothing_is_polled_in_vain(void **state)
{
	(void)state;
	settle(); // nobody ever
	print_lines(0, 20000);
	settle(); // a full backlog
	int fd = open_reader();
	settle(); // somebody who does not read
	close(fd);
	settle(); // who left
	fd = open_reader();
	expect_lines(fd, 20000 - PTY_BACKLOG / 16, PTY_BACKLOG / 16);
	settle(); // and one who read all
	close(fd);
	settle();
}

// Without inotify somebody is found all the same.
static void works_without_a_watch(void **state)
{
	struct pollfd fds[CONSOLE_POLL_MAX];
	int timeout_ms = -1;

	(void)state;
	close(console.pty.watch);
	console.pty.watch = -1;
	print_lines(0, 100);
	int fd = open_reader();
	assert_int_equal(write(fd, "typed\n", 6), 6);
	expect_lines(fd, 0, 100);
	expect_input("typed\n");
	close(fd);
	while (turn(0) > 0)
		;
	assert_false(console.pty.used);
	console_poll(&console, fds, &timeout_ms);
	assert_in_range(timeout_ms, 1, 1000); // it is looked at again
}

// The last words: the reader has them, though the pty goes.
static void the_end_is_read(void **state)
{
	char bytes[16];
	int opened[2], status;
	size_t have = 0;

	(void)state;
	assert_int_equal(pipe2(opened, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		ssize_t got;
		int fd = open(console.pty.name, O_RDONLY | O_NOCTTY);
		close(console.pty.master); // ours of it must not keep it alive
		if (write(opened[1], "x", 1) != 1)
			_exit(1);
		nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
		while ((got = read(fd, bytes, sizeof(bytes))) > 0)
			have += (size_t)got;
		_exit(have == 16000 ? 0 : 1);
	}
	assert_int_equal(read(opened[0], bytes, 1), 1);
	print_lines(0, 1000);
	console_drain(&console);
	console_close(&console);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(opened[0]);
	close(opened[1]);
}

// At the guest's end the library waits until the pipe has taken what it holds, and nobody relays.
static void there_is_room_for_the_end(void **state)
{
	char bytes[8192] = "", got[16];
	int fd = open_reader();
	int status;

	(void)state;
	turn(0);
	unsigned lines = fill();
	console_make_room(&console); // gives up
	assert_int_equal(write(console.out, bytes, 16), -1);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
		size_t have = 0, wanted = lines * 16 + sizeof(bytes);
		for (int idle = 0; have < wanted && idle < LIMIT_MS;) {
			ssize_t count = read(fd, got, sizeof(got));
			have += count > 0 ? (size_t)count : 0;
			if (count <= 0)
				idle += poll(NULL, 0, 1) == 0;
		}
		_exit(have == wanted ? 0 : 1);
	}
	console_make_room(&console);
	assert_int_equal(write(console.out, bytes, sizeof(bytes)), sizeof(bytes));
	console_drain(&console);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	// Who leaves, or never was there, does not hold the end up.
	fill();
	close(fd);
	console_make_room(&console);
	assert_int_equal(write(console.out, bytes, sizeof(bytes)), sizeof(bytes));
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, open_console, close_console)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH(what_was_printed_before_waits),
		WITH(the_backlog_is_bounded),
		WITH(each_reader_goes_on),
		WITH(what_was_not_read_waits),
		WITH(the_oldest_goes_first),
		WITH(a_slow_reader_loses_nothing),
		WITH(there_is_room_for_the_end),
		WITH(the_backlog_waits_for_modes),
		WITH(input_arrives),
		WITH(input_waits),
		WITH(nothing_is_polled_in_vain),
		WITH(works_without_a_watch),
		cmocka_unit_test_setup(the_end_is_read, open_console),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
