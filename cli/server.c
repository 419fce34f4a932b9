// SPDX-License-Identifier: Apache-2.0
//
// A connection is in one of three states: reading, until a request is complete; waiting for a
// deferred answer; writing, until the answer has been sent. So a client has at most one request and
// one answer in memory.
#include "cli/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "cli/http.h"
#include "cli/routes.h"
#include "cli/runtime.h"

#define REQUEST_MAX 4096 // bytes of a request's head
#define RETRY_MS    200
#define LINGER_MS   100 // after the guest's end

// A connection; `fd` -1: free.
struct server_client {
	struct server *server;
	int fd;
	uint64_t used; // server->uses when data last passed
	char *request; // REQUEST_MAX + 1 bytes
	size_t request_size;
	const struct server_resource *deferred; // the request without an answer so far, or NULL
	enum server_place place; // of the deferred request
	void *opaque; // of its table
	char *answer; // or NULL
	size_t answer_size, answer_sent;
	bool last; // close after the answer
	bool answered; // a request, at least
	void *kept;
	void (*release)(void *kept);
};

// The main thread's.
struct server {
	int fd; // listens; -1: no more
	bool finishing; // no requests are deferred any more
	uint64_t retry_ns; // time at which to accept again (CLOCK_MONOTONIC), or 0: now
	char *path; // of the socket; NULL: removed
	uint64_t uses;
	struct routes routes;
	struct server_client clients[SERVER_PLACES];
};

int server_open(struct server **result, const char *name, struct veneer_error *error)
{
	struct server *server = calloc(1, sizeof(*server));

	if (!server)
		return vn_fail(error, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < SERVER_PLACES; i++)
		server->clients[i] = (struct server_client){.server = server, .fd = -1};
	server->fd = runtime_listen(name, &server->path, error);
	if (server->fd < 0) {
		int code = server->fd;
		free(server->path);
		free(server);
		return code;
	}
	*result = server;
	return 0;
}

void server_add(struct server *server, const struct server_resource *rows, void *opaque)
{
	if (server)
		routes_add(&server->routes, rows, opaque);
}

void server_drop(struct server_client *client)
{
	if (client->fd < 0)
		return;
	close(client->fd);
	server_keep(client, NULL, NULL);
	free(client->request);
	free(client->answer);
	*client = (struct server_client){.server = client->server, .fd = -1};
	client->server->retry_ns = 0;
}

// From now on another guest may take the name, and nobody new connects.
static void remove_socket(struct server *server)
{
	if (server->path)
		unlink(server->path);
	free(server->path);
	server->path = NULL;
}

static void stop_listening(struct server *server)
{
	remove_socket(server);
	if (server->fd >= 0)
		close(server->fd);
	server->fd = -1;
}

void server_close(struct server *server)
{
	if (!server)
		return;
	for (unsigned i = 0; i < SERVER_PLACES; i++)
		server_drop(&server->clients[i]);
	stop_listening(server);
	free(server);
}

unsigned server_poll(const struct server *server, struct pollfd *fds, int *timeout_ms)
{
	if (!server)
		return 0;
	bool later = server->retry_ns > 0;
	fds[0] = (struct pollfd){.fd = later ? -1 : server->fd, .events = POLLIN};
	if (later && (*timeout_ms < 0 || *timeout_ms > RETRY_MS))
		*timeout_ms = RETRY_MS;
	for (unsigned i = 0; i < SERVER_PLACES; i++) {
		const struct server_client *client = &server->clients[i];
		// While the answer is deferred, only POLLHUP matters.
		fds[1 + i] = (struct pollfd){.fd = client->fd,
			.events = client->answer     ? POLLOUT
				  : client->deferred ? 0
						     : POLLIN};
	}
	return SERVER_POLL_MAX;
}

// A free place, or that of the client that was idle longest. Clients with deferred answers keep
// theirs: SERVER_CLIENTS_MAX places are left to the others, and all when no answer is deferred any
// more.
static struct server_client *find_place(struct server *server)
{
	struct server_client *place = NULL, *quiet = NULL;
	unsigned busy = 0, max = server->finishing ? SERVER_PLACES : SERVER_CLIENTS_MAX;

	for (unsigned i = 0; i < SERVER_PLACES; i++) {
		struct server_client *client = &server->clients[i];
		if (client->fd < 0) {
			place = client;
		} else if (!client->deferred) {
			busy++;
			if (!quiet || client->used < quiet->used)
				quiet = client;
		}
	}
	return busy < max && place ? place : quiet;
}

// Without a descriptor (-EMFILE), say, the client stays where it is, and poll(2) would report it
// again at once: try later, or when another client is gone.
static void accept_later(struct server *server, int code)
{
	if (code != -EAGAIN && code != -EINTR && code != -ECONNABORTED)
		server->retry_ns = vn_clock_ns() + RETRY_MS * NS_PER_MS;
}

// False: there are none, for now.
static bool take_clients(struct server *server)
{
	if (server->retry_ns > 0 && vn_clock_ns() < server->retry_ns)
		return false;
	server->retry_ns = 0;
	for (unsigned i = 0; i < SERVER_CLIENTS_MAX; i++) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			accept_later(server, -errno);
			return false;
		}
		struct server_client *client = find_place(server);
		server_drop(client);
		client->fd = fd;
		client->used = ++server->uses;
		client->request = malloc(REQUEST_MAX + 1);
		if (!client->request)
			server_drop(client);
	}
	return true;
}

// ---- What handlers call

// `status` is the rest of the status line: "200 OK". `body` is freed.
static void answer(struct server_client *client, const char *status, const char *type, char *body)
{
	int size = asprintf(&client->answer,
		"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n%s", status, type,
		strlen(body), client->last ? "Connection: close\r\n" : "", body);

	free(body);
	client->answered = true;
	client->deferred = NULL;
	if (size < 0) {
		client->answer = NULL;
		server_drop(client);
		return;
	}
	client->answer_size = (size_t)size;
	client->answer_sent = 0;
}

void server_answer(struct server_client *client, const char *type, char *body)
{
	if (body)
		answer(client, "200 OK", type, body);
	else
		server_drop(client);
}

void server_refuse(struct server_client *client, const char *status, const char *reason)
{
	char *body;

	client->last = true;
	if (asprintf(&body, "%s\n", reason) < 0)
		server_drop(client);
	else
		answer(client, status, "text/plain; charset=utf-8", body);
}

void *server_kept(const struct server_client *client)
{
	return client->kept;
}

void server_keep(struct server_client *client, void *kept, void (*release)(void *kept))
{
	if (client->kept)
		client->release(client->kept);
	client->kept = kept;
	client->release = release;
}

static unsigned count_deferred(const struct server *server, enum server_place place)
{
	unsigned count = 0;

	for (unsigned i = 0; i < SERVER_PLACES; i++)
		count += server->clients[i].deferred && server->clients[i].place == place;
	return count;
}

// handle() has set `deferred` already, so the count includes this client.
bool server_defer(struct server_client *client, enum server_place place)
{
	unsigned max = place == SERVER_RESERVED ? SERVER_RESERVED_MAX : SERVER_WAITERS_MAX;

	client->place = place;
	if (count_deferred(client->server, place) <= max)
		return true;
	server_refuse(client, "503 Service Unavailable", "too many wait already");
	return false;
}

// ---- Requests

// `served_by`: the method that this path takes; NULL: there is no such path.
static void refuse_path(struct server_client *client, const char *served_by)
{
	char text[256];

	if (served_by) {
		snprintf(text, sizeof(text), "only %s is served there", served_by);
		server_refuse(client, "405 Method Not Allowed", text);
	} else {
		routes_list(&client->server->routes, text, sizeof(text));
		server_refuse(client, "404 Not Found", text);
	}
}

// Answer or defer the request whose head, without the empty line, is the string client->request.
static void handle(struct server_client *client)
{
	const struct routes *routes = &client->server->routes;
	struct http_request request;
	const char *served_by;
	bool good = http_parse(&request, client->request);

	client->last = request.last;
	if (!routes_have_method(routes, request.method)) {
		server_refuse(client, "405 Method Not Allowed", "only GET and POST are served");
		return;
	}
	if (!good || request.has_body) {
		server_refuse(client, "400 Bad Request",
			good ? "no body is taken here" : "this is no HTTP/1 request");
		return;
	}
	void *opaque;
	const struct server_resource *row =
		routes_find(routes, request.method, request.path, &opaque, &served_by);
	if (!row) {
		refuse_path(client, served_by);
		return;
	}
	client->deferred = row; // unless it is answered now
	client->opaque = opaque;
	row->handle(client, request.query, opaque);
}

// Handle the request in the buffer, if it is complete. What follows it remains for later.
static void find_request(struct server_client *client)
{
	client->request[client->request_size] = '\0';
	char *end = strstr(client->request, "\r\n\r\n");

	if (!end) {
		// strstr() stops at a zero byte, which no request has.
		if (client->request_size == REQUEST_MAX ||
			strlen(client->request) < client->request_size)
			server_refuse(client, "400 Bad Request", "this is no HTTP/1 request");
		return;
	}
	*end = '\0';
	handle(client);
	if (client->fd < 0)
		return;
	size_t used = (size_t)(end - client->request) + strlen("\r\n\r\n");
	client->request_size -= used;
	memmove(client->request, client->request + used, client->request_size);
}

// ---- Connections

static void receive(struct server_client *client)
{
	ssize_t got = recv(client->fd, client->request + client->request_size,
		REQUEST_MAX - client->request_size, MSG_DONTWAIT);

	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
		server_drop(client);
	if (got <= 0)
		return;
	client->used = ++client->server->uses;
	client->request_size += (size_t)got;
	find_request(client);
}

static void send_answer(struct server_client *client)
{
	ssize_t sent = send(client->fd, client->answer + client->answer_sent,
		client->answer_size - client->answer_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0) {
		if (errno != EAGAIN && errno != EINTR)
			server_drop(client);
		return;
	}
	client->used = ++client->server->uses;
	client->answer_sent += (size_t)sent;
	if (client->answer_sent < client->answer_size)
		return;
	free(client->answer);
	client->answer = NULL;
	if (client->last)
		server_drop(client);
	else
		find_request(client);
}

static void drop_if_gone(struct server_client *client)
{
	struct pollfd fd = {.fd = client->fd};

	if (poll(&fd, 1, 0) > 0)
		server_drop(client);
}

static void serve_clients(struct server *server)
{
	for (unsigned i = 0; i < SERVER_PLACES; i++) {
		struct server_client *client = &server->clients[i];
		if (client->fd >= 0 && client->deferred)
			drop_if_gone(client);
		else if (client->fd >= 0 && !client->answer)
			receive(client);
		if (client->fd >= 0 && client->answer)
			send_answer(client);
	}
}

void server_serve(struct server *server)
{
	if (!server)
		return;
	(void)take_clients(server);
	serve_clients(server);
}

// ---- The end

static void answer_deferred(struct server *server)
{
	for (unsigned i = 0; i < SERVER_PLACES; i++) {
		struct server_client *client = &server->clients[i];
		if (client->fd >= 0 && client->deferred)
			client->deferred->handle(client, NULL, client->opaque);
	}
}

// Whether a client has connected to ask something and was not answered, or has not read it all.
static bool is_incomplete(const struct server *server)
{
	for (unsigned i = 0; i < SERVER_PLACES; i++) {
		const struct server_client *client = &server->clients[i];
		if (client->fd >= 0 && !client->deferred && (client->answer || !client->answered))
			return true;
	}
	return false;
}

static void linger(struct server *server)
{
	uint64_t now = vn_clock_ns(), end = now + LINGER_MS * NS_PER_MS;
	struct pollfd fds[SERVER_POLL_MAX];

	for (; is_incomplete(server) && now < end; now = vn_clock_ns()) {
		int timeout_ms = (int)((end - now) / NS_PER_MS) + 1;
		unsigned count = server_poll(server, fds, &timeout_ms);
		poll(fds, count, timeout_ms);
		serve_clients(server);
	}
}

void server_finish(struct server *server)
{
	bool more;

	if (!server)
		return;
	server->finishing = true;
	remove_socket(server);
	answer_deferred(server);
	server->retry_ns = 0; // the guest has given its descriptors back
	do { // serving between, which makes room
		more = take_clients(server);
		serve_clients(server);
	} while (more);
	stop_listening(server);
	linger(server);
}
