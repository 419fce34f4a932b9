// SPDX-License-Identifier: Apache-2.0
//
// What to tell a person when a vCPU cannot go on: what happened, where, and the registers.
#ifndef VN_X86_CRASH_H
#define VN_X86_CRASH_H

#include "core/vcpu.h"

// Describe, in lines, the exit that ended the vCPU (KVM_EXIT_SHUTDOWN, KVM_EXIT_INTERNAL_ERROR,
// KVM_EXIT_FAIL_ENTRY or one that is not known). On its thread.
void vn_crash_describe(const struct vn_vcpu *vcpu, char *text, size_t size);

#endif
