/* SPDX-License-Identifier: BSD-2-Clause */
/* The pages that were evicted last: see history.h. */
#include "history.h"

/* The number of heads of chains is a quarter to a half of the number of slots. */
static uint32_t count_heads(uint32_t cap)
{
	uint32_t n = 16;

	while (n <= cap / 4)
		n <<= 1;
	return n;
}

size_t history_size(uint32_t cap)
{
	return sizeof(uint32_t) * (2 * (size_t)cap + count_heads(cap));
}

void history_init(struct history *h, void *mem, uint32_t cap)
{
	h->h_name = mem;
	h->h_chain = h->h_name + cap;
	h->h_head = h->h_chain + cap;
	h->h_cap = cap;
	h->h_mask = count_heads(cap) - 1;
	h->h_at = 0;
}

static uint32_t name_of(uint64_t id)
{
	uint32_t name = (uint32_t)(((id ^ id >> 32) * 0x9e3779b97f4a7c15u) >> 32);

	return name != 0 ? name : 1;
}

/* The link that leads to the id's slot; it is 0 if there is no slot. */
static uint32_t *find_link(const struct history *h, uint32_t name)
{
	uint32_t *link = &h->h_head[name & h->h_mask];

	while (*link != 0 && h->h_name[*link - 1] != name)
		link = &h->h_chain[*link - 1];
	return link;
}

static void forget_name(struct history *h, uint32_t name)
{
	uint32_t *link = find_link(h, name), slot = *link;

	if (slot == 0)
		return;
	*link = h->h_chain[slot - 1];
	h->h_name[slot - 1] = 0;
}

void history_forget(struct history *h, uint64_t id) { forget_name(h, name_of(id)); }

void history_add(struct history *h, uint64_t id)
{
	uint32_t at = h->h_at, name = name_of(id), *head = &h->h_head[name & h->h_mask];

	if (h->h_name[at] != 0)
		forget_name(h, h->h_name[at]);
	h->h_name[at] = name;
	h->h_chain[at] = *head;
	*head = at + 1;
	h->h_at = at + 1 < h->h_cap ? at + 1 : 0;
}

uint32_t history_since(const struct history *h, uint64_t id)
{
	uint32_t slot = *find_link(h, name_of(id));

	if (slot == 0)
		return 0;
	return slot - 1 < h->h_at ? h->h_at - (slot - 1) : h->h_at + h->h_cap - (slot - 1);
}
