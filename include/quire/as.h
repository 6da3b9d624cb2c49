/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces. addr is rounded down and addr+len up to pages, unless a function says otherwise.
 * A range that is empty, wraps or leaves the space's bounds gives VM_NOMEM, unless a function says
 * otherwise. All functions may sleep. None may be called with a core lock held. Where a failure
 * leaves a part of the range changed, it is the part before the failure.
 *
 * Functions that make segments (as_map, as_map_at, as_brk, as_stack_init, and as_remap for growth)
 * share these results, the creation results: VM_NOMEM; VM_NOSWAP: the reservation cannot be
 * promised; VM_LIMIT: the space's size, or a limit of reservation; VM_ACCESS: AS_WXORX forbids it;
 * the segment driver's own results, for segvn VM_INVAL (invalid segvn_args) and VM_NOTSUP (a page
 * size that the machine lacks); and, after as_lockall(future), those of as_lock. On failure the new
 * range is not mapped.
 */
#ifndef QUIRE_AS_H
#define QUIRE_AS_H

#include <quire/seg.h>
#include <quire/types.h>

/*
 * A new, empty space of the addresses [min, max), with one reference. Bounds within mc_kernel_min and mc_kernel_max: the kernel's
 * own space (hat_alloc has the rules). VM_INVAL: a bound is not page aligned, or min is not below max; VM_NOMEM; VM_NOTSUP and
 * VM_EXIST of hat_alloc. On failure *as is NULL.
 */
enum vm_err as_alloc(struct vm *, vaddr_t min, vaddr_t max, struct as **);
/* Drops a reference. The end of the last reference ends soft locks, unmaps everything and destroys
 * the space. */
void as_free(struct as *);
/* Takes another reference: for threads, and for vfork, where the child runs in its parent's
 * space. */
void as_hold(struct as *);
/* vfork: the borrower's reference. as_borrow_wait sleeps until every borrower has called as_return. */
void as_borrow(struct as *);
void as_return(struct as *);
void as_borrow_wait(struct as *);
struct hat *as_hat(struct as *);
struct vm *as_vm(struct as *);

/* Maps [addr, addr+len), which must be free (VM_EXIST), and merges it with alike neighbours. VM_EXIST; the creation results. */
enum vm_err as_map(struct as *, vaddr_t addr, uint64_t len, seg_create_fn *, const void *args);
/* Unmaps everything in the range; gaps are allowed. VM_LOCKED: a page is soft-locked; VM_ACCESS: a
 * segment is sealed; VM_NOMEM or a driver's VM_NOTSUP: a segment could not be split. All of them
 * leave the range as it was. */
enum vm_err as_unmap(struct as *, vaddr_t addr, uint64_t len);
/*
 * Resolves a fault, or soft-locks or unlocks a range. VM_NOMAP: nothing is mapped there, or the range leaves the space; VM_PROT;
 * VM_IO; VM_EOF; VM_NOMEM, also for a limit of the space or its group, or if too much is wired; VM_NOSWAP: a page of memory that is
 * not reserved in full, and no more can be promised; VM_NOTSUP: SOFTLOCK of a driver's memory that cannot be locked; or what a
 * pager's po_dirty answered. F_INVAL and F_PROT are served in the same way; they are counted apart.
 * Pages that were served before a failure keep their translations. SOFTLOCK: after VM_OK every page
 * is resident, mapped with a locked translation and will not be replaced by a copy until SOFTUNLOCK
 * of the same range; on failure no page stays locked.
 */
enum vm_err as_fault(struct as *, vaddr_t addr, uint64_t len, enum fault_type, enum seg_rw);
/*
 * Changes the protection. VM_NOMAP: a gap. VM_ACCESS: prot is above a segment's maximum, a segment
 * is sealed, or AS_WXORX forbids it. VM_NOSWAP, VM_LIMIT: memory that becomes writable cannot be
 * reserved. VM_NOTSUP: a driver does not let rights change. VM_NOMEM. In all of these cases the
 * part of the range before the failure has changed.
 */
enum vm_err as_setprot(struct as *, vaddr_t addr, uint64_t len, unsigned prot);
enum vm_err as_checkprot(
    struct as *, vaddr_t addr, uint64_t len, unsigned prot); /* VM_NOMAP, VM_PROT */
/*
 * Finds a hole of len bytes (rounded up to pages) in [min, max), the lowest, or the highest if
 * high. align: a power of two; a value below a page counts as a page. The redzone of the stack
 * counts as taken. VM_NOMEM: there is no such hole, or len is 0. Another thread may take the hole
 * meanwhile.
 */
enum vm_err as_gap(
    struct as *, uint64_t len, uint64_t align, vaddr_t min, vaddr_t max, bool high, vaddr_t *addr);
/*
 * Placing as mmap does. *addr is a hint, or with FIXED or NOREPLACE the address, which must be page aligned.
 * On VM_OK it is the address at which the mapping begins. align: a power of two, or 0. FIXED
 * replaces the mappings there: if creating fails, the old mappings stay; they are gone only if the
 * wiring after as_lockall(future) fails. VM_INVAL: len is 0, align is no power of two, or the
 * address is not aligned; VM_EXIST (NOREPLACE); VM_NOMEM: no hole, or FIXED out of bounds;
 * VM_LOCKED: FIXED over a soft-locked page; VM_ACCESS: FIXED over a sealed segment; and the
 * creation results.
 */
#define AS_FIXED 0x1u
#define AS_NOREPLACE 0x2u
#define AS_HIGH 0x4u     /* the highest hole instead of the lowest */
#define AS_POPULATE 0x8u /* fault the pages in now; pages that fail are left to later faults */
#define AS_32BIT 0x10u   /* below 4 GiB */
enum vm_err as_map_at(struct as *, vaddr_t *addr, uint64_t len, uint64_t align, unsigned flags,
    seg_create_fn *, const void *args);
/*
 * mremap. [addr, +oldlen) must be mapped; DONTUNMAP wants it within one segment; growth continues the last.
 * Shrinks and grows in place where it can; otherwise MAYMOVE lets the range move to *naddr (FIXED:
 * replaces the mappings there; the two ranges must not overlap) or to the highest hole. Pages keep
 * identity, contents and memory locks. DONTUNMAP: private anonymous memory stays mapped at the old
 * place, empty. VM_INVAL: bad flags, an address that is not page aligned, a length of 0, a new
 * length beyond the space, FIXED onto itself or out of bounds, DONTUNMAP with two lengths, or a
 * file's offsets would wrap; VM_NOMAP: a gap, or out of bounds; VM_EOF: growth beyond memory whose
 * size is its owner's; VM_LOCKED (soft, also at the target); VM_ACCESS (sealed); VM_NOTSUP: a
 * driver cannot; VM_NOMEM: also no room to grow without MAYMOVE; the creation results for growth.
 * All of them leave the range unchanged, with two exceptions: the target of FIXED may be unmapped,
 * and a range that FIXED makes smaller may have lost its end.
 */
#define REMAP_MAYMOVE 1u
#define REMAP_FIXED 2u
#define REMAP_DONTUNMAP 4u
enum vm_err as_remap(
    struct as *, vaddr_t addr, uint64_t oldlen, uint64_t newlen, unsigned flags, vaddr_t *naddr);
/* mseal: from now on no unmapping, moving, change of protection or dropping of contents. VM_NOMAP:
 * a gap; VM_NOMEM or a driver's VM_NOTSUP: a segment could not be split. Nothing is sealed then. */
enum vm_err as_seal(struct as *, vaddr_t addr, uint64_t len);

/*
 * Hardening, for this space and its forks; it cannot be taken back. WXORX: no memory that is both
 * writable and executable, and no executable memory that ever was writable: mapping, changing
 * protection and messages give VM_ACCESS then. RANDOM: where as_map_at and as_remap are free to
 * choose, places are drawn by seed (0 counts as 1), and AS_HIGH means nothing. Memory that is
 * writable and executable already stays so.
 */
#define AS_WXORX 0x1u
#define AS_RANDOM 0x2u
void as_secure(struct as *, unsigned how, uint64_t seed);

/*
 * A holder of long-term soft locks registers for [cb_addr, +cb_len). cb_fn is called without locks, in the thread that makes the
 * call: if a soft lock in the range stands in the way of as_unmap, as_map_at (AS_FIXED) or a shrinking as_brk (UNMAP); before
 * as_setprot changes the protection (SETPROT); and before the space goes away (FREE). Moving
 * (as_remap, as_move, as_transfer) calls no holder: it returns VM_LOCKED. KEEP: the holder keeps
 * its locks, the caller gets VM_LOCKED. DONE: the locks are gone. SOON: another thread will drop
 * them; the caller sleeps until then. FREE ends the registration. as_callback_remove waits while
 * cb_fn runs, so cb_fn must not call it.
 */
#define AS_CB_UNMAP 0x1u
#define AS_CB_SETPROT 0x2u /* the change happens whatever cb_fn returns */
#define AS_CB_FREE 0x4u
enum as_cb { AS_CB_KEEP, AS_CB_DONE, AS_CB_SOON };
struct as_callback {
	vaddr_t cb_addr;
	uint64_t cb_len;
	unsigned cb_events;
	enum as_cb (*cb_fn)(void *arg, struct as *, unsigned event, vaddr_t addr, uint64_t len);
	void *cb_arg;
	struct as_callback *cb_next; /* the system's, from registration on */
	unsigned cb_running;
	uint64_t cb_round;
};
void as_callback_add(struct as *, struct as_callback *);
void as_callback_remove(struct as *, struct as_callback *);

/* ---- heap and stack ---- */
/* The heap is [base, base + max), empty so far; max is rounded up to pages. VM_INVAL: base is not page aligned, max is 0, or the
 * heap would leave the space. */
enum vm_err as_brk_init(struct as *, vaddr_t base, uint64_t max);
/*
 * Moves the break to want; *now is the break after the call, also on failure. want 0 changes
 * nothing. VM_LIMIT: below the start, above the maximum, or the space's limit; VM_EXIST: a mapping
 * or the stack's redzone is in the way; VM_LOCKED: a page to be unmapped is soft-locked; VM_ACCESS:
 * it is sealed; and the creation results.
 */
enum vm_err as_brk(struct as *, vaddr_t want, vaddr_t *now);
/*
 * A stack [top - size, top) that grows down on faults to at most max bytes, as long as guard bytes (the redzone) stay free
 * of other mappings below it; as_gap and as_map_at keep out of the redzone. One a space. VM_EXIST:
 * the space has a stack already, or the range is taken; VM_INVAL: top is not page aligned, size is
 * 0 or above max, [top - max, top) leaves the space's bounds, or there are no addresses for guard
 * bytes below it; and the creation results. size, max and guard are rounded up to pages.
 */
enum vm_err as_stack_init(
    struct as *, vaddr_t top, uint64_t size, uint64_t max, uint64_t guard, unsigned prot);

/*
 * fork: a new space with the parent's segments, copy-on-write or as their inheritance says, and its limits, break, stack and
 * hardening, in the parent's group. The child has no locked pages; pages that the parent has locked are copied at once.
 * VM_NOMEM, VM_NOSWAP, VM_LIMIT, VM_IO (a locked page could not be copied), or the result of a
 * driver's so_dup or of hat_dup: *child is NULL.
 */
enum vm_err as_dup(struct as *parent, struct as **child);
/*
 * mlock: faults every page of the range in and wires it (memory lock; it does not nest). VM_NOMAP: a gap; VM_PROT, VM_EOF, VM_IO,
 * VM_NOMEM, VM_NOSWAP, VM_LIMIT (the space's or its group's, or too much is wired), VM_NOTSUP (a driver cannot). On failure pages
 * that were not locked before are unlocked.
 */
enum vm_err as_lock(struct as *, vaddr_t addr, uint64_t len);
/* Ends the memory locks in the range. VM_NOMAP: there is a gap; the mapped parts are unlocked all
 * the same. */
enum vm_err as_unlock(struct as *, vaddr_t addr, uint64_t len);
/*
 * mlockall. current: locks all mapped pages but those that cannot be accessed. future: whether
 * later mappings are locked as they are made; takes effect also on failure. As as_lock, but pages
 * that give VM_PROT, VM_EOF or VM_NOTSUP are left out; on failure segments that were locked before
 * stay locked.
 */
enum vm_err as_lockall(struct as *, bool current, bool future);
enum vm_err as_unlockall(struct as *); /* VM_OK */
/*
 * msync: writes dirty pages of shared file mappings back. flags: SYNC_ASYNC starts the writes only; without it the data is durable on
 * return. SYNC_INVAL drops the cached pages afterwards. VM_NOMAP: a gap; VM_LOCKED: SYNC_INVAL of locked pages; VM_IO, or another
 * result of the vnode. Each segment of the range is tried in any case; the last failure is
 * returned.
 */
enum vm_err as_sync(struct as *, vaddr_t addr, uint64_t len, unsigned flags);
/*
 * madvise. VM_NOMAP: a gap; the rest of the range is advised, but ADV_POPULATE_* stops there.
 * VM_ACCESS: the advice would drop contents of a sealed segment; nothing is done. In the following
 * cases the part before the failure is advised: VM_LOCKED: ADV_DONTNEED, ADV_FREE or ADV_REMOVE of locked
 * pages; VM_INVAL: ADV_REMOVE of memory that is private or never writable; VM_NOTSUP: ADV_REMOVE
 * where a driver cannot; VM_IO: ADV_PAGEOUT of a shared file; VM_NOMEM; and for ADV_POPULATE_* the
 * results of a fault.
 */
enum vm_err as_advise(struct as *, vaddr_t addr, uint64_t len, enum advice);
/* mincore: a byte of INCORE_* for each page of the range. VM_NOMAP: a gap, whose bytes are 0; the
 * other bytes are valid. */
enum vm_err as_incore(struct as *, vaddr_t addr, uint64_t len, uint8_t *vec);
/* minherit. VM_NOMAP: a gap; the rest of the range is changed. VM_NOTSUP: a driver cannot;
 * VM_NOMEM. In these two cases the part before the failure is changed. */
enum vm_err as_inherit(struct as *, vaddr_t addr, uint64_t len, enum inherit);
/* Hard swap-out: gives up every unlocked frame of the space and records which pages were resident,
 * as far as memory for the record allows; returns pages. A page that cannot be written stays. */
uint64_t as_swapout(struct as *);
/* Soft swap-out: drops translations and their tables; the pages stay until their frames are wanted. */
void as_swapout_soft(struct as *);
/* Brings back what the last hard swap-out gave up, as long as memory is plenty; returns pages. A page that cannot be read is
 * left to later faults. */
uint64_t as_swapin(struct as *);
/*
 * Moves [addr, +len) of src to daddr of dst, where nothing may be mapped; src and dst may be one space. The pages keep their identity;
 * the source range is unmapped afterwards. VM_INVAL: daddr is not page aligned; VM_EXIST: daddr is taken; VM_NOMAP: a gap, or the source
 * is out of bounds; VM_ACCESS: sealed, or against AS_WXORX of dst; VM_LOCKED: soft-locked, or wired and dst another space; VM_NOTSUP: a
 * driver cannot, or two systems; VM_LIMIT; VM_NOMEM: also if the target is out of bounds. Nothing moved then.
 */
enum vm_err as_move(struct as *src, vaddr_t addr, uint64_t len, struct as *dst, vaddr_t daddr);
/*
 * Adopts pages that the machine filled by itself (so_adopt): bit i of present is the page at addr + i pages. VM_INVAL: addr is not
 * aligned, or out of bounds; VM_NOMAP: a gap; VM_NOTSUP: a driver cannot, or a file; VM_NOMEM, VM_NOSWAP.
 * In these cases the part before the failure is adopted.
 */
enum vm_err as_adopt(struct as *, vaddr_t addr, uint64_t npages, const uint64_t *present);

/*
 * Copies len bytes through the space with the rights of its program: faults pages in, checks protection. Addresses need not be aligned;
 * len 0 is VM_OK. The results of as_fault; VM_NOTSUP: frames of a device; VM_NOMEM: also if the
 * page was evicted again and again before it could be copied, on a machine without mc_direct_map.
 * On failure a part may have been copied.
 */
enum vm_err as_copyin(struct as *, vaddr_t from, void *to, uint64_t len);
enum vm_err as_copyout(struct as *, const void *from, vaddr_t to, uint64_t len);

/*
 * A debugger's access, whatever rights the program itself has there. Peek changes nothing:
 * untouched memory reads as zeroes and stays untouched. Poke gives private memory its own copy of
 * the page first; shared memory is written only where the program may. VM_NOMAP, VM_IO, VM_EOF,
 * VM_NOMEM; poke: VM_NOSWAP (the copy cannot be promised), VM_ACCESS (shared and not writable, or
 * sealed). Memory that its driver cannot show is read as by as_copyin and written as by as_copyout,
 * with their results: as_peek gives VM_PROT there. On failure a part may have been copied.
 */
enum vm_err as_peek(struct as *, vaddr_t from, void *buf, uint64_t len);
enum vm_err as_poke(struct as *, vaddr_t to, const void *buf, uint64_t len);
/*
 * Writes the space as an ELF64 core file through ac_write (false: the write failed). Offsets may be
 * in any order between segments, and rise within a segment; bytes that are never written read as
 * zeroes. ac_machine: ELF's number. ac_notes: the contents of the file's note segment, or NULL. A
 * page that cannot be read is a hole. At most 65,000 segments are written. VM_IO: a write failed;
 * VM_NOMEM.
 */
struct as_core {
	bool (*ac_write)(void *arg, uint64_t off, const void *buf, uint64_t len);
	void *ac_arg;
	const void *ac_notes;
	uint64_t ac_noteslen;
	uint16_t ac_machine;
};
enum vm_err as_core(struct as *, const struct as_core *);

/* Copies between two spaces (or within one) as their programs would. *done (may be NULL) = bytes copied, also on failure. The
 * results of as_copyin and as_copyout. */
enum vm_err as_copy(
    struct as *src, vaddr_t from, struct as *dst, vaddr_t to, uint64_t len, uint64_t *done);
/*
 * Sends [addr, +len), page aligned, to *daddr of dst (free there; 0: the highest hole, and *daddr
 * is set to it). The receiver gets prot (MOVE: the protections the segments have; LOAN: never
 * PROT_W). VM_INVAL: an argument is not page aligned, or len is 0; VM_NOMAP: a gap, or out of the
 * sender's bounds; VM_PROT: the sender may not read the range, or may not execute memory that the
 * receiver is to execute; VM_ACCESS: MOVE of a sealed segment, or AS_WXORX of dst forbids it;
 * VM_EXIST; VM_LOCKED: MOVE of locked pages; VM_NOTSUP: two systems, MOVE where a driver cannot, or
 * frames of a device; VM_IO, VM_EOF: a page could not be read; VM_NOMEM, VM_NOSWAP, VM_LIMIT.
 * On failure nothing was sent.
 */
enum transfer { TRANSFER_COPY, TRANSFER_COW, TRANSFER_MOVE, TRANSFER_LOAN };
enum vm_err as_transfer(struct as *src, vaddr_t addr, uint64_t len, struct as *dst, vaddr_t *daddr,
    enum transfer how, unsigned prot);

struct as_info {
	vaddr_t ai_base;
	uint64_t ai_len;
	const struct seg_ops *ai_ops;
	unsigned ai_prot;
	bool ai_shared;
};
/* The segment at or above addr. VM_NOMAP: none. */
enum vm_err as_query(struct as *, vaddr_t addr, struct as_info *);
/* The vnode that is mapped at addr, with a reference, and the offset that addr has in it. VM_NOMAP:
 * nothing is mapped there; VM_NOTSUP: no file is. */
enum vm_err as_file(struct as *, vaddr_t addr, struct vnode **, voff_t *);
struct as_usage {
	uint64_t au_size; /* bytes mapped, without holes */
	uint64_t au_rss;  /* pages that have a translation here, but for the page of zeroes */
	uint64_t
	    au_pss; /* bytes: each of these pages divided by the number of its translations in all
	             * spaces */
	uint64_t au_nsegs;
	uint64_t au_swresv; /* pages reserved by private memory */
	uint64_t au_locked; /* pages locked by as_lock */
};
void as_usage(struct as *, struct as_usage *);
void as_set_limits(struct as *, uint64_t max_size_bytes, uint64_t max_locked_pages);

/*
 * Moves the resident pages of the range to frames of that node of memory (mach_caps.mc_nnodes);
 * contents and addresses stay. *moved: pages. VM_NOMEM: the node has no more frames; pages before
 * that have moved. Pages that are wired or busy stay where they are. VM_NOTSUP: no such node. Gaps
 * are fine.
 */
enum vm_err as_migrate(struct as *, vaddr_t addr, uint64_t len, unsigned node, uint64_t *moved);
/*
 * Where pages of the range shall lie. NEAR: on the node of the CPU that touches them first. SPREAD:
 * pages that are made or read back from swap from now on go to all nodes in turn. FOLLOW: on the
 * node of the CPU that touches them next: translations are dropped, so that the next touch faults
 * and names the CPU; then the pages stay there until the next call. VM_NOTSUP: all memory is alike;
 * VM_NOMAP: a gap; VM_NOMEM: nothing changed.
 */
enum place { PLACE_NEAR, PLACE_SPREAD, PLACE_FOLLOW };
enum vm_err as_place(struct as *, vaddr_t addr, uint64_t len, enum place);
unsigned vm_node_of(
    const struct vm *, pfn_t); /* the node of a frame; 0 where all memory is alike */

/*
 * Makes large translations (mach_caps.mc_pageshift[size]) for those aligned parts of the range
 * whose pages are all loaded with equal rights; pages are moved to make their frames contiguous.
 * *done: bytes that have large translations now. VM_NOTSUP: the machine has no such size, or size
 * is 0; VM_INVAL: the range wraps. Gaps are fine. Takes a_lock as reader.
 */
enum vm_err as_promote(struct as *, vaddr_t addr, uint64_t len, unsigned size, uint64_t *done);
/*
 * Sets the page size wanted for the segments of the range (index of mach_caps.mc_pageshift; 0: the
 * base page), which splits, forks and growth keep. Anonymous memory heeds it when a block of that
 * size is first written: if the block lies within one segment and memory is plenty, all of it is
 * filled, with one translation; otherwise its pages come one by one. Pages that are there already
 * stay small (as_promote). VM_NOTSUP: no such size; VM_NOMAP: a gap; VM_NOMEM: nothing changed.
 */
enum vm_err as_setpagesize(struct as *, vaddr_t addr, uint64_t len, unsigned size);
/*
 * The same for the segments that brk and the stack make from now on, and for those they have; fork
 * inherits it. A stack then grows by such blocks where its limit and the redzone leave room.
 * VM_NOTSUP: no such size, nothing changed; VM_NOMEM: the defaults are the old ones, and the heap's
 * segments may want the new size.
 */
enum vm_err as_pagesize_defaults(struct as *, unsigned heap, unsigned stack);
unsigned as_pagesize(
    struct as *, vaddr_t); /* the size wanted at that address; 0 also where nothing is mapped */
#endif
