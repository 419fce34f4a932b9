// SPDX-License-Identifier: Apache-2.0
//
// cgroups(7): /proc/thread-self/cgroup says which cgroup a thread is in, in each hierarchy, and
// /proc/self/mountinfo where these can be seen, which in a container may be a part of them.
#include "host/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysfs.h"

// Version 1 has no word for "none", but a number that no host reaches.
#define UNLIMITED ((int64_t)1 << 62)

// Whether `word` is in a list with commas.
static bool lists(const char *list, const char *word)
{
	size_t length = strlen(word);
	for (; list; list = strchr(list, ',')) {
		list += *list == ',';
		if (strncmp(list, word, length) == 0 && (!list[length] || list[length] == ','))
			return true;
	}
	return false;
}

static FILE *open_proc(const char *root, const char *name)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/proc/%s", root, name);
	return fopen(path, "re");
}

// The thread's cgroup, as a path within its hierarchy. Each line is `NUMBER:CONTROLLERS:PATH`, and
// that of version 2, which has the controllers that no other has, is `0::PATH`.
static bool find_path(
	char path[static PATH_MAX], bool *v1, const char *root, const char *controller)
{
	FILE *file = open_proc(root, "thread-self/cgroup");
	char *line = NULL;
	size_t size = 0;
	bool found = false;
	*v1 = false;
	while (file && !*v1 && getline(&line, &size, file) > 0) {
		char *controllers = strchr(line, ':');
		char *at = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!at)
			continue;
		*at++ = '\0';
		*v1 = lists(controllers + 1, controller);
		if (!*v1 && controllers[1])
			continue;
		at[strcspn(at, "\n")] = '\0';
		found = snprintf(path, PATH_MAX, "%s", at) < PATH_MAX;
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

// What follows the directory `from` in `path`, or NULL where that is elsewhere.
static const char *path_below(const char *path, const char *from)
{
	size_t length = strcmp(from, "/") == 0 ? 0 : strlen(from);
	if (strncmp(path, from, length) != 0 || (path[length] && path[length] != '/') ||
		strncmp(path + length, "/..", 3) == 0)
		return NULL;
	return strcmp(path + length, "/") == 0 ? "" : path + length;
}

// One line of mountinfo: `... ROOT MOUNT-POINT OPTIONS ... - TYPE SOURCE
// OPTIONS-OF-THE-FILE-SYSTEM`.
static bool is_seen_at(
	struct vn_cgroup *cgroup, const char *line, const char *path, const char *controller)
{
	char from[PATH_MAX], point[PATH_MAX], type[16], options[256];
	const char *rest = strstr(line, " - ");
	_Static_assert(PATH_MAX == 4096, "the widths below");
	if (!rest || sscanf(rest, " - %15s %*s %255s", type, options) != 2 ||
		strcmp(type, cgroup->v1 ? "cgroup" : "cgroup2") != 0 ||
		(cgroup->v1 && !lists(options, controller)) ||
		sscanf(line, "%*s %*s %*s %4095s %4095s", from, point) != 2)
		return false;
	const char *below = path_below(path, from);
	if (!below || strlen(point) + strlen(below) >= sizeof(cgroup->directory))
		return false;
	cgroup->top = strlen(point);
	snprintf(cgroup->directory, sizeof(cgroup->directory), "%s%s", point, below);
	return true;
}

bool vn_cgroup_find(struct vn_cgroup *cgroup, const char *root, const char *controller)
{
	char path[PATH_MAX];
	cgroup->directory[0] = '\0';
	if (!find_path(path, &cgroup->v1, root, controller))
		return false;
	FILE *file = open_proc(root, "self/mountinfo");
	char *line = NULL;
	size_t size = 0;
	bool found = false;
	while (file && !found && getline(&line, &size, file) > 0)
		found = is_seen_at(cgroup, line, path, controller);
	free(line);
	if (file)
		fclose(file);
	return found;
}

bool vn_cgroup_up(struct vn_cgroup *cgroup)
{
	char *slash = strrchr(cgroup->directory, '/');
	if (!slash || slash < cgroup->directory + cgroup->top)
		return false;
	*slash = '\0';
	return true;
}

// What the kernel would drop before it refuses memory: the contents of files, and its own caches.
static uint64_t reclaimable(const struct vn_cgroup *cgroup, const char *root)
{
	static const char *const v1[] = {"total_active_file", "total_inactive_file", NULL};
	static const char *const v2[] = {"active_file", "inactive_file", "slab_reclaimable", NULL};
	uint64_t bytes = 0;
	vn_sysfs_sum(root, &bytes, cgroup->v1 ? v1 : v2, "%s/memory.stat", cgroup->directory);
	return bytes;
}

bool vn_cgroup_limit(const struct vn_cgroup *cgroup, const char *root, const char *resource,
	struct vn_cgroup_limit *limit)
{
	int64_t most, used = 0;
	if (!cgroup->directory[0] ||
		snprintf(limit->path, sizeof(limit->path), "%s/%s.%s", cgroup->directory, resource,
			cgroup->v1 ? "limit_in_bytes" : "max") >= (int)sizeof(limit->path) ||
		vn_sysfs_number(root, &most, "%s", limit->path) < 0 || most < 0 ||
		most >= UNLIMITED)
		return false;
	vn_sysfs_number(root, &used, "%s/%s.%s", cgroup->directory, resource,
		cgroup->v1 ? "usage_in_bytes" : "current");
	limit->limit = (uint64_t)most;
	limit->used = (uint64_t)used;
	if (strcmp(resource, "memory") == 0) {
		uint64_t caches = reclaimable(cgroup, root);
		limit->used -= caches < limit->used ? caches : limit->used;
	}
	return true;
}
