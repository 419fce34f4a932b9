// SPDX-License-Identifier: Apache-2.0
//
// Making the one line that says what went wrong.
#include "base/error.h"

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

__attribute__((format(printf, 3, 0))) static void say(
	const struct vn_log *log, enum veneer_severity severity, const char *format, va_list args)
{
	char text[512];
	if (!log || !log->message)
		return;
	vsnprintf(text, sizeof(text), format, args);
	log->message(log->opaque, severity, text);
}

void vn_warn(const struct vn_log *log, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	say(log, VENEER_WARNING, format, args);
	va_end(args);
}

void vn_note(const struct vn_log *log, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	say(log, VENEER_INFO, format, args);
	va_end(args);
}
