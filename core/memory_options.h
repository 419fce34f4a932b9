// SPDX-License-Identifier: Apache-2.0
//
// What a guest's memory is configured with: the options `memory` and `numa`.
#ifndef VN_MEMORY_OPTIONS_H
#define VN_MEMORY_OPTIONS_H

#include "base/cpuset.h"
#include "base/limits.h"
#include "base/prop.h"

struct vn_memory_options {
	// Bytes; a multiple of the page size in use, and at least what the kernel's image takes.
	uint64_t size; // 0: what the cells have together; without cells, VN_MEMORY_DEFAULT
	uint64_t hugepage_size; // 0: transparent huge pages; else 2 MiB or 1 GiB from hugetlbfs
	int node; // NUMA node of the host to bind strictly to, or -1
	bool prealloc; // touch every page before the guest starts
	bool lock; // all of it in memory, never swapped
	bool merge; // let KSM merge its pages with equal ones; not with huge pages
};

// A NUMA node of the guest: some of its CPUs and the memory that is near to them.
struct vn_cell_options {
	unsigned number;
	struct vn_cpuset cpus; // of the guest's; every one is in exactly one cell
	uint64_t size; // bytes; a multiple of the page size in use
	uint64_t hugepage_size; // as in vn_memory_options; 0: what that says
	int node; // of the host, to bind strictly to; -1: what vn_memory_options says
};

// Bytes of the pages that the cell's memory is made of.
uint64_t vn_memory_page_size(const struct vn_cell_options *cell);

// What no host can give: a size that is not made of whole pages, too small or too large; huge pages
// that are merged. `whose` is what the message begins with. -EINVAL.
int vn_memory_check_size(
	uint64_t size, uint64_t page_size, const char *whose, struct veneer_error *error);
int vn_memory_check_merge(uint64_t page_size, const char *whose, struct veneer_error *error);

extern const struct vn_option vn_memory_option;
extern const struct vn_option vn_cell_option;

#endif
