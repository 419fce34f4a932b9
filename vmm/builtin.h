// SPDX-License-Identifier: Apache-2.0
//
// The built-in guest's ELF, linked into the library.
#ifndef VN_BUILTIN_H
#define VN_BUILTIN_H

#include <stdint.h>

extern const uint8_t vn_builtin_guest[];
extern const uint64_t vn_builtin_guest_size; // bytes

#endif
