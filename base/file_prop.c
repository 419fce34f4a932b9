// SPDX-License-Identifier: Apache-2.0
#include "base/file_prop.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Fields are compared with their defaults as bytes, of which none may be padding.
static_assert(sizeof(struct vn_file) == sizeof(char *) + 2 * sizeof(int), "padding");

static void release(void *field)
{
	struct vn_file *file = field;
	free(file->name);
	if (file->fd >= 0)
		close(file->fd);
	*file = (struct vn_file)VN_NO_FILE;
}

static int parse(const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	char *name = NULL;
	int code = vn_prop_string.parse(prop, &name, value, why);
	if (code < 0)
		return code;
	release(field);
	((struct vn_file *)field)->name = name;
	return 0;
}

static void expect(const struct vn_prop *prop, struct vn_text *text)
{
	vn_prop_string.expect(prop, text);
}

static char *format(const struct vn_prop *prop, const void *field)
{
	const struct vn_file *file = field;
	(void)prop;
	return strdup(file->name ? file->name : "");
}

static bool has_text(const void *field)
{
	return ((const struct vn_file *)field)->fd < 0;
}

static int copy(void *to, const void *from)
{
	const struct vn_file *file = from;
	struct vn_file result = VN_NO_FILE;
	int code = 0;
	if (file->name && !(result.name = strdup(file->name)))
		code = -ENOMEM;
	else if (file->fd >= 0 && (result.fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0)) < 0)
		code = -errno;
	if (result.fd >= 0)
		result.moved = result.fd - (file->fd - file->moved);
	*(struct vn_file *)to = result;
	return code;
}

static int take_fd(void *field, int fd)
{
	struct vn_file *file = field;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return -errno;
	release(field);
	file->fd = own;
	file->moved = own - fd;
	return 0;
}

const struct vn_prop_type vn_prop_file = {.kind = VENEER_TYPE_TEXT,
	.parse = parse,
	.expect = expect,
	.format = format,
	.has_text = has_text,
	.copy = copy,
	.release = release,
	.take_fd = take_fd};

const char *vn_file_called(const struct vn_file *file, char text[32])
{
	if (file->name)
		return file->name;
	snprintf(text, 32, "descriptor %d", file->fd - file->moved);
	return text;
}
