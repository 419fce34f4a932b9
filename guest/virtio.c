// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio-mmio transport, what both transports share, and the split ring, as virtio 1.2 sections
 * 2.7, 3.1 and 4.2 have the driver use them. x86 keeps stores in order and loads in order: only a
 * store before a load needs a fence.
 */
#include "virtio.h"

#include "apic.h"
#include "print.h"
#include "ring0.h"

#define MAGIC            0x74726976
#define NO_INTERRUPT     1 /* avail.flags */
#define NO_NOTIFY        1 /* used.flags */
#define RESET_TIMEOUT_NS 1000000000ull
#define compiler_fence() __asm__ volatile("" : : : "memory")

uint32_t virtio_read(const struct virtio_device *device, uint32_t offset)
{
	return device->pci ? virtio_pci_read(device, offset) : mmio_read32(device->base + offset);
}

void virtio_write(const struct virtio_device *device, uint32_t offset, uint32_t value)
{
	if (device->pci)
		virtio_pci_write(device, offset, value);
	else
		mmio_write32(device->base + offset, value);
}

uint32_t virtio_config(const struct virtio_device *device, uint32_t offset, unsigned bytes)
{
	uint64_t base = device->pci ? device->regions[VIRTIO_PCI_DEVICE].base
				    : device->base + VIRTIO_CONFIG;

	return (uint32_t)mmio_read(base + offset, bytes);
}

static bool probe(struct virtio_device *device, const struct machine_device *where)
{
	*device = (struct virtio_device){
		.base = where->base, .bytes = where->bytes, .gsi = where->gsi};
	device->id = virtio_read(device, VIRTIO_DEVICE_ID);
	return virtio_read(device, VIRTIO_MAGIC) == MAGIC &&
	       virtio_read(device, VIRTIO_VERSION) == 2 && device->id;
}

bool virtio_find(struct virtio_device *device, uint32_t device_id, uint64_t n)
{
	uint64_t seen = 0;

	for (unsigned i = 0; i < machine.device_count; i++) {
		if (probe(device, &machine.devices[i]) && (!device_id || device->id == device_id) &&
			seen++ == n)
			return true;
	}
	for (unsigned i = 0; i < pci_scan(); i++) {
		if (virtio_pci_probe(device, &pci_functions[i]) &&
			(!device_id || device->id == device_id) && seen++ == n)
			return true;
	}
	return false;
}

int virtio_irq(const struct virtio_device *device, unsigned index)
{
	return device->pci ? pci_irq(device->pci, index + 1) : apic_route(device->gsi);
}

void virtio_irq_acknowledge(const struct virtio_device *device)
{
	if (!device->pci)
		virtio_write(device, VIRTIO_INTERRUPT_ACK, 3);
}

int virtio_reset(const struct virtio_device *device)
{
	uint64_t end = rdtsc() + ns_to_ticks(RESET_TIMEOUT_NS);

	virtio_write(device, VIRTIO_STATUS, 0);
	while (virtio_read(device, VIRTIO_STATUS)) {
		if (rdtsc() > end)
			return -1;
	}
	return 0;
}

uint64_t virtio_offered(const struct virtio_device *device)
{
	uint64_t features;

	virtio_write(device, VIRTIO_DEVICE_SELECT, 1);
	features = (uint64_t)virtio_read(device, VIRTIO_DEVICE_FEATURES) << 32;
	virtio_write(device, VIRTIO_DEVICE_SELECT, 0);
	return features | virtio_read(device, VIRTIO_DEVICE_FEATURES);
}

int virtio_negotiate(struct virtio_device *device, uint64_t wanted)
{
	const uint32_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;

	if (virtio_reset(device))
		return -1;
	virtio_write(device, VIRTIO_STATUS, STATUS_ACKNOWLEDGE);
	virtio_write(device, VIRTIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	device->features = virtio_offered(device) & wanted;
	virtio_write(device, VIRTIO_DRIVER_SELECT, 1);
	virtio_write(device, VIRTIO_DRIVER_FEATURES, (uint32_t)(device->features >> 32));
	virtio_write(device, VIRTIO_DRIVER_SELECT, 0);
	virtio_write(device, VIRTIO_DRIVER_FEATURES, (uint32_t)device->features);
	virtio_write(device, VIRTIO_STATUS, status);
	return virtio_read(device, VIRTIO_STATUS) == status ? 0 : -1;
}

void virtio_queue_clear(struct virtio_queue *queue)
{
	memset((void *)(uintptr_t)queue->desc, 0, QUEUE_MAX * sizeof(struct virtio_desc));
	memset((void *)(uintptr_t)queue->avail, 0, sizeof(struct virtio_avail));
	memset((void *)(uintptr_t)queue->used, 0, sizeof(struct virtio_used));
	queue->avail_index = queue->kicked_index = queue->used_index = 0;
	queue->event_idx = queue->interrupts = false;
}

bool virtio_queue_alloc(struct virtio_queue *queue)
{
	queue->desc = machine_alloc(QUEUE_MAX * sizeof(struct virtio_desc), 4096);
	queue->avail = machine_alloc(sizeof(struct virtio_avail), 4096);
	queue->used = machine_alloc(sizeof(struct virtio_used), 4096);
	return queue->desc && queue->avail && queue->used;
}

static void write_address(
	const struct virtio_device *device, uint32_t offset, const volatile void *p)
{
	uint64_t address = (uint64_t)(uintptr_t)p;

	virtio_write(device, offset, (uint32_t)address);
	virtio_write(device, offset + 4, (uint32_t)(address >> 32));
}

/* A PCI queue has a message of its own, number index + 1, and a place to be notified. */
static int start_on_pci(struct virtio_device *device, const struct virtio_queue *queue)
{
	const struct virtio_region *notify = &device->regions[VIRTIO_PCI_NOTIFY];
	uint64_t offset =
		(uint64_t)virtio_read(device, VIRTIO_PCI_NOTIFY_OFFSET) * device->notify_step;
	uint32_t vector = queue->index + 1u;

	if (offset + 2 > notify->bytes)
		return -1;
	device->notify[queue->index] = notify->base + offset;
	if (vector >= device->pci->vectors)
		return 0;
	virtio_write(device, VIRTIO_PCI_QUEUE_VECTOR, vector);
	return virtio_read(device, VIRTIO_PCI_QUEUE_VECTOR) == vector ? 0 : -1;
}

int virtio_queue_start(struct virtio_device *device, struct virtio_queue *queue)
{
	uint32_t max;

	virtio_write(device, VIRTIO_QUEUE_SELECT, queue->index);
	max = virtio_read(device, VIRTIO_QUEUE_MAX);
	if (!max || virtio_read(device, VIRTIO_QUEUE_READY))
		return -1;
	queue->size = max < QUEUE_MAX ? (uint16_t)max : QUEUE_MAX;
	queue->event_idx = device->features & FEATURE_EVENT_IDX;
	virtio_write(device, VIRTIO_QUEUE_SIZE, queue->size);
	write_address(device, VIRTIO_QUEUE_DESC, queue->desc);
	write_address(device, VIRTIO_QUEUE_DRIVER, queue->avail);
	write_address(device, VIRTIO_QUEUE_DEVICE, queue->used);
	if (device->pci && start_on_pci(device, queue))
		return -1;
	virtio_write(device, VIRTIO_QUEUE_READY, 1);
	return 0;
}

void virtio_queue_push(struct virtio_queue *queue, uint16_t head)
{
	queue->avail->ring[queue->avail_index % queue->size] = head;
	queue->avail_index++;
	compiler_fence();
	queue->avail->index = queue->avail_index;
}

/* The half word behind the used ring, at the length that the ring has. */
static uint16_t avail_event(const struct virtio_queue *queue)
{
	return (uint16_t)queue->used->ring[queue->size].id;
}

bool virtio_queue_kick(const struct virtio_device *device, struct virtio_queue *queue)
{
	uint16_t now = queue->avail_index, before = queue->kicked_index;
	bool wanted;

	full_fence(); /* the index above before the device's wish: pairs with its fence */
	queue->kicked_index = now;
	if (queue->event_idx)
		wanted = (uint16_t)(now - avail_event(queue) - 1) < (uint16_t)(now - before);
	else
		wanted = !(queue->used->flags & NO_NOTIFY);
	if (wanted)
		virtio_write(device, VIRTIO_QUEUE_NOTIFY, queue->index);
	return wanted;
}

/* used_event so far behind that no new element passes it, or on the next element. */
static void set_used_event(struct virtio_queue *queue)
{
	uint16_t event = queue->used_index;

	queue->avail->ring[queue->size] = queue->interrupts ? event : (uint16_t)(event - 1);
}

bool virtio_queue_pop(struct virtio_queue *queue, struct virtio_used_element *element)
{
	volatile struct virtio_used_element *used;

	if (queue->used->index == queue->used_index)
		return false;
	compiler_fence();
	used = &queue->used->ring[queue->used_index % queue->size];
	element->id = used->id;
	element->bytes = used->bytes;
	queue->used_index++;
	if (!queue->interrupts)
		set_used_event(queue);
	return true;
}

bool virtio_queue_arm(struct virtio_queue *queue, bool interrupts)
{
	queue->interrupts = interrupts;
	set_used_event(queue);
	queue->avail->flags = interrupts || queue->event_idx ? 0 : NO_INTERRUPT;
	full_fence(); /* the wish before the look at the index: pairs with the device's fence */
	return queue->used->index != queue->used_index;
}
