// SPDX-License-Identifier: Apache-2.0
//
// What the program says, and how it ends.
#ifndef VN_OUTPUT_H
#define VN_OUTPUT_H

#include "veneer.h"

// Exit statuses; the command line is a contract.
enum {
	STATUS_OK = 0,
	STATUS_WRONG = 1, // the doctor found something
	STATUS_GUEST_MAX = 119, // the guest's own value
	STATUS_CRASH = 120,
	STATUS_TIMEOUT = 124, // as timeout(1)
	STATUS_FAILED = 125,
	STATUS_SIGNAL = 128, // plus the number of the signal that the process then dies of
};

// A line on standard error, with the program's name, by one write: lines of several threads stay
// whole.
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// What went wrong, beginning with the option that it is about.
void complain_of(const struct veneer_error *error);

// A text on standard output: STATUS_OK, or STATUS_FAILED when that cannot be written, which was
// said.
int print(const char *text);

#endif
