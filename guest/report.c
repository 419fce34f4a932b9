// SPDX-License-Identifier: Apache-2.0
/*
 * The CPU and memory parts of the report, and how any row is printed.
 */
#include "report.h"

#include "machine.h"
#include "measure.h"
#include "print.h"
#include "ring0.h"

#define HUGE_PAGE 0x200000
#define FIGURE_NS 500000000ull /* no further round after this long, on a slow machine */

/* A decimal number with up to three decimals, in thousandths. */
static bool parse_thousandths(const char *s, uint64_t *value)
{
	uint64_t scale = 100;

	if (!parse_number(&s, value))
		return false;
	*value *= 1000;
	if (*s++ != '.')
		return true;
	for (; *s >= '0' && *s <= '9'; s++) {
		*value += (uint64_t)(*s - '0') * scale;
		scale /= 10;
	}
	return true;
}

/* Finds `key` in native=KEY:VALUE[,KEY:VALUE...]. */
static bool native_value(const char *key, uint64_t *value)
{
	const char *list = machine_word("native");

	while (list && *list) {
		const char *k = key;

		while (*k && *list == *k) {
			list++;
			k++;
		}
		if (!*k && *list == ':')
			return parse_thousandths(list + 1, value);
		while (*list && *list++ != ',')
			;
	}
	return false;
}

void report_row(const char *key, uint64_t thousandths, unsigned digits, const char *unit,
	enum report_better better)
{
	char text[DECIMAL_BYTES];
	uint64_t native;

	print("%-31s %9s %s", key, format_decimal(text, thousandths, digits), unit);
	if (native_value(key, &native) && native && thousandths) {
		uint64_t ratio = better == LOWER_IS_BETTER ? native * 1000 / thousandths
							   : thousandths * 1000 / native;

		print("  native %s", format_decimal(text, native, digits));
		print("  ratio %s", format_decimal(text, ratio, 2));
	}
	print("\n");
}

/* The shortest time of a round, in nanoseconds. */
static uint64_t best_round(struct measure_job *job)
{
	uint64_t best = ~0ull, end = rdtsc() + ns_to_ticks(FIGURE_NS);

	job->run(job);
	for (unsigned i = 0; i == 0 || (i < MEASURE_ROUNDS && rdtsc() < end); i++) {
		uint64_t start = rdtsc(), ticks;

		job->run(job);
		ticks = rdtsc() - start;
		if (ticks < best)
			best = ticks;
	}
	return ticks_to_ns(best);
}

int report_cpu(void)
{
	struct measure_job job = {.run = measure_run_cpu, .steps = MEASURE_CPU_ITERATIONS};

	report_row("cpu.loop", best_round(&job) * 1000 / MEASURE_CPU_ITERATIONS, 3, "ns/iteration",
		LOWER_IS_BETTER);
	return 0;
}

static void report_bandwidth(
	const char *key, void (*run)(struct measure_job *job), char *buffer, size_t bytes)
{
	struct measure_job job = {.run = run, .buffer = buffer, .bytes = bytes};
	uint64_t kib_per_second =
		(MEASURE_BANDWIDTH_BYTES >> 10) * 1000000000ull / best_round(&job);

	report_row(key, kib_per_second * 1000 / 1024, 0, "MiB/s", HIGHER_IS_BETTER);
}

static void report_latency(const char *key, char *buffer, size_t bytes, uint64_t steps)
{
	struct measure_job job = {.run = measure_run_chase, .node = buffer, .steps = steps};

	measure_chase_link(buffer, bytes);
	report_row(key, best_round(&job) * 1000 / steps, 3, "ns/load", LOWER_IS_BETTER);
}

/*
 * Writes its own address to a word in every gigabyte of RAM above 4 GiB and reads all of them back,
 * so that memory that is missing, or is there twice, shows.
 */
static int check_high_memory(void)
{
	const uint64_t step = 1ull << 30;
	int failures = 0;

	machine_map_high();
	for (int pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < machine.range_count; i++) {
			const struct machine_range *r = &machine.ranges[i];

			if (r->type != 1 || r->base < 1ull << 32)
				continue;
			for (uint64_t a = r->base; a < r->base + r->bytes && a < 1ull << 39;
				a += step) {
				volatile uint64_t *word = (volatile uint64_t *)(uintptr_t)a;

				if (pass == 0)
					*word = a;
				else if (*word != a)
					failures += fail_number("memory above 4 GiB", a, *word);
			}
		}
	}
	return failures;
}

int report_memory(void)
{
	uint64_t mark = machine_mark();
	size_t bytes = measure_buffer_bytes(machine_available());
	char *buffer = machine_alloc(bytes, HUGE_PAGE);
	int failures;

	if (!buffer || bytes < MEASURE_CACHED_BYTES)
		return fail("memory for the measures", "16 KiB", "less");
	print("memory: measured over %lu KiB in 2 MiB pages\n", bytes >> 10);
	memset(buffer, 0, bytes);
	report_bandwidth("mem.write", measure_run_write, buffer, bytes);
	report_bandwidth("mem.read", measure_run_read, buffer, bytes);
	report_bandwidth("mem.copy", measure_run_copy, buffer, bytes);
	report_latency("mem.latency", buffer, bytes, MEASURE_CHASE_STEPS);
	report_latency("mem.latency.cached", buffer, MEASURE_CACHED_BYTES, MEASURE_CACHED_STEPS);
	failures = check_high_memory();
	machine_release(mark);
	return failures;
}
