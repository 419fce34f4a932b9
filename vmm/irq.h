// SPDX-License-Identifier: Apache-2.0
//
// Interrupt lines: an eventfd that KVM turns into an interrupt without waking the monitor (irqfd),
// and eventfds that KVM signals when the guest writes to an address (ioeventfd).
#ifndef VN_IRQ_H
#define VN_IRQ_H

#include <stdint.h>

#include "vmm/kvm.h"

// One edge-triggered interrupt source, owned by the device or transport that raises it. Raising
// is one write to `fd`, from any thread.
struct vn_irq {
	const struct vn_kvm *kvm; // NULL in tests without KVM: raising then only fills the eventfd
	int fd;
	uint32_t gsi;
};

int vn_irq_open(
	struct vn_irq *irq, const struct vn_kvm *kvm, uint32_t gsi, struct veneer_error *error);
void vn_irq_close(struct vn_irq *irq);
void vn_irq_raise(const struct vn_irq *irq);

// Have KVM signal `fd` when the guest writes `value` with 4 bytes at MMIO address `gpa`, in place
// of an exit to user space. `kvm` NULL: does nothing (tests without KVM).
int vn_ioeventfd_add(
	const struct vn_kvm *kvm, vn_gpa gpa, uint32_t value, int fd, struct veneer_error *error);
void vn_ioeventfd_remove(const struct vn_kvm *kvm, vn_gpa gpa, uint32_t value, int fd);

#endif
