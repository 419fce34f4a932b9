// SPDX-License-Identifier: Apache-2.0
//
// Linux's bzImage: a setup header, and the protected-mode part, a decompressor around a compressed
// vmlinux. A payload in a format known here is decompressed on the host and streamed into the ELF
// loader. Otherwise the whole protected-mode part is loaded, for the kernel's own decompressor to
// be entered at its 64-bit entry point.
#ifndef VN_X86_BZIMAGE_H
#define VN_X86_BZIMAGE_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stdint.h>

#include "arch/x86/elf.h"
#include "arch/x86/image.h"
#include "core/memory.h"

// Set up by vn_bzimage_open(); holds nothing that needs to be given back.
struct vn_bzimage {
	const struct vn_image *image;
	struct setup_header header;
	uint64_t setup_size; // bytes of the file before the protected-mode part
	bool on_host; // decompressed by vn_bzimage_decompress(), else by the kernel itself
};

bool vn_bzimage_recognise(const struct vn_image *image);

// Read and check the header, and decide who decompresses. -ENOEXEC when it is malformed, or when
// the host cannot decompress the payload and the kernel has no 64-bit entry point.
int vn_bzimage_open(
	struct vn_bzimage *bzimage, const struct vn_image *image, struct veneer_error *error);

// Decompress as much of the payload as holds the ELF file's headers, for vn_elf_look(), and
// rewind. -ENOEXEC.
int vn_bzimage_look(const struct vn_bzimage *bzimage, struct vn_elf *elf);

// Load the payload, through vn_elf_finish(). -ENOEXEC.
int vn_bzimage_decompress(const struct vn_bzimage *bzimage, struct vn_elf *elf);

// Where the protected-mode part goes by its header. It occupies [*start, *start + init_size), all
// of it RAM below the hole. -ENOEXEC for a malformed header, -E2BIG for too little memory.
int vn_bzimage_place(const struct vn_bzimage *bzimage, const struct vn_memory *memory,
	uint64_t *start, struct veneer_error *error);

// Load it to the place that was found.
int vn_bzimage_load(const struct vn_bzimage *bzimage, const struct vn_memory *memory,
	uint64_t start, struct veneer_error *error);

// From *start to where a 64-bit boot loader enters it.
#define VN_BZIMAGE_ENTRY64 0x200u

#endif
