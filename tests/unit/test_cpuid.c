// SPDX-License-Identifier: Apache-2.0
//
// CPUID of a guest's CPUs, made from tables such as KVM gives on an Intel and on an AMD host.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "arch/x86/cpuid.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX

// Cut down from a server with Intel's leaf 4: L1d, L1i and L2 of two threads, L3 of 40.
static const struct kvm_cpuid_entry2 intel_table[] = {
	{0x0, 0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69, {0}},
	{0x1, 0, 0, 0x00050657, 0x07400800, 0x7ffefbff, 0x0fabfbff, {0}},
	{0x4, 0, INDEXED, 0x7c004121, 0x01c0003f, 0x3f, 0, {0}},
	{0x4, 1, INDEXED, 0x7c004122, 0x01c0003f, 0x3f, 0, {0}},
	{0x4, 2, INDEXED, 0x7c004143, 0x03c0003f, 0x3ff, 0, {0}},
	{0x4, 3, INDEXED, 0x7c0fc163, 0x0280003f, 0xdfff, 0x4, {0}},
	{0x4, 4, INDEXED, 0, 0, 0, 0, {0}},
	{0x7, 0, INDEXED, 0, 0xd19f47fb, 0x808, 0xbc000400, {0}},
	{0xb, 0, INDEXED, 0, 0, 0, 7, {0}},
	{0xd, 0, INDEXED, 0x2e7, 0xa88, 0xa88, 0, {0}},
	{0x15, 0, 0, 2, 168, 0, 0, {0}},
	{0x1f, 0, INDEXED, 0, 0, 0, 7, {0}},
	{0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d, {0}},
	{0x40000001, 0, 0, 0x01007efb, 0, 0, 0, {0}},
	{0x80000000, 0, 0, 0x80000008, 0, 0, 0, {0}},
	{0x80000001, 0, 0, 0, 0, 0x121, 0x2c100800, {0}},
	{0x80000008, 0, 0, 0x302e, 0x100d200, 0, 0, {0}},
};

// Cut down from a server with AMD's TOPOEXT: L3 of 8 cores with two threads each.
static const struct kvm_cpuid_entry2 amd_table[] = {
	{0x0, 0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65, {0}},
	{0x1, 0, 0, 0x00a00f11, 0x11200800, 0x7efa320b, 0x178bfbff, {0}},
	{0x7, 0, INDEXED, 0, 0x219c97a9, 0x40061c, 0, {0}},
	{0xb, 0, INDEXED, 1, 2, 0x100, 17, {0}},
	{0xb, 1, INDEXED, 7, 32, 0x201, 17, {0}},
	{0xd, 0, INDEXED, 0x207, 0x988, 0x988, 0, {0}},
	{0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d, {0}},
	{0x40000001, 0, 0, 0x01007efb, 0, 0, 0, {0}},
	{0x80000000, 0, 0, 0x80000028, 0x68747541, 0x444d4163, 0x69746e65, {0}},
	{0x80000001, 0, 0, 0x00a00f11, 0x40000000, 0x00c003f3, 0x2fd3fbff, {0}},
	{0x80000008, 0, 0, 0x3030, 0x111ef257, 0x0001503f, 0x10000, {0}},
	{0x8000001d, 0, INDEXED, 0x4121, 0x01c0003f, 0x3f, 0, {0}},
	{0x8000001d, 1, INDEXED, 0x4122, 0x01c0003f, 0x3f, 0, {0}},
	{0x8000001d, 2, INDEXED, 0x4143, 0x01c0003f, 0x3ff, 2, {0}},
	{0x8000001d, 3, INDEXED, 0x3c163, 0x03c0003f, 0x7fff, 1, {0}},
	{0x8000001e, 0, 0, 17, 0x108, 0x1, 0, {0}},
	{0x80000026, 0, INDEXED, 0x1, 2, 0x100, 17, {0}},
	{0x80000026, 1, INDEXED, 0x7, 32, 0x201, 17, {0}},
};

static const unsigned cpu_counts[] = {1, 2, 3, 4, 64};
static const uint32_t shifts[] = {0, 1, 2, 2, 6};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void load(struct vn_cpuid *cpuid, const struct kvm_cpuid_entry2 *entries, size_t count)
{
	memset(cpuid, 0, sizeof(*cpuid));
	memcpy(cpuid->entries, entries, count * sizeof(entries[0]));
	cpuid->nent = (uint32_t)count;
	for (size_t i = 0; i < count; i++)
		if (entries[i].function == 1)
			cpuid->entries[i].ecx |= 1u << 31; // as vn_cpuid_offer() has it
}

// The leaf, which must be there exactly once.
static struct kvm_cpuid_entry2 *get(struct vn_cpuid *cpuid, uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *found = NULL;

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function != function || cpuid->entries[i].index != index)
			continue;
		assert_null(found);
		found = &cpuid->entries[i];
	}
	if (!found)
		fail_msg("leaf 0x%x.%u is missing", function, index);
	return found;
}

static bool has(const struct vn_cpuid *cpuid, uint32_t function)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return true;
	return false;
}

static void make(struct vn_cpuid *cpuid, unsigned cpus, uint32_t tsc_khz, uint32_t apic_id)
{
	struct vn_cpuid_guest guest = {.topology = {1, 1, cpus, 1, 0}, .tsc_khz = tsc_khz};
	struct veneer_error error;

	assert_int_equal(vn_cpuid_for_vcpu(cpuid, &guest, apic_id, &error), 0);
}

// The table of one vCPU of a guest with that topology.
static void make_placed(struct vn_cpuid *cpuid, const struct kvm_cpuid_entry2 *entries,
	size_t count, struct vn_topology topology, unsigned index)
{
	struct vn_cpuid_guest guest = {.topology = topology};
	struct veneer_error error;

	load(cpuid, entries, count);
	assert_int_equal(
		vn_cpuid_for_vcpu(cpuid, &guest, vn_topology_apic_id(&topology, index), &error), 0);
}

static void check_levels(
	struct vn_cpuid *cpuid, uint32_t function, unsigned cpus, uint32_t shift, uint32_t id)
{
	const uint32_t expected[3][3] = {{0, 1, 0x100}, {shift, cpus, 0x201}, {0, 0, 2}};

	for (uint32_t i = 0; i < 3; i++) {
		const struct kvm_cpuid_entry2 *level = get(cpuid, function, i);

		assert_int_equal(level->flags, INDEXED);
		assert_int_equal(level->eax, expected[i][0]);
		assert_int_equal(level->ebx, expected[i][1]);
		assert_int_equal(level->ecx, expected[i][2]);
		assert_int_equal(level->edx, id);
	}
}

static void check_features(struct vn_cpuid *cpuid, unsigned cpus, uint32_t logical, uint32_t id)
{
	const struct kvm_cpuid_entry2 *leaf = get(cpuid, 1, 0);

	assert_int_equal(leaf->ebx >> 24, id);
	assert_int_equal(leaf->ebx >> 16 & 0xff, logical);
	assert_int_equal(leaf->ebx & 0xffff, 0x0800); // CLFLUSH size untouched
	assert_int_equal(leaf->edx >> 28 & 1, cpus > 1);
}

static void intel_topology(void **state)
{
	(void)state;
	for (size_t n = 0; n < COUNT(cpu_counts); n++) {
		unsigned cpus = cpu_counts[n];
		uint32_t room = 1u << shifts[n];

		for (uint32_t id = 0; id < cpus; id++) {
			struct vn_cpuid cpuid;

			load(&cpuid, intel_table, COUNT(intel_table));
			make(&cpuid, cpus, 2100000, id);
			check_features(&cpuid, cpus, room, id);
			check_levels(&cpuid, 0xb, cpus, shifts[n], id);
			check_levels(&cpuid, 0x1f, cpus, shifts[n], id);
			for (uint32_t cache = 0; cache < 4; cache++) {
				uint32_t eax = get(&cpuid, 4, cache)->eax;

				assert_int_equal(eax >> 26, room - 1);
				assert_int_equal(eax >> 14 & 0xfff, cache == 3 ? room - 1 : 0);
				assert_int_equal(eax & 0x3fff, intel_table[2 + cache].eax & 0x3fff);
			}
			assert_int_equal(get(&cpuid, 4, 4)->eax, 0);
		}
	}
}

static void amd_topology(void **state)
{
	(void)state;
	for (size_t n = 0; n < COUNT(cpu_counts); n++) {
		unsigned cpus = cpu_counts[n];

		for (uint32_t id = 0; id < cpus; id++) {
			struct vn_cpuid cpuid;

			load(&cpuid, amd_table, COUNT(amd_table));
			make(&cpuid, cpus, 2445000, id);
			check_features(&cpuid, cpus, cpus, id);
			check_levels(&cpuid, 0xb, cpus, shifts[n], id);
			assert_int_equal(get(&cpuid, 0x80000001, 0)->ecx,
				cpus > 1 ? 0x00c003f3 : 0x00c003f1);
			assert_int_equal(get(&cpuid, 0x80000008, 0)->ecx,
				0x10000 | shifts[n] << 12 | (cpus - 1));
			for (uint32_t cache = 0; cache < 4; cache++) {
				uint32_t eax = get(&cpuid, 0x8000001d, cache)->eax;

				assert_int_equal(eax >> 14, cache == 3 ? (1u << shifts[n]) - 1 : 0);
			}
			assert_int_equal(get(&cpuid, 0x8000001e, 0)->eax, id);
			assert_int_equal(get(&cpuid, 0x8000001e, 0)->ebx, id);
			assert_int_equal(get(&cpuid, 0x8000001e, 0)->ecx, 0);
			assert_false(has(&cpuid, 0x80000026));
			assert_false(has(&cpuid, 0x1f));
			assert_int_equal(get(&cpuid, 0, 0)->eax, 0x10);
		}
	}
}

static void check_level(struct vn_cpuid *cpuid, uint32_t function, uint32_t index, uint32_t shift,
	uint32_t cpus, uint32_t type)
{
	const struct kvm_cpuid_entry2 *level = get(cpuid, function, index);

	assert_int_equal(level->eax, shift);
	assert_int_equal(level->ebx, cpus);
	assert_int_equal(level->ecx, type << 8 | index);
}

// Two sockets of two dies with three cores of two threads: 1 + 2 + 1 bits below the socket's.
static void intel_levels(void **state)
{
	const struct vn_topology topology = {2, 2, 3, 2, 0};
	struct vn_cpuid cpuid;

	(void)state;
	make_placed(&cpuid, intel_table, COUNT(intel_table), topology, 23);
	assert_int_equal(get(&cpuid, 1, 0)->ebx >> 16, 0x1d10); // APIC id 29, room for 16
	check_level(&cpuid, 0xb, 0, 1, 2, 1);
	check_level(&cpuid, 0xb, 1, 4, 12, 2);
	check_level(&cpuid, 0xb, 2, 0, 0, 0);
	check_level(&cpuid, 0x1f, 0, 1, 2, 1);
	check_level(&cpuid, 0x1f, 1, 3, 6, 2);
	check_level(&cpuid, 0x1f, 2, 4, 12, 5);
	check_level(&cpuid, 0x1f, 3, 0, 0, 0);
	assert_int_equal(get(&cpuid, 0x1f, 3)->edx, 29);
	// Eight cores in the socket; L1 and L2 of two threads, L3 of eight.
	assert_int_equal(get(&cpuid, 4, 2)->eax >> 14, 7 << 12 | 1);
	assert_int_equal(get(&cpuid, 4, 3)->eax >> 14, 7 << 12 | 7);

	make_placed(
		&cpuid, intel_table, COUNT(intel_table), (struct vn_topology){1, 1, 4, 2, 4}, 7);
	assert_int_equal(get(&cpuid, 4, 3)->eax >> 14, 3 << 12 | 3);

	// Dies are told by leaf 0x1f alone, so it is there.
	load(&cpuid, intel_table, COUNT(intel_table));
	get(&cpuid, 0, 0)->eax = 0xd;
	const struct vn_cpuid_guest guest = {.topology = topology};
	struct veneer_error error;
	assert_int_equal(vn_cpuid_for_vcpu(&cpuid, &guest, 0, &error), 0);
	assert_int_equal(get(&cpuid, 0, 0)->eax, 0x1f);
	check_level(&cpuid, 0x1f, 2, 4, 12, 5);
}

static void amd_levels(void **state)
{
	struct vn_cpuid cpuid;

	(void)state;
	make_placed(&cpuid, amd_table, COUNT(amd_table), (struct vn_topology){2, 2, 3, 2, 0}, 23);
	assert_int_equal(get(&cpuid, 1, 0)->ebx >> 16, 0x1d0c); // APIC id 29, 12 CPUs in its socket
	check_level(&cpuid, 0xb, 0, 1, 2, 1);
	check_level(&cpuid, 0xb, 1, 4, 12, 2);
	assert_int_equal(get(&cpuid, 0x80000008, 0)->ecx, 0x1400b);
	assert_int_equal(get(&cpuid, 0x8000001d, 0)->eax >> 14, 1);
	assert_int_equal(get(&cpuid, 0x8000001d, 2)->eax >> 14, 1);
	assert_int_equal(get(&cpuid, 0x8000001d, 3)->eax >> 14, 7);
	assert_int_equal(get(&cpuid, 0x8000001e, 0)->eax, 29);
	assert_int_equal(get(&cpuid, 0x8000001e, 0)->ebx, 1 << 8 | 6); // two threads, core 6
	assert_int_equal(get(&cpuid, 0x8000001e, 0)->ecx, 1 << 8 | 3); // two nodes, this is 3

	// Three of six cores share a level 3 cache.
	make_placed(&cpuid, amd_table, COUNT(amd_table), (struct vn_topology){1, 1, 6, 1, 3}, 3);
	assert_int_equal(get(&cpuid, 0x8000001e, 0)->eax, 4);
	assert_int_equal(get(&cpuid, 0x8000001d, 3)->eax >> 14, 3);
}

// A guest on an AMD host without TOPOEXT is told nothing that only TOPOEXT announces.
static void amd_without_topoext(void **state)
{
	struct vn_cpuid cpuid;

	(void)state;
	load(&cpuid, amd_table, 11);
	get(&cpuid, 0x80000000, 0)->eax = 0x80000008;
	get(&cpuid, 0x80000001, 0)->ecx &= ~(1u << 22);
	get(&cpuid, 0, 0)->eax = 1;
	make(&cpuid, 4, 0, 3);
	assert_int_equal(get(&cpuid, 0x80000000, 0)->eax, 0x80000008);
	assert_false(has(&cpuid, 0x8000001e));
	assert_int_equal(get(&cpuid, 0, 0)->eax, 0xb); // so that leaf 0xb is seen
	check_levels(&cpuid, 0xb, 4, 2, 3);
}

static void intel_without_leaf_1f(void **state)
{
	struct vn_cpuid cpuid;

	(void)state;
	load(&cpuid, intel_table, COUNT(intel_table));
	get(&cpuid, 0, 0)->eax = 0xd;
	make(&cpuid, 2, 0, 1);
	assert_int_equal(get(&cpuid, 0, 0)->eax, 0xd);
	check_levels(&cpuid, 0xb, 2, 1, 1);
	assert_false(has(&cpuid, 0x1f));
}

static void untouched_leaves(void **state)
{
	struct vn_cpuid cpuid;

	(void)state;
	load(&cpuid, intel_table, COUNT(intel_table));
	make(&cpuid, 4, 2100000, 2);
	assert_memory_equal(get(&cpuid, 7, 0), &intel_table[7], sizeof(intel_table[7]));
	assert_memory_equal(get(&cpuid, 0xd, 0), &intel_table[9], sizeof(intel_table[9]));
	assert_memory_equal(get(&cpuid, 0x40000001, 0), &intel_table[13], sizeof(intel_table[13]));
}

static void hypervisor_leaves(void **state)
{
	struct vn_cpuid cpuid;

	(void)state;
	load(&cpuid, amd_table, COUNT(amd_table));
	make(&cpuid, 1, 2445123, 0);
	assert_int_equal(get(&cpuid, 0x40000000, 0)->eax, 0x40000010);
	assert_memory_equal(&get(&cpuid, 0x40000000, 0)->ebx, "KVMKVMKVM\0\0\0", 12);
	assert_int_equal(get(&cpuid, 0x40000010, 0)->eax, 2445123);
	assert_int_equal(get(&cpuid, 0x40000010, 0)->ebx, 1000000);
	assert_false(has(&cpuid, 0x15)); // Intel's

	load(&cpuid, amd_table, COUNT(amd_table));
	make(&cpuid, 1, 0, 0);
	assert_int_equal(get(&cpuid, 0x40000000, 0)->eax, 0x40000001);
	assert_false(has(&cpuid, 0x40000010));
}

static void tsc_ratio(void **state)
{
	static const uint32_t exact[] = {1000000, 2100000, 2995200, 3000000, 2500};
	struct vn_cpuid cpuid;

	(void)state;
	for (size_t i = 0; i < COUNT(exact); i++) {
		const struct kvm_cpuid_entry2 *leaf;

		load(&cpuid, intel_table, COUNT(intel_table));
		get(&cpuid, 0, 0)->eax = 0xd;
		make(&cpuid, 1, exact[i], 0);
		leaf = get(&cpuid, 0x15, 0);
		assert_int_equal(leaf->ecx, 1000000000);
		// As Linux calculates, in 32 bits.
		assert_int_equal(leaf->ecx / 1000 * leaf->ebx / leaf->eax, exact[i]);
		assert_int_equal(get(&cpuid, 0, 0)->eax, 0x15);
	}
	// Not to be told within 32 bits: better nothing than something else.
	load(&cpuid, intel_table, COUNT(intel_table));
	make(&cpuid, 1, 2095078, 0);
	assert_false(has(&cpuid, 0x15));
	// The host's ratio is not the guest's.
	load(&cpuid, intel_table, COUNT(intel_table));
	make(&cpuid, 1, 0, 0);
	assert_false(has(&cpuid, 0x15));
}

static void mwait_of_the_guest(void **state)
{
	static const struct kvm_cpuid_entry2 mwait = {0x5, 0, 0, 0x40, 0x40, 3, 0x11122000, {0}};
	struct vn_cpuid_guest guest = {.topology = {1, 1, 1, 1, 0}};
	struct veneer_error error;
	struct vn_cpuid cpuid;

	(void)state;
	load(&cpuid, intel_table, COUNT(intel_table));
	assert_int_equal(vn_cpuid_for_vcpu(&cpuid, &guest, 0, &error), 0);
	assert_int_equal(get(&cpuid, 1, 0)->ecx >> 3 & 1, 0);
	assert_false(has(&cpuid, 0x5));
	guest.mwait = &mwait;
	load(&cpuid, intel_table, COUNT(intel_table));
	assert_int_equal(vn_cpuid_for_vcpu(&cpuid, &guest, 0, &error), 0);
	assert_int_equal(get(&cpuid, 1, 0)->ecx >> 3 & 1, 1);
	assert_memory_equal(get(&cpuid, 0x5, 0), &mwait, sizeof(mwait));
}

// What KVM's table leaves open is completed; without the feature its leaves go.
static void offers(void **state)
{
	struct veneer_error error;
	struct vn_cpuid cpuid;

	(void)state;
	load(&cpuid, intel_table, COUNT(intel_table));
	assert_int_equal(vn_cpuid_offer(&cpuid, true, &error), 0);
	assert_int_equal(get(&cpuid, 1, 0)->ecx, 0x7ffefbff | 1u << 31 | 1u << 24);
	assert_int_equal(get(&cpuid, 0x80000001, 0)->ecx, 0x121);
	assert_int_equal(vn_cpuid_offer(&cpuid, false, &error), 0);
	assert_int_equal(get(&cpuid, 1, 0)->ecx >> 24 & 1, 0);
	get(&cpuid, 1, 0)->ecx &= ~(1u << 31);
	make(&cpuid, 1, 2100000, 0);
	for (uint32_t leaf = 0x40000000; leaf < 0x40000020; leaf++)
		assert_false(has(&cpuid, leaf));

	// An AMD processor's topology leaves are handed on.
	load(&cpuid, amd_table, COUNT(amd_table));
	assert_int_equal(vn_cpuid_offer(&cpuid, true, &error), 0);
	assert_memory_equal(get(&cpuid, 0x8000001d, 3), &amd_table[14], sizeof(amd_table[14]));
}

// Without them they are made of the older ones: here those of the lab's processor.
static void amd_caches_are_made(void **state)
{
	static const uint32_t expected[4][4] = {
		{0x4121, 0x0040003f, 0x1ff, 0}, // 64 KiB, 2 ways
		{0x4122, 0x0040003f, 0x1ff, 0}, {0x4143, 0x03c0003f, 0x1ff, 0}, // 512 KiB, 16 ways
		{0xc163, 0x03c0003f, 0x3fff, 0}, // 16 MiB, 16 ways
	};
	struct vn_topology topology = {1, 1, 2, 2, 0};
	struct vn_cpuid_guest guest = {.topology = topology};
	struct veneer_error error;
	struct vn_cpuid cpuid;

	(void)state;
	load(&cpuid, amd_table, 11);
	get(&cpuid, 0x80000001, 0)->ecx = 0x77;
	cpuid.entries[cpuid.nent++] = (struct kvm_cpuid_entry2){
		0x80000005, 0, 0, 0x01ff01ff, 0x01ff01ff, 0x40020140, 0x40020140, {0}};
	cpuid.entries[cpuid.nent++] = (struct kvm_cpuid_entry2){
		0x80000006, 0, 0, 0, 0x42004200, 0x02008140, 0x00808140, {0}};
	assert_int_equal(vn_cpuid_offer(&cpuid, true, &error), 0);
	assert_int_equal(get(&cpuid, 0x80000001, 0)->ecx, 0x77 | 1u << 22);
	assert_int_equal(vn_cpuid_for_vcpu(&cpuid, &guest, 3, &error), 0);
	for (uint32_t i = 0; i < 4; i++) {
		const struct kvm_cpuid_entry2 *leaf = get(&cpuid, 0x8000001d, i);

		assert_memory_equal(&leaf->eax, expected[i], sizeof(expected[i]));
	}
	// A cache whose ways have a code that says nothing is left out, and so is one of no size.
	vn_cpuid_drop(&cpuid, 0x8000001d);
	get(&cpuid, 0x80000001, 0)->ecx = 0x77;
	get(&cpuid, 0x80000006, 0)->ecx = 0x02009140;
	get(&cpuid, 0x80000006, 0)->edx = 0;
	assert_int_equal(vn_cpuid_offer(&cpuid, true, &error), 0);
	assert_non_null(vn_cpuid_find(&cpuid, 0x8000001d, 1));
	assert_null(vn_cpuid_find(&cpuid, 0x8000001d, 2));
}

// How many entries must be left free of a full table, filled up from `entries`, until all that a
// guest needs fits. Nothing is ever written beyond the table.
static unsigned needed(const struct kvm_cpuid_entry2 *entries, size_t count)
{
	struct vn_cpuid_guest guest = {.topology = {1, 1, 4, 1, 0}, .tsc_khz = 2100000};
	struct vn_cpuid full, cpuid;

	load(&full, entries, count);
	for (uint32_t i = full.nent; i < VN_CPUID_ENTRIES_MAX; i++)
		full.entries[i] = (struct kvm_cpuid_entry2){.function = 0x20, .index = i};
	for (unsigned free = 0; free < 100; free++) {
		struct veneer_error error = {.code = 0};
		int ret;

		cpuid = full;
		cpuid.nent = VN_CPUID_ENTRIES_MAX - free;
		ret = vn_cpuid_for_vcpu(&cpuid, &guest, 0, &error);
		assert_true(cpuid.nent <= VN_CPUID_ENTRIES_MAX);
		if (ret == 0)
			return free;
		assert_int_equal(ret, -ENOSPC);
		assert_non_null(strstr(error.message, "leaf 0x"));
	}
	fail_msg("never fits");
	return 0;
}

static void full_table(void **state)
{
	(void)state;
	// Leaves 0xb and 0x1f take three entries each, 0x15, 0x40000000 and 0x40000010 one.
	assert_int_equal(needed(intel_table, 2), 9);
	// Leaf 0xb grows from two entries to three before anything else goes.
	assert_int_equal(needed(amd_table, COUNT(amd_table)), 1);
	// So it does here, and 0x8000001e and 0x40000010 come.
	assert_int_equal(needed(amd_table, COUNT(amd_table) - 3), 3);
}

static void malformed_table(void **state)
{
	struct vn_cpuid_guest guest = {.topology = {1, 1, 1, 1, 0}};
	struct veneer_error error = {.code = 0};
	struct vn_cpuid cpuid;

	(void)state;
	load(&cpuid, intel_table, 1);
	assert_int_equal(vn_cpuid_for_vcpu(&cpuid, &guest, 0, &error), -EINVAL);
	load(&cpuid, intel_table + 1, 1);
	assert_int_equal(vn_cpuid_for_vcpu(&cpuid, &guest, 0, &error), -EINVAL);
	assert_true(error.message[0] != '\0');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(intel_topology),
		cmocka_unit_test(amd_topology),
		cmocka_unit_test(intel_levels),
		cmocka_unit_test(amd_levels),
		cmocka_unit_test(amd_without_topoext),
		cmocka_unit_test(intel_without_leaf_1f),
		cmocka_unit_test(untouched_leaves),
		cmocka_unit_test(hypervisor_leaves),
		cmocka_unit_test(tsc_ratio),
		cmocka_unit_test(mwait_of_the_guest),
		cmocka_unit_test(offers),
		cmocka_unit_test(amd_caches_are_made),
		cmocka_unit_test(full_table),
		cmocka_unit_test(malformed_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
