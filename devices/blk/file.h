// SPDX-License-Identifier: Apache-2.0
//
// A raw file or block device as a disk, through io_uring.
//
// Cache modes:
//   writeback     the host's page cache; a flush is fdatasync()
//   none          O_DIRECT; a flush is fdatasync()
//   writethrough  the host's page cache; every write carries RWF_DSYNC, and there is no write cache
//                 to tell the guest of
//   directsync    O_DIRECT, and the same
//   unsafe        the host's page cache; a flush does nothing
//
// A discard punches a hole. Zeroes are written by fallocate() too, which keeps the blocks allocated
// unless the guest lets them go. Both are offered where the host's file system or device has them.
//
// O_DIRECT asks for aligned offsets, sizes and memory. The guest is told of that (physical block,
// minimum size), and not held to it: a request that is not aligned goes through one of its
// channel's buffers, in steps of VN_BLK_BOUNCE_SIZE bytes, or waits for one. Where the alignment is
// above 512, a block that is written in part is read, changed and written back, while no other
// write has it (devices/blk/range.h).
//
// The file is locked while it is open (an open file description lock): one writer, or any number of
// readers, also against other programs that lock, QEMU among them. A file that is given as a
// descriptor is opened once more, so that flags and lock are this disk's own
// (devices/blk/file_descriptor.h).
#ifndef VN_BLK_FILE_H
#define VN_BLK_FILE_H

#include "base/macros.h"
#include "devices/blk/backend.h"
#include "devices/blk/options.h"

#define VN_BLK_BOUNCE_SIZE  (64 * KIB)
#define VN_BLK_BOUNCE_COUNT 16 // of each channel with O_DIRECT

// Open `disk`. Nothing of it is needed afterwards. On failure one line says what mends it:
// -ENOENT, -EACCES, -EROFS, -EISDIR, -EBUSY (locked), -EINVAL (size, kind of file, O_DIRECT)...
int vn_blk_file_open(struct vn_blk_backend **backend, const struct vn_blk_options *disk,
	const struct vn_log *log, struct veneer_error *error);

#endif
