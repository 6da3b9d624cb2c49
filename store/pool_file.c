/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The swap file: bytes read and written, whole segments written to it and read back.
 *
 * A sealed segment is written as it is, as far as it is filled: one sequential write of many pages that left memory one after the other. While
 * it is being written (WRITING) its memory stays and is read from. A block that could not be written is set aside
 * (pool_ring.c), and the segment is sealed again.
 *
 * Lock: ps_lock; dropped during reads and writes.
 */
#include "store/pool_impl.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>

bool pool_file_limited(const struct pool *p)
{
	struct rlimit rl;

	return sys_call4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&rl) == 0 &&
	    rl.rlim_cur != RLIM_INFINITY &&
	    rl.rlim_cur < (uint64_t)p->p_shared->ps_fileblocks * SEG_BYTES;
}

/*
 * RLIMIT_FSIZE is the program's, meant for its own files; a single thread cannot have another
 * limit. A write through a mapping is not subject to the limit, but is safe only if the space is
 * known to exist: a write to a hole on a full disk raises SIGBUS.
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
	if (sys_failed(to))
		return -EIO;
	memcpy((void *)to, mem, n);
	r = sys_call3(SYS_msync, to, (long)n, MS_SYNC);
	(void)sys_call2(SYS_munmap, to, (long)n);
	/* makes the next read come from the disk, not from the kernel's cache */
	(void)sys_call4(SYS_fadvise64, p->p_fd, (long)at, (long)n, POSIX_FADV_DONTNEED);
	if (r == 0 || r == -ENOSPC)
		return (int)r;
	return -EIO;
}

/*
 * Another thread of the program has lowered the limit during the call. The resulting signal is
 * meant for this write, so the program must not get it.
 */
static int write_after_all(struct pool *p, const void *mem, uint64_t at, uint32_t n)
{
	uint64_t set = 1ull << (SIGXFSZ - 1);
	long none[2] = { 0, 0 };

	(void)sys_call4(SYS_rt_sigtimedwait, (long)&set, 0, (long)none, sizeof set);
	return write_mapped(p, mem, at, n);
}

int pool_file_io(struct pool *p, int write, void *mem, uint64_t at, uint32_t n)
{
	const struct far_place *far = pool_far_of(p->p_shared, (uint32_t)(at / SEG_BYTES));
	bool mapped = write && far == NULL && pool_file_limited(p);
	int rc;
	bool timed = !write && pool_shares(p->p_shared);
	uint64_t begun = timed ? pool_now() : 0;

	pool_pace(p, n);
	if (pool_injected(p, POOL_INJECT_KILL))
		(void)sys_call2(SYS_kill, sys_call0(SYS_getpid), 9);
	if (pool_injected(p, write ? POOL_INJECT_WRITE : POOL_INJECT_READ))
		return -EIO;
	if (far != NULL && (rc = pool_far_io(p, far, write, mem, at, n)) != 0)
		return rc;
	if (mapped && (rc = write_mapped(p, mem, at, n)) != 0)
		return rc;
	for (uint32_t done = mapped || far != NULL ? n : 0; done < n;) {
		long r = sys_call4(write ? SYS_pwrite64 : SYS_pread64, p->p_fd, (long)mem + done,
		    (long)(n - done), (long)(at + done));

		if (r > 0)
			done += (uint32_t)r;
		else if (r == -EFBIG && write && write_after_all(p, mem, at, n) == 0)
			done = n;
		else if (r != -EINTR)
			return write && (r == 0 || r == -ENOSPC) ? -ENOSPC : -EIO;
	}
	if (timed)
		pool_read_took(p->p_shared, pool_now() - begun);
	(void)__atomic_add_fetch(
	    write ? &p->p_shared->ps_stats.bytes_written : &p->p_shared->ps_stats.bytes_read, n,
	    __ATOMIC_RELAXED);
	return 0;
}

/* ---- writing ---- */
static void io_ended(struct pool_shared *s)
{
	s->ps_io++;
	(void)sys_call6(SYS_futex, (long)&s->ps_io, 1 /* FUTEX_WAKE */, 0x7fffffff, 0, 0, 0);
}

int pool_write_begin_locked(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	uint32_t block = pool_block_take_locked(p);

	POOL_ASSERT(pool_held(s));
	if (block == NONE)
		return -ENOSPC;
	pool_unseal_locked(s, i);
	segs_of(s)[i].s_block = block;
	segs_of(s)[i].s_async = 0;
	pool_begin_locked(p, i);
	return 0;
}

void pool_write_end_locked(struct pool *p, uint32_t i, int rc)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs_of(s)[i];

	POOL_ASSERT(pool_held(s));
	io_ended(s);
	if (rc != 0) {
		if (rc == -ENOSPC)
			pool_block_full_locked(s, g->s_block);
		if (rc == -EIO) /* the next try uses another block */
			pool_block_set_aside_locked(s, g->s_block);
		else
			pool_block_give_locked(s, g->s_block);
		g->s_block = NONE;
		s->ps_stats.write_errors += rc != -EAGAIN;
		pool_seal_locked(s, i);
	} else {
		struct warm w = { g->s_slot, g->s_pages };

		pool_block_stored_locked(s, g->s_block);
		g->s_spilled = (uint32_t)s->ps_stats.spills++;
		s->ps_packed -= g->s_packed;
		BARRIER();
		set_state(g, SEG_FILED);
		g->s_slot = NONE;
		g->s_pages = 0;
		pool_slot_give_locked(p, w);
	}
	if (g->s_live == 0)
		pool_seg_free_locked(p, i);
	if (s->ps_stats.pages == s->ps_stats.same_filled)
		pool_close_locked(p);
}

int pool_write_sync_locked(struct pool *p, uint32_t i)
{
	struct segment *g = &segs_of(p->p_shared)[i];
	int rc;

	POOL_ASSERT(pool_held(p->p_shared));
	pool_begin_locked(p, i);
	set_state(g, SEG_WRITING);
	pool_unlock(p->p_shared);
	rc = pool_file_io(p, 1, slot_mem(p->p_shared, g->s_slot), (uint64_t)g->s_block * SEG_BYTES,
	    pool_seg_bytes(g));
	pool_lock(p);
	pool_write_end_locked(p, i, rc);
	if (rc == 0)
		p->p_sync = 0;
	return rc;
}

int pool_spill_locked(struct pool *p, uint32_t i)
{
	int rc = pool_write_begin_locked(p, i);

	POOL_ASSERT(pool_held(p->p_shared));
	return rc != 0 ? rc : pool_write_sync_locked(p, i);
}

/* ---- reading back ---- */

/*
 * Checks that the segment read from the file is the segment written: mem has each live object of
 * segment i, with the right checksum.
 */
static int segment_intact(struct pool_shared *s, uint32_t i, const char *mem)
{
	const struct segment *g = &segs_of(s)[i];
	uint32_t live = 0;

	for (uint32_t at = 0; at + sizeof(struct header) <= g->s_used;) {
		struct header h;

		__builtin_memcpy(&h, mem + at, sizeof h);
		if (h.h_object >= s->ps_objx.x_next || h.h_len == 0 || h.h_len > PAGE ||
		    at + object_bytes(h.h_len) > g->s_used)
			return 0;
		const struct object *o = &objects_of(s)[h.h_object];
		if (o->o_ref > 0 && o->o_seg == i && o->o_off == at + sizeof h) {
			if (o->o_len != h.h_len ||
			    pool_checksum(mem + at + sizeof h, h.h_len) != o->o_word)
				return 0;
			live += object_bytes(h.h_len);
		}
		at += object_bytes(h.h_len);
	}
	return live == g->s_live;
}

/* Gives filed segment i a new slot into which the whole segment is read. */
static bool reclaim_begin(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs_of(s)[i];
	struct warm w;

	if (g->s_slot != NONE)
		w = pool_uncache_locked(s, i);
	else if (!pool_slot_take_locked(p, &w))
		return false;
	g->s_next = w.w_slot;
	g->s_pages = w.w_pages;
	pool_begin_locked(p, i);
	BARRIER();
	set_state(g, SEG_READING);
	return pool_touch_locked(p, i, 0, pool_seg_bytes(g) / PAGE);
}

/* The segment was not read, or differs from what was written. */
static void reclaim_undo(struct pool *p, uint32_t i)
{
	struct segment *g = &segs_of(p->p_shared)[i];
	struct warm w = { g->s_next, g->s_pages };

	set_state(g, SEG_FILED);
	BARRIER();
	g->s_pages = 0;
	pool_slot_give_locked(p, w);
	if (g->s_live == 0)
		pool_seg_free_locked(p, i);
}

int pool_fetch_back_locked(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs_of(s)[i];
	int rc = reclaim_begin(p, i) ? 0 : -ENOSPC;

	POOL_ASSERT(pool_held(s));
	if (rc == 0) {
		pool_unlock(s);
		rc = pool_file_io(p, 0, slot_mem(s, g->s_next), (uint64_t)g->s_block * SEG_BYTES,
		    pool_seg_bytes(g));
		pool_lock(p);
		io_ended(s);
	}
	if (rc == 0 && !segment_intact(s, i, slot_mem(s, g->s_next))) {
		g->s_bad = 1;
		rc = -EIO;
	}
	if (rc != 0) {
		if (g->s_state == SEG_READING)
			reclaim_undo(p, i);
		return rc;
	}
	uint32_t block = g->s_block;
	g->s_slot = g->s_next;
	s->ps_packed += g->s_packed;
	pool_seal_locked(s, i);
	g->s_block = NONE;
	pool_block_give_locked(s, block);
	if (g->s_live == 0)
		pool_seg_free_locked(p, i);
	return 0;
}
