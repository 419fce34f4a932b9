// SPDX-License-Identifier: Apache-2.0
//
// A bounded queue of a guest's events, with a descriptor that is readable while it is not empty.
// When full, the oldest event is dropped.
#ifndef VN_EVENTS_H
#define VN_EVENTS_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"

#define VN_EVENTS_MAX 16

// As struct veneer_event, of which few have a message.
struct vn_event {
	enum veneer_event_kind kind;
	enum veneer_end end;
	uint32_t value;
	uint64_t time_ns;
	char *message; // NULL: none
};

struct vn_events {
	int fd; // an eventfd
	pthread_mutex_t lock;
	struct vn_event list[VN_EVENTS_MAX];
	unsigned first, count;
};

int vn_events_init(struct vn_events *events, struct veneer_error *error);
void vn_events_destroy(struct vn_events *events);

// From any thread. Without memory for its message, the event has none.
void vn_events_add(struct vn_events *events, const struct veneer_event *event);
bool vn_events_take(struct vn_events *events, struct veneer_event *event);

// Make the descriptor readable once without adding an event. Async-signal-safe.
void vn_events_wake(const struct vn_events *events);

#endif
