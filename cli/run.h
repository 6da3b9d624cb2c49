/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to `quire run`: the state of one run, and the functions that its files have for each
 * other. */
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

/* ---- sets of tags: the processes of a store (store/pool_tag.c) ---- */
#define TAGS POOL_TAGS
_Static_assert(POOL_CHILD_TAG >= FAMILY_PROCS, "each process that joins can have a tag");
#define TAG_WORDS (TAGS / 64)
static inline uint64_t tag_bit(unsigned tag) { return 1ull << tag % 64; }
static inline bool tags_have(const uint64_t *set, unsigned tag)
{
	return (set[tag / 64] & tag_bit(tag)) != 0;
}
static inline void tags_add(uint64_t *set, unsigned tag) { set[tag / 64] |= tag_bit(tag); }
static inline void tags_drop(uint64_t *set, unsigned tag) { set[tag / 64] &= ~tag_bit(tag); }

/*
 * One store: the memory and disk that its pages take. Processes of other credentials have another
 * store (docs/security.md). The supervisor has no mapping of it: see keeper.c.
 */
struct run_store {
	uint64_t name, size; /* const: fw_store; bytes of the shared memory */
	uint64_t file_bytes; /* const: bytes of the swap file; 0: there is none */
	uint64_t
	    keep_free; /* const: bytes of its file system that the file leaves to others; 0 if its
	                * blocks are set aside */
	int memfd,
	    swapfd; /* const; swapfd: /dev/null, if there is no swap file that processes write
	             * themselves */
	struct far_plan plan[POOL_FARS]; /* const: the far places; nfar of them */
	uint64_t ring_at[POOL_FARS];     /* const: places of their rings in the shared memory */
	struct run_far far[POOL_FARS];   /* the quire-far of each far place */
	unsigned nfar;
	unsigned place;     /* const: index in run.store, and of the store's shelf in the family's
	                     * state */
	struct creds creds; /* const: those of its processes */
	bool alone;         /* const: only for one process, and its forks */
	uid_t uid; /* const once a process has the store: user and group of the first process */
	gid_t gid;
	bool given;               /* a process has been given the store */
	bool broken;              /* the store's keeper ended: no process gets the store any more */
	bool stopped;             /* the keeper was told to end */
	bool wanted;              /* a process has asked for the keeper */
	uint64_t owed[TAG_WORDS]; /* tags whose release the keeper has not answered */
	uint64_t unsent[TAG_WORDS]; /* those of them that the keeper was not yet sent a note of */
	unsigned users;             /* connections */
	struct pool_stats
	    *stats;     /* two, see keeper.c, shared with the keeper; NULL: the store has had no
	                 * keeper */
	pid_t keeper;   /* 0: none */
	int sock, life; /* the socket to the keeper, its life line; -1: no keeper */
};
#define RUN_STORES FAMILY_STORES

struct conn {
	int fd;
	int slot; /* const; -1: a forked child whose entry is another process's: it has none */
	unsigned tag, tag_before; /* the process in `store` and in `before` */
	pid_t pid; /* as the kernel said when it greeted; 0: a child that has not greeted yet */
	int pidfd; /* set with pid: shows that the process has ended, even if another process still has its
	            * end of fd; or -1 */
	struct run_store *store;  /* NULL: the store is gone, or the process never had one */
	struct run_store *before; /* the store where the process may still have pages; or NULL */
	bool hears;               /* it takes bytes */
};

struct run {
	struct run_options o; /* const once the family is made */
	FILE *report_file;
	char program[PATH_MAX];

	struct family
	    *fam; /* every process of the family may write there, so important state is kept in this
	           * structure */
	int memfd, device, sigfd; /* device: /dev/userfaultfd, -1: none */
	int door,
	    gate; /* see run/family.h; door -1: no process has the gate any more; gate -1: given
	           * away */
	bool unproven; /* const: a greeting brings its sender's number and no pidfd; before Linux
	               * 6.5 */
	uint64_t cookie, token[FAMILY_TOKEN]; /* const: the cookie of the gate; the token is part of
	                                       * each greeting */
	unsigned most;                        /* const: how many processes there may be at once */
	struct sites_note sites;
	struct rlimit files, fsize; /* the program's own */
	char family[96],
	    variable[160]; /* entries of the environment: the part that is the same for all
	                    * processes, and the whole */
	struct conn conn[FAMILY_PROCS];
	unsigned nconn;
	pthread_mutex_t connlock; /* guards conn[] and nconn, which the pressure thread reads,
	                           * too */
	uint64_t turned_away;     /* greetings that were not from the family */
	struct creds creds;       /* const: this process's, and at first the program's */
	bool alone;               /* const: the credentials are not known, so no processes share a
	                           * store */
	bool pidfds;              /* const: there are enough descriptors for conn.pidfd */
	unsigned spare;           /* descriptors that further stores may take */
	unsigned
	    settling; /* FAMILY_SETTLE: 0: not asked for; 1: asked; 2: all greetings before it have
	               * been taken */
	bool settle_again;     /* asked for again meanwhile */
	uint32_t settle_asked; /* fam_asked as it was when the answer was begun */
	pid_t child;
	volatile int unexecuted; /* an errno: why the child has not executed the program */
	uint64_t need_peak, start_ns;
	bool stop;    /* atomic: the threads shall end */
	bool pressed; /* the pressure thread runs */
	pthread_t pressure;
	uint64_t unhosted,
	    unhosted_peak; /* resident pages that are not hosted: at the last measurement, and at
	                    * most */
	unsigned told;     /* a bit for each line that run_tell has written */
	unsigned left;     /* processes of the family that go on after the program */
	struct run_store
	    *store[RUN_STORES]; /* NULL: none; the first exists from beginning to end */
	bool reserve;           /* const: the swap files' blocks are set aside */
	struct pool_stats past; /* sums over the stores that are gone */
};

/* area.c: the family's shared memory and its swap file. 0 or CLI_CANNOT after one line on standard error. */
int run_make_family(struct run *);

/* Makes or finds the store for processes of such credentials; NULL: for one process alone. Returns
 * NULL if there can be no such store; then *why is the enum family_refusal that says why. */
struct run_store *run_store_for(struct run *, const struct creds *, int *why);
struct run_store *run_store_named(struct run *, uint64_t name); /* NULL: no such */
void run_sweep_stores(struct run *); /* frees stores that no process has any more */

/* swap.c: where pages go when memory is full. */
int run_make_swap(struct run *,
    struct run_store *); /* for the first store. 0, or CLI_CANNOT after one line on standard
                          * error */
int run_make_more_swap(struct run *, struct run_store *); /* for another store. 0 or -1 */
uint64_t run_swap_bytes(const struct run_store *);        /* bytes of all its places */
bool run_start_far(struct run *,
    struct run_store *); /* called after the store's memory is made. False after one line on
                          * standard error */
void run_stop_far(struct run_store
	*); /* ends the processes that serve the far places, which removes the pages stored there;
	     * may be called again */
bool run_raise_fsize(uint64_t
	least); /* raises the limit of file sizes to the hard limit: the child takes the old one
	         * back. False: the hard limit is below least */

/* The pages that the store's processes may be promised of its places. */
static inline struct promise_shelf *run_shelf(const struct run *r, const struct run_store *st)
{
	return &r->fam->fam_shelf[st->place];
}

/* rendezvous.c: how processes join. Results of functions that return int: as above. */
int run_make_descriptors(struct run *); /* first of all, before anything is opened */
int run_make_gate(struct run *);
int run_count_descriptors(struct run *); /* last, when everything is open */
bool run_family_there(
    const char *value); /* does the variable name a family that exists? If not, the variable is left
                         * over If not it is left over */
bool run_open_door(struct run *);        /* takes greetings that have come. False: there are more */
void run_hear(struct run *, unsigned i); /* connection i has sent something, or hung up */
void run_drop_conn(struct run *, unsigned i);
/* A round of the loop, which began with that stage of settling, has read all connections; greeted:
 * and all greetings. */
void run_settle(struct run *, unsigned stage, bool greeted);
bool run_family_lives(const struct run *); /* is there a process that has joined, or can still
                                            * join? */
void run_hear_keeper(struct run *, struct run_store *); /* the keeper has sent a note, or ended */

/* slots.c */
bool run_slot_taken(const struct run *, int slot); /* does it belong to a process? */
/*
 * Does a connected process have the tag in that store, or does the keeper still owe the release of a
 * dead process that had the tag?
 */
bool run_tag_taken(const struct run *, const struct run_store *, unsigned tag);
/* Returns a free tag for a process that joins; POOL_CHILD_TAG: all tags are taken. */
unsigned run_tag_for(const struct run *, const struct run_store *);

/* tell.c: prints a line on standard error, once, for each kind of thing that was refused to the
 * program or taken from it */
void run_tell(struct run *, bool wipe); /* wipe: a live line must be wiped first */

/* unhosted.c: measures the family's resident memory that is not hosted */
void run_measure(struct run *);

/* keeper.c */
bool run_keeper_start(
    struct run *, struct run_store *); /* unless the store has one. False: it cannot be started */
/* Has all given back that the process of that tag held, by the keeper, if that is needed. The
 * process has ended, or has no page in the store any more. */
void run_keeper_release(struct run *, struct run_store *, unsigned tag);
void run_keeper_settle(struct run *, struct run_store *); /* sends notes again that could not be
                                                           * sent before */
enum {
	KEEPER_NOW,
	KEEPER_FULLEST
}; /* statistics: amounts now; amounts when the store was fullest */
#define KEEPER_STATS (2 * sizeof(struct pool_stats))
bool run_keeper_hear(struct run_store *); /* takes an answer. False: the keeper has ended */
/*
 * Tells the store's keeper to end. run_keeper_await() waits until it has, so that its last statistics are
 * there, but no longer than that time, by run_now_ns(): the keepers of all stores have the same second.
 */
void run_keeper_stop(struct run_store *);
uint64_t run_keeper_patience(void);
void run_keeper_await(struct run_store *, uint64_t end);

/* supervise.c */
/* Runs the loop until the program ends, and sets *status; status NULL: until the last process of its family has ended. */
void run_supervise(struct run *, int *status);

/* threads.c: the pressure thread, and the keeper of that store (NULL: of none) */
void run_start_threads(struct run *, struct run_store *);
void run_end_threads(struct run *);

/* count.c */
/* Counters of all processes, living and dead; pages that are resident and needed now. */
void run_add_up(const struct run *, struct family_counters *, uint64_t *resident, uint64_t *need);
void run_add_stats(struct pool_stats *sum, const struct pool_stats *);
/* Statistics of all stores, present and past. which: KEEPER_NOW or KEEPER_FULLEST. */
void run_store_stats(struct run *, struct pool_stats *, unsigned which);
uint64_t run_now_ns(void);
#endif
