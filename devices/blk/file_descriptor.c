// SPDX-License-Identifier: Apache-2.0
#include "devices/blk/file_descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/blk/file_measure.h"

static bool is_same_file(int a, int b)
{
	struct stat of_a, of_b;
	return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
	       of_a.st_ino == of_b.st_ino;
}

int vn_blk_descriptor_reopen(int given, int flags)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", given);
	int fd = open(path, O_CLOEXEC | flags);
	if (fd < 0)
		return -errno;
	if (is_same_file(fd, given))
		return fd;
	close(fd);
	return -ENOENT; // what is mounted there is not this process's /proc
}

// Opening it again must not give the guest more than the program has given.
static int check_access(int has, int flags, const char *path, struct veneer_error *error)
{
	int mode = has & O_ACCMODE;
	if (has & O_PATH)
		return vn_fail(error, -EACCES,
			"disk %s: is open with O_PATH, neither for reading nor for writing", path);
	if (mode == O_RDWR || mode == (flags & O_ACCMODE))
		return 0;
	if (mode == O_RDONLY)
		return vn_fail(error, -EACCES,
			"disk %s: is open for reading only; "
			"open it for reading and writing, or add readonly",
			path);
	return vn_fail(error, -EACCES, "disk %s: is not open for reading", path);
}

// With O_APPEND, pwrite(2) writes at the end of the file, whatever the offset. With O_NONBLOCK,
// io_uring fails a transfer that would have to wait.
static int check_flags(int has, int flags, const char *path, struct veneer_error *error)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	const char *flag = NULL;
	if (writes && (has & O_APPEND))
		flag = "O_APPEND";
	else if (has & O_NONBLOCK)
		flag = "O_NONBLOCK";
	if (flag)
		return vn_fail(error, -EINVAL,
			"disk %s: is open with %s, and cannot be opened again; open it without",
			path, flag);
	if ((has & O_DIRECT) == (flags & O_DIRECT))
		return 0;
	return vn_fail(error, -EINVAL,
		"disk %s: is open %s O_DIRECT, and cannot be opened again; open it %s O_DIRECT, "
		"or use another cache mode",
		path, has & O_DIRECT ? "with" : "without", has & O_DIRECT ? "without" : "with");
}

static bool is_withheld(int code)
{
	return code == -ENOENT || code == -EACCES || code == -EPERM;
}

static int fail_plainly(int code, const char *path, struct veneer_error *error)
{
	return vn_fail(error, code, "disk %s: %s", path, strerror(-code));
}

int vn_blk_descriptor_take(struct vn_blk_descriptor *descriptor, int given, int flags,
	const char *path, struct veneer_error *error)
{
	int has = fcntl(given, F_GETFL);
	int code =
		has < 0 ? fail_plainly(-errno, path, error) : check_access(has, flags, path, error);
	if (code < 0)
		return code;
	int fd = vn_blk_descriptor_reopen(given, flags);
	*descriptor = (struct vn_blk_descriptor){.fd = fd};
	if (fd >= 0)
		return 0;
	if (fd == -EINVAL && (flags & O_DIRECT))
		return vn_blk_file_no_direct(path, error);
	if (!is_withheld(fd))
		return fail_plainly(fd, path, error);
	code = check_flags(has, flags, path, error);
	if (code < 0)
		return code;
	descriptor->refused = fd;
	descriptor->fd = fcntl(given, F_DUPFD_CLOEXEC, 0);
	return descriptor->fd < 0 ? fail_plainly(-errno, path, error) : 0;
}
