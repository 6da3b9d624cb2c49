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
 * Segment states: FREE -> OPEN -> SEALED -> (WRITING -> FILED) -> FREE, and FILED -> READING -> SEALED when the file is full
 * and its emptiest segment is fetched back to be compacted. A sealed or filed segment without live objects is freed at once.
 *
 * Lock: ps_lock, a futex word with the owner's thread id, guards everything shared but the bytes of appended objects.
 * A waiter that finds the owner dead takes the lock over and repairs: the object table and the segments' states are the truth,
 * lists and counts are made anew from them; the one object that was being placed is recorded (ps_move) and put back. Nothing
 * of managed memory is touched under it: callers' pages are frames. File I/O is done without it: a WRITING segment
 * keeps its memory. A load from the file that finds other bytes than were stored looks whether the object has moved since.
 *
 * Left out: what a killed process held (references, a charge taken and not yet booked) is not given back; owners are known by
 * thread id, so a family in several PID namespaces, or a number used again within 50 ms, is not told apart.
 */
#include "store/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/sys.h"

#define PAGE	  4096u
#define SEG_BYTES 65536u
#define SEG_PAGES (SEG_BYTES / PAGE)
#define RAW_MIN	  3584u /* compressed size from which a page counts as incompressible */
#define NONE	  0xffffffffu
#define NEW	  0xfffffffeu /* ps_move.seg: the object had no place before */
#define BARRIER() __atomic_signal_fence(__ATOMIC_SEQ_CST) /* a kill leaves what was stored so far, in program order */
#define MAGIC	  0x71706f6f6c303031ull
#define CTX_BYTES ((sizeof(LZ4_stream_t) + PAGE - 1) / PAGE * PAGE + 5 * PAGE)

enum { SEG_FREE, SEG_OPEN, SEG_SEALED, SEG_WRITING, SEG_FILED, SEG_READING };

struct object {
	uint64_t o_word; /* same-filled: the word; else checksum */
	uint32_t o_ref;	 /* 0: free, o_seg links the free list */
	uint32_t o_seg;	 /* NONE: same-filled */
	uint32_t o_off;	 /* of the data in the segment */
	uint32_t o_len;	 /* PAGE: stored raw */
};

struct segment {
	uint32_t s_state, s_slot, s_block; /* slot of memory, block of the file, or NONE */
	uint32_t s_used, s_live;	   /* bytes appended; bytes of live objects, headers included */
	uint32_t s_next, s_prev;	   /* sealed queue; free list; READING: s_next is the slot read into */
	uint32_t s_tid;			   /* WRITING, READING: the thread that does it */
};

struct header { uint32_t h_object, h_len; }; /* before each object in a segment */

struct pool_shared {
	uint64_t ps_magic;
	uint32_t ps_lock;
	uint32_t ps_nslots, ps_nblocks, ps_nsegs, ps_nobjects;
	uint32_t ps_limit;	/* slots the log may hold before it spills; two more serve compaction */
	uint64_t ps_objects, ps_segs, ps_slotfree, ps_blockfree, ps_slots; /* offsets from the start */
	uint32_t ps_objfree, ps_objnext; /* free list; first never used */
	uint32_t ps_segfree, ps_segnext;
	uint32_t ps_nslotfree, ps_slotnext, ps_nblockfree, ps_blocknext; /* stacks of free numbers; first never used */
	uint32_t ps_slots_used, ps_blocks_used;
	uint32_t ps_open[2];   /* open segment: compressed, raw */
	uint32_t ps_head, ps_tail; /* sealed, oldest first */
	struct pool_stats ps_stats;
	struct { uint32_t object, seg, off, len; } ps_move; /* object being placed (0: none) and its place before */
	uint32_t ps_io;		/* counts ends of WRITING and READING; futex */
	uint64_t ps_in, ps_out; /* bytes before and after compression */
};

static struct object *objects(struct pool_shared *s) { return (struct object *)(void *)((char *)s + s->ps_objects); }
static struct segment *segs(struct pool_shared *s) { return (struct segment *)(void *)((char *)s + s->ps_segs); }
static char *slot_mem(struct pool_shared *s, uint32_t slot) { return (char *)s + s->ps_slots + (uint64_t)slot * SEG_BYTES; }

/* ---- layout ---- */
static uint64_t up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

static size_t layout(struct pool_shared *s, const struct pool_config *c)
{
	uint64_t at = up(sizeof *s, PAGE), objs = c->max_objects != 0 ? c->max_objects : (c->mem_limit + c->file_limit) / 1024;

	if (objs > 0x3fffffffu)
		objs = 0x3fffffffu;
	s->ps_limit = (uint32_t)(c->mem_limit / SEG_BYTES);
	if (s->ps_limit < 4)
		s->ps_limit = 4; /* two open, one being written, one to go on with */
	s->ps_nslots = s->ps_limit + 4;
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
	s->ps_slots = at;
	return (size_t)(at + (uint64_t)s->ps_nslots * SEG_BYTES);
}

size_t pool_shared_size(const struct pool_config *c)
{
	struct pool_shared s;

	return layout(&s, c);
}

int pool_format(void *mem, const struct pool_config *c)
{
	struct pool_shared *s = mem;

	(void)layout(s, c);
	s->ps_objnext = 1; /* handle 0 means none */
	s->ps_segfree = s->ps_head = s->ps_tail = s->ps_open[0] = s->ps_open[1] = NONE;
	s->ps_magic = MAGIC;
	return 0;
}

int pool_attach(struct pool *p, void *mem, size_t size, int fd)
{
	struct pool_shared *s = mem;

	*p = (struct pool){ .p_shared = s, .p_size = size, .p_fd = fd };
	if (s->ps_magic != MAGIC)
		return -EINVAL;
	long r = sys_call6(SYS_mmap, 0, (long)(POOL_CONTEXTS * CTX_BYTES), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r < 0 && r > -4096)
		return (int)r;
	p->p_ctx = (char *)r;
	return 0;
}

void pool_detach(struct pool *p)
{
	if (p->p_ctx != NULL)
		(void)sys_call2(SYS_munmap, (long)p->p_ctx, (long)(POOL_CONTEXTS * CTX_BYTES));
	p->p_ctx = NULL;
}

int pool_after_fork(struct pool *p)
{
	p->p_ctx_busy = 0;
	return 0;
}

void pool_inject(struct pool *p, enum pool_inject kind, uint32_t nth)
{
	__atomic_store_n(&p->p_inject[kind], nth, __ATOMIC_RELAXED);
}

static int injected(struct pool *p, enum pool_inject kind)
{
	return __atomic_load_n(&p->p_inject[kind], __ATOMIC_RELAXED) != 0 &&
	       __atomic_sub_fetch(&p->p_inject[kind], 1, __ATOMIC_RELAXED) == 0;
}

/* ---- the lock: owner's thread id, bit 31 = somebody may wait ---- */
#define WAITERS 0x80000000u

static void repair(struct pool *p);

/* Whether thread tid is no more: gone, or a corpse that its parent has not looked at yet. */
static int dead(uint32_t tid)
{
	char path[32] = "/proc/", digits[12], buf[512];
	unsigned n = 0, at = 6;
	const char *state = NULL;

	if (sys_call2(SYS_kill, (long)tid, 0) == -ESRCH)
		return 1;
	for (uint32_t v = tid; v != 0; v /= 10)
		digits[n++] = (char)('0' + v % 10);
	while (n > 0)
		path[at++] = digits[--n];
	__builtin_memcpy(path + at, "/stat", 6);
	long fd = sys_call4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return 0; /* not known */
	long got = sys_call3(SYS_read, fd, (long)buf, sizeof buf);
	(void)sys_call1(SYS_close, fd);
	for (long i = 0; i + 2 < got; i++) /* "tid (name) S": the name may hold any character */
		if (buf[i] == ')')
			state = buf + i + 2;
	return state != NULL && (*state == 'Z' || *state == 'X');
}

static void lock(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t tid = (uint32_t)sys_call0(SYS_gettid), was = 0;
	struct { long s, ns; } soon = { 0, 50000000 };

	if (__atomic_compare_exchange_n(&s->ps_lock, &was, tid, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	for (;;) {
		was = __atomic_load_n(&s->ps_lock, __ATOMIC_RELAXED);
		if (was == 0) {
			if (__atomic_compare_exchange_n(&s->ps_lock, &was, tid | WAITERS, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return;
			continue;
		}
		if ((was & WAITERS) == 0 &&
		    !__atomic_compare_exchange_n(&s->ps_lock, &was, was | WAITERS, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		was |= WAITERS;
		if (sys_call6(SYS_futex, (long)&s->ps_lock, 0 /* FUTEX_WAIT */, (long)(int)was, (long)&soon, 0, 0) == -ETIMEDOUT &&
		    dead(was & ~WAITERS) &&
		    __atomic_compare_exchange_n(&s->ps_lock, &was, tid | WAITERS, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			repair(p);
			return;
		}
	}
}

static void unlock(struct pool_shared *s)
{
	if ((__atomic_exchange_n(&s->ps_lock, 0, __ATOMIC_RELEASE) & WAITERS) != 0)
		(void)sys_call6(SYS_futex, (long)&s->ps_lock, 1 /* FUTEX_WAKE */, 1, 0, 0, 0);
}

/* ---- working areas: LZ4 state, then an output buffer, then an aligned I/O buffer ---- */
static char *take_ctx(struct pool *p)
{
	for (;;) {
		for (uint32_t i = 0; i < POOL_CONTEXTS; i++)
			if ((__atomic_fetch_or(&p->p_ctx_busy, 1u << i, __ATOMIC_ACQUIRE) & 1u << i) == 0)
				return p->p_ctx + i * CTX_BYTES;
		(void)sys_call0(SYS_sched_yield);
	}
}

static void give_ctx(struct pool *p, const char *ctx)
{
	(void)__atomic_fetch_and(&p->p_ctx_busy, ~(1u << ((size_t)(ctx - p->p_ctx) / CTX_BYTES)), __ATOMIC_RELEASE);
}

static char *ctx_buf(char *ctx) { return ctx + CTX_BYTES - 5 * PAGE; }

static uint64_t checksum(const char *data, uint32_t len)
{
	uint64_t h = 0x9e3779b97f4a7c15ull ^ len, w;

	for (; len >= 8; len -= 8, data += 8) {
		__builtin_memcpy(&w, data, 8);
		h = (h ^ w) * 0xff51afd7ed558ccdull;
		h ^= h >> 32;
	}
	w = 0;
	__builtin_memcpy(&w, data, len);
	h = (h ^ w) * 0xc4ceb9fe1a85ec53ull;
	return h ^ h >> 29;
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

static uint32_t slot_take(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t slot;

	if (injected(p, POOL_INJECT_MEMORY) || (p->p_charge != NULL && p->p_charge(p->p_charge_arg, SEG_PAGES) != 0))
		return NONE;
	slot = pop(s, s->ps_slotfree, &s->ps_nslotfree, &s->ps_slotnext, s->ps_nslots);
	if (slot != NONE)
		s->ps_slots_used++;
	else if (p->p_charge != NULL)
		(void)p->p_charge(p->p_charge_arg, -(long)SEG_PAGES);
	return slot;
}

static void slot_give(struct pool *p, uint32_t slot)
{
	struct pool_shared *s = p->p_shared;

	/* MADV_REMOVE frees the pages of a shared mapping; private memory answers EINVAL and takes DONTNEED */
	if (sys_call3(SYS_madvise, (long)slot_mem(s, slot), SEG_BYTES, MADV_REMOVE) != 0)
		(void)sys_call3(SYS_madvise, (long)slot_mem(s, slot), SEG_BYTES, MADV_DONTNEED);
	push(s, s->ps_slotfree, &s->ps_nslotfree, slot);
	s->ps_slots_used--;
	if (p->p_charge != NULL)
		(void)p->p_charge(p->p_charge_arg, -(long)SEG_PAGES);
}

static uint32_t seg_new(struct pool_shared *s, uint32_t slot)
{
	uint32_t i = s->ps_segfree;

	if (i != NONE)
		s->ps_segfree = segs(s)[i].s_next;
	else if (s->ps_segnext < s->ps_nsegs)
		i = s->ps_segnext++;
	else
		return NONE;
	segs(s)[i] = (struct segment){ .s_state = SEG_OPEN, .s_slot = slot, .s_block = NONE, .s_next = NONE, .s_prev = NONE };
	return i;
}

static void dequeue(struct pool_shared *s, uint32_t i)
{
	struct segment *g = &segs(s)[i];

	if (g->s_prev != NONE)
		segs(s)[g->s_prev].s_next = g->s_next;
	else
		s->ps_head = g->s_next;
	if (g->s_next != NONE)
		segs(s)[g->s_next].s_prev = g->s_prev;
	else
		s->ps_tail = g->s_prev;
}

static void enqueue(struct pool_shared *s, uint32_t i)
{
	struct segment *g = &segs(s)[i];

	g->s_state = SEG_SEALED;
	g->s_next = NONE;
	g->s_prev = s->ps_tail;
	if (s->ps_tail != NONE)
		segs(s)[s->ps_tail].s_next = i;
	else
		s->ps_head = i;
	s->ps_tail = i;
}

static void seg_free(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs(s)[i];

	if (g->s_state == SEG_SEALED)
		dequeue(s, i);
	if (g->s_slot != NONE)
		slot_give(p, g->s_slot);
	if (g->s_block != NONE) {
		push(s, s->ps_blockfree, &s->ps_nblockfree, g->s_block);
		s->ps_blocks_used--;
	}
	g->s_state = SEG_FREE;
	g->s_next = s->ps_segfree;
	s->ps_segfree = i;
}

/* Appends to segment i, which has room. */
static void append(struct pool_shared *s, uint32_t i, uint32_t object, const char *data, uint32_t len)
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
	o->o_seg = i;
	o->o_off = g->s_used + (uint32_t)sizeof h;
	o->o_len = len;
	g->s_used += (uint32_t)up(sizeof h + len, 8);
	g->s_live += (uint32_t)up(sizeof h + len, 8);
	BARRIER();
	s->ps_move.object = 0;
}

static int fits(const struct pool_shared *s, uint32_t i, uint32_t bytes)
{
	return i != NONE && segs((struct pool_shared *)(uintptr_t)s)[i].s_used + bytes <= SEG_BYTES;
}

/* The open segment of compressed pages is replaced by an empty one from the slots kept back for this. */
static int reopen(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t full = s->ps_open[0], slot = slot_take(p), i = slot != NONE ? seg_new(s, slot) : NONE;

	if (i == NONE) {
		if (slot != NONE)
			slot_give(p, slot);
		return 0;
	}
	s->ps_open[0] = i;
	if (full != NONE)
		enqueue(s, full);
	return 1;
}

/* The live objects (at most max bytes of them) of sealed segment i are appended to the open one. */
static int compact(struct pool *p, uint32_t i, uint32_t max, int force)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs(s)[i];
	char *mem = slot_mem(s, g->s_slot);

	if (g->s_live > max || (!fits(s, s->ps_open[0], g->s_live) && (!force || !reopen(p))))
		return 0;
	uint32_t to = s->ps_open[0];
	for (uint32_t at = 0; at < g->s_used;) {
		struct header h;

		__builtin_memcpy(&h, mem + at, sizeof h);
		const struct object *o = &objects(s)[h.h_object];
		if (o->o_ref > 0 && o->o_seg == i && o->o_off == at + sizeof h)
			append(s, to, h.h_object, mem + at + sizeof h, h.h_len);
		at += (uint32_t)up(sizeof h + h.h_len, 8);
	}
	g->s_live = 0;
	seg_free(p, i);
	s->ps_stats.compactions++;
	return 1;
}

static void io_ended(struct pool_shared *s)
{
	s->ps_io++;
	(void)sys_call6(SYS_futex, (long)&s->ps_io, 1 /* FUTEX_WAKE */, 0x7fffffff, 0, 0, 0);
}

/* Writes sealed segment i to the file. Lock held; dropped during the write. 0, -ENOSPC, -EIO. */
static int spill(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs(s)[i];
	uint32_t block = p->p_fd < 0 ? NONE : pop(s, s->ps_blockfree, &s->ps_nblockfree, &s->ps_blocknext, s->ps_nblocks);
	long done = 0;

	if (block == NONE)
		return -ENOSPC;
	s->ps_blocks_used++;
	dequeue(s, i);
	g->s_block = block;
	g->s_tid = (uint32_t)sys_call0(SYS_gettid);
	BARRIER();
	g->s_state = SEG_WRITING;
	unlock(s);
	while (done < (long)SEG_BYTES) {
		long r = injected(p, POOL_INJECT_WRITE) ? -EIO :
			 sys_call4(SYS_pwrite64, p->p_fd, (long)slot_mem(s, g->s_slot) + done, (long)SEG_BYTES - done,
				   (long)((uint64_t)block * SEG_BYTES) + done);
		if (r == -EINTR)
			continue;
		if (r <= 0) {
			done = r == 0 ? -ENOSPC : r;
			break;
		}
		done += r;
	}
	lock(p);
	io_ended(s);
	if (done < 0) {
		g->s_block = NONE;
		push(s, s->ps_blockfree, &s->ps_nblockfree, block);
		s->ps_blocks_used--;
		s->ps_stats.write_errors++;
		enqueue(s, i);
		if (g->s_live == 0)
			seg_free(p, i);
		return (int)done;
	}
	s->ps_stats.bytes_written += SEG_BYTES;
	s->ps_stats.spills++;
	BARRIER();
	g->s_state = SEG_FILED;
	slot_give(p, g->s_slot);
	g->s_slot = NONE;
	if (g->s_live == 0)
		seg_free(p, i);
	return 0;
}

/* The segment in that state with the fewest live bytes, at most max, or NONE. */
static uint32_t emptiest(struct pool_shared *s, uint32_t state, uint32_t max)
{
	uint32_t best = NONE;

	for (uint32_t i = 0; i < s->ps_segnext; i++)
		if (segs(s)[i].s_state == state && segs(s)[i].s_live <= max) {
			best = i;
			max = segs(s)[i].s_live;
		}
	return best;
}

/* Fetches the emptiest segment of the file back and compacts it: its block is free then. Lock dropped during the read. */
static int reclaim_block(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = p->p_fd < 0 ? NONE : emptiest(s, SEG_FILED, SEG_BYTES / 4 * 3), slot;

	if (i == NONE || (slot = slot_take(p)) == NONE)
		return -ENOSPC;
	struct segment *g = &segs(s)[i];
	g->s_next = slot;
	g->s_tid = (uint32_t)sys_call0(SYS_gettid);
	BARRIER();
	g->s_state = SEG_READING;
	unlock(s);
	long r = injected(p, POOL_INJECT_READ) ? -EIO :
		 sys_call4(SYS_pread64, p->p_fd, (long)slot_mem(s, slot), SEG_BYTES, (long)((uint64_t)g->s_block * SEG_BYTES));
	lock(p);
	io_ended(s);
	if (r != (long)SEG_BYTES) {
		g->s_state = SEG_FILED;
		slot_give(p, slot);
		if (g->s_live == 0)
			seg_free(p, i);
		return -ENOSPC;
	}
	s->ps_stats.bytes_read += SEG_BYTES;
	g->s_slot = slot;
	uint32_t block = g->s_block;
	enqueue(s, i);
	g->s_block = NONE;
	push(s, s->ps_blockfree, &s->ps_nblockfree, block);
	s->ps_blocks_used--;
	if (g->s_live == 0)
		seg_free(p, i);
	else
		(void)compact(p, i, SEG_BYTES, 1);
	return 0;
}

/* Its writer or reader died: it is as if it had not begun. repair() follows. */
static void abandon(struct segment *g)
{
	g->s_state = g->s_state == SEG_WRITING ? SEG_SEALED : SEG_FILED;
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
		if (dead(g->s_tid)) {
			abandon(g);
			repair(p);
			return 0;
		}
		uint32_t io = s->ps_io;
		unlock(s);
		(void)sys_call6(SYS_futex, (long)&s->ps_io, 0 /* FUTEX_WAIT */, (long)(int)io, (long)&soon, 0, 0);
		lock(p);
		return 0;
	}
	return -ENOSPC;
}

/* Makes room for one more segment in memory. The oldest: compacted if that is cheap, else written. Full: compacts what it can. */
static int make_room(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = s->ps_head;
	int rc = -ENOSPC;

	if (i != NONE && compact(p, i, SEG_BYTES / 2, 0))
		return 0;
	if (i != NONE && (rc = spill(p, i)) != -ENOSPC)
		return rc;
	i = emptiest(s, SEG_SEALED, SEG_BYTES / 8 * 7);
	if (i != NONE && compact(p, i, SEG_BYTES, 1))
		return 0;
	return reclaim_block(p) == 0 ? 0 : wait_io(p);
}

int pool_shrink(struct pool *p, uint64_t bytes)
{
	struct pool_shared *s = p->p_shared;
	int rc = 0;

	lock(p);
	uint32_t n = (uint32_t)up(bytes, SEG_BYTES) / SEG_BYTES, to = s->ps_slots_used > n ? s->ps_slots_used - n : 0;
	for (uint32_t tries = 0; rc == 0 && s->ps_slots_used > to && tries < s->ps_nslots * 4; tries++)
		rc = make_room(p);
	if (rc == 0 && s->ps_slots_used > to)
		rc = -ENOSPC;
	unlock(s);
	return rc;
}

/* An open segment of that kind with room for bytes. Lock held (dropped meanwhile). 0 or -errno. */
static int open_for(struct pool *p, unsigned kind, uint32_t bytes)
{
	struct pool_shared *s = p->p_shared;
	int rc = 0, tries = 0;

	while (!fits(s, s->ps_open[kind], bytes)) {
		uint32_t full = s->ps_open[kind], slot = NONE;

		if (full != NONE) {
			s->ps_open[kind] = NONE;
			enqueue(s, full);
			if (segs(s)[full].s_live == 0)
				seg_free(p, full);
			else if (kind == 1)
				(void)spill(p, full); /* if it cannot be written now it waits its turn in memory */
			continue;
		}
		if (s->ps_slots_used < s->ps_limit)
			slot = slot_take(p);
		if (slot == NONE) {
			if ((rc = make_room(p)) != 0 || ++tries > 1000)
				return rc != 0 ? rc : -ENOSPC;
			continue;
		}
		if (s->ps_open[kind] != NONE) { /* somebody else opened one while the lock was dropped */
			slot_give(p, slot);
			continue;
		}
		uint32_t i = seg_new(s, slot);
		if (i == NONE) {
			slot_give(p, slot);
			return -ENOSPC;
		}
		s->ps_open[kind] = i;
	}
	return 0;
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

int pool_store(struct pool *p, const void *page, uint32_t *handle)
{
	struct pool_shared *s = p->p_shared;
	uint64_t word = 0;
	const char *data = page;
	char *ctx = NULL;
	uint32_t len = 0;
	int rc = 0, same = same_filled(page, &word);

	if (!same) {
		ctx = take_ctx(p);
		len = (uint32_t)LZ4_compress_fast_extState(ctx, page, ctx_buf(ctx), PAGE, (int)RAW_MIN, 1);
		if (len == 0)
			len = PAGE;
		else
			data = ctx_buf(ctx);
		word = checksum(data, len);
	}
	lock(p);
	if (!same)
		rc = open_for(p, len == PAGE, (uint32_t)up(sizeof(struct header) + len, 8));
	uint32_t i = rc == 0 ? object_new(s) : 0;
	if (i != 0) {
		objects(s)[i].o_word = word;
		if (!same) {
			append(s, s->ps_open[len == PAGE], i, data, len);
			s->ps_in += PAGE;
			s->ps_out += len;
		} else {
			s->ps_stats.same_filled++;
		}
		s->ps_stats.pages++;
		*handle = i;
	} else if (rc == 0) {
		rc = -ENOSPC;
	}
	unlock(s);
	if (ctx != NULL)
		give_ctx(p, ctx);
	return rc;
}

static int unpack(const char *data, const struct object *o, void *page)
{
	if (checksum(data, o->o_len) != o->o_word)
		return -EIO;
	if (o->o_len == PAGE)
		__builtin_memcpy(page, data, PAGE);
	else if (LZ4_decompress_safe(data, page, (int)o->o_len, PAGE) != (int)PAGE)
		return -EIO;
	return 0;
}

/* The file sectors that cover an object; the caller's reference keeps its segment where it is. */
static int load_file(struct pool *p, const struct object *o, uint32_t block, void *page)
{
	uint64_t at = (uint64_t)block * SEG_BYTES + o->o_off, from = at / PAGE * PAGE, to = up(at + o->o_len, PAGE);
	char *ctx = take_ctx(p), *buf = ctx_buf(ctx);
	long done = 0, want = (long)(to - from);
	int rc = 0;

	while (rc == 0 && done < want) {
		long r = injected(p, POOL_INJECT_READ) ? -EIO :
			 sys_call4(SYS_pread64, p->p_fd, (long)buf + done, want - done, (long)from + done);
		if (r > 0)
			done += r;
		else if (r != -EINTR)
			rc = -EIO;
	}
	if (rc == 0)
		rc = unpack(buf + (at - from), o, page);
	give_ctx(p, ctx);
	(void)__atomic_add_fetch(&p->p_shared->ps_stats.bytes_read, (uint64_t)done, __ATOMIC_RELAXED);
	return rc;
}

int pool_load(struct pool *p, uint32_t handle, void *page)
{
	struct pool_shared *s = p->p_shared;
	struct object o;
	int rc = 0;

	lock(p);
	o = objects(s)[handle];
	if (o.o_seg == NONE) {
		unlock(s);
		for (unsigned i = 0; i < PAGE / 8; i++)
			((uint64_t *)page)[i] = o.o_word;
		return 0;
	}
	const struct segment *g = &segs(s)[o.o_seg];
	if (g->s_slot != NONE) {
		rc = unpack(slot_mem(s, g->s_slot) + o.o_off, &o, page);
		unlock(s);
		return rc;
	}
	uint32_t block = g->s_block;
	unlock(s);
	if ((rc = load_file(p, &o, block, page)) == 0)
		return 0;
	lock(p); /* fetched back meanwhile, and the block used again? */
	int moved = objects(s)[handle].o_seg != o.o_seg || objects(s)[handle].o_off != o.o_off || g->s_block != block;
	unlock(s);
	return moved ? pool_load(p, handle, page) : rc;
}

void pool_ref(struct pool *p, uint32_t handle)
{
	lock(p);
	objects(p->p_shared)[handle].o_ref++;
	unlock(p->p_shared);
}

/* The last page with data is gone: so is the memory. */
static void close_open(struct pool *p, unsigned kind)
{
	uint32_t i = p->p_shared->ps_open[kind];

	p->p_shared->ps_open[kind] = NONE;
	if (i != NONE)
		seg_free(p, i);
}

void pool_unref(struct pool *p, uint32_t handle)
{
	struct pool_shared *s = p->p_shared;

	lock(p);
	struct object *o = &objects(s)[handle];
	if (--o->o_ref == 0) {
		uint32_t i = o->o_seg;

		if (i != NONE) {
			struct segment *g = &segs(s)[i];

			g->s_live -= (uint32_t)up(sizeof(struct header) + o->o_len, 8);
			if (g->s_live == 0 && (g->s_state == SEG_SEALED || g->s_state == SEG_FILED))
				seg_free(p, i);
			else if (g->s_live == 0 && g->s_state == SEG_OPEN)
				g->s_used = 0;
		} else {
			s->ps_stats.same_filled--;
		}
		s->ps_stats.pages--;
		o->o_seg = s->ps_objfree;
		s->ps_objfree = handle;
		for (unsigned k = 0; k < 2 && s->ps_stats.pages == s->ps_stats.same_filled; k++)
			close_open(p, k);
	}
	unlock(s);
}

void pool_stats(struct pool *p, struct pool_stats *out)
{
	struct pool_shared *s = p->p_shared;

	lock(p);
	*out = s->ps_stats;
	out->mem_held = (uint64_t)s->ps_slots_used * SEG_BYTES;
	out->file_bytes = (uint64_t)s->ps_blocks_used * SEG_BYTES;
	out->ratio = s->ps_out != 0 ? (double)s->ps_in / (double)s->ps_out : 1;
	for (uint32_t i = s->ps_head; i != NONE; i = segs(s)[i].s_next)
		out->mem_bytes += segs(s)[i].s_live;
	for (unsigned k = 0; k < 2; k++)
		if (s->ps_open[k] != NONE)
			out->mem_bytes += segs(s)[s->ps_open[k]].s_live;
	out->mem_pages = (uint64_t)((double)out->mem_bytes * out->ratio / PAGE);
	unlock(s);
}

/* ---- repair, by whoever takes the lock over from a dead owner ---- */

static void repair_objects(struct pool_shared *s)
{
	struct object *o = objects(s);

	if (s->ps_move.object != 0) {
		struct object *m = &o[s->ps_move.object];

		m->o_seg = s->ps_move.seg == NEW ? NONE : s->ps_move.seg;
		m->o_off = s->ps_move.off;
		m->o_len = s->ps_move.len;
		if (s->ps_move.seg == NEW)
			m->o_ref = 0;
		BARRIER();
		s->ps_move.object = 0;
	}
	for (uint32_t i = 0; i < s->ps_segnext; i++)
		segs(s)[i].s_live = 0;
	s->ps_stats.pages = s->ps_stats.same_filled = 0;
	s->ps_objfree = 0;
	for (uint32_t i = 1; i < s->ps_objnext; i++) {
		if (o[i].o_ref == 0) {
			o[i].o_seg = s->ps_objfree;
			s->ps_objfree = i;
			continue;
		}
		s->ps_stats.pages++;
		if (o[i].o_seg == NONE)
			s->ps_stats.same_filled++;
		else
			segs(s)[o[i].o_seg].s_live += (uint32_t)up(sizeof(struct header) + o[i].o_len, 8);
	}
}

static void repair_segments(struct pool_shared *s)
{
	s->ps_segfree = s->ps_head = s->ps_tail = NONE;
	for (unsigned k = 0; k < 2; k++)
		if (s->ps_open[k] != NONE && segs(s)[s->ps_open[k]].s_state != SEG_OPEN)
			s->ps_open[k] = NONE;
	for (uint32_t i = 0; i < s->ps_segnext; i++) {
		struct segment *g = &segs(s)[i];

		if ((g->s_state == SEG_WRITING || g->s_state == SEG_READING) && dead(g->s_tid))
			abandon(g);
		if (g->s_state == SEG_OPEN && i != s->ps_open[0] && i != s->ps_open[1])
			g->s_state = SEG_SEALED;
		if ((g->s_state == SEG_SEALED || g->s_state == SEG_FILED) && g->s_live == 0)
			g->s_state = SEG_FREE;
		if (g->s_state == SEG_FREE || g->s_state == SEG_FILED)
			g->s_slot = NONE;
		if (g->s_state == SEG_FREE || g->s_state == SEG_SEALED || g->s_state == SEG_OPEN)
			g->s_block = NONE;
		if (g->s_state == SEG_SEALED)
			enqueue(s, i);
		if (g->s_state == SEG_FREE) {
			g->s_next = s->ps_segfree;
			s->ps_segfree = i;
		}
	}
}

/* The stack of free numbers is made from the segments: first marks of those in use, then, in place, the others. */
static uint32_t repair_stack(struct pool_shared *s, uint64_t stack, uint32_t *n, uint32_t next, int blocks)
{
	uint32_t *v = (uint32_t *)(void *)((char *)s + stack), used = 0;

	for (uint32_t i = 0; i < next; i++)
		v[i] = 0;
	for (uint32_t i = 0; i < s->ps_segnext; i++) {
		const struct segment *g = &segs(s)[i];
		uint32_t x = blocks ? g->s_block : g->s_state == SEG_READING ? g->s_next : g->s_slot;

		if (g->s_state != SEG_FREE && x != NONE)
			v[x] = 1;
	}
	*n = 0;
	for (uint32_t i = 0; i < next; i++) {
		if (v[i] != 0)
			used++;
		else
			v[(*n)++] = i;
	}
	return used;
}

static void repair(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t before = s->ps_slots_used;

	repair_objects(s);
	repair_segments(s);
	s->ps_blocks_used = repair_stack(s, s->ps_blockfree, &s->ps_nblockfree, s->ps_blocknext, 1);
	s->ps_slots_used = repair_stack(s, s->ps_slotfree, &s->ps_nslotfree, s->ps_slotnext, 0);
	for (uint32_t i = 0; i < s->ps_nslotfree; i++) {
		char *at = slot_mem(s, ((uint32_t *)(void *)((char *)s + s->ps_slotfree))[i]);

		if (sys_call3(SYS_madvise, (long)at, SEG_BYTES, MADV_REMOVE) != 0)
			(void)sys_call3(SYS_madvise, (long)at, SEG_BYTES, MADV_DONTNEED);
	}
	if (before > s->ps_slots_used && p->p_charge != NULL)
		(void)p->p_charge(p->p_charge_arg, -(long)((before - s->ps_slots_used) * SEG_PAGES));
	s->ps_stats.repairs++;
}
