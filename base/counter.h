// SPDX-License-Identifier: Apache-2.0
//
// Event counters: each is written by one thread and read by any. So that counting costs what an
// ordinary addition does, there is no atomic read-modify-write, only stores that cannot be torn;
// whoever embeds counters keeps those of different threads on different cache lines.
#ifndef VN_COUNTER_H
#define VN_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

#define VN_CACHE_LINE 64 // bytes

typedef _Atomic uint64_t vn_counter;

// Any thread. Relaxed: a counter says nothing about other memory.
static inline uint64_t vn_counter_get(const vn_counter *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

// The counter's own thread only.
static inline void vn_counter_add(vn_counter *counter, uint64_t count)
{
	atomic_store_explicit(counter, vn_counter_get(counter) + count, memory_order_relaxed);
}

#endif
