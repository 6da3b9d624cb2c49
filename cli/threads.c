/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The threads and processes beside the supervisor's loop, from the moment a process of the family
 * needs them: a thread that waits on the family's pressure word, and the keeper of each store
 * (keeper.c). Locks: connlock (run.h).
 */
#include "run.h"

#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define JOIN_NS 20000000 /* the time after which a thread that has not ended is woken again */

/* A process has asked others for memory: a byte on its socket wakes each process whose fp_shrink
 * has risen. */
static void *pressure_main(void *arg)
{
	struct run *r = arg;

	for (;;) {
		uint32_t seen =
		    atomic_load(&r->fam->fam_pressure); /* before stop, which changes first */

		if (__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE))
			break;
		(void)pthread_mutex_lock(&r->connlock);
		for (unsigned i = 0; i < r->nconn; i++) {
			const struct conn *c = &r->conn[i];

			if (c->hears && c->slot >= 0 &&
			    atomic_load(&r->fam->fam_proc[c->slot].fp_shrink) != 0)
				(void)send(c->fd, &(char){ FAMILY_SHRINK }, 1,
				    MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		(void)pthread_mutex_unlock(&r->connlock);
		(void)syscall(SYS_futex, &r->fam->fam_pressure, FUTEX_WAIT, seen, NULL, NULL, 0);
	}
	return NULL;
}

/*
 * Starts the thread and the store's keeper when a process first needs them: most programs fit.
 * If they cannot be started, a process packs the pages that it stores itself, no process is asked
 * for memory, and the next process that needs them makes the supervisor try again.
 */
void run_start_threads(struct run *r, struct run_store *st)
{
	bool kept = st != NULL && run_keeper_start(r, st);

	if (st != NULL)
		st->wanted = true;

	if (!r->pressed)
		r->pressed = pthread_create(&r->pressure, NULL, pressure_main, r) == 0;
	if (r->pressed && kept)
		atomic_store(&r->fam->fam_watched, 1);
}

/* Wakes the thread, which is about to end, until it has ended: any process may set the word back to
 * the value that the thread waits on. */
void run_end_threads(struct run *r)
{
	struct timespec until;

	__atomic_store_n(&r->stop, true, __ATOMIC_RELEASE);
	while (r->pressed) {
		atomic_fetch_add(&r->fam->fam_pressure, 1);
		(void)syscall(SYS_futex, &r->fam->fam_pressure, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
		(void)clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += JOIN_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		r->pressed = pthread_timedjoin_np(r->pressure, NULL, &until) != 0;
	}
}
