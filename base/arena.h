// SPDX-License-Identifier: Apache-2.0
//
// Memory that is given back all at once, for results that are made of many pieces.
#ifndef VN_ARENA_H
#define VN_ARENA_H

#include <stddef.h>

struct vn_arena_piece;

// Zeroes are an empty one. One thread at a time.
struct vn_arena {
	struct vn_arena_piece *pieces;
};

// `size` zeroed bytes, aligned for any type; NULL when there is no memory.
void *vn_arena_alloc(struct vn_arena *arena, size_t size);

void vn_arena_free(struct vn_arena *arena);

#endif
