/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fork: the world stands still (h_lock W: no fault is served, no call of the engine is under way),
 * the family is charged for the child's copy, and the child joins the family.
 *
 * Locks: h_lock as writer from host_fork_still() to host_fork_made() and host_fork_born(): no fault
 * is being served, no call is under way, so every lock inside h_lock is free in the child. h_lock
 * itself is not free: a thread that tries to enter as a reader counts itself before it checks
 * whether it may (machine/linux/locks.c), and the fork copies that count. The child has no such
 * thread, nor the service thread of its parent. So the child first initialises its locks and the
 * service thread's state again (make_locks_anew). Shared memory is not copied: the store's lock
 * names the process that holds it.
 */
#include "run/host_quire.h"

#include <errno.h>
#include <sys/syscall.h>

#include <quire/hat.h>
#include <quire/vnode.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"
#include "run/affinity.h"
#include "run/host.h"
#include "run/limits.h"
#include "run/tasks.h"
#include "store/pool_vnode.h"

/*
 * The child gets a copy of everything, the parent's frames included (the kernel shares them
 * copy-on-write), so the child must be charged for as many frames as the parent holds. The parent
 * gives up frames until both charges fit. Signals stay blocked from prepare to the end in both
 * processes; the stub runs no code of the program in between.
 */
/*
 * The memory that the forking thread touches while the world stands still: its stack around the
 * call, below and above, and its block of storage from the thread pointer on. Of every thread but
 * the first, both are in managed memory. The caller names the memory that the kernel touches in the
 * call (clone.c).
 */
#define STACK_BELOW 8192u
#define STACK_ABOVE 16384u
#define TLS_ABOVE 4096u
#define PAGES(bytes)                                                                               \
	(((bytes) + VM_PAGESIZE - 2) / VM_PAGESIZE + 1) /* that so many bytes are in, at most */
/* Each page may be a mapping of its own. The largest range that a call names are the numbers of clone3's processes. */
#define PINS                                                                                       \
	(PAGES(STACK_BELOW + STACK_ABOVE) + PAGES(TLS_ABOVE) + FORK_WORDS * PAGES(FORK_WORD_BYTES))
struct pins {
	unsigned n;
	struct {
		uint64_t a, len;
	} range[PINS];
};
static struct {
	int slot;
	uint64_t promised;
	bool ok, refused;
	struct pins pins;
} forking; /* h_lock W */

/*
 * h_lock R. Memory that cannot be locked does not exist or is not tracked. False: there are no
 * frames for locked pages. Then the world must not stand still: the page may be evicted, and the
 * forking thread would wait for the page while it keeps the service thread from serving.
 */
static bool pin_range(struct host *h, struct pins *pins, uint64_t a, uint64_t end)
{
	struct piece p;

	HOST_ASSERT(mach_rw_held(&h->h_lock, false));
	for (a = vm_page_trunc(a); h->h_managed && !h->h_off && host_next_piece(h, a, end, &p);
	     a = p.end) {
		uint64_t len = vm_page_round(p.end) - p.base;
		enum vm_err e;

		if ((p.prot & RW) != RW)
			continue;
		if (pins->n == PINS)
			return false;
		e = as_fault(h->h_as, p.base, len, F_SOFTLOCK, S_WRITE);
		if (e == VM_NOMEM)
			return false;
		if (e != VM_OK)
			continue;
		pins->range[pins->n].a = p.base;
		pins->range[pins->n++].len = len;
	}
	return true;
}

/* Locks all memory that the forking thread and the kernel touch. h_lock R. */
static bool pin_all(
    struct host *h, struct pins *pins, uint64_t sp, uint64_t tp, const struct fork_words *words)
{
	bool all = pin_range(h, pins, sp - STACK_BELOW, sp + STACK_ABOVE) &&
	    pin_range(h, pins, tp, tp + TLS_ABOVE);

	for (unsigned i = 0; all && i < words->n; i++)
		all =
		    pin_range(h, pins, words->range[i].a, words->range[i].a + words->range[i].len);
	return all;
}

static void unpin_ranges(struct host *h, struct pins *pins)
{
	for (; pins->n > 0; pins->n--)
		(void)as_fault(h->h_as, pins->range[pins->n - 1].a, pins->range[pins->n - 1].len,
		    F_SOFTUNLOCK, S_WRITE);
}

/*
 * Takes an entry in the family's state and a tag in the store for the child, and makes its
 * connection. -EAGAIN: all are taken.
 */
static long take_places(struct host *h)
{
	long r = -EAGAIN;

	if ((forking.slot = family_slot(h->h_fam)) < 0)
		return r;
	h->h_child = pool_tag_take(h->h_pool);
	if (h->h_child != ~0u) {
		if ((r = family_expect(h, forking.slot, h->h_child)) == 0)
			return 0;
		pool_tag_give(h->h_pool, h->h_child);
	}
	atomic_store(&h->h_fam->fam_proc[forking.slot].fp_pid, 0);
	return r;
}

/* The supervisor frees the entry, the tag, and all that is charged and promised to the child, when its connection has ended. */
static void give_places(void) { hostfd_unlend(); }

/*
 * Called with h_lock W. 0: the child is charged for; 1: the process has just become managed, try
 * again; below 0: failed. -EBUSY, if the caller may wait: not all frames can be had while the
 * kernel serves the process, but frames of ended processes may still be taken back.
 */
static long try_still(struct host *h, bool may_wait)
{
	uint64_t got = 0;
	long r;

	HOST_ASSERT(mach_rw_held(&h->h_lock, true));
	forking.refused = false;
	if ((r = take_places(h)) != 0)
		return r;
	forking.promised = atomic_load(&h->h_me->fp_promised);
	forking.refused = !promise_take(
	    &h->h_fam->fam_promise, host_shelf(h), forking.promised, host_pages_lost(h), true);
	if (forking.refused) {
		atomic_fetch_add(&h->h_fam->fam_refused, 1);
		give_places();
		return -ENOMEM;
	}
	for (unsigned tries = 0; tries < 64; tries++) {
		uint64_t need = atomic_load(&h->h_me->fp_granted);

		if (got < need)
			got += h->h_managed ? family_charge_frames(h->h_fam, need - got)
					    : family_charge(h->h_fam, need - got);
		if (got >= need)
			break;
		if (!h->h_managed) {
			family_uncharge(h->h_fam, got);
			promise_return(&h->h_fam->fam_promise, host_shelf(h), forking.promised);
			give_places();
			if (may_wait)
				return -EBUSY;
			return host_adopt(h) == VM_OK ? 1 : -ENOMEM;
		}
		if (vm_shrink(h->h_vm, (pfn_t)((need - got) / 2 + 1)) == 0)
			(void)host_ask_others(h);
	}
	uint64_t need = atomic_load(&h->h_me->fp_granted);
	if (got > need) {
		family_uncharge(h->h_fam, got - need);
		got = need;
	}
	/*
	 * Pages that cannot be given up (kernel tables) may make frames too few: the rest is
	 * charged all the same, so that sums stay right.
	 */
	if (got < need) {
		family_force(h->h_fam, need - got);
		got = need;
	}
	atomic_store(&h->h_fam->fam_proc[forking.slot].fp_granted, got);
	atomic_store(&h->h_fam->fam_proc[forking.slot].fp_promised, forking.promised);
	atomic_store(&h->h_fam->fam_proc[forking.slot].fp_own, atomic_load(&h->h_me->fp_own));
	if (h->h_swapvn != NULL)
		pool_vnode_fork_prepare(h->h_swapvn);
	atomic_fetch_add(&h->h_me->fp_count.forks, 1);
	return 0;
}

/* What the program gets: fork has no error for descriptors. */
static long answer_refusal(struct host *h, long r)
{
	if (r != -EMFILE)
		return r;
	atomic_fetch_add(&h->h_fam->fam_fileless, 1);
	return -EAGAIN;
}

long host_fork_still(struct host *h, uint64_t sp, uint64_t tp, const struct fork_words *words)
{
	for (unsigned tries = 0, waits = 0;;) {
		struct pins pins = { 0 };
		uint32_t ended = host_ended(h);
		long r = 0;

		mach_rw_enter(&h->h_lock, false);
		if (!pin_all(h, &pins, sp, tp, words)) {
			unpin_ranges(h, &pins);
			mach_rw_exit(&h->h_lock);
			if (tries++ < HOST_WAITS && host_await_frames(h, ended))
				continue;
			return -ENOMEM;
		}
		mach_rw_exit(&h->h_lock);
		mach_rw_enter(&h->h_lock, true);
		forking.ok = false;
		if (!h->h_off && (r = try_still(h, waits < HOST_WAITS)) == 0) {
			forking.ok = true;
			forking.pins = pins;
			limits_fork_begin();
			return 0;
		}
		unpin_ranges(h, &pins);
		mach_rw_exit(&h->h_lock);
		/* the family is full: an ended process's entry may be about to be freed */
		if (r == -EAGAIN && tries++ < 1000)
			sys_pause();
		else if (r == -ENOMEM && forking.refused && tries++ < HOST_WAITS &&
		    host_await_ended(h, ended))
			atomic_fetch_sub(&h->h_fam->fam_refused, 1); /* not refused yet */
		else if (r == -EBUSY)
			waits = host_await_ended(h, ended) ? waits + 1 : HOST_WAITS;
		else if (r <= 0)
			return answer_refusal(h, r);
	}
}

long host_fork_made(struct host *h, long pid)
{
	if (!forking.ok)
		return 0;
	limits_fork_end();
	if (pid < 0 && h->h_swapvn != NULL)
		pool_vnode_fork_cancel(h->h_swapvn);
	/* if there is no child, this was the last descriptor of its connection */
	hostfd_unlend();
	forking.ok = false;
	unpin_ranges(h, &forking.pins);
	mach_rw_exit(&h->h_lock);
	return 0;
}

/*
 * Starts the child's service thread. The child itself may be the last process that the limit of
 * processes allows, so it waits for other processes to end.
 */
static void start_child_service(struct host *h)
{
	int rc;

	for (unsigned tries = 0; (rc = service_need(h)) == -EAGAIN && tries < 1000; tries++)
		sys_pause();
	if (rc != 0)
		host_stop(
		    "a forked child ends: no thread can be made for it; raise the limit of processes (ulimit -u, or the container's)",
		    rc);
}

/* The kernel does not serve the child's memory. */
static _Noreturn void stop_child(int rc)
{
	if (rc == -EMFILE || rc == -ENFILE)
		host_stop(
		    "a forked child ends: no descriptor is left for it; raise the limit of open files (ulimit -Hn, fs.file-max)",
		    rc);
	if (rc == -EPERM || rc == -EACCES)
		host_stop(
		    "a forked child ends: it gave up the right to userfaultfd; set vm.unprivileged_userfaultfd=1",
		    rc);
	host_stop(
	    "a forked child ends: its memory cannot be registered; raise vm.max_map_count, or give the machine memory",
	    rc);
}

/*
 * Runs in the single-threaded child: undoes what threads of the parent did to the locks. stands:
 * the forking thread held h_lock.
 */
static void make_locks_anew(struct host *h, bool stands)
{
	mach_rw_init(&h->h_lock, 1, "host");
	mach_mutex_init(&h->h_brklock, 2, "brk");
	mach_mutex_init(&h->h_protlock, 2, "protection");
	mach_mutex_init(&h->h_marklock, 3, "marks");
	limits_forked();
	tasks_forked();
	if (stands)
		mach_rw_enter(&h->h_lock, true);
	service_forked();
}

long host_fork_born(struct host *h)
{
	make_locks_anew(h, forking.ok);
	affinity_forked();
	if (!forking.ok)
		return 0;
	forking.ok = false;
	h->h_told.fw_tag = h->h_child;
	family_born(h, forking.slot);
	atomic_store(&h->h_served, false);
	(void)pool_after_fork(h->h_pool);
	int rc = linux_after_fork(h->h_mach, as_hat(h->h_as));
	rc = rc != 0 ? rc : service_prepare(h);
	if (rc != 0)
		stop_child(rc);
	if (h->h_managed || atomic_load(&h->h_me->fp_granted) > HOST_ASKED)
		start_child_service(h);
	hostfd_prune();
	host_publish(h);
	unpin_ranges(h, &forking.pins);
	host_born_marks(h);
	mach_rw_exit(&h->h_lock);
	return 0;
}
