// SPDX-License-Identifier: Apache-2.0
//
// CPUID features by name: sets of them, what they need of each other, and their bits in a CPUID
// table. The table of features is features.inc. Pure.
#ifndef VN_X86_FEATURES_H
#define VN_X86_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/x86/cpuid.h"

// Numbers in the order of the table, from 1; VN_FEATURE_none is none of them.
enum vn_feature {
	VN_FEATURE_none,
#define FEATURE(name, ...) VN_FEATURE_##name,
#define ALIAS(...)
#include "arch/x86/features.inc"
#undef FEATURE
#undef ALIAS
	VN_FEATURE_COUNT
};

enum vn_feature_kind {
	VN_FEATURE_MODEL, // models list it
	VN_FEATURE_HOST, // every model has it where the host offers it
	VN_FEATURE_ASKED, // only who asks for it has it
};

struct vn_features {
	uint64_t words[(VN_FEATURE_COUNT + 63) / 64];
};

const char *vn_feature_name(enum vn_feature feature);
enum vn_feature_kind vn_feature_kind(enum vn_feature feature);

// By name or alias, whatever the case, and - or . for _ . VN_FEATURE_none when there is none.
enum vn_feature vn_feature_find(const char *name);

bool vn_features_has(const struct vn_features *set, enum vn_feature feature);

// Add a feature and all that it needs; remove it and all that needs it.
void vn_features_add(struct vn_features *set, enum vn_feature feature);
void vn_features_remove(struct vn_features *set, enum vn_feature feature);

// What a table offers, without what it lacks the means for: another feature, or the XSAVE state.
struct vn_features vn_features_offered(struct vn_cpuid *cpuid);

// Make a table say `set`, which it offers, and no other feature; leaves that describe a feature go
// with it, and leaf 0xd describes what remains. Bits that no name is known for stay unless `exact`.
void vn_features_apply(struct vn_cpuid *cpuid, const struct vn_features *set, bool exact);

#endif
