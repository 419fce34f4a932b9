// SPDX-License-Identifier: Apache-2.0
//
// What goes wrong: drivers that break their queue, garbage, a vCPU that meddles, and a host that
// cannot read or write.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "blk_device.h"

static void chains_without_header_or_status_break_the_queue(void **state)
{
	(void)state;
	put_header(DATA, VIRTIO_BLK_T_IN, 0);
	ring_desc(&bench.ring, 0, DATA, 15, RING_NEXT, 1); // short header
	ring_desc(&bench.ring, 1, DATA + 512, 513, RING_WRITE, 0);
	ring_offer(&bench.ring, 0);
	notify();
	wait_needs_reset();
	assert_warning(1, "blk0: the guest's driver broke queue 0: chain 0 has no room");

	drive(mmio_features(&bench.bus));
	ring_desc(&bench.ring, 0, DATA, 16, 0, 0); // no status
	ring_offer(&bench.ring, 0);
	notify();
	wait_needs_reset();
	assert_warning(2, "chain 0 has no room");
}

static void a_broken_queue_works_after_a_reset(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		ring_desc(&bench.ring, 0, DATA, 16, RING_NEXT, 0);
		ring_offer(&bench.ring, 0);
		notify();
		wait_needs_reset();
		notify(); // said once
		reset();
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
		drive(mmio_features(&bench.bus));
		assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
	}
	// A driver that goes on like that does not fill the log.
	assert_warning(10, "not reported from here on");
}

static void rings_outside_ram_break_the_queue(void **state)
{
	(void)state;
	mmio_negotiate(&bench.bus, mmio_features(&bench.bus));
	struct ring outside = bench.ring;
	outside.used = 1ull << 40;
	mmio_queue(&bench.bus, 0, &outside);
	mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING);
	wait_needs_reset();
	assert_warning(1, "blk0: the guest's driver broke queue 0: the used ring at");
	notify();
	drive(mmio_features(&bench.bus));
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
}

// The host's troubles become I/O errors, and one line says which.
static void a_file_that_became_shorter(void **state)
{
	(void)state;
	assert_int_equal(ftruncate(bench.fd, 8192), 0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 8192), VIRTIO_BLK_S_IOERR);
	assert_warning(1, "blk0: read at byte 8192 failed: the file has become shorter");
	assert_int_equal(request(VIRTIO_BLK_T_IN, 100, DATA, 8192), VIRTIO_BLK_S_IOERR);
	assert_warning(2, "blk0: read at byte 51200 failed: the file has become shorter");
	assert_int_equal(request(VIRTIO_BLK_T_IN, 100, DATA, 8192), VIRTIO_BLK_S_IOERR);
	assert_int_equal(warnings(), 2);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 100, DATA, 8192), VIRTIO_BLK_S_IOERR);
	assert_warning(3, "(error 4 of this disk)");
	// It goes on working where there is a file.
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
}

// The same with O_DIRECT, and an end within a sector.
static void a_direct_file_that_became_shorter(void **state)
{
	(void)state;
	open_disk(VN_BLK_CACHE_NONE, false);
	assert_int_equal(ftruncate(bench.fd, 8192 + 100), 0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 8192), VIRTIO_BLK_S_IOERR);
	assert_int_equal(warnings(), 1);
	assert_non_null(strstr(bench.warning, "the file has become shorter"));
	detach();
}

static void limit_file_size(rlim_t size)
{
	struct rlimit limit;
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = size;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

// A write of which the host takes one half. The limit stands for a full disk: any user can set it.
static void a_host_that_takes_no_more(void **state)
{
	(void)state;
	memset(data_at(DATA, 8192), 0x33, 8192);
	limit_file_size(MIB);
	uint8_t status = request(VIRTIO_BLK_T_OUT, MIB / 512 - 8, DATA, 8192);
	uint8_t beyond = request(VIRTIO_BLK_T_OUT, MIB / 512, DATA, 4096);
	uint8_t before = request(VIRTIO_BLK_T_OUT, 0, DATA, 4096);
	limit_file_size(RLIM_INFINITY);
	assert_int_equal(status, VIRTIO_BLK_S_IOERR);
	assert_int_equal(beyond, VIRTIO_BLK_S_IOERR);
	assert_int_equal(before, VIRTIO_BLK_S_OK);
	assert_warning(2, "blk0: write at byte 1048576 failed: File too large");
	assert_file(MIB - 4096, 0x33, 4096);
	uint64_t after;
	assert_int_equal(pread(bench.fd, &after, 8, MIB), 8);
	assert_int_equal(after, MIB);
}

// Garbage requests: chains of any shape, headers of any type, buffers anywhere, in RAM and out of
// it. Whatever the device makes of them, it works after a reset.
static uint64_t fuzz_state;

static unsigned fuzz(unsigned bound)
{
	fuzz_state = fuzz_state * 6364136223846793005 + 1442695040888963407;
	return (unsigned)(fuzz_state >> 33) % bound;
}

// Three descriptors in a row are often a request: header, data, status.
static void put_garbage(void)
{
	static const uint32_t sizes[] = {1, 8, 17, 512, 513, 4096, 65536, 1u << 22, 0};
	static const uint32_t types[] = {0, 1, 0, 1, 4, 8, 99, 11, 13};
	static const uint32_t likely_sizes[] = {16, 4096, 1};
	static const uint16_t likely_flags[] = {RING_NEXT, RING_NEXT | RING_WRITE, RING_WRITE};
	for (unsigned i = 0; i < 33; i++) {
		uint64_t at = DATA + 4096ull * fuzz(64);
		put_header(at, types[fuzz(9)], fuzz(16) ? fuzz(SECTORS) : fuzz_state);
		struct ring_desc desc = {.addr = at,
			.len = likely_sizes[i % 3],
			.flags = likely_flags[i % 3],
			.next = (uint16_t)(i + 1)};
		if (fuzz(8) == 0)
			desc.len = sizes[fuzz(9)];
		if (fuzz(8) == 0)
			desc.flags = (uint16_t)fuzz(8);
		if (fuzz(16) == 0)
			desc.next = (uint16_t)fuzz(fuzz(4) ? 33 : 65536);
		if (fuzz(64) == 0)
			desc.addr = fuzz_state;
		ring_table(&bench.memory, fuzz(4) ? bench.ring.desc : DATA, i, desc);
	}
}

static void garbage_requests(void **state)
{
	(void)state;
	uint64_t features = mmio_features(&bench.bus);
	unsigned broken = 0, used = 0;
	fuzz_state = 20240229;
	for (unsigned round = 0; round < 3000; round++) {
		mmio_negotiate(&bench.bus, features);
		ring_init(&bench.ring, &bench.memory, RINGS, SIZE);
		put_garbage();
		mmio_queue(&bench.bus, 0, &bench.ring);
		for (unsigned i = fuzz(16); i > 0; i--)
			ring_offer(&bench.ring, fuzz(64) ? 3 * fuzz(11) : fuzz(65536));
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING); // serves the ring once
		broken += (mmio_get(&bench.bus, VIRTIO_MMIO_STATUS) &
				  VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		used += ring_used_index(&bench.ring) != 0;
	}
	assert_true(broken > 300); // the garbage was of the right mixture
	assert_true(used > 300);
	fill_file();
	drive(features);
	write_and_flush();
}

// Another vCPU that accesses registers without regard for what this one does, also resets.
static atomic_bool meddling;

static void *meddle(void *arg)
{
	(void)arg;
	for (unsigned i = 0; atomic_load(&meddling); i++) {
		notify();
		mmio_get(&bench.bus, VIRTIO_MMIO_STATUS);
		mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG);
		mmio_set(&bench.bus, VIRTIO_MMIO_INTERRUPT_ACK, 3);
		mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_READY, i % 2);
		if (i % 16 == 0)
			mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
	}
	return NULL;
}

static void two_vcpus_at_one_device(void **state)
{
	(void)state;
	pthread_t thread;
	uint64_t features = mmio_features(&bench.bus);
	atomic_store(&meddling, true);
	assert_int_equal(pthread_create(&thread, NULL, meddle, NULL), 0);
	for (unsigned round = 0; round < 300; round++) {
		mmio_negotiate(&bench.bus, features);
		ring_init(&bench.ring, &bench.memory, RINGS + 65536 * (round % 8), SIZE);
		mmio_queue(&bench.bus, 0, &bench.ring);
		for (unsigned i = 0; i < 8; i++) {
			prepare(3 * i, i % 2, 8 * i, DATA + 4096ull * i, 4096);
			ring_offer(&bench.ring, 3 * i);
		}
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING);
		notify();
		usleep(50);
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
	}
	atomic_store(&meddling, false);
	pthread_join(thread, NULL);
	fill_file();
	drive(features);
	write_and_flush();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DISK(chains_without_header_or_status_break_the_queue),
		WITH_DISK(a_broken_queue_works_after_a_reset),
		WITH_DISK(rings_outside_ram_break_the_queue),
		WITH_DISK(a_file_that_became_shorter),
		WITH_FILE(a_direct_file_that_became_shorter),
		WITH_DISK(a_host_that_takes_no_more),
		WITH_DISK(garbage_requests),
		WITH_DISK(two_vcpus_at_one_device),
	};
	signal(SIGXFSZ, SIG_IGN); // what is beyond the limit of a file is an error
	return cmocka_run_group_tests(tests, make_bench, destroy_bench);
}
