// SPDX-License-Identifier: Apache-2.0
//
// A number of JSON as text for the parsers of options.
#ifndef VN_JSON_NUMBER_H
#define VN_JSON_NUMBER_H

#include <jansson.h>

#define VN_JSON_NUMBER_BYTES 32 // of any number, with the final 0

// As people write it: with as many decimals as it needs, at most nine, to which it is rounded, and
// no exponent. What is nothing but smaller decimals, or exceeds 64 bits, has an exponent if need
// be, which no parser takes.
void vn_json_number(char text[VN_JSON_NUMBER_BYTES], const json_t *value);

#endif
