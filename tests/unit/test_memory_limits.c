// SPDX-License-Identifier: Apache-2.0
//
// Which limit keeps a guest from its memory, on hosts laid out in files: reserves of huge pages,
// nodes, and cgroups of both versions. Whatever is advised is above what there is.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "core/memory_limits.h"
#include "host/cgroup.h"
#include "host_tree.h"

static char root[64];

static int make_root(void **state)
{
	(void)state;
	host_tree_root(root);
	return 0;
}

static int remove_root(void **state)
{
	(void)state;
	host_tree_remove(root);
	return 0;
}

// A file with one line, whatever was there before.
static void put(const char *path, const char *line)
{
	char full[PATH_MAX + sizeof(root)];
	snprintf(full, sizeof(full), "%s/%s", root, path);
	unlink(full);
	host_tree_put(root, path, line);
}

static void put_number(const char *directory, const char *name, unsigned long long number)
{
	char path[256], line[32];
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	snprintf(line, sizeof(line), "%llu", number);
	put(path, line);
}

// A reserve of pages of 2 MiB: the host's with node -1.
static void put_pool(int node, unsigned total, unsigned unused, unsigned promised)
{
	char directory[128] = "sys/kernel/mm/hugepages/hugepages-2048kB";
	if (node >= 0)
		snprintf(directory, sizeof(directory),
			"sys/devices/system/node/node%d/hugepages/hugepages-2048kB", node);
	put_number(directory, "nr_hugepages", total);
	put_number(directory, "free_hugepages", unused);
	if (node < 0)
		put_number(directory, "resv_hugepages", promised);
}

// Two nodes with 64 and 160 pages, and ordinary memory of 1 GiB each.
static void put_two_nodes(void)
{
	put("sys/devices/system/node/has_memory", "0-1");
	put_pool(-1, 224, 224, 0);
	put_pool(0, 64, 64, 0);
	put_pool(1, 160, 160, 0);
	put("sys/devices/system/node/node0/meminfo", "Node 0 MemFree:        1048576 kB");
	put("sys/devices/system/node/node1/meminfo", "Node 1 MemFree:        1048576 kB");
	put("proc/meminfo", "MemFree:        2097152 kB");
}

#define V2 "33 24 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"

// Version 2, in /vm/guest.
static void put_v2(void)
{
	put("proc/thread-self/cgroup", "0::/vm/guest");
	put("proc/self/mountinfo", "24 1 0:5 / / rw - ext4 /dev/vda rw");
	host_tree_put(root, "proc/self/mountinfo", V2);
}

static const char GUEST[] = "sys/fs/cgroup/vm/guest", PARENT[] = "sys/fs/cgroup/vm";

static struct vn_memory_cell cell(uint64_t size, uint64_t page_size, int node)
{
	return (struct vn_memory_cell){.size = size, .page_size = page_size, .node = node};
}

static struct vn_memory one(uint64_t size, uint64_t page_size, int node)
{
	struct vn_memory memory = {.cell_count = 1};
	memory.cells[0] = cell(size, page_size, node);
	return memory;
}

static struct vn_memory_reach reach_of(uint64_t mems, uint64_t bound)
{
	struct vn_memory_reach reach = {.root = root, .mems.bits = {mems}, .bound.bits = {bound}};
	vn_cgroup_find(&reach.hugetlb, root, "hugetlb");
	return reach;
}

// `words` is NULL where all fits.
static void expect(const struct vn_memory *memory, bool prealloc,
	const struct vn_memory_reach *reach, const char *words)
{
	const struct vn_memory_options options = {.prealloc = prealloc};
	struct veneer_error error = {.code = 0};
	assert_int_equal(
		vn_memory_limits_check(memory, &options, reach, &error), words ? -ENOMEM : 0);
	if (words && !strstr(error.message, words))
		fail_msg("\"%s\" lacks \"%s\"", error.message, words);
	for (const char *at = error.message; (at = strstr(at, " -")); at++)
		assert_false(at[2] >= '0' && at[2] <= '9');
}

static void expect_huge(uint64_t mib, int node, const char *words)
{
	const struct vn_memory_reach reach = reach_of(3, 0);
	const struct vn_memory memory = one(mib * MIB, 2 * MIB, node);
	expect(&memory, false, &reach, words);
}

static void cgroups_are_found_where_they_are_seen(void **state)
{
	(void)state;
	static const struct {
		const char *own, *mount, *controller;
		const char *directory; // NULL: not to be seen
	} cases[] = {
		{"0::/a/b", V2, "memory", "/sys/fs/cgroup/a/b"},
		{"0::/", V2, "memory", "/sys/fs/cgroup"},
		{"0::/../x", V2, "memory", NULL},
		{"4:cpu,memory:/a", "1 1 0:1 / /cg/memory rw - cgroup cgroup rw,cpu,memory",
			"memory", "/cg/memory/a"},
		{"4:cpu,memory:/a", "1 1 0:1 / /cg/memory rw - cgroup cgroup rw,cpu,memoryx",
			"memory", NULL},
		// A container shows its own part of the hierarchy only.
		{"4:memory:/docker/1", "1 1 0:1 /docker/1 /cg/m rw - cgroup cgroup rw,memory",
			"memory", "/cg/m"},
		{"4:memory:/docker/1/in", "1 1 0:1 /docker/1 /cg/m rw - cgroup cgroup rw,memory",
			"memory", "/cg/m/in"},
		{"4:memory:/docker/12", "1 1 0:1 /docker/1 /cg/m rw - cgroup cgroup rw,memory",
			"memory", NULL},
		{"1:name=systemd:/a", V2, "memory", NULL},
		{"nonsense", V2, "memory", NULL},
	};
	struct vn_cgroup cgroup;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		put("proc/thread-self/cgroup", cases[i].own);
		put("proc/self/mountinfo", cases[i].mount);
		bool found = vn_cgroup_find(&cgroup, root, cases[i].controller);
		assert_string_equal(cgroup.directory, cases[i].directory ? cases[i].directory : "");
		assert_int_equal(found, cases[i].directory != NULL);
	}
	put_v2();
	assert_true(vn_cgroup_find(&cgroup, root, "hugetlb"));
	assert_true(vn_cgroup_up(&cgroup));
	assert_string_equal(cgroup.directory, "/sys/fs/cgroup/vm");
	assert_true(vn_cgroup_up(&cgroup));
	assert_string_equal(cgroup.directory, "/sys/fs/cgroup");
	assert_false(vn_cgroup_up(&cgroup));
	assert_false(vn_cgroup_find(&cgroup, "/nowhere", "hugetlb"));
}

static void too_few_pages_in_the_reserve(void **state)
{
	(void)state;
	put_two_nodes();
	expect_huge(448, -1, NULL);
	expect_huge(450, -1,
		"225 pages needed, 224 free, 1 missing; reserve them: "
		"echo 225 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
	expect_huge(128, 0, NULL);
	expect_huge(256, 0,
		"128 pages needed, 64 free on node 0, 64 missing; reserve them: "
		"echo 128 > "
		"/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages");
	expect_huge(64, 7, "no such pages on node 7");
	// Some are used and some promised.
	put_pool(-1, 224, 150, 100);
	expect_huge(128, -1, "64 pages needed, 50 free, 14 missing; reserve them: echo 238 >");
	put_pool(-1, 224, 100, 120);
	expect_huge(64, -1, "32 pages needed, 0 free, 32 missing; reserve them: echo 256 >");
	// The kernel may add 20 more, of which 5 are there.
	put_number("sys/kernel/mm/hugepages/hugepages-2048kB", "nr_overcommit_hugepages", 20);
	put_number("sys/kernel/mm/hugepages/hugepages-2048kB", "surplus_hugepages", 5);
	put_pool(-1, 224, 50, 0);
	expect_huge(130, -1, NULL);
	expect_huge(132, -1, "66 pages needed, 65 free, 1 missing; reserve them: echo 225 >");
}

// Pages that the kernel was to add and could not are missing from the reserve.
static void pages_that_the_kernel_did_not_add(void **state)
{
	(void)state;
	const struct vn_memory anywhere = one(64 * MIB, 2 * MIB, -1);
	const struct vn_memory on_node = one(64 * MIB, 2 * MIB, 0);
	put_two_nodes();
	put_pool(-1, 8, 8, 0);
	put_pool(0, 4, 4, 0);
	put_pool(1, 4, 4, 0);
	put_number("sys/kernel/mm/hugepages/hugepages-2048kB", "nr_overcommit_hugepages", 64);
	struct vn_memory_reach reach = reach_of(3, 0), bound = reach_of(3, 1);
	expect(&anywhere, false, &reach, NULL);
	expect(&on_node, false, &reach, NULL);
	expect(&anywhere, false, &bound, NULL);
	reach.fixed = bound.fixed = true;
	expect(&anywhere, false, &reach,
		"32 pages needed, 8 free, 24 missing; reserve them: echo 32 >");
	expect(&on_node, false, &reach,
		"32 pages needed, 4 free on node 0, 28 missing; reserve them: echo 32 >");
	put_pool(-1, 36, 36, 0);
	put_pool(1, 32, 32, 0);
	expect(&anywhere, false, &reach, NULL);
	expect(&anywhere, false, &bound,
		"node 0, where 4 are free, 28 missing; allow more nodes, "
		"or reserve them there: echo 32 >");
}

// Cells take from one reserve, whichever nodes they are on.
static void cells_are_counted_together(void **state)
{
	(void)state;
	const struct vn_memory_reach reach = reach_of(3, 0);
	struct vn_memory memory = {.cell_count = 3};
	put_two_nodes();
	memory.cells[0] = cell(128 * MIB, 2 * MIB, 0);
	memory.cells[1] = cell(320 * MIB, 2 * MIB, -1);
	memory.cells[2] = cell(4 * MIB, 4096, -1);
	expect(&memory, false, &reach, NULL);
	memory.cells[2] = cell(4 * MIB, 2 * MIB, 1);
	expect(&memory, false, &reach, "226 pages needed, 224 free, 2 missing");
	memory.cells[1] = cell(2 * MIB, 2 * MIB, 0);
	expect(&memory, false, &reach, "65 pages needed, 64 free on node 0");
}

static void nodes_that_may_be_used(void **state)
{
	(void)state;
	const struct vn_memory memory = one(256 * MIB, 2 * MIB, -1);
	put_two_nodes();
	struct vn_memory_reach reach = reach_of(3, 1);
	expect(&memory, false, &reach,
		"128 pages needed, the memory policy (numactl --membind) allows node 0, "
		"where 64 are free, 64 missing; allow more nodes, or reserve them there: "
		"echo 128 > "
		"/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages");
	assert_true(vn_memory_limits_bind_late(2 * MIB, &reach));
	reach = reach_of(3, 2);
	expect(&memory, false, &reach, NULL);
	assert_true(vn_memory_limits_bind_late(2 * MIB, &reach)); // another may take them
	reach = reach_of(3, 3);
	expect(&memory, false, &reach, NULL);
	assert_false(vn_memory_limits_bind_late(2 * MIB, &reach));

	reach = reach_of(1, 0);
	expect(&memory, false, &reach, "the cpuset (cpuset.mems) allows node 0, where 64 are free");
	put_v2();
	put("sys/fs/cgroup/vm/guest/cpuset.mems", "");
	put("sys/fs/cgroup/vm/cpuset.mems", "0");
	expect(&memory, false, &reach, "/sys/fs/cgroup/vm/cpuset.mems allows node 0, where");

	// A cell that is bound to a node by itself is not the policy's.
	struct vn_memory two = {.cell_count = 2};
	two.cells[0] = cell(256 * MIB, 2 * MIB, 1);
	two.cells[1] = cell(128 * MIB, 2 * MIB, -1);
	reach = reach_of(3, 1);
	expect(&two, false, &reach, NULL);
	two.cells[0] = cell(2 * MIB, 2 * MIB, 0);
	expect(&two, false, &reach, "65 pages needed, the memory policy");
}

static void hugetlb_cgroups(void **state)
{
	(void)state;
	put_two_nodes();
	put_v2();
	struct vn_memory_reach reach = reach_of(3, 0);
	put("sys/fs/cgroup/vm/guest/hugetlb.2MB.max", "max");
	put("sys/fs/cgroup/vm/guest/hugetlb.2MB.rsvd.max", "max");
	expect_huge(64, -1, NULL);
	assert_false(vn_memory_limits_bind_late(2 * MIB, &reach));

	put_number(GUEST, "hugetlb.2MB.max", 32 * MIB);
	put_number(GUEST, "hugetlb.2MB.current", 8 * MIB);
	expect_huge(24, -1, NULL);
	expect_huge(64, -1,
		"32 pages needed, the cgroup's limit of 33554432 bytes leaves 12, 20 missing; "
		"raise it: echo 75497472 > /sys/fs/cgroup/vm/guest/hugetlb.2MB.max");
	expect_huge(64, 0, "/sys/fs/cgroup/vm/guest/hugetlb.2MB.max");
	assert_true(vn_memory_limits_bind_late(2 * MIB, &reach));
	assert_false(vn_memory_limits_bind_late(GIB, &reach));
	assert_false(vn_memory_limits_bind_late(4096, &reach));

	// The one above is tighter, though its number is larger; then a limit that is exceeded.
	put_number(PARENT, "hugetlb.2MB.max", 64 * MIB);
	put_number(PARENT, "hugetlb.2MB.current", 60 * MIB);
	expect_huge(24, -1,
		"12 pages needed, the cgroup's limit of 67108864 bytes leaves 2, 10 missing; "
		"raise it: echo 88080384 > /sys/fs/cgroup/vm/hugetlb.2MB.max");
	put_number(PARENT, "hugetlb.2MB.current", 80 * MIB);
	expect_huge(24, -1, "leaves 0, 12 missing; raise it: echo 109051904 >");

	put_number(GUEST, "hugetlb.2MB.rsvd.max", 0);
	expect_huge(24, -1, "echo 25165824 > /sys/fs/cgroup/vm/guest/hugetlb.2MB.rsvd.max");

	put("proc/thread-self/cgroup", "3:hugetlb:/g");
	put("proc/self/mountinfo", "1 1 0:1 / /cg rw - cgroup hugetlb rw,hugetlb");
	put("cg/hugetlb.2MB.limit_in_bytes", "9223372036852678656");
	put("cg/g/hugetlb.2MB.limit_in_bytes", "9223372036852678656");
	put("cg/g/hugetlb.2MB.rsvd.limit_in_bytes", "9223372036852678656");
	expect_huge(24, -1, NULL);
	put_number("cg/g", "hugetlb.2MB.limit_in_bytes", 4 * MIB);
	put_number("cg/g", "hugetlb.2MB.usage_in_bytes", 2 * MIB);
	expect_huge(24, -1,
		"leaves 1, 11 missing; raise it: echo 27262976 > /cg/g/hugetlb.2MB.limit_in_bytes");
}

static void ordinary_memory(void **state)
{
	(void)state;
	const struct vn_memory memory = one(1536 * MIB, 4096, -1),
			       on_node = one(GIB + MIB, 4096, 1);
	struct vn_memory_reach reach = reach_of(3, 0);
	put_two_nodes();
	expect(&memory, false, &reach, NULL);
	expect(&memory, true, &reach, NULL);
	expect(&on_node, false, &reach,
		"1025 MiB of guest memory needed, node 1 has 1024 MiB available, 1 MiB missing");
	put("proc/meminfo", "MemFree:        1048576 kB");
	expect(&memory, false, &reach, NULL);
	expect(&memory, true, &reach, "the host has 1024 MiB available, 512 MiB missing");
	put("proc/meminfo", "MemFree:        2097152 kB");
	reach = reach_of(3, 1);
	expect(&memory, true, &reach,
		"1536 MiB of guest memory needed, "
		"the memory policy (numactl --membind) allows node 0, "
		"which has 1024 MiB available, 512 MiB missing");
}

static char said[512];

static void listen(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)opaque;
	assert_int_equal(severity, VENEER_SEVERITY_WARNING);
	snprintf(said, sizeof(said), "%s", text);
}

static void expect_warning(const struct vn_memory *memory, const char *words)
{
	const struct vn_log log = {listen, NULL};
	said[0] = '\0';
	vn_memory_limits_warn(memory, root, &log);
	if (words ? !strstr(said, words) : said[0])
		fail_msg("\"%s\" and not \"%s\"", said, words ? words : "");
}

static void memory_cgroups(void **state)
{
	(void)state;
	const struct vn_memory memory = one(512 * MIB, 4096, -1);
	const struct vn_memory huge = one(448 * MIB, 2 * MIB, -1);
	struct vn_memory_reach reach = reach_of(3, 0);
	put_two_nodes();
	put_v2();
	put("sys/fs/cgroup/vm/guest/memory.max", "max");
	expect_warning(&memory, NULL);
	expect(&memory, true, &reach, NULL);

	put_number(PARENT, "memory.max", 600 * MIB);
	put_number(PARENT, "memory.current", 300 * MIB);
	put("sys/fs/cgroup/vm/memory.stat", "anon 104857600");
	host_tree_put(root, "sys/fs/cgroup/vm/memory.stat", "inactive_file 104857600");
	host_tree_put(root, "sys/fs/cgroup/vm/memory.stat", "active_file 10485760");
	host_tree_put(root, "sys/fs/cgroup/vm/memory.stat", "slab_reclaimable 10485760");
	expect(&memory, true, &reach,
		"512 MiB of guest memory needed, "
		"the cgroup's limit of 629145600 bytes leaves 420 MiB, "
		"92 MiB missing; raise it: echo 725614592 > /sys/fs/cgroup/vm/memory.max");
	expect(&memory, false, &reach, NULL);
	expect(&huge, true, &reach, NULL);
	expect_warning(&memory, NULL); // who overcommits has a reason

	put_number(GUEST, "memory.max", 500 * MIB);
	put_number(GUEST, "memory.current", 0);
	expect_warning(&memory, "512 MiB is more than its cgroup's limit, 524288000 bytes");
	expect_warning(&memory, "echo 536870912 > /sys/fs/cgroup/vm/guest/memory.max");
	expect_warning(&huge, NULL);
}

static void what_a_fault_met_is_explained(void **state)
{
	(void)state;
	char text[256];
	const struct vn_memory memory = one(64 * MIB, 2 * MIB, -1);
	put_v2();
	put_number(GUEST, "hugetlb.2MB.max", 32 * MIB);
	put_number(GUEST, "hugetlb.2MB.current", 31 * MIB);
	struct vn_memory_reach reach = reach_of(3, 0);
	vn_memory_limits_explain(text, sizeof(text), &memory, &reach);
	assert_string_equal(text, ": the limit of 33554432 bytes in "
				  "/sys/fs/cgroup/vm/guest/hugetlb.2MB.max is used up");
	put_number(GUEST, "hugetlb.2MB.current", 16 * MIB);
	vn_memory_limits_explain(text, sizeof(text), &memory, &reach);
	assert_string_equal(text, "");
}

#define LAID_OUT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LAID_OUT(cgroups_are_found_where_they_are_seen),
		LAID_OUT(too_few_pages_in_the_reserve),
		LAID_OUT(pages_that_the_kernel_did_not_add),
		LAID_OUT(cells_are_counted_together),
		LAID_OUT(nodes_that_may_be_used),
		LAID_OUT(hugetlb_cgroups),
		LAID_OUT(ordinary_memory),
		LAID_OUT(memory_cgroups),
		LAID_OUT(what_a_fault_met_is_explained),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
