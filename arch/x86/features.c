// SPDX-License-Identifier: Apache-2.0
//
// A feature comes after those that it needs, so that one pass over the table, forwards or
// backwards, reaches all that depends on a feature or all that it depends on.
#include "arch/x86/features.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "base/macros.h"

#define LEAF_FEATURES     0x1u
#define LEAF_XSAVE        0xdu
#define LEAF_AMD_FEATURES 0x80000001u

// Of leaf 0x80000001's EDX, what AMD repeats from leaf 1's.
#define EDX_REPEATED 0x0183f3ffu

// XSAVE's legacy region and header: the size of what has no component (SDM volume 1, 13.4).
#define XSAVE_BASE_SIZE 576u

enum reg { EAX, EBX, ECX, EDX };

static const struct feature {
	const char *name;
	uint32_t leaf;
	uint32_t index;
	enum reg reg;
	unsigned bit;
	enum vn_feature_kind kind;
	enum vn_feature needs[2];
} features[VN_FEATURE_COUNT] = {
#define FEATURE(name, leaf, index, reg, bit, kind, need, also)                                     \
	[VN_FEATURE_##name] = {#name, leaf, index, reg, bit, VN_FEATURE_##kind,                    \
		{VN_FEATURE_##need, VN_FEATURE_##also}},
#define ALIAS(...)
#include "arch/x86/features.inc"
#undef FEATURE
#undef ALIAS
};

#define FEATURE(name, leaf, index, reg, bit, kind, need, also)                                     \
	static_assert(                                                                             \
		VN_FEATURE_##need < VN_FEATURE_##name && VN_FEATURE_##also < VN_FEATURE_##name,    \
		#name " comes before what it needs");
#define ALIAS(...)
#include "arch/x86/features.inc"
#undef FEATURE
#undef ALIAS

static const struct {
	const char *alias;
	enum vn_feature feature;
} aliases[] = {
#define FEATURE(...)
#define ALIAS(alias, name) {#alias, VN_FEATURE_##name},
#include "arch/x86/features.inc"
#undef FEATURE
#undef ALIAS
};

// State components of XSAVE (SDM volume 1, 13.1): what XCR0 or IA32_XSS enables for a feature.
static const struct {
	enum vn_feature feature;
	uint64_t xcr0, xss;
} components[] = {
	{VN_FEATURE_avx, 1u << 2, 0},
	{VN_FEATURE_mpx, 3u << 3, 0},
	{VN_FEATURE_avx512f, 7u << 5, 0},
	{VN_FEATURE_intel_pt, 0, 1u << 8},
	{VN_FEATURE_pku, 1u << 9, 0},
	{VN_FEATURE_shstk, 0, 3u << 11},
	{VN_FEATURE_arch_lbr, 0, 1u << 15},
	{VN_FEATURE_amx_tile, 3u << 17, 0},
};

// Leaves that are there for a feature.
static const struct {
	uint32_t leaf;
	enum vn_feature feature;
} described[] = {
	{0xd, VN_FEATURE_xsave},
	{0x12, VN_FEATURE_sgx},
	{0x14, VN_FEATURE_intel_pt},
	{0x1c, VN_FEATURE_arch_lbr},
	{0x1d, VN_FEATURE_amx_tile},
	{0x1e, VN_FEATURE_amx_tile},
	{0x8000000a, VN_FEATURE_svm},
	{0x8000001d, VN_FEATURE_topoext},
	{0x8000001e, VN_FEATURE_topoext},
};

const char *vn_feature_name(enum vn_feature feature)
{
	return features[feature].name;
}

enum vn_feature_kind vn_feature_kind(enum vn_feature feature)
{
	return features[feature].kind;
}

static bool same_name(const char *given, const char *name)
{
	for (; *given && *name; given++, name++) {
		int c = *given == '-' || *given == '.' ? '_' : tolower((unsigned char)*given);

		if (c != *name)
			return false;
	}
	return *given == *name;
}

enum vn_feature vn_feature_find(const char *name)
{
	for (unsigned i = 1; i < VN_FEATURE_COUNT; i++)
		if (same_name(name, features[i].name))
			return i;
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		if (same_name(name, aliases[i].alias))
			return aliases[i].feature;
	return VN_FEATURE_none;
}

bool vn_features_has(const struct vn_features *set, enum vn_feature feature)
{
	return set->words[feature / 64] >> feature % 64 & 1;
}

static void put(struct vn_features *set, enum vn_feature feature, bool in)
{
	uint64_t bit = BIT64(feature % 64);

	if (in)
		set->words[feature / 64] |= bit;
	else
		set->words[feature / 64] &= ~bit;
}

void vn_features_add(struct vn_features *set, enum vn_feature feature)
{
	put(set, feature, true);
	for (unsigned i = feature; i > 0; i--)
		for (unsigned n = 0; n < 2 && vn_features_has(set, i); n++)
			if (features[i].needs[n] != VN_FEATURE_none)
				put(set, features[i].needs[n], true);
}

// Those from `first` on that need what the set lacks.
static void remove_dependents(struct vn_features *set, unsigned first)
{
	for (unsigned i = first; i < VN_FEATURE_COUNT; i++)
		for (unsigned n = 0; n < 2; n++)
			if (features[i].needs[n] != VN_FEATURE_none &&
				!vn_features_has(set, features[i].needs[n]))
				put(set, i, false);
}

void vn_features_remove(struct vn_features *set, enum vn_feature feature)
{
	put(set, feature, false);
	remove_dependents(set, feature);
}

static uint32_t *register_of(struct vn_cpuid *cpuid, const struct feature *feature)
{
	struct kvm_cpuid_entry2 *entry = vn_cpuid_find(cpuid, feature->leaf, feature->index);

	if (!entry)
		return NULL;
	switch (feature->reg) {
	case EAX:
		return &entry->eax;
	case EBX:
		return &entry->ebx;
	case ECX:
		return &entry->ecx;
	default:
		return &entry->edx;
	}
}

struct vn_features vn_features_offered(struct vn_cpuid *cpuid)
{
	const struct kvm_cpuid_entry2 *xsave = vn_cpuid_find(cpuid, LEAF_XSAVE, 0);
	uint64_t xcr0 = xsave ? (uint64_t)xsave->edx << 32 | xsave->eax : 0;
	struct vn_features set = {0};

	for (unsigned i = 1; i < VN_FEATURE_COUNT; i++) {
		const uint32_t *bits = register_of(cpuid, &features[i]);

		put(&set, i, bits && (*bits >> features[i].bit & 1));
	}
	for (size_t i = 0; i < ARRAY_SIZE(components); i++)
		if (components[i].xcr0 & ~xcr0)
			put(&set, components[i].feature, false);
	remove_dependents(&set, 1);
	return set;
}

// Components that `set` lacks go from leaf 0xd, and the size of all that can be enabled with them.
// The size of what is enabled now (EBX) KVM keeps right by itself.
static void trim_xsave(struct vn_cpuid *cpuid, const struct vn_features *set)
{
	struct kvm_cpuid_entry2 *all = vn_cpuid_find(cpuid, LEAF_XSAVE, 0);
	struct kvm_cpuid_entry2 *extended = vn_cpuid_find(cpuid, LEAF_XSAVE, 1);
	uint64_t enabled, xcr0 = ~UINT64_C(0), xss = ~UINT64_C(0);
	uint32_t kept = 0;

	if (!all)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(components); i++) {
		if (vn_features_has(set, components[i].feature))
			continue;
		xcr0 &= ~components[i].xcr0;
		xss &= ~components[i].xss;
	}
	enabled = (uint64_t)all->edx << 32 | all->eax;
	xcr0 &= enabled;
	if (!extended || !vn_features_has(set, VN_FEATURE_xsaves))
		xss = 0;
	else
		xss &= (uint64_t)extended->edx << 32 | extended->ecx;
	all->eax = (uint32_t)xcr0;
	all->edx = (uint32_t)(xcr0 >> 32);
	if (xcr0 != enabled)
		all->ecx = XSAVE_BASE_SIZE;
	if (extended) {
		extended->ecx = (uint32_t)xss;
		extended->edx = (uint32_t)(xss >> 32);
	}
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 entry = cpuid->entries[i];
		bool component = entry.function == LEAF_XSAVE && entry.index > 1;

		if (component && (entry.index > 63 || !((xcr0 | xss) >> entry.index & 1)))
			continue;
		if (component && (xcr0 >> entry.index & 1) && entry.ebx + entry.eax > all->ecx)
			all->ecx = entry.ebx + entry.eax;
		cpuid->entries[kept++] = entry;
	}
	cpuid->nent = kept;
}

static void repeat_amd(struct vn_cpuid *cpuid)
{
	const struct kvm_cpuid_entry2 *first = vn_cpuid_find(cpuid, LEAF_FEATURES, 0);
	struct kvm_cpuid_entry2 *again = vn_cpuid_find(cpuid, LEAF_AMD_FEATURES, 0);

	if (first && again && vn_cpuid_is_amd(cpuid))
		again->edx = (again->edx & ~EDX_REPEATED) | (first->edx & EDX_REPEATED);
}

void vn_features_apply(struct vn_cpuid *cpuid, const struct vn_features *set, bool exact)
{
	for (unsigned i = 1; exact && i < VN_FEATURE_COUNT; i++) {
		uint32_t *bits = register_of(cpuid, &features[i]);

		if (bits)
			*bits = 0;
	}
	for (unsigned i = 1; i < VN_FEATURE_COUNT; i++) {
		uint32_t *bits = register_of(cpuid, &features[i]);
		uint32_t bit = 1u << features[i].bit;

		if (bits)
			*bits = vn_features_has(set, i) ? *bits | bit : *bits & ~bit;
	}
	repeat_amd(cpuid);
	trim_xsave(cpuid, set);
	for (size_t i = 0; i < ARRAY_SIZE(described); i++)
		if (!vn_features_has(set, described[i].feature))
			vn_cpuid_drop(cpuid, described[i].leaf);
}
