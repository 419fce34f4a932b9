// SPDX-License-Identifier: Apache-2.0
//
// Where the window for PCI devices goes, for memory of several sizes and processors that address
// more or less.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "arch/x86/machine.h"

#define GIB (1ull << 30)

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
		{256ull << 20, 36, 4 * GIB, 16 * GIB},
		{3 * GIB, 48, 4 * GIB, 16 * GIB},
		{3 * GIB + (2ull << 20), 48, 5 * GIB, 16 * GIB},
		{5 * GIB, 40, 6 * GIB, 16 * GIB},
		{55 * GIB, 36, 56 * GIB, 8 * GIB},
		{62 * GIB, 36, 63 * GIB, GIB},
		{4096 * GIB, 52, 4097 * GIB, 16 * GIB},
		{256ull << 20, 64, 4 * GIB, 16 * GIB},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
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
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vn_memory memory = memory_of(cases[i].memory);
		struct vn_machine_window window = {0};
		struct veneer_error error = {""};

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_are_above_memory),
		cmocka_unit_test(no_room_is_refused),
		cmocka_unit_test(address_bits_are_the_guests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
