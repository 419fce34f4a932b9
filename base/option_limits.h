// SPDX-License-Identifier: Apache-2.0
//
// Limits and defaults of options that several files need: each is written here only, and texts take
// it from here.
#ifndef VN_OPTION_LIMITS_H
#define VN_OPTION_LIMITS_H

#include "base/macros.h"

// The value of a macro as a string literal.
#define VN_STRING(value)   VN_STRING_OF(value)
#define VN_STRING_OF(text) #text

#define VN_NAME_MAX 64 // bytes of a guest's name

#define VN_MEMORY_DEFAULT_MIB 256 // of a guest without cells
#define VN_MEMORY_DEFAULT     (VN_MEMORY_DEFAULT_MIB * MIB)

// The least that the built-in guest's report and loads are tried with.
#define VN_BUILTIN_MEMORY_MIB 64
#define VN_BUILTIN_MEMORY_MIN (VN_BUILTIN_MEMORY_MIB * MIB)

#define VN_FIFO_MAX 99 // the highest priority of SCHED_FIFO; the lowest is 1: sched(7)

// The lowest limit, in bytes a second: below it, one large request or packet would block for years.
#define VN_BYTE_RATE_MIN KIB

#endif
