/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A flattened device tree: a header, a block of tokens (begin of a node with its name, property, end of a node) and a block with
 * the names of properties; all numbers are big-endian 32-bit words. The properties of a node come before its children, so a
 * node is described by where its first property lies.
 *
 * The parent of a node (#address-cells, #size-cells) determines the format of addresses in the
 * node's reg. Depth is bounded by DEPTH; deeper nodes are skipped. Left out: ranges (the buses of
 * the supported machines do not translate addresses), aliases.
 */
#include "machine/riscv64/dtb.h"

#include "kernel/core/kernel.h"

#define MAGIC 0xd00dfeedu
#define BEGIN_NODE 1u
#define END_NODE 2u
#define PROP 3u
#define NOP 4u
#define DEPTH 8u

uint32_t dtb_cell(const void *prop, unsigned i)
{
	const uint8_t *p = (const uint8_t *)prop + 4 * (size_t)i;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t read_cells(const void *prop, unsigned at, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n; i++)
		v = v << 32 | dtb_cell(prop, at + i);
	return v;
}

static const uint8_t *block_at(const void *dtb, unsigned header_word)
{
	return (const uint8_t *)dtb + dtb_cell(dtb, header_word);
}

bool dtb_valid(const void *dtb) { return dtb_cell(dtb, 0) == MAGIC; }

bool dtb_reservation(const void *dtb, unsigned i, uint64_t *from, uint64_t *len)
{
	const uint8_t *p = block_at(dtb, 4) + 16 * (size_t)i;

	*from = read_cells(p, 0, 2);
	*len = read_cells(p, 2, 2);
	return *len != 0;
}

static size_t round_to_word(size_t n) { return (n + 3) & ~(size_t)3; }

/* Returns the address behind the token at p, or NULL if the block ends. */
static const uint8_t *token_end(const uint8_t *p, const uint8_t *end)
{
	uint32_t token = dtb_cell(p, 0);
	size_t n = 4;

	if (token == BEGIN_NODE)
		n += round_to_word(strlen((const char *)p + 4) + 1);
	else if (token == PROP)
		n += 8 + round_to_word(dtb_cell(p, 1));
	else if (token != END_NODE && token != NOP)
		return NULL;
	return n < (size_t)(end - p) ? p + n : NULL;
}

const void *dtb_prop(const struct dtb_node *n, const char *name, uint32_t *len)
{
	for (const uint8_t *p = n->n_props; p != NULL; p = token_end(p, n->n_end)) {
		uint32_t token = dtb_cell(p, 0);

		if (token == NOP)
			continue;
		if (token != PROP)
			return NULL;
		if (strcmp(n->n_strings + dtb_cell(p, 2), name) != 0)
			continue;
		*len = dtb_cell(p, 1);
		return p + 12;
	}
	return NULL;
}

uint32_t dtb_u32(const struct dtb_node *n, const char *name, uint32_t otherwise)
{
	uint32_t len;
	const void *p = dtb_prop(n, name, &len);

	return p != NULL && len >= 4 ? dtb_cell(p, 0) : otherwise;
}

bool dtb_reg(const struct dtb_node *n, unsigned i, uint64_t *addr, uint64_t *len)
{
	unsigned words = n->n_addr + n->n_size;
	uint32_t bytes;
	const void *p = dtb_prop(n, "reg", &bytes);

	if (p == NULL || (i + 1) * words * 4 > bytes)
		return false;
	*addr = read_cells(p, i * words, n->n_addr);
	*len = read_cells(p, i * words + n->n_addr, n->n_size);
	return true;
}

bool dtb_is(const struct dtb_node *n, const char *compatible)
{
	uint32_t len;
	const char *p = dtb_prop(n, "compatible", &len), *end;

	if (p == NULL)
		return false;
	for (end = p + len; p < end; p += strlen(p) + 1)
		if (strcmp(p, compatible) == 0)
			return true;
	return false;
}

bool dtb_named(const struct dtb_node *n, const char *name)
{
	size_t len = strlen(name);

	return strncmp(n->n_name, name, len) == 0 &&
	    (n->n_name[len] == '\0' || n->n_name[len] == '@');
}

void dtb_each(const void *dtb, void (*fn)(const struct dtb_node *, void *), void *arg)
{
	const uint8_t *p = block_at(dtb, 2), *end = p + dtb_cell(dtb, 9);
	struct {
		const char *name;
		unsigned addr, size;
	} up[DEPTH + 1];
	unsigned depth = 0;

	up[0].name = "";
	up[0].addr = 2;
	up[0].size = 1;
	for (; p != NULL; p = token_end(p, end)) {
		uint32_t token = dtb_cell(p, 0);
		struct dtb_node n;

		if (token == END_NODE && depth > 0)
			depth--;
		if (token != BEGIN_NODE)
			continue;
		depth++;
		if (depth > DEPTH)
			continue;
		n = (struct dtb_node){ .n_name = (const char *)p + 4,
			.n_parent = up[depth - 1].name,
			.n_props = token_end(p, end),
			.n_end = end,
			.n_strings = (const char *)block_at(dtb, 3),
			.n_addr = up[depth - 1].addr,
			.n_size = up[depth - 1].size };
		up[depth].name = n.n_name;
		up[depth].addr = dtb_u32(&n, "#address-cells", 2);
		up[depth].size = dtb_u32(&n, "#size-cells", 1);
		fn(&n, arg);
	}
}
