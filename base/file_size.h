// SPDX-License-Identifier: Apache-2.0
//
// The size of what a disk's bytes are in.
#ifndef VN_FILE_SIZE_H
#define VN_FILE_SIZE_H

#include <stdint.h>

// The bytes of a regular file or a block device, by its own account: seeking would move an offset
// that others may share. 0 for what has no size, such as a pipe. A negative errno.
int vn_file_size(int fd, uint64_t *bytes);

#endif
