// SPDX-License-Identifier: Apache-2.0
//
// Reading the host's topology. A CPU that went offline while this read is as one that was offline
// before: it is left out.
#include "host/host.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysfs.h"
#include "base/thread.h"

#define CPU "/sys/devices/system/cpu"

// A list of every second of 1024 CPUs fits.
#define LIST_MAX 4096

// The list in a file, and an empty one where there is no such file.
static int read_list(
	struct vn_cpuset *set, const char *root, const char *path, struct veneer_error *error)
{
	char text[LIST_MAX];
	struct veneer_error why;
	vn_sysfs_line(root, text, sizeof(text), "%s", path);
	if (vn_cpuset_parse(set, text, &why) == 0)
		return 0;
	return vn_fail(error, -EINVAL, "%s%s: %.400s", root, path, why.message);
}

// The lowest CPU in the first of the lists that is there and names any; else `fallback`.
static unsigned group_of(
	const char *root, unsigned cpu, const char *const *names, unsigned fallback)
{
	for (; *names; names++) {
		char text[LIST_MAX];
		struct vn_cpuset set;
		if (vn_sysfs_line(root, text, sizeof(text), CPU "/cpu%u/%s", cpu, *names) == 0 &&
			vn_cpuset_parse(&set, text, NULL) == 0 && vn_cpuset_has(&set, cpu))
			return vn_cpuset_next(&set, 0);
	}
	return fallback;
}

static unsigned l3_of(const char *root, unsigned cpu, unsigned fallback)
{
	int64_t level;
	for (unsigned i = 0;
		vn_sysfs_number(root, &level, CPU "/cpu%u/cache/index%u/level", cpu, i) == 0; i++) {
		char name[48];
		snprintf(name, sizeof(name), "cache/index%u/shared_cpu_list", i);
		if (level == 3)
			return group_of(root, cpu, (const char *const[]){name, NULL}, fallback);
	}
	return fallback;
}

static void read_cpu(struct vn_host_cpu *cpu, const char *root, unsigned number)
{
	// The older name of each is what kernels before 5.3 have.
	static const char *const core[] = {
		"topology/core_cpus_list", "topology/thread_siblings_list", NULL};
	static const char *const package[] = {
		"topology/package_cpus_list", "topology/core_siblings_list", NULL};
	static const char *const die[] = {"topology/die_cpus_list", NULL};
	cpu->core = group_of(root, number, core, number);
	cpu->package = group_of(root, number, package, cpu->core);
	cpu->l3 = l3_of(root, number, group_of(root, number, die, cpu->package));
}

static int read_nodes(struct vn_host *host, const char *root, struct veneer_error *error)
{
	struct vn_cpuset nodes;
	int code = read_list(&nodes, root, "/sys/devices/system/node/online", error);
	vn_cpuset_for_each(node, &nodes)
	{
		char path[64];
		struct vn_cpuset cpus;
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", node);
		if (code == 0)
			code = read_list(&cpus, root, path, error);
		if (code < 0)
			break;
		vn_cpuset_for_each(cpu, &cpus) host->cpus[cpu].node = node;
	}
	return code;
}

// Hybrid processors: Intel's list their small cores as a PMU's; others, and newer kernels, give
// each CPU a capacity. One that differs by a little only is a core that clocks higher, not a kind.
static int read_kinds(struct vn_host *host, const char *root, struct veneer_error *error)
{
	int64_t capacity[VN_HOST_CPUS_MAX] = {0}, most = 0;
	struct vn_cpuset small;
	int code = read_list(&small, root, "/sys/devices/cpu_atom/cpus", error);
	vn_cpuset_for_each(cpu, &host->online)
	{
		vn_sysfs_number(root, &capacity[cpu], CPU "/cpu%u/cpu_capacity", cpu);
		most = capacity[cpu] > most ? capacity[cpu] : most;
	}
	vn_cpuset_for_each(cpu, &host->online) host->cpus[cpu].efficient =
		vn_cpuset_has(&small, cpu) || (capacity[cpu] > 0 && capacity[cpu] * 4 < most * 3);
	return code;
}

int vn_host_read(struct vn_host *host, const char *root, struct veneer_error *error)
{
	*host = (struct vn_host){.cpus = {{0}}};
	int code = read_list(&host->online, root, CPU "/online", error);
	if (code < 0)
		return code;
	if (vn_cpuset_is_empty(&host->online))
		return vn_fail(error, -ENOENT, "%s" CPU "/online lists no CPU", root);
	code = read_list(&host->isolated, root, CPU "/isolated", error);
	vn_cpuset_for_each(cpu, &host->online) read_cpu(&host->cpus[cpu], root, cpu);
	if (code == 0)
		code = read_nodes(host, root, error);
	return code == 0 ? read_kinds(host, root, error) : code;
}

// A thread that asks for every CPU is given all that its cgroup has, whatever it had before.
static void *probe(void *arg)
{
	struct vn_cpuset *allowed = arg, all;
	memset(&all, 0xff, sizeof(all));
	int code = vn_thread_move(&all);
	if (code == 0)
		code = vn_thread_cpus(allowed);
	return (void *)(intptr_t)code;
}

int vn_host_allowed(struct vn_host *host, struct veneer_error *error)
{
	pthread_t thread;
	void *result;
	int code = vn_thread_start(
		&thread, &(struct vn_thread_place){.fifo = 0}, probe, &host->allowed);
	if (code == 0) {
		pthread_join(thread, &result);
		code = (int)(intptr_t)result;
	}
	if (code == 0)
		code = vn_thread_cpus(&host->affinity);
	return code < 0 ? vn_fail(error, code, "cannot tell which CPUs this process may use: %s",
				  strerror(-code))
			: 0;
}

int vn_host_create(struct vn_host **result, struct veneer_error *error)
{
	struct vn_host *host = malloc(sizeof(*host));
	if (!host)
		return vn_fail(error, -ENOMEM, "no memory for the host's topology");
	int code = vn_host_read(host, "", error);
	if (code == 0)
		code = vn_host_allowed(host, error);
	if (code < 0) {
		free(host);
		return code;
	}
	*result = host;
	return 0;
}
