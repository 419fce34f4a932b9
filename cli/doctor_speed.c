// SPDX-License-Identifier: Apache-2.0
//
// Whether the CPUs are as fast and as quick to wake as they can be: clock, idle states, and what
// mitigations do at each entry and exit.
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuset.h"
#include "base/macros.h"
#include "base/sysfs.h"
#include "cli/doctor.h"

// An idle state that is left within this costs little beside the interrupt itself.
#define QUICK_US 10

static const char CPU_DIRECTORY[] = "/sys/devices/system/cpu";

// The CPUs meant for vCPUs; all, where there are none.
static const struct vn_cpuset *candidates(const struct doctor_host *host)
{
	return vn_cpuset_count(&host->vcpus) > 0 ? &host->vcpus : &host->online;
}

static void check_governor(struct doctor_report *report, const struct doctor_host *host)
{
	struct vn_cpuset slow = {.bits = {0}};
	char governor[32], other[32] = "", list[DOCTOR_LIST_BYTES];
	unsigned read = 0;
	int code = -ENOENT;

	vn_cpuset_for_each(cpu, candidates(host))
	{
		int ret = vn_sysfs_line(host->root, governor, sizeof(governor),
			"%s/cpu%u/cpufreq/scaling_governor", CPU_DIRECTORY, cpu);
		if (ret < 0) {
			code = ret;
			continue;
		}
		read++;
		if (strcmp(governor, "performance") != 0) {
			vn_cpuset_add(&slow, cpu);
			memcpy(other, governor, sizeof(other));
		}
	}
	if (read == 0 && host->guest && code == -ENOENT) {
		doctor_add(report, "governor", DOCTOR_UNKNOWN,
			"no cpufreq; the hypervisor sets the clock");
	} else if (read == 0) {
		doctor_unread(report, "governor", code,
			"/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor");
	} else if (vn_cpuset_count(&slow) == 0) {
		doctor_add(report, "governor", DOCTOR_OK, "performance");
	} else {
		doctor_list(&slow, list);
		struct doctor_check *check =
			doctor_add(report, "governor", DOCTOR_WARN, "%s on CPU %s", other, list);
		doctor_cost(check, "the clock rises only after a load has been seen");
		doctor_remedy(check, "cpupower -c %s frequency-set -g performance", list);
	}
}

// The slowest idle state that a CPU may enter.
struct idle {
	int64_t us; // to leave it
	char name[32];
	struct vn_cpuset cpus; // that may enter slow ones
	bool any; // state was read
};

static void look_at_states(const struct doctor_host *host, unsigned cpu, struct idle *idle)
{
	int64_t us, disabled;

	for (unsigned state = 0;
		vn_sysfs_number(host->root, &us, "%s/cpu%u/cpuidle/state%u/latency", CPU_DIRECTORY,
			cpu, state) == 0;
		state++) {
		idle->any = true;
		int ret = vn_sysfs_number(host->root, &disabled, "%s/cpu%u/cpuidle/state%u/disable",
			CPU_DIRECTORY, cpu, state);
		if (us <= QUICK_US || (ret == 0 && disabled))
			continue;
		vn_cpuset_add(&idle->cpus, cpu);
		if (us <= idle->us)
			continue;
		idle->us = us;
		(void)vn_sysfs_line(host->root, idle->name, sizeof(idle->name),
			"%s/cpu%u/cpuidle/state%u/name", CPU_DIRECTORY, cpu, state);
	}
}

static void check_idle(struct doctor_report *report, const struct doctor_host *host)
{
	const char *path = "/sys/devices/system/cpu/cpuidle/current_driver";
	struct idle idle = {.us = 0};
	char driver[32], list[DOCTOR_LIST_BYTES];
	int ret = vn_sysfs_line(host->root, driver, sizeof(driver), "%s", path);

	vn_cpuset_for_each(cpu, candidates(host)) look_at_states(host, cpu, &idle);
	if (ret < 0 && !idle.any) {
		doctor_unread(report, "c-states", ret, path);
	} else if (idle.us == 0) {
		doctor_add(report, "c-states", DOCTOR_OK, "none slower than %d us, driver %s",
			QUICK_US, driver);
	} else {
		doctor_list(&idle.cpus, list);
		struct doctor_check *check = doctor_add(report, "c-states", DOCTOR_WARN,
			"down to %s on CPU %s, driver %s", idle.name, list, driver);
		doctor_cost(check, "a halted vCPU's core takes up to %lld us to wake",
			(long long)idle.us);
		doctor_remedy(check, "cpupower -c %s idle-set -D %d, or boot with %s.max_cstate=1",
			list, QUICK_US + 1,
			strcmp(driver, "intel_idle") == 0 ? "intel_idle" : "processor");
	}
}

// Mitigations that work at entries and exits, by the words in which the kernel tells of them.
static const char *const AT_EXITS[] = {
	"cache flushes", // L1TF: the L1 data cache, before an entry
	"Clear CPU buffers", // MDS and its kin: before an entry
	"Mitigation: IBRS", // the old kind: a register written at each exit
	"IBPB on VMEXIT", "IBPB before exit", "Safe RET", "untrained return thunk",
	"Split huge pages", // iTLB multihit: executable guest memory in 4 KiB pages
};

static bool works_at_exits(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(AT_EXITS); i++) {
		if (strstr(text, AT_EXITS[i]) && strstr(text, "Mitigation"))
			return true;
	}
	return false;
}

// Names of what is mitigated there, in the order of the directory: 0, or the negative errno.
static int list_mitigations(
	const struct doctor_host *host, const char *path, char *names, size_t size)
{
	char full[4096], text[256];
	struct dirent **entries;

	snprintf(full, sizeof(full), "%s%s", host->root, path);
	int count = scandir(full, &entries, NULL, alphasort);
	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;
		if (vn_sysfs_line(host->root, text, sizeof(text), "%s/%s", path, name) == 0 &&
			works_at_exits(text))
			doctor_append(names, size, "%s%s", *names ? ", " : "", name);
		free(entries[i]);
	}
	free(entries);
	return 0;
}

static void check_mitigations(struct doctor_report *report, const struct doctor_host *host)
{
	const char *path = "/sys/devices/system/cpu/vulnerabilities";
	char names[192] = "";
	int ret = list_mitigations(host, path, names, sizeof(names));

	if (ret < 0) {
		doctor_unread(report, "mitigations", ret, path);
	} else if (doctor_has_word(host->cmdline, "mitigations=off")) {
		doctor_add(report, "mitigations", DOCTOR_OK,
			"off (mitigations=off): every guest is trusted");
	} else if (!names[0]) {
		doctor_add(report, "mitigations", DOCTOR_OK, "none that works at each exit");
	} else {
		struct doctor_check *check = doctor_add(
			report, "mitigations", DOCTOR_WARN, "at entries or exits: %s", names);
		doctor_cost(check, "each flushes or restricts something at every one of them");
		doctor_remedy(check,
			"have fewer exits; "
			"mitigations=off at boot only where all guests and programs are trusted");
	}
}

void doctor_check_speed(struct doctor_report *report, const struct doctor_host *host)
{
	check_governor(report, host);
	check_idle(report, host);
	check_mitigations(report, host);
}
