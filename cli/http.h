// SPDX-License-Identifier: Apache-2.0
//
// Parses the head of an HTTP/1 request, as far as the guest's socket needs it. Has no state.
#ifndef VN_HTTP_H
#define VN_HTTP_H

#include <stdbool.h>

struct http_request {
	const char *method; // "" where there is none
	const char *path; // without the query
	const char *query; // what follows the "?", or NULL
	bool has_body;
	bool last; // close the connection after the answer
};

// Parse a head, a string without the empty line at its end, in place: *request points into it.
// False: this is not HTTP/1, and only `method` is set.
bool http_parse(struct http_request *request, char *head);

#endif
