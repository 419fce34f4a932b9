// SPDX-License-Identifier: Apache-2.0
//
// How a failure of the program's own travels, as the library's do: a negative errno, and one line.
#ifndef VN_FAIL_H
#define VN_FAIL_H

#include <stdarg.h>

#include "veneer.h"

// Put a line into `error`, whatever control characters the words hold, and return `code`.
int fail_with(struct veneer_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int fail_with_list(struct veneer_error *error, int code, const char *format, va_list arguments)
	__attribute__((format(printf, 3, 0)));

#endif
