// SPDX-License-Identifier: Apache-2.0
/*
 * Finds the functions of PCI bus 0 and makes them usable. The VMM has given the BARs their
 * addresses; under one that leaves this to firmware, they come from the window that the command
 * line names.
 */
#include "pci.h"

#include "apic.h"
#include "machine.h"
#include "print.h"
#include "ring0.h"

#define PORT_ENABLE   0x80000000u
#define MSI_ADDRESS   0xfee00000u
#define BAR_IO        1u
#define BAR_64        4u
#define MAX_HOPS      48 /* a list of capabilities that is longer than this is a loop */
#define STATUS_LIST   0x10
#define NO_DEVICE     0xffff
#define HEADER_NORMAL 0

struct pci_function pci_functions[PCI_FUNCTIONS];

static unsigned function_count;
static uint64_t window; /* where the next BAR without an address goes, 0: nowhere */

uint64_t mmio_read(uint64_t address, unsigned bytes)
{
	uint64_t value = 0;

	if (bytes == 1)
		__asm__ volatile("movb (%1), %b0" : "+q"(value) : "r"(address) : "memory");
	else if (bytes == 2)
		__asm__ volatile("movw (%1), %w0" : "+r"(value) : "r"(address) : "memory");
	else if (bytes == 4)
		__asm__ volatile("movl (%1), %k0" : "+r"(value) : "r"(address) : "memory");
	else
		__asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
	return value;
}

void mmio_write(uint64_t address, uint64_t value, unsigned bytes)
{
	if (bytes == 1)
		__asm__ volatile("movb %b0, (%1)" : : "q"(value), "r"(address) : "memory");
	else if (bytes == 2)
		__asm__ volatile("movw %w0, (%1)" : : "r"(value), "r"(address) : "memory");
	else if (bytes == 4)
		__asm__ volatile("movl %k0, (%1)" : : "r"(value), "r"(address) : "memory");
	else
		__asm__ volatile("movq %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

static uint16_t select_port(unsigned slot, unsigned offset)
{
	out32(PORT_PCI_ADDRESS, PORT_ENABLE | slot << 11 | (offset & 0xfcu));
	return (uint16_t)(PORT_PCI_DATA + (offset & 3));
}

uint32_t pci_port_read(unsigned slot, unsigned offset, unsigned bytes)
{
	uint16_t port = select_port(slot, offset);

	return bytes == 1 ? in8(port) : bytes == 2 ? in16(port) : in32(port);
}

void pci_port_write(unsigned slot, unsigned offset, uint32_t value, unsigned bytes)
{
	uint16_t port = select_port(slot, offset);

	if (bytes == 1)
		out8(port, (uint8_t)value);
	else if (bytes == 2)
		out16(port, (uint16_t)value);
	else
		out32(port, value);
}

uint64_t pci_read(const struct pci_function *function, unsigned offset, unsigned bytes)
{
	return function->config ? mmio_read(function->config + offset, bytes)
				: pci_port_read(function->slot, offset, bytes);
}

void pci_write(const struct pci_function *function, unsigned offset, uint64_t value, unsigned bytes)
{
	if (function->config)
		mmio_write(function->config + offset, value, bytes);
	else
		pci_port_write(function->slot, offset, (uint32_t)value, bytes);
}

static uint32_t read32(const struct pci_function *function, unsigned offset)
{
	return (uint32_t)pci_read(function, offset, 4);
}

static uint8_t search_capability(const struct pci_function *function, uint8_t at, uint8_t id)
{
	for (unsigned hops = 0; at >= 0x40 && hops < MAX_HOPS; hops++) {
		at &= 0xfc;
		if (pci_read(function, at, 1) == id)
			return at;
		at = (uint8_t)pci_read(function, at + 1u, 1);
	}
	return 0;
}

uint8_t pci_capability(const struct pci_function *function, uint8_t from, uint8_t id)
{
	if (!(pci_read(function, PCI_STATUS, 2) & STATUS_LIST))
		return 0;
	return search_capability(
		function, from ? from : (uint8_t)pci_read(function, PCI_CAPABILITIES, 1), id);
}

uint8_t pci_next_capability(const struct pci_function *function, uint8_t from, uint8_t id)
{
	return search_capability(function, (uint8_t)pci_read(function, from + 1u, 1), id);
}

void pci_move_bar(const struct pci_function *function, unsigned bar, uint64_t address)
{
	pci_write(function, PCI_BAR0 + 4 * bar, (uint32_t)address, 4);
	if (function->bars[bar].wide)
		pci_write(function, PCI_BAR0 + 4 * bar + 4, (uint32_t)(address >> 32), 4);
}

/* What stays zero of a BAR that is all ones is its size; decoding is off meanwhile. */
static void size_bar(struct pci_function *function, unsigned bar)
{
	uint32_t low = read32(function, PCI_BAR0 + 4 * bar), high = 0;
	struct pci_bar *b = &function->bars[bar];
	uint64_t size;

	*b = (struct pci_bar){.wide = (low & 7) == BAR_64 && bar + 1 < PCI_BARS};
	if (low & BAR_IO)
		return;
	if (b->wide)
		high = read32(function, PCI_BAR0 + 4 * bar + 4);
	pci_move_bar(function, bar, ~0ull);
	size = read32(function, PCI_BAR0 + 4 * bar) & ~15u;
	size |= b->wide ? (uint64_t)read32(function, PCI_BAR0 + 4 * bar + 4) << 32
			: 0xffffffff00000000;
	b->bytes = (size & 0xffffffff) || b->wide ? -size : 0;
	b->base = (uint64_t)high << 32 | (low & ~15u);
	if (!b->base && b->bytes && window) {
		b->base = (window + b->bytes - 1) & ~(b->bytes - 1);
		window = b->base + b->bytes;
	}
	pci_move_bar(function, bar, b->base);
	if (b->bytes && !machine_map(b->base))
		b->bytes = 0;
}

/* An address as a capability gives it: BAR in the low three bits, offset in the rest. */
static uint64_t address_in_bar(const struct pci_function *function, uint32_t where, uint64_t bytes)
{
	const struct pci_bar *bar = &function->bars[(where & 7) % PCI_BARS];
	uint64_t offset = where & ~7u;

	return offset < bar->bytes && bytes <= bar->bytes - offset ? bar->base + offset : 0;
}

static void find_msix(struct pci_function *function)
{
	uint8_t at = pci_capability(function, 0, PCI_CAPABILITY_MSIX);
	uint32_t vectors;

	if (!at)
		return;
	vectors = (uint32_t)(pci_read(function, at + MSIX_CONTROL, 2) & 0x7ff) + 1;
	function->table = address_in_bar(
		function, read32(function, at + 4u), vectors * (uint64_t)MSIX_ENTRY_BYTES);
	function->pending = address_in_bar(function, read32(function, at + 8u), (vectors + 7) / 8);
	if (!function->table || !function->pending)
		return;
	function->msix = at;
	function->vectors = vectors;
	for (uint32_t i = 0; i < vectors; i++)
		msix_mask(function, i, true);
	msix_control(function, MSIX_ENABLE);
}

static void add_function(uint64_t ecam, unsigned slot)
{
	struct pci_function *function = &pci_functions[function_count];

	*function = (struct pci_function){.slot = slot};
	if (ecam)
		function->config = ecam + slot * 0x8000ull;
	function->vendor = (uint16_t)pci_read(function, PCI_VENDOR_ID, 2);
	function->device = (uint16_t)pci_read(function, PCI_DEVICE_ID, 2);
	if (function->vendor == NO_DEVICE)
		return;
	function_count++;
	for (unsigned i = 0; i < PCI_VECTORS; i++)
		function->irqs[i] = -1;
	if ((pci_read(function, PCI_HEADER_TYPE, 1) & 0x7f) != HEADER_NORMAL ||
		function->vendor != PCI_VENDOR_VIRTIO)
		return;
	pci_write(function, PCI_COMMAND, 0, 2);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		size_bar(function, i);
		i += function->bars[i].wide;
	}
	pci_write(function, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	find_msix(function);
}

unsigned pci_scan(void)
{
	const char *word = machine_word("pci");
	bool ports = word && text_equal(word, "ports");
	static bool scanned;
	uint64_t ecam = machine.ecam;

	if (scanned)
		return function_count;
	scanned = true;
	if (word && !ports && parse_number(&word, &ecam) && *word == ',') {
		word++;
		parse_number(&word, &window);
	}
	if (ports)
		ecam = 0;
	else if (!ecam || !machine_map(ecam))
		return 0;
	for (unsigned slot = 0; slot < PCI_FUNCTIONS; slot++)
		add_function(ecam, slot);
	return function_count;
}

void msix_set(const struct pci_function *function, uint32_t vector, int irq)
{
	uint64_t entry = function->table + vector * MSIX_ENTRY_BYTES;

	mmio_write32(entry, MSI_ADDRESS | apic_id() << 12);
	mmio_write32(entry + 4, 0);
	mmio_write32(entry + 8, VECTOR_IRQ + (uint32_t)irq);
}

void msix_mask(const struct pci_function *function, uint32_t vector, bool mask)
{
	mmio_write32(function->table + vector * MSIX_ENTRY_BYTES + MSIX_ENTRY_CONTROL,
		mask ? MSIX_ENTRY_MASKED : 0);
}

void msix_control(const struct pci_function *function, uint16_t control)
{
	pci_write(function, function->msix + MSIX_CONTROL, control, 2);
}

bool msix_pending(const struct pci_function *function, uint32_t vector)
{
	return mmio_read32(function->pending + vector / 32 * 4) >> vector % 32 & 1;
}

int pci_irq(struct pci_function *function, uint32_t vector)
{
	if (!function->msix || vector >= function->vectors || vector >= PCI_VECTORS)
		return -1;
	if (function->irqs[vector] < 0)
		function->irqs[vector] = apic_vector();
	if (function->irqs[vector] < 0)
		return -1;
	msix_set(function, vector, function->irqs[vector]);
	msix_mask(function, vector, false);
	return function->irqs[vector];
}
