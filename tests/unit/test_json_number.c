// SPDX-License-Identifier: Apache-2.0
//
// Numbers of JSON as the parsers of options take them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json_number.h"
#include "base/macros.h"

static void numbers_are_written_as_people_do(void **state)
{
	static const struct {
		const char *json, *text;
	} cases[] = {
		{"0", "0"},
		{"-1", "-1"},
		{"9223372036854775807", "9223372036854775807"},
		{"4.0", "4"},
		{"1e9", "1000000000"},
		{"1.8e19", "18000000000000000000"},
		{"1234567890e-1", "123456789"},
		{"0.1", "0.1"},
		{"2.50", "2.5"},
		{"0.00001", "0.00001"},
		{"2.000000001", "2.000000001"},
		{"999999999.999999", "999999999.999999"},
		{"-0.5", "-0.5"},
		{"0.3333333333333333", "0.333333333"},
		{"0.30000000000000004", "0.300000000"},
		{"0.1234567891", "0.123456789"},
		// No parser takes these.
		{"1e-10", "1e-10"},
		{"1e20", "1e+20"},
		{"-1.7976931348623157e308", "-1.79769313486232e+308"},
	};
	char text[VN_JSON_NUMBER_BYTES];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *value = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
		assert_non_null(value);
		vn_json_number(text, value);
		assert_string_equal(text, cases[i].text);
		json_decref(value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_written_as_people_do),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
