// SPDX-License-Identifier: Apache-2.0
//
// Structures that grow at their end, from both sides.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/sized.h"

struct small {
	uint32_t a, b;
};

struct large {
	uint32_t a, b, c, d;
};

static void test_in(void **state)
{
	(void)state;
	struct small small = {1, 2};
	struct large large = {3, 4, 5, 6};
	assert_int_equal(vn_sized_in(&large, sizeof(large), &small, sizeof(small)), 0);
	assert_memory_equal(&large, (&(struct large){1, 2, 0, 0}), sizeof(large));
	assert_int_equal(vn_sized_in(&large, sizeof(large), &small, 0), 0);
	assert_memory_equal(&large, (&(struct large){0}), sizeof(large));

	large = (struct large){7, 8, 0, 0};
	assert_int_equal(vn_sized_in(&small, sizeof(small), &large, sizeof(large)), 0);
	assert_memory_equal(&small, (&(struct small){7, 8}), sizeof(small));
	large = (struct large){9, 9, 0, 1u << 31}; // its last bit
	assert_int_equal(vn_sized_in(&small, sizeof(small), &large, sizeof(large)), -E2BIG);
	assert_int_equal(vn_sized_in(&small, sizeof(small), &large, sizeof(large) - 1), 0);
}

static void test_out(void **state)
{
	(void)state;
	const struct small small = {1, 2};
	const struct large whole = {3, 4, 5, 6};
	struct large large;
	memset(&large, 0xff, sizeof(large));
	vn_sized_out(&large, sizeof(large), &small, sizeof(small));
	assert_memory_equal(&large, (&(struct large){1, 2, 0, 0}), sizeof(large));

	memset(&large, 0xff, sizeof(large));
	vn_sized_out(&large, sizeof(small), &whole, sizeof(whole));
	assert_memory_equal(&large, (&(struct large){3, 4, UINT32_MAX, UINT32_MAX}), sizeof(large));
	vn_sized_out(NULL, 0, &whole, sizeof(whole));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in),
		cmocka_unit_test(test_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
