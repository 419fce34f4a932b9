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
#include "host/placement.h"
#include "vmm/config.h"

struct vn_devices;
struct vn_machine;

// Where devices are put. What it points to outlives them.
struct vn_devices_site {
	const struct vn_kvm *kvm;
	const struct vn_memory *memory;
	struct vn_bus *pio, *mmio;
	const struct vn_end_hook *end;
	const struct vn_log *log;
	const struct vn_placement *placement;
	struct vn_machine *machine; // told of virtio-mmio slots and PCI's window
};

// How many devices of a type the configuration may ask for; vn_spec_device() says which of them
// there are.
static inline unsigned vn_devices_of_type(
	const struct vn_spec *spec, const struct vn_device_type *type)
{
	return type->option->many ? vn_config_count(spec->config, type->option) : 1;
}

// Whether the devices fit on their transport: -EINVAL. Pure.
int vn_devices_check(const struct vn_spec *spec, struct veneer_error *error);

// Those that every machine has, then what `spec` names, on its transport. Files, interfaces and
// sockets are opened; no page of guest memory is touched.
int vn_devices_create(struct vn_devices **devices, const struct vn_devices_site *site,
	const struct vn_spec *spec, struct veneer_error *error);

// Guest memory is populated: before the first vCPU runs.
void vn_devices_settle(const struct vn_devices *devices);

// Pause all devices: on return, nothing is in flight and none touches guest memory. And resume
// them. No vCPU runs.
void vn_devices_pause(const struct vn_devices *devices);
void vn_devices_resume(const struct vn_devices *devices);

// One of their loops has failed, which ends the guest. They cannot be used again. From any thread.
bool vn_devices_have_failed(const struct vn_devices *devices);

// All as before the guest ran, but for what is kept outside of it: files, interfaces, output that
// is to be written. No vCPU runs.
void vn_devices_reset(struct vn_devices *devices);

// Once no vCPU runs any more.
void vn_devices_destroy(struct vn_devices *devices);

// Until what the guest printed is written, or nobody takes it; or -ETIMEDOUT at `deadline_ns`
// (CLOCK_MONOTONIC; 0: none). After the vCPUs have stopped.
int vn_devices_drain(const struct vn_devices *devices, uint64_t deadline_ns);

void vn_devices_press_power_button(const struct vn_devices *devices);

// Have the device of this name in the configuration ("disk0") look again at what is behind it.
// -EINVAL: there is none, or none that can.
int vn_devices_refresh(
	const struct vn_devices *devices, const char *key, struct veneer_error *error);

// The virtio devices' statistics, a list that ends with NULL. -ENOMEM.
int vn_devices_stats(const struct vn_devices *devices, struct vn_arena *arena,
	const struct veneer_device_stats *const **stats);

#endif
