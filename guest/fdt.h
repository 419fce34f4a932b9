// SPDX-License-Identifier: Apache-2.0
/*
 * A reader of flattened device trees that trusts no offset in them. It shows each node, with the
 * few properties that the guest uses, to a function.
 */
#ifndef GUEST_FDT_H
#define GUEST_FDT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes of a property inside the tree; data is NULL if the node lacks it. */
struct fdt_property {
	const uint8_t *data;
	size_t bytes;
};

struct fdt_node {
	const char *name; /* with its unit address; "" for the root */
	struct fdt_property compatible, reg, ranges, interrupts, timebase;
};

/*
 * Calls visit(context, node, parent) when each node ends; parent is NULL for the root. Returns 0,
 * or -1 with a tree that is broken (nodes before the breakage have been visited).
 */
typedef void fdt_visit(void *context, const struct fdt_node *node, const struct fdt_node *parent);
int fdt_walk(const void *tree, size_t bytes, fdt_visit *visit, void *context);

/* Whether one of the strings of `compatible` is `name`. */
bool fdt_compatible(const struct fdt_node *node, const char *name);

/* Big-endian number of `cells` (1 or 2) cells at cell `index`; false beyond the property's end. */
bool fdt_cells(struct fdt_property property, size_t index, size_t cells, uint64_t *value);

#endif
