// SPDX-License-Identifier: Apache-2.0
#include "cli/control.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/words.h"
#include "cli/stats_format.h"

// A press is lost if the guest's kernel takes it before its user space listens, as during a boot. A
// guest that already powers off ignores further ones.
#define PRESS_INTERVAL_NS (3 * NS_PER_S)

// ---- The power button

// A paused guest does not see the button.
static void press(struct control *control)
{
	struct veneer *vm = *control->vm;

	control->pressed = true;
	control->press_ns = vn_clock_ns() + PRESS_INTERVAL_NS;
	if (veneer_get_state(vm) == VENEER_STATE_PAUSED)
		(void)veneer_resume(vm, NULL);
	(void)veneer_press_power_button(vm, NULL);
}

// `pressed` is set even if the guest has just reset itself: --reboot must not start it again.
bool control_press(struct control *control)
{
	if (control->signalled || !control->has_button || !*control->vm)
		return false;
	control->signalled = true;
	press(control);
	return true;
}

static void lower_to(int *timeout_ms, uint64_t now, uint64_t when)
{
	if (when == 0)
		return;
	uint64_t ms = when > now ? (when - now + NS_PER_MS - 1) / NS_PER_MS : 0;
	if (*timeout_ms < 0 || ms < (uint64_t)*timeout_ms)
		*timeout_ms = ms > INT_MAX ? INT_MAX : (int)ms;
}

void control_timeout(const struct control *control, int *timeout_ms)
{
	uint64_t now = vn_clock_ns();

	lower_to(timeout_ms, now, control->press_ns);
	lower_to(timeout_ms, now, control->cut_ns);
}

void control_tick(struct control *control)
{
	if (control->press_ns == 0 && control->cut_ns == 0)
		return;
	uint64_t now = vn_clock_ns();
	if (control->press_ns > 0 && now >= control->press_ns) {
		control->press_ns = now + PRESS_INTERVAL_NS;
		(void)veneer_press_power_button(*control->vm, NULL);
	}
	if (control->cut_ns > 0 && now >= control->cut_ns) {
		control->cut_ns = 0;
		control->cut = true;
	}
}

// ---- The socket

static void tell_state(struct server_client *client, enum veneer_state state)
{
	char *body;

	if (asprintf(&body, "{\"state\":\"%s\"}\n", stats_state(state)) < 0)
		body = NULL;
	server_answer(client, "application/json", body);
}

// In the words of the library's own refusals.
static int has_ended(const char *what, struct veneer_error *error)
{
	return vn_fail(error, -EINVAL, "cannot %s a guest that has ended", what);
}

static int pause_guest(struct veneer *vm, struct veneer_error *error)
{
	return vm ? veneer_pause(vm, error) : has_ended("pause", error);
}

static int resume_guest(struct veneer *vm, struct veneer_error *error)
{
	return vm ? veneer_resume(vm, error) : has_ended("resume", error);
}

// veneer_reset() makes a guest that has ended startable, but its run is over: refuse. Of one that
// ends between the two calls, the reset came first.
static int reset_guest(struct veneer *vm, struct veneer_error *error)
{
	if (!vm || veneer_get_state(vm) == VENEER_STATE_ENDED)
		return has_ended("reset", error);
	int ret = veneer_reset(vm, error);
	if (ret == 0 && veneer_get_state(vm) == VENEER_STATE_CREATED)
		ret = veneer_start(vm, error);
	return ret;
}

static void change(struct server_client *client, const struct control *control,
	int (*act)(struct veneer *vm, struct veneer_error *error))
{
	struct veneer_error error;

	if (act(*control->vm, &error) < 0)
		server_refuse(client, "409 Conflict", error.message);
	else
		tell_state(client, veneer_get_state(*control->vm));
}

static void serve_state(struct server_client *client, const char *query, void *opaque)
{
	struct veneer *vm = *((const struct control *)opaque)->vm;

	(void)query;
	tell_state(client, vm ? veneer_get_state(vm) : VENEER_STATE_ENDED);
}

static void serve_pause(struct server_client *client, const char *query, void *opaque)
{
	(void)query;
	change(client, opaque, pause_guest);
}

static void serve_resume(struct server_client *client, const char *query, void *opaque)
{
	(void)query;
	change(client, opaque, resume_guest);
}

static void serve_reset(struct server_client *client, const char *query, void *opaque)
{
	(void)query;
	change(client, opaque, reset_guest);
}

// The number in "time=SECONDS"; the default without a query.
static int parse_grace(const char *query, uint64_t *seconds)
{
	static const char NAME[] = "time=";
	size_t length = strlen(NAME);

	*seconds = CONTROL_GRACE_S;
	if (!query)
		return 0;
	if (strncmp(query, NAME, length) != 0)
		return -EINVAL;
	return vn_parse_number(query + length, CONTROL_GRACE_MAX_S, seconds);
}

// If several clients stop the guest, the earliest cut counts.
static void begin_stop(struct control *control, uint64_t grace_s)
{
	uint64_t when = vn_clock_ns() + grace_s * NS_PER_S;

	control->pressed = true;
	if (grace_s == 0 || !control->has_button) {
		control->cut = true;
		return;
	}
	press(control);
	if (control->cut_ns == 0 || when < control->cut_ns)
		control->cut_ns = when;
}

static void serve_stop(struct server_client *client, const char *query, void *opaque)
{
	struct control *control = opaque;
	uint64_t grace_s;

	if (control->end) {
		tell_state(client, VENEER_STATE_ENDED);
		return;
	}
	if (parse_grace(query, &grace_s) < 0) {
		server_refuse(client, "400 Bad Request", "time= takes a number of seconds");
		return;
	}
	if (server_defer(client, SERVER_RESERVED))
		begin_stop(control, grace_s);
}

static void serve_wait(struct server_client *client, const char *query, void *opaque)
{
	const struct control *control = opaque;
	char *body;

	(void)query;
	if (!control->end) {
		(void)server_defer(client, SERVER_SHARED);
		return;
	}
	if (asprintf(&body, "{\"end\":\"%s\",\"status\":%d}\n", control->end, control->status) < 0)
		body = NULL;
	server_answer(client, "application/json", body);
}

const struct server_resource control_resources[] = {
	{"GET", "/state", serve_state},
	{"POST", "/pause", serve_pause},
	{"POST", "/resume", serve_resume},
	{"POST", "/reset", serve_reset},
	{"POST", "/stop", serve_stop},
	{"GET", "/wait", serve_wait},
	{.path = NULL},
};

void control_end(struct control *control, const char *end, int status, struct server *server)
{
	control->end = end;
	control->status = status;
	server_finish(server);
}
