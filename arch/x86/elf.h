// SPDX-License-Identifier: Apache-2.0
//
// An ELF kernel that arrives as a stream: whoever reads or decompresses it hands over the bytes in
// order, in pieces of any size, and each goes straight to its place in guest memory. Only the
// headers and the notes are kept. Or it is looked at first: all that the headers say is checked
// then, before a page of guest memory is touched.
#ifndef VN_X86_ELF_H
#define VN_X86_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "core/memory.h"

#define VN_ELF_PHDRS_MAX 64
#define VN_ELF_HEAD_MAX  4096 // bytes from the file's beginning that hold all headers
#define VN_ELF_NOTES_MAX 4096 // bytes of all PT_NOTE segments

// A run of the file's bytes and where they go: guest memory for PT_LOAD, `notes` for PT_NOTE.
struct vn_elf_piece {
	uint64_t offset, file_size; // in the file
	uint64_t start, size; // guest-physical; unused for notes
	uint64_t align;
	uint8_t *host;
};

// Set up by vn_elf_begin(); holds nothing that needs to be given back.
struct vn_elf {
	const char *name; // of the file, for messages
	const struct vn_memory *memory;
	struct veneer_error *error;
	uint64_t position; // bytes taken so far
	uint64_t needed; // the rest of the file from here on is of no interest
	size_t head_size;
	bool head_done;
	unsigned load_count, note_count;
	struct vn_elf_piece loads[VN_ELF_PHDRS_MAX];
	struct vn_elf_piece note_pieces[VN_ELF_PHDRS_MAX];
	_Alignas(8) uint8_t head[VN_ELF_HEAD_MAX];
	uint8_t notes[VN_ELF_NOTES_MAX];

	// Once the headers are read.
	uint64_t entry; // e_entry
	uint64_t pvh_entry; // after vn_elf_find_pvh(); 0 without the note
	uint64_t kernel_start, kernel_end; // guest-physical extent of all segments
};

void vn_elf_begin(struct vn_elf *elf, const char *name, const struct vn_memory *memory,
	struct veneer_error *error);

// Take the next bytes of the file. -ENOEXEC with a line in `error` when the headers are wrong.
int vn_elf_write(struct vn_elf *elf, const void *data, size_t size);

// Take the file's first bytes as far as they are headers, and touch no guest memory. 1: the headers
// are whole and right; 0: more is needed; -ENOEXEC.
int vn_elf_look(struct vn_elf *elf, const void *data, size_t size);

// After vn_elf_look() has returned 1: vn_elf_write() is given the file from its beginning, and goes
// by the headers that were seen.
void vn_elf_rewind(struct vn_elf *elf);

// Whether a file of `size` bytes has the headers and all that they name. -ENOEXEC.
int vn_elf_check_size(const struct vn_elf *elf, uint64_t size);

// Look for the PVH entry point in `notes`. -ENOEXEC when they are malformed.
int vn_elf_find_pvh(struct vn_elf *elf);

// True when no further bytes are needed: what follows are symbols and the like.
bool vn_elf_complete(const struct vn_elf *elf);

// After the last byte: zero what the file does not hold, read the notes. -ENOEXEC when bytes were
// missing.
int vn_elf_finish(struct vn_elf *elf);

// Whether `address` lies in the file's part of a segment.
bool vn_elf_contains(const struct vn_elf *elf, uint64_t address);

#endif
