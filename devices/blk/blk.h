// SPDX-License-Identifier: Apache-2.0
//
// virtio-blk (virtio 1.2 section 5.2): requests from queues to a backend and back.
#ifndef VN_BLK_H
#define VN_BLK_H

#include "core/ioloop.h"
#include "core/memory.h"
#include "virtio/device.h"

// A device named `name` ("blk0") on `disk`, with disk->queues queues (0: one) and a loop for each,
// which run on `cpus` (NULL: anywhere). The strings are copied or not needed afterwards; `memory`
// and `log` must outlive it. On success *device is given back with vn_blk_destroy(), after its
// transport.
int vn_blk_create(struct vn_virtio_device **device, const char *name,
	const struct veneer_disk *disk, const struct vn_memory *memory, const struct vn_log *log,
	struct vn_ioloop_cpus *cpus, struct veneer_error *error);

// Look at the size of the file or device again, and tell the driver when it has changed. From any
// thread, once the device has its transport. A size that no disk can have changes nothing: -EINVAL.
int vn_blk_refresh(struct vn_virtio_device *device, struct veneer_error *error);

void vn_blk_destroy(struct vn_virtio_device *device);

#endif
