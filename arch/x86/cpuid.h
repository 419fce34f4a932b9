// SPDX-License-Identifier: Apache-2.0
//
// What CPUID tells the guest: all that KVM supports on this host, with the leaves that describe
// this guest (APIC id, topology, hypervisor, TSC frequency) made right.
#ifndef VN_X86_CPUID_H
#define VN_X86_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "arch/x86/topology.h"
#include "vmm/kvm.h"

#define VN_CPUID_ENTRIES_MAX 256

// A table that KVM_SET_CPUID2 takes: struct kvm_cpuid2 with room for its entries.
struct vn_cpuid {
	uint32_t nent;
	uint32_t padding;
	struct kvm_cpuid_entry2 entries[VN_CPUID_ENTRIES_MAX];
};

// What KVM supports; read once for a vm.
int vn_cpuid_supported(
	const struct vn_kvm *kvm, struct vn_cpuid *cpuid, struct veneer_error *error);

struct vn_cpuid_guest {
	struct vn_topology topology;
	uint32_t tsc_khz; // 0: unknown
	bool tsc_deadline; // KVM_CAP_TSC_DEADLINE_TIMER
	const struct kvm_cpuid_entry2 *mwait; // leaf 5 where MWAIT is left to the guest, else NULL
};

// The host's own leaf 5: how MONITOR and MWAIT work here. Not in what KVM says it supports.
struct kvm_cpuid_entry2 vn_cpuid_host_mwait(void);

// Turn a copy of the supported table into that of the vCPU with APIC id `apic_id`. Pure.
// -ENOSPC when the table has no room for a leaf it needs.
int vn_cpuid_for_vcpu(struct vn_cpuid *cpuid, const struct vn_cpuid_guest *guest, uint32_t apic_id,
	struct veneer_error *error);

#endif
