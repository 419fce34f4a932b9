// SPDX-License-Identifier: Apache-2.0
//
// Tables of the program's own options; a guest's options are the library's.
#ifndef VN_PROGRAM_OPTIONS_H
#define VN_PROGRAM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cpuset.h"
#include "base/prop.h"
#include "cli/stats_client.h"

enum serial_mode { SERIAL_STDIO, SERIAL_NONE, SERIAL_PTY, SERIAL_FILE };

struct serial_options {
	enum serial_mode mode;
	char *path; // SERIAL_FILE; owned
};

struct print_options {
	bool wanted;
	enum stats_format format; // text or JSON
};

// The strings are owned.
struct run_options {
	char *config_file; // the last one that was read
	struct serial_options serial;
	uint64_t timeout_ns; // 0: none
	bool reboot; // a reset starts the guest again
	struct print_options stats; // at the end
	bool dry_run; // say what would run where, and do not run
	char *dump_dtb; // NULL: run; "-": standard output
};

struct doctor_options {
	bool json; // for programs
	struct vn_cpuset cpus; // those meant for vCPUs; empty: not named
};

struct stop_options {
	uint32_t time_s; // from the first press of the power button to the cut; 0: cut at once
};

#define CONFIG_FILE "config-file" // reads more options from a file

// Each property is an option by itself: of `veneer run`, `doctor`, `stats` and `stop`. The values
// of `stats` are a struct stats_query.
extern const struct vn_option run_option, doctor_option, stats_option, stop_option;

// Of a command that has none.
extern const struct vn_option no_option;

#endif
