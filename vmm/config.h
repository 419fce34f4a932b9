// SPDX-License-Identifier: Apache-2.0
//
// `struct veneer_config` and its arrays as this library knows them. A program that was built with
// an older header has shorter structures in them, `..._struct_size` bytes apart.
#ifndef VN_CONFIG_H
#define VN_CONFIG_H

#include "veneer.h"

// The configuration itself: what the program does not know has its default. -EINVAL.
int vn_config_read(struct veneer_config *config, const struct veneer_config *given,
	struct veneer_error *error);

// Copies, the caller's to free; strings stay where they are. What the program does not know is
// zero, which is the default everywhere; the number of a disk's queues is made definite from
// config->cpus, and a network's MAC address from config->identity. NULL when there is none.
// -EINVAL: sizes, enumerations or numbers that this library does not know.
int vn_config_disks(
	struct veneer_disk **disks, const struct veneer_config *config, struct veneer_error *error);
int vn_config_nets(
	struct veneer_net **nets, const struct veneer_config *config, struct veneer_error *error);

// Likewise the NUMA cells, whose pages and nodes are made definite from config->memory. Without any
// there is one: all CPUs, and memory as config->memory says. -EINVAL also for CPUs that are in no
// cell or in two.
int vn_config_cells(struct veneer_cell **cells, size_t *count, const struct veneer_config *config,
	struct veneer_error *error);

// The placement, all of it empty where none is given. -EINVAL as above.
int vn_config_placement(struct veneer_placement *placement, const struct veneer_config *config,
	struct veneer_error *error);

#endif
