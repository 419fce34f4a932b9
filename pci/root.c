// SPDX-License-Identifier: Apache-2.0
//
// Decoding of configuration accesses (PCI Express 5.0 section 7.2, PCI 3.0 section 3.2.2.3) and of
// BARs. What the guest writes into a BAR decides where it is, but only within the window: anywhere
// else, as while a driver finds out its size, the BAR is nowhere.
#include "pci/root.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/map.h"

// The host bridge: Red Hat's generic one, which no system has a driver for or needs one.
#define BRIDGE_VENDOR 0x1b36
#define BRIDGE_DEVICE 0x0008
#define BRIDGE_CLASS  0x0600

// CONFIG_ADDRESS: enable bit, bus, device, function, register.
#define CF8_ENABLE       0x80000000u
#define CF8_BUS(a)       ((a) >> 16 & 0xff)
#define CF8_SLOT(a)      ((a) >> 11 & 0x1f)
#define CF8_FUNCTION(a)  ((a) >> 8 & 0x7)
#define CF8_REGISTER(a)  ((a)&0xfc)
#define CF8_SIZE         8 // both registers
#define CF8_DATA         4 // CONFIG_DATA, from CONFIG_ADDRESS
#define ECAM_SLOT(o)     ((unsigned)((o) >> 15))
#define ECAM_FUNCTION(o) ((unsigned)((o) >> 12) & 0x7)
#define ECAM_REGISTER(o) ((unsigned)(o)&0xfff)

// Owned by the vm. `lock` guards all configuration spaces, where BARs are, and CONFIG_ADDRESS.
struct vn_pci {
	pthread_mutex_t lock;
	uint64_t window_base, window_size;
	uint64_t window_used; // bytes given to BARs while functions are added
	uint32_t config_address;
	struct vn_pci_function *slots[VN_PCI_SLOTS];
	struct vn_pci_function bridge;
};

static unsigned bar_register(unsigned bar)
{
	return PCI_BASE_ADDRESS_0 + 8 * bar;
}

static uint64_t read64(const uint8_t *config)
{
	uint64_t value;
	memcpy(&value, config, sizeof(value));
	return value;
}

static void write64(uint8_t *config, uint64_t value)
{
	memcpy(config, &value, sizeof(value));
}

static void write16(uint8_t *config, uint16_t value)
{
	memcpy(config, &value, sizeof(value));
}

static bool is_in_window(const struct vn_pci *pci, uint64_t address, uint64_t size)
{
	return address >= pci->window_base && address - pci->window_base < pci->window_size &&
	       size <= pci->window_size - (address - pci->window_base);
}

static void update_bar(struct vn_pci *pci, struct vn_pci_function *function, unsigned bar)
{
	uint64_t address = read64(&function->config[bar_register(bar)]) & PCI_BASE_ADDRESS_MEM_MASK;
	bool mapped = (function->config[PCI_COMMAND] & PCI_COMMAND_MEMORY) &&
		      is_in_window(pci, address, function->bar_size[bar]);
	if (function->bar_mapped[bar] && (!mapped || function->bar_address[bar] != address)) {
		function->bar_mapped[bar] = false;
		if (function->ops->unmap)
			function->ops->unmap(function, bar, VN_GPA(function->bar_address[bar]));
	}
	if (mapped && !function->bar_mapped[bar]) {
		function->bar_address[bar] = address;
		function->bar_mapped[bar] = true;
		if (function->ops->map)
			function->ops->map(function, bar, VN_GPA(address));
	}
}

// Only function 0 of each slot exists.
static struct vn_pci_function *find(struct vn_pci *pci, unsigned slot, unsigned number)
{
	return slot < VN_PCI_SLOTS && number == 0 ? pci->slots[slot] : NULL;
}

static void config_read(
	struct vn_pci_function *function, unsigned offset, void *data, unsigned size)
{
	if (function->ops->config_reading)
		function->ops->config_reading(function, offset, size);
	memcpy(data, &function->config[offset], size);
}

static void config_write(struct vn_pci *pci, struct vn_pci_function *function, unsigned offset,
	const uint8_t *data, unsigned size)
{
	for (unsigned i = 0; i < size; i++) {
		uint8_t writable = function->writable[offset + i];
		uint8_t *byte = &function->config[offset + i];
		*byte = (uint8_t)((*byte & ~writable) | (data[i] & writable));
	}
	if (offset < PCI_BASE_ADDRESS_5 + 4)
		for (unsigned bar = 0; bar < VN_PCI_BARS; bar++)
			if (function->bar_size[bar])
				update_bar(pci, function, bar);
	if (function->ops->config_written)
		function->ops->config_written(function, offset, size);
}

// An access that is not naturally aligned counts as unanswered: it might leave the function.
static bool is_aligned(uint64_t offset, unsigned size)
{
	return (offset & (size - 1)) == 0;
}

static void ecam_read(void *opaque, uint64_t offset, void *data, unsigned size)
{
	struct vn_pci *pci = opaque;
	pthread_mutex_lock(&pci->lock);
	struct vn_pci_function *function = find(pci, ECAM_SLOT(offset), ECAM_FUNCTION(offset));
	if (function && is_aligned(offset, size))
		config_read(function, ECAM_REGISTER(offset), data, size);
	pthread_mutex_unlock(&pci->lock);
}

static void ecam_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	struct vn_pci *pci = opaque;
	pthread_mutex_lock(&pci->lock);
	struct vn_pci_function *function = find(pci, ECAM_SLOT(offset), ECAM_FUNCTION(offset));
	if (function && is_aligned(offset, size))
		config_write(pci, function, ECAM_REGISTER(offset), data, size);
	pthread_mutex_unlock(&pci->lock);
}

static const struct vn_bus_ops ecam_ops = {ecam_read, ecam_write};

// The function that CONFIG_DATA leads to, or NULL.
static struct vn_pci_function *selected(struct vn_pci *pci, uint64_t offset, unsigned size)
{
	uint32_t address = pci->config_address;
	if (offset < CF8_DATA || !is_aligned(offset, size) || !(address & CF8_ENABLE) ||
		CF8_BUS(address) != 0)
		return NULL;
	return find(pci, CF8_SLOT(address), CF8_FUNCTION(address));
}

static void ports_read(void *opaque, uint64_t offset, void *data, unsigned size)
{
	struct vn_pci *pci = opaque;
	pthread_mutex_lock(&pci->lock);
	struct vn_pci_function *function = selected(pci, offset, size);
	if (function)
		config_read(function,
			CF8_REGISTER(pci->config_address) + (unsigned)(offset - CF8_DATA), data,
			size);
	else if (offset == 0 && size == sizeof(pci->config_address))
		memcpy(data, &pci->config_address, size);
	pthread_mutex_unlock(&pci->lock);
}

static void ports_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	struct vn_pci *pci = opaque;
	pthread_mutex_lock(&pci->lock);
	struct vn_pci_function *function = selected(pci, offset, size);
	if (function)
		config_write(pci, function,
			CF8_REGISTER(pci->config_address) + (unsigned)(offset - CF8_DATA), data,
			size);
	else if (offset == 0 && size == sizeof(pci->config_address))
		memcpy(&pci->config_address, data, size);
	pthread_mutex_unlock(&pci->lock);
}

static const struct vn_bus_ops ports_ops = {ports_read, ports_write};

// Where a BAR was decoded.
struct target {
	struct vn_pci_function *function;
	unsigned bar;
	uint64_t offset;
};

// The BAR that holds all of an access to the window. Where the guest has put BARs over each other,
// the one in the lowest slot answers.
static bool decode(struct vn_pci *pci, uint64_t offset, unsigned size, struct target *target)
{
	uint64_t address = pci->window_base + offset;
	bool found = false;
	if (!is_aligned(address, size))
		return false;
	pthread_mutex_lock(&pci->lock);
	for (unsigned i = 0; !found && i < VN_PCI_SLOTS * VN_PCI_BARS; i++) {
		struct vn_pci_function *function = pci->slots[i / VN_PCI_BARS];
		unsigned bar = i % VN_PCI_BARS;
		if (!function || !function->bar_mapped[bar])
			continue;
		uint64_t within = address - function->bar_address[bar];
		found = within < function->bar_size[bar];
		*target = (struct target){function, bar, within};
	}
	pthread_mutex_unlock(&pci->lock);
	return found;
}

static void window_read(void *opaque, uint64_t offset, void *data, unsigned size)
{
	struct target target;
	if (decode(opaque, offset, size, &target))
		target.function->ops->bar_read(
			target.function, target.bar, target.offset, data, size);
}

static void window_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	struct target target;
	if (decode(opaque, offset, size, &target))
		target.function->ops->bar_write(
			target.function, target.bar, target.offset, data, size);
}

static const struct vn_bus_ops window_ops = {window_read, window_write};

static void fill_bridge(struct vn_pci_function *bridge)
{
	static const struct vn_pci_ops none = {0};
	bridge->ops = &none;
	write16(&bridge->config[PCI_VENDOR_ID], BRIDGE_VENDOR);
	write16(&bridge->config[PCI_DEVICE_ID], BRIDGE_DEVICE);
	write16(&bridge->config[PCI_CLASS_DEVICE], BRIDGE_CLASS);
}

int vn_pci_create(struct vn_pci **result, struct vn_bus *mmio, struct vn_bus *pio,
	uint64_t window_base, uint64_t window_size, struct veneer_error *error)
{
	struct vn_pci *pci = calloc(1, sizeof(*pci));
	if (!pci)
		return vn_fail(error, -ENOMEM, "no memory for the PCI root");
	pthread_mutex_init(&pci->lock, NULL);
	pci->window_base = window_base;
	pci->window_size = window_size;
	fill_bridge(&pci->bridge);
	int code = vn_pci_add(pci, 0, &pci->bridge, error);
	if (code == 0)
		code = vn_bus_add(mmio, VN_MAP_ECAM, VN_MAP_ECAM_SIZE, &ecam_ops, pci, error);
	if (code == 0)
		code = vn_bus_add(mmio, window_base, window_size, &window_ops, pci, error);
	if (code == 0)
		code = vn_bus_add(pio, VN_PORT_PCI, CF8_SIZE, &ports_ops, pci, error);
	if (code < 0) {
		vn_pci_destroy(pci);
		return code;
	}
	*result = pci;
	return 0;
}

static void home_bar(struct vn_pci_function *function, unsigned bar)
{
	write64(&function->config[bar_register(bar)],
		function->bar_home[bar] | PCI_BASE_ADDRESS_MEM_TYPE_64);
}

// What the guest can write begins as zeros, but for BARs.
static void reset_function(struct vn_pci *pci, struct vn_pci_function *function)
{
	for (unsigned i = 0; i < VN_PCI_CONFIG_SIZE; i++)
		function->config[i] &= (uint8_t)~function->writable[i];
	for (unsigned bar = 0; bar < VN_PCI_BARS; bar++) {
		if (function->bar_size[bar] == 0)
			continue;
		home_bar(function, bar);
		update_bar(pci, function, bar);
	}
	if (function->ops->reset)
		function->ops->reset(function);
}

void vn_pci_reset(struct vn_pci *pci)
{
	pthread_mutex_lock(&pci->lock);
	pci->config_address = 0;
	for (unsigned i = 0; i < VN_PCI_SLOTS; i++)
		if (pci->slots[i])
			reset_function(pci, pci->slots[i]);
	pthread_mutex_unlock(&pci->lock);
}

void vn_pci_destroy(struct vn_pci *pci)
{
	pthread_mutex_destroy(&pci->lock);
	free(pci);
}

static int place_bar(struct vn_pci *pci, unsigned slot, struct vn_pci_function *function,
	unsigned bar, struct veneer_error *error)
{
	uint64_t size = function->bar_size[bar];
	uint64_t base = pci->window_base + pci->window_used;
	uint64_t address = (base + size - 1) & ~(size - 1);
	if (!is_in_window(pci, address, size))
		return vn_fail(error, -ENOSPC,
			"PCI slot %u: no room for a BAR of %llu KiB in the window of %llu KiB",
			slot, (unsigned long long)size / 1024,
			(unsigned long long)pci->window_size / 1024);
	pci->window_used = address + size - pci->window_base;
	function->bar_home[bar] = address;
	home_bar(function, bar);
	write64(&function->writable[bar_register(bar)], ~(size - 1));
	return 0;
}

int vn_pci_add(struct vn_pci *pci, unsigned slot, struct vn_pci_function *function,
	struct veneer_error *error)
{
	if (slot >= VN_PCI_SLOTS || pci->slots[slot])
		return vn_fail(error, -EEXIST, "PCI slot %u is taken, or not one of %d", slot,
			VN_PCI_SLOTS);
	for (unsigned bar = 0; bar < VN_PCI_BARS; bar++) {
		if (function->bar_size[bar] == 0)
			continue;
		int code = place_bar(pci, slot, function, bar, error);
		if (code < 0)
			return code;
	}
	// Bits without an effect here are writable too where drivers expect to read them back.
	write16(&function->writable[PCI_COMMAND],
		PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	function->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	function->writable[PCI_INTERRUPT_LINE] = 0xff;
	pci->slots[slot] = function;
	return 0;
}
