// SPDX-License-Identifier: Apache-2.0
//
// How much memory this thread can have, and what says so: the host's free memory and its reserve of
// huge pages, the nodes that the memory policy and the cpuset allow, and the cgroups' limits.
#ifndef VN_MEMORY_LIMITS_H
#define VN_MEMORY_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"
#include "host/cgroup.h"

// Where this thread's memory may come from.
struct vn_memory_reach {
	const char *root; // of the kernel's files
	struct vn_cpuset mems; // nodes that its cpuset allows; empty: this kernel has no NUMA
	struct vn_cpuset bound; // nodes that its memory policy binds it to; empty: it does not
	struct vn_cgroup hugetlb; // its cgroup that counts huge pages, where there are any
	// The reserve of huge pages has not grown when it was asked to: only what is in it counts.
	bool fixed;
};

// Of this thread, now.
void vn_memory_reach_find(struct vn_memory_reach *reach, const struct vn_memory *memory);

// What allows these nodes and no others, for a message: `/sys/fs/cgroup/cpuset.mems allows node 0`,
// or the memory policy.
void vn_memory_reach_name(char text[static 256], const struct vn_memory_reach *reach,
	const struct vn_cpuset *allowed);

// Whether all cells' memory can be had, before any is taken. 0, or -ENOMEM with the limit that
// binds, by how much, and what mends it.
int vn_memory_limits_check(const struct vn_memory *memory, const struct vn_memory_options *options,
	const struct vn_memory_reach *reach, struct veneer_error *error);

// Whether a page of this size may be refused when it is touched, although mmap(2) has promised it:
// the promise holds for the host, not for a node or a cgroup.
bool vn_memory_limits_bind_late(uint64_t page_size, const struct vn_memory_reach *reach);

// Say that memory which is not preallocated will not all fit. `root` is that of the kernel's files.
void vn_memory_limits_warn(
	const struct vn_memory *memory, const char *root, const struct vn_log *log);

// Which limit may have refused a page that was touched, for a message: ": ..." or nothing.
void vn_memory_limits_explain(char *text, size_t size, const struct vn_memory *memory,
	const struct vn_memory_reach *reach);

#endif
