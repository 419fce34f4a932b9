// SPDX-License-Identifier: Apache-2.0
/*
 * A virtio device behind either transport (virtio 1.2, sections 4.1 and 4.2), from the driver's
 * side, and a split ring. Registers go by their virtio-mmio offsets; what a PCI device has instead
 * is looked up in virtio_pci.c, so that drivers and attacks are the same for both.
 *
 * struct virtio_queue has plain members, since the hostile tests put into them what no driver
 * would; all accesses that the device races with are through volatile pointers.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "machine.h"
#include "pci.h"

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
#define VIRTIO_QUEUE_RESET       0x0c0
#define VIRTIO_CONFIG_GENERATION 0x0fc
#define VIRTIO_CONFIG            0x100

/* Registers that only virtio-pci has: beyond all that virtio-mmio has before its configuration. */
#define VIRTIO_PCI_CONFIG_VECTOR 0x0e0
#define VIRTIO_PCI_QUEUE_VECTOR  0x0e4
#define VIRTIO_PCI_NOTIFY_OFFSET 0x0e8
#define VIRTIO_PCI_QUEUES        0x0ec

#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER      2
#define STATUS_DRIVER_OK   4
#define STATUS_FEATURES_OK 8
#define STATUS_NEEDS_RESET 64

#define FEATURE_INDIRECT   (1ull << 28)
#define FEATURE_EVENT_IDX  (1ull << 29)
#define FEATURE_VERSION_1  (1ull << 32)
#define FEATURE_RING_RESET (1ull << 40)

#define DEVICE_ID_NET 1
#define DEVICE_ID_BLK 2

#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

#define QUEUE_MAX     256 /* entries that this driver has room for, a power of two */
#define VIRTIO_QUEUES 2 /* queues of one device that are ever used */

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
	uint16_t index; /* the queue's number */
	uint16_t size, avail_index, kicked_index, used_index;
	bool event_idx, interrupts;
};

/* The structures of a PCI device (section 4.1.4), by their cfg_type. */
#define VIRTIO_PCI_COMMON  1
#define VIRTIO_PCI_NOTIFY  2
#define VIRTIO_PCI_ISR     3
#define VIRTIO_PCI_DEVICE  4
#define VIRTIO_PCI_REGIONS 5

struct virtio_region {
	uint64_t base, bytes;
};

struct virtio_device {
	struct pci_function *pci; /* NULL: virtio-mmio */
	uint32_t id;
	uint64_t base, bytes; /* of all registers; with PCI, of the common configuration */
	uint32_t gsi; /* virtio-mmio */
	struct virtio_region regions[VIRTIO_PCI_REGIONS];
	uint32_t notify_step;
	uint64_t notify[VIRTIO_QUEUES]; /* where each queue is notified */
	uint64_t features; /* negotiated */
};

uint32_t virtio_read(const struct virtio_device *device, uint32_t offset);
void virtio_write(const struct virtio_device *device, uint32_t offset, uint32_t value);

/* What the PCI transport makes of them. */
uint32_t virtio_pci_read(const struct virtio_device *device, uint32_t offset);
void virtio_pci_write(const struct virtio_device *device, uint32_t offset, uint32_t value);

/* `bytes` (1, 2 or 4) at `offset` of the device's own configuration. */
uint32_t virtio_config(const struct virtio_device *device, uint32_t offset, unsigned bytes);

/*
 * Fills `device` with the `n`-th one (from 0) that has this device ID, or of any ID for 0: first
 * those on virtio-mmio, then those on PCI. False if there are not so many.
 */
bool virtio_find(struct virtio_device *device, uint32_t device_id, uint64_t n);
bool virtio_pci_probe(struct virtio_device *device, struct pci_function *function);

/*
 * Lets queue `index` interrupt this CPU: its line, or its message, which is unmasked. Returns the
 * index in irq_counts[], always the same for the same queue of a PCI device; -1 if none is left.
 */
int virtio_irq(const struct virtio_device *device, unsigned index);

/* Lowers the line, which the next interrupt raises again; messages need nothing. */
void virtio_irq_acknowledge(const struct virtio_device *device);

/* Writes 0 to the status and waits until it reads 0. Returns 0, or -1 after a second. */
int virtio_reset(const struct virtio_device *device);

/* Offered features. */
uint64_t virtio_offered(const struct virtio_device *device);

/* Reset to FEATURES_OK with `wanted` of what is offered; 0, or -1 if the device does not agree. */
int virtio_negotiate(struct virtio_device *device, uint64_t wanted);

/* Memory for a queue; the caller keeps it and may use it again. Zeroes all of it. */
void virtio_queue_clear(struct virtio_queue *queue);
bool virtio_queue_alloc(struct virtio_queue *queue);

/* Tells the device of the queue, with at most QUEUE_MAX entries, and makes it ready. */
int virtio_queue_start(struct virtio_device *device, struct virtio_queue *queue);

/* Makes the chain that begins at `head` available; the device learns of it at the next kick. */
void virtio_queue_push(struct virtio_queue *queue, uint16_t head);

/* Notifies the device, unless it has said that it looks by itself. Returns whether it did. */
bool virtio_queue_kick(const struct virtio_device *device, struct virtio_queue *queue);

/* Takes one used element; false if there is none. */
bool virtio_queue_pop(struct virtio_queue *queue, struct virtio_used_element *element);

/* Whether the device shall interrupt for the next used element; true if one is there already. */
bool virtio_queue_arm(struct virtio_queue *queue, bool interrupts);

#endif
