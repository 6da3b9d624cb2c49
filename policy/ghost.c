/* SPDX-License-Identifier: BSD-2-Clause */
/* Ghosts: see ghost.h. */
#include "ghost.h"

static uint32_t hash_size(uint32_t cap)
{
	uint32_t n = 16;

	while (n < cap && n < 1u << 30)
		n <<= 1;
	return n;
}

size_t ghosts_size(uint32_t cap)
{
	return sizeof(struct ghost) * ((size_t)cap + 1) + sizeof(uint32_t) * hash_size(cap);
}

void ghosts_init(struct ghosts *g, void *mem, uint32_t cap)
{
	g->gs_ghost = mem;
	g->gs_hash = (uint32_t *)(void *)((char *)mem + sizeof(struct ghost) * ((size_t)cap + 1));
	g->gs_cap = cap;
	g->gs_mask = hash_size(cap) - 1;
}

static uint32_t *chain_of(const struct ghosts *g, uint64_t id)
{
	id = (id ^ id >> 32) * 0x9e3779b97f4a7c15u;
	return &g->gs_hash[(id >> 32) & g->gs_mask];
}

uint32_t ghosts_find(const struct ghosts *g, uint64_t id)
{
	uint32_t i = *chain_of(g, id);

	while (i != 0 && g->gs_ghost[i].g_id != id)
		i = g->gs_ghost[i].g_chain;
	return i;
}

static uint32_t take_slot(struct ghosts *g)
{
	uint32_t i = g->gs_free;

	if (i != 0) {
		g->gs_free = g->gs_ghost[i].g_chain;
		return i;
	}
	if (g->gs_used < g->gs_cap)
		return ++g->gs_used;
	ghosts_drop(g, ghosts_oldest(g, ghosts_len(g, 1) > ghosts_len(g, 0)));
	return take_slot(g);
}

uint32_t ghosts_add(struct ghosts *g, unsigned list, uint64_t id)
{
	uint32_t i = take_slot(g), *chain = chain_of(g, id), last = g->gs_list[list].tail;
	struct ghost *e = &g->gs_ghost[i];

	*e = (struct ghost){ .g_id = id, .g_chain = *chain, .g_prev = last, .g_list = list };
	*chain = i;
	if (last == 0)
		g->gs_list[list].head = i;
	else
		g->gs_ghost[last].g_next = i;
	g->gs_list[list].tail = i;
	g->gs_list[list].len++;
	return i;
}

void ghosts_drop(struct ghosts *g, uint32_t i)
{
	struct ghost *e = &g->gs_ghost[i];
	uint32_t *link = chain_of(g, e->g_id);
	unsigned list = e->g_list;

	while (*link != i)
		link = &g->gs_ghost[*link].g_chain;
	*link = e->g_chain;
	if (e->g_prev == 0)
		g->gs_list[list].head = e->g_next;
	else
		g->gs_ghost[e->g_prev].g_next = e->g_next;
	if (e->g_next == 0)
		g->gs_list[list].tail = e->g_prev;
	else
		g->gs_ghost[e->g_next].g_prev = e->g_prev;
	g->gs_list[list].len--;
	e->g_chain = g->gs_free;
	g->gs_free = i;
}

void ghosts_forget(struct ghosts *g, uint64_t id)
{
	uint32_t i = ghosts_find(g, id);

	if (i != 0)
		ghosts_drop(g, i);
}
