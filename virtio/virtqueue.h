// SPDX-License-Identifier: Apache-2.0
//
// The device's side of a split virtqueue (virtio 1.2 section 2.7), with VIRTIO_F_EVENT_IDX and
// VIRTIO_F_INDIRECT_DESC: the only code that touches rings. It knows guest memory and nothing else:
// no KVM, no threads, no transport.
//
// What the guest puts into a ring is judged, never trusted. Each descriptor is copied once and only
// the copy is used. The first thing that is wrong breaks the queue: `broken` says what, every later
// call returns -EPROTO, and only vn_virtqueue_init() mends it.
//
// A device serves a queue like this:
//
//     vn_virtqueue_disable_notify(vq);
//     do {
//             while (room && vn_virtqueue_pop(vq, &head) == 1)
//                     if (vn_virtqueue_chain(vq, head, &chain) == 0)
//                             ...carry it out, vn_virtqueue_push(vq, head, written)...
//     } while (vn_virtqueue_enable_notify(vq));
//     if (vn_virtqueue_publish(vq))
//             ...interrupt the driver...
#ifndef VN_VIRTQUEUE_H
#define VN_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/memory.h"

#define VN_VIRTQUEUE_SIZE_MAX 1024 // entries; a power of two

// Where the driver put a queue and which features it negotiated.
struct vn_virtqueue_layout {
	uint16_t size; // entries: a power of two, at most VN_VIRTQUEUE_SIZE_MAX
	vn_gpa desc, avail, used;
	bool event_idx;
	bool indirect;
	// Where a queue that was served before goes on, with nothing in flight: its avail_next and
	// used_next. 0 of one that nobody has used.
	uint16_t avail_next, used_next;
};

struct vn_avail_ring;
struct vn_used_ring;

// One queue. It belongs to one thread at a time: that of the loop which serves it, from
// vn_virtqueue_init() until it is given back. The rings behind the pointers are shared with the
// guest.
struct vn_virtqueue {
	const struct vn_memory *memory;
	const uint8_t *desc; // translated once; `size` descriptors of 16 bytes
	struct vn_avail_ring *avail;
	struct vn_used_ring *used;
	uint16_t size;
	bool event_idx;
	bool indirect;

	uint16_t avail_next; // the next available entry to take
	uint16_t avail_index; // the driver's index when last read
	uint16_t avail_event; // at which buffer the driver is to notify, as last stored
	uint16_t used_next; // the next used entry to fill
	uint16_t used_published; // the used index that the driver can see
	uint64_t in_flight[VN_VIRTQUEUE_SIZE_MAX / 64]; // heads taken and not yet pushed
	char broken[120]; // why the queue stopped; empty while it works
};

// A descriptor chain, judged and translated: first what the device reads, then what it writes.
struct vn_chain {
	struct iovec *iov; // the caller's, with room for `iov_max`; points into guest memory
	uint16_t iov_max;
	uint16_t readable; // iov[0] to iov[readable - 1]
	uint16_t writable; // and as many after those
	uint64_t readable_size; // bytes
	uint64_t writable_size; // bytes; the two together are at most 2^32
};

// Take over a queue. -EINVAL for a size that is none, misaligned addresses
// (section 2.7: 16, 2, 4) and rings that are not wholly in one run of RAM.
int vn_virtqueue_init(struct vn_virtqueue *vq, const struct vn_memory *memory,
	const struct vn_virtqueue_layout *layout, struct veneer_error *error);

// Take the next available head: 1 with *head, 0 when there is none, -EPROTO when the queue is
// broken. The head is in flight until it is pushed.
int vn_virtqueue_pop(struct vn_virtqueue *vq, uint16_t *head);

// Put back the head that was popped last and of which nothing has been carried out; several heads
// in reverse order. The next pop reads the driver's entry again.
void vn_virtqueue_unpop(struct vn_virtqueue *vq, uint16_t head);

// Another has served the queue meanwhile, up to this available entry, and nothing is in flight:
// take over where it left off.
void vn_virtqueue_advance(struct vn_virtqueue *vq, uint16_t avail_next);

// Read the chain that starts at a head taken from vn_virtqueue_pop(): 0 or -EPROTO. Malformed are:
// an index outside the queue or table; more descriptors than the queue has (which catches loops) or
// than `iov_max`; a buffer that is not wholly in one run of RAM; an empty buffer (the specification
// gives it no meaning); a readable one after a writable one; more than 2^32 bytes; an indirect
// table that was not negotiated, is inside another, has a next, or whose length is 0 or no multiple
// of 16.
int vn_virtqueue_chain(struct vn_virtqueue *vq, uint16_t head, struct vn_chain *chain);

// Put a head in flight into the used ring, with the bytes written to its chain. The driver sees it
// after vn_virtqueue_publish().
void vn_virtqueue_push(struct vn_virtqueue *vq, uint16_t head, uint32_t written);

// Show the driver all that was pushed. True when it wants an interrupt for that.
bool vn_virtqueue_publish(struct vn_virtqueue *vq);

// Ask the driver not to notify, and to notify again. The latter is true when buffers have arrived
// for which no notification will come: then pop again.
void vn_virtqueue_disable_notify(struct vn_virtqueue *vq);
bool vn_virtqueue_enable_notify(struct vn_virtqueue *vq);

// Break the queue, for a reason that only the device can see, and return -EPROTO. What is in flight
// can still be pushed.
int vn_virtqueue_break(struct vn_virtqueue *vq, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

// Whether anything was pushed that the driver has not been shown.
static inline bool vn_virtqueue_has_unpublished(const struct vn_virtqueue *vq)
{
	return vq->used_next != vq->used_published;
}

static inline bool vn_virtqueue_is_broken(const struct vn_virtqueue *vq)
{
	return vq->broken[0] != '\0';
}

#endif
