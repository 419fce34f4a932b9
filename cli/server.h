// SPDX-License-Identifier: Apache-2.0
//
// The server on a guest's socket: the part of HTTP/1.1 that its clients need. Tables of resources
// (cli/stats_server.c, cli/control.c) say what is served; connections, requests and answers are
// handled here.
//
// The main thread serves it from its poll(2) and never blocks on a client: an incomplete request or
// an answer that the client does not read stays in memory. If there are too many clients, the one
// that was idle longest is disconnected. A client whose answer is deferred keeps its place.
#ifndef VN_SERVER_H
#define VN_SERVER_H

#include <poll.h>
#include <stdbool.h>

#include "veneer.h"

#define SERVER_CLIENTS_MAX  8 // connections without a deferred answer
#define SERVER_WAITERS_MAX  16 // connections with one
#define SERVER_RESERVED_MAX 8 // and with one that has a reserved place
#define SERVER_PLACES       (SERVER_CLIENTS_MAX + SERVER_WAITERS_MAX + SERVER_RESERVED_MAX)
#define SERVER_POLL_MAX     (SERVER_PLACES + 1)

struct server;
struct server_client; // a connection with a request

// A row of a table, which ends with a row without a path. `handle` answers, refuses, defers or
// drops. For a deferred request it is called again by server_finish(), with a NULL query.
struct server_resource {
	const char *method;
	const char *path;
	void (*handle)(struct server_client *client, const char *query, void *opaque);
};

// Serve the guest `name`. -EADDRINUSE when another one has that name.
int server_open(struct server **server, const char *name, struct veneer_error *error);
void server_close(struct server *server);

// Serve the resources of this table too; `opaque` is passed to their handlers. The table remains
// the caller's. A NULL `server`, here and below: do nothing.
void server_add(struct server *server, const struct server_resource *table, void *opaque);

// Fill in the descriptors to poll, and lower *timeout_ms (-1: none) to the time until
// server_serve() is due without them. Returns how many: at most SERVER_POLL_MAX.
unsigned server_poll(const struct server *server, struct pollfd *fds, int *timeout_ms);

// Accept clients, read requests and send answers, as far as that is possible without blocking.
void server_serve(struct server *server);

// The guest has ended: remove the socket, call the handlers of deferred requests again, and serve
// the clients that have connected. Waits up to 100 ms for one whose first request is on its way or
// that does not read its answer.
void server_finish(struct server *server);

// ---- For handlers: one of these for each request

// Answer with 200, this content type and this body, which is freed. A NULL body (no memory) drops
// the client.
void server_answer(struct server_client *client, const char *type, char *body);

// Answer with another status, such as "409 Conflict", and a line that says why.
void server_refuse(struct server_client *client, const char *status, const char *reason);

// Places of deferred requests. Reserved ones are for requests that must succeed when any number of
// clients have taken the shared ones.
enum server_place {
	SERVER_SHARED,
	SERVER_RESERVED,
};

// Answer later, from the same handler. False: all places of this kind are taken, and the client was
// refused with 503. A handler that acts on its request defers first.
bool server_defer(struct server_client *client, enum server_place place);

// Close the connection without an answer.
void server_drop(struct server_client *client);

// A handler's own state of a connection, from one request to the next: NULL at first. `release`
// frees it when the connection is closed or the state is replaced.
void *server_kept(const struct server_client *client);
void server_keep(struct server_client *client, void *kept, void (*release)(void *kept));

#endif
