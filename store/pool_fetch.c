/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads whose begin and end are separate calls, in a store that one process uses alone.
 *
 * pool_load_begin() sends all reads that a vector of pages needs at once, into the slots of the
 * cache (pool_cache.c); the thread does other work and later calls pool_load_end(). Each load has
 * its own context, so a thread never waits for a completion that another thread collected. A page
 * that could not be read is left to pool_load_vec(), which tries once more and reports the error.
 *
 * Lock: a load belongs to the thread that began it (l_busy, taken atomically). The segments it reads have s_fetch set, which
 * keeps slot and block.
 */
#include "store/pool_aio.h"
#include "store/pool_impl.h"
#include "sys/linux/own.h"

#define FETCHES POOL_AIO_MOST /* segments of one load */

struct fetch {
	uint32_t f_seg, f_from, f_to; /* pages [from, to) of the segment */
	uint32_t f_ticket; /* ticket of a read from a far place, + 1; 0: a read of the file */
	int f_rc;
};

struct load {
	uint32_t l_busy;
	/* number of fetches; fetches in flight; pages that they bring */
	uint32_t l_n, l_sent, l_missing;
	uint64_t l_aio;
	struct fetch l_fetch[FETCHES];
	struct iocb l_iocb[FETCHES];
};

struct pool_aio {
	struct load a_load[POOL_LOADS];
	struct patience a_patience;
};

void pool_fetch_close(struct pool *p)
{
	struct pool_aio *a = p->p_aio;

	p->p_aio = NULL;
	if (a == NULL)
		return;
	for (uint32_t i = 0; i < POOL_LOADS; i++)
		pool_aio_destroy(a->a_load[i].l_aio);
	(void)sys_call2(SYS_munmap, (long)a, (long)round_up(sizeof *a, PAGE));
}

int pool_fetch_open(struct pool *p)
{
	long m = sys_map_own(round_up(sizeof(struct pool_aio), PAGE), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc = 0;

	if (sys_failed(m))
		return (int)m;
	struct pool_aio *a = (struct pool_aio *)m;
	p->p_aio = a;
	for (uint32_t i = 0; i < POOL_LOADS && rc == 0; i++)
		rc = pool_aio_setup(FETCHES, &a->a_load[i].l_aio);
	if (rc != 0)
		pool_fetch_close(p);
	return rc;
}

static struct load *load_take(struct pool *p)
{
	for (uint32_t i = 0; i < POOL_LOADS; i++) {
		struct load *l = &p->p_aio->a_load[i];

		if (__atomic_load_n(&l->l_busy, __ATOMIC_RELAXED) == 0 &&
		    __atomic_exchange_n(&l->l_busy, 1, __ATOMIC_ACQUIRE) == 0) {
			l->l_n = l->l_sent = l->l_missing = 0;
			return l;
		}
	}
	return NULL;
}

/* Adds that object to the load. False: no more. */
static bool want_locked(struct pool *p, struct load *l, const struct object *o)
{
	uint32_t from = o->o_off / PAGE, to = ((uint32_t)o->o_off + o->o_len - 1) / PAGE + 1, i = 0;

	POOL_ASSERT(pool_held(p->p_shared));
	while (i < l->l_n && l->l_fetch[i].f_seg != o->o_seg)
		i++;
	if (i == FETCHES)
		return false;
	if (i == l->l_n) {
		/*
		 * another thread reads the segment, or no slot is free: pool_load_vec will read the
		 * page alone
		 */
		if (!pool_fetch_begin_locked(p, o->o_seg))
			return true;
		l->l_fetch[l->l_n++] =
		    (struct fetch){ .f_seg = o->o_seg, .f_from = from, .f_to = to };
	}
	struct fetch *f = &l->l_fetch[i];
	f->f_from = from < f->f_from ? from : f->f_from;
	f->f_to = to > f->f_to ? to : f->f_to;
	l->l_missing++;
	return true;
}

static void submit_load(struct pool *p, struct load *l)
{
	struct pool_shared *s = p->p_shared;

	bool fails = pool_injected(p, POOL_INJECT_READ);
	uint32_t n = 0, ticket;

	for (uint32_t i = 0; i < l->l_n; i++) {
		struct fetch *f = &l->l_fetch[i];
		const struct segment *g = &segs_of(s)[f->f_seg];
		uint64_t at = (uint64_t)g->s_block * SEG_BYTES + f->f_from * PAGE;
		uint32_t bytes = (f->f_to - f->f_from) * PAGE;

		pool_pace(p, bytes);
		f->f_rc = -EIO; /* the result until the result of the read is known */
		f->f_ticket = 0;
		if (g->s_block < s->ps_fileblocks)
			pool_aio_prepare(&l->l_iocb[n++], 0, p->p_fd,
			    slot_mem(s, g->s_slot) + f->f_from * PAGE, at, bytes, i);
		else if (!fails && pool_far_read_begin(p, at, bytes, &ticket) == 0)
			f->f_ticket = ticket + 1;
	}
	l->l_sent = fails ? 0 : pool_aio_send(l->l_aio, l->l_iocb, n);
}

uint32_t pool_load_begin(struct pool *p, uint32_t n, const uint32_t *handles)
{
	struct pool_shared *s = p->p_shared;
	struct load *l = NULL;

	if (p->p_aio == NULL)
		return 0;
	pool_lock(p);
	for (uint32_t i = 0; i < n; i++) {
		const struct object *o = &objects_of(s)[handles[i]];

		if (o->o_seg == NONE || segs_of(s)[o->o_seg].s_state != SEG_FILED ||
		    pool_resident(&segs_of(s)[o->o_seg], o->o_off, o->o_len))
			continue;
		if ((l == NULL && (l = load_take(p)) == NULL) || !want_locked(p, l, o))
			break;
	}
	for (uint32_t i = 0; l != NULL && i < l->l_n;) {
		struct fetch *f = &l->l_fetch[i];

		if (pool_extent_locked(p, f->f_seg, &f->f_from, &f->f_to)) {
			i++;
			continue;
		}
		/* no memory: pool_load_vec will read the page alone */
		pool_fetch_end_locked(p, f->f_seg, 0, 0, 0);
		*f = l->l_fetch[--l->l_n];
	}
	pool_unlock(s);
	if (l == NULL)
		return 0;
	if (l->l_n == 0) {
		__atomic_store_n(&l->l_busy, 0, __ATOMIC_RELEASE);
		return 0;
	}
	submit_load(p, l);
	return (uint32_t)(l - p->p_aio->a_load) + 1;
}

static bool is_load_read(const void *load)
{
	const struct load *l = load;

	return pool_aio_ready(l->l_aio) >= l->l_sent;
}

static void collect_load(struct pool *p, struct load *l)
{
	struct pool_aio_result res[FETCHES];

	if (l->l_sent > 0)
		patience_look(&p->p_aio->a_patience, is_load_read, l);
	for (uint32_t left = l->l_sent; left > 0;) {
		uint32_t n = pool_aio_collect(l->l_aio, 1, res, FETCHES);

		for (uint32_t i = 0; i < n; i++) {
			struct fetch *f = &l->l_fetch[res[i].data];
			uint32_t bytes = (f->f_to - f->f_from) * PAGE;

			f->f_rc = res[i].res == (int)bytes ? 0 : -EIO;
			if (f->f_rc == 0)
				(void)__atomic_add_fetch(
				    &p->p_shared->ps_stats.bytes_read, bytes, __ATOMIC_RELAXED);
		}
		left -= n;
	}
	for (uint32_t i = 0; i < l->l_n; i++) {
		struct fetch *f = &l->l_fetch[i];
		const struct segment *g = &segs_of(p->p_shared)[f->f_seg];
		uint32_t bytes = (f->f_to - f->f_from) * PAGE;

		if (f->f_ticket == 0)
			continue;
		f->f_rc = pool_far_read_end(p, g->s_block, f->f_ticket - 1,
		    slot_mem(p->p_shared, g->s_slot) + f->f_from * PAGE, bytes);
		if (f->f_rc == 0)
			(void)__atomic_add_fetch(
			    &p->p_shared->ps_stats.bytes_read, bytes, __ATOMIC_RELAXED);
	}
}

int pool_load_ready(struct pool *p, uint32_t ticket)
{
	const struct load *l = &p->p_aio->a_load[ticket - 1];

	for (uint32_t i = 0; i < l->l_n; i++)
		if (l->l_fetch[i].f_ticket != 0 &&
		    !pool_far_ready(p, segs_of(p->p_shared)[l->l_fetch[i].f_seg].s_block,
			l->l_fetch[i].f_ticket - 1))
			return 0;
	return pool_aio_ready(l->l_aio) >= l->l_sent;
}

void pool_load_end(struct pool *p, uint32_t ticket)
{
	struct load *l = &p->p_aio->a_load[ticket - 1];

	collect_load(p, l);
	pool_lock(p);
	for (uint32_t i = 0; i < l->l_n; i++) {
		const struct fetch *f = &l->l_fetch[i];

		pool_fetch_end_locked(p, f->f_seg, f->f_from, f->f_to, f->f_rc);
	}
	pool_fetched_locked(p->p_shared, l->l_missing);
	pool_unlock(p->p_shared);
	__atomic_store_n(&l->l_busy, 0, __ATOMIC_RELEASE);
}
