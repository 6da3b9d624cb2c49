/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to hat/: one mechanism (hat.c) over two stores of translations, page tables (hat_radix.c) and hashed mapping
 * blocks (hat_sfmmu.c), in several formats (format.c).
 *
 * Vocabulary: an entry is one translation's word in its store. Its size is an index into the
 * format's f_shift: an entry of size s translates 2^f_shift[s] bytes. An entry with f_valid set is
 * a translation for this code; if it grants no right, it is none for the hardware.
 */
#ifndef QUIRE_HAT_IMPL_H
#define QUIRE_HAT_IMPL_H

#include "hat/mmu.h"
#include "hat/pvlist.h"

#include <quire/hat.h>
#include <quire/kmem.h>
#include <quire/machine.h>
#include <quire/page.h>
#include <quire/vm.h>

#define HAT_LEVELS 5u

struct hat_store;
struct hat_format {
	const char *f_name;
	const struct hat_store *f_store;
	uint8_t f_nsizes; /* page sizes */
	uint8_t f_levels; /* of tables */
	uint8_t f_entry;  /* bytes of an entry */
	bool f_fixed_top; /* the root's entries are set once and never change: the CPU keeps copies
	                  * of them */
	uint8_t f_shift[HAT_LEVELS +
	    1]; /* address bits below an index of each level; the last one: of the space */
	uint64_t f_frames;      /* physical frames that an entry can name */
	uint64_t f_root_frames; /* ... that the base register can name */
	vaddr_t f_va_end;       /* user half */
	vaddr_t f_kernel_min,
	    f_kernel_end; /* entries of the kernel half, without the root's last entry; 0: the
	                   * format has none */
	uint64_t f_user,
	    f_global; /* bits of an entry: user mode may use it; it is the same in every space */
	uint64_t f_valid, f_locked;     /* software bits: a translation is loaded; HAT_LOAD_LOCK */
	uint64_t f_ref, f_mod, f_write; /* the hardware's */
	uint64_t f_noexec; /* bit of a pointer: nothing below can be executed; 0: the format has
	                    * none */
	uint64_t (*f_make)(
	    uint64_t frame, unsigned attr, unsigned size); /* without ref, mod, locked */
	unsigned (*f_attr)(uint64_t entry);
	uint64_t (*f_frame)(uint64_t entry);
	uint64_t (*f_pointer)(
	    uint64_t frame, unsigned level); /* entry of a level to the table below */
	bool (*f_is_pointer)(uint64_t entry);
};

/* A share: the tables of s_from that s_to uses, too. */
struct share {
	struct share *s_next;     /* hs_lock: next share of the same s_from */
	struct share *s_borrowed; /* hs_lock: next share of the same s_to */
	struct hat *s_from, *s_to;
	vaddr_t s_fva, s_va;
	uint64_t s_len;
};

struct sfmmu;
struct hat {
	struct vm *h_vm;                /* const */
	struct as *h_as;                /* const */
	struct hat_shared *h_shared;    /* const */
	const struct hat_format *h_fmt; /* const */
	unsigned h_serial;              /* const */
	bool h_kernel;                  /* const: the kernel's own space */
	vaddr_t h_min, h_end;           /* const: its addresses, in whole entries of the root */
	uint64_t h_ctx;                 /* the machine's lock for loading spaces: see asid.c */
	pfn_t h_root;                   /* const: page tables */
	pfn_t h_uroot;                  /* const: the root for user mode; PFN_INVALID: user mode
	                                 * uses h_root, too */
	struct sfmmu *h_sfmmu;          /* const: hashed blocks */
	uint64_t h_count[HAT_LEVELS];   /* hs_lock: translations by size */
	struct share *h_sharers;        /* hs_lock: shares in which other spaces use tables of this
	                                 * space */
	struct share *h_borrowed;       /* hs_lock: shares in which this space uses tables of
	                                 * others */
};

/* One translation in its store. */
struct map {
	void *m_entry;
	uint64_t m_word; /* the word of the entry as it was read */
	vaddr_t m_va;    /* first address of the translation */
	unsigned m_size;
};

/*
 * One operation: what it collects while it holds the lock. Ranges are flushed before the lock is
 * dropped; objects of the store (tables, blocks) that were taken out are freed after that. Spares
 * are objects that were allocated for the operation and not used yet.
 */
struct op {
	struct hat_shared *o_hs;
	struct vm *o_vm;
	const struct hat_format *o_fmt;
	void *o_spare, *o_junk;
	unsigned o_nspare;
	unsigned o_nranges;
	struct mmu_range o_range[MMU_BATCH];
};

enum need { NEED_NOTHING, NEED_OBJECT, NEED_NODE, NEED_STOP };

/* With hs_lock held unless it says otherwise. */
struct hat_store {
	bool (*st_share)(struct hat_shared *); /* the state that all spaces share, once; false: no
	                                        * memory */
	enum vm_err (*st_init)(struct hat *);  /* may sleep; VM_NOMEM */
	void (*st_fini)(
	    struct op *, struct hat *);   /* no translation is left; the space's objects are to be
	                                   * freed */
	void (*st_destroy)(struct hat *); /* frees the rest, without the lock */
	bool (*st_lookup)(
	    const struct hat *, vaddr_t, struct map *); /* the translation of an address */
	/* The first translation that ends above *va and begins below end; *va is moved up to where it begins, if it was below. */
	bool (*st_next)(const struct hat *, vaddr_t *va, vaddr_t end, struct map *);
	/* The empty entry for a translation of that size, made from spares; NEED_OBJECT: there are too few. */
	enum need (*st_slot)(struct op *, struct hat *, vaddr_t, unsigned size, struct map *);
	void (*st_set)(struct hat *, const struct map *, uint64_t word); /* fills an empty entry */
	uint64_t (*st_clear)(
	    struct op *, struct hat *, const struct map *); /* empties it; returns the last word */
	void (*st_prune)(
	    struct op *, struct hat *, vaddr_t); /* takes empty tables out on the way to va */
	/* Splits an entry of size > 0 into smaller ones of equal rights; cannot fail. Returns the
	 * last word. */
	uint64_t (*st_demote)(struct op *, struct hat *, const struct map *);
	/* Replaces all entries in the range of one large entry by that entry (word: without ref and
	 * mod); the caller has checked that they fit. */
	enum need (*st_join)(struct op *, struct hat *, vaddr_t, unsigned size, uint64_t word);
	/* makes to's entry of that level at va point to the table that from has at fva, or gets
	 * there. NEED_STOP: from has a translation there */
	enum need (*st_attach)(
	    struct op *, struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, unsigned level);
	void (*st_detach)(
	    struct op *, struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, unsigned level);
	/* An entry was changed or removed: drop the copies that the store itself keeps (TSB). */
	void (*st_stale)(struct hat *, vaddr_t, uint64_t len);
	void (*st_tune)(struct hat *);  /* after many translations were loaded or unloaded; without
	                                 * the lock */
	void *(*st_alloc)(struct vm *); /* without the lock; never waits; NULL: none */
	void (*st_free)(struct vm *, void *object); /* without the lock */
	void **(*st_link)(void *object); /* the word in which an unused object keeps the next
	                                  * object's address */
	unsigned (*st_check)(struct hat *, void (*report)(void *, const char *), void *);
};
extern const struct hat_store hat_radix, hat_sfmmu;

/* ---- entries: the hardware may set ref and mod at any moment ---- */
static inline uint64_t entry_get(const struct hat_format *f, const void *e)
{
	return f->f_entry == 4 ? __atomic_load_n((const uint32_t *)e, __ATOMIC_RELAXED)
			       : __atomic_load_n((const uint64_t *)e, __ATOMIC_RELAXED);
}
static inline uint64_t entry_swap(const struct hat_format *f, void *e, uint64_t to)
{
	return f->f_entry == 4 ? __atomic_exchange_n((uint32_t *)e, (uint32_t)to, __ATOMIC_SEQ_CST)
			       : __atomic_exchange_n((uint64_t *)e, to, __ATOMIC_SEQ_CST);
}
static inline bool entry_cas(const struct hat_format *f, void *e, uint64_t *old, uint64_t to)
{
	uint32_t narrow = (uint32_t)*old;
	bool ok;

	if (f->f_entry != 4)
		return __atomic_compare_exchange_n(
		    (uint64_t *)e, old, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	ok = __atomic_compare_exchange_n(
	    (uint32_t *)e, &narrow, (uint32_t)to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	*old = narrow;
	return ok;
}
/* Returns the word as it was before. */
static inline uint64_t entry_change(
    const struct hat_format *f, void *e, uint64_t clear, uint64_t set)
{
	uint64_t old = entry_get(f, e);

	while (!entry_cas(f, e, &old, (old & ~clear) | set))
		;
	return old;
}

static inline uint64_t size_bytes(const struct hat_format *f, unsigned size)
{
	return 1ull << f->f_shift[size];
}
static inline pfn_t size_pages(const struct hat_format *f, unsigned size)
{
	return (pfn_t)1 << (f->f_shift[size] - VM_PAGESHIFT);
}
/* The machine's number of the first frame that an entry translates to. */
static inline pfn_t word_pfn(const struct hat *hat, uint64_t word)
{
	return (pfn_t)(hat->h_fmt->f_frame(word) - hat->h_shared->hs_frame0);
}

/* The word of a translation in that space. */
static inline uint64_t make_word(
    const struct hat *hat, uint64_t frame, unsigned attr, unsigned size)
{
	const struct hat_format *f = hat->h_fmt;
	uint64_t word = f->f_make(frame, attr, size);

	return hat->h_kernel ? (word & ~f->f_user) | f->f_global : word;
}

#define SFMMU_TTE_W 0x2ull /* in TLB and TSB: may be written through now */

/* hat_op.c */
void op_enter(struct op *, struct vm *); /* takes hs_lock */
void op_exit(struct op *); /* flushes, drops hs_lock, frees objects that were taken out or not
                            * used */
/* Gets an object or a node, as need says, without the lock; returns with the lock held. False: there is none. */
bool op_supply(struct op *, enum need need);
void op_junk(struct op *, void *object); /* the object was taken out of the store */
void *op_spare(struct op *);             /* takes an object that op_supply got; there must be one
                                          * left */
void op_recycle(struct op *);            /* objects that were taken out become spares, after a
                                          * flush */
/* A range must be flushed before the lock is dropped, also for the spaces that share its tables; if the batch is full, it is now. */
void op_flush_add(struct op *, struct hat *, vaddr_t, uint64_t len, bool tables);
/* The same; soon: only reference bits were cleared, so a CPU may flush later. */
void op_flush_sharers(struct op *, struct hat *, vaddr_t, uint64_t len, bool tables, bool soon);
void op_flush(struct op *);
/* Entries of the range grant more than before: no TLB need forget them, but copies in a TSB must be
 * updated. hs_lock. */
void hat_stale(struct hat *, vaddr_t, uint64_t len);

/* hat_share.c */
/* Undoes the first done bytes of a sharing and puts the share on *gone. hs_lock. */
void hat_undo_sharing(struct op *, struct share *, uint64_t done, struct share **gone);
void hat_free_shares(struct vm *, struct share *gone); /* without the lock */
#endif
