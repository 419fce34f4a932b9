// SPDX-License-Identifier: Apache-2.0
//
// How a failure travels: a negative errno for programs, and one line for a person, made once, at
// the place that knows the facts.
#ifndef VN_ERROR_H
#define VN_ERROR_H

#include <stdarg.h>
#include <stddef.h>

#include "veneer.h"

// Put a line into `error` (which may be NULL) and return `code`, a negative errno. Its kind is
// VENEER_ERROR_HOST, without a key, until one of the next two says otherwise. -ECANCELED is
// VENEER_ERROR_CANCELED and -ENOEXEC VENEER_ERROR_GUEST at once.
int vn_fail(struct veneer_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

// Insert text into the message, `at` bytes from its beginning; what then does not fit is cut off.
// NULL is allowed.
void vn_error_insert(struct veneer_error *error, size_t at, const char *text);

void vn_error_set_kind(struct veneer_error *error, enum veneer_error_kind kind);

// What of the configuration it is about. The kind becomes VENEER_ERROR_CONFIG, unless another one
// was set or the errno says that the host has too little or refuses (ENOMEM, EMFILE, EBUSY,
// EADDRINUSE, ENODEV, EPERM...). Later calls change nothing: the first one wins, because it is
// nearest to the cause.
void vn_error_set_key(struct veneer_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

// Where devices say what happens while the guest runs: one line, from any thread.
struct vn_log {
	void (*message)(void *opaque, enum veneer_severity severity, const char *text);
	void *opaque;
};

void vn_warn(const struct vn_log *log, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void vn_note(const struct vn_log *log, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
