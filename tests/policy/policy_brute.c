/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Written in the most obvious way from the papers' descriptions, and from the head comments of
 * policy/ where these fill a gap of a paper. No code is shared with policy/. In every list the
 * first element is the oldest.
 */
#include "tests/policy/policy_brute.h"

#include <stdlib.h>
#include <string.h>

/* ---- lists of pages ---- */
struct list {
	uint32_t *v;
	uint32_t n, cap;
};

static int where(const struct list *l, uint32_t page)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->v[i] == page)
			return (int)i;
	return -1;
}

static bool in(const struct list *l, uint32_t page) { return where(l, page) >= 0; }

static void append(struct list *l, uint32_t page)
{
	if (l->n == l->cap) {
		l->cap = l->cap * 2 + 8;
		l->v = realloc(l->v, l->cap * sizeof *l->v);
		if (l->v == NULL)
			abort();
	}
	l->v[l->n++] = page;
}

static void erase(struct list *l, uint32_t page)
{
	int i = where(l, page);

	if (i < 0)
		abort();
	memmove(&l->v[i], &l->v[i + 1], (l->n - (uint32_t)i - 1) * sizeof *l->v);
	l->n--;
}

static uint32_t shift(struct list *l)
{
	uint32_t page = l->v[0];

	erase(l, page);
	return page;
}

/* ---- a run ---- */
struct run {
	uint32_t c;
	uint32_t *out;
	uint64_t *nout;
};

static void evicts(struct run *r, uint32_t page) { r->out[(*r->nout)++] = page; }

/* ---- LRU ---- */
static uint64_t lru(struct run *r, const uint32_t *refs, uint64_t n)
{
	struct list m = { 0 };
	uint64_t misses = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint32_t x = refs[i];

		if (in(&m, x)) {
			erase(&m, x);
		} else {
			misses++;
			if (m.n == r->c)
				evicts(r, shift(&m));
		}
		append(&m, x);
	}
	free(m.v);
	return misses;
}

/* ---- the two-handed clock as two queues; the second holds a little more than an eighth ---- */
static uint64_t clock2(struct run *r, const uint32_t *refs, uint64_t n)
{
	struct list active = { 0 }, inactive = { 0 };
	uint64_t misses = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint32_t x = refs[i];

		if (in(&active, x))
			continue;
		if (in(&inactive, x)) {
			erase(&inactive, x);
		} else {
			misses++;
			if (active.n + inactive.n == r->c) {
				while (active.n > 0 && inactive.n < r->c / 8 + 1)
					append(&inactive, shift(&active));
				evicts(r, shift(&inactive));
			}
		}
		append(&active, x);
	}
	free(active.v);
	free(inactive.v);
	return misses;
}

/* ---- ARC: Megiddo and Modha 2003, figure 4 ---- */
struct arc {
	struct list t1, t2, b1, b2;
	uint32_t p;
};

static void arc_replace(struct run *r, struct arc *a, uint32_t x)
{
	uint32_t gone;

	if (a->t1.n >= 1 && ((in(&a->b2, x) && a->t1.n == a->p) || a->t1.n > a->p)) {
		gone = shift(&a->t1);
		append(&a->b1, gone);
	} else {
		gone = shift(&a->t2);
		append(&a->b2, gone);
	}
	evicts(r, gone);
}

static void arc_new(struct run *r, struct arc *a, uint32_t x)
{
	uint32_t l1 = a->t1.n + a->b1.n, all = l1 + a->t2.n + a->b2.n;

	if (l1 == r->c) {
		if (a->t1.n < r->c) {
			(void)shift(&a->b1);
			arc_replace(r, a, x);
		} else {
			evicts(r, shift(&a->t1));
		}
	} else if (all >= r->c) {
		if (all == 2 * r->c)
			(void)shift(&a->b2);
		arc_replace(r, a, x);
	}
	append(&a->t1, x);
}

static uint64_t arc(struct run *r, const uint32_t *refs, uint64_t n)
{
	struct arc a = { .p = 0 };
	uint64_t misses = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint32_t x = refs[i], d;

		if (in(&a.t1, x)) {
			erase(&a.t1, x);
			append(&a.t2, x);
			continue;
		}
		if (in(&a.t2, x)) {
			erase(&a.t2, x);
			append(&a.t2, x);
			continue;
		}
		misses++;
		if (in(&a.b1, x)) {
			d = a.b1.n >= a.b2.n ? 1 : a.b2.n / a.b1.n;
			a.p = a.p + d < r->c ? a.p + d : r->c;
			arc_replace(r, &a, x);
			erase(&a.b1, x);
			append(&a.t2, x);
		} else if (in(&a.b2, x)) {
			d = a.b2.n >= a.b1.n ? 1 : a.b1.n / a.b2.n;
			a.p = a.p > d ? a.p - d : 0;
			arc_replace(r, &a, x);
			erase(&a.b2, x);
			append(&a.t2, x);
		} else {
			arc_new(r, &a, x);
		}
	}
	free(a.t1.v), free(a.t2.v), free(a.b1.v), free(a.b2.v);
	return misses;
}

/* ---- CAR: Bansal and Modha 2004, figure 2 ---- */
static void car_replace(struct run *r, struct arc *a, struct list *used)
{
	for (;;) {
		bool first = a->t1.n >= (a->p > 1 ? a->p : 1);
		uint32_t head = shift(first ? &a->t1 : &a->t2);

		if (!in(used, head)) {
			append(first ? &a->b1 : &a->b2, head);
			evicts(r, head);
			return;
		}
		erase(used, head);
		append(&a->t2, head);
	}
}

static uint64_t car(struct run *r, const uint32_t *refs, uint64_t n)
{
	struct list used = { 0 };
	struct arc a = { .p = 0 };
	uint64_t misses = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint32_t x = refs[i], d;

		if (in(&a.t1, x) || in(&a.t2, x)) {
			if (!in(&used, x))
				append(&used, x);
			continue;
		}
		misses++;
		if (a.t1.n + a.t2.n == r->c) {
			car_replace(r, &a, &used);
			if (!in(&a.b1, x) && !in(&a.b2, x)) {
				if (a.t1.n + a.b1.n == r->c)
					(void)shift(&a.b1);
				else if (a.t1.n + a.t2.n + a.b1.n + a.b2.n == 2 * r->c)
					(void)shift(&a.b2);
			}
		}
		if (in(&a.b1, x)) {
			d = a.b2.n / a.b1.n > 1 ? a.b2.n / a.b1.n : 1;
			a.p = a.p + d < r->c ? a.p + d : r->c;
			erase(&a.b1, x);
			append(&a.t2, x);
		} else if (in(&a.b2, x)) {
			d = a.b1.n / a.b2.n > 1 ? a.b1.n / a.b2.n : 1;
			a.p = a.p > d ? a.p - d : 0;
			erase(&a.b2, x);
			append(&a.t2, x);
		} else {
			append(&a.t1, x);
		}
	}
	free(a.t1.v), free(a.t2.v), free(a.b1.v), free(a.b2.v), free(used.v);
	return misses;
}

/* ---- S3-FIFO: Yang and others 2023, algorithm 1, one page evicted per miss ---- */
static uint64_t s3fifo(struct run *r, const uint32_t *refs, uint64_t n)
{
	struct list s = { 0 }, m = { 0 }, g = { 0 };
	uint32_t small = r->c / 10 > 0 ? r->c / 10 : 1, main_size = r->c - small, top = 0;
	uint64_t misses = 0;
	uint8_t *freq;

	for (uint64_t i = 0; i < n; i++)
		top = refs[i] > top ? refs[i] : top;
	freq = calloc((size_t)top + 1, 1);
	for (uint64_t i = 0; freq != NULL && i < n; i++) {
		uint32_t x = refs[i];

		if (in(&s, x) || in(&m, x)) {
			freq[x] = freq[x] < 3 ? freq[x] + 1 : 3;
			continue;
		}
		misses++;
		for (bool done = s.n + m.n < r->c; !done;) {
			if (m.n > main_size || s.n == 0) {
				uint32_t t = shift(&m);

				if (freq[t] > 0) {
					freq[t]--;
					append(&m, t);
				} else {
					evicts(r, t);
					done = true;
				}
			} else {
				uint32_t t = shift(&s);

				if (freq[t] > 1) {
					freq[t] = 0;
					append(&m, t);
				} else {
					evicts(r, t);
					append(&g, t);
					while (g.n > main_size)
						(void)shift(&g);
					done = true;
				}
			}
		}
		freq[x] = 0;
		if (in(&g, x)) {
			erase(&g, x);
			append(&m, x);
		} else {
			append(&s, x);
		}
	}
	free(freq), free(s.v), free(m.v), free(g.v);
	return misses;
}

/* ---- CLOCK-Pro: Jiang, Chen and Zhang 2005 ---- */
enum kind { HOT, COLD, GHOST };
struct entry {
	uint32_t page;
	enum kind kind;
	bool test, used;
};

/*
 * The circular list; the hot hand is at e[0], so the last element is the head. The other hands are
 * at pages.
 */
struct pro {
	struct entry *e;
	uint32_t n, c, mc, cold_hand, test_hand;
};

static uint32_t pro_index(const struct pro *p, uint32_t page)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (p->e[i].page == page)
			return i;
	return NOT_A_PAGE;
}

static uint32_t pro_count(const struct pro *p, enum kind kind)
{
	uint32_t k = 0;

	for (uint32_t i = 0; i < p->n; i++)
		k += p->e[i].kind == kind;
	return k;
}

static uint32_t pro_after(const struct pro *p, uint32_t page)
{
	return p->e[(pro_index(p, page) + 1) % p->n].page;
}

static struct entry pro_erase(struct pro *p, uint32_t page)
{
	uint32_t i = pro_index(p, page);
	struct entry e = p->e[i];
	uint32_t next = p->n > 1 ? pro_after(p, page) : NOT_A_PAGE;

	if (p->cold_hand == page)
		p->cold_hand = next;
	if (p->test_hand == page)
		p->test_hand = next;
	memmove(&p->e[i], &p->e[i + 1], (p->n - i - 1) * sizeof *p->e);
	p->n--;
	return e;
}

static void pro_head(struct pro *p, struct entry e)
{
	p->e[p->n++] = e;
	if (p->n == 1)
		p->cold_hand = p->test_hand = e.page;
}

static void pro_fewer(struct pro *p) { p->mc = p->mc > 1 ? p->mc - 1 : 1; }

static void pro_more(struct pro *p) { p->mc = p->mc + 1 < p->c ? p->mc + 1 : p->mc; }

/*
 * The hand passes the next hot page, which becomes cold if it was not used, and all pages before
 * it.
 */
static void pro_hot_hand(struct pro *p)
{
	bool hot = false;

	while (!hot) {
		struct entry e = p->e[0];

		if (e.kind == GHOST || (e.kind == COLD && e.test))
			pro_fewer(p);
		if (e.kind == GHOST) {
			(void)pro_erase(p, e.page);
			continue;
		}
		if (e.kind == COLD) {
			e.test = false;
		} else {
			hot = true;
			e.kind = e.used ? HOT : COLD;
			e.used = e.test = false;
		}
		memmove(&p->e[0], &p->e[1], (p->n - 1) * sizeof *p->e);
		p->e[p->n - 1] = e;
	}
}

static void pro_cool(struct pro *p)
{
	while (pro_count(p, HOT) + p->mc > p->c && pro_count(p, HOT) > 0)
		pro_hot_hand(p);
}

static void pro_test_hand(struct pro *p)
{
	struct entry *e = &p->e[pro_index(p, p->test_hand)];

	while (e->kind == HOT || !e->test) {
		p->test_hand = pro_after(p, p->test_hand);
		e = &p->e[pro_index(p, p->test_hand)];
	}
	pro_fewer(p);
	if (e->kind == GHOST) {
		(void)pro_erase(p, e->page);
	} else {
		e->test = false;
		p->test_hand = pro_after(p, p->test_hand);
	}
}

static void pro_make_room(struct run *r, struct pro *p)
{
	for (;;) {
		struct entry *e;

		while (pro_count(p, COLD) == 0)
			pro_hot_hand(p);
		while ((e = &p->e[pro_index(p, p->cold_hand)])->kind != COLD)
			p->cold_hand = pro_after(p, p->cold_hand);
		if (!e->used) {
			evicts(r, e->page);
			if (!e->test) {
				(void)pro_erase(p, e->page);
				return;
			}
			e->kind = GHOST;
			p->cold_hand = pro_after(p, p->cold_hand);
			while (pro_count(p, GHOST) > p->c)
				pro_test_hand(p);
			return;
		}
		struct entry moved = pro_erase(p, e->page);
		moved.used = false;
		if (moved.test) {
			pro_more(p);
			moved.kind = HOT;
			moved.test = false;
			pro_head(p, moved);
			pro_cool(p);
		} else {
			moved.test = true;
			pro_head(p, moved);
		}
	}
}

static uint64_t clockpro(struct run *r, const uint32_t *refs, uint64_t n)
{
	struct pro p = { .c = r->c, .mc = r->c / 100 > 0 ? r->c / 100 : 1 };
	uint64_t misses = 0;

	p.e = calloc(2 * (size_t)r->c + 4, sizeof *p.e);
	for (uint64_t i = 0; p.e != NULL && i < n; i++) {
		uint32_t at = pro_index(&p, refs[i]);

		if (at != NOT_A_PAGE && p.e[at].kind != GHOST) {
			p.e[at].used = true;
			continue;
		}
		misses++;
		if (pro_count(&p, HOT) + pro_count(&p, COLD) == r->c)
			pro_make_room(r, &p);
		if (pro_index(&p, refs[i]) != NOT_A_PAGE) {
			pro_more(&p);
			(void)pro_erase(&p, refs[i]);
			pro_head(&p, (struct entry){ .page = refs[i], .kind = HOT });
			pro_cool(&p);
		} else {
			pro_head(&p, (struct entry){ .page = refs[i], .kind = COLD, .test = true });
		}
	}
	free(p.e);
	return misses;
}

/* ---- generations: as the head of policy/generations.c says ---- */
struct resident {
	uint32_t page, gen;
	uint64_t order; /* time at which the page joined its generation */
	bool used;
};
struct gone {
	uint32_t page;
	uint64_t evictions; /* before its own */
};

static uint32_t oldest_of(const struct resident *m, uint32_t nm, uint32_t gen)
{
	uint32_t old = NOT_A_PAGE;

	for (uint32_t k = 0; k < nm; k++)
		if (m[k].gen == gen && (old == NOT_A_PAGE || m[k].order < m[old].order))
			old = k;
	return old;
}

/* Every used page, the oldest first, joins the youngest generation. The next order. */
static uint64_t join_youngest(struct resident *m, uint32_t nm, uint32_t max, uint64_t order)
{
	for (;;) {
		uint32_t next = NOT_A_PAGE;

		for (uint32_t k = 0; k < nm; k++)
			if (m[k].used &&
			    (next == NOT_A_PAGE || m[k].gen < m[next].gen ||
				(m[k].gen == m[next].gen && m[k].order < m[next].order)))
				next = k;
		if (next == NOT_A_PAGE)
			return order;
		m[next].used = false;
		m[next].gen = max;
		m[next].order = order++;
	}
}

static uint64_t generations(struct run *r, const uint32_t *refs, uint64_t n)
{
	struct resident *m = calloc(r->c, sizeof *m);
	struct gone *g = calloc((size_t)r->c + 1, sizeof *g);
	uint32_t nm = 0, ng = 0, min = 0, max = 1;
	uint64_t misses = 0, evictions = 0, order = 0;

	for (uint64_t i = 0; m != NULL && g != NULL && i < n; i++) {
		uint32_t k, gen, others = 0;

		for (k = 0; k < nm && m[k].page != refs[i]; k++)
			;
		if (k < nm) {
			m[k].used = true;
			continue;
		}
		misses++;
		while (nm == r->c) {
			uint32_t old = oldest_of(m, nm, min);

			if (old == NOT_A_PAGE) {
				if (max == min + 1) {
					max++;
					order = join_youngest(m, nm, max, order);
				}
				min++;
			} else if (m[old].used) {
				m[old].used = false;
				m[old].gen = max;
				m[old].order = order++;
			} else {
				evicts(r, m[old].page);
				g[ng++] =
				    (struct gone){ .page = m[old].page, .evictions = evictions++ };
				if (ng > r->c) {
					memmove(&g[0], &g[1], (ng - 1) * sizeof *g);
					ng--;
				}
				m[old] = m[--nm];
			}
		}
		gen = min + 1;
		for (k = 0; k < nm; k++)
			others += m[k].gen != min;
		for (k = 0; k < ng && g[k].page != refs[i]; k++)
			;
		if (k < ng) {
			if (evictions - g[k].evictions <= others)
				gen = max;
			memmove(&g[k], &g[k + 1], (ng - k - 1) * sizeof *g);
			ng--;
		}
		m[nm++] = (struct resident){ .page = refs[i], .gen = gen, .order = order++ };
	}
	free(m);
	free(g);
	return misses;
}

uint64_t brute(
    const char *policy, const uint32_t *refs, uint64_t n, uint32_t c, uint32_t *out, uint64_t *nout)
{
	static const struct {
		const char *name;
		uint64_t (*run)(struct run *, const uint32_t *, uint64_t);
	} all[] = { { "lru", lru }, { "clock2", clock2 }, { "arc", arc }, { "car", car },
		{ "s3fifo", s3fifo }, { "clockpro", clockpro }, { "generations", generations } };
	struct run r = { .c = c, .out = out, .nout = nout };

	*nout = 0;
	for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
		if (strcmp(all[i].name, policy) == 0)
			return all[i].run(&r, refs, n);
	return UINT64_MAX;
}

/* ---- MIN ---- */
uint64_t brute_min(const uint32_t *refs, uint64_t n, uint32_t c)
{
	struct list m = { 0 };
	uint64_t misses = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t farthest = 0;
		uint32_t victim = 0;

		if (in(&m, refs[i]))
			continue;
		misses++;
		for (uint32_t k = 0; m.n == c && k < c; k++) {
			uint64_t next = i + 1;

			while (next < n && refs[next] != m.v[k])
				next++;
			if (next > farthest) {
				farthest = next;
				victim = m.v[k];
			}
		}
		if (m.n == c)
			erase(&m, victim);
		append(&m, refs[i]);
	}
	free(m.v);
	return misses;
}

static uint64_t fewest(
    const uint32_t *refs, uint64_t n, uint32_t c, const uint32_t *held, uint32_t nheld)
{
	uint32_t next[8];
	uint64_t best = UINT64_MAX;

	for (; n > 0; refs++, n--) {
		uint32_t k = 0;

		while (k < nheld && held[k] != refs[0])
			k++;
		if (k == nheld)
			break;
	}
	if (n == 0)
		return 0;
	for (uint32_t victim = nheld < c ? nheld : 0; victim < (nheld < c ? nheld + 1 : nheld);
	     victim++) {
		uint64_t m;

		memcpy(next, held, nheld * sizeof *next);
		next[victim] = refs[0];
		m = 1 + fewest(refs + 1, n - 1, c, next, victim == nheld ? nheld + 1 : nheld);
		best = m < best ? m : best;
	}
	return best;
}

uint64_t brute_fewest(const uint32_t *refs, uint64_t n, uint32_t c)
{
	uint32_t none[8] = { 0 };

	return c <= 8 ? fewest(refs, n, c, none, 0) : UINT64_MAX;
}
