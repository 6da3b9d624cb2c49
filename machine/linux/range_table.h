/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A table of disjoint address ranges, each with an owner, in as few entries as possible. The caller
 * provides the table's memory and its lock.
 */
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
 * Zeroed: empty, with room for nothing. r[0..n) are in order; none touches the next if both have
 * the same owner. front: free entries before r; r moves when front changes. room: all entries, free
 * or used.
 */
struct ranges {
	struct range *r;
	size_t n, room, front;
};

/* The index of the first range that ends above a; n: no range does. */
size_t ranges_find(const struct ranges *, uint64_t a);
bool ranges_overlap(const struct ranges *, uint64_t base, uint64_t end);
/*
 * Gives the addresses to that owner, whoever owned them before. False: there is no room for two
 * more entries; the table is unchanged.
 */
bool ranges_add(struct ranges *, uint64_t base, uint64_t end, void *owner);
/* False: a range would be split and there is no room; the table is unchanged. */
bool ranges_remove(struct ranges *, uint64_t base, uint64_t end);
#endif
