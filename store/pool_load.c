/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loading pages: the packed bytes are copied out under the lock, and unpacked without it. A page in
 * the file is read into the cache (pool_cache.c), or by itself if no slot is free.
 *
 * A load from the file whose checksum fails first looks whether the object has moved since.
 */
#include "store/codec.h"
#include "store/pool_impl.h"

#define BATCH POOL_BATCH

/* Bytes read from the file are not trusted. */
static int unpack_checked(
    void *area, const char *data, const struct object *o, void *page, int filed)
{
	if (filed && pool_checksum(data, o->o_len) != o->o_word)
		return -EIO;
	if (o->o_len != PAGE)
		return codec_unpack(area, data, o->o_len, page);
	if (data != page)
		__builtin_memcpy(page, data, PAGE);
	return 0;
}

/*
 * Reads the object by itself, without the cache; the caller's reference keeps the object's segment
 * in its block. Without the lock.
 */
static int load_alone(
    struct pool *p, void *area, const struct object *o, uint32_t block, char *buf, void *page)
{
	uint64_t at = (uint64_t)block * SEG_BYTES + o->o_off, from = at / PAGE * PAGE;
	int rc = pool_file_io(p, 0, buf, from, (uint32_t)(round_up(at + o->o_len, PAGE) - from));

	return rc == 0 ? unpack_checked(area, buf + (at - from), o, page, 1) : rc;
}

/*
 * Drops the segment's copy in memory, which has other bytes than were written: the next load reads
 * the disk again.
 */
static void distrust_copy(struct pool *p, const struct object *o)
{
	struct pool_shared *s = p->p_shared;

	pool_lock(p);
	struct segment *g = &segs_of(s)[o->o_seg];
	if (g->s_state == SEG_FILED && g->s_slot != NONE && g->s_fetch == 0)
		g->s_valid &= ~pool_pages_mask(o->o_off, o->o_len);
	pool_unlock(s);
}

struct taken {
	struct object o;
	char *at; /* where its packed bytes were copied to, or (raw) the caller's page */
	int filed;
	uint32_t block;
};

#define LOADS_LATE 4096u

static void count_load_locked(struct pool_shared *s, uint32_t *which)
{
	POOL_ASSERT(pool_held(s));
	pool_tell(which, *which + 1);
	if (s->ps_mem_loads + s->ps_file_loads >= LOADS_LATE) {
		pool_tell(&s->ps_mem_loads, s->ps_mem_loads / 2);
		pool_tell(&s->ps_file_loads, s->ps_file_loads / 2);
	}
}

void pool_fetched_locked(struct pool_shared *s, uint32_t n)
{
	POOL_ASSERT(pool_held(s));
	for (uint32_t i = 0; i < n; i++)
		count_load_locked(s, &s->ps_file_loads);
	s->ps_stats.cache_hits -= n; /* the loads that follow count themselves */
}

/*
 * Copies the packed bytes of up to n pages out, into buf or (raw) into the caller's pages. Drops
 * the lock to read. Returns the number of pages copied; *rc tells why the next page was not copied:
 * -EAGAIN: the page must be read by itself (t[] has object and place); or an error.
 */
static uint32_t take_locked(struct pool *p, uint32_t n, const uint32_t *handles, void *const *pages,
    char *buf, struct taken *t, int *rc)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = 0;
	int read = 0;

	POOL_ASSERT(pool_held(s));
	for (*rc = 0; i < n;) {
		struct object o = objects_of(s)[handles[i]];

		t[i] = (struct taken){ .o = o };
		if (o.o_seg == NONE) {
			i++;
			continue;
		}
		struct segment *g = &segs_of(s)[o.o_seg];
		if (!pool_resident(g, o.o_off, o.o_len)) {
			*rc = g->s_state == SEG_FILED
			    ? pool_fetch_locked(p, o.o_seg, o.o_off, o.o_len)
			    : -EAGAIN;
			t[i].block = g->s_block;
			read = 1;
			count_load_locked(s, &s->ps_file_loads);
			pool_wanted_locked(s, &o, true);
			if (*rc != 0)
				break;
			continue;
		}
		t[i].filed = g->s_state == SEG_FILED;
		t[i].at = o.o_len == PAGE ? pages[i] : buf + i * PAGE;
		s->ps_stats.young_hits += g->s_state == SEG_YOUNG;
		if (!read)
			pool_wanted_locked(s, &o, false);
		if (t[i].filed) {
			pool_hit_locked(s, o.o_seg);
			s->ps_stats.cache_hits += !read;
		} else {
			count_load_locked(s, &s->ps_mem_loads);
		}
		__builtin_memcpy(t[i].at, slot_mem(s, g->s_slot) + o.o_off, o.o_len);
		read = 0;
		i++;
	}
	return i;
}

static int finish_load(struct pool *p, void *area, const struct taken *t, void *page)
{
	int rc;

	if (t->o.o_seg == NONE) {
		for (unsigned i = 0; i < PAGE / 8; i++)
			((uint64_t *)page)[i] = t->o.o_word;
		return 0;
	}
	if ((rc = unpack_checked(area, t->at, &t->o, page, t->filed)) != 0 && t->filed)
		distrust_copy(p, &t->o);
	return rc;
}

/* -EAGAIN: the object has moved meanwhile. */
static int finish_alone(
    struct pool *p, void *area, uint32_t handle, const struct taken *t, char *buf, void *page)
{
	int rc = load_alone(p, area, &t->o, t->block, buf, page);

	if (rc == 0)
		return 0;
	pool_lock(p); /* was the segment fetched back meanwhile, and its block reused? */
	const struct object *o = &objects_of(p->p_shared)[handle];
	if (o->o_seg != t->o.o_seg || o->o_off != t->o.o_off ||
	    segs_of(p->p_shared)[o->o_seg].s_block != t->block)
		rc = -EAGAIN;
	pool_unlock(p->p_shared);
	return rc;
}

int pool_load_vec(
    struct pool *p, uint32_t n, const uint32_t *handles, void *const *pages, uint32_t *done)
{
	struct taken t[BATCH];
	char *ctx = pool_ctx_take(p), *buf = pool_ctx_buf(ctx);
	int rc = 0, why;

	for (*done = 0; *done < n && rc == 0;) {
		pool_lock(p);
		uint32_t m = take_locked(p, n - *done < BATCH ? n - *done : BATCH, handles + *done,
		    pages + *done, buf, t, &why);
		pool_unlock(p->p_shared);
		for (uint32_t i = 0; i < m && (rc = finish_load(p, ctx, &t[i], pages[*done])) == 0;
		     i++)
			++*done;
		if (rc != 0 || why == 0)
			continue;
		rc = why == -EAGAIN ? finish_alone(p, ctx, handles[*done], &t[m], buf, pages[*done])
				    : why;
		if (rc == 0)
			++*done;
		else if (rc == -EAGAIN)
			rc = 0;
	}
	pool_ctx_give(p, ctx);
	return rc;
}

int pool_takes_memory(const struct pool *p, uint32_t handle)
{
	uint32_t i = __atomic_load_n(&objects_of(p->p_shared)[handle].o_seg, __ATOMIC_RELAXED);

	return i != NONE &&
	    __atomic_load_n(&segs_of(p->p_shared)[i].s_state, __ATOMIC_RELAXED) != SEG_FILED;
}

/*
 * Objects in the file of which one read brings many stay there: storing all of them again would
 * cost more than reading them. Without a packer this holds for the other objects, too.
 */
int pool_better_anew(const struct pool *p, uint32_t handle)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = __atomic_load_n(&objects_of(s)[handle].o_seg, __ATOMIC_RELAXED);

	return i != NONE &&
	    __atomic_load_n(&segs_of(s)[i].s_state, __ATOMIC_RELAXED) == SEG_FILED &&
	    __atomic_load_n(&s->ps_youngmax, __ATOMIC_RELAXED) != 0 &&
	    __atomic_load_n(&s->ps_ahead, __ATOMIC_RELAXED) < AHEAD_WHOLE;
}

int pool_load(struct pool *p, uint32_t handle, void *page)
{
	uint32_t done;

	return pool_load_vec(p, 1, &handle, &page, &done);
}
