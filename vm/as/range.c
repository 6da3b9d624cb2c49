/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Range index: disjoint ranges [base, end) in a B+ tree, augmented with what lies between them.
 *
 * Why wide nodes: in a large space what a search costs is cache lines that are not in the cache, and each level of a
 * binary tree is one that waits for the one before. A node here holds up to R_MAX entries in arrays, ends first, so a
 * search reads two or three lines of a node and the upper levels stay in the cache. Ranges themselves are not read.
 *
 * An entry of a leaf is a range; one of an inner node is a child, with the lowest base, the highest end and the largest
 * hole between neighbours in it (only there: holes of a leaf are seen from its entries). So a search for a hole skips whole
 * subtrees. A hole is named by the ends that bound it: (L, R), where L is the end of the range below and R the base of
 * the one above, or the bounds of the search. With an alignment or bounds that cut holes the search may look into
 * subtrees in vain; it stays O(log n) where holes are not all of nearly the wanted size.
 *
 * Each range has a kind, a byte of the owner's. Ranges of different kinds are never merged, so range_touching answers with the
 * neighbours of the same kind only, from the leaf: the others are not read. The path to the place
 * of a new range is kept meanwhile (range_place, range_insert_at), so the index is searched once.
 *
 * Inserting never fails: the creator of a range first promises room for it (range_reserve), where failing is still possible.
 * As each node but the root has R_MIN entries or more, n ranges take at most 1 + n / (R_MIN - 1)
 * nodes: the index keeps that many, used and spare ones together.
 *
 * Locks: the owner's.
 *
 * Invariants (range_check): order; all leaves equally deep; R_MIN <= entries <= R_MAX except in the
 * root, unused entries have the end RANGE_NONE and no pointer; each entry is exact; used and spare
 * nodes are as many as counted and enough.
 *
 * Source: R. Bayer, E. McCreight: Organization and Maintenance of Large Ordered Indexes, Acta Informatica 1 (1972), with
 * all ranges in the leaves. Left out: links between leaves (the next range is found from the root).
 */
#include "vm/impl.h"

#include <stddef.h>

#define R_MAX 15u
#define R_MIN                                                                                      \
	6u /* less than half: a node that was just split or merged has entries to gain and to lose */
#define R_SLACK                                                                                    \
	4u /* spare nodes beyond the promised ones that are kept, so that a pair of map and unmap costs none */
#define RANGE_NONE ~(vaddr_t)0

struct rnode {
	vaddr_t rn_end[R_MAX];      /* first: searches read these and one pointer */
	uint32_t rn_n, rn_level;    /* 0: a leaf */
	void *rn_ptr[R_MAX];        /* range or child; [0] links spare nodes */
	uint8_t rn_kind[R_MAX + 1]; /* of leaves */
	vaddr_t rn_base[R_MAX];
	uint64_t rn_gap[R_MAX]; /* of inner nodes */
};
_Static_assert(
    offsetof(struct rnode, rn_gap) == 6 * VM_LINE, "a search in a leaf reads six lines at most");

struct entry {
	vaddr_t e_base, e_end;
	void *e_ptr;
	uint64_t e_gap;
	uint8_t e_kind;
};

static uint64_t larger_of(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* ---- nodes ---- */
size_t range_node_bytes(void) { return sizeof(struct rnode); }

static uint64_t nodes_for(uint64_t n) { return n == 0 ? 0 : 1 + n / (R_MIN - 1); }

static void give_node(struct range_index *ix, struct rnode *n)
{
	n->rn_ptr[0] = ix->ri_spare;
	ix->ri_spare = n;
	ix->ri_nspare++;
}

static struct rnode *take_node(struct range_index *ix, uint32_t level)
{
	struct rnode *n = ix->ri_spare;

	VM_ASSERT(n != NULL);
	ix->ri_spare = n->rn_ptr[0];
	ix->ri_nspare--;
	n->rn_n = 0;
	n->rn_level = level;
	for (unsigned i = 0; i < R_MAX; i++) {
		n->rn_end[i] = RANGE_NONE;
		n->rn_ptr[i] = NULL;
	}
	return n;
}

void *range_spare(struct vm *vm) { return kmem_cache_alloc(vm->vm_rangenodes, KM_SLEEP); }

void range_spare_free(struct vm *vm, void *spare)
{
	if (spare != NULL)
		kmem_cache_free(vm->vm_rangenodes, spare);
}

bool range_promise(struct range_index *ix, void **spare)
{
	if (ix->ri_nodes < nodes_for(ix->ri_promised + 1)) { /* another node is needed */
		if (*spare == NULL)
			return false;
		give_node(ix, *spare);
		ix->ri_nodes++;
		*spare = NULL;
	}
	ix->ri_promised++;
	return true;
}

bool range_reserve(struct range_index *ix, struct vm *vm)
{
	void *spare = NULL;

	return range_promise(ix, &spare) ||
	    ((spare = range_spare(vm)) != NULL && range_promise(ix, &spare));
}

void range_unreserve(struct range_index *ix, struct vm *vm)
{
	uint64_t keep = nodes_for(--ix->ri_promised);

	if (keep > 0)
		keep += R_SLACK;
	while (ix->ri_nodes > keep && ix->ri_nspare > 0) {
		struct rnode *n = ix->ri_spare;

		ix->ri_spare = n->rn_ptr[0];
		ix->ri_nspare--;
		ix->ri_nodes--;
		kmem_cache_free(vm->vm_rangenodes, n);
	}
}

/* ---- entries ---- */
/* The first entry that ends above va. If there is none: R_MAX, or an entry without a pointer. Four
 * steps without a branch. */
static unsigned first_above(const struct rnode *n, vaddr_t va)
{
	unsigned i = (n->rn_end[7] <= va) * 8u;

	i += (n->rn_end[i + 3] <= va) * 4u;
	i += (n->rn_end[i + 1] <= va) * 2u;
	return i + (n->rn_end[i] <= va);
}

static void put_entry(struct rnode *n, unsigned i, const struct entry *e)
{
	n->rn_base[i] = e->e_base;
	n->rn_end[i] = e->e_end;
	n->rn_ptr[i] = e->e_ptr;
	if (n->rn_level > 0)
		n->rn_gap[i] = e->e_gap;
	else
		n->rn_kind[i] = e->e_kind;
}

static struct entry get_entry(const struct rnode *n, unsigned i)
{
	return (struct entry){ n->rn_base[i], n->rn_end[i], n->rn_ptr[i],
		n->rn_level > 0 ? n->rn_gap[i] : 0, n->rn_level > 0 ? 0 : n->rn_kind[i] };
}

/* The entry of a range. */
static struct entry entry_of(struct range_node *r)
{
	return (struct entry){ r->r_base, r->r_end, r, 0, r->r_kind };
}

static void shift_in(struct rnode *n, unsigned at, const struct entry *e)
{
	for (unsigned i = n->rn_n; i > at; i--) {
		n->rn_base[i] = n->rn_base[i - 1];
		n->rn_end[i] = n->rn_end[i - 1];
		n->rn_ptr[i] = n->rn_ptr[i - 1];
		n->rn_kind[i] = n->rn_kind[i - 1];
	}
	for (unsigned i = n->rn_level > 0 ? n->rn_n : 0; i > at; i--)
		n->rn_gap[i] = n->rn_gap[i - 1];
	put_entry(n, at, e);
	n->rn_n++;
}

static void shift_out(struct rnode *n, unsigned at)
{
	static const struct entry none = { 0, RANGE_NONE, NULL, 0, 0 };

	for (unsigned i = at; i + 1 < n->rn_n; i++) {
		n->rn_base[i] = n->rn_base[i + 1];
		n->rn_end[i] = n->rn_end[i + 1];
		n->rn_ptr[i] = n->rn_ptr[i + 1];
		n->rn_kind[i] = n->rn_kind[i + 1];
	}
	for (unsigned i = at; n->rn_level > 0 && i + 1 < n->rn_n; i++)
		n->rn_gap[i] = n->rn_gap[i + 1];
	put_entry(n, --n->rn_n, &none);
}

/* move_up moves the last k entries of `from` to the start of the node above it; move_down moves its
 * first k entries to the end of the node below it. */
static void move_up(struct rnode *from, struct rnode *to, unsigned k)
{
	for (; k > 0; k--) {
		struct entry e = get_entry(from, from->rn_n - 1);

		shift_out(from, from->rn_n - 1);
		shift_in(to, 0, &e);
	}
}

static void move_down(struct rnode *from, struct rnode *to, unsigned k)
{
	for (; k > 0; k--) {
		struct entry e = get_entry(from, 0);

		shift_out(from, 0);
		shift_in(to, to->rn_n, &e);
	}
}

/* Makes the entry that describes n in the node above. */
static struct entry sum_node(struct rnode *n)
{
	struct entry e = { n->rn_base[0], n->rn_end[n->rn_n - 1], n, 0, 0 };

	for (unsigned i = 1; i < n->rn_n; i++)
		e.e_gap = larger_of(e.e_gap, n->rn_base[i] - n->rn_end[i - 1]);
	for (unsigned i = 0; n->rn_level > 0 && i < n->rn_n; i++)
		e.e_gap = larger_of(e.e_gap, n->rn_gap[i]);
	return e;
}

/* Brings the entries in the nodes above depth d up to date. */
static void refresh_path(struct range_path *p, unsigned d)
{
	for (; d > 0; d--) {
		struct rnode *up = p->p_node[d - 1];
		unsigned i = p->p_at[d - 1];
		struct entry e = sum_node(p->p_node[d]);

		if (up->rn_base[i] == e.e_base && up->rn_end[i] == e.e_end &&
		    up->rn_gap[i] == e.e_gap)
			return;
		put_entry(up, i, &e);
	}
}

/* A leaf is rarely in the cache: its lines are fetched together. */
static void will_read(const struct rnode *n)
{
	for (unsigned line = VM_LINE; line < 6 * VM_LINE; line += VM_LINE)
		__builtin_prefetch((const char *)n + line);
}

/* Walks to the first range that ends above va, or to the place behind the last one. The index is
 * not empty. */
static void descend_to(const struct range_index *ix, vaddr_t va, struct range_path *p)
{
	struct rnode *n = ix->ri_root;

	for (unsigned d = 0;; d++) {
		unsigned i = first_above(n, va);

		p->p_node[d] = n;
		p->p_leaf = d;
		if (n->rn_level == 0) {
			p->p_at[d] = i < n->rn_n ? i : n->rn_n;
			return;
		}
		p->p_at[d] = i < n->rn_n ? i : n->rn_n - 1;
		if (n->rn_level == 1)
			will_read(n->rn_ptr[p->p_at[d]]);
		n = n->rn_ptr[p->p_at[d]];
	}
}

/* ---- changes ---- */
/* Splits a full node; e becomes its entry `at`, in the half that `at` falls into. Returns the entry
 * that describes the upper half. */
static struct entry split_node(
    struct range_index *ix, struct rnode *n, unsigned at, const struct entry *e)
{
	struct rnode *upper = take_node(ix, n->rn_level);
	/* Ranges that come in order leave full nodes behind. */
	unsigned keep = at == R_MAX ? R_MAX + 1 - R_MIN : (R_MAX + 1) / 2;

	if (at < keep) {
		move_up(n, upper, R_MAX + 1 - keep);
		shift_in(n, at, e);
	} else {
		move_up(n, upper, R_MAX - keep);
		shift_in(upper, at - keep, e);
	}
	return sum_node(upper);
}

static void insert_entry(struct range_index *ix, struct range_path *p, struct entry e)
{
	unsigned d = p->p_leaf, at = p->p_at[d];

	while (p->p_node[d]->rn_n == R_MAX) {
		e = split_node(ix, p->p_node[d], at, &e);
		if (d == 0) {
			struct rnode *old = ix->ri_root, *root = take_node(ix, old->rn_level + 1);
			struct entry lower = sum_node(old);

			shift_in(root, 0, &lower);
			shift_in(root, 1, &e);
			ix->ri_root = root;
			return;
		}
		d--;
		at = p->p_at[d];
		struct entry lower = sum_node(p->p_node[d + 1]);
		put_entry(p->p_node[d], at++, &lower);
	}
	shift_in(p->p_node[d], at, &e);
	refresh_path(p, d);
}

void range_insert(struct range_index *ix, struct range_node *r)
{
	struct range_path p;

	VM_ASSERT(r->r_base < r->r_end && r->r_end != RANGE_NONE);
	if (ix->ri_root == NULL)
		ix->ri_root = take_node(ix, 0);
	descend_to(ix, r->r_base, &p);
	range_insert_at(ix, &p, r);
}

void range_insert_at(struct range_index *ix, struct range_path *p, struct range_node *r)
{
	if (ix->ri_root == NULL) {
		range_insert(ix, r);
		return;
	}
	VM_ASSERT(p->p_at[p->p_leaf] == p->p_node[p->p_leaf]->rn_n ||
	    r->r_end <= p->p_node[p->p_leaf]->rn_base[p->p_at[p->p_leaf]]);
	insert_entry(ix, p, entry_of(r));
}

/* The node at depth d has too few entries: it takes some of a neighbour's, or (true) the two are
 * merged. */
static bool fill_node(struct range_index *ix, struct range_path *p, unsigned d)
{
	struct rnode *up = p->p_node[d - 1];
	unsigned i = p->p_at[d - 1] > 0 ? p->p_at[d - 1] - 1 : 0, n;
	struct rnode *a = up->rn_ptr[i], *b = up->rn_ptr[i + 1];
	struct entry e;
	bool one = (n = a->rn_n + b->rn_n) <= R_MAX;

	if (one)
		move_down(b, a, b->rn_n);
	else if (a->rn_n < n / 2)
		move_down(b, a, n / 2 - a->rn_n);
	else
		move_up(a, b, a->rn_n - n / 2);
	e = sum_node(a);
	put_entry(up, i, &e);
	if (one) {
		give_node(ix, b);
		shift_out(up, i + 1);
	} else {
		e = sum_node(b);
		put_entry(up, i + 1, &e);
	}
	return one;
}

void range_remove(struct range_index *ix, struct range_node *r)
{
	struct rnode *root = ix->ri_root;
	struct range_path p;
	unsigned d;

	VM_ASSERT(root != NULL);
	descend_to(ix, r->r_base, &p);
	d = p.p_leaf;
	VM_ASSERT(p.p_node[d]->rn_ptr[p.p_at[d]] == r);
	shift_out(p.p_node[d], p.p_at[d]);
	for (bool gone = true; gone && d > 0 && p.p_node[d]->rn_n < R_MIN; d--)
		gone = fill_node(ix, &p, d);
	refresh_path(&p, d);
	if (root->rn_n == (root->rn_level > 0)) { /* the root has one child, or no entry */
		ix->ri_root = root->rn_ptr[0];
		give_node(ix, root);
	}
}

void range_rekind(struct range_index *ix, struct range_node *r, uint8_t kind)
{
	struct range_path p;

	if (r->r_kind == kind)
		return;
	descend_to(ix, r->r_base, &p);
	VM_ASSERT(p.p_node[p.p_leaf]->rn_ptr[p.p_at[p.p_leaf]] == r);
	p.p_node[p.p_leaf]->rn_kind[p.p_at[p.p_leaf]] = r->r_kind = kind;
}

void range_resize(struct range_index *ix, struct range_node *r, vaddr_t base, vaddr_t end)
{
	struct range_path p;
	struct entry e;

	VM_ASSERT(base < end);
	descend_to(ix, r->r_base, &p);
	VM_ASSERT(p.p_node[p.p_leaf]->rn_ptr[p.p_at[p.p_leaf]] == r);
	r->r_base = base;
	r->r_end = end;
	e = entry_of(r);
	put_entry(p.p_node[p.p_leaf], p.p_at[p.p_leaf], &e);
	refresh_path(&p, p.p_leaf);
}

/* ---- searches ---- */
unsigned range_levels(const struct range_index *ix)
{
	return ix->ri_root == NULL ? 0 : ix->ri_root->rn_level + 1;
}

struct range_node *range_find_ge(const struct range_index *ix, vaddr_t va)
{
	const struct rnode *n = ix->ri_root;
	unsigned i;

	for (; n != NULL; n = n->rn_ptr[i]) {
		if ((i = first_above(n, va)) == R_MAX)
			return NULL;
		if (n->rn_level == 0)
			return n->rn_ptr[i];
		if (n->rn_level == 1 && n->rn_ptr[i] != NULL)
			will_read(n->rn_ptr[i]);
	}
	return NULL;
}

/* Does the range below the place where the path ends end at va, and is it of that kind? */
static struct range_node *touches_below(const struct range_path *p, vaddr_t va, uint8_t kind)
{
	const struct rnode *n;
	unsigned d = p->p_leaf, i;

	while (d > 0 && p->p_at[d] == 0)
		d--;
	if (p->p_at[d] == 0 || p->p_node[d]->rn_end[i = p->p_at[d] - 1] != va)
		return NULL;
	for (n = p->p_node[d]; n->rn_level > 0; i = n->rn_n - 1)
		n = n->rn_ptr[i];
	return n->rn_kind[i] == kind ? n->rn_ptr[i] : NULL;
}

bool range_place(const struct range_index *ix, vaddr_t base, vaddr_t end, struct range_path *p)
{
	const struct rnode *leaf;

	if (ix->ri_root == NULL)
		return true;
	descend_to(ix, base, p);
	leaf = p->p_node[p->p_leaf];
	return p->p_at[p->p_leaf] == leaf->rn_n || leaf->rn_base[p->p_at[p->p_leaf]] >= end;
}

void range_touching(const struct range_index *ix, const struct range_path *p,
    const struct range_node *r, struct range_node **below, struct range_node **above)
{
	const struct rnode *leaf;
	unsigned i;

	*below = *above = NULL;
	if (ix->ri_root == NULL)
		return;
	leaf = p->p_node[p->p_leaf];
	i = p->p_at[p->p_leaf];
	*below = touches_below(p, r->r_base, r->r_kind);
	if (i < leaf->rn_n && leaf->rn_base[i] == r->r_end && leaf->rn_kind[i] == r->r_kind)
		*above = leaf->rn_ptr[i];
}

struct range_node *range_find(const struct range_index *ix, vaddr_t va)
{
	struct range_node *r = range_find_ge(ix, va);

	return r != NULL && va >= r->r_base ? r : NULL;
}

struct range_node *range_next(const struct range_index *ix, const struct range_node *r)
{
	return range_find_ge(ix, r->r_end);
}

/* ---- holes ---- */
struct want {
	uint64_t w_len, w_align;
	vaddr_t w_min, w_max;
	bool w_high;
	vaddr_t w_out;
};

/* The hole [lo, hi) cut to the bounds. */
static bool hole_fits(struct want *w, vaddr_t lo, vaddr_t hi)
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

static bool search_holes(struct want *w, const struct rnode *n);

/* Searches child i, if it may have such a hole. */
static bool search_in(struct want *w, const struct rnode *n, unsigned i)
{
	return n->rn_level > 0 && n->rn_gap[i] >= w->w_len && n->rn_end[i] > w->w_min &&
	    n->rn_base[i] < w->w_max && search_holes(w, n->rn_ptr[i]);
}

/* Searches the node's subtree. */
static bool search_holes(struct want *w, const struct rnode *n)
{
	for (unsigned k = 0; k < n->rn_n; k++) {
		unsigned i = w->w_high ? n->rn_n - 1 - k : k;

		if (!w->w_high && i > 0 && hole_fits(w, n->rn_end[i - 1], n->rn_base[i]))
			return true;
		if (search_in(w, n, i))
			return true;
		if (w->w_high && i > 0 && hole_fits(w, n->rn_end[i - 1], n->rn_base[i]))
			return true;
	}
	return false;
}

bool range_gap(const struct range_index *ix, uint64_t len, uint64_t align, vaddr_t min, vaddr_t max,
    bool high, vaddr_t *out)
{
	struct want w = {
		.w_len = len, .w_align = align, .w_min = min, .w_max = max, .w_high = high
	};
	const struct rnode *n = ix->ri_root;
	vaddr_t lo = n != NULL ? n->rn_base[0] : RANGE_NONE,
		hi = n != NULL ? n->rn_end[n->rn_n - 1] : RANGE_NONE;

	if (len == 0 || align == 0 || (align & (align - 1)) != 0 || min >= max)
		return false;
	if (!(high ? hole_fits(&w, hi, RANGE_NONE) || (n != NULL && search_holes(&w, n)) ||
			hole_fits(&w, 0, lo)
		   : hole_fits(&w, 0, lo) || (n != NULL && search_holes(&w, n)) ||
			hole_fits(&w, hi, RANGE_NONE)))
		return false;
	*out = w.w_out;
	return true;
}

/* ---- checks ---- */
struct range_checker {
	void (*c_report)(void *, const char *);
	void *c_arg;
	unsigned c_bad;
	uint64_t c_nodes, c_ranges;
	vaddr_t c_end; /* of the range before */
};

static void report_wrong(struct range_checker *c, const char *text)
{
	c->c_report(c->c_arg, text);
	c->c_bad++;
}

static void check_range(struct range_checker *c, const struct rnode *n, unsigned i)
{
	const struct range_node *r = n->rn_ptr[i];

	if (r->r_base != n->rn_base[i] || r->r_end != n->rn_end[i])
		report_wrong(c, "range: the index has other bounds than the range");
	if (r->r_kind != n->rn_kind[i])
		report_wrong(c, "range: the index has another kind than the range");
	if (n->rn_base[i] >= n->rn_end[i] || (c->c_ranges > 0 && c->c_end > n->rn_base[i]))
		report_wrong(c, "range: empty, overlapping or out of order");
	c->c_end = n->rn_end[i];
	c->c_ranges++;
}

static void check_node(struct range_checker *c, struct rnode *n, bool root)
{
	if (n->rn_n > R_MAX || n->rn_n < (root ? 1 + (n->rn_level > 0) : R_MIN)) {
		report_wrong(c, "range: too few or too many entries in a node");
		return;
	}
	c->c_nodes++;
	for (unsigned i = 0; i < n->rn_n; i++) {
		struct rnode *child = n->rn_ptr[i];
		struct entry e;

		if (n->rn_level == 0) {
			check_range(c, n, i);
			continue;
		}
		if (child->rn_level + 1 != n->rn_level) {
			report_wrong(c, "range: the tree is not balanced or not linked");
			return;
		}
		check_node(c, child, false);
		e = sum_node(child);
		if (e.e_base != n->rn_base[i] || e.e_end != n->rn_end[i] || e.e_gap != n->rn_gap[i])
			report_wrong(c, "range: a node does not know its subtree");
	}
	for (unsigned i = n->rn_n; i < R_MAX; i++)
		if (n->rn_end[i] != RANGE_NONE || n->rn_ptr[i] != NULL)
			report_wrong(c, "range: an entry that is not used looks used");
}

unsigned range_check(const struct range_index *ix, void (*report)(void *, const char *), void *arg)
{
	struct range_checker c = { .c_report = report, .c_arg = arg };

	if (ix->ri_root != NULL)
		check_node(&c, ix->ri_root, true);
	if (c.c_nodes + ix->ri_nspare != ix->ri_nodes ||
	    ix->ri_nodes < nodes_for(ix->ri_promised) || c.c_ranges > ix->ri_promised)
		report_wrong(&c, "range: nodes are lost, or fewer than promised");
	return c.c_bad;
}
