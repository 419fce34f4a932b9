// SPDX-License-Identifier: Apache-2.0
//
// One poll loop over several guests and a timer: who starts, and who ends and how. When nothing has
// happened for some seconds, the guests that still run are paused; then they go on; then they are
// stopped.
//
//     cc events.c -o events $(pkg-config --cflags --libs veneer)
//     ./events [SECONDS]
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <veneer.h>

#define GUESTS 3

// The kernel command lines of the built-in guest. The last one would run for ever.
static const char *const words[GUESTS] = {"exit=1", "exit=2", "spin"};

static int fail(const struct veneer_error *error)
{
	fprintf(stderr, "%s\n", error->message);
	return -1;
}

// *vm is NULL unless it is to be destroyed.
static int start(struct veneer **vm, const char *cmdline)
{
	struct veneer_error error;
	struct veneer_config *config;

	if (veneer_config_new(&config, &error) < 0)
		return fail(&error);
	int code = veneer_config_set(config, "cmdline", cmdline, &error);
	if (code == 0)
		code = veneer_create(vm, config, NULL, &error);
	veneer_config_free(config);
	if (code == 0)
		code = veneer_start(*vm, &error);
	return code < 0 ? fail(&error) : 0;
}

static void print_end(unsigned number, const struct veneer_event *event)
{
	if (event->end == VENEER_END_EXIT)
		printf("guest %u ended with status %u\n", number, (unsigned)event->value);
	else if (event->end == VENEER_END_STOPPED)
		printf("guest %u was stopped\n", number);
	else
		printf("guest %u ended: %s\n", number, event->message);
}

static void print_event(unsigned number, const struct veneer_event *event)
{
	switch (event->kind) {
	case VENEER_EVENT_STARTED:
		printf("guest %u has started\n", number);
		break;
	case VENEER_EVENT_PAUSED:
		printf("guest %u was paused\n", number);
		break;
	case VENEER_EVENT_RESUMED:
		printf("guest %u goes on\n", number);
		break;
	case VENEER_EVENT_ENDED:
		print_end(number, event);
		break;
	default: // a later version may have other kinds
		break;
	}
}

// Print all that has happened to a guest; whether it has ended.
static bool take_events(struct veneer *vm, unsigned number)
{
	struct veneer_event event;
	bool ended = false;

	while (veneer_next_event(vm, &event, sizeof(event)) > 0) {
		print_event(number, &event);
		ended = ended || event.kind == VENEER_EVENT_ENDED;
	}
	return ended;
}

static int rearm(int timer, unsigned seconds)
{
	struct itimerspec when = {.it_value = {.tv_sec = seconds}};
	return timerfd_settime(timer, 0, &when, NULL);
}

// What happens to all guests when the timer goes off for this time, from 0. One that has ended is
// refused to pause and resume, and stays as it is.
static void act(struct veneer *vms[GUESTS], unsigned time)
{
	for (unsigned i = 0; i < GUESTS; i++) {
		if (time == 0)
			(void)veneer_pause(vms[i], NULL);
		else if (time == 1)
			(void)veneer_resume(vms[i], NULL);
		else
			veneer_stop(vms[i]);
	}
}

static int loop(struct veneer *vms[GUESTS], int timer, unsigned seconds)
{
	struct pollfd fds[GUESTS + 1];
	unsigned running = GUESTS, times = 0;

	for (unsigned i = 0; i < GUESTS; i++)
		fds[i] = (struct pollfd){.fd = veneer_event_fd(vms[i]), .events = POLLIN};
	fds[GUESTS] = (struct pollfd){.fd = timer, .events = POLLIN};
	while (running > 0) {
		if (rearm(timer, seconds) < 0)
			return -1;
		if (poll(fds, GUESTS + 1, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		for (unsigned i = 0; i < GUESTS; i++)
			if (fds[i].revents && take_events(vms[i], i)) {
				fds[i].fd = -1; // poll(2) passes it over
				running--;
			}
		if (fds[GUESTS].revents) {
			if (times == 2)
				printf("time is up\n");
			act(vms, times++);
		}
	}
	return 0;
}

int main(int argc, char *argv[])
{
	unsigned seconds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
	struct veneer *vms[GUESTS] = {NULL};
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	int code = timer;

	for (unsigned i = 0; code >= 0 && i < GUESTS; i++)
		code = start(&vms[i], words[i]);
	if (code >= 0)
		code = loop(vms, timer, seconds);
	for (unsigned i = 0; i < GUESTS; i++)
		veneer_destroy(vms[i]);
	if (timer >= 0)
		close(timer);
	return code < 0 ? 1 : 0;
}
