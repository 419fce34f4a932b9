// SPDX-License-Identifier: Apache-2.0
//
// Options of `veneer run` in a file: a JSON object whose members are the library's options, as
// veneer_config_read_json() takes them, and the program's own, each with the value that it has on
// the command line.
#ifndef VN_CONFIG_FILE_H
#define VN_CONFIG_FILE_H

#include "cli/options.h"

// `path` "-": standard input, once. What is wrong in the file is said with its name before it.
// -EINVAL, or why it cannot be read.
int config_file_read(struct options *options, const char *path, struct veneer_error *error);

#endif
