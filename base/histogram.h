// SPDX-License-Identifier: Apache-2.0
//
// A histogram of durations in nanoseconds with a bounded relative error: every power of two is cut
// into VN_HISTOGRAM_STEPS buckets of equal width, so a bucket is at most 1/16 as wide as what it
// holds. All buckets are there from the start; adding is two additions.
#ifndef VN_HISTOGRAM_H
#define VN_HISTOGRAM_H

#include "base/arena.h"
#include "base/counter.h"
#include "veneer.h"

#define VN_HISTOGRAM_STEP_BITS 4
#define VN_HISTOGRAM_STEPS     (1u << VN_HISTOGRAM_STEP_BITS)
// Up to 2^40 ns, 18 minutes; what took longer is in the last bucket.
#define VN_HISTOGRAM_BITS    40
#define VN_HISTOGRAM_BUCKETS (VN_HISTOGRAM_STEPS * (VN_HISTOGRAM_BITS - VN_HISTOGRAM_STEP_BITS + 1))

// Zeroes are an empty one. Written by one thread.
struct vn_histogram {
	vn_counter sum; // nanoseconds
	vn_counter buckets[VN_HISTOGRAM_BUCKETS];
};

// The bucket that holds `ns`, and the smallest value in a bucket; pure.
unsigned vn_histogram_bucket(uint64_t ns);
uint64_t vn_histogram_bound(unsigned bucket);

static inline void vn_histogram_add(struct vn_histogram *histogram, uint64_t ns)
{
	vn_counter_add(&histogram->sum, ns);
	vn_counter_add(&histogram->buckets[vn_histogram_bucket(ns)], 1);
}

// What was counted so far, from any thread; NULL when that is nothing. -ENOMEM.
int vn_histogram_read(const struct vn_histogram *histogram, struct vn_arena *arena,
	const struct veneer_latency **latency);

#endif
