// SPDX-License-Identifier: Apache-2.0
//
// What guest memory can be made of, and what the kernel does to it behind the guest's back.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuset.h"
#include "base/macros.h"
#include "base/sysfs.h"
#include "cli/doctor.h"

// The sizes that x86 has, and `--memory ...,hugepages=` takes.
static const struct {
	const char *name;
	unsigned kib;
} SIZES[] = {{"2M", 2048}, {"1G", 1048576}};

// One node's pages of one size: their number and how many are free. False: there is no such pool.
static bool read_pool(const struct doctor_host *host, unsigned node, unsigned kib, int64_t *total,
	int64_t *unused)
{
	static const char directory[] = "/sys/devices/system/node";

	return vn_sysfs_number(host->root, total, "%s/node%u/hugepages/hugepages-%ukB/nr_hugepages",
		       directory, node, kib) == 0 &&
	       vn_sysfs_number(host->root, unused,
		       "%s/node%u/hugepages/hugepages-%ukB/free_hugepages", directory, node,
		       kib) == 0;
}

// Add what a node's pools hold, such as " 60/64 2M, 1/1 1G". -ENOENT: it has none; else whether a
// page is free.
static int describe_pools(const struct doctor_host *host, unsigned node, char *text, size_t bytes)
{
	int any = -ENOENT;
	bool reserved = false;
	int64_t total, unused;

	for (unsigned size = 0; size < ARRAY_SIZE(SIZES); size++) {
		if (!read_pool(host, node, SIZES[size].kib, &total, &unused))
			continue;
		any = any > 0 || unused > 0;
		if (total == 0)
			continue;
		doctor_append(text, bytes, "%s %" PRId64 "/%" PRId64 " %s", reserved ? "," : "",
			unused, total, SIZES[size].name);
		reserved = true;
	}
	if (!reserved)
		doctor_append(text, bytes, " none");
	return any;
}

// Guests are meant to run on this node: it has some of their CPUs, where those are known, or any.
static bool matters(const struct doctor_host *host, unsigned node)
{
	struct vn_cpuset cpus;
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", node);
	if (doctor_read_cpus(host, &cpus, path) < 0)
		return true;
	if (vn_cpuset_count(&host->vcpus) > 0)
		vn_cpuset_and(&cpus, &host->vcpus);
	return vn_cpuset_count(&cpus) > 0;
}

static void check_huge_pages(struct doctor_report *report, const struct doctor_host *host)
{
	const char *name = "huge-pages";
	const char *path = "/sys/devices/system/node/online";
	struct vn_cpuset nodes;
	char found[256] = "", lacking[64] = "";
	unsigned first = 0;
	int any = -ENOENT;
	int ret = doctor_read_cpus(host, &nodes, path);

	if (ret < 0) {
		doctor_unread(report, name, ret, path);
		return;
	}
	vn_cpuset_for_each(node, &nodes)
	{
		doctor_append(found, sizeof(found), "%snode %u:", *found ? "; " : "", node);
		int unused = describe_pools(host, node, found, sizeof(found));
		if (unused < 0)
			continue;
		any = 1;
		if (unused > 0 || !matters(host, node))
			continue;
		if (!*lacking)
			first = node;
		doctor_append(lacking, sizeof(lacking), "%s%u", *lacking ? "," : "", node);
	}
	if (any < 0) {
		doctor_unread(report, name, any, "/sys/devices/system/node/node*/hugepages");
		return;
	}
	struct doctor_check *check =
		doctor_add(report, name, *lacking ? DOCTOR_WARN : DOCTOR_OK, "%s free", found);
	if (*lacking) {
		doctor_cost(check,
			"no reserved huge pages for guests on node %s: TLB misses, page faults",
			lacking);
		doctor_remedy(check,
			"boot with hugepagesz=1G hugepages=%u:N, "
			"or echo N > "
			"/sys/devices/system/node/node%u/hugepages/hugepages-2048kB/nr_hugepages",
			first, first);
	}
}

static void check_thp(struct doctor_report *report, const struct doctor_host *host)
{
	const char *path = "/sys/kernel/mm/transparent_hugepage/enabled";
	char text[64];
	int ret = vn_sysfs_line(host->root, text, sizeof(text), "%s", path);

	if (ret < 0) {
		doctor_unread(report, "thp", ret, path);
		return;
	}
	doctor_chosen(text);
	bool never = strcmp(text, "never") == 0;
	struct doctor_check *check =
		doctor_add(report, "thp", never ? DOCTOR_WARN : DOCTOR_OK, "%s", text);
	if (never) {
		doctor_cost(check, "guest memory without hugepages= is in 4 KiB pages: TLB misses");
		doctor_remedy(check, "echo madvise > %s", path);
	}
}

static void check_ksm(struct doctor_report *report, const struct doctor_host *host)
{
	const char *path = "/sys/kernel/mm/ksm/run";
	int64_t run;
	int ret = vn_sysfs_number(host->root, &run, "%s", path);

	if (ret == -ENOENT && doctor_exists(host, "/sys/kernel/mm"))
		doctor_add(report, "ksm", DOCTOR_OK, "not in this kernel");
	else if (ret < 0)
		doctor_unread(report, "ksm", ret, path);
	else if (run != 1)
		doctor_add(report, "ksm", DOCTOR_OK, "off");
	else {
		struct doctor_check *check = doctor_add(report, "ksm", DOCTOR_WARN, "on");
		doctor_cost(check, "ksmd's scans take CPU time; "
				   "a write to a merged page faults and copies it");
		doctor_remedy(check, "echo 2 > %s", path);
	}
}

static void check_numa_balancing(struct doctor_report *report, const struct doctor_host *host)
{
	const char *name = "numa-balancing";
	const char *path = "/proc/sys/kernel/numa_balancing";
	struct vn_cpuset nodes;
	int64_t mode;
	int ret = vn_sysfs_number(host->root, &mode, "%s", path);

	(void)doctor_read_cpus(host, &nodes, "/sys/devices/system/node/online");
	if (ret == -ENOENT && doctor_exists(host, "/proc/sys/kernel")) {
		doctor_add(report, name, DOCTOR_OK, "not in this kernel");
	} else if (ret < 0) {
		doctor_unread(report, name, ret, path);
	} else if (mode == 0 || vn_cpuset_count(&nodes) == 1) {
		doctor_add(report, name, DOCTOR_OK, "%s", mode == 0 ? "off" : "on, but one node");
	} else {
		struct doctor_check *check = doctor_add(report, name, DOCTOR_WARN,
			"on (%" PRId64 "), %u nodes", mode, vn_cpuset_count(&nodes));
		doctor_cost(check, "guest pages are unmapped to see who uses them: "
				   "page faults and exits");
		doctor_remedy(check, "sysctl kernel.numa_balancing=0");
	}
}

static void check_swap(struct doctor_report *report, const struct doctor_host *host)
{
	char area[128], zswap[8] = "";
	int ret = doctor_find_line(host, "/proc/swaps", "/", area, sizeof(area));

	if (ret == -ENODATA) {
		doctor_add(report, "swap", DOCTOR_OK, "none");
		return;
	}
	if (ret < 0) {
		doctor_unread(report, "swap", ret, "/proc/swaps");
		return;
	}
	area[strcspn(area, " \t")] = '\0';
	(void)vn_sysfs_line(
		host->root, zswap, sizeof(zswap), "/sys/module/zswap/parameters/enabled");
	struct doctor_check *check = doctor_add(report, "swap", DOCTOR_WARN, "/%s%s", area,
		zswap[0] == 'Y' ? ", through zswap" : "");
	doctor_cost(check, "a guest's page that was swapped out stops its vCPU until it is read");
	doctor_remedy(check, "--memory SIZE,lock or hugepages=; or swapoff -a");
}

static void check_memlock(struct doctor_report *report, const struct doctor_host *host)
{
	const char *name = "memlock";
	uint64_t limit = host->probes->memlock;
	char total[64];

	if (host->probes->ipc_lock || limit == UINT64_MAX) {
		doctor_add(report, name, DOCTOR_OK, "%s",
			limit == UINT64_MAX ? "unlimited" : "no limit binds CAP_IPC_LOCK");
		return;
	}
	// Guest memory is never more than the host has.
	int ret = doctor_find_line(host, "/proc/meminfo", "MemTotal:", total, sizeof(total));
	uint64_t kib = strtoull(total, NULL, 10);
	if (ret == 0 && kib > 0 && limit / 1024 >= kib) {
		doctor_add(report, name, DOCTOR_OK, "%" PRIu64 " KiB, all of the memory",
			limit / 1024);
		return;
	}
	struct doctor_check *check = doctor_add(
		report, name, DOCTOR_WARN, "%" PRIu64 " KiB may be locked", limit / 1024);
	doctor_cost(check, "no --memory SIZE,lock beyond that, no passed-through devices");
	doctor_remedy(check, "ulimit -l unlimited; for good: "
			     "'* - memlock unlimited' in /etc/security/limits.d, "
			     "LimitMEMLOCK=infinity in a service");
}

void doctor_check_memory(struct doctor_report *report, const struct doctor_host *host)
{
	check_huge_pages(report, host);
	check_thp(report, host);
	check_ksm(report, host);
	check_numa_balancing(report, host);
	check_swap(report, host);
	check_memlock(report, host);
}
