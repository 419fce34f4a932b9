// SPDX-License-Identifier: Apache-2.0
//
// Bus look-up: a binary search over a sorted array that no longer changes.
#include "vmm/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

// The number of ranges that begin at or below `address`.
static unsigned ranges_upto(const struct vn_bus *bus, uint64_t address)
{
	unsigned low = 0, high = bus->count;
	while (low < high) {
		unsigned middle = (low + high) / 2;
		if (bus->ranges[middle].base <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int vn_bus_add(struct vn_bus *bus, uint64_t base, uint64_t size, const struct vn_bus_ops *ops,
	void *opaque, struct veneer_error *error)
{
	if (size == 0 || base + (size - 1) < base)
		return vn_fail(
			error, -EINVAL, "bus range at 0x%" PRIx64 " is empty or wraps", base);
	if (bus->count == VN_BUS_RANGES_MAX)
		return vn_fail(error, -ENOSPC,
			"no room for a device at 0x%" PRIx64 ": the bus has %d", base,
			VN_BUS_RANGES_MAX);

	unsigned at = ranges_upto(bus, base);
	const struct vn_bus_range *before = at > 0 ? &bus->ranges[at - 1] : NULL;
	const struct vn_bus_range *after = at < bus->count ? &bus->ranges[at] : NULL;
	if ((before && base - before->base < before->size) || (after && after->base - base < size))
		return vn_fail(
			error, -EEXIST, "bus range at 0x%" PRIx64 " overlaps another device", base);

	memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(bus->ranges[0]));
	bus->ranges[at] = (struct vn_bus_range){base, size, ops, opaque};
	bus->count++;
	return 0;
}

// The range that holds all of [address, address + size), or NULL.
static const struct vn_bus_range *find(const struct vn_bus *bus, uint64_t address, unsigned size)
{
	unsigned at = ranges_upto(bus, address);
	if (at == 0 || (size & (size - 1)) != 0)
		return NULL;
	const struct vn_bus_range *range = &bus->ranges[at - 1];
	uint64_t offset = address - range->base;
	return offset < range->size && size <= range->size - offset ? range : NULL;
}

void vn_bus_read(const struct vn_bus *bus, uint64_t address, void *data, unsigned size)
{
	memset(data, 0xff, size);
	const struct vn_bus_range *range = find(bus, address, size);
	if (range)
		range->ops->read(range->opaque, address - range->base, data, size);
}

void vn_bus_write(const struct vn_bus *bus, uint64_t address, const void *data, unsigned size)
{
	const struct vn_bus_range *range = find(bus, address, size);
	if (range)
		range->ops->write(range->opaque, address - range->base, data, size);
}
