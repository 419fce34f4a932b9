// SPDX-License-Identifier: Apache-2.0
//
// Ranges of a file that writes on different loops must not have at once. A write of a part of a
// block reads the block, changes it and writes it back: it has the block exclusively. A write of
// whole blocks shares its range with others of its kind. Reads take nothing.
//
// A shared range touches nothing but its own loop's memory as long as no exclusive one is held or
// waited for. Those who meet have their turns in the order in which they came.
#ifndef VN_BLK_RANGE_H
#define VN_BLK_RANGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"
#include "core/ioloop.h"

struct vn_blk_range_list {
	struct vn_blk_range *first, *last;
};

// A range that is held or waited for; embedded in its owner's structure, and unmoved until it is
// unlocked. The owner sets the first part.
struct vn_blk_range {
	uint64_t start, end; // bytes; not empty
	bool exclusive;
	void (*granted)(struct vn_blk_range *range); // on the loop that waited

	struct vn_blk_loop_ranges *loop;
	struct vn_blk_range_list *list; // that it is in
	struct vn_blk_range *previous, *next;
	struct vn_blk_range *next_ready;
	bool held;
};

// A loop's part. Other loops look at `held` under `lock`.
struct vn_blk_loop_ranges {
	_Alignas(64) pthread_mutex_t lock;
	struct vn_blk_range_list held; // shared ranges that met no exclusive one
	struct vn_blk_ranges *ranges;
	struct vn_ioloop_event event;
	struct vn_blk_range *ready; // granted, but not yet told: under the common lock
};

// Of one file.
struct vn_blk_ranges {
	_Alignas(64) atomic_uint exclusive; // ranges in `queue` that are
	_Alignas(64) pthread_mutex_t lock; // taken before a loop's
	struct vn_blk_range_list queue; // held or waiting, in the order they came
	struct vn_blk_loop_ranges *loops[VN_QUEUES_MAX];
	unsigned loop_count;
};

void vn_blk_ranges_init(struct vn_blk_ranges *ranges);
void vn_blk_ranges_destroy(struct vn_blk_ranges *ranges);

// On the loop's thread, before its first range and after its last: 0 or a negative errno.
int vn_blk_ranges_attach(
	struct vn_blk_ranges *ranges, struct vn_blk_loop_ranges *part, struct vn_ioloop *loop);
void vn_blk_ranges_detach(struct vn_blk_loop_ranges *part);

// On the loop's thread. True: the range is held. False: `granted` will be called when it is.
bool vn_blk_ranges_lock(struct vn_blk_loop_ranges *part, struct vn_blk_range *range);
void vn_blk_ranges_unlock(struct vn_blk_range *range);

#endif
