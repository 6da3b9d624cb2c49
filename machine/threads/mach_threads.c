/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine of host threads: see mach_threads.h. Locks are those of the Linux machine (machine/linux/locks.c).
 *
 * f1: one word a page of each space: frame + 1 and rights. f2: p_hat[0] = the hat, p_hat[1] = address and rights; a frame
 * has one translation at a time. Reference and modification bits are set in the page by the accesses themselves.
 *
 * Lock: mt_lock[frame's hash] guards the translation of a frame and its word of f1; a thread that
 * reads the word without the lock reads it again under the lock. An access holds the lock, so a
 * removed translation is no longer used: this takes the place of a TLB flush.
 */
#include "machine/threads/mach_threads.h"

#include "sys/linux/sys.h"
#include <quire/as.h>
#include <quire/hat.h>
#include <quire/page.h>
#include <quire/vm.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#define LOCKS 1024u
#define LOCKRUN 4u /* log2 of the adjacent frames that share a lock */
#define ATTRS 7u
#define LOCKED 8u
#define PFN_SHIFT 8u /* f1: frame + 1 above, rights and LOCKED below */
#define BOOT 64u

static bool mt_rdpid; /* set by every mt_create to the same value */

struct padded {
	_Alignas(64) struct mach_mutex mutex;
};

struct mach {
	struct padded mt_lock[LOCKS];
	struct mach_caps m_caps;
	unsigned char *m_mem;
	void *m_boot[BOOT];
	size_t m_bootlen[BOOT];
	unsigned m_nboot;
};

struct hat {
	struct mach *h_mach;
	struct vm *h_vm;
	struct as *h_as;
	uint64_t *h_word; /* [MT_SPAN / VM_PAGESIZE] */
};

/* Allocates all pages at once: the kernel's work at first touches is not to be measured. */
static void *map_memory(size_t bytes)
{
	void *p = mmap(
	    NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct mach *mt_create(pfn_t nframes)
{
	struct mach *m = aligned_alloc(64, sizeof *m);

	memset(m, 0, sizeof *m);
	mt_rdpid = sys_has_rdpid();
	m->m_caps = (struct mach_caps){ .mc_name = "threads",
		.mc_nframes = nframes,
		.mc_ncpus = 64,
		.mc_max_mappings = 1,
		.mc_direct_map = true,
		.mc_ref_bits = true,
		.mc_mod_bits = true,
		.mc_user_min = MT_BASE,
		.mc_user_max = MT_BASE + MT_SPAN };
	m->m_mem = map_memory((size_t)nframes * VM_PAGESIZE);
	(void)madvise(m->m_mem, (size_t)nframes * VM_PAGESIZE, MADV_HUGEPAGE);
	memset(m->m_mem, 0xa5, (size_t)nframes * VM_PAGESIZE);
	for (unsigned i = 0; i < LOCKS; i++)
		mach_mutex_init(&m->mt_lock[i].mutex, RANK_HAT, "translations");
	return m;
}

void mt_destroy(struct mach *m)
{
	for (unsigned i = 0; i < m->m_nboot; i++)
		(void)munmap(m->m_boot[i], m->m_bootlen[i]);
	for (unsigned i = 0; i < LOCKS; i++)
		mach_mutex_fini(&m->mt_lock[i].mutex);
	(void)munmap(m->m_mem, (size_t)m->m_caps.mc_nframes * VM_PAGESIZE);
	free(m);
}

const struct mach_caps *mach_caps(struct mach *m) { return &m->m_caps; }

/* ---- CPUs, threads, time ---- */
unsigned mach_cpu_id(void) { return sys_cpu(mt_rdpid) % 64; }

uint64_t mach_time_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct mach_thread *mach_thread_create(
    struct mach *m, void (*fn)(void *), void *arg, const char *name)
{
	return NULL;
}
void mach_thread_join(struct mach_thread *t) {}
void mach_yield(void) { (void)sched_yield(); }

_Noreturn void mach_panic(const char *msg)
{
	fprintf(stderr, "panic: %s\n", msg);
	abort();
}

/* ---- memory ---- */
void *mach_boot_alloc(struct mach *m, size_t bytes)
{
	void *p = m->m_nboot < BOOT ? map_memory(bytes) : NULL;

	if (p != NULL) {
		m->m_boot[m->m_nboot] = p;
		m->m_bootlen[m->m_nboot++] = bytes;
	}
	return p;
}

void *mach_frame_kva(struct mach *m, pfn_t pfn) { return m->m_mem + (size_t)pfn * VM_PAGESIZE; }
pfn_t mach_kva_frame(struct mach *m, const void *kva)
{
	return (pfn_t)((size_t)((const unsigned char *)kva - m->m_mem) / VM_PAGESIZE);
}
void mach_frame_zero(struct mach *m, pfn_t pfn) { memset(mach_frame_kva(m, pfn), 0, VM_PAGESIZE); }
void mach_frame_copy(struct mach *m, pfn_t dst, pfn_t src)
{
	memcpy(mach_frame_kva(m, dst), mach_frame_kva(m, src), VM_PAGESIZE);
}
void mach_frame_discard(struct mach *m, pfn_t pfn, pfn_t n)
{
	memset(mach_frame_kva(m, pfn), 0xdd, (size_t)n * VM_PAGESIZE);
}
void mach_frame_retire(struct mach *m, pfn_t pfn)
{
	(void)m;
	(void)pfn;
}
void mach_frame_renew(struct mach *m, pfn_t pfn)
{
	(void)m;
	(void)pfn;
}
pfn_t mach_frames_grant(struct mach *m, pfn_t n) { return 0; }
void mach_frames_release(struct mach *m, pfn_t n) {}

/* ---- translations ---- */
static uint64_t *word_of(const struct hat *h, vaddr_t va)
{
	return &h->h_word[(va - MT_BASE) >> VM_PAGESHIFT];
}
static uint64_t word_get(const uint64_t *w) { return __atomic_load_n(w, __ATOMIC_ACQUIRE); }
static void word_set(uint64_t *w, uint64_t v) { __atomic_store_n(w, v, __ATOMIC_RELEASE); }
static struct page *word_page(const struct hat *h, uint64_t w)
{
	return page_of(h->h_vm, (pfn_t)(w >> PFN_SHIFT) - 1);
}
static struct mach_mutex *lock_of(struct mach *m, pfn_t pfn)
{
	return &m->mt_lock[(pfn >> LOCKRUN) % LOCKS].mutex;
}

/* The word of va with its frame's lock held, or 0 and nothing held. */
static uint64_t word_enter(struct hat *h, vaddr_t va, struct mach_mutex **held)
{
	for (uint64_t w; (w = word_get(word_of(h, va))) != 0; mach_mutex_exit(*held)) {
		*held = lock_of(h->h_mach, (pfn_t)(w >> PFN_SHIFT) - 1);
		mach_mutex_enter(*held);
		if (word_get(word_of(h, va)) >> PFN_SHIFT == w >> PFN_SHIFT)
			return word_get(word_of(h, va));
	}
	return 0;
}

static void set_hat(struct page *pp, struct hat *h, vaddr_t va)
{
	pp->p_hat[1] = va;
	__atomic_store_n(&pp->p_hat[0], (uint64_t)(uintptr_t)h, __ATOMIC_RELEASE);
}

/* Removes the translation of a page; its lock is held. */
static void drop_translation(struct page *pp)
{
	struct hat *h = (struct hat *)(uintptr_t)pp->p_hat[0];

	word_set(word_of(h, pp->p_hat[1]), 0);
	set_hat(pp, NULL, 0);
}

enum vm_err hat_alloc(struct vm *vm, struct as *as, bool kernel, struct hat **hp)
{
	struct hat *h = calloc(1, sizeof *h);

	*h = (struct hat){ .h_mach = vm_machine(vm),
		.h_vm = vm,
		.h_as = as,
		.h_word = map_memory(MT_SPAN / VM_PAGESIZE * sizeof(uint64_t)) };
	*hp = h;
	return VM_OK;
}

void hat_free_start(struct hat *h) {}
void hat_free_end(struct hat *h)
{
	(void)munmap(h->h_word, MT_SPAN / VM_PAGESIZE * sizeof(uint64_t));
	free(h);
}
enum vm_err hat_dup(struct hat *parent, struct hat *child) { return VM_OK; }

static void unload_range(struct hat *h, vaddr_t va, uint64_t len, bool spare)
{
	for (vaddr_t at = va; at < va + len; at += VM_PAGESIZE) {
		struct mach_mutex *held;
		uint64_t w = word_enter(h, at, &held);

		if (w == 0)
			continue;
		if (!spare || (w & LOCKED) == 0)
			drop_translation(word_page(h, w));
		mach_mutex_exit(held);
	}
}

void hat_unload(struct hat *h, vaddr_t va, uint64_t len, unsigned flags)
{
	unload_range(h, va, len, false);
}
void hat_swapout(struct hat *h) { unload_range(h, MT_BASE, MT_SPAN, true); }

enum vm_err hat_memload(struct hat *h, vaddr_t va, struct page *pp, unsigned attr, unsigned flags)
{
	struct mach_mutex *held = lock_of(h->h_mach, page_pfn(h->h_vm, pp)), *old;
	uint64_t w = word_enter(h, va, &old);
	bool here = w != 0 && word_page(h, w) == pp;

	if (w != 0) {
		if (!here && (flags & HAT_LOAD_ADV) == 0)
			drop_translation(word_page(h, w));
		mach_mutex_exit(old);
		if (!here && (flags & HAT_LOAD_ADV) != 0)
			return VM_OK;
	}
	mach_mutex_enter(held);
	if (pp->p_hat[0] != 0 && (pp->p_hat[0] != (uint64_t)(uintptr_t)h || pp->p_hat[1] != va)) {
		if (word_get(word_of((struct hat *)(uintptr_t)pp->p_hat[0], pp->p_hat[1])) &
		    LOCKED) {
			mach_mutex_exit(held);
			return VM_RETRY;
		}
		drop_translation(pp);
	}
	w = word_get(word_of(h, va)) & LOCKED;
	set_hat(pp, h, va);
	word_set(word_of(h, va),
	    (uint64_t)(page_pfn(h->h_vm, pp) + 1) << PFN_SHIFT | (attr & ATTRS) | w |
		((flags & HAT_LOAD_LOCK) != 0 ? LOCKED : 0));
	if ((flags & HAT_LOAD_REF) != 0)
		page_nrm_set(pp, P_REF);
	mach_mutex_exit(held);
	return VM_OK;
}

enum vm_err hat_memload_array(struct hat *h, vaddr_t va, struct page **pps, size_t n, unsigned attr,
    unsigned flags, size_t *done)
{
	enum vm_err e = VM_OK;

	for (*done = 0; *done < n && e == VM_OK; *done += e == VM_OK)
		e = hat_memload(h, va + vm_ptob(*done), pps[*done], attr, flags);
	return e;
}

static void clear_bits(struct hat *h, vaddr_t va, uint64_t len, uint64_t bits)
{
	for (vaddr_t at = va; at < va + len; at += VM_PAGESIZE) {
		struct mach_mutex *held;
		uint64_t w = word_enter(h, at, &held);

		if (w == 0)
			continue;
		word_set(word_of(h, at), w & ~bits);
		mach_mutex_exit(held);
	}
}

void hat_unlock(struct hat *h, vaddr_t va, uint64_t len) { clear_bits(h, va, len, LOCKED); }
void hat_clrattr(struct hat *h, vaddr_t va, uint64_t len, unsigned attr)
{
	clear_bits(h, va, len, attr);
}
void hat_sync(struct hat *h, vaddr_t va, uint64_t len, bool clear) {}

pfn_t hat_probe(struct hat *h, vaddr_t va, unsigned *attr)
{
	uint64_t w = word_get(word_of(h, va));

	if (attr != NULL)
		*attr = (unsigned)w & ATTRS;
	return w == 0 ? PFN_INVALID : (pfn_t)(w >> PFN_SHIFT) - 1;
}

/* ---- pages ---- */
static struct mach_mutex *mt_page_enter(const struct page *pp)
{
	struct mach_mutex *held;
	struct vm *vm;

	if (__atomic_load_n(&pp->p_hat[0], __ATOMIC_ACQUIRE) == 0)
		return NULL;
	vm = page_vm(pp);
	held = lock_of(vm_machine(vm), page_pfn(vm, pp));
	mach_mutex_enter(held);
	return held;
}

void hat_pageunload(struct page *pp)
{
	struct mach_mutex *held = mt_page_enter(pp);

	if (held == NULL)
		return;
	if (pp->p_hat[0] != 0)
		drop_translation(pp);
	mach_mutex_exit(held);
}

uint32_t hat_pages_tryunload(struct page **pages, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		hat_pageunload(pages[i]);
	return n;
}

unsigned hat_pagesync(struct page *pp, bool clear_ref, bool clear_mod)
{
	unsigned nrm = page_nrm(pp) & (P_REF | P_MOD);

	page_nrm_clear(pp, (clear_ref ? P_REF : 0) | (clear_mod ? P_MOD : 0));
	return nrm;
}

void hat_page_clrwrt(struct page *pp)
{
	struct mach_mutex *held = mt_page_enter(pp);

	if (held == NULL)
		return;
	if (pp->p_hat[0] != 0) {
		uint64_t *w = word_of((struct hat *)(uintptr_t)pp->p_hat[0], pp->p_hat[1]);

		word_set(w, word_get(w) & ~(uint64_t)PROT_W);
	}
	mach_mutex_exit(held);
}

unsigned hat_page_getshare(struct page *pp)
{
	return __atomic_load_n(&pp->p_hat[0], __ATOMIC_ACQUIRE) != 0;
}

void hat_foreach(struct hat *h, void (*cb)(void *, vaddr_t, pfn_t, unsigned, bool), void *arg)
{
	for (vaddr_t va = MT_BASE; va < MT_BASE + MT_SPAN; va += VM_PAGESIZE) {
		uint64_t w = word_get(word_of(h, va));

		if (w != 0)
			cb(arg, va, (pfn_t)(w >> PFN_SHIFT) - 1, (unsigned)w & ATTRS,
			    (w & LOCKED) != 0);
	}
}

void hat_page_foreach(struct page *pp, void (*cb)(void *, struct hat *, vaddr_t), void *arg)
{
	if (pp->p_hat[0] != 0)
		cb(arg, (struct hat *)(uintptr_t)pp->p_hat[0], pp->p_hat[1]);
}

unsigned hat_check(struct hat *h, void (*report)(void *, const char *), void *arg) { return 0; }

/* ---- features that this machine lacks ---- */
enum vm_err hat_devload(
    struct hat *h, vaddr_t va, uint64_t len, uint64_t devframe, unsigned attr, unsigned flags)
{
	return VM_NOTSUP;
}
enum vm_err hat_promote(struct hat *h, vaddr_t va, unsigned size) { return VM_NOTSUP; }
unsigned hat_mapsize(struct hat *h, vaddr_t va)
{
	return hat_probe(h, va, NULL) == PFN_INVALID ? 0 : VM_PAGESHIFT;
}
uint64_t hat_share_unit(struct hat *h) { return 0; }
enum vm_err hat_share(struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, uint64_t len)
{
	return VM_NOTSUP;
}
void hat_unshare(struct hat *to, vaddr_t va, uint64_t len) {}

/* ---- accesses ---- */
static enum vm_err mt_access(struct as *as, vaddr_t va, uint64_t *value, bool write)
{
	struct hat *h = as_hat(as);

	for (;;) {
		struct mach_mutex *held;
		uint64_t w = word_enter(h, va, &held), *at;
		bool ok = w != 0 && (w & (write ? PROT_W : PROT_R)) != 0;
		enum vm_err e;

		if (ok) {
			at = (uint64_t *)((unsigned char *)mach_frame_kva(
					      h->h_mach, (pfn_t)(w >> PFN_SHIFT) - 1) +
			    (va & VM_PAGEMASK));
			if (write)
				*at = *value;
			else
				*value = *at;
			page_nrm_set(word_page(h, w), write ? P_REF | P_MOD : P_REF);
		}
		if (w != 0)
			mach_mutex_exit(held);
		if (ok)
			return VM_OK;
		e = as_fault(as, va, 1, w != 0 ? F_PROT : F_INVAL, write ? S_WRITE : S_READ);
		if (e != VM_OK)
			return e;
	}
}

enum vm_err mt_load(struct as *as, vaddr_t va, uint64_t *value)
{
	return mt_access(as, va, value, false);
}
enum vm_err mt_store(struct as *as, vaddr_t va, uint64_t value)
{
	return mt_access(as, va, &value, true);
}
