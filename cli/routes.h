// SPDX-License-Identifier: Apache-2.0
//
// The tables of resources that a server serves, and finding a request's row in them.
#ifndef VN_ROUTES_H
#define VN_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/server.h"

#define ROUTES_TABLES_MAX 2

struct routes {
	struct {
		const struct server_resource *rows;
		void *opaque;
	} tables[ROUTES_TABLES_MAX];
	unsigned count;
};

void routes_add(struct routes *routes, const struct server_resource *rows, void *opaque);

bool routes_have_method(const struct routes *routes, const char *method);

// The row for a request, and *opaque that of its table. NULL: there is none; *served_by is the
// method of a row with this path, or NULL.
const struct server_resource *routes_find(const struct routes *routes, const char *method,
	const char *path, void **opaque, const char **served_by);

// "there are /text, /json and /metrics"
void routes_list(const struct routes *routes, char *text, size_t size);

#endif
