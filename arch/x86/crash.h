// SPDX-License-Identifier: Apache-2.0
//
// What to tell a person when a vCPU cannot go on: what happened, where, and the registers.
#ifndef VN_X86_CRASH_H
#define VN_X86_CRASH_H

#include <linux/kvm.h>
#include <stddef.h>

#include "vmm/kvm.h"
#include "vmm/memory.h"

// Describe, in lines, the exit in `run` that ended the vCPU (KVM_EXIT_SHUTDOWN,
// KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_FAIL_ENTRY or one that is not known). On the vCPU's thread.
void vn_crash_describe(char *text, size_t size, unsigned vcpu, int vcpu_fd,
	const struct kvm_run *run, const struct vn_memory *memory);

#endif
