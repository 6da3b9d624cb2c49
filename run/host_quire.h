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

/* The addresses that the core's space has. */
#define HOST_MIN 4096u
#define HOST_MAX (1ull << 47)
#define HOST_LAST                                                                                  \
	(HOST_MAX - 4096u) /* what the kernel maps ends here, where addresses have 47 bits */

/* See marks.c */
enum mark {
	MARK_NOFORK,
	MARK_SEALED,
	MARK_READONLY,
	MARK_LOCKED,
	MARK_LOCKING, /* by a call of mlockall that is under way, not before */
	MARK_CLOSED,
	MARK_NORESERVE,
	MARKS
};

struct family_store {
	void *f_mem;
	int f_memfd, f_swapfd;
}; /* a store as it came: its shared memory, mapped */

struct host {
	/* const after host_init */
	struct mach *h_mach;
	struct vm *h_vm;
	struct as *h_as;
	struct family *h_fam;
	uint64_t h_cookie, h_token[FAMILY_TOKEN]; /* of the gate; see family.h */
	int h_gate;
	int h_memfd, h_device; /* h_device: /dev/userfaultfd, 0: none */

	/* set anew in a forked child before anything else runs */
	struct family_proc *h_me;
	int h_slot, h_sock, h_pid;
	int h_child; /* h_lock W: the slot of the child that is being forked, or was */
	struct family_welcome
	    h_told; /* h_lock W, as the next five: a change of credentials changes the store */
	struct family_store h_stored;
	struct pool h_pools[2], *h_pool; /* the other one is used while pages move */
	struct vnode *h_swapvn;

	/*
	 * h_lock: readers are every system call we serve and every batch of faults; the writers are adoption and fork, which
	 * want the world still. Rank: outermost.
	 */
	struct mach_rwlock h_lock;
	_Atomic bool h_watched; /* the supervisor knows that the store is used */
	_Atomic bool h_served;  /* the service thread is there, or is being made */
	bool h_managed; /* h_lock: faults are ours; before, the kernel serves first touches alone */
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
	bool h_adopting;   /* h_lock W: what is charged is in use already */
	_Atomic bool
	    h_off; /* not inside a family, or no longer (h_lock W): pass everything through */
	int (*h_serve)(struct host
		*); /* const after host_init: what the service thread does; it does not return */
	int h_wake; /* an eventfd: the service thread is to look what is wanted. 0: none. service_start only */
	void *h_svc_stack; /* the service thread's stack and thread block */
};
extern struct host host;

/*
 * Frames a process keeps whatever others ask: its tables, and pages enough that an instruction finds all of its operands.
 * Below that it gets frames even where none are left; what was had so is counted in fam_beyond.
 */
#define HOST_LEAST 192u
#define HOST_PINNED                                                                                \
	64u /* frames had beyond the budget at a time while most of memory is pinned; also faults between attempts to give them back */
#define HOST_SHRINK                                                                                \
	64u /* frames given up at once when the pool has grown: no fault waits long for it */
#define HOST_ASKED 512u /* frames that another must have more before it is asked for some */
static inline pfn_t host_spare(const struct host *h, uint64_t want)
{
	uint64_t have = atomic_load(&h->h_me->fp_granted),
		 most = have > HOST_LEAST ? have - HOST_LEAST : 0;

	return (pfn_t)(want < most ? want : most);
}

/* run/family_client.c: raw system calls only. All answer 0 or -errno. */
/*
 * Joins. slot -1: asks for an entry and for the descriptors, and waits for them; else a forked child says that it is there. Sets h_sock,
 * h_slot, h_me, h_pid, and (without a slot) h_fam, h_device, h_told and *st. -EPIPE: the supervisor is gone; -EAGAIN: the
 * family is full; -ECONNRESET: turned away.
 */
int family_connect(struct host *, int slot, struct family_store *st);
/* Another store, for the process's credentials of now; *st, h_told. hidden: for it alone. Nothing else reads the connection. */
int family_change(struct host *, bool hidden, struct family_store *st);
void family_moved(struct host *); /* the store before is no longer used */
#define FAMILY_BYTES ((sizeof(struct family) + 4095) & ~4095ull)
/* Takes in FAMILY_ENV's value: is its gate there? Sets h_gate, h_cookie, h_token. *ours: the program was executed in this process. */
bool family_find(struct host *, const char *value, bool *ours);
/* The value of FAMILY_ENV for programs that this one executes, up to the PID. */
#define FAMILY_VALUE 96u
char *family_value(const struct host *, char out[FAMILY_VALUE]);
void family_watch(struct host *); /* the supervisor is needed: for others' memory, or to pack */
/* The supervisor gives back what processes have that have ended by now. Waits for that, for at most a second. No lock held. */
void family_settle(struct host *);
void family_hears(struct host *); /* the service thread reads what comes on the connection */
void family_mortal(struct host *,
    bool); /* true: the process is killed when the supervisor is gone, without a thread that waits for it */
/* run/stack.c */
void host_thread_pointer(void); /* constructor time: how the thread pointer is read and written */
/* The process is about to be managed, and nothing has left memory yet: now the kernel shall not write to the caller's storage, either. */
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
    struct host *); /* h_lock W, in a forked child: what it does not inherit goes */

/* run/leave.c */
long store_move(struct host *, bool hidden); /* the credentials have changed. No lock held */
long host_do_leave(struct host *);           /* as host_leave(), on our stack. No lock held */

/* run/store_move.c */
int store_open(struct host *,
    const struct family_store
	*); /* 0 or -errno; sets h_pool, h_swapvn, h_stored. h_lock W or one thread */
int store_change(struct host *,
    bool
	hidden); /* h_lock W. 0 or -errno: nothing has changed, or nothing but that both stores are there */
void store_leave(struct host *); /* h_off is set, and no thread of ours is there */

/* run/fork.c: before it, with the caller's stack, thread pointer and words (0 or -errno); after it in the parent; in the child */
struct fork_words;
long host_fork_still(struct host *, uint64_t sp, uint64_t tp, const struct fork_words *);
long host_fork_made(struct host *, long pid);
long host_fork_born(struct host *);
/* run/serve.c: host.h_serve */
int host_serve(struct host *);
/* run/service.c */
/* Ends the process with 125, after a line on standard error: quire, what, and the number rc. */
_Noreturn void host_stop(const char *what, long rc);
int service_start(struct host *);
bool service_renewable(void);          /* could the thread be made again? */
bool service_set_aside(struct host *); /* ends the thread; false: there was none. No lock held */
/*
 * There is to be a service thread: the process is about to be managed, or has so much memory that others may ask for some. Until
 * then nothing comes that it would wait for; that the supervisor is gone, the kernel tells by SIGKILL. 0 or -errno. Any of h_lock.
 */
int service_need(struct host *);
bool service_single(
    void); /* but for the service thread, which is there, the process has one thread */
bool service_is_set_aside(void); /* the service thread is to end */
bool service_there(void);        /* one more thread than the program's own */
void service_forked(void);       /* in a forked child: the parent's service thread is not here */
/*
 * Makes a call for which the process may have no other thread: stops the service thread, if there is but one of the program's,
 * and starts it again. In the only thread of the program, on a stack of ours; faults of the program wait meanwhile. No lock held.
 */
long service_alone(struct host *, long nr, long a0, long a1);
void service_end(
    void); /* h_off is set, its socket shut down: waits until the thread is no more. No lock held */
/* run/budget.c: callbacks of the machine and the store */
pfn_t host_grant(void *host, pfn_t n);
void host_ungrant(void *host, pfn_t n);
void host_force_charge(
    struct host *, uint64_t n); /* beyond the budget if need be; the report says so */
int host_pool_charge(void *host, long pages);
/* What the processes of its store are promised. fw_shelf is the supervisor's word: no other process can change it. */
static inline struct promise_shelf *host_shelf(const struct host *h)
{
	return &h->h_fam->fam_shelf[h->h_told.fw_shelf];
}
bool host_promise(void *host, uint64_t npages, bool touched); /* see run/promise.h */
void host_unpromise(void *host, uint64_t npages);
/*
 * All is promised, or charged: has the share of a process that ended come back since host_ended() gave seen? It asks the
 * supervisor, and waits for that. No lock held.
 */
#define HOST_WAITS 200u /* at most so often */
uint32_t host_ended(const struct host *);
bool host_await_ended(struct host *, uint32_t seen);
/*
 * Frames for what must stay in memory: asks the process that has the most and waits a millisecond, or has the pool give some
 * back. seen: as above. False: there are none to be had. Called without h_lock, more than once; the caller bounds how often.
 */
bool host_await_frames(struct host *, uint32_t seen);
bool host_pinned(void *host, unsigned tries); /* h_lock R, which it may release meanwhile */
bool host_leave_some(struct host *); /* some pages that are in memory, to the kernel. h_lock W */
void host_lost(void *host, enum vm_err why); /* the program gets SIGBUS */
bool host_ask_others(struct host *);         /* false: none has much more than this process */
enum vm_err host_adopt(struct host *);       /* native to managed. h_lock W */
void host_balance(struct host *,
    uint64_t most); /* h_lock, managed: the family's budget between frames and pool */
/* run/measure.c. h_lock W, or the constructor: the largest amount that was not hosted; before and after the engine is made */
void host_measure(struct host *);
void host_measure_start(struct host *);
void host_measure_own(struct host *);
void host_publish(struct host *); /* counters into the family's memory */
#endif
