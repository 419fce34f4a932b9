// SPDX-License-Identifier: Apache-2.0
//
// Thin wrappers over the KVM system and VM file descriptors (Linux Documentation/virt/kvm/api.rst).
// Nothing here knows a device.
#ifndef VN_KVM_H
#define VN_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "core/memory.h"

// Owned by the vm. The descriptors may be used from any thread.
struct vn_kvm {
	int system_fd; // /dev/kvm
	int vm_fd;
	size_t run_size; // bytes to map of a vCPU descriptor
	unsigned slots; // of memory, that KVM has
};

// Open /dev/kvm. -ENOENT, -EACCES, -ENOSYS with the remedy in words.
int vn_kvm_open(struct vn_kvm *kvm, struct veneer_error *error);

// Create a VM without memory and chips. What a failure of this or the next leaves is
// vn_kvm_destroy()'s too.
int vn_kvm_create(struct vn_kvm *kvm, struct veneer_error *error);

// Before the interrupt chips are made: there KVM begins a grace period (SRCU, since Linux 6.18)
// without haste, for whose end, one to two ticks of the host, it would wait here. Without it, it
// waits 0.2 ms.
int vn_kvm_map_memory(
	struct vn_kvm *kvm, const struct vn_memory *memory, struct veneer_error *error);

// Memory goes first, with an expedited grace period that ends the chips' as well: the end of a
// guest that was short would wait longer for that.
void vn_kvm_destroy(struct vn_kvm *kvm);

// KVM_CAP_HALT_POLL, at most UINT32_MAX; nothing for -1. -ENOTSUP.
int vn_kvm_set_halt_poll(const struct vn_kvm *kvm, int64_t ns, struct veneer_error *error);

// KVM_ENABLE_CAP with one argument. A negative errno.
int vn_kvm_enable(const struct vn_kvm *kvm, uint32_t capability, uint64_t value);

// The value of a capability, 0 when KVM does not have it.
int vn_kvm_capability(const struct vn_kvm *kvm, int capability);

// ioctl() on any KVM descriptor, restarted on EINTR; 0 or the result, or a negative errno.
int vn_kvm_ioctl(int fd, unsigned long request, void *argument);

#endif
