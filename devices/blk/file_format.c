// SPDX-License-Identifier: Apache-2.0
//
// The formats that people have images in, each by the bytes that its specification puts at a fixed
// place.
#include "devices/blk/file_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"

#define BOOT_SIGNATURE_AT 510

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

static int read_ends(int fd, char *first, char *last)
{
	off_t size = lseek(fd, 0, SEEK_END);
	if (size < 0 || pread(fd, first, VN_BLK_FORMAT_BLOCK, 0) < 0)
		return -errno;
	if (size >= VN_BLK_FORMAT_BLOCK &&
		pread(fd, last, VN_BLK_FORMAT_BLOCK, size - VN_BLK_FORMAT_BLOCK) < 0)
		return -errno;
	return 0;
}

int vn_blk_format_probe(const char *path, const struct vn_blk_format **format)
{
	char first[VN_BLK_FORMAT_BLOCK] = {0}, last[VN_BLK_FORMAT_BLOCK] = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int code = read_ends(fd, first, last);
	close(fd);
	if (code == 0)
		*format = vn_blk_format_find(first, last);
	return code;
}
