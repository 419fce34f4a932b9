// SPDX-License-Identifier: Apache-2.0
//
// Whether guests run here at all, how much of them the hardware runs without an exit, and the
// clock.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "base/sysfs.h"
#include "cli/doctor.h"

static void check_kernel(struct doctor_report *report, const struct doctor_host *host)
{
	const char *path = "/proc/sys/kernel/osrelease";
	char release[128];
	unsigned major, minor;
	int ret = vn_sysfs_line(host->root, release, sizeof(release), "%s", path);

	if (ret == 0 && sscanf(release, "%u.%u", &major, &minor) != 2)
		ret = -EINVAL;
	if (ret < 0) {
		doctor_unread(report, "kernel", ret, path);
		return;
	}
	bool new = major > 6 || (major == 6 && minor >= 1);
	struct doctor_check *check =
		doctor_add(report, "kernel", new ? DOCTOR_OK : DOCTOR_BAD, "Linux %s", release);
	if (!new) {
		doctor_cost(check, "no guest runs: vCPUs and disks need io_uring's DEFER_TASKRUN");
		doctor_remedy(check, "Linux 6.1 or later");
	}
}

static const char *module_name(const struct doctor_host *host)
{
	return host->virtualization == DOCTOR_VENDOR_AMD ? "kvm_amd" : "kvm_intel";
}

static void check_access(struct doctor_report *report, const struct doctor_host *host)
{
	int kvm = host->probes->kvm;

	if (kvm >= 0) {
		doctor_add(report, "kvm", DOCTOR_OK, "/dev/kvm opens, API version %d", kvm);
		return;
	}
	struct doctor_check *check =
		doctor_add(report, "kvm", DOCTOR_BAD, "/dev/kvm: %s", strerror(-kvm));
	doctor_cost(check, "no guest runs");
	if (kvm == -EACCES || kvm == -EPERM)
		doctor_remedy(check, "usermod -aG kvm USER, then log in again");
	else if (host->virtualization != DOCTOR_VENDOR_UNKNOWN)
		doctor_remedy(check, "modprobe %s", module_name(host));
	else
		doctor_remedy(check, "enable VT-x or AMD-V in the firmware, "
				     "or in a virtual machine nested virtualization on its host; "
				     "then modprobe kvm_intel or kvm_amd");
}

static void check_hardware(struct doctor_report *report, const struct doctor_host *host)
{
	const char *name = "virtualization";

	if (host->cpuinfo < 0) {
		doctor_unread(report, name, host->cpuinfo, "/proc/cpuinfo");
		return;
	}
	if (host->virtualization != DOCTOR_VENDOR_UNKNOWN) {
		doctor_add(report, name, DOCTOR_OK, "%s",
			host->virtualization == DOCTOR_VENDOR_INTEL ? "VT-x (vmx)" : "AMD-V (svm)");
		return;
	}
	bool software = host->probes->kvm >= 0;
	struct doctor_check *check = doctor_add(report, name, DOCTOR_BAD, "no VT-x or AMD-V%s%s",
		software ? "; KVM in software" : "",
		doctor_exists(host, "/sys/module/kvm_pvm") ? " (kvm_pvm)" : "");
	doctor_cost(check, "%s",
		software ? "guest kernels are emulated by software; stock ones do not boot"
			 : "no guest runs");
	doctor_remedy(check, "%s",
		host->guest ? "nested virtualization on this machine's own host, or bare metal"
			    : "enable VT-x or AMD-V in the firmware");
}

static void check_bare_metal(struct doctor_report *report, const struct doctor_host *host)
{
	char vendor[64];

	if (host->cpuinfo < 0) {
		doctor_unread(report, "bare-metal", host->cpuinfo, "/proc/cpuinfo");
		return;
	}
	if (!host->guest) {
		doctor_add(report, "bare-metal", DOCTOR_OK, "no hypervisor below this host");
		return;
	}
	(void)vn_sysfs_line(host->root, vendor, sizeof(vendor), "/sys/class/dmi/id/sys_vendor");
	struct doctor_check *check = doctor_add(report, "bare-metal", DOCTOR_WARN,
		"this host is a virtual machine%s%s", *vendor ? " of " : "", vendor);
	doctor_cost(check, "guests are nested: one exit of theirs is several of this machine's");
	doctor_remedy(check, "run on bare metal");
}

// A switch of the KVM module that the hardware may lack.
struct feature {
	const char *name;
	const char *title[2]; // on Intel, on AMD
	const char *parameter[2]; // NULL: always there
	const char *flag[2]; // of /proc/cpuinfo: the hardware has it
	const char *cost;
};

static const struct feature FEATURES[] = {
	{"paging", {"EPT", "NPT"}, {"ept", "npt"}, {"ept", "npt"},
		"every change of a guest's page tables exits: KVM shadows them"},
	{"unrestricted-guest", {"unrestricted guest", "AMD-V runs real mode in hardware"},
		{"unrestricted_guest", NULL}, {"unrestricted_guest", NULL},
		"real-mode code, as in firmware and boot loaders, is emulated"},
	{"vpid", {"VPID", "AMD-V tags the TLB by ASID"}, {"vpid", NULL}, {"vpid", NULL},
		"every entry and exit flushes the TLB"},
	{"apicv", {"APICv", "AVIC"}, {"enable_apicv", "avic"}, {"apicv", "avic"},
		"accesses of a guest to its interrupt controller exit: "
		"IPIs, timers, ends of interrupts"},
};

static bool has_flag(const struct doctor_host *host, const char *flag)
{
	return doctor_has_word(host->flags, flag) || doctor_has_word(host->vmx_flags, flag);
}

static void suggest_parameter(struct doctor_check *check, const struct doctor_host *host,
	const char *title, const char *parameter, const char *flag)
{
	const char *module = module_name(host);

	if (!has_flag(host, flag))
		doctor_remedy(check, "a CPU, or a hypervisor below, that offers %s (flag %s)",
			title, flag);
	else
		doctor_remedy(check, "modprobe -r %s && modprobe %s %s=1, or boot with %s.%s=1",
			module, module, parameter, module, parameter);
}

static void no_hardware(
	struct doctor_report *report, const struct doctor_host *host, const char *name)
{
	if (host->cpuinfo < 0)
		doctor_unread(report, name, host->cpuinfo, "/proc/cpuinfo");
	else
		doctor_add(report, name, DOCTOR_UNKNOWN, "no VT-x or AMD-V");
}

// The module's parameter; where it cannot be read, the check is unknown.
static bool read_switch(struct doctor_report *report, const struct doctor_host *host,
	const char *name, const char *parameter, char *text, size_t size)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module_name(host), parameter);
	int ret = vn_sysfs_line(host->root, text, size, "%s", path);
	if (ret < 0)
		doctor_unread(report, name, ret, path);
	return ret == 0;
}

static bool is_on(const char *text)
{
	return text[0] == 'Y' || text[0] == '1';
}

static void check_feature(
	struct doctor_report *report, const struct doctor_host *host, const struct feature *feature)
{
	int side = host->virtualization == DOCTOR_VENDOR_AMD;
	const char *parameter = feature->parameter[side];
	const char *title = feature->title[side];
	char text[16];

	if (host->virtualization == DOCTOR_VENDOR_UNKNOWN) {
		no_hardware(report, host, feature->name);
		return;
	}
	if (!parameter) {
		doctor_add(report, feature->name, DOCTOR_OK, "%s", title);
		return;
	}
	if (!read_switch(report, host, feature->name, parameter, text, sizeof(text)))
		return;
	struct doctor_check *check =
		doctor_add(report, feature->name, is_on(text) ? DOCTOR_OK : DOCTOR_WARN,
			"%s%s (%s=%s)", is_on(text) ? "" : "no ", title, parameter, text);
	if (!is_on(text)) {
		doctor_cost(check, "%s", feature->cost);
		suggest_parameter(check, host, title, parameter, feature->flag[side]);
	}
}

// Whether the IOMMU posts interrupts too: VT-d capability register, bit 59 (PI); AMD extended
// feature register, bit 21 (the guest virtual APIC mode). -1: no IOMMU to ask.
static int iommu_posts(const struct doctor_host *host)
{
	bool amd = host->virtualization == DOCTOR_VENDOR_AMD;
	char text[32];
	int ret = vn_sysfs_line(host->root, text, sizeof(text), "%s",
		amd ? "/sys/class/iommu/ivhd0/amd-iommu/features"
		    : "/sys/class/iommu/dmar0/intel-iommu/cap");

	return ret < 0 ? -1 : (int)(strtoull(text, NULL, 16) >> (amd ? 21 : 59) & 1);
}

static void check_posted(struct doctor_report *report, const struct doctor_host *host)
{
	static const char *const devices[] = {
		"no IOMMU to post those of devices", "the IOMMU does not", "the IOMMU too"};
	const char *name = "posted-interrupts";
	bool amd = host->virtualization == DOCTOR_VENDOR_AMD;
	const char *parameter = amd ? "avic" : "enable_apicv";
	char text[16];

	if (host->virtualization == DOCTOR_VENDOR_UNKNOWN) {
		no_hardware(report, host, name);
		return;
	}
	if (!read_switch(report, host, name, parameter, text, sizeof(text)))
		return;
	if (!amd && !host->vmx_flags[0]) {
		doctor_add(report, name, DOCTOR_UNKNOWN, "/proc/cpuinfo has no line 'vmx flags'");
		return;
	}
	if (is_on(text) && (amd || doctor_has_word(host->vmx_flags, "posted_intr"))) {
		doctor_add(report, name, DOCTOR_OK, "the CPU posts them, %s",
			devices[iommu_posts(host) + 1]);
		return;
	}
	struct doctor_check *check =
		doctor_add(report, name, DOCTOR_WARN, "no (%s=%s)", parameter, text);
	doctor_cost(check, "an interrupt for a running vCPU forces an exit");
	suggest_parameter(check, host, amd ? "AVIC" : "posted interrupts", parameter,
		amd ? "avic" : "posted_intr");
}

static void check_tsc(struct doctor_report *report, const struct doctor_host *host)
{
	const char *directory = "/sys/devices/system/clocksource/clocksource0";
	char source[32], available[128];
	int ret = vn_sysfs_line(
		host->root, source, sizeof(source), "%s/current_clocksource", directory);
	bool steady = doctor_has_word(host->flags, "constant_tsc") &&
		      doctor_has_word(host->flags, "nonstop_tsc");

	if (host->cpuinfo < 0 || ret < 0) {
		doctor_unread(report, "tsc", host->cpuinfo < 0 ? host->cpuinfo : ret,
			host->cpuinfo < 0 ? "/proc/cpuinfo" : directory);
		return;
	}
	if (steady && strcmp(source, "tsc") == 0) {
		doctor_add(report, "tsc", DOCTOR_OK, "constant, nonstop, and the clocksource");
		return;
	}
	struct doctor_check *check = doctor_add(report, "tsc", DOCTOR_WARN, "%s, clocksource %s",
		steady ? "constant and nonstop" : "not constant_tsc and nonstop_tsc", source);
	doctor_cost(check, "%s",
		steady ? "kvmclock is not stable: guests read the time by system calls"
		       : "the TSC may change its rate or stop, and guests' clocks with it");
	(void)vn_sysfs_line(
		host->root, available, sizeof(available), "%s/available_clocksource", directory);
	if (!steady)
		doctor_remedy(check, "a CPU with an invariant TSC, "
				     "or a hypervisor below that shows it (QEMU: invtsc=on)");
	else if (doctor_has_word(available, "tsc"))
		doctor_remedy(check, "echo tsc > %s/current_clocksource", directory);
	else
		doctor_remedy(check,
			"dmesg | grep -i tsc tells why the kernel refused it; "
			"boot with tsc=reliable only where the hardware is known to be right");
}

// Guests that move between hosts of different rates would need it; none does yet.
static void check_tsc_scaling(struct doctor_report *report, const struct doctor_host *host)
{
	int control = host->probes->tsc_control;

	if (control < 0) {
		doctor_unread(report, "tsc-scaling", control, "/dev/kvm");
		return;
	}
	doctor_add(report, "tsc-scaling", control ? DOCTOR_OK : DOCTOR_INFO, "%s",
		control ? "a guest's TSC can have a rate of its own"
			: "a guest's TSC has the rate of the host's");
}

void doctor_check_virtualization(struct doctor_report *report, const struct doctor_host *host)
{
	check_kernel(report, host);
	check_access(report, host);
	check_hardware(report, host);
	check_bare_metal(report, host);
	for (size_t i = 0; i < ARRAY_SIZE(FEATURES); i++)
		check_feature(report, host, &FEATURES[i]);
	check_posted(report, host);
	check_tsc(report, host);
	check_tsc_scaling(report, host);
}
