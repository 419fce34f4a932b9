// SPDX-License-Identifier: Apache-2.0
//
// A device type: what the machine needs to create devices of it. Each device's file exports one;
// vmm/device_table.c lists them. See docs/adding-a-device.md.
#ifndef VN_DEVICE_TYPE_H
#define VN_DEVICE_TYPE_H

#include "base/prop.h"
#include "core/loops.h"
#include "core/memory.h"
#include "virtio/device.h"

// What device defaults depend on.
struct vn_device_guest {
	unsigned cpus;
	bool has_kernel; // false: the built-in guest
};

// Where a device is put. What it points to outlives the device.
struct vn_device_env {
	const char *name; // for messages: "blk0"
	unsigned number; // of its kind
	// The guest's name or, without one, a random text; MAC addresses are made from it.
	const char *guest;
	const struct vn_memory *memory; // mapped, and not populated yet
	const struct vn_log *log;
	struct vn_loops *loops;
};

struct vn_device_type {
	const struct vn_option *option; // what it is configured with
	const char *kind; // prefix of device names: "blk"

	// Fill in defaults that depend on the guest. False: the guest has no such device.
	// Idempotent. NULL: nothing to fill in, and the device exists.
	bool (*complete)(void *values, const struct vn_device_guest *guest);

	// How many loops of its own a device with these values has, once they are complete. NULL:
	// none.
	unsigned (*count_loops)(const void *values);

	// Open what the options name and create the device. May take descriptors out of `values`.
	int (*create)(struct vn_virtio_device **device, const struct vn_device_env *env,
		void *values, struct veneer_error *error);

	// Look again at what is behind a device, such as the size of its file, and tell the guest
	// what has changed. NULL: there is nothing that could.
	int (*refresh)(struct vn_virtio_device *device, struct veneer_error *error);

	// Called after the transport is destroyed.
	void (*destroy)(struct vn_virtio_device *device);
};

#endif
