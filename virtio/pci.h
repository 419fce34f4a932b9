// SPDX-License-Identifier: Apache-2.0
//
// The virtio-pci transport, modern only (virtio 1.2 section 4.1), with MSI-X: a vector for the
// configuration and one for each queue, and a notification address for each queue.
#ifndef VN_VIRTIO_PCI_H
#define VN_VIRTIO_PCI_H

#include "core/irq.h"
#include "pci/root.h"
#include "virtio/device.h"

struct vn_virtio_pci;

// Put `device` into `slot` of the root, before the guest runs. The transport owns its interrupts
// and the notification eventfds; the device stays the caller's and must outlive it. `kvm` NULL: no
// ioeventfd, notifications then arrive as accesses to the BAR (tests without KVM).
int vn_virtio_pci_create(struct vn_virtio_pci **result, struct vn_virtio_device *device,
	const struct vn_kvm *kvm, struct vn_irqs *irqs, struct vn_pci *root, unsigned slot,
	struct veneer_error *error);

// Once no vCPU runs any more.
void vn_virtio_pci_destroy(struct vn_virtio_pci *pci);

#endif
