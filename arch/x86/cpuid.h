// SPDX-License-Identifier: Apache-2.0
//
// What CPUID tells the guest: what KVM supports on this host and this guest's model has of it, with
// the leaves that describe this guest (APIC id, topology, hypervisor, TSC frequency) made right.
#ifndef VN_X86_CPUID_H
#define VN_X86_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "arch/x86/topology.h"
#include "core/kvm.h"

#define VN_CPUID_ENTRIES_MAX 256

// A table that KVM_SET_CPUID2 takes: struct kvm_cpuid2 with room for its entries.
struct vn_cpuid {
	uint32_t nent;
	uint32_t padding;
	struct kvm_cpuid_entry2 entries[VN_CPUID_ENTRIES_MAX];
};

// An entry, NULL when there is none; all of a leaf, whether there is any.
struct kvm_cpuid_entry2 *vn_cpuid_find(struct vn_cpuid *cpuid, uint32_t function, uint32_t index);
void vn_cpuid_drop(struct vn_cpuid *cpuid, uint32_t function);

bool vn_cpuid_is_intel(const struct vn_cpuid *cpuid);
bool vn_cpuid_is_amd(const struct vn_cpuid *cpuid);

// What a guest can be shown here: what KVM supports, and vn_cpuid_offer(). Read once for a vm;
// needs kvm->system_fd alone.
int vn_cpuid_supported(
	const struct vn_kvm *kvm, struct vn_cpuid *cpuid, struct veneer_error *error);

// Complete KVM's table by what KVM does and does not say (that there is a hypervisor, and the TSC
// deadline timer where it has KVM_CAP_TSC_DEADLINE_TIMER) and by AMD's topology extensions, which
// are made here. -ENOSPC. Pure.
int vn_cpuid_offer(struct vn_cpuid *cpuid, bool tsc_deadline, struct veneer_error *error);

struct vn_cpuid_guest {
	struct vn_topology topology;
	uint32_t tsc_khz; // 0: unknown
	const struct kvm_cpuid_entry2 *mwait; // leaf 5 where MWAIT is left to the guest, else NULL
};

// The host's own leaf 5: how MONITOR and MWAIT work here. Not in what KVM says it supports.
struct kvm_cpuid_entry2 vn_cpuid_host_mwait(void);

// Whether the host's CPU offers VT-x or AMD-V. Where KVM runs without, it emulates a guest's kernel
// code.
bool vn_cpuid_host_virtualizes(void);

// Turn a copy of the table of a guest's model into that of the vCPU with APIC id `apic_id`. Pure.
// -ENOSPC when the table has no room for a leaf it needs.
int vn_cpuid_for_vcpu(struct vn_cpuid *cpuid, const struct vn_cpuid_guest *guest, uint32_t apic_id,
	struct veneer_error *error);

#endif
