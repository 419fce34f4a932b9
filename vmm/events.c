// SPDX-License-Identifier: Apache-2.0
#include "vmm/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int vn_events_init(struct vn_events *events, struct veneer_error *error)
{
	*events = (struct vn_events){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	pthread_mutex_init(&events->lock, NULL);
	return events->fd < 0 ? vn_fail(error, -errno, "no eventfd: %s", strerror(errno)) : 0;
}

static struct vn_event *event_at(struct vn_events *events, unsigned i)
{
	return &events->list[(events->first + i) % VN_EVENTS_MAX];
}

static void drop_first(struct vn_events *events)
{
	free(event_at(events, 0)->message);
	events->first = (events->first + 1) % VN_EVENTS_MAX;
	events->count--;
}

void vn_events_destroy(struct vn_events *events)
{
	while (events->count > 0)
		drop_first(events);
	if (events->fd >= 0)
		close(events->fd);
	pthread_mutex_destroy(&events->lock);
}

void vn_events_wake(const struct vn_events *events)
{
	const uint64_t one = 1;
	ssize_t written = write(events->fd, &one, sizeof(one));
	(void)written;
}

void vn_events_add(struct vn_events *events, const struct veneer_event *event)
{
	pthread_mutex_lock(&events->lock);
	if (events->count == VN_EVENTS_MAX)
		drop_first(events);
	*event_at(events, events->count++) = (struct vn_event){.kind = event->kind,
		.end = event->end,
		.value = event->value,
		.time_ns = event->time_ns,
		.message = event->message[0] ? strdup(event->message) : NULL};
	vn_events_wake(events);
	pthread_mutex_unlock(&events->lock);
}

static void copy_out(struct veneer_event *to, const struct vn_event *from)
{
	*to = (struct veneer_event){.kind = from->kind,
		.end = from->end,
		.value = from->value,
		.time_ns = from->time_ns};
	if (from->message)
		snprintf(to->message, sizeof(to->message), "%s", from->message);
}

bool vn_events_take(struct vn_events *events, struct veneer_event *event)
{
	uint64_t wakes;
	pthread_mutex_lock(&events->lock);
	bool any = events->count > 0;
	if (any) {
		copy_out(event, event_at(events, 0));
		drop_first(events);
	}
	if (events->count == 0) {
		ssize_t got = read(events->fd, &wakes, sizeof(wakes));
		(void)got;
	}
	pthread_mutex_unlock(&events->lock);
	return any;
}
