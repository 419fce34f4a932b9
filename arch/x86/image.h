// SPDX-License-Identifier: Apache-2.0
//
// The bytes of a kernel or an initrd, read piece by piece from a file or from memory. Files are
// read with pread(2) and never mapped: a file that shrinks meanwhile is an error, not a SIGBUS.
#ifndef VN_X86_IMAGE_H
#define VN_X86_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file_prop.h"

struct vn_image {
	const char *name; // for messages; the caller's, or in `text`
	char text[32];
	int fd; // -1: in memory
	const uint8_t *data; // the caller's
	uint64_t size; // bytes, more than 0
};

// Open a regular file that has something in it. `file` must outlive the image, which is not moved.
int vn_image_open(struct vn_image *image, const struct vn_file *file, struct veneer_error *error);

void vn_image_from_memory(
	struct vn_image *image, const char *name, const void *data, uint64_t size);

void vn_image_close(struct vn_image *image);

// Exactly `size` bytes from `offset` on; -ENOEXEC when the image ends before.
int vn_image_read(const struct vn_image *image, uint64_t offset, void *data, uint64_t size,
	struct veneer_error *error);

#endif
