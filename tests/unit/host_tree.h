// SPDX-License-Identifier: Apache-2.0
//
// Another machine's /sys and /proc for a test: a text file (tests/unit/hosts) laid out below a
// temporary directory. Each line is a path, a tab and a line of the file's content; a path again
// adds another line. A path that ends in a slash is a directory; content `-> TARGET` makes a
// symbolic link. `{0-3}` and `{0,8}` in a path stand for each of these numbers; they are at most
// two and the same.
#ifndef VN_HOST_TREE_H
#define VN_HOST_TREE_H

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cpuset.h"

static inline void host_tree_fail(const char *what)
{
	perror(what);
	abort();
}

static inline void host_tree_directories(char *path)
{
	for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		mkdir(path, 0777);
		*slash = '/';
	}
}

static inline void host_tree_put(const char *root, const char *path, const char *content)
{
	char full[PATH_MAX];

	if (snprintf(full, sizeof(full), "%s/%s", root, path) >= (int)sizeof(full))
		host_tree_fail(path);
	host_tree_directories(full);
	if (full[strlen(full) - 1] == '/')
		return;
	if (strncmp(content, "-> ", 3) == 0) {
		if (symlink(content + 3, full) < 0)
			host_tree_fail(full);
		return;
	}
	FILE *file = fopen(full, "a");
	if (!file)
		host_tree_fail(full);
	fprintf(file, "%s\n", content);
	fclose(file);
}

// One line for each number in the braces of `path`.
static inline void host_tree_expand(const char *root, char *path, const char *content)
{
	char *open = strchr(path, '{'), *close = open ? strchr(open, '}') : NULL;
	char numbers[64], one[PATH_MAX];
	struct vn_cpuset set;
	struct veneer_error error;

	if (!close) {
		host_tree_put(root, path, content);
		return;
	}
	snprintf(numbers, sizeof(numbers), "%.*s", (int)(close - open - 1), open + 1);
	if (vn_cpuset_parse(&set, numbers, &error) < 0)
		host_tree_fail(numbers);
	vn_cpuset_for_each(number, &set)
	{
		const char *rest = close + 1;
		size_t used = (size_t)snprintf(
			one, sizeof(one), "%.*s%u", (int)(open - path), path, number);
		const char *again = strchr(rest, '{');
		if (again) {
			used += (size_t)snprintf(one + used, sizeof(one) - used, "%.*s%u",
				(int)(again - rest), rest, number);
			rest = strchr(again, '}') + 1;
		}
		snprintf(one + used, sizeof(one) - used, "%s", rest);
		host_tree_put(root, one, content);
	}
}

// A new directory, whose name fills `root`: in memory where it can be, for it gets a thousand
// files.
static inline void host_tree_root(char root[64])
{
	bool shm = access("/dev/shm", W_OK) == 0;

	snprintf(root, 64, "%s/veneer-host-XXXXXX", shm ? "/dev/shm" : "/tmp");
	if (!mkdtemp(root))
		host_tree_fail(root);
}

// Lay out the file `name` below a new directory, whose name fills `root`.
static inline void host_tree_make(char root[64], const char *name)
{
	char line[4096];

	FILE *file = fopen(name, "r");
	if (!file)
		host_tree_fail(name);
	host_tree_root(root);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		char *tab = strchr(line, '\t');
		if (line[0] == '#' || !line[0])
			continue;
		if (tab)
			*tab = '\0';
		host_tree_expand(root, line, tab ? tab + 1 : "");
	}
	fclose(file);
}

static inline void host_tree_remove(const char *root)
{
	pid_t pid = fork();

	if (pid == 0) {
		execlp("rm", "rm", "-rf", root, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

#endif
