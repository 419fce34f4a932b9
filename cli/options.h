// SPDX-License-Identifier: Apache-2.0
//
// Parses the command line into an action and its options, or into one line that says which word is
// wrong and what would be right. Prints nothing, and reads no file but those of --config-file and,
// for messages, the list of the host's CPUs.
#ifndef VN_OPTIONS_H
#define VN_OPTIONS_H

#include "cli/program_options.h"
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
	ACTION_PAUSE_HELP, // veneer pause --help; the rest likewise
	ACTION_RESUME_HELP,
	ACTION_RESET_HELP,
	ACTION_STOP_HELP,
	ACTION_WAIT_HELP,
	ACTION_PAUSE,
	ACTION_RESUME,
	ACTION_RESET,
	ACTION_STOP,
	ACTION_WAIT,
};

struct options {
	enum action action;
	struct veneer_config *config; // of `run`; the doctor's has disks only; owned
	struct run_options run;
	struct doctor_options doctor;
	struct stats_query query; // its strings are owned
	struct stop_options stop;
	bool took_stdin; // a --config-file was standard input
	char *guest; // that a command is about: its name or process ID; owned
};

// 0, or -EINVAL or -ENOMEM with the line. options_free() after either. Not reentrant: getopt(3).
int options_parse(
	struct options *options, int argc, char *const argv[], struct veneer_error *error);

void options_free(struct options *options);

// Whether an option or property of the guest's is set.
bool options_has(const struct options *options, const char *name);

// Its value, the caller's to free; NULL: not set, or no memory.
char *options_get(const struct options *options, const char *name);

// An option of the guest's that a command takes in another sense.
struct guest_option {
	const char *name, *argument;
	const char *help; // sentences
};

// A command's options: the library's (all, or those that `guest` names) and the program's own.
struct command_syntax {
	const char *command;
	enum action help;
	bool all; // of a guest's options
	const struct guest_option *guest; // ends with a NULL name; or NULL
	const struct vn_option *own;
	bool names_guest; // takes words that are not options
};

extern const struct command_syntax run_syntax, doctor_syntax, stats_syntax, pause_syntax,
	resume_syntax, reset_syntax, stop_syntax, wait_syntax;

#define OPTIONS_MAX 64 // of a command

// The library's option of this index among those that the command has. False: there is none.
bool options_of_guest(
	const struct command_syntax *syntax, unsigned *index, struct veneer_option *option);

// The sense in which the command takes the guest's option `name`; NULL: the guest's own.
const struct guest_option *options_sense(const struct command_syntax *syntax, const char *name);

// What may follow `veneer`.
struct command {
	const char *name;
	const char *arguments; // what may follow the name besides options, or ""
	const char *summary; // a line of the overview
	enum action action, help; // ACTION_HELP: it has no help of its own
	const struct command_syntax *syntax; // or NULL: it has no options
	int (*parse)(
		struct options *options, int argc, char *const argv[], struct veneer_error *error);
};

extern const struct command command_list[]; // ends with a NULL name

#endif
