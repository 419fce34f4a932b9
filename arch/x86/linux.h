// SPDX-License-Identifier: Apache-2.0
//
// The 64-bit Linux boot protocol (Linux Documentation/arch/x86/boot.rst): boot_params, and the
// page tables and descriptor table that a kernel is entered with.
#ifndef VN_X86_LINUX_H
#define VN_X86_LINUX_H

#include <stddef.h>

#include "arch/x86/boot.h"

// The setup header that an ELF kernel does not bring along.
void vn_linux_default_header(struct setup_header *header);

// Write all of it, but for the command line, into the guest's first MiB at `low`. -E2BIG when the
// device tree is too large.
int vn_linux_write(uint8_t *low, const struct vn_boot *boot, const struct vn_machine *machine,
	vn_gpa rsdp, const void *dtb, size_t dtb_size, struct veneer_error *error);

#endif
