// SPDX-License-Identifier: Apache-2.0
//
// Making the one line that says what went wrong.
#include "vmm/error.h"

#include <stdarg.h>
#include <stdio.h>

int vn_fail(struct veneer_error *error, int code, const char *format, ...)
{
	if (error) {
		va_list args;
		va_start(args, format);
		vsnprintf(error->message, sizeof(error->message), format, args);
		va_end(args);
	}
	return code;
}

void vn_warn(const struct vn_log *log, const char *format, ...)
{
	if (!log || !log->message)
		return;
	char text[512];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log->message(log->opaque, VENEER_WARNING, text);
}
