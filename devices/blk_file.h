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
// O_DIRECT asks for aligned offsets, sizes and memory. The first two become the disk's block size,
// to which drivers keep; a request that does not is failed. Memory that is aligned too little for
// the host goes through a buffer allocated for it, in steps of VN_BLK_BOUNCE_MAX bytes.
//
// The file is locked while it is open (an open file description lock): one writer, or any number of
// readers, also against other programs that lock, QEMU among them.
#ifndef VN_BLK_FILE_H
#define VN_BLK_FILE_H

#include "devices/blk_backend.h"

#define VN_BLK_BOUNCE_MAX (256u << 10)

// Open `disk`. Nothing of it is needed afterwards. On failure one line says what mends it:
// -ENOENT, -EACCES, -EROFS, -EISDIR, -EBUSY (locked), -EINVAL (size, kind of file, O_DIRECT)...
int vn_blk_file_open(struct vn_blk_backend **backend, const struct veneer_disk *disk,
	const struct vn_log *log, struct veneer_error *error);

#endif
