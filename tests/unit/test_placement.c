// SPDX-License-Identifier: Apache-2.0
//
// Which CPUs a guest gets on machines that people have: each rule, each compromise, each refusal.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/host.h"
#include "host/placement.h"
#include "vmm/plan.h"

#include "machine.h"

struct wish {
	unsigned vcpus, threads, io;
	int node; // -1: any
	const char *allowed, *affinity; // NULL: all that are online
	const char *iothreads, *vmm; // given beforehand, or NULL
};

static struct vn_cpuset set_of(const char *list)
{
	struct vn_cpuset set;
	assert_int_equal(vn_cpuset_parse(&set, list, NULL), 0);
	return set;
}

static struct vn_host *make_host(const struct machine *machine, const struct wish *wish)
{
	struct vn_host *host = malloc(sizeof(*host));
	assert_non_null(host);
	machine_describe(machine, host);
	host->allowed = wish->allowed ? set_of(wish->allowed) : host->online;
	host->affinity = wish->affinity ? set_of(wish->affinity) : host->online;
	return host;
}

static int choose(struct vn_placement *placement, const struct machine *machine,
	const struct wish *wish, struct veneer_error *error)
{
	struct vn_host *host = make_host(machine, wish);
	struct vn_placement_guest guest = {.vcpus = wish->vcpus,
		.threads = wish->threads ? wish->threads : 1,
		.iothreads = wish->io};
	for (unsigned i = 0; i < guest.vcpus; i++)
		guest.nodes[i] = wish->node;
	*placement =
		(struct vn_placement){.iothreads = set_of(wish->iothreads ? wish->iothreads : ""),
			.vmm = set_of(wish->vmm ? wish->vmm : "")};
	int code = vn_placement_choose(placement, &guest, host, error);
	free(host);
	return code;
}

// `vcpus` has the CPU of each, in order.
static void expect(struct machine machine, struct wish wish, const char *vcpus,
	const char *iothreads, const char *vmm)
{
	struct vn_placement placement;
	struct veneer_error error = {.code = 0};
	char chosen[1024] = "", text[256];
	if (choose(&placement, &machine, &wish, &error) < 0)
		fail_msg("%s", error.message);
	for (unsigned i = 0; i < wish.vcpus; i++) {
		vn_cpuset_format(&placement.vcpus[i], text, sizeof(text));
		snprintf(chosen + strlen(chosen), sizeof(chosen) - strlen(chosen), "%s%s",
			i ? " " : "", text);
	}
	assert_string_equal(chosen, vcpus);
	vn_cpuset_format(&placement.iothreads, text, sizeof(text));
	assert_string_equal(text, iothreads);
	vn_cpuset_format(&placement.vmm, text, sizeof(text));
	assert_string_equal(text, vmm);
}

static void expect_refusal(struct machine machine, struct wish wish, const char *words)
{
	struct vn_placement placement;
	struct veneer_error error = {.code = 0};
	assert_int_equal(choose(&placement, &machine, &wish, &error), -ENOSPC);
	if (!strstr(error.message, words))
		fail_msg("'%s' does not say '%s'", error.message, words);
}

static void two_sockets(void **state)
{
	(void)state;
	expect((struct machine)XEON, (struct wish){.vcpus = 4, .io = 2, .node = -1}, "1 3 5 7",
		"9,11", "0,2,4,6,8,10,12-40,42,44,46,48-79");
	expect((struct machine)XEON, (struct wish){.vcpus = 2, .io = 1, .node = 0}, "2 4", "6",
		"0-1,3,5,7-41,43,45-79");
	// More than a node has: it is used up first.
	expect((struct machine)XEON, (struct wish){.vcpus = 22, .node = -1},
		"1 3 5 7 9 11 13 15 17 19 21 23 25 27 29 31 33 35 37 39 2 4", "",
		"0,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,46,48,50,52,54,56,58,60,62,64,66,68,70,72,74,76,78");
	expect_refusal((struct machine)XEON, (struct wish){.vcpus = 21, .node = 1},
		"need 21 cores on memory's node 1 to themselves, and 20 are free");
	expect_refusal((struct machine)XEON, (struct wish){.vcpus = 41, .node = -1},
		"need 41 cores to themselves, and 40 are free (of CPUs 0-79)");
	expect_refusal((struct machine)XEON, (struct wish){.vcpus = 40, .node = -1},
		"40 vCPUs leave no core for the other threads");
	expect_refusal((struct machine)XEON, (struct wish){.vcpus = 1, .node = 2}, "0 are free");
	expect_refusal((struct machine)XEON, (struct wish){.vcpus = 1, .node = 5000}, "node 5000");
}

static void threads_of_a_core(void **state)
{
	(void)state;
	expect((struct machine)XEON, (struct wish){.vcpus = 5, .threads = 2, .io = 1, .node = 1},
		"1 41 3 43 5", "7", "0,2,4,6,8-40,42,44,46-79");
	expect((struct machine)LAPTOP,
		(struct wish){.vcpus = 12, .threads = 2, .io = 1, .node = -1},
		"2 3 4 5 6 7 8 9 10 11 0 1", "12", "13-19");
	// Not enough large cores for sixteen threads: each would need one of fourteen cores.
	expect_refusal((struct machine)LAPTOP, (struct wish){.vcpus = 16, .threads = 2, .node = -1},
		"need 16 cores to themselves, and 14 are free");
	// Threads that find no siblings get cores.
	struct machine single = XEON;
	single.threads = 1;
	expect(single, (struct wish){.vcpus = 2, .threads = 2, .io = 1, .node = 0}, "2 4", "6",
		"0-1,3,5,7-39");
}

static void isolated_first(void **state)
{
	struct machine machine = XEON;
	(void)state;
	machine.isolated = "4,6,8,10,44,46,48,50";
	expect(machine, (struct wish){.vcpus = 3, .io = 1, .node = -1}, "4 6 8", "10",
		"0-3,5,7,9,11-43,45,47,49,51-79");
	expect(machine, (struct wish){.vcpus = 8, .threads = 2, .io = 1, .node = 0},
		"4 44 6 46 8 48 10 50", "2", "0-1,3,5,7,9,11-43,45,47,49,51-79");
	// There are four: the fifth is beside them.
	expect(machine, (struct wish){.vcpus = 5, .io = 1, .node = -1}, "4 6 8 10 2", "12",
		"0-1,3,5,7,9,11,13-41,43,45,47,49,51-79");
	// Memory's node comes before isolation.
	expect(machine, (struct wish){.vcpus = 2, .io = 1, .node = 1}, "1 3", "5",
		"0,2,7,9,11-40,42,45,47,49,51-79");
	// One sibling is isolated: it is the one that is taken.
	machine.isolated = "44";
	expect(machine, (struct wish){.vcpus = 1, .io = 1, .node = 0}, "44", "2",
		"0-1,3,5-43,45-79");
	// All that is left is isolated: one of it must do.
	machine.isolated = "0-79";
	expect(machine, (struct wish){.vcpus = 1, .node = 0}, "2", "", "0");
}

static void many_caches(void **state)
{
	struct machine machine = EPYC;
	(void)state;
	expect((struct machine)EPYC, (struct wish){.vcpus = 4, .io = 4, .node = -1}, "64 65 66 67",
		"68-71", "0-63,72-191,196-255");
	expect((struct machine)EPYC, (struct wish){.vcpus = 8, .io = 4, .node = -1},
		"64 65 66 67 68 69 70 71", "72-75", "0-63,76-191,200-255");
	expect((struct machine)EPYC, (struct wish){.vcpus = 10, .io = 1, .node = 0},
		"8 9 10 11 12 13 14 15 16 17", "18", "0-7,19-135,146-255");
	// Only parts of caches are free: the one that holds all, even if it is not the first.
	expect((struct machine)EPYC,
		(struct wish){.vcpus = 4, .io = 1, .node = -1, .allowed = "0,9-11,17-22,25-26"},
		"17 18 19 20", "21", "0,9-11,22,25-26");
	// Isolated ones in two caches: the cache that holds all of the guest.
	machine.isolated = "6-13";
	expect(machine, (struct wish){.vcpus = 5, .io = 1, .node = -1}, "8 9 10 11 12", "13",
		"0-5,14-135,141-255");
}

static void large_and_small_cores(void **state)
{
	struct machine machine = LAPTOP;
	(void)state;
	expect((struct machine)LAPTOP, (struct wish){.vcpus = 4, .io = 1, .node = -1}, "2 4 6 8",
		"10", "0-1,11-19");
	expect((struct machine)LAPTOP, (struct wish){.vcpus = 8, .io = 2, .node = -1},
		"2 4 6 8 10 0 12 13", "14-15", "16-19");
	machine.capacities = true;
	expect(machine, (struct wish){.vcpus = 8, .io = 2, .node = -1}, "2 4 6 8 10 0 12 13",
		"14-15", "16-19");
	// Who isolates small cores means them.
	machine.isolated = "16-19";
	expect(machine, (struct wish){.vcpus = 2, .io = 1, .node = -1}, "16 17", "18", "0-15");
}

static void little_is_known(void **state)
{
	struct machine machine = CLOUD;
	(void)state;
	expect((struct machine)CLOUD, (struct wish){.vcpus = 2, .io = 1, .node = -1}, "2 4", "6",
		"0-1,7");
	expect((struct machine)CLOUD, (struct wish){.vcpus = 3, .io = 2, .node = 0}, "2 4 6", "0",
		"1");
	expect((struct machine)CLOUD, (struct wish){.vcpus = 3, .node = -1}, "2 4 6", "", "0-1");
	expect_refusal(
		(struct machine)CLOUD, (struct wish){.vcpus = 4, .node = -1}, "leave no core");
	machine.threads = 1;
	expect(machine, (struct wish){.vcpus = 3, .io = 5, .node = -1}, "1 2 3", "0", "0");
}

static void offline_cpus(void **state)
{
	struct machine machine = CLOUD;
	(void)state;
	machine.online = "0-2,6-7";
	expect(machine, (struct wish){.vcpus = 2, .io = 1, .node = -1}, "2 6", "0", "1");
	machine.online = "0,2,4,6";
	expect(machine, (struct wish){.vcpus = 2, .io = 1, .node = -1}, "2 4", "6", "0");
	expect_refusal(machine, (struct wish){.vcpus = 5, .node = -1}, "(of CPUs 0,2,4,6)");
}

static void forbidden_cpus(void **state)
{
	struct machine machine = XEON;
	(void)state;
	expect((struct machine)XEON,
		(struct wish){.vcpus = 3, .io = 1, .node = -1, .allowed = "0-9"}, "1 3 5", "7",
		"0,2,4,6,8-9");
	// Siblings of what is forbidden are whole cores for us.
	expect_refusal((struct machine)XEON,
		(struct wish){.vcpus = 4, .threads = 2, .node = -1, .allowed = "0-2"},
		"need 4 cores to themselves, and 3 are free (of CPUs 0-2)");
	// Someone narrowed our affinity...
	expect((struct machine)XEON,
		(struct wish){.vcpus = 2, .io = 1, .node = -1, .affinity = "20-27"}, "20 22", "24",
		"21,23,25-27");
	// ...or isolation did.
	machine.isolated = "20-27";
	expect(machine, (struct wish){.vcpus = 2, .io = 1, .node = -1, .affinity = "0-19,28-79"},
		"21 23", "25", "0-19,28-60,62,64-79");
}

static void given_cpus(void **state)
{
	(void)state;
	expect((struct machine)XEON,
		(struct wish){.vcpus = 2, .io = 1, .node = 0, .iothreads = "42", .vmm = "0"}, "4 6",
		"42", "0");
	expect((struct machine)CLOUD, (struct wish){.vcpus = 3, .io = 1, .node = -1, .vmm = "7"},
		"2 4 0", "7", "7");
	expect((struct machine)CLOUD,
		(struct wish){.vcpus = 3, .io = 1, .node = -1, .iothreads = "3"}, "4 6 0", "3",
		"3");
	expect_refusal((struct machine)CLOUD,
		(struct wish){.vcpus = 1, .node = -1, .vmm = "0,2,4,6"}, "and 0 are free");
}

static bool caches(const char *const *lists, unsigned count, uint8_t *cache_of)
{
	struct vn_host *host = make_host(&(struct machine)XEON, &(struct wish){.vcpus = 0});
	struct vn_placement placement = {.fifo = 0};
	for (unsigned i = 0; i < count; i++)
		placement.vcpus[i] = set_of(lists[i]);
	bool settled = vn_placement_caches(&placement, count, host, cache_of);
	free(host);
	return settled;
}

// Its sockets, an L3 each, have the even and the odd CPUs.
static void caches_of_vcpus(void **state)
{
	uint8_t cache_of[VN_CPUS_MAX];
	(void)state;
	assert_true(caches((const char *const[]){"2", "3,5", "4", "7", "0"}, 5, cache_of));
	assert_memory_equal(cache_of, ((uint8_t[]){0, 1, 0, 1, 0}), 5);
	assert_false(caches((const char *const[]){"2", "3-4"}, 2, cache_of));
	assert_false(caches((const char *const[]){"2", ""}, 2, cache_of));
}

// What a message function was given, a line each.
static char warnings[2048];

static void keep_warning(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)opaque;
	assert_int_equal(severity, VENEER_SEVERITY_WARNING);
	strcat(strcat(warnings, text), "\n");
}

static void expect_warnings(const struct machine *machine, struct vn_placement *placement,
	unsigned threads, const char *expected)
{
	struct vn_host *host = make_host(machine, &(struct wish){.vcpus = 0});
	struct vn_placement_guest guest = {.vcpus = 4, .threads = threads};
	const struct vn_log log = {keep_warning, NULL};
	warnings[0] = '\0';
	vn_placement_warn(placement, &guest, host, &log);
	assert_string_equal(warnings, expected);
	free(host);
}

static void warnings_of_what_is_shared(void **state)
{
	struct machine machine = CLOUD;
	struct vn_placement placement = {.fifo = 0};
	(void)state;
	machine.isolated = "2-7";
	expect_warnings(&machine, &placement, 1, "");
	placement.vcpus[0] = set_of("2");
	placement.vcpus[1] = set_of("4");
	placement.vcpus[2] = set_of("6");
	placement.iothreads = set_of("0-1,3,7");
	placement.vmm = set_of("0-1");
	expect_warnings(&machine, &placement, 1, "");
	placement.vcpus[3] = set_of("5");
	expect_warnings(&machine, &placement, 2, "");
	expect_warnings(&machine, &placement, 1,
		"CPUs 4-5: SMT siblings with a vCPU each, which the guest takes for whole cores\n");
	placement.vcpus[3] = set_of("0-2");
	expect_warnings(&machine, &placement, 1,
		"CPU 2: more than one vCPU there, which take turns\n"
		"CPUs 0-1: a vCPU and an I/O thread take turns there\n"
		"CPUs 0-1: a vCPU and the monitor's other threads take turns there\n"
		"CPUs 0-1: vCPUs there, but not isolated: "
		"the host runs other work there too (isolcpus= keeps it away)\n");
}

static void expect_bad(
	const struct vn_host *host, const struct vn_placement *placement, const char *message)
{
	struct veneer_error error = {.code = 0};
	assert_int_equal(vn_placement_check(placement, 4, host, &error), -EINVAL);
	assert_string_equal(error.message, message);
}

static void cpus_that_cannot_be_had(void **state)
{
	struct machine machine = CLOUD;
	struct vn_placement placement = {.fifo = 99};
	(void)state;
	machine.online = "0-5";
	struct vn_host *host = make_host(&machine, &(struct wish){.allowed = "0-3"});
	for (unsigned i = 0; i < 4; i++)
		placement.vcpus[i] = set_of("0-3");
	placement.iothreads = placement.vmm = set_of("3");
	assert_int_equal(vn_placement_check(&placement, 4, host, NULL), 0);
	placement.vmm = set_of("2-4");
	expect_bad(host, &placement,
		"other threads: the host's CPU 4 is not for this process: its cgroup allows 0-3");
	placement.iothreads = set_of("1023");
	expect_bad(host, &placement, "I/O threads: the host's CPU 1023 is not online: 0-5 are");
	placement.vcpus[2] = set_of("3-6");
	expect_bad(host, &placement, "vCPU 2: the host's CPU 6 is not online: 0-5 are");
	free(host);
}

// What a person is shown, whole, for a guest of these options: a name and a value each.
static void expect_plan(const struct machine *machine, const char *const *options, const char *text,
	const char *summary)
{
	struct vn_host *host = make_host(machine, &(struct wish){.vcpus = 0});
	struct veneer_plan plan = {.text = NULL};
	struct vn_placement placement, unexplained;
	struct veneer_config *config;
	struct vn_spec spec;
	struct veneer_error error;
	assert_int_equal(veneer_config_new(&config, NULL), 0);
	for (; *options; options += 2)
		if (veneer_config_set(config, options[0], options[1], &error) < 0)
			fail_msg("%s", error.message);
	if (vn_spec_make(&spec, config, &error) < 0 ||
		vn_plan_on(&plan, &placement, &spec, host, &error) < 0)
		fail_msg("%s", error.message);
	assert_string_equal(plan.text, text);
	assert_string_equal(plan.summary, summary);
	assert_int_equal(vn_plan_on(NULL, &unexplained, &spec, host, &error), 0);
	assert_memory_equal(unexplained.vcpus, placement.vcpus, sizeof(placement.vcpus));
	free(plan.text);
	free(plan.summary);
	vn_spec_free(&spec);
	veneer_config_free(config);
	free(host);
}

#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void a_plan_and_why(void **state)
{
	struct machine machine = XEON;
	(void)state;
	machine.isolated = "2,4,6";
	expect_plan(&machine,
		OPTIONS("cpus", "3,pin=auto", "memory", "256M,node=0", "disk", "a,queues=2", "disk",
			"b", "net", "user", "rng", "on"),
		"thread       CPUs      core      L3    node  isolated\n"
		"vcpu0        2         2         0     0     yes\n"
		"vcpu1        4         4         0     0     yes\n"
		"vcpu2        6         6         0     0     yes\n"
		"blk0         8,10      8,10      0     0     no\n"
		"blk1         12,14,16  12,14,16  0     0     no\n"
		"net0         18        18        0     0     no\n"
		"others       0-1,3,5,7,9,11,13,15,17,19-41,43,45,47-79 0-1,3,5,7-39 0-1 "
		"  0-1   no\n"
		"isolated CPUs first: every vCPU has one\n"
		"memory's node: vCPUs are on node 0, where their memory is\n"
		"one L3: vCPUs share it\n"
		"SMT: every vCPU has a core to itself\n"
		"I/O threads are beside the vCPUs, on none of their cores\n",
		"host CPUs: 2,4,6 for vCPUs, 8,10,12,14,16,18 for I/O threads, "
		"0-1,3,5,7,9,11,13,15,17,19-41,43,45,47-79 for others");
}

static void a_plan_of_compromises(void **state)
{
	struct machine machine = {.packages = 2,
		.caches = 2,
		.cores = 4,
		.threads = 1,
		.small = 2,
		.numbering = NUMBER_FAR,
		.isolated = "7"};
	(void)state;
	expect_plan(&machine, OPTIONS("cpus", "9,pin=auto", "disk", "a,queues=3"),
		"thread       CPUs      core      L3    node  isolated\n"
		"vcpu0        7         7         3     1     yes\n"
		"vcpu1        6         6         3     1     no\n"
		"vcpu2        4         4         2     1     no\n"
		"vcpu3        5         5         2     1     no\n"
		"vcpu4        2         2         1     0     no\n"
		"vcpu5        3         3         1     0     no\n"
		"vcpu6        1         1         0     0     no\n"
		"vcpu7        0         0         0     0     no\n"
		"vcpu8        8         8         0     0     no\n"
		"blk0         9         9         0     0     no\n"
		"others       9         9         0     0     no\n"
		"compromise: 8 of 9 vCPUs are on CPUs that are not isolated\n"
		"compromise: 1 of 9 vCPUs are on small cores\n"
		"compromise: vCPUs are on nodes 0-1: none has room for all\n"
		"compromise: vCPUs are on 4 L3 caches: none has room for all\n"
		"SMT: every vCPU has a core to itself\n"
		"compromise: 3 I/O threads take turns on 1 CPU\n"
		"I/O threads are beside the vCPUs, on none of their cores\n"
		"compromise: other threads take turns with I/O threads\n",
		"host CPUs: 0-8 for vCPUs, 9 for I/O threads, 9 for others; compromise: "
		"1 of 9 vCPUs are on small cores; compromise: vCPUs are on nodes 0-1: "
		"none has room for all; compromise: vCPUs are on 4 L3 caches: "
		"none has room for all; compromise: 3 I/O threads take turns on 1 CPU; "
		"compromise: other threads take turns with I/O threads");
	machine.online = "0,6-7";
	expect_plan(&machine,
		OPTIONS("cpus", "2,topology=1x1x1x2,pin=auto", "memory", "256M,node=1", "disk",
			"a,queues=3"),
		"thread       CPUs      core      L3    node  isolated\n"
		"vcpu0        7         2         1     1     yes\n"
		"vcpu1        6         1         1     1     no\n"
		"blk0         0         0         0     0     no\n"
		"others       0         0         0     0     no\n"
		"compromise: 1 of 2 vCPUs are on CPUs that are not isolated\n"
		"memory's node: vCPUs are on node 1, where their memory is\n"
		"one L3: vCPUs share it\n"
		"compromise: threads of a core that the guest is shown are on cores of their own\n"
		"compromise: 3 I/O threads take turns on 1 CPU\n"
		"compromise: I/O threads are on another node than vCPUs\n"
		"compromise: other threads take turns with I/O threads\n",
		"host CPUs: 6-7 for vCPUs, 0 for I/O threads, 0 for others; compromise: "
		"threads of a core that the guest is shown are on cores of their own; "
		"compromise: 3 I/O threads take turns on 1 CPU; compromise: "
		"I/O threads are on another node than vCPUs; compromise: "
		"other threads take turns with I/O threads");
}

static void a_plan_for_cells(void **state)
{
	struct machine machine = XEON;
	(void)state;
	machine.isolated = "2,4,6,8";
	expect_plan(&machine,
		OPTIONS("cpus", "4,pin=auto", "numa", "cell=0,cpus=0,3,memory=1G,node=1", "numa",
			"cell=1,cpus=1-2,memory=1G,node=0"),
		"thread       CPUs      core      L3    node  isolated\n"
		"vcpu0        1         1         1     1     no\n"
		"vcpu1        2         2         0     0     yes\n"
		"vcpu2        4         4         0     0     yes\n"
		"vcpu3        3         3         1     1     no\n"
		"others       0,5,7,9-40,45-79 0,5-39    0-1   0-1   no\n"
		"compromise: 2 of 4 vCPUs are on CPUs that are not isolated\n"
		"memory's node: vCPUs are on node 0-1, where their memory is\n"
		"one L3: vCPUs of a node share it\n"
		"SMT: every vCPU has a core to itself\n",
		"host CPUs: 1-4 for vCPUs, any for I/O threads, 0,5,7,9-40,45-79 for others");
}

static void a_plan_that_is_given(void **state)
{
	struct machine machine = CLOUD;
	(void)state;
	machine.isolated = "3";
	expect_plan(&machine, OPTIONS("cpus", "2,pin=0:2-3,sched=fifo:7"),
		"thread       CPUs      core      L3    node  isolated\n"
		"vcpu0        2-3       1         0     0     some\n"
		"vcpu1        any\n"
		"others       any\n"
		"vCPU threads run in SCHED_FIFO with priority 7\n"
		"warning: CPU 2: vCPUs there, but not isolated: "
		"the host runs other work there too (isolcpus= keeps it away)\n",
		"host CPUs: 2-3 for vCPUs, any for I/O threads, any for others");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_sockets),
		cmocka_unit_test(threads_of_a_core),
		cmocka_unit_test(isolated_first),
		cmocka_unit_test(many_caches),
		cmocka_unit_test(large_and_small_cores),
		cmocka_unit_test(little_is_known),
		cmocka_unit_test(offline_cpus),
		cmocka_unit_test(forbidden_cpus),
		cmocka_unit_test(given_cpus),
		cmocka_unit_test(caches_of_vcpus),
		cmocka_unit_test(warnings_of_what_is_shared),
		cmocka_unit_test(cpus_that_cannot_be_had),
		cmocka_unit_test(a_plan_and_why),
		cmocka_unit_test(a_plan_of_compromises),
		cmocka_unit_test(a_plan_for_cells),
		cmocka_unit_test(a_plan_that_is_given),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
