// SPDX-License-Identifier: Apache-2.0
//
// The bus: who answers which access, and what happens where nobody does.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "core/bus.h"

// A device that remembers the last access and reads as its own first byte.
struct probe {
	uint8_t answer;
	uint64_t offset;
	unsigned size, reads, writes;
	uint8_t written[8];
};

static void probe_read(void *opaque, uint64_t offset, void *data, unsigned size)
{
	struct probe *probe = opaque;
	probe->offset = offset;
	probe->size = size;
	probe->reads++;
	memset(data, probe->answer, size);
}

static void probe_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	struct probe *probe = opaque;
	probe->offset = offset;
	probe->size = size;
	probe->writes++;
	memcpy(probe->written, data, size);
}

static const struct vn_bus_ops ops = {probe_read, probe_write};

static void finds_the_right_device(void **state)
{
	(void)state;
	struct vn_bus bus = {0};
	struct probe probes[3] = {{.answer = 1}, {.answer = 2}, {.answer = 3}};
	// Added out of order.
	assert_int_equal(vn_bus_add(&bus, 0x2000, 0x10, &ops, &probes[1], NULL), 0);
	assert_int_equal(vn_bus_add(&bus, 0x1000, 0x10, &ops, &probes[0], NULL), 0);
	assert_int_equal(vn_bus_add(&bus, 0x2010, 0x10, &ops, &probes[2], NULL), 0);

	uint8_t data[8];
	vn_bus_read(&bus, 0x1000, data, 1);
	assert_int_equal(data[0], 1);
	vn_bus_read(&bus, 0x200f, data, 1);
	assert_int_equal(data[0], 2);
	assert_int_equal(probes[1].offset, 15);
	vn_bus_write(&bus, 0x2018, "12345678", 8);
	assert_int_equal(probes[2].offset, 8);
	assert_int_equal(probes[2].size, 8);
	assert_memory_equal(probes[2].written, "12345678", 8);
}

static void nobody_answers_with_ones(void **state)
{
	(void)state;
	struct vn_bus bus = {0};
	struct probe probe = {.answer = 0};
	assert_int_equal(vn_bus_add(&bus, 0x1000, 0x10, &ops, &probe, NULL), 0);
	const struct {
		uint64_t address;
		unsigned size;
	} cases[] = {{0, 4}, {0xfff, 1}, {0xffe, 4}, {0x1010, 1}, {0x100e, 4}, {0x1000, 3},
		{UINT64_MAX, 1}, {UINT64_MAX - 3, 8}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t data[8] = {0};
		vn_bus_read(&bus, cases[i].address, data, cases[i].size);
		for (unsigned byte = 0; byte < cases[i].size; byte++)
			assert_int_equal(data[byte], 0xff);
		vn_bus_write(&bus, cases[i].address, data, cases[i].size);
	}
	assert_int_equal(probe.reads + probe.writes, 0);
}

static void the_end_of_the_address_space_is_usable(void **state)
{
	(void)state;
	struct vn_bus bus = {0};
	struct probe probe = {.answer = 7};
	assert_int_equal(vn_bus_add(&bus, UINT64_MAX - 3, 4, &ops, &probe, NULL), 0);
	uint8_t data[4];
	vn_bus_read(&bus, UINT64_MAX - 3, data, 4);
	assert_int_equal(data[3], 7);
}

static void overlaps_are_refused(void **state)
{
	(void)state;
	struct vn_bus bus = {0};
	struct veneer_error error;
	assert_int_equal(vn_bus_add(&bus, 0x1000, 0x10, &ops, NULL, &error), 0);
	assert_int_equal(vn_bus_add(&bus, 0x1000, 0x10, &ops, NULL, &error), -EEXIST);
	assert_int_equal(vn_bus_add(&bus, 0x100f, 1, &ops, NULL, &error), -EEXIST);
	assert_int_equal(vn_bus_add(&bus, 0xff0, 0x11, &ops, NULL, &error), -EEXIST);
	assert_int_equal(vn_bus_add(&bus, 0, 0x2000, &ops, NULL, &error), -EEXIST);
	assert_int_equal(vn_bus_add(&bus, 0, 0, &ops, NULL, &error), -EINVAL);
	assert_int_equal(vn_bus_add(&bus, UINT64_MAX, 2, &ops, NULL, &error), -EINVAL);
	assert_int_equal(vn_bus_add(&bus, 0xff0, 0x10, &ops, NULL, &error), 0);
	assert_int_equal(bus.count, 2);
}

// What lies within another range takes only what lies wholly within it, whichever was added first.
static void inner_ranges_take_what_is_theirs(void **state)
{
	(void)state;
	for (unsigned inner_first = 0; inner_first < 2; inner_first++) {
		struct vn_bus bus = {0};
		struct probe outer = {.answer = 1}, inner = {.answer = 2}, next = {.answer = 3};
		for (unsigned i = 0; i < 2; i++) {
			int code = i == inner_first
					   ? vn_bus_add(&bus, 0xcf8, 8, &ops, &outer, NULL)
					   : vn_bus_add_within(&bus, 0xcf9, 1, &ops, &inner, NULL);
			assert_int_equal(code, 0);
		}
		assert_int_equal(vn_bus_add_within(&bus, 0xcfe, 2, &ops, &next, NULL), 0);
		const struct {
			uint64_t address;
			unsigned size, answer;
		} cases[] = {{0xcf8, 1, 1}, {0xcf8, 2, 1}, {0xcf8, 4, 1}, {0xcf9, 1, 2},
			{0xcf9, 2, 1}, {0xcfa, 1, 1}, {0xcfb, 1, 1}, {0xcfc, 4, 1}, {0xcfe, 2, 3},
			{0xcff, 1, 3}, {0xcfe, 4, 0xff}, {0xd00, 1, 0xff}, {0xcf7, 1, 0xff}};
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			uint8_t data[8];
			vn_bus_read(&bus, cases[i].address, data, cases[i].size);
			assert_int_equal(data[0], cases[i].answer);
		}
		vn_bus_write(&bus, 0xcf9, "x", 1);
		vn_bus_write(&bus, 0xcf8, "abcd", 4);
		assert_int_equal(inner.writes, 1);
		assert_int_equal(outer.writes, 1);
		assert_int_equal(outer.offset, 0);
	}
}

static void inner_ranges_may_be_alone_and_overlap_nothing_else(void **state)
{
	(void)state;
	struct vn_bus bus = {0};
	struct probe probe = {.answer = 1};
	struct veneer_error error;
	uint8_t data[8];
	assert_int_equal(vn_bus_add_within(&bus, 0xcf9, 1, &ops, &probe, &error), 0);
	vn_bus_read(&bus, 0xcf9, data, 1);
	assert_int_equal(data[0], 1);
	vn_bus_read(&bus, 0xcfa, data, 1);
	assert_int_equal(data[0], 0xff);
	assert_int_equal(vn_bus_add_within(&bus, 0xcf9, 1, &ops, &probe, &error), -EEXIST);
	assert_int_equal(vn_bus_add_within(&bus, 0xcf8, 4, &ops, &probe, &error), -EEXIST);
	assert_int_equal(vn_bus_add(&bus, 0xcf9, 7, &ops, &probe, &error), -EEXIST);
	assert_int_equal(vn_bus_add(&bus, 0x1000, 4, &ops, &probe, &error), 0);
	assert_int_equal(vn_bus_add_within(&bus, 0x1000, 1, &ops, &probe, &error), -EEXIST);
	assert_int_equal(vn_bus_add_within(&bus, 0x1003, 2, &ops, &probe, &error), -EEXIST);
	assert_int_equal(vn_bus_add_within(&bus, 0x1003, 1, &ops, &probe, &error), 0);
}

static void a_full_bus_says_so(void **state)
{
	(void)state;
	struct vn_bus bus = {0};
	struct veneer_error error;
	for (unsigned i = 0; i < VN_BUS_RANGES_MAX; i++)
		assert_int_equal(vn_bus_add(&bus, i * 2ull, 1, &ops, NULL, &error), 0);
	assert_int_equal(vn_bus_add(&bus, 0x10000, 1, &ops, NULL, &error), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_right_device),
		cmocka_unit_test(nobody_answers_with_ones),
		cmocka_unit_test(the_end_of_the_address_space_is_usable),
		cmocka_unit_test(overlaps_are_refused),
		cmocka_unit_test(inner_ranges_take_what_is_theirs),
		cmocka_unit_test(inner_ranges_may_be_alone_and_overlap_nothing_else),
		cmocka_unit_test(a_full_bus_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
