// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-mmio, version 2 (virtio 1.2, section 4.2), from the driver's side, and a split ring.
 *
 * struct virtio_queue has plain members, since the hostile tests put into them what no driver
 * would; all accesses that the device races with are through volatile pointers.
 */
#ifndef GUEST_VIRTIO_MMIO_H
#define GUEST_VIRTIO_MMIO_H

#include <stdbool.h>
#include <stdint.h>

#include "machine.h"

#define VIRTIO_MAGIC             0x000
#define VIRTIO_VERSION           0x004
#define VIRTIO_DEVICE_ID         0x008
#define VIRTIO_DEVICE_FEATURES   0x010
#define VIRTIO_DEVICE_SELECT     0x014
#define VIRTIO_DRIVER_FEATURES   0x020
#define VIRTIO_DRIVER_SELECT     0x024
#define VIRTIO_QUEUE_SELECT      0x030
#define VIRTIO_QUEUE_MAX         0x034
#define VIRTIO_QUEUE_SIZE        0x038
#define VIRTIO_QUEUE_READY       0x044
#define VIRTIO_QUEUE_NOTIFY      0x050
#define VIRTIO_INTERRUPT_STATUS  0x060
#define VIRTIO_INTERRUPT_ACK     0x064
#define VIRTIO_STATUS            0x070
#define VIRTIO_QUEUE_DESC        0x080
#define VIRTIO_QUEUE_DRIVER      0x090
#define VIRTIO_QUEUE_DEVICE      0x0a0
#define VIRTIO_CONFIG_GENERATION 0x0fc
#define VIRTIO_CONFIG            0x100

#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER      2
#define STATUS_DRIVER_OK   4
#define STATUS_FEATURES_OK 8
#define STATUS_NEEDS_RESET 64

#define FEATURE_INDIRECT  (1ull << 28)
#define FEATURE_EVENT_IDX (1ull << 29)
#define FEATURE_VERSION_1 (1ull << 32)

#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

#define QUEUE_MAX 256 /* entries that this driver has room for, a power of two */

struct virtio_desc {
	uint64_t address;
	uint32_t bytes;
	uint16_t flags, next;
};

struct virtio_avail {
	uint16_t flags, index, ring[QUEUE_MAX + 1]; /* used_event behind the last entry */
};

struct virtio_used_element {
	uint32_t id, bytes;
};

struct virtio_used {
	uint16_t flags, index;
	struct virtio_used_element ring[QUEUE_MAX + 1]; /* avail_event in the one behind the last */
};

struct virtio_queue {
	volatile struct virtio_desc *desc;
	volatile struct virtio_avail *avail;
	volatile struct virtio_used *used;
	uint16_t size, avail_index, kicked_index, used_index;
	bool event_idx, interrupts;
};

struct virtio_device {
	uint64_t base, bytes;
	uint32_t gsi;
	uint64_t features; /* negotiated */
};

uint32_t virtio_read(const struct virtio_device *device, uint32_t offset);
void virtio_write(const struct virtio_device *device, uint32_t offset, uint32_t value);

/* Whether a version 2 device with this device ID is there; fills `device`. */
bool virtio_probe(
	struct virtio_device *device, const struct machine_device *where, uint32_t device_id);

/* Writes 0 to the status and waits until it reads 0. Returns 0, or -1 after a second. */
int virtio_reset(const struct virtio_device *device);

/* Offered features. */
uint64_t virtio_offered(const struct virtio_device *device);

/* Reset to FEATURES_OK with `wanted` of what is offered; 0, or -1 if the device does not agree. */
int virtio_negotiate(struct virtio_device *device, uint64_t wanted);

/* Memory for a queue; the caller keeps it and may use it again. Zeroes all of it. */
void virtio_queue_clear(struct virtio_queue *queue);
bool virtio_queue_alloc(struct virtio_queue *queue);

/* Tells the device of queue 0, with at most QUEUE_MAX entries, and makes it ready. */
int virtio_queue_start(const struct virtio_device *device, struct virtio_queue *queue);

/* Makes the chain that begins at `head` available; the device learns of it at the next kick. */
void virtio_queue_push(struct virtio_queue *queue, uint16_t head);

/* Notifies the device, unless it has said that it looks by itself. Returns whether it did. */
bool virtio_queue_kick(const struct virtio_device *device, struct virtio_queue *queue);

/* Takes one used element; false if there is none. */
bool virtio_queue_pop(struct virtio_queue *queue, struct virtio_used_element *element);

/* Whether the device shall interrupt for the next used element; true if one is there already. */
bool virtio_queue_arm(struct virtio_queue *queue, bool interrupts);

#endif
