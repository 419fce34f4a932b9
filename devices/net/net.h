// SPDX-License-Identifier: Apache-2.0
//
// virtio-net (virtio 1.2 section 5.1): packets between queues and a backend, each queue pair on a
// loop of its own.
#ifndef VN_NET_H
#define VN_NET_H

#include "core/ioloop.h"
#include "virtio/device.h"

// A device named `name` ("net0") on the backend that `options` describes, of which nothing is
// needed afterwards, and with the MAC address that they give. Its loops run on `cpus` (NULL:
// anywhere). `memory` and `log` must outlive it. Given back with vn_net_destroy(), after its
// transport.
int vn_net_create(struct vn_virtio_device **device, const char *name,
	const struct veneer_net *options, const struct vn_memory *memory, const struct vn_log *log,
	struct vn_ioloop_cpus *cpus, struct veneer_error *error);
void vn_net_destroy(struct vn_virtio_device *device);

#endif
