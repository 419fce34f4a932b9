// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/runtime.h"

#define ANSWER_MAX (64ul << 20) // bytes; far above any

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

int client_connect(const char *who, FILE **in, struct veneer_error *error)
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

void client_set_patience(FILE *in, unsigned seconds)
{
	const struct timeval patience = {.tv_sec = seconds};

	setsockopt(fileno(in), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

// Read an answer's head: its status, and in answer->size the length of what follows it.
static int read_head(FILE *in, struct client_answer *answer)
{
	static const char VERSION[] = "HTTP/1.1 ", LENGTH[] = "Content-Length:";
	char line[256];

	*answer = (struct client_answer){.size = SIZE_MAX};
	errno = 0;
	for (unsigned count = 0; fgets(line, sizeof(line), in); count++) {
		if (line[0] == '\r' || line[0] == '\n')
			return answer->status > 0 && answer->size <= ANSWER_MAX ? 0 : -EPROTO;
		if (count == 0 && strncmp(line, VERSION, strlen(VERSION)) == 0)
			answer->status = (int)strtoul(line + strlen(VERSION), NULL, 10) % 1000;
		else if (strncasecmp(line, LENGTH, strlen(LENGTH)) == 0)
			answer->size = strtoul(line + strlen(LENGTH), NULL, 10);
	}
	return errno == EAGAIN ? -ETIMEDOUT : -ECONNRESET;
}

int client_ask(FILE *in, const char *method, const char *target, struct client_answer *answer)
{
	char request[128];
	int length = snprintf(
		request, sizeof(request), "%s %s HTTP/1.1\r\nHost: veneer\r\n\r\n", method, target);

	if (send(fileno(in), request, (size_t)length, MSG_NOSIGNAL) != length)
		return -ECONNRESET;
	int ret = read_head(in, answer);
	if (ret < 0)
		return ret;
	answer->body = malloc(answer->size + 1);
	if (!answer->body)
		return -ENOMEM;
	answer->body[answer->size] = '\0';
	if (fread(answer->body, 1, answer->size, in) == answer->size)
		return 0;
	free(answer->body);
	return -ECONNRESET;
}

int client_fail(struct veneer_error *error, int code, const char *who)
{
	if (code == -ETIMEDOUT)
		return vn_fail(error, code, "guest '%s' does not answer", who);
	return vn_fail(error, code, "guest '%s' ended or gave no answer: %s", who, strerror(-code));
}
