// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-net (virtio 1.2, section 5.1): one device, one pair of queues, whole frames, no offloads.
 */
#ifndef GUEST_NET_H
#define GUEST_NET_H

#include "virtio.h"

#define NET_BUFFERS 64
#define NET_FRAME   1514 /* bytes of the longest frame */
#define NET_HEADER  12 /* struct virtio_net_hdr with num_buffers, before every frame */
#define NET_STRIDE  2048

struct net {
	struct virtio_device device;
	struct virtio_queue receive, transmit;
	uint8_t *received, *sent; /* NET_BUFFERS of NET_STRIDE bytes each */
	uint64_t idle; /* a bit for each transmit buffer that is free */
	uint8_t mac[6];
	int irq; /* of the receive queue */
};

/*
 * Finds the device that `net=N` names (the first by default) and starts it; 0, or 1 and a FAIL
 * line.
 */
int net_open(struct net *net);

/*
 * The next frame, waiting for it by interrupt, or NULL after `idle_ns` without one. It is the
 * caller's until the next call. A frame whose interrupt does not come within a second, or that
 * makes no sense, is a FAIL line and sets *broken.
 */
const uint8_t *net_receive(struct net *net, unsigned *bytes, uint64_t idle_ns, bool *broken);

/* Room for a frame, or NULL with a FAIL line if none gets free in ten seconds; then sends it. */
uint8_t *net_frame(struct net *net);
void net_send(struct net *net, uint8_t *frame, unsigned bytes);

/* Waits until all is sent, and resets the device; 0, or 1 and a FAIL line. */
int net_close(struct net *net);

#endif
