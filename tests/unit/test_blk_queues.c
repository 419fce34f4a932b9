// SPDX-License-Identifier: Apache-2.0
//
// A disk of several queues, each with a driver's thread of its own and a part of the disk that no
// other one touches: batches of writes, discards and zeroes, read back at once. cmocka's assertions
// belong to the main thread, so what goes wrong is counted.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "blk_device.h"

#define QUEUES      4
#define BATCH       32
#define CHUNK       4096
#define PART        (BATCH * CHUNK)
#define RANGES(w)   (DATA - 65536 * (uint64_t)(QUEUES - (w)->index))
#define BUFFER(w)   (DATA + 2 * PART * (uint64_t)(w)->index)
#define REQUESTS(w) (HEADERS + 65536 * (uint64_t)(w)->index)

struct worker {
	unsigned index;
	struct ring ring;
	unsigned wrong;
	uint64_t done;
	pthread_t thread;
};

static struct worker workers[QUEUES];
static bool host_can_clear;

static void put_at(struct worker *worker, unsigned i, uint32_t type, uint64_t sector, uint32_t size)
{
	uint64_t header = REQUESTS(worker) + 64ull * i;
	uint64_t data = BUFFER(worker) + (type == VIRTIO_BLK_T_IN ? PART : 0) + CHUNK * (uint64_t)i;
	if (type == VIRTIO_BLK_T_WRITE_ZEROES) {
		struct virtio_blk_discard_write_zeroes range = {sector, size / 512, i % 2};
		data = RANGES(worker) + 16ull * i;
		size = sizeof(range);
		memcpy(data_at(data, size), &range, size);
	}
	put_header(header, type, sector);
	*data_at(header + 32, 1) = NO_STATUS;
	uint16_t write = type == VIRTIO_BLK_T_IN ? RING_WRITE : 0;
	ring_desc(&worker->ring, 3 * i, header, 16, RING_NEXT, 3 * i + 1);
	ring_desc(&worker->ring, 3 * i + 1, data, size, RING_NEXT | write, 3 * i + 2);
	ring_desc(&worker->ring, 3 * i + 2, header + 32, 1, RING_WRITE, 0);
	ring_offer(&worker->ring, 3 * i);
}

static void put_request(struct worker *worker, unsigned i, uint32_t type)
{
	put_at(worker, i, type, (worker->index * (uint64_t)PART + i * (uint64_t)CHUNK) / 512,
		CHUNK);
}

// Every fourth sector.
static void put_part(struct worker *worker, unsigned i, uint32_t type)
{
	put_at(worker, i, type, i * QUEUES + worker->index, 512);
}

static void await_batch(struct worker *worker)
{
	uint32_t id, len;
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, worker->index);
	unsigned got = 0;
	for (unsigned i = 0; i < 100000 && got < BATCH; i++) {
		while (got < BATCH && ring_take(&worker->ring, &id, &len)) {
			uint64_t header = REQUESTS(worker) + 64ull * (id / 3);
			worker->wrong += *data_at(header + 32, 1) != VIRTIO_BLK_S_OK;
			got++;
		}
		if (got < BATCH)
			usleep(100);
	}
	worker->wrong += BATCH - got;
	worker->done += got;
}

static void batch(struct worker *worker, uint32_t type)
{
	for (unsigned i = 0; i < BATCH; i++)
		put_request(worker, i, type);
	await_batch(worker);
}

static void *work_in_own_blocks(void *arg)
{
	struct worker *worker = arg;
	uint8_t *written = data_at(BUFFER(worker), PART);
	uint8_t *got = data_at(BUFFER(worker) + PART, PART);
	for (unsigned round = 0; round < 30 && !worker->wrong; round++) {
		memset(written, (int)(round * QUEUES + worker->index + 1), PART);
		batch(worker, VIRTIO_BLK_T_OUT);
		memset(got, 0, PART);
		batch(worker, VIRTIO_BLK_T_IN);
		worker->wrong += memcmp(written, got, PART) != 0;
		if (round % 3 == 0 && host_can_clear) {
			batch(worker, VIRTIO_BLK_T_WRITE_ZEROES);
			batch(worker, VIRTIO_BLK_T_IN);
			memset(written, 0, PART);
			worker->wrong += memcmp(written, got, PART) != 0;
		}
	}
	return NULL;
}

static void *one_batch(void *arg)
{
	batch(arg, VIRTIO_BLK_T_IN);
	return NULL;
}

static void drive_queues(void)
{
	assert_int_equal(mmio_negotiate(&bench.bus, mmio_features(&bench.bus)), MMIO_NEGOTIATED);
	for (unsigned i = 0; i < QUEUES; i++) {
		workers[i] = (struct worker){.index = i};
		ring_init(&workers[i].ring, &bench.memory, RINGS + 65536 * i, SIZE);
		mmio_queue(&bench.bus, i, &workers[i].ring);
	}
	mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), MMIO_RUNNING);
}

static void start_workers(void *(*work)(void *))
{
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
}

static void join_workers(void)
{
	for (unsigned i = 0; i < QUEUES; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal(workers[i].wrong, 0);
}

static void open_queues(enum vn_blk_cache cache)
{
	attach(&(struct vn_blk_options){
		.path = {.name = bench.path, .fd = -1}, .cache = cache, .queues = QUEUES});
	host_can_clear = mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
}

static void four_queues_at_once(void **state)
{
	(void)state;
	open_queues(VN_BLK_CACHE_WRITEBACK);
	assert_true(mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_MQ));
	assert_int_equal(read_config().num_queues, QUEUES);
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_SEL, QUEUES);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	drive_queues();
	start_workers(work_in_own_blocks);
	for (unsigned i = 0; i < 20; i++) {
		resize(DISK_SIZE + i % 2 * MIB); // meanwhile
		usleep(1000);
	}
	join_workers();
	for (unsigned i = 0; i < QUEUES; i++)
		assert_true(workers[i].done >= 60 * BATCH);
	assert_int_equal(warnings(), 0);
	detach();
}

// How far the driver sees each queue to be.
static void read_used(uint16_t used[QUEUES])
{
	for (unsigned i = 0; i < QUEUES; i++)
		used[i] = ring_used_index(&workers[i].ring);
}

// Pause again and again until all workers have ended; how often. While the device is paused,
// nothing moves.
static unsigned pause_until_done(unsigned seed)
{
	bool joined[QUEUES] = {false};
	unsigned pauses = 0;
	for (unsigned left = QUEUES; left > 0; pauses++) {
		uint16_t before[QUEUES], after[QUEUES];
		usleep((useconds_t)rand_r(&seed) % 1500);
		vn_virtio_pause(bench.device);
		read_used(before);
		usleep((useconds_t)rand_r(&seed) % 300);
		read_used(after);
		assert_memory_equal(before, after, sizeof(before));
		vn_virtio_resume(bench.device);
		for (unsigned i = 0; i < QUEUES; i++)
			if (!joined[i] && pthread_tryjoin_np(workers[i].thread, NULL) == 0) {
				joined[i] = true;
				left--;
			}
	}
	return pauses;
}

// Pauses at any moment, while four drivers work: no request is lost, failed or done twice.
static void pauses_lose_nothing(void **state)
{
	static const struct vn_blk_options variants[] = {
		{.cache = VN_BLK_CACHE_WRITEBACK}, {.cache = VN_BLK_CACHE_NONE},
		{.iops = {20000, 10}}, // so that most pauses find a request that is held back
	};
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(variants); i++) {
		struct vn_blk_options disk = variants[i];
		disk.path = (struct vn_file){.name = bench.path, .fd = -1};
		disk.queues = QUEUES;
		attach(&disk);
		host_can_clear = mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
		drive_queues();
		start_workers(work_in_own_blocks);
		assert_true(pause_until_done(i) > 3);
		for (unsigned n = 0; n < QUEUES; n++) {
			assert_int_equal(workers[n].wrong, 0);
			assert_true(workers[n].done >= 60 * BATCH);
		}
		assert_int_equal(warnings(), 0);
		detach();
	}
}

// A driver that resets a paused device waits for nothing, and finds a new one after it.
static void a_paused_device_can_be_reset(void **state)
{
	(void)state;
	attach(&(struct vn_blk_options){.path = {.name = bench.path, .fd = -1}, .iops = {1, 1}});
	drive(mmio_features(&bench.bus));
	for (unsigned head = 0; head < 6; head += 3) { // of which the second is held back
		prepare(head, VIRTIO_BLK_T_IN, 0, DATA, 512);
		ring_offer(&bench.ring, head);
	}
	notify();
	vn_virtio_pause(bench.device);
	reset();
	drive(mmio_features(&bench.bus)); // it starts when it resumes
	vn_virtio_resume(bench.device);
	assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, DATA, 20), VIRTIO_BLK_S_OK);
	detach();
}

static void restart_first_queue(void)
{
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_SEL, 0);
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_READY, 0);
	ring_init(&workers[0].ring, &bench.memory, RINGS, SIZE);
	mmio_queue(&bench.bus, 0, &workers[0].ring);
}

// Again and again, take the first queue back and use it, while the others work.
static void restart_while_others_work(void (*restart)(void))
{
	open_queues(VN_BLK_CACHE_NONE);
	drive_queues();
	workers[0].wrong = 1; // it has nothing to do
	start_workers(work_in_own_blocks);
	pthread_join(workers[0].thread, NULL);
	for (unsigned i = 0; i < 20; i++) {
		restart();
		workers[0].wrong = 0;
		batch(&workers[0], VIRTIO_BLK_T_IN);
		assert_int_equal(workers[0].wrong, 0);
	}
	for (unsigned i = 1; i < QUEUES; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].wrong, 0);
	}
	detach();
}

static void one_queue_of_four_stops(void **state)
{
	(void)state;
	restart_while_others_work(restart_first_queue);
}

static void restart_in_a_pause(void)
{
	for (unsigned k = 0; k < BATCH; k++)
		put_request(&workers[0], k, VIRTIO_BLK_T_IN);
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	vn_virtio_pause(bench.device);
	restart_first_queue();
	vn_virtio_resume(bench.device);
}

// A driver resets one queue of a paused device, with requests in flight in each: that one begins
// anew, and the others go on.
static void one_queue_is_reset_in_a_pause(void **state)
{
	(void)state;
	restart_while_others_work(restart_in_a_pause);
}

// A reset takes back all queues, with requests in flight in each.
static void a_reset_of_four_queues(void **state)
{
	(void)state;
	open_queues(VN_BLK_CACHE_DIRECTSYNC);
	for (unsigned round = 0; round < 20; round++) {
		drive_queues();
		for (unsigned i = 0; i < QUEUES; i++) {
			for (unsigned k = 0; k < BATCH; k++)
				put_request(
					&workers[i], k, k % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN);
			mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, i);
		}
		usleep(round * 50);
		reset();
		for (unsigned i = 0; i < QUEUES; i++) {
			uint16_t before = ring_used_index(&workers[i].ring);
			usleep(100);
			assert_int_equal(ring_used_index(&workers[i].ring), before);
		}
	}
	drive_queues();
	for (unsigned i = 0; i < QUEUES; i++) {
		batch(&workers[i], VIRTIO_BLK_T_IN);
		assert_int_equal(workers[i].wrong, 0);
	}
	detach();
}

// On a device of 4096-byte blocks, all queues write and clear sectors of the same blocks, each its
// own ones.
static void *work_in_parts(void *arg)
{
	struct worker *worker = arg;
	uint8_t *data = data_at(BUFFER(worker), PART);
	for (unsigned round = 0; round < 20 && !worker->wrong; round++) {
		bool clears = host_can_clear && round % 4 == worker->index;
		memset(data, (int)(round * QUEUES + worker->index + 1), PART);
		for (unsigned i = 0; i < BATCH; i++)
			put_part(worker, i, clears ? VIRTIO_BLK_T_WRITE_ZEROES : VIRTIO_BLK_T_OUT);
		await_batch(worker);
		if (clears)
			memset(data, 0, PART);
		for (unsigned i = 0; i < BATCH; i++)
			put_part(worker, i, VIRTIO_BLK_T_IN);
		await_batch(worker);
		for (unsigned i = 0; i < BATCH; i++)
			worker->wrong +=
				memcmp(data + CHUNK * i, data + PART + CHUNK * i, 512) != 0;
	}
	return NULL;
}

static void open_parts(const struct loop *loop, enum vn_blk_cache cache, bool sqpoll)
{
	attach(&(struct vn_blk_options){.path = {.name = (char *)(uintptr_t)loop->path, .fd = -1},
		.cache = cache,
		.queues = QUEUES,
		.block_size = 512,
		.sqpoll = sqpoll});
	host_can_clear = mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
	drive_queues();
}

static void four_queues_in_the_same_blocks(void **state)
{
	(void)state;
	struct loop loop = make_loop(4096);
	static const enum vn_blk_cache modes[] = {
		VN_BLK_CACHE_NONE, VN_BLK_CACHE_DIRECTSYNC, VN_BLK_CACHE_NONE};
	for (unsigned mode = 0; mode < 3; mode++) {
		open_parts(&loop, modes[mode], mode == 2);
		start_workers(work_in_parts);
		join_workers();
		for (unsigned i = 0; i < QUEUES; i++)
			assert_int_equal(workers[i].done, 40 * BATCH);
		assert_words(BATCH * QUEUES * 512, MIB); // and nothing behind
		detach();
	}
	close(loop.fd);
}

// One queue writes whole blocks while another one writes a sector in each of them: whichever is
// last there, the rest of the block is the first one's.
static void whole_blocks_and_parts_of_them(void **state)
{
	(void)state;
	struct loop loop = make_loop(4096);
	open_parts(&loop, VN_BLK_CACHE_NONE, false);
	uint8_t *blocks = data_at(BUFFER(&workers[0]), PART);
	uint8_t *got = data_at(BUFFER(&workers[0]) + PART, PART);
	for (unsigned round = 0; round < 100; round++) {
		memset(blocks, (int)round, PART);
		memset(data_at(BUFFER(&workers[1]), PART), 0xff, PART);
		for (unsigned i = 0; i < BATCH; i++) {
			put_request(&workers[0], i, VIRTIO_BLK_T_OUT);
			put_at(&workers[1], i, VIRTIO_BLK_T_OUT, 8 * i + 3, 512);
		}
		mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, round % 2);
		await_batch(&workers[!(round % 2)]);
		await_batch(&workers[round % 2]);
		batch(&workers[0], VIRTIO_BLK_T_IN);
		assert_int_equal(workers[0].wrong + workers[1].wrong, 0);
		for (unsigned i = 0; i < PART; i++)
			if (i / 512 % 8 != 3)
				assert_int_equal(got[i], round);
	}
	detach();
	close(loop.fd);
}

// A reset while writes wait for blocks and buffers.
static void a_reset_in_the_same_blocks(void **state)
{
	(void)state;
	struct loop loop = make_loop(4096);
	open_parts(&loop, VN_BLK_CACHE_NONE, false);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < QUEUES; i++) {
			for (unsigned k = 0; k < BATCH; k++)
				put_at(&workers[i], k, VIRTIO_BLK_T_OUT, (i + k) % 8, 512);
			mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, i);
		}
		usleep(round * 50);
		reset();
		drive_queues();
	}
	for (unsigned i = 0; i < QUEUES; i++) {
		batch(&workers[i], VIRTIO_BLK_T_IN);
		assert_int_equal(workers[i].wrong, 0);
	}
	detach();
	close(loop.fd);
}

// Four queues at once have what one would have, to the request.
static void four_queues_share_a_limit(void **state)
{
	(void)state;
	attach(&(struct vn_blk_options){
		.path = {.name = bench.path, .fd = -1}, .queues = QUEUES, .iops = {1000, 8}});
	drive_queues();
	uint64_t begin = vn_clock_ns();
	start_workers(one_batch);
	join_workers();
	assert_true(vn_clock_ns() - begin >= (QUEUES * BATCH - 8) * NS_PER_MS);
	detach();
}

static void kernel_threads_submit_for_four_queues(void **state)
{
	(void)state;
	attach(&(struct vn_blk_options){.path = {.name = bench.path, .fd = -1},
		.cache = VN_BLK_CACHE_NONE,
		.queues = QUEUES,
		.sqpoll = true});
	for (unsigned round = 0; round < 5; round++) {
		drive_queues();
		for (unsigned i = 0; i < QUEUES; i++) {
			batch(&workers[i], VIRTIO_BLK_T_OUT);
			batch(&workers[i], VIRTIO_BLK_T_IN);
			assert_int_equal(workers[i].wrong, 0);
		}
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
	}
	detach();
}

static void too_many_queues(void **state)
{
	(void)state;
	struct vn_blk_options values;
	struct veneer_error error = {.code = 0};
	uint64_t given;
	assert_int_equal(
		vn_option_parse(vn_blk_type.option, &values, &given, "x,queues=17", &error),
		-EINVAL);
	assert_non_null(strstr(error.message, "'17' is not a number from 1 to 16"));
	attach(&(struct vn_blk_options){
		.path = {.name = bench.path, .fd = -1}, .queues = VN_QUEUES_MAX});
	assert_int_equal(read_config().num_queues, VN_QUEUES_MAX);
	drive(mmio_features(&bench.bus) & ~FEATURE(VIRTIO_BLK_F_MQ)); // one will do
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
	detach();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FILE(four_queues_at_once),
		WITH_FILE(pauses_lose_nothing),
		WITH_FILE(a_paused_device_can_be_reset),
		WITH_FILE(one_queue_of_four_stops),
		WITH_FILE(one_queue_is_reset_in_a_pause),
		WITH_FILE(a_reset_of_four_queues),
		WITH_FILE(four_queues_in_the_same_blocks),
		WITH_FILE(whole_blocks_and_parts_of_them),
		WITH_FILE(a_reset_in_the_same_blocks),
		WITH_FILE(four_queues_share_a_limit),
		WITH_FILE(kernel_threads_submit_for_four_queues),
		WITH_FILE(too_many_queues),
	};
	return cmocka_run_group_tests(tests, make_bench, destroy_bench);
}
