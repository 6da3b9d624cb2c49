/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory engine of the runtime: see host_quire.c. */
#ifndef QUIRE_RUN_HOST_QUIRE_H
#define QUIRE_RUN_HOST_QUIRE_H

#include <sys/mman.h>

#include <quire/as.h>
#include <quire/machine.h>
#include <quire/vm.h>

#include "machine/linux/range_table.h"
#include "run/assert.h"
#include "run/family.h"
#include "store/pool.h"

#define RW (PROT_READ | PROT_WRITE)

/* The address range of the core's space. */
#define HOST_MIN 4096u
#define HOST_MAX (1ull << 47)
#define HOST_LAST                                                                                  \
	(HOST_MAX - 4096u) /* the kernel's mappings end here, where addresses have 47 bits */

/* See marks.c */
enum mark {
	MARK_NOFORK,
	MARK_SEALED,
	MARK_READONLY,
	MARK_LOCKED,
	MARK_LOCKING, /* locked by the mlockall call under way, not earlier */
	MARK_CLOSED,
	MARK_NORESERVE,
	MARKS
};

struct family_store {
	void *f_mem;
	int f_memfd, f_swapfd;
}; /* a store as received: its mapped shared memory and its descriptors */

struct host {
	/* const after host_init */
	struct mach *h_mach;
	struct vm *h_vm;
	struct as *h_as;
	struct family *h_fam;
	uint64_t h_cookie, h_token[FAMILY_TOKEN]; /* cookie and token of the gate; see family.h */
	int h_gate;
	int h_memfd, h_device; /* h_device: /dev/userfaultfd, 0: none */

	/* set anew in a forked child before anything else runs */
	struct family_proc *h_me;
	int h_slot, h_sock, h_pid;
	/* h_lock W: the tag in the store of the child that is being forked, or was forked last */
	uint32_t h_child;
	/* this and the next four: h_lock W, as a change of credentials changes the store */
	struct family_welcome h_told;
	struct family_store h_stored;
	/* the second pool is used while pages move between stores */
	struct pool h_pools[2], *h_pool;
	struct vnode *h_swapvn;

	/*
	 * h_lock: readers are every intercepted system call and every batch of faults; the writers
	 * are adoption and fork, during which no call and no fault may be served. Rank: outermost.
	 */
	struct mach_rwlock h_lock;
	_Atomic bool h_watched; /* the supervisor knows that the store is used */
	_Atomic bool h_served;  /* the service thread exists or is being made */
	/* h_lock: the runtime serves faults; false: the kernel alone serves first touches */
	bool h_managed;
	_Atomic uint64_t
	    h_committed; /* pages of read-write ranges, charged to the family while not managed */
	_Atomic uint64_t h_balance_rest; /* faults until host_balance tries again; a hint */
	_Atomic uint64_t h_credit;       /* pages charged already that the next grants take first */
	uint64_t h_brk_start, h_brk_cur; /* h_brklock */
	struct mach_mutex h_brklock;
	struct ranges h_mark[MARKS]; /* h_marklock: see marks.c */
	struct mach_mutex h_marklock;
	struct mach_mutex h_protlock; /* makes a change of protection whole: see protect.c */
	_Atomic bool h_lockfuture;    /* new mappings are locked (mlockall). Calls only, h_lock */
	_Atomic uint64_t h_lock_refused; /* locks on memory for which there were too few frames */
	uint64_t h_before; /* constructor: pages resident before the engine was made */
	bool h_adopting;   /* h_lock W: charged frames are in use already */
	/* the process is in no family, or no longer (h_lock W): every call goes to the kernel */
	_Atomic bool h_off;
	/* const after host_init: the body of the service thread, which does not return */
	int (*h_serve)(struct host *);
	/*
	 * an eventfd that wakes the service thread to look for requests. 0: none. service_prepare
	 * only
	 */
	int h_wake;
	void *h_svc_stack; /* the service thread's stack and thread block */
};
extern struct host host;

/*
 * Frames that a process keeps whatever other processes ask for: enough for its tables and for all
 * operands of an instruction. A process with fewer frames gets frames even if the budget is used
 * up; fam_beyond counts these.
 */
#define HOST_LEAST 192u
/*
 * frames taken beyond the budget in one step while most of memory is pinned; also the number of
 * faults between attempts to give them back
 */
#define HOST_PINNED 64u
#define HOST_SHRINK                                                                                \
	64u /* frames given up in one step when the pool has grown, so that no fault waits long */
/* a process is asked for frames only if it has this many more than the asking process */
#define HOST_ASKED 512u
static inline pfn_t host_spare(const struct host *h, uint64_t want)
{
	uint64_t have = atomic_load(&h->h_me->fp_granted),
		 most = have > HOST_LEAST ? have - HOST_LEAST : 0;

	return (pfn_t)(want < most ? want : most);
}

/* run/family_client.c: raw system calls only. All answer 0 or -errno. */
/*
 * Joins the family: asks for an entry and the descriptors, and waits for them. Sets h_sock, h_slot,
 * h_me, h_pid, h_fam, h_device, h_told and *st. -EPIPE: the supervisor has ended; -EAGAIN: the
 * family is full; -ECONNRESET: the supervisor refused.
 */
int family_connect(struct host *, struct family_store *st);
/*
 * Makes the connection of a child that is about to be forked, and lends its descriptor to the child
 * (hostfd_lend). When no process has the connection any more, the supervisor frees the slot and the tag with all that is
 * charged and promised to it: the parent takes the descriptor back after the fork (hostfd_unlend). h_lock W.
 */
int family_expect(struct host *, int slot, unsigned tag);
/* In the forked child, with its tag in h_told: takes over that connection. Sets h_sock, h_slot, h_me, h_pid. */
void family_born(struct host *, int slot);
/*
 * Gets another store for the process's present credentials; sets *st and h_told. hidden: a store
 * for this process alone. No other thread may read the connection.
 */
int family_change(struct host *, bool hidden, struct family_store *st);
void family_moved(struct host *); /* tells the supervisor that the former store is no longer used */
#define FAMILY_BYTES ((sizeof(struct family) + 4095) & ~4095ull)
/*
 * Parses FAMILY_ENV's value: does its gate exist? Sets h_gate, h_cookie, h_token. *ours: the
 * program was executed in this process.
 */
bool family_find(struct host *, const char *value, bool *ours);
/* The value of FAMILY_ENV for programs that this program executes, up to the PID. */
#define FAMILY_VALUE 96u
char *family_value(const struct host *, char out[FAMILY_VALUE]);
/* calls the supervisor's threads: to take memory from other processes, or to pack */
void family_watch(struct host *);
/*
 * Has the supervisor take back the shares of processes that have ended by now. Waits for that, at
 * most one second. No lock held.
 */
void family_settle(struct host *);
/* tells the supervisor that the service thread reads the connection */
void family_hears(struct host *);
/* true: the kernel kills the process at the supervisor's end, without a thread that waits for it */
void family_mortal(struct host *, bool);
/*
 * Ends this process if the supervisor has ended: no process enforces the family's limit or finds a
 * dead process's locks any more. For threads that wait, or work on, without reading the connection.
 * May be called in every thread, with every lock held.
 */
void family_check(const struct host *);
/* Ends this process because its connection has ended. */
_Noreturn void family_end(const struct host *);
/* run/stack.c */
/* constructor time: finds out how the thread pointer is read and written */
void host_thread_pointer(void);
/*
 * Called when the process is about to be managed and no page has been evicted yet: from now on the
 * kernel must not write to the calling thread's storage, either.
 */
void host_thread_apart(void);

/* run/host_quire.c: what enter.c calls. Arguments and results are those of the system calls. */
enum op {
	OP_MMAP,
	OP_MUNMAP,
	OP_MPROTECT,
	OP_MADVISE,
	OP_MREMAP,
	OP_BRK,
	OP_MLOCK,
	OP_MINCORE,
	OP_TAKE,
	OP_LEAVE,
	OP_COUNT,
	OP_RELEASE,
	OP_SEAL,
	OP_SHMAT,
	OP_BRK_MOVED,
	OP_ALONE,
	OP_MOVE,
	OP_FORK_PREPARE,
	OP_FORK_PARENT,
	OP_FORK_CHILD
};
long host_dispatch(enum op, const long *a);
/*
 * Part of a segment, or of a range marked CLOSED, which has no segment and no access. readonly: the segment is read-write, but the
 * kernel's mapping is read-only (MARK_READONLY).
 */
struct piece {
	uint64_t base, end;
	unsigned prot;
	bool readonly, closed;
};
bool host_next_piece(struct host *, uint64_t addr, uint64_t end, struct piece *); /* h_lock */
void host_born_marks(
    struct host *); /* h_lock W, in a forked child: drops what the child does not inherit */

/* run/leave.c */
/* called after the credentials have changed. No lock held */
long store_move(struct host *, bool hidden);
/* as host_leave(), on a stack of the runtime. No lock held */
long host_do_leave(struct host *);

/* run/store_move.c */
int store_open(struct host *,
    const struct family_store
	*); /* 0 or -errno; sets h_pool, h_swapvn, h_stored. h_lock W or one thread */
int store_change(struct host *,
    bool hidden); /* h_lock W. 0, or -errno: the process still has the former store, or both */
void store_leave(struct host *); /* called with h_off set and without a service thread */

/* run/fork.c: before it, with the caller's stack, thread pointer and words (0 or -errno); after it in the parent; in the child */
struct fork_words;
long host_fork_still(struct host *, uint64_t sp, uint64_t tp, const struct fork_words *);
long host_fork_made(struct host *, long pid);
long host_fork_born(struct host *);
/* run/serve.c: host.h_serve */
int host_serve(struct host *);
/* run/service.c */
int service_start(struct host *);
/*
 * The same, after service_set_aside(). Other processes may have taken the last number that the limit of
 * processes allows: waits a second for one, then ends the process, which no thread serves.
 */
void service_again(struct host *);
/* Makes what wakes the thread. While the process has one thread: no other may see a number that is not in its place yet. */
int service_prepare(struct host *);
bool service_renewable(void); /* could the service thread be made again? */
/* ends the service thread; false: there was none. No lock held */
bool service_set_aside(struct host *);
/*
 * Makes the service thread if there is none: the process is about to be managed, or has so much
 * memory that other processes may ask for some. Until then there is no event for a service thread;
 * at the supervisor's end the kernel sends SIGKILL. 0 or -errno. Any of h_lock.
 */
int service_need(struct host *);
bool service_single(void);       /* the service thread exists, and the program has one thread */
bool service_is_set_aside(void); /* the service thread is to end */
bool service_there(void);        /* the service thread exists */
void service_forked(void);       /* in a forked child: forgets the parent's service thread */
/*
 * Makes a call that needs a single-threaded process: ends the service thread, if the program has
 * only one thread, and starts it again. Runs in the program's only thread, on a stack of the
 * runtime; no fault is served meanwhile. No lock held.
 */
long service_alone(struct host *, long nr, long a0, long a1);
/*
 * called with h_off set and the socket shut down: waits until the service thread has ended. No lock
 * held
 */
void service_end(void);
/* run/budget.c: callbacks of the machine and the store */
pfn_t host_grant(void *host, pfn_t n);
void host_ungrant(void *host, pfn_t n);
void host_force_charge(
    struct host *, uint64_t n); /* even beyond the budget; the report tells by how much */
int host_pool_charge(void *host, long pages);
/*
 * The promises to the processes of this process's store. fw_shelf came from the supervisor: no
 * other process can change it.
 */
static inline struct promise_shelf *host_shelf(const struct host *h)
{
	return &h->h_fam->fam_shelf[h->h_told.fw_shelf];
}
/* Pages for which the places of its store have no room now, though they are promised (run/promise.h). */
static inline uint64_t host_pages_lost(const struct host *h)
{
	return h->h_pool != NULL ? pool_pages_lost(h->h_pool) : 0; /* NULL: the process begins */
}
bool host_promise(void *host, uint64_t npages, bool touched); /* see run/promise.h */
void host_unpromise(void *host, uint64_t npages);
/*
 * Called when all memory is promised or charged: has the share of an ended process been taken back
 * since host_ended() returned seen? Asks the supervisor and waits for its answer. No lock held.
 */
#define HOST_WAITS 200u /* most waits for one call */
uint32_t host_ended(const struct host *);
bool host_await_ended(struct host *, uint32_t seen);
/*
 * Makes frames free for pages that must stay in memory: asks the process that has the most and
 * waits a millisecond, or has the pool give memory back. seen: as above. False: no frames can be
 * had. Called without h_lock, repeatedly; the caller bounds the number of calls.
 */
bool host_await_frames(struct host *, uint32_t seen);
bool host_pinned(void *host, unsigned tries); /* h_lock R, which it may release meanwhile */
bool host_leave_some(struct host *); /* leaves some resident pages to the kernel. h_lock W */
void host_lost(void *host, enum vm_err why); /* sends the program SIGBUS */
/* asks another process for frames; false: no process has many more than this process */
bool host_ask_others(struct host *);
enum vm_err host_adopt(struct host *); /* makes a native process managed. h_lock W */
void host_balance(struct host *,
    uint64_t most); /* h_lock, managed: divides the family's budget between frames and pool */
/*
 * run/measure.c. h_lock W, or the constructor. Measures the largest amount of memory that was not
 * hosted; the second before, the third after the engine is made
 */
void host_measure(struct host *);
void host_measure_start(struct host *);
void host_measure_own(struct host *);
void host_publish(struct host *); /* writes the counters to the family's memory */
#endif
