// SPDX-License-Identifier: Apache-2.0
//
// The register has no state: a read gives the events that the device knows, a write reports some.
// Each event counts once, whoever writes it and how often.
//
// Linux reports a panic before it has printed all there is: the offset of a kernel whose address is
// random, what other CPUs left unprinted, tasks and memory where panic_print= asks for them. So the
// run goes on until the guest resets, as panic= may say, or has printed nothing for a while, as
// with panic=0, which waits for ever.
#include "devices/pvpanic.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/map.h"
#include "base/clock.h"
#include "base/macros.h"

#define EVENT_PANICKED     0x01 // the host is to act
#define EVENT_CRASH_LOADED 0x02 // the guest's crash kernel will
#define EVENTS             (EVENT_PANICKED | EVENT_CRASH_LOADED)

#define SILENCE_NS NS_PER_S

// QEMU's PCI function (its docs/specs/pci-ids), but for the BAR, whose size is the least that the
// root knows: the register is its first byte.
#define VENDOR           0x1b36
#define DEVICE           0x0011
#define REVISION         1
#define CLASS            0x0880 // system peripheral, other
#define SUBSYSTEM_VENDOR 0x1af4
#define SUBSYSTEM        0x1100
#define BAR              0
#define BAR_SIZE         4096

// Owned by the vm.
struct vn_pvpanic {
	struct vn_pvpanic_site site;
	atomic_bool panicked, crash_loaded; // reported
	struct vn_pci_function function;

	struct vn_ioloop_timer silence; // the loop's thread only, from here on
	bool waiting; // for it
	uint64_t sent; // by the guest's console when the timer was set
};

static void wait_for_silence(void *arg)
{
	struct vn_pvpanic *pvpanic = arg;
	struct vn_ioloop *loop = pvpanic->site.loop;

	pvpanic->waiting = true;
	pvpanic->sent = vn_serial_sent(pvpanic->site.serial);
	vn_ioloop_set_timer(loop, &pvpanic->silence, vn_ioloop_now(loop) + SILENCE_NS);
}

static void expire(struct vn_ioloop_timer *timer)
{
	struct vn_pvpanic *pvpanic = container_of(timer, struct vn_pvpanic, silence);
	const struct vn_end_hook *end = pvpanic->site.end;

	pvpanic->waiting = false;
	if (vn_serial_sent(pvpanic->site.serial) != pvpanic->sent)
		wait_for_silence(pvpanic);
	else
		end->ended(end->opaque, VENEER_END_PANIC, 0, NULL);
}

static void panicked(struct vn_pvpanic *pvpanic)
{
	const struct vn_end_hook *end = pvpanic->site.end;

	end->panicked(end->opaque, "the guest's kernel panicked; its console says why");
	vn_ioloop_call(pvpanic->site.loop, wait_for_silence, pvpanic);
}

static void report(struct vn_pvpanic *pvpanic, uint8_t events)
{
	if (events & EVENT_PANICKED) {
		if (!atomic_exchange(&pvpanic->panicked, true))
			panicked(pvpanic);
	} else if (events & EVENT_CRASH_LOADED) {
		if (!atomic_exchange(&pvpanic->crash_loaded, true))
			vn_note(pvpanic->site.log,
				"the guest's kernel panicked, and its crash kernel takes over");
	}
}

static void port_read(void *opaque, uint64_t offset, void *data, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	*(uint8_t *)data = EVENTS;
}

static void port_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	(void)offset;
	(void)size;
	report(opaque, *(const uint8_t *)data);
}

static const struct vn_bus_ops port_ops = {port_read, port_write};

static void bar_read(
	struct vn_pci_function *function, unsigned bar, uint64_t offset, void *data, unsigned size)
{
	(void)function;
	(void)bar;
	memset(data, 0, size);
	if (offset == 0)
		*(uint8_t *)data = EVENTS;
}

static void bar_write(struct vn_pci_function *function, unsigned bar, uint64_t offset,
	const void *data, unsigned size)
{
	(void)bar;
	(void)size;
	if (offset == 0)
		report(container_of(function, struct vn_pvpanic, function), *(const uint8_t *)data);
}

static const struct vn_pci_ops function_ops = {.bar_read = bar_read, .bar_write = bar_write};

static void fill16(struct vn_pci_function *function, unsigned offset, uint16_t value)
{
	memcpy(&function->config[offset], &value, sizeof(value));
}

static void fill_function(struct vn_pci_function *function)
{
	function->ops = &function_ops;
	fill16(function, PCI_VENDOR_ID, VENDOR);
	fill16(function, PCI_DEVICE_ID, DEVICE);
	function->config[PCI_REVISION_ID] = REVISION;
	fill16(function, PCI_CLASS_DEVICE, CLASS);
	fill16(function, PCI_SUBSYSTEM_VENDOR_ID, SUBSYSTEM_VENDOR);
	fill16(function, PCI_SUBSYSTEM_ID, SUBSYSTEM);
	function->bar_size[BAR] = BAR_SIZE;
}

int vn_pvpanic_create(
	struct vn_pvpanic **result, const struct vn_pvpanic_site *site, struct veneer_error *error)
{
	struct vn_pvpanic *pvpanic = calloc(1, sizeof(*pvpanic));

	if (!pvpanic)
		return vn_fail(error, -ENOMEM, "no memory for pvpanic");
	pvpanic->site = *site;
	pvpanic->silence.expire = expire;
	fill_function(&pvpanic->function);
	*result = pvpanic;
	return 0;
}

int vn_pvpanic_add_port(struct vn_pvpanic *pvpanic, struct vn_bus *pio, struct veneer_error *error)
{
	return vn_bus_add(pio, VN_PORT_PVPANIC, 1, &port_ops, pvpanic, error);
}

int vn_pvpanic_add_pci(
	struct vn_pvpanic *pvpanic, struct vn_pci *root, unsigned slot, struct veneer_error *error)
{
	return vn_pci_add(root, slot, &pvpanic->function, error);
}

static void stop(void *arg)
{
	struct vn_pvpanic *pvpanic = arg;

	vn_ioloop_cancel_timer(&pvpanic->silence);
	pvpanic->waiting = false;
}

static void hold(void *arg)
{
	struct vn_pvpanic *pvpanic = arg;

	vn_ioloop_cancel_timer(&pvpanic->silence);
}

static void wait_again(void *arg)
{
	struct vn_pvpanic *pvpanic = arg;

	if (pvpanic->waiting)
		wait_for_silence(pvpanic);
}

void vn_pvpanic_pause(struct vn_pvpanic *pvpanic)
{
	vn_ioloop_call(pvpanic->site.loop, hold, pvpanic);
}

void vn_pvpanic_resume(struct vn_pvpanic *pvpanic)
{
	vn_ioloop_call(pvpanic->site.loop, wait_again, pvpanic);
}

void vn_pvpanic_reset(struct vn_pvpanic *pvpanic)
{
	vn_ioloop_call(pvpanic->site.loop, stop, pvpanic);
	atomic_store(&pvpanic->panicked, false);
	atomic_store(&pvpanic->crash_loaded, false);
}

void vn_pvpanic_destroy(struct vn_pvpanic *pvpanic)
{
	vn_ioloop_call(pvpanic->site.loop, stop, pvpanic);
	free(pvpanic);
}
