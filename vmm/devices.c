// SPDX-License-Identifier: Apache-2.0
//
// The devices of a guest, wired. A new one is a file of its own and a constructor here.
#include "vmm/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "arch/x86/machine.h"
#include "arch/x86/map.h"
#include "core/ioloop.h"
#include "core/irq.h"
#include "devices/blk/blk.h"
#include "devices/event.h"
#include "devices/net/net.h"
#include "devices/power.h"
#include "devices/pvpanic.h"
#include "devices/rng.h"
#include "devices/serial.h"
#include "pci/root.h"
#include "virtio/mmio.h"
#include "virtio/pci.h"
#include "vmm/config.h"

// A virtio device in its slot, with its transport, which is one of the two; owned by the devices.
struct slot {
	char name[24];
	struct vn_virtio_device *device;
	void (*destroy)(struct vn_virtio_device *device);
	struct vn_virtio_mmio *mmio;
	struct vn_virtio_pci *pci;
};

// Slot 0 is the host bridge's, and the last one pvpanic's, so that no other device's name depends
// on it.
#define PVPANIC_SLOT    (VN_PCI_SLOTS - 1)
#define PCI_DEVICES_MAX (PVPANIC_SLOT - 1)

// Owned by the vm, and immutable once the guest runs.
struct vn_devices {
	struct vn_devices_site site;
	struct vn_ioloop_cpus io_cpus; // of the virtio devices' loops
	struct vn_irqs *irqs;
	struct vn_ioloop *loop; // the serial port's
	struct vn_irq serial_irq;
	struct vn_serial *serial;
	struct vn_power power;
	struct vn_event *event; // the power button
	struct vn_pci *pci; // NULL where devices are on virtio-mmio
	struct vn_pvpanic *pvpanic;
	struct slot slots[PCI_DEVICES_MAX];
	unsigned slot_count;
	size_t disk_count; // they are in the first slots
};

// The built-in guest starts fastest without PCI; the kernels that people have find devices there.
int vn_devices_choose_transport(struct veneer_config *config, struct veneer_error *error)
{
	if (config->transport == VENEER_TRANSPORT_DEFAULT)
		config->transport = config->kernel ? VENEER_TRANSPORT_PCI : VENEER_TRANSPORT_MMIO;
	bool pci = config->transport == VENEER_TRANSPORT_PCI;
	if (!pci && config->transport != VENEER_TRANSPORT_MMIO)
		return vn_fail(
			error, -EINVAL, "transport %d is none of veneer.h", config->transport);
	size_t others = config->net_count + config->rng;
	size_t slots = pci ? PCI_DEVICES_MAX : VN_VIRTIO_SLOTS;
	if (config->disk_count > slots || others > slots - config->disk_count)
		return vn_fail(error, -EINVAL, "%zu disks and %zu other devices: there are %zu %s",
			config->disk_count, others, slots,
			pci ? "PCI slots" : "virtio-mmio slots; PCI has more of them");
	return 0;
}

static int create_serial(
	struct vn_devices *devices, const struct veneer_config *config, struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	struct vn_ioloop_cpus cpus = {.cpus = site->placement->vmm, .together = true};
	int code = vn_ioloop_create(&devices->loop, "serial", 16, &cpus, error);
	if (code < 0)
		return code;
	code = vn_irq_open(&devices->serial_irq, site->kvm, VN_GSI_SERIAL, error);
	if (code < 0)
		return code;
	code = vn_serial_create(&devices->serial, devices->loop, &devices->serial_irq,
		config->serial_in, config->serial_out, site->log, error);
	if (code < 0)
		return code;
	return vn_bus_add(site->pio, VN_PORT_SERIAL, 8, &vn_serial_ops, devices->serial, error);
}

static int create_pci(struct vn_devices *devices, struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	struct vn_machine_window *window = &site->machine->pci;
	int code =
		vn_machine_place_window(window, site->memory, site->machine->address_bits, error);
	if (code < 0)
		return code;
	return vn_pci_create(
		&devices->pci, site->mmio, site->pio, window->base, window->size, error);
}

static int create_pvpanic(struct vn_devices *devices, struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	const struct vn_pvpanic_site pvpanic = {
		site->end, site->log, devices->loop, devices->serial};
	int code = vn_pvpanic_create(&devices->pvpanic, &pvpanic, error);
	if (code == 0)
		code = vn_pvpanic_add_port(devices->pvpanic, site->pio, error);
	if (code == 0 && devices->pci)
		code = vn_pvpanic_add_pci(devices->pvpanic, devices->pci, PVPANIC_SLOT, error);
	return code;
}

static int create_platform(
	struct vn_devices *devices, const struct veneer_config *config, struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	int code = vn_irqs_create(&devices->irqs, site->kvm, error);
	if (code == 0)
		code = vn_power_add(&devices->power, site->pio, site->end, error);
	if (code == 0)
		code = create_serial(devices, config, error);
	if (code == 0)
		code = vn_event_create(&devices->event, site->kvm, site->pio, error);
	if (code == 0 && config->transport == VENEER_TRANSPORT_PCI)
		code = create_pci(devices, error);
	return code == 0 ? create_pvpanic(devices, error) : code;
}

// The next slot, with the name that its device has in messages: its kind and number.
static struct slot *take_slot(struct vn_devices *devices, const char *kind, size_t number)
{
	struct slot *slot = &devices->slots[devices->slot_count++];
	snprintf(slot->name, sizeof(slot->name), "%s%zu", kind, number);
	return slot;
}

// Give the device of a slot its transport; slot 0 of the PCI bus is the host bridge's.
static int attach(struct vn_devices *devices, struct slot *slot, struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	unsigned i = (unsigned)(slot - devices->slots);
	if (devices->pci)
		return vn_virtio_pci_create(&slot->pci, slot->device, site->kvm, devices->irqs,
			devices->pci, i + 1, error);
	uint64_t base = VN_MAP_VIRTIO + i * VN_MAP_VIRTIO_STEP;
	uint32_t gsi = VN_GSI_VIRTIO + i;
	site->machine->virtio[i] = (struct vn_machine_virtio){base, VN_VIRTIO_MMIO_SIZE, gsi};
	return vn_virtio_mmio_create(
		&slot->mmio, slot->device, site->kvm, site->mmio, base, gsi, error);
}

static int create_disk(struct vn_devices *devices, size_t number, const struct veneer_disk *disk,
	struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	struct slot *slot = take_slot(devices, "blk", number);
	slot->destroy = vn_blk_destroy;
	int code = vn_blk_create(
		&slot->device, slot->name, disk, site->memory, site->log, &devices->io_cpus, error);
	return code < 0 ? code : attach(devices, slot, error);
}

static int create_disks(
	struct vn_devices *devices, const struct veneer_config *config, struct veneer_error *error)
{
	struct veneer_disk *disks;
	int code = vn_config_disks(&disks, config, error);
	for (size_t i = 0; code == 0 && i < config->disk_count; i++)
		code = create_disk(devices, i, &disks[i], error);
	devices->disk_count = config->disk_count;
	free(disks);
	return code;
}

static int create_net(struct vn_devices *devices, size_t number, const struct veneer_net *net,
	struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	struct slot *slot = take_slot(devices, "net", number);
	slot->destroy = vn_net_destroy;
	int code = vn_net_create(
		&slot->device, slot->name, net, site->memory, site->log, &devices->io_cpus, error);
	return code < 0 ? code : attach(devices, slot, error);
}

static int create_nets(
	struct vn_devices *devices, const struct veneer_config *config, struct veneer_error *error)
{
	struct veneer_net *nets;
	int code = vn_config_nets(&nets, config, error);
	for (size_t i = 0; code == 0 && i < config->net_count; i++)
		code = create_net(devices, i, &nets[i], error);
	free(nets);
	return code;
}

static int create_rng(struct vn_devices *devices, struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	struct slot *slot = take_slot(devices, "rng", 0);
	slot->destroy = vn_rng_destroy;
	int code = vn_rng_create(
		&slot->device, slot->name, site->memory, site->log, &devices->io_cpus, error);
	return code < 0 ? code : attach(devices, slot, error);
}

static int create_all(
	struct vn_devices *devices, const struct veneer_config *config, struct veneer_error *error)
{
	int code = create_platform(devices, config, error);
	if (code == 0)
		code = create_disks(devices, config, error);
	if (code == 0)
		code = create_nets(devices, config, error);
	return code == 0 && config->rng ? create_rng(devices, error) : code;
}

int vn_devices_create(struct vn_devices **result, const struct vn_devices_site *site,
	const struct veneer_config *config, struct veneer_error *error)
{
	struct vn_devices *devices = calloc(1, sizeof(*devices));
	if (!devices)
		return vn_fail(error, -ENOMEM, "no memory for a guest's devices");
	devices->site = *site;
	devices->io_cpus.cpus = site->placement->iothreads;
	devices->serial_irq.fd = -1;
	int code = create_all(devices, config, error);
	if (code < 0) {
		vn_devices_destroy(devices);
		return code;
	}
	*result = devices;
	return 0;
}

void vn_devices_drain(const struct vn_devices *devices)
{
	vn_serial_drain(devices->serial);
}

void vn_devices_press_power_button(const struct vn_devices *devices)
{
	vn_event_raise(devices->event, VN_EVENT_BUTTON);
}

int vn_devices_refresh_disk(
	const struct vn_devices *devices, size_t number, struct veneer_error *error)
{
	if (number >= devices->disk_count)
		return vn_fail(error, -EINVAL, "there is no disk %zu: this guest has %zu", number,
			devices->disk_count);
	return vn_blk_refresh(devices->slots[number].device, error);
}

int vn_devices_stats(const struct vn_devices *devices, struct vn_arena *arena,
	const struct veneer_device_stats *const **result)
{
	const struct veneer_device_stats **list =
		vn_arena_alloc(arena, (devices->slot_count + 1) * sizeof(*list));
	int code = list ? 0 : -ENOMEM;
	for (unsigned i = 0; code == 0 && i < devices->slot_count; i++)
		code = vn_virtio_stats(devices->slots[i].device, arena, &list[i]);
	*result = list;
	return code;
}

void vn_devices_destroy(struct vn_devices *devices)
{
	for (unsigned i = devices->slot_count; i-- > 0;) {
		struct slot *slot = &devices->slots[i];
		if (slot->mmio)
			vn_virtio_mmio_destroy(slot->mmio);
		if (slot->pci)
			vn_virtio_pci_destroy(slot->pci);
		if (slot->device)
			slot->destroy(slot->device);
	}
	if (devices->pvpanic)
		vn_pvpanic_destroy(devices->pvpanic);
	if (devices->pci)
		vn_pci_destroy(devices->pci);
	if (devices->event)
		vn_event_destroy(devices->event);
	if (devices->serial)
		vn_serial_destroy(devices->serial);
	vn_irq_close(&devices->serial_irq);
	if (devices->loop)
		vn_ioloop_destroy(devices->loop);
	if (devices->irqs)
		vn_irqs_destroy(devices->irqs);
	free(devices);
}
