// SPDX-License-Identifier: Apache-2.0
//
// Create a guest's devices, give them slots and transports, and destroy them.
#include "vmm/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/machine.h"
#include "arch/x86/map.h"
#include "core/irq.h"
#include "core/loops.h"
#include "devices/event.h"
#include "devices/power.h"
#include "devices/pvpanic.h"
#include "devices/serial.h"
#include "pci/root.h"
#include "virtio/mmio.h"
#include "virtio/pci.h"
#include "vmm/device_table.h"

// A virtio device in its slot, with its transport, which is one of the two; owned by the devices.
struct slot {
	const struct vn_device_type *type;
	char name[24]; // in messages: the kind and the number, "blk0"
	char key[24]; // in the configuration: the option and the number, "disk0"
	struct vn_virtio_device *device;
	struct vn_virtio_mmio *mmio;
	struct vn_virtio_pci *pci;
};

// Slot 0 is the host bridge. The last slot is pvpanic's, so that adding it shifts no other device.
#define PVPANIC_SLOT    (VN_PCI_SLOTS - 1)
#define PCI_DEVICES_MAX (PVPANIC_SLOT - 1)

// Owned by the vm, and immutable once the guest runs.
struct vn_devices {
	struct vn_devices_site site;
	struct vn_loops loops;
	struct vn_irqs *irqs;
	struct vn_ioloop *loop; // the shared one, for the serial port and pvpanic
	struct vn_irq serial_irq;
	struct vn_serial *serial;
	struct vn_power power;
	struct vn_event *event; // the power button
	struct vn_pci *pci; // NULL where devices are on virtio-mmio
	struct vn_pvpanic *pvpanic;
	struct slot slots[PCI_DEVICES_MAX];
	unsigned slot_count;
};

// The name of the option, with a number where there can be many.
static void write_key(char key[24], const struct vn_device_type *type, unsigned number)
{
	if (type->option->many)
		snprintf(key, 24, "%s%u", type->option->name, number);
	else
		snprintf(key, 24, "%s", type->option->name);
}

static const char *plural(unsigned count)
{
	return count == 1 ? "" : "s";
}

int vn_devices_check(const struct vn_spec *spec, struct veneer_error *error)
{
	bool pci = spec->transport == VN_TRANSPORT_PCI;
	unsigned slots = pci ? PCI_DEVICES_MAX : VN_VIRTIO_SLOTS, count = 0, first = 0;
	const struct vn_device_type *one = NULL; // the first that has no slot
	char key[24] = "";
	for (const struct vn_device_type *const *type = vn_device_types; *type; type++)
		for (unsigned i = 0; i < vn_devices_of_type(spec, *type); i++) {
			if (!vn_spec_device(spec, *type, i))
				continue;
			if (count++ == slots) {
				one = *type;
				write_key(key, one, i);
			}
			first += type == vn_device_types;
		}
	if (!one)
		return 0;
	vn_fail(error, -EINVAL, "%s: %u %s%s and %u other device%s, but there are %u %s",
		one->option->name, first, vn_device_types[0]->option->name, plural(first),
		count - first, plural(count - first), slots,
		pci ? "PCI slots" : "virtio-mmio slots; PCI has more of them");
	vn_error_set_key(error, "%s", key);
	return -EINVAL;
}

static int create_serial(
	struct vn_devices *devices, const struct vn_spec *spec, struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	int code = vn_loops_take(&devices->loops, "serial", false, &devices->loop, error);
	if (code < 0)
		return code;
	code = vn_irq_open(&devices->serial_irq, site->kvm, VN_GSI_SERIAL, error);
	if (code < 0)
		return code;
	code = vn_serial_create(&devices->serial, devices->loop, &devices->serial_irq,
		spec->config->serial_in, spec->config->serial_out, site->log, error);
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
	struct vn_devices *devices, const struct vn_spec *spec, struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	int code = vn_irqs_create(&devices->irqs, site->kvm, error);
	if (code == 0)
		code = vn_power_add(&devices->power, site->pio, site->end, error);
	if (code == 0)
		code = create_serial(devices, spec, error);
	if (code == 0)
		code = vn_event_create(&devices->event, site->kvm, site->pio, error);
	if (code == 0 && spec->transport == VN_TRANSPORT_PCI)
		code = create_pci(devices, error);
	return code == 0 ? create_pvpanic(devices, error) : code;
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

static int create_device(struct vn_devices *devices, const struct vn_device_type *type,
	unsigned number, void *values, const struct vn_spec *spec, struct veneer_error *error)
{
	const struct vn_devices_site *site = &devices->site;
	struct slot *slot = &devices->slots[devices->slot_count++];
	slot->type = type;
	write_key(slot->key, type, number);
	snprintf(slot->name, sizeof(slot->name), "%s%u", type->kind, number);
	const struct vn_device_env env = {.name = slot->name,
		.number = number,
		.guest = spec->name ? spec->name : spec->config->identity,
		.memory = site->memory,
		.log = site->log,
		.loops = &devices->loops};
	int code = type->create(&slot->device, &env, values, error);
	if (code < 0) { // a device knows its property, and not its number
		vn_config_number_key(type->option, number, error);
		vn_error_set_key(error, "%s", slot->key);
	}
	return code < 0 ? code : attach(devices, slot, error);
}

static int create_all(
	struct vn_devices *devices, const struct vn_spec *spec, struct veneer_error *error)
{
	int code = create_platform(devices, spec, error);
	for (const struct vn_device_type *const *type = vn_device_types; *type; type++)
		for (unsigned i = 0; code == 0 && i < vn_devices_of_type(spec, *type); i++) {
			void *values = vn_spec_device(spec, *type, i);
			if (values)
				code = create_device(devices, *type, i, values, spec, error);
		}
	return code;
}

int vn_devices_create(struct vn_devices **result, const struct vn_devices_site *site,
	const struct vn_spec *spec, struct veneer_error *error)
{
	struct vn_devices *devices = calloc(1, sizeof(*devices));
	if (!devices)
		return vn_fail(error, -ENOMEM, "no memory for a guest's devices");
	devices->site = *site;
	vn_loops_init(&devices->loops);
	devices->loops.dedicated_cpus = site->placement->iothreads;
	devices->loops.shared_cpus = site->placement->vmm;
	devices->loops.end = site->end;
	devices->serial_irq.fd = -1;
	int code = create_all(devices, spec, error);
	if (code < 0) {
		vn_devices_destroy(devices);
		return code;
	}
	*result = devices;
	return 0;
}

void vn_devices_pause(const struct vn_devices *devices)
{
	for (unsigned i = 0; i < devices->slot_count; i++)
		vn_virtio_pause(devices->slots[i].device);
	vn_pvpanic_pause(devices->pvpanic);
}

void vn_devices_resume(const struct vn_devices *devices)
{
	for (unsigned i = 0; i < devices->slot_count; i++)
		vn_virtio_resume(devices->slots[i].device);
	vn_pvpanic_resume(devices->pvpanic);
}

bool vn_devices_have_failed(const struct vn_devices *devices)
{
	return vn_loops_have_failed(&devices->loops);
}

void vn_devices_reset(struct vn_devices *devices)
{
	for (unsigned i = 0; i < devices->slot_count; i++)
		vn_virtio_reset(devices->slots[i].device);
	if (devices->pci)
		vn_pci_reset(devices->pci);
	vn_pvpanic_reset(devices->pvpanic);
	vn_event_reset(devices->event);
	vn_serial_reset(devices->serial);
	vn_power_reset(&devices->power);
}

int vn_devices_drain(const struct vn_devices *devices, uint64_t deadline_ns)
{
	return vn_serial_drain(devices->serial, deadline_ns);
}

void vn_devices_press_power_button(const struct vn_devices *devices)
{
	vn_event_raise(devices->event, VN_EVENT_BUTTON);
}

int vn_devices_refresh(
	const struct vn_devices *devices, const char *key, struct veneer_error *error)
{
	int code = -EINVAL;
	const struct slot *slot = devices->slots;
	const struct slot *end = slot + devices->slot_count;
	while (slot < end && (!slot->type->refresh || strcmp(slot->key, key) != 0))
		slot++;
	if (slot < end)
		code = slot->type->refresh(slot->device, error);
	else
		vn_fail(error, code, "%s: there is no such disk", key);
	if (code < 0)
		vn_error_set_key(error, "%s", key);
	return code;
}

void vn_devices_settle(const struct vn_devices *devices)
{
	for (unsigned i = 0; i < devices->slot_count; i++)
		vn_virtio_settle(devices->slots[i].device);
}

// What the device itself says, and what the configuration calls it.
static int read_stats(
	const struct slot *slot, struct vn_arena *arena, const struct veneer_device_stats **result)
{
	const struct veneer_device_stats *own;
	struct veneer_device_stats *stats = vn_arena_alloc(arena, sizeof(*stats));
	char *key = vn_arena_alloc(arena, sizeof(slot->key));
	int code = stats && key ? vn_virtio_stats(slot->device, arena, &own) : -ENOMEM;
	if (code < 0)
		return code;
	strcpy(key, slot->key);
	*stats = *own;
	stats->key = key;
	*result = stats;
	return 0;
}

int vn_devices_stats(const struct vn_devices *devices, struct vn_arena *arena,
	const struct veneer_device_stats *const **result)
{
	const struct veneer_device_stats **list =
		vn_arena_alloc(arena, (devices->slot_count + 1) * sizeof(*list));
	int code = list ? 0 : -ENOMEM;
	for (unsigned i = 0; code == 0 && i < devices->slot_count; i++)
		code = read_stats(&devices->slots[i], arena, &list[i]);
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
			slot->type->destroy(slot->device);
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
		vn_loops_give_back(&devices->loops, devices->loop);
	vn_loops_destroy(&devices->loops);
	if (devices->irqs)
		vn_irqs_destroy(devices->irqs);
	free(devices);
}
