/* SPDX-License-Identifier: BSD-2-Clause */
/* A set of addresses, as few disjoint ranges. Its memory is the caller's; so is its lock. */
#ifndef QUIRE_RUN_RANGES_H
#define QUIRE_RUN_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
	uint64_t base, end;
};
/*
 * Zeroed: empty, with room for nothing. r[0..n) are in order; none touches the next. front: entries free before r, which moves. room: all
 * entries, free or not.
 */
struct ranges {
	struct range *r;
	size_t n, room, front;
};

/* The first that ends above a; n: none does. */
size_t ranges_find(const struct ranges *, uint64_t a);
bool ranges_overlap(const struct ranges *, uint64_t base, uint64_t end);
/* False: no room, and nothing has changed. */
bool ranges_add(struct ranges *, uint64_t base, uint64_t end);
bool ranges_remove(struct ranges *, uint64_t base, uint64_t end);
#endif
