// SPDX-License-Identifier: Apache-2.0
//
// Touching all of guest memory before the guest runs, with as many CPUs as there are: the kernel
// clears each page, and for hundreds of gigabytes one thread would take minutes.
#ifndef VN_POPULATE_H
#define VN_POPULATE_H

#include <stdint.h>

#include "base/progress.h"

// Memory with one kind of pages, from one node.
struct vn_populate_range {
	uint8_t *host;
	uint64_t size; // bytes, of whole pages
	uint64_t page_size;
	int node; // whose CPUs do it; -1: any
};

// Give every page of the ranges its memory, now. Threads are used where that takes long: they run
// on those of the node's CPUs that this thread may use, or, where there is none, on what it may
// use. 0, or what went wrong first, as a negative errno, with the range in which it did; -ECANCELED
// when `progress`, in this thread, says so. No thread is left.
int vn_populate(const struct vn_populate_range *ranges, unsigned count,
	const struct vn_progress *progress, unsigned *failed);

#endif
