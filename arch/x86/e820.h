// SPDX-License-Identifier: Apache-2.0
//
// The map of the guest's physical memory as firmware would report it; both boot protocols hand it
// over, each in its own layout.
#ifndef VN_X86_E820_H
#define VN_X86_E820_H

#include <stdint.h>

#include "core/memory.h"

#define VN_E820_MAX (VN_RAM_MAX + 3)

// Address range types of ACPI 15 that occur here.
enum vn_e820_type { VN_E820_RAM = 1, VN_E820_RESERVED = 2 };

struct vn_e820_entry {
	uint64_t start;
	uint64_t size;
	enum vn_e820_type type;
};

// Fill `entries` in ascending order and return how many there are. Pure.
unsigned vn_e820_build(
	const struct vn_memory *memory, struct vn_e820_entry entries[static VN_E820_MAX]);

#endif
