// SPDX-License-Identifier: Apache-2.0
//
// The limits of the cgroup that this thread is in, and of those above it, in either version of
// cgroups. A resource is named by the beginning of its files' names, which is the controller's name
// or has it before the first dot: "memory", "hugetlb.2MB", "hugetlb.2MB.rsvd".
#ifndef VN_CGROUP_H
#define VN_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vn_cgroup {
	char directory[PATH_MAX]; // of its files; empty: there is no such cgroup
	size_t top; // how much of that is the mount point: no cgroup above it can be seen
	bool v1;
};

struct vn_cgroup_limit {
	char path[PATH_MAX]; // the file that sets it
	uint64_t limit; // bytes
	uint64_t used; // bytes, without caches that the kernel would rather drop
};

// The cgroup of this thread that the controller `controller` counts in; the kernel's files are
// below `root`. False where there is none, or none that can be seen from here.
bool vn_cgroup_find(struct vn_cgroup *cgroup, const char *root, const char *controller);

// Go to the cgroup above. False: there is none.
bool vn_cgroup_up(struct vn_cgroup *cgroup);

// This cgroup's limit of a resource. False: there is none.
bool vn_cgroup_limit(const struct vn_cgroup *cgroup, const char *root, const char *resource,
	struct vn_cgroup_limit *limit);

#endif
