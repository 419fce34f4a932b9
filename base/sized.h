// SPDX-License-Identifier: Apache-2.0
//
// Structures that grow at their end, between a program and a library of different versions.
#ifndef VN_SIZED_H
#define VN_SIZED_H

#include <stddef.h>

// Take a structure of the caller's, of `from_size` bytes, into one of `to_size` bytes: what the
// caller's lacks is zero. -E2BIG: it is larger, and what is not known here is not zero.
int vn_sized_in(void *to, size_t to_size, const void *from, size_t from_size);

// Give a structure of `from_size` bytes to a caller whose own has `to_size`: what it does not know
// is left out, and what is not known here is zero.
void vn_sized_out(void *to, size_t to_size, const void *from, size_t from_size);

#endif
