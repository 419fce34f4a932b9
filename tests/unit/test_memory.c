// SPDX-License-Identifier: Apache-2.0
//
// Guest memory without KVM: the split around the hole, the checked accessor at every edge, the kind
// of pages, and the refusals.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/memory.h"

#define MIB  ((uint64_t)1 << 20)
#define GIB  ((uint64_t)1 << 30)
#define HOLE (3 * GIB)

static struct vn_memory make(uint64_t size)
{
	struct vn_memory memory;
	struct veneer_memory options = {.size = size, .node = -1};
	struct veneer_error error;
	assert_int_equal(vn_memory_create(&memory, &options, HOLE, &error), 0);
	return memory;
}

static void below_the_hole_there_is_one_run(void **state)
{
	(void)state;
	struct vn_memory memory = make(64 * MIB);
	assert_int_equal(memory.ram_count, 1);
	assert_int_equal(memory.ram[0].start.addr, 0);
	assert_int_equal(memory.ram[0].size, 64 * MIB);
	assert_int_equal((uintptr_t)memory.host % (2 * MIB), 0);
	vn_memory_destroy(&memory);
}

static void the_rest_lies_above_4_gib(void **state)
{
	(void)state;
	struct vn_memory memory = make(5 * GIB);
	assert_int_equal(memory.ram_count, 2);
	assert_int_equal(memory.ram[0].size, HOLE);
	assert_int_equal(memory.ram[1].start.addr, 4 * GIB);
	assert_int_equal(memory.ram[1].size, 2 * GIB);
	assert_ptr_equal(vn_memory_at(&memory, VN_GPA(4 * GIB), 1), memory.host + HOLE);
	vn_memory_destroy(&memory);

	memory = make(HOLE);
	assert_int_equal(memory.ram_count, 1);
	vn_memory_destroy(&memory);
}

static void translation_checks_every_edge(void **state)
{
	(void)state;
	struct vn_memory memory = make(4 * GIB);
	const struct {
		uint64_t address, length;
		bool valid;
	} cases[] = {
		{0, 1, true},
		{0, HOLE, true},
		{0, HOLE + 1, false},
		{0, 0, false},
		{HOLE - 1, 1, true},
		{HOLE - 1, 2, false},
		{HOLE, 1, false},
		{4 * GIB - 1, 1, false},
		{4 * GIB - 1, 2, false},
		{4 * GIB, GIB, true},
		{4 * GIB, GIB + 1, false},
		{5 * GIB - 1, 1, true},
		{5 * GIB, 1, false},
		{UINT64_MAX, 1, false},
		{UINT64_MAX, UINT64_MAX, false},
		{1, UINT64_MAX, false},
		{4096, UINT64_MAX - 4095, false},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		void *at = vn_memory_at(&memory, VN_GPA(cases[i].address), cases[i].length);
		if ((at != NULL) != cases[i].valid)
			fail_msg("0x%llx + 0x%llx", (unsigned long long)cases[i].address,
				(unsigned long long)cases[i].length);
	}
	vn_memory_destroy(&memory);
}

static void copies_are_all_or_nothing(void **state)
{
	(void)state;
	struct vn_memory memory = make(4 * MIB);
	char data[8] = "veneer!";
	assert_int_equal(vn_memory_write(&memory, VN_GPA(4 * MIB - 8), data, 8), 0);
	char back[8] = "";
	assert_int_equal(vn_memory_read(&memory, VN_GPA(4 * MIB - 8), back, 8), 0);
	assert_memory_equal(back, data, 8);
	assert_int_equal(vn_memory_write(&memory, VN_GPA(4 * MIB - 7), "xxxxxxxx", 8), -EFAULT);
	assert_int_equal(vn_memory_read(&memory, VN_GPA(4 * MIB - 7), back, 8), -EFAULT);
	assert_memory_equal(memory.host + 4 * MIB - 8, data, 8);
	vn_memory_destroy(&memory);
}

static void expect_refusal(struct veneer_memory options, int code, const char *words)
{
	struct vn_memory memory;
	struct veneer_error error = {""};
	assert_int_equal(vn_memory_create(&memory, &options, HOLE, &error), code);
	if (!strstr(error.message, words))
		fail_msg("\"%s\" lacks \"%s\"", error.message, words);
	assert_null(memory.host);
}

static void refusals_say_what_is_wrong(void **state)
{
	(void)state;
	expect_refusal((struct veneer_memory){.size = MIB, .node = -1}, -EINVAL, "below the least");
	expect_refusal((struct veneer_memory){.size = 4 * MIB + 1, .node = -1}, -EINVAL,
		"no multiple of its pages'");
	expect_refusal((struct veneer_memory){.size = (uint64_t)1 << 60, .node = -1}, -EINVAL,
		"more than 64T");
	expect_refusal((struct veneer_memory){.size = 64 * MIB, .hugepage_size = 65536, .node = -1},
		-EINVAL, "2M or 1G");
	expect_refusal(
		(struct veneer_memory){.size = 3 * MIB + GIB, .hugepage_size = 2 * MIB, .node = -1},
		-EINVAL, "no multiple of its pages'");
	expect_refusal(
		(struct veneer_memory){.size = 64 * MIB, .node = 1000}, -ENODEV, "node=1000");
}

static void too_few_pages_are_counted(void **state)
{
	(void)state;
	// No host has 32 TiB of free huge pages.
	expect_refusal(
		(struct veneer_memory){
			.size = (uint64_t)1 << 45, .hugepage_size = 2 * MIB, .node = -1},
		-ENOMEM, "16777216 pages needed");
	expect_refusal(
		(struct veneer_memory){.size = (uint64_t)1 << 45, .node = -1, .prealloc = true},
		-ENOMEM, "MiB missing");
}

static void prealloc_touches_every_page(void **state)
{
	(void)state;
	struct vn_memory memory;
	struct veneer_error error;
	struct veneer_memory options = {.size = 8 * MIB, .node = -1, .prealloc = true};
	assert_int_equal(vn_memory_create(&memory, &options, HOLE, &error), 0);
	unsigned char resident[8 * MIB / 4096];
	assert_int_equal(mincore(memory.host, memory.size, resident), 0);
	for (size_t i = 0; i < sizeof(resident); i++)
		assert_true(resident[i] & 1);
	vn_memory_destroy(&memory);
}

// Whether the kernel keeps `flag`, two letters, for the mapping at `at`: proc(5), VmFlags.
static bool has_flag(const void *at, const char *flag)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	char line[256], word[8];
	bool inside = false, found = false;

	assert_non_null(file);
	snprintf(word, sizeof(word), " %s ", flag);
	while (fgets(line, sizeof(line), file)) {
		uintptr_t start, end;
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = (uintptr_t)at >= start && (uintptr_t)at < end;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, word) != NULL;
	}
	fclose(file);
	return found;
}

static void huge_pages_are_asked_for(void **state)
{
	(void)state;
	if (access("/sys/kernel/mm/transparent_hugepage", F_OK) < 0) {
		print_message("# this kernel has no transparent huge pages\n");
		skip();
	}
	struct vn_memory memory = make(4 * MIB);
	assert_true(has_flag(memory.host, "hg"));
	assert_true(has_flag(memory.host, "dd")); // and no core dump is that large
	vn_memory_destroy(&memory);
}

// Otherwise a child of the embedder would cost the guest its huge pages, and the host a second copy.
static void a_forked_child_does_not_share_it(void **state)
{
	(void)state;
	struct vn_memory memory = make(4 * MIB);
	// Not by forking: a sanitizer's child may map something else where nothing is.
	assert_true(has_flag(memory.host, "dc"));
	vn_memory_destroy(&memory);
}

static void a_node_is_bound_strictly(void **state)
{
	(void)state;
	if (numa_available() < 0) {
		print_message("# this kernel has no NUMA support\n");
		skip();
	}
	struct bitmask *allowed = numa_get_mems_allowed();
	int node = 0, mode = -1;
	while (!numa_bitmask_isbitset(allowed, (unsigned)node))
		node++;
	struct bitmask *bound = numa_allocate_nodemask();
	struct veneer_memory options = {.size = 4 * MIB, .node = node};
	struct vn_memory memory;
	struct veneer_error error;
	assert_int_equal(vn_memory_create(&memory, &options, HOLE, &error), 0);
	assert_int_equal(
		get_mempolicy(&mode, bound->maskp, bound->size + 1, memory.host, MPOL_F_ADDR), 0);
	assert_int_equal(mode, MPOL_BIND);
	assert_int_equal(numa_bitmask_weight(bound), 1);
	assert_true(numa_bitmask_isbitset(bound, (unsigned)node));
	vn_memory_destroy(&memory);
	numa_bitmask_free(bound);
	numa_bitmask_free(allowed);
}

// The sanitizers turn mlock() into nothing.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void locked_memory_stays(void **state)
{
	(void)state;
	struct veneer_memory options = {.size = 4 * MIB, .node = -1, .lock = true};
	struct vn_memory memory;
	struct veneer_error error;
	if (vn_memory_create(&memory, &options, HOLE, &error) < 0) {
		assert_non_null(strstr(error.message, "ulimit -l"));
		print_message("# %s\n", error.message);
		skip();
	}
	assert_true(has_flag(memory.host, "lo"));
	vn_memory_destroy(&memory);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(below_the_hole_there_is_one_run),
		cmocka_unit_test(the_rest_lies_above_4_gib),
		cmocka_unit_test(translation_checks_every_edge),
		cmocka_unit_test(copies_are_all_or_nothing),
		cmocka_unit_test(refusals_say_what_is_wrong),
		cmocka_unit_test(too_few_pages_are_counted),
		cmocka_unit_test(prealloc_touches_every_page),
		cmocka_unit_test(huge_pages_are_asked_for),
		cmocka_unit_test(a_forked_child_does_not_share_it),
		cmocka_unit_test(a_node_is_bound_strictly),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		cmocka_unit_test(locked_memory_stays),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
