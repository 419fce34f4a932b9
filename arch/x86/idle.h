// SPDX-License-Identifier: Apache-2.0
//
// Which instructions of an idle guest KVM leaves to it (KVM_CAP_X86_DISABLE_EXITS).
#ifndef VN_X86_IDLE_H
#define VN_X86_IDLE_H

#include "core/kvm.h"

// What happens on the host's CPU when the guest's has nothing to do. The last two leave it with the
// guest, so they are for vCPUs that have a host CPU each to themselves.
enum vn_idle {
	VN_IDLE_HALT, // KVM gives it to others
	VN_IDLE_POLL, // HLT and PAUSE are the guest's own: no exit, no wake-up through the host
	VN_IDLE_MWAIT, // as are MONITOR and MWAIT, so that it can choose C-states
};

extern const char *const vn_idle_names[]; // by number; ends with NULL

// Before there is a vCPU. -ENOTSUP when this host's KVM cannot.
int vn_idle_set(const struct vn_kvm *kvm, enum vn_idle idle, struct veneer_error *error);

#endif
