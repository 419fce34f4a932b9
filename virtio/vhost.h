// SPDX-License-Identifier: Apache-2.0
//
// vhost-net, as the monitor sees it: a virtio-net in the host's kernel, which takes over a pair of
// queues and carries packets between them and a TAP interface, without a thread of the monitor's in
// between. It is told where guest memory is, where the rings are, and three eventfds for each
// queue: one that says that there are buffers, one that it signals when the driver wants an
// interrupt, and one for a ring that it cannot make sense of.
#ifndef VN_VHOST_H
#define VN_VHOST_H

#include <stdint.h>

#include "base/error.h"
#include "core/memory.h"
#include "virtio/virtqueue.h"

// One pair of queues, owned by the device that they are of. `fd` is -1 where there is none.
struct vn_vhost {
	int fd;
	uint64_t features; // that the kernel knows
};

enum vn_vhost_queue { VN_VHOST_RX, VN_VHOST_TX };

struct vn_vhost_fds {
	int kick, call, error; // eventfds
};

// Open one for guest memory that stays as it is. -ENOENT and the like: the host has none, or not
// for this user; -ENOTSUP: one too old to know what Veneer's devices offer.
int vn_vhost_open(
	struct vn_vhost *vhost, const struct vn_memory *memory, struct veneer_error *error);
void vn_vhost_close(struct vn_vhost *vhost);

// From here on: 0 or a negative errno; any thread, one call at a time for each queue.

// Hand over a queue with nothing in flight, for which the driver accepted `features`. It goes on
// where the ring says, and carries nothing before it has a TAP.
int vn_vhost_start(const struct vn_vhost *vhost, enum vn_vhost_queue queue, uint64_t features,
	const struct vn_virtqueue *ring, const struct vn_vhost_fds *fds);

// Let a queue carry packets from or to a queue of a TAP interface, or end that (-1), which returns
// when nothing is in flight.
int vn_vhost_set_tap(const struct vn_vhost *vhost, enum vn_vhost_queue queue, int tap);

// Have another eventfd signalled for interrupts.
int vn_vhost_set_call(const struct vn_vhost *vhost, enum vn_vhost_queue queue, int call);

// Take a queue back: nothing of it is in flight any more, no eventfd of it in use, and the ring
// says where it is to go on. `ring` NULL: its start failed, and the ring is as it was.
void vn_vhost_stop(
	const struct vn_vhost *vhost, enum vn_vhost_queue queue, struct vn_virtqueue *ring);

#endif
