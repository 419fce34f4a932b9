// SPDX-License-Identifier: Apache-2.0
/*
 * The disk's part of the report: latency and rate of small reads, polling and by interrupt, one
 * and 32 at a time; large reads; and a test that writes, reads back and restores.
 */
#include "blk.h"
#include "pattern.h"
#include "print.h"
#include "report.h"
#include "ring0.h"

#define READ_BYTES           4096
#define SAMPLES              2000
#define MIN_SAMPLES          16
#define PHASE_NS             400000000ull
#define SEQUENTIAL_IN_FLIGHT 4
#define SEQUENTIAL_MAX       64 /* requests */
#define VERIFY_BYTES         (64u << 10)

static uint32_t samples[SAMPLES];

static uint64_t random_state = 0x2545f4914f6cdd1d;

static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % limit;
}

/* Shell sort: short, and quick enough for a few thousand. */
static void sort_samples(unsigned count)
{
	for (unsigned gap = count / 2; gap; gap /= 2) {
		for (unsigned i = gap; i < count; i++) {
			uint32_t value = samples[i];
			unsigned j = i;

			for (; j >= gap && samples[j - gap] > value; j -= gap)
				samples[j] = samples[j - gap];
			samples[j] = value;
		}
	}
}

static int submit_random(struct blk *blk, char *buffer, uint64_t blocks)
{
	uint64_t block = random_below(blocks);
	int next = __builtin_ctz(blk->free);

	return blk_submit(blk, BLK_READ, block * (READ_BYTES / BLK_SECTOR),
		buffer + next * READ_BYTES, READ_BYTES);
}

/* Takes one completion into samples[count]. */
static int take_sample(struct blk *blk, unsigned count)
{
	int slot = blk_complete(blk);

	if (slot < 0)
		return 1;
	samples[count] = (uint32_t)ticks_to_ns(rdtsc() - blk->started[slot]);
	if (blk->slots[slot].status != BLK_STATUS_OK)
		return fail_number(
			"status of a 4 KiB read", BLK_STATUS_OK, blk->slots[slot].status);
	return 0;
}

/* A series of reads: what it is called, and what was counted when it began. */
struct series {
	const char *mode;
	unsigned depth;
	uint64_t start, notifications, interrupts;
};

static uint64_t interrupts_so_far(const struct blk *blk)
{
	return blk->irq < 0 ? 0 : irq_counts[blk->irq];
}

static void series_row(const struct series *s, const char *figure, uint64_t thousandths,
	unsigned digits, const char *unit, enum report_better better)
{
	char key[48];

	format_text(key, sizeof(key), "blk.read4k.qd%u.%s.%s", s->depth, s->mode, figure);
	report_row(key, thousandths, digits, unit, better);
}

static void report_reads(const struct series *s, const struct blk *blk, unsigned count)
{
	uint64_t ns = ticks_to_ns(rdtsc() - s->start);
	uint64_t interrupts = interrupts_so_far(blk) - s->interrupts;
	uint64_t notifications = blk->notifications - s->notifications;

	sort_samples(count);
	series_row(s, "p50", samples[count / 2], 1, "us", LOWER_IS_BETTER);
	series_row(s, "p99", samples[count - 1 - count / 100], 1, "us", LOWER_IS_BETTER);
	series_row(s, "iops", count * 1000000000000ull / ns, 0, "IOPS", HIGHER_IS_BETTER);
	series_row(s, "notified", notifications * 1000 / count, 3, "/IO", LOWER_IS_BETTER);
	if (blk->interrupts)
		series_row(s, "interrupted", interrupts * 1000 / count, 3, "/IO", LOWER_IS_BETTER);
}

/* Keeps `depth` random reads in flight until there are samples enough. */
static int measure_reads(struct blk *blk, char *buffer, const char *mode, unsigned depth)
{
	const struct series series = {
		mode, depth, rdtsc(), blk->notifications, interrupts_so_far(blk)};
	uint64_t blocks = blk->sectors / (READ_BYTES / BLK_SECTOR);
	uint64_t end = series.start + ns_to_ticks(PHASE_NS);
	unsigned count = 0, in_flight = 0;

	while (count < SAMPLES && (count < MIN_SAMPLES || rdtsc() < end)) {
		while (in_flight < depth && submit_random(blk, buffer, blocks) >= 0)
			in_flight++;
		blk_kick(blk);
		if (take_sample(blk, count))
			return 1;
		count++;
		in_flight--;
		while (count < SAMPLES && blk->queue.used->index != blk->queue.used_index) {
			if (take_sample(blk, count))
				return 1;
			count++;
			in_flight--;
		}
	}
	report_reads(&series, blk, count);
	for (; in_flight; in_flight--) {
		if (blk_complete(blk) < 0)
			return 1;
	}
	return 0;
}

/* 1 MiB at a time (less if the device takes less), in order, a few in flight. */
static int measure_sequential(struct blk *blk, char *buffer)
{
	uint64_t each = blk->request_bytes / BLK_SECTOR, total = blk->sectors / each;
	uint64_t submitted = 0, done = 0, start, end;

	if (total > SEQUENTIAL_MAX)
		total = SEQUENTIAL_MAX;
	start = rdtsc();
	end = start + 2 * ns_to_ticks(PHASE_NS);
	while (done < total) {
		int slot;

		for (; submitted < total && submitted - done < SEQUENTIAL_IN_FLIGHT; submitted++) {
			if (blk_submit(blk, BLK_READ, submitted * each,
				    buffer + submitted % SEQUENTIAL_IN_FLIGHT * blk->request_bytes,
				    blk->request_bytes) < 0)
				break;
		}
		blk_kick(blk);
		slot = blk_complete(blk);
		if (slot < 0)
			return 1;
		if (blk->slots[slot].status != BLK_STATUS_OK)
			return fail_number(
				"status of a sequential read", 0, blk->slots[slot].status);
		done++;
		if (rdtsc() > end)
			total = submitted;
	}
	if (done)
		report_row("blk.read1m",
			((done * blk->request_bytes) >> 10) * 1000000000 /
				ticks_to_ns(rdtsc() - start) * 1000 / 1024,
			0, "MiB/s", HIGHER_IS_BETTER);
	return 0;
}

static int expect_ok(const char *what, uint8_t status)
{
	return status == BLK_STATUS_OK ? 0 : fail_number(what, BLK_STATUS_OK, status);
}

static int flush(struct blk *blk)
{
	if (!(blk->device.features & BLK_FEATURE_FLUSH))
		return 0;
	return expect_ok("status of a flush", blk_do(blk, BLK_FLUSH, 0, NULL, 0));
}

/* Writes a pattern at `sector` and reads it back; puts the original back whatever happened. */
static int verify_at(struct blk *blk, uint64_t sector, uint32_t bytes, char *saved, char *buffer)
{
	uint64_t seed = rdtsc();
	size_t wrong;
	int failures;

	if (expect_ok("status of a read", blk_do(blk, BLK_READ, sector, saved, bytes)))
		return 1;
	pattern_fill(buffer, seed, sector * BLK_SECTOR, bytes);
	failures = expect_ok("status of a write", blk_do(blk, BLK_WRITE, sector, buffer, bytes));
	failures |= flush(blk);
	memset(buffer, 0, bytes);
	failures |= expect_ok("status of a read", blk_do(blk, BLK_READ, sector, buffer, bytes));
	wrong = pattern_mismatch(buffer, seed, sector * BLK_SECTOR, bytes);
	if (!failures && wrong < bytes)
		failures |= fail_number("first byte that differs after a write, at",
			sector * BLK_SECTOR + bytes, sector * BLK_SECTOR + wrong);
	failures |= expect_ok("status of a write", blk_do(blk, BLK_WRITE, sector, saved, bytes));
	return failures | flush(blk);
}

static int verify(struct blk *blk, char *buffer)
{
	uint32_t bytes = VERIFY_BYTES;
	uint64_t each, places[3];

	if (blk->read_only) {
		print("%-31s skipped: the disk is read-only\n", "blk.verify");
		return 0;
	}
	while (bytes / BLK_SECTOR > blk->sectors)
		bytes /= 2;
	each = bytes / BLK_SECTOR;
	places[0] = 0;
	places[1] = (blk->sectors - each) / 2;
	places[2] = blk->sectors - each;
	for (unsigned i = 0; i < 3; i++) {
		if (verify_at(blk, places[i], bytes, buffer, buffer + VERIFY_BYTES))
			return 1;
	}
	print("%-31s ok: 3 x %u KiB written, read back, restored\n", "blk.verify", bytes >> 10);
	return 0;
}

static int measure_modes(struct blk *blk, char *buffer)
{
	for (int interrupts = 0; interrupts < 2; interrupts++) {
		const char *mode = interrupts ? "irq" : "poll";

		if (blk_use_interrupts(blk, interrupts) || measure_reads(blk, buffer, mode, 1) ||
			measure_reads(blk, buffer, mode, BLK_SLOTS))
			return 1;
	}
	return blk_use_interrupts(blk, false);
}

int report_blk(void)
{
	uint64_t mark = machine_mark();
	struct blk blk = {0};
	int failures;
	char *buffer;

	if (!blk_find(&blk)) {
		print("blk: no disk\n");
		return 0;
	}
	if (blk_start(&blk))
		return 1;
	buffer = machine_alloc((size_t)SEQUENTIAL_IN_FLIGHT << 20, 0x200000);
	if (!buffer)
		return fail("memory for disk buffers", "4 MiB", "less");
	print("blk: %lu MiB, %lu sectors, %s\n", blk.sectors >> 11, blk.sectors,
		blk.read_only ? "read-only" : "writable");
	memset(buffer, 0, (size_t)SEQUENTIAL_IN_FLIGHT << 20);
	if (blk.sectors < READ_BYTES / BLK_SECTOR) {
		print("blk: too small to measure\n");
		failures = 0;
	} else {
		failures = measure_modes(&blk, buffer) || measure_sequential(&blk, buffer);
	}
	if (!failures && blk.sectors)
		failures = verify(&blk, buffer);
	virtio_reset(&blk.device);
	machine_release(mark);
	return failures;
}
