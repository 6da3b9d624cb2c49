/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Communication between address spaces: copying bytes, and transferring ranges of pages.
 *
 *   TRANSFER_COPY  bytes are copied into fresh anonymous memory of the receiver
 *   TRANSFER_COW   the receiver gets a private snapshot: the same frames, copied by the first of the two that writes
 *   TRANSFER_MOVE  the segments themselves change spaces; the sender's range is unmapped
 *   TRANSFER_LOAN  a snapshot the receiver can never write (as UVM's loans): unmapping it gives it back
 *
 * A snapshot is so_snapshot of each segment; a driver that cannot (a shared file's pages change under other writers' hands, a
 * device has none) has its bytes copied. Rights are those of the sender's program: a range it may not read cannot be sent,
 * and the receiver may not execute what the sender could not execute. Pages locked for a device are copied at once,
 * because the device goes on writing to the sender's frame.
 *
 * Copying looks at both pages through their direct addresses with both locked, where the machine has such addresses, or
 * through a buffer of one page. Locks: both a_locks as writer for a transfer (the second is tried for); none for copying
 * but what faults take; two pages are only tried for, so opposite copies cannot block each other.
 */
#include "vm/impl.h"

#define COPY_TRIES 1000u

/* ---- bytes ---- */
struct pair {
	struct as *p_src, *p_dst;
	vaddr_t p_from, p_to;
	uint64_t p_n; /* bytes, within one page on either side */
};

static bool still_loaded(struct as *as, vaddr_t va, pfn_t pfn, unsigned right)
{
	unsigned attr = 0;

	return hat_probe(as->a_hat, vm_page_trunc(va), &attr) == pfn && (attr & right) == right;
}

/* Both translations are there: lock both pages, look again, copy. */
static enum vm_err copy_with_page_locks(const struct pair *p, pfn_t sp, pfn_t dp)
{
	struct vm *vm = p->p_src->a_vm;
	struct page *s = page_of(vm, sp), *d = page_of(vm, dp);
	bool zero = vm_is_zeropage(vm, sp); /* that page has no lock and needs none */
	enum vm_err e = VM_RETRY;

	if (!page_trylock(vm, d, SE_EXCL))
		return e;
	if (zero || s == d || page_trylock(vm, s, SE_SHARED)) {
		if (still_loaded(p->p_src, p->p_from, sp, 0) &&
		    still_loaded(p->p_dst, p->p_to, dp, PROT_W)) {
			char *from = mach_frame_kva(vm->vm_mach, sp),
			     *to = mach_frame_kva(vm->vm_mach, dp);

			from += p->p_from & VM_PAGEMASK;
			to += p->p_to & VM_PAGEMASK;
			if (s != d)
				memcpy(to, from, p->p_n);
			else if (from > to)
				for (uint64_t i = 0; i < p->p_n; i++)
					to[i] = from[i];
			else
				for (uint64_t i = p->p_n; i-- > 0;)
					to[i] = from[i];
			page_nrm_set(d, P_MOD);
			VM_STATN(vm, copy_bytes, p->p_n);
			e = VM_OK;
		}
		if (s != d && !zero)
			page_unlock(vm, s);
	}
	page_unlock(vm, d);
	return e;
}

static enum vm_err copy_direct(const struct pair *p)
{
	struct vm *vm = p->p_src->a_vm;

	for (unsigned tries = 0; tries < COPY_TRIES; tries++) {
		enum vm_err e = as_fault(p->p_src, p->p_from, p->p_n, F_INVAL, S_READ);
		pfn_t sp, dp;

		if (e == VM_OK)
			e = as_fault(p->p_dst, p->p_to, p->p_n, F_INVAL, S_WRITE);
		if (e != VM_OK)
			return e;
		sp = hat_probe(p->p_src->a_hat, vm_page_trunc(p->p_from), NULL);
		dp = hat_probe(p->p_dst->a_hat, vm_page_trunc(p->p_to), NULL);
		if (sp != PFN_INVALID && dp != PFN_INVALID) {
			if (sp >= vm->vm_nframes || dp >= vm->vm_nframes)
				return VM_NOTSUP; /* a device's */
			if ((e = copy_with_page_locks(p, sp, dp)) != VM_RETRY)
				return e;
		}
		mach_yield();
	}
	return VM_RETRY;
}

static enum vm_err copy_bounced(const struct pair *p, char *buf)
{
	enum vm_err e = as_copyin(p->p_src, p->p_from, buf, p->p_n);

	return e != VM_OK ? e : as_copyout(p->p_dst, buf, p->p_to, p->p_n);
}

enum vm_err as_copy(
    struct as *src, vaddr_t from, struct as *dst, vaddr_t to, uint64_t len, uint64_t *done)
{
	struct vm *vm = src->a_vm;
	char *buf = NULL;
	enum vm_err e = VM_OK;
	uint64_t at = 0;

	while (at < len && e == VM_OK) {
		struct pair p = { src, dst, from + at, to + at, len - at };
		uint64_t sroom = VM_PAGESIZE - (p.p_from & VM_PAGEMASK),
			 droom = VM_PAGESIZE - (p.p_to & VM_PAGEMASK);

		if (p.p_n > sroom)
			p.p_n = sroom;
		if (p.p_n > droom)
			p.p_n = droom;
		e = vm->vm_caps->mc_direct_map ? copy_direct(&p) : VM_RETRY;
		if (e == VM_RETRY) {
			if (buf == NULL && (buf = kmem_alloc(vm, VM_PAGESIZE, KM_SLEEP)) == NULL)
				e = VM_NOMEM;
			else
				e = copy_bounced(&p, buf);
		}
		if (e == VM_OK)
			at += p.p_n;
	}
	if (buf != NULL)
		kmem_free(vm, buf, VM_PAGESIZE);
	if (done != NULL)
		*done = at;
	return e;
}

/* ---- ranges ---- */
struct message {
	struct as *m_src, *m_dst;
	vaddr_t m_addr, m_to;
	uint64_t m_len;
	enum transfer m_how;
	unsigned m_prot;
};

/* May the sender's program read it all, and execute it if the receiver shall? a_lock of the source. */
static enum vm_err check_rights(const struct message *m)
{
	unsigned need = PROT_R | (m->m_prot & PROT_X);

	if (m->m_how != TRANSFER_MOVE && !as_secure_prot(m->m_dst, NULL, m->m_prot))
		return VM_ACCESS;
	if (!as_mapped(m->m_src, m->m_addr, m->m_len))
		return VM_NOMAP;
	for (struct seg *s = as_segat(m->m_src, m->m_addr);
	     s != NULL && seg_base(s) < m->m_addr + m->m_len; s = seg_next(s)) {
		vaddr_t va = seg_base(s) > m->m_addr ? seg_base(s) : m->m_addr;
		vaddr_t end = seg_end(s) < m->m_addr + m->m_len ? seg_end(s) : m->m_addr + m->m_len;
		enum vm_err e = s->s_ops->so_checkprot(s, va, end - va, need);

		if (e != VM_OK)
			return e;
	}
	return VM_OK;
}

/* Finds the range in the receiver: at the address that it asked for, or in the highest hole. Both
 * a_locks. */
static enum vm_err place_message(struct message *m)
{
	uint64_t len = m->m_len;

	if (m->m_src->a_vm != m->m_dst->a_vm)
		return VM_NOTSUP;
	if (m->m_to == 0)
		return as_gap_locked(
		    m->m_dst, len, VM_PAGESIZE, m->m_dst->a_min, m->m_dst->a_max, true, &m->m_to);
	if (!as_range(m->m_dst, &m->m_to, &len))
		return VM_NOMEM;
	return as_range_free(m->m_dst, m->m_to, len) ? VM_OK : VM_EXIST;
}

static enum vm_err snapshot_seg(struct message *m, struct seg *s)
{
	vaddr_t to = m->m_to + (seg_base(s) - m->m_addr);
	struct seg *n = seg_alloc(m->m_dst, to, to + seg_size(s));
	enum vm_err e;

	if (n == NULL)
		return VM_NOMEM;
	e = s->s_ops->so_snapshot(
	    s, n, m->m_prot, m->m_how == TRANSFER_COW ? m->m_prot | PROT_R | PROT_W : m->m_prot);
	if (e == VM_OK) {
		as_secure_note(m->m_dst, n, m->m_prot);
		seg_attach(m->m_dst, n);
	} else
		seg_free(n);
	return e;
}

static enum vm_err snapshot_locked(struct message *m)
{
	vaddr_t end = m->m_addr + m->m_len;
	struct seg *s;
	enum vm_err e;

	VM_ASSERT(mach_rw_held(&m->m_src->a_lock, true) && mach_rw_held(&m->m_dst->a_lock, true));
	if (m->m_dst->a_maxsize - m->m_dst->a_size < m->m_len)
		return VM_LIMIT;
	if ((e = as_split(m->m_src, m->m_addr)) == VM_OK)
		e = as_split(m->m_src, end);
	for (s = as_segat(m->m_src, m->m_addr); e == VM_OK && s != NULL && seg_base(s) < end;
	     s = seg_next(s))
		e = snapshot_seg(m, s);
	if (e != VM_OK)
		while (
		    (s = as_seg_ge(m->m_dst, m->m_to)) != NULL && seg_base(s) < m->m_to + m->m_len)
			seg_unmap(s);
	as_merge(m->m_src, m->m_addr, end);
	if (e == VM_OK) {
		VM_STATN(m->m_src->a_vm, xfer_share, vm_btop(m->m_len));
		as_merge(m->m_dst, m->m_to, m->m_to + m->m_len);
	}
	return e;
}

/* VM_NOTSUP: bytes must be copied. */
static enum vm_err send_snapshot(struct message *m)
{
	enum vm_err e;

	as_lock_two(m->m_src, m->m_dst);
	if ((e = place_message(m)) == VM_OK && (e = check_rights(m)) == VM_OK)
		e = snapshot_locked(m);
	as_unlock_two(m->m_src, m->m_dst);
	return e;
}

static enum vm_err send_move(struct message *m)
{
	enum vm_err e;

	as_lock_two(m->m_src, m->m_dst);
	if ((e = place_message(m)) == VM_OK && (e = check_rights(m)) == VM_OK)
		e = as_move_locked(m->m_src, m->m_addr, m->m_len, m->m_dst, m->m_to);
	as_unlock_two(m->m_src, m->m_dst);
	if (e == VM_OK)
		VM_STATN(m->m_src->a_vm, xfer_move, vm_btop(m->m_len));
	return e;
}

static enum vm_err send_copy(struct message *m)
{
	const struct segvn_args a = { .sa_prot = PROT_R | PROT_W,
		.sa_maxprot = PROT_R | PROT_W | (m->m_prot & PROT_X) };
	enum vm_err e;

	as_lock_two(m->m_src, m->m_dst);
	if ((e = place_message(m)) == VM_OK && (e = check_rights(m)) == VM_OK)
		e = as_map_locked(m->m_dst, m->m_to, m->m_len, segvn_create, &a);
	as_unlock_two(m->m_src, m->m_dst);
	if (e != VM_OK)
		return e;
	e = as_copy(m->m_src, m->m_addr, m->m_dst, m->m_to, m->m_len, NULL);
	if (e == VM_OK && m->m_prot != (PROT_R | PROT_W))
		e = as_setprot(m->m_dst, m->m_to, m->m_len, m->m_prot);
	if (e != VM_OK)
		(void)as_unmap(m->m_dst, m->m_to, m->m_len);
	return e;
}

enum vm_err as_transfer(struct as *src, vaddr_t addr, uint64_t len, struct as *dst, vaddr_t *daddr,
    enum transfer how, unsigned prot)
{
	struct message m = { src, dst, addr, *daddr, len, how,
		how == TRANSFER_LOAN ? prot & ~PROT_W : prot };
	enum vm_err e;

	if (((addr | len | *daddr) & VM_PAGEMASK) != 0 || len == 0)
		return VM_INVAL;
	if (!as_range(src, &m.m_addr, &m.m_len))
		return VM_NOMAP;
	switch (how) {
	case TRANSFER_COPY: e = send_copy(&m); break;
	case TRANSFER_MOVE: e = send_move(&m); break;
	default:
		e = send_snapshot(&m);
		if (e == VM_NOTSUP && src->a_vm == dst->a_vm)
			e = send_copy(&m);
	}
	if (e == VM_OK)
		*daddr = m.m_to;
	return e;
}
