/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmem: an allocator of integers: kernel addresses, identifiers, anything that comes in ranges.
 *
 * Vocabulary: a span is a range given to the arena; it is cut into segments, each described by a boundary tag. The tags
 * of an arena form one list in which a span's tag is followed by its segments in address order, so that neighbours are
 * found at once and never joined across spans. Free segments are on lists by the power of two of their size (list k:
 * [2^k, 2^(k+1))); allocated ones in a hash by address. Best fit: the smallest fitting segment of the lowest list that has
 * one; every segment of a list above the size's own fits, unless there are constraints.
 *
 * Sizes are rounded up to quanta. Ends are inclusive inside, so that an arena may reach to 2^64 - 1.
 *
 * Locks: v_lock of the arena (RANK_KMEM) guards everything in it. Tags come from a kmem cache before it is taken (two
 * per allocation: the most that cutting a segment at both ends needs) and go back after it is dropped.
 *
 * Invariants: segments of a span are disjoint, in order and cover it; two free neighbours do not exist; inuse = sum of
 * the allocated ones.
 *
 * Quantum caches (vmem_qcache): for each size of 1 .. n quanta every CPU keeps a small stack of allocated ranges that are
 * free for the caller; most allocations and frees are then a push or a pop under the CPU's own lock (RANK_KMEM, never held
 * with v_lock). They are given back when the arena is exhausted, reaped or destroyed.
 *
 * Left out: importing from another arena, joining of spans.
 */
#include "vm/impl.h"

#define VMEM_NLISTS 64u
#define VMEM_HASH 64u /* chains at first; doubled when they get longer than four on average */

enum vmem_type { VMEM_SPAN, VMEM_FREE, VMEM_ALLOC };

struct vmem_tag {
	uint64_t vt_base, vt_last;            /* inclusive */
	struct vmem_tag *vt_next, *vt_prev;   /* address order within a span */
	struct vmem_tag *vt_lnext, *vt_lprev; /* free list, or hash chain (lnext only) */
	enum vmem_type vt_type;
};
_Static_assert(sizeof(struct vmem_tag) <= 64, "the tag cache has objects of 64 bytes");

#define VMEM_QDEPTH 16u /* ranges a CPU keeps of one size */
#define VMEM_QMAX 8u    /* largest cached size, in quanta */

struct vmem_cpu {
	struct mach_mutex vq_lock;
	uint32_t vq_n[VMEM_QMAX];                 /* vq_lock */
	uint64_t vq_addr[VMEM_QMAX][VMEM_QDEPTH]; /* vq_lock */
};

struct vmem {
	struct mach_mutex v_lock;
	struct vm *v_vm;         /* const */
	const char *v_name;      /* const */
	uint64_t v_quantum;      /* const, a power of two */
	struct vmem_tag *v_tags; /* v_lock, and all below */
	struct vmem_tag *v_free[VMEM_NLISTS];
	uint64_t v_freemap; /* bit k: list k is not empty */
	struct vmem_tag **v_hash;
	uint64_t v_nhash, v_nalloc, v_inuse;
	struct vmem_cpu *v_cpu;    /* const after vmem_qcache; NULL: no quantum caches */
	uint32_t v_ncpu, v_qmax;   /* const after vmem_qcache; qmax in quanta */
	_Atomic uint64_t v_cached; /* bytes in quantum caches */
};

struct vmem_want {
	uint64_t vw_size, vw_align, vw_phase, vw_nocross, vw_min, vw_max; /* max inclusive */
};

static unsigned vmem_log2(uint64_t x) { return 63u - (unsigned)__builtin_clzll(x); }

/* The list of a segment; one of all 2^64 integers counts as the largest. */
static unsigned vmem_list_of(const struct vmem_tag *t)
{
	uint64_t size = t->vt_last - t->vt_base + 1;

	return size == 0 ? VMEM_NLISTS - 1 : vmem_log2(size);
}

static struct vmem_tag **vmem_bucket(struct vmem *v, uint64_t addr)
{
	uint64_t h = (addr / v->v_quantum) * 0x9e3779b97f4a7c15u;

	return &v->v_hash[(h >> 20) & (v->v_nhash - 1)];
}

static void vmem_free_insert(struct vmem *v, struct vmem_tag *t)
{
	unsigned k = vmem_list_of(t);

	t->vt_type = VMEM_FREE;
	t->vt_lprev = NULL;
	t->vt_lnext = v->v_free[k];
	if (t->vt_lnext != NULL)
		t->vt_lnext->vt_lprev = t;
	v->v_free[k] = t;
	v->v_freemap |= 1ull << k;
}

static void vmem_free_remove(struct vmem *v, struct vmem_tag *t)
{
	unsigned k = vmem_list_of(t);

	if (t->vt_lprev != NULL)
		t->vt_lprev->vt_lnext = t->vt_lnext;
	else
		v->v_free[k] = t->vt_lnext;
	if (t->vt_lnext != NULL)
		t->vt_lnext->vt_lprev = t->vt_lprev;
	if (v->v_free[k] == NULL)
		v->v_freemap &= ~(1ull << k);
}

static void vmem_link_after(struct vmem_tag *at, struct vmem_tag *t)
{
	t->vt_prev = at;
	t->vt_next = at->vt_next;
	if (t->vt_next != NULL)
		t->vt_next->vt_prev = t;
	at->vt_next = t;
}

static void vmem_unlink(struct vmem_tag *t)
{
	t->vt_prev->vt_next = t->vt_next;
	if (t->vt_next != NULL)
		t->vt_next->vt_prev = t->vt_prev;
}

/* ---- constraints ---- */

/* The lowest x' >= x with x' = phase modulo align; false if there is none below 2^64. */
static bool vmem_align_up(uint64_t *x, uint64_t align, uint64_t phase)
{
	uint64_t up = (phase - *x) & (align - 1);

	*x += up;
	return *x >= up;
}

/* Where in the free segment the wanted range can start: the lowest such address. */
static bool vmem_fits(const struct vmem_tag *t, const struct vmem_want *w, uint64_t *start)
{
	uint64_t lo = t->vt_base > w->vw_min ? t->vt_base : w->vw_min;
	uint64_t hi = t->vt_last < w->vw_max ? t->vt_last : w->vw_max;

	if (!vmem_align_up(&lo, w->vw_align, w->vw_phase))
		return false;
	if (lo > hi || hi - lo < w->vw_size - 1)
		return false;
	if (w->vw_nocross != 0 && ((lo ^ (lo + w->vw_size - 1)) & ~(w->vw_nocross - 1)) != 0) {
		lo = (lo | (w->vw_nocross - 1)) + 1;
		if (lo == 0 || !vmem_align_up(&lo, w->vw_align, w->vw_phase))
			return false;
		if (lo > hi || hi - lo < w->vw_size - 1)
			return false;
		if (((lo ^ (lo + w->vw_size - 1)) & ~(w->vw_nocross - 1)) != 0)
			return false;
	}
	*start = lo;
	return true;
}

static struct vmem_tag *vmem_best(struct vmem *v, const struct vmem_want *w, uint64_t *start)
{
	uint64_t lists = v->v_freemap & (~0ull << vmem_log2(w->vw_size));

	for (; lists != 0; lists &= lists - 1) {
		struct vmem_tag *best = NULL;

		for (struct vmem_tag *t = v->v_free[__builtin_ctzll(lists)]; t != NULL;
		     t = t->vt_lnext) {
			uint64_t at;

			if (best != NULL &&
			    t->vt_last - t->vt_base >= best->vt_last - best->vt_base)
				continue;
			if (vmem_fits(t, w, &at)) {
				best = t;
				*start = at;
			}
		}
		if (best != NULL)
			return best;
	}
	return NULL;
}

/* ---- tags and the hash ---- */

static struct vmem_tag *vmem_tag_get(struct vmem *v, unsigned flags)
{
	return kmem_cache_alloc(kmem_vmem_tags(v->v_vm), flags);
}

static void vmem_tag_put(struct vmem *v, struct vmem_tag *t)
{
	if (t != NULL)
		kmem_cache_free(kmem_vmem_tags(v->v_vm), t);
}

/* Doubles the hash when it is crowded. Without memory chains just stay long. */
static void vmem_rehash(struct vmem *v)
{
	uint64_t n, old = v->v_nhash;
	struct vmem_tag **h, **was = v->v_hash;

	if (v->v_nalloc <= 4 * old)
		return;
	n = old * 2;
	mach_mutex_exit(&v->v_lock);
	h = kmem_zalloc(v->v_vm, n * sizeof(*h), KM_NOSLEEP);
	mach_mutex_enter(&v->v_lock);
	if (h != NULL && v->v_hash == was) {
		v->v_hash = h;
		v->v_nhash = n;
		for (uint64_t i = 0; i < old; i++) {
			for (struct vmem_tag *t = was[i], *next; t != NULL; t = next) {
				struct vmem_tag **b = vmem_bucket(v, t->vt_base);

				next = t->vt_lnext;
				t->vt_lnext = *b;
				*b = t;
			}
		}
		h = was;
		n = old;
	}
	mach_mutex_exit(&v->v_lock);
	if (h != NULL)
		kmem_free(v->v_vm, h, n * sizeof(*h));
	mach_mutex_enter(&v->v_lock);
}

/* Cuts [start, start+size) out of the free segment t; the tags used up are set to NULL. */
static void vmem_carve(
    struct vmem *v, struct vmem_tag *t, uint64_t start, uint64_t size, struct vmem_tag *spare[2])
{
	uint64_t last = start + size - 1;
	struct vmem_tag **b;

	vmem_free_remove(v, t);
	if (t->vt_base < start) {
		struct vmem_tag *head = spare[0];

		spare[0] = NULL;
		head->vt_base = t->vt_base;
		head->vt_last = start - 1;
		vmem_link_after(t->vt_prev, head);
		vmem_free_insert(v, head);
	}
	if (t->vt_last > last) {
		struct vmem_tag *tail = spare[1];

		spare[1] = NULL;
		tail->vt_base = last + 1;
		tail->vt_last = t->vt_last;
		vmem_link_after(t, tail);
		vmem_free_insert(v, tail);
	}
	t->vt_base = start;
	t->vt_last = last;
	t->vt_type = VMEM_ALLOC;
	b = vmem_bucket(v, start);
	t->vt_lnext = *b;
	*b = t;
	v->v_nalloc++;
	v->v_inuse += size;
}

static bool vmem_get(struct vmem *v, const struct vmem_want *w, unsigned flags, uint64_t *addr)
{
	struct vmem_tag *spare[2], *t = NULL;

	spare[0] = vmem_tag_get(v, flags);
	spare[1] = spare[0] != NULL ? vmem_tag_get(v, flags) : NULL;
	if (spare[1] != NULL) {
		mach_mutex_enter(&v->v_lock);
		vmem_rehash(v);
		t = vmem_best(v, w, addr);
		if (t != NULL)
			vmem_carve(v, t, *addr, w->vw_size, spare);
		mach_mutex_exit(&v->v_lock);
	}
	vmem_tag_put(v, spare[0]);
	vmem_tag_put(v, spare[1]);
	return t != NULL;
}

/* false: zero, or too large to round up. */
static bool vmem_round(const struct vmem *v, uint64_t *size)
{
	uint64_t r = (*size + v->v_quantum - 1) & ~(v->v_quantum - 1);

	if (*size == 0 || r < *size)
		return false;
	*size = r;
	return true;
}

/* ---- quantum caches ---- */
/* The stack of a size, locked; NULL: that size has none. */
static struct vmem_cpu *vmem_q_enter(struct vmem *v, uint64_t size, uint32_t *i)
{
	uint64_t quanta = (size + v->v_quantum - 1) / v->v_quantum;
	struct vmem_cpu *q;

	if (v->v_cpu == NULL || quanta == 0 || quanta > v->v_qmax)
		return NULL;
	*i = (uint32_t)quanta - 1;
	q = &v->v_cpu[mach_cpu_id() % v->v_ncpu];
	mach_mutex_enter(&q->vq_lock);
	return q;
}

static bool vmem_q_get(struct vmem *v, uint64_t size, uint64_t *addr)
{
	uint32_t i;
	struct vmem_cpu *q = vmem_q_enter(v, size, &i);
	bool yes;

	if (q == NULL)
		return false;
	if ((yes = q->vq_n[i] > 0)) {
		*addr = q->vq_addr[i][--q->vq_n[i]];
		v->v_cached -= (i + 1) * v->v_quantum;
	}
	mach_mutex_exit(&q->vq_lock);
	return yes;
}

static bool vmem_q_put(struct vmem *v, uint64_t addr, uint64_t size)
{
	uint32_t i;
	struct vmem_cpu *q = vmem_q_enter(v, size, &i);
	bool yes;

	if (q == NULL)
		return false;
	for (uint32_t k = 0; k < q->vq_n[i]; k++)
		if (q->vq_addr[i][k] == addr)
			mach_panic("vmem: freed twice");
	if ((yes = q->vq_n[i] < VMEM_QDEPTH)) {
		q->vq_addr[i][q->vq_n[i]++] = addr;
		v->v_cached += (i + 1) * v->v_quantum;
	}
	mach_mutex_exit(&q->vq_lock);
	return yes;
}

static void vmem_release(struct vmem *v, uint64_t addr, uint64_t size);

uint64_t vmem_reap(struct vmem *v)
{
	uint64_t bytes = 0;

	for (uint32_t c = 0; v->v_cpu != NULL && c < v->v_ncpu; c++) {
		struct vmem_cpu *q = &v->v_cpu[c];

		mach_mutex_enter(&q->vq_lock);
		for (uint32_t i = 0; i < v->v_qmax; i++)
			while (q->vq_n[i] > 0) {
				uint64_t addr = q->vq_addr[i][--q->vq_n[i]],
					 size = (i + 1) * v->v_quantum;

				mach_mutex_exit(&q->vq_lock);
				vmem_release(v, addr, size);
				v->v_cached -= size;
				bytes += size;
				mach_mutex_enter(&q->vq_lock);
			}
		mach_mutex_exit(&q->vq_lock);
	}
	return bytes;
}

bool vmem_qcache(struct vmem *v, uint64_t max)
{
	uint64_t quanta = max / v->v_quantum;
	uint32_t n = mach_caps(v->v_vm->vm_mach)->mc_ncpus;
	struct vmem_cpu *cpu = kmem_zalloc(v->v_vm, n * sizeof(*cpu), KM_SLEEP);

	if (cpu == NULL)
		return false;
	VM_ASSERT(v->v_cpu == NULL && v->v_inuse == 0);
	for (uint32_t i = 0; i < n; i++)
		mach_mutex_init(&cpu[i].vq_lock, RANK_KMEM, "vmem quanta");
	v->v_ncpu = n;
	v->v_qmax = (uint32_t)(quanta < VMEM_QMAX ? quanta : VMEM_QMAX);
	v->v_cpu = cpu;
	return true;
}

bool vmem_alloc(struct vmem *v, uint64_t size, unsigned flags, uint64_t *addr)
{
	return vmem_q_get(v, size, addr) || vmem_xalloc(v, size, 0, 0, 0, 0, 0, flags, addr) ||
	    (vmem_reap(v) > 0 && vmem_xalloc(v, size, 0, 0, 0, 0, 0, flags, addr));
}

/*
 * align (a power of two, 0: the quantum), phase < align: the address is phase modulo align. nocross (a power of two, 0: none):
 * the range does not cross a multiple of it. [min, max): where it must lie; max 0: no bound.
 */
bool vmem_xalloc(struct vmem *v, uint64_t size, uint64_t align, uint64_t phase, uint64_t nocross,
    uint64_t min, uint64_t max, unsigned flags, uint64_t *addr)
{
	struct vmem_want w = { .vw_align = align < v->v_quantum ? v->v_quantum : align,
		.vw_phase = phase,
		.vw_nocross = nocross,
		.vw_min = min,
		.vw_max = max - 1 };

	if (!vmem_round(v, &size) || (align & (align - 1)) != 0 || (nocross & (nocross - 1)) != 0)
		return false;
	if (phase >= w.vw_align || phase % v->v_quantum != 0 || (nocross != 0 && nocross < size))
		return false;
	w.vw_size = size;
	return vmem_get(v, &w, flags, addr);
}

/* ---- giving back ---- */

static struct vmem_tag *vmem_hash_remove(struct vmem *v, uint64_t addr)
{
	struct vmem_tag **link = vmem_bucket(v, addr), *t;

	while ((t = *link) != NULL && t->vt_base != addr)
		link = &t->vt_lnext;
	if (t != NULL)
		*link = t->vt_lnext;
	return t;
}

void vmem_free(struct vmem *v, uint64_t addr, uint64_t size)
{
	if (!vmem_q_put(v, addr, size))
		vmem_release(v, addr, size);
}

static void vmem_release(struct vmem *v, uint64_t addr, uint64_t size)
{
	struct vmem_tag *t, *gone[2] = { NULL, NULL };

	(void)vmem_round(v, &size);
	mach_mutex_enter(&v->v_lock);
	t = vmem_hash_remove(v, addr);
	if (t == NULL || t->vt_last - t->vt_base != size - 1)
		mach_panic("vmem: freed what was not allocated, or with another size");
	v->v_nalloc--;
	v->v_inuse -= size;
	if (t->vt_prev->vt_type == VMEM_FREE) {
		gone[0] = t->vt_prev;
		vmem_free_remove(v, gone[0]);
		t->vt_base = gone[0]->vt_base;
		vmem_unlink(gone[0]);
	}
	if (t->vt_next != NULL && t->vt_next->vt_type == VMEM_FREE) {
		gone[1] = t->vt_next;
		vmem_free_remove(v, gone[1]);
		t->vt_last = gone[1]->vt_last;
		vmem_unlink(gone[1]);
	}
	vmem_free_insert(v, t);
	mach_mutex_exit(&v->v_lock);
	vmem_tag_put(v, gone[0]);
	vmem_tag_put(v, gone[1]);
}

/* ---- spans and life ---- */

static bool vmem_overlaps(struct vmem *v, uint64_t base, uint64_t last)
{
	for (const struct vmem_tag *t = v->v_tags; t != NULL; t = t->vt_next) {
		if (t->vt_type == VMEM_SPAN && t->vt_base <= last && base <= t->vt_last)
			return true;
	}
	return false;
}

/* One more span, in whole quanta, disjoint from the others. base + size may be 2^64. False also without memory. */
bool vmem_add(struct vmem *v, uint64_t base, uint64_t size)
{
	struct vmem_tag *span, *seg;
	bool ok;

	if (size == 0 || ((base | size) & (v->v_quantum - 1)) != 0 || base + (size - 1) < base)
		return false;
	span = vmem_tag_get(v, KM_SLEEP);
	seg = span != NULL ? vmem_tag_get(v, KM_SLEEP) : NULL;
	if (seg == NULL) {
		vmem_tag_put(v, span);
		return false;
	}
	span->vt_base = seg->vt_base = base;
	span->vt_last = seg->vt_last = base + (size - 1);
	span->vt_type = VMEM_SPAN;
	span->vt_lnext = span->vt_lprev = span->vt_prev = NULL;
	mach_mutex_enter(&v->v_lock);
	ok = !vmem_overlaps(v, base, span->vt_last);
	if (ok) {
		span->vt_next = v->v_tags;
		if (v->v_tags != NULL)
			v->v_tags->vt_prev = span;
		v->v_tags = span;
		vmem_link_after(span, seg);
		vmem_free_insert(v, seg);
	}
	mach_mutex_exit(&v->v_lock);
	if (!ok) {
		vmem_tag_put(v, span);
		vmem_tag_put(v, seg);
	}
	return ok;
}

static void vmem_dispose(struct vmem *v)
{
	struct vm *vm = v->v_vm;
	struct vmem_tag *t, *next;

	for (t = v->v_tags; t != NULL; t = next) {
		next = t->vt_next;
		vmem_tag_put(v, t);
	}
	mach_mutex_fini(&v->v_lock);
	if (v->v_cpu != NULL) {
		for (uint32_t i = 0; i < v->v_ncpu; i++)
			mach_mutex_fini(&v->v_cpu[i].vq_lock);
		kmem_free(vm, v->v_cpu, v->v_ncpu * sizeof(*v->v_cpu));
	}
	kmem_free(vm, v->v_hash, v->v_nhash * sizeof(*v->v_hash));
	kmem_free(vm, v, sizeof(*v));
}

/* size 0: no span yet. quantum: a power of two. NULL: no memory or a bad argument. The name is not copied. */
struct vmem *vmem_create(
    struct vm *vm, const char *name, uint64_t base, uint64_t size, uint64_t quantum)
{
	struct vmem *v;

	if (quantum == 0 || (quantum & (quantum - 1)) != 0)
		return NULL;
	v = kmem_zalloc(vm, sizeof(*v), KM_SLEEP);
	if (v == NULL)
		return NULL;
	v->v_hash = kmem_zalloc(vm, VMEM_HASH * sizeof(*v->v_hash), KM_SLEEP);
	if (v->v_hash == NULL) {
		kmem_free(vm, v, sizeof(*v));
		return NULL;
	}
	v->v_nhash = VMEM_HASH;
	v->v_vm = vm;
	v->v_name = name;
	v->v_quantum = quantum;
	mach_mutex_init(&v->v_lock, RANK_KMEM, "vmem");
	if (size != 0 && !vmem_add(v, base, size)) {
		vmem_dispose(v);
		return NULL;
	}
	return v;
}

void vmem_destroy(struct vmem *v)
{
	(void)vmem_reap(v);
	if (v->v_inuse != 0)
		mach_panic("vmem: an arena was destroyed while in use");
	vmem_dispose(v);
}

uint64_t vmem_inuse(struct vmem *v)
{
	uint64_t n;

	mach_mutex_enter(&v->v_lock);
	n = v->v_inuse - v->v_cached;
	mach_mutex_exit(&v->v_lock);
	return n;
}
