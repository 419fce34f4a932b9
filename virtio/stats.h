// SPDX-License-Identifier: Apache-2.0
//
// What every queue counts. The loop that serves the queue writes, anyone reads; no two queues share
// a cache line. Counting must cost nothing that can be measured, so a device adds up what a turn
// brought where it can, and times its requests by the loop's clock, which is read at most once in a
// turn (vn_ioloop_now()): a request that is taken in one turn and completed in a later one took the
// time between the two.
#ifndef VN_VIRTIO_STATS_H
#define VN_VIRTIO_STATS_H

#include "base/arena.h"
#include "base/counter.h"
#include "base/histogram.h"
#include "veneer.h"

// Zeroes at first; counts go on through resets. veneer.h says what each means. The device core
// counts notifications, wakeups and interrupts, a device the rest.
struct vn_queue_stats {
	_Alignas(VN_CACHE_LINE) vn_counter requests;
	vn_counter errors;
	vn_counter read_bytes;
	vn_counter written_bytes;
	vn_counter batches;
	vn_counter notifications;
	vn_counter wakeups;
	vn_counter interrupts;
	// What the loop wrote to the kick itself and has not read yet; the loop's only.
	uint64_t own_kicks;
	struct vn_histogram latency;
};

// Fill `stats` of queue `index`, from any thread. -ENOMEM.
int vn_queue_stats_read(const struct vn_queue_stats *counters, unsigned index,
	struct vn_arena *arena, struct veneer_queue_stats *stats);

#endif
