// SPDX-License-Identifier: Apache-2.0
//
// Kernels made in memory for the loaders' tests: a small valid ELF file, a bzImage around any
// payload, the four compressions, and guest memory to load them into.
#ifndef TEST_KERNEL_IMAGE_H
#define TEST_KERNEL_IMAGE_H

#include <asm/bootparam.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#include "arch/x86/map.h"
#include "base/macros.h"
#include "core/memory.h"

// The valid ELF file: two segments, the one at the higher address first in the file, and a note
// that lies within the second.
#define ELF_HIGH_OFFSET 0x1000u
#define ELF_HIGH_FILE   0x900u
#define ELF_HIGH_SIZE   0x3000u // with zeroed memory behind
#define ELF_HIGH_START  0x2000000u
#define ELF_LOW_OFFSET  0x2000u
#define ELF_LOW_START   0x200000u
#define ELF_LOW_LEAST   0x1000u
#define ELF_ENTRY       0x200100u
#define ELF_PVH_ENTRY   0x200200u
#define ELF_NOTE_OFFSET 0x2010u
#define ELF_NOTE_SIZE   24u
#define ELF_MEMORY      (48 * MIB) // what a guest needs for it

enum { PHDR_HIGH, PHDR_NOTE, PHDR_LOW, PHDR_COUNT };

// A file under construction; `data` is malloc'ed and the test's.
struct bytes {
	uint8_t *data;
	size_t size;
};

static inline struct bytes make_bytes(size_t size)
{
	struct bytes bytes = {.data = calloc(1, size), .size = size};
	assert_non_null(bytes.data);
	return bytes;
}

static inline uint32_t next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static inline Elf64_Ehdr *elf_header(const struct bytes *file)
{
	return (Elf64_Ehdr *)(void *)file->data;
}

static inline Elf64_Phdr *elf_phdr(const struct bytes *file, unsigned i)
{
	return (Elf64_Phdr *)(void *)(file->data + sizeof(Elf64_Ehdr)) + i;
}

static inline uint32_t *elf_note(const struct bytes *file)
{
	return (uint32_t *)(void *)(file->data + ELF_NOTE_OFFSET);
}

static inline void put_note(const struct bytes *file, uint64_t entry)
{
	const uint32_t words[] = {4, 8, 18};
	memcpy(file->data + ELF_NOTE_OFFSET, words, sizeof(words));
	memcpy(file->data + ELF_NOTE_OFFSET + 12, "Xen", 4);
	memcpy(file->data + ELF_NOTE_OFFSET + 16, &entry, sizeof(entry));
}

// `low_size` bytes in the second segment, half of them hard to compress.
static inline struct bytes make_elf(size_t low_size)
{
	struct bytes file = make_bytes(ELF_LOW_OFFSET + low_size);
	uint32_t random = 1;
	for (size_t i = ELF_HIGH_OFFSET; i < file.size; i++)
		file.data[i] = (i & 0x80) ? (uint8_t)next_random(&random) : (uint8_t)(i >> 8);
	*elf_header(&file) =
		(Elf64_Ehdr){.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_entry = ELF_ENTRY,
			.e_phoff = sizeof(Elf64_Ehdr),
			.e_ehsize = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = PHDR_COUNT};
	*elf_phdr(&file, PHDR_HIGH) = (Elf64_Phdr){.p_type = PT_LOAD,
		.p_offset = ELF_HIGH_OFFSET,
		.p_vaddr = 0xffffffff80000000 + ELF_HIGH_START,
		.p_paddr = ELF_HIGH_START,
		.p_filesz = ELF_HIGH_FILE,
		.p_memsz = ELF_HIGH_SIZE,
		.p_align = 4096};
	*elf_phdr(&file, PHDR_NOTE) = (Elf64_Phdr){.p_type = PT_NOTE,
		.p_offset = ELF_NOTE_OFFSET,
		.p_paddr = ELF_LOW_START + ELF_NOTE_OFFSET - ELF_LOW_OFFSET,
		.p_filesz = ELF_NOTE_SIZE,
		.p_memsz = ELF_NOTE_SIZE,
		.p_align = 4};
	*elf_phdr(&file, PHDR_LOW) = (Elf64_Phdr){.p_type = PT_LOAD,
		.p_offset = ELF_LOW_OFFSET,
		.p_vaddr = 0xffffffff80000000 + ELF_LOW_START,
		.p_paddr = ELF_LOW_START,
		.p_filesz = low_size,
		.p_memsz = low_size,
		.p_align = 4096};
	put_note(&file, ELF_PVH_ENTRY);
	return file;
}

static inline void drop_note(const struct bytes *file)
{
	elf_phdr(file, PHDR_NOTE)->p_type = PT_NULL;
}

#define BZIMAGE_SETUP_SECTS    3u
#define BZIMAGE_SETUP_SIZE     ((BZIMAGE_SETUP_SECTS + 1) * 512u)
#define BZIMAGE_PAYLOAD_OFFSET 0x100u
#define BZIMAGE_TAIL           64u // what a signature would be

static inline struct setup_header *bzimage_header(const struct bytes *file)
{
	return (struct setup_header *)(void *)(file->data + 0x1f1);
}

static inline struct bytes make_bzimage(const struct bytes *payload)
{
	size_t start = BZIMAGE_SETUP_SIZE + BZIMAGE_PAYLOAD_OFFSET;
	struct bytes file = make_bytes(start + payload->size + BZIMAGE_TAIL);
	memcpy(file.data + start, payload->data, payload->size);
	memset(file.data + start + payload->size, 0xa5, BZIMAGE_TAIL);
	*bzimage_header(&file) = (struct setup_header){.setup_sects = BZIMAGE_SETUP_SECTS,
		.syssize = (uint32_t)(BZIMAGE_PAYLOAD_OFFSET + payload->size + 15) / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb, // the header ends at 0x202 + 0x6a
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.code32_start = 0x100000,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 2 * MIB,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
		.cmdline_size = 2047,
		.payload_offset = BZIMAGE_PAYLOAD_OFFSET,
		.payload_length = (uint32_t)payload->size,
		.pref_address = ELF_LOW_START,
		.init_size = 4 * MIB};
	return file;
}

// Linux's build appends the decompressed size to all formats but gzip.
static inline void put_trailer(struct bytes *packed, size_t plain_size)
{
	uint32_t size = (uint32_t)plain_size;
	memcpy(packed->data + packed->size, &size, sizeof(size));
	packed->size += sizeof(size);
}

static inline struct bytes compress_gzip(const struct bytes *plain)
{
	z_stream z = {0};
	assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
	struct bytes packed = make_bytes(deflateBound(&z, plain->size));
	z.next_in = plain->data;
	z.avail_in = (uInt)plain->size;
	z.next_out = packed.data;
	z.avail_out = (uInt)packed.size;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	packed.size = z.total_out;
	deflateEnd(&z);
	return packed;
}

static inline struct bytes compress_xz(const struct bytes *plain)
{
	lzma_options_lzma options;
	assert_false(lzma_lzma_preset(&options, 0));
	lzma_filter filters[] = {{.id = LZMA_FILTER_X86},
		{.id = LZMA_FILTER_LZMA2, .options = &options}, {.id = LZMA_VLI_UNKNOWN}};
	struct bytes packed = make_bytes(lzma_stream_buffer_bound(plain->size) + 4);
	size_t size = 0;
	assert_int_equal(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, plain->data,
				 plain->size, packed.data, &size, packed.size),
		LZMA_OK);
	packed.size = size;
	put_trailer(&packed, plain->size);
	return packed;
}

static inline struct bytes compress_zstd(const struct bytes *plain)
{
	struct bytes packed = make_bytes(ZSTD_compressBound(plain->size) + 4);
	ZSTD_CCtx *zstd = ZSTD_createCCtx();
	assert_non_null(zstd);
	ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
	packed.size = ZSTD_compress2(zstd, packed.data, packed.size, plain->data, plain->size);
	assert_false(ZSTD_isError(packed.size));
	ZSTD_freeCCtx(zstd);
	put_trailer(&packed, plain->size);
	return packed;
}

static inline struct bytes compress_lz4(const struct bytes *plain)
{
	const int block = 8 * MIB;
	const size_t blocks = plain->size / (size_t)block + 1;
	struct bytes packed = make_bytes(8 + blocks * (4 + (size_t)LZ4_compressBound(block)));
	memcpy(packed.data, "\x02\x21\x4c\x18", 4);
	size_t at = 4;
	for (size_t from = 0; from < plain->size; from += (size_t)block) {
		size_t left = plain->size - from;
		int32_t made = LZ4_compress_default((const char *)plain->data + from,
			(char *)packed.data + at + 4, left < (size_t)block ? (int)left : block,
			LZ4_compressBound(block));
		assert_true(made > 0);
		memcpy(packed.data + at, &made, 4);
		at += 4 + (size_t)made;
	}
	packed.size = at;
	put_trailer(&packed, plain->size);
	return packed;
}

// A file that holds the bytes; the descriptor is the test's, the path is good as long as it.
static inline int make_file(const struct bytes *bytes, char *path, size_t path_size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes->data, bytes->size), bytes->size);
	snprintf(path, path_size, "/proc/self/fd/%d", fd);
	return fd;
}

static inline void make_memory(struct vn_memory *memory, uint64_t size)
{
	struct vn_memory_options options = {.size = size, .node = -1};
	struct veneer_error error = {.code = 0};
	if (vn_memory_create(memory, &options, VN_MAP_HOLE, &error) < 0)
		fail_msg("%s", error.message);
}

// Dirty what the valid ELF file will occupy, so that zeroing can be seen.
static inline void soil_memory(const struct vn_memory *memory)
{
	memset(vn_memory_at(memory, VN_GPA(ELF_HIGH_START), ELF_HIGH_SIZE), 0xee, ELF_HIGH_SIZE);
	memset(vn_memory_at(memory, VN_GPA(ELF_LOW_START), ELF_LOW_LEAST), 0xee, ELF_LOW_LEAST);
}

static inline void assert_elf_loaded(const struct vn_memory *memory, const struct bytes *file)
{
	size_t low_size = file->size - ELF_LOW_OFFSET;
	assert_memory_equal(vn_memory_at(memory, VN_GPA(ELF_LOW_START), low_size),
		file->data + ELF_LOW_OFFSET, low_size);
	const uint8_t *high = vn_memory_at(memory, VN_GPA(ELF_HIGH_START), ELF_HIGH_SIZE);
	assert_memory_equal(high, file->data + ELF_HIGH_OFFSET, ELF_HIGH_FILE);
	for (size_t i = ELF_HIGH_FILE; i < ELF_HIGH_SIZE; i++)
		assert_int_equal(high[i], 0);
}

// The loader must refuse, with one line that has `text` in it.
static inline void assert_refused(const char *what, int code, int expected,
	const struct veneer_error *error, const char *text)
{
	if (code != expected || !strstr(error->message, text) || strchr(error->message, '\n'))
		fail_msg("%s: expected %d and \"%s\", got %d and \"%s\"", what, expected, text,
			code, error->message);
}

#endif
