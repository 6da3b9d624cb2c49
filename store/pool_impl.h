/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared between the store's own files; the theory is in pool.c. Everything in pool_shared is guarded by ps_lock unless it says
 * otherwise; functions named _locked are called with it held, assert that, and say if they drop it.
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
	    3) /* a block of the file that holds no more is emptied when the file is full */
#define NONE 0xffffffffu
#define NEW 0xfffffffeu /* ps_move.seg: the object had no place before */
#define BARRIER()                                                                                  \
	__atomic_signal_fence(                                                                     \
	    __ATOMIC_SEQ_CST) /* a kill leaves what was stored so far, in program order */
#define MAGIC 0x71706f6f6c303032ull
#define WARM_MAX 8u
#define BUCKETS 16u /* of sealed segments, by their live bytes */
#define BUCKET_BYTES (SEG_BYTES / BUCKETS)
#define GRANULE 512u /* entries of the object table that are taken and given back together */
#define GRANULE_PAGES (GRANULE * sizeof(struct object) / PAGE)
#define LEAF_BITS (PAGE * 8u)
#define POOL_READ_NS 60000u /* a read of the file, until some were timed */
#define AHEAD_START 8u      /* ps_ahead at first */
#define AHEAD_MAX 16u
#define AHEAD_WHOLE 6u /* from here on the whole segment is read */

enum { SEG_FREE, SEG_OPEN, SEG_SEALED, SEG_WRITING, SEG_FILED, SEG_READING, SEG_YOUNG };
enum {
	OPEN_PACKED,
	OPEN_OLD,
	OPEN_RAW,
	OPEN_YOUNG,
	OPENS
}; /* kinds of open segments. Old: what cleaning found alive */

struct object {
	uint64_t
	    o_word; /* same-filled: the word; else checksum, but nothing of a young page, and where there is no file */
	uint32_t o_ref;  /* 0: free */
	uint32_t o_seg;  /* NONE: same-filled */
	uint16_t o_off;  /* of the data in the segment */
	uint16_t o_len;  /* PAGE: stored raw */
	uint32_t o_left; /* atomic; ps_left when the page left the frames last. See pool_share.c */
};

struct segment {
	uint32_t s_state, s_slot, s_block; /* slot of memory, block of the file, or NONE */
	uint32_t s_used, s_live; /* bytes appended; bytes of live objects, headers included */
	uint32_t s_packed; /* of the live bytes, those of pages: headers and rounding excluded */
	uint32_t s_pages;  /* bit per page of the slot that is charged; only those are touched */
	uint32_t s_next,
	    s_prev; /* sealed queue; cached list; free list; READING: s_next is the slot read into */
	uint32_t s_above, s_below; /* SEALED: neighbours in ps_sparse[s_bucket] */
	uint32_t s_bucket;
	uint32_t s_owner,
	    s_member; /* WRITING, READING, s_fetch: the process that does it, as in the lock's word; its member or NONE */
	uint32_t s_valid; /* FILED with a slot: bit per page of it that holds what the file holds */
	uint32_t
	    s_fetch; /* FILED with a slot: 1 while a thread reads more of it, which keeps slot and block; YOUNG: not 0 while it is packed */
	uint32_t s_hits;  /* FILED with a slot: loads it has answered without I/O */
	uint32_t s_async; /* WRITING: by a ring; an entry of the member has it too */
	uint16_t s_bad;   /* FILED: the file has other bytes than were written; stays where it is */
	uint16_t s_old;   /* OPEN, SEALED: filled by cleaning */
	uint32_t s_left;  /* OPEN, SEALED: when its pages left the frames, on average; as o_left */
	uint32_t s_spilled; /* FILED: ps_stats.spills when it was written */
};
/* Written under the pool's lock; pool_better_anew looks without it, as a guess. */
static inline void set_state(struct segment *g, uint32_t state)
{
	__atomic_store_n(&g->s_state, state, __ATOMIC_RELAXED);
}

#define POOL_WRITES 4u /* in flight of one process */
struct member_io {
	uint32_t io_seg, io_block;
}; /* counted from 1. No block: free; no segment: another thread writes the segment now */
/* The write is over, or was never begun: what it was of goes first. */
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
}; /* a free slot whose memory is kept; as s_pages */
struct list {
	uint32_t first, last;
}; /* of segments, by s_next and s_prev */

/* Numbers given out lowest first; see pool_index.c. */
struct index {
	uint64_t x_map,
	    x_sum; /* offsets from the start: bit per number, 1: free; bit per word of the map, 1: not zero */
	uint32_t x_next, x_max; /* all numbers from x_next on are free, and have no bit; const */
	uint32_t x_low;         /* words of the summary before this one are zero */
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
}; /* ns; block counted from 1, 0: none. See pool_ring.c */

/* A far place: its ring, at an offset from the start, and its blocks, const after format. See pool_far.c. */
struct far_place {
	uint64_t fp_ring;
	uint32_t fp_first, fp_blocks;
	uint64_t
	    fp_full; /* ns: the place said that it is full, and gets no writes until then; 0: it is not full */
};

struct pool_shared {
	uint64_t ps_magic;
	uint32_t ps_lock;   /* futex: the process that holds it, see pool_lock.c */
	uint64_t ps_holder; /* atomic: which thread holds the lock, for pool_held(); 0: none */
	uint32_t ps_nslots, ps_nblocks, ps_nsegs,
	    ps_nobjects; /* const after format, as are the offsets */
	uint32_t
	    ps_limit; /* slots the log may ever fill before it spills; five more serve compaction */
	uint32_t ps_floor,
	    ps_target; /* const; atomic: slots it may fill now. See pool_share.c, as for the next seven */
	uint32_t ps_left;  /* atomic: pages that have left the frames so far */
	uint32_t ps_asked; /* loads since the last decision */
	uint64_t ps_more_frames, ps_more_pool, ps_less_pool,
	    ps_read_ns; /* ns of waiting that more would have saved, less cost; of a read */
	uint32_t
	    ps_cachemax; /* of them, slots that may hold what was read from the file; see pool_part */
	uint64_t ps_objects, ps_granuleused, ps_segs, ps_slots, ps_members,
	    ps_maps; /* offsets from the start */
	uint64_t ps_leaves;
	uint32_t ps_nmembers, ps_membertop; /* const; members that ever were */
	uint32_t ps_mapleaves, ps_nleaves;  /* leaves of one member's map; of all */
	uint32_t ps_leaves_used;
	struct index ps_objx, ps_segx, ps_slotx, ps_blockx, ps_farx[POOL_FARS],
	    ps_leafx;                /* farx: of each far place, from its fp_first on */
	uint32_t ps_granules;        /* of the object table, with a live entry */
	uint32_t ps_table[TABLES];   /* pages of each, as far as they are charged */
	uint32_t ps_held, ps_tables; /* pages charged: of slots, warm ones included; of tables */
	uint64_t
	    ps_packed; /* bytes of packed pages in slots, but for copies of what is in the file */
	uint32_t ps_fileblocks_used, ps_farblocks_used;
	uint32_t ps_fileblocks,
	    ps_nfar; /* const: blocks of the file, which come first; far places */
	struct far_place ps_far[POOL_FARS];
	uint64_t ps_keepfree; /* const: bytes of its file system that the file leaves to others */
	uint32_t ps_fileroom; /* blocks of the file that may be used now; see pool_block.c */
	bool ps_filestop;     /* the file may not grow now */
	uint64_t ps_rate;     /* const: bytes a second; 0: no limit */
	uint64_t
	    ps_paced; /* atomic: ns: when all that was let through is paid for; see pool_pace() */
	struct warm ps_warm[WARM_MAX];
	uint32_t ps_nwarm;
	uint32_t ps_open[OPENS];
	struct list ps_young; /* oldest first; see pool_young.c, as for the next five */
	uint32_t ps_nyoung, ps_youngmax,
	    ps_pins;                 /* of them; at most (0: there is no packer); readings begun */
	uint32_t ps_idle, ps_work;   /* atomics: the packer sleeps; futex, changed to wake it */
	struct list ps_sealed[2];    /* by s_old; in the order they were filled */
	uint32_t ps_sparse[BUCKETS]; /* the same by live bytes; first of each list, by s_below */
	struct list ps_cached;       /* FILED with a slot, least recently read first */
	uint32_t ps_ncached;
	uint32_t
	    ps_full; /* the last search for a segment in memory to clean found none with a quarter of it dead */
	uint32_t ps_tight; /* atomic: the packer packs tighter for the sake of fewer reads */
	uint32_t ps_mem_loads,
	    ps_file_loads; /* of late: pages answered by the log in memory; read from the file */
	uint32_t ps_ahead, ps_reads; /* how well reading ahead does, 0..AHEAD_MAX; reads so far */
	struct quarantine ps_quarantine[QUARANTINE_MAX]; /* ring; from ps_qfirst on, oldest first */
	uint32_t ps_qfirst;
	struct pool_stats ps_stats;
	struct {
		uint32_t object, seg, off, len;
	} ps_move;              /* object being placed (0: none) and its place before */
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
/* A count changes that is read without the lock, too, where a page is about to be packed (tighter). Lock held. */
static inline void pool_tell(uint32_t *which, uint32_t n)
{
	__atomic_store_n(which, n, __ATOMIC_RELAXED);
}
static inline uint64_t round_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }
/* How many pages of a slot such a mask has. By hand: __builtin_popcount calls a function where the CPU need not have the instruction. */
static inline uint32_t mask_count(uint32_t m)
{
	m -= m >> 1 & 0x55555555u;
	m = (m & 0x33333333u) + (m >> 2 & 0x33333333u);
	return ((m + (m >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}
/* Bytes an object of that length takes in a segment. */
static inline uint32_t object_bytes(uint32_t len)
{
	return (uint32_t)round_up(sizeof(struct header) + len, 8);
}
#define POOL_NOBODY                                                                                \
	0x7fffffffu /* p_owner of a process that never joined: no process can tell whether it lives */

/* Is a failure that was asked for (pool_inject) due? */
static inline int pool_injected(struct pool *p, enum pool_inject kind)
{
	return __atomic_load_n(&p->p_inject[kind], __ATOMIC_RELAXED) != 0 &&
	    __atomic_sub_fetch(&p->p_inject[kind], 1, __ATOMIC_RELAXED) == 0;
}

/* pool_lock.c */
void pool_lock(struct pool *); /* where the owner has died: p_repair has made everything anew */
void pool_lock_after(struct pool *, uint32_t dead); /* the same; that owner has died for certain */
uint32_t pool_lock_owner(
    const struct pool_shared *); /* who has the lock at the moment; 0: no process */
void pool_unlock(struct pool_shared *);

/* pool_assert.c */
void pool_held_begin(struct pool_shared *); /* the calling thread has taken the lock */
void pool_held_forked(void);                /* in a forked child: the process is another */
bool pool_held(const struct pool_shared *); /* does the calling thread hold the lock? */
_Noreturn void pool_panic(const char *what);
#ifndef NDEBUG
#define POOL_STR2(x) #x
#define POOL_STR(x) POOL_STR2(x)
#define POOL_ASSERT(e) ((e) ? (void)0 : pool_panic(__FILE__ ":" POOL_STR(__LINE__) ": " #e "\n"))
#else
#define POOL_ASSERT(e) ((void)sizeof(e))
#endif

/* pool_clock.c */
uint64_t pool_now(void); /* ns, of the clock that all processes share */
/* So many bytes are about to be read or written: sleeps as long as ps_rate demands. Without the lock. */
void pool_pace(struct pool *, uint32_t bytes);

/* pool_holds.c: this process holds a reference of that object; does not any more. Called after counting, before uncounting it */
void pool_own_locked(struct pool *, uint32_t handle);
void pool_disown_locked(struct pool *, uint32_t handle);
void pool_leaves_repair(struct pool_shared *); /* the index, from the members' maps */
uint32_t *pool_map_of(struct pool_shared *, uint32_t member); /* leaf numbers, 0: none */
uint64_t *pool_leaf_of(struct pool_shared *, uint32_t leaf);
/* Leaf n of a member's map, taken if need be. NULL: none is free. */
uint64_t *pool_leaf_get(struct pool *, uint32_t member, uint32_t n);
void pool_leaf_put(struct pool *, uint32_t member, uint32_t n); /* the leaf has no bit set */

/* pool_index.c; locked */
uint32_t pool_index_take(struct pool_shared *, struct index *); /* NONE: all are taken */
void pool_index_give(struct pool_shared *, struct index *, uint32_t);
bool pool_index_free(struct pool_shared *, const struct index *, uint32_t);
bool pool_index_any(struct pool_shared *, struct index *); /* is a number below x_next free? */
/* For repair: all below x_next are free; that one is taken; none free is at the end. */
void pool_index_reset(struct pool_shared *, struct index *);
void pool_index_mark(struct pool_shared *, struct index *, uint32_t);
void pool_index_trim(struct pool_shared *, struct index *);
static inline uint64_t pool_index_map_bytes(uint32_t max) { return round_up(max, 64) / 8; }
static inline uint64_t pool_index_sum_bytes(uint32_t max)
{
	return round_up(round_up(max, 64) / 64, 64) / 8;
}

/* pool_object.c; locked */
uint32_t pool_object_new(struct pool *); /* with one reference and no place. 0: the table is full */
void pool_object_free(struct pool *, uint32_t handle);
void pool_objects_repair(struct pool *); /* the index and the granules, from the entries */

/* pool_mem.c; locked: memory of slots and tables, and its charge */
/* The pages [from, to) of the segment's slot will be touched. False: the charge is refused. */
bool pool_touch_locked(struct pool *, uint32_t seg, uint32_t from, uint32_t to);
bool pool_slot_take_locked(struct pool *,
    struct warm *); /* a free slot, and which of its pages are charged. False: none */
void pool_slot_give_locked(struct pool *, struct warm);
bool pool_cool_locked(
    struct pool *); /* gives the memory of one warm slot back. False: there is none */
void pool_tables_locked(struct pool *); /* an index has grown or shrunk */
void pool_forget(
    void *mem, uint64_t len); /* gives the memory back to the kernel; it reads as zeros then */
/*
 * What the store has taken, bytes; the packed bytes that it holds; the most it takes for so many. The table of entries, which holds the
 * words of same-filled pages and the places of all, counts as packed: entries cannot move.
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
/* What stays free below these: for the copy of a segment that is not dense, a page that is being stored, and its entry. */
#define POOL_MARGIN (20u * PAGE)
/* The most it takes as long as there are segments worth compacting. */
static inline uint64_t pool_goal(const struct pool_shared *s)
{
	return pool_packed(s) / 8 * 9 + POOL_SLACK;
}

/* pool_store.c */
void pool_unref_locked(struct pool *, uint32_t handle);

/* pool_pack.c */
#define POOL_BATCH 8u /* pages that are packed or unpacked between two takings of the lock */
struct packed {
	uint64_t word; /* as o_word */
	const char *data;
	uint32_t len; /* 0: same-filled */
	bool dense;
	bool young; /* data is the caller's page, word means nothing */
};
int pool_ctx_map(struct pool *); /* 0 or -errno */
void pool_ctx_unmap(struct pool *);
/* A working area; pool_pack() leaves its results there. One thread must not take two. */
char *pool_ctx_take(struct pool *);
void pool_ctx_give(struct pool *, const char *ctx);
/* Packs a page; data is in place i (below POOL_BATCH) of the working area or (raw) the page itself. behind: no thread waits for it. Without the lock. */
void pool_pack(
    struct pool *, char *ctx, uint32_t i, bool behind, const void *page, struct packed *);
uint64_t pool_checksum(const char *data, uint32_t len);
int pool_same_filled(const void *page, uint64_t *word); /* are all words of the page equal? */
char *pool_ctx_buf(char *ctx); /* the context's buffer of POOL_BATCH pages */

/* pool_dead.c */
/* The thread that was writing or reading the segment has died: as if it had not begun. pool_repair_locked() follows. */
void pool_abandon_locked(struct pool_shared *, struct segment *);
/* Is the process known to be dead? owner: never 0; dead: one that is, or 0. */
bool pool_owner_dead(const struct pool *, uint32_t owner, uint32_t dead);
/* Is the process that writes, reads or packs the segment (s_owner) known to be dead? dead: one that is; 0: none. */
bool pool_orphan(const struct pool *, const struct segment *, uint32_t dead);
/* The member's ring is gone: its segments are SEALED, but in no list; pool_repair_locked() must follow. False: it had no writes. */
bool pool_orphan_writes_locked(struct pool_shared *, uint32_t member);

/* pool_repair.c: the lock's owner died; everything derived is made anew. dead: the owner; 0: another reason */
void pool_repair_locked(struct pool *, uint32_t dead);
/* That process is dead: what it was writing or reading is as if not begun. repair: its writes have been orphaned already. */
void pool_abandon_owner_locked(struct pool *, uint32_t owner, bool repair);

/* pool_ring.c: writes in flight. They belong to one thread of the process; for others there are none */
uint32_t pool_inflight(struct pool *);
/* Begins to write sealed segment seg. -EAGAIN: do it synchronously; -ENOSPC: no block. Drops the lock. */
int pool_write_start_locked(struct pool *, uint32_t seg);
/* Takes results; wait: at least one, dropping the lock. How many. */
uint32_t pool_reap_locked(struct pool *, int wait);
/* Writes a segment that another thread's ring has been writing for too long. -EAGAIN: the segment is not in that state. Drops the lock. */
int pool_steal_locked(struct pool *, uint32_t seg);
void pool_ring_close(struct pool *, int forked);

/* pool_aio.c */
struct pool_aio_result {
	uint64_t data;
	int res;
};
int pool_aio_setup(uint32_t n, uint64_t *aio); /* a context for n at a time */
void pool_aio_destroy(uint64_t aio);           /* waits for what is in flight */
uint32_t pool_aio_ready(
    uint64_t aio); /* how many have ended and were not collected; ~0: not known */
/* -EAGAIN: not taken. */
int pool_aio_write(uint64_t aio, int fd, void *mem, uint64_t at, uint32_t n, uint64_t data);
/* Up to max results; wait: at least one. */
uint32_t pool_aio_collect(uint64_t aio, int wait, struct pool_aio_result *, uint32_t max);
/* pool_fetch.c: loads that are begun and ended apart */
int pool_fetch_open(struct pool *);
void pool_fetch_close(struct pool *);
/* pool_load.c: so many pages were read, which will be loaded next */
void pool_fetched_locked(struct pool_shared *, uint32_t n);

/* pool_block.c: numbers of blocks */
uint32_t pool_block_take_locked(
    struct pool *); /* NONE: the file is full, and so are the far places; p_sink: the latter */
void pool_block_give_locked(struct pool_shared *, uint32_t block);
/* A block that is not to be used for a while; when too many are, ever. It was used till now. */
void pool_block_set_aside_locked(struct pool_shared *, uint32_t block);
void pool_block_full_locked(
    struct pool_shared *, uint32_t block); /* a write there failed for lack of room */
void pool_block_count_locked(struct pool_shared *, uint32_t block,
    int by); /* by: 1 if the block comes into use, -1 if it goes out of use */
uint32_t pool_file_room_locked(const struct pool_shared *); /* blocks that the file has free now */
bool pool_far_room_locked(struct pool_shared *);            /* has a far place a free block? */
/* For repair: no block is in use; that one is not free (used: and is counted); none free is at the end. */
void pool_blocks_reset(struct pool_shared *);
void pool_block_mark(struct pool_shared *, uint32_t block, bool used);
void pool_blocks_trim(struct pool_shared *);
bool pool_block_free(struct pool_shared *, uint32_t block);

/* pool_file.c */
/* A write of sealed segment seg: to a block (s_block; -ENOSPC); the write itself, dropping the lock, and its end; its end alone. */
int pool_write_begin_locked(struct pool *, uint32_t seg);
int pool_write_sync_locked(struct pool *, uint32_t seg);
void pool_write_end_locked(struct pool *, uint32_t seg, int rc);
/* Bytes of a segment that are written and read back: whole pages. */
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
/* Filed segment seg is read back whole and sealed, its block given back. 0; -EIO, -ENOSPC: it stays filed. Drops the lock. */
int pool_fetch_back_locked(struct pool *, uint32_t seg);

/* pool_far.c: blocks that lie far away */
const struct far_place *pool_far_of(
    const struct pool_shared *, uint32_t block); /* NULL: it is the file's */
/* As pool_file_io, of one block at most; waits. */
int pool_far_io(
    struct pool *, const struct far_place *, int write, void *mem, uint64_t at, uint32_t n);
/* Begins to write a far block. 0 and *ticket; -EAGAIN: not now; -EIO. */
int pool_far_begin(
    struct pool *, uint32_t block, const void *mem, uint32_t bytes, uint32_t *ticket);
/* Begins to read bytes at offset at of the blocks; ends it. As above. */
int pool_far_read_begin(struct pool *, uint64_t at, uint32_t bytes, uint32_t *ticket);
int pool_far_read_end(struct pool *, uint32_t block, uint32_t ticket, void *mem, uint32_t bytes);
bool pool_far_ready(
    struct pool *, uint32_t block, uint32_t ticket);              /* would pool_far_end not wait? */
int pool_far_end(struct pool *, uint32_t block, uint32_t ticket); /* 0, -EIO, -ENOSPC */
void pool_far_trim(struct pool_shared *,
    uint32_t block); /* its contents are not needed; nothing for a block of the file */
void pool_far_release(struct pool_shared *, uint32_t member); /* that member is dead */
/* Are there blocks, near or far? */
static inline bool pool_has_blocks(const struct pool *p)
{
	return p->p_fd >= 0 || p->p_shared->ps_nfar > 0;
}

/* pool_log.c */
/* Room for bytes in the open segment of that kind, not OPEN_YOUNG. Drops the lock meanwhile. 0 or -errno. */
int pool_open_locked(struct pool *, unsigned kind, uint32_t bytes);
/* After objects have gone: what the store holds is made dense again, and what it need not hold is given back. */
void pool_settle_locked(struct pool *);

/* pool_seg.c */
/* Segment seg has room, and the memory for it is charged. */
void pool_append_locked(
    struct pool_shared *, uint32_t seg, uint32_t object, const char *data, uint32_t len);
/* An object of that length, which lay in segment seg, is there no more. */
void pool_gone_locked(struct pool_shared *, uint32_t seg, uint32_t len);
void pool_seal_locked(struct pool_shared *, uint32_t seg);
/* The sealed segment to be written first, or NONE: whose pages have been out of the frames the longest. */
uint32_t pool_oldest(const struct pool_shared *);
void pool_unseal_locked(
    struct pool_shared *, uint32_t seg); /* out of the lists of sealed segments */
void pool_young_seal_locked(
    struct pool_shared *); /* the open young one is full, whatever is in it */
/* Takes the slot off a filed segment that has one. */
struct warm pool_uncache_locked(struct pool_shared *, uint32_t seg);
void pool_seg_free_locked(struct pool *, uint32_t seg);
/* Segment without live objects: free it unless it is in use, then its user will. */
void pool_seg_empty_locked(struct pool *, uint32_t seg);
/* The store holds no data any more: so does it no memory. */
void pool_close_locked(struct pool *);
/* An empty segment in that state with a slot, of which no page is charged for it yet. NONE: no memory. */
uint32_t pool_seg_new_locked(struct pool *, uint32_t state);
void pool_enqueue_locked(struct pool_shared *, struct list *, uint32_t seg);
void pool_dequeue_locked(struct pool_shared *, struct list *, uint32_t seg);
/* This thread is at segment seg now. */
void pool_begin_locked(struct pool *, uint32_t seg);
/* Which list of ps_sparse[] has a sealed segment with so many live bytes. */
static inline uint32_t pool_bucket_of(uint32_t live)
{
	return live / BUCKET_BYTES < BUCKETS ? live / BUCKET_BYTES : BUCKETS - 1;
}

/* pool_young.c */
#define YOUNG_OBJECTS 7u                       /* pages of a young segment; */
#define YOUNG_PAGES 8u                         /* the memory they lie in */
#define YOUNG_FEW 2u                           /* young segments that there may always be */
#define YOUNG_SHARE (YOUNG_PAGES * PAGE * 16u) /* and one more for so many packed bytes */
/* How many segments may be young, the open one included. A hint without the lock. */
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
/* Packed pages have gone, so there are more young pages than may be: packs some. Without the lock. */
void pool_young_relieve(struct pool *);
int pool_young_room(
    const struct pool_shared *); /* is a page to be stored unpacked? A hint; without the lock */
/* Room for a page in the open young segment. -EAGAIN: there is none, pack it. Does not drop the lock. */
int pool_young_open_locked(struct pool *);
void pool_young_added(
    struct pool *); /* pages were stored: is the packer to be woken? Without the lock */

/* pool_share.c: how much of the budget the pool takes */
static inline uint32_t pool_target(const struct pool_shared *s)
{
	return __atomic_load_n(&s->ps_target, __ATOMIC_RELAXED);
}
/* So many of the whole pool, in proportion to what it may hold now. */
static inline uint32_t pool_part(const struct pool_shared *s, uint32_t most)
{
	return (uint32_t)(((uint64_t)most * pool_target(s) + s->ps_limit - 1) / s->ps_limit);
}
/* Does the pool's part of memory change at all? */
static inline bool pool_shares(const struct pool_shared *s) { return s->ps_floor != s->ps_limit; }
void pool_left(struct pool_shared *,
    uint32_t handle); /* the page of that object leaves the frames. Without the lock, too */
/* It is loaded; io: with a read of its own. */
void pool_wanted_locked(struct pool_shared *, const struct object *, bool io);
bool pool_raise_locked(
    struct pool_shared *); /* the file takes no more: false: neither does memory */
void pool_read_took(struct pool_shared *, uint64_t ns); /* without the lock */

/* pool_cache.c: what was read from the file */
/*
 * Brings the pages of filed segment seg that cover [off, off+len) into its slot, with neighbours. Drops the lock during the
 * read. 0: they are there (if the object still is in this segment). -EAGAIN: no slot for it, or another thread
 * reads this segment: read it privately. -EIO.
 */
int pool_fetch_locked(struct pool *, uint32_t seg, uint32_t off, uint32_t len);
/* The two parts of such a read. False: no slot for it, or another thread reads this segment. Else the segment keeps slot and block till the end. */
bool pool_fetch_begin_locked(struct pool *, uint32_t seg);
/* How much to read, [*from, *to), when those pages are wanted: one run, as little as misses. False: no memory for it. */
bool pool_extent_locked(struct pool *, uint32_t seg, uint32_t *from, uint32_t *to);
void pool_fetch_end_locked(struct pool *, uint32_t seg, uint32_t from, uint32_t to, int rc);
static inline uint32_t pool_pages_mask(
    uint32_t off, uint32_t len) /* the pages of a segment that cover this */
{
	return (uint32_t)((2ull << (off + len - 1) / PAGE) - (1ull << off / PAGE));
}
/* Loads from it need no I/O. */
static inline int pool_resident(const struct segment *g, uint32_t off, uint32_t len)
{
	uint32_t want = pool_pages_mask(off, len);

	return g->s_slot != NONE && (g->s_state != SEG_FILED || (g->s_valid & want) == want);
}
void pool_hit_locked(struct pool_shared *, uint32_t seg);
/* Takes the slot off the cached segment least recently read, and gives it back. False: there is none. */
bool pool_cache_evict_locked(struct pool *);
#endif
