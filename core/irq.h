// SPDX-License-Identifier: Apache-2.0
//
// Interrupts: eventfds that KVM turns into an interrupt without waking the monitor (irqfd), be it a
// pin or a message; and eventfds that KVM signals when the guest writes to an address (ioeventfd).
#ifndef VN_IRQ_H
#define VN_IRQ_H

#include <stdbool.h>
#include <stdint.h>

#include "core/kvm.h"

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

// Put a level-triggered interrupt source up or down: as long as it is up it is delivered, at the
// latest when the guest unmasks it. `kvm` NULL: does nothing (tests without KVM).
void vn_line_set(const struct vn_kvm *kvm, uint32_t gsi, bool up);

// The vm's interrupt routing (KVM_SET_GSI_ROUTING): GSIs 0 to 23 are the IOAPIC's pins, 0 to 15 the
// PICs' as well; those from 24 on are messages. Owned by the vm, outlives every vn_msi; any thread,
// it locks itself. `kvm` NULL: nothing is routed (tests without KVM).
struct vn_irqs;
int vn_irqs_create(struct vn_irqs **irqs, const struct vn_kvm *kvm, struct veneer_error *error);
void vn_irqs_destroy(struct vn_irqs *irqs);

// A message-signalled interrupt, owned by the transport that raises it, as vn_irq_raise(&msi->irq)
// from any thread at any time. The owner makes one other call at a time. While it is masked its
// eventfd is not attached to KVM: what is raised then stays in the eventfd's counter, which is the
// pending bit, and is delivered when it is unmasked.
struct vn_msi {
	struct vn_irq irq;
	struct vn_irqs *irqs;
	bool masked;
};

// A new vector gets a GSI of its own, and is masked. -ENOSPC when there are no more.
int vn_msi_open(struct vn_msi *msi, struct vn_irqs *irqs, struct veneer_error *error);
void vn_msi_close(struct vn_msi *msi);

// Address and data as the guest wrote them (Intel SDM volume 3, 11.11). A masked vector's are given
// to KVM when it is unmasked; those that KVM does not take leave it without any.
int vn_msi_set(struct vn_msi *msi, uint64_t address, uint32_t data);
int vn_msi_mask(struct vn_msi *msi);
int vn_msi_unmask(struct vn_msi *msi);

// Masked, with nothing pending.
int vn_msi_reset(struct vn_msi *msi);

// Raised while masked, and so not delivered yet.
bool vn_msi_is_pending(const struct vn_msi *msi);

// Have KVM signal `fd` when the guest writes `value` with 4 bytes at MMIO address `gpa`, in place
// of an exit to user space. `kvm` NULL: does nothing (tests without KVM).
int vn_ioeventfd_add(
	const struct vn_kvm *kvm, vn_gpa gpa, uint32_t value, int fd, struct veneer_error *error);
void vn_ioeventfd_remove(const struct vn_kvm *kvm, vn_gpa gpa, uint32_t value, int fd);

// The same for a write of anything, of any width.
int vn_ioeventfd_add_any(const struct vn_kvm *kvm, vn_gpa gpa, int fd, struct veneer_error *error);
void vn_ioeventfd_remove_any(const struct vn_kvm *kvm, vn_gpa gpa, int fd);

#endif
