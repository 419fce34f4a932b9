// SPDX-License-Identifier: Apache-2.0
//
// The generic event device. Register and line change together, under the lock, so that no event is
// read with the line left up, or pending with the line down.
#include "devices/event.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/map.h"

struct vn_event {
	const struct vn_kvm *kvm;
	pthread_mutex_t lock;
	uint8_t pending; // VN_EVENT_*
};

static void set(struct vn_event *event, uint8_t pending)
{
	event->pending = pending;
	vn_line_set(event->kvm, VN_GSI_EVENT, pending != 0);
}

// Reading clears what is read.
static void read_pending(void *opaque, uint64_t offset, void *data, unsigned size)
{
	struct vn_event *event = opaque;

	(void)offset;
	pthread_mutex_lock(&event->lock);
	memset(data, 0, size);
	memcpy(data, &event->pending, sizeof(event->pending));
	set(event, 0);
	pthread_mutex_unlock(&event->lock);
}

static void write_ignored(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)data;
	(void)size;
}

int vn_event_create(struct vn_event **result, const struct vn_kvm *kvm, struct vn_bus *pio,
	struct veneer_error *error)
{
	static const struct vn_bus_ops ops = {read_pending, write_ignored};
	struct vn_event *event = calloc(1, sizeof(*event));
	int ret;

	if (!event)
		return vn_fail(error, -ENOMEM, "no memory for the event device");
	event->kvm = kvm;
	pthread_mutex_init(&event->lock, NULL);
	ret = vn_bus_add(pio, VN_PORT_EVENT, 1, &ops, event, error);
	if (ret < 0) {
		vn_event_destroy(event);
		return ret;
	}
	*result = event;
	return 0;
}

void vn_event_destroy(struct vn_event *event)
{
	pthread_mutex_destroy(&event->lock);
	free(event);
}

void vn_event_reset(struct vn_event *event)
{
	pthread_mutex_lock(&event->lock);
	set(event, 0);
	pthread_mutex_unlock(&event->lock);
}

void vn_event_raise(struct vn_event *event, uint8_t which)
{
	pthread_mutex_lock(&event->lock);
	set(event, event->pending | which);
	pthread_mutex_unlock(&event->lock);
}
