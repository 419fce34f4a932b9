// SPDX-License-Identifier: Apache-2.0
//
// Discarding and writing zeroes: blocks of the file that are given back or kept, ranges that are
// none, and data that turns out to be zero.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blk_device.h"

static void discards_free_blocks(void **state)
{
	(void)state;
	need_holes();
	struct virtio_blk_config config = read_config();
	assert_int_equal(config.max_discard_sectors, 1u << 21);
	assert_int_equal(config.max_discard_seg, 16);
	assert_int_equal(
		config.discard_sector_alignment, (512u << config.physical_block_exp) / 512);
	uint64_t before = blocks_in_use();
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 2048, 2048, 0), VIRTIO_BLK_S_OK);
	assert_true(blocks_in_use() <= before - 2048);
	assert_words(0, MIB);
	assert_file(MIB, 0, MIB);
	assert_words(2 * MIB, 2 * MIB);

	// Many ranges at once: empty, overlapping, the last one up to the end.
	struct virtio_blk_discard_write_zeroes ranges[16];
	for (unsigned i = 0; i < 16; i++)
		ranges[i] = (struct virtio_blk_discard_write_zeroes){4096 + 8 * i, i % 3 * 8, 0};
	ranges[15] = (struct virtio_blk_discard_write_zeroes){SECTORS - 8, 8, 0};
	assert_int_equal(request_clear(VIRTIO_BLK_T_DISCARD, ranges, 16), VIRTIO_BLK_S_OK);
	assert_file(2 * MIB + 4096, 0, 14 * 4096);
	assert_file(DISK_SIZE - 4096, 0, 4096);
	assert_words(2 * MIB, 4096);
	assert_words(3 * MIB, MIB - 4096);
	struct stat status;
	assert_int_equal(fstat(bench.fd, &status), 0);
	assert_int_equal(status.st_size, DISK_SIZE);
	assert_int_equal(warnings(), 0);
}

static void writes_zeroes(void **state)
{
	(void)state;
	need_holes();
	struct virtio_blk_config config = read_config();
	assert_int_equal(config.max_write_zeroes_sectors, 1u << 21);
	assert_int_equal(config.max_write_zeroes_seg, 16);
	assert_int_equal(config.write_zeroes_may_unmap, 1);
	uint64_t before = blocks_in_use();
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 2048, 2048, 0), VIRTIO_BLK_S_OK);
	assert_file(MIB, 0, MIB);
	assert_true(blocks_in_use() >= before); // the disk keeps its room
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 4096, 2048,
				 VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
		VIRTIO_BLK_S_OK);
	assert_file(2 * MIB, 0, MIB);
	assert_true(blocks_in_use() <= before - 2048);
	// Parts of the file system's blocks are zeroed, and nothing beside them.
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 3, 2, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 11, 1, 1), VIRTIO_BLK_S_OK);
	assert_words(0, 3 * 512);
	assert_file(3 * 512, 0, 2 * 512);
	assert_words(5 * 512, 6 * 512);
	assert_file(11 * 512, 0, 512);
	assert_words(12 * 512, MIB - 12 * 512);
	assert_words(3 * MIB, MIB);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 2048, DATA, MIB), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < MIB; i++)
		assert_int_equal(data_at(DATA, MIB)[i], 0);
	assert_int_equal(warnings(), 0);
}

// In every cache mode; with O_DIRECT, what is in the page cache must not come back.
static void clears_in_every_cache_mode(void **state)
{
	(void)state;
	need_holes();
	for (unsigned mode = VN_BLK_CACHE_WRITEBACK; mode <= VN_BLK_CACHE_UNSAFE; mode++) {
		fill_file();
		open_disk((enum vn_blk_cache)mode, false);
		assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 64, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(
			clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 64, 64, 1), VIRTIO_BLK_S_OK);
		assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 128, 64, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 192 * 512), VIRTIO_BLK_S_OK);
		for (unsigned i = 0; i < 192 * 512; i++)
			assert_int_equal(data_at(DATA, 192 * 512)[i], 0);
		assert_words(192 * 512, MIB);
		detach();
	}
}

// Data that is zero to the last byte takes no data to write; what is not, does.
static void zeroes_are_detected(void **state)
{
	(void)state;
	need_holes();
	struct vn_blk_options disk = {.path = {.name = bench.path, .fd = -1}};
	for (unsigned mode = 0; mode <= VN_BLK_DETECT_ZEROES_UNMAP; mode++) {
		disk.detect_zeroes = (enum vn_blk_detect_zeroes)mode;
		fill_file();
		start_disk(&disk);
		uint64_t before = blocks_in_use();
		memset(data_at(DATA, MIB), 0, MIB);
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 2048, DATA, MIB), VIRTIO_BLK_S_OK);
		assert_file(MIB, 0, MIB);
		if (mode == VN_BLK_DETECT_ZEROES_UNMAP)
			assert_true(blocks_in_use() <= before - 2048);
		else
			assert_true(blocks_in_use() >= before);
		assert_words(0, MIB);
		assert_words(2 * MIB, 2 * MIB);

		fill_file();
		data_at(DATA, MIB)[MIB - 1] = 1;
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 2048, DATA, MIB), VIRTIO_BLK_S_OK);
		assert_file(MIB, 0, MIB - 1);
		assert_file(2 * MIB - 1, 1, 1);
		assert_true(blocks_in_use() >= before);
		// A single sector, which no block of the file system is, and the longest request.
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 1, DATA, 512), VIRTIO_BLK_S_OK);
		assert_words(0, 512);
		assert_file(512, 0, 512);
		assert_words(1024, MIB - 1024);
		assert_int_equal(warnings(), 0);
		detach();
	}
}

// Also by a disk whose writes are on the disk when they complete, and on which they then are.
static void detected_zeroes_are_as_stable_as_writes(void **state)
{
	(void)state;
	need_holes();
	start_disk(&(struct vn_blk_options){.path = {.name = bench.path, .fd = -1},
		.cache = VN_BLK_CACHE_WRITETHROUGH,
		.detect_zeroes = VN_BLK_DETECT_ZEROES_ON});
	assert_int_equal(fsync(bench.fd), 0);
	memset(data_at(DATA, 1024), 0, 1024);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 3, DATA, 1024), VIRTIO_BLK_S_OK);
	assert_file(3 * 512, 0, 1024);
	uint64_t dirty = dirty_pages();
	detach();
	assert_int_equal(dirty, 0);
}

struct bad_range {
	uint32_t type;
	struct virtio_blk_discard_write_zeroes range;
	uint8_t status;
};

static void judges_every_range(void **state)
{
	(void)state;
	need_holes();
	static const struct bad_range cases[] = {
		{VIRTIO_BLK_T_DISCARD, {SECTORS, 1, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {SECTORS - 1, 2, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {SECTORS + 1, 0, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {0, UINT32_MAX, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {0, (1u << 21) + 1, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {UINT64_MAX, 1, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {UINT64_MAX, 8, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {1ull << 55, 8, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {8, 8, 1}, VIRTIO_BLK_S_UNSUPP}, // no unmap here
		{VIRTIO_BLK_T_DISCARD, {8, 8, 2}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_WRITE_ZEROES, {8, 8, 2}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_WRITE_ZEROES, {8, 8, 1u << 31}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_WRITE_ZEROES, {SECTORS, 1, 3}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_WRITE_ZEROES, {SECTORS, 1, 1}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_WRITE_ZEROES, {SECTORS - 1, UINT32_MAX, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_WRITE_ZEROES, {UINT64_MAX - 7, 8, 0}, VIRTIO_BLK_S_IOERR},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		// Alone, and behind good ranges, none of which is carried out then.
		struct virtio_blk_discard_write_zeroes three[3] = {
			{0, 8, 0}, {16, 8, 0}, cases[i].range};
		assert_int_equal(request_clear(cases[i].type, &cases[i].range, 1), cases[i].status);
		assert_int_equal(request_clear(cases[i].type, three, 3), cases[i].status);
	}
	// No range, parts of ranges, and more than there may be.
	static const struct virtio_blk_discard_write_zeroes many[17];
	assert_int_equal(request_clear(VIRTIO_BLK_T_DISCARD, many, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(request_clear(VIRTIO_BLK_T_DISCARD, many, 17), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request_clear(VIRTIO_BLK_T_WRITE_ZEROES, many, 17), VIRTIO_BLK_S_UNSUPP);
	static const uint32_t sizes[] = {0, 1, 15, 17, 255};
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		prepare(0, VIRTIO_BLK_T_DISCARD, 0, DATA, sizes[i]);
		ring_desc(&bench.ring, 1, DATA, sizes[i], RING_NEXT, 2);
		assert_int_equal(carry_out(0), 1);
		assert_int_equal(*status_of(0), VIRTIO_BLK_S_IOERR);
	}
	// Ranges where the driver is to be written to are none.
	assert_int_equal(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA, 0), VIRTIO_BLK_S_IOERR);
	assert_words(0, DISK_SIZE);
	assert_int_equal(warnings(), 0);
}

static void bounds_each_range(void **state)
{
	(void)state;
	need_holes();
	uint32_t most = read_config().max_discard_sectors;
	resize(2 * 512 * (uint64_t)most);
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, most, most, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(
		clear_range(VIRTIO_BLK_T_DISCARD, most - 8, most + 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(
		clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, most + 1, 1), VIRTIO_BLK_S_IOERR);
	assert_words(0, DISK_SIZE);
}

static void clears_only_what_was_negotiated(void **state)
{
	(void)state;
	drive(ALL_FEATURES);
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	detach();
	open_disk(VN_BLK_CACHE_WRITEBACK, true);
	uint64_t clearing = FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
	assert_int_equal(mmio_features(&bench.bus) & clearing, 0);
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_words(0, DISK_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DISK(discards_free_blocks),
		WITH_DISK(writes_zeroes),
		IN_MEMORY(discards_free_blocks),
		IN_MEMORY(writes_zeroes),
		WITH_FILE(clears_in_every_cache_mode),
		WITH_FILE(zeroes_are_detected),
		IN_MEMORY_FILE(zeroes_are_detected),
		WITH_FILE(detected_zeroes_are_as_stable_as_writes),
		WITH_DISK(judges_every_range),
		WITH_DISK(bounds_each_range),
		WITH_DISK(clears_only_what_was_negotiated),
	};
	return cmocka_run_group_tests(tests, make_bench, destroy_bench);
}
