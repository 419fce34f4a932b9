// SPDX-License-Identifier: Apache-2.0
//
// The options that have sub-options, a function each: from the argument into `options`, or the line
// that says what is wrong with it.
#ifndef VN_OPTIONS_PARTS_H
#define VN_OPTIONS_PARTS_H

#include "cli/options.h"

int parse_cpus(struct options *options, const char *argument, struct veneer_error *error);
int parse_cpu(struct options *options, const char *argument, struct veneer_error *error);
int parse_memory(struct options *options, const char *argument, struct veneer_error *error);
int parse_numa(struct options *options, const char *argument, struct veneer_error *error);
int parse_disk(struct options *options, const char *argument, struct veneer_error *error);
int parse_net(struct options *options, const char *argument, struct veneer_error *error);

// Once all options are known: whether the cells of --numa make a machine.
int judge_cells(struct options *options, struct veneer_error *error);

// A list of host CPUs that is not empty, of what `name` says.
int parse_host_cpus(
	struct veneer_cpuset *cpus, const char *name, const char *list, struct veneer_error *error);

// What a network owns.
void free_net(const struct veneer_net *net);

#endif
