/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to `quire run`: the state of one run, and what its files do for each other. */
#ifndef QUIRE_CLI_RUN_H
#define QUIRE_CLI_RUN_H
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "cli.h"
#include "creds.h"
#include "far.h"
#include "options.h"
#include "store/pool.h"

/* ---- sets of slots ---- */
#define SLOT_WORDS (FAMILY_PROCS / 64)
static inline uint64_t slot_bit(unsigned slot) { return 1ull << slot % 64; }
static inline bool slots_have(const uint64_t *set, unsigned slot)
{
	return (set[slot / 64] & slot_bit(slot)) != 0;
}
static inline void slots_add(uint64_t *set, unsigned slot) { set[slot / 64] |= slot_bit(slot); }
static inline void slots_drop(uint64_t *set, unsigned slot) { set[slot / 64] &= ~slot_bit(slot); }

/*
 * One store: what its pages take of memory and disk. Processes of other credentials have another store (docs/security.md). The
 * supervisor has no mapping of it: see keeper.c.
 */
struct run_store {
	uint64_t name, size; /* const: fw_store; bytes of the shared memory */
	uint64_t file_bytes; /* const: of the swap file; 0: there is none */
	uint64_t
	    keep_free; /* const: bytes of its file system that the file leaves to others; 0 where its blocks are set aside */
	int memfd,
	    swapfd; /* const; swapfd: /dev/null, if there is no swap file that processes write themselves */
	struct far_plan plan[POOL_FARS]; /* const: the far places; nfar of them */
	uint64_t ring_at[POOL_FARS];     /* const: places of their rings in the shared memory */
	struct run_far far[POOL_FARS];   /* the quire-far of each far place */
	unsigned nfar;
	unsigned place;     /* const: in run.store, and of its shelf in the family's state */
	struct creds creds; /* const, of its processes */
	bool alone;         /* const: of one process, and those that it forked */
	bool given;         /* a process has been given the store */
	bool broken;        /* the store's keeper ended: no process gets the store any more */
	bool stopped;       /* the keeper was told to end */
	bool wanted;        /* a process has asked for the keeper */
	uint64_t owed[SLOT_WORDS];   /* slots whose release the keeper has not answered */
	uint64_t unsent[SLOT_WORDS]; /* slots of these whose release the keeper was not told of */
	unsigned users;              /* connections */
	struct pool_stats
	    *stats;     /* two, see keeper.c, shared with the keeper; NULL: there was none yet */
	pid_t keeper;   /* 0: none */
	int sock, life; /* to it; what keeps it alive; -1 */
};
#define RUN_STORES FAMILY_STORES

struct conn {
	int fd, slot; /* slot: const */
	pid_t pid;    /* const: as the kernel said when it joined */
	int pidfd; /* const: tells that it has ended, whatever process has its end of fd still; or -1 */
	struct run_store *store;  /* NULL: it is no more, or never was */
	struct run_store *before; /* in which it may still have pages; or NULL */
	bool hears;               /* it takes bytes */
};

struct run {
	struct run_options o; /* const once the family is made */
	FILE *report_file;
	char program[PATH_MAX];

	struct family
	    *fam; /* every process of the family may write there: what matters is kept here */
	int memfd, device, sigfd; /* device: /dev/userfaultfd, -1: none */
	int door,
	    gate; /* see run/family.h; door -1: no process has the gate any more; gate -1: given away */
	bool
	    unproven; /* const: with a greeting comes no descriptor of its sender, only its number; before Linux 6.5 */
	uint64_t cookie, token[FAMILY_TOKEN]; /* const: of the gate; part of each greeting */
	unsigned most;                        /* const: processes at once */
	struct sites_note sites;
	struct rlimit files, fsize; /* the program's own */
	char family[96],
	    variable[160]; /* of the environment: what is the same for all, and the whole of it */
	struct conn conn[FAMILY_PROCS];
	unsigned nconn;
	pthread_mutex_t connlock; /* conn[], nconn: the pressure thread reads them */
	uint64_t turned_away;     /* greetings that were not of the family */
	struct creds creds;       /* const: ours, and the program's at first */
	bool alone;               /* const: the credentials are not known, so no process shares */
	bool pidfds;              /* const: there are descriptors enough for conn.pidfd */
	unsigned
	    settling; /* FAMILY_SETTLE: 0: none; 1: it has come; 2: and all greetings before it */
	bool settle_again;     /* another has come meanwhile */
	uint32_t settle_asked; /* fam_asked when the answer was begun */
	pid_t child;
	volatile int unexecuted; /* an errno: why the child has not executed the program */
	uint64_t need_peak, start_ns;
	bool stop;    /* atomic: the threads shall end */
	bool pressed; /* the pressure thread is there */
	pthread_t pressure;
	uint64_t unhosted,
	    unhosted_peak; /* pages resident that are not hosted: when last measured, and at most */
	unsigned told;     /* a bit for each line that run_tell has written */
	unsigned left;     /* processes of the family that go on after the program */
	uint8_t leaving
	    [FAMILY_PROCS]; /* by slot: answers of keepers to wait for before another gets it */
	struct run_store
	    *store[RUN_STORES]; /* NULL: none; the first is there from beginning to end */
	uint64_t stores;        /* ever made */
	bool reserve;           /* const: the swap files' blocks are set aside */
	struct pool_stats past; /* of stores that are no more */
};

/* area.c: the family's shared memory and its swap file. 0 or CLI_CANNOT after one line on standard error. */
int run_make_family(struct run *);

/* For such a process; NULL credentials: for it alone. NULL: there can be no more. */
struct run_store *run_store_for(struct run *, const struct creds *);
struct run_store *run_store_named(struct run *, uint64_t name); /* NULL: no such */
void run_sweep_stores(struct run *); /* those that no process has any more */

/* swap.c: where pages go when memory is full. */
int run_make_swap(struct run *,
    struct run_store *); /* of the first store. 0, or CLI_CANNOT after one line on standard error */
int run_make_more_swap(struct run *, struct run_store *); /* of another. 0 or -1 */
uint64_t run_swap_bytes(const struct run_store *);        /* of all its places */
bool run_start_far(struct run *,
    struct run_store *); /* the store's memory is made. False after one line on standard error */
void run_stop_far(struct run_store
	*); /* ends what serves the far places, which removes what it stored; may be called again */
bool run_raise_fsize(uint64_t
	least); /* the limit of file sizes to the hard one: the child takes the old one back. False: that is less */

/* What the store's processes may be promised of its places. */
static inline struct promise_shelf *run_shelf(const struct run *r, const struct run_store *st)
{
	return &r->fam->fam_shelf[st->place];
}

/* rendezvous.c: how processes join. Those that return int: as above. */
int run_make_descriptors(struct run *); /* first of all, before anything is opened */
int run_make_gate(struct run *);
int run_count_descriptors(struct run *); /* last, when everything is open */
bool run_family_there(
    const char *value); /* does the variable name a family that is there? If not it is left over */
bool run_open_door(struct run *);        /* greetings that have come. False: there are more */
void run_hear(struct run *, unsigned i); /* connection i has said something, or hung up */
void run_drop_conn(struct run *, unsigned i);
/* A round of the loop has heard all connections, which began with that stage of settling; greeted: and all greetings. */
void run_settle(struct run *, unsigned stage, bool greeted);
bool run_family_lives(const struct run *); /* is there a process that has joined, or can? */
void run_hear_keeper(struct run *, struct run_store *); /* it has said something, or ended */

/* slots.c */
bool run_slot_taken(const struct run *, int slot); /* is it some process's still? */
void run_slot_released(struct run *,
    int slot); /* a keeper has given back all that the slot's process held in its store */
/* The store's keeper has ended and owes nothing any more. What is left the next process of the slot gives back (pool_join). */
void run_free_owed(struct run *, struct run_store *);

/* tell.c: a line on standard error, once, for each kind of thing that was refused to the program or taken from it */
void run_tell(struct run *, bool wipe); /* wipe: a live line is there */

/* unhosted.c: what the family has resident that is not hosted */
void run_measure(struct run *);

/* keeper.c */
bool run_keeper_start(
    struct run *, struct run_store *); /* unless it is there. False: it cannot be had */
/* The keeper shall release what the process of that slot held, and answers. False: there is nothing to release. */
bool run_keeper_release(struct run *, struct run_store *, unsigned slot);
void run_keeper_settle(struct run *, struct run_store *); /* tries again what could not be sent */
enum {
	KEEPER_NOW,
	KEEPER_FULLEST
}; /* statistics: amounts as they are; as they were when the store was fullest */
#define KEEPER_STATS (2 * sizeof(struct pool_stats))
enum { KEEPER_NOTHING = -1, KEEPER_GONE = -2 };
int run_keeper_hear(
    struct run_store *); /* a slot of which it has released all, or one of the above */
void run_keeper_stop(struct run *,
    struct run_store *); /* its last statistics are there then. Waits for it, for a limited time */

/* supervise.c */
/* Runs the loop until the program ends, and sets *status; status NULL: until the last process of its family has ended. */
void run_supervise(struct run *, int *status);

/* threads.c: the pressure thread, and the keeper of that store (NULL: of none) */
void run_start_threads(struct run *, struct run_store *);
void run_end_threads(struct run *);

/* count.c */
/* The counters of all processes that are and were; pages that are resident and needed now. */
void run_add_up(const struct run *, struct family_counters *, uint64_t *resident, uint64_t *need);
void run_add_stats(struct pool_stats *sum, const struct pool_stats *);
/* Of all stores that are and were. which: KEEPER_NOW or KEEPER_FULLEST. */
void run_store_stats(struct run *, struct pool_stats *, unsigned which);
uint64_t run_now_ns(void);
#endif
