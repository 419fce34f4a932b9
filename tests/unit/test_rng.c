// SPDX-License-Identifier: Apache-2.0
//
// virtio-rng behind the mmio transport: what it writes and what it says it wrote, and what it does
// with chains that are none of its.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/macros.h"
#include "devices/rng.h"
#include "mmio_driver.h"
#include "virtio/mmio.h"

#define RINGS MIB
#define DATA  (4 * MIB)
#define SIZE  64

struct bench {
	struct vn_memory memory;
	struct vn_bus bus;
	struct vn_log log;
	struct vn_virtio_device *device;
	struct vn_virtio_mmio *mmio;
	struct ring ring;
	pthread_mutex_t lock;
	char warning[512]; // under the lock: the last one
};

static struct bench bench = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void message(void *opaque, enum veneer_severity severity, const char *text)
{
	struct bench *to = opaque;
	(void)severity;
	pthread_mutex_lock(&to->lock);
	snprintf(to->warning, sizeof(to->warning), "%s", text);
	pthread_mutex_unlock(&to->lock);
}

static int make_memory(void **state)
{
	(void)state;
	struct vn_memory_options options = {.size = 16 * MIB, .node = -1};
	struct veneer_error error;
	bench.log = (struct vn_log){message, &bench};
	return vn_memory_create(&bench.memory, &options, 3 * GIB, &error);
}

static int destroy_memory(void **state)
{
	(void)state;
	vn_memory_destroy(&bench.memory);
	return 0;
}

static void drive(void)
{
	assert_int_equal(mmio_negotiate(&bench.bus, mmio_features(&bench.bus)), MMIO_NEGOTIATED);
	ring_init(&bench.ring, &bench.memory, RINGS, SIZE);
	mmio_queue(&bench.bus, 0, &bench.ring);
	mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), MMIO_RUNNING);
}

static struct vn_loops loops = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int attach(void **state)
{
	(void)state;
	struct veneer_error error = {.code = 0};
	bench.bus = (struct vn_bus){.count = 0};
	bench.warning[0] = '\0';
	struct vn_rng_options values = {VN_RNG_ON};
	const struct vn_device_env env = {.name = "rng0",
		.guest = "test",
		.memory = &bench.memory,
		.log = &bench.log,
		.loops = &loops};
	if (vn_rng_type.create(&bench.device, &env, &values, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(vn_virtio_mmio_create(&bench.mmio, bench.device, NULL, &bench.bus,
				 MMIO_BASE, 16, &error),
		0);
	memset(ring_at(&bench.memory, DATA, 4 * MIB), 0, 4 * MIB);
	drive();
	return 0;
}

static int detach(void **state)
{
	(void)state;
	vn_virtio_mmio_destroy(bench.mmio);
	vn_rng_type.destroy(bench.device);
	return 0;
}

static void notify(void)
{
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

static uint32_t wait_used(uint32_t *id)
{
	uint32_t len = 0;
	for (unsigned i = 0; i < 100000; i++) {
		if (ring_take(&bench.ring, id, &len))
			return len;
		usleep(100);
	}
	fail_msg("no request completes");
	return 0;
}

// Bytes of [at, at + size) that are not zero.
static unsigned nonzero(uint64_t at, uint32_t size)
{
	const uint8_t *data = ring_at(&bench.memory, at, size);
	unsigned count = 0;
	for (uint32_t i = 0; i < size; i++)
		count += data[i] != 0;
	return count;
}

static void assert_broken(const char *reason)
{
	for (unsigned i = 0; i < 100000; i++) {
		if (mmio_get(&bench.bus, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET)
			break;
		usleep(100);
	}
	assert_true(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
	pthread_mutex_lock(&bench.lock);
	if (!strstr(bench.warning, reason))
		fail_msg("\"%s\" does not say \"%s\"", bench.warning, reason);
	pthread_mutex_unlock(&bench.lock);
}

static void describes_itself(void **state)
{
	(void)state;
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_DEVICE_ID), 4);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG), 0);
	assert_int_equal(mmio_features(&bench.bus), FEATURE(VIRTIO_F_VERSION_1) |
							    FEATURE(VIRTIO_RING_F_EVENT_IDX) |
							    FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
}

// 1000 bytes over three buffers: all random (4 of 1000 are zero on average), and nothing beyond.
static void fills_a_chain(void **state)
{
	(void)state;
	uint32_t id;
	ring_desc(&bench.ring, 5, DATA, 1, RING_WRITE | RING_NEXT, 6);
	ring_desc(&bench.ring, 6, DATA + 1, 499, RING_WRITE | RING_NEXT, 7);
	ring_desc(&bench.ring, 7, DATA + 0x1000, 500, RING_WRITE, 0);
	ring_offer(&bench.ring, 5);
	notify();
	assert_int_equal(wait_used(&id), 1000);
	assert_int_equal(id, 5);
	assert_true(nonzero(DATA, 500) > 450);
	assert_true(nonzero(DATA + 0x1000, 500) > 450);
	assert_int_equal(nonzero(DATA + 500, 0x1000 - 500), 0);
	assert_int_equal(nonzero(DATA + 0x1000 + 500, 4096), 0);
	struct vn_arena arena = {NULL};
	const struct veneer_device_stats *stats;
	assert_int_equal(vn_virtio_stats(bench.device, &arena, &stats), 0);
	assert_int_equal(stats->queues[0]->requests, 1);
	assert_int_equal(stats->queues[0]->read_bytes, 1000);
	vn_arena_free(&arena);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
}

static void differs_each_time(void **state)
{
	(void)state;
	uint32_t id;
	for (unsigned i = 0; i < 2; i++) {
		ring_desc(&bench.ring, i, DATA + 64 * i, 32, RING_WRITE, 0);
		ring_offer(&bench.ring, i);
		notify();
		assert_int_equal(wait_used(&id), 32);
	}
	assert_memory_not_equal(
		ring_at(&bench.memory, DATA, 32), ring_at(&bench.memory, DATA + 64, 32), 32);
}

// A buffer of 1 MiB is answered in part, and the used length is what was written.
static void bounds_a_request(void **state)
{
	(void)state;
	uint32_t id;
	ring_desc(&bench.ring, 0, DATA, MIB, RING_WRITE, 0);
	ring_offer(&bench.ring, 0);
	notify();
	uint32_t len = wait_used(&id);
	assert_int_equal(len, 4096);
	assert_true(nonzero(DATA, len) > len - 100);
	assert_int_equal(nonzero(DATA + len, MIB - len), 0);
}

static void offer_all(void)
{
	for (unsigned i = 0; i < SIZE; i++) {
		ring_desc(&bench.ring, i, DATA + 4096 * i, 4096, RING_WRITE, 0);
		ring_offer(&bench.ring, i);
	}
	notify();
}

// More requests than one turn takes all end.
static void serves_a_full_queue(void **state)
{
	(void)state;
	uint32_t id;
	for (unsigned round = 0; round < 3; round++) {
		offer_all();
		for (unsigned i = 0; i < SIZE; i++) {
			assert_int_equal(wait_used(&id), 4096);
			assert_int_equal(id, i);
		}
	}
}

static void refuses_readable_buffers(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, DATA, 16, RING_NEXT, 1);
	ring_desc(&bench.ring, 1, DATA, 16, RING_WRITE, 0);
	ring_offer(&bench.ring, 0);
	notify();
	assert_broken("rng0: the guest's driver broke queue 0: "
		      "chain 0 has a buffer that the device cannot write");
	assert_int_equal(ring_used_index(&bench.ring), 0);

	// A reset mends it.
	drive();
	fills_a_chain(state);
}

static void refuses_what_is_not_memory(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, 1ull << 40, 16, RING_WRITE, 0);
	ring_offer(&bench.ring, 0);
	notify();
	assert_broken("outside RAM");
}

// Resets while requests are being served: returns, and nothing is written afterwards.
static void resets_while_busy(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		offer_all();
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		memset(ring_at(&bench.memory, DATA, SIZE * 4096), 0, SIZE * 4096);
		uint16_t used = ring_used_index(&bench.ring);
		usleep(200);
		assert_int_equal(ring_used_index(&bench.ring), used);
		assert_int_equal(nonzero(DATA, SIZE * 4096), 0);
		drive();
	}
}

// Through pauses nothing is lost or repeated; and a driver that resets the device in one finds it
// as new.
static void pauses_while_busy(void **state)
{
	(void)state;
	uint32_t id;
	for (unsigned round = 0; round < 50; round++) {
		offer_all();
		usleep(round * 10);
		vn_virtio_pause(bench.device);
		uint16_t used = ring_used_index(&bench.ring);
		usleep(200);
		assert_int_equal(ring_used_index(&bench.ring), used);
		if (round % 5 == 4) {
			drive(); // resets it
			offer_all();
			assert_int_equal(ring_used_index(&bench.ring), 0);
		}
		vn_virtio_resume(bench.device);
		for (unsigned i = 0; i < SIZE; i++) {
			assert_int_equal(wait_used(&id), 4096);
			assert_int_equal(id, i);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(describes_itself, attach, detach),
		cmocka_unit_test_setup_teardown(fills_a_chain, attach, detach),
		cmocka_unit_test_setup_teardown(differs_each_time, attach, detach),
		cmocka_unit_test_setup_teardown(bounds_a_request, attach, detach),
		cmocka_unit_test_setup_teardown(serves_a_full_queue, attach, detach),
		cmocka_unit_test_setup_teardown(refuses_readable_buffers, attach, detach),
		cmocka_unit_test_setup_teardown(refuses_what_is_not_memory, attach, detach),
		cmocka_unit_test_setup_teardown(resets_while_busy, attach, detach),
		cmocka_unit_test_setup_teardown(pauses_while_busy, attach, detach),
	};
	return cmocka_run_group_tests_name("rng", tests, make_memory, destroy_memory);
}
