// SPDX-License-Identifier: Apache-2.0
//
// Copying what a program of another version gave, and refusing what no device could be made from.
#include "vmm/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/error.h"

// More queues than CPUs are of no use, and more than these are rarely worth their threads.
#define DISK_QUEUES_DEFAULT 4

// An array that a program gives.
struct given {
	const char *what;
	const void *array;
	size_t count;
	size_t element; // bytes, as the program knows it
};

static int copy_array(
	void **copy, const struct given *given, size_t element, struct veneer_error *error)
{
	*copy = NULL;
	if (given->count == 0)
		return 0;
	if (given->element < sizeof(void *) || given->element > element)
		return vn_fail(error, -EINVAL,
			"the description of a %s has %zu bytes, this library knows %zu: the "
			"program was built for another version",
			given->what, given->element, element);
	char *to = calloc(given->count, element);
	if (!to)
		return vn_fail(
			error, -ENOMEM, "no memory to describe %zu %ss", given->count, given->what);
	const char *from = given->array;
	for (size_t i = 0; i < given->count; i++)
		memcpy(to + i * element, from + i * given->element, given->element);
	*copy = to;
	return 0;
}

static int judge_disk(const struct veneer_disk *disk, size_t index, struct veneer_error *error)
{
	if (!disk->path)
		return vn_fail(error, -EINVAL, "disk %zu has no path", index);
	if ((unsigned)disk->cache > VENEER_CACHE_UNSAFE)
		return vn_fail(error, -EINVAL, "disk %s: unknown cache mode %u", disk->path,
			(unsigned)disk->cache);
	if (disk->queues > VENEER_QUEUES_MAX)
		return vn_fail(error, -EINVAL, "disk %s: %u queues: must be 1 to %d", disk->path,
			disk->queues, VENEER_QUEUES_MAX);
	if (disk->poll_us > VENEER_POLL_MAX && disk->poll_us != VENEER_POLL_OFF)
		return vn_fail(error, -EINVAL, "disk %s: polling for %u us: must be 1 to %d",
			disk->path, disk->poll_us, VENEER_POLL_MAX);
	return 0;
}

int vn_config_disks(
	struct veneer_disk **disks, const struct veneer_config *config, struct veneer_error *error)
{
	struct given given = {"disk", config->disks, config->disk_count, config->disk_struct_size};
	void *copy;
	int code = copy_array(&copy, &given, sizeof(**disks), error);
	*disks = copy;
	for (size_t i = 0; code == 0 && i < config->disk_count; i++) {
		struct veneer_disk *disk = &(*disks)[i];
		code = judge_disk(disk, i, error);
		if (disk->queues == 0)
			disk->queues = config->cpus < DISK_QUEUES_DEFAULT ? config->cpus
									  : DISK_QUEUES_DEFAULT;
	}
	if (code < 0) {
		free(copy);
		*disks = NULL;
	}
	return code;
}

static int judge_net(const struct veneer_net *net, size_t index, struct veneer_error *error)
{
	if ((unsigned)net->backend > VENEER_NET_USER)
		return vn_fail(error, -EINVAL, "network %zu: unknown kind %u", index,
			(unsigned)net->backend);
	if (net->backend == VENEER_NET_TAP && !net->tap)
		return vn_fail(error, -EINVAL, "network %zu: no TAP interface is named", index);
	if (net->queues > VENEER_QUEUES_MAX)
		return vn_fail(error, -EINVAL, "network %zu: %u queues: must be 1 to %d", index,
			net->queues, VENEER_QUEUES_MAX);
	return 0;
}

int vn_config_nets(
	struct veneer_net **nets, const struct veneer_config *config, struct veneer_error *error)
{
	struct given given = {"network", config->nets, config->net_count, config->net_struct_size};
	void *copy;
	int code = copy_array(&copy, &given, sizeof(**nets), error);
	*nets = copy;
	for (size_t i = 0; code == 0 && i < config->net_count; i++)
		code = judge_net(&(*nets)[i], i, error);
	if (code < 0) {
		free(copy);
		*nets = NULL;
	}
	return code;
}
