/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Futexes: threads that wait for a word of memory to change.
 *
 * Key of a word: its address space and address if the mapping is private; otherwise the name of its page (vnode and offset) and
 * the offset in the page, which is the same in every space that maps it. The page is soft-locked while its name is read.
 *
 * Waiters are in a hash of lists. A thread queues itself, then reads the word, then sleeps: a thread that changes the word and
 * wakes afterwards finds the waiter, so no wake-up is lost.
 *
 * The words of LOCK_PI locks and of robust lists name the owner; the kernel changes these words
 * atomically (exchange_word).
 *
 * Locks: sched_lock guards the lists and each waiter. Left out: priority inheritance (the waiters
 * of such a lock run no sooner), requeue of PI.
 */
#include "kernel/proc/proc.h"

#include <quire/hat.h>
#include <quire/page.h>

#define NBUCKETS 64u
#define OP_MASK 0x7fu
#define FUTEX_PRIVATE 128u
#define REALTIME 256u
#define OWNER_MASK 0x3fffffffu
#define OWNER_DIED 0x40000000u
#define WAITERS 0x80000000u

static struct futex_waiter *buckets[NBUCKETS]; /* sched_lock */

static unsigned bucket_of(struct futex_key k)
{
	return (unsigned)((k.k_a ^ k.k_b >> 2 ^ k.k_b >> 12) % NBUCKETS);
}
static bool same_key(struct futex_key a, struct futex_key b)
{
	return a.k_a == b.k_a && a.k_b == b.k_b;
}

/* Touches the word, so that it is in memory. */
static int key_of(uint64_t addr, bool private, struct futex_key *k, uint32_t *now)
{
	struct as *as = this_proc()->p_as;
	vaddr_t page = vm_page_trunc(addr);
	const struct page *pp;
	struct as_info info;

	if (addr & 3)
		return -EINVAL;
	if (copy_in(now, addr, 4) != 0)
		return -EFAULT;
	*k = (struct futex_key){ (uint64_t)(uintptr_t)as, addr };
	if (private || as_query(as, addr, &info) != VM_OK || !info.ai_shared)
		return 0;
	/* soft-locked, the page keeps its name */
	if (fault_in(as, page, F_SOFTLOCK, S_READ) != VM_OK)
		return -EFAULT;
	pp = page_of(the_vm, hat_probe(as_hat(as), page, NULL));
	*k = (struct futex_key){ (uint64_t)(uintptr_t)pp->p_vnode,
		pp->p_offset + (addr & VM_PAGEMASK) };
	(void)as_fault(as, page, VM_PAGESIZE, F_SOFTUNLOCK, S_READ);
	return 0;
}

static void unlist_waiter(struct futex_waiter *w)
{
	struct futex_waiter **p = &buckets[bucket_of(w->w_key)];

	KASSERT(spin_held(&sched_lock));
	while (*p != NULL && *p != w)
		p = &(*p)->w_next;
	if (*p == w)
		*p = w->w_next;
}

static int wait_for(uint64_t addr, bool private, uint32_t val, uint64_t deadline, uint32_t bits)
{
	struct futex_waiter *w = &this_uthread()->u_futex;
	struct futex_key key;
	uint32_t now;
	int err = key_of(addr, private, &key, &now);
	bool irq;

	if (err != 0)
		return err;
	if (now != val)
		return -EAGAIN;
	irq = spin_lock(&sched_lock);
	*w = (struct futex_waiter){ .w_key = key, .w_bits = bits };
	w->w_next = buckets[bucket_of(w->w_key)];
	buckets[bucket_of(w->w_key)] = w;
	spin_unlock(&sched_lock, irq);
	/*
	 * the waiter is queued: from now on a thread that changes the word and wakes finds this
	 * waiter
	 */
	if (copy_in(&now, addr, 4) != 0 || now != val)
		err = -EAGAIN;
	irq = spin_lock(&sched_lock);
	while (err == 0 && !w->w_woken)
		err = wait_on(&w->w_wait, deadline, true);
	if (w->w_woken)
		err = 0;
	else
		unlist_waiter(w);
	spin_unlock(&sched_lock, irq);
	return err;
}

/* sched_lock held. */
static void wake_waiter(struct futex_waiter *w)
{
	KASSERT(spin_held(&sched_lock));
	unlist_waiter(w);
	w->w_woken = true;
	wake_all(&w->w_wait);
}

static int wake_key(struct futex_key k, int n, uint32_t bits, const struct futex_key *to, int nmove)
{
	bool irq = spin_lock(&sched_lock);
	struct futex_waiter *w, *next;
	int done = 0, moved = 0;

	for (w = buckets[bucket_of(k)]; w != NULL; w = next) {
		next = w->w_next;
		if (!same_key(w->w_key, k) || !(w->w_bits & bits))
			continue;
		if (done < n) {
			wake_waiter(w);
			done++;
		} else if (to != NULL && moved < nmove) {
			unlist_waiter(w);
			w->w_key = *to;
			w->w_next = buckets[bucket_of(*to)];
			buckets[bucket_of(*to)] = w;
			moved++;
		}
	}
	spin_unlock(&sched_lock, irq);
	return done + moved;
}

/* Wakes waiters for the word, with a private or a shared key. */
int futex_wake_addr(uint64_t addr, int n)
{
	struct futex_key k, shared;
	uint32_t now;
	int done, err;

	if ((err = key_of(addr, true, &k, &now)) != 0 ||
	    (err = key_of(addr, false, &shared, &now)) != 0)
		return err;
	done = wake_key(k, n, ~0u, NULL, 0);
	return same_key(k, shared) ? done : done + wake_key(shared, n, ~0u, NULL, 0);
}

/* ---- words ---- */
/*
 * Compares the word at the address with *expected and, if equal, sets it to `to`, atomically for
 * programs on other CPUs; *expected receives the old value. The page is soft-locked during the
 * step. 0 or -EFAULT.
 */
static int exchange_word(uint64_t addr, uint32_t *expected, uint32_t to)
{
	struct as *as = this_proc()->p_as;
	vaddr_t page = vm_page_trunc(addr);
	uint32_t *word;
	pfn_t pfn;

	if (fault_in(as, page, F_SOFTLOCK, S_WRITE) != VM_OK)
		return -EFAULT;
	pfn = hat_probe(as_hat(as), page, NULL);
	word = (uint32_t *)(void *)((char *)mach_frame_kva(arch_machine(), pfn) +
	    (addr & VM_PAGEMASK));
	page_nrm_set(page_of(the_vm, pfn), P_MOD);
	(void)__atomic_compare_exchange_n(
	    word, expected, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	(void)as_fault(as, page, VM_PAGESIZE, F_SOFTUNLOCK, S_WRITE);
	return 0;
}

/* The new value of the second word by FUTEX_WAKE_OP. */
static uint32_t changed_word(uint32_t kind, uint32_t old, uint32_t arg)
{
	switch (kind) {
	case 0: return arg;
	case 1: return old + arg;
	case 2: return old | arg;
	case 3: return old & ~arg;
	default: return old ^ arg;
	}
}

/* The comparison of FUTEX_WAKE_OP on the old value of the second word. */
static bool word_compares(uint32_t how, int old, int arg)
{
	switch (how) {
	case 0: return old == arg;
	case 1: return old != arg;
	case 2: return old < arg;
	case 3: return old <= arg;
	case 4: return old > arg;
	default: return old >= arg;
	}
}

static int wake_op(uint64_t addr, bool private, int n, uint64_t addr2, int n2, uint32_t op)
{
	uint32_t kind = op >> 28 & 7, arg = op >> 12 & 0xfff, old, seen;
	struct futex_key k, k2;
	int err, done;

	if (op >> 31)
		arg = 1u << (arg & 31);
	if ((err = key_of(addr, private, &k, &old)) != 0 ||
	    (err = key_of(addr2, private, &k2, &old)) != 0)
		return err;
	do {
		seen = old;
		if ((err = exchange_word(addr2, &old, changed_word(kind, seen, arg))) != 0)
			return err;
	} while (old != seen);
	done = wake_key(k, n, ~0u, NULL, 0);
	return word_compares(op >> 24 & 15, (int)old, (int)(op & 0xfff))
	    ? done + wake_key(k2, n2, ~0u, NULL, 0)
	    : done;
}

/* ---- locks whose word names the owner: LOCK_PI and the like, without inheritance ---- */
static bool thread_lives(uint32_t tid)
{
	bool found;

	mach_mutex_enter(&proc_lock);
	found = uthread_find((int)tid) != NULL;
	mach_mutex_exit(&proc_lock);
	return found;
}

/*
 * Tries once to take the lock. 0: this thread has the lock. -EAGAIN: another thread has the lock,
 * and the word, *now, tells that there are waiters. -EBUSY: the word changed meanwhile.
 */
static int try_owned(uint64_t addr, bool private, uint32_t *now)
{
	uint32_t self = (uint32_t)this_uthread()->u_tid, owner, seen;
	struct futex_key k;
	int err = key_of(addr, private, &k, now);

	if (err != 0)
		return err;
	seen = *now;
	owner = seen & OWNER_MASK;
	if (owner == self)
		return -EDEADLK;
	if (owner == 0) {
		err = exchange_word(addr, now, (seen & ~OWNER_MASK) | self);
		if (err == 0 && *now != seen)
			err = -EBUSY;
		return err;
	}
	if (!thread_lives(owner))
		return -ESRCH;
	if (seen & WAITERS)
		return -EAGAIN;
	if ((err = exchange_word(addr, now, seen | WAITERS)) != 0)
		return err;
	if (*now != seen)
		return -EBUSY;
	*now |= WAITERS;
	return -EAGAIN;
}

static int lock_owned(uint64_t addr, bool private, uint64_t deadline, bool wait)
{
	uint32_t now;
	int err;

	for (;;) {
		err = try_owned(addr, private, &now);
		if (err == -EBUSY)
			continue;
		if (err != -EAGAIN || !wait)
			return err;
		err = wait_for(addr, private, now, deadline, ~0u);
		if (err != 0 && err != -EAGAIN)
			return err;
	}
}

static bool has_waiter(struct futex_key k)
{
	bool irq = spin_lock(&sched_lock);
	struct futex_waiter *w = buckets[bucket_of(k)];

	while (w != NULL && !same_key(w->w_key, k))
		w = w->w_next;
	spin_unlock(&sched_lock, irq);
	return w != NULL;
}

/* The word becomes free before a waiter is woken: a waiter that queues itself in between sees that the word has changed. */
static int unlock_owned(uint64_t addr, bool private)
{
	uint32_t now, seen;
	struct futex_key k;
	int err = key_of(addr, private, &k, &now);

	if (err != 0)
		return err;
	do {
		seen = now;
		if ((seen & OWNER_MASK) != (uint32_t)this_uthread()->u_tid)
			return -EPERM;
		if ((err = exchange_word(addr, &now, has_waiter(k) ? WAITERS : 0)) != 0)
			return err;
	} while (now != seen);
	(void)wake_key(k, 1, ~0u, NULL, 0);
	return 0;
}

/* *deadline: in arch_time_ns; 0: none. -EFAULT, -EINVAL */
static int deadline_of(uint64_t timeout, bool absolute, bool realtime, uint64_t *deadline)
{
	uint64_t ns;
	int err;

	*deadline = 0;
	if (timeout == 0)
		return 0;
	if ((err = copy_in_span(timeout, &ns)) != 0)
		return err;
	if (!absolute)
		ns += arch_time_ns();
	else if (realtime)
		ns = ns > wall_ns() ? ns - wall_ns() + arch_time_ns() : 1;
	*deadline = ns != 0 ? ns : 1;
	return 0;
}

int64_t futex_call(
    uint64_t addr, unsigned op, uint32_t val, uint64_t timeout, uint64_t addr2, uint32_t val3)
{
	bool private = (op & FUTEX_PRIVATE) != 0, realtime = (op & REALTIME) != 0;
	unsigned what = op & OP_MASK;
	struct futex_key k, k2;
	uint64_t deadline;
	uint32_t now;
	int err;

	switch (what) {
	case 0: /* WAIT */
	case 9: /* WAIT_BITSET: the time is absolute */
		if (what == 9 && val3 == 0)
			return -EINVAL;
		if ((err = deadline_of(timeout, what == 9, realtime, &deadline)) != 0)
			return err;
		err = wait_for(addr, private, val, deadline, what == 9 ? val3 : ~0u);
		if (err == -EINTR)
			return deadline == 0 || what == 9 ? -ERESTART : -EINTR;
		return err;
	case 1: /* WAKE */
	case 10:
		if (what == 10 && val3 == 0)
			return -EINVAL;
		if ((err = key_of(addr, private, &k, &now)) != 0)
			return err;
		return wake_key(k, (int)val, what == 10 ? val3 : ~0u, NULL, 0);
	case 3: /* REQUEUE */
	case 4: /* CMP_REQUEUE */
		if ((int)val < 0 || (int)timeout < 0)
			return -EINVAL;
		if ((err = key_of(addr2, private, &k2, &now)) != 0 ||
		    (err = key_of(addr, private, &k, &now)) != 0)
			return err;
		if (what == 4 && now != val3)
			return -EAGAIN;
		return wake_key(k, (int)val, ~0u, &k2, (int)timeout);
	case 5: return wake_op(addr, private, (int)val, addr2, (int)timeout, val3);
	case 6:  /* LOCK_PI: the clock is the real one */
	case 13: /* LOCK_PI2 */
		if ((err = deadline_of(timeout, true, what == 6 || realtime, &deadline)) != 0)
			return err;
		err = lock_owned(addr, private, deadline, true);
		return err == -EINTR ? -ERESTART : err;
	case 7: return unlock_owned(addr, private);
	case 8: return lock_owned(addr, private, 0, false);
	default: return -ENOSYS;
	}
}

/*
 * Marks a lock of an ending thread FUTEX_OWNER_DIED and wakes a waiter. False: the word is not
 * accessible.
 */
static bool abandon_lock(const struct uthread *u, uint64_t word, bool pending)
{
	uint32_t v, seen;

	if (copy_in(&v, word, sizeof(v)) != 0)
		return false;
	if (pending &&
	    v == 0) { /* the dying thread had released the lock and not woken the waiter yet */
		(void)futex_wake_addr(word, 1);
		return true;
	}
	do {
		seen = v;
		if ((seen & OWNER_MASK) != (uint32_t)u->u_tid)
			return true;
		if (exchange_word(word, &v, (seen & WAITERS) | OWNER_DIED) != 0)
			return false;
	} while (v != seen);
	if (v & WAITERS)
		(void)futex_wake_addr(word, 1);
	return true;
}

void futex_exit_robust(struct uthread *u)
{
	struct {
		uint64_t next, offset, pending;
	} head;
	uint64_t at;

	if (copy_in(&head, u->u_robust, sizeof(head)) != 0)
		return;
	at = head.next;
	for (unsigned i = 0; i < 2048 && at != u->u_robust && at != 0; i++) {
		uint64_t next;

		if (copy_in(&next, at & ~1ull, sizeof(next)) != 0)
			return;
		if (at != head.pending && !abandon_lock(u, (at & ~1ull) + head.offset, false))
			return;
		at = next;
	}
	if (head.pending != 0)
		(void)abandon_lock(u, (head.pending & ~1ull) + head.offset, true);
}
