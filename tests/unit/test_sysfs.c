// SPDX-License-Identifier: Apache-2.0
//
// The kernel's small files, in a directory of our own.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macros.h"
#include "base/sysfs.h"

static char root[] = "/tmp/veneer-sysfs-XXXXXX";

static void put(const char *text)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/file7", root);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void test_line(void **state)
{
	char text[8];
	(void)state;
	put("one\ntwo\n");
	assert_int_equal(vn_sysfs_line(root, text, sizeof(text), "/file%d", 7), 0);
	assert_string_equal(text, "one");
	put("123456789");
	assert_int_equal(vn_sysfs_line(root, text, sizeof(text), "/file%d", 7), 0);
	assert_string_equal(text, "1234567");
	put("");
	assert_int_equal(vn_sysfs_line(root, text, sizeof(text), "/file%d", 7), 0);
	assert_string_equal(text, "");
	assert_int_equal(vn_sysfs_line(root, text, sizeof(text), "/file%d", 8), -ENOENT);
	assert_int_equal(vn_sysfs_line(root, text, sizeof(text), "/"), -EISDIR);
	assert_string_equal(text, "");
}

static void test_number(void **state)
{
	static const struct {
		const char *text;
		int code;
		int64_t number;
	} cases[] = {{"42\n", 0, 42}, {"-1\n", 0, -1}, {"17 kB\n", 0, 17}, {"", -EINVAL, 99},
		{"x\n", -EINVAL, 99}, {"99999999999999999999\n", -EINVAL, 99}};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int64_t number = 99;
		put(cases[i].text);
		assert_int_equal(vn_sysfs_number(root, &number, "/file7"), cases[i].code);
		assert_int_equal(number, cases[i].number);
	}
}

static void test_long_name(void **state)
{
	char text[8];
	int64_t number;
	(void)state;
	assert_int_equal(vn_sysfs_line(root, text, sizeof(text), "/%5000d", 1), -ENAMETOOLONG);
	assert_int_equal(vn_sysfs_number(root, &number, "/%5000d", 1), -ENAMETOOLONG);
}

static int set_up(void **state)
{
	(void)state;
	return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
	char path[64];
	(void)state;
	snprintf(path, sizeof(path), "%s/file7", root);
	unlink(path);
	return rmdir(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_number),
		cmocka_unit_test(test_long_name),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
