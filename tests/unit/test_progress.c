// SPDX-License-Identifier: Apache-2.0
//
// What a terminal shows of a preallocation: nothing of a short one, and nothing when it is over.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/macros.h"
#include "cli/progress.h"

#define MS NS_PER_MS

static void short_ones_are_not_shown(void **state)
{
	struct progress progress = {.begun_ns = 7000 * MS};
	char line[128];

	(void)state;
	progress_line(&progress, line, 7000 * MS, 0, 8 * GIB);
	assert_string_equal(line, "");
	progress_line(&progress, line, 7499 * MS, 4 * GIB, 8 * GIB);
	assert_string_equal(line, "");
	progress_line(&progress, line, 9000 * MS, 8 * GIB, 8 * GIB);
	assert_string_equal(line, "");
	assert_string_equal(progress_clear(&progress), "");
}

static void long_ones_are_shown_and_cleared(void **state)
{
	struct progress progress = {.begun_ns = 7000 * MS};
	char line[128];

	(void)state;
	progress_line(&progress, line, 7500 * MS, GIB / 2, 8 * GIB);
	assert_non_null(strstr(line, "0.5 of 8.0 GiB"));
	assert_int_equal(line[0], '\r');
	assert_null(strchr(line, '\n'));
	progress_line(&progress, line, 7600 * MS, 8 * GIB, 8 * GIB);
	assert_string_equal(line, "\r\033[K");
	progress_line(&progress, line, 7700 * MS, 8 * GIB, 8 * GIB);
	assert_string_equal(line, "");

	progress_line(&progress, line, 8000 * MS, GIB, 8 * GIB); // it fails behind this
	assert_string_equal(progress_clear(&progress), "\r\033[K");
	assert_string_equal(progress_clear(&progress), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_ones_are_not_shown),
		cmocka_unit_test(long_ones_are_shown_and_cleared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
