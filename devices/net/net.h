// SPDX-License-Identifier: Apache-2.0
//
// virtio-net (virtio 1.2 section 5.1): packets between queues and a backend, each queue pair on a
// loop of its own.
#ifndef VN_NET_H
#define VN_NET_H

#include "devices/net/options.h"
#include "virtio/device_type.h"

// Its values are a struct vn_net_options.
extern const struct vn_device_type vn_net_type;

#endif
