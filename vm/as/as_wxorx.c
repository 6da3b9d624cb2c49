/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writable or executable (W^X, as OpenBSD's and Linux' MDWE): after as_secure no memory may be
 * both, and memory that was once writable may never become executable, so that data cannot be
 * executed. A message of pages may not be both, either. A segment remembers that it was writable
 * (S_WASWRITE) through splits, forks and moves; segments that differ in it do not merge.
 *
 * Locks: a_lock as writer.
 */
#include "vm/impl.h"

#define BOTH (PROT_W | PROT_X)

/* May the segment (NULL: a new one) have these rights? a_lock W. */
bool as_secure_prot(const struct as *as, struct seg *s, unsigned prot)
{
	unsigned now = s != NULL ? s->s_ops->so_getprot(s, seg_base(s)) : 0;

	if (!as->a_wxorx)
		return true;
	if ((prot & BOTH) == BOTH && (now & BOTH) != BOTH)
		return false;
	return s == NULL || (prot & ~now & PROT_X) == 0 || (s->s_flags & S_WASWRITE) == 0;
}

/* Records that the segment now has these rights. a_lock W. */
void as_secure_note(const struct as *as, struct seg *s, unsigned prot)
{
	if (as->a_wxorx && (prot & PROT_W) != 0)
		s->s_flags |= S_WASWRITE;
}
