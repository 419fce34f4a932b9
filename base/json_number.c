// SPDX-License-Identifier: Apache-2.0
#include "base/json_number.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define DECIMALS_MAX 9 // seconds have nanoseconds
#define PLAIN_MAX    18446744073709551616.0 // 2^64: no option's value is larger

void vn_json_number(char text[VN_JSON_NUMBER_BYTES], const json_t *value)
{
	double real = json_number_value(value);
	if (json_is_integer(value)) {
		snprintf(text, VN_JSON_NUMBER_BYTES, "%" JSON_INTEGER_FORMAT,
			json_integer_value(value));
		return;
	}
	bool plain = real > -PLAIN_MAX && real < PLAIN_MAX;
	for (int decimals = 0; plain && decimals <= DECIMALS_MAX; decimals++) {
		snprintf(text, VN_JSON_NUMBER_BYTES, "%.*f", decimals, real);
		if (strtod(text, NULL) == real)
			return;
	}
	// A third has no end, and nine decimals are what is meant; of less than that, none would be
	// left.
	if (!plain || strtod(text, NULL) == 0)
		snprintf(text, VN_JSON_NUMBER_BYTES, "%.15g", real);
}
