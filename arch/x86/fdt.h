// SPDX-License-Identifier: Apache-2.0
//
// The machine's flattened device tree, made with libfdt: for kernels that read one (SETUP_DTB),
// for the built-in guest, and for people (--dump-dtb).
#ifndef VN_X86_FDT_H
#define VN_X86_FDT_H

#include <stddef.h>

#include "arch/x86/machine.h"

// On success *blob is malloc'ed and the caller's.
int vn_fdt_build(
	const struct vn_machine *machine, void **blob, size_t *size, struct veneer_error *error);

#endif
