// SPDX-License-Identifier: Apache-2.0
//
// The host's CPUs as /sys describes them: which share a core, an L3, a node, which are kept free of
// other work, and which this process may use.
#ifndef VN_HOST_H
#define VN_HOST_H

#include <stdbool.h>

#include "base/cpuset.h"
#include "base/error.h"

// One CPU. Groups go by the lowest number among the CPUs that are in them.
struct vn_host_cpu {
	unsigned core; // with its SMT siblings
	unsigned l3; // with those that share its L3; the die's where /sys shows no L3
	unsigned package;
	unsigned node;
	bool efficient; // a small core of a hybrid processor
};

struct vn_host {
	struct vn_cpuset online;
	struct vn_cpuset isolated; // from the scheduler's balancing, by isolcpus=
	struct vn_cpuset allowed; // what this process can be pinned to: its cgroup's, if online
	struct vn_cpuset affinity; // where the calling thread runs now
	struct vn_host_cpu cpus[VN_HOST_CPUS_MAX]; // those online
};

// All but `allowed` and `affinity`, from /sys below `root`. Files that a kernel may lack (caches,
// NUMA, isolation) leave each CPU its core's or die's; what cannot be understood is -EINVAL.
int vn_host_read(struct vn_host *host, const char *root, struct veneer_error *error);

// `allowed` and `affinity`, as the kernel has them for this process.
int vn_host_allowed(struct vn_host *host, struct veneer_error *error);

// Both, of the host that this runs on.
int vn_host_create(struct vn_host **host, struct veneer_error *error);

#endif
