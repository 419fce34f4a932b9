// SPDX-License-Identifier: Apache-2.0
//
// What the host has to make guest memory from: free huge pages and the command that reserves more,
// what its nodes can give and how far they are from each other, transparent huge pages, KSM.
#ifndef VN_HOST_MEMORY_H
#define VN_HOST_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/memory.h"
#include "core/memory_limits.h"

// Whether the host can give what the cells ask for, before anything is taken: sizes, nodes, pages,
// limits.
int vn_host_memory_check(const struct vn_memory *memory, const struct vn_memory_options *options,
	const struct vn_memory_reach *reach, struct veneer_error *error);

// Whether the kernel makes transparent huge pages of shared memory, or of private memory that
// asks for them.
bool vn_host_memory_shared_thp(void);
bool vn_host_memory_private_thp(void);

// How far two NUMA nodes are from each other, as firmware tables count: from 10, which is near, to
// 254. 0 where the host, whose files are below `root`, does not say.
unsigned vn_host_memory_distance(const char *root, int from, int to);

#endif
