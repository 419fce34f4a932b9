// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of the bucket. A cost is rounded up, so that the rate is never exceeded; it is
// missed by at most a nanosecond for each time that something is taken.
#include "vmm/limit.h"

#define NS_PER_S  1000000000u
#define BURST_MAX ((uint64_t)1 << 62)

// The time that `units` stand for.
static uint64_t time_of(const struct vn_limit *limit, uint64_t units)
{
	unsigned __int128 ns = (unsigned __int128)units * NS_PER_S + limit->rate - 1;
	ns /= limit->rate;
	return ns < BURST_MAX ? (uint64_t)ns : BURST_MAX;
}

void vn_limit_init(struct vn_limit *limit, uint64_t rate, uint64_t burst)
{
	limit->rate = rate;
	limit->burst = NS_PER_S / 10;
	if (rate > 0 && burst > 0)
		limit->burst = time_of(limit, burst);
	atomic_init(&limit->full, 0);
}

uint64_t vn_limit_take(struct vn_limit *limit, uint64_t units, uint64_t now)
{
	if (limit->rate == 0)
		return now;
	uint64_t cost = time_of(limit, units);
	uint64_t credit = limit->burst > cost ? limit->burst - cost : 0;
	uint64_t before = atomic_load_explicit(&limit->full, memory_order_relaxed);
	uint64_t after;
	do
		after = (before > now ? before : now) + cost;
	while (!atomic_compare_exchange_weak_explicit(
		&limit->full, &before, after, memory_order_relaxed, memory_order_relaxed));
	return before > now + credit ? before - credit : now;
}

void vn_limit_return(struct vn_limit *limit, uint64_t units)
{
	if (limit->rate > 0)
		atomic_fetch_sub_explicit(
			&limit->full, time_of(limit, units), memory_order_relaxed);
}
