// SPDX-License-Identifier: Apache-2.0
//
// Reading the files that a guest boots from.
#include "arch/x86/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *kind_of_file(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a pipe";
	case S_IFSOCK:
		return "a socket";
	case S_IFBLK:
		return "a block device";
	default:
		return "a character device";
	}
}

static int check_file(struct vn_image *image, struct veneer_error *error)
{
	struct stat stat;
	if (fstat(image->fd, &stat) < 0)
		return vn_fail(error, -errno, "%s: %s", image->name, strerror(errno));
	if (!S_ISREG(stat.st_mode))
		return vn_fail(error, S_ISDIR(stat.st_mode) ? -EISDIR : -EINVAL,
			"%s: is %s, not a regular file", image->name, kind_of_file(stat.st_mode));
	if (stat.st_size == 0)
		return vn_fail(error, -EINVAL, "%s: the file is empty", image->name);
	image->size = (uint64_t)stat.st_size;
	return 0;
}

int vn_image_open(struct vn_image *image, const struct vn_file *file, struct veneer_error *error)
{
	*image = (struct vn_image){.fd = -1};
	image->name = vn_file_called(file, image->text);
	// O_NONBLOCK: a pipe without a writer must be refused, not waited for.
	image->fd = file->name ? open(file->name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
			       : fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
	if (image->fd < 0)
		return vn_fail(error, -errno, "%s: %s", image->name, strerror(errno));
	int code = check_file(image, error);
	if (code < 0)
		vn_image_close(image);
	return code;
}

void vn_image_from_memory(struct vn_image *image, const char *name, const void *data, uint64_t size)
{
	*image = (struct vn_image){.name = name, .fd = -1, .data = data, .size = size};
}

void vn_image_close(struct vn_image *image)
{
	if (image->fd >= 0)
		close(image->fd);
	image->fd = -1;
}

static int fail_short(const struct vn_image *image, uint64_t offset, struct veneer_error *error)
{
	return vn_fail(error, -ENOEXEC,
		"%s: the file is cut short: it has no bytes from offset %" PRIu64 " on",
		image->name, offset);
}

int vn_image_read(const struct vn_image *image, uint64_t offset, void *data, uint64_t size,
	struct veneer_error *error)
{
	if (offset > image->size || size > image->size - offset)
		return fail_short(image, image->size, error);
	if (image->fd < 0) {
		memcpy(data, image->data + offset, size);
		return 0;
	}
	uint8_t *bytes = data;
	while (size > 0) {
		ssize_t got = pread(image->fd, bytes, size, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return vn_fail(error, -errno, "%s: %s", image->name, strerror(errno));
		if (got == 0)
			return fail_short(image, offset, error);
		bytes += got;
		offset += (uint64_t)got;
		size -= (uint64_t)got;
	}
	return 0;
}
