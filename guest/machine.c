// SPDX-License-Identifier: Apache-2.0
/*
 * Reads what the VMM handed over: the PVH start info, the device tree in its second module or the
 * words of the command line in its place, and how fast the time-stamp counter runs.
 */
#include "machine.h"

#include "fdt.h"
#include "print.h"
#include "ring0.h"
#include "words.h"

#define START_MAGIC  0x336ec578
#define RAM          1
#define COMMAND_LINE 8192
#define HIGH_START   (1ull << 32)
#define HIGH_END     (1ull << 39)
#define GIB          (1ull << 30)
#define MSR_KVMCLOCK 0x4b564d01
#define SPARE_TABLES 6 /* for registers above 4 GiB */

/* PVH boot ABI, x86/HVM direct boot: hvm_start_info, hvm_modlist_entry, hvm_memmap_table_entry. */
struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, ranges;
	uint32_t range_count, reserved;
};

struct start_module {
	uint64_t base, bytes, cmdline, reserved;
};

struct start_range {
	uint64_t base, bytes;
	uint32_t type, reserved;
};

/* KVM's pvclock_vcpu_time_info, which it writes to the page that the guest names. */
struct kvm_clock {
	volatile uint32_t version;
	uint32_t pad;
	uint64_t tsc_timestamp, system_time;
	volatile uint32_t tsc_to_system_mul;
	volatile int8_t tsc_shift;
	uint8_t flags, pad2[2];
} __attribute__((aligned(64)));

struct machine machine;

extern char guest_end[];
extern uint64_t pml4[512], pdpt[512];

static char command_line[COMMAND_LINE];
static uint64_t heap_next, heap_end;
static uint64_t ns_multiplier; /* nanoseconds a tick, times 2^32 */

static const void *at(uint64_t address)
{
	return (const void *)(uintptr_t)address;
}

/* No word has more bytes than it has in `text`, so only what is longer than the buffer is cut. */
static void read_command_line(const char *text)
{
	char *to = command_line;

	while (machine.word_count < MAX_WORDS) {
		size_t left = (size_t)(command_line + COMMAND_LINE - to);

		text = left > 0 ? words_next(text, to, left) : NULL;
		if (!text)
			break;
		machine.words[machine.word_count++] = to;
		while (*to++)
			;
	}
}

static const char *word_value(const char *word, const char *name)
{
	while (*name && *word == *name) {
		word++;
		name++;
	}
	if (*name || (*word && *word != '='))
		return NULL;
	return *word ? word + 1 : word;
}

const char *machine_word(const char *name)
{
	for (unsigned i = 0; i < machine.word_count; i++) {
		const char *value = word_value(machine.words[i], name);

		if (value)
			return value;
	}
	return NULL;
}

static void read_ranges(const struct start_info *info)
{
	const struct start_range *from = at(info->ranges);
	uint64_t end = (uint64_t)(uintptr_t)guest_end;

	if (info->version < 1 || !from)
		return;
	for (uint32_t i = 0; i < info->range_count && i < MAX_RANGES; i++) {
		machine.ranges[i] =
			(struct machine_range){from[i].base, from[i].bytes, from[i].type};
		machine.range_count++;
		if (from[i].type == RAM && from[i].base < end && end - from[i].base < from[i].bytes)
			heap_end = from[i].base + from[i].bytes;
	}
	heap_next = (end + 0x1fffff) & ~0x1fffffull;
	if (heap_end > HIGH_START)
		heap_end = HIGH_START;
}

static void add_device(uint64_t base, uint64_t bytes, uint64_t gsi)
{
	if (machine.device_count < MAX_DEVICES)
		machine.devices[machine.device_count++] =
			(struct machine_device){base, bytes, (uint32_t)gsi};
}

/* A PCI root: its configuration space and, of its `ranges` (3 + 2 + 2 cells), the 64-bit window. */
static void read_pci_root(const struct fdt_node *node)
{
	uint64_t kind, base, bytes;

	if (!fdt_cells(node->reg, 0, 2, &machine.ecam))
		machine.ecam = 0;
	for (size_t i = 0; fdt_cells(node->ranges, i, 1, &kind); i += 7) {
		if ((kind >> 24 & 3) == 3 && fdt_cells(node->ranges, i + 3, 2, &base) &&
			fdt_cells(node->ranges, i + 5, 2, &bytes))
			machine.pci_window = (struct machine_range){base, bytes, 0};
	}
}

static void visit_node(void *context, const struct fdt_node *node, const struct fdt_node *parent)
{
	uint64_t base, bytes, gsi, id;

	(void)context;
	if (fdt_compatible(node, "virtio,mmio") && fdt_cells(node->reg, 0, 2, &base) &&
		fdt_cells(node->reg, 2, 2, &bytes) && fdt_cells(node->interrupts, 0, 1, &gsi))
		add_device(base, bytes, gsi);
	if (fdt_compatible(node, "pci-host-ecam-generic"))
		read_pci_root(node);
	if (parent && text_equal(parent->name, "cpus") && node->reg.bytes &&
		fdt_cells(node->reg, 0, node->reg.bytes / 4, &id) && machine.cpu_count < MAX_CPUS)
		machine.apic_ids[machine.cpu_count++] = (uint32_t)id;
	if (text_equal(node->name, "cpus") && node->timebase.bytes &&
		fdt_cells(node->timebase, 0, node->timebase.bytes / 4, &machine.tsc_hz))
		machine.tsc_source = "device tree";
}

/* The device tree is the module after the initrd's, and is named by its own command line. */
static bool read_device_tree(const struct start_info *info)
{
	const struct start_module *module = at(info->modules);

	if (info->module_count < 2 || !module)
		return false;
	module++;
	if (!module->base || !module->cmdline || !text_equal(at(module->cmdline), "dtb"))
		return false;
	if (fdt_walk(at(module->base), module->bytes, visit_node, NULL))
		print("machine: the device tree is broken\n");
	machine.device_source = "device tree";
	return true;
}

/* Linux's virtio_mmio.device=SIZE@BASE:IRQ, SIZE with an optional K. */
static void read_device_word(const char *value)
{
	uint64_t bytes, base, gsi;

	if (!parse_number(&value, &bytes))
		return;
	if (*value == 'K' || *value == 'k') {
		bytes <<= 10;
		value++;
	}
	if (*value++ != '@' || !parse_number(&value, &base) || *value++ != ':' ||
		!parse_number(&value, &gsi))
		return;
	add_device(base, bytes, gsi);
}

static void read_words(void)
{
	const char *cpus = machine_word("cpus");
	uint64_t n;

	machine.device_source = "command line";
	for (unsigned i = 0; i < machine.word_count; i++) {
		const char *value = word_value(machine.words[i], "virtio_mmio.device");

		if (value)
			read_device_word(value);
	}
	if (!cpus || !parse_number(&cpus, &n) || !n)
		n = 1;
	for (; machine.cpu_count < n && machine.cpu_count < MAX_CPUS; machine.cpu_count++)
		machine.apic_ids[machine.cpu_count] = machine.cpu_count;
}

static bool has_kvm_clock(void)
{
	struct cpuid_regs r = ring0_cpuid(0x40000000, 0);

	return r.ebx == 0x4b4d564b && r.ecx == 0x564b4d56 && r.edx == 0x4d &&
	       (ring0_cpuid(0x40000001, 0).eax & 8);
}

static uint64_t kvm_clock_hz(void)
{
	static struct kvm_clock clock;
	uint64_t hz;

	if (!has_kvm_clock())
		return 0;
	ring0_wrmsr(MSR_KVMCLOCK, (uint64_t)(uintptr_t)&clock | 1);
	for (unsigned i = 0; !clock.tsc_to_system_mul && i < 1000000; i++)
		cpu_relax();
	ring0_wrmsr(MSR_KVMCLOCK, 0);
	if (!clock.tsc_to_system_mul)
		return 0;
	hz = (1000000000ull << 32) / clock.tsc_to_system_mul;
	return clock.tsc_shift < 0 ? hz << -clock.tsc_shift : hz >> clock.tsc_shift;
}

static void read_clock(void)
{
	const char *khz = machine_word("tsc_khz");
	uint64_t n;

	if (!machine.tsc_hz) {
		machine.tsc_hz = kvm_clock_hz();
		machine.tsc_source = "kvm-clock";
	}
	if (!machine.tsc_hz && khz && parse_number(&khz, &n)) {
		machine.tsc_hz = n * 1000;
		machine.tsc_source = "tsc_khz=";
	}
	if (machine.tsc_hz < 1000000) {
		machine.tsc_hz = 1000000000;
		machine.tsc_source = "unknown, 1 GHz assumed";
	}
	ns_multiplier = (1000000000ull << 32) / machine.tsc_hz;
}

bool machine_read(const struct start_info *info)
{
	if (info->magic != START_MAGIC)
		return false;
	if (info->cmdline)
		read_command_line(at(info->cmdline));
	read_ranges(info);
	if (!read_device_tree(info))
		read_words();
	read_clock();
	return true;
}

uint64_t machine_ram_bytes(void)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < machine.range_count; i++) {
		if (machine.ranges[i].type == RAM)
			bytes += machine.ranges[i].bytes;
	}
	return bytes;
}

void *machine_alloc(size_t bytes, size_t align)
{
	uint64_t start = (heap_next + align - 1) & ~(uint64_t)(align - 1);

	if (start > heap_end || bytes > heap_end - start)
		return NULL;
	heap_next = start + bytes;
	return (void *)(uintptr_t)start;
}

uint64_t machine_available(void)
{
	return heap_end > heap_next ? heap_end - heap_next : 0;
}

uint64_t machine_mark(void)
{
	return heap_next;
}

void machine_release(uint64_t mark)
{
	heap_next = mark;
}

static void fill_directory(uint64_t *directory, uint64_t base)
{
	for (unsigned i = 0; i < 512; i++)
		directory[i] = base + i * 0x200000ull + 0xe7;
}

/* A page directory of 2 MiB pages for the gigabyte at `base`, where 1 GiB pages are lacking. */
static uint64_t small_directory(uint64_t base)
{
	uint64_t *directory = machine_alloc(4096, 4096);

	if (!directory)
		return 0;
	fill_directory(directory, base);
	return (uint64_t)(uintptr_t)directory + 0x27;
}

void machine_map_high(void)
{
	bool giant = ring0_cpuid(0x80000001, 0).edx & (1u << 26);

	for (unsigned i = 0; i < machine.range_count; i++) {
		const struct machine_range *r = &machine.ranges[i];
		uint64_t base = r->base & ~(GIB - 1);

		for (; r->type == RAM && base < r->base + r->bytes && base < HIGH_END;
			base += GIB) {
			if (base >= HIGH_START && !pdpt[base / GIB])
				pdpt[base / GIB] = giant ? base + 0xe7 : small_directory(base);
		}
	}
}

/* A page for a table, or 0: not aligned by the linker, which would align the file as well. */
static uint64_t *spare_table(void)
{
	static uint64_t spare[(SPARE_TABLES + 1) * 512];
	static unsigned used;

	if (used == SPARE_TABLES)
		return NULL;
	return (uint64_t *)(((uintptr_t)spare + 4095) & ~4095ul) + 512 * (size_t)used++;
}

bool machine_map(uint64_t address)
{
	uint64_t base = address & ~(GIB - 1), *table = pdpt, *page;
	unsigned top = (unsigned)(address >> 39);

	if (top >= 256)
		return false;
	if (!pml4[top]) {
		page = spare_table();
		if (!page)
			return false;
		pml4[top] = (uint64_t)(uintptr_t)page + 0x27;
	}
	if (top)
		table = (uint64_t *)(uintptr_t)(pml4[top] & ~0xfffull);
	table += base / GIB % 512;
	if (*table)
		return true;
	if (ring0_cpuid(0x80000001, 0).edx & (1u << 26)) {
		*table = base + 0xe7;
		return true;
	}
	page = spare_table();
	if (!page)
		return false;
	fill_directory(page, base);
	*table = (uint64_t)(uintptr_t)page + 0x27;
	return true;
}

uint64_t ticks_to_ns(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * ns_multiplier) >> 32);
}

uint64_t ns_to_ticks(uint64_t ns)
{
	return ns / 1000 * (machine.tsc_hz / 1000) / 1000;
}

void delay_us(uint64_t us)
{
	uint64_t end = rdtsc() + ns_to_ticks(us * 1000);

	while (rdtsc() < end)
		cpu_relax();
}
