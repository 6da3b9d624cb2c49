/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a budget is divided between frames and pool, where they share it (`quire run`).
 *
 * The pool takes memory as it fills, and the number of frames follows (host_balance): the pool
 * never holds memory that it does not need. The only question is the size at which the pool writes
 * to the file instead of growing: ps_target. ps_target starts at the most that the pool may take,
 * since packed memory answers several times as fast as a file, and falls when frames are worth
 * more.
 *
 * A page of memory more for frames saves some faults; given to the pool it saves some reads of the
 * file, each several times as long, but of as many pages as it holds packed. Which saving is larger
 * depends on the program and changes over time: a program that scans all its memory in turn gains
 * nothing from a few more frames; a program whose working set just does not fit gains most. So both
 * savings are measured, as a cache is divided by marginal utility (Stone, Turek and Wolf, IEEE
 * Trans. Computers 41(9), 1992; with the queue's end as the estimate: ARC, Megiddo and Modha, FAST
 * 2003):
 *
 *  - More frames. A page that is loaded when fewer than `near` other pages have been evicted since
 *    its own eviction would not have been evicted with `near` more frames. That would have saved
 *    the fault, and the read if there was one. o_left records the time of the eviction.
 *  - A larger pool. A page that is read from a segment after fewer than `near` other segments were
 *    written since would have been in memory if the pool had been larger by `near`. That would
 *    have saved the read. s_spilled records the time of the write.
 *  - A smaller pool. A page that is loaded from memory and was evicted nearly as long ago as the
 *    oldest page in memory would be in the file if the pool were smaller by `near`. That would
 *    have cost a read.
 *
 * The sums are taken over some loads and halved after each decision. The target falls a step if
 * frames save a quarter more than a smaller pool would cost; it rises a step if a larger pool saves
 * a quarter more than frames do. Else it stays. When the file is full, the target rises whatever
 * the sums tell, up to its limit.
 *
 * What a fault costs without the read is a constant here (docs/measurements.md): only its ratio to
 * a read matters, and reads are timed.
 *
 * Lock: ps_lock for sums and decisions; o_left, ps_left, ps_target and ps_read_ns are atomics, as hints.
 */
#include "store/pool_impl.h"

#define FAULT_NS 25000u
#define SHARES 24u /* this fraction of the limit is `near` */
#define STEPS 64u  /* number of steps from zero to the limit */
#define CLEARLY 4u
#define ASK 1024u   /* loads between decisions, at least, */
#define ASK_STEP 4u /* and this many times the pages of a step */

void pool_left(struct pool_shared *s, uint32_t handle)
{
	uint32_t now = __atomic_add_fetch(&s->ps_left, 1, __ATOMIC_RELAXED);

	__atomic_store_n(&objects_of(s)[handle].o_left, now, __ATOMIC_RELAXED);
}

void pool_dropped(struct pool *p, uint32_t handle) { pool_left(p->p_shared, handle); }

/* Uses the median: scheduling delay inflates single samples, and says nothing about the disk. */
void pool_read_took(struct pool_shared *s, uint64_t ns)
{
	uint64_t was = __atomic_load_n(&s->ps_read_ns, __ATOMIC_RELAXED);

	__atomic_store_n(
	    &s->ps_read_ns, ns > was ? was + was / 32 + 1 : was - was / 32, __ATOMIC_RELAXED);
}

static uint32_t share_step(const struct pool_shared *s) { return s->ps_limit / STEPS + 1; }

/*
 * Lowers the target, starting from the memory held if that is less: lowering a target that the pool
 * does not reach would free nothing.
 */
static void lower_locked(struct pool_shared *s, uint32_t by)
{
	uint32_t now = pool_target(s), held = s->ps_held / SEG_PAGES + 1;

	POOL_ASSERT(pool_held(s));
	if (held < now)
		now = held < s->ps_floor ? s->ps_floor : held;
	__atomic_store_n(
	    &s->ps_target, now - s->ps_floor > by ? now - by : s->ps_floor, __ATOMIC_RELAXED);
}

bool pool_raise_locked(struct pool_shared *s)
{
	uint32_t now = pool_target(s);

	POOL_ASSERT(pool_held(s));
	if (now == s->ps_limit)
		return false;
	__atomic_store_n(&s->ps_target,
	    s->ps_limit - now > share_step(s) ? now + share_step(s) : s->ps_limit,
	    __ATOMIC_RELAXED);
	return true;
}

/* The target falls faster when the sums leave no doubt. */
static void decide_share(struct pool_shared *s)
{
	uint64_t frames = s->ps_more_frames;

	if (frames > CLEARLY * s->ps_less_pool)
		lower_locked(s, CLEARLY * share_step(s));
	else if (frames > s->ps_less_pool + s->ps_less_pool / 4)
		lower_locked(s, share_step(s));
	else if (s->ps_more_pool > frames + frames / 4)
		(void)pool_raise_locked(s);
	s->ps_more_frames /= 2;
	s->ps_more_pool /= 2;
	s->ps_less_pool /= 2;
	s->ps_asked = 0;
}

/* Would the object, which is in memory, be in the file if the log had `near` segments less? */
static bool among_oldest(
    const struct pool_shared *s, const struct object *o, uint32_t now, uint32_t near)
{
	uint32_t i = pool_oldest(s), held = s->ps_held / SEG_PAGES, age = now - o->o_left, most;

	if (i == NONE || segs_of((struct pool_shared *)(uintptr_t)s)[o->o_seg].s_state == SEG_YOUNG)
		return false;
	most = now - segs_of((struct pool_shared *)(uintptr_t)s)[i].s_left;
	return held <= near || age >= most - (uint32_t)((uint64_t)most * near / held);
}

void pool_wanted_locked(struct pool_shared *s, const struct object *o, bool io)
{
	uint32_t near = s->ps_limit / SHARES + 1,
		 now = __atomic_load_n(&s->ps_left, __ATOMIC_RELAXED);
	uint64_t read = __atomic_load_n(&s->ps_read_ns, __ATOMIC_RELAXED);

	POOL_ASSERT(pool_held(s));
	if (!pool_shares(s))
		return;
	if (now - o->o_left < near * SEG_PAGES)
		s->ps_more_frames += FAULT_NS + (io ? read : 0);
	else if (io && (uint32_t)s->ps_stats.spills - segs_of(s)[o->o_seg].s_spilled < near)
		s->ps_more_pool += read;
	if (!io && among_oldest(s, o, now, near))
		s->ps_less_pool += read;
	if (++s->ps_asked >= ASK && s->ps_asked >= ASK_STEP * share_step(s) * SEG_PAGES)
		decide_share(s);
}
