// SPDX-License-Identifier: Apache-2.0
//
// virtio-pci as a driver finds and uses it: capabilities, every structure at every offset and
// width, MSI-X vectors masked one by one and all at once, also while another thread raises them,
// and the way through configuration space. The device only takes note of what is asked of it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "arch/x86/map.h"
#include "base/macros.h"
#include "ring.h"
#include "virtio/pci.h"

#define RINGS      MIB
#define QUEUES     3
#define VECTORS    (QUEUES + 1)
#define SLOT       4
#define WINDOW     BIT64(32)
#define BAR_SIZE   0x8000
#define FEATURE(n) (1ull << (n))
#define FEATURES   (FEATURE(3) | FEATURE(50))
#define NO_VECTOR  0xffff
#define RING_RESET 40
#define NEGOTIATED                                                                                 \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define RUNNING (NEGOTIATED | VIRTIO_CONFIG_S_DRIVER_OK)

static struct {
	struct vn_memory memory;
	struct vn_bus mmio, pio;
	struct vn_irqs *irqs;
	struct vn_pci *root;
	struct vn_virtio_device device;
	struct vn_virtio_queue queues[QUEUES];
	struct vn_virtio_pci *pci;
	uint8_t config[6];
	unsigned started, stopped;
	unsigned moved; // queues, as bits

	// Where the driver finds the structures.
	uint64_t common, notify, isr, specific, table, pending;
	unsigned msix, access;
} bench;

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

static void interrupt_moved(struct vn_virtio_device *device, unsigned index)
{
	(void)device;
	bench.moved |= 1u << index;
}

static const struct vn_virtio_ops ops = {.start = start,
	.stop = stop,
	.config_read = config_read,
	.config_write = config_write,
	.interrupt_moved = interrupt_moved};

static uint64_t ecam(unsigned offset)
{
	return VN_MAP_ECAM + (SLOT << 15) + offset;
}

static uint32_t config_get(unsigned offset, unsigned size)
{
	uint32_t value = 0;
	vn_bus_read(&bench.mmio, ecam(offset), &value, size);
	return value;
}

static void config_set(unsigned offset, uint32_t value, unsigned size)
{
	vn_bus_write(&bench.mmio, ecam(offset), &value, size);
}

static uint64_t get(uint64_t address, unsigned size)
{
	uint64_t value = 0;
	vn_bus_read(&bench.mmio, address, &value, size);
	return value;
}

static void set(uint64_t address, uint64_t value, unsigned size)
{
	vn_bus_write(&bench.mmio, address, &value, size);
}

static uint64_t bar(void)
{
	return ((uint64_t)config_get(PCI_BASE_ADDRESS_1, 4) << 32 |
		       config_get(PCI_BASE_ADDRESS_0, 4)) &
	       PCI_BASE_ADDRESS_MEM_MASK;
}

static void find_structures(void)
{
	for (unsigned at = config_get(PCI_CAPABILITY_LIST, 1), n = 0; at != 0;
		at = config_get(at + 1, 1)) {
		assert_true(n++ < 10 && at % 4 == 0 && at < 256);
		if (config_get(at, 1) == PCI_CAP_ID_MSIX) {
			bench.msix = at;
			bench.table = bar() + config_get(at + PCI_MSIX_TABLE, 4);
			bench.pending = bar() + config_get(at + PCI_MSIX_PBA, 4);
			continue;
		}
		assert_int_equal(config_get(at, 1), PCI_CAP_ID_VNDR);
		uint64_t where = bar() + config_get(at + VIRTIO_PCI_CAP_OFFSET, 4);
		uint32_t length = config_get(at + VIRTIO_PCI_CAP_LENGTH, 4);
		assert_int_equal(config_get(at + VIRTIO_PCI_CAP_BAR, 1), 0);
		switch (config_get(at + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
		case VIRTIO_PCI_CAP_COMMON_CFG:
			assert_true(length >= VIRTIO_PCI_COMMON_Q_RESET + 2);
			bench.common = where;
			break;
		case VIRTIO_PCI_CAP_NOTIFY_CFG:
			assert_int_equal(config_get(at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4), 4);
			assert_true(length >= 4 * QUEUES);
			bench.notify = where;
			break;
		case VIRTIO_PCI_CAP_ISR_CFG:
			assert_true(length >= 1);
			bench.isr = where;
			break;
		case VIRTIO_PCI_CAP_DEVICE_CFG:
			assert_int_equal(length, sizeof(bench.config));
			bench.specific = where;
			break;
		case VIRTIO_PCI_CAP_PCI_CFG:
			bench.access = at;
			break;
		default:
			fail_msg("an unknown capability at 0x%x", at);
		}
	}
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

static void fill_device(struct vn_virtio_device *device, struct vn_virtio_queue *queues)
{
	*device = (struct vn_virtio_device){.name = "toy0",
		.id = 42,
		.features = FEATURES,
		.config_size = sizeof(bench.config),
		.queue_count = QUEUES,
		.queues = queues,
		.ops = &ops,
		.memory = &bench.memory};
	for (unsigned i = 0; i < QUEUES; i++)
		queues[i].size_max = (uint16_t)(64 << i);
}

static int make_device(void **state)
{
	(void)state;
	struct vn_memory memory = bench.memory;
	struct veneer_error error;
	memset(&bench, 0, sizeof(bench));
	bench.memory = memory;
	memcpy(bench.config, (uint8_t[]){0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5}, 6);
	fill_device(&bench.device, bench.queues);
	if (vn_virtio_device_init(&bench.device, &error) < 0 ||
		vn_irqs_create(&bench.irqs, NULL, &error) < 0 ||
		vn_pci_create(&bench.root, &bench.mmio, &bench.pio, WINDOW, GIB, &error) < 0 ||
		vn_virtio_pci_create(
			&bench.pci, &bench.device, NULL, bench.irqs, bench.root, SLOT, &error) < 0)
		return -1;
	find_structures();
	config_set(PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	return 0;
}

static int destroy_device(void **state)
{
	(void)state;
	vn_virtio_pci_destroy(bench.pci);
	vn_pci_destroy(bench.root);
	vn_irqs_destroy(bench.irqs);
	vn_virtio_device_destroy(&bench.device);
	return 0;
}

static uint32_t common_get(unsigned offset, unsigned size)
{
	return (uint32_t)get(bench.common + offset, size);
}

static void common_set(unsigned offset, uint32_t value, unsigned size)
{
	set(bench.common + offset, value, size);
}

static void status_set(uint32_t status)
{
	common_set(VIRTIO_PCI_COMMON_STATUS, status, 1);
}

static uint32_t negotiate(uint64_t features)
{
	status_set(0);
	status_set(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	for (unsigned word = 0; word < 2; word++) {
		common_set(VIRTIO_PCI_COMMON_GFSELECT, word, 4);
		common_set(VIRTIO_PCI_COMMON_GF, (uint32_t)(features >> (32 * word)), 4);
	}
	status_set(NEGOTIATED);
	return common_get(VIRTIO_PCI_COMMON_STATUS, 1);
}

static void set64(unsigned offset, uint64_t value)
{
	common_set(offset, (uint32_t)value, 4);
	common_set(offset + 4, (uint32_t)(value >> 32), 4);
}

static void enable_queue(unsigned index)
{
	struct ring ring;
	ring_init(&ring, &bench.memory, RINGS + 65536 * index, 16);
	common_set(VIRTIO_PCI_COMMON_Q_SELECT, index, 2);
	common_set(VIRTIO_PCI_COMMON_Q_SIZE, 16, 2);
	common_set(VIRTIO_PCI_COMMON_Q_MSIX, index + 1, 2);
	set64(VIRTIO_PCI_COMMON_Q_DESCLO, ring.desc);
	set64(VIRTIO_PCI_COMMON_Q_AVAILLO, ring.avail);
	set64(VIRTIO_PCI_COMMON_Q_USEDLO, ring.used);
	common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static void run(void)
{
	assert_int_equal(negotiate(FEATURES | FEATURE(VIRTIO_F_VERSION_1) | FEATURE(RING_RESET)),
		NEGOTIATED);
	common_set(VIRTIO_PCI_COMMON_MSIX, 0, 2);
	for (unsigned i = 0; i < QUEUES; i++)
		enable_queue(i);
	status_set(RUNNING);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_STATUS, 1), RUNNING);
	assert_int_equal(bench.started, QUEUES);
}

static void msix_control(uint32_t bits)
{
	config_set(bench.msix + PCI_MSIX_FLAGS, bits, 2);
}

static void program_vector(unsigned vector, bool masked)
{
	uint64_t entry = bench.table + 16 * vector;
	set(entry, 0xfee00000, 4);
	set(entry + 4, 0, 4);
	set(entry + 8, 0x40 + vector, 4);
	set(entry + 12, masked, 4);
}

static bool is_pending(unsigned vector)
{
	return get(bench.pending, 8) >> vector & 1;
}

// What would have become an interrupt: without KVM it stays in the eventfd.
static void assert_pending(uint64_t vectors)
{
	assert_int_equal(get(bench.pending, 8), vectors);
}

static void header_says_what_it_is(void **state)
{
	(void)state;
	assert_int_equal(config_get(PCI_VENDOR_ID, 4), 0x1af4 | (0x1040 + 42) << 16);
	assert_true(config_get(PCI_REVISION_ID, 1) >= 1);
	assert_true(config_get(PCI_SUBSYSTEM_ID, 2) >= 0x40);
	assert_int_equal(config_get(PCI_INTERRUPT_PIN, 1), 0);
	assert_true(config_get(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	assert_int_equal(config_get(bench.msix + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	assert_true(bench.common && bench.notify && bench.isr && bench.specific && bench.access);
	assert_true(bench.table > bar() && bench.pending > bar());
}

// Nothing in the BAR changes by being read with any width at any offset, but for the ISR status.
static void every_read_is_safe(void **state)
{
	(void)state;
	run();
	for (unsigned round = 0; round < 2; round++)
		for (unsigned size = 1; size <= 8; size *= 2)
			for (unsigned offset = 0; offset < BAR_SIZE; offset++) {
				uint64_t value = get(bar() + offset, size);
				if (offset % size == 0 || size == 1)
					continue;
				assert_int_equal(
					value, size == 8 ? UINT64_MAX : BIT64(8 * size) - 1);
			}
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_STATUS, 1), RUNNING);
	assert_int_equal(bench.stopped, 0);
	// The same field, whatever the width.
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_NUMQ, 1), QUEUES);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_MSIX, 4) >> 16, QUEUES);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_STATUS, 4) & 0xff, RUNNING);
}

static void writes_of_other_widths_do_nothing(void **state)
{
	(void)state;
	run();
	uint64_t before[8];
	for (unsigned i = 0; i < 8; i++)
		before[i] = get(bench.common + 8 * i, 8);
	for (unsigned offset = 0; offset < 64; offset++) {
		unsigned exact = offset == VIRTIO_PCI_COMMON_STATUS ? 1
				 : (offset >= VIRTIO_PCI_COMMON_MSIX && offset < 32) || offset >= 56
					 ? 2
					 : 4;
		for (unsigned size = 1; size <= 8; size *= 2)
			if (size != exact || offset % size != 0)
				set(bench.common + offset, 0, size);
	}
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(get(bench.common + 8 * i, 8), before[i]);
	assert_int_equal(bench.stopped, 0);
}

static void features_are_selected_by_word(void **state)
{
	(void)state;
	common_set(VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_DF, 4), 1u << 18 | 1u << 8 | 1u);
	common_set(VIRTIO_PCI_COMMON_DFSELECT, 0, 4);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_DF, 4),
		1u << 3 | 1u << VIRTIO_RING_F_EVENT_IDX | 1u << VIRTIO_RING_F_INDIRECT_DESC);
	common_set(VIRTIO_PCI_COMMON_DFSELECT, 2, 4);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_DF, 4), 0);
	common_set(VIRTIO_PCI_COMMON_GFSELECT, UINT32_MAX, 4);
	common_set(VIRTIO_PCI_COMMON_GF, 1, 4);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_GF, 4), 0);
	assert_int_equal(negotiate(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(50)), NEGOTIATED);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_GF, 4), 1u << 18 | 1u);
	assert_true(vn_virtio_has(&bench.device, 50));
	assert_int_equal(negotiate(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(51)),
		NEGOTIATED & ~VIRTIO_CONFIG_S_FEATURES_OK);
	assert_int_equal(negotiate(FEATURE(50)), NEGOTIATED & ~VIRTIO_CONFIG_S_FEATURES_OK);
}

static void queues_are_selected(void **state)
{
	(void)state;
	for (unsigned i = 0; i < QUEUES; i++) {
		common_set(VIRTIO_PCI_COMMON_Q_SELECT, i, 2);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 64 << i);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_NOFF, 2), i);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_MSIX, 2), NO_VECTOR);
	}
	static const uint16_t absent[] = {QUEUES, 0x7fff, UINT16_MAX};
	for (unsigned i = 0; i < 3; i++) {
		common_set(VIRTIO_PCI_COMMON_Q_SELECT, absent[i], 2);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
		common_set(VIRTIO_PCI_COMMON_Q_SIZE, 8, 2);
		common_set(VIRTIO_PCI_COMMON_Q_MSIX, 1, 2);
		common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
		common_set(VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	}
}

static void an_enabled_queue_takes_no_changes(void **state)
{
	(void)state;
	run();
	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	struct vn_virtio_queue before = bench.queues[1];
	for (unsigned offset = VIRTIO_PCI_COMMON_Q_DESCLO; offset < 56; offset += 4)
		common_set(offset, 0x77777777, 4);
	common_set(VIRTIO_PCI_COMMON_Q_SIZE, 8, 2);
	common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2); // only a reset disables it
	common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 2);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	assert_int_equal(bench.queues[1].size, before.size);
	assert_int_equal(bench.queues[1].desc.addr, before.desc.addr);
	assert_int_equal(bench.queues[1].used.addr, before.used.addr);
	assert_int_equal(bench.stopped, 0);
}

static void wrong_sizes_do_not_enable(void **state)
{
	(void)state;
	static const uint16_t wrong[] = {3, 128, 0x8000, UINT16_MAX};
	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		common_set(VIRTIO_PCI_COMMON_Q_SIZE, wrong[i], 2);
		common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	}
	// Not written, it is what it reads.
	status_set(0);
	common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	assert_int_equal(bench.queues[0].size, 64);
}

static void a_queue_is_reset_alone(void **state)
{
	(void)state;
	run();
	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	common_set(VIRTIO_PCI_COMMON_Q_RESET, 0, 2);
	assert_int_equal(bench.stopped, 0);
	common_set(VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
	assert_int_equal(bench.stopped, 1);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 128);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_MSIX, 2), NO_VECTOR);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
	enable_queue(1);
	assert_int_equal(bench.started, QUEUES + 1);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_STATUS, 1), RUNNING);
	// Without the feature there is no such register.
	bench.started = 0;
	bench.stopped = 0;
	negotiate(FEATURE(VIRTIO_F_VERSION_1));
	enable_queue(1);
	bench.stopped = 0;
	common_set(VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	assert_int_equal(bench.stopped, 0);
}

static void a_reset_forgets_everything_but_msix(void **state)
{
	(void)state;
	run();
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	program_vector(1, false);
	status_set(0);
	assert_int_equal(bench.stopped, QUEUES);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_MSIX, 2), NO_VECTOR);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_SELECT, 2), 0);
	queues_are_selected(state);
	assert_int_equal(
		config_get(bench.msix + PCI_MSIX_FLAGS, 2), PCI_MSIX_FLAGS_ENABLE | (VECTORS - 1));
	assert_int_equal(get(bench.table + 16 + 8, 4), 0x41);
}

static void vectors_that_are_none_read_so(void **state)
{
	(void)state;
	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
	static const uint16_t none[] = {VECTORS, 0x7ff, 0xfffe, NO_VECTOR};
	for (unsigned i = 0; i < 4; i++) {
		common_set(VIRTIO_PCI_COMMON_MSIX, 1, 2);
		common_set(VIRTIO_PCI_COMMON_Q_MSIX, VECTORS - 1, 2);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_MSIX, 2), 1);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_MSIX, 2), VECTORS - 1);
		common_set(VIRTIO_PCI_COMMON_MSIX, none[i], 2);
		common_set(VIRTIO_PCI_COMMON_Q_MSIX, none[i], 2);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_MSIX, 2), NO_VECTOR);
		assert_int_equal(common_get(VIRTIO_PCI_COMMON_Q_MSIX, 2), NO_VECTOR);
	}
}

static void without_msix_the_isr_tells(void **state)
{
	(void)state;
	run();
	assert_int_equal(get(bench.isr, 1), 0);
	vn_virtio_interrupt(&bench.device, 2);
	vn_virtio_config_changed(&bench.device);
	assert_int_equal(get(bench.isr, 1), 3);
	assert_int_equal(get(bench.isr, 1), 0);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 1);
	assert_pending(0);
	vn_virtio_interrupt(&bench.device, 0);
	status_set(0);
	assert_int_equal(get(bench.isr, 1), 0);
}

static void each_queue_has_its_vector(void **state)
{
	(void)state;
	run();
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < QUEUES; i++) {
		vn_virtio_interrupt(&bench.device, i);
		assert_pending((2u << (i + 1)) - 2);
	}
	vn_virtio_config_changed(&bench.device);
	assert_pending(0xf);
	assert_int_equal(get(bench.isr, 1), 2); // of the two, only the configuration's
}

static void assert_moved(unsigned queues)
{
	assert_int_equal(bench.moved, queues);
	bench.moved = 0;
}

// Whoever serves a queue elsewhere signals its vector's eventfd, and learns when that is another
// one.
static void who_serves_elsewhere_has_the_vector(void **state)
{
	(void)state;
	run();
	bench.moved = 0;
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal(vn_virtio_interrupt_fd(&bench.device, i), -1);
	msix_control(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	assert_moved((1 << QUEUES) - 1);
	for (unsigned i = 0; i < QUEUES; i++) {
		assert_int_equal(eventfd_write(vn_virtio_interrupt_fd(&bench.device, i), 1), 0);
		assert_pending((2u << (i + 1)) - 2);
	}
	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	common_set(VIRTIO_PCI_COMMON_Q_MSIX, NO_VECTOR, 2);
	assert_moved(1 << 1);
	assert_int_equal(vn_virtio_interrupt_fd(&bench.device, 1), -1);
	common_set(VIRTIO_PCI_COMMON_Q_MSIX, 3, 2); // shared with queue 2
	assert_moved(1 << 1);
	assert_int_equal(
		vn_virtio_interrupt_fd(&bench.device, 1), vn_virtio_interrupt_fd(&bench.device, 2));
	msix_control(0);
	assert_moved((1 << QUEUES) - 1);
	assert_int_equal(vn_virtio_interrupt_fd(&bench.device, 2), -1);
	status_set(0);
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	assert_moved(0);
}

static void no_vector_is_no_interrupt(void **state)
{
	(void)state;
	run();
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	common_set(VIRTIO_PCI_COMMON_MSIX, NO_VECTOR, 2);
	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
	common_set(VIRTIO_PCI_COMMON_Q_MSIX, NO_VECTOR, 2);
	vn_virtio_interrupt(&bench.device, 0);
	vn_virtio_config_changed(&bench.device);
	assert_pending(0);
	common_set(VIRTIO_PCI_COMMON_Q_MSIX, 3, 2); // shared with queue 2
	vn_virtio_interrupt(&bench.device, 0);
	assert_pending(1 << 3);
}

// A vector waits while MSI-X is on and the function or the vector is masked, and is delivered when
// neither is. A new device for each case: without KVM nobody takes from the eventfd.
static void masks_hold_interrupts_back(void **state)
{
	for (unsigned mask = 0; mask < 8; mask++) {
		bool enabled = mask & 1, function = mask & 2, vector = mask & 4;
		run();
		program_vector(1, vector);
		msix_control((enabled ? PCI_MSIX_FLAGS_ENABLE : 0u) |
			     (function ? PCI_MSIX_FLAGS_MASKALL : 0u));
		assert_false(is_pending(1));
		vn_virtio_interrupt(&bench.device, 0);
		assert_int_equal(is_pending(1), enabled && (function || vector));
		assert_int_equal(get(bench.isr, 1), !enabled);
		msix_control(PCI_MSIX_FLAGS_ENABLE);
		program_vector(1, false);
		assert_false(is_pending(1));
		destroy_device(state);
		assert_int_equal(make_device(state), 0);
	}
}

static void the_table_takes_words_only(void **state)
{
	(void)state;
	uint64_t entry = bench.table + 16;
	assert_int_equal(get(entry + 12, 4), 1);
	set(entry, 0x1122334455667788, 8);
	assert_int_equal(get(entry, 4), 0x55667788);
	assert_int_equal(get(entry + 4, 4), 0x11223344);
	set(entry, 0, 1);
	set(entry + 2, 0, 2);
	assert_int_equal(get(entry, 8), 0x1122334455667788);
	set(entry + 8, 0xffffffff00000041, 8); // of the control only the mask is there
	assert_int_equal(get(entry + 8, 8), 0x0000000100000041);
	assert_int_equal(get(entry + 9, 1), 0);
	set(bench.pending, UINT64_MAX, 8);
	assert_pending(0);
	set(bench.table + 16 * VECTORS, 0x41, 4); // beyond its end
	assert_int_equal(get(bench.table + 16 * VECTORS, 4), UINT32_MAX);
	assert_int_equal(get(bench.pending + 8, 8), 0);
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
	set(bench.notify + 4, 1, 2);
	assert_int_equal(kicks(0), 0);
	assert_int_equal(kicks(1), 1);
	set(bench.notify + 8, 0xffff, 4); // any value, any width
	set(bench.notify + 8, 0, 1);
	assert_int_equal(kicks(2), 2);
	set(bench.notify + 2, 0, 2); // between two
	set(bench.notify + 4 * QUEUES, QUEUES, 2);
	set(bench.notify + 0xffc, 0, 4);
	assert_int_equal(kicks(0) + kicks(1) + kicks(2), 0);
}

// All that there is to see of the function: its configuration space.
static void read_function(uint8_t *bytes)
{
	for (unsigned offset = 0; offset < 256; offset++)
		bytes[offset] = (uint8_t)config_get(offset, 1);
}

// As when the machine is reset: the device first, which stops what runs, then the bus.
static void reset_machine(void)
{
	vn_virtio_reset(&bench.device);
	vn_pci_reset(bench.root);
}

static void a_reset_of_the_bus_takes_msix_along(void **state)
{
	(void)state;
	uint8_t before[256], after[256];
	uint64_t home = bar();
	config_set(PCI_COMMAND, 0, 2);
	read_function(before);
	config_set(PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	run();
	msix_control(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	for (unsigned i = 0; i < VECTORS; i++)
		program_vector(i, i == 2);
	for (unsigned i = 0; i < QUEUES; i++)
		vn_virtio_interrupt(&bench.device, i);
	vn_virtio_config_changed(&bench.device);
	assert_pending(0xf);
	config_set(PCI_BASE_ADDRESS_0, (uint32_t)home + 16 * BAR_SIZE, 4);
	reset_machine();

	assert_int_equal(bench.stopped, QUEUES);
	read_function(after);
	assert_memory_equal(after, before, sizeof(before));
	assert_int_equal(bar(), home);
	assert_int_equal(get(bench.table, 4), UINT32_MAX); // nothing is decoded
	assert_int_equal(get(home + 16 * BAR_SIZE, 4), UINT32_MAX);
	config_set(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_pending(0);
	for (unsigned i = 0; i < VECTORS; i++) {
		assert_int_equal(get(bench.table + 16 * i, 8), 0);
		assert_int_equal(get(bench.table + 16 * i + 8, 8), BIT64(32));
	}
	assert_int_equal(get(bench.isr, 1), 0);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	assert_int_equal(common_get(VIRTIO_PCI_COMMON_MSIX, 2), NO_VECTOR);
}

// What was pending before belongs to nobody; what comes after is held back and counts again.
static void msix_works_after_a_reset_of_the_bus(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		bench.started = 0;
		run();
		program_vector(1, true);
		msix_control(PCI_MSIX_FLAGS_ENABLE);
		assert_pending(0);
		vn_virtio_interrupt(&bench.device, 0);
		assert_pending(1 << 1);
		reset_machine();
		config_set(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
		assert_pending(0);
		assert_int_equal(vn_virtio_interrupt_fd(&bench.device, 0), -1);
	}
	bench.started = 0;
	notifications_reach_their_queue(state);
}

static void the_configuration_takes_any_width(void **state)
{
	(void)state;
	assert_int_equal(get(bench.specific, 4), 0xc3c2c1c0);
	assert_int_equal(get(bench.specific, 8), 0x0000c5c4c3c2c1c0);
	assert_int_equal(get(bench.specific + 8, 4), 0);
	set(bench.specific + 4, 0x01020304, 4); // half of it falls off the end
	assert_int_equal(get(bench.specific + 4, 2), 0x0304);
	assert_int_equal(get(bench.specific + 5, 1), 0x03);
}

static void reach(uint32_t offset, uint32_t length)
{
	config_set(bench.access + VIRTIO_PCI_CAP_BAR, 0, 1);
	config_set(bench.access + VIRTIO_PCI_CAP_OFFSET, offset, 4);
	config_set(bench.access + VIRTIO_PCI_CAP_LENGTH, length, 4);
}

// With memory decoding off, as firmware does it.
static void the_bar_is_reached_through_configuration_space(void **state)
{
	(void)state;
	unsigned data = bench.access + 16;
	uint32_t common = (uint32_t)(bench.common - bar());
	uint32_t notify = (uint32_t)(bench.notify - bar());
	config_set(PCI_COMMAND, 0, 2);
	reach(common + VIRTIO_PCI_COMMON_NUMQ, 2);
	assert_int_equal(config_get(data, 2), QUEUES);
	reach(common + VIRTIO_PCI_COMMON_Q_SELECT, 2);
	config_set(data, 2, 2);
	reach(common + VIRTIO_PCI_COMMON_Q_SIZE, 2);
	assert_int_equal(config_get(data, 2), 256);
	reach(common + VIRTIO_PCI_COMMON_STATUS, 1);
	config_set(data, VIRTIO_CONFIG_S_ACKNOWLEDGE, 1);
	assert_int_equal(config_get(data, 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	reach(notify + 4, 2);
	config_set(data, 1, 2);
	assert_int_equal(kicks(1), 1);
	static const uint32_t wrong[][2] = {{BAR_SIZE, 4}, {UINT32_MAX, 1}, {0xfffffffc, 4}, {1, 2},
		{2, 4}, {0, 0}, {0, 3}, {0, 8}, {0, UINT32_MAX}};
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		reach(wrong[i][0], wrong[i][1]);
		config_set(data, 0x12345678, 4);
		assert_int_equal(config_get(data, 4), 0x12345678); // it is only memory
	}
	reach(0, 4);
	config_set(bench.access + VIRTIO_PCI_CAP_BAR, 1, 1);
	config_set(data, 0x12345678, 4);
	assert_int_equal(config_get(data, 4), 0x12345678);
}

// Another thread raises while the guest masks and unmasks: a raising while masked becomes pending.
static void *raise_all(void *argument)
{
	const atomic_bool *ending = argument;
	while (!atomic_load(ending))
		for (unsigned i = 0; i < QUEUES; i++)
			vn_virtio_interrupt(&bench.device, i);
	return NULL;
}

static void masks_change_while_interrupts_come(void **state)
{
	(void)state;
	atomic_bool ending = false;
	pthread_t thread;
	run();
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(pthread_create(&thread, NULL, raise_all, &ending), 0);
	for (unsigned i = 0; i < 2000; i++) {
		program_vector(1 + i % QUEUES, i & 1);
		msix_control(PCI_MSIX_FLAGS_ENABLE | (i & 2 ? PCI_MSIX_FLAGS_MASKALL : 0u));
		if (i % 16 == 0)
			msix_control(0);
		common_set(VIRTIO_PCI_COMMON_Q_SELECT, i % QUEUES, 2);
		common_set(VIRTIO_PCI_COMMON_Q_MSIX, i % 7 ? 1 + i % QUEUES : NO_VECTOR, 2);
		get(bench.pending, 8);
	}
	atomic_store(&ending, true);
	pthread_join(thread, NULL);
	for (unsigned i = 0; i < QUEUES; i++) {
		program_vector(i + 1, true);
		common_set(VIRTIO_PCI_COMMON_Q_SELECT, i, 2);
		common_set(VIRTIO_PCI_COMMON_Q_MSIX, i + 1, 2);
	}
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < QUEUES; i++)
		vn_virtio_interrupt(&bench.device, i);
	assert_pending(0xe);
}

// A guest that writes anything anywhere leaves a device that a reset and a driver bring up again.
static void random_writes_do_no_harm(void **state)
{
	uint64_t where = bar(), address = where;
	uint32_t seed = 7;
	for (unsigned i = 0; i < 300000; i++) {
		seed = seed * 1664525 + 1013904223;
		unsigned size = 1u << (seed >> 30);
		uint32_t offset = seed >> 12 & (seed & 0x800 ? 0x7f : BAR_SIZE - 1);
		uint64_t value = seed & 0x400 ? seed >> 16 & 0xf : (uint64_t)seed << 13;
		if (seed & 0x100)
			set(address + (offset & ~(size - 1)), value, size);
		else
			config_set(
				offset & 0xff & ~(size - 1), (uint32_t)value, size > 4 ? 4 : size);
		get(address + offset, size);
	}
	status_set(0);
	config_set(PCI_BASE_ADDRESS_0, (uint32_t)where, 4);
	config_set(PCI_BASE_ADDRESS_1, (uint32_t)(where >> 32), 4);
	config_set(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	status_set(0);
	find_structures();
	bench.started = 0;
	notifications_reach_their_queue(state);
}

static void a_slot_that_is_taken_is_refused(void **state)
{
	(void)state;
	struct vn_virtio_device device;
	struct vn_virtio_queue queues[QUEUES] = {0};
	struct vn_virtio_pci *pci;
	struct veneer_error error = {.code = 0};
	fill_device(&device, queues);
	assert_int_equal(vn_virtio_device_init(&device, &error), 0);
	assert_int_equal(
		vn_virtio_pci_create(&pci, &device, NULL, bench.irqs, bench.root, SLOT, &error),
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
		TEST(header_says_what_it_is),
		TEST(every_read_is_safe),
		TEST(writes_of_other_widths_do_nothing),
		TEST(features_are_selected_by_word),
		TEST(queues_are_selected),
		TEST(an_enabled_queue_takes_no_changes),
		TEST(wrong_sizes_do_not_enable),
		TEST(a_queue_is_reset_alone),
		TEST(a_reset_forgets_everything_but_msix),
		TEST(a_reset_of_the_bus_takes_msix_along),
		TEST(msix_works_after_a_reset_of_the_bus),
		TEST(vectors_that_are_none_read_so),
		TEST(without_msix_the_isr_tells),
		TEST(each_queue_has_its_vector),
		TEST(who_serves_elsewhere_has_the_vector),
		TEST(no_vector_is_no_interrupt),
		TEST(masks_hold_interrupts_back),
		TEST(the_table_takes_words_only),
		TEST(notifications_reach_their_queue),
		TEST(the_configuration_takes_any_width),
		TEST(the_bar_is_reached_through_configuration_space),
		TEST(masks_change_while_interrupts_come),
		TEST(random_writes_do_no_harm),
		TEST(a_slot_that_is_taken_is_refused),
	};
	return cmocka_run_group_tests(tests, make_memory, destroy_memory);
}
