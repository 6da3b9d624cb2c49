/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See range_table.h: an array in the order of addresses, found by halving. An insertion or removal
 * moves the entries below or above it, whichever are fewer: programs add and remove tens of
 * thousands of ranges from one end to the other.
 */
#include "machine/linux/range_table.h"

size_t ranges_find(const struct ranges *s, uint64_t a)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (s->r[mid].end > a)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

bool ranges_overlap(const struct ranges *s, uint64_t base, uint64_t end)
{
	size_t i = ranges_find(s, base);

	return i < s->n && s->r[i].base < end;
}

/* Replaces the entries [i, j) by k entries; k is at most j - i + 1. */
static bool resize_entries(struct ranges *s, size_t i, size_t j, size_t k)
{
	size_t below = i, above = s->n - j, n = s->n - (j - i) + k,
	       back = s->room - s->front - s->n;
	long more = (long)k - (long)(j - i);

	if (n > s->room)
		return false;
	if (more > 0 && (back == 0 || (below < above && s->front > 0))) {
		__builtin_memmove(s->r - 1, s->r, below * sizeof *s->r);
		s->r--;
		s->front--;
	} else if (more < 0 && below < above) {
		__builtin_memmove(s->r - more, s->r, below * sizeof *s->r);
		s->r -= more;
		s->front += (size_t)-more;
	} else if (more != 0) {
		__builtin_memmove(s->r + i + k, s->r + j, above * sizeof *s->r);
	}
	s->n = n;
	return true;
}

bool ranges_remove(struct ranges *s, uint64_t base, uint64_t end)
{
	size_t i = ranges_find(s, base), j = i, k = 0;
	struct range left[2];

	for (; j < s->n && s->r[j].base < end; j++) {
		if (s->r[j].base < base)
			left[k++] = (struct range){ s->r[j].base, base, s->r[j].owner };
		if (s->r[j].end > end)
			left[k++] = (struct range){ end, s->r[j].end, s->r[j].owner };
	}
	if (!resize_entries(s, i, j, k))
		return false;
	__builtin_memcpy(s->r + i, left, k * sizeof *left);
	return true;
}

bool ranges_add(struct ranges *s, uint64_t base, uint64_t end, void *owner)
{
	size_t i, j;

	if (s->n + 2 > s->room)
		return false;
	(void)ranges_remove(s, base, end);
	i = j = ranges_find(s, base);
	if (i > 0 && s->r[i - 1].end == base && s->r[i - 1].owner == owner)
		base = s->r[--i].base;
	if (j < s->n && s->r[j].base == end && s->r[j].owner == owner)
		end = s->r[j++].end;
	(void)resize_entries(s, i, j, 1);
	s->r[i] = (struct range){ base, end, owner };
	return true;
}
