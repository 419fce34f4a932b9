// SPDX-License-Identifier: Apache-2.0
//
// A TAP interface of the host as a network. It exists before the guest starts, made by whoever may
// configure the host's network, for the user that runs Veneer: nothing here needs a privilege then.
//
// The kernel takes and gives packets behind the same header as the driver does, so checksums and
// segmentation pass through undone, in both directions, and the kernel checks what a guest writes
// there. Each queue pair is a file descriptor of its own. The driver's view of the link follows the
// interface: up or down.
#ifndef VN_NET_TAP_H
#define VN_NET_TAP_H

#include "devices/net/backend.h"
#include "devices/net/options.h"

// Open the interface `options->tap`, with `options->queues` queues. Nothing of `options` is needed
// afterwards. On failure one line says what mends it: -ENODEV (no such interface), -EPERM, -EBUSY,
// -EINVAL (no TAP interface, not multi-queue, MTU above the interface's)...
int vn_net_tap_open(struct vn_net_backend **backend, const struct vn_net_options *options,
	const struct vn_log *log, struct veneer_error *error);

#endif
