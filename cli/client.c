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
#include "base/macros.h"
#include "cli/runtime.h"

#define ANSWER_MAX (64 * MIB) // bytes; far above any

static bool is_process(int pid, const char *who)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", pid);
	return pid > 0 && strcmp(number, who) == 0;
}

// The guest called `who`, else the one whose process has that number.
static const struct runtime_guest *find(
	const struct runtime_guest *guests, size_t count, const char *who)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(guests[i].name, who) == 0)
			return &guests[i];
	}
	for (size_t i = 0; i < count; i++) {
		if (is_process(guests[i].pid, who))
			return &guests[i];
	}
	return NULL;
}

// Connect to the one whose process is `who` among those that were too busy to say which theirs is.
// -ENOENT, without a message: there is none.
static int connect_to_busy(const struct runtime_guest *guests, size_t count, const char *who)
{
	struct veneer_error unused;

	if (strspn(who, "0123456789") < strlen(who))
		return -ENOENT;
	for (size_t i = 0; i < count; i++) {
		int fd = guests[i].pid == 0 ? runtime_connect(&guests[i], &unused) : -ENOENT;
		if (fd >= 0 && is_process(runtime_peer(fd), who))
			return fd;
		if (fd >= 0)
			close(fd);
	}
	return -ENOENT;
}

static int no_such_guest(const struct runtime_guest *guests, size_t count, const char *who,
	struct veneer_error *error)
{
	char names[300] = "";
	size_t used = 0;

	for (size_t i = 0; i < count && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s%s",
			i > 0 ? ", " : "", guests[i].name,
			guests[i].pid == 0 ? " (does not answer)" : "");
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
	ret = guest ? runtime_connect(guest, error) : connect_to_busy(guests, count, who);
	if (ret == -ENOENT && !guest)
		ret = no_such_guest(guests, count, who, error);
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

// Whether the last read failed because this process was stopped (Ctrl-Z) and went on; if so, read
// again.
static bool was_interrupted(FILE *in)
{
	bool interrupted = ferror(in) && errno == EINTR;

	if (interrupted)
		clearerr(in);
	return interrupted;
}

// Read on, up to `size` bytes. Less: the end, or an error in errno.
static size_t read_bytes(FILE *in, char *bytes, size_t size)
{
	size_t got = 0;

	errno = 0;
	do {
		got += fread(bytes + got, 1, size - got, in);
	} while (got < size && was_interrupted(in));
	return got;
}

// A line without its end, or as much of it as there is room for. fgets() would drop what it had of
// a line in which it is interrupted.
static bool read_line(FILE *in, char *line, size_t size)
{
	size_t used = 0;
	char byte;

	while (read_bytes(in, &byte, 1) == 1) {
		if (byte == '\n') {
			if (used > 0 && line[used - 1] == '\r')
				used--;
			line[used] = '\0';
			return true;
		}
		if (used < size - 1)
			line[used++] = byte;
	}
	return false;
}

// What it means that an answer did not come.
static int no_answer(void)
{
	return errno == EAGAIN ? -ETIMEDOUT : -ECONNRESET;
}

// Read an answer's head: its status, and in answer->size the length of what follows it.
static int read_head(FILE *in, struct client_answer *answer)
{
	static const char VERSION[] = "HTTP/1.1 ", LENGTH[] = "Content-Length:";
	char line[256];

	*answer = (struct client_answer){.size = SIZE_MAX};
	for (unsigned count = 0; read_line(in, line, sizeof(line)); count++) {
		if (line[0] == '\0')
			return answer->status > 0 && answer->size <= ANSWER_MAX ? 0 : -EPROTO;
		if (count == 0 && strncmp(line, VERSION, strlen(VERSION)) == 0)
			answer->status = (int)strtoul(line + strlen(VERSION), NULL, 10) % 1000;
		else if (strncasecmp(line, LENGTH, strlen(LENGTH)) == 0)
			answer->size = strtoul(line + strlen(LENGTH), NULL, 10);
	}
	return no_answer();
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
	if (read_bytes(in, answer->body, answer->size) == answer->size)
		return 0;
	ret = no_answer();
	free(answer->body);
	return ret;
}

int client_fail(struct veneer_error *error, int code, const char *who)
{
	if (code == -ETIMEDOUT)
		return vn_fail(error, code, "guest '%s' does not answer", who);
	return vn_fail(error, code, "guest '%s' ended or gave no answer: %s", who, strerror(-code));
}
