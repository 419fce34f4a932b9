// SPDX-License-Identifier: Apache-2.0
//
// The host's side of the comparison: the guest's measuring kernels (guest/measure.h) compiled once
// more, and the loads of guest/blk_load.c done as a program on the host does them best: io_uring
// with registered file and buffers, reaping and submitting in one system call. Prints the guest's
// rows.
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest/measure.h"
#include "guest/pattern.h"

#define HUGE_PAGE    (2ul << 20)
#define DEPTH_MAX    128u
#define SAMPLES      8192u // the last ones
#define MIN_REQUESTS 16u
#define LOAD_NS      400000000ull
#define REAPED_MAX   64u

// The kinds of guest/blk_load.c.
struct kind {
	const char *name;
	bool write, random;
	unsigned bytes;
};

static const struct kind kinds[] = {
	{"read4k", false, true, 4096},
	{"write4k", true, true, 4096},
	{"read1m", false, false, 1u << 20},
	{"write1m", true, false, 1u << 20},
};

struct load {
	const struct kind *kind;
	unsigned depth;
	struct io_uring ring;
	char *buffers;
	uint64_t places, next;
	uint64_t submitted, done, calls;
	unsigned free[DEPTH_MAX], free_count; // buffers without a request
	uint64_t started[DEPTH_MAX];
	uint32_t samples[SAMPLES];
	uint64_t random;
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void row(const char *key, double value, const char *unit)
{
	printf("%-31s %12.3f %s\n", key, value, unit);
}

static int fail(const char *what, int code)
{
	fprintf(stderr, "bench-native: %s: %s\n", what, strerror(code));
	return 1;
}

// Memory in transparent huge pages, like a guest's, all of it touched.
static char *huge_pages(size_t bytes)
{
	size_t rounded = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	char *memory = aligned_alloc(HUGE_PAGE, rounded);

	if (!memory)
		return NULL;
	madvise(memory, rounded, MADV_HUGEPAGE);
	pattern_fill(memory, 1, 0, rounded);
	return memory;
}

static int measure_cpu(void)
{
	struct measure_job job = {.run = measure_run_cpu, .steps = MEASURE_CPU_ITERATIONS};

	row("cpu.loop", measure_best_ns(&job, now_ns) / MEASURE_CPU_ITERATIONS, "ns/iteration");
	return 0;
}

static void bandwidth(
	const char *key, void (*run)(struct measure_job *job), char *buffer, size_t bytes)
{
	struct measure_job job = {.run = run, .buffer = buffer, .bytes = bytes};

	row(key, MEASURE_BANDWIDTH_BYTES / 1048576.0 * 1e9 / measure_best_ns(&job, now_ns),
		"MiB/s");
}

static void latency(const char *key, char *buffer, size_t bytes, uint64_t steps)
{
	struct measure_job job = {.run = measure_run_chase, .node = buffer, .steps = steps};

	measure_chase_link(buffer, bytes);
	row(key, measure_best_ns(&job, now_ns) / (double)steps, "ns/load");
}

// `available` is what the guest finds: its buffer is made from that, and so must this one be.
static int measure_memory(uint64_t available)
{
	size_t bytes = measure_buffer_bytes(available);
	char *buffer = huge_pages(bytes);

	if (!buffer)
		return fail("memory", ENOMEM);
	bandwidth("mem.write", measure_run_write, buffer, bytes);
	bandwidth("mem.read", measure_run_read, buffer, bytes);
	bandwidth("mem.copy", measure_run_copy, buffer, bytes);
	latency("mem.latency", buffer, bytes, MEASURE_CHASE_STEPS);
	latency("mem.latency.cached", buffer, MEASURE_CACHED_BYTES, MEASURE_CACHED_STEPS);
	free(buffer);
	return 0;
}

static uint64_t random_below(struct load *load, uint64_t limit)
{
	load->random ^= load->random << 13;
	load->random ^= load->random >> 7;
	load->random ^= load->random << 17;
	return load->random % limit;
}

static void prepare(struct load *load)
{
	const struct kind *kind = load->kind;

	while (load->free_count) {
		uint64_t place = kind->random ? random_below(load, load->places)
					      : load->next++ % load->places;
		unsigned buffer = load->free[--load->free_count];
		char *data = load->buffers + (size_t)buffer * kind->bytes;
		struct io_uring_sqe *sqe = io_uring_get_sqe(&load->ring);

		if (kind->write)
			io_uring_prep_write_fixed(
				sqe, 0, data, kind->bytes, place * kind->bytes, 0);
		else
			io_uring_prep_read_fixed(sqe, 0, data, kind->bytes, place * kind->bytes, 0);
		sqe->flags |= IOSQE_FIXED_FILE;
		io_uring_sqe_set_data64(sqe, buffer);
		load->started[buffer] = now_ns();
		load->submitted++;
	}
}

// One system call: what is prepared goes, and at least one request comes back.
static int reap(struct load *load)
{
	struct io_uring_cqe *cqes[REAPED_MAX];
	int code = io_uring_submit_and_wait(&load->ring, 1);

	if (code < 0)
		return fail("io_uring_enter", -code);
	unsigned count = io_uring_peek_batch_cqe(&load->ring, cqes, REAPED_MAX);
	uint64_t now = now_ns();
	load->calls++;
	for (unsigned i = 0; i < count; i++) {
		unsigned buffer = (unsigned)cqes[i]->user_data;

		if (cqes[i]->res != (int)load->kind->bytes)
			return fail("a request", cqes[i]->res < 0 ? -cqes[i]->res : EIO);
		load->samples[load->done++ % SAMPLES] = (uint32_t)(now - load->started[buffer]);
		load->free[load->free_count++] = buffer;
	}
	io_uring_cq_advance(&load->ring, count);
	return 0;
}

static int compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void report_load(struct load *load, uint64_t count, double seconds, double busy)
{
	unsigned kept = count < SAMPLES ? (unsigned)count : SAMPLES;
	char key[48];
	int head = snprintf(key, sizeof(key), "blk.%s.qd%u.", load->kind->name, load->depth);

	qsort(load->samples, kept, sizeof(load->samples[0]), compare_samples);
	strcpy(key + head, "p50");
	row(key, load->samples[kept / 2] / 1e3, "us");
	strcpy(key + head, "p99");
	row(key, load->samples[kept - 1 - kept / 100] / 1e3, "us");
	strcpy(key + head, "iops");
	row(key, (double)count / seconds, "IOPS");
	strcpy(key + head, "rate");
	row(key, (double)count / seconds * load->kind->bytes / 1048576, "MiB/s");
	strcpy(key + head, "cpu");
	row(key, busy * 1e6 / (double)count, "us/IO");
	strcpy(key + head, "busy");
	row(key, busy / seconds, "CPUs");
	strcpy(key + head, "interrupted");
	row(key, (double)load->calls / (double)count, "/IO");
}

static int run_load(struct load *load)
{
	uint64_t start = now_ns(), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

	for (unsigned i = 0; i < load->depth; i++)
		load->free[load->free_count++] = i;
	while (load->done < MIN_REQUESTS || now_ns() < start + LOAD_NS) {
		prepare(load);
		if (reap(load))
			return 1;
	}
	report_load(load, load->done, (double)(now_ns() - start) / 1e9,
		(double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e9);
	while (load->done < load->submitted) {
		if (reap(load))
			return 1;
	}
	return 0;
}

static int open_ring(struct load *load, int fd)
{
	struct iovec memory = {load->buffers, (size_t)load->depth * load->kind->bytes};
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
	int code = io_uring_queue_init_params(DEPTH_MAX, &load->ring, &params);

	if (code < 0)
		return fail("io_uring", -code);
	code = io_uring_register_files(&load->ring, &fd, 1);
	if (code == 0)
		code = io_uring_register_buffers(&load->ring, &memory, 1);
	if (code == 0)
		return 0;
	io_uring_queue_exit(&load->ring);
	return fail("registering file and buffers", -code);
}

static int measure_disk(const char *path, const struct kind *kind, unsigned depth)
{
	static struct load load;
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END); // of a file or a block device

	if (size < 0)
		return fail(path, errno);
	load = (struct load){.kind = kind, .depth = depth, .random = 0x2545f4914f6cdd1d};
	load.places = (uint64_t)size / kind->bytes;
	load.buffers = huge_pages((size_t)depth * kind->bytes);
	if (!load.places || !load.buffers)
		return fail(path, load.places ? ENOMEM : EINVAL);
	int result = open_ring(&load, fd);
	if (result == 0) {
		result = run_load(&load);
		io_uring_queue_exit(&load.ring);
	}
	free(load.buffers);
	close(fd);
	return result;
}

static int run_disk(int argc, char **argv)
{
	const struct kind *kind = NULL;
	unsigned depth = argc == 5 ? (unsigned)strtoul(argv[4], NULL, 10) : 0;

	for (unsigned i = 0; argc == 5 && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(argv[3], kinds[i].name) == 0)
			kind = &kinds[i];
	}
	if (!kind || depth == 0 || depth > DEPTH_MAX)
		return -1;
	return measure_disk(argv[2], kind, depth);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int result = -1;

	if (strcmp(what, "exit") == 0 && argc == 2)
		return 0;
	if (strcmp(what, "cpu") == 0 && argc == 2)
		result = measure_cpu();
	else if (strcmp(what, "mem") == 0 && argc == 3)
		result = measure_memory(strtoull(argv[2], NULL, 10));
	else if (strcmp(what, "blk") == 0)
		result = run_disk(argc, argv);
	if (result >= 0)
		return result;
	fprintf(stderr, "usage: bench-native exit|cpu|mem BYTES|blk FILE KIND DEPTH\n"
			"  KIND: read4k, write4k, read1m, write1m\n");
	return 2;
}
