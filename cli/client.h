// SPDX-License-Identifier: Apache-2.0
//
// Requests to a running guest over its socket.
#ifndef VN_CLIENT_H
#define VN_CLIENT_H

#include <stdio.h>

#include "veneer.h"

// Connect to the guest whose name, or else process ID, is `who`. *in is the connection, the
// caller's to close.
int client_connect(const char *who, FILE **in, struct veneer_error *error);

// Wait for an answer at most this long, instead of five seconds. 0: without limit.
void client_set_patience(FILE *in, unsigned seconds);

// `body` is the caller's to free; a zero byte follows its `size` bytes.
struct client_answer {
	int status; // of HTTP: 200
	char *body;
	size_t size;
};

// Send a request, for "/json", say, and read the answer. -ETIMEDOUT; -ECONNRESET: the guest ended
// or disconnected us; -EPROTO: not an HTTP answer; -ENOMEM. Nothing is to be freed then.
int client_ask(FILE *in, const char *method, const char *target, struct client_answer *answer);

// The line for what client_ask() returned about the guest `who`. Returns `code`.
int client_fail(struct veneer_error *error, int code, const char *who);

#endif
