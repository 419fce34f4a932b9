// SPDX-License-Identifier: Apache-2.0
#include "core/memory_options.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cpuset_prop.h"
#include "base/macros.h"
#include "base/option_limits.h"
#include "base/words.h"

#define SIZE_MIN     (4 * MIB) // Linux ignores a smaller node; and someone forgot the unit
#define SIZE_DEFAULT VN_STRING(VN_MEMORY_DEFAULT_MIB) "M"
#define BUILTIN_MIN  VN_STRING(VN_BUILTIN_MEMORY_MIB) "M"

// Of a cell, or of all together: no sum of a few overflows.
#define TOTAL_MAX BIT64(46)

#define MEMORY_FIELD(field) VN_PROP_FIELD(struct vn_memory_options, field)
#define CELL_FIELD(field)   VN_PROP_FIELD(struct vn_cell_options, field)

static const char *const PAGE_SIZES[] = {"2M", "1G", NULL};

uint64_t vn_memory_page_size(const struct vn_cell_options *cell)
{
	return cell->hugepage_size ? cell->hugepage_size : (uint64_t)sysconf(_SC_PAGESIZE);
}

int vn_memory_check_size(
	uint64_t size, uint64_t page_size, const char *whose, struct veneer_error *error)
{
	if (size > TOTAL_MAX)
		return vn_fail(error, -EINVAL, "%sguest memory of %" PRIu64 "G is more than 64T",
			whose, size / GIB);
	if (size % page_size != 0)
		return vn_fail(error, -EINVAL,
			"%sguest memory of %" PRIu64 " bytes is no multiple of its pages' %" PRIu64
			"K; the next larger size is %" PRIu64 "K",
			whose, size, page_size / KIB, (size / page_size + 1) * (page_size / KIB));
	return 0;
}

int vn_memory_check_merge(uint64_t page_size, const char *whose, struct veneer_error *error)
{
	if (page_size < 2 * MIB)
		return 0;
	return vn_fail(error, -EINVAL,
		"%smerge=on does not go with hugepages=: KSM merges ordinary pages only", whose);
}

static int parse_node(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	uint64_t number;
	int code = vn_parse_number(value, INT_MAX, &number);
	(void)prop;
	if (code == -ERANGE)
		vn_text_add(
			why, ": the host has no such NUMA node (numactl --hardware lists them)");
	if (code < 0)
		return -EINVAL;
	*(int *)field = (int)number;
	return 0;
}

static char *format_node(const struct vn_prop *prop, const void *field)
{
	char *text;
	(void)prop;
	return asprintf(&text, "%d", *(const int *)field) < 0 ? NULL : text;
}

static void expect_node(const struct vn_prop *prop, struct vn_text *text)
{
	(void)prop;
	vn_text_add(text, "the number of a NUMA node");
}

static const struct vn_prop_type prop_node = {.kind = VENEER_TYPE_NUMBER,
	.parse = parse_node,
	.expect = expect_node,
	.format = format_node};

static const struct vn_prop memory_props[] = {
	{"size", "SIZE",
		"In bytes, or with K, M, G or T: powers of 1024, in upper or lower case; KB and KiB "
		"mean the same as K. A multiple of the page size. The built-in guest needs " BUILTIN_MIN
		". With --numa, it is the sum of the cells and need not be given.",
		SIZE_DEFAULT, &vn_prop_size, MEMORY_FIELD(size), .min = SIZE_MIN,
		.flags = VN_PROP_FIRST},
	{"hugepages", "2M|1G",
		"Pages of this size from the host's hugetlbfs reserve; refused where too few are "
		"free.",
		"ordinary memory, with transparent huge pages where the host has them",
		&vn_prop_size, MEMORY_FIELD(hugepage_size), .words = PAGE_SIZES},
	{"node", "N", "Bind the memory strictly to this NUMA node of the host.", "any node",
		&prop_node, MEMORY_FIELD(node)},
	{"prealloc", NULL, "Touch every page before the guest starts.", "off", &vn_prop_flag,
		MEMORY_FIELD(prealloc)},
	{"lock", NULL,
		"As prealloc, and the pages are never swapped (the limit 'ulimit -l' must allow "
		"it).",
		"off", &vn_prop_flag, MEMORY_FIELD(lock)},
	{"merge", "on|off", "Let KSM merge pages that are equal to others. Not with hugepages.",
		"off", &vn_prop_switch, MEMORY_FIELD(merge)},
	{.name = NULL},
};

static const struct vn_memory_options memory_defaults = {.node = -1};

const struct vn_option vn_memory_option = {.name = "memory",
	.letter = 'm',
	.help = "The guest's memory.",
	.group = "Processors and memory",
	.props = memory_props,
	.size = sizeof(struct vn_memory_options),
	.defaults = &memory_defaults};

static const struct vn_prop cell_props[] = {
	{"cell", "N", "The cell's number. Cells are numbered from 0 without gaps.", NULL,
		&vn_prop_number, CELL_FIELD(number), .max = VN_CELLS_MAX - 1,
		.flags = VN_PROP_REQUIRED},
	{"cpus", "LIST", "The vCPUs of the cell.", NULL, &vn_prop_guest_cpus, CELL_FIELD(cpus),
		.flags = VN_PROP_REQUIRED},
	{"memory", "SIZE", "Size of the cell's memory.", NULL, &vn_prop_size, CELL_FIELD(size),
		.min = SIZE_MIN, .flags = VN_PROP_REQUIRED},
	{"node", "N", "Bind the cell's memory strictly to this NUMA node of the host.",
		"as --memory says", &prop_node, CELL_FIELD(node)},
	{"hugepages", "2M|1G", "Pages of this size, as for --memory.", "as --memory says",
		&vn_prop_size, CELL_FIELD(hugepage_size), .words = PAGE_SIZES},
	{.name = NULL},
};

static const struct vn_cell_options cell_defaults = {.node = -1};

const struct vn_option vn_cell_option = {.name = "numa",
	.many = true,
	.lists = true,
	.help = "A NUMA cell of the guest. Every vCPU is in exactly one cell, and the cells' memory "
		"together is the guest's. A guest without --numa sees no cells.",
	.group = "Processors and memory",
	.props = cell_props,
	.size = sizeof(struct vn_cell_options),
	.defaults = &cell_defaults};
