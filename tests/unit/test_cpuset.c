// SPDX-License-Identifier: Apache-2.0
//
// Lists of host CPUs: what they mean, what is none, and that a set and its list say the same.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpuset.h"
#include "base/macros.h"

static void test_parse(void **state)
{
	static const struct {
		const char *list, *shortest;
		unsigned count;
	} cases[] = {
		{"", "", 0},
		{"0", "0", 1},
		{"0-3,8", "0-3,8", 5},
		{"8,0-3", "0-3,8", 5},
		{"1,0,2-2", "0-2", 3},
		{"63-64", "63-64", 2},
		{"0-1023", "0-1023", 1024},
		{"5,1023,7", "5,7,1023", 3},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vn_cpuset set;
		char text[64];
		assert_int_equal(vn_cpuset_parse(&set, cases[i].list, NULL), 0);
		assert_int_equal(vn_cpuset_count(&set), cases[i].count);
		assert_int_equal(
			vn_cpuset_format(&set, text, sizeof(text)), strlen(cases[i].shortest));
		assert_string_equal(text, cases[i].shortest);
	}
}

static void test_malformed(void **state)
{
	static const char *const lists[] = {",", "1,", ",1", "1,,2", "-", "1-", "-1", "3-1", "a",
		"1 ", " 1", "+1", "0x1", "1-2-3", "1024x", "1024,", "5000-4000"};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		struct vn_cpuset set;
		struct veneer_error error = {.code = 0};
		assert_int_equal(vn_cpuset_parse(&set, lists[i], &error), -EINVAL);
		assert_non_null(strstr(error.message, lists[i]));
	}
}

// A list, but of CPUs that no host has.
static void test_beyond(void **state)
{
	static const char *const lists[] = {
		"1024", "0-1024", "1,2000-3000,2", "99999999999999999999", "0,10240"};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		struct vn_cpuset set;
		struct veneer_error error = {.code = 0};
		assert_int_equal(vn_cpuset_parse(&set, lists[i], &error), -ERANGE);
		assert_non_null(strstr(error.message, lists[i]));
		assert_non_null(strstr(error.message, "above 1023"));
	}
}

// What does not fit is left out by whole ranges, and counted.
static void test_format_small(void **state)
{
	struct vn_cpuset set;
	char text[8];
	(void)state;
	assert_int_equal(vn_cpuset_parse(&set, "0-3,8,100-200", NULL), 0);
	assert_int_equal(vn_cpuset_format(&set, text, sizeof(text)), 13);
	assert_string_equal(text, "0-3,8");
	assert_int_equal(vn_cpuset_format(&set, NULL, 0), 13);
}

static void test_operations(void **state)
{
	struct vn_cpuset a, b;
	unsigned seen = 0;
	(void)state;
	vn_cpuset_parse(&a, "0-9,64-70", NULL);
	vn_cpuset_parse(&b, "5-66", NULL);
	vn_cpuset_and(&a, &b);
	vn_cpuset_for_each(cpu, &a) seen += cpu;
	assert_int_equal(seen, 5 + 6 + 7 + 8 + 9 + 64 + 65 + 66);
	vn_cpuset_parse(&b, "6-65", NULL);
	vn_cpuset_subtract(&a, &b);
	assert_int_equal(vn_cpuset_count(&a), 2);
	assert_true(vn_cpuset_has(&a, 5) && vn_cpuset_has(&a, 66));
	assert_false(vn_cpuset_has(&a, VN_HOST_CPUS_MAX));
	vn_cpuset_remove(&a, 5);
	vn_cpuset_add(&a, VN_HOST_CPUS_MAX - 1);
	assert_int_equal(vn_cpuset_next(&a, 0), 66);
	assert_int_equal(vn_cpuset_next(&a, 67), VN_HOST_CPUS_MAX - 1);
	assert_int_equal(vn_cpuset_next(&a, VN_HOST_CPUS_MAX), VN_HOST_CPUS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_beyond),
		cmocka_unit_test(test_format_small),
		cmocka_unit_test(test_operations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
