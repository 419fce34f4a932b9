// SPDX-License-Identifier: Apache-2.0
//
// Which instructions of an idle guest KVM leaves to it (KVM_CAP_X86_DISABLE_EXITS).
#ifndef VN_X86_IDLE_H
#define VN_X86_IDLE_H

#include "core/kvm.h"

// Before there is a vCPU. -ENOTSUP when this host's KVM cannot.
int vn_idle_set(const struct vn_kvm *kvm, enum veneer_idle idle, struct veneer_error *error);

#endif
