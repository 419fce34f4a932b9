// SPDX-License-Identifier: Apache-2.0
/*
 * What `blk-journal` writes: numbered blocks of 4 KiB, from 1 on, in batches. A batch is flushed,
 * and only then is the next one begun. Each number has its place, where a later one with the same
 * place follows it, and each block says all about itself: its number, and words made from that, its
 * seed and their place, so that a block of which only a part was written shows. Header only, for
 * the host too.
 */
#ifndef GUEST_JOURNAL_H
#define GUEST_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "pattern.h"

#define JOURNAL_BLOCK 4096
#define JOURNAL_BATCH 16 /* numbers n*16 + 1 to n*16 + 16, all at different places */

/*
 * The block of a disk of `blocks`, more than a batch and no multiple of the factor, which is a
 * prime.
 */
static inline uint64_t journal_place(uint64_t number, uint64_t blocks)
{
	return number * 7919 % blocks;
}

static inline void journal_fill(uint64_t *block, uint64_t seed, uint64_t number)
{
	block[0] = number;
	pattern_fill(block + 1, seed + number, 8, JOURNAL_BLOCK - 8);
}

static inline bool journal_is_whole(const uint64_t *block, uint64_t seed)
{
	return pattern_mismatch(block + 1, seed + block[0], 8, JOURNAL_BLOCK - 8) ==
	       JOURNAL_BLOCK - 8;
}

#endif
