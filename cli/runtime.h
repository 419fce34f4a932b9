// SPDX-License-Identifier: Apache-2.0
//
// Where running guests are found: a private directory of this user with a socket for each,
// NAME.sock. It is $XDG_RUNTIME_DIR/veneer, or /run/veneer for root, or /tmp/veneer-UID. A socket
// whose program was killed stays behind; nobody listens on it, and the next guest of that name
// takes its place, or the next that lists them removes it.
#ifndef VN_RUNTIME_H
#define VN_RUNTIME_H

#include <stddef.h>

#include "base/option_limits.h"
#include "veneer.h"

#define RUNTIME_NAME_MAX VN_NAME_MAX

// A listening, non-blocking socket for the guest `name`, and in *path, for free(3), where it is.
// -EADDRINUSE when another guest has that name; -EPERM when the directory is not private.
int runtime_listen(const char *name, char **path, struct veneer_error *error);

// A running guest.
struct runtime_guest {
	char name[RUNTIME_NAME_MAX + 1];
	int pid; // 0: it is too busy to accept another client, so its process is not known
	char *path; // its socket
};

// All guests of this user, by name, after the dead are cleared away; runtime_free() after success.
// An empty list is one.
int runtime_list(struct runtime_guest **guests, size_t *count, struct veneer_error *error);
void runtime_free(struct runtime_guest *guests, size_t count);

// A socket connected to a guest's, that gives up on a guest which does not answer in five seconds,
// and waits as long for one that is busy.
int runtime_connect(const struct runtime_guest *guest, struct veneer_error *error);

// The guest's process, by a socket connected to it; 0: not known.
int runtime_peer(int fd);

#endif
