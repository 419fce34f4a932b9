// SPDX-License-Identifier: Apache-2.0
//
// Block devices and their block sizes: parts of blocks that a guest reads, writes and clears.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "blk_device.h"
#include "devices/blk/file.h"

static void a_block_device(void **state)
{
	(void)state;
	need_holes();
	struct loop loop = make_loop(4096);
	start_disk(&(struct vn_blk_options){
		.path = {.name = loop.path, .fd = -1}, .cache = VN_BLK_CACHE_NONE});
	struct virtio_blk_config config = read_config();
	assert_int_equal(config.capacity, SECTORS);
	assert_int_equal(config.blk_size, 4096);
	assert_int_equal(config.physical_block_exp, 0);
	assert_int_equal(config.min_io_size, 1);
	assert_int_equal(config.discard_sector_alignment, 8);
	write_and_flush();
	fill_file();
	uint64_t before = blocks_in_use();
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 0, 2048, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 2048, 2048, 1), VIRTIO_BLK_S_OK);
	assert_true(blocks_in_use() <= before - 4096);
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 4096, 2048, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 3 * MIB), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 3 * MIB; i++)
		assert_int_equal(data_at(DATA, 3 * MIB)[i], 0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 6144, DATA, MIB), VIRTIO_BLK_S_OK);
	assert_original(data_at(DATA, MIB), 3 * MIB, MIB);
	assert_int_equal(warnings(), 0);

	struct veneer_error error;
	assert_int_equal(ftruncate(bench.fd, 2 * DISK_SIZE), 0);
	assert_int_equal(ioctl(loop.fd, LOOP_SET_CAPACITY, 0), 0);
	assert_int_equal(vn_blk_refresh(bench.device, &error), 0);
	assert_int_equal(read_config().capacity, 2 * SECTORS);
	detach();
	close(loop.fd);
}

// Blocks larger than a sector, of which the guest reads, writes and clears parts.
static void clear_parts(void)
{
	static const struct {
		uint64_t sector;
		uint32_t count;
	} parts[] = {{9, 1}, {16, 7}, {31, 1}, {35, 2}, {47, 2}, {59, 21}, {90, 22}, {128, 8}};
	static uint8_t want[MIB];
	for (uint32_t flags = 0; flags < 2; flags++)
		for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
			assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
			memcpy(want, data_at(DATA, MIB), MIB);
			memset(want + 512 * parts[i].sector, 0, 512ull * parts[i].count);
			assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, parts[i].sector,
						 parts[i].count, flags),
				VIRTIO_BLK_S_OK);
			assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
			assert_memory_equal(data_at(DATA, MIB), want, MIB);
		}
}

// Nothing but whole blocks goes, and all of those may.
static void discard_parts(void)
{
	static uint8_t before[MIB];
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
	memcpy(before, data_at(DATA, MIB), MIB);
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 513, 6, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 513, 20, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
	memset(before + 520 * 512, 0, 4096);
	assert_memory_equal(data_at(DATA, MIB), before, MIB);
}

static void access_parts(void)
{
	static const uint32_t sizes[] = {
		512, 3584, 4096, 4608, 8192, VN_BLK_BOUNCE_SIZE, 2 * VN_BLK_BOUNCE_SIZE + 1024};
	static uint8_t want[MIB];
	memset(want, 0, MIB);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
	memcpy(want, data_at(DATA, MIB), MIB);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		for (uint64_t sector = 0; sector < 9; sector++) {
			uint32_t size = sizes[i];
			unsigned misaligned = sector % 2 ? 24 : 0;
			uint8_t *data = data_at(DATA + misaligned, size);
			for (uint32_t k = 0; k < size; k++)
				data[k] = want[512 * sector + k] = (uint8_t)(7 * k + sector + i);
			assert_int_equal(request_in_two(VIRTIO_BLK_T_OUT, sector, misaligned,
						 size > 512 ? 1000 : size, size),
				VIRTIO_BLK_S_OK);
			memset(data, 0xee, size);
			assert_int_equal(
				request_in_two(VIRTIO_BLK_T_IN, sector, misaligned, size, size),
				VIRTIO_BLK_S_OK);
			assert_memory_equal(data, want + 512 * sector, size);
			assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
			assert_memory_equal(data_at(DATA, MIB), want, MIB);
		}
}

static void parts_of_blocks(void **state)
{
	(void)state;
	need_holes();
	struct loop loop = make_loop(4096);
	static const enum vn_blk_cache modes[] = {
		VN_BLK_CACHE_NONE, VN_BLK_CACHE_DIRECTSYNC, VN_BLK_CACHE_WRITEBACK};
	for (unsigned i = 0; i < 3; i++) {
		start_disk(&(struct vn_blk_options){.path = {.name = loop.path, .fd = -1},
			.cache = modes[i],
			.block_size = 512});
		struct virtio_blk_config config = read_config();
		assert_int_equal(config.blk_size, 512);
		assert_int_equal(config.physical_block_exp, 3);
		assert_int_equal(config.min_io_size, 8);
		access_parts();
		clear_parts();
		discard_parts();
		assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS - 1, DATA, 512), VIRTIO_BLK_S_OK);
		assert_int_equal(
			request(VIRTIO_BLK_T_IN, SECTORS - 1, DATA, 1024), VIRTIO_BLK_S_IOERR);
		assert_int_equal(warnings(), 0);
		detach();
	}
	close(loop.fd);
}

// What a part that was written promises is what a whole block does; the loop device's file is in
// the page cache.
static void parts_on_the_disk(void **state)
{
	(void)state;
	struct loop loop = make_loop(4096);
	static const enum vn_blk_cache modes[] = {VN_BLK_CACHE_NONE, VN_BLK_CACHE_DIRECTSYNC};
	for (unsigned i = 0; i < 2; i++) {
		start_disk(&(struct vn_blk_options){.path = {.name = loop.path, .fd = -1},
			.cache = modes[i],
			.block_size = 512});
		assert_int_equal(fsync(bench.fd), 0);
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 3, DATA, 8192), VIRTIO_BLK_S_OK);
		if (modes[i] == VN_BLK_CACHE_DIRECTSYNC)
			assert_int_equal(dirty_pages(), 0);
		clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 5, 2, 0);
		if (modes[i] == VN_BLK_CACHE_DIRECTSYNC)
			assert_int_equal(dirty_pages(), 0);
		assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(dirty_pages(), 0);
		detach();
	}
	close(loop.fd);
}

// Of a part that is detected, too.
static void zeroes_in_parts_of_blocks(void **state)
{
	(void)state;
	need_holes();
	struct loop loop = make_loop(4096);
	start_disk(&(struct vn_blk_options){.path = {.name = loop.path, .fd = -1},
		.cache = VN_BLK_CACHE_NONE,
		.block_size = 512,
		.detect_zeroes = VN_BLK_DETECT_ZEROES_UNMAP});
	memset(data_at(DATA, 8192), 0, 8192);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 1, DATA, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 8, DATA, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 25, DATA, 8192), VIRTIO_BLK_S_OK);
	assert_words(0, 512);
	assert_file(512, 0, 512);
	assert_words(1024, 3072);
	assert_file(4096, 0, 8192);
	assert_words(12288, 512);
	assert_file(12800, 0, 8192);
	assert_words(20992, 8192);
	detach();
	close(loop.fd);
}

// A block size that was asked for, and what it asks of the disk.
static void block_sizes(void **state)
{
	(void)state;
	struct vn_blk_options disk = {.path = {.name = bench.path, .fd = -1}, .block_size = 4096};
	attach(&disk);
	assert_int_equal(read_config().blk_size, 4096);
	assert_int_equal(read_config().physical_block_exp, 0);
	drive(mmio_features(&bench.bus));
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 9, DATA, 512), VIRTIO_BLK_S_OK);
	assert_original(data_at(DATA, 512), 4608, 512);
	detach();
	assert_int_equal(ftruncate(bench.fd, DISK_SIZE + 512), 0);
	assert_refused(&disk, -EINVAL,
		"its size, 4194816 bytes, is not a multiple of its block size, 4096");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FILE(a_block_device),
		WITH_FILE(parts_of_blocks),
		WITH_FILE(parts_on_the_disk),
		WITH_FILE(zeroes_in_parts_of_blocks),
		WITH_FILE(block_sizes),
	};
	return cmocka_run_group_tests(tests, make_bench, destroy_bench);
}
