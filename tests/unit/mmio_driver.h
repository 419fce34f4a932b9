// SPDX-License-Identifier: Apache-2.0
//
// A driver of one virtio-mmio device, for tests: register accesses as a vCPU makes them, through
// the bus, and the initialization sequence of section 3.1.1. Helpers that nothing in a given test
// calls are of no concern to the compiler.
#ifndef VN_TEST_MMIO_DRIVER_H
#define VN_TEST_MMIO_DRIVER_H

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdint.h>

#include "core/bus.h"
#include "ring.h"

#define MMIO_BASE ((uint64_t)0xd0000000)

#define MMIO_NEGOTIATED                                                                            \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define MMIO_RUNNING (MMIO_NEGOTIATED | VIRTIO_CONFIG_S_DRIVER_OK)

#define FEATURE(bit) (1ull << (bit))

RING_UNUSED static uint32_t mmio_get(const struct vn_bus *bus, uint64_t offset)
{
	uint32_t value = UINT32_MAX;
	vn_bus_read(bus, MMIO_BASE + offset, &value, sizeof(value));
	return value;
}

RING_UNUSED static void mmio_set(const struct vn_bus *bus, uint64_t offset, uint32_t value)
{
	vn_bus_write(bus, MMIO_BASE + offset, &value, sizeof(value));
}

RING_UNUSED static uint64_t mmio_features(const struct vn_bus *bus)
{
	mmio_set(bus, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	uint64_t high = mmio_get(bus, VIRTIO_MMIO_DEVICE_FEATURES);
	mmio_set(bus, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	return high << 32 | mmio_get(bus, VIRTIO_MMIO_DEVICE_FEATURES);
}

// Reset, and negotiate `features`. The status that the device then shows.
RING_UNUSED static uint32_t mmio_negotiate(const struct vn_bus *bus, uint64_t features)
{
	mmio_set(bus, VIRTIO_MMIO_STATUS, 0);
	mmio_set(bus, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	mmio_set(bus, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	mmio_set(bus, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	mmio_set(bus, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	mmio_set(bus, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	mmio_set(bus, VIRTIO_MMIO_STATUS, MMIO_NEGOTIATED);
	return mmio_get(bus, VIRTIO_MMIO_STATUS);
}

// Tell the device where queue `index` is, and that it is ready.
RING_UNUSED static void mmio_queue(
	const struct vn_bus *bus, unsigned index, const struct ring *ring)
{
	mmio_set(bus, VIRTIO_MMIO_QUEUE_SEL, index);
	mmio_set(bus, VIRTIO_MMIO_QUEUE_NUM, ring->size);
	mmio_set(bus, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)ring->desc);
	mmio_set(bus, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(ring->desc >> 32));
	mmio_set(bus, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)ring->avail);
	mmio_set(bus, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(ring->avail >> 32));
	mmio_set(bus, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)ring->used);
	mmio_set(bus, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(ring->used >> 32));
	mmio_set(bus, VIRTIO_MMIO_QUEUE_READY, 1);
}

#endif
