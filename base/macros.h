// SPDX-License-Identifier: Apache-2.0
//
// What many files would write again.
#ifndef VN_MACROS_H
#define VN_MACROS_H

#include <stddef.h>
#include <stdint.h>

// The structure of this type whose `member` is at `pointer`.
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#define BIT64(bit) ((uint64_t)1 << (bit))

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

#endif
