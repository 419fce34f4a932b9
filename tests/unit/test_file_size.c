// SPDX-License-Identifier: Apache-2.0
//
// The size of a file; of a block device, tests of disks that have a loop device know it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file_size.h"

static void the_offset_stays(void **state)
{
	uint64_t bytes = 0;
	(void)state;
	int fd = memfd_create("file", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 12345), 0);
	assert_int_equal(lseek(fd, 77, SEEK_SET), 77);
	assert_int_equal(vn_file_size(fd, &bytes), 0);
	assert_int_equal(bytes, 12345);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 77);
	close(fd);
}

static void what_has_no_size(void **state)
{
	uint64_t bytes = 1;
	int ends[2];
	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "xyz", 3), 3);
	assert_int_equal(vn_file_size(ends[0], &bytes), 0);
	assert_int_equal(bytes, 0);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(vn_file_size(-1, &bytes), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_offset_stays),
		cmocka_unit_test(what_has_no_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
