// SPDX-License-Identifier: Apache-2.0
//
// The interrupt chips that KVM has for an x86 guest: local APICs, an IOAPIC, two 8259s and, where
// it is wanted, an i8254.
#ifndef VN_X86_CHIPS_H
#define VN_X86_CHIPS_H

#include "core/kvm.h"

// After vn_kvm_map_memory() and before there is a vCPU. All lines of the 8259s are masked.
int vn_chips_create(const struct vn_kvm *kvm, bool pit, struct veneer_error *error);

// Give the chips of `to` the state of those of `from`, which has the same ones. No vCPU of either
// runs.
int vn_chips_copy(
	const struct vn_kvm *to, const struct vn_kvm *from, bool pit, struct veneer_error *error);

// Before the vCPUs of a guest run again that was paused: KVM counts the ticks of an i8254 that
// nobody took meanwhile, and would deliver all of them now. Setting its state drops them,
// and begins the period, or the one shot, that it was in anew.
void vn_chips_resume(const struct vn_kvm *kvm, bool pit);

#endif
