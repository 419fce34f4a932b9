// SPDX-License-Identifier: Apache-2.0
//
// A disk's queue under load: polling and notifications, many requests at once, statistics, limits,
// and resets while requests are in flight.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/virtio_ids.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/spin.h"
#include "blk_device.h"

// A driver that notifies only when it is asked to, as drivers do: how many of its requests, one
// after the other, it did not notify of.
static unsigned unnotified(unsigned poll_us)
{
	start_disk(&(struct vn_blk_options){
		.path = {.name = bench.path, .fd = -1}, .poll_us = poll_us});
	unsigned count = 0;
	uint32_t id;
	for (unsigned i = 0; i < 300; i++) {
		uint16_t index = bench.ring.avail_next;
		prepare(0, VIRTIO_BLK_T_IN, 8 * (i % 64), DATA, 4096);
		ring_offer(&bench.ring, 0);
		if (ring_avail_event(&bench.ring) == index)
			notify();
		else
			count++;
		assert_int_equal(wait_used(&id), 4097);
		assert_int_equal(*status_of(0), VIRTIO_BLK_S_OK);
	}
	detach();
	return count;
}

// Not of all of them; and none is ever forgotten, however the end of looking and the next request
// meet.
static void polled_queues_need_fewer_notifications(void **state)
{
	(void)state;
	assert_true(unnotified(VN_SPIN_US_MAX) > 0);
	for (unsigned poll_us = 1; poll_us < 300; poll_us += 37)
		unnotified(poll_us);
}

// A queue that is not polled asks for a notification at once, one that is after its time.
static void idle_queues_ask_for_notifications(void **state)
{
	(void)state;
	static const unsigned times[] = {NO_POLLING, 0, 1, 500, VN_SPIN_US_MAX};
	for (unsigned i = 0; i < ARRAY_SIZE(times); i++) {
		attach(&(struct vn_blk_options){
			.path = {.name = bench.path, .fd = -1}, .poll_us = times[i]});
		// Also with a driver without EVENT_IDX, whom a flag tells.
		for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
			uint64_t without = event_idx ? 0 : FEATURE(VIRTIO_RING_F_EVENT_IDX);
			drive(mmio_features(&bench.bus) & ~without);
			for (unsigned k = 0; k < 20; k++)
				assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), 0);
			bool asks = false;
			for (unsigned k = 0; k < 100000 && !asks; k++) {
				asks = event_idx ? ring_avail_event(&bench.ring) ==
							   bench.ring.avail_next
						 : ring_used_flags(&bench.ring) == 0;
				usleep(100);
			}
			assert_true(asks);
		}
		detach();
	}
}

// Submissions taken by a thread of the kernel, awake or asleep.
static void a_kernel_thread_submits(void **state)
{
	(void)state;
	static const enum vn_blk_cache modes[] = {
		VN_BLK_CACHE_WRITEBACK, VN_BLK_CACHE_NONE, VN_BLK_CACHE_DIRECTSYNC};
	for (unsigned i = 0; i < 3; i++) {
		fill_file();
		start_disk(&(struct vn_blk_options){
			.path = {.name = bench.path, .fd = -1}, .cache = modes[i], .sqpoll = true});
		assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 8192), VIRTIO_BLK_S_OK);
		assert_original(data_at(DATA, 8192), 4096, 8192);
		usleep(20000); // it sleeps by then
		write_and_flush();
		assert_int_equal(warnings(), 0);
		detach();
	}
}

// As many requests as the queue has room for, at once.
static void a_full_queue(void **state)
{
	(void)state;
	static bool seen[SIZE];
	memset(seen, 0, sizeof(seen));
	for (unsigned i = 0; i < 85; i++) {
		prepare(3 * i, VIRTIO_BLK_T_IN, 8 * i, DATA + 4096ull * i, 4096);
		ring_offer(&bench.ring, 3 * i);
	}
	notify();
	for (unsigned i = 0; i < 85; i++) {
		uint32_t id;
		assert_int_equal(wait_used(&id), 4097);
		assert_false(seen[id]);
		seen[id] = true;
		assert_int_equal(*status_of(id), VIRTIO_BLK_S_OK);
		assert_original(data_at(DATA + 4096ull * (id / 3), 4096), 4096ull * (id / 3), 4096);
	}
}

// Requests of one indirect descriptor each, so that a turn's budget of chains is used up, which are
// done at once, and a single notification.
static void a_queue_full_of_short_requests(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIZE; i++) {
		uint64_t table = DATA + 64ull * i;
		put_header(header_of(i), VIRTIO_BLK_T_GET_ID, 0);
		ring_table(&bench.memory, table, 0,
			(struct ring_desc){header_of(i), 16, RING_NEXT, 1});
		ring_table(&bench.memory, table, 1,
			(struct ring_desc){header_of(i) + 32, 21, RING_WRITE, 0});
		ring_desc(&bench.ring, i, table, 32, RING_INDIRECT, 0);
	}
	uint32_t id;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < SIZE; i++)
			ring_offer(&bench.ring, i);
		notify();
		for (unsigned i = 0; i < SIZE; i++) {
			assert_int_equal(wait_used(&id), 21);
			assert_int_equal(id, i);
		}
	}
	// Notifications are on again, though the budget ran out.
	for (unsigned i = 0; i < 100000 && ring_avail_event(&bench.ring) != bench.ring.avail_next;
		i++)
		usleep(100);
	assert_int_equal(ring_avail_event(&bench.ring), bench.ring.avail_next);
}

static struct veneer_queue_stats counted(struct vn_arena *arena)
{
	const struct veneer_device_stats *stats;
	assert_int_equal(vn_virtio_stats(bench.device, arena, &stats), 0);
	assert_string_equal(stats->name, "blk0");
	assert_int_equal(stats->virtio_id, VIRTIO_ID_BLOCK);
	assert_null(stats->queues[1]);
	return *stats->queues[0];
}

// A request is counted before the driver can see that it is done.
static void counts_requests(void **state)
{
	struct vn_arena arena = {NULL};
	struct veneer_queue_stats stats = counted(&arena);
	assert_int_equal(stats.requests + stats.batches + stats.notifications, 0);
	a_full_queue(state);
	stats = counted(&arena);
	assert_int_equal(stats.requests, 85);
	assert_int_equal(stats.read_bytes, 85 * 4096);
	assert_int_equal(stats.written_bytes + stats.errors, 0);
	assert_int_equal(stats.notifications, 1);
	assert_int_equal(stats.wakeups, 1);
	assert_in_range(stats.batches, 1, 85);
	assert_int_equal(stats.latency->count, 85);

	assert_int_equal(request(VIRTIO_BLK_T_OUT, 16, DATA, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, SECTORS, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS, DATA, 512), VIRTIO_BLK_S_IOERR);
	stats = counted(&arena);
	assert_int_equal(stats.requests, 89);
	assert_int_equal(stats.errors, 2);
	assert_int_equal(stats.read_bytes, 85 * 4096);
	assert_int_equal(stats.written_bytes, 4096);
	assert_int_equal(stats.latency->count, 89);
	assert_in_range(stats.notifications, 1, 5);
	assert_in_range(stats.interrupts, 1, 89);

	// Counts outlive a reset; a queue full is more than one turn's, whose own kicks do not
	// count.
	drive(mmio_features(&bench.bus));
	a_queue_full_of_short_requests(state);
	stats = counted(&arena);
	assert_int_equal(stats.requests, 89 + 20 * SIZE);
	assert_in_range(stats.notifications, 1, 26); // the reset's own may be one
	vn_arena_free(&arena);
}

// Writes that take their time, and a reset while they are under way. It returns when none is, so
// nothing may change in memory or file after it, and the device starts anew.
static void a_reset_with_requests_in_flight(void **state)
{
	(void)state;
	open_disk(VN_BLK_CACHE_WRITETHROUGH, false);
	for (unsigned round = 0; round < 20; round++) {
		drive(mmio_features(&bench.bus));
		for (unsigned i = 0; i < 40; i++) {
			uint64_t data = DATA + 65536ull * i;
			bool write = i % 2;
			memset(data_at(data, 65536), 0x11, 65536);
			prepare(3 * i, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 128 * i, data,
				65536);
			ring_offer(&bench.ring, 3 * i);
		}
		notify();
		usleep(round * 50);
		reset();
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_QUEUE_READY), 0);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS), 0);

		memset(ring_at(&bench.memory, 0, 16 * MIB), 0x22, 16 * MIB);
		usleep(2000);
		const uint8_t *all = ring_at(&bench.memory, 0, 16 * MIB);
		for (uint64_t i = 0; i < 16 * MIB; i += 8) {
			uint64_t word;
			memcpy(&word, all + i, 8);
			assert_int_equal(word, 0x2222222222222222);
		}
	}
	fill_file();
	drive(mmio_features(&bench.bus));
	write_and_flush();
	detach();
}

// Requests of many ranges, each of which takes the host its time: a reset waits for a range, not
// for all of them, and what is left is left undone.
static void a_reset_between_ranges(void **state)
{
	(void)state;
	open_disk(VN_BLK_CACHE_DIRECTSYNC, false);
	uint64_t features = mmio_features(&bench.bus);
	for (unsigned round = 0; round < 10; round++) {
		drive(features);
		struct virtio_blk_discard_write_zeroes *ranges =
			(void *)data_at(DATA, 16 * sizeof(*ranges));
		for (unsigned i = 0; i < 16; i++)
			ranges[i] = (struct virtio_blk_discard_write_zeroes){16 * i + 1, 8, i % 2};
		for (unsigned i = 0; i < 40; i++) {
			prepare(3 * i, VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA, 16 * sizeof(*ranges));
			ring_desc(&bench.ring, 3 * i + 1, DATA, 16 * sizeof(*ranges), RING_NEXT,
				3 * i + 2);
			ring_offer(&bench.ring, 3 * i);
		}
		notify();
		usleep(round * 100);
		reset();
		fill_file();
		usleep(1000);
		assert_words(0, DISK_SIZE); // nothing zeroes any more
	}
	drive(features);
	write_and_flush();
	detach();
}

#define CLEARS       20 // requests
#define CLEAR_RANGES 16 // of each
#define CLEAR_BYTES  4096
#define CLEAR_STRIDE 8192 // from one range to the next

static void offer_clears(void)
{
	const uint32_t size = CLEAR_RANGES * sizeof(struct virtio_blk_discard_write_zeroes);
	for (unsigned i = 0; i < CLEARS; i++) {
		struct virtio_blk_discard_write_zeroes *ranges =
			(void *)data_at(DATA + i * size, size);
		for (unsigned k = 0; k < CLEAR_RANGES; k++)
			ranges[k] = (struct virtio_blk_discard_write_zeroes){
				(i * CLEAR_RANGES + k) * CLEAR_STRIDE / 512, CLEAR_BYTES / 512, 0};
		prepare(3 * i, i % 2 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA,
			0);
		ring_desc(&bench.ring, 3 * i, header_of(3 * i), 16, RING_NEXT, 3 * i + 1);
		ring_desc(&bench.ring, 3 * i + 1, DATA + i * size, size, RING_NEXT, 3 * i + 2);
		ring_offer(&bench.ring, 3 * i);
	}
	notify();
}

// Each request has been carried out as a whole, or not at all; how many have.
static unsigned count_clears(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < CLEARS; i++) {
		bool cleared = *status_of(3 * i) == VIRTIO_BLK_S_OK;
		for (unsigned k = 0; k < CLEAR_RANGES; k++) {
			uint64_t at = (uint64_t)(i * CLEAR_RANGES + k) * CLEAR_STRIDE;
			if (cleared)
				assert_file(at, 0, CLEAR_BYTES);
			else
				assert_words(at, CLEAR_BYTES);
			assert_words(at + CLEAR_BYTES, CLEAR_STRIDE - CLEAR_BYTES);
		}
		count += cleared;
	}
	return count;
}

// Unlike a reset, a pause carries out all ranges of a request that has begun.
static void a_pause_between_ranges(void **state)
{
	(void)state;
	need_holes();
	start_disk(&(struct vn_blk_options){.path = {.name = bench.path, .fd = -1},
		.cache = VN_BLK_CACHE_DIRECTSYNC,
		.iops = {2000, 4}}); // so that some wait for their turn
	unsigned between = 0;
	for (unsigned round = 0; round < 20; round++) {
		uint32_t id;
		fill_file();
		offer_clears();
		usleep(round * 200);
		vn_virtio_pause(bench.device);
		unsigned done = count_clears();
		between += done > 0 && done < CLEARS;
		vn_virtio_resume(bench.device);
		for (unsigned i = 0; i < CLEARS; i++)
			wait_used(&id);
		assert_int_equal(count_clears(), CLEARS);
		vn_virtio_pause(bench.device); // nothing comes twice
		assert_false(ring_take(&bench.ring, &id, &(uint32_t){0}));
		vn_virtio_resume(bench.device);
	}
	assert_true(between > 0);
	detach();
}

// A driver that offers every request again as soon as it ends: a reset that went on taking them
// would end by luck only.
static atomic_bool offering;

static void *offer_again(void *arg)
{
	(void)arg;
	uint32_t id, len;
	while (atomic_load(&offering))
		while (ring_take(&bench.ring, &id, &len))
			ring_offer(&bench.ring, id);
	return NULL;
}

static void a_reset_under_endless_requests(void **state)
{
	(void)state;
	open_disk(VN_BLK_CACHE_NONE, false);
	for (unsigned round = 0; round < 5; round++) {
		drive(mmio_features(&bench.bus));
		for (unsigned i = 0; i < 64; i++) {
			prepare(3 * i, VIRTIO_BLK_T_IN, 128 * i, DATA + 65536ull * i, 65536);
			ring_offer(&bench.ring, 3 * i);
		}
		pthread_t thread;
		atomic_store(&offering, true);
		assert_int_equal(pthread_create(&thread, NULL, offer_again, NULL), 0);
		notify();
		usleep(10000);
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		atomic_store(&offering, false);
		pthread_join(thread, NULL);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), 0);
	}
	detach();
}

// The transport's end with requests in flight is the vm's end.
static void the_end_with_requests_in_flight(void **state)
{
	(void)state;
	open_disk(VN_BLK_CACHE_WRITETHROUGH, false);
	for (unsigned i = 0; i < 40; i++) {
		prepare(3 * i, VIRTIO_BLK_T_OUT, 128 * i, DATA, 65536);
		ring_offer(&bench.ring, 3 * i);
	}
	notify();
	detach();
}

// `count` requests of 4 KiB at once, and how long they took all in all.
static uint64_t burst_of(unsigned count, uint32_t type)
{
	uint32_t id;
	uint64_t begin = vn_clock_ns();
	for (unsigned i = 0; i < count; i++) {
		prepare(3 * i, type, 8 * i, DATA + 4096ull * i, 4096);
		ring_offer(&bench.ring, 3 * i);
	}
	notify();
	for (unsigned i = 0; i < count; i++) {
		wait_used(&id);
		assert_int_equal(*status_of(id), VIRTIO_BLK_S_OK);
	}
	return vn_clock_ns() - begin;
}

// Never faster than the limit; how much slower is the machine's affair.
static void limits_are_kept(void **state)
{
	(void)state;
	static const struct {
		struct vn_blk_options disk;
		uint64_t least; // ns for 40 requests
	} cases[] = {
		{{.iops = {400, 1}}, 39 * 2500000ull},
		{{.iops = {400, 20}}, 20 * 2500000ull},
		{{.bps = {MIB, 4096}}, 39 * 3906250ull},
		{{.iops = {1000000, 0}, .bps = {MIB, 4096}}, 39 * 3906250ull},
		{{.iops = {400, 1}, .bps = {1ull << 40, 0}}, 39 * 2500000ull},
		{{.iops = {1ull << 40, 0}}, 0},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vn_blk_options disk = cases[i].disk;
		disk.path = (struct vn_file){.name = bench.path, .fd = -1};
		start_disk(&disk);
		assert_true(
			burst_of(40, i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT) >= cases[i].least);
		detach();
	}
	assert_int_equal(warnings(), 0);
}

// A disk with a limit of one request in 1000 seconds has nothing to wait for at a reset, and what
// was not begun does not count.
static void a_reset_while_held_back(void **state)
{
	(void)state;
	attach(&(struct vn_blk_options){
		.path = {.name = bench.path, .fd = -1}, .bps = {1024, MIB + 65536}});
	for (unsigned round = 0; round < 3; round++) {
		drive(mmio_features(&bench.bus));
		for (unsigned i = 0; i < 8; i++) {
			prepare(3 * i, VIRTIO_BLK_T_OUT, 8 * i, DATA, i ? MIB : 4096);
			ring_offer(&bench.ring, 3 * i);
		}
		notify();
		for (unsigned i = 0; i < 100000 && ring_used_index(&bench.ring) == 0; i++)
			usleep(100);
		usleep(round * 1000);
		reset();
		assert_true(ring_used_index(&bench.ring) <= 2);
	}
	// What is left of the burst is enough for these.
	drive(mmio_features(&bench.bus));
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	detach();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FILE(polled_queues_need_fewer_notifications),
		WITH_FILE(idle_queues_ask_for_notifications),
		WITH_FILE(a_kernel_thread_submits),
		WITH_DISK(a_full_queue),
		WITH_DISK(a_queue_full_of_short_requests),
		WITH_DISK(counts_requests),
		WITH_FILE(a_reset_with_requests_in_flight),
		WITH_FILE(a_reset_between_ranges),
		WITH_FILE(a_pause_between_ranges),
		WITH_FILE(a_reset_under_endless_requests),
		WITH_FILE(the_end_with_requests_in_flight),
		WITH_FILE(limits_are_kept),
		WITH_FILE(a_reset_while_held_back),
	};
	return cmocka_run_group_tests(tests, make_bench, destroy_bench);
}
