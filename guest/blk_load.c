// SPDX-License-Identifier: Apache-2.0
/*
 * A disk under load: requests of one kind, as many in flight as asked for, their times, and what
 * they took of notifications and interrupts. bench/native.c does the same on the host, step by
 * step.
 */
#include "blk.h"
#include "pattern.h"
#include "print.h"
#include "report.h"
#include "ring0.h"

#define SAMPLES      8192 /* times kept: the last ones */
#define MIN_REQUESTS 16 /* however slow they are */
#define LOAD_NS      400000000ull
#define COUNTED_NS   10000000000ull

/* A run of a load. */
struct run {
	struct blk *blk;
	const struct blk_load *load;
	char *buffers;
	uint64_t places, next; /* of the disk, in requests; the next one in order */
	uint64_t submitted, done;
	uint32_t *samples;
};

static uint64_t random_state = 0x2545f4914f6cdd1d;

static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % limit;
}

/* Shell sort: short, and quick enough for a few thousand. */
static void sort_samples(uint32_t *samples, unsigned count)
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

static void submit(struct run *run)
{
	const struct blk_load *load = run->load;
	int slot;

	while (run->submitted < load->count && run->submitted - run->done < load->depth) {
		uint64_t place =
			load->random ? random_below(run->places) : run->next++ % run->places;

		slot = blk_next_slot(run->blk);
		if (slot < 0)
			break;
		blk_submit(run->blk, load->type, place * (load->bytes / BLK_SECTOR),
			run->buffers + (size_t)slot * load->bytes, load->bytes);
		run->submitted++;
	}
	blk_kick(run->blk);
}

static int complete(struct run *run)
{
	int slot = blk_complete(run->blk);

	if (slot < 0)
		return 1;
	run->samples[run->done++ % SAMPLES] =
		(uint32_t)ticks_to_ns(rdtsc() - run->blk->started[slot]);
	if (run->blk->slots[slot].status == BLK_STATUS_OK)
		return 0;
	return fail_number(
		"status of a request under load", BLK_STATUS_OK, run->blk->slots[slot].status);
}

static int complete_all(struct run *run)
{
	const struct virtio_queue *queue = &run->blk->queue;

	do {
		if (complete(run))
			return 1;
	} while (queue->used->index != queue->used_index);
	return 0;
}

static int keep_loaded(struct run *run)
{
	uint64_t end = rdtsc() + ns_to_ticks(run->load->ns);

	while (run->done < run->load->count && (run->done < MIN_REQUESTS || rdtsc() < end)) {
		submit(run);
		if (complete_all(run))
			return 1;
	}
	return 0;
}

static uint64_t interrupts_so_far(const struct blk *blk)
{
	return blk->irq < 0 ? 0 : irq_counts[blk->irq];
}

static int run_and_count(struct run *run, struct blk_result *result)
{
	uint64_t notifications = run->blk->notifications;
	uint64_t interrupts = interrupts_so_far(run->blk);
	uint64_t start = rdtsc();
	unsigned kept;

	if (keep_loaded(run))
		return 1;
	result->ns = ticks_to_ns(rdtsc() - start);
	result->count = run->done;
	result->notifications = run->blk->notifications - notifications;
	result->interrupts = interrupts_so_far(run->blk) - interrupts;
	kept = run->done < SAMPLES ? (unsigned)run->done : SAMPLES;
	sort_samples(run->samples, kept);
	result->p50 = run->samples[kept / 2];
	result->p99 = run->samples[kept - 1 - kept / 100];
	while (run->done < run->submitted) {
		if (complete(run))
			return 1;
	}
	return 0;
}

int blk_load_run(
	struct blk *blk, const struct blk_load *load, char *buffers, struct blk_result *result)
{
	uint64_t mark = machine_mark();
	struct run run = {.blk = blk, .load = load, .buffers = buffers};
	int failures;

	run.places = load->bytes < BLK_SECTOR ? 1 : blk->sectors / (load->bytes / BLK_SECTOR);
	run.samples = machine_alloc(SAMPLES * sizeof(*run.samples), 4096);
	if (!run.places || !run.samples)
		return fail("room for a load", "a request and 32 KiB", "less");
	failures = run_and_count(&run, result);
	machine_release(mark);
	return failures;
}

/* What KIND says. */
struct kind {
	const char *name;
	uint32_t type, bytes;
	bool random;
};

static const struct kind kinds[] = {
	{"read4k,", BLK_READ, 4096, true}, {"write4k,", BLK_WRITE, 4096, true},
	{"read1m,", BLK_READ, 1u << 20, false}, {"write1m,", BLK_WRITE, 1u << 20, false},
	{"id,", BLK_GET_ID, BLK_ID_BYTES, true}, /* the device's serial number: no disk is read */
};

/* What follows `prefix` in `text`, or NULL. */
static const char *after(const char *text, const char *prefix)
{
	while (*prefix) {
		if (*text++ != *prefix++)
			return NULL;
	}
	return text;
}

/* KIND,DEPTH,MODE[,COUNT] */
static const struct kind *parse_load(const char *text, struct blk_load *load, bool *interrupts)
{
	const struct kind *kind = NULL;
	const char *rest = NULL;
	uint64_t depth;

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && !rest; i++) {
		kind = &kinds[i];
		rest = after(text, kind->name);
	}
	if (!rest || !parse_number(&rest, &depth) || !depth || depth > BLK_SLOTS)
		return NULL;
	*load = (struct blk_load){
		kind->type, kind->bytes, kind->random, (unsigned)depth, ~0ull, LOAD_NS};
	*interrupts = after(rest, ",irq");
	text = after(rest, *interrupts ? ",irq" : ",poll");
	if (!text || !*text)
		return text ? kind : NULL;
	load->ns = COUNTED_NS;
	return *text++ == ',' && parse_number(&text, &load->count) && load->count ? kind : NULL;
}

/* The head of a row's key: what was loaded how. */
struct series {
	char kind[8];
	unsigned depth;
	const char *mode;
};

static void row(const struct series *s, const char *figure, uint64_t thousandths, unsigned digits,
	const char *unit, enum report_better better)
{
	char key[48];

	format_text(key, sizeof(key), "blk.%s.qd%u.%s.%s", s->kind, s->depth, s->mode, figure);
	report_row(key, thousandths, digits, unit, better);
}

static void report_load(
	const struct series *s, const struct blk_load *load, const struct blk_result *r)
{
	row(s, "p50", r->p50, 1, "us", LOWER_IS_BETTER);
	row(s, "p99", r->p99, 1, "us", LOWER_IS_BETTER);
	row(s, "iops", r->count * 1000000000000 / r->ns, 0, "IOPS", HIGHER_IS_BETTER);
	if (!load->random)
		row(s, "rate", r->count * 1000000000000 / r->ns * load->bytes >> 20, 0, "MiB/s",
			HIGHER_IS_BETTER);
	row(s, "took", r->ns, 0, "us", LOWER_IS_BETTER);
	row(s, "notified", r->notifications * 1000 / r->count, 3, "/IO", LOWER_IS_BETTER);
	row(s, "interrupted", r->interrupts * 1000 / r->count, 3, "/IO", LOWER_IS_BETTER);
}

static int load_disk(struct blk *blk, const struct kind *kind, const struct blk_load *load,
	bool interrupts, char *buffers)
{
	struct series series = {.depth = load->depth, .mode = interrupts ? "irq" : "poll"};
	struct blk_result result;

	if (blk->request_bytes < load->bytes)
		return fail_number(
			"bytes that a request may carry", load->bytes, blk->request_bytes);
	if (load->type == BLK_WRITE && blk->read_only)
		return fail("disk to write", "a writable one", "a read-only one");
	if (blk_use_interrupts(blk, interrupts) || blk_load_run(blk, load, buffers, &result))
		return 1;
	format_text(series.kind, text_length(kind->name), "%s", kind->name); /* not the comma */
	report_load(&series, load, &result);
	return 0;
}

int blk_command_load(const char *value)
{
	uint64_t mark = machine_mark();
	const struct kind *kind;
	struct blk_load load;
	struct blk blk = {0};
	bool interrupts;
	char *buffers;
	int failures;

	kind = parse_load(value, &load, &interrupts);
	if (!kind)
		return fail("blk-load=", "read4k|write4k|read1m|write1m|id,DEPTH,poll|irq[,COUNT]",
			value);
	if (!blk_find(&blk))
		return fail("disk", "one", "none");
	if (blk_start(&blk))
		return 1;
	buffers = machine_alloc((size_t)load.depth * load.bytes, 0x200000);
	if (!buffers)
		return fail("memory for disk buffers", "DEPTH of them", "less");
	pattern_fill(buffers, 1, 0, (size_t)load.depth * load.bytes);
	failures = load_disk(&blk, kind, &load, interrupts, buffers);
	if (virtio_reset(&blk.device))
		failures = fail("disk's status after a reset", "0", "not 0");
	machine_release(mark);
	return failures;
}
