// SPDX-License-Identifier: Apache-2.0
//
// Bus look-up: a binary search over a sorted array that no longer changes.
#include "core/bus.h"

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

static bool contains(const struct vn_bus_range *range, uint64_t address, uint64_t size)
{
	uint64_t offset = address - range->base;
	return offset < range->size && size <= range->size - offset;
}

static bool is_nested(const struct vn_bus_range *inner, const struct vn_bus_range *outer)
{
	return inner->inner && !outer->inner && inner->base > outer->base &&
	       contains(outer, inner->base, inner->size);
}

static bool collide(const struct vn_bus_range *a, const struct vn_bus_range *b)
{
	bool apart =
		a->base < b->base ? b->base - a->base >= a->size : a->base - b->base >= b->size;
	return !apart && !is_nested(a, b) && !is_nested(b, a);
}

static int add(struct vn_bus *bus, const struct vn_bus_range *range, struct veneer_error *error)
{
	if (range->size == 0 || range->base + (range->size - 1) < range->base)
		return vn_fail(error, -EINVAL, "bus range at 0x%" PRIx64 " is empty or wraps",
			range->base);
	if (bus->count == VN_BUS_RANGES_MAX)
		return vn_fail(error, -ENOSPC,
			"no room for a device at 0x%" PRIx64 ": the bus has %d", range->base,
			VN_BUS_RANGES_MAX);
	for (unsigned i = 0; i < bus->count; i++)
		if (collide(range, &bus->ranges[i]))
			return vn_fail(error, -EEXIST,
				"bus range at 0x%" PRIx64 " overlaps another device", range->base);

	unsigned at = ranges_upto(bus, range->base);
	memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(bus->ranges[0]));
	bus->ranges[at] = *range;
	bus->count++;
	return 0;
}

int vn_bus_add(struct vn_bus *bus, uint64_t base, uint64_t size, const struct vn_bus_ops *ops,
	void *opaque, struct veneer_error *error)
{
	return add(bus, &(struct vn_bus_range){base, size, ops, opaque, false}, error);
}

int vn_bus_add_within(struct vn_bus *bus, uint64_t base, uint64_t size,
	const struct vn_bus_ops *ops, void *opaque, struct veneer_error *error)
{
	return add(bus, &(struct vn_bus_range){base, size, ops, opaque, true}, error);
}

// The range that holds all of [address, address + size), or NULL. One that lies within another
// comes after it, and is looked at first.
static const struct vn_bus_range *find(const struct vn_bus *bus, uint64_t address, unsigned size)
{
	unsigned at = ranges_upto(bus, address);
	if ((size & (size - 1)) != 0)
		return NULL;
	while (at > 0 && bus->ranges[at - 1].inner &&
		!contains(&bus->ranges[at - 1], address, size))
		at--;
	return at > 0 && contains(&bus->ranges[at - 1], address, size) ? &bus->ranges[at - 1]
								       : NULL;
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
