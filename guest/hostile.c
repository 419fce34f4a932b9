// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks on a virtio-blk device through its rings and registers. Each begins with a device that
 * is set up as it should be (unless the set-up is the attack), lists the outcomes that virtio 1.2
 * and good sense allow, and ends with a reset, after which the device must work again. What the
 * attack must not do to the VMM, only the VMM's survival can show.
 */
#include "hostile.h"

#include "blk.h"
#include "print.h"
#include "ring0.h"

#define DATA_BYTES   4096
#define FLIGHT_BYTES (1u << 20)
#define WAIT_NS      300000000ull
#define NOTICE_NS    100000000ull
#define TYPE_UNKNOWN 0x12345678

/* Outcomes. */
#define BREAKS    1u /* DEVICE_NEEDS_RESET */
#define ERRORS    2u /* completed, status byte not 0 */
#define SUCCEEDS  4u /* completed, status byte 0 */
#define COMPLETES 8u /* completed, status byte untouched */
#define SILENT    16u /* nothing within WAIT_NS */
#define REFUSES   32u /* the set-up did not take: QueueReady or FEATURES_OK reads 0 */
#define WRONG     64u /* the attack's own check failed, and has said so */
#define ANY       (BREAKS | ERRORS | SUCCEEDS | COMPLETES | SILENT | REFUSES)
#define ANSWERS   (BREAKS | ERRORS | SUCCEEDS | COMPLETES)

#define WANTED (FEATURE_VERSION_1 | FEATURE_EVENT_IDX | FEATURE_INDIRECT)

struct hostile {
	struct virtio_device device;
	struct virtio_queue queue;
	uint64_t sectors;
	struct blk_header *header;
	volatile uint8_t *status;
	volatile struct virtio_desc *table; /* indirect, QUEUE_MAX + 1 entries */
	uint8_t *data;
	uint64_t ram_end, outside; /* behind the last byte of RAM, and far behind it */
	struct blk *blk; /* the honest driver, for afterwards */
};

struct attack {
	const char *name;
	unsigned allowed;
	uint8_t status; /* if not 0, what ERRORS must mean */
	unsigned (*run)(struct hostile *h);
};

static uint64_t address_of(const volatile void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static void put(volatile struct virtio_desc *desc, uint64_t address, uint32_t bytes, unsigned flags,
	unsigned next)
{
	desc->address = address;
	desc->bytes = bytes;
	desc->flags = (uint16_t)flags;
	desc->next = (uint16_t)next;
}

/* A read of the first sectors, as it should be, in three descriptors from `desc` on. */
static void good_chain(struct hostile *h, volatile struct virtio_desc *desc, unsigned first)
{
	*h->header = (struct blk_header){.type = BLK_READ};
	*h->status = BLK_STATUS_NONE;
	put(&desc[0], address_of(h->header), sizeof(*h->header), DESC_NEXT, first + 1);
	put(&desc[1], address_of(h->data), DATA_BYTES, DESC_NEXT | DESC_WRITE, first + 2);
	put(&desc[2], address_of(h->status), 1, DESC_WRITE, 0);
}

/* Reset, negotiation and an empty queue that the device has not been told of. */
static bool set_up(struct hostile *h)
{
	if (virtio_negotiate(&h->device, WANTED))
		return false;
	virtio_queue_clear(&h->queue);
	*h->status = BLK_STATUS_NONE;
	return true;
}

static void driver_ok(struct hostile *h)
{
	virtio_write(&h->device, VIRTIO_STATUS,
		STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

static bool start(struct hostile *h)
{
	if (!set_up(h) || virtio_queue_start(&h->device, &h->queue))
		return false;
	driver_ok(h);
	good_chain(h, h->queue.desc, 0);
	return true;
}

/* What became of the last request. */
static unsigned observe(struct hostile *h)
{
	uint64_t end = rdtsc() + ns_to_ticks(WAIT_NS);

	virtio_write(&h->device, VIRTIO_QUEUE_NOTIFY, 0);
	do {
		if (virtio_read(&h->device, VIRTIO_STATUS) & STATUS_NEEDS_RESET)
			return BREAKS;
		if (h->queue.used->index != h->queue.used_index) {
			if (*h->status == BLK_STATUS_NONE)
				return COMPLETES;
			return *h->status == BLK_STATUS_OK ? SUCCEEDS : ERRORS;
		}
	} while (rdtsc() < end);
	return SILENT;
}

static unsigned submit(struct hostile *h, uint16_t head)
{
	virtio_queue_push(&h->queue, head);
	return observe(h);
}

/* A chain of which one descriptor has been replaced. */
static unsigned with_desc(struct hostile *h, unsigned index, uint64_t address, uint32_t bytes,
	unsigned flags, unsigned next)
{
	put(&h->queue.desc[index], address, bytes, flags, next);
	return submit(h, 0);
}

static unsigned chain_loop(struct hostile *h)
{
	return with_desc(h, 1, address_of(h->data), BLK_SECTOR, DESC_NEXT | DESC_WRITE, 1);
}

static unsigned chain_loop_to_head(struct hostile *h)
{
	return with_desc(h, 1, address_of(h->data), BLK_SECTOR, DESC_NEXT, 0);
}

static unsigned data_outside(struct hostile *h)
{
	return with_desc(h, 1, h->outside, DATA_BYTES, DESC_NEXT | DESC_WRITE, 2);
}

static unsigned data_across_ram_end(struct hostile *h)
{
	return with_desc(h, 1, h->ram_end - BLK_SECTOR, DATA_BYTES, DESC_NEXT | DESC_WRITE, 2);
}

static unsigned data_wraps(struct hostile *h)
{
	return with_desc(h, 1, ~0ull - 0x7ff, DATA_BYTES, DESC_NEXT | DESC_WRITE, 2);
}

static unsigned data_on_registers(struct hostile *h)
{
	return with_desc(h, 1, h->device.base, BLK_SECTOR, DESC_NEXT | DESC_WRITE, 2);
}

/* Data for the device to read where it should write, and the other way round. */
static unsigned read_into_readable(struct hostile *h)
{
	return with_desc(h, 1, address_of(h->data), DATA_BYTES, DESC_NEXT, 2);
}

static unsigned write_from_writable(struct hostile *h)
{
	h->header->type = BLK_WRITE;
	return submit(h, 0);
}

/* The disk's content over the descriptor table and the rings behind it. */
static unsigned data_on_rings(struct hostile *h)
{
	return with_desc(
		h, 1, address_of(h->queue.desc), 3 * DATA_BYTES, DESC_NEXT | DESC_WRITE, 2);
}

static unsigned header_outside(struct hostile *h)
{
	return with_desc(h, 0, h->outside, sizeof(struct blk_header), DESC_NEXT, 1);
}

static unsigned status_outside(struct hostile *h)
{
	return with_desc(h, 2, h->outside, 1, DESC_WRITE, 0);
}

static unsigned length_zero(struct hostile *h)
{
	return with_desc(h, 1, address_of(h->data), 0, DESC_NEXT | DESC_WRITE, 2);
}

static unsigned length_huge(struct hostile *h)
{
	return with_desc(h, 1, address_of(h->data), ~0u, DESC_NEXT | DESC_WRITE, 2);
}

static unsigned length_odd(struct hostile *h)
{
	return with_desc(h, 1, address_of(h->data), 100, DESC_NEXT | DESC_WRITE, 2);
}

static unsigned status_empty(struct hostile *h)
{
	return with_desc(h, 2, address_of(h->status), 0, DESC_WRITE, 0);
}

static unsigned header_short(struct hostile *h)
{
	return with_desc(h, 0, address_of(h->header), 8, DESC_NEXT, 1);
}

static unsigned next_too_large(struct hostile *h)
{
	return with_desc(
		h, 1, address_of(h->data), DATA_BYTES, DESC_NEXT | DESC_WRITE, h->queue.size);
}

static unsigned no_status(struct hostile *h)
{
	return with_desc(h, 0, address_of(h->header), sizeof(struct blk_header), 0, 0);
}

static unsigned no_header(struct hostile *h)
{
	return submit(h, 2);
}

static unsigned write_before_read(struct hostile *h)
{
	put(&h->queue.desc[0], address_of(h->data), DATA_BYTES, DESC_NEXT | DESC_WRITE, 1);
	put(&h->queue.desc[1], address_of(h->header), sizeof(struct blk_header), DESC_NEXT, 2);
	return submit(h, 0);
}

static unsigned head_too_large(struct hostile *h)
{
	return submit(h, h->queue.size);
}

static unsigned avail_jump(struct hostile *h)
{
	h->queue.avail_index = (uint16_t)(h->queue.size + 5);
	h->queue.avail->index = h->queue.avail_index;
	return observe(h);
}

static unsigned avail_backwards(struct hostile *h)
{
	h->queue.avail_index = 0xffff;
	h->queue.avail->index = h->queue.avail_index;
	return observe(h);
}

static unsigned head_twice(struct hostile *h)
{
	virtio_queue_push(&h->queue, 0);
	virtio_queue_push(&h->queue, 0);
	return observe(h);
}

/* An indirect descriptor for `bytes` of the table at `address`. */
static unsigned with_table(struct hostile *h, uint64_t address, uint32_t bytes)
{
	return with_desc(h, 0, address, bytes, DESC_INDIRECT, 0);
}

static const uint32_t three_entries = 3 * sizeof(struct virtio_desc);

static unsigned indirect_in_indirect(struct hostile *h)
{
	good_chain(h, h->table, 0);
	put(&h->table[1], address_of(&h->table[8]), three_entries, DESC_INDIRECT, 0);
	good_chain(h, &h->table[8], 0);
	return with_table(h, address_of(h->table), three_entries);
}

static unsigned indirect_odd_length(struct hostile *h)
{
	good_chain(h, h->table, 0);
	return with_table(h, address_of(h->table), three_entries - 8);
}

static unsigned indirect_empty(struct hostile *h)
{
	return with_table(h, address_of(h->table), 0);
}

static unsigned indirect_huge(struct hostile *h)
{
	good_chain(h, h->table, 0);
	return with_table(h, address_of(h->table), 0xfffffff0);
}

static unsigned indirect_outside(struct hostile *h)
{
	return with_table(h, h->outside, three_entries);
}

/* A chain of one descriptor more than the queue has. */
static unsigned indirect_too_long(struct hostile *h)
{
	unsigned last = h->queue.size;

	good_chain(h, h->table, 0);
	for (unsigned i = 1; i < last; i++)
		put(&h->table[i], address_of(h->data), BLK_SECTOR, DESC_NEXT | DESC_WRITE, i + 1);
	put(&h->table[last], address_of(h->status), 1, DESC_WRITE, 0);
	return with_table(
		h, address_of(h->table), (last + 1) * (uint32_t)sizeof(struct virtio_desc));
}

static unsigned indirect_and_next(struct hostile *h)
{
	good_chain(h, h->table, 0);
	return with_desc(h, 0, address_of(h->table), three_entries, DESC_INDIRECT | DESC_NEXT, 1);
}

static unsigned indirect_next_too_large(struct hostile *h)
{
	good_chain(h, h->table, 0);
	h->table[1].next = 3;
	return with_table(h, address_of(h->table), three_entries);
}

static unsigned indirect_loop(struct hostile *h)
{
	good_chain(h, h->table, 0);
	h->table[1].next = 1;
	return with_table(h, address_of(h->table), three_entries);
}

static void write64(struct hostile *h, uint32_t offset, uint64_t value)
{
	virtio_write(&h->device, offset, (uint32_t)value);
	virtio_write(&h->device, offset + 4, (uint32_t)(value >> 32));
}

/*
 * Sets the queue up from the start, with the ring part at register `offset` elsewhere and `size`
 * entries, and tries a request on it.
 */
static unsigned with_ring(struct hostile *h, uint32_t offset, uint64_t address, uint32_t size)
{
	if (!set_up(h))
		return REFUSES;
	good_chain(h, h->queue.desc, 0);
	h->queue.size = QUEUE_MAX;
	virtio_write(&h->device, VIRTIO_QUEUE_SELECT, 0);
	virtio_write(&h->device, VIRTIO_QUEUE_SIZE, size);
	write64(h, VIRTIO_QUEUE_DESC, address_of(h->queue.desc));
	write64(h, VIRTIO_QUEUE_DRIVER, address_of(h->queue.avail));
	write64(h, VIRTIO_QUEUE_DEVICE, address_of(h->queue.used));
	if (offset)
		write64(h, offset, address);
	virtio_write(&h->device, VIRTIO_QUEUE_READY, 1);
	if (!virtio_read(&h->device, VIRTIO_QUEUE_READY))
		return REFUSES;
	driver_ok(h);
	return submit(h, 0);
}

static unsigned desc_ring_outside(struct hostile *h)
{
	return with_ring(h, VIRTIO_QUEUE_DESC, h->outside, 8);
}

static unsigned avail_ring_outside(struct hostile *h)
{
	return with_ring(h, VIRTIO_QUEUE_DRIVER, h->outside, 8);
}

static unsigned used_ring_outside(struct hostile *h)
{
	return with_ring(h, VIRTIO_QUEUE_DEVICE, h->outside, 8);
}

static unsigned desc_ring_across_ram_end(struct hostile *h)
{
	return with_ring(h, VIRTIO_QUEUE_DESC, h->ram_end - 64, 8);
}

static unsigned desc_ring_at_top(struct hostile *h)
{
	return with_ring(h, VIRTIO_QUEUE_DESC, ~0xfull, 8);
}

static unsigned used_ring_at_top(struct hostile *h)
{
	return with_ring(h, VIRTIO_QUEUE_DEVICE, ~0x3full, 8);
}

static unsigned desc_ring_misaligned(struct hostile *h)
{
	return with_ring(h, VIRTIO_QUEUE_DESC, address_of(h->queue.desc) + 3, 8);
}

static unsigned used_ring_misaligned(struct hostile *h)
{
	return with_ring(h, VIRTIO_QUEUE_DEVICE, address_of(h->queue.used) + 1, 8);
}

static unsigned queue_size_zero(struct hostile *h)
{
	return with_ring(h, 0, 0, 0);
}

static unsigned queue_size_three(struct hostile *h)
{
	return with_ring(h, 0, 0, 3);
}

static unsigned queue_size_too_large(struct hostile *h)
{
	uint32_t max;

	virtio_write(&h->device, VIRTIO_QUEUE_SELECT, 0);
	max = virtio_read(&h->device, VIRTIO_QUEUE_MAX);
	return with_ring(h, 0, 0, max * 2) | with_ring(h, 0, 0, ~0u);
}

/* DRIVER_OK and a notification, but no queue. */
static unsigned notify_before_ready(struct hostile *h)
{
	if (!set_up(h))
		return REFUSES;
	good_chain(h, h->queue.desc, 0);
	driver_ok(h);
	return submit(h, 0);
}

static unsigned queue_ready_twice(struct hostile *h)
{
	virtio_write(&h->device, VIRTIO_QUEUE_READY, 1);
	write64(h, VIRTIO_QUEUE_DESC, h->outside);
	virtio_write(&h->device, VIRTIO_QUEUE_SIZE, 1);
	virtio_write(&h->device, VIRTIO_QUEUE_READY, 1);
	return submit(h, 0);
}

static unsigned queue_unready(struct hostile *h)
{
	virtio_write(&h->device, VIRTIO_QUEUE_READY, 0);
	return submit(h, 0);
}

/* Section 2.2.2: a device that cannot accept what the driver wrote leaves FEATURES_OK clear. */
static unsigned unknown_features(struct hostile *h)
{
	const uint32_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
	uint64_t unknown;

	if (virtio_reset(&h->device))
		return SILENT;
	virtio_write(&h->device, VIRTIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	unknown = ~virtio_offered(&h->device) | FEATURE_VERSION_1;
	virtio_write(&h->device, VIRTIO_DRIVER_SELECT, 1);
	virtio_write(&h->device, VIRTIO_DRIVER_FEATURES, (uint32_t)(unknown >> 32));
	virtio_write(&h->device, VIRTIO_DRIVER_SELECT, 0);
	virtio_write(&h->device, VIRTIO_DRIVER_FEATURES, (uint32_t)unknown);
	virtio_write(&h->device, VIRTIO_DRIVER_SELECT, 0x80000000);
	virtio_write(&h->device, VIRTIO_DRIVER_FEATURES, ~0u);
	virtio_write(&h->device, VIRTIO_STATUS, status);
	return virtio_read(&h->device, VIRTIO_STATUS) & STATUS_FEATURES_OK ? SUCCEEDS : REFUSES;
}

static unsigned no_features_ok(struct hostile *h)
{
	if (virtio_reset(&h->device))
		return SILENT;
	virtio_queue_clear(&h->queue);
	good_chain(h, h->queue.desc, 0);
	virtio_write(
		&h->device, VIRTIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK);
	h->device.features = 0;
	if (virtio_queue_start(&h->device, &h->queue))
		return REFUSES;
	return submit(h, 0);
}

static unsigned status_backwards(struct hostile *h)
{
	virtio_write(&h->device, VIRTIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	virtio_write(&h->device, VIRTIO_STATUS, STATUS_ACKNOWLEDGE);
	driver_ok(h);
	return submit(h, 0);
}

/* Every width at every offset, of those that stay inside the device's registers. */
static unsigned register_reads(struct hostile *h)
{
	uint64_t bytes = h->device.bytes < 0x1000 ? h->device.bytes : 0x1000;

	for (uint64_t at = 0; at < bytes; at++) {
		for (unsigned width = 1; width <= 8 && width <= bytes - at; width *= 2)
			mmio_read(h->device.base + at, width);
	}
	return submit(h, 0);
}

static unsigned register_writes(struct hostile *h)
{
	uint64_t bytes = h->device.bytes < 0x1000 ? h->device.bytes : 0x1000;
	uint64_t value = 0x9e3779b97f4a7c15;

	for (uint64_t at = 0; at < bytes; at++) {
		for (unsigned width = 1; width <= 8 && width <= bytes - at; width *= 2) {
			value = value * 6364136223846793005u + 1442695040888963407u;
			mmio_write(h->device.base + at, value >> 3, width);
		}
	}
	return submit(h, 0);
}

static unsigned notify_nonexistent(struct hostile *h)
{
	static const uint32_t queues[] = {1, 2, 7, 64, 1023, 1024, 0xffff, 0x10000, ~0u};

	for (unsigned i = 0; i < sizeof(queues) / sizeof(queues[0]); i++)
		virtio_write(&h->device, VIRTIO_QUEUE_NOTIFY, queues[i]);
	return submit(h, 0);
}

static unsigned select_nonexistent(struct hostile *h)
{
	static const uint32_t queues[] = {1, 1024, 0xffff, ~0u};

	for (unsigned i = 0; i < sizeof(queues) / sizeof(queues[0]); i++) {
		virtio_write(&h->device, VIRTIO_QUEUE_SELECT, queues[i]);
		if (virtio_read(&h->device, VIRTIO_QUEUE_MAX))
			continue; /* a queue that does exist */
		virtio_write(&h->device, VIRTIO_QUEUE_SIZE, 8);
		write64(h, VIRTIO_QUEUE_DESC, h->outside);
		virtio_write(&h->device, VIRTIO_QUEUE_READY, 1);
		if (virtio_read(&h->device, VIRTIO_QUEUE_READY)) {
			fail_number("QueueReady of a queue that is not there", 0, 1);
			return WRONG;
		}
	}
	virtio_write(&h->device, VIRTIO_QUEUE_SELECT, 0);
	return submit(h, 0);
}

/* Whether all of `bytes` are still `value`. */
static bool untouched(const volatile uint8_t *p, size_t bytes, uint8_t value)
{
	for (size_t i = 0; i < bytes; i++) {
		if (p[i] != value)
			return false;
	}
	return true;
}

/*
 * Large reads, all into one buffer, and a reset right behind them. Once the status reads 0 the
 * device may not touch memory: what is written then must stay.
 */
static unsigned reset_in_flight(struct hostile *h)
{
	uint32_t bytes = FLIGHT_BYTES;

	while (bytes / BLK_SECTOR > h->sectors)
		bytes /= 2;
	for (uint16_t i = 0; i < 32; i++) {
		good_chain(h, &h->queue.desc[3 * i], 3u * i);
		h->queue.desc[3 * i + 1].bytes = bytes;
		virtio_queue_push(&h->queue, (uint16_t)(3 * i));
	}
	virtio_write(&h->device, VIRTIO_QUEUE_NOTIFY, 0);
	if (virtio_reset(&h->device))
		return SILENT;
	memset(h->data, 0x5a, FLIGHT_BYTES);
	*h->status = 0x5a;
	h->queue.used->index = 0x5a5a;
	delay_us(50000);
	if (untouched(h->data, FLIGHT_BYTES, 0x5a) && *h->status == 0x5a &&
		h->queue.used->index == 0x5a5a)
		return REFUSES;
	fail("memory after a reset with requests in flight", "untouched", "written to");
	return WRONG;
}

static unsigned with_request(struct hostile *h, uint32_t type, uint64_t sector)
{
	h->header->type = type;
	h->header->sector = sector;
	return submit(h, 0);
}

static unsigned unknown_type(struct hostile *h)
{
	return with_request(h, TYPE_UNKNOWN, 0);
}

static unsigned beyond_capacity(struct hostile *h)
{
	return with_request(h, BLK_READ, h->sectors);
}

static unsigned across_capacity(struct hostile *h)
{
	return with_request(h, BLK_READ, h->sectors - 1);
}

static unsigned sector_overflow(struct hostile *h)
{
	return with_request(h, BLK_READ, 1ull << 63);
}

/* Times 512, this is a small number again. */
static unsigned sector_wraps(struct hostile *h)
{
	return with_request(h, BLK_READ, (1ull << 55) + 1);
}

static unsigned write_beyond_capacity(struct hostile *h)
{
	h->queue.desc[1].flags = DESC_NEXT;
	return with_request(h, BLK_WRITE, h->sectors);
}

static const struct attack attacks[] = {
	{"chain-loop", BREAKS, 0, chain_loop},
	{"chain-loop-to-head", BREAKS, 0, chain_loop_to_head},
	{"next-too-large", BREAKS, 0, next_too_large},
	{"data-outside-ram", BREAKS | ERRORS, 0, data_outside},
	{"data-across-ram-end", BREAKS | ERRORS, 0, data_across_ram_end},
	{"data-wraps", BREAKS | ERRORS, 0, data_wraps},
	{"data-on-registers", BREAKS | ERRORS, 0, data_on_registers},
	{"read-into-readable", ANSWERS, 0, read_into_readable},
	{"write-from-writable", ANSWERS, 0, write_from_writable},
	{"data-on-rings", ANY, 0, data_on_rings},
	{"header-outside-ram", BREAKS, 0, header_outside},
	{"status-outside-ram", BREAKS, 0, status_outside},
	{"length-zero", ANSWERS, 0, length_zero},
	{"length-huge", BREAKS | ERRORS, 0, length_huge},
	{"length-odd", BREAKS | ERRORS, 0, length_odd},
	{"status-empty", BREAKS | COMPLETES, 0, status_empty},
	{"header-short", BREAKS | ERRORS, 0, header_short},
	{"no-status", BREAKS | COMPLETES, 0, no_status},
	{"no-header", BREAKS | ERRORS, 0, no_header},
	{"write-before-read", BREAKS | ERRORS, 0, write_before_read},
	{"head-too-large", BREAKS, 0, head_too_large},
	{"avail-jump", BREAKS, 0, avail_jump},
	{"avail-backwards", BREAKS, 0, avail_backwards},
	{"head-twice", ANSWERS, 0, head_twice},
	{"indirect-in-indirect", BREAKS, 0, indirect_in_indirect},
	{"indirect-odd-length", BREAKS, 0, indirect_odd_length},
	{"indirect-empty", BREAKS, 0, indirect_empty},
	{"indirect-huge", ANSWERS, 0, indirect_huge},
	{"indirect-outside-ram", BREAKS, 0, indirect_outside},
	{"indirect-too-long", ANSWERS, 0, indirect_too_long},
	{"indirect-and-next", ANSWERS, 0, indirect_and_next},
	{"indirect-next-too-large", BREAKS, 0, indirect_next_too_large},
	{"indirect-loop", BREAKS, 0, indirect_loop},
	{"desc-ring-outside-ram", BREAKS | REFUSES, 0, desc_ring_outside},
	{"avail-ring-outside-ram", BREAKS | REFUSES, 0, avail_ring_outside},
	{"used-ring-outside-ram", BREAKS | REFUSES, 0, used_ring_outside},
	{"desc-ring-across-ram-end", BREAKS | REFUSES, 0, desc_ring_across_ram_end},
	{"desc-ring-at-top", BREAKS | REFUSES, 0, desc_ring_at_top},
	{"used-ring-at-top", BREAKS | REFUSES, 0, used_ring_at_top},
	{"desc-ring-misaligned", ANY, 0, desc_ring_misaligned},
	{"used-ring-misaligned", ANY, 0, used_ring_misaligned},
	{"queue-size-zero", ANY, 0, queue_size_zero},
	{"queue-size-three", ANY, 0, queue_size_three},
	{"queue-size-too-large", ANY, 0, queue_size_too_large},
	{"notify-before-ready", BREAKS | SILENT, 0, notify_before_ready},
	{"queue-ready-twice", ANY, 0, queue_ready_twice},
	{"queue-unready", ANY, 0, queue_unready},
	{"unknown-features", REFUSES, 0, unknown_features},
	{"no-features-ok", ANY, 0, no_features_ok},
	{"status-backwards", ANY, 0, status_backwards},
	{"register-reads", SUCCEEDS, 0, register_reads},
	{"register-writes", ANY, 0, register_writes},
	{"notify-nonexistent", SUCCEEDS, 0, notify_nonexistent},
	{"select-nonexistent", SUCCEEDS, 0, select_nonexistent},
	{"reset-in-flight", REFUSES, 0, reset_in_flight},
	{"unknown-type", ERRORS, BLK_STATUS_UNSUPP, unknown_type},
	{"beyond-capacity", ERRORS, BLK_STATUS_IOERR, beyond_capacity},
	{"across-capacity", ERRORS, BLK_STATUS_IOERR, across_capacity},
	{"sector-overflow", ERRORS, BLK_STATUS_IOERR, sector_overflow},
	{"sector-wraps", ERRORS, BLK_STATUS_IOERR, sector_wraps},
	{"write-beyond-capacity", ERRORS, BLK_STATUS_IOERR, write_beyond_capacity},
};

/* Outcomes in words, in the order of their bits. */
static const char *outcomes_text(unsigned outcomes, char *text, size_t bytes)
{
	static const char *const names[] = {"NEEDS_RESET", "an error status", "success",
		"completion without a status", "silence", "a refusal", "a failed check"};
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!(outcomes >> i & 1))
			continue;
		format_text(text + used, bytes - used, "%s%s", used ? " or " : "", names[i]);
		used = text_length(text);
	}
	return text;
}

/* A device that needs a reset also tells of it, by the configuration-change bit (2.1.2). */
static bool told_of_break(const struct hostile *h)
{
	uint64_t end = rdtsc() + ns_to_ticks(NOTICE_NS);

	do {
		if (virtio_read(&h->device, VIRTIO_INTERRUPT_STATUS) & 2)
			return true;
	} while (rdtsc() < end);
	return false;
}

static int judge(struct hostile *h, const struct attack *attack, unsigned outcome)
{
	char what[64], expected[160], got[160];

	format_text(what, sizeof(what), "hostile %s", attack->name);
	if (outcome & ~attack->allowed)
		return fail(what, outcomes_text(attack->allowed, expected, sizeof(expected)),
			outcomes_text(outcome, got, sizeof(got)));
	if (outcome == ERRORS && attack->status && *h->status != attack->status)
		return fail_number(what, attack->status, *h->status);
	if (outcome == BREAKS && !told_of_break(h))
		return fail(what, "a configuration-change interrupt", "none");
	return 0;
}

static int check_recovery(struct hostile *h, const char *name)
{
	uint8_t status;

	if (blk_start(h->blk)) {
		print("FAIL: hostile %s, expected a working disk after a reset, got none\n", name);
		return 1;
	}
	status = blk_do(h->blk, BLK_READ, 0, h->data, DATA_BYTES);
	if (status != BLK_STATUS_OK) {
		print("FAIL: hostile %s, expected a good read after a reset, got status %u\n", name,
			status);
		return 1;
	}
	return 0;
}

static int run_attack(struct hostile *h, const struct attack *attack)
{
	unsigned outcome;
	char got[160];

	if (!start(h))
		return fail(attack->name, "a disk that starts", "none");
	outcome = attack->run(h);
	if (judge(h, attack, outcome) + check_recovery(h, attack->name))
		return 1;
	print("hostile %s: ok (%s)\n", attack->name, outcomes_text(outcome, got, sizeof(got)));
	return 0;
}

/* Behind the last byte of RAM, which need not be mapped: only the device looks there. */
static uint64_t find_ram_end(void)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < machine.range_count; i++) {
		const struct machine_range *r = &machine.ranges[i];

		if (r->type == 1 && r->base + r->bytes > end)
			end = r->base + r->bytes;
	}
	return end;
}

static bool open_hostile(struct hostile *h, struct blk *blk)
{
	h->blk = blk;
	h->device = blk->device;
	h->sectors = blk->sectors;
	h->ram_end = find_ram_end();
	h->outside = (h->ram_end > 1ull << 32 ? h->ram_end : 1ull << 32) + (1ull << 30);
	h->header = machine_alloc(sizeof(*h->header), 64);
	h->status = machine_alloc(64, 64);
	h->table = machine_alloc((QUEUE_MAX + 1) * sizeof(struct virtio_desc), 4096);
	h->data = machine_alloc(FLIGHT_BYTES, 4096);
	return virtio_queue_alloc(&h->queue) && h->header && h->status && h->table && h->data;
}

int command_hostile(const char *value)
{
	uint64_t mark = machine_mark();
	bool all = text_equal(value, "all"), found = false;
	struct hostile h = {0};
	struct blk blk = {0};
	int failures = 0;

	if (!blk_find(&blk))
		return fail("disk", "one", "none");
	if (blk_start(&blk))
		return 1;
	if (!open_hostile(&h, &blk))
		return fail("memory for the attacks", "some", "none");
	for (unsigned i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		if (all || text_equal(value, attacks[i].name)) {
			found = true;
			failures += run_attack(&h, &attacks[i]);
		}
	}
	if (!found)
		failures = fail("hostile=", "all or an attack's name", value);
	else if (all)
		print("hostile: %u attacks, %u failures\n",
			(unsigned)(sizeof(attacks) / sizeof(attacks[0])), (unsigned)failures);
	virtio_reset(&blk.device);
	machine_release(mark);
	return failures > 0;
}
