// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio-blk driver: slots, of which each has its header, its status byte and its own part of
 * the descriptor table, so that nothing is allocated while requests run.
 */
#include "blk.h"

#include "print.h"
#include "ring0.h"

#define TIMEOUT_NS 10000000000ull
#define LATE_NS    1000000000ull /* how much later than its cause an interrupt may come */

#define CONFIG_CAPACITY   (VIRTIO_CONFIG + 0)
#define CONFIG_SIZE_MAX   (VIRTIO_CONFIG + 8)
#define CONFIG_SEG_MAX    (VIRTIO_CONFIG + 12)
#define CONFIG_BLOCK_SIZE (VIRTIO_CONFIG + 20)

#define WANTED                                                                                     \
	(FEATURE_VERSION_1 | FEATURE_EVENT_IDX | FEATURE_INDIRECT | FEATURE_RING_RESET |           \
		BLK_FEATURE_SIZE_MAX | BLK_FEATURE_SEG_MAX | BLK_FEATURE_RO |                      \
		BLK_FEATURE_BLK_SIZE | BLK_FEATURE_FLUSH)

static uint64_t address_of(const volatile void *p)
{
	return (uint64_t)(uintptr_t)p;
}

bool blk_find(struct blk *blk)
{
	const char *word = machine_word("disk"), *wait = machine_word("wait");
	uint64_t wanted = 0;

	if (word)
		parse_number(&word, &wanted);
	blk->irq = -1;
	blk->spin = wait && text_equal(wait, "spin");
	return virtio_find(&blk->device, DEVICE_ID_BLK, wanted);
}

/* Capacity is two registers: the generation says whether they belong together (4.2.2.2). */
static uint64_t read_capacity(const struct virtio_device *device)
{
	uint32_t generation;
	uint64_t sectors;

	do {
		generation = virtio_read(device, VIRTIO_CONFIG_GENERATION);
		sectors = virtio_read(device, CONFIG_CAPACITY);
		sectors |= (uint64_t)virtio_read(device, CONFIG_CAPACITY + 4) << 32;
	} while (generation != virtio_read(device, VIRTIO_CONFIG_GENERATION));
	return sectors;
}

static void read_limits(struct blk *blk)
{
	const struct virtio_device *device = &blk->device;
	uint32_t segments = BLK_SEGMENTS;

	blk->sectors = read_capacity(device);
	blk->read_only = device->features & BLK_FEATURE_RO;
	blk->block_bytes = BLK_SECTOR;
	if (device->features & BLK_FEATURE_BLK_SIZE)
		blk->block_bytes = virtio_read(device, CONFIG_BLOCK_SIZE);
	blk->segment_bytes = 1u << 20;
	if (device->features & BLK_FEATURE_SIZE_MAX)
		blk->segment_bytes = virtio_read(device, CONFIG_SIZE_MAX) & ~(BLK_SECTOR - 1u);
	if (device->features & BLK_FEATURE_SEG_MAX)
		segments = virtio_read(device, CONFIG_SEG_MAX);
	if (segments > BLK_SEGMENTS)
		segments = BLK_SEGMENTS;
	if (!(device->features & FEATURE_INDIRECT) && segments + 2 > blk->queue.size / BLK_SLOTS)
		segments = blk->queue.size > 2 * BLK_SLOTS ? blk->queue.size / BLK_SLOTS - 2u : 1;
	blk->segments = (uint16_t)segments;
	if (blk->segment_bytes > 1u << 20)
		blk->segment_bytes = 1u << 20;
	blk->request_bytes = segments * blk->segment_bytes;
	if (blk->request_bytes > 1u << 20)
		blk->request_bytes = 1u << 20;
}

/*
 * As many slots as the ring has room for: one descriptor each if indirect, else their whole chain.
 */
static blk_slots usable_slots(const struct blk *blk)
{
	unsigned each = blk->device.features & FEATURE_INDIRECT ? 1 : blk->segments + 2u;
	unsigned slots = blk->queue.size / each;

	return slots >= BLK_SLOTS ? ~(blk_slots)0 : blk_slot_bit(slots) - 1;
}

int blk_start(struct blk *blk)
{
	if (!blk->slots) {
		blk->slots = machine_alloc(BLK_SLOTS * sizeof(*blk->slots), 4096);
		if (!virtio_queue_alloc(&blk->queue) || !blk->slots)
			return fail("memory for the disk's queue", "some", "none");
	}
	if (virtio_negotiate(&blk->device, WANTED) || !(blk->device.features & FEATURE_VERSION_1))
		return fail("disk's feature negotiation", "FEATURES_OK", "refusal");
	virtio_queue_clear(&blk->queue);
	if (virtio_queue_start(&blk->device, &blk->queue))
		return fail("disk's queue 0", "a free queue", "none");
	read_limits(blk);
	if (!blk->segment_bytes || !blk->segments || !usable_slots(blk))
		return fail("disk's request limits", "room for a sector", "none");
	blk->free = usable_slots(blk);
	virtio_queue_arm(&blk->queue, false);
	virtio_write(&blk->device, VIRTIO_STATUS,
		STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	blk->interrupts = blk->armed = false;
	return 0;
}

int blk_use_interrupts(struct blk *blk, bool interrupts)
{
	if (interrupts && blk->irq < 0) {
		blk->irq = virtio_irq(&blk->device, 0);
		if (blk->irq < 0)
			return fail("interrupt vector for the disk", "one", "none");
	}
	if (interrupts)
		blk->irq_seen = irq_counts[blk->irq];
	blk->interrupts = interrupts;
	blk->armed = false;
	virtio_queue_arm(&blk->queue, interrupts);
	return 0;
}

/* Descriptor `i` of the chain in `table`, whose first descriptor has index `base` in it. */
static void set_desc(volatile struct virtio_desc *table, uint16_t at, uint64_t address,
	uint32_t bytes, uint16_t flags)
{
	table[at].address = address;
	table[at].bytes = bytes;
	table[at].flags = flags;
	table[at].next = flags & DESC_NEXT ? (uint16_t)(at + 1) : 0;
}

static uint16_t build_chain(struct blk *blk, volatile struct virtio_desc *table, uint16_t at,
	struct blk_slot *slot, void *data, uint32_t bytes)
{
	uint16_t direction = slot->header.type == BLK_WRITE ? 0 : DESC_WRITE, first = at;
	uint64_t address = address_of(data);

	set_desc(table, at++, address_of(&slot->header), sizeof(slot->header), DESC_NEXT);
	while (bytes) {
		uint32_t part = bytes < blk->segment_bytes ? bytes : blk->segment_bytes;

		set_desc(table, at++, address, part, DESC_NEXT | direction);
		address += part;
		bytes -= part;
	}
	set_desc(table, at++, address_of(&slot->status), 1, DESC_WRITE);
	return (uint16_t)(at - first);
}

int blk_next_slot(const struct blk *blk)
{
	uint64_t low = (uint64_t)blk->free, high = (uint64_t)(blk->free >> 64);

	if (low)
		return __builtin_ctzll(low);
	return high ? 64 + __builtin_ctzll(high) : -1;
}

int blk_submit(struct blk *blk, uint32_t type, uint64_t sector, void *data, uint32_t bytes)
{
	struct blk_slot *slot;
	uint16_t head, count;
	int n = blk_next_slot(blk);

	if (n < 0 || bytes > blk->request_bytes)
		return -1;
	blk->free &= blk->free - 1;
	slot = &blk->slots[n];
	slot->header = (struct blk_header){.type = type, .sector = sector};
	slot->status = BLK_STATUS_NONE;
	if (blk->device.features & FEATURE_INDIRECT) {
		head = (uint16_t)n;
		count = build_chain(blk, slot->table, 0, slot, data, bytes);
		set_desc(blk->queue.desc, head, address_of(slot->table),
			count * (uint32_t)sizeof(struct virtio_desc), DESC_INDIRECT);
	} else {
		head = (uint16_t)(n * (blk->segments + 2));
		build_chain(blk, blk->queue.desc, head, slot, data, bytes);
	}
	blk->started[n] = rdtsc();
	virtio_queue_push(&blk->queue, head);
	return n;
}

/*
 * Arms the interrupt before the device hears of new requests, so that each completion from now on
 * comes by interrupt, however quick the device is. Not while there are completions to take.
 */
void blk_kick(struct blk *blk)
{
	if (blk->interrupts && !blk->armed)
		blk->armed = !virtio_queue_arm(&blk->queue, true);
	blk->notifications += virtio_queue_kick(&blk->device, &blk->queue);
}

/* Something else woke the CPU while the ring was filled: the disk's interrupt must follow. */
static int await_interrupt(const struct blk *blk)
{
	uint64_t end = rdtsc() + ns_to_ticks(LATE_NS);

	while (irq_counts[blk->irq] == blk->irq_seen) {
		if (rdtsc() > end)
			return fail("disk's interrupt for a completion", "one", "none in a second");
		cpu_relax();
	}
	return 0;
}

/* Until the disk's interrupt, or a tick. */
static void idle(const struct blk *blk, uint32_t count)
{
	uint32_t tick = irq_counts[VECTOR_TICK - VECTOR_IRQ];

	if (!blk->spin) {
		ring0_wait(&irq_counts[blk->irq], count);
		return;
	}
	while (irq_counts[blk->irq] == count && irq_counts[VECTOR_TICK - VECTOR_IRQ] == tick)
		cpu_relax();
}

/*
 * One step of waiting by interrupt: until it comes, or a tick. Once it has come it is acknowledged:
 * that lowers the line, which the next one raises. The sleep ends at once if one was counted since
 * the look at the count, so none is lost. Returns 0, or 1 if an interrupt is missing.
 */
static int wait_for_interrupt(struct blk *blk)
{
	uint32_t count = irq_counts[blk->irq];

	if (count != blk->irq_seen) {
		blk->irq_seen = count;
		blk->armed = false;
		virtio_irq_acknowledge(&blk->device);
		return 0;
	}
	idle(blk, count);
	if (irq_counts[blk->irq] == count && blk->queue.used->index != blk->queue.used_index)
		return await_interrupt(blk);
	return 0;
}

int blk_complete(struct blk *blk)
{
	unsigned each = blk->device.features & FEATURE_INDIRECT ? 1 : blk->segments + 2u;
	uint64_t end = rdtsc() + ns_to_ticks(TIMEOUT_NS);
	struct virtio_used_element element;

	while (blk->armed || !virtio_queue_pop(&blk->queue, &element)) {
		if (rdtsc() > end) {
			fail("disk request", "completion", "none in 10 seconds");
			return -1;
		}
		if (blk->armed) {
			if (wait_for_interrupt(blk))
				return -1;
		} else if (blk->interrupts) {
			blk->armed = !virtio_queue_arm(&blk->queue, true);
		} else {
			cpu_relax();
		}
	}
	if (element.id % each || element.id / each >= BLK_SLOTS ||
		(blk->free & blk_slot_bit(element.id / each))) {
		fail_number("used element's id, of a request in flight", 0, element.id);
		return -1;
	}
	blk->free |= blk_slot_bit(element.id / each);
	return (int)(element.id / each);
}

uint8_t blk_do(struct blk *blk, uint32_t type, uint64_t sector, void *data, uint64_t bytes)
{
	char *next = data;
	int slot;

	do {
		uint32_t part = bytes < blk->request_bytes ? (uint32_t)bytes : blk->request_bytes;

		if (blk_submit(blk, type, sector, next, part) < 0)
			return BLK_STATUS_NONE;
		blk_kick(blk);
		slot = blk_complete(blk);
		if (slot < 0)
			return BLK_STATUS_NONE;
		if (blk->slots[slot].status != BLK_STATUS_OK)
			return blk->slots[slot].status;
		sector += part / BLK_SECTOR;
		next += part;
		bytes -= part;
	} while (bytes);
	return BLK_STATUS_OK;
}
