// SPDX-License-Identifier: Apache-2.0
//
// What a file or block device is like, and what O_DIRECT asks for there.
#ifndef VN_BLK_FILE_MEASURE_H
#define VN_BLK_FILE_MEASURE_H

#include "devices/blk/backend.h"
#include "devices/blk/options.h"

#define VN_BLK_SECTOR 512

struct vn_blk_file_traits {
	bool device; // a block device
	// What offsets and sizes of transfers, and addresses of memory, are to be multiples of:
	// powers of two. 1 without O_DIRECT.
	uint32_t align;
	uint32_t memory_align;
};

// Measure what is open as `fd`, in the way that backend->direct and `readonly` say, and fill in
// both. `path` is what messages call it.
int vn_blk_file_measure(struct vn_blk_file_traits *traits, struct vn_blk_backend *backend, int fd,
	const char *path, const struct vn_blk_options *disk, struct veneer_error *error);

// Say that there is no O_DIRECT, which this disk's cache mode needs: -EINVAL.
int vn_blk_file_no_direct(const char *path, struct veneer_error *error);

#endif
