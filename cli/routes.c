// SPDX-License-Identifier: Apache-2.0
#include "cli/routes.h"

#include <assert.h>
#include <string.h>

#include "base/text.h"

void routes_add(struct routes *routes, const struct server_resource *rows, void *opaque)
{
	assert(routes->count < ROUTES_TABLES_MAX);
	routes->tables[routes->count].rows = rows;
	routes->tables[routes->count++].opaque = opaque;
}

bool routes_have_method(const struct routes *routes, const char *method)
{
	for (unsigned i = 0; i < routes->count; i++)
		for (const struct server_resource *row = routes->tables[i].rows; row->path; row++)
			if (strcmp(row->method, method) == 0)
				return true;
	return false;
}

const struct server_resource *routes_find(const struct routes *routes, const char *method,
	const char *path, void **opaque, const char **served_by)
{
	*served_by = NULL;
	for (unsigned i = 0; i < routes->count; i++) {
		*opaque = routes->tables[i].opaque;
		for (const struct server_resource *row = routes->tables[i].rows; row->path; row++) {
			if (strcmp(row->path, path) != 0)
				continue;
			if (strcmp(row->method, method) == 0)
				return row;
			*served_by = row->method;
		}
	}
	return NULL;
}

void routes_list(const struct routes *routes, char *buffer, size_t size)
{
	struct vn_text text = vn_text_of(buffer, size);
	unsigned left = 0;

	for (unsigned i = 0; i < routes->count; i++)
		for (const struct server_resource *row = routes->tables[i].rows; row->path; row++)
			left++;
	vn_text_add(&text, "there are ");
	for (unsigned i = 0; i < routes->count; i++)
		for (const struct server_resource *row = routes->tables[i].rows; row->path; row++) {
			left--;
			vn_text_add(&text, "%s%s", row->path,
				left > 1    ? ", "
				: left == 1 ? " and "
					    : "");
		}
}
