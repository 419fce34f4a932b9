// SPDX-License-Identifier: Apache-2.0
//
// `veneer doctor` on other machines' files (tests/unit/hosts): the status of every check, what it
// found, and that a remedy names the parameter that mends it; and on disks, CPU lists and files
// that are not as they should be.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/cpuset.h"
#include "base/macros.h"
#include "cli/doctor.h"
#include "tests/unit/host_tree.h"

// A host laid out, looked at, and reported on. Large, so allocated.
struct patient {
	char root[64];
	struct doctor_probes probes;
	struct doctor_host host;
	struct doctor_report report;
};

static struct patient *admit(const char *name)
{
	char file[256];
	struct veneer_error error;
	struct patient *patient = calloc(1, sizeof(*patient));

	assert_non_null(patient);
	snprintf(file, sizeof(file), "%s/%s.tree", HOSTS, name);
	host_tree_make(patient->root, file);
	patient->probes = (struct doctor_probes){
		.kvm = 12, .tsc_control = 1, .memlock = UINT64_MAX, .ipc_lock = false};
	vn_cpuset_parse(&patient->probes.allowed, "0-63", &error);
	patient->host.root = patient->root;
	patient->host.probes = &patient->probes;
	return patient;
}

static void examine(struct patient *patient)
{
	doctor_report_free(&patient->report);
	doctor_read_host(&patient->host);
	doctor_examine(&patient->report, &patient->host);
	assert_false(patient->report.incomplete);
}

static void discharge(struct patient *patient)
{
	doctor_report_free(&patient->report);
	host_tree_remove(patient->root);
	free(patient);
}

static void name_cpus(struct patient *patient, const char *list)
{
	struct veneer_error error;

	assert_int_equal(vn_cpuset_parse(&patient->host.named, list, &error), 0);
}

// The nth check of that name.
static const struct doctor_check *nth(const struct patient *patient, const char *name, size_t n)
{
	for (size_t i = 0; i < patient->report.count; i++) {
		if (strcmp(patient->report.checks[i].name, name) == 0 && n-- == 0)
			return &patient->report.checks[i];
	}
	fail_msg("no check '%s'", name);
	return NULL;
}

struct expected {
	const char *name;
	enum doctor_status status;
	const char *found; // a part of it
	const char *remedy; // a part of it; NULL where nothing is wrong
};

static void compare(const struct doctor_check *check, const struct expected *expected)
{
	bool wrong = check->status == DOCTOR_WARN || check->status == DOCTOR_BAD;

	if (strcmp(check->name, expected->name) != 0 || check->status != expected->status ||
		!strstr(check->found, expected->found) ||
		(expected->remedy && !strstr(check->remedy, expected->remedy)))
		fail_msg("%s: status %d, found '%s', remedy '%s'; expected %s: %d, '%s', '%s'",
			check->name, check->status, check->found, check->remedy, expected->name,
			expected->status, expected->found,
			expected->remedy ? expected->remedy : "");
	// What is wrong costs something and can be mended; what is not, says so in one line.
	assert_int_equal(wrong, check->cost[0] != '\0');
	assert_int_equal(wrong, check->remedy[0] != '\0');
	assert_int_equal(wrong, expected->remedy != NULL);
}

// All checks, in their order.
static void expect(
	const struct patient *patient, const struct expected *expected, size_t count, size_t wrong)
{
	for (size_t i = 0; i < count && i < patient->report.count; i++)
		compare(&patient->report.checks[i], &expected[i]);
	assert_int_equal(patient->report.count, count);
	assert_int_equal(doctor_wrong(&patient->report), wrong);
}

#define EXPECT(patient, wrong, expected)                                                           \
	expect(patient, expected, sizeof(expected) / sizeof((expected)[0]), wrong)

static const char *kvm_kind(const char *name)
{
	struct patient *patient = admit(name);
	const char *kind = doctor_kvm_kind(patient->root);

	discharge(patient);
	return kind;
}

static void test_kvm_kind(void **state)
{
	(void)state;
	assert_string_equal(kvm_kind("intel-server"), "VT-x");
	assert_string_equal(kvm_kind("amd-desktop"), "AMD-V");
	assert_string_equal(kvm_kind("software-kvm"), "software");
	assert_null(kvm_kind("empty"));
}

static void test_intel_server(void **state)
{
	static const struct expected all_well[] = {
		{"kernel", DOCTOR_OK, "6.1.0-28-amd64", NULL},
		{"kvm", DOCTOR_OK, "API version 12", NULL},
		{"virtualization", DOCTOR_OK, "vmx", NULL},
		{"bare-metal", DOCTOR_OK, "", NULL},
		{"paging", DOCTOR_OK, "EPT", NULL},
		{"unrestricted-guest", DOCTOR_OK, "unrestricted guest (unrestricted_guest=Y)",
			NULL},
		{"vpid", DOCTOR_OK, "vpid=Y", NULL},
		{"apicv", DOCTOR_OK, "enable_apicv=Y", NULL},
		{"posted-interrupts", DOCTOR_OK, "the IOMMU too", NULL},
		{"tsc", DOCTOR_OK, "clocksource", NULL},
		{"tsc-scaling", DOCTOR_OK, "", NULL},
		{"cpus", DOCTOR_OK, "online 0-15", NULL},
		{"isolcpus", DOCTOR_OK, "4-7,12-15", NULL},
		{"nohz_full", DOCTOR_OK, "4-7,12-15", NULL},
		{"rcu_nocbs", DOCTOR_OK, "4-7,12-15", NULL},
		{"smt", DOCTOR_OK, "whole cores", NULL},
		{"interrupts", DOCTOR_OK, "irqbalance runs", NULL},
		{"governor", DOCTOR_OK, "performance", NULL},
		{"c-states", DOCTOR_OK, "intel_idle", NULL},
		{"mitigations", DOCTOR_OK, "none", NULL},
		{"huge-pages", DOCTOR_OK, "node 0: none; node 1: 500/512 2M, 48/64 1G free", NULL},
		{"thp", DOCTOR_OK, "madvise", NULL},
		{"ksm", DOCTOR_OK, "off", NULL},
		{"numa-balancing", DOCTOR_OK, "off", NULL},
		{"swap", DOCTOR_OK, "none", NULL},
		{"memlock", DOCTOR_OK, "unlimited", NULL},
		{"io_uring", DOCTOR_OK, "", NULL},
		{"disk", DOCTOR_OK, "nvme0n1, nvme1n1: scheduler none, 1023 requests", NULL},
		{"vhost-net", DOCTOR_OK, "", NULL},
		{"vfio", DOCTOR_OK, "64 IOMMU groups", NULL},
	};
	struct patient *patient = admit("intel-server");

	(void)state;
	examine(patient);
	EXPECT(patient, 0, all_well);
	discharge(patient);
}

static void test_amd_desktop(void **state)
{
	static const struct expected untuned[] = {
		{"kernel", DOCTOR_OK, "6.12.9", NULL},
		{"kvm", DOCTOR_BAD, "Permission denied", "usermod -aG kvm"},
		{"virtualization", DOCTOR_OK, "svm", NULL},
		{"bare-metal", DOCTOR_OK, "", NULL},
		{"paging", DOCTOR_OK, "NPT (npt=1)", NULL},
		{"unrestricted-guest", DOCTOR_OK, "AMD-V", NULL},
		{"vpid", DOCTOR_OK, "ASID", NULL},
		{"apicv", DOCTOR_WARN, "no AVIC (avic=N)", "kvm_amd.avic=1"},
		{"posted-interrupts", DOCTOR_WARN, "avic=N", "kvm_amd.avic=1"},
		{"tsc", DOCTOR_WARN, "clocksource hpet", "tsc=reliable"},
		{"tsc-scaling", DOCTOR_UNKNOWN, "Permission denied", NULL},
		{"cpus", DOCTOR_OK, "online 0-7", NULL},
		{"isolcpus", DOCTOR_WARN, "none", "isolcpus=managed_irq,domain,1-3,5-7"},
		{"nohz_full", DOCTOR_WARN, "none", "nohz_full=1-3,5-7"},
		{"rcu_nocbs", DOCTOR_WARN, "none", "rcu_nocbs=1-3,5-7"},
		{"smt", DOCTOR_WARN, "on", "nosmt"},
		{"interrupts", DOCTOR_UNKNOWN, "irqbalance runs", NULL},
		{"governor", DOCTOR_WARN, "schedutil on CPU 0-7", "frequency-set -g performance"},
		{"c-states", DOCTOR_WARN, "down to C3 on CPU 0-7", "processor.max_cstate=1"},
		{"mitigations", DOCTOR_WARN, "spec_rstack_overflow, vmscape", "mitigations=off"},
		{"huge-pages", DOCTOR_WARN, "node 0: none free",
			"node0/hugepages/hugepages-2048kB/nr_hugepages"},
		{"thp", DOCTOR_WARN, "never", "echo madvise > /sys/kernel/mm"},
		{"ksm", DOCTOR_WARN, "on", "echo 2 > /sys/kernel/mm/ksm/run"},
		{"numa-balancing", DOCTOR_OK, "one node", NULL},
		{"swap", DOCTOR_WARN, "/swapfile, through zswap", "swapoff"},
		{"memlock", DOCTOR_WARN, "8192 KiB", "LimitMEMLOCK=infinity"},
		{"io_uring", DOCTOR_BAD, "disabled by sysctl", "kernel.io_uring_disabled=0"},
		{"disk", DOCTOR_WARN, "sda: scheduler mq-deadline, 32 requests",
			"echo none > /sys/block/sda/queue/scheduler"},
		{"disk", DOCTOR_OK, "sdb: scheduler bfq, 32 requests, rotating", NULL},
		{"disk", DOCTOR_WARN, "sdc: scheduler bfq, 1 requests", "sdc/device/queue_depth"},
		{"vhost-net", DOCTOR_WARN, "No such file", "modprobe vhost_net"},
		{"vfio", DOCTOR_INFO, "20 IOMMU groups", NULL},
	};
	struct patient *patient = admit("amd-desktop");

	(void)state;
	patient->probes.kvm = -EACCES;
	patient->probes.tsc_control = -EACCES;
	patient->probes.vhost_net = -ENOENT;
	patient->probes.vfio = -ENOENT;
	patient->probes.io_uring = -EPERM;
	patient->probes.memlock = 8 * MIB;
	examine(patient);
	EXPECT(patient, 20, untuned);
	assert_non_null(strstr(nth(patient, "nohz_full", 0)->cost, "1000 times a second"));
	assert_non_null(strstr(nth(patient, "c-states", 0)->cost, "350 us"));
	discharge(patient);
}

static void test_cloud(void **state)
{
	static const struct expected cloud[] = {
		{"kernel", DOCTOR_BAD, "5.10.0", "6.1"},
		{"kvm", DOCTOR_BAD, "No such file", "nested virtualization"},
		{"virtualization", DOCTOR_BAD, "no VT-x or AMD-V", "nested virtualization"},
		{"bare-metal", DOCTOR_WARN, "Example Cloud", "bare metal"},
		{"paging", DOCTOR_UNKNOWN, "no VT-x or AMD-V", NULL},
		{"unrestricted-guest", DOCTOR_UNKNOWN, "no VT-x or AMD-V", NULL},
		{"vpid", DOCTOR_UNKNOWN, "no VT-x or AMD-V", NULL},
		{"apicv", DOCTOR_UNKNOWN, "no VT-x or AMD-V", NULL},
		{"posted-interrupts", DOCTOR_UNKNOWN, "no VT-x or AMD-V", NULL},
		{"tsc", DOCTOR_WARN, "clocksource kvm-clock", "invtsc"},
		{"tsc-scaling", DOCTOR_UNKNOWN, "No such file", NULL},
		{"cpus", DOCTOR_OK, "online 0-3, allowed here 0-63", NULL},
		{"isolcpus", DOCTOR_WARN, "none", "isolcpus=managed_irq,domain,1"},
		{"nohz_full", DOCTOR_WARN, "without CONFIG_NO_HZ_FULL", "nohz_full=1"},
		{"rcu_nocbs", DOCTOR_WARN, "none", "rcu_nocbs=1"},
		{"smt", DOCTOR_WARN, "CPU 0 shares", "isolate CPU 0"},
		{"interrupts", DOCTOR_WARN, "1 reach CPU 1: 24", "echo 0,2-3 > /proc/irq/24"},
		{"governor", DOCTOR_UNKNOWN, "hypervisor", NULL},
		{"c-states", DOCTOR_OK, "driver none", NULL},
		{"mitigations", DOCTOR_OK, "off", NULL},
		{"huge-pages", DOCTOR_WARN, "node 0: 0/64 2M; node 1: 64/64 2M free",
			"hugepages=0:N"},
		{"thp", DOCTOR_OK, "always", NULL},
		{"ksm", DOCTOR_OK, "not in this kernel", NULL},
		{"numa-balancing", DOCTOR_WARN, "2 nodes", "sysctl kernel.numa_balancing=0"},
		{"swap", DOCTOR_OK, "none", NULL},
		{"memlock", DOCTOR_OK, "all of the memory", NULL},
		{"io_uring", DOCTOR_BAD, "Invalid argument", "6.1"},
		{"disk", DOCTOR_WARN, "vda: scheduler none, 8 requests", "vda/queue/nr_requests"},
		{"vhost-net", DOCTOR_WARN, "Permission denied", "usermod"},
		{"vfio", DOCTOR_INFO, "no IOMMU group", NULL},
	};
	struct patient *patient = admit("cloud");

	(void)state;
	patient->probes.kvm = -ENOENT;
	patient->probes.tsc_control = -ENOENT;
	patient->probes.vhost_net = -EACCES;
	patient->probes.io_uring = -EINVAL;
	patient->probes.memlock = 16384000 * KIB;
	name_cpus(patient, "1");
	examine(patient);
	EXPECT(patient, 15, cloud);
	assert_non_null(strstr(nth(patient, "nohz_full", 0)->cost, "CONFIG_HZ times a second"));
	discharge(patient);
}

static void test_software_kvm(void **state)
{
	static const struct expected software[] = {
		{"kernel", DOCTOR_OK, "6.18.44", NULL},
		{"kvm", DOCTOR_OK, "API version 12", NULL},
		{"virtualization", DOCTOR_BAD, "KVM in software (kvm_pvm)",
			"nested virtualization"},
		{"bare-metal", DOCTOR_WARN, "virtual machine", "bare metal"},
		{"paging", DOCTOR_UNKNOWN, "no VT-x or AMD-V", NULL},
		{"unrestricted-guest", DOCTOR_UNKNOWN, "no VT-x or AMD-V", NULL},
		{"vpid", DOCTOR_UNKNOWN, "no VT-x or AMD-V", NULL},
		{"apicv", DOCTOR_UNKNOWN, "no VT-x or AMD-V", NULL},
		{"posted-interrupts", DOCTOR_UNKNOWN, "no VT-x or AMD-V", NULL},
		{"tsc", DOCTOR_OK, "clocksource", NULL},
		{"tsc-scaling", DOCTOR_INFO, "the rate of the host's", NULL},
		{"cpus", DOCTOR_OK, "online 0-1", NULL},
		{"isolcpus", DOCTOR_WARN, "none", "isolcpus=managed_irq,domain,1"},
		{"nohz_full", DOCTOR_WARN, "without CONFIG_NO_HZ_FULL", "nohz_full=1"},
		{"rcu_nocbs", DOCTOR_WARN, "none", "rcu_nocbs=1"},
		{"smt", DOCTOR_OK, "one thread", NULL},
		{"interrupts", DOCTOR_UNKNOWN, "irqbalance absent", NULL},
		{"governor", DOCTOR_UNKNOWN, "hypervisor", NULL},
		{"c-states", DOCTOR_OK, "haltpoll", NULL},
		{"mitigations", DOCTOR_OK, "none", NULL},
		{"huge-pages", DOCTOR_OK, "node 0: 16/16 2M free", NULL},
		{"thp", DOCTOR_OK, "madvise", NULL},
		{"ksm", DOCTOR_OK, "off", NULL},
		{"numa-balancing", DOCTOR_OK, "off", NULL},
		{"swap", DOCTOR_OK, "none", NULL},
		{"memlock", DOCTOR_OK, "CAP_IPC_LOCK", NULL},
		{"io_uring", DOCTOR_OK, "", NULL},
		{"disk", DOCTOR_OK, "vda: scheduler mq-deadline, 256 requests, rotating", NULL},
		{"vhost-net", DOCTOR_WARN, "No such file", "modprobe vhost_net"},
		{"vfio", DOCTOR_INFO, "no IOMMU group", NULL},
	};
	struct patient *patient = admit("software-kvm");

	(void)state;
	patient->probes.tsc_control = 0;
	patient->probes.vhost_net = -ENOENT;
	patient->probes.vfio = -ENOENT;
	patient->probes.memlock = 8 * MIB;
	patient->probes.ipc_lock = true;
	examine(patient);
	EXPECT(patient, 6, software);
	discharge(patient);
}

static bool is_one_of(const char *name, const char *const *names, size_t count)
{
	while (count > 0 && strcmp(names[count - 1], name) != 0)
		count--;
	return count > 0;
}

// What no file tells is unknown, with the file named, and not wrong.
static void test_empty(void **state)
{
	static const char *const probed[] = {
		"kvm", "memlock", "io_uring", "tsc-scaling", "vhost-net"};
	struct patient *patient = admit("empty");
	size_t known = 0;

	(void)state;
	examine(patient);
	assert_int_equal(patient->report.count, 30);
	assert_int_equal(doctor_wrong(&patient->report), 0);
	for (size_t i = 0; i < patient->report.count; i++) {
		const struct doctor_check *check = &patient->report.checks[i];
		if (is_one_of(check->name, probed, ARRAY_SIZE(probed))) {
			assert_int_equal(check->status, DOCTOR_OK);
			known++;
			continue;
		}
		assert_int_equal(check->status, DOCTOR_UNKNOWN);
		assert_non_null(strstr(check->found, "cannot read /"));
		assert_non_null(strstr(check->found, "No such file or directory"));
	}
	assert_int_equal(known, ARRAY_SIZE(probed));
	discharge(patient);
}

// A switch that is off names its parameter, unless the hardware has nothing to switch on.
static void test_features(void **state)
{
	static const struct expected expected[] = {
		{"paging", DOCTOR_WARN, "no EPT (ept=N)", "kvm_intel.ept=1"},
		{"vpid", DOCTOR_WARN, "no VPID (vpid=N)", "kvm_intel.vpid=1"},
		{"unrestricted-guest", DOCTOR_WARN, "unrestricted_guest=N", "a CPU"},
		{"apicv", DOCTOR_WARN, "no APICv (enable_apicv=N)", "a CPU"},
		{"posted-interrupts", DOCTOR_WARN, "enable_apicv=N", "a CPU"},
	};
	static const char *const parameters[] = {
		"ept", "vpid", "unrestricted_guest", "enable_apicv"};
	struct patient *patient = admit("intel-server");
	char path[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++) {
		snprintf(path, sizeof(path), "%s/sys/module/kvm_intel/parameters/%s", patient->root,
			parameters[i]);
		unlink(path);
		host_tree_put(patient->root, path + strlen(patient->root) + 1, "N");
	}
	snprintf(path, sizeof(path), "%s/proc/cpuinfo", patient->root);
	unlink(path);
	host_tree_put(patient->root, "proc/cpuinfo", "flags\t\t: vmx ept vpid tsc");
	examine(patient);
	// What vmx can do in detail is told by kernels of today only.
	compare(nth(patient, "posted-interrupts", 0),
		&(const struct expected){"posted-interrupts", DOCTOR_UNKNOWN, "'vmx flags'", NULL});
	compare(nth(patient, "tsc", 0),
		&(const struct expected){"tsc", DOCTOR_WARN, "not constant_tsc", "invariant TSC"});
	host_tree_put(patient->root, "proc/cpuinfo", "vmx flags\t: vnmi ept vpid");
	examine(patient);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		compare(nth(patient, expected[i].name, 0), &expected[i]);
	discharge(patient);
}

// --cpus: what is wrong with these is told of these.
static void test_named_cpus(void **state)
{
	struct patient *patient = admit("intel-server");

	(void)state;
	name_cpus(patient, "3,4");
	examine(patient);
	compare(nth(patient, "isolcpus", 0),
		&(const struct expected){"isolcpus", DOCTOR_WARN, "not on CPU 3",
			"isolcpus=managed_irq,domain,3-4"});
	compare(nth(patient, "nohz_full", 0), &(const struct expected){"nohz_full", DOCTOR_WARN,
						      "not on CPU 3", "boot with nohz_full=3-4"});
	assert_non_null(strstr(nth(patient, "nohz_full", 0)->cost, "250 times a second"));
	compare(nth(patient, "smt", 0), &(const struct expected){"smt", DOCTOR_WARN,
						"CPU 11-12 shares", "isolate CPU 11-12"});
	compare(nth(patient, "governor", 0),
		&(const struct expected){"governor", DOCTOR_WARN, "powersave on CPU 3",
			"cpupower -c 3 frequency-set"});
	compare(nth(patient, "c-states", 0),
		&(const struct expected){
			"c-states", DOCTOR_WARN, "down to C6 on CPU 3", "intel_idle.max_cstate=1"});
	compare(nth(patient, "interrupts", 0),
		&(const struct expected){"interrupts", DOCTOR_WARN, "irqbalance runs",
			"IRQBALANCE_BANNED_CPULIST=3-4"});
	compare(nth(patient, "huge-pages", 0), &(const struct expected){"huge-pages", DOCTOR_WARN,
						       "node 0: none", "hugepages=0:N"});

	name_cpus(patient, "2");
	examine(patient);
	compare(nth(patient, "interrupts", 0), &(const struct expected){"interrupts", DOCTOR_WARN,
						       "8 reach CPU 2: ", "irqaffinity=0-1,3-15"});

	name_cpus(patient, "5,16");
	examine(patient);
	compare(nth(patient, "cpus", 0),
		&(const struct expected){"cpus", DOCTOR_BAD, "16 offline", "has: 0-15"});

	name_cpus(patient, "4-7");
	patient->probes.allowed = (struct vn_cpuset){.bits = {0}};
	examine(patient);
	compare(nth(patient, "cpus", 0),
		&(const struct expected){"cpus", DOCTOR_UNKNOWN, "not told", NULL});
	patient->probes.allowed = (struct vn_cpuset){.bits = {0x1f}};
	examine(patient);
	compare(nth(patient, "cpus", 0),
		&(const struct expected){"cpus", DOCTOR_BAD, "5-7 forbidden", "AllowedCPUs="});
	discharge(patient);
}

// CPUs that the host does not have, and all that it has: every remedy has its values.
static void test_too_many_cpus_named(void **state)
{
	static const char *const hosts[] = {"intel-server", "amd-desktop", "cloud", "software-kvm"};
	static const char *const incomplete[] = {"= ", "=,", "  ", " -c f"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		struct patient *patient = admit(hosts[i]);

		name_cpus(patient, "0-99");
		host_tree_put(patient->root, "proc/irq/24/effective_affinity_list", "1");
		host_tree_put(patient->root, "proc/irq/24/eth0/", "");
		examine(patient);
		compare(nth(patient, "interrupts", 0),
			&(const struct expected){
				"interrupts", DOCTOR_WARN, "reach CPU 0-", "leave the host a CPU"});
		for (size_t j = 0; j < patient->report.count; j++) {
			const char *remedy = patient->report.checks[j].remedy;
			size_t length = strlen(remedy);
			for (size_t k = 0; k < ARRAY_SIZE(incomplete); k++)
				assert_null(strstr(remedy, incomplete[k]));
			assert_false(length > 0 && remedy[length - 1] == '=');
			assert_null(strstr(remedy, "99"));
		}
		discharge(patient);
	}
}

// Long lists of interrupts are cut; the number is not.
static void test_many_interrupts(void **state)
{
	struct patient *patient = admit("intel-server");
	char path[64];

	(void)state;
	for (int irq = 100; irq < 130; irq++) {
		snprintf(path, sizeof(path), "proc/irq/%d/effective_affinity_list", irq);
		host_tree_put(patient->root, path, "7");
		snprintf(path, sizeof(path), "proc/irq/%d/eth0/", irq);
		host_tree_put(patient->root, path, "");
	}
	examine(patient);
	compare(nth(patient, "interrupts", 0),
		&(const struct expected){"interrupts", DOCTOR_WARN,
			"30 reach CPU 4-7,12-15:", "irqaffinity=0-3,8-11"});
	assert_non_null(strstr(nth(patient, "interrupts", 0)->found, "..."));
	discharge(patient);
}

// Callbacks are taken off all CPUs by the parameter alone, and by lists that are not of numbers; a
// parameter that only begins the same says nothing.
static void test_rcu_parameters(void **state)
{
	static const struct {
		const char *cmdline;
		enum doctor_status status;
		const char *found;
	} cases[] = {
		{"quiet rcu_nocbs", DOCTOR_OK, "0-15"},
		{"rcu_nocbs=all quiet", DOCTOR_OK, "0-15"},
		{"rcu_nocbs=4-N", DOCTOR_OK, "0-15"},
		{"nohz_full=4-7,12-15", DOCTOR_OK, "4-7,12-15"},
		{"rcu_nocbs=4-7 nohz_full=12-15", DOCTOR_OK, "4-7,12-15"},
		{"rcu_nocbs=\"4-7\"\tnohz_full=12-15 -- quiet", DOCTOR_OK, "4-7,12-15"},
		{"x=\"a rcu_nocbs\" -- rcu_nocbs", DOCTOR_WARN, "none"},
		{"rcu_nocbs=4-7", DOCTOR_WARN, "12-15"},
		{"rcu_nocb_poll rcu_nocbsx=4-15 xrcu_nocbs=4-15", DOCTOR_WARN, "none"},
		{"", DOCTOR_WARN, "none"},
	};
	struct patient *patient = admit("intel-server");
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/proc/cmdline", patient->root);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unlink(path);
		host_tree_put(patient->root, "proc/cmdline", cases[i].cmdline);
		examine(patient);
		assert_int_equal(nth(patient, "rcu_nocbs", 0)->status, cases[i].status);
		assert_non_null(strstr(nth(patient, "rcu_nocbs", 0)->found, cases[i].found));
	}
	discharge(patient);
}

// --disk: down to the disks with a queue, through LVM, MD and partitions.
static void test_disk_paths(void **state)
{
	const struct doctor_disk disks[] = {
		{"/dev/vg/guest", 0, makedev(253, 0)},
		{"/srv/a", 0, makedev(259, 1)},
		{"/dev/loop0", 0, makedev(7, 0)},
		{"/tmp/b", 0, makedev(0, 40)},
		{"/gone", -ENOENT, 0},
		{"/dev/none", 0, makedev(8, 0)},
		{"/dev/circle", 0, makedev(253, 1)},
	};
	static const struct expected expected[] = {
		{"disk", DOCTOR_OK, "/dev/vg/guest on nvme0n1, nvme1n1: scheduler none", NULL},
		{"disk", DOCTOR_OK, "/srv/a on nvme0n1: scheduler none", NULL},
		{"disk", DOCTOR_UNKNOWN, "the file /srv/disk.img", NULL},
		{"disk", DOCTOR_UNKNOWN, "/tmp/b: its file system has no block device", NULL},
		{"disk", DOCTOR_UNKNOWN, "/gone: No such file", NULL},
		{"disk", DOCTOR_UNKNOWN, "/sys/dev/block/8:0: No such file", NULL},
		{"disk", DOCTOR_UNKNOWN, "/dev/circle", NULL},
	};
	struct patient *patient = admit("intel-server");

	(void)state;
	patient->host.disks = disks;
	patient->host.disk_count = ARRAY_SIZE(disks);
	examine(patient);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		compare(nth(patient, "disk", i), &expected[i]);
	discharge(patient);
}

// One like sda of the desktop.
static void add_ssd(const struct patient *patient, int number)
{
	static const char *const files[][2] = {{"size", "1953525168"}, {"device/queue_depth", "32"},
		{"queue/scheduler", "none [mq-deadline] bfq"}, {"queue/rotational", "0"},
		{"queue/nr_requests", "64"}};
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "sys/block/ssd%d/%s", number, files[i][0]);
		host_tree_put(patient->root, path, files[i][1]);
	}
}

// Disks of one kind share a check, and its remedy names them all.
static void test_disks_alike(void **state)
{
	struct patient *patient = admit("amd-desktop");

	(void)state;
	add_ssd(patient, 100);
	examine(patient);
	compare(nth(patient, "disk", 0),
		&(const struct expected){"disk", DOCTOR_WARN, "sda, ssd100: scheduler mq-deadline",
			"tee /sys/block/{sda,ssd100}/queue/scheduler"});

	// Very many: those named are named whole, and none is forgotten in silence.
	for (int disk = 0; disk < 90; disk++)
		add_ssd(patient, disk);
	examine(patient);
	compare(nth(patient, "disk", 0),
		&(const struct expected){"disk", DOCTOR_WARN, ", ...: s", ",...}/queue/scheduler"});
	compare(nth(patient, "disk", 1), &(const struct expected){"disk", DOCTOR_OK, "sdb:", NULL});
	discharge(patient);
}

// Files that hold what they should not, as an unknown kernel might have: no check believes them,
// and the report stays printable.
static void test_strange_files(void **state)
{
	struct patient *patient = admit("empty");
	char list[4000] = "0";

	(void)state;
	for (int cpu = 2; cpu < 700; cpu += 2)
		doctor_append(list, sizeof(list), ",%d", cpu);
	host_tree_put(patient->root, "proc/sys/kernel/osrelease", "Linux");
	host_tree_put(patient->root, "sys/devices/system/cpu/online", list);
	host_tree_put(patient->root, "sys/devices/system/cpu/isolated", list);
	host_tree_put(patient->root, "sys/devices/system/cpu/nohz_full", "3-1");
	host_tree_put(patient->root, "sys/devices/system/cpu/smt/active", "maybe");
	host_tree_put(patient->root, "sys/kernel/mm/ksm/run", "");
	host_tree_put(patient->root, "sys/kernel/mm/transparent_hugepage/enabled", "\033[1mx]");
	host_tree_put(patient->root, "sys/block/vda/size", "9");
	host_tree_put(patient->root, "sys/block/vda/device/driver/", "");
	host_tree_put(patient->root, "sys/devices/system/node/online", "0");
	host_tree_put(patient->root,
		"sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "x");
	memset(&patient->probes.allowed, 0xff, sizeof(patient->probes.allowed));
	examine(patient);
	assert_int_equal(nth(patient, "kernel", 0)->status, DOCTOR_UNKNOWN);
	assert_int_equal(nth(patient, "cpus", 0)->status, DOCTOR_OK);
	assert_int_equal(nth(patient, "isolcpus", 0)->status, DOCTOR_OK);
	assert_non_null(strstr(nth(patient, "isolcpus", 0)->found, ",..."));
	assert_int_equal(nth(patient, "nohz_full", 0)->status, DOCTOR_UNKNOWN);
	assert_int_equal(nth(patient, "smt", 0)->status, DOCTOR_UNKNOWN);
	assert_int_equal(nth(patient, "ksm", 0)->status, DOCTOR_UNKNOWN);
	assert_int_equal(nth(patient, "huge-pages", 0)->status, DOCTOR_UNKNOWN);
	assert_string_equal(nth(patient, "thp", 0)->found, "1mx");
	assert_int_equal(nth(patient, "disk", 0)->status, DOCTOR_UNKNOWN);
	discharge(patient);
}

static char *print(const struct patient *patient, bool json, bool colour)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	if (json)
		assert_int_equal(doctor_print_json(&patient->report, out), 0);
	else
		doctor_print(&patient->report, out, colour);
	fclose(out);
	return text;
}

static void test_json(void **state)
{
	static const char *const marks[] = {"ok", "info", "warn", "bad", "unknown"};
	struct patient *patient = admit("amd-desktop");
	json_error_t error;

	(void)state;
	host_tree_put(patient->root, "sys/block/s\"d\\\xff/size", "9");
	host_tree_put(patient->root, "sys/block/s\"d\\\xff/device/driver/", "");
	examine(patient);
	char *text = print(patient, true, false);
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	assert_non_null(root);
	assert_int_equal(json_object_size(root), 2);
	assert_int_equal(
		json_integer_value(json_object_get(root, "wrong")), doctor_wrong(&patient->report));
	const json_t *checks = json_object_get(root, "checks");
	assert_int_equal(json_array_size(checks), patient->report.count);
	for (size_t i = 0; i < patient->report.count; i++) {
		const struct doctor_check *check = &patient->report.checks[i];
		const json_t *object = json_array_get(checks, i);
		assert_int_equal(json_object_size(object), 5);
		assert_string_equal(
			json_string_value(json_object_get(object, "name")), check->name);
		assert_string_equal(
			json_string_value(json_object_get(object, "status")), marks[check->status]);
		assert_string_equal(
			json_string_value(json_object_get(object, "found")), check->found);
		assert_int_equal(json_is_null(json_object_get(object, "cost")), !*check->cost);
		assert_int_equal(json_is_null(json_object_get(object, "remedy")), !*check->remedy);
	}
	json_decref(root);
	free(text);
	discharge(patient);
}

// One screen: lines of 80 columns, one for what is well; colour only when asked for.
static void test_text(void **state)
{
	struct patient *patient = admit("intel-server");
	size_t lines = 0;

	(void)state;
	examine(patient);
	char *text = print(patient, false, false);
	for (char *line = text; *line; line += strcspn(line, "\n") + 1) {
		assert_in_range(strcspn(line, "\n"), 1, 80);
		lines++;
	}
	assert_int_equal(lines, patient->report.count + 1);
	assert_null(strchr(text, '\033'));
	assert_non_null(strstr(text, "\n30 checks, 0 wrong, 0 unknown\n"));
	free(text);
	discharge(patient);

	patient = admit("software-kvm");
	patient->probes.vhost_net = -ENOENT;
	examine(patient);
	text = print(patient, false, true);
	assert_non_null(strstr(text, "\033[32mok      \033[0mkernel"));
	assert_non_null(strstr(text, "\033[1;31mbad     \033[0mvirtualization"));
	// Those that are unknown for the same reason share it.
	assert_non_null(
		strstr(text, "\033[36munknown \033[0mpaging, unrestricted-guest, vpid, apicv, "
			     "posted-interrupts: no VT-x"));
	assert_non_null(strstr(text, "\n        mend: modprobe vhost_net\n"));
	free(text);
	discharge(patient);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvm_kind),
		cmocka_unit_test(test_intel_server),
		cmocka_unit_test(test_amd_desktop),
		cmocka_unit_test(test_cloud),
		cmocka_unit_test(test_software_kvm),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_named_cpus),
		cmocka_unit_test(test_too_many_cpus_named),
		cmocka_unit_test(test_many_interrupts),
		cmocka_unit_test(test_rcu_parameters),
		cmocka_unit_test(test_disk_paths),
		cmocka_unit_test(test_disks_alike),
		cmocka_unit_test(test_strange_files),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
