// SPDX-License-Identifier: Apache-2.0
/*
 * Reads the flattened device tree (Devicetree Specification 0.4, section 5) by which a VMM says
 * what the machine holds. Pure: no access outside the bytes given, nothing but C.
 */
#include "fdt.h"

#define FDT_MAGIC      0xd00dfeedu
#define FDT_BEGIN_NODE 1
#define FDT_END_NODE   2
#define FDT_PROP       3
#define FDT_NOP        4
#define FDT_END        9

#define HEADER_BYTES 40
#define MAX_DEPTH    8

/* The two blocks that matter, known to lie inside the tree, and the place in the first. */
struct cursor {
	const uint8_t *structure, *strings;
	size_t structure_bytes, strings_bytes, at;
};

static uint32_t big32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool take32(struct cursor *c, uint32_t *value)
{
	if (c->structure_bytes - c->at < 4)
		return false;
	*value = big32(c->structure + c->at);
	c->at += 4;
	return true;
}

/* Moves over `bytes` and the padding to the next token. */
static bool skip(struct cursor *c, size_t bytes)
{
	size_t padded = (bytes + 3) & ~(size_t)3;

	if (padded < bytes || c->structure_bytes - c->at < padded)
		return false;
	c->at += padded;
	return true;
}

/* The NUL-ended string at `p`, or NULL if it does not end within `bytes`. */
static const char *bounded_string(const uint8_t *p, size_t bytes, size_t *length)
{
	for (size_t i = 0; i < bytes; i++) {
		if (!p[i]) {
			*length = i;
			return (const char *)p;
		}
	}
	return NULL;
}

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static bool open_tree(struct cursor *c, const uint8_t *tree, size_t bytes)
{
	uint32_t total, structure, strings;

	if (bytes < HEADER_BYTES || big32(tree) != FDT_MAGIC)
		return false;
	total = big32(tree + 4);
	structure = big32(tree + 8);
	strings = big32(tree + 12);
	c->strings_bytes = big32(tree + 32);
	c->structure_bytes = big32(tree + 36);
	c->at = 0;
	if (total > bytes || structure > total || strings > total)
		return false;
	if (c->structure_bytes > total - structure || c->strings_bytes > total - strings)
		return false;
	c->structure = tree + structure;
	c->strings = tree + strings;
	return true;
}

static bool take_property(struct cursor *c, struct fdt_node *node)
{
	struct fdt_property property;
	uint32_t bytes, name_at;
	const char *name;
	size_t length;

	if (!take32(c, &bytes) || !take32(c, &name_at))
		return false;
	property.data = c->structure + c->at;
	property.bytes = bytes;
	if (!skip(c, bytes) || name_at >= c->strings_bytes)
		return false;
	name = bounded_string(c->strings + name_at, c->strings_bytes - name_at, &length);
	if (!name)
		return false;
	if (same(name, "compatible"))
		node->compatible = property;
	else if (same(name, "reg"))
		node->reg = property;
	else if (same(name, "ranges"))
		node->ranges = property;
	else if (same(name, "interrupts"))
		node->interrupts = property;
	else if (same(name, "timebase-frequency"))
		node->timebase = property;
	return true;
}

static bool take_node(struct cursor *c, struct fdt_node *node)
{
	size_t length;

	*node = (struct fdt_node){0};
	node->name = bounded_string(c->structure + c->at, c->structure_bytes - c->at, &length);
	return node->name && skip(c, length + 1);
}

int fdt_walk(const void *tree, size_t bytes, fdt_visit *visit, void *context)
{
	struct fdt_node nodes[MAX_DEPTH];
	unsigned depth = 0;
	struct cursor c;
	uint32_t token;

	if (!open_tree(&c, tree, bytes))
		return -1;
	while (take32(&c, &token)) {
		switch (token) {
		case FDT_BEGIN_NODE:
			if (depth == MAX_DEPTH || !take_node(&c, &nodes[depth]))
				return -1;
			depth++;
			break;
		case FDT_END_NODE:
			if (!depth)
				return -1;
			depth--;
			visit(context, &nodes[depth], depth ? &nodes[depth - 1] : NULL);
			break;
		case FDT_PROP:
			if (!depth || !take_property(&c, &nodes[depth - 1]))
				return -1;
			break;
		case FDT_NOP:
			break;
		case FDT_END:
			return depth ? -1 : 0;
		default:
			return -1;
		}
	}
	return -1;
}

bool fdt_compatible(const struct fdt_node *node, const char *name)
{
	size_t at = 0, length;

	while (at < node->compatible.bytes) {
		const char *s = bounded_string(
			node->compatible.data + at, node->compatible.bytes - at, &length);

		if (!s)
			return false;
		if (same(s, name))
			return true;
		at += length + 1;
	}
	return false;
}

bool fdt_cells(struct fdt_property property, size_t index, size_t cells, uint64_t *value)
{
	*value = 0;
	if (index + cells > property.bytes / 4)
		return false;
	for (size_t i = index; i < index + cells; i++)
		*value = *value << 32 | big32(property.data + 4 * i);
	return true;
}
