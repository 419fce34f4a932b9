// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of the bucket. A cost is rounded up, so that the rate is never exceeded; it is
// missed by at most a nanosecond for each time that something is taken.
#include "base/rate.h"

#include "base/clock.h"
#include "base/macros.h"

#define BURST_MAX BIT64(62)

// The time that `units` stand for.
static uint64_t time_of(const struct vn_rate *rate, uint64_t units)
{
	unsigned __int128 ns = (unsigned __int128)units * NS_PER_S + rate->per_second - 1;
	ns /= rate->per_second;
	return ns < BURST_MAX ? (uint64_t)ns : BURST_MAX;
}

void vn_rate_init(struct vn_rate *rate, uint64_t per_second, uint64_t burst)
{
	rate->per_second = per_second;
	rate->burst = NS_PER_S / 10;
	if (per_second > 0 && burst > 0)
		rate->burst = time_of(rate, burst);
	atomic_init(&rate->full, 0);
}

uint64_t vn_rate_take(struct vn_rate *rate, uint64_t units, uint64_t now)
{
	if (rate->per_second == 0)
		return now;
	uint64_t cost = time_of(rate, units);
	uint64_t credit = rate->burst > cost ? rate->burst - cost : 0;
	uint64_t before = atomic_load_explicit(&rate->full, memory_order_relaxed);
	uint64_t after;
	do
		after = (before > now ? before : now) + cost;
	while (!atomic_compare_exchange_weak_explicit(
		&rate->full, &before, after, memory_order_relaxed, memory_order_relaxed));
	return before > now + credit ? before - credit : now;
}

void vn_rate_return(struct vn_rate *rate, uint64_t units)
{
	if (rate->per_second > 0)
		atomic_fetch_sub_explicit(&rate->full, time_of(rate, units), memory_order_relaxed);
}
