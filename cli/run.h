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
#include "options.h"
#include "store/pool.h"

struct run {
	struct run_options o; /* const once the family is made */
	FILE *report_file;
	char program[PATH_MAX];

	struct family *fam;
	int memfd, swapfd, device, listener, place, sigfd; /* device: /dev/userfaultfd, -1: none */
	int spare; /* a descriptor to let go when none is left, so that who connects can be turned away */
	struct rlimit files; /* the program's own */
	char sockname[FAMILY_NAME], family[FAMILY_NAME + 64]; /* family: the variable of the environment */
	uint64_t space; /* network name space of the socket; 0: unknown */
	struct conn { int fd, slot; } conn[FAMILY_PROCS];
	unsigned nconn;
	pthread_mutex_t connlock; /* conn[], nconn: the pressure thread reads them */
	pid_t child;
	volatile int unexecuted; /* an errno: why the child has not executed the program */
	uint64_t need_peak, start_ns;
	struct rlimit fsize; /* as it was: the program's */
	bool stop; /* atomic: the threads shall end */
	bool pressed, packs; /* they are there */
	pthread_t pressure, packer;
	unsigned left; /* processes of the family that go on after the program */
	struct pool store;
	struct pool_stats most; /* when the store was fullest, seen before a process's share was given back */
};

/* area.c: the family's shared memory and its swap file. 0 or CLI_CANNOT after one line on standard error. */
int run_make_family(struct run *);

/* rendezvous.c: the sockets by which processes join the family. Those that return int: as above. */
int run_make_descriptors(struct run *);	 /* first of all, before anything is opened */
int run_make_socket(struct run *);
int run_count_descriptors(struct run *); /* last, when everything is open */
bool run_family_there(const char *name); /* does the variable name a family that is there? If not it is left over */
void run_take_conn(struct run *, int listener);
void run_drop_conn(struct run *, unsigned i);
void run_hear(struct run *, unsigned i); /* a message of connection i */

/* supervise.c: the loop and its two threads */
void run_supervise(struct run *, int *status); /* until the program ends; status NULL: until the last process of its family has */
void run_start_threads(struct run *);
void run_end_threads(struct run *);
void run_add_up(const struct run *, struct family_counters *, uint64_t *resident, uint64_t *need);
void run_store_stats(struct run *, struct pool_stats *);
uint64_t run_now_ns(void);
#endif
