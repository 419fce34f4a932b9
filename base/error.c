// SPDX-License-Identifier: Apache-2.0
//
// Making the one line that says what went wrong.
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "base/text.h"

static enum veneer_error_kind kind_of(int code)
{
	return code == -ECANCELED ? VENEER_ERROR_CANCELED
	       : code == -ENOEXEC ? VENEER_ERROR_GUEST
				  : VENEER_ERROR_HOST;
}

// A line has no control characters: a terminal or a log shows it as it is.
static void clean(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

int vn_fail(struct veneer_error *error, int code, const char *format, ...)
{
	if (error) {
		va_list args;
		*error = (struct veneer_error){.kind = kind_of(code), .code = code};
		va_start(args, format);
		vsnprintf(error->message, sizeof(error->message), format, args);
		va_end(args);
		clean(error->message);
	}
	return code;
}

void vn_error_insert(struct veneer_error *error, size_t at, const char *text)
{
	char rest[sizeof(error->message)];
	if (!error)
		return;
	strcpy(rest, error->message + at);
	struct vn_text message = vn_text_of(error->message + at, sizeof(error->message) - at);
	vn_text_add(&message, "%s%s", text, rest);
}

void vn_error_set_kind(struct veneer_error *error, enum veneer_error_kind kind)
{
	if (error)
		error->kind = kind;
}

// The configuration may be right: the host has too little of something, or keeps it.
static bool is_of_host(int code)
{
	static const int codes[] = {ENOMEM, EMFILE, ENFILE, EBUSY, EAGAIN, EPERM, EACCES, ENOSPC,
		EIO, ENOSYS, ENOTSUP, ENODEV, EADDRINUSE};
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (code == -codes[i])
			return true;
	return false;
}

void vn_error_set_key(struct veneer_error *error, const char *format, ...)
{
	if (!error || error->key[0])
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(error->key, sizeof(error->key), format, args);
	va_end(args);
	if (error->kind == VENEER_ERROR_HOST && !is_of_host(error->code))
		error->kind = VENEER_ERROR_CONFIG;
}

__attribute__((format(printf, 3, 0))) static void say(
	const struct vn_log *log, enum veneer_severity severity, const char *format, va_list args)
{
	char text[512];
	if (!log || !log->message)
		return;
	vsnprintf(text, sizeof(text), format, args);
	clean(text);
	log->message(log->opaque, severity, text);
}

void vn_warn(const struct vn_log *log, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	say(log, VENEER_SEVERITY_WARNING, format, args);
	va_end(args);
}

void vn_note(const struct vn_log *log, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	say(log, VENEER_SEVERITY_INFO, format, args);
	va_end(args);
}
