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
#define READS_AT_ONCE        32
#define PHASE_NS             400000000ull
#define SEQUENTIAL_IN_FLIGHT 4
#define SEQUENTIAL_MAX       64 /* requests */
#define VERIFY_BYTES         (64u << 10)

static void read_row(unsigned depth, const char *mode, const char *figure, uint64_t thousandths,
	unsigned digits, const char *unit, enum report_better better)
{
	char key[48];

	format_text(key, sizeof(key), "blk.read4k.qd%u.%s.%s", depth, mode, figure);
	report_row(key, thousandths, digits, unit, better);
}

static int measure_reads(struct blk *blk, char *buffer, const char *mode, unsigned depth)
{
	const struct blk_load load = {BLK_READ, READ_BYTES, true, depth, SAMPLES, PHASE_NS};
	struct blk_result r;

	print("Disk: random 4 KiB reads, %u in flight, %s\n", depth,
		blk->interrupts ? "by interrupt" : "guest polling");
	if (blk_load_run(blk, &load, buffer, &r))
		return 1;
	read_row(depth, mode, "p50", r.p50, 1, "us", LOWER_IS_BETTER);
	read_row(depth, mode, "p99", r.p99, 1, "us", LOWER_IS_BETTER);
	read_row(depth, mode, "iops", r.count * 1000000000000 / r.ns, 0, "IOPS", HIGHER_IS_BETTER);
	read_row(depth, mode, "notified", r.notifications * 1000 / r.count, 3, "/IO",
		LOWER_IS_BETTER);
	if (blk->interrupts)
		read_row(depth, mode, "interrupted", r.interrupts * 1000 / r.count, 3, "/IO",
			LOWER_IS_BETTER);
	return 0;
}

/* 1 MiB at a time (less if the device takes less), in order, a few in flight. */
static int measure_sequential(struct blk *blk, char *buffer)
{
	uint64_t total = blk->sectors / (blk->request_bytes / BLK_SECTOR);
	const struct blk_load load = {BLK_READ, blk->request_bytes, false, SEQUENTIAL_IN_FLIGHT,
		total < SEQUENTIAL_MAX ? total : SEQUENTIAL_MAX, 2 * PHASE_NS};
	struct blk_result r;

	if (!total)
		return 0;
	print("Disk: sequential reads of %u KiB, %u in flight, guest polling\n",
		blk->request_bytes >> 10, SEQUENTIAL_IN_FLIGHT);
	if (blk_load_run(blk, &load, buffer, &r))
		return 1;
	report_row("blk.read1m",
		(r.count * blk->request_bytes >> 10) * 1000000000 / r.ns * 1000 / 1024, 0, "MiB/s",
		HIGHER_IS_BETTER);
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
			measure_reads(blk, buffer, mode, READS_AT_ONCE))
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
