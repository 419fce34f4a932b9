// SPDX-License-Identifier: Apache-2.0
//
// `veneer list` and `veneer stats`: ask running guests and print what they say.
#ifndef VN_STATS_CLIENT_H
#define VN_STATS_CLIENT_H

#include <stdint.h>

#include "cli/stats_format.h"
#include "veneer.h"

// What to ask for, and where the answers go.
struct stats_query {
	enum stats_format format;
	uint64_t interval_ns; // ask again and again; 0: once
	char *output; // a file that each answer replaces as a whole; NULL: standard output
};

// Print the running guests: their names and process IDs.
int stats_client_list(struct veneer_error *error);

// Ask the guest with this name or process ID: 0, or 1 when it ended while it was watched, or a
// negative errno.
int stats_client_show(const char *who, const struct stats_query *query, struct veneer_error *error);

#endif
