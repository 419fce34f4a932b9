// SPDX-License-Identifier: Apache-2.0
//
// From a queue's counters to what veneer.h shows of them.
#include "virtio/stats.h"

int vn_queue_stats_read(const struct vn_queue_stats *counters, unsigned index,
	struct vn_arena *arena, struct veneer_queue_stats *stats)
{
	*stats = (struct veneer_queue_stats){.index = index,
		.requests = vn_counter_get(&counters->requests),
		.errors = vn_counter_get(&counters->errors),
		.read_bytes = vn_counter_get(&counters->read_bytes),
		.written_bytes = vn_counter_get(&counters->written_bytes),
		.batches = vn_counter_get(&counters->batches),
		.notifications = vn_counter_get(&counters->notifications),
		.wakeups = vn_counter_get(&counters->wakeups),
		.interrupts = vn_counter_get(&counters->interrupts)};
	return vn_histogram_read(&counters->latency, arena, &stats->latency);
}
