// SPDX-License-Identifier: Apache-2.0
//
// Where the window for PCI devices goes, for memory of several sizes and processors that address
// more or less; and the command line.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "arch/x86/machine.h"
#include "base/macros.h"

static struct vn_memory memory_of(uint64_t size)
{
	struct vn_memory memory = {.ram = {{.size = size}}, .ram_count = 1, .size = size};

	if (size > VN_MAP_HOLE) {
		memory.ram[0].size = VN_MAP_HOLE;
		memory.ram[1] =
			(struct vn_ram){.start = {VN_MAP_HIGH_RAM}, .size = size - VN_MAP_HOLE};
		memory.ram_count = 2;
	}
	return memory;
}

static void windows_are_above_memory(void **state)
{
	static const struct {
		uint64_t memory;
		unsigned bits;
		uint64_t base, size;
	} cases[] = {
		{256 * MIB, 36, 4 * GIB, 16 * GIB},
		{3 * GIB, 48, 4 * GIB, 16 * GIB},
		{3 * GIB + 2 * MIB, 48, 5 * GIB, 16 * GIB},
		{5 * GIB, 40, 6 * GIB, 16 * GIB},
		{55 * GIB, 36, 56 * GIB, 8 * GIB},
		{62 * GIB, 36, 63 * GIB, GIB},
		{4096 * GIB, 52, 4097 * GIB, 16 * GIB},
		{256 * MIB, 64, 4 * GIB, 16 * GIB},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vn_memory memory = memory_of(cases[i].memory);
		struct vn_machine_window window;
		struct veneer_error error;

		assert_int_equal(
			vn_machine_place_window(&window, &memory, cases[i].bits, &error), 0);
		assert_int_equal(window.base, cases[i].base);
		assert_int_equal(window.size, cases[i].size);
	}
}

static void no_room_is_refused(void **state)
{
	static const struct {
		uint64_t memory;
		unsigned bits;
	} cases[] = {{63 * GIB, 36}, {64 * GIB, 36}, {100 * GIB, 36}, {GIB, 32}, {GIB, 31}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vn_memory memory = memory_of(cases[i].memory);
		struct vn_machine_window window = {0};
		struct veneer_error error = {.code = 0};

		assert_int_equal(
			vn_machine_place_window(&window, &memory, cases[i].bits, &error), -ENOSPC);
		assert_int_equal(window.size, 0);
		assert_non_null(strstr(error.message, "less memory"));
	}
}

static void address_bits_are_the_guests(void **state)
{
	static struct vn_cpuid cpuid;

	(void)state;
	cpuid.nent = 1;
	cpuid.entries[0] = (struct kvm_cpuid_entry2){.function = 1, .eax = 0x1234};
	assert_int_equal(vn_machine_address_bits(&cpuid), 36); // no such leaf
	cpuid.nent = 2;
	cpuid.entries[1] = (struct kvm_cpuid_entry2){.function = 0x80000008, .eax = 0x3034};
	assert_int_equal(vn_machine_address_bits(&cpuid), 52);
	cpuid.entries[1].eax = 0x303034; // nested paging has fewer
	assert_int_equal(vn_machine_address_bits(&cpuid), 48);
	cpuid.entries[1].eax = 0x343030; // never more
	assert_int_equal(vn_machine_address_bits(&cpuid), 48);
	cpuid.entries[1].eax = 0;
	assert_int_equal(vn_machine_address_bits(&cpuid), 36);
}

// Devices come first, whatever the user's words are.
static void command_lines_name_devices(void **state)
{
	struct vn_machine machine = {
		.virtio = {[1] = {0xd0001000, 4096, 6}, [3] = {0xd0003000, 8192, 8}}};
	struct veneer_error error = {.code = 0};
	char line[VN_MAP_CMDLINE_MAX], words[VN_MAP_CMDLINE_MAX];

#define DEVICES "virtio_mmio.device=4K@0xd0001000:6 virtio_mmio.device=8K@0xd0003000:8"
	(void)state;
	assert_int_equal(
		vn_machine_write_cmdline(&machine, line, "quiet a=\"b -- c\" --", NULL), 0);
	assert_string_equal(line, DEVICES " quiet a=\"b -- c\" --");
	assert_int_equal(vn_machine_write_cmdline(&machine, line, "a=\"b", NULL), 0);
	assert_string_equal(line, DEVICES " a=\"b");
	assert_int_equal(vn_machine_write_cmdline(&machine, line, "", NULL), 0);
	assert_string_equal(line, DEVICES);
	assert_int_equal(vn_machine_write_cmdline(&machine, line, NULL, NULL), 0);
	assert_string_equal(line, DEVICES);

	size_t room = sizeof(line) - sizeof(DEVICES " ");
	memset(words, 'x', sizeof(words));
	words[room + 1] = '\0';
	assert_int_equal(vn_machine_write_cmdline(&machine, line, words, &error), -E2BIG);
	assert_non_null(strstr(error.message, "at most 2047 bytes"));
	words[room] = '\0';
	assert_int_equal(vn_machine_write_cmdline(&machine, line, words, NULL), 0);
	assert_int_equal(strlen(line), sizeof(line) - 1);

	machine = (struct vn_machine){.cpus = 1};
	assert_int_equal(vn_machine_write_cmdline(&machine, line, "quiet", NULL), 0);
	assert_string_equal(line, "quiet");
	assert_int_equal(vn_machine_write_cmdline(&machine, line, NULL, NULL), 0);
	assert_string_equal(line, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_are_above_memory),
		cmocka_unit_test(no_room_is_refused),
		cmocka_unit_test(address_bits_are_the_guests),
		cmocka_unit_test(command_lines_name_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
