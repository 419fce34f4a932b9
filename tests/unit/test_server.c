// SPDX-License-Identifier: Apache-2.0
//
// The run-time directory and the server, by their sockets: requests that are whole, in pieces,
// wrong and too many, clients that neither read nor write, and sockets of the dead. What is served
// are statistics, of which the guest is a snapshot made by hand, and a resource that answers later.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "cli/runtime.h"
#include "cli/server.h"
#include "cli/stats_server.h"
#include "stats_sample.h"

static unsigned snapshots; // that were taken and not given back

int veneer_get_stats(struct veneer *vm, struct veneer_stats **stats, struct veneer_error *error)
{
	(void)vm;
	(void)error;
	*stats = malloc(sizeof(**stats));
	**stats = sample_stats;
	(*stats)->time_ns += NS_PER_MS * ++snapshots; // time goes on
	(*stats)->running_ns += NS_PER_MS * snapshots;
	return 0;
}

void veneer_stats_free(struct veneer_stats *stats)
{
	free(stats);
}

static char directory[64];
static struct server *server;

static int make_directory(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/stats-test-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	return setenv("XDG_RUNTIME_DIR", directory, 1);
}

static int remove_directory(void **state)
{
	(void)state;
	char path[128];
	snprintf(path, sizeof(path), "%s/veneer", directory);
	rmdir(path); // empty, or the next one says so
	return rmdir(directory);
}

static char nobody; // stands for a guest
static struct veneer *vm;
static struct stats_server stats = {.guest = {.name = "web"}, .vm = &vm};

// What is said when it is asked for, or later.
static const char *word;

static void tell_word(struct server_client *client, const char *query, void *opaque)
{
	(void)opaque;
	if (query && *query)
		server_answer(client, "text/plain", strdup(query));
	else if (word)
		server_answer(client, "text/plain", strdup(word));
	else
		server_defer(client, SERVER_SHARED);
}

static const struct server_resource word_resources[] = {
	{"POST", "/word", tell_word},
	{.path = NULL},
};

static int open_server(void **state)
{
	struct veneer_error error = {.code = 0};
	if (make_directory(state) < 0)
		return -1;
	word = NULL;
	vm = (struct veneer *)&nobody;
	stats.guest.pid = getpid();
	if (server_open(&server, "web", &error) < 0)
		fail_msg("%s", error.message);
	server_add(server, stats_resources, &stats);
	server_add(server, word_resources, NULL);
	return 0;
}

static int close_server(void **state)
{
	server_close(server);
	return remove_directory(state);
}

static struct runtime_guest only_guest(void)
{
	struct runtime_guest *guests, guest = {.pid = 0};
	struct veneer_error error = {.code = 0};
	size_t count;
	if (runtime_list(&guests, &count, &error) < 0)
		fail_msg("%s", error.message);
	for (size_t i = 0; i < count; i++) // others of this user may be running
		if (strncmp(guests[i].path, directory, strlen(directory)) == 0) {
			assert_int_equal(guest.pid, 0);
			guest = guests[i];
			guest.path = NULL;
		}
	runtime_free(guests, count);
	return guest;
}

static const char *socket_path(void)
{
	static char path[128];
	snprintf(path, sizeof(path), "%s/veneer/web.sock", directory);
	return path;
}

static int connect_to_server(void)
{
	char path[128];
	struct veneer_error error = {.code = 0};
	struct runtime_guest guest = {.name = "web", .path = path};
	snprintf(path, sizeof(path), "%s/veneer/web.sock", directory);
	int fd = runtime_connect(&guest, &error);
	if (fd < 0)
		fail_msg("%s", error.message);
	return fd;
}

static int unused = -1; // time-out of poll(2)

static void serve(void)
{
	struct pollfd fds[SERVER_POLL_MAX];
	for (unsigned i = 0; i < 20; i++) {
		unsigned count = server_poll(server, fds, &unused);
		assert_int_equal(count, SERVER_POLL_MAX);
		if (poll(fds, count, 0) == 0)
			return;
		server_serve(server);
	}
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static char heard[1 << 16];

// What the server has said so far; empty when it has closed or said nothing.
static const char *hear(int fd)
{
	ssize_t got = recv(fd, heard, sizeof(heard) - 1, MSG_DONTWAIT);
	heard[got > 0 ? got : 0] = '\0';
	return heard;
}

static bool is_closed(int fd)
{
	char byte;
	ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
	return got == 0 || (got < 0 && errno != EAGAIN);
}

static void assert_answer(int fd, const char *status, const char *part)
{
	serve();
	const char *answer = hear(fd);
	char first[64];
	snprintf(first, sizeof(first), "HTTP/1.1 %s\r\n", status);
	if (strncmp(answer, first, strlen(first)) != 0 || !strstr(answer, part))
		fail_msg("not %s with %s: \"%s\"", status, part, answer);
	const char *body = strstr(answer, "\r\n\r\n") + 4, *length = strstr(answer, "Length: ") + 8;
	assert_int_equal(strtoul(length, NULL, 10), strlen(body));
}

static void serves_each_format(void **state)
{
	(void)state;
	int fd = connect_to_server();
	say(fd, "GET /text HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_answer(fd, "200 OK", "guest web, pid ");
	assert_null(strstr(heard, "a second"));
	say(fd, "GET /text HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_answer(fd, "200 OK", "a second");
	say(fd, "GET /json HTTP/1.1\r\n\r\n");
	assert_answer(fd, "200 OK", "Content-Type: application/json\r\n");
	say(fd, "GET /metrics HTTP/1.1\r\n\r\n");
	assert_answer(fd, "200 OK", "# TYPE veneer_queue_latency_seconds histogram\n");
	assert_false(is_closed(fd));
	close(fd);
}

static void closes_when_asked_to(void **state)
{
	(void)state;
	static const char *const requests[] = {
		"GET /json HTTP/1.0\r\n\r\n", "GET /json HTTP/1.1\r\nconnection: Close\r\n\r\n"};
	for (unsigned i = 0; i < 2; i++) {
		int fd = connect_to_server();
		say(fd, requests[i]);
		assert_answer(fd, "200 OK", "Connection: close\r\n");
		assert_true(is_closed(fd));
		close(fd);
	}
}

static void takes_requests_in_pieces_and_in_a_row(void **state)
{
	(void)state;
	static const char request[] = "GET /json HTTP/1.1\r\nHost: x\r\n\r\n";
	int fd = connect_to_server();
	for (const char *at = request; *at; at++) {
		assert_string_equal(hear(fd), "");
		assert_int_equal(send(fd, at, 1, 0), 1);
		serve();
	}
	assert_answer(fd, "200 OK", "\"guest\":\"web\"");
	say(fd, "GET /json HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n");
	serve();
	hear(fd);
	assert_non_null(strstr(heard, "200 OK"));
	assert_non_null(strstr(heard, "404 Not Found"));
	close(fd);
}

static void refuses_what_is_wrong(void **state)
{
	(void)state;
	static const struct {
		const char *request, *status;
	} cases[] = {
		{"GET / HTTP/1.1\r\n\r\n", "404 Not Found"},
		{"GET /jsonx HTTP/1.1\r\n\r\n", "404 Not Found"},
		{"GET /json\r\n\r\n", "400 Bad Request"},
		{"GET /json HTTP/2\r\n\r\n", "400 Bad Request"},
		{"GET  HTTP/1.1\r\n\r\n", "404 Not Found"},
		{"POST /json HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405 Method Not Allowed"},
		{"\r\n\r\n", "405 Method Not Allowed"},
		{"\x16\x03\x01\r\n\r\n", "405 Method Not Allowed"},
		{"PUT /word HTTP/1.1\r\n\r\n", "405 Method Not Allowed"},
		{"GET /word HTTP/1.1\r\n\r\n", "405 Method Not Allowed"},
		{"POST /word\r\n\r\n", "400 Bad Request"},
		{"POST /word HTTP/1.1\r\ncontent-length: 1\r\n\r\n", "400 Bad Request"},
		{"POST /word HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "400 Bad Request"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = connect_to_server();
		say(fd, cases[i].request);
		assert_answer(fd, cases[i].status, "Connection: close\r\n");
		assert_true(is_closed(fd));
		close(fd);
	}
	int fd = connect_to_server();
	say(fd, "GET / HTTP/1.1\r\n\r\n");
	assert_answer(fd, "404 Not Found", "there are /text, /json, /metrics and /word\n");
	close(fd);
	fd = connect_to_server();
	assert_int_equal(send(fd, "GET \0", 5, 0), 5);
	assert_answer(fd, "400 Bad Request", "no HTTP/1");
	close(fd);
	static char endless[8192];
	memset(endless, 'x', sizeof(endless));
	fd = connect_to_server();
	assert_int_equal(send(fd, endless, sizeof(endless), 0), sizeof(endless));
	assert_answer(fd, "400 Bad Request", "no HTTP/1");
	close(fd);
}

// More clients than there are places: those that were quiet longest make room, whether they have
// not asked, or do not read.
static void quiet_clients_make_room(void **state)
{
	(void)state;
	int fds[SERVER_CLIENTS_MAX], deaf = connect_to_server(), size = 1;
	setsockopt(deaf, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (unsigned i = 0; i < 100; i++) { // answers far beyond what the socket holds
		serve();
		if (send(deaf, "GET /metrics HTTP/1.1\r\n\r\n", 25, MSG_DONTWAIT) < 0)
			break;
	}
	for (unsigned i = 0; i < SERVER_CLIENTS_MAX; i++) {
		fds[i] = connect_to_server();
		serve();
	}
	for (unsigned i = 0; i < SERVER_CLIENTS_MAX; i++) {
		say(fds[i], "GET /json HTTP/1.1\r\n\r\n");
		assert_answer(fds[i], "200 OK", "web");
	}
	int last = connect_to_server();
	say(last, "GET /json HTTP/1.1\r\n\r\n");
	assert_answer(last, "200 OK", "web");
	assert_true(is_closed(fds[0]));
	for (unsigned i = 1; i < SERVER_CLIENTS_MAX; i++)
		assert_false(is_closed(fds[i]));
	for (unsigned i = 0; i < SERVER_CLIENTS_MAX; i++)
		close(fds[i]);
	close(last);
	close(deaf);
	serve();
}

static void clients_that_leave_are_forgotten(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		int fd = connect_to_server();
		say(fd, i % 2 ? "GET /text HTTP/1.1\r\n\r\n" : "GET /te");
		close(fd);
		serve();
	}
	struct pollfd fds[SERVER_POLL_MAX];
	server_poll(server, fds, &unused);
	for (unsigned i = 1; i < SERVER_POLL_MAX; i++)
		assert_int_equal(fds[i].fd, -1);
}

// Let the server serve once while it can have no descriptor, and say what it then polls.
static unsigned serve_without_descriptors(struct pollfd fds[SERVER_POLL_MAX], int *timeout_ms)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	struct rlimit low = {.rlim_cur = 3, .rlim_max = limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	server_serve(server);
	unsigned count = server_poll(server, fds, timeout_ms);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return count;
}

// A client that has asked, and waits for a descriptor.
static int ask_without_descriptors(void)
{
	struct pollfd fds[SERVER_POLL_MAX];
	int timeout_ms = -1, fd = connect_to_server();
	say(fd, "GET /json HTTP/1.1\r\n\r\n");
	unsigned count = serve_without_descriptors(fds, &timeout_ms);
	assert_int_equal(poll(fds, count, 0), 0); // the server does not spin
	assert_in_range(timeout_ms, 1, 1000);
	return fd;
}

static void clients_wait_for_descriptors(void **state)
{
	(void)state;
	struct pollfd fds[SERVER_POLL_MAX];
	int timeout_ms = 1, first = connect_to_server();
	say(first, "GET /json HTTP/1.1\r\n\r\n");
	assert_answer(first, "200 OK", "web");
	int fd = ask_without_descriptors();
	server_poll(server, fds, &timeout_ms);
	assert_int_equal(timeout_ms, 1);
	assert_string_equal(hear(fd), "");
	usleep(300000);
	server_serve(server);
	assert_answer(fd, "200 OK", "web");
	close(first);
	close(fd);
}

// One that leaves makes room at once.
static void a_descriptor_passes_to_the_next(void **state)
{
	(void)state;
	int first = connect_to_server();
	serve();
	int fd = ask_without_descriptors();
	close(first);
	server_serve(server);
	server_serve(server);
	assert_answer(fd, "200 OK", "web");
	close(fd);
}

// When the guest ends, it gives its descriptors back, and who waits for one is answered at once.
static void descriptors_are_there_at_the_end(void **state)
{
	(void)state;
	int fd = ask_without_descriptors();
	server_finish(server);
	assert_answer(fd, "200 OK", "web");
	close(fd);
}

static void queries_reach_their_resource(void **state)
{
	(void)state;
	int fd = connect_to_server();
	say(fd, "POST /word?one=1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
	assert_answer(fd, "200 OK", "\r\n\r\none=1");
	close(fd);
}

// Two wait, and then get their answer; what one of them asked for meanwhile follows it.
static void answers_can_come_later(void **state)
{
	(void)state;
	int fds[] = {connect_to_server(), connect_to_server()};
	say(fds[0], "POST /word HTTP/1.1\r\n\r\n");
	say(fds[1], "POST /word HTTP/1.1\r\n\r\nPOST /word?more HTTP/1.1\r\n\r\n");
	serve();
	assert_string_equal(hear(fds[0]), "");
	assert_string_equal(hear(fds[1]), "");
	word = "done";
	server_finish(server);
	assert_non_null(strstr(hear(fds[0]), "\r\n\r\ndone"));
	serve();
	hear(fds[1]);
	assert_non_null(strstr(heard, "\r\n\r\ndone"));
	assert_non_null(strstr(heard, "\r\n\r\nmore"));
	close(fds[0]);
	close(fds[1]);
}

// Who asks as the guest ends is answered too; nobody comes after that.
static void the_last_are_served(void **state)
{
	(void)state;
	int fd = connect_to_server();
	say(fd, "POST /word HTTP/1.1\r\n\r\n");
	word = "late";
	vm = NULL;
	server_finish(server);
	assert_answer(fd, "200 OK", "late");
	assert_int_equal(only_guest().pid, 0);
	say(fd, "GET /json HTTP/1.1\r\n\r\n"); // of a guest that is there no more
	serve();
	assert_true(is_closed(fd));
	close(fd);
}

// As many as may wait, and as many more that have connected but were not seen yet, of which some
// ask when the end has begun.
static void all_who_have_connected_are_served(void **state)
{
	(void)state;
	int waiting[SERVER_WAITERS_MAX], fds[SERVER_WAITERS_MAX];
	for (unsigned i = 0; i < ARRAY_SIZE(waiting); i++) {
		waiting[i] = connect_to_server();
		say(waiting[i], "POST /word HTTP/1.1\r\n\r\n");
		serve();
	}
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = connect_to_server();
		if (i % 2)
			say(fds[i], "POST /word HTTP/1.1\r\n\r\n");
	}
	word = "end";
	pid_t pid = fork();
	if (pid == 0) {
		while (access(socket_path(), F_OK) == 0)
			usleep(500);
		for (unsigned i = 0; i < ARRAY_SIZE(fds); i += 2)
			send(fds[i], "POST /word HTTP/1.1\r\n\r\n", 24, MSG_NOSIGNAL);
		_exit(0);
	}
	server_finish(server);
	waitpid(pid, NULL, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		assert_non_null(strstr(hear(waiting[i]), "\r\n\r\nend"));
		assert_non_null(strstr(hear(fds[i]), "\r\n\r\nend"));
		close(waiting[i]);
		close(fds[i]);
	}
}

// One that was answered before does not hold up the end. The fastest of ten ends counts, since this
// process may have to wait for a CPU.
static void idle_clients_do_not_hold_up_the_end(void **state)
{
	uint64_t least = UINT64_MAX;
	for (unsigned i = 0; i < 10; i++) {
		int idle = connect_to_server();
		say(idle, "GET /json HTTP/1.1\r\n\r\n");
		assert_answer(idle, "200 OK", "web");
		uint64_t before = vn_clock_ns();
		server_finish(server);
		uint64_t took = vn_clock_ns() - before;
		least = took < least ? took : least;
		close(idle);
		close_server(state);
		assert_int_equal(open_server(state), 0);
	}
	assert_true(least < 50 * NS_PER_MS);
}

static void silent_clients_hold_up_the_end_for_a_moment(void **state)
{
	(void)state;
	int silent = connect_to_server();
	uint64_t before = vn_clock_ns();
	server_finish(server);
	assert_in_range(vn_clock_ns() - before, 90 * NS_PER_MS, 10 * NS_PER_S);
	assert_false(is_closed(silent));
	close(silent);
}

// Who waits keeps the place, whoever else comes; and when too many wait, one more is told so.
static void waiting_is_bounded(void **state)
{
	(void)state;
	int waiting[SERVER_WAITERS_MAX], fds[SERVER_CLIENTS_MAX + 4];
	for (unsigned i = 0; i < SERVER_WAITERS_MAX; i++) {
		waiting[i] = connect_to_server();
		say(waiting[i], "POST /word HTTP/1.1\r\n\r\n");
		serve();
	}
	int one_more = connect_to_server();
	say(one_more, "POST /word HTTP/1.1\r\n\r\n");
	assert_answer(one_more, "503 Service Unavailable", "too many");
	assert_true(is_closed(one_more));
	close(one_more);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = connect_to_server();
		say(fds[i], "GET /json HTTP/1.1\r\n\r\n");
		assert_answer(fds[i], "200 OK", "web");
	}
	assert_true(is_closed(fds[0]));
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	word = "all";
	server_finish(server);
	for (unsigned i = 0; i < SERVER_WAITERS_MAX; i++) {
		assert_non_null(strstr(hear(waiting[i]), "\r\n\r\nall"));
		close(waiting[i]);
	}
}

// One that waits and leaves is noticed, and its place is free.
static void waiting_clients_may_leave(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3 * SERVER_POLL_MAX; i++) {
		int fd = connect_to_server();
		say(fd, "POST /word HTTP/1.1\r\n\r\n");
		serve();
		assert_false(is_closed(fd));
		close(fd);
		serve();
	}
	struct pollfd fds[SERVER_POLL_MAX];
	server_poll(server, fds, &unused);
	for (unsigned i = 1; i < SERVER_POLL_MAX; i++)
		assert_int_equal(fds[i].fd, -1);
}

static void running_guests_are_listed(void **state)
{
	(void)state;
	struct runtime_guest guest = only_guest();
	assert_string_equal(guest.name, "web");
	assert_int_equal(guest.pid, getpid());
	struct stat status;
	char path[128];
	snprintf(path, sizeof(path), "%s/veneer", directory);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0700);
}

static void names_are_taken_once(void **state)
{
	(void)state;
	struct server *other;
	struct veneer_error error = {.code = 0};
	assert_int_equal(server_open(&other, "web", &error), -EADDRINUSE);
	assert_non_null(strstr(error.message, "'web'"));
	assert_int_equal(server_open(&other, "web2", &error), 0);
	server_close(other);
	assert_string_equal(only_guest().name, "web"); // which is as it was
}

// As a process that is killed does.
static void leave_socket(void)
{
	struct veneer_error error = {.code = 0};
	pid_t pid = fork();
	if (pid == 0) {
		server_open(&server, "web", &error);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	assert_int_equal(access(socket_path(), F_OK), 0);
}

static void sockets_of_the_dead_are_taken_over(void **state)
{
	(void)state;
	struct veneer_error error = {.code = 0};
	leave_socket();
	assert_int_equal(server_open(&server, "web", &error), 0);
	assert_int_equal(only_guest().pid, getpid());
	server_close(server);
	assert_int_not_equal(access(socket_path(), F_OK), 0);
}

static void sockets_of_the_dead_are_cleared_away(void **state)
{
	(void)state;
	leave_socket();
	assert_int_equal(only_guest().pid, 0);
	assert_int_not_equal(access(socket_path(), F_OK), 0);
}

static void directories_must_be_private(void **state)
{
	(void)state;
	struct veneer_error error = {.code = 0};
	char path[128];
	snprintf(path, sizeof(path), "%s/veneer", directory);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chmod(path, 0755), 0);
	assert_int_equal(server_open(&server, "web", &error), -EPERM);
	assert_non_null(strstr(error.message, "mode 0700"));
	struct runtime_guest *guests;
	size_t count;
	assert_int_equal(runtime_list(&guests, &count, &error), -EPERM);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(symlink("/tmp", path), 0);
	assert_true(server_open(&server, "web", &error) < 0);
	unlink(path);
	if (geteuid() == 0) {
		assert_int_equal(mkdir(path, 0700), 0);
		assert_int_equal(chown(path, 12345, 12345), 0);
		assert_int_equal(server_open(&server, "web", &error), -EPERM);
	}
}

static void long_paths_are_refused(void **state)
{
	(void)state;
	struct veneer_error error = {.code = 0};
	char path[256];
	snprintf(path, sizeof(path), "%s/%0100d", directory, 0);
	assert_int_equal(mkdir(path, 0700), 0);
	setenv("XDG_RUNTIME_DIR", path, 1);
	assert_int_equal(server_open(&server, "web", &error), -ENAMETOOLONG);
	assert_non_null(strstr(error.message, "107 bytes"));
	strcat(path, "/veneer");
	rmdir(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
}

#define SERVED(name) cmocka_unit_test_setup_teardown(name, open_server, close_server)
#define ALONE(name)  cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVED(serves_each_format),
		SERVED(closes_when_asked_to),
		SERVED(takes_requests_in_pieces_and_in_a_row),
		SERVED(refuses_what_is_wrong),
		SERVED(quiet_clients_make_room),
		SERVED(clients_that_leave_are_forgotten),
		SERVED(clients_wait_for_descriptors),
		SERVED(a_descriptor_passes_to_the_next),
		SERVED(descriptors_are_there_at_the_end),
		SERVED(queries_reach_their_resource),
		SERVED(answers_can_come_later),
		SERVED(the_last_are_served),
		SERVED(all_who_have_connected_are_served),
		SERVED(idle_clients_do_not_hold_up_the_end),
		SERVED(silent_clients_hold_up_the_end_for_a_moment),
		SERVED(waiting_is_bounded),
		SERVED(waiting_clients_may_leave),
		SERVED(running_guests_are_listed),
		SERVED(names_are_taken_once),
		ALONE(sockets_of_the_dead_are_taken_over),
		ALONE(sockets_of_the_dead_are_cleared_away),
		ALONE(directories_must_be_private),
		ALONE(long_paths_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
