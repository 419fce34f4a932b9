// SPDX-License-Identifier: Apache-2.0
//
// The port and MMIO buses: which device answers an exit to user space. Filled while the vm is
// built, immutable after start, so a look-up takes no lock; a device that vCPUs share locks itself.
#ifndef VN_BUS_H
#define VN_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

// Called on vCPU threads. `offset` is from the start of the range; `size` is 1, 2, 4 or 8 and the
// access lies wholly within the range. Reads leave `data` (already all ones) as it is where there
// is nothing to read.
struct vn_bus_ops {
	void (*read)(void *opaque, uint64_t offset, void *data, unsigned size);
	void (*write)(void *opaque, uint64_t offset, const void *data, unsigned size);
};

struct vn_bus_range {
	uint64_t base;
	uint64_t size;
	const struct vn_bus_ops *ops;
	void *opaque; // belongs to the device
	bool inner; // may lie within another
};

#define VN_BUS_RANGES_MAX 64

// Ranges are kept sorted by base.
struct vn_bus {
	struct vn_bus_range ranges[VN_BUS_RANGES_MAX];
	unsigned count;
};

// Add a range before the guest starts: -EEXIST when it overlaps another, -ENOSPC when full,
// -EINVAL when it is empty or wraps.
int vn_bus_add(struct vn_bus *bus, uint64_t base, uint64_t size, const struct vn_bus_ops *ops,
	void *opaque, struct veneer_error *error);

// The same for a range that may lie within another, behind its first byte: it takes the accesses
// that lie wholly within it, the other one the rest. A PC's ports have such a place.
int vn_bus_add_within(struct vn_bus *bus, uint64_t base, uint64_t size,
	const struct vn_bus_ops *ops, void *opaque, struct veneer_error *error);

// Carry out one access of a vCPU. Where nothing answers, reads give all ones and writes vanish, as
// on a PC. An access that straddles the end of a range, or whose size is no power of two (KVM
// splits one that crosses a page), counts as unanswered.
void vn_bus_read(const struct vn_bus *bus, uint64_t address, void *data, unsigned size);
void vn_bus_write(const struct vn_bus *bus, uint64_t address, const void *data, unsigned size);

#endif
