// SPDX-License-Identifier: Apache-2.0
#include "cli/stats_server.h"

static void release(void *stats)
{
	veneer_stats_free(stats);
}

static void tell(struct server_client *client, const struct stats_server *server,
	enum stats_format format, const char *type)
{
	struct veneer_stats *now;
	struct veneer_error error;

	if (!*server->vm) {
		server_drop(client);
		return;
	}
	if (veneer_get_stats(*server->vm, &now, &error) < 0) {
		server_refuse(client, "500 Internal Server Error", error.message);
		return;
	}
	char *body = stats_format(format, &server->guest, now, server_kept(client));
	if (format == STATS_TEXT)
		server_keep(client, now, release);
	else
		veneer_stats_free(now);
	server_answer(client, type, body);
}

static void tell_text(struct server_client *client, const char *query, void *opaque)
{
	(void)query;
	tell(client, opaque, STATS_TEXT, "text/plain; charset=utf-8");
}

static void tell_json(struct server_client *client, const char *query, void *opaque)
{
	(void)query;
	tell(client, opaque, STATS_JSON, "application/json");
}

static void tell_prometheus(struct server_client *client, const char *query, void *opaque)
{
	(void)query;
	tell(client, opaque, STATS_PROMETHEUS, "text/plain; version=0.0.4; charset=utf-8");
}

const struct server_resource stats_resources[] = {
	{"GET", "/text", tell_text},
	{"GET", "/json", tell_json},
	{"GET", "/metrics", tell_prometheus},
	{.path = NULL},
};
