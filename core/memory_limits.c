// SPDX-License-Identifier: Apache-2.0
//
// Comparing what cells need with what each limit leaves. Advice is always what there is and what is
// missing, together: it never lowers a limit or a reserve.
#include "core/memory_limits.h"

#include <errno.h>
#include <inttypes.h>
#include <numaif.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cpuset.h"
#include "base/macros.h"
#include "base/sysfs.h"
#include "host/cgroup.h"

#define ANYHOW (-1) // not a node, but the host

// numaif.h has the modes, and their flags in part.
#define POLICY_MODE(policy) ((policy) & ((1 << 13) - 1))

static const char NODES[] = "/sys/devices/system/node";

void vn_memory_reach_find(struct vn_memory_reach *reach, const struct vn_memory *memory)
{
	int policy;
	*reach = (struct vn_memory_reach){.root = ""};
	unsigned long *mems = (unsigned long *)reach->mems.bits;
	unsigned long *bound = (unsigned long *)reach->bound.bits;
	if (get_mempolicy(NULL, mems, VN_HOST_CPUS_MAX, NULL, MPOL_F_MEMS_ALLOWED) < 0 ||
		get_mempolicy(&policy, bound, VN_HOST_CPUS_MAX, NULL, 0) < 0 ||
		POLICY_MODE(policy) != MPOL_BIND)
		reach->bound = (struct vn_cpuset){.bits = {0}};
	for (unsigned i = 0; i < memory->cell_count; i++)
		if (memory->cells[i].page_size >= 2 * MIB) {
			vn_cgroup_find(&reach->hugetlb, reach->root, "hugetlb");
			return;
		}
}

// The nodes that may be used, and whether there are others with memory.
static bool is_narrow(const struct vn_memory_reach *reach, struct vn_cpuset *allowed)
{
	char text[4096];
	struct vn_cpuset others;
	struct veneer_error error;
	*allowed = reach->mems;
	if (!vn_cpuset_is_empty(&reach->bound))
		vn_cpuset_and(allowed, &reach->bound);
	vn_sysfs_line(reach->root, text, sizeof(text), "%s/has_memory", NODES);
	if (vn_cpuset_is_empty(allowed) || vn_cpuset_parse(&others, text, &error) < 0)
		return false;
	vn_cpuset_subtract(&others, allowed);
	return !vn_cpuset_is_empty(&others);
}

// The file of the cpuset that allows no more nodes than this thread has: in version 2 a cgroup
// without nodes of its own has those above it, in version 1 a copy of them.
static bool find_cpuset_file(char path[static PATH_MAX], const char *root)
{
	struct vn_cgroup cgroup;
	char first[256] = "", text[256];
	bool more = vn_cgroup_find(&cgroup, root, "cpuset");
	for (; more; more = vn_cgroup_up(&cgroup)) {
		vn_sysfs_line(root, text, sizeof(text), "%s/cpuset.mems", cgroup.directory);
		if (!text[0])
			continue;
		if (first[0] && strcmp(first, text) != 0)
			break;
		memcpy(first, text, sizeof(first));
		snprintf(path, PATH_MAX, "%s", cgroup.directory);
	}
	return first[0] != '\0';
}

void vn_memory_reach_name(
	char text[static 256], const struct vn_memory_reach *reach, const struct vn_cpuset *allowed)
{
	char directory[PATH_MAX], nodes[32];
	struct vn_cpuset unbound = reach->mems;
	vn_cpuset_subtract(&unbound, allowed);
	vn_cpuset_format(allowed, nodes, sizeof(nodes));
	if (!vn_cpuset_is_empty(&unbound))
		snprintf(text, 256, "the memory policy (numactl --membind) allows node %s", nodes);
	else if (find_cpuset_file(directory, reach->root))
		snprintf(text, 256, "%.190s/cpuset.mems allows node %s", directory, nodes);
	else
		snprintf(text, 256, "the cpuset (cpuset.mems) allows node %s", nodes);
}

// What the cells with pages of this size need: those on `nodes` or on none, or all.
static uint64_t needed(
	const struct vn_memory *memory, uint64_t page_size, const struct vn_cpuset *nodes)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < memory->cell_count; i++) {
		const struct vn_memory_cell *cell = &memory->cells[i];
		if (cell->page_size == page_size &&
			(cell->node < 0 || !nodes || vn_cpuset_has(nodes, (unsigned)cell->node)))
			bytes += cell->size;
	}
	return bytes;
}

static uint64_t needed_on(const struct vn_memory *memory, uint64_t page_size, int node)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < memory->cell_count; i++)
		if (memory->cells[i].page_size == page_size && memory->cells[i].node == node)
			bytes += memory->cells[i].size;
	return bytes;
}

static const char *unit(uint64_t page_size)
{
	return page_size == GIB ? "1G" : "2M";
}

// Where the kernel counts huge pages: for the whole host, or for one node.
static void pool_path(char path[static 160], uint64_t page_size, int node, const char *name)
{
	uint64_t kib = page_size / 1024;
	if (node < 0)
		snprintf(path, 160, "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s", kib,
			name);
	else
		snprintf(path, 160, "%s/node%d/hugepages/hugepages-%" PRIu64 "kB/%s", NODES, node,
			kib, name);
}

// 0 where there is no such file.
static int64_t pool_number(const char *root, uint64_t page_size, int node, const char *name)
{
	char path[160];
	int64_t number = 0;
	pool_path(path, page_size, node, name);
	vn_sysfs_number(root, &number, "%s", path);
	return number;
}

// How many pages the kernel adds to the reserve when they are asked for, as far as it finds memory.
static int64_t growth(const struct vn_memory_reach *reach, uint64_t page_size)
{
	if (reach->fixed)
		return 0;
	int64_t pages = pool_number(reach->root, page_size, ANYHOW, "nr_overcommit_hugepages") -
			pool_number(reach->root, page_size, ANYHOW, "surplus_hugepages");
	return pages > 0 ? pages : 0;
}

// Pages that nobody has and nobody has been promised. Promises are counted for the whole host only.
static int64_t free_pages(const struct vn_memory_reach *reach, uint64_t page_size, int node)
{
	int64_t pages = pool_number(reach->root, page_size, node, "free_hugepages");
	if (node < 0)
		pages -= pool_number(reach->root, page_size, node, "resv_hugepages");
	pages += growth(reach, page_size);
	return pages > 0 ? pages : 0;
}

// A node's pages, or the host's.
static int check_pool(uint64_t bytes, uint64_t page_size, int node,
	const struct vn_memory_reach *reach, struct veneer_error *error)
{
	char path[160], where[32] = "";
	int64_t wanted = (int64_t)(bytes / page_size), total;
	int64_t available = free_pages(reach, page_size, node);
	if (wanted == 0 || available >= wanted)
		return 0;
	pool_path(path, page_size, node, "nr_hugepages");
	if (node >= 0)
		snprintf(where, sizeof(where), " on node %d", node);
	if (vn_sysfs_number(reach->root, &total, "%s", path) < 0)
		return vn_fail(error, -ENOMEM, "hugepages=%s: this host has no such pages%s",
			unit(page_size), where);
	return vn_fail(error, -ENOMEM,
		"hugepages=%s: %" PRId64 " pages needed, %" PRId64 " free%s, %" PRId64
		" missing; reserve them: echo %" PRId64 " > %s",
		unit(page_size), wanted, available, where, wanted - available,
		total + wanted - available, path);
}

// The nodes that this thread may use, where there are others.
static int check_allowed_pools(const struct vn_memory *memory, uint64_t page_size,
	const struct vn_memory_reach *reach, struct veneer_error *error)
{
	struct vn_cpuset allowed;
	char path[160], why[256];
	if (needed_on(memory, page_size, ANYHOW) == 0 || !is_narrow(reach, &allowed))
		return 0;
	int64_t wanted = (int64_t)(needed(memory, page_size, &allowed) / page_size);
	int64_t available = growth(reach, page_size);
	vn_cpuset_for_each(node, &allowed)
	{
		available += pool_number(reach->root, page_size, (int)node, "free_hugepages");
	}
	if (available >= wanted)
		return 0;
	int first = (int)vn_cpuset_next(&allowed, 0);
	int64_t total = pool_number(reach->root, page_size, first, "nr_hugepages");
	pool_path(path, page_size, first, "nr_hugepages");
	vn_memory_reach_name(why, reach, &allowed);
	return vn_fail(error, -ENOMEM,
		"hugepages=%s: %" PRId64 " pages needed, %s, where %" PRId64 " are free, %" PRId64
		" missing; allow more nodes, or reserve them there: echo %" PRId64 " > %s",
		unit(page_size), wanted, why, available, wanted - available,
		total + wanted - available, path);
}

static uint64_t room(const struct vn_cgroup_limit *limit)
{
	return limit->used < limit->limit ? limit->limit - limit->used : 0;
}

static uint64_t whole(const struct vn_cgroup_limit *limit)
{
	return limit->limit;
}

// Of the cgroup's limits and those above it, the one that leaves the least, by `measure`. False:
// there is none.
static bool find_least(struct vn_cgroup_limit *least, const struct vn_cgroup *from,
	const char *root, const char *resource,
	uint64_t (*measure)(const struct vn_cgroup_limit *limit))
{
	struct vn_cgroup cgroup = *from;
	struct vn_cgroup_limit limit;
	bool found = false;
	do {
		if (!vn_cgroup_limit(&cgroup, root, resource, &limit) ||
			(found && measure(&limit) >= measure(least)))
			continue;
		*least = limit;
		found = true;
	} while (vn_cgroup_up(&cgroup));
	return found;
}

// `hugetlb.2MB`, as their files begin.
static const char *hugetlb(uint64_t page_size)
{
	return page_size == GIB ? "hugetlb.1GB" : "hugetlb.2MB";
}

static const char *hugetlb_reserved(uint64_t page_size)
{
	return page_size == GIB ? "hugetlb.1GB.rsvd" : "hugetlb.2MB.rsvd";
}

static int check_hugetlb(const char *resource, uint64_t bytes, uint64_t page_size,
	const struct vn_memory_reach *reach, struct veneer_error *error)
{
	struct vn_cgroup_limit limit;
	if (!find_least(&limit, &reach->hugetlb, reach->root, resource, room) ||
		room(&limit) >= bytes)
		return 0;
	uint64_t wanted = bytes / page_size, left = room(&limit) / page_size;
	return vn_fail(error, -ENOMEM,
		"hugepages=%s: %" PRIu64 " pages needed, the cgroup's limit of %" PRIu64
		" bytes leaves %" PRIu64 ", %" PRIu64 " missing; raise it: echo %" PRIu64 " > %s",
		unit(page_size), wanted, limit.limit, left, wanted - left, limit.used + bytes,
		limit.path);
}

static int check_huge(const struct vn_memory *memory, uint64_t page_size,
	const struct vn_memory_reach *reach, struct veneer_error *error)
{
	uint64_t bytes = needed(memory, page_size, NULL);
	if (bytes == 0)
		return 0;
	int code = 0;
	for (unsigned i = 0; code == 0 && i < memory->cell_count; i++) {
		int node = memory->cells[i].node;
		if (node >= 0)
			code = check_pool(
				needed_on(memory, page_size, node), page_size, node, reach, error);
	}
	if (code == 0)
		code = check_pool(bytes, page_size, ANYHOW, reach, error);
	if (code == 0)
		code = check_allowed_pools(memory, page_size, reach, error);
	if (code == 0)
		code = check_hugetlb(hugetlb_reserved(page_size), bytes, page_size, reach, error);
	if (code == 0)
		code = check_hugetlb(hugetlb(page_size), bytes, page_size, reach, error);
	return code;
}

// What a node, or the whole host, can give without swapping: free pages and clean caches. Without
// such a file, all that is asked for.
static uint64_t available(const char *root, int node)
{
	static const char *const counted[] = {
		"MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:", NULL};
	uint64_t kib;
	int code = node < 0 ? vn_sysfs_sum(root, &kib, counted, "/proc/meminfo")
			    : vn_sysfs_sum(root, &kib, counted, "%s/node%d/meminfo", NODES, node);
	return code < 0 ? UINT64_MAX : kib * 1024;
}

static uint64_t mib_up(uint64_t bytes)
{
	return (bytes + MIB - 1) / MIB;
}

// `where` has the memory: `node 0 has`.
static int fail_ordinary(
	struct veneer_error *error, uint64_t bytes, uint64_t left, const char *where)
{
	return vn_fail(error, -ENOMEM,
		"%" PRIu64 " MiB of guest memory needed, %s %" PRIu64 " MiB available, %" PRIu64
		" MiB missing; "
		"free some (echo 1 > /proc/sys/vm/drop_caches, fewer huge pages) or ask for less",
		bytes / MIB, where, left / MIB, mib_up(bytes - left));
}

static int check_nodes(const struct vn_memory *memory, uint64_t page_size,
	const struct vn_memory_reach *reach, struct veneer_error *error)
{
	char where[32];
	for (unsigned i = 0; i < memory->cell_count; i++) {
		int node = memory->cells[i].node;
		uint64_t bytes = node < 0 ? 0 : needed_on(memory, page_size, node);
		uint64_t left = bytes ? available(reach->root, node) : 0;
		if (left >= bytes)
			continue;
		snprintf(where, sizeof(where), "node %d has", node);
		return fail_ordinary(error, bytes, left, where);
	}
	return 0;
}

static int check_allowed_nodes(const struct vn_memory *memory, uint64_t page_size,
	const struct vn_memory_reach *reach, struct veneer_error *error)
{
	struct vn_cpuset allowed;
	char why[256], where[sizeof(why) + 16];
	if (needed_on(memory, page_size, ANYHOW) == 0 || !is_narrow(reach, &allowed))
		return 0;
	uint64_t bytes = needed(memory, page_size, &allowed), left = 0;
	vn_cpuset_for_each(node, &allowed)
	{
		uint64_t more = available(reach->root, (int)node);
		left = more < UINT64_MAX - left ? left + more : UINT64_MAX;
	}
	if (left >= bytes)
		return 0;
	vn_memory_reach_name(why, reach, &allowed);
	snprintf(where, sizeof(where), "%s, which has", why);
	return fail_ordinary(error, bytes, left, where);
}

static int check_memory_cgroup(
	uint64_t bytes, const struct vn_memory_reach *reach, struct veneer_error *error)
{
	struct vn_cgroup cgroup;
	struct vn_cgroup_limit limit;
	if (!vn_cgroup_find(&cgroup, reach->root, "memory") ||
		!find_least(&limit, &cgroup, reach->root, "memory", room) || room(&limit) >= bytes)
		return 0;
	return vn_fail(error, -ENOMEM,
		"%" PRIu64 " MiB of guest memory needed, the cgroup's limit of %" PRIu64
		" bytes leaves %" PRIu64 " MiB, %" PRIu64 " MiB missing; raise it: echo %" PRIu64
		" > %s",
		bytes / MIB, limit.limit, room(&limit) / MIB, mib_up(bytes - room(&limit)),
		limit.used + bytes, limit.path);
}

// Without `prealloc` and `lock` the host's overcommit policy decides, page by page.
static int check_ordinary(const struct vn_memory *memory, bool all_at_once,
	const struct vn_memory_reach *reach, struct veneer_error *error)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t bytes = needed(memory, page_size, NULL);
	int code = check_nodes(memory, page_size, reach, error);
	if (code < 0 || !all_at_once || bytes == 0)
		return code;
	uint64_t left = available(reach->root, ANYHOW);
	if (left < bytes)
		return fail_ordinary(error, bytes, left, "the host has");
	code = check_allowed_nodes(memory, page_size, reach, error);
	return code == 0 ? check_memory_cgroup(bytes, reach, error) : code;
}

int vn_memory_limits_check(const struct vn_memory *memory, const struct vn_memory_options *options,
	const struct vn_memory_reach *reach, struct veneer_error *error)
{
	int code = check_huge(memory, 2 * MIB, reach, error);
	if (code == 0)
		code = check_huge(memory, GIB, reach, error);
	return code == 0 ? check_ordinary(memory, options->prealloc || options->lock, reach, error)
			 : code;
}

bool vn_memory_limits_bind_late(uint64_t page_size, const struct vn_memory_reach *reach)
{
	struct vn_cpuset allowed;
	struct vn_cgroup_limit limit;
	return page_size >= 2 * MIB &&
	       (is_narrow(reach, &allowed) ||
		       find_least(&limit, &reach->hugetlb, reach->root, hugetlb(page_size), room));
}

void vn_memory_limits_warn(
	const struct vn_memory *memory, const char *root, const struct vn_log *log)
{
	uint64_t bytes = needed(memory, (uint64_t)sysconf(_SC_PAGESIZE), NULL);
	struct vn_cgroup cgroup;
	struct vn_cgroup_limit limit;
	if (bytes == 0 || !vn_cgroup_find(&cgroup, root, "memory") ||
		!find_least(&limit, &cgroup, root, "memory", whole) || limit.limit >= bytes)
		return;
	vn_warn(log,
		"the guest's memory of %" PRIu64 " MiB is more than its cgroup's limit, %" PRIu64
		" bytes: once it uses that much, it is swapped or killed (OOM); "
		"raise the limit: echo %" PRIu64 " > %s",
		bytes / MIB, limit.limit, limit.used + bytes, limit.path);
}

void vn_memory_limits_explain(char *text, size_t size, const struct vn_memory *memory,
	const struct vn_memory_reach *reach)
{
	static const uint64_t sizes[] = {2 * MIB, GIB};
	struct vn_cgroup_limit limit;
	if (size > 0)
		text[0] = '\0';
	for (unsigned i = 0; i < 2; i++) {
		if (needed(memory, sizes[i], NULL) == 0 ||
			!find_least(
				&limit, &reach->hugetlb, reach->root, hugetlb(sizes[i]), room) ||
			room(&limit) >= sizes[i])
			continue;
		snprintf(text, size, ": the limit of %" PRIu64 " bytes in %s is used up",
			limit.limit, limit.path);
		return;
	}
}
