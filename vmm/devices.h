// SPDX-License-Identifier: Apache-2.0
//
// All devices of a guest as one part: made, put on the buses, given their interrupts, and taken
// down in reverse. Its implementation alone knows every device and both transports.
#ifndef VN_DEVICES_H
#define VN_DEVICES_H

#include "base/arena.h"
#include "base/error.h"
#include "core/bus.h"
#include "core/end.h"
#include "core/kvm.h"
#include "core/memory.h"

struct vn_devices;
struct vn_machine;

// Where devices are put. What it points to outlives them.
struct vn_devices_site {
	const struct vn_kvm *kvm;
	const struct vn_memory *memory;
	struct vn_bus *pio, *mmio;
	const struct vn_end_hook *end;
	const struct vn_log *log;
	const struct veneer_placement *placement;
	struct vn_machine *machine; // told of virtio-mmio slots and PCI's window
};

// The transport that a configuration leaves open; and whether its devices fit on it: -EINVAL.
int vn_devices_choose_transport(struct veneer_config *config, struct veneer_error *error);

// Those that every machine has, then what `config` names, on the transport chosen for it.
int vn_devices_create(struct vn_devices **devices, const struct vn_devices_site *site,
	const struct veneer_config *config, struct veneer_error *error);

// Once no vCPU runs any more.
void vn_devices_destroy(struct vn_devices *devices);

// What the guest printed is written, or nobody takes it. After the vCPUs have stopped.
void vn_devices_drain(const struct vn_devices *devices);

void vn_devices_press_power_button(const struct vn_devices *devices);

// vn_blk_refresh() of the disk with this number. -EINVAL: there is none.
int vn_devices_refresh_disk(
	const struct vn_devices *devices, size_t number, struct veneer_error *error);

// The virtio devices' statistics, a list that ends with NULL. -ENOMEM.
int vn_devices_stats(const struct vn_devices *devices, struct vn_arena *arena,
	const struct veneer_device_stats *const **stats);

#endif
