/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log: slots of memory, blocks of the file, segments that lie in them, compaction, writing. See pool.c.
 */
#include "store/pool_impl.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#define LOOKS 64u /* so many are looked at before one that is worth it will do: the oldest have the most dead in them */
#define LEFT_MEAN 16 /* s_left is about the last so many */
#define WORTH (SEG_BYTES / 8 * 5)
#define DENSE (SEG_BYTES / 8 * 7) /* live bytes from which a segment in memory is not worth compacting */

int pool_injected(struct pool *p, enum pool_inject kind)
{
	return __atomic_load_n(&p->p_inject[kind], __ATOMIC_RELAXED) != 0 &&
	       __atomic_sub_fetch(&p->p_inject[kind], 1, __ATOMIC_RELAXED) == 0;
}

bool pool_file_limited(const struct pool *p)
{
	struct rlimit rl;

	return sys_call4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&rl) == 0 && rl.rlim_cur != RLIM_INFINITY &&
	       rl.rlim_cur < (uint64_t)p->p_shared->ps_nblocks * SEG_BYTES;
}

/*
 * The limit is the program's, and about its own files; there is none for one thread. What is mapped may be written all the same, if it
 * is known that there is room: else that would be a SIGBUS.
 */
static int write_mapped(struct pool *p, const void *mem, uint64_t at, uint32_t n)
{
	long r, to;

	do
		r = sys_call4(SYS_fallocate, p->p_fd, FALLOC_FL_KEEP_SIZE, (long)at, (long)n);
	while (r == -EINTR);
	if (r != 0)
		return r == -ENOSPC || r == -EDQUOT ? -ENOSPC : -EIO;
	to = sys_call6(SYS_mmap, 0, (long)n, PROT_READ | PROT_WRITE, MAP_SHARED, p->p_fd, (long)at);
	if (to < 0 && to > -4096)
		return -EIO;
	memcpy((void *)to, mem, n);
	r = sys_call3(SYS_msync, to, (long)n, MS_SYNC);
	(void)sys_call2(SYS_munmap, to, (long)n);
	(void)sys_call4(SYS_fadvise64, p->p_fd, (long)at, (long)n, POSIX_FADV_DONTNEED); /* who reads reads the disk */
	return r == 0 ? 0 : r == -ENOSPC ? -ENOSPC : -EIO;
}

/* A thread of the program has lowered the limit in the middle. Of the signal for that, which is ours, it shall hear nothing. */
static int write_after_all(struct pool *p, const void *mem, uint64_t at, uint32_t n)
{
	uint64_t set = 1ull << (SIGXFSZ - 1);
	long none[2] = { 0, 0 };

	(void)sys_call4(SYS_rt_sigtimedwait, (long)&set, 0, (long)none, sizeof set);
	return write_mapped(p, mem, at, n);
}

int pool_file_io(struct pool *p, int write, void *mem, uint64_t at, uint32_t n)
{
	bool mapped = write && pool_file_limited(p);
	int rc;
	bool timed = !write && pool_shares(p->p_shared);
	uint64_t begun = timed ? pool_now() : 0;

	if (pool_injected(p, POOL_INJECT_KILL))
		(void)sys_call2(SYS_kill, sys_call0(SYS_getpid), 9);
	if (pool_injected(p, write ? POOL_INJECT_WRITE : POOL_INJECT_READ))
		return -EIO;
	if (mapped && (rc = write_mapped(p, mem, at, n)) != 0)
		return rc;
	for (uint32_t done = mapped ? n : 0; done < n;) {
		long r = sys_call4(
		    write ? SYS_pwrite64 : SYS_pread64, p->p_fd, (long)mem + done, (long)(n - done), (long)(at + done));

		if (r > 0)
			done += (uint32_t)r;
		else if (r == -EFBIG && write && (rc = write_after_all(p, mem, at, n)) == 0)
			done = n;
		else if (r != -EINTR)
			return write && (r == 0 || r == -ENOSPC) ? -ENOSPC : -EIO;
	}
	if (timed)
		pool_read_took(p->p_shared, pool_now() - begun);
	(void)__atomic_add_fetch(
	    write ? &p->p_shared->ps_stats.bytes_written : &p->p_shared->ps_stats.bytes_read, n, __ATOMIC_RELAXED);
	return 0;
}

/* ---- slots, blocks, segments; locked ---- */
static uint32_t pop(struct pool_shared *s, uint64_t stack, uint32_t *n, uint32_t *next, uint32_t max)
{
	if (*n > 0)
		return ((uint32_t *)(void *)((char *)s + stack))[--*n];
	return *next < max ? (*next)++ : NONE;
}

static void push(struct pool_shared *s, uint64_t stack, uint32_t *n, uint32_t v)
{
	((uint32_t *)(void *)((char *)s + stack))[(*n)++] = v;
}

uint32_t pool_slot_take_locked(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t slot;

	if (pool_injected(p, POOL_INJECT_MEMORY))
		return NONE;
	if (s->ps_nwarm > 0)
		return s->ps_warm[--s->ps_nwarm];
	if (p->p_charge != NULL && p->p_charge(p->p_charge_arg, SEG_PAGES) != 0)
		return NONE;
	slot = pop(s, s->ps_slotfree, &s->ps_nslotfree, &s->ps_slotnext, s->ps_nslots);
	if (slot != NONE)
		pool_tell(&s->ps_slots_used, s->ps_slots_used + 1);
	else if (p->p_charge != NULL)
		(void)p->p_charge(p->p_charge_arg, -(long)SEG_PAGES);
	return slot;
}

void pool_forget(void *mem, uint64_t len)
{
	/* MADV_REMOVE frees the pages of a shared mapping; private memory answers EINVAL and takes DONTNEED */
	if (len > 0 && sys_call3(SYS_madvise, (long)mem, (long)len, MADV_REMOVE) != 0)
		(void)sys_call3(SYS_madvise, (long)mem, (long)len, MADV_DONTNEED);
}

void pool_begin_locked(struct pool *p, uint32_t i)
{
	struct segment *g = &segs(p->p_shared)[i];

	g->s_tid = pool_tid(p);
	g->s_member = p->p_member;
	BARRIER();
}

static void slot_cool(struct pool *p, uint32_t slot)
{
	struct pool_shared *s = p->p_shared;

	pool_forget(slot_mem(s, slot), SEG_BYTES);
	push(s, s->ps_slotfree, &s->ps_nslotfree, slot);
	pool_tell(&s->ps_slots_used, s->ps_slots_used - 1);
	if (p->p_charge != NULL)
		(void)p->p_charge(p->p_charge_arg, -(long)SEG_PAGES);
}

/* A few free slots keep their memory: to give it back and have it zeroed again costs more than to fill it. */
void pool_slot_give_locked(struct pool *p, uint32_t slot)
{
	struct pool_shared *s = p->p_shared;

	if (s->ps_nwarm < s->ps_warmmax)
		s->ps_warm[s->ps_nwarm++] = slot;
	else
		slot_cool(p, slot);
}

static int cool_one(struct pool *p)
{
	struct pool_shared *s = p->p_shared;

	if (s->ps_nwarm == 0)
		return 0;
	slot_cool(p, s->ps_warm[--s->ps_nwarm]);
	return 1;
}

/* An empty segment in that slot. */
static uint32_t seg_new(struct pool_shared *s, uint32_t slot, uint32_t state)
{
	uint32_t i = s->ps_segfree;

	if (i != NONE)
		s->ps_segfree = segs(s)[i].s_next;
	else if (s->ps_segnext < s->ps_nsegs)
		i = s->ps_segnext++;
	else
		return NONE;
	struct segment *g = &segs(s)[i];

	_Static_assert(offsetof(struct segment, s_state) == 0, "all but the state is cleared");
	__builtin_memset((char *)g + sizeof g->s_state, 0, sizeof *g - sizeof g->s_state);
	g->s_slot = slot;
	g->s_block = g->s_next = g->s_prev = NONE;
	set_state(g, state);
	return i;
}

uint32_t pool_seg_new_locked(struct pool *p, uint32_t state)
{
	uint32_t slot = pool_slot_take_locked(p), i = slot != NONE ? seg_new(p->p_shared, slot, state) : NONE;

	if (i == NONE && slot != NONE)
		pool_slot_give_locked(p, slot);
	return i;
}

void pool_dequeue_locked(struct pool_shared *s, struct list *l, uint32_t i)
{
	struct segment *g = &segs(s)[i];

	if (g->s_prev != NONE)
		segs(s)[g->s_prev].s_next = g->s_next;
	else
		l->first = g->s_next;
	if (g->s_next != NONE)
		segs(s)[g->s_next].s_prev = g->s_prev;
	else
		l->last = g->s_prev;
}

void pool_enqueue_locked(struct pool_shared *s, struct list *l, uint32_t i)
{
	struct segment *g = &segs(s)[i];

	g->s_next = NONE;
	g->s_prev = l->last;
	if (l->last != NONE)
		segs(s)[l->last].s_next = i;
	else
		l->first = i;
	l->last = i;
}

static void seal(struct pool_shared *s, uint32_t i)
{
	set_state(&segs(s)[i], SEG_SEALED);
	pool_enqueue_locked(s, &s->ps_sealed[segs(s)[i].s_old], i);
}

void pool_seg_free_locked(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs(s)[i];

	if (g->s_state == SEG_SEALED)
		pool_dequeue_locked(s, &s->ps_sealed[g->s_old], i);
	if (g->s_state == SEG_YOUNG)
		pool_young_remove_locked(s, i);
	if (g->s_slot != NONE)
		pool_slot_give_locked(p, g->s_state == SEG_FILED ? pool_uncache_locked(s, i) : g->s_slot);
	if (g->s_block != NONE) {
		pool_block_give_locked(s, g->s_block);
	}
	set_state(g, SEG_FREE);
	g->s_next = s->ps_segfree;
	s->ps_segfree = i;
}

void pool_seg_empty_locked(struct pool *p, uint32_t i)
{
	struct segment *g = &segs(p->p_shared)[i];

	if (g->s_state == SEG_OPEN || i == p->p_shared->ps_open[OPEN_YOUNG])
		g->s_used = 0;
	else if (g->s_state == SEG_SEALED || ((g->s_state == SEG_FILED || g->s_state == SEG_YOUNG) && g->s_fetch == 0))
		pool_seg_free_locked(p, i);
}

/* Segment i has room. */
void pool_append_locked(struct pool_shared *s, uint32_t i, uint32_t object, const char *data, uint32_t len)
{
	struct segment *g = &segs(s)[i];
	struct object *o = &objects(s)[object];
	struct header h = { object, len };
	char *at = slot_mem(s, g->s_slot) + g->s_used;

	__builtin_memcpy(at, &h, sizeof h);
	__builtin_memcpy(at + sizeof h, data, len);
	s->ps_move.seg = o->o_seg == NONE ? NEW : o->o_seg;
	s->ps_move.off = o->o_off;
	s->ps_move.len = o->o_len;
	BARRIER();
	s->ps_move.object = object;
	BARRIER();
	__atomic_store_n(&o->o_seg, i, __ATOMIC_RELAXED); /* pool_takes_memory looks */
	o->o_off = (uint16_t)(g->s_used + sizeof h);
	o->o_len = (uint16_t)len;
	g->s_left = g->s_used == 0 ? o->o_left : g->s_left + (uint32_t)((int32_t)(o->o_left - g->s_left) / LEFT_MEAN);
	g->s_used += footprint(len);
	g->s_live += footprint(len);
	BARRIER();
	s->ps_move.object = 0;
}

static int fits(const struct pool_shared *s, uint32_t i, uint32_t bytes)
{
	return i != NONE && segs((struct pool_shared *)(uintptr_t)s)[i].s_used + bytes <= SEG_BYTES;
}

/* The open segment of old pages is replaced by an empty one from the slots kept back for this. */
static int reopen(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t full = s->ps_open[OPEN_OLD], i = pool_seg_new_locked(p, SEG_OPEN);

	if (i == NONE)
		return 0;
	segs(s)[i].s_old = 1;
	s->ps_open[OPEN_OLD] = i;
	if (full != NONE)
		seal(s, full);
	return 1;
}

/*
 * The live objects of sealed segment i are appended to open ones. Those are kept apart from what is stored now, which is
 * likelier to be wanted soon: so old pages gather in few segments, which are written, and the others empty by themselves.
 */
static int compact(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs(s)[i];
	char *mem = slot_mem(s, g->s_slot);

	for (uint32_t at = 0; at < g->s_used;) {
		struct header h;

		__builtin_memcpy(&h, mem + at, sizeof h);
		const struct object *o = &objects(s)[h.h_object];
		if (o->o_ref > 0 && o->o_seg == i && o->o_off == at + sizeof h) {
			if (!fits(s, s->ps_open[OPEN_OLD], footprint(h.h_len)) && !reopen(p))
				return 0;
			pool_append_locked(s, s->ps_open[OPEN_OLD], h.h_object, mem + at + sizeof h, h.h_len);
			g->s_live -= footprint(h.h_len);
		}
		at += footprint(h.h_len);
	}
	pool_seg_free_locked(p, i);
	s->ps_stats.compactions++;
	return 1;
}

static void io_ended(struct pool_shared *s)
{
	s->ps_io++;
	(void)sys_call6(SYS_futex, (long)&s->ps_io, 1 /* FUTEX_WAKE */, 0x7fffffff, 0, 0, 0);
}

uint32_t pool_block_take_locked(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t block =
	    p->p_fd < 0 ? NONE : pop(s, s->ps_blockfree, &s->ps_nblockfree, &s->ps_blocknext, s->ps_nblocks);

	if (block == NONE && p->p_fd >= 0)
		block = pool_quarantine_end_locked(s);
	if (block != NONE)
		s->ps_blocks_used++;
	return block;
}

void pool_block_give_locked(struct pool_shared *s, uint32_t block)
{
	push(s, s->ps_blockfree, &s->ps_nblockfree, block);
	s->ps_blocks_used--;
}

int pool_write_begin_locked(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	uint32_t block = pool_block_take_locked(p);

	if (block == NONE)
		return -ENOSPC;
	pool_dequeue_locked(s, &s->ps_sealed[segs(s)[i].s_old], i);
	segs(s)[i].s_block = block;
	segs(s)[i].s_async = 0;
	pool_begin_locked(p, i);
	return 0;
}

void pool_write_end_locked(struct pool *p, uint32_t i, int rc)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs(s)[i];

	io_ended(s);
	if (rc != 0) {
		if (rc == -EIO) /* the next try is elsewhere */
			pool_block_set_aside_locked(s, g->s_block);
		else
			pool_block_give_locked(s, g->s_block);
		g->s_block = NONE;
		s->ps_stats.write_errors += rc != -EAGAIN;
		seal(s, i);
	} else {
		g->s_spilled = (uint32_t)s->ps_stats.spills++;
		BARRIER();
		set_state(g, SEG_FILED);
		pool_slot_give_locked(p, g->s_slot);
		g->s_slot = NONE;
	}
	if (g->s_live == 0)
		pool_seg_free_locked(p, i);
	if (s->ps_stats.pages == s->ps_stats.same_filled)
		pool_close_locked(p);
}

int pool_write_sync_locked(struct pool *p, uint32_t i)
{
	struct segment *g = &segs(p->p_shared)[i];
	int rc;

	pool_begin_locked(p, i);
	set_state(g, SEG_WRITING);
	pool_unlock(p->p_shared);
	rc = pool_file_io(p, 1, slot_mem(p->p_shared, g->s_slot), (uint64_t)g->s_block * SEG_BYTES, SEG_BYTES);
	pool_lock(p);
	pool_write_end_locked(p, i, rc);
	if (rc == 0)
		p->p_sync = 0;
	return rc;
}

/* Writes sealed segment i to the file. Lock held; dropped during the write. 0, -ENOSPC, -EIO. */
static int spill(struct pool *p, uint32_t i)
{
	int rc = pool_write_begin_locked(p, i);

	return rc != 0 ? rc : pool_write_sync_locked(p, i);
}

/*
 * The sealed segment in memory that is cheapest to clean, or NONE when all are dense. Objects are dropped when they are
 * loaded, so segments empty in no order: writing the oldest would send live pages to the file while memory is full of dead ones.
 */
static uint32_t cleanable(struct pool_shared *s)
{
	uint32_t best = NONE, max = DENSE;

	for (unsigned old = 0; old < 2; old++) {
		uint32_t seen = 0;

		for (uint32_t i = s->ps_sealed[old].first; i != NONE && (seen++ < LOOKS || max > WORTH);
		     i = segs(s)[i].s_next)
			if (segs(s)[i].s_live < max) {
				best = i;
				max = segs(s)[i].s_live;
			}
	}
	pool_tell(&s->ps_full, best == NONE || max > SEG_BYTES / 4 * 3);
	return best;
}

/* The sealed segment to be written first, or NONE: whose pages have been out of the frames the longest. */
static uint32_t oldest(const struct pool_shared *s)
{
	const struct segment *g = segs((struct pool_shared *)(uintptr_t)s);
	uint32_t a = s->ps_sealed[0].first, b = s->ps_sealed[1].first;

	return a == NONE || (b != NONE && (int32_t)(g[b].s_left - g[a].s_left) < 0) ? b : a;
}

/* Slots in use, and how many may be before something is written: without those of young pages, which have their own. */
static uint32_t log_used(const struct pool_shared *s)
{
	return s->ps_slots_used - s->ps_nwarm - s->ps_nyoung - (s->ps_open[OPEN_YOUNG] != NONE);
}

static uint32_t log_limit(const struct pool_shared *s) { return pool_target(s) - pool_young_most(s); }

/* How many slots should be free, or be so when what is being written is written. */
static uint32_t headroom(const struct pool_shared *s)
{
	return pool_target(s) / 16 < POOL_WRITES ? pool_target(s) / 16 : POOL_WRITES;
}

/* Starts writes so that there will be memory when it is wanted. Drops the lock. */
static void write_behind(struct pool *p)
{
	struct pool_shared *s = p->p_shared;

	if (p->p_ring == NULL)
		return;
	(void)pool_reap_locked(p, 0);
	for (;;) {
		uint32_t n = pool_inflight(p), i = oldest(s);

		if (i == NONE || n >= POOL_WRITES || log_used(s) + headroom(s) <= log_limit(s) + n)
			return;
		uint32_t c = cleanable(s);

		if ((c == NONE || !compact(p, c)) && pool_write_start_locked(p, i) != 0)
			return;
	}
}

/* The segment in that state with the fewest live bytes, at most max, or NONE. */
static uint32_t emptiest(struct pool_shared *s, uint32_t state, uint32_t max)
{
	uint32_t best = NONE;

	for (uint32_t i = 0; i < s->ps_segnext; i++)
		if (segs(s)[i].s_state == state && segs(s)[i].s_live <= max && segs(s)[i].s_fetch == 0 &&
		    segs(s)[i].s_bad == 0) {
			best = i;
			max = segs(s)[i].s_live;
		}
	return best;
}

/* What was read from the file is what was written: each live object of segment i is found in mem, with its own bytes. */
static int intact(struct pool_shared *s, uint32_t i, const char *mem)
{
	const struct segment *g = &segs(s)[i];
	uint32_t live = 0;

	for (uint32_t at = 0; at + sizeof(struct header) <= g->s_used;) {
		struct header h;

		__builtin_memcpy(&h, mem + at, sizeof h);
		if (h.h_object >= s->ps_objnext || h.h_len == 0 || h.h_len > PAGE ||
		    at + footprint(h.h_len) > g->s_used)
			return 0;
		const struct object *o = &objects(s)[h.h_object];
		if (o->o_ref > 0 && o->o_seg == i && o->o_off == at + sizeof h) {
			if (o->o_len != h.h_len || pool_checksum(mem + at + sizeof h, h.h_len) != o->o_word)
				return 0;
			live += footprint(h.h_len);
		}
		at += footprint(h.h_len);
	}
	return live == g->s_live;
}

/* Fetches the emptiest segment of the file back and compacts it: its block is free then. Lock dropped during the read. */
static int reclaim_block(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = p->p_fd < 0 ? NONE : emptiest(s, SEG_FILED, SEG_BYTES / 4 * 3), slot;

	if (i == NONE)
		return -ENOSPC;
	struct segment *g = &segs(s)[i];
	slot = g->s_slot != NONE ? pool_uncache_locked(s, i) : pool_slot_take_locked(p);
	if (slot == NONE)
		return -ENOSPC;
	g->s_next = slot;
	pool_begin_locked(p, i);
	set_state(g, SEG_READING);
	pool_unlock(s);
	int rc = pool_file_io(p, 0, slot_mem(s, slot), (uint64_t)g->s_block * SEG_BYTES, SEG_BYTES);
	pool_lock(p);
	io_ended(s);
	if (rc == 0 && !intact(s, i, slot_mem(s, slot))) {
		g->s_bad = 1;
		rc = -EIO;
	}
	if (rc != 0) {
		set_state(g, SEG_FILED);
		pool_slot_give_locked(p, slot);
		if (g->s_live == 0)
			pool_seg_free_locked(p, i);
		return -ENOSPC;
	}
	g->s_slot = slot;
	uint32_t block = g->s_block;
	seal(s, i);
	g->s_block = NONE;
	pool_block_give_locked(s, block);
	if (g->s_live == 0)
		pool_seg_free_locked(p, i);
	else
		(void)compact(p, i);
	return 0;
}

/* Waits for a segment that somebody else writes or reads. -ENOSPC: nobody does. Lock dropped meanwhile. */
static int wait_io(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	struct { long s, ns; } soon = { 0, 50000000 };

	for (uint32_t i = 0; i < s->ps_segnext; i++) {
		struct segment *g = &segs(s)[i];

		if (g->s_state != SEG_WRITING && g->s_state != SEG_READING)
			continue;
		if (pool_orphan(g)) {
			pool_abandon_locked(s, g);
			pool_repair_locked(p);
			return 0;
		}
		uint32_t io = s->ps_io;
		pool_unlock(s);
		long r = sys_call6(SYS_futex, (long)&s->ps_io, 0 /* FUTEX_WAIT */, (long)(int)io, (long)&soon, 0, 0);
		pool_lock(p);
		if (r == -ETIMEDOUT && g->s_state == SEG_WRITING && g->s_async != 0)
			(void)pool_steal_locked(p, i); /* its writer does not come to collect the result */
		return 0;
	}
	return -ENOSPC;
}

/* Makes room for one more segment in memory. One with dead space is compacted; if there is none the oldest is written. Full: compacts what it can. */
static int make_room(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = cleanable(s), slot;
	int rc = -ENOSPC;

	if (i != NONE && compact(p, i))
		return 0;
	if (pool_reap_locked(p, 0) > 0)
		return 0;
	while ((i = oldest(s)) != NONE && pool_inflight(p) < 2 && pool_write_start_locked(p, i) == 0)
		; /* one is ready when the other has been waited for */
	if (pool_reap_locked(p, 1) > 0)
		return 0;
	i = oldest(s);
	if (i != NONE && (rc = spill(p, i)) != -ENOSPC)
		return rc;
	i = emptiest(s, SEG_SEALED, SEG_BYTES / 8 * 7);
	if (i != NONE && compact(p, i))
		return 0;
	if (oldest(s) != NONE && reclaim_block(p) == 0) /* there is something to write, but no block for it */
		return 0;
	if ((slot = pool_cache_evict_locked(p)) != NONE) {
		pool_slot_give_locked(p, slot);
		return 0;
	}
	return wait_io(p);
}

int pool_shrink(struct pool *p, uint64_t bytes)
{
	struct pool_shared *s = p->p_shared;
	int rc = 0;

	pool_lock(p);
	uint32_t n = (uint32_t)up(bytes, SEG_BYTES) / SEG_BYTES, to = s->ps_slots_used > n ? s->ps_slots_used - n : 0;
	for (uint32_t tries = 0; rc == 0 && s->ps_slots_used > to && tries < s->ps_nslots * 4; tries++) {
		uint32_t slot;

		if (cool_one(p))
			continue;
		if ((slot = pool_cache_evict_locked(p)) != NONE)
			pool_slot_give_locked(p, slot);
		else
			rc = make_room(p);
	}
	while (s->ps_slots_used > to && cool_one(p))
		;
	if (rc == 0 && s->ps_slots_used > to)
		rc = -ENOSPC;
	pool_unlock(s);
	return rc;
}

/* If it cannot be written now it waits its turn in memory. Drops the lock. */
static void write_raw(struct pool *p, uint32_t i)
{
	if (pool_write_start_locked(p, i) == -EAGAIN && pool_inflight(p) == 0 &&
	    segs(p->p_shared)[i].s_state == SEG_SEALED)
		(void)spill(p, i);
}

int pool_open_locked(struct pool *p, unsigned kind, uint32_t bytes)
{
	struct pool_shared *s = p->p_shared;
	int rc = 0, tries = 0;

	while (!fits(s, s->ps_open[kind], bytes)) {
		uint32_t full = s->ps_open[kind], slot = NONE;

		if (full != NONE) {
			s->ps_open[kind] = NONE;
			seal(s, full);
			if (segs(s)[full].s_live == 0)
				pool_seg_free_locked(p, full);
			else if (kind == OPEN_RAW)
				write_raw(p, full);
			continue;
		}
		write_behind(p);
		if (s->ps_open[kind] != full) /* somebody else opened one while the lock was dropped */
			continue;
		if (log_used(s) < log_limit(s))
			slot = pool_slot_take_locked(p);
		if (slot == NONE) {
			if (((rc = make_room(p)) != 0 && !pool_raise_locked(s)) || ++tries > 1000)
				return rc != 0 ? rc : -ENOSPC;
			continue;
		}
		if (s->ps_open[kind] != NONE) { /* somebody else opened one while the lock was dropped */
			pool_slot_give_locked(p, slot);
			continue;
		}
		uint32_t i = seg_new(s, slot, SEG_OPEN);
		if (i == NONE) {
			pool_slot_give_locked(p, slot);
			return -ENOSPC;
		}
		s->ps_open[kind] = i;
	}
	return 0;
}

static void close_open(struct pool *p, unsigned kind)
{
	uint32_t i = p->p_shared->ps_open[kind];

	p->p_shared->ps_open[kind] = NONE;
	if (i != NONE)
		pool_seg_free_locked(p, i);
}

void pool_close_locked(struct pool *p)
{
	close_open(p, OPEN_PACKED);
	close_open(p, OPEN_OLD);
	close_open(p, OPEN_RAW);
	pool_young_close_locked(p);
	while (cool_one(p))
		;
}
