/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store: a log of compressed pages (log-structured: Rosenblum and Ousterhout, SOSP 1991; compressed swap by segments
 * as in XNU).
 *
 * Object: one stored page. An entry of the object table says where it is: nowhere but in the entry (all its 64-bit words
 * are equal), or in a segment at an offset. Entries never move, so a handle is an index.
 * Segment: 64 KiB of the log, in a slot of the shared memory, or in a block of the file, or (while being written) in both.
 * Pages are appended to the open segment; a full one is sealed and queued. When memory is short the oldest sealed segment
 * is written to the file as it is, one sequential write of many pages; or, if less than half of it is live and fits the open
 * one, its live objects are appended again. Pages that do not compress have an open segment of their own whose
 * segments are written as soon as they are full: they would only displace pages that do.
 *
 * Segment states: FREE -> OPEN -> SEALED -> (WRITING -> FILED) -> FREE, FREE -> YOUNG -> FREE (pages not packed yet, pool_young.c),
 * and FILED -> READING -> SEALED when the file is full and its emptiest segment is fetched back to be compacted. A sealed or filed segment without live objects is freed at once.
 * A FILED segment that was read from may have a slot again, as a cache (pool_cache.c).
 *
 * Lock: ps_lock, a futex word with the owner's thread id, guards everything shared but the bytes of appended objects.
 * A waiter that finds the owner dead takes the lock over and repairs: the object table and the segments' states are the truth,
 * lists and counts are made anew from them; the one object that was being placed is recorded (ps_move) and put back. Nothing
 * of managed memory is touched under it: callers' pages are frames. File I/O is done without it: a WRITING segment
 * keeps its memory. A load from the file that finds other bytes than were stored looks whether the object has moved since.
 *
 * What a killed process held is given back by whoever notices its death (pool_member.c).
 *
 * Left out: a charge that a killed process had taken and not yet booked is not given back; owners of the lock are known by thread id, so a family in several PID namespaces, or a number used again within 50 ms, is not told apart.
 */
#include "store/codec.h"
#include "store/pool_impl.h"

#define RAW_MIN	  3584u /* compressed size from which a page counts as incompressible */
#define BATCH	  POOL_BATCH
#define BUF_BYTES (BATCH * PAGE)

/* A working area: what the codecs need, then a page-aligned buffer for packed pages and I/O. */
static size_t ctx_bytes(void) { return up(codec_bytes(), PAGE) + BUF_BYTES; }

/* ---- layout ---- */
static size_t layout(struct pool_shared *s, const struct pool_config *c)
{
	uint64_t at = up(sizeof *s, PAGE),
		 objs = c->max_objects != 0 ? c->max_objects : (c->mem_limit + c->file_limit) / 1024;

	if (objs > 0x3fffffffu)
		objs = 0x3fffffffu;
	s->ps_limit = (uint32_t)(c->mem_limit / SEG_BYTES);
	if (s->ps_limit < 4)
		s->ps_limit = 4; /* two open, one being written, one to go on with */
	s->ps_floor = s->ps_target = s->ps_limit;
	if (c->mem_floor != 0 && c->mem_floor < c->mem_limit && c->file_limit != 0)
		s->ps_floor = c->mem_floor / SEG_BYTES > s->ps_limit / 8 ? (uint32_t)(c->mem_floor / SEG_BYTES) : s->ps_limit / 8;
	s->ps_cachemax = s->ps_limit / 16 > 2 ? s->ps_limit / 16 : s->ps_limit / 4;
	s->ps_nslots = s->ps_limit + s->ps_cachemax + 5;
	s->ps_warmmax = s->ps_limit / 16 < WARM_MAX ? s->ps_limit / 16 + 1 : WARM_MAX;
	s->ps_nblocks = (uint32_t)(c->file_limit / SEG_BYTES);
	s->ps_nsegs = s->ps_nslots + s->ps_nblocks + 2;
	s->ps_nobjects = (uint32_t)objs + 1;
	s->ps_objects = at;
	at += up((uint64_t)s->ps_nobjects * sizeof(struct object), PAGE);
	s->ps_segs = at;
	at += up((uint64_t)s->ps_nsegs * sizeof(struct segment), PAGE);
	s->ps_slotfree = at;
	at += up((uint64_t)s->ps_nslots * 4, PAGE);
	s->ps_blockfree = at;
	at += up((uint64_t)s->ps_nblocks * 4, PAGE);
	s->ps_members = at;
	s->ps_nmembers = c->max_members;
	at += up((uint64_t)s->ps_nmembers * sizeof(struct member), PAGE);
	s->ps_maps = at;
	s->ps_mapleaves = s->ps_nobjects / LEAF_BITS + 1;
	at += up((uint64_t)s->ps_nmembers * s->ps_mapleaves * 4, PAGE);
	s->ps_leaves = at;
	s->ps_nleaves = s->ps_nmembers == 0 ? 0 : 8 * s->ps_nmembers + 16 * s->ps_mapleaves;
	at += (uint64_t)s->ps_nleaves * PAGE;
	s->ps_slots = at;
	return (size_t)(at + (uint64_t)s->ps_nslots * SEG_BYTES);
}

size_t pool_shared_size(const struct pool_config *c)
{
	struct pool_shared s;

	return layout(&s, c);
}

/* Segments of raw pages, of which a part is free or partly dead: with none, every page written would move many others. */
uint64_t pool_file_pages(uint64_t bytes)
{
	uint64_t segments = bytes / SEG_BYTES;

	return (segments - segments / 16) * (SEG_BYTES / footprint(PAGE));
}

int pool_format(void *mem, const struct pool_config *c)
{
	struct pool_shared *s = mem;

	(void)layout(s, c);
	s->ps_objnext = 1; /* handle 0 means none */
	s->ps_segfree = NONE;
	for (unsigned k = 0; k < OPENS; k++)
		s->ps_open[k] = NONE;
	s->ps_sealed[0] = s->ps_sealed[1] = s->ps_cached = s->ps_young = (struct list){ NONE, NONE };
	s->ps_ahead = AHEAD_START;
	s->ps_read_ns = POOL_READ_NS;
	s->ps_magic = MAGIC;
	return 0;
}

int pool_attach(struct pool *p, void *mem, size_t size, int fd)
{
	struct pool_shared *s = mem;

	*p = (struct pool){ .p_shared = s, .p_size = size, .p_fd = fd, .p_member = NONE, .p_child = NONE };
	if (s->ps_magic != MAGIC)
		return -EINVAL;
	long r = sys_call6(SYS_mmap, 0, (long)(POOL_CONTEXTS * ctx_bytes()), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r < 0 && r > -4096)
		return (int)r;
	p->p_ctx = (char *)r;
	return 0;
}

void pool_async_end(struct pool *p)
{
	pool_poll(p, 1);
	pool_ring_close(p, 0);
	pool_aio_close(p);
}

void pool_detach(struct pool *p)
{
	pool_async_end(p);
	if (p->p_ctx != NULL)
		(void)sys_call2(SYS_munmap, (long)p->p_ctx, (long)(POOL_CONTEXTS * ctx_bytes()));
	p->p_ctx = NULL;
}

void pool_poll(struct pool *p, int wait)
{
	if (p->p_ring == NULL)
		return;
	pool_lock(p);
	do
		(void)pool_reap_locked(p, wait);
	while (wait && pool_inflight(p) > 0);
	pool_unlock(p->p_shared);
}

void pool_inject(struct pool *p, enum pool_inject kind, uint32_t nth)
{
	__atomic_store_n(&p->p_inject[kind], nth, __ATOMIC_RELAXED);
}

/* ---- working areas ---- */
char *pool_ctx_take(struct pool *p)
{
	for (;;) {
		for (uint32_t i = 0; i < POOL_CONTEXTS; i++)
			if ((__atomic_fetch_or(&p->p_ctx_busy, 1u << i, __ATOMIC_ACQUIRE) & 1u << i) == 0)
				return p->p_ctx + i * ctx_bytes();
		(void)sys_call0(SYS_sched_yield);
	}
}

void pool_ctx_give(struct pool *p, const char *ctx)
{
	(void)__atomic_fetch_and(&p->p_ctx_busy, ~(1u << ((size_t)(ctx - p->p_ctx) / ctx_bytes())), __ATOMIC_RELEASE);
}

static char *ctx_buf(char *ctx) { return ctx + ctx_bytes() - BUF_BYTES; }

/* Four lanes, because one would wait for its multiplication all the time. Not against malice: the file is ours alone. */
uint64_t pool_checksum(const char *data, uint32_t len)
{
	uint64_t h[4] = { 0x9e3779b97f4a7c15ull, 0xff51afd7ed558ccdull, 0xc4ceb9fe1a85ec53ull, len }, w[4];

	for (; len >= 32; len -= 32, data += 32) {
		__builtin_memcpy(w, data, 32);
		for (unsigned i = 0; i < 4; i++) {
			h[i] = (h[i] ^ w[i]) * 0xd6e8feb86659fd93ull;
			h[i] = h[i] << 29 | h[i] >> 35;
		}
	}
	__builtin_memset(w, 0, 32);
	__builtin_memcpy(w, data, len);
	for (unsigned i = 0; i < 4; i++)
		h[(i + 1) % 4] = (h[(i + 1) % 4] ^ h[i] ^ w[i]) * 0xff51afd7ed558ccdull;
	return h[0] ^ h[0] >> 32;
}

static uint32_t object_new(struct pool_shared *s)
{
	uint32_t i = s->ps_objfree;

	if (i != 0)
		s->ps_objfree = objects(s)[i].o_seg;
	else if (s->ps_objnext < s->ps_nobjects)
		i = s->ps_objnext++;
	if (i != 0)
		objects(s)[i] = (struct object){ .o_ref = 1, .o_seg = NONE };
	return i;
}

static int same_filled(const void *page, uint64_t *word)
{
	const uint64_t *w = page;

	if (w[0] != w[PAGE / 8 - 1] || w[0] != w[PAGE / 16])
		return 0;
	for (unsigned i = 1; i < PAGE / 8; i++)
		if (w[i] != w[0])
			return 0;
	*word = w[0];
	return 1;
}

/* ---- store ---- */
/* Into buf, which has room for PAGE bytes, or (raw) left where it is. filed: it may get to the file. */
static void pack(void *area, bool dense, bool filed, char *buf, const void *page, struct packed *k)
{
	*k = (struct packed){ .data = buf, .dense = dense };
	if (same_filled(page, &k->word))
		return;
	k->len = codec_pack(area, dense, page, buf, RAW_MIN);
	if (k->len == 0) {
		k->len = PAGE;
		k->data = page;
	}
	if (filed) /* memory is trusted */
		k->word = pool_checksum(k->data, k->len);
}

/*
 * Is memory so short that packing tighter is cheaper than the disk? A hint. The log fills its memory before it is ever cleaned,
 * so what counts is whether there is little to clean.
 *
 * Who stores a page and packs it himself: pages that pass through on their way to the file gain nothing; where few loads are
 * answered from memory, half as many more of them do not pay for the packing of all.
 *
 * The packer's time is nobody's. What it packs tighter takes longer to unpack, so it does when the log is clean; and when the
 * loads that read the file take more time than all would to unpack, until they have become few.
 */
#define TIGHT_NS 6000u /* what a page that is packed tighter takes to unpack longer */
#define FEW	 8u    /* reads are few when they take that part of it */

static bool tighter(struct pool_shared *s, bool behind)
{
	uint64_t file = __atomic_load_n(&s->ps_file_loads, __ATOMIC_RELAXED),
		 memory = __atomic_load_n(&s->ps_mem_loads, __ATOMIC_RELAXED);

	if (__atomic_load_n(&s->ps_slots_used, __ATOMIC_RELAXED) < pool_target(s) - pool_target(s) / 8)
		return false;
	if (__atomic_load_n(&s->ps_full, __ATOMIC_RELAXED) != 0)
		return behind || s->ps_nblocks == 0 || memory > file / 2;
	if (!behind)
		return false;
	uint64_t read = file * __atomic_load_n(&s->ps_read_ns, __ATOMIC_RELAXED), unpack = (file + memory) * TIGHT_NS;
	bool was = __atomic_load_n(&s->ps_tight, __ATOMIC_RELAXED) != 0, now = was ? read * FEW > unpack : read > unpack;

	if (now != was)
		__atomic_store_n(&s->ps_tight, (uint32_t)now, __ATOMIC_RELAXED);
	return now;
}

void pool_pack(struct pool *p, char *ctx, uint32_t i, bool behind, const void *page, struct packed *k)
{
	struct pool_shared *s = p->p_shared;

	pack(ctx, tighter(s, behind), s->ps_nblocks != 0, ctx_buf(ctx) + i * PAGE, page, k);
}

/* To be packed later. */
static void keep(const void *page, struct packed *k)
{
	*k = (struct packed){ .data = page };
	if (same_filled(page, &k->word))
		return;
	k->len = PAGE;
	k->young = true;
}

/* Drops the lock if a segment must be opened. -EAGAIN: a page that was to be packed later is to be packed now. */
static int place_locked(struct pool *p, const struct packed *k, uint32_t *handle)
{
	struct pool_shared *s = p->p_shared;
	unsigned kind = k->young ? OPEN_YOUNG : k->len == PAGE ? OPEN_RAW : OPEN_PACKED;
	int rc = k->len == 0 ? 0 : k->young ? pool_young_open_locked(p) : pool_open_locked(p, kind, footprint(k->len));

	if (rc != 0)
		return rc;
	uint32_t i = object_new(s);
	if (i == 0)
		return -ENOSPC;
	objects(s)[i].o_word = k->word;
	pool_left(s, i);
	if (k->len != 0) {
		pool_append_locked(s, s->ps_open[kind], i, k->data, k->len);
		s->ps_in += k->young ? 0 : PAGE;
		s->ps_out += k->young ? 0 : k->len;
		s->ps_stats.dense += k->dense;
	} else {
		s->ps_stats.same_filled++;
	}
	s->ps_stats.pages++;
	BARRIER();
	pool_own_locked(p, i);
	*handle = i;
	return 0;
}

/* While one page is packed the next comes to the CPU. */
static void come(const void *page)
{
	for (unsigned i = 0; i < PAGE; i += 64)
		__builtin_prefetch((const char *)page + i);
}

/* Up to BATCH pages. *done counts on. -EAGAIN: not young. */
static int store_some(
    struct pool *p, bool young, uint32_t m, const void *const *pages, uint32_t *handles, uint32_t *done)
{
	struct packed k[BATCH];
	char *ctx = young ? NULL : pool_ctx_take(p);
	int rc = 0;

	for (uint32_t i = 0; i < m; i++) {
		if (i + 1 < m)
			come(pages[i + 1]);
		if (young)
			keep(pages[i], &k[i]);
		else
			pool_pack(p, ctx, i, false, pages[i], &k[i]);
	}
	pool_lock(p);
	for (uint32_t i = 0; i < m && (rc = place_locked(p, &k[i], &handles[i])) == 0; i++)
		++*done;
	pool_unlock(p->p_shared);
	if (young)
		pool_young_added(p);
	else
		pool_ctx_give(p, ctx);
	return rc;
}

int pool_store_vec(struct pool *p, uint32_t n, const void *const *pages, uint32_t *handles, uint32_t *done)
{
	bool refused = false; /* there is room for young pages, but no memory: what is packed can be written to the file */
	int rc = 0;

	for (*done = 0; *done < n && rc == 0;) {
		bool young = !refused && pool_young_room(p->p_shared);

		rc = store_some(p, young, n - *done < BATCH ? n - *done : BATCH, pages + *done, handles + *done, done);
		refused = rc == -EAGAIN;
		if (refused)
			rc = 0;
		if (rc == -ENOSPC && pool_work(p, true) == 1) /* what is packed makes room */
			rc = 0;
	}
	return rc;
}

int pool_store(struct pool *p, const void *page, uint32_t *handle)
{
	uint32_t done;

	return pool_store_vec(p, 1, &page, handle, &done);
}

/* ---- load ---- */
/* What was read from the file is not trusted. */
static int unpack(void *area, const char *data, const struct object *o, void *page, int filed)
{
	if (filed && pool_checksum(data, o->o_len) != o->o_word)
		return -EIO;
	if (o->o_len != PAGE)
		return codec_unpack(area, data, o->o_len, page);
	if (data != page)
		__builtin_memcpy(page, data, PAGE);
	return 0;
}

/* Reads the object by itself, past the cache; the caller's reference keeps its segment where it is. Without the lock. */
static int load_alone(struct pool *p, void *area, const struct object *o, uint32_t block, char *buf, void *page)
{
	uint64_t at = (uint64_t)block * SEG_BYTES + o->o_off, from = at / PAGE * PAGE;
	int rc = pool_file_io(p, 0, buf, from, (uint32_t)(up(at + o->o_len, PAGE) - from));

	return rc == 0 ? unpack(area, buf + (at - from), o, page, 1) : rc;
}

/* The segment's copy in memory has other bytes than were written: the next load shall ask the disk again. */
static void distrust(struct pool *p, const struct object *o)
{
	struct pool_shared *s = p->p_shared;

	pool_lock(p);
	struct segment *g = &segs(s)[o->o_seg];
	if (g->s_state == SEG_FILED && g->s_slot != NONE && g->s_fetch == 0)
		g->s_valid &= ~pool_pages_mask(o->o_off, o->o_len);
	pool_unlock(s);
}

struct taken {
	struct object o;
	char *at; /* its packed bytes, or (raw) the caller's page */
	int filed;
	uint32_t block;
};

#define LOADS_LATE 4096u

static void count_load_locked(struct pool_shared *s, uint32_t *which)
{
	pool_tell(which, *which + 1);
	if (s->ps_mem_loads + s->ps_file_loads >= LOADS_LATE) {
		pool_tell(&s->ps_mem_loads, s->ps_mem_loads / 2);
		pool_tell(&s->ps_file_loads, s->ps_file_loads / 2);
	}
}

void pool_fetched_locked(struct pool_shared *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		count_load_locked(s, &s->ps_file_loads);
	s->ps_stats.cache_hits -= n; /* the loads that follow will be counted as such */
}

/*
 * Copies the packed bytes of up to n pages out, into buf or (raw) where they are wanted. Drops the lock to read. How many; *rc tells
 * why the next one was not: -EAGAIN: it must be read alone (t[] says what and where), or an error.
 */
static uint32_t take_locked(
    struct pool *p, uint32_t n, const uint32_t *handles, void *const *pages, char *buf, struct taken *t, int *rc)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = 0;
	int read = 0;

	for (*rc = 0; i < n;) {
		struct object o = objects(s)[handles[i]];

		t[i] = (struct taken){ .o = o };
		if (o.o_seg == NONE) {
			i++;
			continue;
		}
		struct segment *g = &segs(s)[o.o_seg];
		if (!pool_resident(g, o.o_off, o.o_len)) {
			*rc = g->s_state == SEG_FILED ? pool_fetch_locked(p, o.o_seg, o.o_off, o.o_len) : -EAGAIN;
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

static int finish(struct pool *p, void *area, const struct taken *t, void *page)
{
	int rc;

	if (t->o.o_seg == NONE) {
		for (unsigned i = 0; i < PAGE / 8; i++)
			((uint64_t *)page)[i] = t->o.o_word;
		return 0;
	}
	if ((rc = unpack(area, t->at, &t->o, page, t->filed)) != 0 && t->filed)
		distrust(p, &t->o);
	return rc;
}

/* -EAGAIN: it is elsewhere by now. */
static int finish_alone(struct pool *p, void *area, uint32_t handle, const struct taken *t, char *buf, void *page)
{
	int rc = load_alone(p, area, &t->o, t->block, buf, page);

	if (rc == 0)
		return 0;
	pool_lock(p); /* fetched back meanwhile, and the block used again? */
	const struct object *o = &objects(p->p_shared)[handle];
	if (o->o_seg != t->o.o_seg || o->o_off != t->o.o_off || segs(p->p_shared)[o->o_seg].s_block != t->block)
		rc = -EAGAIN;
	pool_unlock(p->p_shared);
	return rc;
}

int pool_load_vec(struct pool *p, uint32_t n, const uint32_t *handles, void *const *pages, uint32_t *done)
{
	struct taken t[BATCH];
	char *ctx = pool_ctx_take(p), *buf = ctx_buf(ctx);
	int rc = 0, why;

	for (*done = 0; *done < n && rc == 0;) {
		pool_lock(p);
		uint32_t m =
		    take_locked(p, n - *done < BATCH ? n - *done : BATCH, handles + *done, pages + *done, buf, t, &why);
		pool_unlock(p->p_shared);
		for (uint32_t i = 0; i < m && (rc = finish(p, ctx, &t[i], pages[*done])) == 0; i++)
			++*done;
		if (rc != 0 || why == 0)
			continue;
		rc = why == -EAGAIN ? finish_alone(p, ctx, handles[*done], &t[m], buf, pages[*done]) : why;
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
	uint32_t i = __atomic_load_n(&objects(p->p_shared)[handle].o_seg, __ATOMIC_RELAXED);

	return i != NONE && __atomic_load_n(&segs(p->p_shared)[i].s_state, __ATOMIC_RELAXED) != SEG_FILED;
}

int pool_at_hand(struct pool *p, uint32_t n, const uint32_t *handles)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = 0;

	pool_lock(p);
	for (; i < n; i++) {
		const struct object *o = &objects(s)[handles[i]];

		if (o->o_seg != NONE && !pool_resident(&segs(s)[o->o_seg], o->o_off, o->o_len))
			break;
	}
	pool_unlock(s);
	return i == n;
}

/*
 * Pages of the file that come many with one read may stay there: they are cheap. To store them all again would cost more, and for whoever
 * packs them himself that is so for the others, too.
 */
int pool_better_anew(const struct pool *p, uint32_t handle)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = __atomic_load_n(&objects(s)[handle].o_seg, __ATOMIC_RELAXED);

	return i != NONE && __atomic_load_n(&segs(s)[i].s_state, __ATOMIC_RELAXED) == SEG_FILED &&
	    __atomic_load_n(&s->ps_youngmax, __ATOMIC_RELAXED) != 0 &&
	    __atomic_load_n(&s->ps_ahead, __ATOMIC_RELAXED) < AHEAD_WHOLE;
}

int pool_load(struct pool *p, uint32_t handle, void *page)
{
	uint32_t done;

	return pool_load_vec(p, 1, &handle, &page, &done);
}

void pool_ref(struct pool *p, uint32_t handle)
{
	pool_lock(p);
	objects(p->p_shared)[handle].o_ref++;
	pool_unlock(p->p_shared);
}

void pool_unref_locked(struct pool *p, uint32_t handle)
{
	struct pool_shared *s = p->p_shared;
	struct object *o = &objects(s)[handle];

	if (--o->o_ref > 0)
		return;
	if (o->o_seg != NONE) {
		struct segment *g = &segs(s)[o->o_seg];

		g->s_live -= footprint(o->o_len);
		if (g->s_live == 0)
			pool_seg_empty_locked(p, o->o_seg);
	} else {
		s->ps_stats.same_filled--;
	}
	s->ps_stats.pages--;
	o->o_seg = s->ps_objfree;
	s->ps_objfree = handle;
	if (s->ps_stats.pages == s->ps_stats.same_filled)
		pool_close_locked(p);
}

void pool_unref(struct pool *p, uint32_t handle)
{
	pool_lock(p);
	pool_disown_locked(p, handle);
	pool_unref_locked(p, handle);
	pool_unlock(p->p_shared);
}

void pool_unref_vec(struct pool *p, uint32_t n, const uint32_t *handles)
{
	pool_lock(p);
	for (uint32_t i = 0; i < n; i++)
		if (handles[i] != 0) {
			pool_disown_locked(p, handles[i]);
			pool_unref_locked(p, handles[i]);
		}
	pool_unlock(p->p_shared);
}

void pool_stats(struct pool *p, struct pool_stats *out)
{
	struct pool_shared *s = p->p_shared;
	uint64_t young = 0;

	pool_lock(p);
	*out = s->ps_stats;
	out->mem_held = (uint64_t)s->ps_slots_used * SEG_BYTES;
	out->mem_target = (uint64_t)pool_target(s) * SEG_BYTES;
	out->file_bytes = (uint64_t)s->ps_blocks_used * SEG_BYTES;
	out->ratio = s->ps_out != 0 ? (double)s->ps_in / (double)s->ps_out : 1;
	for (unsigned old = 0; old < 2; old++)
		for (uint32_t i = s->ps_sealed[old].first; i != NONE; i = segs(s)[i].s_next)
			out->mem_bytes += segs(s)[i].s_live;
	for (unsigned k = 0; k < OPEN_YOUNG; k++)
		if (s->ps_open[k] != NONE)
			out->mem_bytes += segs(s)[s->ps_open[k]].s_live;
	out->mem_pages = (uint64_t)((double)out->mem_bytes * out->ratio / PAGE);
	for (uint32_t i = s->ps_young.first; i != NONE; i = segs(s)[i].s_next)
		young += segs(s)[i].s_live;
	if (s->ps_open[OPEN_YOUNG] != NONE)
		young += segs(s)[s->ps_open[OPEN_YOUNG]].s_live;
	out->young_pages = young / footprint(PAGE);
	out->mem_bytes += young;
	out->mem_pages += out->young_pages;
	pool_unlock(s);
}

