// SPDX-License-Identifier: Apache-2.0
//
// Files that are opened as disks, and those that are refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blk_device.h"

static void opening_fails_in_words(void **state)
{
	(void)state;
	assert_refused(
		&(struct vn_blk_options){.path = {.name = (char[]){"no/such/file"}, .fd = -1}},
		-ENOENT, "disk no/such/file: No such file or directory");
	assert_refused(&(struct vn_blk_options){.path = {.name = (char[]){"."}, .fd = -1}}, -EISDIR,
		"is a directory");
	assert_refused(&(struct vn_blk_options){.path = {.name = (char[]){"."}, .fd = -1},
			       .readonly = true},
		-EISDIR, "is a directory");
	assert_refused(&(struct vn_blk_options){.path = {.name = (char[]){"/dev/null"}, .fd = -1}},
		-EINVAL, "is neither a file nor a block device");
	struct vn_blk_options disk = {.path = {.name = bench.path, .fd = -1}};
	disk.readonly = true;
	disk.detect_zeroes = VN_BLK_DETECT_ZEROES_ON;
	assert_refused(&disk, -EOPNOTSUPP, "detect-zeroes: it is read-only");
	disk = (struct vn_blk_options){.path = {.name = bench.path, .fd = -1}};
	assert_int_equal(ftruncate(bench.fd, 0), 0);
	assert_refused(&disk, -EINVAL, "is empty");
	assert_int_equal(ftruncate(bench.fd, 1000), 0);
	assert_refused(&disk, -EINVAL, "its size, 1000 bytes, is not a multiple of 512");
	disk.cache = VN_BLK_CACHE_NONE;
	assert_refused(&disk, -EINVAL, "its size, 1000 bytes, is not a multiple of 512");
}

static void fifos_are_not_waited_for(void **state)
{
	(void)state;
	assert_int_equal(unlink(bench.path), 0);
	assert_int_equal(mkfifo(bench.path, 0600), 0);
	struct vn_blk_options disk = {.path = {.name = bench.path, .fd = -1}, .readonly = true};
	assert_refused(&disk, -EINVAL, "is neither a file nor a block device");
}

// What is said, behind the reason, of a file that this user may not write to. Root may to any, so
// it is somebody else meanwhile.
static const char *permission_failure(void)
{
	static struct veneer_error error;
	struct vn_blk_options disk = {.path = {.name = bench.path, .fd = -1}};
	struct vn_virtio_device *device;
	bool root = geteuid() == 0;
	if (root)
		assert_int_equal(seteuid(65534), 0);
	int code = create_disk(&device, "blk0", &disk, &error);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(code, -EACCES);
	const char *reason = strstr(error.message, "Permission denied");
	assert_non_null(reason);
	return reason + strlen("Permission denied");
}

static void files_without_permission_are_refused(void **state)
{
	(void)state;
	// That helps only where it may be read.
	assert_int_equal(chmod(bench.path, 0444), 0);
	assert_string_equal(permission_failure(), "; add readonly if it is to be read only");
	assert_int_equal(chmod(bench.path, 0), 0);
	assert_string_equal(permission_failure(), "");
}

// What files in other formats begin or end with.
static void images_are_refused(void **state)
{
	(void)state;
	struct vn_blk_options disk = {.path = {.name = bench.path, .fd = -1}};
	struct vn_virtio_device *device;
	struct veneer_error error = {.code = 0};
	char line[256];
	snprintf(line, sizeof(line),
		"is a qcow2 image, %s'qemu-img convert -f qcow2 -O raw %s NEW'%s",
		"not a raw disk: convert it with ", bench.path, ", or add format=raw if");
	assert_int_equal(pwrite(bench.fd, "QFI\xfb\0\0\0\3", 8, 0), 8);
	assert_refused(&disk, -EINVAL, line);
	assert_int_equal(ftruncate(bench.fd, 196616), 0); // as large as an empty one
	assert_refused(&disk, -EINVAL, "is a qcow2 image");
	assert_int_equal(ftruncate(bench.fd, 0), 0); // a fixed VHD: a disk, and this
	assert_int_equal(pwrite(bench.fd, "conectix", 8, MIB), 8);
	assert_int_equal(ftruncate(bench.fd, MIB + 512), 0);
	assert_refused(&disk, -EINVAL, "is a VHD image");
	disk.raw = true;
	if (create_disk(&device, "blk0", &disk, &error) < 0)
		fail_msg("%s", error.message);
	vn_blk_type.destroy(device);
}

static void files_are_locked(void **state)
{
	(void)state;
	struct vn_blk_options writer = {.path = {.name = bench.path, .fd = -1}};
	struct vn_blk_options reader = {.path = {.name = bench.path, .fd = -1}, .readonly = true};
	struct vn_virtio_device *first, *second;
	struct veneer_error error;
	assert_int_equal(create_disk(&first, "blk0", &writer, &error), 0);
	assert_refused(&writer, -EBUSY, "is in use");
	assert_refused(&reader, -EBUSY, "is in use");
	vn_blk_type.destroy(first);
	assert_int_equal(create_disk(&first, "blk0", &reader, &error), 0);
	assert_int_equal(create_disk(&second, "blk1", &reader, &error), 0);
	assert_refused(&writer, -EBUSY, "is in use");
	vn_blk_type.destroy(second);
	vn_blk_type.destroy(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FILE(opening_fails_in_words),
		WITH_FILE(fifos_are_not_waited_for),
		WITH_FILE(files_without_permission_are_refused),
		WITH_FILE(images_are_refused),
		WITH_FILE(files_are_locked),
	};
	return cmocka_run_group_tests(tests, make_bench, destroy_bench);
}
