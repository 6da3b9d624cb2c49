/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hardening of an address space.
 *
 * Writable or executable: as_wxorx.c has the rule.
 *
 * Placing at random (ASLR): where the caller leaves the place open, it is a hole next to an address drawn from all the
 * space, page by page; the sequence is the seed's, so the same seed gives the same places (tests, replays). The seed of a
 * real program comes from its kernel's source of randomness. A forked space keeps its parent's
 * addresses but draws its own from then on.
 *
 * The null page: a space begins at a_min; if its creator sets that above 0, nothing can be mapped there.
 */
#include "vm/impl.h"

void as_secure(struct as *as, unsigned how, uint64_t seed)
{
	mach_rw_enter(&as->a_lock, true);
	if ((how & AS_WXORX) != 0 && !as->a_wxorx) {
		as->a_wxorx = true;
		for (struct seg *s = as_seg_ge(as, as->a_min); s != NULL; s = seg_next(s))
			if ((s->s_ops->so_getprot(s, seg_base(s)) & PROT_W) != 0) {
				s->s_flags |= S_WASWRITE;
				seg_rekind(s);
			}
	}
	if ((how & AS_RANDOM) != 0)
		as->a_random = seed != 0 ? seed : 1;
	mach_rw_exit(&as->a_lock);
}

void as_secure_dup(const struct as *parent, struct as *child)
{
	child->a_wxorx = parent->a_wxorx;
	child->a_random = parent->a_random != 0 ? parent->a_random * 0xd1342543de82ef95ull + 1 : 0;
	if (parent->a_random != 0 && child->a_random == 0)
		child->a_random = 1;
}

/* A hole near a random address. a_lock W. VM_NOMEM: the space has no such hole. */
enum vm_err as_random_gap(struct as *as, uint64_t len, uint64_t align, vaddr_t max, vaddr_t *addr)
{
	uint64_t x = as->a_random, span = max - as->a_min;
	vaddr_t at;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	as->a_random = x;
	x *= 0x2545f4914f6cdd1dull;
	at = as->a_min + vm_page_trunc((x >> 1) % span);
	if (as_gap_locked(as, len, align, at, max, false, addr) == VM_OK)
		return VM_OK;
	return as_gap_locked(as, len, align, as->a_min, max, true, addr);
}
