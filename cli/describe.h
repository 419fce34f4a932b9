// SPDX-License-Identifier: Apache-2.0
//
// The options, written out from their tables: none of what is made here has a list of its own.
#ifndef VN_DESCRIBE_H
#define VN_DESCRIBE_H

#include <stdio.h>

#include "cli/options.h"

// A command's options: as a part of its help, of the manual page veneer(1), of docs/options.md.
void describe_options(FILE *out, const struct command_syntax *syntax);
void describe_manual(FILE *out, const struct command_syntax *syntax);
void describe_markdown(FILE *out, const struct command_syntax *syntax);

// A help text for the manual page: paragraphs are filled, indented lines stay as they are.
void describe_text(FILE *out, const char *text);

// What a shell can complete, in lines: "veneer COMMAND...", "COMMAND OPTION...", and of each option
// "COMMAND/OPTION KIND VALUE... , WORD...". KIND: none, optional (its value follows a "="), value,
// file. VALUEs can come first, WORDs after a comma.
void describe_words(FILE *out);

// The bounds of numbers and sizes, a line each: "COMMAND OPTION PROPERTY first|word|whole MIN MAX".
// whole: the number is the option's value, and PROPERTY is the option. MAX "-": none.
void describe_ranges(FILE *out);

#endif
