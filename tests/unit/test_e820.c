// SPDX-License-Identifier: Apache-2.0
//
// The memory map for RAM of sizes around the hole below 4 GiB.
#include "kernel_image.h"

#include "arch/x86/e820.h"
#include "base/macros.h"

static const struct {
	uint64_t size;
	uint64_t low_end; // of RAM below the hole
	uint64_t high_size; // of RAM from 4 GiB on
} sizes[] = {
	{4 * MIB, 4 * MIB, 0},
	{64 * MIB, 64 * MIB, 0},
	{3 * GIB - 2 * MIB, 3 * GIB - 2 * MIB, 0},
	{3 * GIB, 3 * GIB, 0},
	{3 * GIB + MIB, 3 * GIB, MIB},
	{4 * GIB, 3 * GIB, GIB},
	{5 * GIB, 3 * GIB, 2 * GIB},
};

static void assert_entry(
	const struct vn_e820_entry *entry, uint64_t start, uint64_t end, enum vn_e820_type type)
{
	assert_int_equal(entry->start, start);
	assert_int_equal(entry->size, end - start);
	assert_int_equal(entry->type, type);
}

static void test_sizes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct vn_memory memory;
		make_memory(&memory, sizes[i].size);
		struct vn_e820_entry map[VN_E820_MAX];
		unsigned count = vn_e820_build(&memory, map);
		assert_int_equal(count, sizes[i].high_size ? 5 : 4);
		assert_entry(&map[0], 0, 0x9fc00, VN_E820_RAM);
		assert_entry(&map[1], 0xe0000, 0x100000, VN_E820_RESERVED);
		assert_entry(&map[2], MIB, sizes[i].low_end, VN_E820_RAM);
		assert_entry(&map[3], 0xe0000000, 0xe0100000, VN_E820_RESERVED);
		if (sizes[i].high_size)
			assert_entry(&map[4], 4 * GIB, 4 * GIB + sizes[i].high_size, VN_E820_RAM);
		for (unsigned n = 0; n < count; n++) // all that is promised is there
			if (n != 3)
				assert_non_null(
					vn_memory_at(&memory, VN_GPA(map[n].start), map[n].size));
		vn_memory_destroy(&memory);
	}
}

// Runs with gaps between them, on both sides of the hole: as many as there can be.
static void test_gaps(void **state)
{
	(void)state;
	struct vn_memory memory = {.ram_count = VN_RAM_MAX};
	for (unsigned i = 0; i < VN_RAM_MAX; i++) {
		uint64_t start = i < 4 ? i * 512 * MIB : (i - 3) * 4 * GIB;
		memory.ram[i] = (struct vn_ram){.start = VN_GPA(start), .size = 64 * MIB};
	}
	struct vn_e820_entry map[VN_E820_MAX];
	assert_int_equal(vn_e820_build(&memory, map), VN_E820_MAX);
	assert_entry(&map[2], MIB, 64 * MIB, VN_E820_RAM);
	assert_entry(&map[5], 1536 * MIB, 1600 * MIB, VN_E820_RAM);
	assert_entry(&map[6], 0xe0000000, 0xe0100000, VN_E820_RESERVED);
	assert_entry(&map[7], 4 * GIB, 4 * GIB + 64 * MIB, VN_E820_RAM);
	for (unsigned n = 1; n < VN_E820_MAX; n++)
		assert_true(map[n].start >= map[n - 1].start + map[n - 1].size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes), cmocka_unit_test(test_gaps)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
