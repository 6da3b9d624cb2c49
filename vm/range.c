/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Range index: disjoint ranges [base, end) in an AVL tree, augmented with what lies between them.
 *
 * Each node knows the lowest base, the highest end and the largest hole between neighbours of its subtree, so a search
 * for a hole skips whole subtrees. A hole is named by the ends that bound it: (L, R), where L is the end of the range
 * below and R the base of the one above, or the bounds of the search. With an alignment or bounds that cut holes the
 * search may look into subtrees in vain; it stays O(log n) where holes are not all of nearly the wanted size.
 *
 * Locks: the owner's. Nodes are intrusive: nothing is allocated and nothing fails.
 *
 * Invariants (range_check): order, parents, heights differ by at most one, augmentation is exact.
 */
#include "impl.h"

static int32_t height(const struct range_node *n)
{
	return n != NULL ? n->r_height : 0;
}

static uint64_t max64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Recomputes what n says of its subtree. True: something changed. */
static bool pull(struct range_node *n)
{
	const struct range_node *l = n->r_left, *r = n->r_right;
	int32_t h = 1 + (height(l) > height(r) ? height(l) : height(r));
	vaddr_t lo = l != NULL ? l->r_sub_min : n->r_base, hi = r != NULL ? r->r_sub_max : n->r_end;
	uint64_t gap = 0;

	if (l != NULL)
		gap = max64(l->r_maxgap, n->r_base - l->r_sub_max);
	if (r != NULL)
		gap = max64(gap, max64(r->r_maxgap, r->r_sub_min - n->r_end));
	if (h == n->r_height && lo == n->r_sub_min && hi == n->r_sub_max && gap == n->r_maxgap)
		return false;
	n->r_height = h;
	n->r_sub_min = lo;
	n->r_sub_max = hi;
	n->r_maxgap = gap;
	return true;
}

/* The link that points to n. */
static struct range_node **link_of(struct range_node **root, struct range_node *n)
{
	if (n->r_parent == NULL)
		return root;
	return n->r_parent->r_left == n ? &n->r_parent->r_left : &n->r_parent->r_right;
}

static struct range_node *rotate(struct range_node **root, struct range_node *n, bool left)
{
	struct range_node *up = left ? n->r_right : n->r_left, **at = link_of(root, n);
	struct range_node *mid = left ? up->r_left : up->r_right;

	*at = up;
	up->r_parent = n->r_parent;
	n->r_parent = up;
	if (left) {
		up->r_left = n;
		n->r_right = mid;
	} else {
		up->r_right = n;
		n->r_left = mid;
	}
	if (mid != NULL)
		mid->r_parent = n;
	(void)pull(n);
	(void)pull(up);
	return up;
}

/* Restores balance and augmentation from n to the root. */
static void fix(struct range_node **root, struct range_node *n)
{
	for (; n != NULL; n = n->r_parent) {
		int32_t d = height(n->r_left) - height(n->r_right);

		if (d > 1) {
			if (height(n->r_left->r_left) < height(n->r_left->r_right))
				(void)rotate(root, n->r_left, true);
			n = rotate(root, n, false);
		} else if (d < -1) {
			if (height(n->r_right->r_right) < height(n->r_right->r_left))
				(void)rotate(root, n->r_right, false);
			n = rotate(root, n, true);
		} else if (!pull(n)) {
			return;
		}
	}
}

void range_insert(struct range_node **root, struct range_node *n)
{
	struct range_node *parent = NULL, **at = root;

	VM_ASSERT(n->r_base < n->r_end);
	while (*at != NULL) {
		parent = *at;
		VM_ASSERT(n->r_end <= parent->r_base || n->r_base >= parent->r_end);
		at = n->r_base < parent->r_base ? &parent->r_left : &parent->r_right;
	}
	n->r_left = n->r_right = NULL;
	n->r_parent = parent;
	n->r_height = 0; /* pull sees a change */
	*at = n;
	fix(root, n);
}

void range_remove(struct range_node **root, struct range_node *n)
{
	struct range_node *start, *child;

	if (n->r_left != NULL && n->r_right != NULL) {
		struct range_node *s = n->r_right;

		while (s->r_left != NULL)
			s = s->r_left;
		start = s->r_parent == n ? s : s->r_parent;
		*link_of(root, s) = s->r_right;
		if (s->r_right != NULL)
			s->r_right->r_parent = s->r_parent;
		*link_of(root, n) = s;
		s->r_parent = n->r_parent;
		s->r_left = n->r_left;
		s->r_right = n->r_right;
		s->r_left->r_parent = s;
		if (s->r_right != NULL)
			s->r_right->r_parent = s;
		s->r_height = 0;
		if (start != s)
			fix(root, start);
		fix(root, s);
	} else {
		child = n->r_left != NULL ? n->r_left : n->r_right;
		start = n->r_parent;
		*link_of(root, n) = child;
		if (child != NULL)
			child->r_parent = n->r_parent;
		fix(root, start);
	}
	n->r_left = n->r_right = n->r_parent = NULL;
	n->r_height = 0;
}

void range_resize(struct range_node **root, struct range_node *n, vaddr_t base, vaddr_t end)
{
	VM_ASSERT(base < end);
	n->r_base = base;
	n->r_end = end;
	n->r_height = 0;
	fix(root, n);
}

struct range_node *range_find_ge(struct range_node *root, vaddr_t va)
{
	struct range_node *best = NULL;

	while (root != NULL) {
		if (va < root->r_end) {
			best = root;
			if (va >= root->r_base)
				break;
			root = root->r_left;
		} else {
			root = root->r_right;
		}
	}
	return best;
}

struct range_node *range_find(struct range_node *root, vaddr_t va)
{
	struct range_node *n = range_find_ge(root, va);

	return n != NULL && va >= n->r_base ? n : NULL;
}

struct range_node *range_next(struct range_node *n)
{
	if (n->r_right != NULL) {
		for (n = n->r_right; n->r_left != NULL;)
			n = n->r_left;
		return n;
	}
	while (n->r_parent != NULL && n->r_parent->r_right == n)
		n = n->r_parent;
	return n->r_parent;
}

struct range_node *range_prev(struct range_node *n)
{
	if (n->r_left != NULL) {
		for (n = n->r_left; n->r_right != NULL;)
			n = n->r_right;
		return n;
	}
	while (n->r_parent != NULL && n->r_parent->r_left == n)
		n = n->r_parent;
	return n->r_parent;
}

/* ---- holes ---- */
struct want {
	uint64_t w_len, w_align;
	vaddr_t w_min, w_max;
	bool w_high;
	vaddr_t w_out;
};

/* The hole [lo, hi) cut to the bounds. */
static bool fits(struct want *w, vaddr_t lo, vaddr_t hi)
{
	vaddr_t at;

	if (lo < w->w_min)
		lo = w->w_min;
	if (hi > w->w_max)
		hi = w->w_max;
	if (lo >= hi || hi - lo < w->w_len)
		return false;
	if (w->w_high) {
		at = (hi - w->w_len) & ~(w->w_align - 1);
	} else {
		at = (lo + w->w_align - 1) & ~(w->w_align - 1);
		if (at > hi - w->w_len)
			return false;
	}
	if (at < lo)
		return false;
	w->w_out = at;
	return true;
}

/* The holes of a subtree whose neighbours outside it are lo and hi. */
static bool search(struct want *w, const struct range_node *n, vaddr_t lo, vaddr_t hi)
{
	if (hi <= w->w_min || lo >= w->w_max || hi - lo < w->w_len)
		return false;
	if (n == NULL)
		return fits(w, lo, hi);
	if (max64(n->r_maxgap, max64(n->r_sub_min - lo, hi - n->r_sub_max)) < w->w_len)
		return false;
	if (w->w_high)
		return search(w, n->r_right, n->r_end, hi) || search(w, n->r_left, lo, n->r_base);
	return search(w, n->r_left, lo, n->r_base) || search(w, n->r_right, n->r_end, hi);
}

bool range_gap(struct range_node *root, uint64_t len, uint64_t align, vaddr_t min, vaddr_t max, bool high, vaddr_t *out)
{
	struct want w = { .w_len = len, .w_align = align, .w_min = min, .w_max = max, .w_high = high };

	if (len == 0 || align == 0 || (align & (align - 1)) != 0 || min >= max)
		return false;
	if (!search(&w, root, 0, ~(vaddr_t)0))
		return false;
	*out = w.w_out;
	return true;
}

unsigned range_check(struct range_node *root, void (*report)(void *, const char *), void *arg)
{
	unsigned bad = 0;
	struct range_node *n = root, *prev = NULL;

	while (n != NULL && n->r_left != NULL)
		n = n->r_left;
	for (; n != NULL; prev = n, n = range_next(n)) {
		int32_t d = height(n->r_left) - height(n->r_right);

		if (n->r_base >= n->r_end || (prev != NULL && prev->r_end > n->r_base)) {
			report(arg, "range: empty, overlapping or out of order");
			bad++;
		}
		if (d < -1 || d > 1 || (n->r_left != NULL && n->r_left->r_parent != n) ||
		    (n->r_right != NULL && n->r_right->r_parent != n)) {
			report(arg, "range: the tree is not balanced or not linked");
			bad++;
		}
		if (pull(n)) {
			report(arg, "range: a node does not know its subtree");
			bad++;
		}
	}
	return bad;
}
