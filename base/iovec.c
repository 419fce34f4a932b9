// SPDX-License-Identifier: Apache-2.0
//
// The loops over pieces that the data path has.
#include "base/iovec.h"

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

// A piece is zero if its first bytes are, and each of the others equals the one so far before it:
// the library's comparison is as fast as the machine reads.
static bool is_zero(const char *at, size_t size)
{
	static const char zeroes[64];
	size_t first = size < sizeof(zeroes) ? size : sizeof(zeroes);
	return memcmp(at, zeroes, first) == 0 && memcmp(at, at + first, size - first) == 0;
}

bool vn_iovec_is_zero(const struct iovec *iov, size_t size)
{
	for (; size > 0; iov++) {
		size_t part = part_of(iov, size);
		if (!is_zero(iov->iov_base, part))
			return false;
		size -= part;
	}
	return true;
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
