// SPDX-License-Identifier: Apache-2.0
//
// Data in pieces: what virtqueue chains, devices and backends hand to each other.
#ifndef VN_IOVEC_H
#define VN_IOVEC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

// Copy `size` bytes, which the pieces hold, out of them or into them.
void vn_iovec_gather(void *to, const struct iovec *from, size_t size);
void vn_iovec_scatter(const struct iovec *to, const void *from, size_t size);

// Whether the first `size` bytes are all zero.
bool vn_iovec_is_zero(const struct iovec *iov, size_t size);

// Drop the first `size` bytes, at most all: whole pieces, and the front of the next, which changes.
void vn_iovec_advance(struct iovec **iov, unsigned *count, size_t size);

#endif
