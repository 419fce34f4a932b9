// SPDX-License-Identifier: Apache-2.0
//
// The cache modes of a disk: what is on the host's disk after a write and a flush, and O_DIRECT
// with memory that it does not take.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blk_device.h"
#include "devices/blk/file.h"

static void writes_without_cache(void **state)
{
	(void)state;
	open_disk(VN_BLK_CACHE_NONE, false);
	assert_true(mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_FLUSH));
	write_and_flush();
	detach();
}

static void writes_through(void **state)
{
	(void)state;
	static const enum vn_blk_cache modes[] = {
		VN_BLK_CACHE_WRITETHROUGH, VN_BLK_CACHE_DIRECTSYNC};
	for (unsigned i = 0; i < 2; i++) {
		open_disk(modes[i], false);
		assert_false(mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_FLUSH));
		write_and_flush();
		detach();
	}
}

static void writes_unsafely(void **state)
{
	(void)state;
	open_disk(VN_BLK_CACHE_UNSAFE, false);
	assert_true(mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_FLUSH));
	write_and_flush();
	detach();
}

// Memory that O_DIRECT does not take goes through a buffer, also more than fits into it at once.
static void unaligned_memory_without_cache(void **state)
{
	(void)state;
	open_disk(VN_BLK_CACHE_NONE, false);
	uint32_t size = MIB;
	uint64_t odd = DATA + 24;
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, odd, size), VIRTIO_BLK_S_OK);
	assert_original(data_at(odd, size), 4096, size);
	memset(data_at(odd, size), 0x5a, size);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 24, odd, size), VIRTIO_BLK_S_OK);
	assert_file(24 * 512, 0x5a, size);
	assert_int_equal(warnings(), 0);
	detach();
}

// Read, change, write and read again; nothing beside the data changes, in memory or on the disk.
static void check_alignment(unsigned misaligned, uint32_t first, uint32_t size, uint64_t sector)
{
	uint64_t offset = sector * 512;
	uint8_t *data = data_at(DATA + misaligned - 64, size + 128) + 64;
	static uint8_t want[MIB];
	memset(data - 64, 0xcc, size + 128);
	assert_int_equal(request_in_two(VIRTIO_BLK_T_IN, sector, misaligned, first, size), 0);
	assert_int_equal(pread(bench.fd, want, size, (off_t)offset), size);
	assert_memory_equal(data, want, size);
	for (unsigned i = 0; i < size; i++)
		data[i] = want[i] = (uint8_t)(want[i] * 5 + i + first);
	assert_int_equal(request_in_two(VIRTIO_BLK_T_OUT, sector, misaligned, first, size), 0);
	memset(data, 0xdd, size);
	assert_int_equal(request_in_two(VIRTIO_BLK_T_IN, sector, misaligned, first, size), 0);
	assert_memory_equal(data, want, size);
	for (unsigned i = 0; i < 64; i++)
		assert_true(data[-1 - (int)i] == 0xcc && data[size + i] == 0xcc);
	assert_words(0, offset);
	assert_words(offset + size, 8192);
}

static void every_alignment_without_cache(void **state)
{
	(void)state;
	static const unsigned misaligned[] = {
		64, 65, 67, 128, 256, 511, 512, 513, 1024, 4095, 4096};
	static const uint32_t cuts[] = {1, 3, 64, 256, 511, 512, 513, 2048, 4095, 4096, 4097};
	static const uint32_t sizes[] = {512, 4096, 8192 + 512, 2 * VN_BLK_BOUNCE_SIZE + 512};
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill_file();
		start_disk(&(struct vn_blk_options){
			.path = {.name = bench.path, .fd = -1}, .cache = VN_BLK_CACHE_NONE});
		for (unsigned m = 0; m < ARRAY_SIZE(misaligned); m++)
			for (unsigned c = 0; c <= ARRAY_SIZE(cuts); c++)
				if (c == ARRAY_SIZE(cuts) || cuts[c] < sizes[i])
					check_alignment(misaligned[m],
						c < ARRAY_SIZE(cuts) ? cuts[c] : sizes[i], sizes[i],
						8);
		detach();
	}
	assert_int_equal(warnings(), 0);
}

// Where the limit of locked memory is too small to register it all, that is said, and requests go
// without.
static void memory_that_cannot_be_registered(void **state)
{
	(void)state;
	bool root = geteuid() == 0; // whom the limit does not hold
	struct rlimit before;
	getrlimit(RLIMIT_MEMLOCK, &before);
	struct rlimit small = {.rlim_cur = 65536, .rlim_max = before.rlim_max};
	assert_int_equal(chmod(bench.path, 0666), 0);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &small), 0);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	struct vn_blk_options disk = {
		.path = {.name = bench.path, .fd = -1}, .cache = VN_BLK_CACHE_NONE};
	struct veneer_error error = {.code = 0};
	int code = create_disk(&bench.device, "blk0", &disk, &error);
	if (root)
		assert_int_equal(seteuid(0), 0);
	setrlimit(RLIMIT_MEMLOCK, &before);
	if (code == -ENOMEM || code == -EACCES) {
		print_message(
			"# %s\n", error.message); // nor has its ring room, or the path is closed
		skip();
	}
	assert_int_equal(code, 0);
	assert_non_null(strstr(bench.warning, "guest memory is not registered with io_uring"));
	assert_non_null(strstr(bench.warning, "raise the limit of locked memory"));
	assert_int_equal(warnings(), 0); // a note
	put_on_bus();
	drive(mmio_features(&bench.bus));
	write_and_flush();
	detach();
}

// What each mode promises of a write and of a flush.
static void what_is_on_the_disk(void **state)
{
	(void)state;
	static const struct {
		enum vn_blk_cache cache;
		bool past; // writes go around the page cache, or through it to the disk
		bool stable; // all that was done is on the disk, without a flush
	} cases[] = {
		{VN_BLK_CACHE_WRITEBACK, false, false},
		{VN_BLK_CACHE_WRITETHROUGH, true, true},
		{VN_BLK_CACHE_DIRECTSYNC, true, true},
		{VN_BLK_CACHE_NONE, true, false},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(fsync(bench.fd), 0);
		open_disk(cases[i].cache, false);
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, DATA, MIB), VIRTIO_BLK_S_OK);
		if (cases[i].past)
			assert_int_equal(dirty_pages(), 0);
		// Zeroes in parts of pages, which the page cache has.
		if (clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 3, 2, 0) == VIRTIO_BLK_S_OK &&
			cases[i].stable)
			assert_int_equal(dirty_pages(), 0);
		assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(dirty_pages(), 0);
		detach();
	}
}

// The host may write to the disk at any time of its own, but not every time between two requests.
static void what_an_unsafe_disk_keeps_back(void **state)
{
	(void)state;
	uint64_t dirty = 0;
	open_disk(VN_BLK_CACHE_UNSAFE, false);
	for (unsigned i = 0; i < 20 && dirty == 0; i++) {
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, DATA, MIB), VIRTIO_BLK_S_OK);
		assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
		dirty = dirty_pages();
	}
	detach();
	assert_true(dirty > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FILE(writes_without_cache),
		WITH_FILE(writes_through),
		WITH_FILE(writes_unsafely),
		WITH_FILE(what_is_on_the_disk),
		WITH_FILE(what_an_unsafe_disk_keeps_back),
		WITH_FILE(unaligned_memory_without_cache),
		WITH_FILE(every_alignment_without_cache),
		WITH_FILE(memory_that_cannot_be_registered),
	};
	return cmocka_run_group_tests(tests, make_bench, destroy_bench);
}
