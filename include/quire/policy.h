/* SPDX-License-Identifier: BSD-2-Clause */
/* Replacement and prefetch behind two small ops vectors. Policies see pages only; mechanism is vm/pageout.c's. */
#ifndef QUIRE_POLICY_H
#define QUIRE_POLICY_H

#include <quire/page.h>
#include <quire/types.h>

/*
 * All members are called under vm_pagelock and may use p_next/p_prev/p_polstate of queued pages; none sleeps or allocates.
 * State is a block of pol_size(nframes) bytes given at init.
 */
enum pol_verdict { POL_KEEP, POL_EVICT };
struct policy_ops {
	const char *pol_name;
	size_t (*pol_size)(pfn_t nframes);
	void (*pol_init)(void *state, struct vm *, pfn_t nframes);
	/* A page became evictable (filled or taken back); id = stable hash of its identity for ghost lists. */
	void (*pol_insert)(void *state, struct page *, uint64_t id, bool prefetched);
	/* It is no longer ours (destroyed, wired, being evicted). evicted: it leaves memory by the policy's own choice. */
	void (*pol_remove)(void *state, struct page *, uint64_t id, bool evicted);
	/* A fault found it in memory (rescue): a reference was seen. */
	void (*pol_touch)(void *state, struct page *);
	/*
	 * The next page to look at, or NULL when a full round found none. *deactivate: do not evict yet: only drop or
	 * age its reference state (front hand; machines without reference bits unload the translation, so that the next access
	 * shows as a rescue). pageout.c locks it, asks the HAT, and answers by pol_seen.
	 */
	struct page *(*pol_next)(void *state, bool *deactivate);
	/* What pageout.c found about the page pol_next gave: referenced since last time, or not lockable/skipped. */
	void (*pol_seen)(void *state, struct page *, bool referenced, bool skipped);
};
extern const struct policy_ops policy_clock2; /* two-handed clock: SVR4/Solaris */
/* intrusive queue helpers for policies: doubly linked by frame number through p_next/p_prev (vm/page.c) */
struct page_queue { uint32_t q_head, q_tail, q_len; };
void page_queue_init(struct page_queue *);
void page_queue_push_tail(struct vm *, struct page_queue *, struct page *);
void page_queue_push_head(struct vm *, struct page_queue *, struct page *);
void page_queue_remove(struct vm *, struct page_queue *, struct page *);
struct page *page_queue_head(struct vm *, struct page_queue *);

struct prefetch_ops {
	const char *pf_name;
	/* A fault that needed I/O at page index idx of a segment with state st[4] (zero at first): how many pages after idx
	 * to read with it (0..max). seq: advice says sequential. Called without locks; races lose hints, nothing else. */
	unsigned (*pf_window)(uint64_t st[4], uint64_t idx, unsigned max, bool seq);
};
extern const struct prefetch_ops prefetch_window;
#endif
