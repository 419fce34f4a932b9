// SPDX-License-Identifier: Apache-2.0
//
// A running guest's statistics over its socket, in as much HTTP/1.1 as that takes:
//
//     GET /text     tables; from the second request of a connection on, rates since the one before
//     GET /json     the same as JSON
//     GET /metrics  for Prometheus
//
// The main thread serves it from its poll(2). Nothing waits for a client: what one does not send or
// take stays where it is, and when there are too many, the one that was quiet longest is cut off.
#ifndef VN_STATS_SERVER_H
#define VN_STATS_SERVER_H

#include <poll.h>

#include "veneer.h"

#define STATS_CLIENTS_MAX 8
#define STATS_POLL_MAX    (STATS_CLIENTS_MAX + 1)

struct stats_server;

// Serve the guest `name`. -EADDRINUSE when another one has that name.
int stats_server_open(struct stats_server **server, const char *name, struct veneer_error *error);
void stats_server_close(struct stats_server *server);

// Fill in what to poll for, at most STATS_POLL_MAX entries, and how many. NULL for `server`: none.
unsigned stats_server_poll(const struct stats_server *server, struct pollfd *fds);

// Take and answer what there is; never blocks. NULL for `server` does nothing.
void stats_server_serve(struct stats_server *server, struct veneer *vm);

#endif
