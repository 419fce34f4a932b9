// SPDX-License-Identifier: Apache-2.0
//
// Other machines' CPUs: a few numbers that describe a machine that people have, and what there is
// to know of it. Included by the tests of what reads and judges hosts; test_host.c lays them out as
// the files that their kernels would show, and compares.
#ifndef TEST_MACHINE_H
#define TEST_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "host/host.h"

enum numbering {
	NUMBER_FAR, // package after package, then all second siblings
	NUMBER_NEAR, // siblings side by side
	NUMBER_DEALT, // packages by turns, as some firmware does, then all second siblings
};

struct machine {
	unsigned packages;
	unsigned caches; // L3s of a package; 0: /sys shows no caches
	unsigned cores; // of a package
	unsigned threads; // of a core
	unsigned small; // single-threaded cores behind all of these
	enum numbering numbering;
	bool no_nodes; // a kernel without NUMA
	bool capacities; // small cores are told by their capacity, not by their PMU
	const char *online; // NULL: all
	const char *isolated; // or NULL
};

// Two Xeon Gold 6248, numbered as Dell's firmware does: even CPUs are in package 0, odd in 1.
#define XEON                                                                                       \
	{                                                                                          \
		.packages = 2, .caches = 1, .cores = 20, .threads = 2, .numbering = NUMBER_DEALT   \
	}
// Two EPYC 7763: eight L3s in each, of eight cores each.
#define EPYC                                                                                       \
	{                                                                                          \
		.packages = 2, .caches = 8, .cores = 64, .threads = 2, .numbering = NUMBER_FAR     \
	}
// A Core i7-12700H: six large cores, eight small ones behind them.
#define LAPTOP                                                                                     \
	{                                                                                          \
		.packages = 1, .caches = 1, .cores = 6, .threads = 2, .small = 8,                  \
		.numbering = NUMBER_NEAR                                                           \
	}
// A cloud machine of four cores that shows neither caches nor nodes.
#define CLOUD                                                                                      \
	{                                                                                          \
		.packages = 1, .cores = 4, .threads = 2, .numbering = NUMBER_NEAR,                 \
		.no_nodes = true                                                                   \
	}

struct machine_cpu {
	unsigned package, cache, core, thread;
};

static unsigned machine_big(const struct machine *machine)
{
	return machine->packages * machine->cores * machine->threads;
}

static struct machine_cpu machine_cpu(const struct machine *machine, unsigned cpu)
{
	unsigned cores = machine->packages * machine->cores;
	struct machine_cpu at = {0};
	if (cpu >= machine_big(machine)) {
		at.core = cores + cpu - machine_big(machine);
		return at;
	}
	at.core = machine->numbering == NUMBER_NEAR ? cpu / machine->threads : cpu % cores;
	at.thread = machine->numbering == NUMBER_NEAR ? cpu % machine->threads : cpu / cores;
	at.package = machine->numbering == NUMBER_DEALT ? at.core % machine->packages
							: at.core / machine->cores;
	if (machine->caches > 0) {
		unsigned each = machine->cores / machine->caches;
		unsigned within = machine->numbering == NUMBER_DEALT ? at.core / machine->packages
								     : at.core % machine->cores;
		at.cache = at.package * machine->caches + within / each;
	}
	return at;
}

static struct vn_cpuset machine_online(const struct machine *machine)
{
	char text[16];
	struct vn_cpuset online;
	snprintf(text, sizeof(text), "0-%u", machine_big(machine) + machine->small - 1);
	vn_cpuset_parse(&online, machine->online ? machine->online : text, NULL);
	return online;
}

// The online CPUs that have one number of their struct machine_cpu in common with `cpu`.
static struct vn_cpuset machine_peers(
	const struct machine *machine, const struct vn_cpuset *online, unsigned cpu, size_t offset)
{
	struct vn_cpuset peers = {.bits = {0}};
	struct machine_cpu at = machine_cpu(machine, cpu);
	vn_cpuset_for_each(other, online)
	{
		struct machine_cpu is = machine_cpu(machine, other);
		if (memcmp((char *)&is + offset, (char *)&at + offset, sizeof(unsigned)) == 0)
			vn_cpuset_add(&peers, other);
	}
	return peers;
}

#define MACHINE_PEERS(machine, online, cpu, number)                                                \
	machine_peers(machine, online, cpu, offsetof(struct machine_cpu, number))

// What there is to know of the machine.
static void machine_describe(const struct machine *machine, struct vn_host *host)
{
	*host = (struct vn_host){.online = machine_online(machine)};
	vn_cpuset_parse(&host->isolated, machine->isolated ? machine->isolated : "", NULL);
	vn_cpuset_for_each(cpu, &host->online)
	{
		struct vn_cpuset core = MACHINE_PEERS(machine, &host->online, cpu, core);
		struct vn_cpuset package = MACHINE_PEERS(machine, &host->online, cpu, package);
		struct vn_cpuset cache = MACHINE_PEERS(machine, &host->online, cpu, cache);
		host->cpus[cpu] = (struct vn_host_cpu){
			.core = vn_cpuset_next(&core, 0),
			.l3 = vn_cpuset_next(machine->caches > 0 ? &cache : &package, 0),
			.package = vn_cpuset_next(&package, 0),
			.node = machine->no_nodes ? 0 : machine_cpu(machine, cpu).package,
			.efficient = cpu >= machine_big(machine),
		};
	}
}

#endif
