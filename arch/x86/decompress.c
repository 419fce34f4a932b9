// SPDX-License-Identifier: Apache-2.0
//
// Four libraries behind one loop. A codec makes one step at a time from what is in the input
// buffer into the output buffer; reading, the sink, the limits and the check of the stream's
// end are common. Legacy lz4 is made of whole blocks and has a loop of its own.
#include "arch/x86/decompress.h"

#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/macros.h"

#define IN_SIZE       (64 * KIB)
#define OUT_SIZE      (256 * KIB)
#define STREAM_MAX    GIB // no kernel is larger; a bomb is
#define XZ_MEMORY_MAX (128 * MIB) // Linux's build asks for a dictionary of 32 MiB
#define LZ4_BLOCK     (8 * MIB) // decompressed size of all blocks but the last
#define TRAILER_SIZE  4 // the decompressed size, little-endian

struct codec;

// A decompression under way.
struct stream {
	const struct vn_image *image;
	const struct vn_sink *sink;
	struct veneer_error *error;
	const struct codec *codec;
	uint64_t offset, left; // what of the payload has not been read
	uint64_t produced;
};

// Where a codec's step takes from and puts to; it moves all four on.
struct window {
	const uint8_t *in;
	size_t in_size;
	uint8_t *out;
	size_t out_size;
};

enum { STEP_MORE, STEP_END }; // or a negative errno: -ENOEXEC damaged, -ENOMEM

// What gives the stream its name, and how to go about it.
struct codec {
	const char *name;
	const char *magic;
	size_t magic_size;
	int (*run)(struct stream *stream);
};

#define fail(stream, code, what)                                                                   \
	vn_fail((stream)->error, (code), "%s: its %s payload %s", (stream)->image->name,           \
		(stream)->codec->name, (what))

static int fail_code(struct stream *stream, int code)
{
	return fail(stream, code,
		code == -ENOMEM ? "takes too much memory to decompress" : "is damaged");
}

static int read_input(struct stream *stream, void *data, size_t size)
{
	int code = vn_image_read(stream->image, stream->offset, data, size, stream->error);
	if (code < 0)
		return code;
	stream->offset += size;
	stream->left -= size;
	return 0;
}

static int write_output(struct stream *stream, const void *data, size_t size)
{
	stream->produced += size;
	if (stream->produced > STREAM_MAX)
		return fail(stream, -ENOEXEC, "decompresses to more than 1 GiB");
	return size > 0 ? stream->sink->write(stream->sink->opaque, data, size) : 0;
}

static int read_word(struct stream *stream, uint32_t *word)
{
	uint8_t bytes[4] = {0};
	if (stream->left < sizeof(bytes))
		return fail(stream, -ENOEXEC, "is cut short");
	int code = read_input(stream, bytes, sizeof(bytes));
	*word = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
		(uint32_t)bytes[3] << 24;
	return code;
}

// Nothing, or the decompressed size, may follow the stream.
static int check_trailer(struct stream *stream)
{
	if (stream->left == 0)
		return 0;
	if (stream->left != TRAILER_SIZE)
		return fail(stream, -ENOEXEC, "is followed by bytes that do not belong to it");
	uint32_t size;
	int code = read_word(stream, &size);
	if (code < 0)
		return code;
	if (size != stream->produced)
		return fail(stream, -ENOEXEC, "does not decompress to the size it claims");
	return 0;
}

// Go on until the codec sees its stream's end.
static int pump(struct stream *stream, uint8_t *in, uint8_t *out,
	int (*step)(void *state, struct window *window), void *state)
{
	struct window window = {.in = in};
	for (;;) {
		if (window.in_size == 0 && stream->left > 0) {
			window.in = in;
			window.in_size = stream->left < IN_SIZE ? (size_t)stream->left : IN_SIZE;
			int code = read_input(stream, in, window.in_size);
			if (code < 0)
				return code;
		}
		window.out = out;
		window.out_size = OUT_SIZE;
		size_t before = window.in_size;
		int result = step(state, &window);
		if (result < 0)
			return fail_code(stream, result);
		size_t made = OUT_SIZE - window.out_size;
		int code = write_output(stream, out, made);
		if (code < 0)
			return code;
		if (result == STEP_END)
			break;
		if (made == 0 && window.in_size == before)
			return fail(stream, -ENOEXEC, before == 0 ? "is cut short" : "is damaged");
	}
	stream->offset -= window.in_size; // not the codec's
	stream->left += window.in_size;
	return check_trailer(stream);
}

static int pump_with_buffers(
	struct stream *stream, int (*step)(void *state, struct window *window), void *state)
{
	uint8_t *buffers = malloc(IN_SIZE + OUT_SIZE);
	if (!buffers)
		return fail_code(stream, -ENOMEM);
	int code = pump(stream, buffers, buffers + IN_SIZE, step, state);
	free(buffers);
	return code;
}

static int step_gzip(void *state, struct window *window)
{
	z_stream *z = state;
	z->next_in = (Bytef *)(uintptr_t)window->in; // zlib only reads it
	z->avail_in = (uInt)window->in_size;
	z->next_out = window->out;
	z->avail_out = (uInt)window->out_size;
	int result = inflate(z, Z_NO_FLUSH);
	window->in = z->next_in;
	window->in_size = z->avail_in;
	window->out_size = z->avail_out;
	if (result == Z_STREAM_END)
		return STEP_END;
	if (result == Z_MEM_ERROR)
		return -ENOMEM;
	return result == Z_OK || result == Z_BUF_ERROR ? STEP_MORE : -ENOEXEC;
}

static int run_gzip(struct stream *stream)
{
	z_stream z = {0};
	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) // 16: with a gzip header
		return fail_code(stream, -ENOMEM);
	int code = pump_with_buffers(stream, step_gzip, &z);
	inflateEnd(&z);
	return code;
}

static int step_xz(void *state, struct window *window)
{
	lzma_stream *lzma = state;
	lzma->next_in = window->in;
	lzma->avail_in = window->in_size;
	lzma->next_out = window->out;
	lzma->avail_out = window->out_size;
	lzma_ret result = lzma_code(lzma, LZMA_RUN);
	window->in = lzma->next_in;
	window->in_size = lzma->avail_in;
	window->out_size = lzma->avail_out;
	if (result == LZMA_STREAM_END)
		return STEP_END;
	if (result == LZMA_MEM_ERROR || result == LZMA_MEMLIMIT_ERROR)
		return -ENOMEM;
	return result == LZMA_OK || result == LZMA_BUF_ERROR ? STEP_MORE : -ENOEXEC;
}

static int run_xz(struct stream *stream)
{
	lzma_stream lzma = LZMA_STREAM_INIT;
	if (lzma_stream_decoder(&lzma, XZ_MEMORY_MAX, 0) != LZMA_OK)
		return fail_code(stream, -ENOMEM);
	int code = pump_with_buffers(stream, step_xz, &lzma);
	lzma_end(&lzma);
	return code;
}

static int step_zstd(void *state, struct window *window)
{
	ZSTD_inBuffer in = {.src = window->in, .size = window->in_size};
	ZSTD_outBuffer out = {.dst = window->out, .size = window->out_size};
	size_t result = ZSTD_decompressStream(state, &out, &in);
	window->in += in.pos;
	window->in_size -= in.pos;
	window->out_size -= out.pos;
	if (!ZSTD_isError(result))
		return result == 0 ? STEP_END : STEP_MORE;
	ZSTD_ErrorCode error = ZSTD_getErrorCode(result);
	bool memory = error == ZSTD_error_memory_allocation ||
		      error == ZSTD_error_frameParameter_windowTooLarge;
	return memory ? -ENOMEM : -ENOEXEC;
}

// The library's own limit for the window, 128 MiB, is what Linux's build uses.
static int run_zstd(struct stream *stream)
{
	ZSTD_DStream *zstd = ZSTD_createDStream();
	if (!zstd)
		return fail_code(stream, -ENOMEM);
	int code = pump_with_buffers(stream, step_zstd, zstd);
	ZSTD_freeDStream(zstd);
	return code;
}

// Blocks, each with its compressed size before it, until nothing or the trailer is left.
static int lz4_blocks(struct stream *stream, char *in, char *out)
{
	uint32_t size;
	int code = read_word(stream, &size); // the magic number
	while (code == 0 && stream->left > TRAILER_SIZE) {
		code = read_word(stream, &size);
		if (code < 0)
			return code;
		if (size > (uint32_t)LZ4_COMPRESSBOUND(LZ4_BLOCK))
			return fail_code(stream, -ENOEXEC);
		if (size > stream->left)
			return fail(stream, -ENOEXEC, "is cut short");
		code = read_input(stream, in, size);
		if (code < 0)
			return code;
		int made = LZ4_decompress_safe(in, out, (int)size, LZ4_BLOCK);
		if (made < 0)
			return fail_code(stream, -ENOEXEC);
		code = write_output(stream, out, (size_t)made);
	}
	return code < 0 ? code : check_trailer(stream);
}

static int run_lz4(struct stream *stream)
{
	char *buffers = malloc(LZ4_BLOCK + LZ4_COMPRESSBOUND(LZ4_BLOCK));
	if (!buffers)
		return fail_code(stream, -ENOMEM);
	int code = lz4_blocks(stream, buffers + LZ4_BLOCK, buffers);
	free(buffers);
	return code;
}

#define MAGIC(bytes) .magic = (bytes), .magic_size = sizeof(bytes) - 1

static const struct codec codecs[] = {
	{.name = "gzip", MAGIC("\x1f\x8b"), .run = run_gzip},
	{.name = "xz", MAGIC("\xfd\x37zXZ\0"), .run = run_xz},
	{.name = "zstd", MAGIC("\x28\xb5\x2f\xfd"), .run = run_zstd},
	{.name = "lz4", MAGIC("\x02\x21\x4c\x18"), .run = run_lz4},
};

#define MAGIC_MAX 6

// *codec: NULL where the stream's first bytes are none of these.
static int find_codec(const struct vn_image *image, uint64_t offset, uint64_t size,
	const struct codec **codec, struct veneer_error *error)
{
	uint8_t magic[MAGIC_MAX] = {0};
	size_t magic_size = size < MAGIC_MAX ? (size_t)size : MAGIC_MAX;
	int code = vn_image_read(image, offset, magic, magic_size, error);
	*codec = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(codecs); i++)
		if (codecs[i].magic_size <= magic_size &&
			memcmp(magic, codecs[i].magic, codecs[i].magic_size) == 0)
			*codec = &codecs[i];
	return code;
}

int vn_decompress_supports(const struct vn_image *image, uint64_t offset, uint64_t size,
	bool *supported, struct veneer_error *error)
{
	const struct codec *codec;
	int code = find_codec(image, offset, size, &codec, error);
	*supported = codec != NULL;
	return code;
}

int vn_decompress(const struct vn_image *image, uint64_t offset, uint64_t size,
	const struct vn_sink *sink, struct veneer_error *error)
{
	struct stream stream = {
		.image = image, .sink = sink, .error = error, .offset = offset, .left = size};
	int code = find_codec(image, offset, size, &stream.codec, error);
	if (code < 0)
		return code;
	if (!stream.codec)
		return vn_fail(error, -ENOEXEC, "%s: its payload is not gzip, xz, zstd or lz4",
			image->name);
	return stream.codec->run(&stream);
}
