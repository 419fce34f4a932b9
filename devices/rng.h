// SPDX-License-Identifier: Apache-2.0
//
// virtio-rng (virtio 1.2 section 5.4), fed by the host's getrandom(2).
#ifndef VN_RNG_H
#define VN_RNG_H

#include "core/ioloop.h"
#include "virtio/device.h"

// A device named `name` ("rng0") with a loop of its own, on `cpus` (NULL: anywhere). -EAGAIN while
// the host has only just started and has no random numbers. Given back with vn_rng_destroy(), after
// its transport.
int vn_rng_create(struct vn_virtio_device **device, const char *name,
	const struct vn_memory *memory, const struct vn_log *log, struct vn_ioloop_cpus *cpus,
	struct veneer_error *error);
void vn_rng_destroy(struct vn_virtio_device *device);

#endif
