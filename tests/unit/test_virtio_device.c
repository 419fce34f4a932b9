// SPDX-License-Identifier: Apache-2.0
//
// The device state machine, with a device and a transport that only take note of what is asked of
// them: negotiation, the order of status bits, queues, reset, and breaking.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/macros.h"
#include "ring.h"
#include "virtio/device.h"

#define RINGS  MIB
#define QUEUES 3

#define ACKNOWLEDGE VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER      VIRTIO_CONFIG_S_DRIVER
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED      VIRTIO_CONFIG_S_FAILED

#define VERSION_1 (1ull << VIRTIO_F_VERSION_1)

// A device of three queues and 12 bytes of configuration space. Its "loop" is a thread that breaks
// queue 1 while `stop` waits for it, where a test asks for that.
struct bench {
	struct vn_virtio_device device;
	struct vn_virtio_transport transport;
	struct vn_virtio_queue queues[QUEUES];
	struct vn_memory memory;
	struct vn_log log;
	struct ring rings[QUEUES];
	uint8_t config[12];
	char calls[128]; // what the device was told: +n started, -n stopped, ~n to go on, R reset
	unsigned queue_interrupts[QUEUES];
	atomic_uint config_interrupts;
	unsigned warnings;
	char warning[512];
	bool break_at_stop;
};

static struct bench bench;

static void note(const char *what, unsigned index)
{
	size_t at = strlen(bench.calls);
	snprintf(bench.calls + at, sizeof(bench.calls) - at, what, index);
}

static void start(struct vn_virtio_device *device, unsigned index)
{
	assert_ptr_equal(device, &bench.device);
	assert_true(device->queues[index].ring.desc != NULL);
	note("+%u", index);
}

static void *break_queue(void *arg)
{
	(void)arg;
	vn_virtio_broken(&bench.device, 1, "at the last moment");
	return NULL;
}

static void stop(struct vn_virtio_device *device, unsigned index, enum vn_virtio_stop why)
{
	assert_ptr_equal(device, &bench.device);
	note(why == VN_VIRTIO_PAUSE ? "~%u" : "-%u", index);
	if (!bench.break_at_stop)
		return;
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, break_queue, NULL), 0);
	pthread_join(thread, NULL);
}

static void config_read(struct vn_virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	assert_true(offset + size <= device->config_size);
	memcpy(data, bench.config + offset, size);
}

static void config_write(
	struct vn_virtio_device *device, uint32_t offset, const void *data, uint32_t size)
{
	assert_true(offset + size <= device->config_size);
	memcpy(bench.config + offset, data, size);
}

static const struct vn_virtio_ops ops = {
	.start = start, .stop = stop, .config_read = config_read, .config_write = config_write};

static void interrupt_queue(struct vn_virtio_transport *transport, unsigned index)
{
	assert_ptr_equal(transport, &bench.transport);
	bench.queue_interrupts[index]++;
}

static void interrupt_config(struct vn_virtio_transport *transport)
{
	(void)transport;
	bench.config_interrupts++;
}

static void reset(struct vn_virtio_transport *transport)
{
	(void)transport;
	assert_int_equal(vn_virtio_status(&bench.device), 0);
	note("R", 0);
}

static void message(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)opaque;
	assert_int_equal(severity, VENEER_SEVERITY_WARNING);
	bench.warnings++;
	snprintf(bench.warning, sizeof(bench.warning), "%s", text);
}

static int make_memory(void **state)
{
	(void)state;
	struct vn_memory_options options = {.size = 8 * MIB, .node = -1};
	struct veneer_error error;
	return vn_memory_create(&bench.memory, &options, 3 * GIB, &error);
}

static int destroy_memory(void **state)
{
	(void)state;
	vn_memory_destroy(&bench.memory);
	return 0;
}

static int make_device(void **state)
{
	(void)state;
	struct vn_memory memory = bench.memory;
	bench = (struct bench){.memory = memory, .log = {.message = message}};
	bench.transport = (struct vn_virtio_transport){.interrupt_queue = interrupt_queue,
		.interrupt_config = interrupt_config,
		.reset = reset};
	bench.device = (struct vn_virtio_device){.name = "toy0",
		.id = 42,
		.features = 1ull << 5 | 1ull << 40,
		.config_size = sizeof(bench.config),
		.queue_count = QUEUES,
		.queues = bench.queues,
		.ops = &ops,
		.memory = &bench.memory,
		.log = &bench.log};
	for (unsigned i = 0; i < QUEUES; i++)
		bench.queues[i].size_max = 64;
	struct veneer_error error;
	int code = vn_virtio_device_init(&bench.device, &error);
	bench.device.transport = &bench.transport;
	vn_virtio_lock(&bench.device);
	return code;
}

static int destroy_device(void **state)
{
	(void)state;
	vn_virtio_unlock(&bench.device);
	vn_virtio_device_destroy(&bench.device);
	return 0;
}

static uint32_t set_status(uint32_t status)
{
	vn_virtio_set_status(&bench.device, status);
	return vn_virtio_status(&bench.device);
}

static void accept(uint64_t features)
{
	vn_virtio_accept(&bench.device, 0, (uint32_t)features);
	vn_virtio_accept(&bench.device, 1, (uint32_t)(features >> 32));
}

static void set_up_queue(unsigned index, uint16_t size)
{
	struct ring *ring = &bench.rings[index];
	ring_init(ring, &bench.memory, RINGS + 65536 * index, size);
	struct vn_virtio_queue *queue = vn_virtio_queue(&bench.device, index);
	queue->size = size;
	queue->desc = VN_GPA(ring->desc);
	queue->avail = VN_GPA(ring->avail);
	queue->used = VN_GPA(ring->used);
	vn_virtio_queue_enable(&bench.device, index);
}

static void run(uint64_t features)
{
	set_status(0);
	set_status(ACKNOWLEDGE | DRIVER);
	accept(features | VERSION_1);
	set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
	set_up_queue(0, 8);
	set_up_queue(2, 64);
	bench.calls[0] = '\0';
	assert_int_equal(set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK),
		ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

static void offers_features_by_word(void **state)
{
	(void)state;
	assert_int_equal(vn_virtio_offered(&bench.device, 0),
		1u << 5 | 1u << VIRTIO_RING_F_EVENT_IDX | 1u << VIRTIO_RING_F_INDIRECT_DESC);
	assert_int_equal(vn_virtio_offered(&bench.device, 1), 1u << 8 | 1u);
	assert_int_equal(vn_virtio_offered(&bench.device, 2), 0);
	assert_int_equal(vn_virtio_offered(&bench.device, UINT32_MAX), 0);
}

static void refuses_what_was_not_offered(void **state)
{
	(void)state;
	set_status(ACKNOWLEDGE | DRIVER);
	accept(VERSION_1 | 1ull << 6);
	assert_int_equal(set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK), ACKNOWLEDGE | DRIVER);
	accept(VERSION_1 | 1ull << 41);
	assert_int_equal(set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK), ACKNOWLEDGE | DRIVER);
	// Any part of what was offered is fine.
	accept(VERSION_1 | 1ull << 40);
	assert_int_equal(
		set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK), ACKNOWLEDGE | DRIVER | FEATURES_OK);
	assert_true(vn_virtio_has(&bench.device, 40));
	assert_false(vn_virtio_has(&bench.device, 5));
}

static void refuses_legacy_drivers(void **state)
{
	(void)state;
	set_status(ACKNOWLEDGE | DRIVER);
	accept(1ull << 5);
	assert_int_equal(set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK), ACKNOWLEDGE | DRIVER);
}

static void features_are_fixed_once_negotiated(void **state)
{
	(void)state;
	run(1ull << 5);
	accept(VERSION_1 | 1ull << 40);
	assert_true(vn_virtio_has(&bench.device, 5));
	assert_false(vn_virtio_has(&bench.device, 40));
	set_status(0);
	assert_false(vn_virtio_has(&bench.device, 5));
	accept(VERSION_1 | 1ull << 40);
	assert_true(vn_virtio_has(&bench.device, 40));
	vn_virtio_accept(&bench.device, 2, UINT32_MAX); // no such word
	assert_int_equal(bench.device.driver_features, VERSION_1 | 1ull << 40);
}

static void driver_ok_needs_features_ok(void **state)
{
	(void)state;
	set_status(ACKNOWLEDGE | DRIVER);
	accept(VERSION_1);
	set_up_queue(0, 8);
	assert_int_equal(set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK), ACKNOWLEDGE | DRIVER);
	// Nor together with features that are refused.
	accept(0);
	assert_int_equal(
		set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK), ACKNOWLEDGE | DRIVER);
	assert_string_equal(bench.calls, "");
}

static void bits_are_cleared_by_reset_only(void **state)
{
	(void)state;
	run(0);
	uint32_t running = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
	assert_int_equal(set_status(ACKNOWLEDGE), running);
	assert_int_equal(set_status(FAILED), running | FAILED);
	assert_string_equal(bench.calls, "+0+2");
	assert_int_equal(set_status(0), 0);
}

static void drivers_cannot_set_needs_reset(void **state)
{
	(void)state;
	assert_int_equal(set_status(ACKNOWLEDGE | NEEDS_RESET | 0x30 | 0xffffff00), ACKNOWLEDGE);
}

static void ready_queues_start_and_stop(void **state)
{
	(void)state;
	run(BIT64(VIRTIO_RING_F_EVENT_IDX));
	assert_string_equal(bench.calls, "+0+2");
	assert_true(bench.queues[0].ring.event_idx);
	assert_false(bench.queues[0].ring.indirect);
	assert_int_equal(bench.queues[0].ring.size, 8);
	assert_int_equal(bench.queues[2].ring.size, 64);
	set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK); // again: no change
	assert_string_equal(bench.calls, "+0+2");
	set_status(0);
	assert_string_equal(bench.calls, "+0+2-0-2R");
	for (unsigned i = 0; i < QUEUES; i++) {
		assert_false(bench.queues[i].ready);
		assert_int_equal(bench.queues[i].size, 0);
		assert_int_equal(bench.queues[i].desc.addr, 0);
	}
	set_status(0);
	assert_string_equal(bench.calls, "+0+2-0-2RR");
}

static void queues_stop_and_start_one_by_one(void **state)
{
	(void)state;
	run(0);
	vn_virtio_queue_disable(&bench.device, 0);
	assert_string_equal(bench.calls, "+0+2-0");
	assert_false(bench.queues[0].ready);
	vn_virtio_queue_disable(&bench.device, 0);
	set_up_queue(0, 16);
	assert_string_equal(bench.calls, "+0+2-0+0");
	vn_virtio_queue_enable(&bench.device, 0);
	set_up_queue(1, 4);
	assert_string_equal(bench.calls, "+0+2-0+0+1");
	set_status(0);
	assert_string_equal(bench.calls, "+0+2-0+0+1-0-1-2R");
}

static void wrong_sizes_are_not_ready(void **state)
{
	(void)state;
	static const uint16_t wrong[] = {0, 3, 63, 65, 128, 65535};
	set_status(ACKNOWLEDGE | DRIVER);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		bench.queues[0].size = wrong[i];
		vn_virtio_queue_enable(&bench.device, 0);
		assert_false(bench.queues[0].ready);
	}
	bench.queues[0].size = 64;
	vn_virtio_queue_enable(&bench.device, 0);
	assert_true(bench.queues[0].ready);
}

static void queues_that_are_not_there(void **state)
{
	(void)state;
	assert_null(vn_virtio_queue(&bench.device, QUEUES));
	assert_null(vn_virtio_queue(&bench.device, UINT32_MAX));
	vn_virtio_queue_enable(&bench.device, QUEUES);
	vn_virtio_queue_disable(&bench.device, UINT32_MAX);
	assert_string_equal(bench.calls, "");
}

static void a_queue_outside_ram_needs_a_reset(void **state)
{
	(void)state;
	set_status(ACKNOWLEDGE | DRIVER);
	accept(VERSION_1);
	set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
	set_up_queue(0, 8);
	set_up_queue(1, 8);
	bench.queues[0].avail = VN_GPA(8 * MIB);
	assert_true(set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK) & NEEDS_RESET);
	assert_string_equal(bench.calls, "+1"); // the others are not its fault
	assert_int_equal(bench.config_interrupts, 1);
	assert_int_equal(bench.warnings, 1);
	assert_non_null(strstr(bench.warning, "toy0: the guest's driver broke queue 0"));
	set_status(0);
	assert_string_equal(bench.calls, "+1-1R");
}

static void breaking_is_said_once(void **state)
{
	(void)state;
	run(0);
	vn_virtio_broken(&bench.device, 2, "chain 7 is odd");
	assert_int_equal(vn_virtio_status(&bench.device),
		ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | NEEDS_RESET);
	assert_string_equal(
		bench.warning, "toy0: the guest's driver broke queue 2: chain 7 is odd");
	vn_virtio_broken(&bench.device, 0, "another");
	assert_int_equal(bench.warnings, 1);
	assert_int_equal(bench.config_interrupts, 1);
	// It goes away by a reset only.
	assert_true(set_status(ACKNOWLEDGE | DRIVER) & NEEDS_RESET);
	assert_int_equal(set_status(0), 0);
	run(0);
	vn_virtio_broken(&bench.device, 0, "another");
	assert_int_equal(bench.warnings, 2);
}

// Section 2.1.2: no configuration change notification before DRIVER_OK.
static void nothing_interrupts_before_driver_ok(void **state)
{
	(void)state;
	set_status(ACKNOWLEDGE | DRIVER);
	vn_virtio_broken(&bench.device, 0, "early");
	vn_virtio_config_changed(&bench.device);
	assert_int_equal(bench.config_interrupts, 0);
	assert_int_equal(bench.warnings, 1);
}

// A loop reports a broken queue while a reset, which holds the lock, waits for that loop.
static void breaking_during_a_reset_does_not_outlive_it(void **state)
{
	(void)state;
	run(0);
	bench.break_at_stop = true;
	assert_int_equal(set_status(0), 0);
	assert_int_equal(bench.warnings, 1);
	bench.break_at_stop = false;
	run(0);
	assert_string_equal(bench.calls, "+0+2");
}

// These take the lock themselves, which every test holds.
static void unlocked(void (*call)(struct vn_virtio_device *device))
{
	vn_virtio_unlock(&bench.device);
	call(&bench.device);
	vn_virtio_lock(&bench.device);
}

// As the loop would, when it has taken and used so many heads.
static void serve(unsigned index, uint16_t taken, uint16_t used)
{
	bench.queues[index].ring.avail_next = taken;
	bench.queues[index].ring.used_next = used;
}

static void a_pause_keeps_what_the_driver_set(void **state)
{
	(void)state;
	run(BIT64(VIRTIO_RING_F_EVENT_IDX));
	serve(0, 5, 5);
	serve(2, 65535, 65535);
	unlocked(vn_virtio_pause);
	assert_string_equal(bench.calls, "+0+2~2~0");
	unlocked(vn_virtio_pause); // again: nothing to stop
	assert_string_equal(bench.calls, "+0+2~2~0");
	assert_true(bench.queues[0].ready);
	assert_int_equal(
		vn_virtio_status(&bench.device), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
	unlocked(vn_virtio_resume);
	assert_string_equal(bench.calls, "+0+2~2~0+0+2");
	unlocked(vn_virtio_resume);
	assert_string_equal(bench.calls, "+0+2~2~0+0+2");
	assert_int_equal(bench.queues[0].ring.avail_next, 5);
	assert_int_equal(bench.queues[0].ring.used_next, 5);
	assert_int_equal(bench.queues[2].ring.avail_next, 65535);
	assert_true(bench.queues[0].ring.event_idx);
	assert_int_equal(bench.config_interrupts, 0);
}

static void queues_wait_for_the_end_of_a_pause(void **state)
{
	(void)state;
	unlocked(vn_virtio_pause);
	run(0);
	set_up_queue(1, 4);
	assert_string_equal(bench.calls, "");
	vn_virtio_queue_disable(&bench.device, 2);
	unlocked(vn_virtio_resume);
	assert_string_equal(bench.calls, "+0+1");
	assert_int_equal(bench.queues[0].ring.avail_next, 0);
}

static void a_reset_while_paused_has_nothing_to_stop(void **state)
{
	(void)state;
	run(0);
	serve(0, 7, 7);
	unlocked(vn_virtio_pause);
	unlocked(vn_virtio_reset);
	assert_string_equal(bench.calls, "+0+2~2~0R");
	assert_int_equal(vn_virtio_status(&bench.device), 0);
	assert_false(bench.queues[0].ready);
	unlocked(vn_virtio_resume);
	assert_string_equal(bench.calls, "+0+2~2~0R");
	run(0);
	assert_string_equal(bench.calls, "+0+2");
	assert_int_equal(bench.queues[0].ring.avail_next, 0);
	assert_int_equal(bench.queues[0].ring.used_next, 0);
}

// Its driver has to reset it, and finds out in the same way as without the pause.
static void a_broken_queue_stays_so_through_a_pause(void **state)
{
	(void)state;
	run(0);
	vn_virtqueue_break(&bench.queues[0].ring, "by its driver");
	vn_virtio_broken(&bench.device, 0, "by its driver");
	unlocked(vn_virtio_pause);
	unlocked(vn_virtio_resume);
	assert_string_equal(bench.calls, "+0+2~2~0+2");
	assert_true(vn_virtio_status(&bench.device) & NEEDS_RESET);
	assert_int_equal(bench.warnings, 1);
	run(0);
	assert_string_equal(bench.calls, "+0+2");
}

// Positions belong to the queue as long as the driver does not set it up anew.
static void a_queue_that_is_reset_begins_at_its_beginning(void **state)
{
	(void)state;
	run(0);
	serve(0, 9, 9);
	unlocked(vn_virtio_pause);
	unlocked(vn_virtio_resume);
	vn_virtio_queue_disable(&bench.device, 0);
	set_up_queue(0, 8);
	assert_string_equal(bench.calls, "+0+2~2~0+0+2-0+0");
	assert_int_equal(bench.queues[0].ring.avail_next, 0);
	assert_int_equal(bench.queues[0].ring.used_next, 0);
}

static void interrupts_reach_the_transport(void **state)
{
	(void)state;
	run(0);
	vn_virtio_interrupt(&bench.device, 2);
	assert_int_equal(bench.queue_interrupts[2], 1);
	assert_int_equal(bench.queue_interrupts[0], 0);
}

static void counts_what_the_driver_said_and_heard(void **state)
{
	(void)state;
	struct vn_arena arena = {NULL};
	const struct veneer_device_stats *stats;
	run(0);
	bench.queues[2].kick = eventfd(0, EFD_CLOEXEC);
	vn_virtio_interrupt(&bench.device, 2);
	vn_virtio_notified(&bench.device, 2, 5); // five notifications, found at once
	vn_virtio_kick_again(&bench.device, 2);
	vn_virtio_kick_again(&bench.device, 2);
	uint64_t count = 0;
	assert_int_equal(eventfd_read(bench.queues[2].kick, &count), 0);
	assert_int_equal(count, 2);
	vn_virtio_notified(&bench.device, 2, 1); // a kick of our own alone is no notification
	vn_virtio_notified(&bench.device, 2, 4); // nor is the other among these
	assert_int_equal(vn_virtio_stats(&bench.device, &arena, &stats), 0);
	assert_string_equal(stats->name, "toy0");
	assert_int_equal(stats->virtio_id, 42);
	for (unsigned i = 0; i < QUEUES; i++) {
		assert_int_equal(stats->queues[i]->index, i);
		assert_int_equal(stats->queues[i]->notifications, i == 2 ? 8 : 0);
		assert_int_equal(stats->queues[i]->wakeups, i == 2 ? 2 : 0);
		assert_int_equal(stats->queues[i]->interrupts, i == 2 ? 1 : 0);
		assert_null(stats->queues[i]->latency);
	}
	assert_null(stats->queues[QUEUES]);
	vn_arena_free(&arena);
	close(bench.queues[2].kick);
}

static void queues_count_on_lines_of_their_own(void **state)
{
	(void)state;
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal((uintptr_t)bench.queues[i].stats % VN_CACHE_LINE, 0);
	assert_int_equal(sizeof(struct vn_queue_stats) % VN_CACHE_LINE, 0);
}

static void config_changes_have_generations(void **state)
{
	(void)state;
	run(0);
	unsigned before = bench.device.generation;
	vn_virtio_config_changed(&bench.device);
	assert_int_not_equal(bench.device.generation, before);
	assert_int_equal(bench.config_interrupts, 1);
}

// Every offset, also where an access is partly or wholly outside, at every width.
static void config_space_at_every_offset_and_width(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(bench.config); i++)
		bench.config[i] = (uint8_t)(0x10 + i);
	for (unsigned size = 1; size <= 8; size *= 2) {
		for (uint64_t offset = 0; offset < 32; offset++) {
			uint8_t data[8];
			memset(data, 0xff, sizeof(data));
			vn_virtio_config_read(&bench.device, offset, data, size);
			for (unsigned i = 0; i < 8; i++) {
				uint64_t at = offset + i;
				unsigned want = i >= size ? 0xff
						: at < 12 ? 0x10 + (unsigned)at
							  : 0;
				assert_int_equal(data[i], want);
			}
		}
	}
	uint32_t value = 0xffffffff;
	vn_virtio_config_read(&bench.device, UINT64_MAX - 3, &value, 4);
	assert_int_equal(value, 0);
}

static void config_space_takes_writes_within(void **state)
{
	(void)state;
	static const uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	static const uint8_t want[12] = {0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 1, 2};
	vn_virtio_config_write(&bench.device, 2, data, 2);
	vn_virtio_config_write(&bench.device, 10, data, 8);
	vn_virtio_config_write(&bench.device, 12, data, 8);
	vn_virtio_config_write(&bench.device, UINT64_MAX, data, 8);
	assert_memory_equal(bench.config, want, 12);

	static const struct vn_virtio_ops constant = {
		.start = start, .stop = stop, .config_read = config_read};
	bench.device.ops = &constant;
	vn_virtio_config_write(&bench.device, 0, data, 8);
	assert_memory_equal(bench.config, want, 12);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_device, destroy_device)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(offers_features_by_word),
		TEST(refuses_what_was_not_offered),
		TEST(refuses_legacy_drivers),
		TEST(features_are_fixed_once_negotiated),
		TEST(driver_ok_needs_features_ok),
		TEST(bits_are_cleared_by_reset_only),
		TEST(drivers_cannot_set_needs_reset),
		TEST(ready_queues_start_and_stop),
		TEST(queues_stop_and_start_one_by_one),
		TEST(wrong_sizes_are_not_ready),
		TEST(queues_that_are_not_there),
		TEST(a_queue_outside_ram_needs_a_reset),
		TEST(breaking_is_said_once),
		TEST(nothing_interrupts_before_driver_ok),
		TEST(breaking_during_a_reset_does_not_outlive_it),
		TEST(a_pause_keeps_what_the_driver_set),
		TEST(queues_wait_for_the_end_of_a_pause),
		TEST(a_reset_while_paused_has_nothing_to_stop),
		TEST(a_broken_queue_stays_so_through_a_pause),
		TEST(a_queue_that_is_reset_begins_at_its_beginning),
		TEST(interrupts_reach_the_transport),
		TEST(counts_what_the_driver_said_and_heard),
		TEST(queues_count_on_lines_of_their_own),
		TEST(config_changes_have_generations),
		TEST(config_space_at_every_offset_and_width),
		TEST(config_space_takes_writes_within),
	};
	return cmocka_run_group_tests(tests, make_memory, destroy_memory);
}
