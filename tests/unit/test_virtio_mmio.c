// SPDX-License-Identifier: Apache-2.0
//
// The virtio-mmio register file at every offset and width, with a device that only takes note of
// what is asked of it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "base/macros.h"
#include "mmio_driver.h"
#include "virtio/mmio.h"

#define RINGS    MIB
#define QUEUES   2
#define FEATURES (FEATURE(3) | FEATURE(50))

struct bench {
	struct vn_memory memory;
	struct vn_bus bus;
	struct vn_virtio_device device;
	struct vn_virtio_queue queues[QUEUES];
	struct vn_virtio_mmio *mmio;
	uint8_t config[6];
	unsigned started, stopped;
};

static struct bench bench;

static void start(struct vn_virtio_device *device, unsigned index)
{
	(void)device;
	(void)index;
	bench.started++;
}

static void stop(struct vn_virtio_device *device, unsigned index, enum vn_virtio_stop why)
{
	(void)device;
	(void)index;
	(void)why;
	bench.stopped++;
}

static void config_read(struct vn_virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	(void)device;
	memcpy(data, bench.config + offset, size);
}

static void config_write(
	struct vn_virtio_device *device, uint32_t offset, const void *data, uint32_t size)
{
	(void)device;
	memcpy(bench.config + offset, data, size);
}

static const struct vn_virtio_ops ops = {
	.start = start, .stop = stop, .config_read = config_read, .config_write = config_write};

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
	bench = (struct bench){.memory = memory, .config = {0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5}};
	bench.device = (struct vn_virtio_device){.name = "toy0",
		.id = 42,
		.features = FEATURES,
		.config_size = sizeof(bench.config),
		.queue_count = QUEUES,
		.queues = bench.queues,
		.ops = &ops,
		.memory = &bench.memory};
	bench.queues[0].size_max = 64;
	bench.queues[1].size_max = 128;
	struct veneer_error error;
	int code = vn_virtio_device_init(&bench.device, &error);
	return code < 0 ? code
			: vn_virtio_mmio_create(&bench.mmio, &bench.device, NULL, &bench.bus,
				  MMIO_BASE, 16, &error);
}

static int destroy_device(void **state)
{
	(void)state;
	vn_virtio_mmio_destroy(bench.mmio);
	vn_virtio_device_destroy(&bench.device);
	return 0;
}

static uint32_t get(uint64_t offset)
{
	return mmio_get(&bench.bus, offset);
}

static void set(uint64_t offset, uint32_t value)
{
	mmio_set(&bench.bus, offset, value);
}

// Two rings, ready and not running.
static void set_up(void)
{
	assert_int_equal(mmio_negotiate(&bench.bus, mmio_features(&bench.bus)), MMIO_NEGOTIATED);
	for (unsigned i = 0; i < QUEUES; i++) {
		struct ring ring;
		ring_init(&ring, &bench.memory, RINGS + 65536 * i, 16);
		mmio_queue(&bench.bus, i, &ring);
	}
}

static void run(void)
{
	set_up();
	set(VIRTIO_MMIO_STATUS, MMIO_RUNNING);
	assert_int_equal(get(VIRTIO_MMIO_STATUS), MMIO_RUNNING);
}

// What a register holds in a device that nobody has touched.
static uint32_t fresh(uint64_t offset)
{
	switch (offset) {
	case 0x000:
		return 0x74726976;
	case 0x004:
		return 2;
	case 0x008:
		return 42;
	case 0x00c:
		return 0x52454e56;
	case 0x010:
		return 1u << 3 | 1u << VIRTIO_RING_F_EVENT_IDX | 1u << VIRTIO_RING_F_INDIRECT_DESC;
	case 0x034:
		return 64;
	case 0x0b0: // no shared memory: lengths and addresses of -1
	case 0x0b4:
	case 0x0b8:
	case 0x0bc:
		return UINT32_MAX;
	default:
		return 0;
	}
}

static void reads_at_every_offset_and_width(void **state)
{
	(void)state;
	for (unsigned size = 1; size <= 8; size *= 2) {
		for (uint64_t offset = 0; offset + size <= VN_VIRTIO_MMIO_SIZE; offset++) {
			uint8_t got[8], want[8] = {0};
			memset(got, 0xff, sizeof(got));
			vn_bus_read(&bench.bus, MMIO_BASE + offset, got, size);
			if (offset < 0x100 && size == 4 && offset % 4 == 0) {
				uint32_t value = fresh(offset);
				memcpy(want, &value, 4);
			}
			for (unsigned i = 0; i < size && offset >= 0x100; i++)
				if (offset + i < 0x106)
					want[i] = bench.config[offset + i - 0x100];
			if (memcmp(got, want, size) != 0)
				fail_msg("%u bytes at 0x%llx", size, (unsigned long long)offset);
		}
	}
}

// Only aligned 32-bit writes reach registers: all others leave a device that is set up as it is.
static void writes_of_other_widths_do_nothing(void **state)
{
	(void)state;
	set_up();
	static const uint8_t zeroes[8];
	uint32_t before[64];
	for (unsigned i = 0; i < 64; i++)
		before[i] = get(4ull * i);
	for (unsigned size = 1; size <= 8; size *= 2)
		for (uint64_t offset = 0; offset < 0x100; offset++)
			if (size != 4 || offset % 4 != 0)
				vn_bus_write(&bench.bus, MMIO_BASE + offset, zeroes, size);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(get(4ull * i), before[i]);
	static const uint8_t config[] = {0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5};
	assert_memory_equal(bench.config, config, sizeof(config));
	assert_int_equal(get(VIRTIO_MMIO_STATUS), MMIO_NEGOTIATED);
}

// Nor do writes to read-only and reserved registers.
static void writes_to_read_only_registers_do_nothing(void **state)
{
	(void)state;
	static const uint16_t offsets[] = {0x00, 0x04, 0x08, 0x0c, 0x10, 0x18, 0x1c, 0x28, 0x2c,
		0x34, 0x3c, 0x40, 0x48, 0x4c, 0x54, 0x58, 0x5c, 0x60, 0x68, 0x6c, 0x74, 0x78, 0x7c,
		0x88, 0x8c, 0x98, 0x9c, 0xa8, 0xac, 0xb0, 0xb4, 0xb8, 0xbc, 0xc0, 0xfc};
	for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++)
		set(offsets[i], 0xffffffff);
	for (uint64_t offset = 0; offset < 0x100; offset += 4)
		assert_int_equal(get(offset), fresh(offset));
}

static void config_space_is_written_with_any_width(void **state)
{
	(void)state;
	static const uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	vn_bus_write(&bench.bus, MMIO_BASE + 0x101, data, 1);
	vn_bus_write(&bench.bus, MMIO_BASE + 0x103, data, 2);
	vn_bus_write(&bench.bus, MMIO_BASE + 0x105, data, 8); // the rest falls off its end
	static const uint8_t want[] = {0xc0, 1, 0xc2, 1, 2, 1};
	assert_memory_equal(bench.config, want, sizeof(want));
	uint8_t half[2];
	vn_bus_read(&bench.bus, MMIO_BASE + 0x103, half, 2);
	assert_memory_equal(half, data, 2);
}

static void features_are_selected_by_word(void **state)
{
	(void)state;
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_FEATURES), 1u << 18 | 1u);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_FEATURES), 0);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, UINT32_MAX);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_FEATURES), 0);
	assert_int_equal(mmio_negotiate(&bench.bus, FEATURE(VIRTIO_F_VERSION_1) | FEATURE(50)),
		MMIO_NEGOTIATED);
	assert_true(vn_virtio_has(&bench.device, 50));
	assert_false(vn_virtio_has(&bench.device, 3));
	assert_int_equal(mmio_negotiate(&bench.bus, FEATURE(VIRTIO_F_VERSION_1) | FEATURE(51)),
		MMIO_NEGOTIATED & ~VIRTIO_CONFIG_S_FEATURES_OK);
}

static void queues_are_selected(void **state)
{
	(void)state;
	set(VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 128);
	set(VIRTIO_MMIO_QUEUE_SEL, QUEUES);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	set(VIRTIO_MMIO_QUEUE_NUM, 8);
	set(VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 0);
	set(VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
}

static void queue_registers_reach_their_queue(void **state)
{
	(void)state;
	set(VIRTIO_MMIO_QUEUE_SEL, 1);
	set(VIRTIO_MMIO_QUEUE_NUM, 32);
	set(VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x11111111);
	set(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x22222222);
	set(VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x44444444);
	set(VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0x33333333);
	set(VIRTIO_MMIO_QUEUE_USED_LOW, 0x66666666);
	set(VIRTIO_MMIO_QUEUE_USED_HIGH, 0x55555555);
	const struct vn_virtio_queue *queue = &bench.queues[1];
	assert_int_equal(queue->size, 32);
	assert_int_equal(queue->desc.addr, 0x1111111122222222);
	assert_int_equal(queue->avail.addr, 0x3333333344444444);
	assert_int_equal(queue->used.addr, 0x5555555566666666);
	assert_int_equal(bench.queues[0].size, 0);
	assert_int_equal(bench.queues[0].desc.addr, 0);
}

static void wrong_queue_sizes_do_not_become_ready(void **state)
{
	(void)state;
	static const uint32_t wrong[] = {0, 3, 128, 65536, 65536 + 16, UINT32_MAX};
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		set(VIRTIO_MMIO_QUEUE_NUM, wrong[i]);
		set(VIRTIO_MMIO_QUEUE_READY, 1);
		assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 0);
	}
}

static void a_ready_queue_takes_no_changes(void **state)
{
	(void)state;
	set_up();
	struct vn_virtio_queue before = bench.queues[1];
	for (uint64_t offset = VIRTIO_MMIO_QUEUE_DESC_LOW; offset <= 0xa4; offset += 4)
		set(offset, 0x77777777);
	set(VIRTIO_MMIO_QUEUE_NUM, 8);
	set(VIRTIO_MMIO_QUEUE_READY, 2); // neither of its values
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 1);
	assert_int_equal(bench.queues[1].size, before.size);
	assert_int_equal(bench.queues[1].desc.addr, before.desc.addr);
	assert_int_equal(bench.queues[1].avail.addr, before.avail.addr);
	assert_int_equal(bench.queues[1].used.addr, before.used.addr);
}

static void queues_start_and_stop(void **state)
{
	(void)state;
	set_up();
	assert_int_equal(bench.started, 0);
	set(VIRTIO_MMIO_STATUS, MMIO_RUNNING);
	assert_int_equal(bench.started, 2);
	set(VIRTIO_MMIO_QUEUE_SEL, 0);
	set(VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(bench.stopped, 1);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 0);
	set(VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(bench.stopped, 2);
	assert_int_equal(get(VIRTIO_MMIO_STATUS), 0);
	for (unsigned i = 0; i < QUEUES; i++) {
		set(VIRTIO_MMIO_QUEUE_SEL, i);
		assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 0);
	}
}

static void interrupts_until_acknowledged(void **state)
{
	(void)state;
	run();
	vn_virtio_interrupt(&bench.device, 1);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 1);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 1);
	vn_virtio_config_changed(&bench.device);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	assert_int_equal(get(VIRTIO_MMIO_CONFIG_GENERATION), 1);
	set(VIRTIO_MMIO_INTERRUPT_ACK, 1);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 2);
	set(VIRTIO_MMIO_INTERRUPT_ACK, 0xfffffffd);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 2);
	set(VIRTIO_MMIO_INTERRUPT_ACK, 2);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	vn_virtio_interrupt(&bench.device, 0);
	set(VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

static unsigned kicks(unsigned index)
{
	struct pollfd fd = {.fd = bench.queues[index].kick, .events = POLLIN};
	eventfd_t count = 0;
	if (poll(&fd, 1, 0) == 1)
		eventfd_read(fd.fd, &count);
	return (unsigned)count;
}

static void notifications_reach_their_queue(void **state)
{
	(void)state;
	run();
	set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
	assert_int_equal(kicks(0), 0);
	assert_int_equal(kicks(1), 1);
	set(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	set(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(kicks(0), 2);
	set(VIRTIO_MMIO_QUEUE_NOTIFY, QUEUES);
	set(VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
	assert_int_equal(kicks(0) + kicks(1), 0);
}

static void an_occupied_address_is_refused(void **state)
{
	(void)state;
	struct vn_virtio_device device = bench.device;
	struct vn_virtio_queue queues[QUEUES] = {{.size_max = 8}, {.size_max = 8}};
	struct vn_virtio_mmio *mmio;
	struct veneer_error error = {.code = 0};
	device.queues = queues;
	assert_int_equal(vn_virtio_device_init(&device, &error), 0);
	assert_int_equal(vn_virtio_mmio_create(
				 &mmio, &device, NULL, &bench.bus, MMIO_BASE + 0x800, 17, &error),
		-EEXIST);
	assert_true(strlen(error.message) > 0);
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal(queues[i].kick, -1);
	vn_virtio_device_destroy(&device);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_device, destroy_device)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reads_at_every_offset_and_width),
		TEST(writes_of_other_widths_do_nothing),
		TEST(writes_to_read_only_registers_do_nothing),
		TEST(config_space_is_written_with_any_width),
		TEST(features_are_selected_by_word),
		TEST(queues_are_selected),
		TEST(queue_registers_reach_their_queue),
		TEST(wrong_queue_sizes_do_not_become_ready),
		TEST(a_ready_queue_takes_no_changes),
		TEST(queues_start_and_stop),
		TEST(interrupts_until_acknowledged),
		TEST(notifications_reach_their_queue),
		TEST(an_occupied_address_is_refused),
	};
	return cmocka_run_group_tests(tests, make_memory, destroy_memory);
}
