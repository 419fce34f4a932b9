// SPDX-License-Identifier: Apache-2.0
//
// From what KVM supports to what a guest's CPU says of itself. KVM leaves to user space what it
// cannot know: APIC ids, how many CPUs there are and what they share, and the TSC's frequency. The
// rest of its table is handed on as it is. Leaves are those of the Intel SDM (volume 2, CPUID), the
// AMD APM (volume 3, appendix E) and Linux's Documentation/virt/kvm/x86/cpuid.rst.
#include "arch/x86/cpuid.h"

#include <asm/prctl.h>
#include <assert.h>
#include <cpuid.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/macros.h"

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
#define LEAF_AMD_LEVEL_1     0x80000005u
#define LEAF_AMD_LEVEL_2     0x80000006u // and 3
#define LEAF_AMD_SIZES       0x80000008u
#define LEAF_AMD_CACHES      0x8000001du
#define LEAF_AMD_TOPOLOGY    0x8000001eu
#define LEAF_AMD_TOPOLOGY_V2 0x80000026u

#define ECX_MONITOR      (1u << 3)
#define ECX_VMX          (1u << 5)
#define ECX_SVM          (1u << 2) // of LEAF_AMD_FEATURES
#define ECX_TSC_DEADLINE (1u << 24)
#define ECX_HYPERVISOR   (1u << 31)
#define EDX_HTT          (1u << 28)
#define ECX_CMP_LEGACY   (1u << 1)
#define ECX_TOPOEXT      (1u << 22)

#define CACHE_DATA              1u
#define CACHE_CODE              2u
#define CACHE_UNIFIED           3u
#define CACHE_SELF_INITIALIZING (1u << 8)

#define XSAVE_TILE_DATA 18 // XSAVE's state component

#define LEVEL_SMT  1u
#define LEVEL_CORE 2u
#define LEVEL_DIE  5u

// KVM's local APIC timer counts nanoseconds, whatever the host.
#define APIC_BUS_HZ  1000000000u
#define APIC_BUS_KHZ (APIC_BUS_HZ / 1000)

struct amd_cache {
	uint32_t type, level, kib, ways, line;
};

static_assert(offsetof(struct vn_cpuid, nent) == offsetof(struct kvm_cpuid2, nent), "KVM's");
static_assert(offsetof(struct vn_cpuid, entries) == offsetof(struct kvm_cpuid2, entries), "KVM's");

// A guest's topology in the numbers that leaves are made of, for one vCPU.
struct topology {
	uint32_t dies, threads;
	uint32_t die_cpus, socket_cpus;
	struct vn_topology_shifts shifts;
	uint32_t apic_id;
};

struct kvm_cpuid_entry2 *vn_cpuid_find(struct vn_cpuid *cpuid, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index)
			return &cpuid->entries[i];
	return NULL;
}

static struct kvm_cpuid_entry2 *find(struct vn_cpuid *cpuid, uint32_t function)
{
	return vn_cpuid_find(cpuid, function, 0);
}

void vn_cpuid_drop(struct vn_cpuid *cpuid, uint32_t function)
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

static bool vendor_is(const struct vn_cpuid *cpuid, const char *name)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *leaf = &cpuid->entries[i];
		const uint32_t words[] = {leaf->ebx, leaf->edx, leaf->ecx};

		if (leaf->function == LEAF_VENDOR)
			return memcmp(words, name, sizeof(words)) == 0;
	}
	return false;
}

bool vn_cpuid_is_intel(const struct vn_cpuid *cpuid)
{
	return vendor_is(cpuid, "GenuineIntel");
}

bool vn_cpuid_is_amd(const struct vn_cpuid *cpuid)
{
	return vendor_is(cpuid, "AuthenticAMD") || vendor_is(cpuid, "HygonGenuine");
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

static void set_features(struct kvm_cpuid_entry2 *leaf, const struct topology *topology, bool amd)
{
	// AMD counts the socket's CPUs, Intel the APIC ids that there is room for.
	uint32_t logical = amd ? topology->socket_cpus : 1u << topology->shifts.socket;

	leaf->ebx = (leaf->ebx & 0xffff) | at_most(logical, 0xff) << 16 | topology->apic_id << 24;
	leaf->edx &= ~EDX_HTT;
	if (topology->socket_cpus > 1)
		leaf->edx |= EDX_HTT;
}

// Who shares a cache: levels 1 and 2 belong to a core, anything above to what shares a level 3
// cache. The field counts APIC ids on Intel; on AMD, where it counts CPUs, software takes it for
// the same.
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

	vn_cpuid_drop(cpuid, function);
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
		vn_cpuid_drop(cpuid, LEAF_TOPOLOGY_V2);
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
	vn_cpuid_drop(cpuid, LEAF_AMD_TOPOLOGY);
	return add(cpuid, leaf, error);
}

static int set_amd(
	struct vn_cpuid *cpuid, const struct topology *topology, struct veneer_error *error)
{
	struct kvm_cpuid_entry2 *features, *sizes;

	// The host's own; without it kernels read leaf 0xb.
	vn_cpuid_drop(cpuid, LEAF_AMD_TOPOLOGY_V2);
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

	vn_cpuid_drop(cpuid, LEAF_TSC);
	if (tsc_khz == 0 || leaf.ebx > UINT32_MAX / APIC_BUS_KHZ)
		return 0;
	raise_to(find(cpuid, LEAF_VENDOR), LEAF_TSC);
	return add(cpuid, leaf, error);
}

// The hypervisor's range, unless it is hidden: KVM's signature and features, and the frequencies of
// TSC and APIC timer.
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
	vn_cpuid_drop(cpuid, LEAF_KVM);
	vn_cpuid_drop(cpuid, LEAF_FREQUENCIES);
	if ((find(cpuid, LEAF_FEATURES)->ecx & ECX_HYPERVISOR) == 0) {
		vn_cpuid_drop(cpuid, LEAF_KVM_FEATURES);
		return 0;
	}
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

bool vn_cpuid_host_virtualizes(void)
{
	unsigned eax, ebx, ecx, edx;

	if (__get_cpuid(LEAF_FEATURES, &eax, &ebx, &ecx, &edx) && (ecx & ECX_VMX))
		return true;
	return __get_cpuid(LEAF_AMD_FEATURES, &eax, &ebx, &ecx, &edx) && (ecx & ECX_SVM);
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
	vn_cpuid_drop(cpuid, LEAF_MWAIT);
	return add(cpuid, *mwait, error);
}

// A cache of which AMD's older leaves say KiB, ways and bytes of a line, as leaf 0x8000001d has it.
static int add_amd_cache(
	struct vn_cpuid *cpuid, const struct amd_cache *cache, struct veneer_error *error)
{
	uint32_t bytes = cache->ways * cache->line; // of a set
	struct kvm_cpuid_entry2 leaf = {
		.function = LEAF_AMD_CACHES,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = cache->type | cache->level << 5 | CACHE_SELF_INITIALIZING,
		.ebx = (cache->ways - 1) << 22 | (cache->line - 1),
	};

	if (bytes == 0 || cache->kib * 1024 < bytes)
		return 0;
	leaf.ecx = cache->kib * 1024 / bytes - 1;
	while (vn_cpuid_find(cpuid, LEAF_AMD_CACHES, leaf.index))
		leaf.index++;
	return add(cpuid, leaf, error);
}

// Ways of levels 2 and 3 by their code (APM volume 3, table E-4); 0: none, or not told here, as
// those of a fully associative cache.
static uint32_t amd_ways(uint32_t code)
{
	static const uint32_t ways[16] = {0, 1, 2, 3, 4, 6, 8, 0, 16, 0, 32, 48, 64, 96, 128, 0};

	return ways[code & 0xf];
}

// Where the host has no leaf 0x8000001d to hand on, the same is told from leaves 0x80000005 and 6.
static int make_amd_caches(struct vn_cpuid *cpuid, struct veneer_error *error)
{
	const struct kvm_cpuid_entry2 *first = find(cpuid, LEAF_AMD_LEVEL_1);
	const struct kvm_cpuid_entry2 *others = find(cpuid, LEAF_AMD_LEVEL_2);
	int ret = 0;

	if (!first || !others)
		return 0;
	const struct amd_cache caches[] = {
		{CACHE_DATA, 1, first->ecx >> 24, first->ecx >> 16 & 0xff, first->ecx & 0xff},
		{CACHE_CODE, 1, first->edx >> 24, first->edx >> 16 & 0xff, first->edx & 0xff},
		{CACHE_UNIFIED, 2, others->ecx >> 16, amd_ways(others->ecx >> 12),
			others->ecx & 0xff},
		{CACHE_UNIFIED, 3, (others->edx >> 18) * 512, amd_ways(others->edx >> 12),
			others->edx & 0xff},
	};
	vn_cpuid_drop(cpuid, LEAF_AMD_CACHES);
	for (size_t i = 0; i < ARRAY_SIZE(caches) && ret == 0; i++)
		ret = add_amd_cache(cpuid, &caches[i], error);
	return ret;
}

int vn_cpuid_offer(struct vn_cpuid *cpuid, bool tsc_deadline, struct veneer_error *error)
{
	struct kvm_cpuid_entry2 *features = find(cpuid, LEAF_FEATURES);
	struct kvm_cpuid_entry2 *amd_features = find(cpuid, LEAF_AMD_FEATURES);

	if (features) {
		features->ecx |= ECX_HYPERVISOR;
		features->ecx &= ~ECX_TSC_DEADLINE;
		if (tsc_deadline)
			features->ecx |= ECX_TSC_DEADLINE;
	}
	if (!vn_cpuid_is_amd(cpuid) || !amd_features || (amd_features->ecx & ECX_TOPOEXT))
		return 0;
	amd_features->ecx |= ECX_TOPOEXT;
	return make_amd_caches(cpuid, error);
}

// KVM hands on the processor's own leaf 0x80000005 from Linux 6.7 on.
static int add_amd_level_1(struct vn_cpuid *cpuid, struct veneer_error *error)
{
	struct kvm_cpuid_entry2 *leaf = find(cpuid, LEAF_AMD_LEVEL_1);
	struct kvm_cpuid_entry2 host = {.function = LEAF_AMD_LEVEL_1};

	if (!vn_cpuid_is_amd(cpuid) || (leaf && leaf->ecx != 0) ||
		!__get_cpuid(LEAF_AMD_LEVEL_1, &host.eax, &host.ebx, &host.ecx, &host.edx))
		return 0;
	vn_cpuid_drop(cpuid, LEAF_AMD_LEVEL_1);
	return add(cpuid, host, error);
}

int vn_cpuid_supported(const struct vn_kvm *kvm, struct vn_cpuid *cpuid, struct veneer_error *error)
{
	int tsc_deadline = vn_kvm_ioctl(
		kvm->system_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)KVM_CAP_TSC_DEADLINE_TIMER);
	int ret;

	// KVM offers AMX to a process that has asked for its state; where this fails it does not.
	syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, XSAVE_TILE_DATA);
	memset(cpuid, 0, sizeof(*cpuid));
	cpuid->nent = VN_CPUID_ENTRIES_MAX;
	ret = vn_kvm_ioctl(kvm->system_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (ret < 0)
		return vn_fail(
			error, ret, "KVM does not say which CPUID it supports: %s", strerror(-ret));
	ret = add_amd_level_1(cpuid, error);
	return ret < 0 ? ret : vn_cpuid_offer(cpuid, tsc_deadline > 0, error);
}

int vn_cpuid_for_vcpu(struct vn_cpuid *cpuid, const struct vn_cpuid_guest *guest, uint32_t apic_id,
	struct veneer_error *error)
{
	struct topology topology = topology_of(&guest->topology, apic_id);
	struct kvm_cpuid_entry2 *features = find(cpuid, LEAF_FEATURES);
	bool amd = vn_cpuid_is_amd(cpuid);
	int ret;

	if (!find(cpuid, LEAF_VENDOR) || !features)
		return vn_fail(error, -EINVAL, "KVM's CPUID has no leaf 0 or no leaf 1");
	set_features(features, &topology, amd);
	set_intel_caches(cpuid, &topology);
	ret = set_mwait(cpuid, features, guest->mwait, error);
	if (ret == 0)
		ret = set_topology(cpuid, amd, &topology, error);
	if (ret < 0)
		return ret;
	if (amd)
		ret = set_amd(cpuid, &topology, error);
	else if (vn_cpuid_is_intel(cpuid))
		ret = set_tsc_ratio(cpuid, guest->tsc_khz, error);
	if (ret < 0)
		return ret;
	return set_hypervisor(cpuid, guest->tsc_khz, error);
}
