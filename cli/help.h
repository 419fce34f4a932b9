// SPDX-License-Identifier: Apache-2.0
//
// The help texts.
#ifndef VN_HELP_H
#define VN_HELP_H

#include <stdio.h>

#include "cli/options.h"

struct help_section {
	const char *heading; // or NULL
	const char *text;
};

// The texts around a command's options, in lines of 80 columns at most, each with its end; of 78
// where they are indented, as the manual page moves these to the right.
struct help_text {
	const char *intro; // or NULL: the command has no help of its own
	const struct help_section *sections; // after the options, up to one without a text; or NULL
};

struct help_text help_text(enum action action);

// A command and what may follow it, a line.
void help_synopsis(FILE *out, const struct command *command);

// Whether a command has options besides --help.
bool help_has_options(const struct command *command);

// A table of all commands, a line each.
void help_list_commands(FILE *out);

// The help that an action asks for, of ACTION_HELP the one of all commands: the caller's to free.
// NULL: no memory.
char *help_format(enum action action);

#endif
