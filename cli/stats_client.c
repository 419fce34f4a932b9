// SPDX-License-Identifier: Apache-2.0
//
// The client. All formats are made by the guest's own process; what is done here is finding it, and
// bringing its answers where they are wanted.
#include "cli/stats_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "cli/runtime.h"

#define ANSWER_MAX (64ul << 20) // bytes; far above any

static int flush_output(struct veneer_error *error)
{
	if (fflush(stdout) == 0)
		return 0;
	return vn_fail(error, -errno, "cannot write to standard output: %s", strerror(errno));
}

int stats_client_list(struct veneer_error *error)
{
	struct runtime_guest *guests;
	size_t count;
	int ret = runtime_list(&guests, &count, error);

	if (ret < 0)
		return ret;
	printf("%-24s %s\n", "NAME", "PID");
	for (size_t i = 0; i < count; i++) {
		if (guests[i].pid > 0)
			printf("%-24s %d\n", guests[i].name, guests[i].pid);
		else
			printf("%-24s (does not answer)\n", guests[i].name);
	}
	runtime_free(guests, count);
	return flush_output(error);
}

// The guest called `who`, else the one whose process has that number.
static const struct runtime_guest *find(
	const struct runtime_guest *guests, size_t count, const char *who)
{
	char pid[16];

	for (size_t i = 0; i < count; i++) {
		if (strcmp(guests[i].name, who) == 0)
			return &guests[i];
	}
	for (size_t i = 0; i < count; i++) {
		snprintf(pid, sizeof(pid), "%d", guests[i].pid);
		if (guests[i].pid > 0 && strcmp(pid, who) == 0)
			return &guests[i];
	}
	return NULL;
}

static int no_such_guest(const struct runtime_guest *guests, size_t count, const char *who,
	struct veneer_error *error)
{
	char names[300] = "";
	size_t used = 0;

	for (size_t i = 0; i < count && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
			i > 0 ? ", " : "", guests[i].name);
	if (count == 0)
		return vn_fail(error, -ENOENT, "no guest '%s' is running, nor any other", who);
	return vn_fail(error, -ENOENT, "no guest '%s' is running; there are: %s%s", who, names,
		used >= sizeof(names) ? "..." : "");
}

// Connect to it: *in reads what it says, and is the caller's to close.
static int connect_to(const char *who, FILE **in, struct veneer_error *error)
{
	struct runtime_guest *guests;
	size_t count;
	int ret = runtime_list(&guests, &count, error);

	if (ret < 0)
		return ret;
	const struct runtime_guest *guest = find(guests, count, who);
	ret = guest ? runtime_connect(guest, error) : no_such_guest(guests, count, who, error);
	runtime_free(guests, count);
	if (ret < 0)
		return ret;
	*in = fdopen(ret, "r");
	if (*in)
		return 0;
	close(ret);
	return vn_fail(error, -ENOMEM, "out of memory");
}

// Read an answer's head; *size gets the length of what follows it.
static int read_head(FILE *in, size_t *size)
{
	static const char LENGTH[] = "Content-Length:";
	char line[256];
	bool good = false;

	*size = SIZE_MAX;
	errno = 0;
	for (unsigned count = 0; fgets(line, sizeof(line), in); count++) {
		if (line[0] == '\r' || line[0] == '\n')
			return good && *size <= ANSWER_MAX ? 0 : -EPROTO;
		if (count == 0)
			good = strncmp(line, "HTTP/1.1 200 ", strlen("HTTP/1.1 200 ")) == 0;
		else if (strncasecmp(line, LENGTH, strlen(LENGTH)) == 0)
			*size = strtoul(line + strlen(LENGTH), NULL, 10);
	}
	return errno == EAGAIN ? -ETIMEDOUT : -ECONNRESET;
}

static int ask(FILE *in, enum stats_format format, char **body, size_t *size)
{
	static const char *const paths[STATS_FORMATS] = {
		[STATS_TEXT] = "/text", [STATS_JSON] = "/json", [STATS_PROMETHEUS] = "/metrics"};
	char request[64];
	int length = snprintf(
		request, sizeof(request), "GET %s HTTP/1.1\r\nHost: veneer\r\n\r\n", paths[format]);

	if (send(fileno(in), request, (size_t)length, MSG_NOSIGNAL) != length)
		return -ECONNRESET;
	int ret = read_head(in, size);
	if (ret < 0)
		return ret;
	*body = malloc(*size + 1);
	if (!*body)
		return -ENOMEM;
	if (fread(*body, 1, *size, in) == *size)
		return 0;
	free(*body);
	return -ECONNRESET;
}

// Replace a file as a whole: whoever reads it meanwhile sees the old one or the new one.
static int replace(const char *path, const char *body, size_t size, struct veneer_error *error)
{
	char *temporary;

	if (asprintf(&temporary, "%s.%d", path, getpid()) < 0)
		return vn_fail(error, -ENOMEM, "out of memory");
	FILE *out = fopen(temporary, "we");
	bool good = out && fwrite(body, 1, size, out) == size;
	if (out)
		good &= fclose(out) == 0;
	good = good && rename(temporary, path) == 0;
	int code = good ? 0 : -errno;
	if (!good && out)
		unlink(temporary);
	free(temporary);
	return good ? 0 : vn_fail(error, code, "cannot write '%s': %s", path, strerror(-code));
}

static int deliver(
	const struct stats_query *query, const char *body, size_t size, struct veneer_error *error)
{
	if (query->output)
		return replace(query->output, body, size, error);
	if (query->interval_ns > 0 && query->format == STATS_TEXT)
		fputs(isatty(STDOUT_FILENO) ? "\033[H\033[2J" : "\n", stdout);
	fwrite(body, 1, size, stdout);
	return flush_output(error);
}

static int show_once(FILE *in, const struct stats_query *query, struct veneer_error *error)
{
	char *body;
	size_t size;
	int ret = ask(in, query->format, &body, &size);

	if (ret == -ETIMEDOUT)
		return vn_fail(error, ret, "guest '%s' does not answer", query->guest);
	if (ret < 0)
		return vn_fail(error, ret, "guest '%s' ended or gave no answer: %s", query->guest,
			strerror(-ret));
	ret = deliver(query, body, size, error);
	free(body);
	return ret;
}

static void sleep_for(uint64_t ns)
{
	struct timespec left = vn_clock_timespec(ns);

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

int stats_client_show(const struct stats_query *query, struct veneer_error *error)
{
	FILE *in;
	int ret = connect_to(query->guest, &in, error);

	if (ret < 0)
		return ret;
	ret = show_once(in, query, error);
	while (ret == 0 && query->interval_ns > 0) {
		sleep_for(query->interval_ns);
		ret = show_once(in, query, error);
		if (ret == -ECONNRESET)
			ret = 1;
	}
	fclose(in);
	return ret;
}
