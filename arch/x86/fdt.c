// SPDX-License-Identifier: Apache-2.0
//
// The device tree, written front to back with libfdt. Interrupt controllers and buses carry the
// names by which Linux's x86 device-tree code (arch/x86/kernel/devicetree.c) knows them.
#include "arch/x86/fdt.h"

#include <errno.h>
#include <libfdt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

#define BLOB_SIZE      (64 * KIB) // 64 CPUs and a full command line take less than 16 KiB
#define PHANDLE_IOAPIC 1
#define PHANDLE_CPU    2 // of the first; the others follow
#define APIC_SIZE      0x1000 // bytes of an APIC's registers
#define SERIAL_PORTS   8
#define SERIAL_CLOCK   1843200 // Hz: divided by 16, 115200 baud
#define PCI_MEMORY_64  0x03000000 // first cell of a PCI address: 64-bit memory space
#define ISA_IO         1 // first cell of an ISA address: port space

// Second cell of an interrupt: edge triggered, active high, as the "intel,ce4100-ioapic" binding
// counts its types. The same number has meant this in all versions of Linux.
#define EDGE_HIGH 3

// A tree under construction. After the first failure all else does nothing, so that only the end
// needs to look.
struct tree {
	void *blob;
	int failed; // 0, or libfdt's error
};

static void note(struct tree *tree, int ret)
{
	if (tree->failed == 0)
		tree->failed = ret;
}

__attribute__((format(printf, 2, 3))) static void begin(struct tree *tree, const char *format, ...)
{
	char name[64];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	if (tree->failed == 0)
		note(tree, fdt_begin_node(tree->blob, name));
}

static void end(struct tree *tree)
{
	if (tree->failed == 0)
		note(tree, fdt_end_node(tree->blob));
}

static void bytes(struct tree *tree, const char *name, const void *value, size_t size)
{
	if (tree->failed == 0)
		note(tree, fdt_property(tree->blob, name, value, (int)size));
}

static void empty(struct tree *tree, const char *name)
{
	bytes(tree, name, NULL, 0);
}

static void string(struct tree *tree, const char *name, const char *value)
{
	bytes(tree, name, value, strlen(value) + 1);
}

static void u32(struct tree *tree, const char *name, uint32_t value)
{
	fdt32_t cell = cpu_to_fdt32(value);

	bytes(tree, name, &cell, sizeof(cell));
}

static void u64(struct tree *tree, const char *name, uint64_t value)
{
	fdt64_t cells = cpu_to_fdt64(value);

	bytes(tree, name, &cells, sizeof(cells));
}

// `reg` of a node whose parent has two address and two size cells.
static void reg(struct tree *tree, uint64_t base, uint64_t size)
{
	fdt64_t cells[] = {cpu_to_fdt64(base), cpu_to_fdt64(size)};

	bytes(tree, "reg", cells, sizeof(cells));
}

static void interrupt(struct tree *tree, uint32_t gsi)
{
	fdt32_t cells[] = {cpu_to_fdt32(gsi), cpu_to_fdt32(EDGE_HIGH)};

	bytes(tree, "interrupts", cells, sizeof(cells));
}

static void add_chosen(struct tree *tree, const struct vn_machine *machine)
{
	char path[32];

	begin(tree, "chosen");
	string(tree, "bootargs", machine->cmdline);
	snprintf(path, sizeof(path), "/isa@%x/serial@%x", VN_PORT_SERIAL, VN_PORT_SERIAL);
	string(tree, "stdout-path", path);
	if (machine->initrd_end != 0) {
		u64(tree, "linux,initrd-start", machine->initrd_start);
		u64(tree, "linux,initrd-end", machine->initrd_end);
	}
	end(tree);
}

// A core that has threads holds a node for each, and one without is the CPU itself.
static void add_core(struct tree *tree, unsigned threads, unsigned core, uint32_t phandle)
{
	begin(tree, "core%u", core);
	if (threads == 1)
		u32(tree, "cpu", phandle);
	for (unsigned thread = 0; threads > 1 && thread < threads; thread++) {
		begin(tree, "thread%u", thread);
		u32(tree, "cpu", phandle + thread);
		end(tree);
	}
	end(tree);
}

// The binding of Linux's Documentation/devicetree/bindings/cpu/cpu-topology.txt; dies are clusters.
static void add_cpu_map(struct tree *tree, const struct vn_topology *topology)
{
	uint32_t phandle = PHANDLE_CPU;

	begin(tree, "cpu-map");
	for (unsigned socket = 0; socket < topology->sockets; socket++) {
		begin(tree, "socket%u", socket);
		for (unsigned die = 0; die < topology->dies; die++) {
			begin(tree, "cluster%u", die);
			for (unsigned core = 0; core < topology->cores; core++) {
				add_core(tree, topology->threads, core, phandle);
				phandle += topology->threads;
			}
			end(tree);
		}
		end(tree);
	}
	end(tree);
}

static void add_cpus(struct tree *tree, const struct vn_machine *machine)
{
	begin(tree, "cpus");
	u32(tree, "#address-cells", 1);
	u32(tree, "#size-cells", 0);
	if (machine->tsc_hz != 0)
		u64(tree, "timebase-frequency", machine->tsc_hz);
	for (uint32_t i = 0; i < machine->cpus; i++) {
		uint32_t id = vn_topology_apic_id(&machine->topology, i);

		begin(tree, "cpu@%x", id);
		string(tree, "device_type", "cpu");
		u32(tree, "reg", id);
		u32(tree, "phandle", PHANDLE_CPU + i);
		if (machine->numa.cell_count != 0)
			u32(tree, "numa-node-id", machine->numa.cell_of[i]);
		end(tree);
	}
	add_cpu_map(tree, &machine->topology);
	end(tree);
}

static void add_memory(struct tree *tree, const struct vn_machine *machine)
{
	for (unsigned i = 0; i < machine->memory->cell_count; i++) {
		const struct vn_memory_cell *cell = &machine->memory->cells[i];

		for (unsigned n = 0; n < cell->part_count; n++) {
			const struct vn_memory_part *part = &cell->parts[n];

			begin(tree, "memory@%llx", (unsigned long long)part->start.addr);
			string(tree, "device_type", "memory");
			reg(tree, part->start.addr, part->size);
			if (machine->numa.cell_count != 0)
				u32(tree, "numa-node-id", i);
			end(tree);
		}
	}
}

// From each cell to each, by devicetree's NUMA binding.
static void add_distances(struct tree *tree, const struct vn_machine_numa *numa)
{
	fdt32_t matrix[3 * VN_CELLS_MAX * VN_CELLS_MAX], *at = matrix;

	if (numa->cell_count == 0)
		return;
	for (uint32_t from = 0; from < numa->cell_count; from++) {
		for (uint32_t to = 0; to < numa->cell_count; to++) {
			*at++ = cpu_to_fdt32(from);
			*at++ = cpu_to_fdt32(to);
			*at++ = cpu_to_fdt32(numa->distance[from][to]);
		}
	}
	begin(tree, "distance-map");
	string(tree, "compatible", "numa-distance-map-v1");
	bytes(tree, "distance-matrix", matrix, (size_t)((char *)at - (char *)matrix));
	end(tree);
}

static void add_apics(struct tree *tree)
{
	begin(tree, "interrupt-controller@%llx", VN_MAP_IOAPIC);
	string(tree, "compatible", "intel,ce4100-ioapic");
	reg(tree, VN_MAP_IOAPIC, APIC_SIZE);
	empty(tree, "interrupt-controller");
	u32(tree, "#address-cells", 0);
	u32(tree, "#interrupt-cells", 2);
	u32(tree, "phandle", PHANDLE_IOAPIC);
	end(tree);

	begin(tree, "interrupt-controller@%llx", VN_MAP_LAPIC);
	string(tree, "compatible", "intel,ce4100-lapic");
	reg(tree, VN_MAP_LAPIC, APIC_SIZE);
	empty(tree, "interrupt-controller");
	u32(tree, "#address-cells", 0);
	u32(tree, "#interrupt-cells", 2);
	empty(tree, "intel,virtual-wire-mode"); // there is no IMCR to switch
	end(tree);
}

static void add_isa(struct tree *tree)
{
	// The one range that is used. Its parent address is a number in memory space, which x86
	// code takes for the same port.
	const fdt32_t ports[] = {cpu_to_fdt32(ISA_IO), cpu_to_fdt32(VN_PORT_SERIAL), 0,
		cpu_to_fdt32(VN_PORT_SERIAL), cpu_to_fdt32(SERIAL_PORTS)};
	const fdt32_t serial[] = {
		cpu_to_fdt32(ISA_IO), cpu_to_fdt32(VN_PORT_SERIAL), cpu_to_fdt32(SERIAL_PORTS)};

	begin(tree, "isa@%x", VN_PORT_SERIAL);
	string(tree, "compatible", "isa");
	u32(tree, "#address-cells", 2);
	u32(tree, "#size-cells", 1);
	bytes(tree, "ranges", ports, sizeof(ports));
	begin(tree, "serial@%x", VN_PORT_SERIAL);
	string(tree, "compatible", "ns16550a");
	bytes(tree, "reg", serial, sizeof(serial));
	interrupt(tree, VN_GSI_SERIAL);
	u32(tree, "clock-frequency", SERIAL_CLOCK);
	end(tree);
	end(tree);
}

static void add_virtio(struct tree *tree, const struct vn_machine *machine)
{
	for (unsigned i = 0; i < VN_VIRTIO_SLOTS; i++) {
		const struct vn_machine_virtio *slot = &machine->virtio[i];

		if (slot->size == 0)
			continue;
		begin(tree, "virtio_mmio@%llx", (unsigned long long)slot->base);
		string(tree, "compatible", "virtio,mmio");
		reg(tree, slot->base, slot->size);
		interrupt(tree, slot->gsi);
		end(tree);
	}
}

// Its children are found by asking them: the node says only where. Addresses behind it are those in
// front of it, as memory of 64 bits that is not prefetchable (IEEE 1275 PCI bus binding, 2.2.1.1).
static void add_pci(struct tree *tree, const struct vn_machine_window *window)
{
	const fdt32_t buses[] = {0, 0};
	const fdt32_t ranges[] = {cpu_to_fdt32(PCI_MEMORY_64),
		cpu_to_fdt32((uint32_t)(window->base >> 32)), cpu_to_fdt32((uint32_t)window->base),
		cpu_to_fdt32((uint32_t)(window->base >> 32)), cpu_to_fdt32((uint32_t)window->base),
		cpu_to_fdt32((uint32_t)(window->size >> 32)), cpu_to_fdt32((uint32_t)window->size)};

	if (window->size == 0)
		return;
	begin(tree, "pci@%llx", VN_MAP_ECAM);
	string(tree, "compatible", "pci-host-ecam-generic");
	string(tree, "device_type", "pci");
	reg(tree, VN_MAP_ECAM, VN_MAP_ECAM_SIZE);
	u32(tree, "#address-cells", 3);
	u32(tree, "#size-cells", 2);
	bytes(tree, "bus-range", buses, sizeof(buses));
	bytes(tree, "ranges", ranges, sizeof(ranges));
	end(tree);
}

static void add_root(struct tree *tree, const struct vn_machine *machine)
{
	begin(tree, "%s", "");
	string(tree, "compatible", "veneer,x86");
	string(tree, "model", "Veneer virtual machine");
	u32(tree, "#address-cells", 2);
	u32(tree, "#size-cells", 2);
	u32(tree, "interrupt-parent", PHANDLE_IOAPIC);
	add_chosen(tree, machine);
	add_cpus(tree, machine);
	add_memory(tree, machine);
	add_distances(tree, &machine->numa);
	add_apics(tree);
	add_isa(tree);
	add_pci(tree, &machine->pci);
	add_virtio(tree, machine);
	end(tree);
}

int vn_fdt_build(
	const struct vn_machine *machine, void **blob, size_t *size, struct veneer_error *error)
{
	struct tree tree = {.blob = malloc(BLOB_SIZE)};

	if (!tree.blob)
		return vn_fail(error, -ENOMEM, "no memory for the device tree");
	note(&tree, fdt_create(tree.blob, BLOB_SIZE));
	if (tree.failed == 0)
		note(&tree, fdt_finish_reservemap(tree.blob));
	add_root(&tree, machine);
	if (tree.failed == 0)
		note(&tree, fdt_finish(tree.blob));
	if (tree.failed != 0) {
		free(tree.blob);
		return vn_fail(error, tree.failed == -FDT_ERR_NOSPACE ? -ENOSPC : -EINVAL,
			"the device tree cannot be made: %s", fdt_strerror(tree.failed));
	}
	*blob = tree.blob;
	*size = fdt_totalsize(tree.blob); // fdt_finish() left no slack
	return 0;
}
