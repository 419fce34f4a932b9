// SPDX-License-Identifier: Apache-2.0
//
// The server. A connection is either read from, until a request is whole, or written to, until its
// answer is; so no client has more than one answer waiting, and what it may have here is bounded.
#include "cli/stats_server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/macros.h"
#include "cli/runtime.h"
#include "cli/stats_format.h"

#define REQUEST_MAX 4096 // bytes of a request's head

// A connection; `fd` -1: free.
struct client {
	int fd;
	uint64_t used; // the server's count when it last did anything
	char request[REQUEST_MAX + 1];
	size_t request_size;
	char *answer; // or NULL
	size_t answer_size, answer_sent;
	bool last; // close after the answer
	struct veneer_stats *before; // its last tables', or NULL
};

// The main thread's.
struct stats_server {
	struct stats_guest guest;
	int fd;
	char *path;
	uint64_t uses;
	struct client clients[STATS_CLIENTS_MAX];
};

int stats_server_open(struct stats_server **result, const char *name, struct veneer_error *error)
{
	struct stats_server *server = calloc(1, sizeof(*server));

	if (!server) {
		snprintf(error->message, sizeof(error->message), "out of memory");
		return -ENOMEM;
	}
	server->guest = (struct stats_guest){name, getpid()};
	for (unsigned i = 0; i < STATS_CLIENTS_MAX; i++)
		server->clients[i].fd = -1;
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

static void drop(struct client *client)
{
	if (client->fd < 0)
		return;
	close(client->fd);
	client->fd = -1;
	free(client->answer);
	client->answer = NULL;
	veneer_stats_free(client->before);
	client->before = NULL;
}

void stats_server_close(struct stats_server *server)
{
	if (!server)
		return;
	for (unsigned i = 0; i < STATS_CLIENTS_MAX; i++)
		drop(&server->clients[i]);
	unlink(server->path);
	close(server->fd);
	free(server->path);
	free(server);
}

unsigned stats_server_poll(const struct stats_server *server, struct pollfd *fds)
{
	if (!server)
		return 0;
	fds[0] = (struct pollfd){.fd = server->fd, .events = POLLIN};
	for (unsigned i = 0; i < STATS_CLIENTS_MAX; i++) {
		const struct client *client = &server->clients[i];
		fds[1 + i] = (struct pollfd){
			.fd = client->fd, .events = client->answer ? POLLOUT : POLLIN};
	}
	return STATS_POLL_MAX;
}

// The free place, or that of the client that was quiet longest.
static struct client *find_place(struct stats_server *server)
{
	struct client *best = &server->clients[0];

	for (unsigned i = 0; i < STATS_CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];
		if (client->fd < 0)
			return client;
		if (client->used < best->used)
			best = client;
	}
	return best;
}

static void take_clients(struct stats_server *server)
{
	for (unsigned i = 0; i < STATS_CLIENTS_MAX; i++) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		struct client *client = find_place(server);
		drop(client);
		client->fd = fd;
		client->used = ++server->uses;
		client->request_size = 0;
		client->last = false;
	}
}

// Make the answer out of a status line's end, a content type and what is told; `body` is given
// back.
static void answer(struct client *client, const char *status, const char *type, char *body)
{
	int size = asprintf(&client->answer,
		"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n%s", status, type,
		strlen(body), client->last ? "Connection: close\r\n" : "", body);

	free(body);
	if (size < 0) {
		client->answer = NULL;
		drop(client);
		return;
	}
	client->answer_size = (size_t)size;
	client->answer_sent = 0;
}

static void refuse(struct client *client, const char *status, const char *reason)
{
	char *body;

	client->last = true;
	if (asprintf(&body, "%s\n", reason) < 0)
		drop(client);
	else
		answer(client, status, "text/plain; charset=utf-8", body);
}

static const struct {
	const char *path;
	enum stats_format format;
	const char *type;
} RESOURCES[] = {
	{"/text", STATS_TEXT, "text/plain; charset=utf-8"},
	{"/json", STATS_JSON, "application/json"},
	{"/metrics", STATS_PROMETHEUS, "text/plain; version=0.0.4; charset=utf-8"},
};
#define RESOURCE_COUNT ARRAY_SIZE(RESOURCES)

static void tell(
	struct stats_server *server, struct client *client, struct veneer *vm, size_t which)
{
	struct veneer_stats *now;
	struct veneer_error error;

	if (veneer_get_stats(vm, &now, &error) < 0) {
		refuse(client, "500 Internal Server Error", error.message);
		return;
	}
	char *body = stats_format(RESOURCES[which].format, &server->guest, now, client->before);
	if (RESOURCES[which].format == STATS_TEXT) {
		veneer_stats_free(client->before);
		client->before = now;
	} else {
		veneer_stats_free(now);
	}
	if (!body)
		drop(client);
	else
		answer(client, "200 OK", RESOURCES[which].type, body);
}

// Answer the request whose head, without the empty line, is a string in client->request.
static void handle(struct stats_server *server, struct client *client, struct veneer *vm)
{
	char *path = client->request + strlen("GET ");
	size_t length = strcspn(path, " \r\n"), which = 0;

	if (strncmp(client->request, "GET ", strlen("GET ")) != 0) {
		refuse(client, "405 Method Not Allowed", "only GET is served");
		return;
	}
	if (strncmp(path + length, " HTTP/1.", strlen(" HTTP/1.")) != 0) {
		refuse(client, "400 Bad Request", "this is no HTTP/1 request");
		return;
	}
	client->last = strncmp(path + length, " HTTP/1.1", strlen(" HTTP/1.1")) != 0 ||
		       strcasestr(path + length, "\nConnection: close");
	path[length] = '\0';
	while (which < RESOURCE_COUNT && strcmp(path, RESOURCES[which].path) != 0)
		which++;
	if (which == RESOURCE_COUNT)
		refuse(client, "404 Not Found", "there are /text, /json and /metrics");
	else
		tell(server, client, vm, which);
}

// Handle a request if one is whole. What follows it stays for later.
static void find_request(struct stats_server *server, struct client *client, struct veneer *vm)
{
	client->request[client->request_size] = '\0';
	char *end = strstr(client->request, "\r\n\r\n");

	if (!end) {
		// A zero byte would hide what follows it, and no request has any.
		if (client->request_size == REQUEST_MAX ||
			strlen(client->request) < client->request_size)
			refuse(client, "400 Bad Request", "this is no HTTP/1 request");
		return;
	}
	*end = '\0';
	handle(server, client, vm);
	size_t used = (size_t)(end - client->request) + strlen("\r\n\r\n");
	client->request_size -= used;
	memmove(client->request, client->request + used, client->request_size);
}

static void receive(struct stats_server *server, struct client *client, struct veneer *vm)
{
	ssize_t got = recv(client->fd, client->request + client->request_size,
		REQUEST_MAX - client->request_size, MSG_DONTWAIT);

	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
		drop(client);
	if (got <= 0)
		return;
	client->used = ++server->uses;
	client->request_size += (size_t)got;
	find_request(server, client, vm);
}

static void send_answer(struct stats_server *server, struct client *client, struct veneer *vm)
{
	ssize_t sent = send(client->fd, client->answer + client->answer_sent,
		client->answer_size - client->answer_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0) {
		if (errno != EAGAIN && errno != EINTR)
			drop(client);
		return;
	}
	client->used = ++server->uses;
	client->answer_sent += (size_t)sent;
	if (client->answer_sent < client->answer_size)
		return;
	free(client->answer);
	client->answer = NULL;
	if (client->last)
		drop(client);
	else
		find_request(server, client, vm);
}

void stats_server_serve(struct stats_server *server, struct veneer *vm)
{
	if (!server)
		return;
	take_clients(server);
	for (unsigned i = 0; i < STATS_CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];
		if (client->fd >= 0 && !client->answer)
			receive(server, client, vm);
		if (client->fd >= 0 && client->answer)
			send_answer(server, client, vm);
	}
}
