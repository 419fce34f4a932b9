// SPDX-License-Identifier: Apache-2.0
#include "cli/http.h"

#include <stdlib.h>
#include <string.h>

// Whether the header lines have a body follow.
static bool has_body(const char *lines)
{
	static const char LENGTH[] = "\nContent-Length:";
	const char *length = strcasestr(lines, LENGTH);

	if (strcasestr(lines, "\nTransfer-Encoding:"))
		return true;
	return length && strtoul(length + strlen(LENGTH), NULL, 10) > 0;
}

bool http_parse(struct http_request *request, char *head)
{
	size_t length = strcspn(head, " \r\n");

	*request = (struct http_request){.method = ""};
	if (head[length] != ' ')
		return false;
	head[length] = '\0';
	request->method = head;
	char *target = head + length + 1;
	length = strcspn(target, " \r\n");
	char *rest = target + length;
	if (strncmp(rest, " HTTP/1.", strlen(" HTTP/1.")) != 0)
		return false;
	request->last = strncmp(rest, " HTTP/1.1", strlen(" HTTP/1.1")) != 0 ||
			strcasestr(rest, "\nConnection: close");
	request->has_body = has_body(rest);
	*rest = '\0';
	char *query = strchr(target, '?');
	if (query) {
		*query = '\0';
		request->query = query + 1;
	}
	request->path = target;
	return true;
}
