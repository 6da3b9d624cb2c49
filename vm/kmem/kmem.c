/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kernel memory: object caches with per-CPU magazines.
 *
 * Vocabulary: a cache hands out objects of one size. Its objects live in slabs: 2^order contiguous kernel frames with
 * the slab's header at the start and a bitmap of what is allocated. A magazine is a small stack of free objects; each CPU
 * has a loaded and a previous one, the depot of the cache has full and empty ones. In ordinary traffic an allocation is one
 * uncontended lock and one pop. Every frame of a slab holds the slab's address in its page's p_offset: that is how
 * a free object finds its slab.
 *
 * Constructed state: the constructor runs when a slab is made, the destructor when it is given back; between, objects
 * keep their state from free to alloc. A cache without constructor is patterned in debug builds: a freed object's start
 * is filled with 0xdeadbeef and checked when it is handed out again; a word behind each object tells an overrun and a
 * second free. Both panic with the cache's name.
 *
 * Locks (all taken for short, never across page_kalloc or a constructor):
 *   ks_lock    RANK_KMEM      the list of caches
 *   kcpu_lock  RANK_KMEM + 1  one CPU's magazines (the CPU number is only a hint, so a lock is needed anyway)
 *   kc_lock    RANK_KMEM + 2  slabs and depot of a cache
 *
 * Bootstrap: the cache of caches and the cache of magazines live in boot memory and the latter has no magazines
 * itself, so nothing recurses.
 *
 * Left out: slab colouring, moving objects, adaptive magazine sizes.
 */
#include "vm/impl.h"

#define MAG_ROUNDS 14u /* a magazine is 128 bytes: two cache lines */
#define KMEM_NAMELEN 32u
#define KMEM_MAXCPUS 64u
#define KMEM_MAXSLAB 5u /* largest slab order: 128 KiB */
#define KMEM_KEEP_EMPTY                                                                            \
	1u /* empty slabs a cache keeps: one, so that a pair of alloc and free does not thrash */
#define KMEM_PATTERN                                                                               \
	256u /* bytes of a freed object that are patterned: enough to catch, cheap enough to leave on */
#define KMEM_GENERAL_MAX 8192u

#define RED_ALLOC 0xfeedfacefeedfaceu
#define RED_FREE 0xbaddcafebaddcafeu
#define DEADBEEF 0xdeadbeefdeadbeefu

#ifndef NDEBUG
#define KMEM_DEBUG true
#else
#define KMEM_DEBUG false
#endif

struct kmem_mag {
	struct kmem_mag *km_next;
	uint64_t km_n; /* rounds in it */
	void *km_round[MAG_ROUNDS];
};

struct kmem_cpu {
	struct mach_mutex kcpu_lock;
	struct kmem_mag *kcpu_loaded, *kcpu_prev; /* kcpu_lock; NULL: none */
	uint64_t kcpu_pad[2];                     /* to a cache line */
};
_Static_assert(sizeof(struct kmem_cpu) == 64, "a CPU's magazines are one cache line");

enum slab_state { SLAB_EMPTY, SLAB_PARTIAL, SLAB_FULL, SLAB_NSTATES };

struct slab {
	struct kmem_cache *sl_cache;    /* const */
	struct slab *sl_next, *sl_prev; /* kc_lock */
	unsigned char *sl_base;         /* const: first object */
	uint32_t sl_nobj, sl_order;     /* const */
	uint32_t sl_inuse;              /* kc_lock: allocated, in magazines too */
	uint32_t sl_state;              /* kc_lock: which list */
	uint64_t sl_map[];              /* kc_lock: bit set = allocated */
};

struct kmem_cache {
	struct kmem_cache *kc_next; /* ks_lock */
	struct vm *kc_vm;           /* const, like all down to the lock */
	char kc_name[KMEM_NAMELEN];
	size_t kc_size, kc_stride, kc_align;
	uint32_t kc_order; /* of a slab */
	uint32_t
	    kc_minorder; /* the least that holds an object: when memory is too fragmented for kc_order */
	uint32_t kc_ncpus; /* 0: no magazines */
	bool kc_redzone;
	bool (*kc_ctor)(void *, void *);
	void (*kc_dtor)(void *, void *);
	void *kc_arg;
	struct mach_mutex kc_lock;
	struct slab *kc_slabs[SLAB_NSTATES]; /* kc_lock */
	uint32_t kc_nslabs[SLAB_NSTATES];    /* kc_lock */
	uint64_t kc_inuse;                   /* kc_lock: sum of sl_inuse */
	struct kmem_mag *kc_full, *kc_empty; /* kc_lock: depot */
	uint64_t kc_nfull, kc_nempty;        /* kc_lock */
	struct kmem_cpu kc_cpu[];
};

/* Sizes of kmem_alloc. Above 32 bytes, rounding up wastes at most a third of an object. */
static const uint16_t kmem_sizes[] = { 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536,
	2048, 3072, 4096, 6144, 8192 };
#define KMEM_NSIZES (sizeof(kmem_sizes) / sizeof(kmem_sizes[0]))

struct kmem_state {
	struct mach_mutex ks_lock;
	struct kmem_cache *ks_caches;                   /* ks_lock */
	struct kmem_cache *ks_cachecache, *ks_magcache; /* const */
	struct kmem_cache *ks_vmemtags;                 /* const */
	struct kmem_cache *ks_general[KMEM_NSIZES];     /* const */
	uint8_t ks_index[KMEM_GENERAL_MAX / 16 + 1]; /* const: (size + 15) / 16 -> general cache */
	uint32_t ks_ncpus;                           /* const */
	_Atomic uint64_t ks_large; /* frames of allocations beyond the general caches */
};

static void kmem_cache_setup(struct vm *vm, struct kmem_cache *c, const char *name, size_t size,
    size_t align, uint32_t ncpus);

/* ---- debugging ---- */

static _Noreturn void kmem_panic(const struct kmem_cache *c, const char *what)
{
	char msg[128];
	size_t n = 0;
	const char *parts[] = { "kmem: ", c->kc_name, ": ", what };

	for (unsigned i = 0; i < 4; i++) {
		for (const char *s = parts[i]; *s != '\0' && n < sizeof(msg) - 1; s++)
			msg[n++] = *s;
	}
	msg[n] = '\0';
	mach_panic(msg);
}

static size_t kmem_pattern_words(const struct kmem_cache *c)
{
	return (c->kc_size < KMEM_PATTERN ? c->kc_size : KMEM_PATTERN) / sizeof(uint64_t);
}

static uint64_t *kmem_redzone(const struct kmem_cache *c, void *obj)
{
	return (uint64_t *)(void *)((unsigned char *)obj + c->kc_stride - sizeof(uint64_t));
}

static void kmem_debug_fill(const struct kmem_cache *c, void *obj)
{
	uint64_t *w = obj;

	for (size_t i = 0; i < kmem_pattern_words(c); i++)
		w[i] = DEADBEEF;
	*kmem_redzone(c, obj) = RED_FREE;
}

static void kmem_debug_alloc(const struct kmem_cache *c, void *obj)
{
	const uint64_t *w = obj;

	if (*kmem_redzone(c, obj) != RED_FREE)
		kmem_panic(c, "the word behind a free object was overwritten");
	for (size_t i = 0; i < kmem_pattern_words(c); i++) {
		if (w[i] != DEADBEEF)
			kmem_panic(c, "an object was modified after it was freed");
	}
	*kmem_redzone(c, obj) = RED_ALLOC;
}

static struct slab *kmem_slab_of(struct kmem_cache *c, const void *obj)
{
	struct vm *vm = c->kc_vm;
	pfn_t pfn = mach_kva_frame(vm->vm_mach, obj);
	struct slab *sl;

	if (pfn >= vm->vm_nframes || vm->vm_pages[pfn].p_flags != P_KERNEL)
		kmem_panic(c, "freed a pointer that is not kernel memory");
	sl = (struct slab *)(uintptr_t)vm->vm_pages[pfn].p_offset;
	if (sl == NULL || sl->sl_cache != c)
		kmem_panic(c, "freed an object of another cache");
	return sl;
}

static void kmem_debug_free(struct kmem_cache *c, void *obj)
{
	struct slab *sl = kmem_slab_of(c, obj);
	size_t off = (size_t)((unsigned char *)obj - sl->sl_base);

	if (off % c->kc_stride != 0 || off / c->kc_stride >= sl->sl_nobj)
		kmem_panic(c, "freed a pointer into the middle of an object");
	if (!c->kc_redzone)
		return;
	if (*kmem_redzone(c, obj) == RED_FREE)
		kmem_panic(c, "an object was freed twice");
	if (*kmem_redzone(c, obj) != RED_ALLOC)
		kmem_panic(c, "an object was overrun");
	kmem_debug_fill(c, obj);
}

/* ---- slabs ---- */

static void slab_link(struct kmem_cache *c, struct slab *sl, enum slab_state st)
{
	sl->sl_state = st;
	sl->sl_prev = NULL;
	sl->sl_next = c->kc_slabs[st];
	if (sl->sl_next != NULL)
		sl->sl_next->sl_prev = sl;
	c->kc_slabs[st] = sl;
	c->kc_nslabs[st]++;
}

static void slab_unlink(struct kmem_cache *c, struct slab *sl)
{
	if (sl->sl_prev != NULL)
		sl->sl_prev->sl_next = sl->sl_next;
	else
		c->kc_slabs[sl->sl_state] = sl->sl_next;
	if (sl->sl_next != NULL)
		sl->sl_next->sl_prev = sl->sl_prev;
	c->kc_nslabs[sl->sl_state]--;
}

static void slab_move(struct kmem_cache *c, struct slab *sl)
{
	enum slab_state st = sl->sl_inuse == sl->sl_nobj ? SLAB_FULL : SLAB_PARTIAL;

	if (sl->sl_inuse == 0)
		st = SLAB_EMPTY;
	if (st != sl->sl_state) {
		slab_unlink(c, sl);
		slab_link(c, sl, st);
	}
}

static void slab_free_frames(struct kmem_cache *c, struct slab *sl)
{
	struct vm *vm = c->kc_vm;

	page_kfree(vm, page_of(vm, mach_kva_frame(vm->vm_mach, sl)), sl->sl_order);
}

/* Destructs the first n objects and gives the frames back. No lock held. */
static void slab_destroy(struct kmem_cache *c, struct slab *sl, uint32_t n)
{
	if (c->kc_dtor != NULL) {
		for (uint32_t i = 0; i < n; i++)
			c->kc_dtor(sl->sl_base + i * c->kc_stride, c->kc_arg);
	}
	slab_free_frames(c, sl);
}

static unsigned kmem_pg_flags(unsigned flags)
{
	return ((flags & KM_NOSLEEP) ? 0 : PG_WAIT) | ((flags & KM_RESERVE) ? PG_RESERVE : 0);
}

static size_t kmem_round(size_t x, size_t to) { return (x + to - 1) / to * to; }

/* How many objects fit a slab of that order; *first gets the offset of the first object. */
static uint32_t kmem_fit(const struct kmem_cache *c, unsigned order, uint32_t *first)
{
	size_t bytes = (size_t)VM_PAGESIZE << order,
	       n = (bytes - sizeof(struct slab)) / c->kc_stride;

	for (; n > 0; n--) {
		size_t head =
		    kmem_round(sizeof(struct slab) + (n + 63) / 64 * sizeof(uint64_t), c->kc_align);

		if (head + n * c->kc_stride <= bytes) {
			*first = (uint32_t)head;
			return (uint32_t)n;
		}
	}
	return 0;
}

/* Frames for a slab. A block of frames is not waited for where a smaller slab will do: contiguous
 * frames might never come free. */
static struct page *slab_frames(struct kmem_cache *c, unsigned flags, uint32_t *order)
{
	struct vm *vm = c->kc_vm;
	struct page *pp = NULL;

	*order = c->kc_order;
	if (c->kc_order > c->kc_minorder) {
		pp = page_kalloc(vm, *order, kmem_pg_flags(flags) & ~PG_WAIT);
		if (pp == NULL)
			*order = c->kc_minorder;
	}
	return pp != NULL ? pp : page_kalloc(vm, *order, kmem_pg_flags(flags));
}

/* A new slab, all objects free and constructed, on no list. No lock held. */
static struct slab *slab_create(struct kmem_cache *c, unsigned flags)
{
	uint32_t order, first = 0, nobj, words;
	struct page *pp = slab_frames(c, flags, &order);
	struct slab *sl;

	if (pp == NULL)
		return NULL;
	sl = mach_frame_kva(c->kc_vm->vm_mach, page_pfn(c->kc_vm, pp));
	for (uint32_t i = 0; i < 1u << order; i++)
		pp[i].p_offset = (voff_t)(uintptr_t)sl;
	nobj = kmem_fit(c, order, &first);
	words = (nobj + 63) / 64;
	sl->sl_cache = c;
	sl->sl_next = sl->sl_prev = NULL;
	sl->sl_base = (unsigned char *)sl + first;
	sl->sl_nobj = nobj;
	sl->sl_order = order;
	sl->sl_inuse = 0;
	sl->sl_state = SLAB_EMPTY;
	memset(sl->sl_map, 0, words * sizeof(uint64_t));
	/* Bits past the last object are taken for ever: the search need not look at the count. */
	if (nobj % 64 != 0)
		sl->sl_map[words - 1] = ~0ull << (nobj % 64);
	for (uint32_t i = 0; i < nobj; i++) {
		void *obj = sl->sl_base + i * c->kc_stride;

		if (c->kc_redzone)
			kmem_debug_fill(c, obj);
		if (c->kc_ctor != NULL && !c->kc_ctor(obj, c->kc_arg)) {
			slab_destroy(c, sl, i);
			return NULL;
		}
	}
	return sl;
}

static void *slab_take_locked(struct kmem_cache *c)
{
	struct slab *sl = c->kc_slabs[SLAB_PARTIAL];
	uint32_t w = 0, i;

	VM_ASSERT(mach_mutex_held(&c->kc_lock));
	if (sl == NULL)
		sl = c->kc_slabs[SLAB_EMPTY];
	if (sl == NULL)
		return NULL;
	while (sl->sl_map[w] == ~0ull)
		w++;
	i = (uint32_t)__builtin_ctzll(~sl->sl_map[w]);
	sl->sl_map[w] |= 1ull << i;
	sl->sl_inuse++;
	c->kc_inuse++;
	slab_move(c, sl);
	return sl->sl_base + (w * 64 + i) * c->kc_stride;
}

static void *slab_alloc(struct kmem_cache *c, unsigned flags)
{
	struct slab *sl;
	void *obj;

	mach_mutex_enter(&c->kc_lock);
	while ((obj = slab_take_locked(c)) == NULL) {
		mach_mutex_exit(&c->kc_lock);
		sl = slab_create(c, flags);
		if (sl == NULL)
			return NULL;
		mach_mutex_enter(&c->kc_lock);
		slab_link(c, sl, SLAB_EMPTY);
	}
	mach_mutex_exit(&c->kc_lock);
	return obj;
}

/* Gives an object back to its slab; returns a slab to destroy if there are more empty ones than the cache keeps. */
static struct slab *slab_put_locked(struct kmem_cache *c, void *obj, uint32_t keep)
{
	struct slab *sl = kmem_slab_of(c, obj);
	uint32_t i = (uint32_t)((size_t)((unsigned char *)obj - sl->sl_base) / c->kc_stride);

	VM_ASSERT(mach_mutex_held(&c->kc_lock));
	if (!(sl->sl_map[i / 64] & (1ull << (i % 64))))
		kmem_panic(c, "an object was freed twice");
	sl->sl_map[i / 64] &= ~(1ull << (i % 64));
	sl->sl_inuse--;
	c->kc_inuse--;
	slab_move(c, sl);
	if (sl->sl_inuse > 0 || c->kc_nslabs[SLAB_EMPTY] <= keep)
		return NULL;
	slab_unlink(c, sl);
	return sl;
}

static void slab_free(struct kmem_cache *c, void *obj)
{
	struct slab *dead;

	mach_mutex_enter(&c->kc_lock);
	dead = slab_put_locked(c, obj, KMEM_KEEP_EMPTY);
	mach_mutex_exit(&c->kc_lock);
	if (dead != NULL)
		slab_destroy(c, dead, dead->sl_nobj);
}

/* ---- magazines ---- */

static struct kmem_cpu *kmem_cpu_of(struct kmem_cache *c)
{
	return &c->kc_cpu[mach_cpu_id() % c->kc_ncpus];
}

static void kmem_cpu_swap(struct kmem_cpu *cpu)
{
	struct kmem_mag *m = cpu->kcpu_loaded;

	cpu->kcpu_loaded = cpu->kcpu_prev;
	cpu->kcpu_prev = m;
}

static void depot_put_locked(struct kmem_cache *c, struct kmem_mag *m)
{
	VM_ASSERT(mach_mutex_held(&c->kc_lock));
	if (m == NULL)
		return;
	if (m->km_n > 0) {
		m->km_next = c->kc_full;
		c->kc_full = m;
		c->kc_nfull++;
	} else {
		m->km_next = c->kc_empty;
		c->kc_empty = m;
		c->kc_nempty++;
	}
}

static struct kmem_mag *depot_get_locked(struct kmem_cache *c, bool full)
{
	struct kmem_mag **list = full ? &c->kc_full : &c->kc_empty, *m = *list;

	VM_ASSERT(mach_mutex_held(&c->kc_lock));
	if (m != NULL) {
		*list = m->km_next;
		*(full ? &c->kc_nfull : &c->kc_nempty) -= 1;
	}
	return m;
}

/* Exchanges the previous magazine (empty when a full one is wanted, and the other way round) for one of the depot's and
 * loads that. kcpu_lock held. */
static bool kmem_cpu_exchange(struct kmem_cache *c, struct kmem_cpu *cpu, bool full)
{
	struct kmem_mag *m;

	mach_mutex_enter(&c->kc_lock);
	m = depot_get_locked(c, full);
	if (m != NULL)
		depot_put_locked(c, cpu->kcpu_prev);
	mach_mutex_exit(&c->kc_lock);
	if (m == NULL)
		return false;
	cpu->kcpu_prev = cpu->kcpu_loaded;
	cpu->kcpu_loaded = m;
	return true;
}

static void *kmem_cpu_get(struct kmem_cache *c)
{
	struct kmem_cpu *cpu = kmem_cpu_of(c);
	void *obj = NULL;

	mach_mutex_enter(&cpu->kcpu_lock);
	if (cpu->kcpu_loaded == NULL || cpu->kcpu_loaded->km_n == 0) {
		if (cpu->kcpu_prev != NULL && cpu->kcpu_prev->km_n > 0)
			kmem_cpu_swap(cpu);
		else
			(void)kmem_cpu_exchange(c, cpu, true);
	}
	if (cpu->kcpu_loaded != NULL && cpu->kcpu_loaded->km_n > 0)
		obj = cpu->kcpu_loaded->km_round[--cpu->kcpu_loaded->km_n];
	mach_mutex_exit(&cpu->kcpu_lock);
	return obj;
}

static bool mag_has_room(const struct kmem_mag *m) { return m != NULL && m->km_n < MAG_ROUNDS; }

/* false: no room in any magazine. */
static bool kmem_cpu_try_put(struct kmem_cache *c, void *obj)
{
	struct kmem_cpu *cpu = kmem_cpu_of(c);
	bool ok;

	mach_mutex_enter(&cpu->kcpu_lock);
	if (!mag_has_room(cpu->kcpu_loaded)) {
		if (mag_has_room(cpu->kcpu_prev))
			kmem_cpu_swap(cpu);
		else
			(void)kmem_cpu_exchange(c, cpu, false);
	}
	ok = mag_has_room(cpu->kcpu_loaded);
	if (ok)
		cpu->kcpu_loaded->km_round[cpu->kcpu_loaded->km_n++] = obj;
	mach_mutex_exit(&cpu->kcpu_lock);
	return ok;
}

static void mag_free(struct vm *vm, struct kmem_mag *m) { slab_free(vm->vm_kmem->ks_magcache, m); }

static bool kmem_cpu_put(struct kmem_cache *c, void *obj)
{
	struct kmem_mag *m;

	if (kmem_cpu_try_put(c, obj))
		return true;
	m = slab_alloc(c->kc_vm->vm_kmem->ks_magcache, KM_NOSLEEP);
	if (m == NULL)
		return false;
	m->km_n = 0;
	mach_mutex_enter(&c->kc_lock);
	depot_put_locked(c, m);
	mach_mutex_exit(&c->kc_lock);
	return kmem_cpu_try_put(c, obj);
}

/* ---- allocation ---- */

static void *kmem_cache_get(struct kmem_cache *c, unsigned flags)
{
	void *obj = c->kc_ncpus > 0 ? kmem_cpu_get(c) : NULL;

	if (obj == NULL)
		obj = slab_alloc(c, flags);
	if (obj != NULL && c->kc_redzone)
		kmem_debug_alloc(c, obj);
	return obj;
}

void *kmem_cache_alloc(struct kmem_cache *c, unsigned flags)
{
	if (vm_inject_fail(c->kc_vm, VM_INJECT_KMEM))
		return NULL;
	return kmem_cache_get(c, flags);
}

void kmem_cache_free(struct kmem_cache *c, void *obj)
{
	if (KMEM_DEBUG)
		kmem_debug_free(c, obj);
	if (c->kc_ncpus == 0 || !kmem_cpu_put(c, obj))
		slab_free(c, obj);
}

uint64_t kmem_cache_inuse(struct kmem_cache *c)
{
	uint64_t idle = 0, n;

	for (uint32_t i = 0; i < c->kc_ncpus; i++) {
		struct kmem_cpu *cpu = &c->kc_cpu[i];

		mach_mutex_enter(&cpu->kcpu_lock);
		idle += cpu->kcpu_loaded != NULL ? cpu->kcpu_loaded->km_n : 0;
		idle += cpu->kcpu_prev != NULL ? cpu->kcpu_prev->km_n : 0;
		mach_mutex_exit(&cpu->kcpu_lock);
	}
	mach_mutex_enter(&c->kc_lock);
	for (const struct kmem_mag *m = c->kc_full; m != NULL; m = m->km_next)
		idle += m->km_n;
	n = c->kc_inuse;
	mach_mutex_exit(&c->kc_lock);
	return n > idle ? n - idle : 0;
}

/* ---- reaping ---- */

static uint64_t mag_drain(struct kmem_cache *c, struct kmem_mag *m)
{
	uint64_t frames = 0;

	while (m->km_n > 0) {
		struct slab *dead;
		void *obj = m->km_round[--m->km_n];

		mach_mutex_enter(&c->kc_lock);
		dead = slab_put_locked(c, obj, 0);
		mach_mutex_exit(&c->kc_lock);
		if (dead != NULL) {
			frames += 1u << dead->sl_order;
			slab_destroy(c, dead, dead->sl_nobj);
		}
	}
	mag_free(c->kc_vm, m);
	return frames;
}

/* Takes all magazines of the cache, as a list. */
static struct kmem_mag *kmem_take_magazines(struct kmem_cache *c)
{
	struct kmem_mag *list = NULL, *m;

	for (uint32_t i = 0; i < c->kc_ncpus; i++) {
		struct kmem_cpu *cpu = &c->kc_cpu[i];

		mach_mutex_enter(&cpu->kcpu_lock);
		mach_mutex_enter(&c->kc_lock);
		depot_put_locked(c, cpu->kcpu_loaded);
		depot_put_locked(c, cpu->kcpu_prev);
		mach_mutex_exit(&c->kc_lock);
		cpu->kcpu_loaded = cpu->kcpu_prev = NULL;
		mach_mutex_exit(&cpu->kcpu_lock);
	}
	mach_mutex_enter(&c->kc_lock);
	while (
	    (m = depot_get_locked(c, true)) != NULL || (m = depot_get_locked(c, false)) != NULL) {
		m->km_next = list;
		list = m;
	}
	mach_mutex_exit(&c->kc_lock);
	return list;
}

static uint64_t kmem_cache_reap(struct kmem_cache *c)
{
	struct kmem_mag *m = kmem_take_magazines(c), *next;
	uint64_t frames = 0;
	struct slab *sl;

	for (; m != NULL; m = next) {
		next = m->km_next;
		frames += mag_drain(c, m);
	}
	do {
		mach_mutex_enter(&c->kc_lock);
		sl = c->kc_slabs[SLAB_EMPTY];
		if (sl != NULL)
			slab_unlink(c, sl);
		mach_mutex_exit(&c->kc_lock);
		if (sl != NULL) {
			frames += 1u << sl->sl_order;
			slab_destroy(c, sl, sl->sl_nobj);
		}
	} while (sl != NULL);
	return frames;
}

uint64_t kmem_reap(struct vm *vm)
{
	struct kmem_state *ks = vm->vm_kmem;
	uint64_t frames = 0;

	mach_mutex_enter(&ks->ks_lock);
	for (struct kmem_cache *c = ks->ks_caches; c != NULL; c = c->kc_next)
		frames += kmem_cache_reap(c);
	/* Last: the others gave their magazines back to it. */
	frames += kmem_cache_reap(ks->ks_magcache);
	mach_mutex_exit(&ks->ks_lock);
	return frames;
}

/* ---- caches ---- */

/* The smallest slab that wastes at most an eighth, or else the largest allowed (or the first that fits one object). */
static void kmem_choose_order(struct kmem_cache *c)
{
	uint32_t first;

	for (c->kc_minorder = 0; kmem_fit(c, c->kc_minorder, &first) == 0; c->kc_minorder++)
		VM_ASSERT(c->kc_minorder < VM_MAXORDER);
	for (c->kc_order = c->kc_minorder; c->kc_order < KMEM_MAXSLAB; c->kc_order++) {
		size_t bytes = (size_t)VM_PAGESIZE << c->kc_order;

		if (bytes - kmem_fit(c, c->kc_order, &first) * c->kc_stride <= bytes / 8)
			return;
	}
}

static void kmem_cache_setup(struct vm *vm, struct kmem_cache *c, const char *name, size_t size,
    size_t align, uint32_t ncpus)
{
	unsigned i;

	memset(c, 0, sizeof(*c) + ncpus * sizeof(struct kmem_cpu));
	for (i = 0; i < KMEM_NAMELEN - 1 && name[i] != '\0'; i++)
		c->kc_name[i] = name[i];
	c->kc_vm = vm;
	c->kc_align = align < sizeof(uint64_t) ? sizeof(uint64_t) : align;
	c->kc_size = kmem_round(size, sizeof(uint64_t));
	c->kc_ncpus = ncpus;
	mach_mutex_init(&c->kc_lock, RANK_KMEM + 2, "kmem cache");
	for (i = 0; i < ncpus; i++)
		mach_mutex_init(&c->kc_cpu[i].kcpu_lock, RANK_KMEM + 1, "kmem magazines");
}

/* The second half of a set-up, after the constructor is known. */
static void kmem_cache_layout(struct kmem_cache *c)
{
	c->kc_redzone = KMEM_DEBUG && c->kc_ctor == NULL && c->kc_dtor == NULL;
	c->kc_stride = kmem_round(c->kc_size + (c->kc_redzone ? sizeof(uint64_t) : 0), c->kc_align);
	kmem_choose_order(c);
}

struct kmem_cache *kmem_cache_create(struct vm *vm, const char *name, size_t size, size_t align,
    bool (*ctor)(void *, void *), void (*dtor)(void *, void *), void *arg)
{
	struct kmem_state *ks = vm->vm_kmem;
	struct kmem_cache *c;

	if (size == 0 || size > (size_t)VM_PAGESIZE << KMEM_MAXSLAB || align > VM_PAGESIZE ||
	    (align & (align - 1)))
		return NULL;
	c = kmem_cache_alloc(ks->ks_cachecache, KM_SLEEP);
	if (c == NULL)
		return NULL;
	kmem_cache_setup(vm, c, name, size, align, ks->ks_ncpus);
	c->kc_ctor = ctor;
	c->kc_dtor = dtor;
	c->kc_arg = arg;
	kmem_cache_layout(c);
	mach_mutex_enter(&ks->ks_lock);
	c->kc_next = ks->ks_caches;
	ks->ks_caches = c;
	mach_mutex_exit(&ks->ks_lock);
	return c;
}

static void kmem_cache_fini(struct kmem_cache *c)
{
	(void)kmem_cache_reap(c);
	if (KMEM_DEBUG && c->kc_inuse > 0)
		kmem_panic(c, "destroyed while objects are in use");
	for (uint32_t i = 0; i < c->kc_ncpus; i++)
		mach_mutex_fini(&c->kc_cpu[i].kcpu_lock);
	mach_mutex_fini(&c->kc_lock);
}

void kmem_cache_destroy(struct kmem_cache *c)
{
	struct kmem_state *ks = c->kc_vm->vm_kmem;
	struct kmem_cache **link;

	mach_mutex_enter(&ks->ks_lock);
	for (link = &ks->ks_caches; *link != c; link = &(*link)->kc_next)
		VM_ASSERT(*link != NULL);
	*link = c->kc_next;
	mach_mutex_exit(&ks->ks_lock);
	kmem_cache_fini(c);
	kmem_cache_free(ks->ks_cachecache, c);
}

/* ---- general sizes ---- */

static unsigned kmem_order(size_t size)
{
	unsigned order = 0;

	while (((size_t)VM_PAGESIZE << order) < size && order <= VM_MAXORDER)
		order++;
	return order;
}

static void *kmem_large_alloc(struct vm *vm, size_t size, unsigned flags)
{
	unsigned order = kmem_order(size);
	struct page *pp;

	if (order > VM_MAXORDER || vm_inject_fail(vm, VM_INJECT_KMEM))
		return NULL;
	pp = page_kalloc(vm, order, kmem_pg_flags(flags));
	if (pp == NULL)
		return NULL;
	vm->vm_kmem->ks_large += 1u << order;
	return mach_frame_kva(vm->vm_mach, page_pfn(vm, pp));
}

void *kmem_alloc(struct vm *vm, size_t size, unsigned flags)
{
	struct kmem_state *ks = vm->vm_kmem;

	if (size > KMEM_GENERAL_MAX)
		return kmem_large_alloc(vm, size, flags);
	return kmem_cache_alloc(ks->ks_general[ks->ks_index[(size + 15) / 16]], flags);
}

void *kmem_zalloc(struct vm *vm, size_t size, unsigned flags)
{
	void *p = kmem_alloc(vm, size, flags);

	if (p != NULL)
		memset(p, 0, size);
	return p;
}

void kmem_free(struct vm *vm, void *p, size_t size)
{
	struct kmem_state *ks = vm->vm_kmem;
	struct page *pp;

	if (p == NULL)
		return;
	if (size <= KMEM_GENERAL_MAX) {
		kmem_cache_free(ks->ks_general[ks->ks_index[(size + 15) / 16]], p);
		return;
	}
	pp = page_of(vm, mach_kva_frame(vm->vm_mach, p));
	VM_ASSERT((pp->p_flags & P_KERNEL) && pp->p_offset == 0);
	ks->ks_large -= 1u << kmem_order(size);
	page_kfree(vm, pp, kmem_order(size));
}

struct kmem_cache *kmem_vmem_tags(struct vm *vm) { return vm->vm_kmem->ks_vmemtags; }

/* ---- life ---- */

static void kmem_size_name(char *name, unsigned size)
{
	const char *prefix = "kmem-";
	char digits[8];
	unsigned n = 0, i = 0;

	while (prefix[i] != '\0') {
		name[i] = prefix[i];
		i++;
	}
	for (; size > 0; size /= 10)
		digits[n++] = (char)('0' + size % 10);
	while (n > 0)
		name[i++] = digits[--n];
	name[i] = '\0';
}

static enum vm_err kmem_init_general(struct vm *vm, struct kmem_state *ks)
{
	unsigned size = 0;

	for (unsigned i = 0; i < KMEM_NSIZES; i++) {
		char name[KMEM_NAMELEN];

		kmem_size_name(name, kmem_sizes[i]);
		ks->ks_general[i] =
		    kmem_cache_create(vm, name, kmem_sizes[i], 16, NULL, NULL, NULL);
		if (ks->ks_general[i] == NULL)
			return VM_NOMEM;
		for (; size <= kmem_sizes[i]; size += 16)
			ks->ks_index[size / 16] = (uint8_t)i;
	}
	return VM_OK;
}

static uint32_t kmem_ncpus(const struct mach_caps *caps)
{
	uint32_t n = caps->mc_ncpus;

	if (n == 0)
		n = 1;
	return n > KMEM_MAXCPUS ? KMEM_MAXCPUS : n;
}

static size_t kmem_cache_bytes(uint32_t ncpus)
{
	return sizeof(struct kmem_cache) + ncpus * sizeof(struct kmem_cpu);
}

size_t kmem_boot_bytes(const struct mach_caps *caps)
{
	return VM_BOOT_ROUND(sizeof(struct kmem_state)) +
	    2 * VM_BOOT_ROUND(kmem_cache_bytes(kmem_ncpus(caps)));
}

enum vm_err kmem_init(struct vm *vm)
{
	uint32_t ncpus = kmem_ncpus(vm->vm_caps);
	struct kmem_state *ks = mach_boot_alloc(vm->vm_mach, sizeof(*ks));
	size_t csize;

	if (ks == NULL)
		return VM_NOMEM;
	ks->ks_ncpus = ncpus;
	csize = kmem_cache_bytes(ncpus);
	mach_mutex_init(&ks->ks_lock, RANK_KMEM, "kmem");
	ks->ks_cachecache = mach_boot_alloc(vm->vm_mach, csize);
	ks->ks_magcache = mach_boot_alloc(vm->vm_mach, csize);
	if (ks->ks_cachecache == NULL || ks->ks_magcache == NULL)
		return VM_NOMEM;
	kmem_cache_setup(vm, ks->ks_cachecache, "cache", csize, 64, 0);
	kmem_cache_layout(ks->ks_cachecache);
	kmem_cache_setup(vm, ks->ks_magcache, "magazine", sizeof(struct kmem_mag), 0, 0);
	/* Magazines go to the slabs directly, without the patterns: they are the allocator's own. */
	kmem_cache_layout(ks->ks_magcache);
	vm->vm_kmem = ks;
	ks->ks_vmemtags = kmem_cache_create(vm, "vmem tag", 64, 0, NULL, NULL, NULL);
	return ks->ks_vmemtags == NULL ? VM_NOMEM : kmem_init_general(vm, ks);
}

void kmem_fini(struct vm *vm)
{
	struct kmem_state *ks = vm->vm_kmem;

	while (ks->ks_caches != NULL)
		kmem_cache_destroy(ks->ks_caches);
	kmem_cache_fini(ks->ks_cachecache);
	kmem_cache_fini(ks->ks_magcache);
	mach_mutex_fini(&ks->ks_lock);
	vm->vm_kmem = NULL;
}

/* ---- checking ---- */

static unsigned kmem_check_slab(
    struct kmem_cache *c, struct slab *sl, void (*report)(void *, const char *), void *arg)
{
	struct vm *vm = c->kc_vm;
	pfn_t pfn = mach_kva_frame(vm->vm_mach, sl);
	uint32_t n = 0;
	unsigned bad = 0;

	for (uint32_t i = 0; i < sl->sl_nobj; i++)
		n += (sl->sl_map[i / 64] & (1ull << (i % 64))) != 0;
	if (n != sl->sl_inuse || sl->sl_cache != c) {
		report(arg, "kmem: a slab's count is not that of its bitmap");
		bad++;
	}
	for (uint32_t i = 0; i < 1u << sl->sl_order; i++) {
		if (vm->vm_pages[pfn + i].p_flags != P_KERNEL ||
		    vm->vm_pages[pfn + i].p_offset != (voff_t)(uintptr_t)sl) {
			report(arg, "kmem: a slab's frame does not know its slab");
			bad++;
		}
	}
	return bad;
}

static unsigned kmem_check_cache(
    struct kmem_cache *c, uint64_t *frames, void (*report)(void *, const char *), void *arg)
{
	uint64_t inuse = 0;
	unsigned bad = 0;

	mach_mutex_enter(&c->kc_lock);
	for (unsigned st = 0; st < SLAB_NSTATES; st++) {
		uint32_t n = 0;

		for (struct slab *sl = c->kc_slabs[st]; sl != NULL; sl = sl->sl_next, n++) {
			bool empty = sl->sl_inuse == 0, full = sl->sl_inuse == sl->sl_nobj;

			bad += kmem_check_slab(c, sl, report, arg);
			inuse += sl->sl_inuse;
			*frames += 1u << sl->sl_order;
			if (sl->sl_state != st || empty != (st == SLAB_EMPTY) ||
			    full != (st == SLAB_FULL)) {
				report(arg, "kmem: a slab is on the wrong list");
				bad++;
			}
		}
		if (n != c->kc_nslabs[st]) {
			report(arg, "kmem: a slab list's length is wrong");
			bad++;
		}
	}
	if (inuse != c->kc_inuse) {
		report(arg, "kmem: a cache's count is not the sum of its slabs");
		bad++;
	}
	mach_mutex_exit(&c->kc_lock);
	return bad;
}

unsigned kmem_check(struct vm *vm, void (*report)(void *, const char *), void *arg)
{
	struct kmem_state *ks = vm->vm_kmem;
	uint64_t frames = ks->ks_large;
	unsigned bad = 0;

	mach_mutex_enter(&ks->ks_lock);
	for (struct kmem_cache *c = ks->ks_caches; c != NULL; c = c->kc_next)
		bad += kmem_check_cache(c, &frames, report, arg);
	bad += kmem_check_cache(ks->ks_cachecache, &frames, report, arg);
	bad += kmem_check_cache(ks->ks_magcache, &frames, report, arg);
	mach_mutex_exit(&ks->ks_lock);
	/* Ports take kernel frames directly (page tables), so there may be more. */
	if (frames > vm->vm_nkernel) {
		report(arg, "kmem: more frames in slabs than kernel frames");
		bad++;
	}
	return bad;
}
