// SPDX-License-Identifier: Apache-2.0
//
// Decompressing the payload of a kernel image, as a stream: compressed bytes are read in pieces,
// what comes out goes to a sink in pieces.
#ifndef VN_X86_DECOMPRESS_H
#define VN_X86_DECOMPRESS_H

#include <stdbool.h>

#include "arch/x86/image.h"

// Takes the next bytes; its negative errno ends the decompression.
struct vn_sink {
	int (*write)(void *opaque, const void *data, size_t size);
	void *opaque;
};

// Whether bytes [offset, offset + size) of `image` begin like a stream that vn_decompress() knows:
// gzip, xz, zstd, or legacy lz4.
int vn_decompress_supports(const struct vn_image *image, uint64_t offset, uint64_t size,
	bool *supported, struct veneer_error *error);

// The bytes are one such stream, in the form that Linux's build makes: all but gzip have the
// decompressed size appended. -ENOEXEC for damaged data and formats that are not supported.
int vn_decompress(const struct vn_image *image, uint64_t offset, uint64_t size,
	const struct vn_sink *sink, struct veneer_error *error);

#endif
