/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Replacement and prefetch behind two small ops vectors. A policy sees pages, identities and references; finding out what
 * was referenced, cleaning and freeing is vm/reclaim/pageout.c's. The same policies run in the core on every machine and, by
 * quire-lab, over traces.
 */
#ifndef QUIRE_POLICY_H
#define QUIRE_POLICY_H

#include <quire/page.h>
#include <quire/types.h>

/* What is seen of the use of a page that is in memory. */
enum pol_refs {
	POL_REFS_ALL,  /* the machine reports every reference by pol_touch (traces) */
	POL_REFS_BITS, /* hardware reference bits, asked for through pol_next and pol_seen */
	POL_REFS_WRITES, /* as bits, but of writes only; what is only read shows as with POL_REFS_FAULTS, if it is tested */
	POL_REFS_FAULTS, /* none while a translation is loaded; once it is dropped, the next use is a fault and calls pol_touch */
};

struct pol_env {
	struct page *pe_pages; /* of all frames, by frame number */
	pfn_t pe_nframes;
	enum pol_refs pe_refs;
};

/* What page-out is to do with the page that pol_next gave. */
enum pol_ask {
	POL_ASK_AGE, /* find out whether it was used since asked last, and forget it; without bits: drop its translations */
	POL_ASK_TEST, /* as AGE, but where bits tell of writes only: if none was seen, drop its translations */
	POL_ASK_EVICT, /* evict it unless it was used since asked last */
};

/*
 * All members are called under vm_pollock; none sleeps or allocates; none is NULL. They may use p_next, p_prev and
 * p_polstate of the pages they were given. State is a block of pol_size(nframes) bytes, zero before pol_init.
 */
struct policy_ops {
	const char *pol_name;
	const char *pol_about; /* one line for people */
	bool pol_history; /* it remembers pages that are gone: else pol_miss need not be called */
	/* pol_miss must come before room is made for the page; otherwise any time before pol_insert will do. */
	bool pol_miss_first;
	size_t (*pol_size)(pfn_t nframes);
	void (*pol_init)(void *state, const struct pol_env *);
	/* So many frames (>= 1) are there for pages now. Called before the first pol_next and whenever it changed. */
	void (*pol_resize)(void *state, pfn_t room);
	/*
	 * A page of that identity, which is not in memory, was asked for and will be brought in. id: hash of its identity, the
	 * same whenever it comes back. fresh: it has no history (a first touch); what is known of the id is another page's.
	 * True: it was evicted not long ago, as far as the policy remembers (a refault). Not called for prefetched pages.
	 */
	bool (*pol_miss)(void *state, uint64_t id, bool fresh);
	/* The page is in memory and evictable (brought in, unwired, taken back from the cache list). */
	void (*pol_insert)(void *state, struct page *, uint64_t id, bool prefetched);
	/* It is no longer the policy's: evicted after pol_next, or (not evicted) destroyed or wired. */
	void (*pol_remove)(void *state, struct page *, uint64_t id, bool evicted);
	/* It was used. P_PREFETCHED is still set at the first use of a prefetched page. */
	void (*pol_touch)(void *state, struct page *);
	/*
	 * The next page to look at, and how; NULL once a full round gave nothing: then it starts again. Page-out answers by
	 * pol_seen, or by pol_remove if it evicts at once. A page that may be evicted only after it was written is
	 * answered by pol_seen (not referenced), and later pol_remove, or pol_seen (skipped) if the write failed.
	 */
	struct page *(*pol_next)(void *state, enum pol_ask *);
	/* Advice: it will not be used soon; its use so far is forgotten. It is looked at first, unless it is used meanwhile. */
	void (*pol_cool)(void *state, struct page *);
	/* How many pages it has (vm_check). */
	uint32_t (*pol_pages)(const void *state);
	/* What was found: used since last time; or skipped: it could not be looked at, or not evicted. */
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
/* The owner of the queue locks it; none of these sleeps or fails. The page is on no queue when it is pushed, on this one when removed. */
void page_queue_init(struct page_queue *);
void page_queue_push_tail(struct vm *, struct page_queue *, struct page *);
void page_queue_push_head(struct vm *, struct page_queue *, struct page *);
void page_queue_remove(struct vm *, struct page_queue *, struct page *);
struct page *page_queue_head(struct vm *, struct page_queue *); /* NULL: empty */

/* Pages to read besides the one at idx: idx + pl_first + i * pl_step for 0 <= i < pl_n; pages already there are passed over. */
struct pf_plan {
	int64_t pl_first, pl_step;
	unsigned pl_n;
	bool
	    pl_map; /* the pages lie beside idx and will be used: map them at once (anonymous memory) */
	unsigned
	    pl_behind; /* so many pages that end just before idx have been passed by a stream and may go first */
};

#define PF_WORDS 12u     /* of state per segment, zero at first; the first two belong to pf_limit */
#define PF_SEQUENTIAL 1u /* advice says so */
#define PF_HIT 2u        /* no I/O: the first use of a page that prefetch brought in */
#define PF_OF_FILE                                                                                 \
	4u /* pages of a file: those beside idx lie beside it on the device, and one read brings them */
#define PF_SCARCE 8u /* frames are scarce: what is read without need drives out what is in use */

struct prefetch_ops {
	const char *pf_name;
	const char *pf_about;
	bool
	    pf_counts_hits; /* it learns from first uses: pages that it had read are not mapped before them */
	/*
	 * A fault at page idx of a segment that needed I/O, or (PF_HIT) would have without prefetch. Fills the plan, which is
	 * zero but for what is given; never more than max pages. Called without locks; races lose hints, nothing else.
	 */
	void (*pf_plan)(
	    uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags, struct pf_plan *);
};
/* All prefetchers, ended by NULL; and the prefetcher of that pf_name, or NULL. */
extern const struct prefetch_ops *const prefetch_table[];
const struct prefetch_ops *prefetch_find(const char *name);
extern const struct prefetch_ops prefetch_streams; /* the core's default */
#endif
