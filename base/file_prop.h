// SPDX-License-Identifier: Apache-2.0
//
// A property type for a file or interface of the host: its name, or an open descriptor from the
// embedding program.
#ifndef VN_FILE_PROP_H
#define VN_FILE_PROP_H

#include "base/prop.h"

// Name and descriptor are owned. Setting one clears the other.
struct vn_file {
	char *name; // or NULL
	int fd; // or -1
	int moved; // how far `fd` is from the number that the caller knows it by
};

#define VN_NO_FILE                                                                                 \
	{                                                                                          \
		.fd = -1                                                                           \
	}

// `min`, `max` and `accepts` of the property are as for a string.
extern const struct vn_prop_type vn_prop_file;

static inline bool vn_file_is_set(const struct vn_file *file)
{
	return file->name || file->fd >= 0;
}

// What to call it in messages: its name, or "descriptor N" in `text`, where N is the number that
// the caller knows, not that of the duplicate.
const char *vn_file_called(const struct vn_file *file, char text[32]);

#endif
