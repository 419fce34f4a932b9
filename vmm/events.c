// SPDX-License-Identifier: Apache-2.0
#include "vmm/events.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int vn_events_init(struct vn_events *events, struct veneer_error *error)
{
	*events = (struct vn_events){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	pthread_mutex_init(&events->lock, NULL);
	return events->fd < 0 ? vn_fail(error, -errno, "no eventfd: %s", strerror(errno)) : 0;
}

void vn_events_destroy(struct vn_events *events)
{
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
	if (events->count == VN_EVENTS_MAX) {
		events->first = (events->first + 1) % VN_EVENTS_MAX;
		events->count--;
	}
	events->list[(events->first + events->count++) % VN_EVENTS_MAX] = *event;
	vn_events_wake(events);
	pthread_mutex_unlock(&events->lock);
}

bool vn_events_take(struct vn_events *events, struct veneer_event *event)
{
	uint64_t wakes;
	pthread_mutex_lock(&events->lock);
	bool any = events->count > 0;
	if (any) {
		*event = events->list[events->first];
		events->first = (events->first + 1) % VN_EVENTS_MAX;
		events->count--;
	}
	if (events->count == 0) {
		ssize_t got = read(events->fd, &wakes, sizeof(wakes));
		(void)got;
	}
	pthread_mutex_unlock(&events->lock);
	return any;
}
