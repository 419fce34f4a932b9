// SPDX-License-Identifier: Apache-2.0
//
// Choosing works on cores, each with the CPUs (SMT siblings) of it that may be used. vCPUs take
// cores in an order of kinds: isolated before others, large before small. Of a kind they come from
// one node, and there from one L3, as far as it reaches. I/O threads then take what is left nearest
// to them, and other threads the rest.
#include "host/placement.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SIBLINGS_MAX 8

// A core, with the CPUs of it that vCPUs may have: isolated ones first.
struct core {
	unsigned id; // as struct vn_host_cpu has it
	unsigned cpus[SIBLINGS_MAX];
	unsigned count, isolated_count;
	unsigned node, l3;
	bool efficient;
	bool taken;
};

// The cores that vCPUs may still have, narrowed kind by kind and group by group; -1: any.
struct scope {
	int isolated, efficient;
	long node, l3;
};

struct chooser {
	unsigned threads; // of a core that vCPUs take
	unsigned vcpus;
	unsigned io; // CPUs that I/O threads want beside them
	struct core *cores; // ascending
	unsigned core_count;
	unsigned taken[VN_CPUS_MAX]; // in the order of vCPUs
	unsigned taken_count;
};

enum level { LEVEL_NODE, LEVEL_L3, LEVEL_CORE };

static bool fits(long wanted, long is)
{
	return wanted < 0 || wanted == is;
}

static bool is_free(const struct chooser *chooser, const struct core *core, struct scope scope)
{
	return !core->taken && core->count >= chooser->threads &&
	       fits(scope.isolated, core->isolated_count >= chooser->threads) &&
	       fits(scope.efficient, core->efficient) && fits(scope.node, core->node) &&
	       fits(scope.l3, core->l3);
}

static unsigned room(const struct chooser *chooser, struct scope scope)
{
	unsigned count = 0;
	for (unsigned i = 0; i < chooser->core_count; i++)
		count += is_free(chooser, &chooser->cores[i], scope);
	return count;
}

// A group as a candidate for `need` cores: less is worse.
struct rank {
	bool holds_all, in_use, holds_io, without_cpu0;
	unsigned room;
};

static struct rank rank_group(const struct chooser *chooser, struct scope scope, unsigned need)
{
	const struct core *first = &chooser->cores[0];
	struct rank rank = {.room = room(chooser, scope)};
	rank.holds_all = rank.room >= need;
	rank.holds_io = rank.room >= need + chooser->io;
	rank.without_cpu0 =
		first->id != 0 || !fits(scope.node, first->node) || !fits(scope.l3, first->l3);
	for (unsigned i = 0; i < chooser->core_count; i++) {
		const struct core *core = &chooser->cores[i];
		rank.in_use |=
			core->taken && fits(scope.node, core->node) && fits(scope.l3, core->l3);
	}
	return rank;
}

// All that is needed in one group is best, then what is near those that have a place, then room for
// I/O, then not to be where the host does its own work by habit. Of groups that hold all, the
// smallest: it leaves the larger ones whole.
static bool is_better(const struct rank *a, const struct rank *b)
{
	if (a->holds_all != b->holds_all)
		return a->holds_all;
	if (a->in_use != b->in_use)
		return a->in_use;
	if (a->holds_io != b->holds_io)
		return a->holds_io;
	if (a->room != b->room)
		return a->holds_all ? a->room < b->room : a->room > b->room;
	return a->without_cpu0 && !b->without_cpu0;
}

// Narrow `scope` to its best node or L3; false when nothing in it is free.
static bool best_group(
	const struct chooser *chooser, struct scope *scope, enum level level, unsigned need)
{
	struct scope best = *scope;
	struct rank best_rank = {.room = 0};
	bool found = false;
	for (unsigned i = 0; i < chooser->core_count; i++) {
		const struct core *core = &chooser->cores[i];
		struct scope group = *scope;
		if (!is_free(chooser, core, *scope))
			continue;
		if (level == LEVEL_NODE)
			group.node = core->node;
		else
			group.l3 = core->l3;
		struct rank rank = rank_group(chooser, group, need);
		if (found && !is_better(&rank, &best_rank))
			continue;
		best = group;
		best_rank = rank;
		found = true;
	}
	*scope = best;
	return found;
}

// Up to `need` cores, the one with CPU 0 last.
static unsigned take_cores(struct chooser *chooser, struct scope scope, unsigned need)
{
	unsigned count = 0, skip = chooser->cores[0].id == 0;
	for (unsigned i = 0; i < chooser->core_count && count < need; i++) {
		unsigned index = (i + skip) % chooser->core_count;
		struct core *core = &chooser->cores[index];
		if (!is_free(chooser, core, scope))
			continue;
		core->taken = true;
		chooser->taken[chooser->taken_count++] = index;
		count++;
	}
	return count;
}

static unsigned take(struct chooser *chooser, struct scope scope, enum level level, unsigned need)
{
	unsigned count = 0;
	if (level == LEVEL_CORE)
		return take_cores(chooser, scope, need);
	for (struct scope group = scope;
		count < need && best_group(chooser, &group, level, need - count); group = scope)
		count += take(chooser, group, level + 1, need - count);
	return count;
}

// Of any node, or of one, isolated cores before others and large ones before small.
static unsigned take_kinds(struct chooser *chooser, long node, unsigned need)
{
	unsigned count = 0;
	for (int kind = 0; kind < 4; kind++) {
		struct scope scope = {
			.isolated = kind < 2, .efficient = kind % 2, .node = node, .l3 = -1};
		count += take(chooser, scope, LEVEL_NODE, need - count);
	}
	return count;
}

static int fail_cores(const struct chooser *chooser, const struct vn_cpuset *usable, int node,
	unsigned vcpus, unsigned cores, struct veneer_error *error)
{
	char where[40] = "", cpus[128];
	unsigned free = room(chooser, (struct scope){-1, -1, node, -1});
	if (node >= 0)
		snprintf(where, sizeof(where), " on memory's node %d", node);
	vn_cpuset_format(usable, cpus, sizeof(cpus));
	return vn_fail(error, -ENOSPC,
		"%u vCPUs need %u cores%s to themselves, and %u are free (of CPUs %s): "
		"ask for fewer, show the guest threads%s, or name the CPUs (pin=LIST)",
		vcpus, cores, where, free, cpus, node >= 0 ? ", take another node" : "");
}

// The vCPUs whose memory is on `node`. Threads of the guest that cannot be siblings get cores.
static int choose_vcpus(struct chooser *chooser, struct vn_placement *placement,
	const struct vn_placement_guest *guest, int node, const struct vn_cpuset *usable,
	struct veneer_error *error)
{
	unsigned count = 0, first = chooser->taken_count;
	for (unsigned i = 0; i < guest->vcpus; i++)
		count += guest->nodes[i] == node;
	chooser->threads = guest->threads;
	unsigned need = (count + chooser->threads - 1) / chooser->threads;
	if (room(chooser, (struct scope){-1, -1, node, -1}) < need) {
		chooser->threads = 1;
		need = count;
	}
	if (room(chooser, (struct scope){-1, -1, node, -1}) < need)
		return fail_cores(chooser, usable, node, count, need, error);
	take_kinds(chooser, node, need);
	for (unsigned i = 0, turn = 0; i < guest->vcpus; i++) {
		if (guest->nodes[i] != node)
			continue;
		unsigned index = chooser->taken[first + turn / chooser->threads];
		vn_cpuset_add(
			&placement->vcpus[i], chooser->cores[index].cpus[turn % chooser->threads]);
		turn++;
	}
	return 0;
}

// Someone who started this on fewer CPUs than it would get by itself (taskset, a service's
// CPUAffinity=) meant those. Isolated ones are in nobody's affinity by themselves.
static struct vn_cpuset usable_cpus(const struct vn_host *host)
{
	struct vn_cpuset ordinary = host->allowed, usable = host->allowed;
	vn_cpuset_subtract(&ordinary, &host->isolated);
	vn_cpuset_subtract(&ordinary, &host->affinity);
	if (!vn_cpuset_is_empty(&ordinary))
		vn_cpuset_and(&usable, &host->affinity);
	vn_cpuset_and(&usable, &host->online);
	return usable;
}

// Take whole cores away: all that have a CPU in `cpus`.
static void subtract_cores(
	struct vn_cpuset *set, const struct vn_cpuset *cpus, const struct vn_host *host)
{
	vn_cpuset_for_each(gone, cpus)
	{
		vn_cpuset_for_each(cpu, set)
		{
			if (host->cpus[cpu].core == host->cpus[gone].core)
				vn_cpuset_remove(set, cpu);
		}
	}
}

static void add_to_core(struct chooser *chooser, const struct vn_host *host, unsigned cpu)
{
	const struct vn_host_cpu *about = &host->cpus[cpu];
	struct core *core = chooser->cores;
	while (core < chooser->cores + chooser->core_count && core->id != about->core)
		core++;
	if (core == chooser->cores + chooser->core_count) {
		chooser->core_count++;
		*core = (struct core){.id = about->core,
			.node = about->node,
			.l3 = about->l3,
			.efficient = about->efficient};
	}
	if (core->count == SIBLINGS_MAX)
		return;
	bool isolated = vn_cpuset_has(&host->isolated, cpu);
	unsigned at = isolated ? core->isolated_count++ : core->count;
	for (unsigned i = core->count++; i > at; i--)
		core->cpus[i] = core->cpus[i - 1];
	core->cpus[at] = cpu;
}

// How far from the vCPUs: 0 within an L3 of theirs, 1 within a node.
static unsigned distance(const struct chooser *chooser, const struct vn_host_cpu *cpu)
{
	unsigned least = 2;
	for (unsigned i = 0; i < chooser->taken_count; i++) {
		const struct core *core = &chooser->cores[chooser->taken[i]];
		unsigned is = core->node != cpu->node ? 2 : core->l3 != cpu->l3;
		least = is < least ? is : least;
	}
	return least;
}

static unsigned nearest(
	const struct chooser *chooser, const struct vn_cpuset *rest, const struct vn_host *host)
{
	unsigned best = VN_HOST_CPUS_MAX, best_cost = ~0u;
	vn_cpuset_for_each(cpu, rest)
	{
		const struct vn_host_cpu *about = &host->cpus[cpu];
		unsigned cost = distance(chooser, about) * 4 +
				!vn_cpuset_has(&host->isolated, cpu) * 2u + (about->core == 0);
		if (cost < best_cost) {
			best = cpu;
			best_cost = cost;
		}
	}
	return best;
}

// I/O threads get what is nearest, but not the last CPU that is left; it is the other threads'.
static void choose_iothreads(const struct chooser *chooser, struct vn_placement *placement,
	struct vn_cpuset *rest, const struct vn_host *host)
{
	unsigned spare = vn_cpuset_count(rest);
	unsigned count = spare > chooser->io ? chooser->io : spare > 1 ? spare - 1 : 1;
	for (; count > 0; count--) {
		unsigned cpu = nearest(chooser, rest, host);
		vn_cpuset_add(&placement->iothreads, cpu);
		vn_cpuset_remove(rest, cpu);
	}
}

// The others get all the rest that is not isolated; on isolated CPUs nothing would spread them.
static void choose_vmm(
	struct vn_placement *placement, const struct vn_cpuset *rest, const struct vn_host *host)
{
	struct vn_cpuset ordinary = *rest;
	vn_cpuset_subtract(&ordinary, &host->isolated);
	if (!vn_cpuset_is_empty(&ordinary))
		placement->vmm = ordinary;
	else if (!vn_cpuset_is_empty(rest))
		vn_cpuset_add(&placement->vmm, vn_cpuset_next(rest, 0));
	else
		placement->vmm = placement->iothreads;
}

static int choose_others(const struct chooser *chooser, struct vn_placement *placement,
	const struct vn_cpuset *usable, const struct vn_host *host, struct veneer_error *error)
{
	struct vn_cpuset rest = *usable;
	for (unsigned i = 0; i < VN_CPUS_MAX; i++)
		subtract_cores(&rest, &placement->vcpus[i], host);
	bool iothreads = chooser->io > 0 && vn_cpuset_is_empty(&placement->iothreads);
	bool vmm = vn_cpuset_is_empty(&placement->vmm);
	if (vn_cpuset_is_empty(&rest) && iothreads && !vmm)
		placement->iothreads = placement->vmm;
	else if (vn_cpuset_is_empty(&rest) && vmm && vn_cpuset_is_empty(&placement->iothreads))
		return vn_fail(error, -ENOSPC,
			"%u vCPUs leave no core for the other threads: ask for fewer, "
			"or name the CPUs (pin=LIST, iothreads=LIST, vmm=LIST)",
			chooser->vcpus);
	else if (iothreads)
		choose_iothreads(chooser, placement, &rest, host);
	if (vmm)
		choose_vmm(placement, &rest, host);
	return 0;
}

static int choose(struct chooser *chooser, struct vn_placement *placement,
	const struct vn_placement_guest *guest, const struct vn_host *host,
	struct veneer_error *error)
{
	struct vn_cpuset usable = usable_cpus(host);
	subtract_cores(&usable, &placement->iothreads, host);
	subtract_cores(&usable, &placement->vmm, host);
	vn_cpuset_for_each(cpu, &usable) add_to_core(chooser, host, cpu);
	// Those that may be anywhere come last, so that they take no core from those that may not.
	int code = 0;
	for (unsigned i = 0; code == 0 && i < guest->vcpus; i++)
		if (guest->nodes[i] >= 0 && vn_cpuset_is_empty(&placement->vcpus[i]))
			code = choose_vcpus(
				chooser, placement, guest, guest->nodes[i], &usable, error);
	if (code == 0)
		code = choose_vcpus(chooser, placement, guest, -1, &usable, error);
	return code == 0 ? choose_others(chooser, placement, &usable, host, error) : code;
}

int vn_placement_choose(struct vn_placement *placement, const struct vn_placement_guest *guest,
	const struct vn_host *host, struct veneer_error *error)
{
	struct vn_placement chosen = *placement;
	struct chooser chooser = {.vcpus = guest->vcpus, .io = guest->iothreads};
	chooser.cores = calloc(VN_HOST_CPUS_MAX, sizeof(*chooser.cores));
	if (!chooser.cores)
		return vn_fail(error, -ENOMEM, "no memory to choose CPUs");
	for (unsigned i = 0; i < VN_CPUS_MAX; i++)
		chosen.vcpus[i] = (struct vn_cpuset){.bits = {0}};
	int code = choose(&chooser, &chosen, guest, host, error);
	free(chooser.cores);
	if (code == 0)
		*placement = chosen;
	return code;
}

static int check_cpus(const struct vn_cpuset *cpus, const char *who, const struct vn_host *host,
	struct veneer_error *error)
{
	struct vn_cpuset missing = *cpus;
	char allowed[256];
	vn_cpuset_subtract(&missing, &host->allowed);
	vn_cpuset_subtract(&missing, &host->online);
	if (!vn_cpuset_is_empty(&missing)) {
		vn_cpuset_format(&host->online, allowed, sizeof(allowed));
		return vn_fail(error, -EINVAL, "%s: the host's CPU %u is not online: %s are", who,
			vn_cpuset_next(&missing, 0), allowed);
	}
	missing = *cpus;
	vn_cpuset_subtract(&missing, &host->allowed);
	if (vn_cpuset_is_empty(&missing))
		return 0;
	vn_cpuset_format(&host->allowed, allowed, sizeof(allowed));
	return vn_fail(error, -EINVAL,
		"%s: the host's CPU %u is not for this process: its cgroup allows %s", who,
		vn_cpuset_next(&missing, 0), allowed);
}

int vn_placement_check(const struct vn_placement *placement, unsigned vcpus,
	const struct vn_host *host, struct veneer_error *error)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < vcpus; i++) {
		char name[16];
		snprintf(name, sizeof(name), "vCPU %u", i);
		code = check_cpus(&placement->vcpus[i], name, host, error);
	}
	if (code == 0)
		code = check_cpus(&placement->iothreads, "I/O threads", host, error);
	if (code == 0)
		code = check_cpus(&placement->vmm, "other threads", host, error);
	return code;
}

static void warn_of(const struct vn_log *log, const struct vn_cpuset *cpus, const char *what)
{
	char list[256];
	if (vn_cpuset_is_empty(cpus))
		return;
	vn_cpuset_format(cpus, list, sizeof(list));
	vn_warn(log, "CPU%s %s: %s", vn_cpuset_count(cpus) > 1 ? "s" : "", list, what);
}

// CPUs that two sets have in common.
static struct vn_cpuset common(struct vn_cpuset a, const struct vn_cpuset *b)
{
	vn_cpuset_and(&a, b);
	return a;
}

// CPUs in `cpus` whose siblings are in `others`.
static struct vn_cpuset siblings_of(
	const struct vn_cpuset *cpus, const struct vn_cpuset *others, const struct vn_host *host)
{
	struct vn_cpuset found = {.bits = {0}};
	vn_cpuset_for_each(cpu, cpus)
	{
		vn_cpuset_for_each(other, others)
		{
			if (cpu != other && host->cpus[cpu].core == host->cpus[other].core) {
				vn_cpuset_add(&found, cpu);
				vn_cpuset_add(&found, other);
			}
		}
	}
	return found;
}

bool vn_placement_caches(const struct vn_placement *placement, unsigned vcpus,
	const struct vn_host *host, uint8_t cache_of[VN_CPUS_MAX])
{
	unsigned caches[VN_CPUS_MAX];
	for (unsigned i = 0; i < vcpus; i++) {
		const struct vn_cpuset *cpus = &placement->vcpus[i];
		unsigned first = vn_cpuset_next(cpus, 0), same = 0;
		if (first == VN_HOST_CPUS_MAX)
			return false;
		caches[i] = host->cpus[first].l3;
		vn_cpuset_for_each(cpu, cpus)
		{
			if (host->cpus[cpu].l3 != caches[i])
				return false;
		}
		while (caches[same] != caches[i])
			same++;
		cache_of[i] = (uint8_t)same;
	}
	return true;
}

void vn_placement_warn(const struct vn_placement *placement, const struct vn_placement_guest *guest,
	const struct vn_host *host, const struct vn_log *log)
{
	struct vn_cpuset pinned = {.bits = {0}}, shared = pinned, siblings = pinned;
	for (unsigned i = 0; i < guest->vcpus; i++) {
		const struct vn_cpuset *cpus = &placement->vcpus[i];
		struct vn_cpuset both = common(pinned, cpus);
		vn_cpuset_or(&shared, &both);
		both = siblings_of(cpus, &pinned, host);
		vn_cpuset_or(&siblings, &both);
		vn_cpuset_or(&pinned, cpus);
	}
	warn_of(log, &shared, "more than one vCPU there, which take turns");
	if (guest->threads == 1)
		warn_of(log, &siblings,
			"SMT siblings with a vCPU each, which the guest takes for whole cores");
	shared = common(pinned, &placement->iothreads);
	warn_of(log, &shared, "a vCPU and an I/O thread take turns there");
	shared = common(pinned, &placement->vmm);
	warn_of(log, &shared, "a vCPU and the monitor's other threads take turns there");
	vn_cpuset_subtract(&pinned, &host->isolated);
	warn_of(log, &pinned,
		"vCPUs there, but not isolated: "
		"the host runs other work there too (isolcpus= keeps it away)");
}
