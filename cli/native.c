// SPDX-License-Identifier: Apache-2.0
//
// The host's own figures: the guest's measuring kernels (guest/measure.h) on the kind of pages that
// the guest gets, and reads of the disk's file with io_uring, as a program on the host would do
// them. Sizes, counts and the order of steps are those of the guest, so that the ratio of two
// figures says what the virtual machine costs and nothing else.
#include "cli/native.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>
#include <linux/mman.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file_size.h"
#include "base/macros.h"
#include "base/option_limits.h"
#include "base/words.h"
#include "cli/doctor.h"
#include "guest/measure.h"
#include "guest/words.h"

#define PART_CPU    1u
#define PART_MEMORY 2u
#define PART_DISK   4u

#define READ_BYTES      4096u
#define SAMPLES         2000u
#define MIN_SAMPLES     16u
#define PHASE_NS        (400 * NS_PER_MS)
#define DEPTH_MAX       32u
#define LARGE_BYTES     MIB
#define LARGE_IN_FLIGHT 4u
#define LARGE_MAX       64u
#define WARM_MAX        (256 * MIB) // of the file read ahead where the page cache is used

// The guest and its tables lie below this; the rest is its to measure.
#define GUEST_OVERHEAD (4 * MIB)

// The line being made; grows as needed.
struct text {
	FILE *stream;
	char *data;
	size_t size;
	bool any; // a figure was added
};

static void add(struct text *text, const char *key, double value)
{
	fprintf(text->stream, "%s%s:%.3f", text->any ? "," : "native=", key, value);
	text->any = true;
}

static bool is_whole_report(const char *cmdline)
{
	char word[8];

	return !words_next(cmdline, word, sizeof(word));
}

// Which parts of the report the guest's words ask for; no word at all asks for everything.
static unsigned parts_of(const char *cmdline)
{
	static const char *const names[] = {"cpu", "mem", "blk"};
	unsigned parts = 0;
	char word[8];
	const char *rest = words_next(cmdline, word, sizeof(word));

	if (!rest)
		return PART_CPU | PART_MEMORY | PART_DISK;
	for (; rest; rest = words_next(rest, word, sizeof(word))) {
		for (unsigned i = 0; i < 3; i++) {
			if (strcmp(word, names[i]) == 0)
				parts |= 1u << i;
		}
	}
	return parts;
}

// Why an interrupt costs what it does, for the end of the report.
static void add_kvm_kind(struct text *text)
{
	const char *kind = doctor_kvm_kind("");

	if (!kind)
		return;
	fprintf(text->stream, "%skvm=%s", text->any ? " " : "", kind);
	text->any = true;
}

static void measure_cpu(struct text *text)
{
	struct measure_job job = {.run = measure_run_cpu, .steps = MEASURE_CPU_ITERATIONS};

	add(text, "cpu.loop", measure_best_ns(&job, vn_clock_ns) / MEASURE_CPU_ITERATIONS);
}

// The memory that the guest measures.
struct measured {
	uint64_t size, hugepage_size;
	int node; // -1: any
};

// Pages like the guest's: from the same reserve, or transparent, which are aligned by hand; on the
// same node. *mapped is what to unmap. NULL when there are none to spare.
static char *map_like_guest(
	const struct measured *memory, size_t bytes, void **mapped, size_t *mapped_bytes)
{
	size_t page = memory->hugepage_size ? memory->hugepage_size : 2 * MIB;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	*mapped_bytes = (bytes + page - 1) / page * page;
	if (!memory->hugepage_size)
		*mapped_bytes += page;
	else
		flags |= MAP_HUGETLB | (int)(page == 2 * MIB ? MAP_HUGE_2MB : MAP_HUGE_1GB);
	*mapped = mmap(NULL, *mapped_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (*mapped == MAP_FAILED)
		return NULL;
	char *buffer = (char *)(((uintptr_t)*mapped + page - 1) / page * page);
	if (!memory->hugepage_size)
		madvise(buffer, bytes, MADV_HUGEPAGE);
	if (memory->node >= 0 && memory->node < 64) {
		unsigned long nodes = 1ul << memory->node;
		mbind(*mapped, *mapped_bytes, MPOL_BIND, &nodes, 65, 0);
	}
	return buffer;
}

static double mib_per_second(uint64_t bytes, double ns)
{
	return (double)bytes / (double)MIB * 1e9 / ns;
}

static void measure_bandwidth(struct text *text, const char *key,
	void (*run)(struct measure_job *job), char *buffer, size_t bytes)
{
	struct measure_job job = {.run = run, .buffer = buffer, .bytes = bytes};

	add(text, key, mib_per_second(MEASURE_BANDWIDTH_BYTES, measure_best_ns(&job, vn_clock_ns)));
}

static void measure_latency(
	struct text *text, const char *key, char *buffer, size_t bytes, uint64_t steps)
{
	struct measure_job job = {.run = measure_run_chase, .node = buffer, .steps = steps};

	measure_chase_link(buffer, bytes);
	add(text, key, measure_best_ns(&job, vn_clock_ns) / (double)steps);
}

// A size or number among the options, or what there is without it.
static uint64_t size_option(const struct options *options, const char *name, uint64_t otherwise)
{
	char *text = options_get(options, name);
	uint64_t value = otherwise;

	if (text && vn_parse_size(text, &value) < 0)
		value = otherwise;
	free(text);
	return value;
}

// It measures where it is loaded, which is in its first cell.
static struct measured measured_memory(const struct options *options)
{
	uint64_t hugepage_size = size_option(options, "memory.hugepages", 0);
	uint64_t node = size_option(options, "memory.node", UINT64_MAX);
	uint64_t size = size_option(options, "memory.size", VN_MEMORY_DEFAULT);
	char name[40], cell[24];

	for (unsigned i = 0;; i++) {
		snprintf(cell, sizeof(cell), "numa%u", i);
		if (!options_has(options, cell))
			break;
		snprintf(name, sizeof(name), "%s.cell", cell);
		if (size_option(options, name, 0) != 0)
			continue;
		snprintf(name, sizeof(name), "%s.memory", cell);
		size = size_option(options, name, size);
		snprintf(name, sizeof(name), "%s.hugepages", cell);
		hugepage_size = size_option(options, name, hugepage_size);
		snprintf(name, sizeof(name), "%s.node", cell);
		node = size_option(options, name, node);
	}
	return (struct measured){size, hugepage_size, node <= INT_MAX ? (int)node : -1};
}

static void measure_memory(struct text *text, const struct measured *memory)
{
	uint64_t available = memory->size > GUEST_OVERHEAD ? memory->size - GUEST_OVERHEAD : 0;
	size_t bytes = measure_buffer_bytes(available);
	size_t mapped_bytes;
	void *mapped;

	if (bytes < MEASURE_CACHED_BYTES)
		return;
	char *buffer = map_like_guest(memory, bytes, &mapped, &mapped_bytes);
	if (!buffer)
		return;
	memset(buffer, 0, bytes);
	measure_bandwidth(text, "mem.write", measure_run_write, buffer, bytes);
	measure_bandwidth(text, "mem.read", measure_run_read, buffer, bytes);
	measure_bandwidth(text, "mem.copy", measure_run_copy, buffer, bytes);
	measure_latency(text, "mem.latency", buffer, bytes, MEASURE_CHASE_STEPS);
	measure_latency(
		text, "mem.latency.cached", buffer, MEASURE_CACHED_BYTES, MEASURE_CACHED_STEPS);
	munmap(mapped, mapped_bytes);
}

// The disk under test; one request for each buffer of the area.
struct disk {
	int fd;
	uint64_t bytes;
	struct io_uring ring;
	char *area; // aligned for O_DIRECT
	uint64_t started[DEPTH_MAX]; // by request
	uint32_t samples[SAMPLES]; // ns
	uint64_t random;
};

static uint64_t random_below(struct disk *disk, uint64_t limit)
{
	disk->random ^= disk->random << 13;
	disk->random ^= disk->random >> 7;
	disk->random ^= disk->random << 17;
	return disk->random % limit;
}

static void submit_read(struct disk *disk, unsigned request, unsigned bytes, uint64_t offset)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&disk->ring);

	io_uring_prep_read(sqe, disk->fd, disk->area + (size_t)request * bytes, bytes, offset);
	io_uring_sqe_set_data64(sqe, request);
	disk->started[request] = vn_clock_ns();
}

// Wait for a completion; the request it belongs to, or -EIO.
static int complete_read(struct disk *disk, unsigned bytes)
{
	struct io_uring_cqe *cqe;

	if (io_uring_submit_and_wait(&disk->ring, 1) < 0 ||
		io_uring_peek_cqe(&disk->ring, &cqe) < 0)
		return -EIO;
	int request = cqe->res == (int)bytes ? (int)cqe->user_data : -EIO;
	io_uring_cqe_seen(&disk->ring, cqe);
	return request;
}

static int compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

// The guest prints these rows twice, polling and by interrupt; on the host there is one way.
static void add_reads(
	struct text *text, struct disk *disk, unsigned depth, unsigned count, uint64_t ns)
{
	static const char *const modes[] = {"poll", "irq"};
	char key[48];

	qsort(disk->samples, count, sizeof(disk->samples[0]), compare_samples);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(key, sizeof(key), "blk.read4k.qd%u.%s.p50", depth, modes[i]);
		add(text, key, disk->samples[count / 2] / 1e3);
		snprintf(key, sizeof(key), "blk.read4k.qd%u.%s.p99", depth, modes[i]);
		add(text, key, disk->samples[count - 1 - count / 100] / 1e3);
		snprintf(key, sizeof(key), "blk.read4k.qd%u.%s.iops", depth, modes[i]);
		add(text, key, count * 1e9 / (double)ns);
	}
}

// Keeps `depth` random reads in flight until there are samples enough.
static int measure_random(struct text *text, struct disk *disk, unsigned depth)
{
	uint64_t blocks = disk->bytes / READ_BYTES;
	uint64_t start = vn_clock_ns();
	unsigned count = 0;

	for (unsigned i = 0; i < depth; i++)
		submit_read(disk, i, READ_BYTES, random_below(disk, blocks) * READ_BYTES);
	while (count < SAMPLES && (count < MIN_SAMPLES || vn_clock_ns() < start + PHASE_NS)) {
		int request = complete_read(disk, READ_BYTES);
		if (request < 0)
			return request;
		disk->samples[count++] = (uint32_t)(vn_clock_ns() - disk->started[request]);
		submit_read(disk, (unsigned)request, READ_BYTES,
			random_below(disk, blocks) * READ_BYTES);
	}
	uint64_t ns = vn_clock_ns() - start;
	for (unsigned i = 0; i < depth; i++) {
		int request = complete_read(disk, READ_BYTES);
		if (request < 0)
			return request;
	}
	add_reads(text, disk, depth, count, ns);
	return 0;
}

// 1 MiB at a time, in order, a few in flight.
static int measure_sequential(struct text *text, struct disk *disk)
{
	uint64_t total = disk->bytes / LARGE_BYTES;
	uint64_t submitted = 0;
	uint64_t start = vn_clock_ns();

	if (total > LARGE_MAX)
		total = LARGE_MAX;
	for (; submitted < total && submitted < LARGE_IN_FLIGHT; submitted++)
		submit_read(disk, (unsigned)submitted, LARGE_BYTES, submitted * LARGE_BYTES);
	for (uint64_t done = 0; done < total; done++) {
		int request = complete_read(disk, LARGE_BYTES);
		if (request < 0)
			return request;
		if (submitted < total)
			submit_read(
				disk, (unsigned)request, LARGE_BYTES, submitted++ * LARGE_BYTES);
	}
	if (total)
		add(text, "blk.read1m",
			mib_per_second(total * LARGE_BYTES, (double)(vn_clock_ns() - start)));
	return 0;
}

// The page cache as the guest will find it: filled by whoever reads first, which is us.
static void warm_up(struct disk *disk)
{
	uint64_t limit = disk->bytes < WARM_MAX ? disk->bytes : WARM_MAX;

	for (uint64_t at = 0; at < limit; at += LARGE_BYTES) {
		if (pread(disk->fd, disk->area, LARGE_BYTES, (off_t)at) <= 0)
			return;
	}
}

static void measure_open_disk(struct text *text, struct disk *disk, bool cached)
{
	size_t area = LARGE_IN_FLIGHT * LARGE_BYTES;

	disk->area = mmap(NULL, area, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (disk->area == MAP_FAILED)
		return;
	if (io_uring_queue_init(DEPTH_MAX * 2, &disk->ring, 0) == 0) {
		if (cached)
			warm_up(disk);
		if (measure_random(text, disk, 1) == 0 &&
			measure_random(text, disk, DEPTH_MAX) == 0)
			measure_sequential(text, disk);
		io_uring_queue_exit(&disk->ring);
	}
	munmap(disk->area, area);
}

static void measure_disk(struct text *text, const char *path, bool cached)
{
	struct disk disk = {.random = 0x2545f4914f6cdd1d};
	struct stat st;

	// What is wrong with the file is said when the guest's disk is made. Checked before it is
	// opened, because opening a FIFO would wait and some devices act on it.
	if (stat(path, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return;
	disk.fd = open(path, O_RDONLY | O_CLOEXEC | (cached ? 0 : O_DIRECT));
	if (disk.fd < 0)
		return;
	if (vn_file_size(disk.fd, &disk.bytes) == 0 && disk.bytes >= READ_BYTES)
		measure_open_disk(text, &disk, cached);
	close(disk.fd);
}

static void measure_first_disk(struct text *text, const struct options *options)
{
	char *path = options_get(options, "disk0.path"),
	     *cache = options_get(options, "disk0.cache");

	if (path)
		measure_disk(text, path, !cache || strcmp(cache, "none") != 0);
	free(path);
	free(cache);
}

bool native_is_wanted(const struct options *options)
{
	char *words = options_get(options, "cmdline");
	bool wanted = parts_of(words ? words : "") != 0;

	free(words);
	return wanted;
}

char *native_cmdline(const struct options *options)
{
	char *words = options_get(options, "cmdline");
	const char *cmdline = words ? words : "";
	unsigned parts = parts_of(cmdline);
	const struct measured memory = measured_memory(options);
	struct text text = {0};

	text.stream = open_memstream(&text.data, &text.size);
	if (!text.stream) {
		free(words);
		return NULL;
	}
	if (parts & PART_CPU)
		measure_cpu(&text);
	if (parts & PART_MEMORY)
		measure_memory(&text, &memory);
	if (parts & PART_DISK)
		measure_first_disk(&text, options);
	if (is_whole_report(cmdline))
		add_kvm_kind(&text);
	// Before the user's words, whose quotes and "--" do not reach it there.
	fprintf(text.stream, "%s%s", text.any && *cmdline ? " " : "", cmdline);
	free(words);
	if (fclose(text.stream) != 0) {
		free(text.data);
		return NULL;
	}
	return text.data;
}
