// SPDX-License-Identifier: Apache-2.0
//
// What the kernel says of the host in small files: /sys and /proc, below a root, which is "" on the
// live host and a directory where a test has laid out another machine's files.
#ifndef VN_SYSFS_H
#define VN_SYSFS_H

#include <stddef.h>
#include <stdint.h>

// The first line of the file, without its end, cut to fit `size` bytes. `format` names the file,
// from a slash on. 0, or a negative errno with `text` empty.
int vn_sysfs_line(const char *root, char *text, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

// The decimal number that the file begins with. 0, or a negative errno (-EINVAL: no number) with
// `number` untouched.
int vn_sysfs_number(const char *root, int64_t *number, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

// The sum of the numbers behind those words of the file that are in `names`, which ends with NULL:
// in a file of lines `NAME NUMBER`, whatever stands before or behind these. 0, or a negative errno
// with `sum` untouched.
int vn_sysfs_sum(const char *root, uint64_t *sum, const char *const *names, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
