// SPDX-License-Identifier: Apache-2.0
//
// Buckets and what can be read from them.
#include "base/histogram.h"

#include <errno.h>

// Values below VN_HISTOGRAM_STEPS have a bucket each; after these, each power of two has that many.
unsigned vn_histogram_bucket(uint64_t ns)
{
	if (ns < VN_HISTOGRAM_STEPS)
		return (unsigned)ns;
	unsigned power = 63 - (unsigned)__builtin_clzll(ns);
	if (power >= VN_HISTOGRAM_BITS)
		return VN_HISTOGRAM_BUCKETS - 1;
	unsigned row = power - VN_HISTOGRAM_STEP_BITS;
	unsigned step = (unsigned)(ns >> row) & (VN_HISTOGRAM_STEPS - 1);
	return (row + 1) * VN_HISTOGRAM_STEPS + step;
}

uint64_t vn_histogram_bound(unsigned bucket)
{
	unsigned row = bucket / VN_HISTOGRAM_STEPS;
	uint64_t step = bucket % VN_HISTOGRAM_STEPS;
	return row == 0 ? step : (VN_HISTOGRAM_STEPS + step) << (row - 1);
}

int vn_histogram_read(const struct vn_histogram *histogram, struct vn_arena *arena,
	const struct veneer_latency **result)
{
	uint64_t counts[VN_HISTOGRAM_BUCKETS];
	uint64_t sum = vn_counter_get(&histogram->sum), total = 0;
	size_t used = 0;
	*result = NULL;
	for (unsigned i = 0; i < VN_HISTOGRAM_BUCKETS; i++) {
		counts[i] = vn_counter_get(&histogram->buckets[i]);
		total += counts[i];
		used += counts[i] > 0;
	}
	if (used == 0)
		return 0;
	struct veneer_latency *latency = vn_arena_alloc(arena, sizeof(*latency));
	struct veneer_latency_bucket *buckets = vn_arena_alloc(arena, used * sizeof(*buckets));
	if (!latency || !buckets)
		return -ENOMEM;
	*latency = (struct veneer_latency){total, sum, used, buckets};
	for (unsigned i = 0; i < VN_HISTOGRAM_BUCKETS; i++)
		if (counts[i] > 0)
			*buckets++ = (struct veneer_latency_bucket){
				vn_histogram_bound(i), vn_histogram_bound(i + 1), counts[i]};
	*result = latency;
	return 0;
}

// The middle of the bucket in which the value of that rank lies.
uint64_t veneer_percentile(const struct veneer_latency *latency, double percent)
{
	double wanted = percent / 100 * (double)latency->count;
	uint64_t below = 0;
	for (size_t i = 0; i < latency->bucket_count; i++) {
		const struct veneer_latency_bucket *bucket = &latency->buckets[i];
		below += bucket->count;
		if ((double)below >= wanted)
			return bucket->from_ns + (bucket->below_ns - bucket->from_ns - 1) / 2;
	}
	return 0;
}
