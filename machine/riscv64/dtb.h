/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading a flattened device tree (Devicetree Specification 0.4, chapter 5). */
#ifndef QUIRE_DTB_H
#define QUIRE_DTB_H

#include <quire/types.h>

struct dtb_node {
	const char *n_name;   /* with its address: "memory@80000000" */
	const char *n_parent; /* "": the root's */
	const uint8_t *n_props;
	const uint8_t *n_end;    /* of the structure block */
	const char *n_strings;   /* names of properties */
	unsigned n_addr, n_size; /* 32-bit cells of an address and of a length in reg */
};

/* False: the memory is no device tree. */
bool dtb_valid(const void *dtb);
/* Calls fn for every node, parents first. */
void dtb_each(const void *dtb, void (*fn)(const struct dtb_node *, void *arg), void *arg);
/* The i-th entry of the memory reservation block; false: there are fewer. */
bool dtb_reservation(const void *dtb, unsigned i, uint64_t *from, uint64_t *len);

const void *dtb_prop(const struct dtb_node *, const char *name, uint32_t *len); /* NULL: none */
uint32_t dtb_u32(const struct dtb_node *, const char *name, uint32_t otherwise);
uint32_t dtb_cell(const void *prop, unsigned i);
bool dtb_reg(const struct dtb_node *, unsigned i, uint64_t *addr, uint64_t *len);
bool dtb_is(
    const struct dtb_node *, const char *compatible);      /* one of the strings of that property */
bool dtb_named(const struct dtb_node *, const char *name); /* without its address */
#endif
