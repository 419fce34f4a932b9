// SPDX-License-Identifier: Apache-2.0
//
// Reading the kernel's small files.
#include "vmm/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int read_line(
	const char *root, char *text, size_t size, const char *format, va_list arguments)
{
	char path[PATH_MAX];
	text[0] = '\0';
	size_t used = (size_t)snprintf(path, sizeof(path), "%s", root);
	if (used < sizeof(path))
		used += (size_t)vsnprintf(path + used, sizeof(path) - used, format, arguments);
	if (used >= sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	// One read: such a file gives all that it has at once, or says what is wrong.
	ssize_t got = read(fd, text, size - 1);
	int code = got < 0 ? -errno : 0;
	close(fd);
	text[got < 0 ? 0 : got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return code;
}

int vn_sysfs_line(const char *root, char *text, size_t size, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int code = read_line(root, text, size, format, arguments);
	va_end(arguments);
	return code;
}

int vn_sysfs_number(const char *root, int64_t *number, const char *format, ...)
{
	char text[64];
	va_list arguments;
	va_start(arguments, format);
	int code = read_line(root, text, sizeof(text), format, arguments);
	va_end(arguments);
	if (code < 0)
		return code;
	char *end;
	errno = 0;
	int64_t value = strtoll(text, &end, 10);
	if (end == text || errno != 0)
		return -EINVAL;
	*number = value;
	return 0;
}
