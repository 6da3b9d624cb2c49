/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sinking: when few blocks of the file are free, the packer moves the segments written longest ago
 * to a far place, so that the file keeps the segments written last. An object loaded from a far
 * place leaves the store like any other loaded object; at its page's next eviction the page is
 * stored in memory and later in the file again. So used pages move up.
 */
#include "store/pool_impl.h"

#define SINK_FREE 8u /* blocks of the file that are kept free, if a far place has room */

/*
 * Returns the segment of the file that was written longest ago and that no thread uses now. NONE:
 * there is no such segment.
 */
static uint32_t oldest_in_file(const struct pool_shared *s)
{
	uint32_t best = NONE, age = 0;

	for (uint32_t i = 0; i < s->ps_segx.x_next; i++) {
		const struct segment *g = &segs_of((struct pool_shared *)(uintptr_t)s)[i];
		uint32_t since = (uint32_t)s->ps_stats.spills - g->s_spilled;

		if (g->s_state == SEG_FILED && g->s_block < s->ps_fileblocks && g->s_fetch == 0 &&
		    g->s_bad == 0 && g->s_live > 0 && (best == NONE || since > age)) {
			best = i;
			age = since;
		}
	}
	return best;
}

int pool_sink(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = NONE;
	int rc = -ENOSPC;

	if (s->ps_nfar == 0 || p->p_fd < 0)
		return 0;
	pool_lock(p);
	if (pool_file_room_locked(s) < SINK_FREE && pool_far_room_locked(s) &&
	    (i = oldest_in_file(s)) != NONE && (rc = pool_fetch_back_locked(p, i)) == 0 &&
	    segs_of(s)[i].s_state == SEG_SEALED) {
		p->p_sink = true;
		rc = pool_write_begin_locked(p, i);
		p->p_sink = false;
		if (rc == 0)
			rc = pool_write_sync_locked(p, i);
		s->ps_stats.sunk += rc == 0;
	}
	pool_unlock(s);
	return rc == 0;
}
