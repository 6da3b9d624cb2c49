/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Replacement and prefetch behind two small ops vectors. A policy sees pages, identities and
 * references; vm/reclaim/pageout.c finds out what was referenced, cleans and frees. The same
 * policies run in the core on every machine and, by quire-lab, over traces.
 */
#ifndef QUIRE_POLICY_H
#define QUIRE_POLICY_H

#include <quire/page.h>
#include <quire/types.h>

/* How the use of a page in memory shows. */
enum pol_refs {
	POL_REFS_ALL,    /* the machine reports every reference by pol_touch (traces) */
	POL_REFS_BITS,   /* hardware reference bits, asked for through pol_next and pol_seen */
	POL_REFS_WRITES, /* as bits, but for writes only; reads show as with POL_REFS_FAULTS, if the
	                  * page is tested */
	POL_REFS_FAULTS, /* none while a translation is loaded; once it is dropped, the next use is a fault and calls pol_touch */
};

struct pol_env {
	struct page *pe_pages; /* of all frames, by frame number */
	pfn_t pe_nframes;
	enum pol_refs pe_refs;
};

/* What page-out is to do with the page that pol_next gave. */
enum pol_ask {
	POL_ASK_AGE,   /* find out whether the page was used since the last such question, and clear
	              * the record; without bits: drop its translations */
	POL_ASK_TEST,  /* as AGE, but where bits report writes only: if there was none, drop its
	               * translations */
	POL_ASK_EVICT, /* evict the page unless it was used since the last such question */
};

/*
 * All members are called under vm_pollock; none sleeps or allocates; none is NULL. They may use p_next, p_prev and
 * p_polstate of the pages they were given. State is a block of pol_size(nframes) bytes, zero before pol_init.
 */
struct policy_ops {
	const char *pol_name;
	const char *pol_about; /* one line of description */
	bool pol_history; /* it remembers evicted pages: otherwise pol_miss need not be called */
	/* pol_miss must come before room is made for the page; otherwise any time before pol_insert will do. */
	bool pol_miss_first;
	size_t (*pol_size)(pfn_t nframes);
	void (*pol_init)(void *state, const struct pol_env *);
	/* The number of frames (>= 1) that pages may have now. Called before the first pol_next and
	 * after each change. */
	void (*pol_resize)(void *state, pfn_t room);
	/*
	 * A page that is not in memory was asked for and will be brought in. id: a hash of its
	 * identity, the same each time the page comes back. fresh: the page has no history (a first
	 * touch); the policy's record of the id belongs to another page. True: as far as the policy
	 * remembers, the page was evicted not long ago (a refault). Not called for prefetched
	 * pages.
	 */
	bool (*pol_miss)(void *state, uint64_t id, bool fresh);
	/* The page is in memory and may be evicted (it was brought in, unwired, or taken back from
	 * the cache list). */
	void (*pol_insert)(void *state, struct page *, uint64_t id, bool prefetched);
	/* The page leaves the policy: evicted after pol_next, or (not evicted) destroyed or
	 * wired. */
	void (*pol_remove)(void *state, struct page *, uint64_t id, bool evicted);
	/* It was used. P_PREFETCHED is still set at the first use of a prefetched page. */
	void (*pol_touch)(void *state, struct page *);
	/*
	 * The next page to look at, and how; NULL if a full round evicted nothing: the next call
	 * starts a new round. Page-out answers by pol_seen, or by pol_remove if it evicts at once.
	 * A page that must be written before it is evicted is answered by pol_seen (not
	 * referenced), and later by pol_remove, or by pol_seen (skipped) if the write failed.
	 */
	struct page *(*pol_next)(void *state, enum pol_ask *);
	/* Advice: the page will not be used soon; its record of use is cleared. It is the next to
	 * be looked at, unless it is used meanwhile. */
	void (*pol_cool)(void *state, struct page *);
	/* How many pages the policy has (vm_check). */
	uint32_t (*pol_pages)(const void *state);
	/* What page-out found: the page was used since last time; or skipped: it could not be
	 * looked at, or not evicted. */
	void (*pol_seen)(void *state, struct page *, bool referenced, bool skipped);
};
/* All policies, ended by NULL; and the policy of that pol_name, or NULL. policy/table.c */
extern const struct policy_ops *const policy_table[];
const struct policy_ops *policy_find(const char *name);
/* The defaults of the core and of quire run. */
extern const struct policy_ops policy_clock2, policy_generations;

/* intrusive queues of pages: doubly linked by frame number through p_next/p_prev (vm/frame/page_queue.c) */
struct page_queue {
	uint32_t q_head, q_tail, q_len;
};
/* The owner of the queue locks it; none of these functions sleeps or fails. When a page is pushed
 * it is on no queue, when it is removed it is on this one. */
void page_queue_init(struct page_queue *);
void page_queue_push_tail(struct vm *, struct page_queue *, struct page *);
void page_queue_push_head(struct vm *, struct page_queue *, struct page *);
void page_queue_remove(struct vm *, struct page_queue *, struct page *);
struct page *page_queue_head(struct vm *, struct page_queue *); /* NULL: empty */

/* Pages to read besides the one at idx: idx + pl_first + i * pl_step for 0 <= i < pl_n; pages in
 * memory are skipped. */
struct pf_plan {
	int64_t pl_first, pl_step;
	unsigned pl_n;
	unsigned
	    pl_behind; /* a stream has passed so many pages that end just before idx: they may be
	                * evicted first */
};

#define PF_WORDS 12u     /* of state per segment, zero at first; the first two belong to pf_limit */
#define PF_SEQUENTIAL 1u /* advice says so */
#define PF_HIT 2u        /* no I/O: the first use of a page that prefetch brought in */
#define PF_OF_FILE                                                                                 \
	4u /* pages of a file: those beside idx lie beside it on the device, and one read brings them */
#define PF_SCARCE 8u /* frames are scarce: pages read without need evict pages in use */

struct prefetch_ops {
	const char *pf_name;
	const char *pf_about;
	bool pf_counts_hits; /* it learns from first uses: pages that it had read are not mapped
	                     * before they are used */
	/*
	 * Its plans lie beside idx and will be used: they are mapped at once (anonymous memory).
	 * So it is told of faults on pages in memory, too, whose translations page-out has taken to
	 * see whether they are used.
	 */
	bool pf_maps;
	/*
	 * A fault at page idx of a segment that needed I/O, or (PF_HIT) would have without prefetch.
	 * Fills in the plan, which is zero but for the arguments; never more than max pages. Called
	 * without locks; a race only loses hints.
	 */
	void (*pf_plan)(
	    uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags, struct pf_plan *);
};
/* All prefetchers, ended by NULL; and the prefetcher of that pf_name, or NULL. */
extern const struct prefetch_ops *const prefetch_table[];
const struct prefetch_ops *prefetch_find(const char *name);
extern const struct prefetch_ops prefetch_streams; /* the core's default */
#endif
