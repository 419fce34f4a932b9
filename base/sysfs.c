// SPDX-License-Identifier: Apache-2.0
//
// Reading the kernel's small files.
#include "base/sysfs.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((format(printf, 3, 0))) static int make_path(
	char path[static PATH_MAX], const char *root, const char *format, va_list arguments)
{
	size_t used = (size_t)snprintf(path, PATH_MAX, "%s", root);
	if (used < PATH_MAX)
		used += (size_t)vsnprintf(path + used, PATH_MAX - used, format, arguments);
	return used < PATH_MAX ? 0 : -ENAMETOOLONG;
}

__attribute__((format(printf, 4, 0))) static int read_line(
	const char *root, char *text, size_t size, const char *format, va_list arguments)
{
	char path[PATH_MAX];
	text[0] = '\0';
	if (make_path(path, root, format, arguments) < 0)
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

// The number behind the word `name` in `line`, or 0 where that is not in it.
static uint64_t number_behind(const char *line, const char *name)
{
	const char *at = strstr(line, name);
	size_t length = strlen(name);
	bool whole = at && (at == line || isspace((unsigned char)at[-1])) &&
		     isspace((unsigned char)at[length]);
	return whole ? strtoull(at + length, NULL, 10) : 0;
}

int vn_sysfs_sum(const char *root, uint64_t *sum, const char *const *names, const char *format, ...)
{
	char path[PATH_MAX], line[160];
	va_list arguments;
	va_start(arguments, format);
	int code = make_path(path, root, format, arguments);
	va_end(arguments);
	FILE *file = code == 0 ? fopen(path, "re") : NULL;
	if (!file)
		return code < 0 ? code : -errno;
	*sum = 0;
	while (fgets(line, sizeof(line), file))
		for (const char *const *name = names; *name; name++)
			*sum += number_behind(line, *name);
	fclose(file);
	return 0;
}
