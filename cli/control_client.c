// SPDX-License-Identifier: Apache-2.0
#include "cli/control_client.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli/client.h"

#define PATIENCE_S 60 // a pause waits for the requests in flight

// One request. The body of an answer other than 200 is the error's line.
static int ask(const char *who, const char *method, const char *target, unsigned patience_s,
	char **body, struct veneer_error *error)
{
	struct client_answer answer;
	FILE *in;
	int ret = client_connect(who, &in, error);

	if (ret < 0)
		return ret;
	client_set_patience(in, patience_s);
	ret = client_ask(in, method, target, &answer);
	fclose(in);
	if (ret == -ETIMEDOUT)
		return vn_fail(error, ret,
			"guest '%s' has not answered for %u s; it may still do this", who,
			patience_s);
	if (ret < 0)
		return client_fail(error, ret, who);
	if (answer.status == 200) {
		*body = answer.body;
		return 0;
	}
	ret = vn_fail(error, -EINVAL, "guest '%s': %.*s", who, (int)strcspn(answer.body, "\r\n"),
		answer.body);
	free(answer.body);
	return ret;
}

int control_client_do(const char *who, const char *what, bool patient, struct veneer_error *error)
{
	char *body = NULL;
	int ret = ask(who, "POST", what, patient ? 0 : PATIENCE_S, &body, error);

	if (ret == 0)
		free(body);
	return ret;
}

int control_client_wait(const char *who, struct veneer_error *error)
{
	char *body = NULL;
	int ret = ask(who, "GET", "/wait", 0, &body, error);

	if (ret < 0)
		return ret;
	json_t *end = json_loads(body, 0, NULL);
	const json_t *status = json_object_get(end, "status");
	ret = json_is_integer(status) ? (int)json_integer_value(status) : -EPROTO;
	if (ret < 0 || ret > 255)
		ret = vn_fail(error, -EPROTO, "guest '%s' did not say how it ended", who);
	json_decref(end);
	free(body);
	return ret;
}
