// SPDX-License-Identifier: Apache-2.0
/*
 * What `blk-fill` writes and `blk-check` expects: each 64-bit little-endian word of the disk is a
 * mix of a seed and of its own place, so that a word lost, stale or from elsewhere shows. Header
 * only, nothing but C, so that a host program can make and check the same disk.
 */
#ifndef GUEST_PATTERN_H
#define GUEST_PATTERN_H

#include <stddef.h>
#include <stdint.h>

/* The word at byte offset `offset` (a multiple of 8) of a disk filled with `seed`. */
static inline uint64_t pattern_word(uint64_t seed, uint64_t offset)
{
	uint64_t z = seed * 0xd1342543de82ef95u + (offset / 8 + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Fills `bytes` bytes at `buffer` as found at `offset` of the disk; both are multiples of 8. */
static inline void pattern_fill(void *buffer, uint64_t seed, uint64_t offset, size_t bytes)
{
	uint64_t *word = buffer;

	for (size_t i = 0; i < bytes / 8; i++)
		word[i] = pattern_word(seed, offset + 8 * i);
}

/* The byte position in `buffer` of the first word that differs, or `bytes` if none does. */
static inline size_t pattern_mismatch(
	const void *buffer, uint64_t seed, uint64_t offset, size_t bytes)
{
	const uint64_t *word = buffer;

	for (size_t i = 0; i < bytes / 8; i++) {
		if (word[i] != pattern_word(seed, offset + 8 * i))
			return 8 * i;
	}
	return bytes;
}

#endif
