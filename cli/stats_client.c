// SPDX-License-Identifier: Apache-2.0
//
// The client. All formats are made by the guest's own process; what is done here is finding it, and
// bringing its answers where they are wanted.
#include "cli/stats_client.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "cli/client.h"
#include "cli/runtime.h"

#define LIST_PATIENCE_S 1 // with each guest

static int flush_output(struct veneer_error *error)
{
	if (fflush(stdout) == 0)
		return 0;
	return vn_fail(error, -errno, "cannot write to standard output: %s", strerror(errno));
}

// What a guest says its state is, the caller's, or NULL.
static char *ask_state(const struct runtime_guest *guest)
{
	struct veneer_error unused;
	struct client_answer answer;
	char *state = NULL;
	int fd = runtime_connect(guest, &unused);
	FILE *in = fd < 0 ? NULL : fdopen(fd, "r");

	if (!in) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	client_set_patience(in, LIST_PATIENCE_S);
	if (client_ask(in, "GET", "/state", &answer) == 0) {
		json_t *object = json_loads(answer.body, 0, NULL);
		const char *word = json_string_value(json_object_get(object, "state"));
		state = word ? strdup(word) : NULL;
		json_decref(object);
		free(answer.body);
	}
	fclose(in);
	return state;
}

static void list_guest(const struct runtime_guest *guest)
{
	char *state = guest->pid > 0 ? ask_state(guest) : NULL;

	printf("%-24s ", guest->name);
	if (guest->pid > 0)
		printf("%-8d ", guest->pid);
	else
		printf("%-8s ", "-");
	printf("%s\n", state ? state : "(does not answer)");
	free(state);
}

int stats_client_list(struct veneer_error *error)
{
	struct runtime_guest *guests;
	size_t count;
	int ret = runtime_list(&guests, &count, error);

	if (ret < 0)
		return ret;
	printf("%-24s %-8s %s\n", "NAME", "PID", "STATE");
	for (size_t i = 0; i < count; i++)
		list_guest(&guests[i]);
	runtime_free(guests, count);
	return flush_output(error);
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

static int show_once(
	FILE *in, const char *who, const struct stats_query *query, struct veneer_error *error)
{
	static const char *const paths[STATS_FORMATS] = {
		[STATS_TEXT] = "/text", [STATS_JSON] = "/json", [STATS_PROMETHEUS] = "/metrics"};
	struct client_answer answer;
	int ret = client_ask(in, "GET", paths[query->format], &answer);

	if (ret < 0)
		return client_fail(error, ret, who);
	if (answer.status == 200)
		ret = deliver(query, answer.body, answer.size, error);
	else
		ret = client_fail(error, -EPROTO, who);
	free(answer.body);
	return ret;
}

static void sleep_for(uint64_t ns)
{
	struct timespec left = vn_clock_timespec(ns);

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

int stats_client_show(const char *who, const struct stats_query *query, struct veneer_error *error)
{
	FILE *in;
	int ret = client_connect(who, &in, error);

	if (ret < 0)
		return ret;
	ret = show_once(in, who, query, error);
	while (ret == 0 && query->interval_ns > 0) {
		sleep_for(query->interval_ns);
		ret = show_once(in, who, query, error);
		if (ret == -ECONNRESET)
			ret = 1;
	}
	fclose(in);
	return ret;
}
