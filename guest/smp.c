// SPDX-License-Identifier: Apache-2.0
/*
 * Starts the other CPUs, one after the other, each with a task segment and stacks of its own, and
 * has all of them run the CPU loop at once. A CPU that has been started sleeps until all have been
 * (so that many of them on few host CPUs do not stand in each other's way), and halts for good when
 * its work is done.
 */
#include "smp.h"

#include <stdbool.h>

#include "apic.h"
#include "machine.h"
#include "measure.h"
#include "print.h"
#include "report.h"
#include "ring0.h"

#define STACK_BYTES      8192
#define RING0_BYTES      1024
#define START_TIMEOUT_NS 5000000000ull
#define RUN_TIMEOUT_NS   30000000000ull

/* What a CPU needs to get to ring 3, and what it reports. Written by it, read by CPU 0 when up. */
struct cpu {
	uint8_t tss[TSS_LIMIT + 1] __attribute__((aligned(16)));
	uint64_t frame[5];
	uint8_t ring0_stack[RING0_BYTES] __attribute__((aligned(16)));
	uint8_t stack[STACK_BYTES] __attribute__((aligned(16)));
	volatile bool up, done;
	uint32_t apic, leaf1, leafb;
	uint64_t ns;
};

void ap_main(uint64_t number);

extern const char ap_trampoline[];
extern const size_t ap_trampoline_bytes;
extern volatile uint32_t ap_frame, ap_tss, ap_argument;
extern uint64_t gdt[];
extern uint8_t tss0[];

static struct cpu *cpus;
static volatile uint32_t go;

static void run_loop(struct cpu *cpu)
{
	uint64_t start = rdtsc();

	measure_cpu_loop(MEASURE_CPU_ITERATIONS);
	cpu->ns = ticks_to_ns(rdtsc() - start);
	cpu->done = true;
}

/* What CPUID says this CPU's APIC ID is, by leaf 1 and by leaf 0xb (0 there if it is lacking). */
static void identify(struct cpu *cpu)
{
	struct cpuid_regs topology;

	cpu->apic = apic_id();
	cpu->leaf1 = ring0_cpuid(1, 0).ebx >> 24;
	cpu->leafb = cpu->apic;
	if (ring0_cpuid(0, 0).eax < 0xb)
		return;
	topology = ring0_cpuid(0xb, 0);
	if (topology.ebx)
		cpu->leafb = topology.edx;
}

void ap_main(uint64_t number)
{
	struct cpu *cpu = &cpus[number];

	apic_init();
	identify(cpu);
	cpu->up = true;
	while (!go)
		ring0_wait(&go, 0);
	run_loop(cpu);
	for (;;)
		ring0_call(RING0_HALT);
}

/* The task segment is CPU 0's but for ring 0's stack. */
static void prepare(unsigned number)
{
	struct cpu *cpu = &cpus[number];
	uint64_t tss = (uint64_t)(uintptr_t)cpu->tss;
	uint64_t ring0_stack = (uint64_t)(uintptr_t)(cpu->ring0_stack + RING0_BYTES);
	uint64_t *descriptor = &gdt[SEL_TSS / 8 + 2 * number];

	memset(cpu, 0, sizeof(*cpu));
	memcpy(cpu->tss, tss0, sizeof(cpu->tss));
	memcpy(cpu->tss + 4, &ring0_stack, sizeof(ring0_stack));
	descriptor[0] =
		TSS_LIMIT | (tss & 0xffffff) << 16 | 0x89ull << 40 | (tss >> 24 & 0xff) << 56;
	descriptor[1] = tss >> 32;
	cpu->frame[0] = (uint64_t)(uintptr_t)ap_main;
	cpu->frame[1] = SEL_USER_CODE64;
	cpu->frame[2] = RFLAGS_IOPL3;
	cpu->frame[3] = (uint64_t)(uintptr_t)(cpu->stack + STACK_BYTES - 8);
	cpu->frame[4] = SEL_USER_DATA;
}

static bool start(unsigned number)
{
	struct cpu *cpu = &cpus[number];
	uint64_t end = rdtsc() + ns_to_ticks(START_TIMEOUT_NS);

	prepare(number);
	ap_frame = (uint32_t)(uintptr_t)cpu->frame;
	ap_tss = SEL_TSS + 16 * number;
	ap_argument = number;
	apic_start_cpu(machine.apic_ids[number]);
	while (!cpu->up && rdtsc() < end)
		cpu_relax();
	return cpu->up;
}

static int check_identity(unsigned number)
{
	const struct cpu *cpu = &cpus[number];
	uint32_t expected = machine.apic_ids[number];
	int failures = 0;

	if (cpu->apic != expected)
		failures += fail_number("APIC ID of a CPU", expected, cpu->apic);
	if (cpu->leaf1 != (expected & 0xff))
		failures += fail_number("APIC ID in CPUID leaf 1", expected & 0xff, cpu->leaf1);
	if (cpu->leafb != expected)
		failures += fail_number("APIC ID in CPUID leaf 0xb", expected, cpu->leafb);
	return failures;
}

static int report_loops(void)
{
	uint64_t end = rdtsc() + ns_to_ticks(RUN_TIMEOUT_NS);
	char key[32];

	print("The CPU loop on all CPUs at once\n");
	go = 1;
	apic_wake_others();
	run_loop(&cpus[0]);
	for (unsigned i = 0; i < machine.cpu_count; i++) {
		while (cpus[i].up && !cpus[i].done) {
			if (rdtsc() > end)
				return fail_number("CPU loop's end on CPU", i, i);
			cpu_relax();
		}
		if (!cpus[i].up)
			continue;
		format_text(key, sizeof(key), "smp.cpu%u.loop", i);
		report_row(key, cpus[i].ns * 1000 / MEASURE_CPU_ITERATIONS, 3, "ns/iteration",
			LOWER_IS_BETTER);
	}
	return 0;
}

static unsigned start_all(void)
{
	unsigned up = 1;

	cpus[0].up = true;
	memcpy((void *)AP_TRAMPOLINE, ap_trampoline, ap_trampoline_bytes);
	for (unsigned i = 1; i < machine.cpu_count; i++) {
		cpus[i].up = false;
		if (start(i))
			up++;
		else
			fail_number("start of the CPU with APIC ID", machine.apic_ids[i], 0);
	}
	return up;
}

int report_smp(void)
{
	unsigned up;
	int failures = 0;

	go = 0;
	apic_init();
	cpus = machine_alloc(/* never released: halted CPUs stay on their stacks */
		machine.cpu_count * sizeof(*cpus), 4096);
	if (!cpus)
		return fail("memory for the CPUs", "some", "none");
	cpus[0].done = false;
	identify(&cpus[0]);
	up = start_all();
	for (unsigned i = 0; i < machine.cpu_count; i++) {
		if (cpus[i].up)
			failures += check_identity(i);
	}
	failures += report_loops();
	print("smp: %u of %u CPUs up\n", up, machine.cpu_count);
	return failures + (up != machine.cpu_count);
}
