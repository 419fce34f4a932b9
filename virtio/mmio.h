// SPDX-License-Identifier: Apache-2.0
//
// The virtio-mmio transport, version 2 (virtio 1.2 section 4.2).
#ifndef VN_VIRTIO_MMIO_H
#define VN_VIRTIO_MMIO_H

#include "core/bus.h"
#include "core/irq.h"
#include "virtio/device.h"

struct vn_virtio_mmio;

// Put `device` on `bus` at `base` (VN_VIRTIO_MMIO_SIZE bytes) with interrupt line `gsi`. The
// transport owns the interrupt and the notification eventfds; the device stays the caller's and
// must outlive the transport. `kvm` NULL: no ioeventfd, notifications then arrive by register
// writes (tests without KVM).
#define VN_VIRTIO_MMIO_SIZE 0x1000
int vn_virtio_mmio_create(struct vn_virtio_mmio **mmio, struct vn_virtio_device *device,
	const struct vn_kvm *kvm, struct vn_bus *bus, uint64_t base, uint32_t gsi,
	struct veneer_error *error);
void vn_virtio_mmio_destroy(struct vn_virtio_mmio *mmio);

#endif
