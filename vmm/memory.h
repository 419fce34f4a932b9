// SPDX-License-Identifier: Apache-2.0
//
// Guest memory: where it comes from on the host (transparent huge pages, hugetlbfs, a NUMA node)
// and the one door through which the monitor reaches it. A guest-physical address is a type of its
// own that cannot be dereferenced or added to by accident; vn_memory_at() is the only translation,
// and it checks. Needs no KVM: unit tests build a memory and hand it to devices and loaders.
#ifndef VN_MEMORY_H
#define VN_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/error.h"

// A guest-physical address.
typedef struct {
	uint64_t addr;
} vn_gpa;

#define VN_GPA(value) ((vn_gpa){(value)})

// A run of guest-physical addresses backed by RAM.
struct vn_ram {
	vn_gpa start;
	uint64_t size; // bytes
	uint8_t *host; // belongs to the memory
};

#define VN_RAM_MAX 2

// Owned by the vm; everything in it is immutable after vn_memory_create(), so any thread may
// translate. What the bytes hold is the guest's, which changes them at any moment.
struct vn_memory {
	struct vn_ram ram[VN_RAM_MAX]; // ascending: below the hole, then from 4 GiB
	unsigned ram_count;
	uint64_t size; // bytes of RAM in all
	uint64_t page_size; // of the backing: 4096, 2 MiB or 1 GiB
	int fd; // the memfd, or -1 where the host gives huge pages to private memory only
	uint8_t *host;
};

// Reserve `options->size` bytes, split around [hole_start, 4 GiB). Refuses, with the remedy, when
// huge pages or the node lack room: -ENOMEM; -EINVAL for sizes that are no multiple of the page
// size, -ENODEV for a node that is not there.
int vn_memory_create(struct vn_memory *memory, const struct veneer_memory *options,
	uint64_t hole_start, struct veneer_error *error);
void vn_memory_destroy(struct vn_memory *memory);

// The host address of [gpa, gpa + length), or NULL unless all of it is RAM in one run. A length
// of 0 is never valid. Any thread.
void *vn_memory_at(const struct vn_memory *memory, vn_gpa gpa, uint64_t length);

// Copy out of and into guest memory; -EFAULT, with nothing copied, unless all of it is RAM.
int vn_memory_read(const struct vn_memory *memory, vn_gpa gpa, void *data, uint64_t length);
int vn_memory_write(const struct vn_memory *memory, vn_gpa gpa, const void *data, uint64_t length);

#endif
