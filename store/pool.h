/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A log-structured compressed store of pages, shared by a family of processes.
 *
 * Everything lives in one shared mapping (a memfd, or private memory for one process) and at most one file. Functions use raw
 * system calls only (no errno, no allocation), may sleep for the lock and for I/O, and may be called from any thread.
 * Results are 0 or a negative errno value.
 */
#ifndef QUIRE_STORE_POOL_H
#define QUIRE_STORE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/patience.h"

#define POOL_FARS 3u /* far places, at most */
struct pool_config {
	uint64_t mem_limit; /* bytes of memory compressed pages may take */
	/*
	 * with a file: the least memory; pool_share.c chooses between this and the limit. 0: always
	 * the limit
	 */
	uint64_t mem_floor;
	uint64_t file_limit; /* bytes of the file; 0: no file */
	/*
	 * bytes of each far place; far places are used after the file, in this order; 0 ends the
	 * list. Their rings: pool_far()
	 */
	uint64_t far_bytes[POOL_FARS];
	uint64_t keep_free; /* bytes of the file's file system that the file leaves to others */
	uint64_t
	    rate; /* bytes a second read and written, file and far places together; 0: no limit */
	uint64_t max_objects; /* 0: derived from the limits */
	/*
	 * processes at a time whose references are recorded; 0: none are. A tag has one member at
	 * most, so POOL_MEMBERS is enough for all of a family
	 */
	uint32_t max_members;
};

#define POOL_SLACK (256u << 10) /* bytes that the store may take beyond 5/4 of its packed bytes */
#define POOL_CONTEXTS 4u
#define POOL_LOADS 8u /* loads of one process that are begun and not ended */
struct pool {
	struct pool_shared *p_shared;
	size_t p_size;
	int p_fd; /* the file, or -1 */
	/*
	 * set by the user after attaching: the store keeps no copy in memory of a page that is read
	 * (pool_vnode.c)
	 */
	bool p_exclusive;
	char *p_ctx;         /* POOL_CONTEXTS working areas */
	uint32_t p_ctx_busy; /* bit per context, atomic */
	int (*p_charge)(void *arg,
	    long pages); /* takes (+) or returns (-) memory; nonzero refuses. May be NULL */
	/* returns the tag of the child that is being forked, or was last. May be NULL */
	uint32_t (*p_tag)(void *arg);
	/*
	 * Is the process of that tag dead and not yet given to pool_release()? Called with or
	 * without the lock. NULL: this process never takes another process for dead (pool_lock.c)
	 */
	bool (*p_gone)(void *arg, uint32_t tag);
	/*
	 * Called each time a thread has waited for another process for some time, without the lock.
	 * Does not return if the process that reports deaths has itself ended: the wait might never
	 * end. May be NULL
	 */
	void (*p_waited)(void *arg);
	/*
	 * Does the store end with all that is in it? Then pool_release() stops where it is. Called with
	 * the lock, now and then. May be NULL
	 */
	bool (*p_ends)(void *arg);
	void *p_charge_arg; /* argument of the five functions above */
	/*
	 * the thread that writes behind has its own descriptor table: a forked child inherits no
	 * descriptor of that table
	 */
	bool p_ownfds;
	struct pool_ring *p_ring; /* writes behind, or NULL; used by one thread unless p_alone */
	struct pool_aio *p_aio;   /* for pool_load_begin and pool_load_end, or NULL */
	struct patience p_far;    /* for reads of far places */
	bool p_alone;             /* pool_alone() */
	/* the next block taken is to be a far block; used by the packer */
	bool p_sink;
	/*
	 * a write behind failed: the next write is synchronous and reports its error. Used by the
	 * thread that writes behind
	 */
	int p_sync;
	/* the member entries of this process and of the child being forked; ~0: none */
	uint32_t p_member, p_child;
	uint32_t p_owner;     /* this process in the lock's word: its tag + 1, or POOL_NOBODY */
	uint32_t p_inject[8]; /* atomic countdown per kind, 0: off */
	/*
	 * const: rebuilds what follows from the objects and segments; called with the lock, after
	 * its owner died. Set by pool_attach
	 */
	void (*p_repair)(struct pool *, uint32_t dead);
};

enum pool_inject {
	POOL_INJECT_READ,
	POOL_INJECT_WRITE,
	POOL_INJECT_MEMORY,
	POOL_INJECT_SUBMIT, /* the kernel refuses to start a write behind */
	POOL_INJECT_KILL,   /* the process is killed instead of reading or writing */
};

struct pool_stats {
	uint64_t pages;       /* stored */
	uint64_t same_filled; /* pages kept as one word */
	uint64_t mem_pages;   /* pages in memory */
	uint64_t mem_bytes;   /* bytes of these pages, packed or not yet packed */
	uint64_t
	    mem_held; /* bytes of memory taken, tables and holes included: what the budget is charged */
	/*
	 * packed bytes of pages in memory, plus the object table: mem_held is at most POOL_SLACK +
	 * 5/4 of mem_packed
	 */
	uint64_t mem_packed;
	uint64_t mem_most;                  /* the most bytes that were ever taken */
	uint64_t file_bytes;                /* bytes of the file in use */
	uint64_t bytes_written, bytes_read; /* bytes of the file written and read so far */
	uint64_t bytes_far;                 /* bytes written to and read from far places so far */
	uint64_t far_bytes;                 /* bytes of far places in use */
	uint64_t sunk;                      /* segments moved from the file to a far place */
	uint64_t spills, compactions, write_errors;
	uint64_t dense;       /* pages ever packed tightly, because memory was short */
	uint64_t young_pages; /* pages in memory that are not packed yet */
	/* pages packed by pool_work; loads of pages that were not packed yet */
	uint64_t packed_behind, young_hits;
	uint64_t cache_hits; /* loads of pages in the file that needed no I/O */
	uint64_t behind;     /* spills that were written behind */
	uint64_t steals;     /* writes behind whose process did not collect the result */
	uint64_t
	    set_aside; /* blocks not used for now: a write there failed, or may still arrive from a killed process */
	uint64_t mem_target; /* bytes of memory the log may take now */
	uint64_t repairs;    /* times the lock or a write was taken over from a dead process */
	double
	    ratio; /* page bytes / stored bytes over everything ever compressed; same-filled pages excluded */
};

size_t pool_shared_size(const struct pool_config *);
/* Pages that a file of so many bytes holds for certain, even if none of them compresses. */
uint64_t pool_file_pages(uint64_t bytes);
/*
 * Of those pages, how many the store has no room for now: a far place was full or is given up, or the
 * file may not grow. A hint, without a lock.
 */
uint64_t pool_pages_lost(struct pool *);
uint64_t pool_bytes_lost(struct pool *); /* the same, in bytes of the file and the far places */
/* mem is zeroed memory of pool_shared_size bytes. */
int pool_format(void *mem, const struct pool_config *);
/* -ENOMEM: no memory for the working areas; -EINVAL: not formatted. fd -1: no file (then stored pages there are -EIO). */
int pool_attach(struct pool *, void *mem, size_t size, int fd);
void pool_detach(struct pool *);
/*
 * Returns the ring of far place i and its offset in the store's memory, for the server that is to
 * answer the ring; NULL: there is no such place.
 */
struct far_ring *pool_far(struct pool *, uint32_t i, uint64_t *offset);
/*
 * A step of the packer that has no page to pack: moves one segment from a file that is nearly full
 * to a far place. 1: a segment was moved, call again; 0: there is nothing to do now.
 */
int pool_sink(struct pool *);
/*
 * From now on the references of this process are recorded under that tag, so that pool_release can
 * drop them. Call this function before the first pool_store. -EAGAIN: no member entry is free, and
 * references are not recorded.
 */
int pool_join(struct pool *, uint32_t tag);
/*
 * From now on the calling thread writes segments behind, up to four at a time: the thread continues
 * while the disk works. Only for a member of a store with a file. A later pool_store reports the
 * errors of such writes; a segment that could not be written stays in memory. -EINVAL: the process
 * is no member, or another thread writes behind already; else the reason why io_uring cannot be
 * used (-ENOSYS, -EPERM, -EINVAL of an old kernel): all writes are synchronous then. A forked child
 * must call this function anew. The thread should call pool_poll now and then while it stores no
 * pages.
 */
int pool_async(struct pool *);
/*
 * Waits for the thread's writes; from now on the thread writes synchronously. A thread that called
 * pool_async and ends before the store is detached calls this function before it ends.
 */
void pool_async_end(struct pool *);
/*
 * Declares that the store lies in private memory of this process, has no members, and is used by
 * this process alone. Call this function directly after pool_attach. Then no other process can die
 * with the lock. If there is a file and the kernel allows asynchronous I/O (io_submit), all threads
 * write behind, and loads may be begun (pool_load_begin). Errors of writes are reported as with
 * pool_async.
 */
void pool_alone(struct pool *);
/*
 * Begins to read all those of n pages that are in the file, without waiting. 0: no read was begun.
 * Else returns a ticket: the same thread calls pool_load_end, which waits, and then pool_load_vec,
 * which finds the pages in memory.
 */
uint32_t pool_load_begin(struct pool *, uint32_t n, const uint32_t *handles);
void pool_load_end(struct pool *, uint32_t ticket);
int pool_load_ready(struct pool *, uint32_t ticket); /* would pool_load_end not wait? */
/*
 * Collects the results of ended writes behind that the calling thread began; wait: waits for all of
 * them.
 */
void pool_poll(struct pool *, int wait);
/*
 * Gives back all that a process held, the lock included; the process that joined or was forked with
 * that tag is dead, or has executed another program. Without this call, a lock that a dead process
 * held stays taken.
 */
void pool_release(struct pool *, uint32_t tag);
/*
 * Returns the tag of the process that holds the lock of the store in that memory object; ~0: no
 * process holds the lock. The caller need not have mapped the object.
 */
uint32_t pool_lock_tag(int fd);
/*
 * Tags of forked children: POOL_CHILD_TAGS numbers from POOL_CHILD_TAG on. Smaller numbers are those
 * of processes that joined by pool_join(), larger ones are for users of the store that are no
 * processes of the family.
 *
 * pool_tag_take: a parent takes a tag before the fork; ~0: all tags are taken. pool_tag_give: the
 * parent gives the tag back, if the supervisor has not been told of the child. pool_tag_free: the
 * supervisor frees the tag of a process that has ended, in the store of that memory object, which
 * the supervisor need not have mapped. Both do nothing if the tag is no child's.
 */
#define POOL_CHILD_TAG 512u
#define POOL_CHILD_TAGS 512u
/* All tags of processes. POOL_KEEPER_TAG: the keeper's, which is no process of the family. */
#define POOL_TAGS (POOL_CHILD_TAG + POOL_CHILD_TAGS)
#define POOL_KEEPER_TAG POOL_TAGS
/* A process that has ended is a member until its release, so there may be one for each tag. */
#define POOL_MEMBERS (POOL_KEEPER_TAG + 1)
static inline bool pool_tag_is_child(uint32_t tag)
{
	return tag - POOL_CHILD_TAG < POOL_CHILD_TAGS;
}
uint32_t pool_tag_take(struct pool *);
void pool_tag_give(struct pool *, uint32_t tag);
void pool_tag_free(int fd, uint32_t tag);
/*
 * The calls around a fork of a member. pool_fork_begin: before the fork, while no other thread uses
 * the store; the child will hold what this process holds. -EAGAIN: no member entry is free, or this
 * process is no member; the caller then counts references by pool_ref. pool_fork_cancel: the fork
 * failed. pool_after_fork: in the child, always, before any other call and while the child has one
 * thread.
 */
int pool_fork_begin(struct pool *);
void pool_fork_cancel(struct pool *);
int pool_after_fork(struct pool *);
/*
 * -ENOSPC: memory and file are full; -EIO: the file could not be written (pages stored already are
 * kept). The handle is never 0; it has one reference.
 */
int pool_store(struct pool *, const void *page, uint32_t *handle);
/* -EIO: the file could not be read, or the contents differ from the stored page. */
int pool_load(struct pool *, uint32_t handle, void *page);
/*
 * As pool_store and pool_load, for n pages, taking the lock less often. *done: how many pages from
 * the start are stored (loaded); the result tells about the page after them.
 */
int pool_store_vec(
    struct pool *, uint32_t n, const void *const *pages, uint32_t *handles, uint32_t *done);
/*
 * Tells the store that the page of that object was evicted from its frame without being stored,
 * because the page was clean. A hint.
 */
void pool_dropped(struct pool *, uint32_t handle);
/*
 * Does the object take memory now? (No: an object in the file alone, and a same-filled page.) A
 * hint.
 */
int pool_takes_memory(const struct pool *, uint32_t handle);
/*
 * Asked after a load of the page. 1: the caller had better drop the object and store the page anew
 * at its eviction, because the object lies in the file, costs a read for itself alone at each load,
 * and was used more recently than the pages in memory. A hint.
 */
int pool_better_anew(const struct pool *, uint32_t handle);
int pool_load_vec(
    struct pool *, uint32_t n, const uint32_t *handles, void *const *pages, uint32_t *done);
/*
 * From now on another thread packs (pool_work). Until a page is packed it lies unpacked in the
 * store's memory: in up to that many bytes, at most an eighth of the limit (pool_young.c). 0: each
 * thread packs the pages that it stores, which is the initial state.
 */
void pool_pack_behind(struct pool *, uint64_t bytes);
/*
 * The packer's step; any thread of a process that has attached the store may call it. Packs one
 * segment of young pages and writes to the file if there is no room. all: packs just-stored pages,
 * too. 1: call again; 0: there is nothing to do; -ENOSPC, -EIO: as pool_store; the pages stay
 * unpacked.
 */
int pool_work(struct pool *, bool all);
/*
 * Sleeps until there is work, or until pool_wake_packer() has been called since pool_work_seen()
 * returned seen. rc: the result of pool_work().
 */
void pool_wait_work(struct pool *, uint32_t seen, int rc);
uint32_t pool_work_seen(const struct pool *);
void pool_wake_packer(struct pool *);
/*
 * Gives back at least this many bytes of memory by compacting and writing. -ENOSPC: fewer bytes
 * were given back; -EIO: as pool_store.
 */
int pool_shrink(struct pool *, uint64_t bytes);
void pool_ref(struct pool *, uint32_t handle);
void pool_unref(struct pool *, uint32_t handle);
void pool_unref_vec(
    struct pool *, uint32_t n, const uint32_t *handles); /* skips handles that are 0 */
void pool_stats(struct pool *, struct pool_stats *);
void pool_inject(
    struct pool *, enum pool_inject, uint32_t nth); /* tests: the nth next such operation fails */
#endif
