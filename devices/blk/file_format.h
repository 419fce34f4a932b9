// SPDX-License-Identifier: Apache-2.0
//
// Disk image formats, recognized so that none is taken for a raw disk. Nothing of an image is
// interpreted beyond that: whatever a guest writes to its own disk, the worst is that its next
// start is refused.
#ifndef VN_BLK_FILE_FORMAT_H
#define VN_BLK_FILE_FORMAT_H

#define VN_BLK_FORMAT_BLOCK 512 // bytes that are looked at, at either end

struct vn_blk_format {
	const char *name;
	const char *driver; // qemu-img's name for it
};

// The format of an image whose first and last VN_BLK_FORMAT_BLOCK bytes these are, with zeroes for
// what it lacks; NULL: none of the known ones. Never anything for a disk with a boot sector, unless
// by `last`.
const struct vn_blk_format *vn_blk_format_find(const void *first, const void *last);

// The format of an open file or block device, with O_DIRECT or without, whose offset stays as it
// is: 0 and the format or NULL, or a negative errno.
int vn_blk_format_probe(int fd, const struct vn_blk_format **format);

#endif
