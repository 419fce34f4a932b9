// SPDX-License-Identifier: Apache-2.0
//
// APIC ids as the Intel SDM (volume 3, "Hierarchical mapping of shared resources") composes them: a
// field of bits for each level, the thread's lowest. Cores that share a level 3 cache have a field
// of their own too, for it is by bits of the APIC id that CPUID tells who shares a cache.
#include "arch/x86/topology.h"

#include <errno.h>
#include <stdbool.h>

// The least number of bits that `count` numbers fit in.
static unsigned bits(unsigned count)
{
	unsigned result = 0;

	while (1u << result < count)
		result++;
	return result;
}

// Cores that share a level 3 cache; a core's threads always do.
static unsigned l3_cores(const struct vn_topology *topology)
{
	unsigned cores = (topology->l3_cpus + topology->threads - 1) / topology->threads;

	return cores == 0 || cores > topology->cores ? topology->cores : cores;
}

// Whether a cache for each `shared` cores would be in two groups. CPUs that share one follow each
// other.
static bool straddles(const struct vn_topology *topology, unsigned shared, const uint8_t *group_of)
{
	unsigned cpus = topology->sockets * vn_topology_socket_cpus(topology);

	for (unsigned i = 1; i < cpus; i++) {
		unsigned core = i / topology->threads, last = (i - 1) / topology->threads;

		if (group_of[i] != group_of[i - 1] &&
			core / topology->cores == last / topology->cores &&
			core % topology->cores / shared == last % topology->cores / shared)
			return true;
	}
	return false;
}

// The fewest sockets of which none is in two cells; there are as many as CPUs at most.
static unsigned sockets_for(unsigned cpus, const uint8_t *cell_of)
{
	struct vn_topology topology = {1, 1, cpus, 1, 0};

	while (straddles(&topology, topology.cores, cell_of)) {
		do {
			topology.sockets++;
		} while (cpus % topology.sockets != 0);
		topology.cores = cpus / topology.sockets;
	}
	return topology.sockets;
}

// Have CPUs share a level 3 cache only with others of their group.
static void split_l3(struct vn_topology *topology, const uint8_t *group_of)
{
	unsigned shared = l3_cores(topology);

	if (!group_of || !straddles(topology, shared, group_of))
		return;
	while (shared > 1 && straddles(topology, shared, group_of))
		shared--;
	topology->l3_cpus = shared * topology->threads;
}

static bool is_given(const struct vn_topology_options *given)
{
	return (given->sockets | given->dies | given->cores | given->threads) != 0;
}

int vn_topology_check(
	const struct vn_topology_options *given, unsigned cpus, struct veneer_error *error)
{
	const unsigned counts[] = {given->sockets, given->dies, given->cores, given->threads};
	uint64_t product = 1;

	if (!is_given(given))
		return 0;
	for (unsigned i = 0; i < 4; i++)
		product *= counts[i];
	if (product == cpus)
		return 0;
	return vn_fail(error, -EINVAL,
		"cpus: topology=%ux%ux%ux%u (sockets x dies x cores x threads) makes %llu CPU%s, "
		"not the %u of the guest",
		counts[0], counts[1], counts[2], counts[3], (unsigned long long)product,
		product == 1 ? "" : "s", cpus);
}

void vn_topology_make(struct vn_topology *topology, const struct vn_topology_options *given,
	unsigned cpus, const uint8_t *cell_of, const uint8_t *cache_of)
{
	if (is_given(given)) {
		*topology = (struct vn_topology){
			given->sockets, given->dies, given->cores, given->threads, 0};
	} else {
		unsigned sockets = cell_of ? sockets_for(cpus, cell_of) : 1;

		*topology = (struct vn_topology){sockets, 1, cpus / sockets, 1, 0};
	}
	split_l3(topology, cell_of);
	split_l3(topology, cache_of);
}

unsigned vn_topology_socket_cpus(const struct vn_topology *topology)
{
	return topology->dies * topology->cores * topology->threads;
}

struct vn_topology_shifts vn_topology_shifts(const struct vn_topology *topology)
{
	struct vn_topology_shifts shifts = {.core = bits(topology->threads)};
	unsigned shared = l3_cores(topology);

	shifts.l3 = shifts.core + bits(shared);
	shifts.die = shifts.l3 + bits((topology->cores + shared - 1) / shared);
	shifts.socket = shifts.die + bits(topology->dies);
	return shifts;
}

uint32_t vn_topology_apic_id(const struct vn_topology *topology, unsigned index)
{
	struct vn_topology_shifts shifts = vn_topology_shifts(topology);
	unsigned core = index / topology->threads % topology->cores;
	unsigned die = index / topology->threads / topology->cores;
	unsigned shared = l3_cores(topology);

	return (uint32_t)(index % topology->threads | core % shared << shifts.core |
			  core / shared << shifts.l3 | die % topology->dies << shifts.die |
			  die / topology->dies << shifts.socket);
}
