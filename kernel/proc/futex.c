/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Futexes: threads that wait for a word of memory to change.
 *
 * Key of a word: its address space and address if the mapping is private; otherwise the name of its page (vnode and offset) and
 * the offset in the page, which is the same in every space that maps it. The page is touched first, so that it has a name.
 *
 * Waiters are in a hash of lists. A thread queues itself, then reads the word, then sleeps: a thread that changes the word and
 * wakes afterwards finds the waiter, so no wake-up is lost.
 *
 * Locks: sched_lock guards the lists and each waiter. Left out: priority inheritance (all FUTEX_*_PI).
 */
#include "kernel/proc/proc.h"

#include <quire/hat.h>
#include <quire/page.h>

#define NBUCKETS 64u
#define OP_MASK 0x7fu
#define FUTEX_PRIVATE 128u
#define REALTIME 256u

static struct futex_waiter *buckets[NBUCKETS]; /* sched_lock */

static unsigned bucket_of(struct futex_key k)
{
	return (unsigned)((k.k_a ^ k.k_b >> 2 ^ k.k_b >> 12) % NBUCKETS);
}
static bool same_key(struct futex_key a, struct futex_key b)
{
	return a.k_a == b.k_a && a.k_b == b.k_b;
}

/* The word must be there: it is touched. */
static int key_of(uint64_t addr, bool private, struct futex_key *k, uint32_t *now)
{
	struct as *as = this_proc()->p_as;
	struct as_info info;

	if (addr & 3)
		return -EINVAL;
	if (copy_in(now, addr, 4) != 0)
		return -EFAULT;
	*k = (struct futex_key){ (uint64_t)(uintptr_t)as, addr };
	if (private || as_query(as, addr, &info) != VM_OK || !info.ai_shared)
		return 0;
	for (unsigned i = 0; i < 8; i++) {
		pfn_t pfn = hat_probe(as_hat(as), addr, NULL);
		const struct page *pp;

		if (pfn != PFN_INVALID) {
			pp = page_of(the_vm, pfn);
			*k = (struct futex_key){ (uint64_t)(uintptr_t)pp->p_vnode,
				pp->p_offset + (addr & VM_PAGEMASK) };
			return 0;
		}
		if (as_fault(as, vm_page_trunc(addr), VM_PAGESIZE, F_INVAL, S_READ) != VM_OK)
			return -EFAULT;
	}
	return 0;
}

static void unlist_waiter(struct futex_waiter *w)
{
	struct futex_waiter **p = &buckets[bucket_of(w->w_key)];

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
	/* queued: a thread that changes the word and wakes from now on finds this waiter */
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

int futex_wake_addr(uint64_t addr, int n)
{
	struct futex_key k;
	uint32_t now;
	int done, err = key_of(addr, true, &k, &now);

	if (err != 0)
		return err;
	done = wake_key(k, n, ~0u, NULL, 0);
	if (done < n && key_of(addr, false, &k, &now) == 0)
		done += wake_key(k, n - done, ~0u, NULL, 0);
	return done;
}

/* What FUTEX_WAKE_OP makes of the second word. */
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

/* What FUTEX_WAKE_OP asks of the second word as it was. */
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
	uint32_t arg = op >> 12 & 0xfff, cmparg = op & 0xfff, old, new;
	struct futex_key k, k2;
	int err, done;

	if (op >> 31)
		arg = 1u << (arg & 31);
	if ((err = key_of(addr, private, &k, &old)) != 0 ||
	    (err = key_of(addr2, private, &k2, &old)) != 0)
		return err;
	new = changed_word(op >> 28 & 7, old, arg);
	if (copy_out(addr2, &new, 4) != 0)
		return -EFAULT;
	done = wake_key(k, n, ~0u, NULL, 0);
	return word_compares(op >> 24 & 15, (int)old, (int)cmparg)
	    ? done + wake_key(k2, n2, ~0u, NULL, 0)
	    : done;
}

int64_t futex_call(
    uint64_t addr, unsigned op, uint32_t val, uint64_t timeout, uint64_t addr2, uint32_t val3)
{
	bool private = (op & FUTEX_PRIVATE) != 0;
	uint64_t ts[2], deadline = 0;
	struct futex_key k, k2;
	uint32_t now;
	int err;

	switch (op & OP_MASK) {
	case 0: /* WAIT */
	case 9: /* WAIT_BITSET: the time is absolute */
		if (timeout != 0) {
			if (copy_in(ts, timeout, sizeof(ts)) != 0)
				return -EFAULT;
			deadline = ts[0] * 1000000000 + ts[1];
			if ((op & OP_MASK) == 0)
				deadline += arch_time_ns();
			else if (op & REALTIME)
				deadline = deadline > wall_ns()
				    ? deadline - wall_ns() + arch_time_ns()
				    : 1;
			if (deadline == 0)
				deadline = 1;
		}
		err = wait_for(addr, private, val, deadline, (op & OP_MASK) == 9 ? val3 : ~0u);
		return err == -EINTR ? -ERESTART : err;
	case 1: /* WAKE */
	case 10:
		if ((err = key_of(addr, private, &k, &now)) != 0)
			return err;
		return wake_key(k, (int)val, (op & OP_MASK) == 10 ? val3 : ~0u, NULL, 0);
	case 3: /* REQUEUE */
	case 4: /* CMP_REQUEUE */
		if ((err = key_of(addr, private, &k, &now)) != 0 ||
		    (err = key_of(addr2, private, &k2, &now)) != 0)
			return err;
		if (copy_in(&now, addr, 4) != 0)
			return -EFAULT;
		if ((op & OP_MASK) == 4 && now != val3)
			return -EAGAIN;
		return wake_key(k, (int)val, ~0u, &k2, (int)timeout);
	case 5: return wake_op(addr, private, (int)val, addr2, (int)timeout, val3);
	default: return -ENOSYS;
	}
}

/* Locks that the thread holds as it ends are marked (FUTEX_OWNER_DIED), and one waiter each is woken. */
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
		uint64_t word = (at & ~1ull) + head.offset, next;
		uint32_t v;

		if (copy_in(&next, at & ~1ull, sizeof(next)) != 0 ||
		    copy_in(&v, word, sizeof(v)) != 0)
			return;
		if ((v & 0x3fffffff) == (uint32_t)u->u_tid) {
			v = (v & 0x80000000u) | 0x40000000u;
			if (copy_out(word, &v, sizeof(v)) != 0)
				return;
			(void)futex_wake_addr(word, 1);
		}
		at = next;
	}
}
