// SPDX-License-Identifier: Apache-2.0
//
// Whether anything but vCPUs runs on the CPUs meant for them: other programs, the timer tick, RCU
// callbacks, the other thread of a core, devices' interrupts.
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuset.h"
#include "base/sysfs.h"
#include "cli/doctor.h"
#include "guest/words.h"

static const char CPU_DIRECTORY[] = "/sys/devices/system/cpu";

static struct vn_cpuset without(const struct vn_cpuset *set, const struct vn_cpuset *other)
{
	struct vn_cpuset rest = *set;

	vn_cpuset_subtract(&rest, other);
	return rest;
}

// The CPUs `offline` are meant for vCPUs: some can be switched on, others this host does not have.
static void suggest_cpus(
	struct doctor_check *check, const struct doctor_host *host, const struct vn_cpuset *offline)
{
	char path[128], list[DOCTOR_LIST_BYTES];

	vn_cpuset_for_each(cpu, offline)
	{
		snprintf(path, sizeof(path), "%s/cpu%u/online", CPU_DIRECTORY, cpu);
		if (doctor_exists(host, path)) {
			doctor_remedy(check, "echo 1 > %s, or name others", path);
			return;
		}
	}
	doctor_remedy(check, "name CPUs that this host has: %s", doctor_list(&host->online, list));
}

static void check_cpus(struct doctor_report *report, const struct doctor_host *host)
{
	char first[DOCTOR_LIST_BYTES], second[DOCTOR_LIST_BYTES];
	struct vn_cpuset offline = without(&host->meant, &host->online);
	struct vn_cpuset forbidden = without(&host->vcpus, &host->probes->allowed);

	if (host->online_code < 0) {
		doctor_unread(report, "cpus", host->online_code, "/sys/devices/system/cpu/online");
	} else if (vn_cpuset_count(&host->probes->allowed) == 0) {
		doctor_add(report, "cpus", DOCTOR_UNKNOWN,
			"online %s; what is allowed here is not told",
			doctor_list(&host->online, first));
	} else if (vn_cpuset_count(&offline) > 0) {
		struct doctor_check *check =
			doctor_add(report, "cpus", DOCTOR_BAD, "%s offline or missing, online %s",
				doctor_list(&offline, first), doctor_list(&host->online, second));
		doctor_cost(check, "no vCPU can be pinned there");
		suggest_cpus(check, host, &offline);
	} else if (vn_cpuset_count(&forbidden) > 0) {
		struct doctor_check *check = doctor_add(report, "cpus", DOCTOR_BAD,
			"%s forbidden by the cgroup's cpuset, which allows %s",
			doctor_list(&forbidden, first),
			doctor_list(&host->probes->allowed, second));
		doctor_cost(check, "no vCPU can be pinned there");
		doctor_remedy(
			check, "add them to the cgroup's cpuset.cpus (systemd: AllowedCPUs=)");
	} else {
		doctor_add(report, "cpus", DOCTOR_OK, "online %s, allowed here %s",
			doctor_list(&host->online, first),
			doctor_list(&host->probes->allowed, second));
	}
}

// A check of the CPUs that have some protection: all those meant for vCPUs should. False: they have
// not, and *check is to be explained.
static bool covered(struct doctor_report *report, const struct doctor_host *host, const char *name,
	const struct vn_cpuset *protected, struct doctor_check **check)
{
	char text[DOCTOR_LIST_BYTES];
	struct vn_cpuset missing = without(&host->vcpus, protected);

	if (vn_cpuset_count(protected) == 0)
		*check = doctor_add(report, name, DOCTOR_WARN, "none");
	else if (vn_cpuset_count(&missing) > 0)
		*check = doctor_add(
			report, name, DOCTOR_WARN, "not on CPU %s", doctor_list(&missing, text));
	else
		*check = doctor_add(report, name, DOCTOR_OK, "%s", doctor_list(protected, text));
	return (*check)->status == DOCTOR_OK;
}

static void check_isolcpus(struct doctor_report *report, const struct doctor_host *host)
{
	const char *path = "/sys/devices/system/cpu/isolated";
	struct vn_cpuset isolated;
	struct doctor_check *check;
	int ret = doctor_read_cpus(host, &isolated, path);

	if (ret < 0) {
		doctor_unread(report, "isolcpus", ret, path);
	} else if (!covered(report, host, "isolcpus", &isolated, &check)) {
		doctor_cost(check, "the scheduler puts other programs on the vCPUs' cores");
		doctor_remedy(check, "boot with isolcpus=managed_irq,domain,%s", host->advised);
	}
}

// How often the tick comes, from the kernel's configuration.
static const char *tick_rate(const struct doctor_host *host, char *text, size_t size)
{
	char release[128], path[256];

	if (vn_sysfs_line(host->root, release, sizeof(release), "/proc/sys/kernel/osrelease") ==
		0) {
		snprintf(path, sizeof(path), "/boot/config-%s", release);
		if (doctor_find_line(host, path, "CONFIG_HZ=", text, size) == 0)
			return text;
	}
	return "CONFIG_HZ";
}

static void check_nohz_full(struct doctor_report *report, const struct doctor_host *host)
{
	const char *path = "/sys/devices/system/cpu/nohz_full";
	struct vn_cpuset tickless;
	struct doctor_check *check;
	char rate[16];
	int ret = doctor_read_cpus(host, &tickless, path);

	if (ret == -ENOENT && host->online_code == 0)
		check = doctor_add(report, "nohz_full", DOCTOR_WARN,
			"this kernel is built without CONFIG_NO_HZ_FULL");
	else if (ret < 0) {
		doctor_unread(report, "nohz_full", ret, path);
		return;
	} else if (covered(report, host, "nohz_full", &tickless, &check)) {
		return;
	}
	doctor_cost(check, "timer ticks interrupt a busy vCPU %s times a second",
		tick_rate(host, rate, sizeof(rate)));
	doctor_remedy(check, "%sboot with nohz_full=%s",
		ret < 0 ? "a kernel with CONFIG_NO_HZ_FULL, then " : "", host->advised);
}

// Add the CPUs of the boot parameter `name`, which `name` alone or a list that is not of plain
// numbers gives to all.
static void add_parameter(struct vn_cpuset *set, const struct doctor_host *host, const char *name)
{
	struct vn_cpuset listed;
	struct veneer_error error;
	size_t length = strlen(name);
	char word[1024];

	for (const char *rest = host->cmdline; (rest = words_next(rest, word, sizeof(word)));) {
		if (strncmp(word, name, length) != 0 || (word[length] != '=' && word[length]))
			continue;
		const char *list = word + length + (word[length] == '=');
		if (!*list || vn_cpuset_parse(&listed, list, &error) < 0)
			listed = host->online;
		vn_cpuset_for_each(cpu, &listed) vn_cpuset_add(set, cpu);
	}
}

// nohz_full= offloads callbacks just as rcu_nocbs= does.
static void check_rcu_nocbs(struct doctor_report *report, const struct doctor_host *host)
{
	struct vn_cpuset offloaded = {.bits = {0}};
	struct doctor_check *check;

	if (host->cmdline_code < 0) {
		doctor_unread(report, "rcu_nocbs", host->cmdline_code, "/proc/cmdline");
		return;
	}
	add_parameter(&offloaded, host, "rcu_nocbs");
	if (doctor_exists(host, "/sys/devices/system/cpu/nohz_full"))
		add_parameter(&offloaded, host, "nohz_full");
	if (!covered(report, host, "rcu_nocbs", &offloaded, &check)) {
		doctor_cost(check, "RCU callbacks of the whole host run on the vCPUs' cores");
		doctor_remedy(check, "boot with rcu_nocbs=%s", host->advised);
	}
}

// The other threads of the cores of `cpus` that are not in it themselves.
static struct vn_cpuset strangers(const struct doctor_host *host, const struct vn_cpuset *cpus)
{
	struct vn_cpuset all = {.bits = {0}};
	struct vn_cpuset siblings;
	char path[128];

	vn_cpuset_for_each(cpu, cpus)
	{
		snprintf(path, sizeof(path), "%s/cpu%u/topology/thread_siblings_list",
			CPU_DIRECTORY, cpu);
		if (doctor_read_cpus(host, &siblings, path) < 0)
			continue;
		vn_cpuset_for_each(sibling, &siblings) vn_cpuset_add(&all, sibling);
	}
	vn_cpuset_subtract(&all, cpus);
	return all;
}

static void check_smt(struct doctor_report *report, const struct doctor_host *host)
{
	const char *path = "/sys/devices/system/cpu/smt/active";
	struct vn_cpuset others = strangers(host, &host->vcpus);
	struct doctor_check *check;
	char text[DOCTOR_LIST_BYTES];
	int64_t active;
	int ret = vn_sysfs_number(host->root, &active, "%s", path);

	if (ret < 0) {
		doctor_unread(report, "smt", ret, path);
	} else if (!active) {
		doctor_add(report, "smt", DOCTOR_OK, "one thread a core");
	} else if (vn_cpuset_count(&host->vcpus) > 0 && vn_cpuset_count(&others) == 0) {
		doctor_add(report, "smt", DOCTOR_OK, "on; whole cores are set aside");
	} else if (vn_cpuset_count(&host->vcpus) > 0) {
		check = doctor_add(report, "smt", DOCTOR_WARN, "on; CPU %s shares cores with vCPUs",
			doctor_list(&others, text));
		doctor_cost(check, "what runs there takes part of a vCPU's core and caches");
		doctor_remedy(check, "isolate CPU %s too, or echo 0 > %s/cpu%u/online for each",
			text, CPU_DIRECTORY, vn_cpuset_next(&others, 0));
	} else {
		check = doctor_add(report, "smt", DOCTOR_WARN, "on; no whole core is set aside");
		doctor_cost(check, "a vCPU shares its core with whatever runs on the sibling");
		doctor_remedy(check,
			"isolate whole cores, or boot with nosmt (now: echo off > %s/smt/control)",
			CPU_DIRECTORY);
	}
}

// Call `visit` for each entry of a directory whose name is a number: 0, or the negative errno.
static int for_each_number(const struct doctor_host *host, const char *path,
	void (*visit)(const struct doctor_host *host, unsigned number, void *opaque), void *opaque)
{
	char full[4096];
	const struct dirent *entry;

	snprintf(full, sizeof(full), "%s%s", host->root, path);
	DIR *directory = opendir(full);
	if (!directory)
		return -errno;
	while ((entry = readdir(directory))) {
		if (isdigit((unsigned char)entry->d_name[0]))
			visit(host, (unsigned)strtoul(entry->d_name, NULL, 10), opaque);
	}
	closedir(directory);
	return 0;
}

static void find_irqbalance(const struct doctor_host *host, unsigned pid, void *found)
{
	char name[32];

	if (vn_sysfs_line(host->root, name, sizeof(name), "/proc/%u/comm", pid) == 0 &&
		strcmp(name, "irqbalance") == 0)
		*(bool *)found = true;
}

// Interrupts that reach the CPUs meant for vCPUs.
struct strays {
	unsigned count;
	unsigned example;
	char numbers[96];
};

// An interrupt with a handler has a directory of its name. That of a device passed through belongs
// where its guest runs.
static bool has_handler(const struct doctor_host *host, unsigned irq)
{
	char full[4096];
	const struct dirent *entry;
	bool found = false;

	snprintf(full, sizeof(full), "%s/proc/irq/%u", host->root, irq);
	DIR *directory = opendir(full);
	while (directory && (entry = readdir(directory))) {
		bool vfio = strncmp(entry->d_name, "vfio-", strlen("vfio-")) == 0;
		found |= entry->d_type == DT_DIR && entry->d_name[0] != '.' && !vfio;
	}
	if (directory)
		closedir(directory);
	return found;
}

static void find_stray(const struct doctor_host *host, unsigned irq, void *opaque)
{
	struct strays *strays = opaque;
	struct vn_cpuset reached;
	char path[64];

	snprintf(path, sizeof(path), "/proc/irq/%u/effective_affinity_list", irq);
	if (doctor_read_cpus(host, &reached, path) < 0) {
		snprintf(path, sizeof(path), "/proc/irq/%u/smp_affinity_list", irq);
		if (doctor_read_cpus(host, &reached, path) < 0)
			return;
	}
	vn_cpuset_and(&reached, &host->vcpus);
	if (vn_cpuset_count(&reached) == 0 || !has_handler(host, irq))
		return;
	if (strays->count++ == 0)
		strays->example = irq;
	if (strays->count <= 8)
		doctor_append(strays->numbers, sizeof(strays->numbers), " %u", irq);
	else if (strays->count == 9)
		doctor_append(strays->numbers, sizeof(strays->numbers), " ...");
}

// irqbalance by itself stays away from isolated and tickless CPUs.
static bool balanced_onto(const struct doctor_host *host, bool irqbalance)
{
	struct vn_cpuset tickless;
	struct vn_cpuset open = without(&host->vcpus, &host->isolated);

	(void)doctor_read_cpus(host, &tickless, "/sys/devices/system/cpu/nohz_full");
	vn_cpuset_subtract(&open, &tickless);
	return irqbalance && vn_cpuset_count(&open) > 0;
}

static void check_interrupts(struct doctor_report *report, const struct doctor_host *host)
{
	struct strays strays = {.count = 0};
	struct vn_cpuset others = without(&host->online, &host->vcpus);
	struct doctor_check *check;
	char vcpus[DOCTOR_LIST_BYTES], rest[DOCTOR_LIST_BYTES];
	bool irqbalance = false;
	int ret = for_each_number(host, "/proc/irq", find_stray, &strays);

	if (ret < 0) {
		doctor_unread(report, "interrupts", ret, "/proc/irq");
		return;
	}
	for_each_number(host, "/proc", find_irqbalance, &irqbalance);
	doctor_list(&host->vcpus, vcpus);
	doctor_list(&others, rest);
	if (vn_cpuset_count(&host->vcpus) == 0) {
		doctor_add(report, "interrupts", DOCTOR_UNKNOWN,
			"no CPU isolated or named; irqbalance %s", irqbalance ? "runs" : "absent");
	} else if (strays.count > 0) {
		check = doctor_add(report, "interrupts", DOCTOR_WARN,
			"%u reach CPU %s:%s; irqbalance %s", strays.count, vcpus, strays.numbers,
			irqbalance ? "runs" : "absent");
		doctor_cost(check, "a device's interrupt stops the vCPU that it falls on");
		if (doctor_leaves_none(host))
			doctor_remedy(check, "leave the host a CPU for them: name fewer for vCPUs");
		else
			doctor_remedy(check,
				"echo %s > /proc/irq/%u/smp_affinity_list, for each; "
				"or boot with irqaffinity=%s",
				rest, strays.example, rest);
	} else if (balanced_onto(host, irqbalance)) {
		check = doctor_add(report, "interrupts", DOCTOR_WARN,
			"irqbalance runs and may use CPU %s", vcpus);
		doctor_cost(check, "a device's interrupt stops the vCPU that it falls on");
		doctor_remedy(
			check, "IRQBALANCE_BANNED_CPULIST=%s in /etc/default/irqbalance", vcpus);
	} else {
		doctor_add(report, "interrupts", DOCTOR_OK, "none reaches CPU %s; irqbalance %s",
			vcpus, irqbalance ? "runs" : "absent");
	}
}

void doctor_check_isolation(struct doctor_report *report, const struct doctor_host *host)
{
	check_cpus(report, host);
	check_isolcpus(report, host);
	check_nohz_full(report, host);
	check_rcu_nocbs(report, host);
	check_smt(report, host);
	check_interrupts(report, host);
}
