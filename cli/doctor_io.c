// SPDX-License-Identifier: Apache-2.0
//
// What lies between a guest and its disks and networks: io_uring, the host's block layer below
// whatever maps it, vhost, and passing devices through.
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/sysfs.h"
#include "cli/doctor.h"

#define DEPTH_MAX    8 // of device-mapper and MD on one another
#define SHALLOW_MAX  16 // a queue that holds fewer requests holds a guest up
#define SHALLOW_TEXT "16"

static void check_io_uring(struct doctor_report *report, const struct doctor_host *host)
{
	const char *path = "/proc/sys/kernel/io_uring_disabled";
	int code = host->probes->io_uring;
	int64_t disabled = 0;

	(void)vn_sysfs_number(host->root, &disabled, "%s", path);
	if (code == 0) {
		doctor_add(report, "io_uring", DOCTOR_OK, "a ring can be set up");
		return;
	}
	struct doctor_check *check = doctor_add(report, "io_uring", DOCTOR_BAD,
		"io_uring_setup: %s%s", strerror(-code), disabled ? ", disabled by sysctl" : "");
	doctor_cost(check, "no guest runs: vCPUs and disks wait in io_uring");
	if (disabled)
		doctor_remedy(check, "sysctl kernel.io_uring_disabled=0");
	else if (code == -EPERM || code == -EACCES)
		doctor_remedy(check,
			"let io_uring_setup, io_uring_enter "
			"and io_uring_register through the container's seccomp profile");
	else if (code == -ENOMEM)
		doctor_remedy(check, "ulimit -l unlimited");
	else
		doctor_remedy(check, "Linux 6.1 or later with CONFIG_IO_URING");
}

// A disk at the bottom: what has a queue and nothing below it.
struct leaf {
	char name[32];
	char scheduler[32];
	int64_t requests; // that its queue holds
	int64_t depth; // that the device takes, 0: not told
	bool rotational;
	bool told; // already in the report
};

// Those under one path, or of the host. free() the array.
struct leaves {
	struct leaf *leaf;
	size_t count;
};

// 0 or -ENOMEM.
static int add_leaf(struct leaves *leaves, const char *directory)
{
	const char *name = strrchr(directory, '/') + 1;
	int64_t rotational = 0;
	struct leaf leaf = {.requests = 0};

	for (size_t i = 0; i < leaves->count; i++) {
		if (strcmp(leaves->leaf[i].name, name) == 0)
			return 0;
	}
	struct leaf *grown = reallocarray(leaves->leaf, leaves->count + 1, sizeof(leaf));
	if (!grown)
		return -ENOMEM;
	leaves->leaf = grown;
	snprintf(leaf.name, sizeof(leaf.name), "%s", name);
	(void)vn_sysfs_line(directory, leaf.scheduler, sizeof(leaf.scheduler), "/queue/scheduler");
	doctor_chosen(leaf.scheduler);
	(void)vn_sysfs_number(directory, &leaf.requests, "/queue/nr_requests");
	(void)vn_sysfs_number(directory, &leaf.depth, "/device/queue_depth");
	(void)vn_sysfs_number(directory, &rotational, "/queue/rotational");
	leaf.rotational = rotational != 0;
	leaves->leaf[leaves->count++] = leaf;
	return 0;
}

static bool has(const char *directory, const char *name)
{
	char path[PATH_MAX];
	struct stat status;
	int length = snprintf(path, sizeof(path), "%s/%s", directory, name);

	return length < (int)sizeof(path) && stat(path, &status) == 0;
}

// The disks under the block device whose directory in /sys is `path`: a partition's disk, and what
// device-mapper and MD are made of. 0, or a negative errno.
static int descend(struct leaves *leaves, const char *path, unsigned depth)
{
	char directory[PATH_MAX], below[PATH_MAX];
	const struct dirent *entry;
	bool any = false;
	int ret = 0;

	if (depth == DEPTH_MAX)
		return -ELOOP;
	if (!realpath(path, directory))
		return -errno;
	if (has(directory, "partition"))
		*strrchr(directory, '/') = '\0';
	if (snprintf(below, sizeof(below), "%s/slaves", directory) >= (int)sizeof(below))
		return -ENAMETOOLONG;
	DIR *slaves = opendir(below);
	while (slaves && ret == 0 && (entry = readdir(slaves))) {
		if (entry->d_name[0] == '.')
			continue;
		any = true;
		int length =
			snprintf(below, sizeof(below), "%s/slaves/%s", directory, entry->d_name);
		ret = length < (int)sizeof(below) ? descend(leaves, below, depth + 1)
						  : -ENAMETOOLONG;
	}
	if (slaves)
		closedir(slaves);
	return any || ret < 0 ? ret : add_leaf(leaves, directory);
}

static int by_name(const void *left, const void *right)
{
	return strcmp(((const struct leaf *)left)->name, ((const struct leaf *)right)->name);
}

static bool sorted(const struct leaf *leaf)
{
	return !leaf->rotational && leaf->scheduler[0] && strcmp(leaf->scheduler, "none") != 0;
}

// How many requests are with the device at most.
static int64_t reach(const struct leaf *leaf)
{
	return leaf->depth > 0 && leaf->depth < leaf->requests ? leaf->depth : leaf->requests;
}

static bool alike(const struct leaf *left, const struct leaf *right)
{
	return strcmp(left->scheduler, right->scheduler) == 0 &&
	       left->requests == right->requests && left->depth == right->depth &&
	       left->rotational == right->rotational;
}

// The names of all disks that are like the first, which are told with it; whole ones, and "..." for
// those that do not fit.
static void gather(struct leaves *leaves, const struct leaf *first, char *names, size_t size,
	const char *separator)
{
	bool cut = false;

	names[0] = '\0';
	for (size_t i = 0; i < leaves->count; i++) {
		struct leaf *leaf = &leaves->leaf[i];
		if (!alike(leaf, first))
			continue;
		leaf->told = true;
		if (cut)
			continue;
		cut = strlen(names) + strlen(leaf->name) + 2 * strlen(separator) + 4 > size;
		doctor_append(
			names, size, "%s%s", *names ? separator : "", cut ? "..." : leaf->name);
	}
}

static void explain_leaf(struct doctor_check *check, struct leaves *leaves, const struct leaf *leaf)
{
	char names[192];
	bool one;

	gather(leaves, leaf, names, sizeof(names), ",");
	one = !strchr(names, ',');
	if (sorted(leaf)) {
		doctor_cost(check, "every request waits in the host's scheduler, "
				   "which sorts for heads that this disk has not");
		doctor_remedy(check,
			one ? "echo none > /sys/block/%s/queue/scheduler"
			    : "echo none | tee /sys/block/{%s}/queue/scheduler",
			names);
	} else {
		doctor_cost(check, "no more than %lld requests are with the device at once",
			(long long)reach(leaf));
		doctor_remedy(check,
			leaf->depth > 0 && leaf->depth < SHALLOW_MAX
				? "echo " SHALLOW_TEXT " > /sys/block/%s/device/queue_depth"
				: "echo " SHALLOW_TEXT " > /sys/block/%s/queue/nr_requests",
			leaf->name);
	}
}

// One check for each kind of disk. `path` is what they are under, or NULL.
static void report_leaves(struct doctor_report *report, struct leaves *leaves, const char *path)
{
	char names[128];

	if (leaves->count > 0)
		qsort(leaves->leaf, leaves->count, sizeof(leaves->leaf[0]), by_name);
	for (size_t i = 0; i < leaves->count; i++) {
		struct leaf *leaf = &leaves->leaf[i];
		if (leaf->told)
			continue;
		gather(leaves, leaf, names, sizeof(names), ", ");
		if (!leaf->scheduler[0] || leaf->requests <= 0) {
			doctor_add(report, "disk", DOCTOR_UNKNOWN,
				"%s%s%s: cannot read its queue's scheduler and nr_requests",
				path ? path : "", path ? " on " : "", names);
			continue;
		}
		bool wrong = sorted(leaf) || reach(leaf) < SHALLOW_MAX;
		struct doctor_check *check = doctor_add(report, "disk",
			wrong ? DOCTOR_WARN : DOCTOR_OK, "%s%s%s: scheduler %s, %lld requests%s",
			path ? path : "", path ? " on " : "", names, leaf->scheduler,
			(long long)reach(leaf), leaf->rotational ? ", rotating" : "");
		if (wrong)
			explain_leaf(check, leaves, leaf);
	}
}

static void check_path(struct doctor_report *report, const struct doctor_host *host,
	const struct doctor_disk *disk, struct leaves *leaves)
{
	char path[PATH_MAX], file[256];

	if (disk->code < 0) {
		doctor_unread(report, "disk", disk->code, disk->path);
		return;
	}
	snprintf(path, sizeof(path), "%s/sys/dev/block/%u:%u", host->root, major(disk->device),
		minor(disk->device));
	if (vn_sysfs_line(path, file, sizeof(file), "/loop/backing_file") == 0) {
		doctor_add(report, "disk", DOCTOR_UNKNOWN,
			"%s is the file %s by a loop device: ask for that with --disk", disk->path,
			file);
		return;
	}
	int ret = descend(leaves, path, 0);
	if (ret == -ENOMEM)
		report->incomplete = true;
	else if (ret == -ENOENT && major(disk->device) == 0)
		doctor_add(report, "disk", DOCTOR_UNKNOWN,
			"%s: its file system has no block device of its own "
			"(such as btrfs, overlayfs, tmpfs, NFS); name the device",
			disk->path);
	else if (ret < 0)
		doctor_add(report, "disk", DOCTOR_UNKNOWN, "%s: cannot follow %s: %s", disk->path,
			path + strlen(host->root), strerror(-ret));
	else
		report_leaves(report, leaves, disk->path);
}

// Fixed disks with hardware behind them; what is mapped onto these, as by LVM, has none itself.
static bool is_disk(const char *directory)
{
	int64_t removable = 0, hidden = 0, size = 0;

	(void)vn_sysfs_number(directory, &removable, "/removable");
	(void)vn_sysfs_number(directory, &hidden, "/hidden");
	(void)vn_sysfs_number(directory, &size, "/size");
	return has(directory, "device") && !removable && !hidden && size > 0;
}

static void check_all_disks(
	struct doctor_report *report, const struct doctor_host *host, struct leaves *leaves)
{
	char path[PATH_MAX];
	const struct dirent *entry;

	snprintf(path, sizeof(path), "%s/sys/block", host->root);
	DIR *directory = opendir(path);
	if (!directory) {
		doctor_unread(report, "disk", -errno, "/sys/block");
		return;
	}
	while ((entry = readdir(directory))) {
		int length =
			snprintf(path, sizeof(path), "%s/sys/block/%s", host->root, entry->d_name);
		if (entry->d_name[0] != '.' && length < (int)sizeof(path) && is_disk(path) &&
			add_leaf(leaves, path) < 0)
			report->incomplete = true;
	}
	closedir(directory);
	report_leaves(report, leaves, NULL);
	if (leaves->count == 0)
		doctor_add(report, "disk", DOCTOR_UNKNOWN, "/sys/block has no disk");
}

static void check_disks(struct doctor_report *report, const struct doctor_host *host)
{
	struct leaves leaves = {.count = 0};

	for (size_t i = 0; i < host->disk_count; i++) {
		leaves.count = 0;
		check_path(report, host, &host->disks[i], &leaves);
	}
	if (host->disk_count == 0)
		check_all_disks(report, host, &leaves);
	free(leaves.leaf);
}

static void check_vhost_net(struct doctor_report *report, const struct doctor_host *host)
{
	int code = host->probes->vhost_net;

	if (code == 0) {
		doctor_add(report, "vhost-net", DOCTOR_OK, "/dev/vhost-net can be used");
		return;
	}
	struct doctor_check *check =
		doctor_add(report, "vhost-net", DOCTOR_WARN, "/dev/vhost-net: %s", strerror(-code));
	doctor_cost(check, "packets between guest and TAP go through user space");
	doctor_remedy(check, "%s",
		code == -EACCES ? "usermod -aG kvm USER, or the group that /dev/vhost-net has"
				: "modprobe vhost_net");
}

// How many there are, or a negative errno.
static int count_iommu_groups(const struct doctor_host *host)
{
	char path[PATH_MAX];
	const struct dirent *entry;
	int count = 0;

	snprintf(path, sizeof(path), "%s/sys/kernel/iommu_groups", host->root);
	DIR *directory = opendir(path);
	if (!directory)
		return -errno;
	while ((entry = readdir(directory)))
		count += entry->d_name[0] != '.';
	closedir(directory);
	return count;
}

// Veneer passes no device through yet.
static void check_vfio(struct doctor_report *report, const struct doctor_host *host)
{
	int code = host->probes->vfio;
	int groups = count_iommu_groups(host);

	if (groups == -ENOENT && doctor_exists(host, "/sys/kernel"))
		groups = 0; // a kernel without CONFIG_IOMMU_API
	if (groups < 0) {
		doctor_unread(report, "vfio", groups, "/sys/kernel/iommu_groups");
		return;
	}
	if (groups > 0 && code == 0) {
		doctor_add(report, "vfio", DOCTOR_OK, "%d IOMMU groups", groups);
		return;
	}
	if (groups == 0)
		doctor_add(report, "vfio", DOCTOR_INFO, "no IOMMU group");
	else
		doctor_add(report, "vfio", DOCTOR_INFO, "%d IOMMU groups, /dev/vfio/vfio: %s",
			groups, strerror(-code));
}

void doctor_check_io(struct doctor_report *report, const struct doctor_host *host)
{
	check_io_uring(report, host);
	check_disks(report, host);
	check_vhost_net(report, host);
	check_vfio(report, host);
}
