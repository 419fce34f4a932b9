// SPDX-License-Identifier: Apache-2.0
//
// Which thread runs on which of the host's CPUs: choosing, and judging what was chosen. Nothing
// here reads or changes the host; host/host.h describes it.
#ifndef VN_PLACEMENT_H
#define VN_PLACEMENT_H

#include "base/error.h"
#include "host/host.h"

// What a guest needs places for.
struct vn_placement_guest {
	unsigned vcpus;
	unsigned threads; // that the guest is shown in a core, at least 1
	unsigned iothreads;
	int nodes[VENEER_CPUS_MAX]; // of the host, with each vCPU's memory; -1: no particular one
};

// Choose a CPU for each vCPU, and CPUs for I/O and other threads where `placement` has none yet;
// those that it has are kept, and kept free of vCPUs. -ENOSPC with the line where the host lacks
// room: docs/placement.md has the rules.
int vn_placement_choose(struct veneer_placement *placement, const struct vn_placement_guest *guest,
	const struct vn_host *host, struct veneer_error *error);

// Whether every CPU that is named is online and allowed, every vCPU that is named there, and the
// priority one: -EINVAL with the line that names it.
int vn_placement_check(const struct veneer_placement *placement, unsigned vcpus,
	const struct vn_host *host, struct veneer_error *error);

// Which of the host's level 3 caches each vCPU runs under, as the first vCPU that runs under the
// same. False where that is not settled: some vCPU may run under several, or anywhere.
bool vn_placement_caches(const struct veneer_placement *placement, unsigned vcpus,
	const struct vn_host *host, uint8_t cache_of[VENEER_CPUS_MAX]);

// Warn of what costs the guest time: vCPUs on CPUs that are shared or not isolated.
void vn_placement_warn(const struct veneer_placement *placement,
	const struct vn_placement_guest *guest, const struct vn_host *host,
	const struct vn_log *log);

#endif
