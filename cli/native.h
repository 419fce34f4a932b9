// SPDX-License-Identifier: Apache-2.0
//
// The native side of the built-in guest's report: the same measures, taken on the host before the
// guest starts, and handed to it as a word of its command line. The guest sets them beside its own.
#ifndef VN_NATIVE_H
#define VN_NATIVE_H

#include "cli/options.h"

// Whether the command line asks the built-in guest for a part of the report; a test or `exit=N`
// does not.
bool native_is_wanted(const struct options *options);

// The command line for the built-in guest: `options->cmdline`, and `native=KEY:VALUE,...` for the
// parts of the report that it asks for, which takes seconds. The caller's to free; NULL when memory
// is short. A part that cannot be measured here is left out.
char *native_cmdline(const struct options *options);

#endif
