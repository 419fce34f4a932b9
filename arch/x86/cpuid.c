// SPDX-License-Identifier: Apache-2.0
//
// From what KVM supports to what a guest's CPU says of itself. KVM leaves to user space what it
// cannot know: APIC ids, how many CPUs there are and what they share, and the TSC's frequency. The
// rest of its table is handed on as it is. Leaves are those of the Intel SDM (volume 2, CPUID), the
// AMD APM (volume 3, appendix E) and Linux's Documentation/virt/kvm/x86/cpuid.rst.
#include "arch/x86/cpuid.h"

#include <assert.h>
#include <cpuid.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define LEAF_VENDOR          0x0u
#define LEAF_FEATURES        0x1u
#define LEAF_CACHES          0x4u
#define LEAF_MWAIT           0x5u
#define LEAF_TOPOLOGY        0xbu
#define LEAF_TSC             0x15u
#define LEAF_TOPOLOGY_V2     0x1fu
#define LEAF_KVM             0x40000000u
#define LEAF_KVM_FEATURES    0x40000001u
#define LEAF_FREQUENCIES     0x40000010u
#define LEAF_EXTENDED        0x80000000u
#define LEAF_AMD_FEATURES    0x80000001u
#define LEAF_AMD_SIZES       0x80000008u
#define LEAF_AMD_CACHES      0x8000001du
#define LEAF_AMD_TOPOLOGY    0x8000001eu
#define LEAF_AMD_TOPOLOGY_V2 0x80000026u

#define ECX_MONITOR      (1u << 3)
#define ECX_TSC_DEADLINE (1u << 24)
#define ECX_HYPERVISOR   (1u << 31)
#define EDX_HTT          (1u << 28)
#define ECX_CMP_LEGACY   (1u << 1)
#define ECX_TOPOEXT      (1u << 22)

#define LEVEL_SMT  1u
#define LEVEL_CORE 2u
#define LEVEL_DIE  5u

// KVM's local APIC timer counts nanoseconds, whatever the host.
#define APIC_BUS_HZ  1000000000u
#define APIC_BUS_KHZ (APIC_BUS_HZ / 1000)

static_assert(offsetof(struct vn_cpuid, nent) == offsetof(struct kvm_cpuid2, nent), "KVM's");
static_assert(offsetof(struct vn_cpuid, entries) == offsetof(struct kvm_cpuid2, entries), "KVM's");

// A guest's topology in the numbers that leaves are made of, for one vCPU.
struct topology {
	uint32_t dies, threads;
	uint32_t die_cpus, socket_cpus;
	struct vn_topology_shifts shifts;
	uint32_t apic_id;
};

static struct kvm_cpuid_entry2 *find(struct vn_cpuid *cpuid, uint32_t function)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	return NULL;
}

static void drop(struct vn_cpuid *cpuid, uint32_t function)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function != function)
			cpuid->entries[kept++] = cpuid->entries[i];
	cpuid->nent = kept;
}

static int add(struct vn_cpuid *cpuid, struct kvm_cpuid_entry2 entry, struct veneer_error *error)
{
	if (cpuid->nent >= VN_CPUID_ENTRIES_MAX)
		return vn_fail(error, -ENOSPC, "no room for CPUID leaf 0x%x among %u entries",
			entry.function, VN_CPUID_ENTRIES_MAX);
	cpuid->entries[cpuid->nent++] = entry;
	return 0;
}

static bool vendor_is(const struct kvm_cpuid_entry2 *leaf, const char *name)
{
	const uint32_t words[] = {leaf->ebx, leaf->edx, leaf->ecx};

	return memcmp(words, name, sizeof(words)) == 0;
}

static void raise_to(struct kvm_cpuid_entry2 *leaf, uint32_t last)
{
	if (leaf->eax < last)
		leaf->eax = last;
}

static uint32_t at_most(uint32_t value, uint32_t limit)
{
	return value < limit ? value : limit;
}

static struct topology topology_of(const struct vn_topology *given, uint32_t apic_id)
{
	return (struct topology){
		.dies = given->dies,
		.threads = given->threads,
		.die_cpus = given->cores * given->threads,
		.socket_cpus = vn_topology_socket_cpus(given),
		.shifts = vn_topology_shifts(given),
		.apic_id = apic_id,
	};
}

static void set_features(
	struct kvm_cpuid_entry2 *leaf, const struct topology *topology, bool amd, bool tsc_deadline)
{
	// AMD counts the socket's CPUs, Intel the APIC ids that there is room for.
	uint32_t logical = amd ? topology->socket_cpus : 1u << topology->shifts.socket;

	leaf->ebx = (leaf->ebx & 0xffff) | at_most(logical, 0xff) << 16 | topology->apic_id << 24;
	leaf->ecx |= ECX_HYPERVISOR;
	leaf->ecx &= ~ECX_TSC_DEADLINE;
	if (tsc_deadline)
		leaf->ecx |= ECX_TSC_DEADLINE;
	leaf->edx &= ~EDX_HTT;
	if (topology->socket_cpus > 1)
		leaf->edx |= EDX_HTT;
}

// Who shares a cache: levels 1 and 2 belong to a core, anything above to what shares a level 3 cache.
// The field counts APIC ids on Intel; on AMD, where it counts CPUs, software takes it for the same.
static void set_sharing(struct kvm_cpuid_entry2 *cache, const struct topology *topology)
{
	uint32_t level = cache->eax >> 5 & 7;
	unsigned shift = level > 2 ? topology->shifts.l3 : topology->shifts.core;

	cache->eax &= ~(0xfffu << 14);
	cache->eax |= at_most((1u << shift) - 1, 0xfff) << 14;
}

static void set_intel_caches(struct vn_cpuid *cpuid, const struct topology *topology)
{
	unsigned shift = topology->shifts.socket - topology->shifts.core;
	uint32_t cores = at_most((1u << shift) - 1, 0x3f);

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *cache = &cpuid->entries[i];

		if (cache->function != LEAF_CACHES || (cache->eax & 0x1f) == 0)
			continue;
		set_sharing(cache, topology);
		cache->eax = (cache->eax & ~(0x3fu << 26)) | cores << 26;
	}
}

// Leaves 0xb and 0x1f, of which only the latter knows dies: for each level the bits of an APIC id
// that tell apart what is within it, and how many CPUs it has; and the end.
static int set_levels(struct vn_cpuid *cpuid, uint32_t function, const struct topology *topology,
	struct veneer_error *error)
{
	bool dies = function == LEAF_TOPOLOGY_V2 && topology->dies > 1;
	const struct kvm_cpuid_entry2 levels[] = {
		{.eax = topology->shifts.core, .ebx = topology->threads, .ecx = LEVEL_SMT << 8},
		{
			.eax = dies ? topology->shifts.die : topology->shifts.socket,
			.ebx = dies ? topology->die_cpus : topology->socket_cpus,
			.ecx = LEVEL_CORE << 8,
		},
		{
			.eax = topology->shifts.socket,
			.ebx = topology->socket_cpus,
			.ecx = LEVEL_DIE << 8,
		},
	};
	uint32_t count = dies ? 3 : 2;
	int ret = 0;

	drop(cpuid, function);
	for (uint32_t i = 0; i <= count && ret == 0; i++) {
		struct kvm_cpuid_entry2 level =
			i < count ? levels[i] : (struct kvm_cpuid_entry2){0};

		level.function = function;
		level.index = i;
		level.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		level.ecx |= i;
		level.edx = topology->apic_id;
		ret = add(cpuid, level, error);
	}
	return ret;
}

static int set_topology(struct vn_cpuid *cpuid, bool amd, const struct topology *topology,
	struct veneer_error *error)
{
	struct kvm_cpuid_entry2 *vendor = find(cpuid, LEAF_VENDOR);
	int ret;

	raise_to(vendor, LEAF_TOPOLOGY);
	if (!amd && topology->dies > 1)
		raise_to(vendor, LEAF_TOPOLOGY_V2);
	ret = set_levels(cpuid, LEAF_TOPOLOGY, topology, error);
	if (ret < 0)
		return ret;
	if (amd || find(cpuid, LEAF_VENDOR)->eax < LEAF_TOPOLOGY_V2) {
		drop(cpuid, LEAF_TOPOLOGY_V2);
		return 0;
	}
	return set_levels(cpuid, LEAF_TOPOLOGY_V2, topology, error);
}

static int set_amd_topology_extensions(
	struct vn_cpuid *cpuid, const struct topology *topology, struct veneer_error *error)
{
	uint32_t in_socket = topology->apic_id & ((1u << topology->shifts.socket) - 1);
	const struct kvm_cpuid_entry2 leaf = {
		.function = LEAF_AMD_TOPOLOGY,
		.eax = topology->apic_id,
		.ebx = (topology->threads - 1) << 8 | (in_socket >> topology->shifts.core & 0xff),
		// Dies are nodes, numbered throughout the machine.
		.ecx = at_most(topology->dies - 1, 7) << 8 |
		       ((topology->apic_id >> topology->shifts.socket) * topology->dies +
			       (in_socket >> topology->shifts.die)),
	};
	struct kvm_cpuid_entry2 *last = find(cpuid, LEAF_EXTENDED);

	if (last)
		raise_to(last, LEAF_AMD_TOPOLOGY);
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == LEAF_AMD_CACHES &&
			(cpuid->entries[i].eax & 0x1f) != 0)
			set_sharing(&cpuid->entries[i], topology);
	drop(cpuid, LEAF_AMD_TOPOLOGY);
	return add(cpuid, leaf, error);
}

static int set_amd(
	struct vn_cpuid *cpuid, const struct topology *topology, struct veneer_error *error)
{
	struct kvm_cpuid_entry2 *features, *sizes;

	// The host's own; without it kernels read leaf 0xb.
	drop(cpuid, LEAF_AMD_TOPOLOGY_V2);
	sizes = find(cpuid, LEAF_AMD_SIZES);
	if (sizes) {
		sizes->ecx &= ~0xf0ffu;
		sizes->ecx |=
			topology->shifts.socket << 12 | at_most(topology->socket_cpus - 1, 0xff);
	}
	features = find(cpuid, LEAF_AMD_FEATURES);
	if (!features)
		return 0;
	features->ecx &= ~ECX_CMP_LEGACY;
	if (topology->socket_cpus > 1)
		features->ecx |= ECX_CMP_LEGACY;
	if ((features->ecx & ECX_TOPOEXT) == 0)
		return 0;
	return set_amd_topology_extensions(cpuid, topology, error);
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
	while (b != 0) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

// Leaf 0x15: the TSC in units of the clock that drives the APIC timer. Linux multiplies the clock's
// kHz by the numerator in 32 bits (native_calibrate_tsc()), so that a TSC of, say, 2 095 078 kHz
// cannot be told exactly: then there is no ratio, and kernels have leaf 0x40000010 and kvm-clock.
static int set_tsc_ratio(struct vn_cpuid *cpuid, uint32_t tsc_khz, struct veneer_error *error)
{
	uint32_t divisor = common_divisor(APIC_BUS_KHZ, tsc_khz);
	const struct kvm_cpuid_entry2 leaf = {
		.function = LEAF_TSC,
		.eax = APIC_BUS_KHZ / divisor,
		.ebx = tsc_khz / divisor,
		.ecx = APIC_BUS_HZ,
	};

	drop(cpuid, LEAF_TSC);
	if (tsc_khz == 0 || leaf.ebx > UINT32_MAX / APIC_BUS_KHZ)
		return 0;
	raise_to(find(cpuid, LEAF_VENDOR), LEAF_TSC);
	return add(cpuid, leaf, error);
}

// The hypervisor's range: KVM's signature and features, and the frequencies of TSC and APIC timer.
static int set_hypervisor(struct vn_cpuid *cpuid, uint32_t tsc_khz, struct veneer_error *error)
{
	static const char signature[12] = "KVMKVMKVM";
	struct kvm_cpuid_entry2 leaf = {
		.function = LEAF_KVM,
		.eax = tsc_khz != 0 ? LEAF_FREQUENCIES : LEAF_KVM_FEATURES,
	};
	const struct kvm_cpuid_entry2 frequencies = {
		.function = LEAF_FREQUENCIES,
		.eax = tsc_khz,
		.ebx = APIC_BUS_KHZ,
	};
	int ret;

	memcpy(&leaf.ebx, signature, 4);
	memcpy(&leaf.ecx, signature + 4, 4);
	memcpy(&leaf.edx, signature + 8, 4);
	drop(cpuid, LEAF_KVM);
	drop(cpuid, LEAF_FREQUENCIES);
	ret = add(cpuid, leaf, error);
	if (ret < 0 || tsc_khz == 0)
		return ret;
	return add(cpuid, frequencies, error);
}

struct kvm_cpuid_entry2 vn_cpuid_host_mwait(void)
{
	struct kvm_cpuid_entry2 leaf = {.function = LEAF_MWAIT};

	__get_cpuid(LEAF_MWAIT, &leaf.eax, &leaf.ebx, &leaf.ecx, &leaf.edx);
	return leaf;
}

// Where MWAIT is not the guest's own, KVM takes it for a NOP, in which nobody should wait.
static int set_mwait(struct vn_cpuid *cpuid, struct kvm_cpuid_entry2 *features,
	const struct kvm_cpuid_entry2 *mwait, struct veneer_error *error)
{
	features->ecx &= ~ECX_MONITOR;
	if (!mwait)
		return 0;
	features->ecx |= ECX_MONITOR;
	raise_to(find(cpuid, LEAF_VENDOR), LEAF_MWAIT);
	drop(cpuid, LEAF_MWAIT);
	return add(cpuid, *mwait, error);
}

int vn_cpuid_supported(const struct vn_kvm *kvm, struct vn_cpuid *cpuid, struct veneer_error *error)
{
	int ret;

	memset(cpuid, 0, sizeof(*cpuid));
	cpuid->nent = VN_CPUID_ENTRIES_MAX;
	ret = vn_kvm_ioctl(kvm->system_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (ret < 0)
		return vn_fail(
			error, ret, "KVM does not say which CPUID it supports: %s", strerror(-ret));
	return 0;
}

int vn_cpuid_for_vcpu(struct vn_cpuid *cpuid, const struct vn_cpuid_guest *guest, uint32_t apic_id,
	struct veneer_error *error)
{
	struct topology topology = topology_of(&guest->topology, apic_id);
	const struct kvm_cpuid_entry2 *vendor = find(cpuid, LEAF_VENDOR);
	struct kvm_cpuid_entry2 *features = find(cpuid, LEAF_FEATURES);
	bool intel, amd;
	int ret;

	if (!vendor || !features)
		return vn_fail(error, -EINVAL, "KVM's CPUID has no leaf 0 or no leaf 1");
	intel = vendor_is(vendor, "GenuineIntel");
	amd = vendor_is(vendor, "AuthenticAMD") || vendor_is(vendor, "HygonGenuine");

	set_features(features, &topology, amd, guest->tsc_deadline);
	set_intel_caches(cpuid, &topology);
	ret = set_mwait(cpuid, features, guest->mwait, error);
	if (ret == 0)
		ret = set_topology(cpuid, amd, &topology, error);
	if (ret < 0)
		return ret;
	if (amd)
		ret = set_amd(cpuid, &topology, error);
	else if (intel)
		ret = set_tsc_ratio(cpuid, guest->tsc_khz, error);
	if (ret < 0)
		return ret;
	return set_hypervisor(cpuid, guest->tsc_khz, error);
}
