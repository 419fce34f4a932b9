// SPDX-License-Identifier: Apache-2.0
/*
 * The CPU and memory parts of the report, how any row is printed, and what all of them say.
 */
#include "report.h"

#include "machine.h"
#include "measure.h"
#include "print.h"
#include "ring0.h"

#define HUGE_PAGE 0x200000
#define FIGURE_NS 500000000ull /* no further round after this long, on a slow machine */

/* The figures that the end of the report is made of, in thousandths; 0 where there is none. */
enum kept { CPU, WRITE, READ, COPY, DISK_MANY, DISK_POLL, DISK_IRQ, KEPT };
static struct {
	const char *key;
	uint64_t value, native, ratio;
} kept[KEPT] = {
	[CPU] = {.key = "cpu.loop"},
	[WRITE] = {.key = "mem.write"},
	[READ] = {.key = "mem.read"},
	[COPY] = {.key = "mem.copy"},
	[DISK_MANY] = {.key = "blk.read4k.qd32.poll.iops"},
	[DISK_POLL] = {.key = "blk.read4k.qd1.poll.p50"},
	[DISK_IRQ] = {.key = "blk.read4k.qd1.irq.p50"},
};

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

static void keep(const char *key, uint64_t value, uint64_t native, uint64_t ratio)
{
	for (unsigned i = 0; i < KEPT; i++) {
		if (text_equal(kept[i].key, key)) {
			kept[i].value = value;
			kept[i].native = native;
			kept[i].ratio = ratio;
		}
	}
}

void report_row(const char *key, uint64_t thousandths, unsigned digits, const char *unit,
	enum report_better better)
{
	char text[DECIMAL_BYTES];
	uint64_t native = 0, ratio = 0;

	print("%-31s %9s %s", key, format_decimal(text, thousandths, digits), unit);
	if (native_value(key, &native) && native && thousandths) {
		ratio = better == LOWER_IS_BETTER ? native * 1000 / thousandths
						  : thousandths * 1000 / native;
		print("  native %s", format_decimal(text, native, digits));
		print("  ratio %s", format_decimal(text, ratio, 2));
	}
	print("\n");
	keep(key, thousandths, native, ratio);
}

/* What of the host's own speed the guest has, in what has a native figure. */
static void close_speed(void)
{
	char low_text[DECIMAL_BYTES], high_text[DECIMAL_BYTES], text[DECIMAL_BYTES];
	uint64_t low = kept[WRITE].ratio, high = low;

	if (!kept[CPU].ratio || !low)
		return;
	for (unsigned i = READ; i <= COPY; i++) {
		low = kept[i].ratio < low ? kept[i].ratio : low;
		high = kept[i].ratio > high ? kept[i].ratio : high;
	}
	print("Near native: the CPU loop has %s of the host's own speed, memory bandwidth %s to %s",
		format_decimal(text, kept[CPU].ratio, 2), format_decimal(low_text, low, 2),
		format_decimal(high_text, high, 2));
	if (kept[DISK_MANY].ratio)
		print(",\nthe disk with 32 reads in flight and a polling guest %s",
			format_decimal(text, kept[DISK_MANY].ratio, 2));
	print(".\n");
}

static const char *price_reason(void)
{
	const char *kvm = machine_word("kvm");

	if (!kvm)
		return "";
	if (text_equal(kvm, "software"))
		return "KVM is software here, without VT-x or AMD-V, and emulates the guest's\n"
		       "ring 0, where interrupts arrive, one instruction at a time.\n";
	return "A guest that sleeps has left the CPU to the host, which must wake it and enter\n"
	       "it again by hardware virtualization.\n";
}

/* Of one read at a time: polling and by interrupt differ by the interrupt and the wake-up alone. */
static void close_interrupt(void)
{
	uint64_t poll = kept[DISK_POLL].value, irq = kept[DISK_IRQ].value;
	uint64_t native = kept[DISK_POLL].native;
	char text[DECIMAL_BYTES];

	if (!poll || !irq) {
		print("What an interrupt costs was not measured: that takes a disk.\n");
		return;
	}
	if (irq <= poll) {
		print("An interrupt costs nothing that a single read shows.\n");
		return;
	}
	print("An interrupt costs: it and the guest's wake-up add %s us to a single read",
		format_decimal(text, irq - poll, 1));
	if (native)
		print(", which takes the host %s us", format_decimal(text, native, 1));
	print(".\n%s", price_reason());
}

void report_close(void)
{
	print("\n");
	close_speed();
	close_interrupt();
	print("Read on: guest/README.md has each row, docs/datapath.md what bounds it, and\n"
	      "'veneer doctor' says what of this host costs guests speed.\n");
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

	print("CPU: a loop of dependent instructions\n");
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
	print("Memory: bandwidth and latency of a load, %lu KiB in 2 MiB pages (cached: %u KiB)\n",
		bytes >> 10, MEASURE_CACHED_BYTES >> 10);
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
