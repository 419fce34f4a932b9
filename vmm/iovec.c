// SPDX-License-Identifier: Apache-2.0
//
// The three loops over pieces that the data path has.
#include "vmm/iovec.h"

#include <string.h>

static size_t part_of(const struct iovec *piece, size_t size)
{
	return piece->iov_len < size ? piece->iov_len : size;
}

void vn_iovec_gather(void *to, const struct iovec *from, size_t size)
{
	for (char *at = to; size > 0; from++) {
		size_t part = part_of(from, size);
		memcpy(at, from->iov_base, part);
		at += part;
		size -= part;
	}
}

void vn_iovec_scatter(const struct iovec *to, const void *from, size_t size)
{
	for (const char *at = from; size > 0; to++) {
		size_t part = part_of(to, size);
		memcpy(to->iov_base, at, part);
		at += part;
		size -= part;
	}
}

void vn_iovec_advance(struct iovec **iov, unsigned *count, size_t size)
{
	while (*count > 0 && size >= (*iov)->iov_len) {
		size -= (*iov)->iov_len;
		(*iov)++;
		(*count)--;
	}
	if (*count > 0 && size > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + size;
		(*iov)->iov_len -= size;
	}
}
