// SPDX-License-Identifier: Apache-2.0
//
// Where a network device's packets come from and go to. A packet is an Ethernet frame behind the 12
// bytes of a virtio-net header (virtio 1.2 section 5.1.6), in the driver's own buffers. Nothing
// ever waits in either way: a packet is received at once or there is none, and sent or dropped by
// the loop's next turn at the latest. So no buffer of the guest is left with the kernel while the
// loop sleeps.
#ifndef VN_NET_BACKEND_H
#define VN_NET_BACKEND_H

#include <linux/virtio_net.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "core/ioloop.h"

#define VN_NET_HEADER 12u // bytes
// The largest packet: header, Ethernet with a VLAN tag, and what one TCP segmentation may carry.
#define VN_NET_PACKET_MAX (VN_NET_HEADER + 18u + 65536u)

// UDP segmentation: virtio 1.3's, which older headers of the kernel have not.
#ifndef VIRTIO_NET_F_HOST_USO
#define VIRTIO_NET_F_GUEST_USO4   54
#define VIRTIO_NET_F_GUEST_USO6   55
#define VIRTIO_NET_F_HOST_USO     56
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

struct vn_net_backend;

// What a backend tells the device of one queue pair; embedded in that. On the pair's loop only.
struct vn_net_port {
	// Packets may be waiting. The device calls `receive` once this turn's completions are done
	// and it has buffers, until that says -EAGAIN.
	void (*ready)(struct vn_net_port *port);
	// The backend's `link` has changed. Pair 0 only.
	void (*link_changed)(struct vn_net_port *port);
};

// A packet to send, embedded in whoever sends it, unmoved with its buffers until `sent` has run.
struct vn_net_packet {
	const struct iovec *iov;
	unsigned count;
	size_t size; // bytes in all: VN_NET_HEADER or more, whatever they hold
	void (*sent)(struct vn_net_packet *packet);
	struct vn_ioloop_op op; // the backend's
};

// All of a pair's calls are made on its loop, but `attach` for a pair other than 0 and outside
// `open` and `close` when the device is made. Different pairs may be called at once.
struct vn_net_backend_ops {
	// Begin to receive, on `loop`, and end: that returns when nothing is in flight. With `keep`
	// what has arrived is there for the next `open`.
	void (*open)(struct vn_net_backend *backend, unsigned pair, struct vn_ioloop *loop,
		struct vn_net_port *port);
	void (*close)(struct vn_net_backend *backend, unsigned pair, bool keep);

	// Put the next packet into `iov`: its size with the header, at most what `iov` has; what is
	// beyond that is lost. -EAGAIN when there is none: `ready` says when to try again.
	int (*receive)(struct vn_net_backend *backend, unsigned pair, const struct iovec *iov,
		unsigned count);

	// Send a packet, on `loop`, after those of the calls before. Whether it is sent or, since
	// it cannot be, dropped, its `sent` runs within the call or in the loop's next turn.
	void (*send)(struct vn_net_backend *backend, unsigned pair, struct vn_ioloop *loop,
		struct vn_net_packet *packet);

	// After sending and before receiving in each turn between `open` and `close`; or NULL.
	void (*turn)(struct vn_net_backend *backend, unsigned pair);

	// Have packets go to a pair, from its `open` on, or not; pair 0 always has them. NULL where
	// there is one pair.
	int (*attach)(struct vn_net_backend *backend, unsigned pair, bool attached);

	// Which offloads the driver takes: feature bits, of those in `features`. On pair 0's loop.
	// NULL where `features` has no VIRTIO_NET_F_GUEST_*.
	int (*set_offloads)(struct vn_net_backend *backend, uint64_t features);

	// The TAP descriptor that the pair's packets pass, of use to vhost: `receive` and `send`
	// are not called while it serves the pair. NULL where there is none.
	int (*descriptor)(struct vn_net_backend *backend, unsigned pair);

	void (*destroy)(struct vn_net_backend *backend);
};

// Embedded in a backend of some kind. Immutable once opened, but for `link`.
struct vn_net_backend {
	const struct vn_net_backend_ops *ops;
	uint64_t features; // offloads: VIRTIO_NET_F_CSUM, _HOST_*, _GUEST_*
	unsigned pairs;
	uint16_t mtu; // bytes
	atomic_bool link; // up
	uint8_t host_mac[6]; // of the host's end, where that is the guest's neighbour
	const char *name; // of the host's interface; NULL where there is none
};

#endif
