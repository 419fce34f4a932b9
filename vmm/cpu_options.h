// SPDX-License-Identifier: Apache-2.0
//
// What a guest's processors are configured with: the options `cpus` and `cpu`.
#ifndef VN_CPU_OPTIONS_H
#define VN_CPU_OPTIONS_H

#include "arch/x86/idle.h"
#include "arch/x86/topology.h"
#include "base/prop.h"
#include "host/placement.h"

// The strings are owned.
struct vn_cpus_options {
	unsigned count;
	struct vn_topology_options topology;
	char *pin; // LIST, VCPUS:CPUS,... or auto; or NULL
	struct vn_cpuset iothreads; // one CPU for each of the devices' threads, in turn; empty: any
	struct vn_cpuset vmm; // for all other threads; empty: any
	unsigned fifo; // the vCPU threads' priority in SCHED_FIFO, 1 to 99; 0: the creator's policy
	enum vn_idle idle;
	// For how many nanoseconds at most KVM polls for an interrupt before it gives a halted
	// vCPU's host CPU to others; -1: the host's own default. VN_IDLE_HALT only.
	int64_t halt_poll_ns;
	bool pit; // an i8254 timer, for kernels that cannot do without

	// What `pin` means, once it is checked.
	bool pin_auto; // to be chosen
	struct vn_cpuset pinned[VN_CPUS_MAX]; // each vCPU's; empty: any
};

// The strings are owned.
struct vn_cpu_options {
	char *model; // NULL: host
	char *features; // "+x,-y", or NULL
	unsigned tsc_khz; // 0: the host's
};

extern const struct vn_option vn_cpus_option;
extern const struct vn_option vn_cpu_option;

#endif
