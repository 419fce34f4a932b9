// SPDX-License-Identifier: Apache-2.0
//
// What others want of a guest, by its socket: which calls of the library follow, in which order,
// and who is answered when. The guest is a state that is written here.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/macros.h"
#include "cli/control.h"
#include "cli/runtime.h"

// ---- The guest

static enum veneer_state guest_state;
static const char *reset_line; // with which a reset is refused, or NULL
static bool ends_first; // before it is
static char calls[256]; // that were made, with blanks between them

static int call(const char *name)
{
	strcat(strcat(calls, calls[0] ? " " : ""), name);
	return 0;
}

static int refuse(const char *name, struct veneer_error *error)
{
	call(name);
	return vn_fail(error, -EINVAL, "cannot %s this guest", name);
}

enum veneer_state veneer_get_state(struct veneer *vm)
{
	(void)vm;
	return guest_state;
}

int veneer_start(struct veneer *vm, struct veneer_error *error)
{
	(void)vm;
	(void)error;
	guest_state = VENEER_STATE_RUNNING;
	return call("start");
}

int veneer_pause(struct veneer *vm, struct veneer_error *error)
{
	(void)vm;
	if (guest_state == VENEER_STATE_ENDED)
		return refuse("pause", error);
	guest_state = VENEER_STATE_PAUSED;
	return call("pause");
}

int veneer_resume(struct veneer *vm, struct veneer_error *error)
{
	(void)vm;
	if (guest_state == VENEER_STATE_ENDED)
		return refuse("resume", error);
	guest_state = VENEER_STATE_RUNNING;
	return call("resume");
}

int veneer_reset(struct veneer *vm, struct veneer_error *error)
{
	(void)vm;
	if (reset_line) {
		if (ends_first)
			guest_state = VENEER_STATE_ENDED;
		call("reset");
		return vn_fail(error, -EINVAL, "%s", reset_line);
	}
	if (ends_first)
		guest_state = VENEER_STATE_CREATED; // it ended, and is reset all the same
	return call("reset");
}

int veneer_press_power_button(struct veneer *vm, struct veneer_error *error)
{
	(void)vm;
	return guest_state == VENEER_STATE_RUNNING ? call("press") : refuse("press", error);
}

static void assert_calls(const char *expected)
{
	assert_string_equal(calls, expected);
	calls[0] = '\0';
}

// ---- Its socket

static char directory[64];
static char nobody; // stands for the guest
static struct veneer *vm;
static struct server *server;
static struct control control;

static int open_server(void **state)
{
	struct veneer_error error;

	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/control-test-XXXXXX");
	if (!mkdtemp(directory) || setenv("XDG_RUNTIME_DIR", directory, 1) < 0)
		return -1;
	vm = (struct veneer *)&nobody;
	control = (struct control){.vm = &vm, .has_button = true};
	guest_state = VENEER_STATE_RUNNING;
	reset_line = NULL;
	ends_first = false;
	calls[0] = '\0';
	if (server_open(&server, "web", &error) < 0)
		fail_msg("%s", error.message);
	server_add(server, control_resources, &control);
	return 0;
}

static int close_server(void **state)
{
	char path[128];

	(void)state;
	server_close(server);
	snprintf(path, sizeof(path), "%s/veneer", directory);
	rmdir(path);
	return rmdir(directory);
}

static void serve(void)
{
	struct pollfd fds[SERVER_POLL_MAX];
	int unused = -1;

	for (unsigned i = 0; i < 20 && poll(fds, server_poll(server, fds, &unused), 0) > 0; i++)
		server_serve(server);
}

static int ask(const char *what)
{
	char path[128], request[128];
	struct veneer_error error;
	struct runtime_guest guest = {.name = "web", .path = path};

	snprintf(path, sizeof(path), "%s/veneer/web.sock", directory);
	int fd = runtime_connect(&guest, &error);
	if (fd < 0)
		fail_msg("%s", error.message);
	int length = snprintf(request, sizeof(request), "%s HTTP/1.1\r\n\r\n", what);
	assert_int_equal(send(fd, request, (size_t)length, 0), length);
	serve();
	return fd;
}

// The answer has this status and this body; closes.
static void assert_answer(int fd, const char *status, const char *body)
{
	char text[1024], first[64];
	ssize_t got = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[got > 0 ? got : 0] = '\0';
	snprintf(first, sizeof(first), "HTTP/1.1 %s\r\n", status);
	const char *end = strstr(text, "\r\n\r\n");
	if (strncmp(text, first, strlen(first)) != 0 || !end || strcmp(end + 4, body) != 0)
		fail_msg("not %s with %s: \"%s\"", status, body, text);
	close(fd);
}

static void assert_no_answer(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK), -1);
	assert_int_equal(errno, EAGAIN);
}

static void answers_with_the_state(void **state)
{
	(void)state;
	assert_answer(ask("GET /state"), "200 OK", "{\"state\":\"running\"}\n");
	assert_answer(ask("POST /pause"), "200 OK", "{\"state\":\"paused\"}\n");
	assert_answer(ask("GET /state"), "200 OK", "{\"state\":\"paused\"}\n");
	assert_answer(ask("POST /resume"), "200 OK", "{\"state\":\"running\"}\n");
	assert_answer(ask("POST /reset"), "200 OK", "{\"state\":\"running\"}\n");
	assert_answer(ask("POST /pause"), "200 OK", "{\"state\":\"paused\"}\n");
	assert_answer(ask("POST /reset"), "200 OK", "{\"state\":\"paused\"}\n");
	assert_calls("pause resume reset pause reset");
}

static void refuses_with_the_line(void **state)
{
	(void)state;
	guest_state = VENEER_STATE_ENDED;
	assert_answer(ask("POST /pause"), "409 Conflict", "cannot pause this guest\n");
	assert_answer(ask("POST /resume"), "409 Conflict", "cannot resume this guest\n");
	assert_calls("pause resume");
	assert_answer(ask("POST /reset"), "409 Conflict", "cannot reset a guest that has ended\n");
	assert_calls(""); // which would have revived it
}

static void a_guest_that_ends_before_its_reset_has_ended(void **state)
{
	(void)state;
	reset_line = "cannot reset a guest that ended meanwhile";
	ends_first = true;
	assert_answer(
		ask("POST /reset"), "409 Conflict", "cannot reset a guest that ended meanwhile\n");
	assert_calls("reset");
	assert_answer(ask("GET /state"), "200 OK", "{\"state\":\"ended\"}\n");
	assert_answer(ask("POST /reset"), "409 Conflict", "cannot reset a guest that has ended\n");
	assert_calls("");
}

static void a_guest_that_was_reset_after_its_end_goes_on(void **state)
{
	(void)state;
	ends_first = true;
	assert_answer(ask("POST /reset"), "200 OK", "{\"state\":\"running\"}\n");
	assert_calls("reset start");
}

static void a_guest_whose_reset_is_refused_goes_on(void **state)
{
	(void)state;
	reset_line = "kernel 'vmlinux': No such file or directory";
	assert_answer(ask("POST /reset"), "409 Conflict",
		"kernel 'vmlinux': No such file or directory\n");
	assert_calls("reset");
	assert_answer(ask("GET /state"), "200 OK", "{\"state\":\"running\"}\n");
}

static void those_that_wait_are_told(void **state)
{
	(void)state;
	int first = ask("GET /wait"), second = ask("GET /wait");
	serve();
	assert_no_answer(first);
	assert_no_answer(second);
	vm = NULL;
	control_end(&control, "exit", 7, server);
	assert_answer(first, "200 OK", "{\"end\":\"exit\",\"status\":7}\n");
	assert_answer(second, "200 OK", "{\"end\":\"exit\",\"status\":7}\n");
	assert_calls("");
}

static void a_stop_presses_again_and_then_cuts(void **state)
{
	int timeout_ms = -1;

	(void)state;
	control_timeout(&control, &timeout_ms);
	assert_int_equal(timeout_ms, -1);
	int fd = ask("POST /stop?time=60");
	assert_calls("press");
	assert_true(control.pressed);
	control_tick(&control);
	assert_calls("");
	control_timeout(&control, &timeout_ms);
	assert_in_range(timeout_ms, 1, 3000);
	timeout_ms = 0;
	control_timeout(&control, &timeout_ms);
	assert_int_equal(timeout_ms, 0);
	control.press_ns = 1;
	control_tick(&control);
	assert_calls("press");
	assert_true(control.press_ns > vn_clock_ns());
	assert_false(control.cut);
	control.cut_ns = 1;
	control_tick(&control);
	assert_true(control.cut);
	serve();
	assert_no_answer(fd);
	control_end(&control, "stopped", 143, server);
	assert_answer(fd, "200 OK", "{\"state\":\"ended\"}\n");
}

// The default, then longer, then shorter: the shortest counts, and all are answered.
static void the_least_patient_stop_counts(void **state)
{
	(void)state;
	int fds[] = {ask("POST /stop"), ask("POST /stop?time=100"), ask("POST /stop?time=0")};
	uint64_t now = vn_clock_ns();
	assert_in_range(control.cut_ns, now + 5 * NS_PER_S, now + CONTROL_GRACE_S * NS_PER_S);
	assert_calls("press press");
	assert_true(control.cut);
	control_end(&control, "stopped", 143, server);
	for (unsigned i = 0; i < 3; i++)
		assert_answer(fds[i], "200 OK", "{\"state\":\"ended\"}\n");
}

// The first SIGTERM presses, also after a stop; and a guest's time is not cut short by it.
static void a_first_sigterm_does_not_cut(void **state)
{
	(void)state;
	int fd = ask("POST /stop?time=60");
	uint64_t cut_ns = control.cut_ns;
	assert_calls("press");
	assert_true(control_press(&control));
	assert_calls("press");
	assert_true(control.cut_ns == cut_ns);
	assert_false(control.cut);
	assert_false(control_press(&control));
	assert_calls("");
	close(fd);
}

// Those that wait leave room for those that stop. A stop without a place does nothing.
static void a_stop_is_refused_or_carried_out(void **state)
{
	int waiting[SERVER_WAITERS_MAX], stopping[SERVER_RESERVED_MAX];

	(void)state;
	for (unsigned i = 0; i < SERVER_WAITERS_MAX; i++)
		waiting[i] = ask("GET /wait");
	assert_answer(ask("GET /wait"), "503 Service Unavailable", "too many wait already\n");
	for (unsigned i = 0; i < SERVER_RESERVED_MAX; i++) {
		stopping[i] = ask("POST /stop?time=60");
		assert_calls("press");
	}
	uint64_t cut_ns = control.cut_ns;
	for (unsigned i = 0; i < 2; i++)
		assert_answer(ask(i == 0 ? "POST /stop?time=0" : "POST /stop?time=1"),
			"503 Service Unavailable", "too many wait already\n");
	assert_calls("");
	assert_false(control.cut);
	assert_true(control.cut_ns == cut_ns);
	control_end(&control, "stopped", 143, server);
	for (unsigned i = 0; i < SERVER_WAITERS_MAX; i++)
		assert_answer(waiting[i], "200 OK", "{\"end\":\"stopped\",\"status\":143}\n");
	for (unsigned i = 0; i < SERVER_RESERVED_MAX; i++)
		assert_answer(stopping[i], "200 OK", "{\"state\":\"ended\"}\n");
}

static void without_a_button_the_power_is_cut(void **state)
{
	(void)state;
	control.has_button = false;
	assert_false(control_press(&control));
	assert_false(control.pressed);
	int fd = ask("POST /stop");
	assert_true(control.cut && control.pressed);
	assert_calls("");
	close(fd);
}

static void a_paused_guest_hears_the_button(void **state)
{
	(void)state;
	guest_state = VENEER_STATE_PAUSED;
	assert_true(control_press(&control));
	assert_calls("resume press");
	assert_false(control_press(&control)); // the second SIGTERM is another matter
	guest_state = VENEER_STATE_PAUSED;
	int fd = ask("POST /stop");
	assert_calls("resume press");
	assert_false(control.cut);
	close(fd);
}

static void a_paused_guest_is_cut_off_as_it_is(void **state)
{
	(void)state;
	guest_state = VENEER_STATE_PAUSED;
	int fd = ask("POST /stop?time=0");
	assert_calls("");
	assert_true(control.cut);
	close(fd);
}

static void times_are_judged(void **state)
{
	static const char *const wrong[] = {"", "time=", "time=x", "time=1x", "time=-1",
		"time=1000000001", "time=1&time=2", "seconds=1"};
	char request[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		snprintf(request, sizeof(request), "POST /stop?%s", wrong[i]);
		assert_answer(ask(request), "400 Bad Request", "time= takes a number of seconds\n");
	}
	assert_calls("");
	assert_false(control.pressed);
	close(ask("POST /stop?time=1000000000"));
	assert_true(control.pressed);
}

#define SERVED(name) cmocka_unit_test_setup_teardown(name, open_server, close_server)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVED(answers_with_the_state),
		SERVED(refuses_with_the_line),
		SERVED(a_guest_that_ends_before_its_reset_has_ended),
		SERVED(a_guest_that_was_reset_after_its_end_goes_on),
		SERVED(a_guest_whose_reset_is_refused_goes_on),
		SERVED(those_that_wait_are_told),
		SERVED(a_stop_presses_again_and_then_cuts),
		SERVED(the_least_patient_stop_counts),
		SERVED(a_first_sigterm_does_not_cut),
		SERVED(a_stop_is_refused_or_carried_out),
		SERVED(without_a_button_the_power_is_cut),
		SERVED(a_paused_guest_hears_the_button),
		SERVED(a_paused_guest_is_cut_off_as_it_is),
		SERVED(times_are_judged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
