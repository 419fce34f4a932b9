// SPDX-License-Identifier: Apache-2.0
//
// Processor models on hosts of both vendors: which of them run, what CPUID is left of the host's,
// and what is said of wishes that cannot be met.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/features.h"
#include "arch/x86/models.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX

// What KVM offers on an Ice Lake server, without the leaves that nothing here looks at.
static const struct kvm_cpuid_entry2 icelake[] = {
	{0x0, 0, 0, 0x1b, 0x756e6547, 0x6c65746e, 0x49656e69, {0}},
	{0x1, 0, 0, 0x000606a6, 0x07400800, 0x76fab223, 0x0f8bfbff, {0}},
	{0x6, 0, 0, 0x4, 0, 0, 0, {0}},
	{0x7, 0, INDEXED, 0x2, 0xf1bf27eb, 0x00415f4e, 0xac000410, {0}},
	{0x7, 1, INDEXED, 0, 0, 0, 0, {0}},
	{0x7, 2, INDEXED, 0, 0, 0, 0x17, {0}},
	{0xa, 0, 0, 0x07300805, 0, 0, 0x00000603, {0}},
	{0xd, 0, INDEXED, 0x2e7, 0xa88, 0xa88, 0, {0}},
	{0xd, 1, INDEXED, 0xf, 0xa88, 0x1900, 0, {0}},
	{0xd, 2, INDEXED, 0x100, 0x240, 0, 0, {0}},
	{0xd, 5, INDEXED, 0x40, 0x440, 0, 0, {0}},
	{0xd, 6, INDEXED, 0x200, 0x480, 0, 0, {0}},
	{0xd, 7, INDEXED, 0x400, 0x680, 0, 0, {0}},
	{0xd, 9, INDEXED, 0x8, 0xa80, 0, 0, {0}},
	{0xd, 11, INDEXED, 0x10, 0, 0x1, 0, {0}},
	{0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d, {0}},
	{0x40000001, 0, 0, 0x01007efb, 0, 0, 0, {0}},
	{0x80000000, 0, 0, 0x80000008, 0, 0, 0, {0}},
	{0x80000001, 0, 0, 0, 0, 0x121, 0x2c100800, {0}},
	{0x80000002, 0, 0, 0x65746e49, 0x2952286c, 0x6f655820, 0x2952286e, {0}},
	{0x80000003, 0, 0, 0, 0, 0, 0, {0}},
	{0x80000004, 0, 0, 0, 0, 0, 0, {0}},
	{0x80000007, 0, 0, 0, 0, 0, 0x100, {0}},
	{0x80000008, 0, 0, 0x3934, 0x200, 0, 0, {0}},
};

// As read in the lab: KVM on an AMD processor that QEMU emulates.
static const struct kvm_cpuid_entry2 lab[] = {
	{0x0, 0, 0, 0xd, 0x68747541, 0x444d4163, 0x69746e65, {0}},
	{0x1, 0, 0, 0x00060fb1, 0x01020800, 0x76f81203, 0x0f8bfbfd, {0}},
	{0x6, 0, 0, 0x4, 0, 0, 0, {0}},
	{0x7, 0, INDEXED, 0, 0x018801ab, 0x0000020c, 0x20000000, {0}},
	{0xd, 0, INDEXED, 0x207, 0xa88, 0xa88, 0, {0}},
	{0xd, 1, INDEXED, 0x5, 0, 0, 0, {0}},
	{0xd, 2, INDEXED, 0x100, 0x240, 0, 0, {0}},
	{0xd, 9, INDEXED, 0x8, 0xa80, 0, 0, {0}},
	{0x80000000, 0, 0, 0x8000000a, 0x68747541, 0x444d4163, 0x69746e65, {0}},
	{0x80000001, 0, 0, 0x00060fb1, 0, 0x77, 0xedd3fbfd, {0}},
	{0x80000006, 0, 0, 0, 0x42004200, 0x02008140, 0x00808140, {0}},
	{0x80000008, 0, 0, 0x3028, 0x04000000, 0x1001, 0, {0}},
	{0x8000000a, 0, 0, 0x1, 0x8, 0, 0x10010021, {0}},
	{0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d, {0}},
	{0x40000001, 0, 0, 0x01007efb, 0, 0, 0, {0}},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void load(struct vn_cpuid *cpuid, const struct kvm_cpuid_entry2 *entries, size_t count)
{
	struct veneer_error error;

	memset(cpuid, 0, sizeof(*cpuid));
	memcpy(cpuid->entries, entries, count * sizeof(entries[0]));
	cpuid->nent = (uint32_t)count;
	assert_int_equal(vn_cpuid_offer(cpuid, true, &error), 0);
}

static struct vn_cpuid on_icelake(const char *cpu)
{
	struct veneer_error error = {.code = 0};
	struct vn_cpuid cpuid;

	load(&cpuid, icelake, COUNT(icelake));
	if (vn_model_apply(&cpuid, cpu, &error) != 0)
		fail_msg("%s", error.message);
	return cpuid;
}

static struct vn_cpuid in_lab(const char *cpu)
{
	struct veneer_error error = {.code = 0};
	struct vn_cpuid cpuid;

	load(&cpuid, lab, COUNT(lab));
	if (vn_model_apply(&cpuid, cpu, &error) != 0)
		fail_msg("%s", error.message);
	return cpuid;
}

static const struct kvm_cpuid_entry2 *get(struct vn_cpuid *cpuid, uint32_t leaf, uint32_t index)
{
	const struct kvm_cpuid_entry2 *entry = vn_cpuid_find(cpuid, leaf, index);

	if (!entry)
		fail_msg("leaf 0x%x.%u is missing", leaf, index);
	return entry;
}

static void host_is_all(void **state)
{
	static const char *const names[] = {NULL, "host", "Host"};

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		struct vn_cpuid expected, cpuid = on_icelake(names[i]);

		load(&expected, icelake, COUNT(icelake));
		// Without a feature that would use it (PT, CET), a state component of IA32_XSS
		// goes.
		vn_cpuid_find(&expected, 0xd, 1)->ecx = 0;
		expected.entries[14] = expected.entries[--expected.nent];
		assert_int_equal(cpuid.nent, expected.nent);
		for (uint32_t n = 0; n < expected.nent; n++) {
			const struct kvm_cpuid_entry2 *entry = &expected.entries[n];

			assert_memory_equal(
				get(&cpuid, entry->function, entry->index), entry, sizeof(*entry));
		}
	}
}

static void model_is_exact(void **state)
{
	struct vn_cpuid cpuid = on_icelake("nehalem");
	char brand[48];

	(void)state;
	assert_int_equal(get(&cpuid, 1, 0)->eax, 0x106a5);
	assert_int_equal(get(&cpuid, 1, 0)->ebx, 0x07400800);
	// pni ssse3 cx16 sse4_1 sse4_2 popcnt; x2apic, TSC deadline and hypervisor from the host.
	assert_int_equal(get(&cpuid, 1, 0)->ecx, 0x81b82201);
	assert_int_equal(get(&cpuid, 1, 0)->edx, 0x078bfbff);
	// tsc_adjust, and what mends the processor.
	assert_int_equal(get(&cpuid, 7, 0)->ebx, 0x2);
	assert_int_equal(get(&cpuid, 7, 0)->ecx, 0);
	assert_int_equal(get(&cpuid, 7, 0)->edx, 0xac000400);
	assert_int_equal(get(&cpuid, 7, 2)->edx, 0x17);
	assert_int_equal(get(&cpuid, 0x80000001, 0)->eax, 0);
	assert_int_equal(get(&cpuid, 0x80000001, 0)->ecx, 0x1);
	assert_int_equal(get(&cpuid, 0x80000001, 0)->edx, 0x28100800);
	assert_int_equal(get(&cpuid, 0x80000007, 0)->edx, 0);
	assert_int_equal(get(&cpuid, 0x80000008, 0)->eax, 0x3934);
	assert_int_equal(get(&cpuid, 0x80000008, 0)->ebx, 0);
	assert_int_equal(get(&cpuid, 0x40000001, 0)->eax, 0x01007efb);
	assert_null(vn_cpuid_find(&cpuid, 0xa, 0));
	assert_null(vn_cpuid_find(&cpuid, 0xd, 0));
	assert_null(vn_cpuid_find(&cpuid, 0xd, 1));
	for (uint32_t i = 0; i < 3; i++)
		memcpy(brand + 16 * i, &get(&cpuid, 0x80000002 + i, 0)->eax, 16);
	assert_string_equal(brand, "Veneer Nehalem");
	// An AMD model has its signature in two leaves, and an extended family.
	cpuid = in_lab(
		"EPYC-Rome,-vme,-clwb,-pclmulqdq,-cx16,-fxsr_opt,-misalignsse,-3dnowprefetch,-osvw,-smap,-sha_ni,-clflushopt,-xsavec,-clzero,-xsaveerptr,-rdpid,-wbnoinvd,-rdseed,-lahf_lm");
	assert_int_equal(get(&cpuid, 1, 0)->eax, 0x00830f10);
	assert_int_equal(get(&cpuid, 0x80000001, 0)->eax, 0x00830f10);
}

static void xsave_follows(void **state)
{
	static const struct {
		const char *cpu;
		uint32_t xcr0, size, components;
	} cases[] = {
		{"Icelake-Server", 0x2e7, 0xa88, 5},
		{"Haswell", 0x7, 0x340, 1},
		{"Haswell,+pku", 0x207, 0xa88, 2},
		{"host,-avx512f", 0x207, 0xa88, 2},
		{"host,-avx", 0x203, 0xa88, 1},
		{"host,-avx,-pku", 0x3, 0x240, 0},
		{"host,-pku", 0xe7, 0xa80, 4},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct vn_cpuid cpuid = on_icelake(cases[i].cpu);
		uint32_t components = 0;

		assert_int_equal(get(&cpuid, 0xd, 0)->eax, cases[i].xcr0);
		assert_int_equal(get(&cpuid, 0xd, 0)->ecx, cases[i].size);
		for (uint32_t n = 2; n < 64; n++)
			if (vn_cpuid_find(&cpuid, 0xd, n)) {
				assert_true(cases[i].xcr0 >> n & 1);
				components++;
			}
		assert_int_equal(components, cases[i].components);
	}
}

static void removal_takes_dependents(void **state)
{
	struct vn_cpuid cpuid = on_icelake("host,-AVX");

	(void)state;
	assert_int_equal(get(&cpuid, 1, 0)->ecx, 0xc7faa223); // nor fma nor f16c
	assert_int_equal(get(&cpuid, 7, 0)->ebx, 0x219c27cb); // nor avx2 nor avx512
	assert_int_equal(get(&cpuid, 7, 0)->ecx, 0x0041010c); // pku umip gfni la57 rdpid
	cpuid = on_icelake("host,-sse4.2");
	assert_int_equal(get(&cpuid, 1, 0)->ecx >> 28 & 1, 0);
	cpuid = on_icelake("host,-xsave");
	assert_null(vn_cpuid_find(&cpuid, 0xd, 0));
	assert_int_equal(get(&cpuid, 7, 0)->ecx >> 3 & 1, 0);
}

static void addition_brings_needs(void **state)
{
	struct vn_cpuid cpuid = on_icelake("baseline,+avx512-vnni,+invtsc");

	(void)state;
	// pni ssse3 sse4_1 sse4_2 xsave avx, and the host's three.
	assert_int_equal(get(&cpuid, 1, 0)->ecx, 0x95380201);
	assert_int_equal(get(&cpuid, 7, 0)->ebx, 0x00010022);
	assert_int_equal(get(&cpuid, 7, 0)->ecx, 0x800);
	assert_int_equal(get(&cpuid, 0x80000007, 0)->edx, 0x100);
	assert_int_equal(get(&cpuid, 0xd, 0)->eax, 0xe7);
	// Levels keep the host's signature.
	assert_int_equal(get(&cpuid, 1, 0)->eax, 0x000606a6);
	// The last word counts.
	cpuid = on_icelake("baseline,-avx,+avx2");
	assert_int_equal(get(&cpuid, 7, 0)->ebx, 0x22);
}

static void options_that_are_features(void **state)
{
	struct vn_cpuid cpuid =
		on_icelake("host,-hypervisor,-tsc-deadline,-x2apic,-pdpe1gb,-invtsc");

	(void)state;
	assert_int_equal(get(&cpuid, 1, 0)->ecx, 0x76dab223);
	assert_int_equal(get(&cpuid, 0x80000001, 0)->edx, 0x28100800);
	assert_int_equal(get(&cpuid, 0x80000007, 0)->edx, 0);
	assert_int_equal(get(&cpuid, 0x40000001, 0)->eax, 0);
	cpuid = on_icelake("host,-kvmclock");
	assert_int_equal(get(&cpuid, 0x40000001, 0)->eax, 0x00007ef2);
}

// What AMD repeats in leaf 0x80000001 is what leaf 1 says.
static void amd_repeats(void **state)
{
	struct vn_cpuid cpuid = in_lab("host,-mce,-svm,-topoext");

	(void)state;
	assert_int_equal(get(&cpuid, 1, 0)->edx, 0x0f8bbb7d);
	assert_int_equal(get(&cpuid, 0x80000001, 0)->edx, 0xedd3bb7d);
	assert_int_equal(get(&cpuid, 0x80000001, 0)->ecx, 0x73);
	assert_null(vn_cpuid_find(&cpuid, 0x8000000a, 0));
	cpuid = in_lab("baseline");
	assert_int_equal(get(&cpuid, 0x80000001, 0)->edx, 0x2193fbfd);
	assert_int_equal(get(&cpuid, 0x80000001, 0)->ecx, 0x00400000);
}

static void refusals(void **state)
{
	static const struct {
		const struct kvm_cpuid_entry2 *table;
		size_t count;
		const char *cpu;
		int code;
		const char *says[3];
	} cases[] = {
#define ON(table) table, COUNT(table)
		{ON(lab), "x86-64-v2", -ENOTSUP, {"x86-64-v2", "lacks cx16;", "-NAME"}},
		{ON(lab), "host,+avx512bw", -ENOTSUP, {"lacks avx512f avx512bw;", "--cpu ?"}},
		{ON(lab), "Haswell", -ENOTSUP, {"Haswell is Intel's", "x86-64-v2"}},
		{ON(icelake), "EPYC", -ENOTSUP, {"EPYC is AMD's"}},
		{ON(icelake), "SapphireRapids", -ENOTSUP,
			{"lacks waitpkg cldemote movdiri movdir64b serialize avx512_fp16 xfd "
			 "amx_tile amx_bf16 amx_int8 avx_vnni avx512_bf16;"}},
		{ON(icelake), "Haswel", -EINVAL, {"'Haswel'", "did you mean Haswell;", "--cpu ?"}},
		{ON(icelake), "skylake", -EINVAL, {"Skylake-Client or Skylake-Server"}},
		{ON(icelake), "v3", -EINVAL, {"x86-64-v3"}},
		{ON(icelake), "zzzzzzzz", -EINVAL, {"no CPU model 'zzzzzzzz'; `veneer"}},
		{ON(icelake), "", -EINVAL, {"no CPU model ''"}},
		{ON(icelake), "host,+axv2", -EINVAL, {"no CPU feature 'axv2'", "avx2"}},
		{ON(icelake), "host,-hypervizor", -EINVAL, {"did you mean hypervisor;"}},
		{ON(icelake), "host,avx2", -EINVAL, {"'avx2'", "+NAME"}},
		{ON(icelake), "host,", -EINVAL, {"''", "+NAME"}},
		{ON(icelake), "host,+none", -EINVAL, {"no CPU feature 'none'"}},
		{ON(icelake), "host,+avx2,-avx", -EINVAL,
			{"feature avx2 is asked for", "taken away"}},
		{ON(icelake), "host,+0123456789012345678901234567890123456789012345678", -EINVAL,
			{"no CPU model or feature", "78'"}},
#undef ON
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct veneer_error error = {.code = 0};
		struct vn_cpuid cpuid;

		load(&cpuid, cases[i].table, cases[i].count);
		assert_int_equal(vn_model_apply(&cpuid, cases[i].cpu, &error), cases[i].code);
		for (size_t n = 0; n < COUNT(cases[i].says) && cases[i].says[n]; n++)
			if (!strstr(error.message, cases[i].says[n]))
				fail_msg("%s: '%s' has no '%s'", cases[i].cpu, error.message,
					cases[i].says[n]);
	}
}

// More than a line holds: the rest is counted.
static void long_refusal(void **state)
{
	struct veneer_error error = {.code = 0};
	struct vn_cpuid cpuid;

	(void)state;
	load(&cpuid, icelake, 2);
	assert_int_equal(vn_model_apply(&cpuid, "GraniteRapids", &error), -ENOTSUP);
	assert_non_null(strstr(error.message, " more; name a lower model"));
	assert_true(strlen(error.message) < sizeof(error.message) - 1);
}

// A component that XSAVE cannot save here is a feature that there is not.
static void state_that_is_not_there(void **state)
{
	struct veneer_error error;
	struct vn_cpuid cpuid;

	(void)state;
	load(&cpuid, icelake, COUNT(icelake));
	vn_cpuid_find(&cpuid, 0xd, 0)->eax = 0x7;
	vn_cpuid_find(&cpuid, 7, 0)->edx |= 1u << 24 | 1u << 22; // AMX without its state
	assert_int_equal(vn_model_apply(&cpuid, "host", &error), 0);
	assert_int_equal(get(&cpuid, 7, 0)->edx, 0xac000410);
	assert_int_equal(get(&cpuid, 7, 0)->ebx >> 16 & 1, 0);
	assert_int_equal(get(&cpuid, 7, 0)->ecx >> 3 & 1, 0);
}

static char *list(const struct kvm_cpuid_entry2 *entries, size_t count)
{
	struct veneer_error error = {.code = 0};
	struct vn_cpuid cpuid;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	load(&cpuid, entries, count);
	if (vn_model_list(&cpuid, out, &error) != 0)
		fail_msg("%s", error.message);
	fclose(out);
	return text;
}

// Every model of the list is made of names that are known, and does what its mark says.
static void list_is_right(void **state)
{
	static const char *const expected[] = {"+ host", "+ baseline\n", "+ x86-64-v4\n",
		"+ Nehalem\n", "+ Icelake-Server\n", "- SapphireRapids       waitpkg ",
		"- EPYC                 (AMD)\n", " +avx512f", " -amx_tile", " +hypervisor"};
	char *text = list(icelake, COUNT(icelake)), *rest = text;
	unsigned models = 0;

	(void)state;
	for (size_t i = 0; i < COUNT(expected); i++)
		if (!strstr(text, expected[i]))
			fail_msg("no '%s' in\n%s", expected[i], text);
	for (char *line = strsep(&rest, "\n"); line && *line; line = strsep(&rest, "\n")) {
		struct veneer_error error;
		struct vn_cpuid cpuid;
		char name[80] = "";

		assert_true(strlen(line) < 80);
		if ((line[0] != '+' && line[0] != '-') || sscanf(line + 1, "%79s", name) != 1)
			continue;
		load(&cpuid, icelake, COUNT(icelake));
		assert_int_equal(
			vn_model_apply(&cpuid, name, &error), line[0] == '+' ? 0 : -ENOTSUP);
		models++;
	}
	assert_int_equal(models, 25);
	free(text);

	text = list(lab, COUNT(lab));
	assert_non_null(strstr(text, "- x86-64-v2            cx16\n"));
	assert_non_null(strstr(text, "- Haswell              (Intel)\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_is_all),
		cmocka_unit_test(model_is_exact),
		cmocka_unit_test(xsave_follows),
		cmocka_unit_test(removal_takes_dependents),
		cmocka_unit_test(addition_brings_needs),
		cmocka_unit_test(options_that_are_features),
		cmocka_unit_test(amd_repeats),
		cmocka_unit_test(refusals),
		cmocka_unit_test(long_refusal),
		cmocka_unit_test(state_that_is_not_there),
		cmocka_unit_test(list_is_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
