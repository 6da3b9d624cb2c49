/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads and processes that are gone: how that is noticed, and what becomes of the reads and writes that they were at.
 *
 * A killed process's writes may still be on their way to the disk when it is gone: their blocks are set aside for a while (pool_block.c).
 * What else is left of a dead one is found by pool_repair.c.
 */
#include "store/pool_impl.h"

int pool_dead(uint32_t tid)
{
	char byte;
	struct {
		void *base;
		size_t len;
	} to = { &byte, 1 }, from = { NULL, 1 };

	/*
	 * Reading a byte of it fails in any case, but with ESRCH once it has no memory any more: a zombie is told from the
	 * living without a descriptor, whose number might be the very one that the program is about to use.
	 */
	return sys_call2(SYS_kill, (long)tid, 0) == -ESRCH ||
	    sys_call6(SYS_process_vm_readv, (long)tid, (long)&to, 1, (long)&from, 1, 0) == -ESRCH;
}

int pool_orphan(const struct segment *g) { return g->s_tid != ALONE && pool_dead(g->s_tid); }

void pool_orphan_writes_locked(struct pool_shared *s, uint32_t m)
{
	struct member_io *io = pool_members(s)[m].m_io;

	POOL_ASSERT(pool_held(s));
	for (uint32_t op = 0; op < POOL_WRITES; op++) {
		if (io[op].io_block == 0)
			continue;
		uint32_t i = io[op].io_seg;
		struct segment *g = i != 0 ? &segs_of(s)[i - 1] : NULL;

		if (g == NULL ||
		    (g->s_state == SEG_WRITING && g->s_async != 0 &&
			g->s_block + 1 == io[op].io_block)) {
			pool_block_set_aside_locked(s, io[op].io_block - 1);
			if (g != NULL) {
				g->s_block = NONE;
				BARRIER();
				set_state(g, SEG_SEALED);
			}
		}
		pool_op_clear(&io[op]);
	}
}

void pool_abandon_locked(struct pool_shared *s, struct segment *g)
{
	POOL_ASSERT(pool_held(s));
	if (g->s_state == SEG_WRITING && g->s_async != 0)
		pool_orphan_writes_locked(s, g->s_member);
	else
		set_state(g, g->s_state == SEG_WRITING ? SEG_SEALED : SEG_FILED);
}
