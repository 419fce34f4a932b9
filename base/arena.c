// SPDX-License-Identifier: Apache-2.0
//
// A list of allocations.
#include "base/arena.h"

#include <stdlib.h>

struct vn_arena_piece {
	struct vn_arena_piece *next;
	_Alignas(max_align_t) char data[];
};

void *vn_arena_alloc(struct vn_arena *arena, size_t size)
{
	struct vn_arena_piece *piece = calloc(1, sizeof(*piece) + size);
	if (!piece)
		return NULL;
	piece->next = arena->pieces;
	arena->pieces = piece;
	return piece->data;
}

void vn_arena_free(struct vn_arena *arena)
{
	while (arena->pieces) {
		struct vn_arena_piece *piece = arena->pieces;
		arena->pieces = piece->next;
		free(piece);
	}
}
