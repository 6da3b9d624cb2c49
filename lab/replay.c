/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Policies over traces. replay runs the core's own policies as page-out would, one page at a time, on a memory that exists
 * only as an array of struct page. replay_min is MIN (Belady, "A study of replacement algorithms for a virtual-storage
 * computer", IBM Systems Journal 5(2), 1966): evict the page whose next use is farthest; demand paging, so the page asked
 * for always comes in.
 */
#include "lab.h"

#include <stdlib.h>
#include <string.h>

struct memory {
	const struct policy_ops *m_ops;
	void *m_state;
	struct page *m_page; /* [frames] */
	uint32_t *m_held;    /* [frames] dense page */
	bool *m_dirty;       /* [frames] */
	uint32_t *m_frame;   /* [npages] PAGE_NIL: not in memory */
	uint8_t *m_known;    /* [npages]: the page was referenced before */
	uint32_t m_frames, m_used;
};

static bool memory_open(
    struct memory *m, const struct policy_ops *ops, const struct trace *t, uint32_t frames)
{
	struct pol_env env = { .pe_nframes = frames, .pe_refs = POL_REFS_ALL };

	*m = (struct memory){ .m_ops = ops, .m_frames = frames };
	m->m_state = calloc(1, ops->pol_size(frames) + 8);
	m->m_page = aligned_alloc(64, sizeof(struct page) * frames);
	m->m_held = calloc(frames, sizeof *m->m_held);
	m->m_dirty = calloc(frames, sizeof *m->m_dirty);
	m->m_frame = malloc(sizeof *m->m_frame * t->t_npages);
	m->m_known = calloc(t->t_npages, 1);
	if (m->m_state == NULL || m->m_page == NULL || m->m_held == NULL || m->m_dirty == NULL ||
	    m->m_frame == NULL || m->m_known == NULL)
		return false;
	memset(m->m_page, 0, sizeof(struct page) * frames);
	for (uint32_t i = 0; i < frames; i++)
		m->m_page[i].p_next = m->m_page[i].p_prev = PAGE_NIL;
	memset(m->m_frame, 0xff, sizeof *m->m_frame * t->t_npages);
	env.pe_pages = m->m_page;
	ops->pol_init(m->m_state, &env);
	ops->pol_resize(m->m_state, frames);
	return true;
}

static void memory_close(struct memory *m)
{
	free(m->m_state);
	free(m->m_page);
	free(m->m_held);
	free(m->m_dirty);
	free(m->m_frame);
	free(m->m_known);
}

/* The frame that was freed; PAGE_NIL: the policy named no victim. */
static uint32_t evict_page(struct memory *m)
{
	for (unsigned rounds = 0; rounds < 2;) {
		enum pol_ask ask;
		struct page *pp = m->m_ops->pol_next(m->m_state, &ask);
		uint32_t i;

		if (pp == NULL) {
			rounds++;
			continue;
		}
		if (ask == POL_ASK_AGE) {
			m->m_ops->pol_seen(m->m_state, pp, false, false);
			continue;
		}
		i = (uint32_t)(pp - m->m_page);
		m->m_ops->pol_remove(m->m_state, pp, m->m_held[i], true);
		m->m_frame[m->m_held[i]] = PAGE_NIL;
		return i;
	}
	return PAGE_NIL;
}

bool replay(const struct policy_ops *ops, const struct trace *t, uint32_t frames,
    void (*evicted)(void *arg, uint64_t at, uint32_t page), void *arg, struct replay_result *r)
{
	struct memory m;
	bool ok = memory_open(&m, ops, t, frames);

	*r = (struct replay_result){ 0 };
	for (uint64_t i = 0; ok && i < t->t_len; i++) {
		uint32_t page = t->t_page[i], f = m.m_frame[page];

		if (f != PAGE_NIL) {
			m.m_dirty[f] |= t->t_write[i] != 0;
			if (!t->t_reads_unseen || t->t_write[i] != 0)
				ops->pol_touch(m.m_state, &m.m_page[f]);
			continue;
		}
		r->misses++;
		(void)ops->pol_miss(m.m_state, page, m.m_known[page] == 0);
		m.m_known[page] = 1;
		if (m.m_used < frames) {
			f = m.m_used++;
		} else if ((f = evict_page(&m)) == PAGE_NIL) {
			ok = false;
			break;
		} else {
			r->writes += m.m_dirty[f];
			if (evicted != NULL)
				evicted(arg, i, m.m_held[f]);
		}
		m.m_frame[page] = f;
		m.m_held[f] = page;
		m.m_dirty[f] = t->t_write[i] != 0;
		ops->pol_insert(m.m_state, &m.m_page[f], page, false);
	}
	memory_close(&m);
	return ok;
}

/* ---- prefetch ---- */
/* Brings the page in; false: the policy named no victim. */
static bool bring_in(struct memory *m, uint32_t page, bool prefetched, struct prefetch_result *r)
{
	uint32_t f = m->m_used < m->m_frames ? m->m_used++ : evict_page(m);

	if (f == PAGE_NIL)
		return false;
	r->unused += (m->m_page[f].p_flags & P_PREFETCHED) != 0;
	m->m_page[f].p_flags = prefetched ? P_PREFETCHED : 0;
	m->m_frame[page] = f;
	m->m_held[f] = page;
	m->m_ops->pol_insert(m->m_state, &m->m_page[f], page, prefetched);
	return true;
}

static bool bring_plan(struct memory *m, const struct trace *t, uint64_t idx,
    const struct pf_plan *pl, struct prefetch_result *r)
{
	for (unsigned i = 0; i < pl->pl_n; i++) {
		uint32_t page =
		    trace_find(t, idx + (uint64_t)(pl->pl_first + (int64_t)i * pl->pl_step));

		if (page == PAGE_NIL || m->m_frame[page] != PAGE_NIL)
			continue;
		r->issued++;
		if (!bring_in(m, page, true, r))
			return false;
	}
	return true;
}

bool replay_prefetch(const struct prefetch_ops *pf, const struct policy_ops *ops,
    const struct trace *t, uint32_t frames,
    void (*told)(void *arg, uint64_t idx, unsigned max, unsigned flags, const struct pf_plan *),
    void *arg, struct prefetch_result *r)
{
	unsigned max = frames / 4 < 32 ? frames / 4 : 32;
	uint64_t st[PF_WORDS] = { 0 };
	struct memory m;
	bool ok = memory_open(&m, ops, t, frames);

	*r = (struct prefetch_result){ 0 };
	for (uint64_t i = 0; ok && i < t->t_len; i++) {
		uint32_t page = t->t_page[i], f = m.m_frame[page];
		uint64_t idx = t->t_addr[page];
		struct pf_plan pl = { 0 };
		bool miss = f == PAGE_NIL,
		     first = !miss && (m.m_page[f].p_flags & P_PREFETCHED) != 0;

		if (miss) {
			r->misses++;
			(void)ops->pol_miss(m.m_state, page, m.m_known[page] == 0);
			m.m_known[page] = 1;
			ok = bring_in(&m, page, false, r);
		} else {
			ops->pol_touch(m.m_state, &m.m_page[f]);
			m.m_page[f].p_flags = 0;
			r->used += first;
		}
		if (miss || first) {
			pf->pf_plan(st, idx, max, miss ? 0 : PF_HIT, &pl);
			if (told != NULL)
				told(arg, idx, max, miss ? 0 : PF_HIT, &pl);
			ok = ok && bring_plan(&m, t, idx, &pl, r);
		}
	}
	memory_close(&m);
	return ok;
}

/* ---- MIN: a heap of the pages in memory, the farthest next use on top ---- */
struct min {
	uint64_t *n_next;  /* [len] index of the next use of the page used at i; len: never */
	uint64_t *n_when;  /* [npages] next use of a page in memory */
	uint32_t *n_heap;  /* [frames] pages */
	uint32_t *n_place; /* [npages] place in the heap; PAGE_NIL: not in memory */
	uint32_t n_len;
};

static void heap_put(struct min *m, uint32_t place, uint32_t page)
{
	m->n_heap[place] = page;
	m->n_place[page] = place;
}

static void sift_up(struct min *m, uint32_t i)
{
	uint32_t page = m->n_heap[i];

	for (; i > 0 && m->n_when[m->n_heap[(i - 1) / 2]] < m->n_when[page]; i = (i - 1) / 2)
		heap_put(m, i, m->n_heap[(i - 1) / 2]);
	heap_put(m, i, page);
}

static void sift_down(struct min *m, uint32_t i)
{
	uint32_t page = m->n_heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= m->n_len)
			break;
		if (child + 1 < m->n_len &&
		    m->n_when[m->n_heap[child + 1]] > m->n_when[m->n_heap[child]])
			child++;
		if (m->n_when[m->n_heap[child]] <= m->n_when[page])
			break;
		heap_put(m, i, m->n_heap[child]);
		i = child;
	}
	heap_put(m, i, page);
}

static bool min_open(struct min *m, const struct trace *t, uint32_t frames)
{
	uint64_t *last = malloc(sizeof *last * t->t_npages);

	m->n_next = malloc(sizeof *m->n_next * t->t_len);
	m->n_when = calloc(t->t_npages, sizeof *m->n_when);
	m->n_heap = malloc(sizeof *m->n_heap * frames);
	m->n_place = malloc(sizeof *m->n_place * t->t_npages);
	m->n_len = 0;
	if (last == NULL || m->n_next == NULL || m->n_when == NULL || m->n_heap == NULL ||
	    m->n_place == NULL) {
		free(last);
		return false;
	}
	for (uint32_t i = 0; i < t->t_npages; i++) {
		last[i] = t->t_len;
		m->n_place[i] = PAGE_NIL;
	}
	for (uint64_t i = t->t_len; i-- > 0;) {
		m->n_next[i] = last[t->t_page[i]];
		last[t->t_page[i]] = i;
	}
	free(last);
	return true;
}

bool replay_min(const struct trace *t, uint32_t frames, struct replay_result *r)
{
	bool *dirty = calloc(t->t_npages, 1);
	struct min m;
	bool ok = min_open(&m, t, frames) && dirty != NULL;

	*r = (struct replay_result){ 0 };
	for (uint64_t i = 0; ok && i < t->t_len; i++) {
		uint32_t page = t->t_page[i];

		m.n_when[page] = m.n_next[i];
		if (m.n_place[page] != PAGE_NIL) {
			sift_up(&m, m.n_place[page]); /* the next use of a page only moves to later
			                               * references */
		} else {
			r->misses++;
			if (m.n_len < frames) {
				heap_put(&m, m.n_len, page);
				sift_up(&m, m.n_len++);
			} else {
				uint32_t victim = m.n_heap[0];

				r->writes += dirty[victim];
				dirty[victim] = false;
				m.n_place[victim] = PAGE_NIL;
				heap_put(&m, 0, page);
				sift_down(&m, 0);
			}
		}
		dirty[page] |= t->t_write[i] != 0;
	}
	free(m.n_next);
	free(m.n_when);
	free(m.n_heap);
	free(m.n_place);
	free(dirty);
	return ok;
}
