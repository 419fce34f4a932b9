// SPDX-License-Identifier: Apache-2.0
//
// How long a program takes from execve() to the first time that its guest writes to a port, seen by
// KVM's own trace event (kvm:kvm_pio), and to its end. The built-in guest with `exit=0` does
// nothing before that write but read its command line, whatever firmware ran before it.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CPUS_MAX 256u
#define EVENT_ID "/sys/kernel/tracing/events/kvm/kvm_pio/id"
#define NO_TIME  UINT64_MAX

// A record of the ring; of a sample, PERF_SAMPLE_TIME is all that is asked for.
struct sample {
	struct perf_event_header header;
	uint64_t time;
};

struct watch {
	unsigned cpus;
	struct perf_event_mmap_page *rings[CPUS_MAX];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int fail(const char *what)
{
	fprintf(stderr, "bench-start: %s: %s\n", what, strerror(errno));
	return 1;
}

static int read_event_id(uint64_t *id)
{
	FILE *stream = fopen(EVENT_ID, "re");

	if (!stream || fscanf(stream, "%" SCNu64, id) != 1)
		return fail(EVENT_ID);
	fclose(stream);
	return 0;
}

// An event and a ring on each CPU, for this process's children from their execve() on. The page of
// data is never emptied, so it keeps the first samples.
static int open_watch(struct watch *watch, unsigned port)
{
	struct perf_event_attr attributes = {.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attributes),
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_TIME,
		.disabled = 1,
		.inherit = 1,
		.enable_on_exec = 1,
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC};
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char filter[32];
	uint64_t id;

	if (read_event_id(&id))
		return 1;
	attributes.config = id;
	snprintf(filter, sizeof(filter), "port == %u", port);
	for (; watch->cpus < CPUS_MAX && watch->cpus < sysconf(_SC_NPROCESSORS_ONLN);
		watch->cpus++) {
		int fd = (int)syscall(
			SYS_perf_event_open, &attributes, 0, watch->cpus, -1, PERF_FLAG_FD_CLOEXEC);
		if (fd < 0 || ioctl(fd, PERF_EVENT_IOC_SET_FILTER, filter) < 0)
			return fail("watching KVM's event");
		watch->rings[watch->cpus] =
			mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (watch->rings[watch->cpus] == MAP_FAILED)
			return fail("memory for KVM's event");
	}
	return 0;
}

static uint64_t first_sample(const struct perf_event_mmap_page *ring)
{
	uint64_t end = __atomic_load_n(&ring->data_head, __ATOMIC_ACQUIRE);
	const struct sample *sample;

	for (uint64_t at = 0; at < end; at += sample->header.size) {
		sample = (const struct sample *)((const char *)ring + ring->data_offset + at);
		if (sample->header.type == PERF_RECORD_SAMPLE)
			return sample->time;
	}
	return NO_TIME;
}

static void report(const struct watch *watch, uint64_t start, uint64_t end)
{
	uint64_t first = NO_TIME;

	for (unsigned i = 0; i < watch->cpus; i++) {
		uint64_t time = first_sample(watch->rings[i]);
		if (time < first)
			first = time;
	}
	if (first != NO_TIME)
		printf("start.first %.1f us\n", (double)(first - start) / 1e3);
	printf("start.exit %.1f us\n", (double)(end - start) / 1e3);
}

int main(int argc, char **argv)
{
	static struct watch watch;
	int status;

	if (argc < 3) {
		fprintf(stderr,
			"usage: bench-start PORT COMMAND...\n"
			"  prints microseconds from execve() to the guest's first write to PORT\n"
			"  (0: do not look), and to COMMAND's end\n");
		return 2;
	}
	unsigned port = (unsigned)strtoul(argv[1], NULL, 0);
	if (port && open_watch(&watch, port))
		return 1;
	uint64_t *start = mmap(
		NULL, sizeof(*start), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (start == MAP_FAILED)
		return fail("memory");
	pid_t child = fork();
	if (child == 0) {
		*start = now_ns();
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return fail("fork");
	report(&watch, *start, now_ns());
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
