// SPDX-License-Identifier: Apache-2.0
//
// The line.
#include "cli/fail.h"

#include <stdio.h>

int fail_with_list(struct veneer_error *error, int code, const char *format, va_list arguments)
{
	vsnprintf(error->message, sizeof(error->message), format, arguments);
	for (char *at = error->message; *at; at++) {
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
	}
	return code;
}

int fail_with(struct veneer_error *error, int code, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fail_with_list(error, code, format, arguments);
	va_end(arguments);
	return code;
}
