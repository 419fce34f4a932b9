// SPDX-License-Identifier: Apache-2.0
//
// Linux's bzImage: a setup header, and a compressed vmlinux, which is decompressed on the host and
// streamed into the ELF loader; the kernel's own decompressor never runs.
#ifndef VN_X86_BZIMAGE_H
#define VN_X86_BZIMAGE_H

#include <asm/bootparam.h>
#include <stdbool.h>

#include "arch/x86/elf.h"
#include "arch/x86/image.h"

bool vn_bzimage_recognise(const struct vn_image *image);

// Read the setup header and load the payload, through vn_elf_finish(). -ENOEXEC.
int vn_bzimage_load(const struct vn_image *image, struct setup_header *header, struct vn_elf *elf);

#endif
