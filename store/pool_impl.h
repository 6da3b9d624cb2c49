/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared between the store's own files; the theory is in pool.c. Everything in pool_shared is
 * guarded by ps_lock unless it says otherwise; functions named _locked are called with ps_lock held
 * and assert this; a function that drops the lock says so.
 */
#ifndef QUIRE_STORE_POOL_IMPL_H
#define QUIRE_STORE_POOL_IMPL_H

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"
#include "store/pool.h"

#define PAGE 4096u
#define SEG_BYTES 65536u
#define SEG_PAGES (SEG_BYTES / PAGE)
#define RECLAIM_LIVE                                                                               \
	(SEG_BYTES / 4 *                                                                           \
	    3) /* when the file is full, a block with no more live bytes than this is emptied */
#define NONE 0xffffffffu
#define NEW 0xfffffffeu /* ps_move.seg: the object had no place before */
#define BARRIER()                                                                                  \
	__atomic_signal_fence(                                                                     \
	    __ATOMIC_SEQ_CST) /* after a kill, memory has the stores so far, in program order */
#define MAGIC 0x71706f6f6c303032ull
#define WARM_MAX 8u
#define BUCKETS 16u /* of sealed segments, by their live bytes */
#define BUCKET_BYTES (SEG_BYTES / BUCKETS)
#define GRANULE 512u /* entries of the object table whose memory is taken and given back together */
#define GRANULE_PAGES (GRANULE * sizeof(struct object) / PAGE)
#define LEAF_BITS (PAGE * 8u)
#define POOL_READ_NS 60000u /* assumed time of a read of the file, until reads were timed */
#define AHEAD_START 8u      /* ps_ahead at first */
#define AHEAD_MAX 16u
#define AHEAD_WHOLE 6u /* from this value on the whole segment is read */

enum { SEG_FREE, SEG_OPEN, SEG_SEALED, SEG_WRITING, SEG_FILED, SEG_READING, SEG_YOUNG };
enum {
	OPEN_PACKED,
	OPEN_OLD,
	OPEN_RAW,
	OPEN_YOUNG,
	OPENS
}; /* kinds of open segments. OPEN_OLD: for objects that compaction found alive */

struct object {
	/*
	 * same-filled: the word; else the checksum, which is undefined for a young page and in a
	 * store without a file
	 */
	uint64_t o_word;
	uint32_t o_ref; /* 0: free */
	uint32_t o_seg; /* NONE: same-filled */
	uint16_t o_off; /* offset of the data in the segment */
	uint16_t o_len; /* PAGE: stored raw */
	/* atomic; value of ps_left at the page's last eviction from a frame. See pool_share.c */
	uint32_t o_left;
};

struct segment {
	uint32_t s_state, s_slot, s_block; /* slot of memory, block of the file, or NONE */
	uint32_t s_used, s_live; /* bytes appended; bytes of live objects, headers included */
	uint32_t s_packed;       /* live bytes of pages, without headers and rounding */
	/* bit per page of the slot that is charged; only charged pages are touched */
	uint32_t s_pages;
	uint32_t s_next,
	    s_prev; /* sealed queue; cached list; free list; READING: s_next is the slot read into */
	uint32_t s_above, s_below; /* SEALED: neighbours in ps_sparse[s_bucket] */
	uint32_t s_bucket;
	/*
	 * WRITING, READING, s_fetch: the process that does the I/O, as in the lock's word; its
	 * member or NONE
	 */
	uint32_t s_owner, s_member;
	/* FILED with a slot: bit per page of the slot that has the file's contents */
	uint32_t s_valid;
	/*
	 * FILED with a slot: 1 while a thread reads more pages into the slot, which keeps slot and
	 * block; YOUNG: not 0 while a packer packs the segment
	 */
	uint32_t s_fetch;
	uint32_t s_hits;  /* FILED with a slot: loads that the slot has answered without I/O */
	uint32_t s_async; /* WRITING: by a ring; an entry of the member records the write, too */
	/* FILED: the file has other bytes than were written; the segment stays in its block */
	uint16_t s_bad;
	uint16_t s_old;     /* OPEN, SEALED: filled by compaction */
	uint32_t s_left;    /* OPEN, SEALED: average o_left of its pages */
	uint32_t s_spilled; /* FILED: value of ps_stats.spills when the segment was written */
};
/* Written under the pool's lock; pool_better_anew reads s_state without the lock, as a hint. */
static inline void set_state(struct segment *g, uint32_t state)
{
	__atomic_store_n(&g->s_state, state, __ATOMIC_RELAXED);
}

#define POOL_WRITES 4u /* writes in flight of one process */
struct member_io {
	uint32_t io_seg, io_block;
	/*
 * both counted from 1. io_block 0: the entry is free; io_seg 0: another thread writes the segment
 * now
 */
};
/* Clears the entry of a write that has ended or was never begun: the segment first. */
static inline void pool_op_clear(struct member_io *io)
{
	io->io_seg = 0;
	BARRIER();
	io->io_block = 0;
}
struct member {
	uint32_t m_state, m_tag; /* see pool_member.c */
	struct member_io m_io[POOL_WRITES];
};

_Static_assert(
    GRANULE * sizeof(struct object) % PAGE == 0, "a granule of the object table is whole pages");
struct header {
	uint32_t h_object, h_len;
}; /* before each object in a segment */
struct warm {
	uint32_t w_slot, w_pages;
}; /* a free slot whose memory is kept; w_pages as s_pages */
struct list {
	uint32_t first, last;
}; /* a list of segments, by s_next and s_prev */

/* A set of numbers that gives out the lowest free number; see pool_index.c. */
struct index {
	/*
	 * offsets in the store. x_map: a bit per number, 1: free; x_sum: a bit per word of the map,
	 * 1: not zero
	 */
	uint64_t x_map, x_sum;
	/* all numbers from x_next on are free and have no bit; x_max is const */
	uint32_t x_next, x_max;
	uint32_t x_low; /* words of the summary before this one are zero */
};

/* Tables that grow with their index, from the front, and shrink with it. See pool_mem.c. */
enum {
	TABLE_OBJMAP,
	TABLE_OBJSUM,
	TABLE_GRANULES,
	TABLE_SEGS,
	TABLE_SEGMAP,
	TABLE_SLOTMAP,
	TABLE_BLOCKMAP,
	TABLE_FARMAP,
	TABLE_FARMAP_LAST = TABLE_FARMAP + POOL_FARS - 1,
	TABLE_MEMBERS,
	TABLE_MAPS,
	TABLES
};

#define QUARANTINE_MAX 64u
struct quarantine {
	uint64_t q_until;
	uint32_t q_block;
}; /* q_until in ns; q_block counted from 1, 0: none. See pool_ring.c */

/*
 * A far place: its ring, by the offset in the store, and its blocks; both const after format. See
 * pool_far.c.
 */
struct far_place {
	uint64_t fp_ring;
	uint32_t fp_first, fp_blocks;
	/* ns: the place was full and gets no writes until this time; 0: the place is not full */
	uint64_t fp_full;
	uint32_t fp_used; /* blocks in use */
	/* atomic: the blocks that the place is known to hold: fewer than fp_blocks once it was full */
	uint32_t fp_room;
};

struct pool_shared {
	uint64_t ps_magic;
	uint32_t ps_lock;   /* futex: the process that holds it, see pool_lock.c */
	uint64_t ps_holder; /* atomic: which thread holds the lock, for pool_held(); 0: none */
	uint32_t ps_nslots, ps_nblocks, ps_nsegs,
	    ps_nobjects; /* const after format, as are the offsets */
	/* const: most slots that the log fills before it spills; five more serve compaction */
	uint32_t ps_limit;
	/*
	 * ps_floor: const; ps_target: atomic, slots that the log may fill now. For these and the
	 * next seven see pool_share.c
	 */
	uint32_t ps_floor, ps_target;
	uint32_t ps_left;  /* atomic: evictions of pages from frames so far */
	uint32_t ps_asked; /* loads since the last decision */
	/*
	 * ns of waiting that more frames or a larger pool would have saved, and that a smaller pool
	 * would have cost; ps_read_ns: ns of a read
	 */
	uint64_t ps_more_frames, ps_more_pool, ps_less_pool, ps_read_ns;
	/* slots of ps_limit that may hold copies of segments in the file; see pool_part */
	uint32_t ps_cachemax;
	uint64_t ps_objects, ps_granuleused, ps_segs, ps_slots, ps_members,
	    ps_maps; /* offsets from the start */
	uint64_t ps_leaves;
	uint32_t ps_nmembers, ps_membertop;    /* const; number of entries that ever were used */
	uint8_t ps_childtags[POOL_CHILD_TAGS]; /* atomics; 1: the tag is taken. See pool_tag.c */
	uint32_t ps_mapleaves, ps_nleaves;     /* leaves of one member's map; leaves of all maps */
	uint32_t ps_leaves_used;
	/* ps_farx: one index for each far place, from its fp_first on */
	struct index ps_objx, ps_segx, ps_slotx, ps_blockx, ps_farx[POOL_FARS], ps_leafx;
	uint32_t ps_granules;      /* granules of the object table with a live entry */
	uint32_t ps_table[TABLES]; /* charged pages of each table */
	/* charged pages of slots, warm slots included; charged pages of tables */
	uint32_t ps_held, ps_tables;
	uint64_t
	    ps_packed; /* bytes of packed pages in slots, without copies of segments in the file */
	uint32_t ps_fileblocks_used, ps_farblocks_used;
	/* const: number of blocks of the file, which come first; number of far places */
	uint32_t ps_fileblocks, ps_nfar;
	struct far_place ps_far[POOL_FARS];
	uint64_t ps_keepfree; /* const: bytes of its file system that the file leaves to others */
	uint32_t ps_fileroom; /* blocks of the file that may be used now; see pool_block.c */
	bool ps_filestop;     /* the file may not grow now */
	uint64_t ps_rate;     /* const: bytes a second; 0: no limit */
	/* atomic: ns: time at which the rate has paid for all I/O so far; see pool_pace() */
	uint64_t ps_paced;
	struct warm ps_warm[WARM_MAX];
	uint32_t ps_nwarm;
	uint32_t ps_open[OPENS];
	struct list ps_young; /* oldest first; for this and the next five see pool_young.c */
	/* young segments; the most of them (0: there is no packer); number of packings begun */
	uint32_t ps_nyoung, ps_youngmax, ps_pins;
	/* atomics. ps_idle: the packer sleeps; ps_work: a futex, changed to wake the packer */
	uint32_t ps_idle, ps_work;
	/* by s_old; each in the order in which the segments were filled */
	struct list ps_sealed[2];
	/* the same segments by live bytes: first of each list, linked by s_below */
	uint32_t ps_sparse[BUCKETS];
	struct list ps_cached; /* FILED with a slot, least recently read first */
	uint32_t ps_ncached;
	/* the last search for a segment to compact found none with a quarter of its bytes dead */
	uint32_t ps_full;
	uint32_t ps_tight; /* atomic: the packer packs tighter for the sake of fewer reads */
	/* recent loads: pages found in the log in memory; pages read from the file */
	uint32_t ps_mem_loads, ps_file_loads;
	uint32_t ps_ahead, ps_reads; /* success of reading ahead, 0..AHEAD_MAX; reads so far */
	struct quarantine ps_quarantine[QUARANTINE_MAX]; /* ring; from ps_qfirst on, oldest first */
	uint32_t ps_qfirst;
	struct pool_stats ps_stats;
	struct {
		uint32_t object, seg, off, len;
	} ps_move;              /* object being placed (0: none) and its former place */
	uint32_t ps_io;         /* counts ends of WRITING and READING; futex */
	uint64_t ps_in, ps_out; /* bytes before and after compression */
};

static inline struct object *objects_of(struct pool_shared *s)
{
	return (struct object *)(void *)((char *)s + s->ps_objects);
}
static inline struct segment *segs_of(struct pool_shared *s)
{
	return (struct segment *)(void *)((char *)s + s->ps_segs);
}
static inline struct member *pool_members(struct pool_shared *s)
{
	return (struct member *)(void *)((char *)s + s->ps_members);
}
static inline char *slot_mem(struct pool_shared *s, uint32_t slot)
{
	return (char *)s + s->ps_slots + (uint64_t)slot * SEG_BYTES;
}
/*
 * Changes a count that is also read without the lock, before a page is packed (tighter). Lock held.
 */
static inline void pool_tell(uint32_t *which, uint32_t n)
{
	__atomic_store_n(which, n, __ATOMIC_RELAXED);
}
static inline uint64_t round_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }
/*
 * Number of pages in a mask of pages of a slot. __builtin_popcount would call a library function
 * when compiled for CPUs without the instruction.
 */
static inline uint32_t mask_count(uint32_t m)
{
	m -= m >> 1 & 0x55555555u;
	m = (m & 0x33333333u) + (m >> 2 & 0x33333333u);
	return ((m + (m >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}
/* Bytes that an object of that length takes in a segment. */
static inline uint32_t object_bytes(uint32_t len)
{
	return (uint32_t)round_up(sizeof(struct header) + len, 8);
}
#define POOL_NOBODY                                                                                \
	0x7fffffffu /* p_owner of a process that never joined: no process can tell whether it lives */

/* Is an injected failure (pool_inject) due? */
static inline int pool_injected(struct pool *p, enum pool_inject kind)
{
	return __atomic_load_n(&p->p_inject[kind], __ATOMIC_RELAXED) != 0 &&
	    __atomic_sub_fetch(&p->p_inject[kind], 1, __ATOMIC_RELAXED) == 0;
}

/* pool_lock.c */
void pool_lock(struct pool *); /* if the owner has died, p_repair has rebuilt everything */
/* as pool_lock; the owner `dead` is known to be dead */
void pool_lock_after(struct pool *, uint32_t dead);
uint32_t pool_lock_owner(
    const struct pool_shared *); /* the process that holds the lock now; 0: none */
void pool_unlock(struct pool_shared *);

/* pool_assert.c */
void pool_held_begin(struct pool_shared *); /* the calling thread has taken the lock */
/* in a forked child: draws a new number of the process */
void pool_held_forked(void);
bool pool_held(const struct pool_shared *); /* does the calling thread hold the lock? */
_Noreturn void pool_panic(const char *what);
#ifndef NDEBUG
#define POOL_STR2(x) #x
#define POOL_STR(x) POOL_STR2(x)
#define POOL_ASSERT(e) ((e) ? (void)0 : pool_panic(__FILE__ ":" POOL_STR(__LINE__) ": " #e "\n"))
#else
#define POOL_ASSERT(e) ((void)sizeof(e))
#endif

/* pool_wait.c */
/* A wait for another process has lasted: see p_waited. */
void pool_waited(const struct pool *);
/*
 * Sleeps while the futex has that value, at most 50 ms. For all waits that another process must end.
 * True: the time is up. Without the lock.
 */
bool pool_sleep(const struct pool *, const uint32_t *word, uint32_t val);

/* pool_clock.c */
uint64_t pool_now(void); /* ns, of the clock that all processes share */
/*
 * Called before this many bytes are read or written: sleeps as long as ps_rate demands. Without the
 * lock.
 */
void pool_pace(struct pool *, uint32_t bytes);

/*
 * pool_holds.c: records that this process holds a reference of that object; that it no longer holds
 * it. Called after o_ref is raised; before o_ref is lowered
 */
void pool_own_locked(struct pool *, uint32_t handle);
void pool_disown_locked(struct pool *, uint32_t handle);
/* rebuilds the index of leaves from the members' maps */
void pool_leaves_repair(struct pool_shared *);
uint32_t *pool_map_of(struct pool_shared *, uint32_t member); /* leaf numbers, 0: none */
uint64_t *pool_leaf_of(struct pool_shared *, uint32_t leaf);
/*
 * Returns leaf n of a member's map; takes a free leaf if the member has none there. NULL: no leaf
 * is free.
 */
uint64_t *pool_leaf_get(struct pool *, uint32_t member, uint32_t n);
void pool_leaf_put(struct pool *, uint32_t member, uint32_t n); /* the leaf has no bit set */

/* pool_index.c; locked */
uint32_t pool_index_take(struct pool_shared *, struct index *); /* NONE: all are taken */
void pool_index_give(struct pool_shared *, struct index *, uint32_t);
bool pool_index_free(struct pool_shared *, const struct index *, uint32_t);
bool pool_index_any(struct pool_shared *, struct index *); /* is a number below x_next free? */
/*
 * For repair: pool_index_reset makes all numbers below x_next free; pool_index_mark takes a number;
 * pool_index_trim lowers x_next past free numbers at the end.
 */
void pool_index_reset(struct pool_shared *, struct index *);
void pool_index_mark(struct pool_shared *, struct index *, uint32_t);
void pool_index_trim(struct pool_shared *, struct index *);
static inline uint64_t pool_index_map_bytes(uint32_t max) { return round_up(max, 64) / 8; }
static inline uint64_t pool_index_sum_bytes(uint32_t max)
{
	return round_up(round_up(max, 64) / 64, 64) / 8;
}

/* pool_object.c; locked */
/* returns a new object with one reference and no place. 0: the table is full */
uint32_t pool_object_new(struct pool *);
void pool_object_free(struct pool *, uint32_t handle);
void pool_objects_repair(struct pool *); /* rebuilds the index and the granules from the entries */

/* pool_mem.c; locked: memory of slots and tables, and its charge */
/*
 * Charges the pages [from, to) of the segment's slot before they are touched. False: the charge is
 * refused.
 */
bool pool_touch_locked(struct pool *, uint32_t seg, uint32_t from, uint32_t to);
bool pool_slot_take_locked(struct pool *,
    struct warm *); /* a free slot, and which of its pages are charged. False: none */
void pool_slot_give_locked(struct pool *, struct warm);
bool pool_cool_locked(
    struct pool *); /* gives the memory of one warm slot back. False: there is no warm slot */
/* called after an index has grown or shrunk: adjusts the charge of the tables */
void pool_tables_locked(struct pool *);
/* gives the memory back to the kernel; the memory then reads as zeros */
void pool_forget(void *mem, uint64_t len);
/*
 * pool_taken: bytes of memory that the store has taken; pool_packed: packed bytes that the store
 * holds; pool_bound: the most bytes that the store takes for its packed bytes. The object table,
 * which holds the words of same-filled pages and the places of all objects, counts as packed:
 * entries cannot move.
 */
static inline uint64_t pool_taken(const struct pool_shared *s)
{
	return ((uint64_t)s->ps_held + s->ps_tables) * PAGE;
}
static inline uint64_t pool_packed(const struct pool_shared *s)
{
	return s->ps_packed + (uint64_t)s->ps_granules * GRANULE * sizeof(struct object);
}
static inline uint64_t pool_bound(const struct pool_shared *s)
{
	return pool_packed(s) / 4 * 5 + POOL_SLACK;
}
/*
 * Bytes that stay free below these limits, for the copy of a sparse segment, a page being stored,
 * and its entry.
 */
#define POOL_MARGIN (20u * PAGE)
/* The most bytes that the store takes while there are segments worth compacting. */
static inline uint64_t pool_goal(const struct pool_shared *s)
{
	return pool_packed(s) / 8 * 9 + POOL_SLACK;
}

/* pool_store.c */
void pool_unref_locked(struct pool *, uint32_t handle);

/* pool_pack.c */
#define POOL_BATCH 8u /* pages that are packed or unpacked between two acquisitions of the lock */
struct packed {
	uint64_t word; /* as o_word */
	const char *data;
	uint32_t len; /* 0: same-filled */
	bool dense;
	bool young; /* data is the caller's page, word means nothing */
};
int pool_ctx_map(struct pool *); /* 0 or -errno */
void pool_ctx_unmap(struct pool *);
/*
 * Takes a working area; pool_pack() leaves its results there. One thread must not take two areas.
 */
char *pool_ctx_take(struct pool *);
void pool_ctx_give(struct pool *, const char *ctx);
/*
 * Packs a page. packed.data is place i (below POOL_BATCH) of the working area or (raw) the page
 * itself. behind: no thread waits for the result. Without the lock.
 */
void pool_pack(
    struct pool *, char *ctx, uint32_t i, bool behind, const void *page, struct packed *);
uint64_t pool_checksum(const char *data, uint32_t len);
int pool_same_filled(const void *page, uint64_t *word); /* are all words of the page equal? */
char *pool_ctx_buf(char *ctx); /* the context's buffer of POOL_BATCH pages */

/* pool_dead.c */
/*
 * Undoes the begin of a write or read of the segment whose thread has died. pool_repair_locked()
 * must follow.
 */
void pool_abandon_locked(struct pool_shared *, struct segment *);
/* Is the process `owner` (never 0) known to be dead? dead: a process known to be dead, or 0. */
bool pool_owner_dead(const struct pool *, uint32_t owner, uint32_t dead);
/*
 * Is the process that writes, reads or packs the segment (s_owner) known to be dead? dead: a
 * process known to be dead, or 0.
 */
bool pool_orphan(const struct pool *, const struct segment *, uint32_t dead);
/*
 * Called when the member's ring no longer exists: makes the segments that the ring was writing
 * SEALED, but puts them in no list; pool_repair_locked() must follow. False: the ring had no
 * writes.
 */
bool pool_orphan_writes_locked(struct pool_shared *, uint32_t member);

/*
 * pool_repair.c: rebuilds everything derived. dead: the lock's owner that died; 0: there is another
 * reason
 */
void pool_repair_locked(struct pool *, uint32_t dead);
/*
 * Undoes the begin of all writes and reads of a dead process. repair: its writes have been orphaned
 * already.
 */
void pool_abandon_owner_locked(struct pool *, uint32_t owner, bool repair);

/*
 * pool_ring.c: number of writes in flight. The writes belong to one thread of the process; other
 * threads get 0
 */
uint32_t pool_inflight(struct pool *);
/*
 * Begins to write sealed segment seg. -EAGAIN: the caller must write synchronously; -ENOSPC: no
 * block is free. Drops the lock.
 */
int pool_write_start_locked(struct pool *, uint32_t seg);
/*
 * Collects results of writes and returns how many; wait: waits for at least one, dropping the lock.
 */
uint32_t pool_reap_locked(struct pool *, int wait);
/* Writes a segment that another thread's ring has been writing for too long. -EAGAIN: the segment is not in that state. Drops the lock. */
int pool_steal_locked(struct pool *, uint32_t seg);
void pool_ring_close(struct pool *, int forked);

/* pool_aio.c */
struct pool_aio_result {
	uint64_t data;
	int res;
};
int pool_aio_setup(uint32_t n, uint64_t *aio); /* makes a context for n requests at a time */
void pool_aio_destroy(uint64_t aio);           /* waits for the requests in flight */
uint32_t pool_aio_ready(
    uint64_t aio); /* number of requests that have ended and were not collected; ~0: not known */
/* -EAGAIN: the kernel did not take the request. */
int pool_aio_write(uint64_t aio, int fd, void *mem, uint64_t at, uint32_t n, uint64_t data);
/* Collects up to max results and returns how many; wait: waits for at least one. */
uint32_t pool_aio_collect(uint64_t aio, int wait, struct pool_aio_result *, uint32_t max);
/* pool_fetch.c: loads whose begin and end are separate calls */
int pool_fetch_open(struct pool *);
void pool_fetch_close(struct pool *);
/* pool_load.c: counts n pages that were read and will be loaded next */
void pool_fetched_locked(struct pool_shared *, uint32_t n);

/* pool_block.c: numbers of blocks */
/* NONE: the file and the far places are full; with p_sink: the far places are full */
uint32_t pool_block_take_locked(struct pool *);
void pool_block_give_locked(struct pool_shared *, uint32_t block);
/* Sets aside a block that was in use, for a while; forever, if too many blocks are set aside. */
void pool_block_set_aside_locked(struct pool_shared *, uint32_t block);
void pool_block_full_locked(
    struct pool_shared *, uint32_t block); /* a write there failed for lack of room */
void pool_block_stored_locked(struct pool_shared *, uint32_t block); /* a write there succeeded */
void pool_block_count_locked(struct pool_shared *, uint32_t block,
    int by); /* by: 1 if the block comes into use, -1 if it goes out of use */
uint32_t pool_file_room_locked(const struct pool_shared *); /* blocks that the file has free now */
/* does a far place have a free block? */
bool pool_far_room_locked(struct pool_shared *);
/*
 * For repair: pool_blocks_reset makes all blocks free; pool_block_mark takes a block (used: and
 * counts it); pool_blocks_trim drops free blocks at the end.
 */
void pool_blocks_reset(struct pool_shared *);
void pool_block_mark(struct pool_shared *, uint32_t block, bool used);
void pool_blocks_trim(struct pool_shared *);
bool pool_block_free(struct pool_shared *, uint32_t block);

/* pool_file.c */
/*
 * A write of sealed segment seg. pool_write_begin_locked takes a block (s_block; or -ENOSPC);
 * pool_write_sync_locked writes, dropping the lock, and ends the write; pool_write_end_locked ends
 * a write done elsewhere.
 */
int pool_write_begin_locked(struct pool *, uint32_t seg);
int pool_write_sync_locked(struct pool *, uint32_t seg);
void pool_write_end_locked(struct pool *, uint32_t seg, int rc);
/* Bytes of a segment that are written and read back, in whole pages. */
static inline uint32_t pool_seg_bytes(const struct segment *g)
{
	return (uint32_t)round_up(g->s_used, PAGE);
}
/* Reads or writes n bytes of the file. 0, -ENOSPC, -EIO. Without the lock. */
int pool_file_io(struct pool *, int write, void *mem, uint64_t at, uint32_t n);
bool pool_file_limited(
    const struct pool *); /* may this process not write all of the file (RLIMIT_FSIZE)? */
/* Writes sealed segment seg to the file. Drops the lock during the write. 0, -ENOSPC, -EIO. */
int pool_spill_locked(struct pool *, uint32_t seg);
/*
 * Reads filed segment seg back whole, seals it, and gives its block back. 0; -EIO, -ENOSPC: the
 * segment stays filed. Drops the lock.
 */
int pool_fetch_back_locked(struct pool *, uint32_t seg);

/* pool_far.c: blocks that lie far away */
const struct far_place *pool_far_of(
    const struct pool_shared *, uint32_t block); /* NULL: the block is in the file */
/* As pool_file_io, for at most one block; waits. */
int pool_far_io(
    struct pool *, const struct far_place *, int write, void *mem, uint64_t at, uint32_t n);
/* Begins to write a far block. 0: *ticket is set; -EAGAIN: the ring is full now; -EIO. */
int pool_far_begin(
    struct pool *, uint32_t block, const void *mem, uint32_t bytes, uint32_t *ticket);
/* Begin and end of a read at offset `at` of the blocks. Results as above. */
int pool_far_read_begin(struct pool *, uint64_t at, uint32_t bytes, uint32_t *ticket);
int pool_far_read_end(struct pool *, uint32_t block, uint32_t ticket, void *mem, uint32_t bytes);
/* would pool_far_end return without waiting? */
bool pool_far_ready(struct pool *, uint32_t block, uint32_t ticket);
int pool_far_end(struct pool *, uint32_t block, uint32_t ticket); /* 0, -EIO, -ENOSPC */
/* the block's contents are no longer needed; does nothing for a block of the file */
void pool_far_trim(struct pool_shared *, uint32_t block);
void pool_far_release(struct pool_shared *, uint32_t member); /* that member is dead */
/* Are there blocks, near or far? */
static inline bool pool_has_blocks(const struct pool *p)
{
	return p->p_fd >= 0 || p->p_shared->ps_nfar > 0;
}

/* pool_log.c */
/*
 * Makes room for bytes in the open segment of that kind, which is not OPEN_YOUNG. May drop the
 * lock. 0 or -errno.
 */
int pool_open_locked(struct pool *, unsigned kind, uint32_t bytes);
/*
 * Called after objects were dropped: makes the log dense again and gives back memory that is no
 * longer needed.
 */
void pool_settle_locked(struct pool *);

/* pool_seg.c */
/*
 * Appends the object's bytes to segment seg, which has room; the memory for them is charged
 * already.
 */
void pool_append_locked(
    struct pool_shared *, uint32_t seg, uint32_t object, const char *data, uint32_t len);
/* Counts an object of that length out of segment seg. */
void pool_gone_locked(struct pool_shared *, uint32_t seg, uint32_t len);
void pool_seal_locked(struct pool_shared *, uint32_t seg);
/*
 * Returns the sealed segment to be written first, whose pages were evicted from frames the longest
 * ago; or NONE.
 */
uint32_t pool_oldest(const struct pool_shared *);
void pool_unseal_locked(
    struct pool_shared *, uint32_t seg); /* takes the segment out of the lists of sealed segments */
void pool_young_seal_locked(struct pool_shared *); /* closes the open young segment, full or not */
/* Takes the slot away from a filed segment that has a slot. */
struct warm pool_uncache_locked(struct pool_shared *, uint32_t seg);
void pool_seg_free_locked(struct pool *, uint32_t seg);
/* Frees a segment without live objects; if a thread uses the segment, that thread frees it. */
void pool_seg_empty_locked(struct pool *, uint32_t seg);
/* Called when the last object was dropped: gives all memory back. */
void pool_close_locked(struct pool *);
/*
 * Returns an empty segment in that state with a slot, no page of which is charged yet. NONE: there
 * is no memory.
 */
uint32_t pool_seg_new_locked(struct pool *, uint32_t state);
void pool_enqueue_locked(struct pool_shared *, struct list *, uint32_t seg);
void pool_dequeue_locked(struct pool_shared *, struct list *, uint32_t seg);
/* Records that this process works on segment seg now (s_owner, s_member). */
void pool_begin_locked(struct pool *, uint32_t seg);
/* The list of ps_sparse[] for a sealed segment with `live` live bytes. */
static inline uint32_t pool_bucket_of(uint32_t live)
{
	return live / BUCKET_BYTES < BUCKETS ? live / BUCKET_BYTES : BUCKETS - 1;
}

/* pool_young.c */
#define YOUNG_OBJECTS 7u                       /* most pages of a young segment; */
#define YOUNG_PAGES 8u                         /* the memory they lie in */
#define YOUNG_FEW 2u                           /* young segments that there may always be */
#define YOUNG_SHARE (YOUNG_PAGES * PAGE * 16u) /* and one more for each YOUNG_SHARE packed bytes */
/* The most young segments, the open one included. A hint without the lock. */
static inline uint32_t pool_young_most(const struct pool_shared *s)
{
	uint32_t most = __atomic_load_n(&s->ps_youngmax, __ATOMIC_RELAXED);
	uint64_t n = YOUNG_FEW + __atomic_load_n(&s->ps_packed, __ATOMIC_RELAXED) / YOUNG_SHARE;

	return n < most ? (uint32_t)n : most;
}
static inline uint32_t pool_young_pages(const struct pool_shared *s)
{
	return (s->ps_nyoung + (s->ps_open[OPEN_YOUNG] != NONE)) * YOUNG_PAGES;
}
/*
 * Called after packed pages were dropped, when there are more young pages than allowed: packs some.
 * Without the lock.
 */
void pool_young_relieve(struct pool *);
int pool_young_room(
    const struct pool_shared *); /* is a page to be stored unpacked? A hint; without the lock */
/*
 * Makes room for a page in the open young segment. -EAGAIN: there is no room, and the caller packs
 * the page. Does not drop the lock.
 */
int pool_young_open_locked(struct pool *);
void pool_young_added(
    struct pool *); /* pages were stored: is the packer to be woken? Without the lock */

/* pool_share.c: how much of the budget the pool takes */
static inline uint32_t pool_target(const struct pool_shared *s)
{
	return __atomic_load_n(&s->ps_target, __ATOMIC_RELAXED);
}
/* Scales a count meant for the whole pool by the part of the limit that the pool may fill now. */
static inline uint32_t pool_part(const struct pool_shared *s, uint32_t most)
{
	return (uint32_t)(((uint64_t)most * pool_target(s) + s->ps_limit - 1) / s->ps_limit);
}
/* Does the pool's part of memory change at all? */
static inline bool pool_shares(const struct pool_shared *s) { return s->ps_floor != s->ps_limit; }
/* records that the page of that object is evicted from its frame. With or without the lock */
void pool_left(struct pool_shared *, uint32_t handle);
/* Records that the object is loaded; io: by a read for this object alone. */
void pool_wanted_locked(struct pool_shared *, const struct object *, bool io);
/* raises the target when the file is full. False: the target is at its limit */
bool pool_raise_locked(struct pool_shared *);
void pool_read_took(struct pool_shared *, uint64_t ns); /* without the lock */

/* pool_cache.c: copies of segments in the file */
/*
 * Reads the pages of filed segment seg that cover [off, off+len) into its slot, with neighbours.
 * Drops the lock during the read. 0: the pages are in the slot (if the object is still in this
 * segment). -EAGAIN: no slot is free, or another thread reads this segment; the caller reads
 * privately. -EIO.
 */
int pool_fetch_locked(struct pool *, uint32_t seg, uint32_t off, uint32_t len);
/*
 * The two halves of such a read. False: no slot is free, or another thread reads this segment.
 * True: the segment keeps slot and block until the end of the read.
 */
bool pool_fetch_begin_locked(struct pool *, uint32_t seg);
/*
 * Decides which pages [*from, *to) to read when those pages are wanted: one run, at whose ends no
 * page is in the slot already. False: there is no memory for them.
 */
bool pool_extent_locked(struct pool *, uint32_t seg, uint32_t *from, uint32_t *to);
void pool_fetch_end_locked(struct pool *, uint32_t seg, uint32_t from, uint32_t to, int rc);
static inline uint32_t pool_pages_mask(
    uint32_t off, uint32_t len) /* the pages of a segment that cover this */
{
	return (uint32_t)((2ull << (off + len - 1) / PAGE) - (1ull << off / PAGE));
}
/* True: a load of these bytes of the segment needs no I/O. */
static inline int pool_resident(const struct segment *g, uint32_t off, uint32_t len)
{
	uint32_t want = pool_pages_mask(off, len);

	return g->s_slot != NONE && (g->s_state != SEG_FILED || (g->s_valid & want) == want);
}
void pool_hit_locked(struct pool_shared *, uint32_t seg);
/* Frees the slot of the least recently read cached segment. False: there is no such segment. */
bool pool_cache_evict_locked(struct pool *);
#endif
