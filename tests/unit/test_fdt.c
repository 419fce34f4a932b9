// SPDX-License-Identifier: Apache-2.0
//
// The device tree of several machines, read back with libfdt and checked by dtc.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/x86/fdt.h"
#include "base/macros.h"

static const struct vn_memory small_memory = {
	.ram = {{.start = {0}, .size = 256 * MIB}},
	.ram_count = 1,
	.size = 256 * MIB,
	.cells = {{.parts = {{{0}, 256 * MIB}}, .part_count = 1}},
	.cell_count = 1,
};

static const struct vn_memory large_memory = {
	.ram = {{.start = {0}, .size = VN_MAP_HOLE},
		{.start = {VN_MAP_HIGH_RAM}, .size = 5120 * MIB}},
	.ram_count = 2,
	.size = VN_MAP_HOLE + 5120 * MIB,
	.cells = {{.parts = {{{0}, VN_MAP_HOLE}, {{VN_MAP_HIGH_RAM}, 5120 * MIB}},
		.part_count = 2}},
	.cell_count = 1,
};

static struct vn_machine machine_of(unsigned cpus, const struct vn_memory *memory)
{
	return (struct vn_machine){.cpus = cpus,
		.topology = {1, 1, cpus, 1, 0},
		.memory = memory,
		.cmdline = "console=ttyS0"};
}

static void add_slot(struct vn_machine *machine, unsigned slot)
{
	machine->virtio[slot] = (struct vn_machine_virtio){
		.base = VN_MAP_VIRTIO + slot * VN_MAP_VIRTIO_STEP,
		.size = VN_MAP_VIRTIO_STEP,
		.gsi = VN_GSI_VIRTIO + slot,
	};
}

static void *build(const struct vn_machine *machine)
{
	struct veneer_error error = {.code = 0};
	void *blob = NULL;
	size_t size = 0;

	if (vn_fdt_build(machine, &blob, &size, &error) != 0)
		fail_msg("%s", error.message);
	assert_int_equal(fdt_check_full(blob, size), 0);
	assert_int_equal(fdt_totalsize(blob), size);
	return blob;
}

static const void *property(const void *blob, const char *path, const char *name, int size)
{
	int node = fdt_path_offset(blob, path);
	int length = 0;
	const void *value;

	if (node < 0)
		fail_msg("%s: %s", path, fdt_strerror(node));
	value = fdt_getprop(blob, node, name, &length);
	if (!value)
		fail_msg("%s: no %s", path, name);
	assert_int_equal(length, size);
	return value;
}

static uint64_t u64_at(const void *value, unsigned index)
{
	return fdt64_ld((const fdt64_t *)value + index);
}

static uint32_t u32_at(const void *value, unsigned index)
{
	return fdt32_ld((const fdt32_t *)value + index);
}

static void check_string(const void *blob, const char *path, const char *name, const char *expected)
{
	const char *value = property(blob, path, name, (int)strlen(expected) + 1);

	assert_string_equal(value, expected);
}

static void check_reg(const void *blob, const char *path, uint64_t base, uint64_t size)
{
	const void *reg = property(blob, path, "reg", 16);

	assert_int_equal(u64_at(reg, 0), base);
	assert_int_equal(u64_at(reg, 1), size);
}

static void check_interrupt(const void *blob, const char *path, uint32_t gsi)
{
	const void *interrupts = property(blob, path, "interrupts", 8);

	assert_int_equal(u32_at(interrupts, 0), gsi);
	assert_int_equal(u32_at(interrupts, 1), 3);
}

static void describes_chosen(void **state)
{
	struct vn_machine machine = machine_of(1, &small_memory);
	void *blob;

	(void)state;
	blob = build(&machine);
	check_string(blob, "/chosen", "bootargs", "console=ttyS0");
	check_string(blob, "/chosen", "stdout-path", "/isa@3f8/serial@3f8");
	assert_true(fdt_path_offset(blob, "/isa@3f8/serial@3f8") >= 0);
	assert_null(
		fdt_getprop(blob, fdt_path_offset(blob, "/chosen"), "linux,initrd-start", NULL));
	free(blob);

	machine.initrd_start = 0x8000000;
	machine.initrd_end = 0x8001234;
	blob = build(&machine);
	assert_int_equal(u64_at(property(blob, "/chosen", "linux,initrd-start", 8), 0), 0x8000000);
	assert_int_equal(u64_at(property(blob, "/chosen", "linux,initrd-end", 8), 0), 0x8001234);
	free(blob);
}

static void describes_cpus(void **state)
{
	static const unsigned counts[] = {1, 2, 3, 4, VN_CPUS_MAX};

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(counts); n++) {
		struct vn_machine machine = machine_of(counts[n], &small_memory);
		void *blob = build(&machine);
		unsigned seen = 0;
		int node;

		assert_null(fdt_getprop(
			blob, fdt_path_offset(blob, "/cpus"), "timebase-frequency", NULL));
		fdt_for_each_subnode(node, blob, fdt_path_offset(blob, "/cpus"))
		{
			char path[32];

			if (strcmp(fdt_get_name(blob, node, NULL), "cpu-map") == 0)
				continue;
			snprintf(path, sizeof(path), "/cpus/cpu@%x", seen);
			check_string(blob, path, "device_type", "cpu");
			assert_int_equal(u32_at(property(blob, path, "reg", 4), 0), seen);
			seen++;
		}
		assert_int_equal(seen, counts[n]);
		free(blob);

		machine.tsc_hz = 6000000000;
		blob = build(&machine);
		assert_int_equal(
			u64_at(property(blob, "/cpus", "timebase-frequency", 8), 0), 6000000000);
		free(blob);
	}
}

// The CPU that a node of the map points to, by its APIC id.
static uint32_t mapped(const void *blob, const char *path)
{
	uint32_t phandle = u32_at(property(blob, path, "cpu", 4), 0);
	const void *id = fdt_getprop(blob, fdt_node_offset_by_phandle(blob, phandle), "reg", NULL);

	assert_non_null(id);
	return u32_at(id, 0);
}

static void maps_cpus(void **state)
{
	struct vn_machine machine = machine_of(12, &small_memory);
	void *blob;

	(void)state;
	machine.topology = (struct vn_topology){2, 1, 3, 2, 0};
	blob = build(&machine);
	assert_int_equal(mapped(blob, "/cpus/cpu-map/socket0/cluster0/core0/thread0"), 0);
	assert_int_equal(mapped(blob, "/cpus/cpu-map/socket0/cluster0/core2/thread1"), 5);
	assert_int_equal(mapped(blob, "/cpus/cpu-map/socket1/cluster0/core0/thread0"), 8);
	assert_int_equal(mapped(blob, "/cpus/cpu-map/socket1/cluster0/core2/thread1"), 13);
	free(blob);

	machine.topology = (struct vn_topology){1, 4, 3, 1, 0};
	blob = build(&machine);
	assert_int_equal(mapped(blob, "/cpus/cpu-map/socket0/cluster3/core2"), 14);
	free(blob);
}

static void describes_memory(void **state)
{
	struct vn_machine machine = machine_of(1, &small_memory);
	void *blob;

	(void)state;
	blob = build(&machine);
	check_reg(blob, "/memory@0", 0, 256 * MIB);
	assert_int_equal(fdt_path_offset(blob, "/memory@100000000"), -FDT_ERR_NOTFOUND);
	free(blob);

	machine.memory = &large_memory;
	blob = build(&machine);
	check_reg(blob, "/memory@0", 0, VN_MAP_HOLE);
	check_reg(blob, "/memory@100000000", VN_MAP_HIGH_RAM, 5120 * MIB);
	check_string(blob, "/memory@100000000", "device_type", "memory");
	free(blob);
}

// Two cells, of which the second is on both sides of the hole, and three CPUs.
static void add_cells(struct vn_machine *machine, struct vn_memory *memory)
{
	static const uint8_t cell_of[VN_CPUS_MAX] = {1, 0, 1};

	*memory = (struct vn_memory){
		.cells = {{.parts = {{{0}, 1024 * MIB}}, .part_count = 1},
			{.parts = {{{1024 * MIB}, 2048 * MIB}, {{VN_MAP_HIGH_RAM}, 512 * MIB}},
				.part_count = 2}},
		.cell_count = 2,
	};
	machine->memory = memory;
	machine->numa = (struct vn_machine_numa){
		.cell_count = 2, .cell_of = cell_of, .distance = {{10, 21}, {22, 10}}};
}

static void describes_cells(void **state)
{
	static const uint32_t distances[] = {0, 0, 10, 0, 1, 21, 1, 0, 22, 1, 1, 10};
	static const struct {
		const char *path;
		uint32_t cell;
	} nodes[] = {{"/cpus/cpu@0", 1}, {"/cpus/cpu@1", 0}, {"/cpus/cpu@2", 1}, {"/memory@0", 0},
		{"/memory@40000000", 1}, {"/memory@100000000", 1}};
	struct vn_machine machine = machine_of(3, &small_memory);
	struct vn_memory memory;
	const void *matrix;
	void *blob;

	(void)state;
	blob = build(&machine);
	assert_null(fdt_getprop(blob, fdt_path_offset(blob, "/memory@0"), "numa-node-id", NULL));
	assert_int_equal(fdt_path_offset(blob, "/distance-map"), -FDT_ERR_NOTFOUND);
	free(blob);
	add_cells(&machine, &memory);
	blob = build(&machine);
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		assert_int_equal(
			u32_at(property(blob, nodes[i].path, "numa-node-id", 4), 0), nodes[i].cell);
	check_reg(blob, "/memory@40000000", 1024 * MIB, 2048 * MIB);
	check_reg(blob, "/memory@100000000", VN_MAP_HIGH_RAM, 512 * MIB);
	check_string(blob, "/distance-map", "compatible", "numa-distance-map-v1");
	matrix = property(blob, "/distance-map", "distance-matrix", sizeof(distances));
	for (unsigned i = 0; i < ARRAY_SIZE(distances); i++)
		assert_int_equal(u32_at(matrix, i), distances[i]);
	free(blob);
}

static void describes_devices(void **state)
{
	(void)state;
	for (unsigned slot = 0; slot < VN_VIRTIO_SLOTS; slot++) {
		struct vn_machine machine = machine_of(1, &small_memory);
		uint64_t base = VN_MAP_VIRTIO + slot * VN_MAP_VIRTIO_STEP;
		char path[64];
		void *blob;
		int node;

		add_slot(&machine, slot);
		blob = build(&machine);
		snprintf(path, sizeof(path), "/virtio_mmio@%llx", (unsigned long long)base);
		check_string(blob, path, "compatible", "virtio,mmio");
		check_reg(blob, path, base, VN_MAP_VIRTIO_STEP);
		check_interrupt(blob, path, VN_GSI_VIRTIO + slot);
		node = fdt_node_offset_by_compatible(blob, -1, "virtio,mmio");
		assert_int_equal(fdt_node_offset_by_compatible(blob, node, "virtio,mmio"),
			-FDT_ERR_NOTFOUND);
		free(blob);
	}
}

static void describes_platform(void **state)
{
	struct vn_machine machine = machine_of(1, &small_memory);
	void *blob;
	const void *reg;
	uint32_t parent;
	int ioapic;

	(void)state;
	blob = build(&machine);
	check_string(blob, "/isa@3f8/serial@3f8", "compatible", "ns16550a");
	check_interrupt(blob, "/isa@3f8/serial@3f8", VN_GSI_SERIAL);
	reg = property(blob, "/isa@3f8/serial@3f8", "reg", 12);
	assert_int_equal(u32_at(reg, 0), 1); // port space
	assert_int_equal(u32_at(reg, 1), VN_PORT_SERIAL);
	assert_int_equal(u32_at(reg, 2), 8);
	check_reg(blob, "/interrupt-controller@fec00000", VN_MAP_IOAPIC, 0x1000);
	check_reg(blob, "/interrupt-controller@fee00000", VN_MAP_LAPIC, 0x1000);
	parent = u32_at(property(blob, "/", "interrupt-parent", 4), 0);
	ioapic = fdt_node_offset_by_phandle(blob, parent);
	assert_int_equal(ioapic, fdt_path_offset(blob, "/interrupt-controller@fec00000"));
	assert_int_equal(fdt_node_check_compatible(blob, ioapic, "intel,ce4100-ioapic"), 0);
	free(blob);
}

// What would not fit is refused, not cut off.
static void describes_pci(void **state)
{
	struct vn_machine machine = machine_of(1, &large_memory);
	const void *ranges;
	void *blob;

	(void)state;
	blob = build(&machine);
	assert_true(fdt_path_offset(blob, "/pci@e0000000") < 0);
	free(blob);
	machine.pci = (struct vn_machine_window){0x240000000, 0x400000000};
	blob = build(&machine);
	check_string(blob, "/pci@e0000000", "compatible", "pci-host-ecam-generic");
	check_string(blob, "/pci@e0000000", "device_type", "pci");
	check_reg(blob, "/pci@e0000000", VN_MAP_ECAM, VN_MAP_ECAM_SIZE);
	assert_int_equal(u64_at(property(blob, "/pci@e0000000", "bus-range", 8), 0), 0);
	ranges = property(blob, "/pci@e0000000", "ranges", 28);
	assert_int_equal(u32_at(ranges, 0), 0x03000000);
	for (unsigned i = 0; i < 2; i++) { // the same on both sides
		assert_int_equal(u32_at(ranges, 1 + 2 * i), 2);
		assert_int_equal(u32_at(ranges, 2 + 2 * i), 0x40000000);
	}
	assert_int_equal(u32_at(ranges, 5), 4);
	assert_int_equal(u32_at(ranges, 6), 0);
	free(blob);
}

static void too_large(void **state)
{
	struct vn_machine machine = machine_of(1, &small_memory);
	struct veneer_error error = {.code = 0};
	void *blob = NULL;
	size_t size;
	char *cmdline = test_malloc(70000);

	(void)state;
	memset(cmdline, 'x', 69999);
	cmdline[69999] = '\0';
	machine.cmdline = cmdline;
	assert_int_equal(vn_fdt_build(&machine, &blob, &size, &error), -ENOSPC);
	assert_null(blob);
	assert_true(error.message[0] != '\0');
	test_free(cmdline);
}

// The largest machine there is, with the longest command line.
static void *largest(char *cmdline)
{
	struct vn_machine machine = machine_of(VN_CPUS_MAX, &large_memory);
	struct vn_memory memory;

	add_cells(&machine, &memory);
	memset(cmdline, 'x', VN_MAP_CMDLINE_MAX - 1);
	cmdline[VN_MAP_CMDLINE_MAX - 1] = '\0';
	machine.cmdline = cmdline;
	machine.tsc_hz = 2100000000;
	machine.initrd_start = 0xb0000000;
	machine.initrd_end = 0xbfffffff;
	for (unsigned slot = 0; slot < VN_VIRTIO_SLOTS; slot++)
		add_slot(&machine, slot);
	return build(&machine);
}

// dtc's own checks, and what it says of them.
static void pleases_dtc(void **state)
{
	char dtb[] = "/tmp/veneer-test-dtb-XXXXXX";
	char cmdline[VN_MAP_CMDLINE_MAX];
	char command[256], line[512];
	bool complained = false;
	FILE *output;
	void *blob;
	int fd;

	(void)state;
	if (system("command -v dtc >/dev/null") != 0) {
		print_message("# dtc (package device-tree-compiler) is missing\n");
		skip();
	}
	blob = largest(cmdline);
	fd = mkstemp(dtb);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, blob, fdt_totalsize(blob)), fdt_totalsize(blob));
	close(fd);
	free(blob);
	snprintf(command, sizeof(command), "dtc -I dtb -O dts -o /dev/null %s 2>&1", dtb);
	output = popen(command, "r");
	assert_non_null(output);
	while (fgets(line, sizeof(line), output)) {
		print_message("# %s", line);
		complained = true;
	}
	assert_int_equal(pclose(output), 0);
	unlink(dtb);
	assert_false(complained);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(describes_chosen),
		cmocka_unit_test(describes_cpus),
		cmocka_unit_test(maps_cpus),
		cmocka_unit_test(describes_memory),
		cmocka_unit_test(describes_cells),
		cmocka_unit_test(describes_devices),
		cmocka_unit_test(describes_platform),
		cmocka_unit_test(describes_pci),
		cmocka_unit_test(too_large),
		cmocka_unit_test(pleases_dtc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
