// SPDX-License-Identifier: Apache-2.0
//
// The ACPI tables as a kernel would find them: from the RSDP on, in guest memory, then by the
// disassembler, the compiler and the interpreter of ACPICA, whose code Linux uses.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/x86/acpi.h"
#include "base/macros.h"

static int make_memory(void **state)
{
	struct vn_memory_options options = {.size = 16 * MIB, .node = -1};
	struct vn_memory *memory = malloc(sizeof(*memory));
	struct veneer_error error = {.code = 0};

	if (!memory)
		return -1;
	*state = memory;
	if (vn_memory_create(memory, &options, VN_MAP_HOLE, &error) == 0)
		return 0;
	print_message("%s\n", error.message);
	return -1;
}

static int drop_memory(void **state)
{
	vn_memory_destroy(*state);
	free(*state);
	return 0;
}

static struct vn_machine machine_of(unsigned cpus, const struct vn_memory *memory)
{
	return (struct vn_machine){
		.cpus = cpus, .topology = {1, 1, cpus, 1, 0}, .memory = memory, .cmdline = ""};
}

static void add_slot(struct vn_machine *machine, unsigned slot)
{
	machine->virtio[slot] = (struct vn_machine_virtio){
		.base = VN_MAP_VIRTIO + slot * VN_MAP_VIRTIO_STEP,
		.size = VN_MAP_VIRTIO_STEP,
		.gsi = VN_GSI_VIRTIO + slot,
	};
}

static void add_pci(struct vn_machine *machine)
{
	machine->pci = (struct vn_machine_window){6 * GIB, 16 * GIB};
}

static uint8_t sum(const uint8_t *bytes, size_t length)
{
	uint8_t total = 0;

	for (size_t i = 0; i < length; i++)
		total = (uint8_t)(total + bytes[i]);
	return total;
}

static uint64_t number(const uint8_t *bytes, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, bytes, size);
	return value;
}

// The table at `gpa`: wholly in the area that E820 keeps for tables, adding up to 0.
static const uint8_t *table_at(
	const struct vn_memory *memory, uint64_t gpa, const char *signature, size_t *length)
{
	const uint8_t *table = vn_memory_at(memory, VN_GPA(gpa), 36);

	assert_true(gpa >= VN_MAP_ACPI);
	assert_non_null(table);
	assert_memory_equal(table, signature, 4);
	*length = number(table + 4, 4);
	assert_true(*length >= 36);
	assert_true(gpa + *length <= VN_MAP_BIOS_RESET);
	assert_int_equal(sum(table, *length), 0);
	return table;
}

struct tables {
	const uint8_t *fadt, *madt, *dsdt;
	const uint8_t *mcfg, *srat, *slit; // NULL without PCI, without cells
	size_t fadt_length, madt_length, dsdt_length, mcfg_length, srat_length, slit_length;
};

static void write_tables(const struct vn_machine *machine, struct tables *tables)
{
	const struct vn_memory *memory = machine->memory;
	struct veneer_error error = {.code = 0};
	const uint8_t *rsdp, *xsdt, *entry;
	size_t length;
	vn_gpa at;

	// What was there before must not shine through.
	memset(vn_memory_at(memory, VN_GPA(VN_MAP_ACPI), VN_MAP_ACPI_END - VN_MAP_ACPI), 0xa5,
		VN_MAP_ACPI_END - VN_MAP_ACPI);
	if (vn_acpi_write(machine, &at, &error) != 0)
		fail_msg("%s", error.message);
	assert_int_equal(at.addr % 16, 0);
	rsdp = vn_memory_at(memory, at, 36);
	assert_non_null(rsdp);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(number(rsdp + 20, 4), 36);

	xsdt = table_at(memory, number(rsdp + 24, 8), "XSDT", &length);
	entry = xsdt + 52; // behind FADT and MADT
	tables->mcfg = tables->srat = tables->slit = NULL;
	if (machine->pci.size != 0) {
		tables->mcfg = table_at(memory, number(entry, 8), "MCFG", &tables->mcfg_length);
		entry += 8;
	}
	if (machine->numa.cell_count != 0) {
		tables->srat = table_at(memory, number(entry, 8), "SRAT", &tables->srat_length);
		tables->slit = table_at(memory, number(entry + 8, 8), "SLIT", &tables->slit_length);
		entry += 16;
	}
	assert_ptr_equal(entry, xsdt + length);
	tables->fadt = table_at(memory, number(xsdt + 36, 8), "FACP", &tables->fadt_length);
	tables->madt = table_at(memory, number(xsdt + 44, 8), "APIC", &tables->madt_length);
	assert_int_equal(tables->fadt_length, 276);
	tables->dsdt =
		table_at(memory, number(tables->fadt + 140, 8), "DSDT", &tables->dsdt_length);
}

static void check_port(const uint8_t *address, uint64_t port)
{
	static const uint8_t byte_wide_port[] = {1, 8, 0, 1};

	assert_memory_equal(address, byte_wide_port, sizeof(byte_wide_port));
	assert_int_equal(number(address + 4, 8), port);
}

static void fadt_is_hardware_reduced(void **state)
{
	struct vn_machine machine = machine_of(1, *state);
	struct tables tables;

	write_tables(&machine, &tables);
	assert_int_equal(tables.fadt[8], 6);
	assert_int_equal(number(tables.fadt + 112, 4) >> 20 & 1, 1); // HW_REDUCED_ACPI
	assert_int_equal(number(tables.fadt + 112, 4) >> 10 & 1, 1); // RESET_REG_SUP
	assert_int_equal(number(tables.fadt + 109, 2), 0x24); // no VGA, no CMOS clock, no 8042
	check_port(tables.fadt + 116, VN_PORT_RESET);
	assert_int_equal(tables.fadt[128], VN_RESET_VALUE);
	check_port(tables.fadt + 244, VN_PORT_SLEEP_CONTROL);
	check_port(tables.fadt + 256, VN_PORT_SLEEP_STATUS);
}

static void madt_lists_cpus(void **state)
{
	static const unsigned counts[] = {1, 2, 3, 4, VN_CPUS_MAX};

	for (size_t n = 0; n < ARRAY_SIZE(counts); n++) {
		struct vn_machine machine = machine_of(counts[n], *state);
		const uint8_t *entry, *end;
		unsigned cpus = 0, ioapics = 0;
		struct tables tables;

		write_tables(&machine, &tables);
		assert_int_equal(number(tables.madt + 36, 4), VN_MAP_LAPIC);
		entry = tables.madt + 44;
		end = tables.madt + tables.madt_length;
		for (; entry < end; entry += entry[1]) {
			if (entry[0] == 0) {
				assert_int_equal(entry[1], 8);
				assert_int_equal(entry[2], cpus);
				assert_int_equal(entry[3], cpus);
				assert_int_equal(number(entry + 4, 4), 1);
				cpus++;
				continue;
			}
			assert_int_equal(entry[0], 1);
			assert_int_equal(entry[1], 12);
			assert_true(entry[2] >= counts[n]); // no CPU's id
			assert_int_equal(number(entry + 4, 4), VN_MAP_IOAPIC);
			assert_int_equal(number(entry + 8, 4), 0);
			ioapics++;
		}
		assert_ptr_equal(entry, end);
		assert_int_equal(cpus, counts[n]);
		assert_int_equal(ioapics, 1);
	}
}

// Ids that do not fit into a local APIC's entry have an x2APIC's.
static void madt_lists_wide_ids(void **state)
{
	struct vn_machine machine = machine_of(300, *state);
	const uint8_t *entry, *end;
	unsigned cpus = 0;
	struct tables tables;

	write_tables(&machine, &tables);
	entry = tables.madt + 44;
	end = tables.madt + tables.madt_length;
	for (; entry < end; entry += entry[1]) {
		if (entry[0] == 1)
			continue;
		assert_int_equal(entry[0], cpus < 255 ? 0 : 9);
		assert_int_equal(entry[1], cpus < 255 ? 8 : 16);
		if (cpus < 255) {
			assert_int_equal(entry[3], cpus);
		} else {
			assert_int_equal(number(entry + 2, 2), 0);
			assert_int_equal(number(entry + 4, 4), cpus);
			assert_int_equal(number(entry + 8, 4), 1);
			assert_int_equal(number(entry + 12, 4), cpus);
		}
		cpus++;
	}
	assert_ptr_equal(entry, end);
	assert_int_equal(cpus, 300);
}

// Of two sockets with three cores each: ids 3 and 7 are nobody's.
static void madt_lists_ids_with_gaps(void **state)
{
	static const uint8_t ids[] = {0, 1, 2, 4, 5, 6};
	struct vn_machine machine = machine_of(6, *state);
	const uint8_t *entry;
	struct tables tables;

	machine.topology = (struct vn_topology){2, 1, 3, 1, 0};
	write_tables(&machine, &tables);
	entry = tables.madt + 44;
	for (unsigned i = 0; i < sizeof(ids); i++, entry += entry[1]) {
		assert_int_equal(entry[0], 0);
		assert_int_equal(entry[2], i);
		assert_int_equal(entry[3], ids[i]);
	}
	assert_int_equal(entry[0], 1);
	assert_int_equal(entry[2], 7);
}

static void mcfg_tells_configuration_space(void **state)
{
	struct vn_machine machine = machine_of(1, *state);
	struct tables tables;

	write_tables(&machine, &tables);
	assert_null(tables.mcfg);
	add_pci(&machine);
	write_tables(&machine, &tables);
	assert_int_equal(tables.mcfg_length, 44 + 16);
	assert_int_equal(number(tables.mcfg + 44, 8), VN_MAP_ECAM);
	assert_int_equal(number(tables.mcfg + 52, 2), 0); // segment
	assert_int_equal(number(tables.mcfg + 54, 2), 0); // bus 0 alone
}

// Three cells, the second on both sides of the hole, and CPUs that take turns. The tables are
// written into what is there already.
static void add_cells(struct vn_machine *machine, struct vn_memory *memory)
{
	static const uint8_t distances[3][3] = {{10, 21, 31}, {21, 10, 17}, {32, 17, 10}};
	static uint8_t cell_of[300];

	memory->cell_count = 3;
	memory->cells[0].parts[0] = (struct vn_memory_part){VN_GPA(0), GIB};
	memory->cells[0].part_count = 1;
	memory->cells[1].parts[0] = (struct vn_memory_part){VN_GPA(GIB), 2 * GIB};
	memory->cells[1].parts[1] = (struct vn_memory_part){VN_GPA(4 * GIB), 3 * GIB};
	memory->cells[1].part_count = 2;
	memory->cells[2].parts[0] = (struct vn_memory_part){VN_GPA(7 * GIB), 5 * GIB};
	memory->cells[2].part_count = 1;
	machine->memory = memory;
	machine->numa.cell_count = 3;
	machine->numa.cell_of = cell_of;
	for (unsigned i = 0; i < machine->cpus; i++)
		cell_of[i] = (uint8_t)(i % 3);
	for (unsigned i = 0; i < 3; i++)
		memcpy(machine->numa.distance[i], distances[i], 3);
}

static void srat_tells_who_is_where(void **state)
{
	static const struct {
		unsigned cell;
		uint64_t base, size;
	} parts[] = {{0, 0, GIB}, {1, GIB, 2 * GIB}, {1, 4 * GIB, 3 * GIB}, {2, 7 * GIB, 5 * GIB}};
	struct vn_machine machine = machine_of(6, *state);
	struct vn_memory memory = *machine.memory;
	const uint8_t *entry;
	struct tables tables;

	write_tables(&machine, &tables);
	assert_null(tables.srat);
	machine.topology = (struct vn_topology){2, 1, 3, 1, 0}; // ids 0 to 2 and 4 to 6
	add_cells(&machine, &memory);
	write_tables(&machine, &tables);
	assert_int_equal(number(tables.srat + 36, 4), 1);
	entry = tables.srat + 48;
	for (unsigned i = 0; i < 6; i++, entry += 16) {
		assert_int_equal(entry[0], 0);
		assert_int_equal(entry[1], 16);
		assert_int_equal(entry[2], i % 3);
		assert_int_equal(entry[3], vn_topology_apic_id(&machine.topology, i));
		assert_int_equal(number(entry + 4, 4), 1);
		assert_int_equal(number(entry + 8, 8), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++, entry += 40) {
		assert_int_equal(entry[0], 1);
		assert_int_equal(entry[1], 40);
		assert_int_equal(number(entry + 2, 4), parts[i].cell);
		assert_int_equal(number(entry + 8, 8), parts[i].base);
		assert_int_equal(number(entry + 16, 8), parts[i].size);
		assert_int_equal(number(entry + 28, 4), 1);
	}
	assert_ptr_equal(entry, tables.srat + tables.srat_length);
}

static void srat_tells_wide_ids(void **state)
{
	struct vn_machine machine = machine_of(300, *state);
	struct vn_memory memory = *machine.memory;
	struct tables tables;
	const uint8_t *entry;

	add_cells(&machine, &memory);
	write_tables(&machine, &tables);
	entry = tables.srat + 48;
	for (unsigned i = 0; i < 300; i++, entry += entry[1]) {
		assert_int_equal(entry[0], i < 255 ? 0 : 2);
		assert_int_equal(entry[1], i < 255 ? 16 : 24);
		if (i < 255)
			continue;
		assert_int_equal(number(entry + 2, 2), 0);
		assert_int_equal(number(entry + 4, 4), i % 3);
		assert_int_equal(number(entry + 8, 4), i);
		assert_int_equal(number(entry + 12, 4), 1);
		assert_int_equal(number(entry + 16, 8), 0);
	}
	assert_ptr_equal(entry + 4 * 40, tables.srat + tables.srat_length);
}

static void slit_tells_distances(void **state)
{
	struct vn_machine machine = machine_of(6, *state);
	struct vn_memory memory = *machine.memory;
	struct tables tables;

	add_cells(&machine, &memory);
	write_tables(&machine, &tables);
	assert_int_equal(tables.slit_length, 44 + 9);
	assert_int_equal(number(tables.slit + 36, 8), 3);
	assert_memory_equal(tables.slit + 44, "\12\25\37\25\12\21\40\21\12", 9);
}

// Real-mode code at F000:FFF0: mov dx, port; mov al, value; out dx, al; hlt; jmp back.
static void bios_reset_entry_writes_the_register(void **state)
{
	struct vn_machine machine = machine_of(1, *state);
	struct tables tables;
	const uint8_t *code;

	write_tables(&machine, &tables);
	code = vn_memory_at(machine.memory, VN_GPA(0xffff0), 16);
	assert_non_null(code);
	assert_int_equal(code[0], 0xba);
	assert_int_equal(number(code + 1, 2), number(tables.fadt + 120, 8));
	assert_int_equal(code[3], 0xb0);
	assert_int_equal(code[4], tables.fadt[128]);
	assert_memory_equal(code + 5, "\xee\xf4\xeb\xfd", 4);
}

static uint64_t slot_bits(const struct tables *tables)
{
	const uint8_t *name = memmem(tables->dsdt, tables->dsdt_length, "\x08VDEV\x0c", 6);

	assert_non_null(name);
	return number(name + 6, 4);
}

static void dsdt_tells_slots(void **state)
{
	struct vn_machine none = machine_of(1, *state), all = none;
	struct tables tables;

	write_tables(&none, &tables);
	assert_int_equal(slot_bits(&tables), 0);
	for (unsigned slot = 0; slot < VN_VIRTIO_SLOTS; slot++) {
		struct vn_machine one = none;

		add_slot(&one, slot);
		add_slot(&all, slot);
		write_tables(&one, &tables);
		assert_int_equal(slot_bits(&tables), 1u << slot);
	}
	write_tables(&all, &tables);
	assert_int_equal(slot_bits(&tables), (1u << VN_VIRTIO_SLOTS) - 1);
}

static void refuse(const struct vn_machine *machine, int code)
{
	struct veneer_error error = {.code = 0};
	vn_gpa rsdp;

	assert_int_equal(vn_acpi_write(machine, &rsdp, &error), code);
	assert_true(error.message[0] != '\0');
}

static void refusals(void **state)
{
	struct vn_memory tiny = {.ram = {{.size = 0xe0000}}, .ram_count = 1, .size = 0xe0000};
	struct vn_machine machine = machine_of(1, &tiny);

	refuse(&machine, -ENOSPC);
	machine = machine_of(9000, *state); // more CPUs than the area has room for
	refuse(&machine, -ENOSPC);
	machine = machine_of(1, *state);
	add_slot(&machine, 3);
	machine.virtio[3].gsi++;
	refuse(&machine, -EINVAL);
	add_slot(&machine, 3);
	machine.virtio[3].base += VN_MAP_VIRTIO_STEP;
	refuse(&machine, -EINVAL);
	add_slot(&machine, 3);
	machine.virtio[3].size *= 2;
	refuse(&machine, -EINVAL);
}

static void need(const char *tool)
{
	char command[64];

	snprintf(command, sizeof(command), "command -v %s >/dev/null", tool);
	if (system(command) == 0)
		return;
	print_message("# %s (package acpica-tools) is missing\n", tool);
	skip();
}

// A directory with the tables of `machine` as NAME.dat.
static void put(const char *directory, const char *name, const uint8_t *table, size_t length)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s.dat", directory, name);
	file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(table, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static void make_directory(char *directory, const struct vn_machine *machine)
{
	struct tables tables;

	write_tables(machine, &tables);
	assert_non_null(mkdtemp(directory));
	put(directory, "facp", tables.fadt, tables.fadt_length);
	put(directory, "apic", tables.madt, tables.madt_length);
	put(directory, "dsdt", tables.dsdt, tables.dsdt_length);
	if (tables.mcfg)
		put(directory, "mcfg", tables.mcfg, tables.mcfg_length);
	if (tables.srat) {
		put(directory, "srat", tables.srat, tables.srat_length);
		put(directory, "slit", tables.slit, tables.slit_length);
	}
}

// Run a shell command in the directory and keep the start of what it prints.
static int run(const char *directory, const char *command, char *output, size_t size)
{
	char line[1280];
	size_t length;
	FILE *pipe;

	snprintf(line, sizeof(line), "cd %s && { %s; } 2>&1", directory, command);
	pipe = popen(line, "r");
	assert_non_null(pipe);
	length = fread(output, 1, size - 1, pipe);
	output[length] = '\0';
	while (fread(line, 1, sizeof(line), pipe) > 0)
		;
	return pclose(pipe);
}

static void remove_directory(const char *directory)
{
	char output[256];

	run(directory, "rm -f ./*.dat ./*.dsl ./*.aml && rmdir \"$PWD\"", output, sizeof(output));
}

// Every table disassembles, and what comes out compiles again without a warning: to the same bytes
// behind the header, where iasl puts its own name, but for the DSDT, where it writes VDEV shorter.
static void disassembles(void **state)
{
	static const char command[] =
		"iasl -d facp.dat apic.dat dsdt.dat mcfg.dat srat.dat slit.dat && iasl -we "
		"srat.dsl && cmp -i 36 srat.dat srat.aml && iasl -we slit.dsl && cmp -i 36 "
		"slit.dat slit.aml && iasl -we mcfg.dsl && cmp -i 36 mcfg.dat mcfg.aml && iasl "
		"-we facp.dsl && cmp -i 36 facp.dat facp.aml && iasl -we apic.dsl && cmp -i 36 "
		"apic.dat apic.aml && iasl -we dsdt.dsl";
	char directory[] = "/tmp/veneer-test-acpi-XXXXXX";
	struct vn_machine machine = machine_of(VN_CPUS_MAX, *state);
	struct vn_memory memory = *machine.memory;
	char output[16384];
	int status;

	need("iasl");
	add_cells(&machine, &memory);
	add_slot(&machine, 0);
	add_pci(&machine);
	make_directory(directory, &machine);
	status = run(directory, command, output, sizeof(output));
	remove_directory(directory);
	if (status != 0)
		print_message("%s\n", output);
	assert_int_equal(status, 0);
}

// `*output` moves behind what must come next in it.
static void expect(const char **output, const char *expected)
{
	const char *found = strstr(*output, expected);

	if (!found)
		fail_msg("no \"%s\" in\n%s", expected, *output);
	*output = found + strlen(expected);
}

// What the interpreter makes of every slot's methods.
static void interpreter_sees_slots(void **state)
{
	static char output[256 * 1024];
	char directory[] = "/tmp/veneer-test-acpi-XXXXXX";
	struct vn_machine machine = machine_of(2, *state);
	char command[1024] = "acpiexec -b '";
	const char *rest = output;
	int status;

	need("acpiexec");
	for (unsigned slot = 0; slot < VN_VIRTIO_SLOTS; slot++) {
		char word[64];

		if (slot % 2 == 0)
			add_slot(&machine, slot);
		snprintf(word, sizeof(word), "evaluate \\_SB.VIO%u._STA;resources \\_SB.VIO%u;",
			slot, slot);
		strcat(command, word);
	}
	strcat(command, "' dsdt.dat");
	make_directory(directory, &machine);
	status = run(directory, command, output, sizeof(output));
	remove_directory(directory);
	assert_int_equal(status, 0);
	for (unsigned slot = 0; slot < VN_VIRTIO_SLOTS; slot++) {
		char text[64];

		snprintf(text, sizeof(text), "[Integer] = %016X", slot % 2 == 0 ? 0x0f : 0);
		expect(&rest, text);
		snprintf(text, sizeof(text), "Address : %08llX",
			VN_MAP_VIRTIO + slot * VN_MAP_VIRTIO_STEP);
		expect(&rest, text);
		snprintf(text, sizeof(text), "Dword00 : %08X", VN_GSI_VIRTIO + slot);
		expect(&rest, text);
	}
}

// What it makes of the PCI root, with and without PCI, and of the event device.
static void interpreter_sees_pci(void **state)
{
	static const char command[] = "acpiexec -b 'evaluate \\_SB.PCI0._STA;resources "
				      "\\_SB.PCI0;evaluate \\_SB.ECAM._STA;resources "
				      "\\_SB.ECAM;resources \\_SB.GED0' dsdt.dat";
	static char output[256 * 1024];
	struct vn_machine machine = machine_of(1, *state);

	need("acpiexec");
	for (int pci = 1; pci >= 0; pci--) {
		char directory[] = "/tmp/veneer-test-acpi-XXXXXX";
		const char *present =
			pci ? "[Integer] = 000000000000000F" : "[Integer] = 0000000000000000";
		const char *rest = output;
		int status;

		machine.pci.size = 0;
		if (pci)
			add_pci(&machine);
		make_directory(directory, &machine);
		status = run(directory, command, output, sizeof(output));
		remove_directory(directory);
		assert_int_equal(status, 0);
		expect(&rest, present);
		if (pci) {
			expect(&rest, "Address Minimum : 0000000180000000");
			expect(&rest, "Address Maximum : 000000057FFFFFFF");
			expect(&rest, "Address Length : 0000000400000000");
		}
		expect(&rest, present);
		expect(&rest, "Address : E0000000");
		expect(&rest, "Address Length : 00100000");
		expect(&rest, "Triggering : Level");
		expect(&rest, "Dword00 : 00000005");
	}
}

static void interpreter_sees_pvpanic(void **state)
{
	static const char command[] = "acpiexec -b 'evaluate \\_SB.PVPA._HID;resources "
				      "\\_SB.PVPA;evaluate \\_SB.PVPA.RDPT;evaluate "
				      "\\_SB.PVPA.WRPT 1' dsdt.dat";
	static char output[256 * 1024];
	char directory[] = "/tmp/veneer-test-acpi-XXXXXX";
	const struct vn_machine machine = machine_of(1, *state);
	const char *rest = output;
	int status;

	need("acpiexec");
	make_directory(directory, &machine);
	status = run(directory, command, output, sizeof(output));
	remove_directory(directory);
	assert_int_equal(status, 0);
	expect(&rest, "\"QEMU0001\"");
	expect(&rest, "Address Minimum : 0505");
	expect(&rest, "Address Length : 01");
	expect(&rest, "\\_SB.PVPA.RDPT");
	expect(&rest, "[Integer] = ");
	expect(&rest, "\\_SB.PVPA.WRPT");
	assert_null(strstr(rest, "AE_"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fadt_is_hardware_reduced),
		cmocka_unit_test(madt_lists_cpus),
		cmocka_unit_test(madt_lists_wide_ids),
		cmocka_unit_test(madt_lists_ids_with_gaps),
		cmocka_unit_test(mcfg_tells_configuration_space),
		cmocka_unit_test(srat_tells_who_is_where),
		cmocka_unit_test(srat_tells_wide_ids),
		cmocka_unit_test(slit_tells_distances),
		cmocka_unit_test(bios_reset_entry_writes_the_register),
		cmocka_unit_test(dsdt_tells_slots),
		cmocka_unit_test(refusals),
		cmocka_unit_test(disassembles),
		cmocka_unit_test(interpreter_sees_slots),
		cmocka_unit_test(interpreter_sees_pci),
		cmocka_unit_test(interpreter_sees_pvpanic),
	};

	return cmocka_run_group_tests(tests, make_memory, drop_memory);
}
