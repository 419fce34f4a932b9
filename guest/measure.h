// SPDX-License-Identifier: Apache-2.0
/*
 * The measuring kernels: what is timed, without the clock. The guest and the host's program
 * compile the same file, so that a figure of the one can stand beside a figure of the other.
 *
 * The loops are assembly: the same machine code comes from every compiler, at every optimisation,
 * under every sanitizer. No libc, no privileged instruction; SSE2 only.
 */
#ifndef GUEST_MEASURE_H
#define GUEST_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#define MEASURE_LINE 64 /* bytes between two nodes of a chase */

/*
 * Every figure is the best of this many rounds (fewer where they are slow), after one not counted.
 */
#define MEASURE_ROUNDS 5

/* What one round does. */
#define MEASURE_CPU_ITERATIONS 40000000u
#define MEASURE_CHASE_STEPS    400000u /* through the large buffer */
#define MEASURE_CACHED_STEPS   10000000u /* through the small one */
#define MEASURE_CACHED_BYTES   (16u << 10) /* stays in the first-level cache */
#define MEASURE_BANDWIDTH_BYTES                                                                    \
	(512u << 20) /* read, written or copied, in passes over the buffer */

/*
 * How large the buffer is for a machine with `available` bytes to spare: half of it, rounded down
 * to a power of two, at most 256 MiB. Bandwidth is taken over the same buffer (copy: its first
 * half onto its second).
 */
size_t measure_buffer_bytes(uint64_t available);

/* `iterations` (not 0) of a dependent decrement and jump. */
void measure_cpu_loop(uint64_t iterations);

/* Reads, writes or copies `bytes`, a multiple of 128, at 16-byte aligned addresses. */
void measure_read(const void *buffer, size_t bytes);
void measure_write(void *buffer, size_t bytes);
void measure_copy(void *to, const void *from, size_t bytes);

/*
 * Links the lines of `bytes` (a power of two, at least 4 lines) at `buffer` into one cycle through
 * all of them, in an order that no prefetcher follows. A node is the address of the next.
 */
void measure_chase_link(void *buffer, size_t bytes);

/* Follows `steps` (not 0, a multiple of 8) links from `node` and returns where that led. */
void *measure_chase(void *node, uint64_t steps);

/* One figure's work: a round is a call of `run`. Unused fields are 0. */
struct measure_job {
	void (*run)(struct measure_job *job);
	char *buffer;
	size_t bytes;
	uint64_t steps;
	void *node; /* of a chase: where the next round begins */
};

/* What `run` can be: `steps` of the loop or chase, or MEASURE_BANDWIDTH_BYTES through `buffer`. */
void measure_run_cpu(struct measure_job *job);
void measure_run_write(struct measure_job *job);
void measure_run_read(struct measure_job *job);
void measure_run_copy(struct measure_job *job);
void measure_run_chase(struct measure_job *job);

/*
 * For programs on the host, whose rounds are never cut short: the shortest time of a round, after
 * one that is not timed, by a clock in nanoseconds.
 */
static inline double measure_best_ns(struct measure_job *job, uint64_t (*now_ns)(void))
{
	uint64_t best = UINT64_MAX;

	job->run(job);
	for (unsigned i = 0; i < MEASURE_ROUNDS; i++) {
		uint64_t start = now_ns(), ns;

		job->run(job);
		ns = now_ns() - start;
		if (ns < best)
			best = ns;
	}
	return (double)best;
}

#endif
