// SPDX-License-Identifier: Apache-2.0
/*
 * The measuring kernels of measure.h, compiled into the guest and into the host's program alike.
 */
#include "measure.h"

size_t measure_buffer_bytes(uint64_t available)
{
	size_t bytes = (size_t)256 << 20;

	while (bytes > available / 2)
		bytes /= 2;
	return bytes;
}

void measure_cpu_loop(uint64_t iterations)
{
	__asm__ volatile(".balign 32\n"
			 "1:\tdec %0\n"
			 "\tjnz 1b"
			 : "+r"(iterations)
			 :
			 : "cc");
}

void measure_read(const void *buffer, size_t bytes)
{
	__asm__ volatile(
		".balign 32\n"
		"1:\tmovdqa (%0), %%xmm0\n"
		"\tmovdqa 16(%0), %%xmm1\n"
		"\tmovdqa 32(%0), %%xmm2\n"
		"\tmovdqa 48(%0), %%xmm3\n"
		"\tmovdqa 64(%0), %%xmm4\n"
		"\tmovdqa 80(%0), %%xmm5\n"
		"\tmovdqa 96(%0), %%xmm6\n"
		"\tmovdqa 112(%0), %%xmm7\n"
		"\tadd $128, %0\n"
		"\tsub $128, %1\n"
		"\tjnz 1b"
		: "+r"(buffer), "+r"(bytes)
		:
		: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "cc", "memory");
}

void measure_write(void *buffer, size_t bytes)
{
	__asm__ volatile("pxor %%xmm0, %%xmm0\n"
			 "\t.balign 32\n"
			 "1:\tmovdqa %%xmm0, (%0)\n"
			 "\tmovdqa %%xmm0, 16(%0)\n"
			 "\tmovdqa %%xmm0, 32(%0)\n"
			 "\tmovdqa %%xmm0, 48(%0)\n"
			 "\tmovdqa %%xmm0, 64(%0)\n"
			 "\tmovdqa %%xmm0, 80(%0)\n"
			 "\tmovdqa %%xmm0, 96(%0)\n"
			 "\tmovdqa %%xmm0, 112(%0)\n"
			 "\tadd $128, %0\n"
			 "\tsub $128, %1\n"
			 "\tjnz 1b"
			 : "+r"(buffer), "+r"(bytes)
			 :
			 : "xmm0", "cc", "memory");
}

void measure_copy(void *to, const void *from, size_t bytes)
{
	__asm__ volatile(".balign 32\n"
			 "1:\tmovdqa (%1), %%xmm0\n"
			 "\tmovdqa 16(%1), %%xmm1\n"
			 "\tmovdqa 32(%1), %%xmm2\n"
			 "\tmovdqa 48(%1), %%xmm3\n"
			 "\tmovdqa %%xmm0, (%0)\n"
			 "\tmovdqa %%xmm1, 16(%0)\n"
			 "\tmovdqa %%xmm2, 32(%0)\n"
			 "\tmovdqa %%xmm3, 48(%0)\n"
			 "\tadd $64, %0\n"
			 "\tadd $64, %1\n"
			 "\tsub $64, %2\n"
			 "\tjnz 1b"
			 : "+r"(to), "+r"(from), "+r"(bytes)
			 :
			 : "xmm0", "xmm1", "xmm2", "xmm3", "cc", "memory");
}

/*
 * Line i leads to line (a * i + c) mod n: with n a power of two, a - 1 a multiple of 4 and c odd,
 * one cycle through all lines, and linked by a single pass in address order.
 */
void measure_chase_link(void *buffer, size_t bytes)
{
	size_t lines = bytes / MEASURE_LINE;
	size_t next = 12345 & (lines - 1);

	for (size_t i = 0; i < lines; i++) {
		*(void **)((char *)buffer + i * MEASURE_LINE) =
			(char *)buffer + next * MEASURE_LINE;
		next = (next + 2862933555777941757u) & (lines - 1);
	}
}

void *measure_chase(void *node, uint64_t steps)
{
	__asm__ volatile(".balign 32\n"
			 "1:\tmov (%0), %0\n"
			 "\tmov (%0), %0\n"
			 "\tmov (%0), %0\n"
			 "\tmov (%0), %0\n"
			 "\tmov (%0), %0\n"
			 "\tmov (%0), %0\n"
			 "\tmov (%0), %0\n"
			 "\tmov (%0), %0\n"
			 "\tsub $8, %1\n"
			 "\tjnz 1b"
			 : "+r"(node), "+r"(steps)
			 :
			 : "cc", "memory");
	return node;
}

void measure_run_cpu(struct measure_job *job)
{
	measure_cpu_loop(job->steps);
}

void measure_run_write(struct measure_job *job)
{
	for (size_t i = 0; i < MEASURE_BANDWIDTH_BYTES; i += job->bytes)
		measure_write(job->buffer, job->bytes);
}

void measure_run_read(struct measure_job *job)
{
	for (size_t i = 0; i < MEASURE_BANDWIDTH_BYTES; i += job->bytes)
		measure_read(job->buffer, job->bytes);
}

void measure_run_copy(struct measure_job *job)
{
	for (size_t i = 0; i < MEASURE_BANDWIDTH_BYTES; i += job->bytes / 2)
		measure_copy(job->buffer + job->bytes / 2, job->buffer, job->bytes / 2);
}

void measure_run_chase(struct measure_job *job)
{
	job->node = measure_chase(job->node, job->steps);
}
