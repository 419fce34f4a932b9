// SPDX-License-Identifier: Apache-2.0
//
// virtio-blk (virtio 1.2 section 5.2): requests from queues to a backend and back.
#ifndef VN_BLK_H
#define VN_BLK_H

#include "devices/blk/options.h"
#include "virtio/device_type.h"

// Its values are a struct vn_blk_options. Each of a disk's queues has a loop.
extern const struct vn_device_type vn_blk_type;

// Look at the size of the file or device again, and tell the driver when it has changed. From any
// thread, once the device has its transport. A size that no disk can have changes nothing: -EINVAL.
int vn_blk_refresh(struct vn_virtio_device *device, struct veneer_error *error);

#endif
