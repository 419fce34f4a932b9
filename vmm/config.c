// SPDX-License-Identifier: Apache-2.0
//
// Copying what a program of another version gave, and refusing what no device could be made from.
#include "vmm/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuset.h"
#include "base/error.h"
#include "devices/net/mac.h"

// More queues than CPUs are of no use, and more than these are rarely worth their threads.
#define DISK_QUEUES_DEFAULT 4

// Below that, a request could take the bucket years to pay for.
#define BPS_MIN 1024

int vn_config_read(
	struct veneer_config *config, const struct veneer_config *given, struct veneer_error *error)
{
	if (given->struct_size < sizeof(size_t) || given->struct_size > sizeof(*config))
		return vn_fail(error, -EINVAL,
			"the configuration has %zu bytes, this library knows %zu: "
			"the program was built for another version, "
			"or VENEER_CONFIG_INIT is missing",
			given->struct_size, sizeof(*config));
	*config = (struct veneer_config)VENEER_CONFIG_INIT;
	memcpy(config, given, given->struct_size);
	if (config->cpus < 1 || config->cpus > VENEER_CPUS_MAX)
		return vn_fail(
			error, -EINVAL, "%u CPUs: must be 1 to %d", config->cpus, VENEER_CPUS_MAX);
	return 0;
}

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
			"the description of a %s has %zu bytes, this library knows %zu: "
			"the program was built for another version",
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

// A limit and what may come at once.
struct rate {
	uint64_t rate, burst;
};

static int judge_limits(const char *kind, const char *name, struct rate count, struct rate bytes,
	struct veneer_error *error)
{
	if ((count.burst && !count.rate) || (bytes.burst && !bytes.rate))
		return vn_fail(error, -EINVAL, "%s %s: a burst without a limit", kind, name);
	if (bytes.rate > 0 && bytes.rate < BPS_MIN)
		return vn_fail(error, -EINVAL,
			"%s %s: a limit of %llu bytes a second: must be %d or more", kind, name,
			(unsigned long long)bytes.rate, BPS_MIN);
	return 0;
}

static bool is_block_size(uint64_t size)
{
	return size >= VENEER_BLOCK_SIZE_MIN && size <= VENEER_BLOCK_SIZE_MAX &&
	       (size & (size - 1)) == 0;
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
	if (disk->block_size && !is_block_size(disk->block_size))
		return vn_fail(error, -EINVAL,
			"disk %s: blocks of %llu bytes: must be 512, 1024, 2048 or 4096",
			disk->path, (unsigned long long)disk->block_size);
	if ((unsigned)disk->detect_zeroes > VENEER_DETECT_ZEROES_UNMAP)
		return vn_fail(error, -EINVAL, "disk %s: unknown detect-zeroes mode %u", disk->path,
			(unsigned)disk->detect_zeroes);
	return judge_limits("disk", disk->path, (struct rate){disk->iops, disk->iops_burst},
		(struct rate){disk->bps, disk->bps_burst}, error);
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

static int judge_net_limits(const struct veneer_net *net, size_t index, struct veneer_error *error)
{
	char name[24];
	snprintf(name, sizeof(name), "%zu", index);
	if (net->vhost == VENEER_VHOST_ON && (net->pps || net->bps))
		return vn_fail(error, -EINVAL,
			"network %s: vhost keeps to no limit: "
			"pps and bps need it to be off or auto",
			name);
	return judge_limits("network", name, (struct rate){net->pps, net->pps_burst},
		(struct rate){net->bps, net->bps_burst}, error);
}

static int judge_net(const struct veneer_net *net, size_t index, struct veneer_error *error)
{
	if ((unsigned)net->backend > VENEER_NET_USER)
		return vn_fail(error, -EINVAL, "network %zu: unknown kind %u", index,
			(unsigned)net->backend);
	if (net->backend == VENEER_NET_TAP && !net->tap)
		return vn_fail(error, -EINVAL, "network %zu: no TAP interface is named", index);
	if ((unsigned)net->vhost > VENEER_VHOST_OFF)
		return vn_fail(error, -EINVAL, "network %zu: unknown vhost mode %u", index,
			(unsigned)net->vhost);
	if (net->vhost == VENEER_VHOST_ON && net->backend != VENEER_NET_TAP)
		return vn_fail(error, -EINVAL, "network %zu: vhost needs a TAP interface", index);
	if (net->queues > VENEER_QUEUES_MAX)
		return vn_fail(error, -EINVAL, "network %zu: %u queues: must be 1 to %d", index,
			net->queues, VENEER_QUEUES_MAX);
	return judge_net_limits(net, index, error);
}

// Interfaces' names have no blank, so what stands for one without is no name.
static int choose_mac(struct veneer_net *net, size_t index, const struct veneer_config *config,
	struct veneer_error *error)
{
	static const uint8_t none[6];
	char user[32];
	if (memcmp(net->mac, none, sizeof(none)) != 0)
		return 0;
	if (!config->identity)
		return vn_mac_random(net->mac, error);
	snprintf(user, sizeof(user), "user %zu", index);
	return vn_mac_derive(net->mac, "", config->identity,
		net->backend == VENEER_NET_TAP ? net->tap : user, error);
}

int vn_config_nets(
	struct veneer_net **nets, const struct veneer_config *config, struct veneer_error *error)
{
	struct given given = {"network", config->nets, config->net_count, config->net_struct_size};
	void *copy;
	int code = copy_array(&copy, &given, sizeof(**nets), error);
	*nets = copy;
	for (size_t i = 0; code == 0 && i < config->net_count; i++) {
		code = judge_net(&(*nets)[i], i, error);
		if (code == 0)
			code = choose_mac(&(*nets)[i], i, config, error);
	}
	if (code < 0) {
		free(copy);
		*nets = NULL;
	}
	return code;
}

// Every CPU of the guest in exactly one of the cells, and no others.
static int judge_cpus(const struct veneer_cell *cells, const struct veneer_config *config,
	struct veneer_error *error)
{
	struct veneer_cpuset seen = {.bits = {0}};
	for (size_t i = 0; i < config->cell_count; i++) {
		if (vn_cpuset_count(&cells[i].cpus) == 0)
			return vn_fail(error, -EINVAL, "cell %zu has no CPUs", i);
		vn_cpuset_for_each(cpu, &cells[i].cpus)
		{
			if (cpu >= config->cpus)
				return vn_fail(error, -EINVAL,
					"cell %zu has CPU %u; the guest's last CPU is %u", i, cpu,
					config->cpus - 1);
			if (vn_cpuset_has(&seen, cpu))
				return vn_fail(error, -EINVAL,
					"CPU %u is in cell %zu and in one before it", cpu, i);
			vn_cpuset_add(&seen, cpu);
		}
	}
	for (unsigned cpu = 0; cpu < config->cpus; cpu++)
		if (!vn_cpuset_has(&seen, cpu))
			return vn_fail(error, -EINVAL, "CPU %u is in none of the %zu cells", cpu,
				config->cell_count);
	return 0;
}

static int one_cell(
	struct veneer_cell **cells, const struct veneer_config *config, struct veneer_error *error)
{
	struct veneer_cell *cell = calloc(1, sizeof(*cell));
	if (!cell)
		return vn_fail(error, -ENOMEM, "no memory to describe a cell");
	for (unsigned cpu = 0; cpu < config->cpus; cpu++)
		vn_cpuset_add(&cell->cpus, cpu);
	cell->size = config->memory.size;
	cell->hugepage_size = config->memory.hugepage_size;
	cell->node = config->memory.node;
	*cells = cell;
	return 0;
}

int vn_config_cells(struct veneer_cell **cells, size_t *count, const struct veneer_config *config,
	struct veneer_error *error)
{
	struct given given = {"cell", config->cells, config->cell_count, config->cell_struct_size};
	void *copy;
	*count = 1;
	if (config->cell_count == 0)
		return one_cell(cells, config, error);
	*cells = NULL;
	if (config->cell_count > VENEER_CELLS_MAX)
		return vn_fail(error, -EINVAL, "%zu cells: there are at most %d",
			config->cell_count, VENEER_CELLS_MAX);
	int code = copy_array(&copy, &given, sizeof(**cells), error);
	if (code < 0)
		return code;
	*cells = copy;
	*count = config->cell_count;
	for (size_t i = 0; i < *count; i++) {
		struct veneer_cell *cell = &(*cells)[i];
		if (cell->hugepage_size == 0)
			cell->hugepage_size = config->memory.hugepage_size;
		if (cell->node < 0)
			cell->node = config->memory.node;
	}
	code = judge_cpus(*cells, config, error);
	if (code < 0) {
		free(copy);
		*cells = NULL;
	}
	return code;
}

int vn_config_placement(struct veneer_placement *placement, const struct veneer_config *config,
	struct veneer_error *error)
{
	*placement = (struct veneer_placement){.fifo = 0};
	if (!config->placement)
		return 0;
	struct given given = {"placement", config->placement, 1, config->placement_struct_size};
	void *copy;
	int code = copy_array(&copy, &given, sizeof(*placement), error);
	if (code == 0)
		*placement = *(struct veneer_placement *)copy;
	free(copy);
	return code;
}
