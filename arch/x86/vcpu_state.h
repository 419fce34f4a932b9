// SPDX-License-Identifier: Apache-2.0
//
// All of a vCPU's state as KVM has it: registers, FPU, model-specific registers, local APIC, what
// is pending. For a vCPU that does not run.
#ifndef VN_X86_VCPU_STATE_H
#define VN_X86_VCPU_STATE_H

#include "core/kvm.h"

struct vn_vcpu_state;

// Room for the state of one vCPU of this host's. Given back with vn_vcpu_state_free().
int vn_vcpu_state_new(
	struct vn_vcpu_state **state, const struct vn_kvm *kvm, struct veneer_error *error);
void vn_vcpu_state_free(struct vn_vcpu_state *state); // NULL is allowed

// `index` is for messages. CPUID is not part of it, and is set before.
int vn_vcpu_state_read(
	struct vn_vcpu_state *state, int vcpu_fd, unsigned index, struct veneer_error *error);
int vn_vcpu_state_write(
	const struct vn_vcpu_state *state, int vcpu_fd, unsigned index, struct veneer_error *error);

#endif
