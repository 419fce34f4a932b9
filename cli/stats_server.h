// SPDX-License-Identifier: Apache-2.0
//
// A running guest's statistics on its socket:
//
//     GET /text     tables; from the second request of a connection on, rates since the one before
//     GET /json     the same as JSON
//     GET /metrics  for Prometheus
#ifndef VN_STATS_SERVER_H
#define VN_STATS_SERVER_H

#include "cli/server.h"
#include "cli/stats_format.h"

// The main thread's.
struct stats_server {
	struct stats_guest guest;
	struct veneer *const *vm; // NULL there: no guest runs, and clients are dropped
};

// For server_add(), with a struct stats_server.
extern const struct server_resource stats_resources[];

#endif
