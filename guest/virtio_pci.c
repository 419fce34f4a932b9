// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio-pci transport (virtio 1.2, section 4.1): finds the structures that a device's
 * capabilities name, and turns accesses to registers as virtio-mmio has them into accesses to
 * those.
 */
#include "ring0.h"
#include "virtio.h"

#define FIRST_ID 0x1040 /* device ID of a modern device, plus its virtio device ID */

/* Fields of struct virtio_pci_cap. */
#define CAP_TYPE        3
#define CAP_BAR         4
#define CAP_OFFSET      8
#define CAP_LENGTH      12
#define CAP_NOTIFY_STEP 16

/* Where the common configuration (section 4.1.4.3) has what the register means. */
struct place {
	uint16_t name;
	uint8_t offset, bytes;
};

static const struct place places[] = {
	{VIRTIO_DEVICE_SELECT, 0x00, 4},
	{VIRTIO_DEVICE_FEATURES, 0x04, 4},
	{VIRTIO_DRIVER_SELECT, 0x08, 4},
	{VIRTIO_DRIVER_FEATURES, 0x0c, 4},
	{VIRTIO_PCI_CONFIG_VECTOR, 0x10, 2},
	{VIRTIO_PCI_QUEUES, 0x12, 2},
	{VIRTIO_STATUS, 0x14, 1},
	{VIRTIO_CONFIG_GENERATION, 0x15, 1},
	{VIRTIO_QUEUE_SELECT, 0x16, 2},
	{VIRTIO_QUEUE_SIZE, 0x18, 2},
	{VIRTIO_QUEUE_MAX, 0x18, 2},
	{VIRTIO_PCI_QUEUE_VECTOR, 0x1a, 2},
	{VIRTIO_QUEUE_READY, 0x1c, 2},
	{VIRTIO_PCI_NOTIFY_OFFSET, 0x1e, 2},
	{VIRTIO_QUEUE_DESC, 0x20, 4},
	{VIRTIO_QUEUE_DESC + 4, 0x24, 4},
	{VIRTIO_QUEUE_DRIVER, 0x28, 4},
	{VIRTIO_QUEUE_DRIVER + 4, 0x2c, 4},
	{VIRTIO_QUEUE_DEVICE, 0x30, 4},
	{VIRTIO_QUEUE_DEVICE + 4, 0x34, 4},
	{VIRTIO_QUEUE_RESET, 0x3a, 2},
};

static const struct place *find_place(uint32_t name)
{
	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (places[i].name == name)
			return &places[i];
	}
	return NULL;
}

uint32_t virtio_pci_read(const struct virtio_device *device, uint32_t offset)
{
	const struct place *place = find_place(offset);

	if (offset >= VIRTIO_CONFIG)
		return virtio_config(device, offset - VIRTIO_CONFIG, 4);
	if (offset == VIRTIO_INTERRUPT_STATUS)
		return (uint32_t)mmio_read(device->regions[VIRTIO_PCI_ISR].base, 1);
	return place ? (uint32_t)mmio_read(device->base + place->offset, place->bytes) : 0;
}

void virtio_pci_write(const struct virtio_device *device, uint32_t offset, uint32_t value)
{
	const struct place *place = find_place(offset);

	if (offset == VIRTIO_QUEUE_NOTIFY)
		mmio_write(device->notify[value < VIRTIO_QUEUES ? value : 0], value, 2);
	else if (place)
		mmio_write(device->base + place->offset, value, place->bytes);
}

static void read_capability(struct virtio_device *device, uint8_t at)
{
	const struct pci_function *function = device->pci;
	unsigned type = (unsigned)pci_read(function, at + CAP_TYPE, 1);
	unsigned bar = (unsigned)pci_read(function, at + CAP_BAR, 1);
	uint64_t offset = pci_read(function, at + CAP_OFFSET, 4);
	uint64_t bytes = pci_read(function, at + CAP_LENGTH, 4);

	if (!type || type >= VIRTIO_PCI_REGIONS || bar >= PCI_BARS || device->regions[type].bytes ||
		offset + bytes > function->bars[bar].bytes)
		return;
	device->regions[type] = (struct virtio_region){function->bars[bar].base + offset, bytes};
	if (type == VIRTIO_PCI_NOTIFY)
		device->notify_step = (uint32_t)pci_read(function, at + CAP_NOTIFY_STEP, 4);
}

bool virtio_pci_probe(struct virtio_device *device, struct pci_function *function)
{
	*device = (struct virtio_device){.pci = function};
	if (function->vendor != PCI_VENDOR_VIRTIO || function->device <= FIRST_ID ||
		function->device > FIRST_ID + 0x3f)
		return false;
	device->id = function->device - FIRST_ID;
	for (uint8_t at = pci_capability(function, 0, PCI_VENDOR_SPECIFIC); at;
		at = pci_next_capability(function, at, PCI_VENDOR_SPECIFIC))
		read_capability(device, at);
	device->base = device->regions[VIRTIO_PCI_COMMON].base;
	device->bytes = device->regions[VIRTIO_PCI_COMMON].bytes;
	for (unsigned i = 0; i < VIRTIO_QUEUES; i++)
		device->notify[i] = device->regions[VIRTIO_PCI_NOTIFY].base;
	return device->bytes && device->regions[VIRTIO_PCI_NOTIFY].bytes &&
	       device->regions[VIRTIO_PCI_ISR].bytes;
}
