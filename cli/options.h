// SPDX-License-Identifier: Apache-2.0
//
// The command line's meaning: words in, a plain structure out, or one line that says which word is
// wrong and what it could have been. Reads a file only to say what CPUs the host has, and prints
// nothing.
#ifndef VN_OPTIONS_H
#define VN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/stats_client.h"
#include "veneer.h"

enum action {
	ACTION_USAGE, // veneer
	ACTION_HELP, // veneer help, or --help
	ACTION_VERSION, // veneer version, or --version
	ACTION_RUN_HELP, // veneer run --help, or help run; the others likewise
	ACTION_RUN,
	ACTION_DOCTOR_HELP, // veneer doctor --help
	ACTION_DOCTOR,
	ACTION_CPU_MODELS, // veneer run --cpu ?
	ACTION_STATS_HELP, // veneer stats --help
	ACTION_STATS,
	ACTION_LIST_HELP, // veneer list --help
	ACTION_LIST, // veneer list, or veneer stats without a guest
};

enum serial_mode { SERIAL_STDIO, SERIAL_NONE, SERIAL_FILE, SERIAL_PTY };

// Filled by options_parse(). Plain strings point into argv; disks and nets are owned, with
// their strings, and `cpu` is.
struct options {
	enum action action;
	const char *kernel; // NULL: the guest that is built in
	const char *initrd;
	const char *cmdline;
	unsigned cpus;
	struct veneer_topology topology;
	bool pit;
	struct veneer_placement placement;
	bool pin_auto; // the vCPUs' part of it, and what else of it is empty, is to be chosen
	enum veneer_idle idle;
	int64_t halt_poll_ns; // -1: the host's
	char *cpu; // its model and features; NULL: the host's
	unsigned tsc_khz; // 0: the host's
	struct veneer_memory memory; // its size is the cells' together where there are any
	bool memory_given;
	struct veneer_cell cells[VENEER_CELLS_MAX];
	unsigned cell_count;
	unsigned cells_given; // bit i: cell i
	struct veneer_disk *disks;
	size_t disk_count;
	struct veneer_net *nets;
	size_t net_count;
	bool rng; // unless given: whether a kernel is named
	bool rng_given;
	enum veneer_transport transport;
	enum serial_mode serial;
	const char *serial_path; // SERIAL_FILE
	uint64_t timeout_ns; // 0: none
	const char *dump_dtb; // NULL: run; "-": standard output
	bool reboot; // a reset starts the guest again
	bool dry_run; // say what would run where, and do not run
	bool json; // doctor: for programs
	struct veneer_cpuset host_cpus; // doctor: those meant for vCPUs; empty: not named
	const char *name; // NULL: the process ID
	bool stats; // print statistics at the end
	enum stats_format stats_format; // text or JSON
	struct stats_query query; // ACTION_STATS
};

// 0, or -EINVAL or -ENOMEM with the line. options_free() after either. Not reentrant: getopt(3).
int options_parse(
	struct options *options, int argc, char *const argv[], struct veneer_error *error);

void options_free(struct options *options);

#endif
