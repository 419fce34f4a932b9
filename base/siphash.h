// SPDX-License-Identifier: Apache-2.0
//
// SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash of 64 bits for short input.
#ifndef VN_SIPHASH_H
#define VN_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t vn_siphash(const uint8_t key[16], const void *data, size_t size);

#endif
