// SPDX-License-Identifier: Apache-2.0
//
// A driver's side of a split virtqueue, for tests: it writes what it is told to, right or wrong.
// Helpers that nothing in a given test calls are of no concern to the compiler.
#ifndef VN_TEST_RING_H
#define VN_TEST_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "virtio/virtqueue.h"

#define RING_NEXT     1
#define RING_WRITE    2
#define RING_INDIRECT 4

#define RING_UNUSED __attribute__((unused))

struct ring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct ring {
	const struct vn_memory *memory;
	uint16_t size;
	uint64_t desc, avail, used; // guest-physical
	uint16_t avail_next;
	uint16_t used_next;
};

RING_UNUSED static void *ring_at(const struct vn_memory *memory, uint64_t gpa, uint64_t length)
{
	void *host = vn_memory_at(memory, VN_GPA(gpa), length);
	if (!host)
		abort();
	return host;
}

// Lay a zeroed queue out at `base`, a multiple of 16, and take at most 64 KiB there.
RING_UNUSED static void ring_init(
	struct ring *ring, const struct vn_memory *memory, uint64_t base, uint16_t size)
{
	*ring = (struct ring){.memory = memory, .size = size};
	ring->desc = base;
	ring->avail = ring->desc + 16ull * size;
	ring->used = (ring->avail + 6 + 2ull * size + 3) & ~3ull;
	memset(ring_at(memory, base, 1 << 16), 0, 1 << 16);
}

RING_UNUSED static struct vn_virtqueue_layout ring_layout(
	const struct ring *ring, bool event_idx, bool indirect)
{
	return (struct vn_virtqueue_layout){.size = ring->size,
		.desc = VN_GPA(ring->desc),
		.avail = VN_GPA(ring->avail),
		.used = VN_GPA(ring->used),
		.event_idx = event_idx,
		.indirect = indirect};
}

RING_UNUSED static void ring_table(
	const struct vn_memory *memory, uint64_t table, unsigned index, struct ring_desc desc)
{
	memcpy(ring_at(memory, table + 16ull * index, 16), &desc, 16);
}

RING_UNUSED static void ring_desc(struct ring *ring, unsigned index, uint64_t addr, uint32_t len,
	unsigned flags, unsigned next)
{
	ring_table(ring->memory, ring->desc, index,
		(struct ring_desc){addr, len, (uint16_t)flags, (uint16_t)next});
}

RING_UNUSED static uint16_t *ring_half(const struct ring *ring, uint64_t gpa)
{
	return ring_at(ring->memory, gpa, 2);
}

// Field accesses, with the order that a driver on another CPU would use.
RING_UNUSED static void ring_set(const struct ring *ring, uint64_t gpa, uint16_t value)
{
	__atomic_store_n(ring_half(ring, gpa), value, __ATOMIC_SEQ_CST);
}

RING_UNUSED static uint16_t ring_get(const struct ring *ring, uint64_t gpa)
{
	return __atomic_load_n(ring_half(ring, gpa), __ATOMIC_SEQ_CST);
}

RING_UNUSED static void ring_set_avail_flags(struct ring *ring, uint16_t flags)
{
	ring_set(ring, ring->avail, flags);
}

RING_UNUSED static void ring_set_avail_index(struct ring *ring, uint16_t index)
{
	ring_set(ring, ring->avail + 2, index);
}

RING_UNUSED static void ring_set_used_event(struct ring *ring, uint16_t event)
{
	ring_set(ring, ring->avail + 4 + 2ull * ring->size, event);
}

RING_UNUSED static uint16_t ring_used_flags(const struct ring *ring)
{
	return ring_get(ring, ring->used);
}

RING_UNUSED static uint16_t ring_used_index(const struct ring *ring)
{
	return ring_get(ring, ring->used + 2);
}

RING_UNUSED static uint16_t ring_avail_event(const struct ring *ring)
{
	return ring_get(ring, ring->used + 4 + 8ull * ring->size);
}

// Put a head into the available ring and show it to the device.
RING_UNUSED static void ring_offer(struct ring *ring, unsigned head)
{
	uint64_t entry = ring->avail + 4 + 2ull * (ring->avail_next % ring->size);
	__atomic_store_n(ring_half(ring, entry), (uint16_t)head, __ATOMIC_RELAXED);
	ring_set_avail_index(ring, ++ring->avail_next);
}

// Take the next used entry, if there is one.
RING_UNUSED static bool ring_take(struct ring *ring, uint32_t *id, uint32_t *len)
{
	if (ring_used_index(ring) == ring->used_next)
		return false;
	uint64_t entry = ring->used + 4 + 8ull * (ring->used_next % ring->size);
	uint32_t *element = ring_at(ring->memory, entry, 8);
	*id = __atomic_load_n(&element[0], __ATOMIC_RELAXED);
	*len = __atomic_load_n(&element[1], __ATOMIC_RELAXED);
	ring->used_next++;
	return true;
}

#endif
