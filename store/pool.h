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
	uint64_t
	    mem_floor; /* with a file: between this and the limit as is best for all (pool_share.c); 0: the limit always */
	uint64_t file_limit; /* bytes of the file; 0: no file */
	uint64_t far_bytes
	    [POOL_FARS]; /* of far places, used after the file, in order; 0 ends the list. Their rings: pool_far() */
	uint64_t keep_free; /* bytes of the file's file system that the file leaves to others */
	uint64_t
	    rate; /* bytes a second read and written, file and far places together; 0: no limit */
	uint64_t max_objects; /* 0: derived from the limits */
	uint32_t max_members; /* processes at a time whose references are recorded; 0: none are */
};

#define POOL_SLACK                                                                                 \
	(256u << 10) /* bytes that the store may take beyond 5/4 of what it holds packed */
#define POOL_CONTEXTS 4u
#define POOL_LOADS 8u /* begun and not ended, of one process */
struct pool {
	struct pool_shared *p_shared;
	size_t p_size;
	int p_fd; /* the file, or -1 */
	bool
	    p_exclusive; /* set by the user after attaching: a page that is read is not kept in memory here, too (pool_vnode.c) */
	char *p_ctx;     /* POOL_CONTEXTS working areas */
	uint32_t p_ctx_busy; /* bit per context, atomic */
	int (*p_charge)(void *arg,
	    long pages); /* takes (+) or returns (-) memory; nonzero refuses. May be NULL */
	uint32_t (*p_tag)(
	    void *arg); /* the tag of the child that is being forked, or was. May be NULL */
	/*
	 * Is the process of that tag dead, and pool_release() for it still to come? Called with the lock and without. NULL: the
	 * process never judges whether another lives (pool_lock.c)
	 */
	bool (*p_gone)(void *arg, uint32_t tag);
	void *p_charge_arg; /* of the three */
	bool
	    p_ownfds; /* the thread that writes behind has a table of descriptors of its own: a forked child has none of it */
	struct pool_ring *p_ring; /* writes behind, or NULL; used by one thread unless p_alone */
	struct pool_aio *p_aio;   /* loads that are begun and ended apart, or NULL */
	struct patience p_far;    /* with reads of far places */
	bool p_alone;             /* pool_alone() */
	bool p_sink;              /* the block taken next is to be a far one; the packer's */
	int p_sync; /* a write behind failed: the next write is synchronous and reports its error. Of the thread that writes behind */
	uint32_t p_member,
	    p_child;          /* this process's entry, and that of the child being forked, or ~0 */
	uint32_t p_owner;     /* this process in the lock's word: its tag and 1, or POOL_NOBODY */
	uint32_t p_inject[8]; /* atomic countdown per kind, 0: off */
	/* const: makes anew what follows from the objects and segments; called with the lock, whose owner has died. Set by pool_attach */
	void (*p_repair)(struct pool *, uint32_t dead);
};

enum pool_inject {
	POOL_INJECT_READ,
	POOL_INJECT_WRITE,
	POOL_INJECT_MEMORY,
	POOL_INJECT_SUBMIT, /* the kernel does not take a write behind */
	POOL_INJECT_KILL,   /* the process is killed where it would read or write */
};

struct pool_stats {
	uint64_t pages;       /* stored */
	uint64_t same_filled; /* of them, kept as a word */
	uint64_t mem_pages;   /* of them, in memory */
	uint64_t mem_bytes;   /* their bytes, packed or not yet */
	uint64_t
	    mem_held; /* bytes of memory taken, tables and holes included: what the budget is charged */
	uint64_t
	    mem_packed; /* packed bytes of pages in memory, and the table of entries: mem_held is at most POOL_SLACK + 5/4 of it */
	uint64_t mem_most;                  /* the most that was ever taken */
	uint64_t file_bytes;                /* bytes of the file in use */
	uint64_t bytes_written, bytes_read; /* of the file, ever */
	uint64_t bytes_far;                 /* written to and read from far places, ever */
	uint64_t far_bytes;                 /* of far places in use */
	uint64_t sunk;                      /* segments that went from the file to a far place */
	uint64_t spills, compactions, write_errors;
	uint64_t dense;       /* pages ever packed tightly, because memory was short */
	uint64_t young_pages; /* in memory, not packed yet */
	uint64_t packed_behind,
	    young_hits;      /* packed by pool_work; loads of pages that were not packed yet */
	uint64_t cache_hits; /* loads of pages in the file that needed no I/O */
	uint64_t behind;     /* of the spills, written behind */
	uint64_t steals;     /* writes behind whose process did not come for the result */
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
/* mem is zeroed memory of that size. */
int pool_format(void *mem, const struct pool_config *);
/* -ENOMEM: no memory for the working areas; -EINVAL: not formatted. fd -1: no file (then stored pages there are -EIO). */
int pool_attach(struct pool *, void *mem, size_t size, int fd);
void pool_detach(struct pool *);
/* The ring of far place i and its offset in the store's memory, for the server that is to answer it; NULL: there is none. */
struct far_ring *pool_far(struct pool *, uint32_t i, uint64_t *offset);
/*
 * The packer, when it has nothing to pack: moves one segment from a file that is nearly full to a far place. 1: it did, call
 * it again; 0: there is nothing to do now.
 */
int pool_sink(struct pool *);
/*
 * From now on references of this process are recorded under that tag, so that pool_release can give them back; call it before the
 * first pool_store. -EAGAIN: no entry free; references are not recorded then.
 */
int pool_join(struct pool *, uint32_t tag);
/*
 * From now on the calling thread writes segments behind, up to four at a time: it goes on while the disk works. A member with a
 * file only. Its errors come with a later pool_store; what could not be written stays in memory. -EINVAL: not a member, or
 * another thread does already; else why io_uring cannot be used (-ENOSYS, -EPERM, -EINVAL by an old kernel): all is synchronous
 * then. In a forked child it must be called anew. The thread should call pool_poll now and then while it stores nothing.
 */
int pool_async(struct pool *);
/*
 * Waits for the thread's writes; from now on it writes synchronously. The thread that called pool_async calls this before it ends, if it ends
 * before the store is detached.
 */
void pool_async_end(struct pool *);
/*
 * The store is in private memory of this process, has no members, and everything is of this process alone: call it directly
 * after pool_attach. No other process can die with the lock then, and where there is a file and the kernel allows asynchronous I/O
 * (io_submit), all threads write behind, and loads may be begun (pool_load_begin). Errors of writes come as with pool_async.
 */
void pool_alone(struct pool *);
/*
 * Begins to read those of n pages that are in the file, all at once, without waiting. 0: no read was begun. Else a ticket: the same
 * thread calls pool_load_end, which waits, and then pool_load_vec, which finds the pages in memory.
 */
uint32_t pool_load_begin(struct pool *, uint32_t n, const uint32_t *handles);
void pool_load_end(struct pool *, uint32_t ticket);
int pool_load_ready(struct pool *, uint32_t ticket); /* would pool_load_end not wait? */
/* Takes the results of writes behind that the calling thread began and that have ended; wait: waits for all of them. */
void pool_poll(struct pool *, int wait);
/*
 * The process that joined or was forked with that tag is dead, or has executed another program: gives back all that it held, the lock
 * included. Without this call a lock that a dead process held stays taken.
 */
void pool_release(struct pool *, uint32_t tag);
/* The tag of the process that holds the lock of the store in that memory object, which the caller need not have mapped; ~0: no process does. */
uint32_t pool_lock_tag(int fd);
/*
 * Around a fork of a member: begin before it, in a moment when no other thread uses the store: the child will hold what this process
 * holds. -EAGAIN: no entry free or not a member: then count references by pool_ref. Cancel: there is no child. In the child
 * pool_after_fork first of all, single-threaded, always.
 */
int pool_fork_begin(struct pool *);
void pool_fork_cancel(struct pool *);
int pool_after_fork(struct pool *);
/* -ENOSPC: memory and file are full; -EIO: the file could not be written (what is stored already is kept). The handle is never 0; it has one reference. */
int pool_store(struct pool *, const void *page, uint32_t *handle);
/* -EIO: the file could not be read, or the contents are not what was stored. */
int pool_load(struct pool *, uint32_t handle, void *page);
/*
 * The same for n pages with few takings of the lock. *done: how many from the start are stored (loaded); the result is
 * about the one after them.
 */
int pool_store_vec(
    struct pool *, uint32_t n, const void *const *pages, uint32_t *handles, uint32_t *done);
/* The page of that object has left the frames without being stored, because it was clean. A hint. */
void pool_dropped(struct pool *, uint32_t handle);
/* Does keeping the object take memory now (not the file alone, not a same-filled page)? A hint. */
int pool_takes_memory(const struct pool *, uint32_t handle);
/*
 * The page was just loaded. 1: the caller does better to drop the object and to store the page anew when it leaves memory, because the object
 * lies in the file, costs a read of its own each time, and was used more recently than what is in memory. A hint.
 */
int pool_better_anew(const struct pool *, uint32_t handle);
int pool_load_vec(
    struct pool *, uint32_t n, const uint32_t *handles, void *const *pages, uint32_t *done);
/*
 * Another thread packs from now on (pool_work): up to that many bytes of the store's memory hold pages as they are until then
 * (pool_young.c); at most an eighth of the limit. 0: each thread packs the pages that it stores, as at first.
 */
void pool_pack_behind(struct pool *, uint64_t bytes);
/*
 * The packer: any process that has attached the store, one thread or several. Packs one segment of pages that wait for it
 * and writes to the file if there is no room. all: those just stored, too. 1: call it again; 0: there is nothing to do; -ENOSPC, -EIO: as
 * pool_store, the pages stay as they are.
 */
int pool_work(struct pool *, bool all);
/* Sleeps until there is work or pool_wake_packer() was called since pool_work_seen() gave seen. rc: what pool_work() said. */
void pool_wait_work(struct pool *, uint32_t seen, int rc);
uint32_t pool_work_seen(const struct pool *);
void pool_wake_packer(struct pool *);
/* Gives back at least so many bytes of memory by compacting and writing. -ENOSPC: not all of them; -EIO as above. */
int pool_shrink(struct pool *, uint64_t bytes);
void pool_ref(struct pool *, uint32_t handle);
void pool_unref(struct pool *, uint32_t handle);
void pool_unref_vec(
    struct pool *, uint32_t n, const uint32_t *handles); /* handles that are 0 are left out */
void pool_stats(struct pool *, struct pool_stats *);
void pool_inject(
    struct pool *, enum pool_inject, uint32_t nth); /* tests: the nth next such operation fails */
#endif
