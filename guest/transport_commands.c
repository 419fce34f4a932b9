// SPDX-License-Identifier: Apache-2.0
/*
 * What a driver may do to a device at the worst moment: mask its messages under load, reset one of
 * its queues or all of it with requests in flight, ask for features that it does not have.
 */
#include "transport_commands.h"

#include "blk.h"
#include "print.h"
#include "ring0.h"

#define LOAD        16 /* requests in flight */
#define LOAD_BYTES  (64u << 10)
#define SECOND_NS   1000000000ull
#define FILLER      0x5a
#define QUEUE_EVENT 1 /* the message of queue 0 */

/* A disk that is read from, and the memory that it reads into. */
struct target {
	struct blk blk;
	uint8_t *data; /* LOAD buffers of `bytes` */
	uint32_t bytes;
	uint64_t mark, rounds;
	int spare; /* an interrupt for no purpose but to be sent elsewhere */
};

static int open_target(struct target *t, const char *value, uint64_t rounds)
{
	*t = (struct target){.mark = machine_mark()};
	if (!parse_number(&value, &t->rounds))
		t->rounds = rounds;
	if (!blk_find(&t->blk))
		return fail("disk", "one", "none");
	if (blk_start(&t->blk))
		return 1;
	t->data = machine_alloc(LOAD * LOAD_BYTES, 4096);
	if (!t->data)
		return fail("memory for disk buffers", "1 MiB", "less");
	t->bytes = t->blk.request_bytes < LOAD_BYTES ? t->blk.request_bytes : LOAD_BYTES;
	if (t->bytes > t->blk.sectors * BLK_SECTOR / 2)
		t->bytes = BLK_SECTOR;
	return 0;
}

static int close_target(struct target *t, int status)
{
	if (virtio_reset(&t->blk.device))
		status = fail("disk's status after a reset", "0", "not 0");
	machine_release(t->mark);
	return status;
}

/* Reads from the whole disk, as many as there is room for. */
static unsigned load(struct target *t, uint64_t round)
{
	uint64_t places = t->blk.sectors * BLK_SECTOR / t->bytes;
	unsigned count = 0;

	while (count < LOAD) {
		int slot = blk_next_slot(&t->blk);

		if (slot < 0 || slot >= LOAD)
			break;
		blk_submit(&t->blk, BLK_READ,
			(round * 31 + count * 7) % places * (t->bytes / BLK_SECTOR),
			t->data + (size_t)slot * LOAD_BYTES, t->bytes);
		count++;
	}
	blk_kick(&t->blk);
	return count;
}

static int unload(struct target *t, unsigned count)
{
	for (; count; count--) {
		int slot = blk_complete(&t->blk);

		if (slot < 0)
			return 1;
		if (t->blk.slots[slot].status != BLK_STATUS_OK)
			return fail_number("status of a read under load", BLK_STATUS_OK,
				t->blk.slots[slot].status);
	}
	return 0;
}

/* One read as any driver would do it. */
static int check_alive(struct target *t, const char *after)
{
	uint8_t status;

	if (blk_start(&t->blk))
		return 1;
	status = blk_do(&t->blk, BLK_READ, 0, t->data, t->bytes);
	return status == BLK_STATUS_OK ? 0 : fail_number(after, BLK_STATUS_OK, status);
}

/* Until *counter is no longer `seen`; false after a second. */
static bool await_count(const volatile uint32_t *counter, uint32_t seen)
{
	uint64_t end = rdtsc() + ns_to_ticks(SECOND_NS);

	while (*counter == seen) {
		if (rdtsc() > end)
			return false;
		cpu_relax();
	}
	return true;
}

static bool await_pending(const struct pci_function *function, bool pending)
{
	uint64_t end = rdtsc() + ns_to_ticks(SECOND_NS);

	while (msix_pending(function, QUEUE_EVENT) != pending) {
		if (rdtsc() > end)
			return false;
	}
	return true;
}

/* Masks the queue's message alone, or, every second time, all of the function's. */
static void mask(const struct target *t, uint64_t round, bool on)
{
	const struct pci_function *function = t->blk.device.pci;

	if (round & 1)
		msix_control(function, MSIX_ENABLE | (on ? MSIX_FUNCTION_MASK : 0));
	else
		msix_mask(function, QUEUE_EVENT, on);
}

/*
 * A completion while its message is masked: no interrupt, a pending bit; and once it is unmasked
 * the interrupt, to where the entry points by then, and the bit is clear.
 */
static int masked_completion(struct target *t, uint64_t round)
{
	const struct pci_function *function = t->blk.device.pci;
	const volatile struct virtio_used *used = t->blk.queue.used;
	bool elsewhere = round % 4 == 2;
	int irq = elsewhere ? t->spare : t->blk.irq, slot;
	uint64_t end = rdtsc() + ns_to_ticks(SECOND_NS);

	/*
	 * Counted from here: an interrupt of what came before may have been on its way until now.
	 */
	mask(t, round, true);
	uint32_t seen = irq_counts[irq], own = irq_counts[t->blk.irq];
	slot = blk_submit(&t->blk, BLK_READ, round % t->blk.sectors & ~7ull, t->data, t->bytes);
	blk_kick(&t->blk);
	while (used->index == t->blk.queue.used_index && rdtsc() < end)
		cpu_relax();
	if (used->index == t->blk.queue.used_index)
		return fail("read with its message masked", "completion", "none in a second");
	if (!await_pending(function, true))
		return fail("pending bit of a masked message", "1", "0 for a second");
	if (irq_counts[t->blk.irq] != own || irq_counts[irq] != seen)
		return fail("interrupts while masked", "none", "some");
	if (elsewhere)
		msix_set(function, QUEUE_EVENT, t->spare);
	mask(t, round, false);
	if (!await_count(&irq_counts[irq], seen))
		return fail("interrupt after unmasking", "one", "none in a second");
	if (!await_pending(function, false))
		return fail("pending bit after unmasking", "0", "1 for a second");
	if (elsewhere) {
		if (irq_counts[t->blk.irq] != own)
			return fail("interrupts at the old vector", "none", "some");
		msix_mask(function, QUEUE_EVENT, true);
		msix_set(function, QUEUE_EVENT, t->blk.irq);
		msix_mask(function, QUEUE_EVENT, false);
		t->blk.armed = false;
	}
	if (blk_complete(&t->blk) != slot || t->blk.slots[slot].status != BLK_STATUS_OK)
		return fail("read with its message masked", "status 0", "another");
	return 0;
}

/* Masks and unmasks while completions come; unload() fails if an interrupt is missing. */
static int masked_load(struct target *t, uint64_t round)
{
	unsigned count = load(t, round);

	for (unsigned i = 0; i < 4; i++) {
		mask(t, round + i, true);
		delay_us((round + i) % 7 * 20);
		mask(t, round + i, false);
	}
	return unload(t, count);
}

int command_msix_mask(const char *value)
{
	struct target t;
	int status = 0;

	if (open_target(&t, value, 200))
		return 1;
	if (!t.blk.device.pci || t.blk.device.pci->vectors <= QUEUE_EVENT)
		return close_target(&t, fail("disk", "PCI with two MSI-X vectors", "another"));
	t.spare = pci_irq(t.blk.device.pci, 0);
	if (t.spare < 0 || blk_use_interrupts(&t.blk, true))
		return close_target(&t, fail("interrupt vectors", "two", "less"));
	for (uint64_t i = 0; i < t.rounds && !status; i++)
		status = masked_completion(&t, i) || masked_load(&t, i);
	if (!status)
		print("msix-mask: %lu rounds, %u interrupts, %u sent elsewhere: ok\n", t.rounds,
			irq_counts[t.blk.irq], irq_counts[t.spare]);
	return close_target(&t, status);
}

/* After a reset the device may not touch memory any more: what is put there now must stay. */
static int check_quiet(struct target *t, const char *what)
{
	struct virtio_queue *queue = &t->blk.queue;

	memset(t->data, FILLER, LOAD * LOAD_BYTES);
	queue->used->index = 0x5a5a;
	for (unsigned i = 0; i < LOAD; i++)
		t->blk.slots[i].status = FILLER;
	delay_us(1000);
	for (size_t i = 0; i < LOAD * LOAD_BYTES; i++) {
		if (t->data[i] != FILLER)
			return fail(what, "memory left alone", "written to");
	}
	for (unsigned i = 0; i < LOAD; i++) {
		if (t->blk.slots[i].status != FILLER)
			return fail(what, "status bytes left alone", "written to");
	}
	return queue->used->index == 0x5a5a ? 0 : fail(what, "ring left alone", "written to");
}

/* What a reset gives back to a queue on PCI (virtio 1.2, sections 4.1.4.3.1 and 4.1.5.1.2.1). */
static int check_pci_reset(const struct virtio_device *device)
{
	virtio_write(device, VIRTIO_QUEUE_SELECT, 0);
	if (virtio_read(device, VIRTIO_PCI_QUEUE_VECTOR) != 0xffff ||
		virtio_read(device, VIRTIO_PCI_CONFIG_VECTOR) != 0xffff)
		return fail("vectors after a reset", "0xffff", "others");
	if (virtio_read(device, VIRTIO_QUEUE_READY))
		return fail_number("queue_enable after a reset", 0, 1);
	return 0;
}

int command_driver_reset(const char *value)
{
	struct target t;
	int status = 0;

	if (open_target(&t, value, 100))
		return 1;
	for (uint64_t i = 0; i < t.rounds && !status; i++) {
		if (blk_start(&t.blk) || blk_use_interrupts(&t.blk, i & 1)) {
			status = 1;
			break;
		}
		load(&t, i);
		delay_us(i % 16 * 10);
		if (virtio_reset(&t.blk.device))
			status = fail("disk's status after a reset", "0", "not 0");
		else
			status = check_quiet(&t, "driver-reset") ||
				 (t.blk.device.pci && check_pci_reset(&t.blk.device)) ||
				 check_alive(&t, "read after a reset");
	}
	if (!status)
		print("driver-reset: %lu resets with requests in flight: ok\n", t.rounds);
	return close_target(&t, status);
}

/*
 * Section 2.6.1: the queue is the driver's again when queue_reset reads 0, and can be set up anew.
 */
static int reset_queue(struct target *t)
{
	struct virtio_device *device = &t->blk.device;
	uint64_t end = rdtsc() + ns_to_ticks(SECOND_NS);

	virtio_write(device, VIRTIO_QUEUE_SELECT, 0);
	virtio_write(device, VIRTIO_QUEUE_RESET, 1);
	while (virtio_read(device, VIRTIO_QUEUE_RESET)) {
		if (rdtsc() > end)
			return fail("queue_reset", "0", "1 for a second");
	}
	if (virtio_read(device, VIRTIO_QUEUE_READY))
		return fail_number("queue_enable after the queue's reset", 0, 1);
	return check_quiet(t, "queue-reset");
}

/* A new life for the queue without a word to the rest of the device, and a read. */
static int revive_queue(struct target *t, bool interrupts)
{
	struct virtio_device *device = &t->blk.device;
	blk_slots slots = t->blk.free;
	uint8_t status;

	virtio_queue_clear(&t->blk.queue);
	if (virtio_queue_start(device, &t->blk.queue))
		return fail("queue after its reset", "one that starts", "another");
	for (unsigned i = 0; i < LOAD; i++)
		slots |= blk_slot_bit(i);
	t->blk.free = slots;
	if (blk_use_interrupts(&t->blk, interrupts))
		return 1;
	status = blk_do(&t->blk, BLK_READ, 0, t->data, t->bytes);
	return status == BLK_STATUS_OK
		       ? 0
		       : fail_number("read after the queue's reset", BLK_STATUS_OK, status);
}

int command_queue_reset(const char *value)
{
	struct target t;
	int status = 0;

	if (open_target(&t, value, 100))
		return 1;
	if (!(t.blk.device.features & FEATURE_RING_RESET)) {
		print("queue-reset: skipped: the disk does not offer VIRTIO_F_RING_RESET\n");
		return close_target(&t, 0);
	}
	for (uint64_t i = 0; i < t.rounds && !status; i++) {
		load(&t, i);
		delay_us(i % 16 * 10);
		status = reset_queue(&t) || revive_queue(&t, i & 1);
	}
	if (!status)
		print("queue-reset: %lu resets with requests in flight: ok\n", t.rounds);
	return close_target(&t, status);
}

/* Whether the device takes exactly these features for good. */
static bool accepts(const struct virtio_device *device, uint64_t features)
{
	const uint32_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;

	if (virtio_reset(device))
		return true;
	virtio_write(device, VIRTIO_STATUS, STATUS_ACKNOWLEDGE);
	virtio_write(device, VIRTIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	virtio_write(device, VIRTIO_DRIVER_SELECT, 1);
	virtio_write(device, VIRTIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	virtio_write(device, VIRTIO_DRIVER_SELECT, 0);
	virtio_write(device, VIRTIO_DRIVER_FEATURES, (uint32_t)features);
	virtio_write(device, VIRTIO_STATUS, status);
	return virtio_read(device, VIRTIO_STATUS) & STATUS_FEATURES_OK;
}

/* Every bit that the device does not offer is refused, and so is a driver without VERSION_1. */
static int refuse_wrong(const struct virtio_device *device)
{
	uint64_t offered = virtio_offered(device);

	if (!accepts(device, offered & FEATURE_VERSION_1))
		return fail("VERSION_1 alone", "FEATURES_OK", "refusal");
	if (accepts(device, 0) || accepts(device, offered & ~FEATURE_VERSION_1))
		return fail("features without VERSION_1", "refusal", "FEATURES_OK");
	for (unsigned bit = 0; bit < 64; bit++) {
		if (!(offered >> bit & 1) && accepts(device, FEATURE_VERSION_1 | 1ull << bit))
			return fail_number("refusal of feature", bit, 64);
	}
	return accepts(device, ~0ull) ? fail("all features", "refusal", "FEATURES_OK") : 0;
}

int command_features_wrong(const char *value)
{
	struct virtio_device device;
	int status = 0;
	unsigned n = 0;

	(void)value;
	for (; virtio_find(&device, 0, n) && !status; n++) {
		status = refuse_wrong(&device);
		if (virtio_reset(&device))
			status = fail("status after a reset", "0", "not 0");
	}
	if (!n)
		return fail("virtio devices", "some", "none");
	if (!status)
		print("features-wrong: %u devices: ok\n", n);
	return status;
}
