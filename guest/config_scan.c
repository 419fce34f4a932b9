// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks on PCI functions through their registers: configuration space, BARs and MSI-X tables are
 * read and written at every width, aligned or not; BARs go to where nothing should follow them.
 * After each attack all is put back, and the device must work.
 */
#include "blk.h"
#include "print.h"
#include "ring0.h"
#include "transport_commands.h"

#define HEADER_BYTES 0x40
#define CONFIG_BYTES 4096
#define PORT_CONFIG  256 /* what the ports reach */
#define PAGE         4096
#define EDGE         0x50 /* bytes at the begin of a page that are all tried, and 16 at its end */
#define SLOT_BYTES   0x8000
#define READ_BYTES   4096
#define NOWHERE      0xfee05000 /* the message address of an APIC that is not there */
#define MAX_PLACES   12

static const unsigned widths[] = {1, 2, 4, 8};

struct scan {
	struct pci_function *function;
	uint32_t saved[PORT_CONFIG / 4];
	uint64_t random;
	uint8_t *ram; /* as much as a BAR, aligned as one */
	bool ports; /* configuration space is behind them too */
	uint64_t reads, writes, moves;
};

static uint64_t next_random(struct scan *s)
{
	s->random = s->random * 6364136223846793005u + 1442695040888963407u;
	return s->random ^ s->random >> 29;
}

/* Every width at every address of [from, from + bytes), across its end too. */
static void read_all(struct scan *s, uint64_t from, unsigned bytes)
{
	for (uint64_t a = from; a < from + bytes; a++) {
		for (unsigned w = 0; w < 4; w++)
			mmio_read(a, widths[w]);
		s->reads += 4;
	}
}

static void write_all(struct scan *s, uint64_t from, unsigned bytes)
{
	for (uint64_t a = from; a < from + bytes; a++) {
		for (unsigned w = 0; w < 4; w++)
			mmio_write(a, next_random(s), widths[w]);
		s->writes += 4;
	}
}

static int wrong_width(unsigned at, uint64_t expected, uint64_t got)
{
	print("configuration register %02x:\n", at);
	return fail_number("a part of it, read alone", expected, got);
}

/* Bytes and halves must be the parts of the words, in memory as through the ports. */
static int check_widths(const struct scan *s)
{
	const struct pci_function *function = s->function;

	for (unsigned at = 0; at < HEADER_BYTES; at++) {
		uint32_t word = (uint32_t)pci_read(function, at & ~3u, 4) >> at % 4 * 8;

		for (unsigned bytes = 1; bytes <= 4 && at % bytes == 0; bytes *= 2) {
			uint64_t part = word & ~0ull >> (64 - 8 * bytes);
			uint64_t got = pci_read(function, at, bytes);

			if (got != part)
				return wrong_width(at, part, got);
			got = pci_port_read(function->slot, at, bytes);
			if (s->ports && got != part)
				return wrong_width(at, part, got);
		}
	}
	return 0;
}

static int read_config(struct scan *s)
{
	const struct pci_function *function = s->function;

	if (function->config) {
		read_all(s, function->config, 0x140);
		read_all(s, function->config + CONFIG_BYTES - 16, 16);
	}
	for (unsigned at = 0; at < PORT_CONFIG; at++) {
		for (unsigned w = 0; w < 3; w++)
			pci_port_read(function->slot, at, widths[w]);
		s->reads += 3;
	}
	return check_widths(s);
}

static void save_config(struct scan *s)
{
	for (unsigned i = 0; i < PORT_CONFIG / 4; i++)
		s->saved[i] = (uint32_t)pci_read(s->function, 4 * i, 4);
}

/* Decoding goes on last, and the messages are masked as after a reset. */
static void restore_config(struct scan *s)
{
	pci_write(s->function, PCI_COMMAND, 0, 2);
	for (unsigned i = PORT_CONFIG / 4; i-- > 0;) {
		if (4 * i != PCI_COMMAND)
			pci_write(s->function, 4 * i, s->saved[i], 4);
	}
	pci_write(s->function, PCI_COMMAND, s->saved[PCI_COMMAND / 4] & 0xffff, 2);
	for (uint32_t i = 0; i < s->function->vectors; i++)
		msix_mask(s->function, i, true);
	if (s->function->msix)
		msix_control(s->function, MSIX_ENABLE);
}

/* What no driver can change, and what was put back. */
static int check_config(const struct scan *s)
{
	for (unsigned i = 0; i < HEADER_BYTES / 4; i++) {
		uint32_t ignored = 4 * i == PCI_COMMAND ? 0xffff0000 : 0;
		uint32_t now = (uint32_t)pci_read(s->function, 4 * i, 4);

		if ((now ^ s->saved[i]) & ~ignored) {
			print("configuration register %02x:\n", 4 * i);
			return fail_number("configuration after writes", s->saved[i], now);
		}
	}
	return 0;
}

/* As a driver would use it: negotiation, and of a disk a read. */
static int check_works(struct scan *s, const char *after)
{
	struct blk blk = {.irq = -1};
	uint64_t mark = machine_mark();
	uint8_t status = BLK_STATUS_OK;
	int failed = 0;
	void *data;

	if (!virtio_pci_probe(&blk.device, s->function))
		return fail(after, "a virtio device", "none");
	if (blk.device.id != DEVICE_ID_BLK) {
		failed = virtio_negotiate(&blk.device, FEATURE_VERSION_1);
	} else {
		data = machine_alloc(READ_BYTES, 4096);
		failed = !data || blk_start(&blk);
		if (!failed)
			status = blk_do(&blk, BLK_READ, 0, data, READ_BYTES);
	}
	if (virtio_reset(&blk.device))
		failed = 1;
	machine_release(mark);
	return failed || status != BLK_STATUS_OK ? fail(after, "a working device", "none") : 0;
}

static int write_config(struct scan *s)
{
	const struct pci_function *function = s->function;

	save_config(s);
	if (function->config) {
		write_all(s, function->config, 0x140);
		write_all(s, function->config + CONFIG_BYTES - 16, 16);
	}
	for (unsigned at = 0; at < PORT_CONFIG; at++) {
		for (unsigned w = 0; w < 3; w++)
			pci_port_write(function->slot, at, (uint32_t)next_random(s), widths[w]);
		s->writes += 3;
	}
	restore_config(s);
	return check_config(s);
}

/* All ones where nothing is, and writes change nothing. */
static int scan_empty(struct scan *s, uint64_t config)
{
	for (unsigned at = 0; at < 16; at++) {
		for (unsigned w = 0; w < 4; w++) {
			uint64_t all = ~0ull >> (64 - 8 * widths[w]);

			mmio_write(config + at, next_random(s), widths[w]);
			if (at % widths[w] == 0 && mmio_read(config + at, widths[w]) != all)
				return fail_number("configuration of an empty slot", all,
					mmio_read(config + at, widths[w]));
		}
	}
	return 0;
}

static int scan_empty_slots(struct scan *s, uint64_t ecam)
{
	bool taken[PCI_FUNCTIONS] = {false};
	int failures = 0;

	for (unsigned i = 0; i < pci_scan(); i++)
		taken[pci_functions[i].slot] = true;
	for (unsigned slot = 0; slot < PCI_FUNCTIONS; slot++) {
		if (!taken[slot])
			failures += scan_empty(s, ecam + slot * SLOT_BYTES);
	}
	return failures + scan_empty(s, ecam + SLOT_BYTES - CONFIG_BYTES);
}

/* Messages are off meanwhile: what lands in the table must not be sent. */
static int scan_bars(struct scan *s)
{
	struct pci_function *function = s->function;

	if (function->msix)
		msix_control(function, 0);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &function->bars[i];

		for (uint64_t at = 0; at < bar->bytes; at += PAGE) {
			read_all(s, bar->base + at, EDGE);
			read_all(s, bar->base + at + PAGE - 16, 16);
			write_all(s, bar->base + at, EDGE);
			write_all(s, bar->base + at + PAGE - 16, 8);
		}
	}
	for (uint32_t i = 0; i < function->vectors; i++)
		msix_mask(function, i, true);
	if (function->msix)
		msix_control(function, MSIX_ENABLE);
	return check_works(s, "accesses to BARs");
}

/* Messages to nowhere, of every kind, unmasked: nothing may come of them but silence. */
static int scan_messages(struct scan *s)
{
	static const struct {
		uint64_t address;
		uint32_t data;
	} messages[] = {{0, 0}, {~0ull, ~0u}, {NOWHERE, 0}, {NOWHERE, 0x7ff}, {NOWHERE, 0xc041},
		{NOWHERE | 0xc, 0x141}, {0x1000, 0x41}, {1ull << 63, 0x41}};
	const struct pci_function *function = s->function;
	int failures = 0;

	for (unsigned m = 0; m < sizeof(messages) / sizeof(messages[0]); m++) {
		for (uint32_t i = 0; i < function->vectors; i++) {
			uint64_t entry = function->table + i * MSIX_ENTRY_BYTES;

			mmio_write(entry, messages[m].address, 8);
			mmio_write(entry + 8, messages[m].data, 4);
			msix_mask(function, i, false);
		}
	}
	for (uint32_t i = 0; i < function->vectors; i++) {
		mmio_write(function->table + i * MSIX_ENTRY_BYTES, NOWHERE, 8);
		mmio_write(function->table + i * MSIX_ENTRY_BYTES + 8, 0x41, 4);
		mmio_write(function->pending + i / 32 * 4, ~0u, 4);
		if (msix_pending(function, i))
			failures += fail("pending bits after a write", "as they were", "set");
	}
	failures += check_works(s, "messages to nowhere");
	for (uint32_t i = 0; i < function->vectors; i++)
		msix_mask(function, i, true);
	return failures;
}

/* The driver's view of a BAR that has moved for good. */
static void follow_bar(struct pci_function *function, unsigned bar, uint64_t to)
{
	struct pci_bar *b = &function->bars[bar];

	if (function->table - b->base < b->bytes)
		function->table += to - b->base;
	if (function->pending - b->base < b->bytes)
		function->pending += to - b->base;
	b->base = to;
}

/*
 * To another place in the window and back, with decoding off as a driver does it: it must work
 * there.
 */
static int move_properly(struct scan *s, unsigned bar, uint64_t to)
{
	struct pci_function *function = s->function;
	uint64_t home = function->bars[bar].base, places[2] = {to, home};
	int failures = 0;

	if (!to || to == home || !machine_map(to))
		return 0;
	for (unsigned i = 0; i < 2; i++) {
		pci_write(function, PCI_COMMAND, 0, 2);
		pci_move_bar(function, bar, places[i]);
		pci_write(function, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
		follow_bar(function, bar, places[i]);
		s->moves++;
		failures += check_works(s, i ? "moving a BAR back" : "moving a BAR");
	}
	return failures;
}

/* RAM stays RAM, whatever is said to lie on it. */
static int check_ram(struct scan *s, uint64_t bytes)
{
	volatile uint64_t *word = (volatile uint64_t *)(void *)s->ram;

	for (uint64_t i = 0; i < bytes / 8; i += 64) {
		if (word[i] != i * 3)
			return fail_number("RAM under a BAR", i * 3, word[i]);
		word[i] = ~i;
		if (word[i] != ~i)
			return fail_number("RAM under a BAR, written", ~i, word[i]);
		word[i] = i * 3;
	}
	return 0;
}

static unsigned bad_places(const struct scan *s, unsigned bar, uint64_t places[MAX_PLACES])
{
	const struct machine_range *window = &machine.pci_window;
	unsigned n = 0;

	places[n++] = (uint64_t)(uintptr_t)s->ram;
	places[n++] = 0;
	places[n++] = 0xfec00000;
	places[n++] = 0xfee00000;
	places[n++] = s->function->config;
	places[n++] = ~0ull;
	places[n++] = 1ull << 63;
	places[n++] = window->base + window->bytes;
	places[n++] = window->base - s->function->bars[bar].bytes;
	for (unsigned i = 0; i < pci_scan() && n < MAX_PLACES; i++) {
		if (&pci_functions[i] != s->function && pci_functions[i].bars[bar].bytes)
			places[n++] = pci_functions[i].bars[bar].base;
	}
	return n;
}

/* To where no BAR belongs, decoding on before or after; then home again. */
static int move_badly(struct scan *s, unsigned bar)
{
	struct pci_function *function = s->function;
	uint64_t home = function->bars[bar].base, bytes = function->bars[bar].bytes;
	uint64_t places[MAX_PLACES];
	unsigned count = bad_places(s, bar, places);
	int failures = 0;

	for (uint64_t i = 0; i < bytes / 8; i++)
		((volatile uint64_t *)(void *)s->ram)[i] = i * 3;
	for (unsigned i = 0; i < 2 * count; i++) {
		pci_write(function, PCI_COMMAND, i & 1 ? 2 : 0, 2);
		pci_move_bar(function, bar, places[i / 2]);
		pci_write(function, PCI_COMMAND, 6, 2);
		if (i / 2 == 0)
			failures += check_ram(s, bytes);
		mmio_read(home, 4);
		mmio_write(home + 0x3000, 0, 2);
		pci_write(function, PCI_COMMAND, 0, 2);
		pci_move_bar(function, bar, home);
		pci_write(function, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
		s->moves++;
	}
	return failures + check_works(s, "moving BARs to bad places");
}

static int move_bars(struct scan *s)
{
	const struct machine_range *window = &machine.pci_window;
	int failures = 0;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &s->function->bars[i];

		if (!bar->bytes || !bar->wide)
			continue;
		s->ram = machine_alloc(bar->bytes, bar->bytes);
		if (!s->ram)
			return fail("memory under a BAR", "some", "none");
		failures += move_properly(
			s, i, window->bytes ? window->base + window->bytes - bar->bytes : 0);
		failures += move_properly(s, i, window->bytes ? window->base + (64u << 20) : 0);
		failures += move_badly(s, i);
	}
	return failures;
}

static int scan_function(struct scan *s)
{
	int failures = read_config(s) + write_config(s);

	if (s->function->vendor != PCI_VENDOR_VIRTIO || !s->function->msix)
		return failures;
	failures += check_works(s, "writes to the configuration");
	if (!failures)
		failures = scan_bars(s);
	if (!failures)
		failures = scan_messages(s);
	return failures ? failures : move_bars(s);
}

int command_config_scan(const char *value)
{
	struct scan s = {.random = 1};
	uint64_t mark = machine_mark();
	int failures = 0;

	parse_number(&value, &s.random);
	if (!pci_scan())
		return fail("PCI functions", "some", "none");
	s.ports = pci_port_read(pci_functions[0].slot, 0, 2) == pci_functions[0].vendor;
	for (unsigned i = 0; i < pci_scan() && !failures; i++) {
		s.function = &pci_functions[i];
		failures = scan_function(&s);
		if (failures)
			print("config-scan: slot %u failed\n", s.function->slot);
	}
	if (!failures && pci_functions[0].config)
		failures = scan_empty_slots(
			&s, pci_functions[0].config - pci_functions[0].slot * SLOT_BYTES);
	machine_release(mark);
	if (!failures)
		print("config-scan: %u functions, %s, %lu reads, %lu writes, %lu moves: ok\n",
			pci_scan(), s.ports ? "memory and ports" : "no ports", s.reads, s.writes,
			s.moves);
	return failures > 0;
}
