// SPDX-License-Identifier: Apache-2.0
//
// `veneer run`: one guest, from its options to its end.
#ifndef VN_RUN_H
#define VN_RUN_H

#include "cli/options.h"

// All three return the program's exit status, and have said what failed.
int run_command(const struct options *options);

// --dry-run: print what would run where.
int run_dry(const struct options *options);

// --dump-dtb: write the guest's device tree.
int run_dump_dtb(const struct options *options);

#endif
