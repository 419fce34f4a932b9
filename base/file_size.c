// SPDX-License-Identifier: Apache-2.0
#include "base/file_size.h"

#include <errno.h>
#include <linux/fs.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

int vn_file_size(int fd, uint64_t *bytes)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (S_ISBLK(status.st_mode))
		return ioctl(fd, BLKGETSIZE64, bytes) < 0 ? -errno : 0;
	*bytes = (uint64_t)status.st_size;
	return 0;
}
