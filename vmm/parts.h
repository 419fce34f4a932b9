// SPDX-License-Identifier: Apache-2.0
//
// All parts of a VM: the KVM VM, memory, vCPUs, devices. Created from a spec, destroyed in reverse
// order.
#ifndef VN_PARTS_H
#define VN_PARTS_H

#include "arch/x86/boot.h"
#include "arch/x86/cpuid.h"
#include "arch/x86/machine.h"
#include "arch/x86/map.h"
#include "base/cpuset.h"
#include "core/bus.h"
#include "core/kvm.h"
#include "core/vcpu.h"
#include "host/placement.h"
#include "vmm/config.h"
#include "vmm/devices.h"

// Owned by the vm; immutable once the guest runs, but for what the parts themselves say, and for
// what a reset makes again: the command line, `boot`, the device tree.
struct vn_parts {
	struct vn_kvm kvm;
	struct vn_cpuid cpuid; // the processor's, without what a vCPU has to itself
	struct vn_memory memory;
	struct vn_bus pio, mmio;
	struct vn_placement placement;
	struct vn_cpuset helpers; // where KVM's own threads go
	struct vn_vcpu *vcpus; // room for the machine's
	unsigned vcpu_count; // those created
	struct vn_devices *devices; // NULL until they are made
	struct vn_machine machine;
	uint8_t cell_of[VN_CPUS_MAX]; // the machine's
	uint8_t cache_of[VN_CPUS_MAX]; // of the host's, each vCPU's, if that is known
	bool caches_known;
	char cmdline[VN_MAP_CMDLINE_MAX];
	struct vn_boot_source *source; // until it is loaded
	struct vn_boot boot;
	void *dtb;
	size_t dtb_size;
	int stats_fd; // KVM's statistics of the VM, or -1
};

// What it points to outlives the parts.
struct vn_parts_env {
	const struct vn_log *log;
	const struct vn_end_hook *end;
	struct vn_progress progress; // while memory is populated
};

void vn_parts_init(struct vn_parts *parts);

// Whatever is made so far is given back by vn_parts_destroy(), also after a failure.
int vn_parts_create(struct vn_parts *parts, const struct vn_spec *spec,
	const struct vn_parts_env *env, struct veneer_error *error);
void vn_parts_destroy(struct vn_parts *parts);

// Open kernel and initrd before a reset: by their names again, so that a kernel that was replaced
// meanwhile is the one that boots. All that they can be refused for but their contents is refused
// here. Touches no guest memory, and the guest may run. After a failure, all is as it was.
int vn_parts_prepare_boot(
	struct vn_parts *parts, const struct vn_spec *spec, struct veneer_error *error);

// Close them again: the reset did not come about.
void vn_parts_forget_boot(struct vn_parts *parts);

// Put processors, chips and devices back to the state that vn_parts_create() made, and load the
// kernel again. The rest of guest memory stays, and so do devices' files and interfaces. All vCPUs
// are parked or have no thread, and the devices are paused. After a failure the guest cannot go on,
// but can be reset again.
int vn_parts_reset(struct vn_parts *parts, const struct vn_spec *spec, struct veneer_error *error);

// Let devices and chips go on after a pause, before the vCPUs do.
void vn_parts_resume(const struct vn_parts *parts, const struct vn_spec *spec);

#endif
