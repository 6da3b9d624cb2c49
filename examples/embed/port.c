/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A port of its own: what the core needs of a machine (machine.h) and of its address translation (hat.h), for one thread in a block
 * of host memory. Compiled against what was installed: cc *.c $(pkg-config --cflags --libs quire-core).
 *
 * f1, from address to frame: one word a page of each space: frame + 1 and the rights. f2, from
 * frame to address: p_hat of the page has the space and the address; a frame has one translation at
 * a time (mc_max_mappings), which makes the smallest possible f2. Locks only find mistakes: with
 * one thread, a lock that is taken twice would never be released.
 */
#include "port.h"

#include <quire/as.h>
#include <quire/hat.h>
#include <quire/page.h>
#include <quire/vm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RIGHTS 7u /* PROT_R, PROT_W, PROT_X */
#define LOCKED 8u
#define FRAME_SHIFT 8u
#define PAGES (EMBED_SPAN / VM_PAGESIZE)

struct mach {
	struct mach_caps m_caps;
	unsigned char *m_frames;
	unsigned char *m_boot; /* vm_boot_bytes of it */
	size_t m_booted;
};

struct hat {
	struct vm *h_vm;
	struct as *h_as;
	uint64_t h_word[PAGES];
};

/* ---- life ---- */
struct mach *embed_create(pfn_t nframes, struct vm_config *vc)
{
	struct mach *m = calloc(1, sizeof *m);

	m->m_caps = (struct mach_caps){ .mc_name = "embed",
		.mc_nframes = nframes,
		.mc_ncpus = 1,
		.mc_max_mappings = 1,
		.mc_direct_map = true,
		.mc_ref_bits = true,
		.mc_mod_bits = true,
		.mc_user_min = EMBED_BASE,
		.mc_user_max = EMBED_BASE + EMBED_SPAN };
	vc->vc_mach = m;
	vc->vc_frames = nframes;
	m->m_frames = aligned_alloc(VM_PAGESIZE, (size_t)nframes * VM_PAGESIZE);
	m->m_boot = aligned_alloc(64, (vm_boot_bytes(vc, &m->m_caps) + 63) & ~(size_t)63);
	return m;
}

void embed_destroy(struct mach *m)
{
	free(m->m_frames);
	free(m->m_boot);
	free(m);
}

const struct mach_caps *mach_caps(struct mach *m) { return &m->m_caps; }

_Noreturn void mach_panic(const char *msg)
{
	fprintf(stderr, "panic: %s\n", msg);
	abort();
}

/* ---- locks: opaque[0] counts the holders, opaque[1] says that the holder writes ---- */
void mach_mutex_init(struct mach_mutex *m, unsigned rank, const char *name)
{
	memset(m, 0, sizeof *m);
}
void mach_mutex_fini(struct mach_mutex *m) {}
bool mach_mutex_held(const struct mach_mutex *m) { return m->opaque[0] != 0; }
bool mach_mutex_tryenter(struct mach_mutex *m)
{
	return m->opaque[0] == 0 && (m->opaque[0] = 1) != 0;
}
void mach_mutex_enter(struct mach_mutex *m)
{
	if (!mach_mutex_tryenter(m))
		mach_panic("a mutex is entered twice");
}
void mach_mutex_exit(struct mach_mutex *m) { m->opaque[0] = 0; }

void mach_rw_init(struct mach_rwlock *l, unsigned rank, const char *name)
{
	memset(l, 0, sizeof *l);
}
void mach_rw_fini(struct mach_rwlock *l) {}
bool mach_rw_held(const struct mach_rwlock *l, bool writer)
{
	return writer ? l->opaque[1] != 0 : l->opaque[0] != 0;
}
bool mach_rw_tryenter(struct mach_rwlock *l, bool writer)
{
	if (l->opaque[1] != 0 || (writer && l->opaque[0] != 0))
		return false;
	l->opaque[0]++;
	l->opaque[1] = writer;
	return true;
}
void mach_rw_enter(struct mach_rwlock *l, bool writer)
{
	if (!mach_rw_tryenter(l, writer))
		mach_panic("a reader-writer lock would never be free");
}
void mach_rw_exit(struct mach_rwlock *l)
{
	l->opaque[0]--;
	l->opaque[1] = 0;
}

/* No other thread could wake the only thread. */
void mach_cv_init(struct mach_cv *c) {}
void mach_cv_fini(struct mach_cv *c) {}
void mach_cv_wait(struct mach_cv *c, struct mach_mutex *m) { mach_panic("the only thread waits"); }
bool mach_cv_timedwait(struct mach_cv *c, struct mach_mutex *m, uint64_t ns) { return false; }
void mach_cv_broadcast(struct mach_cv *c) {}
unsigned mach_cpu_id(void) { return 0; }
struct mach_thread *mach_thread_create(
    struct mach *m, void (*fn)(void *), void *arg, const char *name)
{
	return NULL;
}
void mach_thread_join(struct mach_thread *t) {}
void mach_yield(void) {}

/* ---- memory ---- */
void *mach_boot_alloc(struct mach *m, size_t bytes)
{
	void *p = memset(m->m_boot + m->m_booted, 0, bytes);

	m->m_booted += (bytes + 63) & ~(size_t)63;
	return p;
}
void *mach_frame_kva(struct mach *m, pfn_t pfn) { return m->m_frames + (size_t)pfn * VM_PAGESIZE; }
pfn_t mach_kva_frame(struct mach *m, const void *kva)
{
	return (pfn_t)((size_t)((const unsigned char *)kva - m->m_frames) / VM_PAGESIZE);
}
void mach_frame_zero(struct mach *m, pfn_t pfn) { memset(mach_frame_kva(m, pfn), 0, VM_PAGESIZE); }
void mach_frame_copy(struct mach *m, pfn_t dst, pfn_t src)
{
	memcpy(mach_frame_kva(m, dst), mach_frame_kva(m, src), VM_PAGESIZE);
}
void mach_frame_discard(struct mach *m, pfn_t pfn, pfn_t n) {}
void mach_frame_retire(struct mach *m, pfn_t pfn) {}
void mach_frame_renew(struct mach *m, pfn_t pfn) {}
pfn_t mach_frames_grant(struct mach *m, pfn_t n)
{
	return 0;
} /* all frames are on line from the start */
void mach_frames_release(struct mach *m, pfn_t n) {}

/* ---- f1 and f2 ---- */
static uint64_t *word_at(struct hat *h, vaddr_t va)
{
	return &h->h_word[(va - EMBED_BASE) / VM_PAGESIZE];
}
static pfn_t word_frame(uint64_t w) { return (pfn_t)(w >> FRAME_SHIFT) - 1; }
static struct hat *page_hat(const struct page *pp) { return (struct hat *)(uintptr_t)pp->p_hat[0]; }

/* Takes the page's translation away, if it has one. */
static void drop_translation(struct page *pp)
{
	if (pp->p_hat[0] != 0)
		*word_at(page_hat(pp), pp->p_hat[1]) = 0;
	pp->p_hat[0] = 0;
}

enum vm_err hat_alloc(struct vm *vm, struct as *as, bool kernel, struct hat **hp)
{
	if (kernel)
		return VM_NOTSUP;
	*hp = calloc(1, sizeof **hp);
	if (*hp == NULL)
		return VM_NOMEM;
	(*hp)->h_vm = vm;
	(*hp)->h_as = as;
	return VM_OK;
}
void hat_free_start(struct hat *h) {}
void hat_free_end(struct hat *h)
{
	hat_unload(h, EMBED_BASE, EMBED_SPAN, HAT_UNLOAD_UNLOCK);
	free(h);
}
enum vm_err hat_dup(struct hat *parent, struct hat *child) { return VM_OK; }

void hat_unload(struct hat *h, vaddr_t va, uint64_t len, unsigned flags)
{
	for (vaddr_t at = va; at < va + len; at += VM_PAGESIZE)
		if (*word_at(h, at) != 0)
			drop_translation(page_of(h->h_vm, word_frame(*word_at(h, at))));
}

void hat_swapout(struct hat *h)
{
	for (vaddr_t at = EMBED_BASE; at < EMBED_BASE + EMBED_SPAN; at += VM_PAGESIZE)
		if ((*word_at(h, at) & LOCKED) == 0)
			hat_unload(h, at, VM_PAGESIZE, HAT_UNLOAD);
}

enum vm_err hat_memload(struct hat *h, vaddr_t va, struct page *pp, unsigned attr, unsigned flags)
{
	uint64_t *w = word_at(h, va), lock = (flags & HAT_LOAD_LOCK) != 0 ? LOCKED : 0;
	bool here = page_hat(pp) == h && pp->p_hat[1] == va;

	if (!here && pp->p_hat[0] != 0 && (*word_at(page_hat(pp), pp->p_hat[1]) & LOCKED) != 0)
		return VM_RETRY;
	if (here)
		lock |= *w & LOCKED;
	else if (*w != 0 && (flags & HAT_LOAD_ADV) != 0)
		return VM_OK;
	else if (*w != 0)
		drop_translation(page_of(h->h_vm, word_frame(*w)));
	drop_translation(pp);
	pp->p_hat[0] = (uintptr_t)h;
	pp->p_hat[1] = va;
	*w = (uint64_t)(page_pfn(h->h_vm, pp) + 1) << FRAME_SHIFT | (attr & RIGHTS) | lock;
	if ((flags & HAT_LOAD_REF) != 0)
		page_nrm_set(pp, P_REF);
	return VM_OK;
}

enum vm_err hat_memload_array(struct hat *h, vaddr_t va, struct page **pps, size_t n, unsigned attr,
    unsigned flags, size_t *done)
{
	enum vm_err e = VM_OK;

	for (*done = 0; *done < n && e == VM_OK; *done += e == VM_OK)
		e = hat_memload(h, va + *done * VM_PAGESIZE, pps[*done], attr, flags);
	return e;
}

/* Clears bits in every word of the range. */
static void clear_bits(struct hat *h, vaddr_t va, uint64_t len, uint64_t bits)
{
	for (vaddr_t at = va; at < va + len; at += VM_PAGESIZE)
		*word_at(h, at) &= ~bits;
}
void hat_unlock(struct hat *h, vaddr_t va, uint64_t len) { clear_bits(h, va, len, LOCKED); }
void hat_clrattr(struct hat *h, vaddr_t va, uint64_t len, unsigned attr)
{
	clear_bits(h, va, len, attr & RIGHTS);
}
void hat_sync(struct hat *h, vaddr_t va, uint64_t len, bool clear) {
} /* accesses set the pages' bits at once */

pfn_t hat_probe(struct hat *h, vaddr_t va, unsigned *attr)
{
	uint64_t w = *word_at(h, va);

	if (attr != NULL)
		*attr = (unsigned)w & RIGHTS;
	return w == 0 ? PFN_INVALID : word_frame(w);
}

/* ---- pages ---- */
void hat_pageunload(struct page *pp) { drop_translation(pp); }
uint32_t hat_pages_tryunload(struct page **pages, uint32_t n)
{
	/* no device reads or writes these frames */
	for (uint32_t i = 0; i < n; i++)
		drop_translation(pages[i]);
	return n;
}
unsigned hat_pagesync(struct page *pp, bool clear_ref, bool clear_mod)
{
	unsigned seen = page_nrm(pp) & (P_REF | P_MOD);

	page_nrm_clear(pp, (clear_ref ? P_REF : 0) | (clear_mod ? P_MOD : 0));
	return seen;
}
void hat_page_clrwrt(struct page *pp)
{
	if (pp->p_hat[0] != 0)
		*word_at(page_hat(pp), pp->p_hat[1]) &= ~(uint64_t)PROT_W;
}
unsigned hat_page_getshare(struct page *pp) { return pp->p_hat[0] != 0; }

/* ---- vm_check ---- */
void hat_foreach(struct hat *h, void (*cb)(void *, vaddr_t, pfn_t, unsigned, bool), void *arg)
{
	for (vaddr_t at = EMBED_BASE; at < EMBED_BASE + EMBED_SPAN; at += VM_PAGESIZE) {
		uint64_t w = *word_at(h, at);

		if (w != 0)
			cb(arg, at, word_frame(w), (unsigned)w & RIGHTS, (w & LOCKED) != 0);
	}
}
void hat_page_foreach(struct page *pp, void (*cb)(void *, struct hat *, vaddr_t), void *arg)
{
	if (pp->p_hat[0] != 0)
		cb(arg, page_hat(pp), pp->p_hat[1]);
}
unsigned hat_check(struct hat *h, void (*report)(void *, const char *), void *arg) { return 0; }

/* ---- features that this machine lacks: devices, large pages, shared tables ---- */
enum vm_err hat_devload(
    struct hat *h, vaddr_t va, uint64_t len, uint64_t frame, unsigned attr, unsigned flags)
{
	return VM_NOTSUP;
}
enum vm_err hat_promote(struct hat *h, vaddr_t va, unsigned size) { return VM_NOTSUP; }
unsigned hat_mapsize(struct hat *h, vaddr_t va) { return *word_at(h, va) == 0 ? 0 : VM_PAGESHIFT; }
uint64_t hat_share_unit(struct hat *h) { return 0; }
enum vm_err hat_share(struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, uint64_t len)
{
	return VM_NOTSUP;
}
void hat_unshare(struct hat *to, vaddr_t va, uint64_t len) {}

/* ---- accesses: the work of an MMU and a trap handler ---- */
enum vm_err embed_access(struct as *as, vaddr_t va, uint64_t *word, bool write)
{
	struct hat *h = as_hat(as);
	enum vm_err e = VM_OK;

	while (e == VM_OK) {
		unsigned rights;
		pfn_t pfn = hat_probe(h, va & ~(vaddr_t)VM_PAGEMASK, &rights);

		if (pfn != PFN_INVALID && (rights & (write ? PROT_W : PROT_R)) != 0) {
			unsigned char *at = mach_frame_kva(vm_machine(h->h_vm), pfn);

			if (write)
				memcpy(at + (va & VM_PAGEMASK), word, sizeof *word);
			else
				memcpy(word, at + (va & VM_PAGEMASK), sizeof *word);
			page_nrm_set(page_of(h->h_vm, pfn), write ? P_REF | P_MOD : P_REF);
			return VM_OK;
		}
		e = as_fault(
		    as, va, 1, pfn != PFN_INVALID ? F_PROT : F_INVAL, write ? S_WRITE : S_READ);
	}
	return e;
}
