// SPDX-License-Identifier: Apache-2.0
//
// How a failure travels: a negative errno for programs, and one line for a person, made once, at
// the place that knows the facts.
#ifndef VN_ERROR_H
#define VN_ERROR_H

#include "veneer.h"

// Put a line into `error` (which may be NULL) and return `code`, a negative errno.
int vn_fail(struct veneer_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

// Where devices say what happens while the guest runs: one line, from any thread.
struct vn_log {
	veneer_message_fn message;
	void *opaque;
};

void vn_warn(const struct vn_log *log, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void vn_note(const struct vn_log *log, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
