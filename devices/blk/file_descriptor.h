// SPDX-License-Identifier: Apache-2.0
//
// A disk that the embedding program has opened and given as a descriptor.
//
// File status flags and locks belong to the open file description, which the program and other
// guests may share. So the file is opened again through /proc/self/fd, with a description of its
// own. Without /proc, or without permission on the file itself, the given description is used, and
// must already have the flags that the disk needs: nothing changes them.
#ifndef VN_BLK_FILE_DESCRIPTOR_H
#define VN_BLK_FILE_DESCRIPTOR_H

#include "base/error.h"

struct vn_blk_descriptor {
	int fd; // owned
	int refused; // 0: a description of its own; else why there is none, a negative errno
};

// Open what `given` refers to once more, with these flags. -ENOENT: no /proc; -EACCES and others of
// open(2). The caller's to close.
int vn_blk_descriptor_reopen(int given, int flags);

// Take `given` for a disk. `flags`: O_RDONLY or O_RDWR, and O_DIRECT if that is wanted. `path` is
// what messages call it. -EACCES: it is not open for what the disk needs; -EINVAL: no O_DIRECT, or
// a description that must be used as it is and has other flags.
int vn_blk_descriptor_take(struct vn_blk_descriptor *descriptor, int given, int flags,
	const char *path, struct veneer_error *error);

#endif
