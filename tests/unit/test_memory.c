// SPDX-License-Identifier: Apache-2.0
//
// Guest memory without KVM: where cells go around the hole, the checked accessor at every edge, the
// kind of pages, and the refusals.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"
#include "core/host_memory.h"
#include "core/memory.h"

#define HOLE (3 * GIB)

static struct vn_memory make(uint64_t size)
{
	struct vn_memory memory;
	struct vn_memory_options options = {.size = size, .node = -1};
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
	assert_ptr_equal(vn_memory_at(&memory, VN_GPA(4 * GIB), 1), memory.host + 4 * GIB);
	vn_memory_destroy(&memory);

	memory = make(HOLE);
	assert_int_equal(memory.ram_count, 1);
	vn_memory_destroy(&memory);
}

// A cell's size and page size, and the first two addresses and sizes of its parts.
struct laid_out {
	uint64_t size, page;
	uint64_t start0, size0, start1, size1;
};

// The run of RAM that has the address.
static const struct vn_ram *run_of(const struct vn_memory *memory, uint64_t address)
{
	for (unsigned i = 0; i < memory->ram_count; i++)
		if (address - memory->ram[i].start.addr < memory->ram[i].size)
			return &memory->ram[i];
	return NULL;
}

static void check_layout(const struct laid_out *cells, unsigned count, unsigned runs)
{
	struct vn_memory memory = {.cell_count = count};
	uint64_t total = 0, in_runs = 0;
	for (unsigned i = 0; i < count; i++) {
		memory.cells[i].size = cells[i].size;
		memory.cells[i].page_size = cells[i].page;
		total += cells[i].size;
	}
	vn_memory_lay_out(&memory, HOLE);
	assert_int_equal(memory.size, total);
	assert_int_equal(memory.ram_count, runs);
	for (unsigned i = 0; i < count; i++) {
		const struct vn_memory_cell *cell = &memory.cells[i];
		assert_int_equal(cell->part_count, cells[i].size1 ? 2 : 1);
		assert_int_equal(cell->parts[0].start.addr, cells[i].start0);
		assert_int_equal(cell->parts[0].size, cells[i].size0);
		assert_int_equal(cell->parts[1].start.addr, cells[i].start1);
		assert_int_equal(cell->parts[1].size, cells[i].size1);
		for (unsigned n = 0; n < cell->part_count; n++) {
			uint64_t start = cell->parts[n].start.addr,
				 end = start + cell->parts[n].size;
			assert_int_equal(start % cell->page_size, 0);
			assert_ptr_equal(run_of(&memory, start), run_of(&memory, end - 1));
			assert_true(end <= HOLE || start >= 4 * GIB);
			assert_true(end <= memory.span);
		}
	}
	for (unsigned i = 0; i < memory.ram_count; i++) {
		const struct vn_ram *ram = &memory.ram[i];
		in_runs += ram->size;
		if (i > 0) // a gap, or they would be one
			assert_true(ram->start.addr > ram[-1].start.addr + ram[-1].size);
	}
	assert_int_equal(in_runs, total);
}

#define K4 4096

static void cells_are_laid_out_around_the_hole(void **state)
{
	(void)state;
#define CHECK(runs, ...)                                                                           \
	do {                                                                                       \
		const struct laid_out cells[] = {__VA_ARGS__};                                     \
		check_layout(cells, ARRAY_SIZE(cells), runs);                                      \
	} while (0)
	CHECK(1, {256 * MIB, K4, 0, 256 * MIB, 0, 0});
	CHECK(1, {HOLE, K4, 0, HOLE, 0, 0});
	CHECK(2, {HOLE + K4, K4, 0, HOLE, 4 * GIB, K4});
	CHECK(1, {64 * MIB, K4, 0, 64 * MIB, 0, 0}, {32 * MIB, K4, 64 * MIB, 32 * MIB, 0, 0});
	// The first ends at the hole, before it, behind it.
	CHECK(2, {HOLE, K4, 0, HOLE, 0, 0}, {GIB, K4, 4 * GIB, GIB, 0, 0});
	CHECK(2, {2 * GIB, K4, 0, 2 * GIB, 0, 0}, {2 * GIB, K4, 2 * GIB, GIB, 4 * GIB, GIB});
	CHECK(2, {4 * GIB, K4, 0, HOLE, 4 * GIB, GIB}, {GIB, K4, 5 * GIB, GIB, 0, 0});
	// Pages begin at multiples of their size.
	CHECK(2, {512 * MIB, K4, 0, 512 * MIB, 0, 0}, {GIB, GIB, GIB, GIB, 0, 0});
	CHECK(2, {4 * MIB + K4, K4, 0, 4 * MIB + K4, 0, 0}, {4 * MIB, K4, 6 * MIB, 4 * MIB, 0, 0});
	CHECK(3, {512 * MIB, 2 * MIB, 0, 512 * MIB, 0, 0},
		{3 * GIB, GIB, GIB, 2 * GIB, 4 * GIB, GIB},
		{4 * MIB, 2 * MIB, 5 * GIB, 4 * MIB, 0, 0});
	CHECK(2, {HOLE - 2 * MIB, 2 * MIB, 0, HOLE - 2 * MIB, 0, 0},
		{GIB, GIB, 4 * GIB, GIB, 0, 0});
	CHECK(3, {4 * GIB + 2 * MIB, 2 * MIB, 0, HOLE, 4 * GIB, GIB + 2 * MIB},
		{GIB, GIB, 6 * GIB, GIB, 0, 0});
	// All cells that there can be, each with a gap before it.
	CHECK(9, {5 * MIB, K4, 0, 5 * MIB, 0, 0}, {5 * MIB, K4, 6 * MIB, 5 * MIB, 0, 0},
		{5 * MIB, K4, 12 * MIB, 5 * MIB, 0, 0}, {5 * MIB, K4, 18 * MIB, 5 * MIB, 0, 0},
		{5 * MIB, K4, 24 * MIB, 5 * MIB, 0, 0}, {5 * MIB, K4, 30 * MIB, 5 * MIB, 0, 0},
		{HOLE - 35 * MIB, K4, 36 * MIB, HOLE - 36 * MIB, 4 * GIB, MIB},
		{GIB, GIB, 5 * GIB, GIB, 0, 0});
#undef CHECK
}

static int make_cells(struct vn_memory *memory, struct vn_memory_options options,
	const struct vn_cell_options *cells, size_t count, struct veneer_error *error)
{
	const struct vn_memory_plan plan = {
		.options = options, .cells = cells, .cell_count = count, .hole_start = HOLE};
	return vn_memory_make(memory, &plan, error);
}

// A buffer of the guest may begin in one and end in the other: it knows no border there.
static void cells_that_touch_are_one_run(void **state)
{
	(void)state;
	const struct vn_cell_options cells[] = {
		{.size = 4 * MIB, .node = -1}, {.size = 6 * MIB, .node = 0}};
	struct vn_memory memory;
	struct veneer_error error;
	char data[8] = "veneer!", back[8] = "";
	if (make_cells(&memory, (struct vn_memory_options){0}, cells, 2, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(memory.cell_count, 2);
	assert_int_equal(memory.size, 10 * MIB);
	assert_int_equal(memory.cells[1].node, 0);
	assert_int_equal(memory.cells[1].page_size, 4096);
	assert_int_equal(vn_memory_write(&memory, VN_GPA(4 * MIB - 4), data, 8), 0);
	assert_int_equal(vn_memory_read(&memory, VN_GPA(4 * MIB - 4), back, 8), 0);
	assert_memory_equal(back, data, 8);
	assert_non_null(vn_memory_at(&memory, VN_GPA(0), 10 * MIB));
	assert_null(vn_memory_at(&memory, VN_GPA(0), 10 * MIB + 1));
	vn_memory_destroy(&memory);
}

// Nothing is where a gap is, on the host neither.
static void gaps_are_no_memory(void **state)
{
	(void)state;
	const struct vn_cell_options cells[] = {
		{.size = 5 * MIB, .node = -1}, {.size = 4 * MIB, .node = -1}};
	struct vn_memory memory;
	unsigned char resident;
	assert_int_equal(
		make_cells(&memory, (struct vn_memory_options){.prealloc = true}, cells, 2, NULL),
		0);
	assert_int_equal(memory.ram_count, 2);
	assert_null(vn_memory_at(&memory, VN_GPA(5 * MIB - 1), 2));
	assert_null(vn_memory_at(&memory, VN_GPA(6 * MIB - 1), 1));
	assert_ptr_equal(vn_memory_at(&memory, VN_GPA(6 * MIB), 1), memory.host + 6 * MIB);
	assert_int_equal(mincore(memory.host + 5 * MIB, 4096, &resident), 0);
	assert_false(resident & 1);
	assert_int_equal(mincore(memory.host + 6 * MIB, 4096, &resident), 0);
	assert_true(resident & 1);
	vn_memory_destroy(&memory);
}

static char host_root[] = "/tmp/veneer-host-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/sys/devices/system/node/%s", host_root, name);
	for (char *at = path + sizeof(host_root); (at = strchr(at, '/')); at++) {
		*at = '\0';
		mkdir(path, 0700);
		*at = '/';
	}
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

// Nodes 0, 2 and 3, as where one has no memory module.
static void distances_are_the_hosts(void **state)
{
	(void)state;
	static const struct {
		int near, far;
		unsigned host; // of the nodes
		unsigned cells; // of cells on them
	} cases[] = {
		{0, 0, 10, 11},
		{0, 2, 21, 21},
		{0, 3, 31, 31},
		{2, 0, 22, 22},
		{3, 3, 10, 11},
		{3, 2, 0, 20}, // nonsense
		{0, 1, 0, 20}, // offline
		{1, 0, 0, 20},
		{0, 1000, 0, 20},
	};
	struct vn_memory memory = {.cell_count = 2};
	char command[64];
	assert_non_null(mkdtemp(host_root));
	put("online", "0,2-3\n");
	put("node0/distance", "10 21 31\n");
	put("node2/distance", "22 10 20\n");
	put("node3/distance", "31 7 10\n");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		memory.cells[0].node = cases[i].near;
		memory.cells[1].node = cases[i].far;
		assert_int_equal(vn_host_memory_distance(host_root, cases[i].near, cases[i].far),
			cases[i].host);
		assert_int_equal(vn_memory_distance(&memory, host_root, 0, 1), cases[i].cells);
		assert_int_equal(vn_memory_distance(&memory, host_root, 0, 0), 10);
	}
	memory.cells[1].node = -1;
	assert_int_equal(vn_memory_distance(&memory, host_root, 0, 1), 20);
	assert_int_equal(vn_memory_distance(&memory, "/nowhere", 0, 1), 20);
	snprintf(command, sizeof(command), "rm -r %s", host_root);
	assert_int_equal(system(command), 0);
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
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
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

static void expect_refusal(struct vn_memory_options options, int code, const char *words)
{
	struct vn_memory memory;
	struct veneer_error error = {.code = 0};
	assert_int_equal(vn_memory_create(&memory, &options, HOLE, &error), code);
	if (!strstr(error.message, words))
		fail_msg("\"%s\" lacks \"%s\"", error.message, words);
	assert_null(memory.host);
}

static void refusals_say_what_is_wrong(void **state)
{
	(void)state;
	expect_refusal((struct vn_memory_options){.size = 4 * MIB + 1, .node = -1}, -EINVAL,
		"no multiple of its pages'");
	expect_refusal((struct vn_memory_options){.size = BIT64(60), .node = -1}, -EINVAL,
		"more than 64T");
	expect_refusal(
		(struct vn_memory_options){.size = 64 * MIB, .hugepage_size = 65536, .node = -1},
		-EINVAL, "2M or 1G");
	expect_refusal(
		(struct vn_memory_options){
			.size = 3 * MIB + GIB, .hugepage_size = 2 * MIB, .node = -1},
		-EINVAL, "no multiple of its pages'");
	expect_refusal(
		(struct vn_memory_options){.size = 64 * MIB, .node = 1000}, -ENODEV, "node=1000");
}

static void too_few_pages_are_counted(void **state)
{
	(void)state;
	// No host has 32 TiB of free huge pages.
	expect_refusal(
		(struct vn_memory_options){.size = BIT64(45), .hugepage_size = 2 * MIB, .node = -1},
		-ENOMEM, "16777216 pages needed");
	expect_refusal((struct vn_memory_options){.size = BIT64(45), .node = -1, .prealloc = true},
		-ENOMEM, "MiB missing");
}

static void expect_cells_refused(struct vn_memory_options options,
	const struct vn_cell_options *cells, int code, const char *words)
{
	struct vn_memory memory;
	struct veneer_error error = {.code = 0};
	assert_int_equal(make_cells(&memory, options, cells, 2, &error), code);
	if (!strstr(error.message, words))
		fail_msg("\"%s\" lacks \"%s\"", error.message, words);
	assert_null(memory.host);
}

// What two cells take from one node is counted together, and a cell that is wrong is named.
static void cells_are_refused(void **state)
{
	(void)state;
	struct vn_cell_options cells[] = {
		{.size = 64 * MIB, .node = -1}, {.size = 64 * MIB + 1, .node = -1}};
	struct vn_memory_options options = {.node = -1};
	expect_cells_refused(options, cells, -EINVAL, "cell 1: guest memory");
	cells[1] = (struct vn_cell_options){.size = 65 * MIB, .node = -1, .hugepage_size = GIB};
	expect_cells_refused(options, cells, -EINVAL, "cell 1: guest memory");
	cells[1] = (struct vn_cell_options){.size = 64 * MIB, .node = 999};
	expect_cells_refused(options, cells, -ENODEV, "node=999");
	for (unsigned i = 0; i < 2; i++)
		cells[i] = (struct vn_cell_options){
			.size = BIT64(44), .hugepage_size = 2 * MIB, .node = -1};
	expect_cells_refused(options, cells, -ENOMEM, "16777216 pages needed");
	for (unsigned i = 0; i < 2; i++)
		cells[i] = (struct vn_cell_options){.size = BIT64(44), .node = 0};
	expect_cells_refused(
		options, cells, -ENOMEM, "33554432 MiB of guest memory needed, node 0");
}

static void prealloc_touches_every_page(void **state)
{
	(void)state;
	struct vn_memory memory;
	struct veneer_error error;
	struct vn_memory_options options = {.size = 8 * MIB, .node = -1, .prealloc = true};
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

// Otherwise a child of the embedder would cost the guest its huge pages, and the host a second
// copy.
static void a_forked_child_does_not_share_it(void **state)
{
	(void)state;
	struct vn_memory memory = make(4 * MIB);
	// Not by forking: a sanitizer's child may map something else where nothing is.
	assert_true(has_flag(memory.host, "dc"));
	vn_memory_destroy(&memory);
}

static void need_ksm(void)
{
	if (access("/sys/kernel/mm/ksm/run", F_OK) == 0)
		return;
	print_message("# this kernel has no KSM\n");
	skip();
}

static void pages_are_merged_only_where_asked(void **state)
{
	(void)state;
	need_ksm();
	struct vn_memory memory = make(4 * MIB);
	assert_false(has_flag(memory.host, "mg"));
	vn_memory_destroy(&memory);
	struct vn_memory_options options = {.size = 4 * MIB, .node = -1, .merge = true};
	struct veneer_error error;
	if (vn_memory_create(&memory, &options, HOLE, &error) < 0)
		fail_msg("%s", error.message);
	assert_true(has_flag(memory.host, "mg"));
	assert_int_equal(memory.cells[0].fd, -1); // KSM takes private memory only
	vn_memory_destroy(&memory);
}

static void huge_pages_are_not_merged(void **state)
{
	(void)state;
	need_ksm();
	const struct vn_cell_options cells[] = {
		{.size = 4 * MIB, .node = -1}, {.size = 0, .hugepage_size = 2 * MIB, .node = -1}};
	struct vn_memory memory = {.cell_count = 2};
	struct vn_memory_options options = {.merge = true};
	struct veneer_error error = {.code = 0};
	memory.cells[0] =
		(struct vn_memory_cell){.size = cells[0].size, .page_size = 4096, .node = -1};
	memory.cells[1] =
		(struct vn_memory_cell){.size = 4 * MIB, .page_size = 2 * MIB, .node = -1};
	struct vn_memory_reach reach;
	vn_memory_reach_find(&reach, &memory);
	assert_true(vn_host_memory_check(&memory, &options, &reach, &error) < 0);
	assert_non_null(strstr(error.message, "merge=on does not go with hugepages="));
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
	struct vn_memory_options options = {.size = 4 * MIB, .node = node};
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
	struct vn_memory_options options = {.size = 4 * MIB, .node = -1, .lock = true};
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

static struct vn_memory *losing;
static unsigned replaced;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	struct sigaction none = {.sa_handler = SIG_DFL};
	(void)context;
	if (vn_memory_replace(losing, info->si_addr, info->si_code))
		replaced++;
	else
		sigaction(number, &none, NULL);
}

// Three pages in a file that is cut off behind the first.
static void lose(uint64_t page_size)
{
	const uint64_t size = 3 * page_size;
	struct vn_memory memory = {.cell_count = 1, .span = size};
	uint8_t *area = mmap(NULL, size + page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char text[256];
	assert_true(area != MAP_FAILED);
	memory.host = (uint8_t *)(((uintptr_t)area + page_size - 1) & ~(uintptr_t)(page_size - 1));
	memory.cells[0] = (struct vn_memory_cell){.size = size,
		.page_size = page_size,
		.node = -1,
		.fd = memfd_create("lost", MFD_CLOEXEC),
		.parts = {{VN_GPA(0), size}},
		.part_count = 1};
	assert_int_equal(ftruncate(memory.cells[0].fd, (off_t)size), 0);
	assert_true(mmap(memory.host, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			    memory.cells[0].fd, 0) != MAP_FAILED);
	memset(memory.host, 1, size);
	losing = &memory;
	replaced = 0;
	vn_memory_describe_loss(&memory, text, sizeof(text));
	assert_string_equal(text, "");
	assert_int_equal(ftruncate(memory.cells[0].fd, (off_t)page_size), 0);

	// A store and a load go on, in a page that is whole and empty; the one before it is as it
	// was.
	volatile uint8_t *at = memory.host + page_size;
	errno = 77;
	at[8] = 5;
	assert_int_equal(errno, 77);
	assert_int_equal(at[8], 5);
	assert_int_equal(at[page_size - 1], 0);
	assert_int_equal(memory.host[page_size - 1], 1);
	assert_int_equal(replaced, 1);
	assert_int_equal(at[2 * page_size - 1], 0);
	assert_int_equal(replaced, 2);

	char first[48];
	assert_true(vn_memory_is_lost(&memory));
	vn_memory_describe_loss(&memory, text, sizeof(text));
	snprintf(first, sizeof(first), "guest's memory at 0x%llx", (unsigned long long)page_size);
	if (!strstr(text, first))
		fail_msg("\"%s\" lacks \"%s\"", text, first);
	assert_false(vn_memory_replace(&memory, memory.host - 1, BUS_ADRERR));
	assert_false(vn_memory_replace(&memory, memory.host + size, BUS_ADRERR));
	assert_false(vn_memory_replace(&memory, text, BUS_ADRERR));
	close(memory.cells[0].fd);
	munmap(area, size + page_size);
}

static void a_lost_page_is_replaced(void **state)
{
	(void)state;
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO}, before;
	sigaction(SIGBUS, &action, &before);
	lose(2 * MIB);
	lose(4096);
	sigaction(SIGBUS, &before, NULL);
	struct vn_memory memory = make(4 * MIB);
	char text[256];
	memory.lost = 0x5000 | BUS_MCEERR_AR;
	vn_memory_describe_loss(&memory, text, sizeof(text));
	assert_string_equal(text, "the host no longer provides the guest's memory at 0x5000: "
				  "a hardware error of the host's memory");
	vn_memory_destroy(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(below_the_hole_there_is_one_run),
		cmocka_unit_test(the_rest_lies_above_4_gib),
		cmocka_unit_test(cells_are_laid_out_around_the_hole),
		cmocka_unit_test(cells_that_touch_are_one_run),
		cmocka_unit_test(gaps_are_no_memory),
		cmocka_unit_test(distances_are_the_hosts),
		cmocka_unit_test(translation_checks_every_edge),
		cmocka_unit_test(copies_are_all_or_nothing),
		cmocka_unit_test(refusals_say_what_is_wrong),
		cmocka_unit_test(too_few_pages_are_counted),
		cmocka_unit_test(cells_are_refused),
		cmocka_unit_test(prealloc_touches_every_page),
		cmocka_unit_test(huge_pages_are_asked_for),
		cmocka_unit_test(a_forked_child_does_not_share_it),
		cmocka_unit_test(pages_are_merged_only_where_asked),
		cmocka_unit_test(huge_pages_are_not_merged),
		cmocka_unit_test(a_node_is_bound_strictly),
		cmocka_unit_test(a_lost_page_is_replaced),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		cmocka_unit_test(locked_memory_stays),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
