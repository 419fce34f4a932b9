// SPDX-License-Identifier: Apache-2.0
//
// Which thread runs on which of the host's CPUs: choosing, and checking what was chosen. Nothing
// here reads or changes the host; host/host.h describes it.
#ifndef VN_PLACEMENT_H
#define VN_PLACEMENT_H

#include "base/cpuset.h"
#include "base/limits.h"
#include "host/host.h"

// On which of the host's CPUs each thread runs. An empty set: the thread inherits its creator's
// affinity.
struct vn_placement {
	struct vn_cpuset vcpus[VN_CPUS_MAX];
	struct vn_cpuset iothreads; // one CPU for each of the devices' threads, in turn
	struct vn_cpuset vmm; // the library's other threads; the program's are its own to place
	unsigned fifo; // the vCPU threads' priority in SCHED_FIFO, 1 to 99; 0: the creator's policy
};

// What a guest needs places for.
struct vn_placement_guest {
	unsigned vcpus;
	unsigned threads; // that the guest is shown in a core, at least 1
	unsigned iothreads;
	int nodes[VN_CPUS_MAX]; // of the host, with each vCPU's memory; -1: no particular one
};

// Choose a CPU for each vCPU, and CPUs for I/O and other threads where `placement` has none yet;
// those that it has are kept, and kept free of vCPUs. -ENOSPC with the line where the host lacks
// room: docs/placement.md has the rules.
int vn_placement_choose(struct vn_placement *placement, const struct vn_placement_guest *guest,
	const struct vn_host *host, struct veneer_error *error);

// Whether every CPU that is named is online and allowed: -EINVAL with the line that names it.
int vn_placement_check(const struct vn_placement *placement, unsigned vcpus,
	const struct vn_host *host, struct veneer_error *error);

// Which of the host's level 3 caches each vCPU runs under, as the first vCPU that runs under the
// same. False where that is not settled: some vCPU may run under several, or anywhere.
bool vn_placement_caches(const struct vn_placement *placement, unsigned vcpus,
	const struct vn_host *host, uint8_t cache_of[VN_CPUS_MAX]);

// Warn of what costs the guest time: vCPUs on CPUs that are shared or not isolated.
void vn_placement_warn(const struct vn_placement *placement, const struct vn_placement_guest *guest,
	const struct vn_host *host, const struct vn_log *log);

#endif
