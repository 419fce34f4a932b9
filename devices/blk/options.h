// SPDX-License-Identifier: Apache-2.0
//
// What a disk is configured with: the option `disk`.
#ifndef VN_BLK_OPTIONS_H
#define VN_BLK_OPTIONS_H

#include "base/file_prop.h"
#include "base/prop.h"
#include "base/rate_prop.h"

#define VN_BLK_QUEUES_DEFAULT 4 // at most; one per vCPU

enum vn_blk_cache {
	VN_BLK_CACHE_WRITEBACK, // host page cache; the guest's flush reaches the disk
	VN_BLK_CACHE_NONE, // O_DIRECT; the guest's flush reaches the disk
	VN_BLK_CACHE_WRITETHROUGH, // host page cache; every write is on the disk when it completes
	VN_BLK_CACHE_DIRECTSYNC, // O_DIRECT; every write is on the disk when it completes
	VN_BLK_CACHE_UNSAFE, // host page cache; the guest's flush does nothing
};

// What becomes of a write of zeroes and nothing else.
enum vn_blk_detect_zeroes {
	VN_BLK_DETECT_ZEROES_OFF, // a write like any other
	VN_BLK_DETECT_ZEROES_ON, // the blocks are zeroed, and keep their room on the host
	VN_BLK_DETECT_ZEROES_UNMAP, // the blocks are zeroed, and their room may be given back
};

// The strings are owned.
struct vn_blk_options {
	struct vn_file path;
	char *serial; // or NULL
	enum vn_blk_cache cache;
	bool readonly;
	unsigned queues; // 0: one per vCPU, up to VN_BLK_QUEUES_DEFAULT
	unsigned poll_us; // the largest bound of busy polling
	enum vn_blk_detect_zeroes detect_zeroes;
	// Shared by the disk's queues: requests of any kind but flushes, and bytes read and
	// written.
	struct vn_rate_options iops, bps;
	bool sqpoll, iopoll;
	uint64_t block_size; // logical, bytes; 0: 512 for a file, its own for a block device
	bool raw; // although it looks like an image in another format
};

extern const struct vn_option vn_blk_option;

#endif
