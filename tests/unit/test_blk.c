// SPDX-License-Identifier: Apache-2.0
//
// virtio-blk from the driver's register accesses to the bytes of a real file: what the device says
// of itself, and what it makes of a driver's requests, right and wrong.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"
#include "blk_device.h"

static void describes_itself(void **state)
{
	(void)state;
	struct virtio_blk_config config = read_config();
	assert_int_equal(config.capacity, SECTORS);
	assert_int_equal(config.seg_max, 254);
	assert_int_equal(config.blk_size, 512);
	assert_int_equal(config.num_queues, 1);
	uint64_t clearing = FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
	uint64_t features = mmio_features(&bench.bus);
	assert_int_equal(features & ~ALL_FEATURES & ~clearing,
		FEATURE(VIRTIO_BLK_F_SEG_MAX) | FEATURE(VIRTIO_BLK_F_BLK_SIZE) |
			FEATURE(VIRTIO_BLK_F_TOPOLOGY) | FEATURE(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(features & ALL_FEATURES, ALL_FEATURES);
	assert_int_equal(features & clearing, host_has(FALLOC_FL_PUNCH_HOLE) ? clearing : 0);
}

static void describes_its_topology(void **state)
{
	(void)state;
	struct virtio_blk_config config = read_config();
	struct stat status;
	assert_int_equal(fstat(bench.fd, &status), 0);
	uint32_t physical = status.st_blksize < 4096 ? (uint32_t)status.st_blksize : 4096;
	assert_int_equal(config.blk_size << config.physical_block_exp, physical);
	assert_int_equal(config.alignment_offset, 0);
	assert_int_equal(config.min_io_size * config.blk_size, physical);
	assert_int_equal(config.opt_io_size * config.blk_size,
		status.st_blksize > 4096 ? status.st_blksize : 0);
}

static void reads(void **state)
{
	(void)state;
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 8192), VIRTIO_BLK_S_OK);
	assert_original(data_at(DATA, 8192), 4096, 8192);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, DISK_SIZE), VIRTIO_BLK_S_OK);
	assert_original(data_at(DATA, DISK_SIZE), 0, DISK_SIZE);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	assert_int_equal(warnings(), 0);
}

static void writes(void **state)
{
	(void)state;
	write_and_flush();
}

// A driver that takes no notice of FLUSH has its writes made stable one by one.
static void writes_for_a_driver_without_flush(void **state)
{
	(void)state;
	drive(ALL_FEATURES);
	write_and_flush();
}

static void gives_its_id(void **state)
{
	(void)state;
	static const char id[VIRTIO_BLK_ID_BYTES] = "veneer-1";
	memset(data_at(DATA, 64), 0xff, 64);
	prepare(0, VIRTIO_BLK_T_GET_ID, 0, DATA, 20);
	assert_int_equal(carry_out(0), 21);
	assert_int_equal(*status_of(0), VIRTIO_BLK_S_OK);
	assert_memory_equal(data_at(DATA, 20), id, 20);
	assert_int_equal(data_at(DATA, 64)[20], 0xff);

	// More room than an ID needs, and less.
	prepare(0, VIRTIO_BLK_T_GET_ID, 0, DATA, 64);
	assert_int_equal(carry_out(0), 20);
	assert_int_equal(*status_of(0), VIRTIO_BLK_S_OK);
	prepare(0, VIRTIO_BLK_T_GET_ID, 0, DATA + 1, 4);
	assert_int_equal(carry_out(0), 5);
	assert_memory_equal(data_at(DATA, 5), "vvene", 5);
}

static void gives_an_id_of_twenty_bytes(void **state)
{
	(void)state;
	struct vn_blk_options disk = {
		.path = {.name = bench.path, .fd = -1}, .serial = "abcdefghijklmnopqrst"};
	start_disk(&disk);
	assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, DATA, 20), VIRTIO_BLK_S_OK);
	assert_memory_equal(data_at(DATA, 20), "abcdefghijklmnopqrst", 20);
	detach();
}

static void refuses_unknown_requests(void **state)
{
	(void)state;
	static const uint32_t types[] = {2, 3, 5, 10, 12, 14, 0x80000000, UINT32_MAX};
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
		assert_int_equal(request(types[i], 0, DATA, 512), VIRTIO_BLK_S_UNSUPP);
}

static void read_only_disks_take_no_writes(void **state)
{
	(void)state;
	assert_int_equal(chmod(bench.path, 0400), 0);
	open_disk(VN_BLK_CACHE_WRITEBACK, true);
	assert_true(mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_RO));
	memset(data_at(DATA, 512), 0, 512);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 1, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 1, DATA, 512), VIRTIO_BLK_S_OK);
	assert_original(data_at(DATA, 512), 512, 512);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(warnings(), 0); // no fault of the host's
	detach();
}

static void refuses_what_is_beyond_the_end(void **state)
{
	(void)state;
	static const struct {
		uint64_t sector;
		uint32_t size;
		uint8_t status;
	} cases[] = {
		{SECTORS - 1, 512, VIRTIO_BLK_S_OK}, {SECTORS, 0, VIRTIO_BLK_S_OK},
		{SECTORS, 512, VIRTIO_BLK_S_IOERR}, {SECTORS - 1, 1024, VIRTIO_BLK_S_IOERR},
		{SECTORS + 1, 0, VIRTIO_BLK_S_IOERR}, {UINT64_MAX, 512, VIRTIO_BLK_S_IOERR},
		{UINT64_MAX >> 9, 1024, VIRTIO_BLK_S_IOERR},
		{1ull << 55, 512, VIRTIO_BLK_S_IOERR}, // times 512: wraps to 0
	};
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(request(VIRTIO_BLK_T_IN, cases[i].sector, DATA, cases[i].size),
			cases[i].status);
		assert_int_equal(request(VIRTIO_BLK_T_OUT, cases[i].sector, DATA, cases[i].size),
			cases[i].status);
	}
	struct stat status;
	assert_int_equal(fstat(bench.fd, &status), 0);
	assert_int_equal(status.st_size, DISK_SIZE);
}

static void refuses_parts_of_sectors(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {1, 511, 513, 1000};
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, sizes[i]), VIRTIO_BLK_S_IOERR);
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, DATA, sizes[i]), VIRTIO_BLK_S_IOERR);
	}
}

// Section 2.7.4: the device assumes nothing about how a request is cut into descriptors. Headers
// of 5, 1 and 10 bytes, the last sharing its descriptor with data...
static void takes_any_framing_of_a_write(void **state)
{
	(void)state;
	uint64_t at = DATA;
	put_header(at, VIRTIO_BLK_T_OUT, 4);
	memset(data_at(at + 16, 1024), 0x77, 1024);
	ring_desc(&bench.ring, 0, at, 5, RING_NEXT, 1);
	ring_desc(&bench.ring, 1, at + 5, 1, RING_NEXT, 2);
	ring_desc(&bench.ring, 2, at + 6, 10 + 300, RING_NEXT, 3);
	ring_desc(&bench.ring, 3, at + 316, 724, RING_NEXT, 4);
	ring_desc(&bench.ring, 4, at + 2048, 1, RING_WRITE, 0);
	assert_int_equal(carry_out(0), 1);
	assert_int_equal(*data_at(at + 2048, 1), VIRTIO_BLK_S_OK);
	assert_file(2048, 0x77, 1024);

	// ...all of a write in one descriptor, and a status among bytes that nothing writes.
	memset(data_at(at + 16, 512), 0x66, 512);
	ring_desc(&bench.ring, 0, at, 16 + 512, RING_NEXT, 1);
	ring_desc(&bench.ring, 1, at + 2048, 3, RING_WRITE, 0);
	assert_int_equal(carry_out(0), 0);
	assert_int_equal(*data_at(at + 2050, 1), VIRTIO_BLK_S_OK);
	assert_file(2048, 0x66, 512);
}

static void takes_any_framing_of_a_read(void **state)
{
	(void)state;
	uint64_t at = DATA;
	put_header(at, VIRTIO_BLK_T_IN, 4);
	memset(data_at(at + 4096, 1025), NO_STATUS, 1025);
	ring_desc(&bench.ring, 0, at, 16, RING_NEXT, 1);
	ring_desc(&bench.ring, 1, at + 4096, 8, RING_NEXT | RING_WRITE, 2);
	ring_desc(&bench.ring, 2, at + 4104, 1016 + 1, RING_WRITE, 0);
	assert_int_equal(carry_out(0), 1025);
	assert_original(data_at(at + 4096, 1024), 2048, 1024);
	assert_int_equal(*data_at(at + 5120, 1), VIRTIO_BLK_S_OK);
}

static void takes_as_many_segments_as_it_says(void **state)
{
	(void)state;
	uint64_t table = DATA, at = DATA + MIB;
	uint16_t segments = 254;
	put_header(at, VIRTIO_BLK_T_IN, 0);
	ring_table(&bench.memory, table, 0, (struct ring_desc){at, 16, RING_NEXT, 1});
	for (uint16_t i = 1; i <= segments; i++)
		ring_table(&bench.memory, table, i,
			(struct ring_desc){
				at + 512ull * i, 512, RING_NEXT | RING_WRITE, (uint16_t)(i + 1)});
	ring_table(&bench.memory, table, segments + 1u,
		(struct ring_desc){at + 512ull * 300, 1, RING_WRITE, 0});
	ring_desc(&bench.ring, 9, table, 16 * (segments + 2u), RING_INDIRECT, 0);
	assert_int_equal(carry_out(9), 512u * segments + 1);
	assert_original(data_at(at + 512, 512u * segments), 0, 512u * segments);
}

static uint32_t generation(void)
{
	return mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG_GENERATION);
}

static uint32_t config_interrupt(void)
{
	return mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG;
}

static void a_new_size_is_told(void **state)
{
	(void)state;
	uint32_t before = generation();
	resize(DISK_SIZE);
	assert_int_equal(generation(), before); // nothing has changed
	assert_int_equal(config_interrupt(), 0);

	resize(2 * DISK_SIZE);
	assert_string_equal(bench.warning, "blk0: its size is now 8388608 bytes");
	assert_int_not_equal(generation(), before);
	assert_int_equal(config_interrupt(), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(read_config().capacity, 2 * SECTORS);
	memset(data_at(DATA, 512), 0x44, 512);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 2 * SECTORS - 1, DATA, 512), VIRTIO_BLK_S_OK);
	assert_file(2 * DISK_SIZE - 512, 0x44, 512);

	before = generation();
	mmio_set(&bench.bus, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	resize(DISK_SIZE / 2);
	assert_int_not_equal(generation(), before);
	assert_int_equal(config_interrupt(), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(read_config().capacity, SECTORS / 2);
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS / 2, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, SECTORS / 2, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS / 2 - 1, DATA, 512), VIRTIO_BLK_S_OK);
	struct stat status;
	assert_int_equal(fstat(bench.fd, &status), 0);
	assert_int_equal(status.st_size, DISK_SIZE / 2); // the refused write left it alone
	assert_int_equal(warnings(), 0);
}

static void a_bad_size_changes_nothing(void **state)
{
	(void)state;
	static const struct {
		off_t size;
		const char *text;
	} cases[] = {{0, "is empty"}, {DISK_SIZE + 100, "is not a multiple of 512"}};
	for (unsigned i = 0; i < 2; i++) {
		struct veneer_error error = {.code = 0};
		uint32_t before = generation();
		assert_int_equal(ftruncate(bench.fd, cases[i].size), 0);
		assert_int_equal(vn_blk_refresh(bench.device, &error), -EINVAL);
		if (!strstr(error.message, cases[i].text) || !strstr(error.message, bench.path))
			fail_msg("'%s' does not say '%s'", error.message, cases[i].text);
		assert_int_equal(read_config().capacity, SECTORS);
		assert_int_equal(generation(), before);
		assert_int_equal(config_interrupt(), 0);
	}
}

// The size changes between two values while the driver reads it, as a driver must: both halves, and
// again when the generation was another one meanwhile. No mixture may ever be seen.
#define LARGE (BIT64(42) + 3 * DISK_SIZE)

static atomic_bool resizing;

static void *resize_for_ever(void *arg)
{
	unsigned *wrong = arg;
	for (bool large = true; atomic_load(&resizing); large = !large) {
		*wrong += ftruncate(bench.fd, large ? (off_t)LARGE : (off_t)DISK_SIZE) < 0;
		*wrong += vn_blk_refresh(bench.device, NULL) < 0;
	}
	return NULL;
}

static uint64_t read_capacity(void)
{
	uint32_t before, low, high;
	do {
		before = generation();
		low = mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG);
		high = mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG + 4);
	} while (generation() != before);
	return (uint64_t)high << 32 | low;
}

static void a_size_that_keeps_changing(void **state)
{
	(void)state;
	pthread_t thread;
	unsigned large = 0, small = 0, other = 0, failed = 0, wrong = 0;
	if (ftruncate(bench.fd, LARGE) < 0) {
		print_message("# no file of 4 TiB here: %s\n", strerror(errno));
		skip();
	}
	atomic_store(&resizing, true);
	assert_int_equal(pthread_create(&thread, NULL, resize_for_ever, &wrong), 0);
	for (unsigned i = 0; i < 300000 || (!other && (large < 100 || small < 100)); i++) {
		uint64_t capacity = read_capacity();
		large += capacity == LARGE / 512;
		small += capacity == SECTORS;
		other += capacity != LARGE / 512 && capacity != SECTORS;
		if (i % 4096 == 0) // and requests go on meanwhile
			failed += request(VIRTIO_BLK_T_IN, 0, DATA, 4096) != VIRTIO_BLK_S_OK;
	}
	atomic_store(&resizing, false);
	pthread_join(thread, NULL);
	assert_int_equal(other, 0);
	assert_int_equal(failed, 0);
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DISK(describes_itself),
		WITH_DISK(describes_its_topology),
		WITH_DISK(reads),
		WITH_DISK(writes),
		WITH_DISK(writes_for_a_driver_without_flush),
		WITH_DISK(gives_its_id),
		WITH_FILE(gives_an_id_of_twenty_bytes),
		WITH_DISK(refuses_unknown_requests),
		WITH_FILE(read_only_disks_take_no_writes),
		WITH_DISK(refuses_what_is_beyond_the_end),
		WITH_DISK(refuses_parts_of_sectors),
		WITH_DISK(takes_any_framing_of_a_write),
		WITH_DISK(takes_any_framing_of_a_read),
		WITH_DISK(takes_as_many_segments_as_it_says),
		WITH_DISK(a_new_size_is_told),
		WITH_DISK(a_bad_size_changes_nothing),
		WITH_DISK(a_size_that_keeps_changing),
	};
	return cmocka_run_group_tests(tests, make_bench, destroy_bench);
}
