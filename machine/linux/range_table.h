/* SPDX-License-Identifier: BSD-2-Clause */
/* A table of disjoint address ranges, each with an owner, in as few entries as can be. Its memory is the caller's; so is its lock. */
#ifndef QUIRE_LINUX_RANGE_TABLE_H
#define QUIRE_LINUX_RANGE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
	uint64_t base, end;
	void *owner; /* NULL, where the table is a mere set of addresses */
};
/*
 * Zeroed: empty, with room for nothing. r[0..n) are in order; none touches the next if both have the same owner. front: entries
 * free before r, which moves. room: all entries, free or not.
 */
struct ranges {
	struct range *r;
	size_t n, room, front;
};

/* The first that ends above a; n: none does. */
size_t ranges_find(const struct ranges *, uint64_t a);
bool ranges_overlap(const struct ranges *, uint64_t base, uint64_t end);
/* The addresses are that owner's from here on, whatever they were. False: there is no room for two more, and nothing has changed. */
bool ranges_add(struct ranges *, uint64_t base, uint64_t end, void *owner);
/* False: a range is to be split and there is no room, and nothing has changed. */
bool ranges_remove(struct ranges *, uint64_t base, uint64_t end);
#endif
