// SPDX-License-Identifier: Apache-2.0
//
// The formats that people have images in, each by the bytes that its specification puts at a fixed
// place.
#include "devices/blk/file_format.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file_size.h"
#include "base/macros.h"

#define BOOT_SIGNATURE_AT 510

// The most that O_DIRECT asks of offsets, sizes and memory: a given descriptor may have it.
#define ALIGN 65536u

enum end {
	FIRST,
	LAST,
};

#define BYTES(text) .bytes = (text), .size = sizeof(text) - 1

// The first row that fits counts.
static const struct magic {
	struct vn_blk_format format;
	enum end end; // of the image: which block of it
	unsigned offset; // in that block
	const char *bytes;
	size_t size;
} magics[] = {
	{{"qcow", "qcow"}, FIRST, 0, BYTES("QFI\xfb\0\0\0\1")},
	{{"qcow2", "qcow2"}, FIRST, 0, BYTES("QFI\xfb")},
	{{"QED", "qed"}, FIRST, 0, BYTES("QED\0")},
	{{"VMDK", "vmdk"}, FIRST, 0, BYTES("KDMV")}, // sparse, of hosted products
	{{"VMDK", "vmdk"}, FIRST, 0, BYTES("COWD")}, // sparse, of ESX
	{{"VMDK", "vmdk"}, FIRST, 0, BYTES("\xbe\xba\xfe\xca\0\0\0\0")}, // SE sparse
	{{"VMDK", "vmdk"}, FIRST, 0, BYTES("# Disk DescriptorFile")},
	{{"VDI", "vdi"}, FIRST, 64, BYTES("\x7f\x10\xda\xbe")},
	{{"VHDX", "vhdx"}, FIRST, 0, BYTES("vhdxfile")},
	{{"VHD", "vpc"}, FIRST, 0, BYTES("conectix")}, // dynamic: a copy of the footer
	{{"VHD", "vpc"}, LAST, 0, BYTES("conectix")}, // fixed: a raw disk and the footer
	{{"Parallels", "parallels"}, FIRST, 0, BYTES("WithoutFreeSpace")},
	{{"Parallels", "parallels"}, FIRST, 0, BYTES("WithouFreSpacExt")},
	{{"Bochs", "bochs"}, FIRST, 0, BYTES("Bochs Virtual HD Image")},
	{{"DMG", "dmg"}, LAST, 0, BYTES("koly\0\0\0\4\0\0\2\0")}, // version 4, 512 bytes
};

// A boot sector, also that of a GPT, ends with these two bytes, and no format has them there.
static bool has_boot_sector(const char *first)
{
	return memcmp(first + BOOT_SIGNATURE_AT, "\x55\xaa", 2) == 0;
}

const struct vn_blk_format *vn_blk_format_find(const void *first, const void *last)
{
	bool boots = has_boot_sector(first);
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		const struct magic *magic = &magics[i];
		const char *block = magic->end == FIRST ? first : last;
		if (magic->end == FIRST && boots)
			continue;
		if (memcmp(block + magic->offset, magic->bytes, magic->size) == 0)
			return &magic->format;
	}
	return NULL;
}

// Read the block at `at` by way of a buffer of 2 * ALIGN bytes.
static int read_block(int fd, off_t at, char *buffer, char *block)
{
	off_t start = at & ~((off_t)ALIGN - 1);
	size_t skip = (size_t)(at - start);
	ssize_t got =
		pread(fd, buffer, skip + VN_BLK_FORMAT_BLOCK <= ALIGN ? ALIGN : 2 * ALIGN, start);
	if (got < 0)
		return -errno;
	size_t size = (size_t)got > skip ? (size_t)got - skip : 0;
	memcpy(block, buffer + skip, size < VN_BLK_FORMAT_BLOCK ? size : VN_BLK_FORMAT_BLOCK);
	return 0;
}

static int read_ends(int fd, char *first, char *last)
{
	uint64_t size;
	int code = vn_file_size(fd, &size);
	if (code < 0)
		return code;
	char *buffer = aligned_alloc(ALIGN, 2 * ALIGN);
	if (!buffer)
		return -ENOMEM;
	code = read_block(fd, 0, buffer, first);
	if (code == 0 && size >= VN_BLK_FORMAT_BLOCK)
		code = read_block(fd, (off_t)size - VN_BLK_FORMAT_BLOCK, buffer, last);
	free(buffer);
	return code;
}

int vn_blk_format_probe(int fd, const struct vn_blk_format **format)
{
	char first[VN_BLK_FORMAT_BLOCK] = {0}, last[VN_BLK_FORMAT_BLOCK] = {0};
	int code = read_ends(fd, first, last);
	if (code == 0)
		*format = vn_blk_format_find(first, last);
	return code;
}
