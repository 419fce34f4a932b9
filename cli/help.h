// SPDX-License-Identifier: Apache-2.0
//
// What `--help` prints, for the program and for each command that has options.
#ifndef VN_HELP_H
#define VN_HELP_H

extern const char HELP[];
extern const char RUN_HELP[];
extern const char DOCTOR_HELP[];
extern const char LIST_HELP[];
extern const char STATS_HELP[];

#endif
