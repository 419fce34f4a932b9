// SPDX-License-Identifier: Apache-2.0
//
// The PVH boot protocol: what a kernel finds behind %ebx (Xen's public/arch-x86/hvm/start_info.h).
#ifndef VN_X86_PVH_H
#define VN_X86_PVH_H

#include <stddef.h>

#include "arch/x86/boot.h"

#define VN_PVH_MAGIC 0x336ec578u

// All addresses are guest-physical; 0 says "absent".
struct vn_pvh_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t module_count;
	uint64_t modules; // struct vn_pvh_module[]
	uint64_t cmdline;
	uint64_t rsdp;
	uint64_t memory_map; // struct vn_pvh_memory[]
	uint32_t memory_map_count;
	uint32_t reserved;
};

struct vn_pvh_module {
	uint64_t start;
	uint64_t size;
	uint64_t cmdline;
	uint64_t reserved;
};

struct vn_pvh_memory {
	uint64_t start;
	uint64_t size;
	uint32_t type; // enum vn_e820_type
	uint32_t reserved;
};

// Write start_info and what it points to, but for the command line, into the guest's first MiB at
// `low`. -E2BIG when the device tree is too large.
int vn_pvh_write(uint8_t *low, const struct vn_boot *boot, const struct vn_machine *machine,
	vn_gpa rsdp, const void *dtb, size_t dtb_size, struct veneer_error *error);

#endif
