/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segmap: a window of the kernel's space through which files are read and written.
 *
 * The window is cut into slots of SEGMAP_SLOT bytes. A slot shows one aligned piece of one file; its pages are loaded by
 * faults and are the page cache's own, so every mapping of the file sees the same bytes. A slot without a holder keeps
 * its identity and translations until another piece needs it: the least recently released goes first.
 *
 * Where the machine has a direct map vnode_read and vnode_write (vm/file/vn_rdwr.c) do the same without translations; segmap is
 * for kernels that want addresses, as SVR4's uiomove did, and costs them one unload for each slot that changes.
 *
 * Locks: sm_lock (RANK_SEG) guards slots, hash and free list. A held slot's identity is constant, and a fault on a slot
 * that is not held is VM_NOMAP. Invariant (segmap_check): a slot is held or on the free list, and hashed if it has a file.
 * After SunOS 4's and SVR4's segmap. Left out: write-behind of whole slots, colours.
 */
#include "vm/impl.h"

#include <quire/kseg.h>

#define SLOT_NIL 0xffffffffu
#define HASH_N 64u

struct slot {
	struct vnode *sl_vp;       /* sm_lock: a reference; NULL: none */
	voff_t sl_off;             /* sm_lock */
	uint32_t sl_ref;           /* sm_lock */
	uint32_t sl_hash;          /* sm_lock: next in its chain */
	uint32_t sl_next, sl_prev; /* sm_lock: free list */
};

struct segmap {
	struct as *sm_as; /* const */
	vaddr_t sm_base;  /* const */
	uint32_t sm_n;    /* const: slots */
	struct mach_mutex sm_lock;
	uint32_t sm_head, sm_tail; /* sm_lock: free slots, the least recently used first */
	uint32_t sm_hash[HASH_N];  /* sm_lock */
	struct slot sm_slot[];
};

static struct segmap *map_of(const struct seg *s) { return s->s_data; }

static uint32_t index_of(const struct segmap *sm, vaddr_t va)
{
	return (uint32_t)((va - sm->sm_base) / SEGMAP_SLOT);
}

static uint32_t *hash_chain(struct segmap *sm, const struct vnode *vp, voff_t off)
{
	return &sm->sm_hash[page_name_hash(vp, off) % HASH_N];
}

/* ---- lists: sm_lock ---- */
static void free_remove(struct segmap *sm, uint32_t i)
{
	struct slot *s = &sm->sm_slot[i];

	*(s->sl_prev != SLOT_NIL ? &sm->sm_slot[s->sl_prev].sl_next : &sm->sm_head) = s->sl_next;
	*(s->sl_next != SLOT_NIL ? &sm->sm_slot[s->sl_next].sl_prev : &sm->sm_tail) = s->sl_prev;
}

static void free_append(struct segmap *sm, uint32_t i)
{
	struct slot *s = &sm->sm_slot[i];

	s->sl_next = SLOT_NIL;
	s->sl_prev = sm->sm_tail;
	*(sm->sm_tail != SLOT_NIL ? &sm->sm_slot[sm->sm_tail].sl_next : &sm->sm_head) = i;
	sm->sm_tail = i;
}

static uint32_t find_slot(struct segmap *sm, const struct vnode *vp, voff_t off)
{
	uint32_t i = *hash_chain(sm, vp, off);

	while (i != SLOT_NIL && (sm->sm_slot[i].sl_vp != vp || sm->sm_slot[i].sl_off != off))
		i = sm->sm_slot[i].sl_hash;
	return i;
}

static void unhash_slot(struct segmap *sm, uint32_t i)
{
	uint32_t *at = hash_chain(sm, sm->sm_slot[i].sl_vp, sm->sm_slot[i].sl_off);

	while (*at != i)
		at = &sm->sm_slot[*at].sl_hash;
	*at = sm->sm_slot[i].sl_hash;
}

/* ---- the segment ---- */
static enum vm_err segmap_dup(struct seg *seg, struct seg *nseg) { return VM_NOMAP; }

static enum vm_err segmap_unmap(struct seg *seg)
{
	hat_unload(seg->s_as->a_hat, seg_base(seg), seg_size(seg), HAT_UNLOAD);
	return VM_OK;
}

static enum vm_err segmap_split(struct seg *seg, struct seg *nseg, vaddr_t addr)
{
	return VM_NOTSUP;
}
static bool segmap_concat(struct seg *seg, struct seg *nseg) { return false; }

static enum vm_err fault_page(struct seg *seg, vaddr_t va, bool write)
{
	struct segmap *sm = map_of(seg);
	struct slot *s = &sm->sm_slot[index_of(sm, va)];
	struct vm *vm = seg->s_as->a_vm;
	unsigned attr = PROT_R;
	struct page *pp;
	enum vm_err e;

	mach_mutex_enter(&sm->sm_lock);
	struct vnode *vp = s->sl_ref > 0 ? s->sl_vp : NULL;
	voff_t off = s->sl_off + (va - sm->sm_base) % SEGMAP_SLOT;
	mach_mutex_exit(&sm->sm_lock);
	if (vp == NULL)
		return VM_NOMAP;
	if ((e = pvn_getpage(vm, vp, off, SE_SHARED, (unsigned)(SEGMAP_SLOT / VM_PAGESIZE), &pp)) !=
	    VM_OK)
		return e;
	if (write)
		page_nrm_set(pp, P_MOD);
	if (vm->vm_caps->mc_mod_bits || (page_nrm(pp) & P_MOD) != 0)
		attr |= PROT_W;
	e = seg_load(seg->s_as, va, pp, attr, HAT_LOAD_REF);
	page_unlock(vm, pp);
	return e;
}

static enum vm_err segmap_fault(
    struct seg *seg, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	enum vm_err e = VM_OK;

	if (type == F_SOFTLOCK || type == F_SOFTUNLOCK)
		return VM_NOTSUP; /* holding the slot is the lock */
	if (rw == S_EXEC)
		return VM_PROT;
	for (vaddr_t va = addr; va < addr + len && e == VM_OK; va += VM_PAGESIZE)
		e = fault_page(seg, va, rw == S_WRITE);
	return e;
}

static enum vm_err segmap_checkprot(struct seg *seg, vaddr_t a, uint64_t l, unsigned prot)
{
	return (prot & ~(PROT_R | PROT_W)) == 0 ? VM_OK : VM_PROT;
}

static unsigned segmap_getprot(struct seg *seg, vaddr_t a) { return PROT_R | PROT_W; }

static unsigned segmap_check(struct seg *seg, void (*report)(void *, const char *), void *arg)
{
	struct segmap *sm = map_of(seg);
	uint32_t nfree = 0, held = 0, lost = 0;

	for (uint32_t i = sm->sm_head; i != SLOT_NIL && nfree <= sm->sm_n;
	     i = sm->sm_slot[i].sl_next)
		nfree++;
	for (uint32_t i = 0; i < sm->sm_n; i++) {
		held += sm->sm_slot[i].sl_ref > 0;
		lost += sm->sm_slot[i].sl_vp != NULL &&
		    find_slot(sm, sm->sm_slot[i].sl_vp, sm->sm_slot[i].sl_off) != i;
	}
	if (nfree + held != sm->sm_n)
		report(arg, "segmap: slots are neither held nor free");
	if (lost != 0)
		report(arg, "segmap: a slot is not found by its name");
	return (unsigned)(nfree + held != sm->sm_n) + (unsigned)(lost != 0);
}

const struct seg_ops segmap_ops = {
	.so_name = "segmap",
	.so_dup = segmap_dup,
	.so_unmap = segmap_unmap,
	.so_split = segmap_split,
	.so_concat = segmap_concat,
	.so_fault = segmap_fault,
	.so_setprot = seg_nosup_prot,
	.so_checkprot = segmap_checkprot,
	.so_getprot = segmap_getprot,
	.so_shared = seg_is_shared,
	.so_file = seg_no_file,
	.so_swapout = seg_noop_swapout,
	.so_sync = seg_noop_sync,
	.so_incore = seg_noop_incore,
	.so_lockop = seg_nosup_lockop,
	.so_advise = seg_noop_advise,
	.so_inherit = seg_nosup_inherit,
	.so_adopt = seg_nosup_adopt,
	.so_move = seg_nosup_move,
	.so_alike = seg_nosup_alike,
	.so_snapshot = seg_nosup_snapshot,
	.so_reserved = seg_noop_reserved,
	.so_populated = seg_unfilled_populated,
	.so_peek = seg_retry_peek,
	.so_poke = seg_retry_poke,
	.so_translation_ok = seg_any_translation_ok,
	.so_check = segmap_check,
};

static enum vm_err segmap_attach(struct seg *seg, const void *args)
{
	seg->s_ops = &segmap_ops;
	seg->s_data = *(struct segmap *const *)args;
	return VM_OK;
}

/* ---- life ---- */
static size_t bytes_of(uint64_t slots)
{
	return sizeof(struct segmap) + slots * sizeof(struct slot);
}

enum vm_err segmap_create(struct as *kas, vaddr_t base, uint64_t len, struct segmap **smp)
{
	uint64_t n = len / SEGMAP_SLOT;
	struct segmap *sm;
	enum vm_err e;

	if (n == 0 || n >= SLOT_NIL || ((base | len) & VM_PAGEMASK) != 0 || len % SEGMAP_SLOT != 0)
		return VM_INVAL;
	if ((sm = kmem_zalloc(kas->a_vm, bytes_of(n), KM_SLEEP)) == NULL)
		return VM_NOMEM;
	sm->sm_as = kas;
	sm->sm_base = base;
	sm->sm_n = (uint32_t)n;
	sm->sm_head = sm->sm_tail = SLOT_NIL;
	memset(sm->sm_hash, 0xff, sizeof(sm->sm_hash));
	mach_mutex_init(&sm->sm_lock, RANK_SEG, "segmap");
	for (uint32_t i = 0; i < sm->sm_n; i++)
		free_append(sm, i);
	if ((e = as_map(kas, base, len, segmap_attach, &sm)) != VM_OK) {
		mach_mutex_fini(&sm->sm_lock);
		kmem_free(kas->a_vm, sm, bytes_of(n));
		return e;
	}
	*smp = sm;
	return VM_OK;
}

void segmap_destroy(struct segmap *sm)
{
	enum vm_err e = as_unmap(sm->sm_as, sm->sm_base, sm->sm_n * SEGMAP_SLOT);

	VM_ASSERT(e == VM_OK);
	(void)e;
	for (uint32_t i = 0; i < sm->sm_n; i++) {
		VM_ASSERT(sm->sm_slot[i].sl_ref == 0);
		if (sm->sm_slot[i].sl_vp != NULL)
			vnode_rele(sm->sm_slot[i].sl_vp);
	}
	mach_mutex_fini(&sm->sm_lock);
	kmem_free(sm->sm_as->a_vm, sm, bytes_of(sm->sm_n));
}

/* ---- slots ---- */
/* A held slot without identity: no lookup finds it, so its old translations may go without the lock. SLOT_NIL: none. */
static uint32_t take_free_locked(struct segmap *sm, struct vnode **old)
{
	uint32_t i = sm->sm_head;

	VM_ASSERT(mach_mutex_held(&sm->sm_lock));
	*old = NULL;
	if (i == SLOT_NIL)
		return i;
	free_remove(sm, i);
	sm->sm_slot[i].sl_ref = 1;
	if ((*old = sm->sm_slot[i].sl_vp) != NULL)
		unhash_slot(sm, i);
	sm->sm_slot[i].sl_vp = NULL;
	return i;
}

static bool hold_existing_locked(struct segmap *sm, struct vnode *vp, voff_t off, uint32_t *ip)
{
	VM_ASSERT(mach_mutex_held(&sm->sm_lock));
	if ((*ip = find_slot(sm, vp, off)) == SLOT_NIL)
		return false;
	if (sm->sm_slot[*ip].sl_ref++ == 0)
		free_remove(sm, *ip);
	return true;
}

enum vm_err segmap_getmap(struct segmap *sm, struct vnode *vp, voff_t off, vaddr_t *vap)
{
	struct vnode *old;
	uint32_t i, mine;

	if (off % SEGMAP_SLOT != 0)
		return VM_INVAL;
	mach_mutex_enter(&sm->sm_lock);
	if (hold_existing_locked(sm, vp, off, &i)) {
		mach_mutex_exit(&sm->sm_lock);
		*vap = sm->sm_base + i * SEGMAP_SLOT;
		return VM_OK;
	}
	mine = take_free_locked(sm, &old);
	mach_mutex_exit(&sm->sm_lock);
	if (mine == SLOT_NIL)
		return VM_NOMEM;
	hat_unload(sm->sm_as->a_hat, sm->sm_base + mine * SEGMAP_SLOT, SEGMAP_SLOT, HAT_UNLOAD);
	vnode_hold(vp);
	mach_mutex_enter(&sm->sm_lock);
	if (hold_existing_locked(
		sm, vp, off, &i)) { /* another thread was faster: ours stays empty */
		sm->sm_slot[mine].sl_ref = 0;
		free_append(sm, mine);
	} else {
		struct slot *s = &sm->sm_slot[i = mine];

		s->sl_vp = vp;
		s->sl_off = off;
		s->sl_hash = *hash_chain(sm, vp, off);
		*hash_chain(sm, vp, off) = i;
		vp = NULL;
	}
	mach_mutex_exit(&sm->sm_lock);
	if (vp != NULL)
		vnode_rele(vp);
	if (old != NULL)
		vnode_rele(old);
	*vap = sm->sm_base + i * SEGMAP_SLOT;
	return VM_OK;
}

enum vm_err segmap_release(struct segmap *sm, vaddr_t va, unsigned flags)
{
	struct slot *s = &sm->sm_slot[index_of(sm, va)];
	enum vm_err e = VM_OK;

	VM_ASSERT(s->sl_ref > 0);
	if ((flags & (SM_WRITE | SM_FREE)) != 0)
		e = pvn_putpages(sm->sm_as->a_vm, s->sl_vp, s->sl_off, SEGMAP_SLOT,
		    (flags & SM_FREE) != 0 ? PVN_FREE : 0);
	mach_mutex_enter(&sm->sm_lock);
	if (--s->sl_ref == 0)
		free_append(sm, index_of(sm, va));
	mach_mutex_exit(&sm->sm_lock);
	return e;
}

enum vm_err segmap_rw(struct segmap *sm, struct vnode *vp, voff_t off, void *buf, uint64_t len,
    bool write, uint64_t *done)
{
	uint64_t size = vp->v_ops->vo_size(vp), end = vm_within(size, off, len), at = 0;
	enum vm_err e = VM_OK;

	while (at < end && e == VM_OK) {
		uint64_t in = (off + at) % SEGMAP_SLOT,
			 n = SEGMAP_SLOT - in < end - at ? SEGMAP_SLOT - in : end - at;
		char *b = (char *)buf + at;
		vaddr_t va;

		if ((e = segmap_getmap(sm, vp, off + at - in, &va)) != VM_OK)
			break;
		e = write ? as_copyout(sm->sm_as, b, va + in, n)
			  : as_copyin(sm->sm_as, va + in, b, n);
		(void)segmap_release(sm, va, 0);
		if (e == VM_OK)
			at += n;
	}
	if (done != NULL)
		*done = at;
	return e == VM_OK && at < len ? VM_EOF : e;
}
