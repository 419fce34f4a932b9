// SPDX-License-Identifier: Apache-2.0
//
// The virtio-pci transport, modern only (virtio 1.2 section 4.1), with MSI-X: a vector for the
// configuration and one for each queue, and a notification address for each queue.
#ifndef VN_VIRTIO_PCI_H
#define VN_VIRTIO_PCI_H

#include "devices/pci.h"
#include "virtio/device.h"
#include "vmm/irq.h"

struct vn_virtio_pci;

// Put `device` into `slot` of the root. As for vn_virtio_mmio_create() otherwise.
int vn_virtio_pci_create(struct vn_virtio_pci **result, struct vn_virtio_device *device,
	const struct vn_kvm *kvm, struct vn_irqs *irqs, struct vn_pci *root, unsigned slot,
	struct veneer_error *error);
void vn_virtio_pci_destroy(struct vn_virtio_pci *pci);

#endif
