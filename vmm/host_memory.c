// SPDX-License-Identifier: Apache-2.0
//
// Asking the host what it has, and saying what is missing.
#include "vmm/host_memory.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cpuset.h"
#include "vmm/sysfs.h"

#define MIB      ((uint64_t)1 << 20)
#define GIB      ((uint64_t)1 << 30)
#define CELL_MIN (4 * MIB) // Linux ignores a smaller node

// Of a cell, or of all together: no sum of a few overflows.
#define TOTAL_MAX ((uint64_t)1 << 46)

static bool is_huge(const struct vn_memory_cell *cell)
{
	return cell->page_size >= 2 * MIB;
}

// What all cells with the same node and pages need together: they take from one reserve.
static uint64_t needed_like(const struct vn_memory *memory, const struct vn_memory_cell *cell)
{
	uint64_t needed = 0;
	for (unsigned i = 0; i < memory->cell_count; i++)
		if (memory->cells[i].node == cell->node &&
			memory->cells[i].page_size == cell->page_size)
			needed += memory->cells[i].size;
	return needed;
}

// Where the kernel counts huge pages: for the whole host, or for one node.
static void hugepage_path(
	char *path, size_t size, const struct vn_memory_cell *cell, const char *name)
{
	uint64_t kib = cell->page_size / 1024;
	if (cell->node < 0)
		snprintf(path, size, "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s", kib,
			name);
	else
		snprintf(path, size,
			"/sys/devices/system/node/node%d/hugepages/hugepages-%" PRIu64 "kB/%s",
			cell->node, kib, name);
}

// Pages that nobody has and nobody has been promised, or -errno. Promises (resv_hugepages) are
// counted for the whole host only.
static int64_t free_hugepages(const struct vn_memory_cell *cell)
{
	char path[160];
	hugepage_path(path, sizeof(path), cell, "free_hugepages");
	int64_t free, promised = 0;
	int code = vn_sysfs_number("", &free, "%s", path);
	if (code < 0 || cell->node >= 0)
		return code < 0 ? code : free;
	hugepage_path(path, sizeof(path), cell, "resv_hugepages");
	vn_sysfs_number("", &promised, "%s", path);
	return free - promised;
}

int vn_host_memory_fail_hugepages(const struct vn_memory *memory, const struct vn_memory_cell *cell,
	struct veneer_error *error)
{
	int64_t needed = (int64_t)(needed_like(memory, cell) / cell->page_size);
	const char *unit = cell->page_size == GIB ? "1G" : "2M";
	char node[32] = "";
	if (cell->node >= 0)
		snprintf(node, sizeof(node), " on node %d", cell->node);
	int64_t free = free_hugepages(cell);
	if (free < 0)
		return vn_fail(
			error, -ENOMEM, "hugepages=%s: this host has no such pages%s", unit, node);

	char path[160];
	hugepage_path(path, sizeof(path), cell, "nr_hugepages");
	int64_t total = 0;
	vn_sysfs_number("", &total, "%s", path);
	return vn_fail(error, -ENOMEM,
		"hugepages=%s: %" PRId64 " pages needed, %" PRId64 " free%s, %" PRId64
		" missing; reserve them: echo %" PRId64 " > %s",
		unit, needed, free, node, needed - free, total + needed - free, path);
}

static int check_hugepages(const struct vn_memory *memory, const struct vn_memory_cell *cell,
	struct veneer_error *error)
{
	int64_t needed = (int64_t)(needed_like(memory, cell) / cell->page_size);
	return free_hugepages(cell) < needed ? vn_host_memory_fail_hugepages(memory, cell, error)
					     : 0;
}

// What a node, or the whole host, can give without swapping, from a meminfo file: free pages and
// clean caches. The node's file has "Node N " before each name.
static int64_t available_bytes(int node)
{
	char path[80] = "/proc/meminfo";
	if (node >= 0)
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
	FILE *file = fopen(path, "re");
	if (!file)
		return -errno;
	static const char *const counted[] = {
		"MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:"};
	int64_t total = 0;
	char line[160];
	while (fgets(line, sizeof(line), file))
		for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
			const char *at = strstr(line, counted[i]);
			if (at && (at == line || isspace((unsigned char)at[-1])))
				total += strtoll(at + strlen(counted[i]), NULL, 10) * 1024;
		}
	fclose(file);
	return total;
}

static int check_ordinary(const struct vn_memory *memory, const struct vn_memory_cell *cell,
	const struct veneer_memory *options, struct veneer_error *error)
{
	if (cell->node < 0 && !options->prealloc && !options->lock)
		return 0; // the host's overcommit policy decides, page by page
	uint64_t needed = needed_like(memory, cell);
	int64_t available = available_bytes(cell->node);
	if (available < 0 || (uint64_t)available >= needed)
		return 0;
	char node[32] = "the host";
	if (cell->node >= 0)
		snprintf(node, sizeof(node), "node %d", cell->node);
	return vn_fail(error, -ENOMEM,
		"%" PRIu64 " MiB of guest memory needed, %s has %" PRId64 " MiB available, %" PRIu64
		" MiB missing; free some (echo 1 > /proc/sys/vm/drop_caches, fewer huge pages) or "
		"ask for less",
		needed / MIB, node, available / (int64_t)MIB,
		(needed - (uint64_t)available + MIB - 1) / MIB);
}

static int check_node(int node, struct veneer_error *error)
{
	if (node < 0)
		return 0;
	if (numa_available() < 0)
		return vn_fail(error, -ENODEV, "node=%d: this kernel has no NUMA support", node);
	struct bitmask *allowed = numa_get_mems_allowed();
	bool usable = node <= numa_max_node() && numa_bitmask_isbitset(allowed, (unsigned)node);
	numa_bitmask_free(allowed);
	if (!usable)
		return vn_fail(error, -ENODEV,
			"node=%d: not a memory node that this process may use; the host's nodes "
			"are 0 to %d (numactl --hardware)",
			node, numa_max_node());
	return 0;
}

// `whose` names the cell, where there is more than one.
static int check_size(
	const struct vn_memory_cell *cell, const char *whose, struct veneer_error *error)
{
	uint64_t page = cell->page_size;
	if (page != (uint64_t)sysconf(_SC_PAGESIZE) && page != 2 * MIB && page != GIB)
		return vn_fail(
			error, -EINVAL, "huge pages are 2M or 1G, not %" PRIu64 " bytes", page);
	if (cell->size < CELL_MIN)
		return vn_fail(error, -EINVAL,
			"%sguest memory of %" PRIu64 " bytes is below the least, %" PRIu64 "M",
			whose, cell->size, CELL_MIN / MIB);
	if (cell->size % page != 0)
		return vn_fail(error, -EINVAL,
			"%sguest memory of %" PRIu64 " bytes is no multiple of its pages' %" PRIu64
			"K; the next larger size is %" PRIu64 "K",
			whose, cell->size, page / 1024, (cell->size / page + 1) * (page / 1024));
	if (cell->size > TOTAL_MAX)
		return vn_fail(error, -EINVAL, "%sguest memory of %" PRIu64 "G is more than 64T",
			whose, cell->size / GIB);
	return 0;
}

// KSM looks at ordinary private pages only.
static int check_merge(const struct vn_memory *memory, struct veneer_error *error)
{
	int64_t run;
	if (vn_sysfs_number("", &run, "/sys/kernel/mm/ksm/run") < 0)
		return vn_fail(
			error, -EOPNOTSUPP, "merge=on: this host's kernel has no KSM (CONFIG_KSM)");
	for (unsigned i = 0; i < memory->cell_count; i++)
		if (is_huge(&memory->cells[i]))
			return vn_fail(error, -EINVAL,
				"merge=on does not go with hugepages=: KSM merges ordinary pages "
				"only");
	return 0;
}

int vn_host_memory_check(const struct vn_memory *memory, const struct veneer_memory *options,
	struct veneer_error *error)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < memory->cell_count; i++) {
		const struct vn_memory_cell *cell = &memory->cells[i];
		char whose[24] = "";
		if (memory->cell_count > 1)
			snprintf(whose, sizeof(whose), "cell %u: ", i);
		code = check_size(cell, whose, error);
		if (code == 0)
			code = check_node(cell->node, error);
	}
	// Only now do all sizes mean something.
	for (unsigned i = 0; code == 0 && i < memory->cell_count; i++) {
		const struct vn_memory_cell *cell = &memory->cells[i];
		code = is_huge(cell) ? check_hugepages(memory, cell, error)
				     : check_ordinary(memory, cell, options, error);
	}
	return code == 0 && options->merge ? check_merge(memory, error) : code;
}

// The line of such a file, where brackets are around the word that holds; empty without the file.
static void thp_modes(char text[static 128], const char *file)
{
	vn_sysfs_line("", text, 128, "/sys/kernel/mm/transparent_hugepage/%s", file);
}

bool vn_host_memory_shared_thp(void)
{
	char text[128];
	thp_modes(text, "shmem_enabled");
	return text[0] && !strstr(text, "[never]") && !strstr(text, "[deny]");
}

bool vn_host_memory_private_thp(void)
{
	char text[128];
	thp_modes(text, "enabled");
	return text[0] && !strstr(text, "[never]");
}

// ACPI 6.3 section 5.2.17.
#define NEAR        10
#define UNREACHABLE 255

// Each node's file has a number for every online node, in their order.
unsigned vn_host_memory_distance(const char *root, int from, int to)
{
	static const char nodes[] = "/sys/devices/system/node";
	char text[4096];
	struct veneer_cpuset online;
	struct veneer_error error;
	vn_sysfs_line(root, text, sizeof(text), "%s/online", nodes);
	if (veneer_cpuset_parse(&online, text, &error) < 0 || !vn_cpuset_has(&online, (unsigned)to))
		return 0;
	vn_sysfs_line(root, text, sizeof(text), "%s/node%d/distance", nodes, from);
	char *at = text;
	unsigned long distance = 0;
	vn_cpuset_for_each(node, &online)
	{
		char *end;
		distance = strtoul(at, &end, 10);
		if (end == at)
			return 0;
		at = end;
		if (node == (unsigned)to)
			break;
	}
	return distance >= NEAR && distance < UNREACHABLE ? (unsigned)distance : 0;
}
