// SPDX-License-Identifier: Apache-2.0
//
// Asking the host what it has, and saying what is missing.
#include "core/host_memory.h"

#include <errno.h>
#include <inttypes.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cpuset.h"
#include "base/macros.h"
#include "base/sysfs.h"

static bool has_memory(const char *root, int node)
{
	char text[4096];
	struct vn_cpuset nodes;
	struct veneer_error error;
	vn_sysfs_line(root, text, sizeof(text), "/sys/devices/system/node/has_memory");
	return vn_cpuset_parse(&nodes, text, &error) == 0 && vn_cpuset_has(&nodes, (unsigned)node);
}

static int check_node(int node, const struct vn_memory_reach *reach, struct veneer_error *error)
{
	if (node < 0)
		return 0;
	if (numa_available() < 0)
		return vn_fail(error, -ENODEV, "node=%d: this kernel has no NUMA support", node);
	if (vn_cpuset_has(&reach->mems, (unsigned)node))
		return 0;
	char why[256];
	if (has_memory(reach->root, node)) {
		vn_memory_reach_name(why, reach, &reach->mems);
		return vn_fail(error, -ENODEV, "node=%d: %s only", node, why);
	}
	return vn_fail(error, -ENODEV,
		"node=%d: the host has no such memory node; "
		"its nodes are 0 to %d (numactl --hardware)",
		node, numa_max_node());
}

// `whose` names the cell, where there is more than one.
static int check_size(
	const struct vn_memory_cell *cell, const char *whose, struct veneer_error *error)
{
	uint64_t page = cell->page_size;
	if (page != (uint64_t)sysconf(_SC_PAGESIZE) && page != 2 * MIB && page != GIB)
		return vn_fail(
			error, -EINVAL, "huge pages are 2M or 1G, not %" PRIu64 " bytes", page);
	return vn_memory_check_size(cell->size, page, whose, error);
}

// KSM looks at ordinary private pages only.
static int check_merge(const struct vn_memory *memory, struct veneer_error *error)
{
	int64_t run;
	if (vn_sysfs_number("", &run, "/sys/kernel/mm/ksm/run") < 0)
		return vn_fail(
			error, -EOPNOTSUPP, "merge=on: this host's kernel has no KSM (CONFIG_KSM)");
	int code = 0;
	for (unsigned i = 0; code == 0 && i < memory->cell_count; i++)
		code = vn_memory_check_merge(memory->cells[i].page_size, "", error);
	return code;
}

int vn_host_memory_check(const struct vn_memory *memory, const struct vn_memory_options *options,
	const struct vn_memory_reach *reach, struct veneer_error *error)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < memory->cell_count; i++) {
		const struct vn_memory_cell *cell = &memory->cells[i];
		char whose[24] = "";
		if (memory->cell_count > 1)
			snprintf(whose, sizeof(whose), "cell %u: ", i);
		code = check_size(cell, whose, error);
		if (code == 0)
			code = check_node(cell->node, reach, error);
	}
	if (code == 0 && options->merge)
		code = check_merge(memory, error);
	// Only now do all sizes mean something.
	return code == 0 ? vn_memory_limits_check(memory, options, reach, error) : code;
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
	struct vn_cpuset online;
	struct veneer_error error;
	vn_sysfs_line(root, text, sizeof(text), "%s/online", nodes);
	if (vn_cpuset_parse(&online, text, &error) < 0 || !vn_cpuset_has(&online, (unsigned)to))
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
