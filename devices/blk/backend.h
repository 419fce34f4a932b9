// SPDX-License-Identifier: Apache-2.0
//
// What a block device does its I/O on. The device prepares an operation inside its own request and
// submits it to a channel, which is the backend on one loop; that carries it out and reports its
// end. Neither allocates for that.
#ifndef VN_BLK_BACKEND_H
#define VN_BLK_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "core/ioloop.h"
#include "core/memory.h"
#include "devices/blk/range.h"

enum vn_blk_kind {
	VN_BLK_READ,
	VN_BLK_WRITE,
	VN_BLK_FLUSH,
	VN_BLK_DISCARD, // what the range holds afterwards does not matter
	VN_BLK_ZERO, // the range reads as zero afterwards
};

struct vn_blk_backend;

// Embedded in what a backend has for each loop.
struct vn_blk_channel {
	struct vn_blk_backend *backend;
	struct vn_ioloop *loop;
};

// One operation, embedded in the device's request: its own until submitted, the backend's until
// `done` is called, on the loop's thread only.
struct vn_blk_io {
	enum vn_blk_kind kind;
	bool stable; // a VN_BLK_WRITE or VN_BLK_ZERO that ends on stable storage
	bool unmap; // a VN_BLK_ZERO that may give the range's blocks back to the host
	// A read or write. The backend moves them along as it proceeds, so that after a failure
	// `offset` is where it happened.
	struct iovec *iov;
	unsigned iov_count;
	uint64_t offset; // bytes; the range lies within the capacity
	uint64_t size; // bytes, above 0; those in `iov` of a read or write
	// Where `iov` is, if that can be lost (vn_memory_is_lost()): then it is not written. Or
	// NULL.
	const struct vn_memory *memory;
	// 0, or a negative errno with a reason in words, or NULL where the errno says it all.
	// Also called from within `submit`.
	void (*done)(struct vn_blk_io *io, int code, const char *reason);

	// The backend's.
	struct vn_ioloop_op op;
	struct vn_blk_channel *channel;
	unsigned step;
	uint64_t step_offset; // bytes of the file, and of memory, that are on their way
	uint64_t step_size;
	char *bounce; // a buffer of the channel's
	struct vn_blk_io *next; // that waits for one
	struct vn_blk_range range;
	bool locked; // `range` is held or waited for
};

// Of a channel, on its loop's thread; different loops may call them at once.
struct vn_blk_backend_ops {
	// Before the first operation on this loop: 0 or a negative errno.
	int (*attach)(struct vn_blk_backend *backend, struct vn_ioloop *loop,
		struct vn_blk_channel **channel);
	void (*submit)(struct vn_blk_channel *channel, struct vn_blk_io *io);
	void (*detach)(struct vn_blk_channel *channel); // nothing is in flight
	// Look at the size again and set `capacity` to it. From any thread, one at a time.
	int (*refresh)(struct vn_blk_backend *backend, struct veneer_error *error);
	void (*destroy)(struct vn_blk_backend *backend); // it has no channels
};

// Embedded in a backend of some kind. Immutable once opened, but for the capacity.
struct vn_blk_backend {
	const struct vn_blk_backend_ops *ops;
	_Atomic uint64_t capacity; // bytes, a multiple of block_size
	uint32_t block_size; // logical, bytes: 512 or more, a power of two
	// What a driver had better keep to, in bytes, multiples of block_size: the block below
	// which a write means a read (a power of two, times block_size), where the first one
	// begins, the smallest and the best size of a transfer. 0: unknown, but for the first.
	uint32_t physical_size;
	uint32_t alignment;
	uint32_t io_min;
	uint32_t io_best;
	// Parts of a VN_BLK_ZERO that are not multiples of this, a power of two, are written.
	uint32_t zero_align;
	bool discards; // takes VN_BLK_DISCARD
	bool zeroes; // takes VN_BLK_ZERO
	bool readonly;
	bool direct; // transfers go straight to guest memory, which the host pins for each
	bool write_cache; // writes that are not `stable` need a flush to be so
};

#endif
