// SPDX-License-Identifier: Apache-2.0
//
// The host's CPUs as they are read from /sys: laid out as on machines that people have, with files
// missing that some kernels lack, and with files that make no sense. And this host's own.
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/thread.h"
#include "host/host.h"

#include "base/macros.h"
#include "host_tree.h"
#include "machine.h"

__attribute__((format(printf, 3, 4))) static void put_file(
	const char *root, const char *text, const char *format, ...)
{
	char path[256];
	va_list arguments;
	int used = snprintf(path, sizeof(path), "%s", root);
	va_start(arguments, format);
	vsnprintf(path + used, sizeof(path) - (size_t)used, format, arguments);
	va_end(arguments);
	for (char *at = path + used + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		if (mkdir(path, 0777) < 0 && errno != EEXIST)
			abort();
		*at = '/';
	}
	FILE *file = fopen(path, "w");
	if (!file)
		abort();
	fprintf(file, "%s\n", text);
	fclose(file);
}

static const char *list_of(char text[4096], struct vn_cpuset set)
{
	vn_cpuset_format(&set, text, 4096);
	return text;
}

static void lay_out_cpu(const struct machine *machine, const char *root,
	const struct vn_cpuset *online, unsigned cpu)
{
	char text[4096];
	const char *file = "/sys/devices/system/cpu/cpu%u/%s";
	list_of(text, MACHINE_PEERS(machine, online, cpu, core));
	put_file(root, text, file, cpu, "topology/core_cpus_list");
	put_file(root, "1", file, cpu, "cache/index0/level");
	put_file(root, text, file, cpu, "cache/index0/shared_cpu_list");
	list_of(text, MACHINE_PEERS(machine, online, cpu, package));
	put_file(root, text, file, cpu, "topology/package_cpus_list");
	if (!machine->no_nodes)
		put_file(root, text, "/sys/devices/system/node/node%u/cpulist",
			machine_cpu(machine, cpu).package);
	list_of(text, MACHINE_PEERS(machine, online, cpu, cache));
	if (machine->caches > 0) {
		put_file(root, "3", file, cpu, "cache/index1/level");
		put_file(root, text, file, cpu, "cache/index1/shared_cpu_list");
	}
	if (machine->capacities)
		put_file(root, cpu < machine_big(machine) ? "1024" : "600", file, cpu,
			"cpu_capacity");
}

// The files that the machine's kernel would show.
static void lay_out(const struct machine *machine, const char *root)
{
	char text[4096];
	struct vn_cpuset online = machine_online(machine);
	put_file(root, list_of(text, online), "/sys/devices/system/cpu/online");
	put_file(root, machine->isolated ? machine->isolated : "",
		"/sys/devices/system/cpu/isolated");
	vn_cpuset_for_each(cpu, &online) lay_out_cpu(machine, root, &online, cpu);
	snprintf(text, sizeof(text), "0-%u", machine->packages - 1);
	if (!machine->no_nodes)
		put_file(root, text, "/sys/devices/system/node/online");
	snprintf(text, sizeof(text), "%u-%u", machine_big(machine),
		machine_big(machine) + machine->small - 1);
	if (machine->small > 0 && !machine->capacities)
		put_file(root, text, "/sys/devices/cpu_atom/cpus");
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	(void)status, (void)type, (void)walk;
	return remove(path);
}

static void remove_tree(const char *root)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static char root[64];
static struct vn_host host;

static void set_up_machine(const struct machine *machine)
{
	host_tree_root(root);
	lay_out(machine, root);
}

static void tear_down_machine(void)
{
	remove_tree(root);
}

static void read_machine(void)
{
	struct veneer_error error;
	if (vn_host_read(&host, root, &error) < 0)
		fail_msg("%s", error.message);
}

static void expect_cpu(unsigned cpu, struct vn_host_cpu wanted)
{
	const struct vn_host_cpu *is = &host.cpus[cpu];
	assert_int_equal(is->core, wanted.core);
	assert_int_equal(is->l3, wanted.l3);
	assert_int_equal(is->package, wanted.package);
	assert_int_equal(is->node, wanted.node);
	assert_int_equal(is->efficient, wanted.efficient);
}

static void expect_set(const struct vn_cpuset *set, const char *list)
{
	char text[256];
	vn_cpuset_format(set, text, sizeof(text));
	assert_string_equal(text, list);
}

static void machines(void **state)
{
	(void)state;
	set_up_machine(&(struct machine){.packages = 2,
		.caches = 2,
		.cores = 8,
		.threads = 2,
		.numbering = NUMBER_FAR,
		.online = "0-20,24-31",
		.isolated = "4-7,20-21"});
	read_machine();
	tear_down_machine();
	expect_set(&host.online, "0-20,24-31");
	expect_set(&host.isolated, "4-7,20-21");
	expect_cpu(0, (struct vn_host_cpu){0});
	expect_cpu(15, (struct vn_host_cpu){.core = 15, .l3 = 12, .package = 8, .node = 1});
	expect_cpu(20, (struct vn_host_cpu){.core = 4, .l3 = 4, .package = 0, .node = 0});
	expect_cpu(31, (struct vn_host_cpu){.core = 15, .l3 = 12, .package = 8, .node = 1});

	set_up_machine(&(struct machine){.packages = 1,
		.caches = 1,
		.cores = 2,
		.threads = 2,
		.small = 2,
		.numbering = NUMBER_NEAR});
	read_machine();
	tear_down_machine();
	expect_set(&host.isolated, "");
	expect_cpu(3, (struct vn_host_cpu){.core = 2});
	expect_cpu(5, (struct vn_host_cpu){.core = 5, .efficient = true});
}

// Each machine on which placement is tested, read from its files, is what the tests take it for.
static void described_and_read(void **state)
{
	struct machine all[] = {XEON, EPYC, LAPTOP, LAPTOP, CLOUD, CLOUD};
	static struct vn_host described;
	(void)state;
	all[0].isolated = "4,6,8,10,44,46,48,50";
	all[3].capacities = true;
	all[5].online = "0-2,6-7";
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		set_up_machine(&all[i]);
		read_machine();
		tear_down_machine();
		machine_describe(&all[i], &described);
		assert_memory_equal(&host.online, &described.online, sizeof(host.online));
		assert_memory_equal(&host.isolated, &described.isolated, sizeof(host.isolated));
		vn_cpuset_for_each(cpu, &host.online) expect_cpu(cpu, described.cpus[cpu]);
	}
}

static void kinds_by_capacity(void **state)
{
	(void)state;
	set_up_machine(&(struct machine){.packages = 1,
		.caches = 1,
		.cores = 2,
		.threads = 1,
		.small = 2,
		.capacities = true});
	// A core that clocks a little lower is of the same kind.
	put_file(root, "1000", "/sys/devices/system/cpu/cpu1/cpu_capacity");
	read_machine();
	tear_down_machine();
	assert_false(host.cpus[0].efficient || host.cpus[1].efficient);
	assert_true(host.cpus[2].efficient && host.cpus[3].efficient);
}

static void older_kernels(void **state)
{
	(void)state;
	host_tree_root(root);
	put_file(root, "0-3", "/sys/devices/system/cpu/online");
	put_file(root, "2-3", "/sys/devices/system/cpu/cpu2/topology/thread_siblings_list");
	put_file(root, "0-3", "/sys/devices/system/cpu/cpu2/topology/core_siblings_list");
	put_file(root, "0-3", "/sys/devices/system/cpu/cpu3/topology/package_cpus_list");
	put_file(root, "2-3", "/sys/devices/system/cpu/cpu3/topology/die_cpus_list");
	read_machine();
	tear_down_machine();
	expect_set(&host.isolated, "");
	// Nothing at all is known of CPU 1: it is a core of its own.
	expect_cpu(1, (struct vn_host_cpu){.core = 1, .l3 = 1, .package = 1});
	expect_cpu(2, (struct vn_host_cpu){.core = 2, .l3 = 0, .package = 0});
	expect_cpu(3, (struct vn_host_cpu){.core = 3, .l3 = 2, .package = 0});
}

static void nonsense(void **state)
{
	static const struct {
		const char *path, *text;
	} cases[] = {
		{"/sys/devices/system/cpu/online", "0-"},
		{"/sys/devices/system/cpu/online", "0-1024"},
		{"/sys/devices/system/cpu/online", ""},
		{"/sys/devices/system/cpu/isolated", "(null)"},
		{"/sys/devices/system/node/online", "zero"},
		{"/sys/devices/system/node/node0/cpulist", "all"},
		{"/sys/devices/cpu_atom/cpus", ","},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct veneer_error error = {.code = 0};
		set_up_machine(&(struct machine){.packages = 1, .cores = 1, .threads = 1});
		put_file(root, cases[i].text, "%s", cases[i].path);
		int code = vn_host_read(&host, root, &error);
		tear_down_machine();
		assert_true(code == -EINVAL || code == -ENOENT);
		if (!strstr(error.message, cases[i].path))
			fail_msg("'%s' does not name %s", error.message, cases[i].path);
	}
	// What is wrong in one CPU's own files is as if the file were not there.
	set_up_machine(&(struct machine){.packages = 1, .cores = 2, .threads = 1});
	put_file(root, "1,x", "/sys/devices/system/cpu/cpu1/topology/core_cpus_list");
	put_file(root, "0", "/sys/devices/system/cpu/cpu1/topology/package_cpus_list");
	read_machine();
	tear_down_machine();
	expect_cpu(1, (struct vn_host_cpu){.core = 1, .l3 = 1, .package = 1});
}

// A narrowed affinity, as by taskset(1), narrows what this process may ask for in no way.
static void what_is_allowed(void **state)
{
	struct vn_cpuset before, one = {.bits = {0}};
	struct vn_host *own;
	(void)state;
	assert_int_equal(vn_thread_cpus(&before), 0);
	vn_cpuset_add(&one, vn_cpuset_next(&before, 0));
	assert_int_equal(vn_thread_move(&one), 0);
	struct veneer_error error;
	if (vn_host_create(&own, &error) < 0)
		fail_msg("%s", error.message);
	assert_memory_equal(&own->affinity, &one, sizeof(one));
	vn_cpuset_subtract(&before, &own->allowed);
	assert_true(vn_cpuset_is_empty(&before));
	struct vn_cpuset stray = own->allowed;
	vn_cpuset_subtract(&stray, &own->online);
	assert_true(vn_cpuset_is_empty(&stray));
	before = own->allowed;
	free(own);
	assert_int_equal(vn_thread_move(&before), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(machines),
		cmocka_unit_test(described_and_read),
		cmocka_unit_test(kinds_by_capacity),
		cmocka_unit_test(older_kernels),
		cmocka_unit_test(nonsense),
		cmocka_unit_test(what_is_allowed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
