// SPDX-License-Identifier: Apache-2.0
//
// What image formats are told by, and what disks hold that must never be taken for one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"
#include "devices/blk/file_format.h"

#define BLOCK VN_BLK_FORMAT_BLOCK

// Bytes at a place in a block of zeroes.
struct content {
	const char *name; // of the format, or what it is
	unsigned offset;
	const char *bytes;
	unsigned size;
};

#define AT(name, offset, bytes)                                                                    \
	{                                                                                          \
		name, offset, bytes, sizeof(bytes) - 1                                             \
	}

static char first[BLOCK], last[BLOCK];

static const char *found(void)
{
	const struct vn_blk_format *format = vn_blk_format_find(first, last);
	return format ? format->name : "raw";
}

static void put(char *block, const struct content *content)
{
	memset(block, 0, BLOCK);
	memcpy(block + content->offset, content->bytes, content->size);
}

static const struct content images[] = {
	AT("qcow", 0, "QFI\xfb\0\0\0\1\0"),
	AT("qcow2", 0, "QFI\xfb\0\0\0\2\0"),
	AT("qcow2", 0, "QFI\xfb\0\0\0\3\0"),
	AT("QED", 0, "QED\0\0\0\1\0"),
	AT("VMDK", 0, "KDMV\1\0\0\0\3\0\0\0"),
	AT("VMDK", 0, "COWD\1\0\0\0\3\0\0\0"),
	AT("VMDK", 0, "\xbe\xba\xfe\xca\0\0\0\0\1\0\0\0\2\0\0\0"),
	AT("VMDK", 0, "# Disk DescriptorFile\nversion=1\n"),
	AT("VDI", 64, "\x7f\x10\xda\xbe\1\0\1\0"),
	AT("VHDX", 0, "vhdxfileQ\0E\0M\0U\0"),
	AT("VHD", 0, "conectix\0\0\0\2\0\1\0\0"),
	AT("Parallels", 0, "WithoutFreeSpace\2\0\0\0"),
	AT("Parallels", 0, "WithouFreSpacExt\2\0\0\0"),
	AT("Bochs", 0, "Bochs Virtual HD Image\0"),
};

static void images_are_recognized(void **state)
{
	(void)state;
	memset(last, 0, BLOCK);
	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		put(first, &images[i]);
		assert_string_equal(found(), images[i].name);
	}
}

static void some_are_by_their_end(void **state)
{
	(void)state;
	put(first, &(struct content)AT("", 510, "\x55\xaa")); // of the disk in it
	put(last, &(struct content)AT("", 0, "conectix\0\0\0\2\0\1\0\0"));
	assert_string_equal(found(), "VHD");
	put(last, &(struct content)AT("", 0, "koly\0\0\0\4\0\0\2\0"));
	assert_string_equal(found(), "DMG");
	put(last, &(struct content)AT("", 0, "koly is no more than a word"));
	assert_string_equal(found(), "raw");
}

// The first blocks of disks: of file systems, volume managers and boot loaders.
static void disks_are_raw(void **state)
{
	(void)state;
	static const struct content disks[] = {
		AT("nothing", 0, ""),
		AT("MBR", 446, "\x80\x20\x21\0\x83\xfe\xff\xff\0\x08\0\0\0\xf0\xff\0"),
		AT("LUKS", 0, "LUKS\xba\xbe\0\2"),
		AT("XFS", 0, "XFSB\0\0\x10\0"),
		AT("squashfs", 0, "hsqs\7\0\0\0"),
		AT("FAT", 0, "\xeb\x3c\x90mkfs.fat"),
		AT("NTFS", 0, "\xeb\x52\x90NTFS    "),
		AT("GRUB", 0, "\xeb\x63\x90\x10\x8e\xd0\xbc\0\xb0"),
		AT("MD RAID", 0, "\xfc\x4e\x2b\xa9\1\0\0\0"),
		AT("tar", 257, "ustar\0"),
		AT("text", 0, "# Disk usage\n"),
	};
	put(last, &(struct content)AT("GPT", 0, "EFI PART\0\0\1\0"));
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
		put(first, &disks[i]);
		assert_string_equal(found(), "raw");
	}
}

// Whatever its code begins with.
static void boot_sectors_are_raw(void **state)
{
	(void)state;
	memset(last, 0, BLOCK);
	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		put(first, &images[i]);
		memcpy(first + 510, "\x55\xaa", 2);
		assert_string_equal(found(), "raw");
	}
}

// A file of any size, with these bytes at its beginning and its end.
static const char *probed(size_t size, const char *begin, const char *end)
{
	char path[] = "blk-file-format-XXXXXX";
	const struct vn_blk_format *format = NULL;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, begin, strlen(begin), 0), strlen(begin));
	if (end)
		assert_int_equal(pwrite(fd, end, strlen(end), (off_t)size - BLOCK), strlen(end));
	assert_int_equal(vn_blk_format_probe(fd, &format), 0);
	close(fd);
	unlink(path);
	return format ? format->name : "raw";
}

static void files_of_any_size(void **state)
{
	(void)state;
	const struct vn_blk_format *format;
	assert_string_equal(probed(0, "", NULL), "raw");
	assert_string_equal(probed(1, "Q", NULL), "raw");
	assert_string_equal(probed(22, "# Disk DescriptorFile", NULL), "VMDK");
	assert_string_equal(probed(196616, "QFI\xfb", NULL), "qcow2");
	assert_string_equal(probed(512, "", "conectix"), "VHD");
	assert_string_equal(probed(MIB, "", "conectix"), "VHD");
	assert_string_equal(probed(MIB + 7, "", "conectix"), "VHD");
	assert_int_equal(vn_blk_format_probe(-1, &format), -EBADF);
}

// A descriptor of a program's, with O_DIRECT, in the middle of its own reading.
static void shared_descriptors_stay_as_they_are(void **state)
{
	(void)state;
	char path[] = "blk-file-format-XXXXXX";
	const struct vn_blk_format *format = NULL;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	static const off_t sizes[] = {192 * KIB, 192 * KIB + 100, 231608};
	for (unsigned i = 0; i < 3; i++) {
		off_t size = sizes[i];
		assert_int_equal(ftruncate(fd, size), 0);
		assert_int_equal(pwrite(fd, "conectix", 8, size - BLOCK), 8);
		int direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		assert_int_equal(lseek(direct < 0 ? fd : direct, 4711, SEEK_SET), 4711);
		assert_int_equal(vn_blk_format_probe(direct < 0 ? fd : direct, &format), 0);
		assert_non_null(format);
		assert_string_equal(format->name, "VHD");
		assert_int_equal(lseek(direct < 0 ? fd : direct, 0, SEEK_CUR), 4711);
		if (direct >= 0)
			close(direct);
	}
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_are_recognized),
		cmocka_unit_test(some_are_by_their_end),
		cmocka_unit_test(disks_are_raw),
		cmocka_unit_test(boot_sectors_are_raw),
		cmocka_unit_test(files_of_any_size),
		cmocka_unit_test(shared_descriptors_stay_as_they_are),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
