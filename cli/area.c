/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state that a family shares: a memory object with its counters (run/family.h), and the store,
 * which is a memory object and an unnamed swap file. Both end with the last process that has them
 * open. Processes of other credentials get another store (creds.c). No process can change the size
 * of a memory object: a smaller object would kill the supervisor by a SIGBUS.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define YOUNG 16u /* so much of the pool may hold pages that are not packed yet */

/* Shared memory of that size, zeroed. NULL: errno says why. */
static void *make_shared(const char *name, uint64_t size, int *fd)
{
	void *p;

	*fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0 || ftruncate(*fd, (off_t)size) != 0 ||
	    fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return NULL;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	return p != MAP_FAILED ? p : NULL;
}

static int cannot_share(uint64_t size)
{
	if (errno == EMFILE)
		return cli_too_few_files();
	return fail(
	    "cannot map shared memory of %llu MiB: %s; see ulimit -v and -d, or give a smaller --swap or --memory",
	    (unsigned long long)(size >> 20), strerror(errno));
}

/* Makes the store's memory; its swap file exists already. 0 or an errno. */
static int make_store(struct run *r, struct run_store *st)
{
	struct pool_config pc = { .mem_limit = r->o.pool,
		.mem_floor = 512u << 10,
		.file_limit = st->file_bytes,
		.keep_free = st->keep_free,
		.rate = r->o.rate,
		.max_members = POOL_MEMBERS };
	struct pool pool;
	void *mem;
	int rc;

	for (unsigned i = 0; i < st->nfar; i++)
		pc.far_bytes[i] = st->plan[i].bytes;
	st->size = pool_shared_size(&pc);
	if (getentropy(&st->name, sizeof st->name) != 0)
		return errno;
	if (!run_raise_fsize(st->size))
		return EFBIG;
	if ((mem = make_shared("quire-store", st->size, &st->memfd)) == NULL)
		return errno;
	rc = pool_format(mem, &pc) != 0 ? -EINVAL : pool_attach(&pool, mem, st->size, st->swapfd);
	if (rc == 0) {
		pool_pack_behind(&pool, r->o.pool / YOUNG);
		for (unsigned i = 0; i < st->nfar; i++)
			(void)pool_far(&pool, i, &st->ring_at[i]);
		pool_detach(&pool);
	}
	(void)munmap(mem, st->size); /* from now on other processes write to the store */
	if (rc != 0)
		return -rc;
	return run_start_far(r, st) ? 0 : ENOTCONN;
}

/* ---- stores ---- */
static void free_store(struct run_store *st)
{
	run_stop_far(st);
	if (st->memfd >= 0)
		(void)close(st->memfd);
	if (st->swapfd >= 0)
		(void)close(st->swapfd);
	if (st->stats != NULL)
		(void)munmap(st->stats, KEEPER_STATS);
	free(st);
}

static struct run_store *new_store(void)
{
	struct run_store *st = calloc(1, sizeof *st);

	if (st != NULL)
		st->memfd = st->swapfd = st->sock = st->life = -1;
	for (unsigned i = 0; st != NULL && i < POOL_FARS; i++)
		st->far[i].started.life = -1;
	return st;
}

/* Sets how many pages the store's processes may be promised of its own places. No process has been
 * given the store yet. */
static void make_shelf(struct run *r, const struct run_store *st)
{
	struct promise_shelf *s = run_shelf(r, st);

	promise_return(&r->fam->fam_promise, s,
	    atomic_load(&s->s_given)); /* promises to processes that were killed in between */
	s->s_most = pool_file_pages(run_swap_bytes(st));
}

/*
 * The descriptors that a further store takes: its memory, its swap file, its keeper's socket and
 * life line; the file and the life line of each far place.
 */
static unsigned count_files(const struct run *r) { return 4 + 2 * r->store[0]->nfar; }

/*
 * Makes one more store. NULL: errno says why. The store takes no descriptor that is set aside for
 * processes: a process that forks is not told if there is none for the child's connection.
 */
static struct run_store *make_another(struct run *r)
{
	struct run_store *st;
	int rc = 0;

	errno = EMFILE;
	if (r->spare < count_files(r) || (st = new_store()) == NULL)
		return NULL;
	errno = 0;
	r->spare -= count_files(r);
	if (run_make_more_swap(r, st) == 0 && (rc = make_store(r, st)) == 0)
		return st;
	rc = rc != 0 ? rc : errno;
	r->spare += count_files(r);
	free_store(st);
	errno = rc;
	return NULL;
}

struct run_store *run_store_for(struct run *r, const struct creds *c, int *why)
{
	struct run_store *st;
	unsigned i, place = RUN_STORES;

	for (i = 0; i < RUN_STORES; i++) {
		if (r->store[i] == NULL && place == RUN_STORES)
			place = i;
		if (c != NULL && r->store[i] != NULL && !r->store[i]->alone &&
		    !r->store[i]->broken && creds_equal(&r->store[i]->creds, c))
			return r->store[i];
	}
	if (c == NULL && r->store[0]->alone && !r->store[0]->given)
		return r->store[0];
	*why = FAMILY_NO_STORE;
	if (place == RUN_STORES)
		return NULL;
	if ((st = make_another(r)) == NULL) {
		*why = errno == EMFILE || errno == ENFILE ? FAMILY_NO_FILES : FAMILY_NO_ROOM;
		return NULL;
	}
	st->alone = c == NULL;
	if (c != NULL)
		st->creds = *c;
	r->store[place] = st;
	st->place = place;
	make_shelf(r, st);
	return st;
}

struct run_store *run_store_named(struct run *r, uint64_t name)
{
	for (unsigned i = 0; i < RUN_STORES; i++)
		if (r->store[i] != NULL && r->store[i]->name == name)
			return r->store[i];
	return NULL;
}

static void drop_store(struct run *r, unsigned i)
{
	struct run_store *st = r->store[i];

	run_keeper_stop(st);
	run_keeper_await(st, run_keeper_patience());
	if (st->stats != NULL)
		run_add_stats(&r->past, &st->stats[KEEPER_FULLEST]);
	r->store[i] = NULL;
	r->spare += count_files(r);
	free_store(st);
}

void run_sweep_stores(struct run *r)
{
	unsigned i;

	for (i = 1; i < RUN_STORES && (r->store[i] == NULL || r->store[i]->users > 0); i++)
		;
	if (i == RUN_STORES)
		return;
	for (unsigned s = 0; s < FAMILY_PROCS; s++)
		if (atomic_load(&r->fam->fam_proc[s].fp_pid) == -1)
			return; /* a parent may be about to report which store its child will have */
	for (; i < RUN_STORES; i++)
		if (r->store[i] != NULL && r->store[i]->users == 0)
			drop_store(r, i);
}

int run_make_family(struct run *r)
{
	uint64_t size = (sizeof(struct family) + 4095) & ~4095ull;
	struct run_store *st = new_store();
	char buf[24];
	int rc;

	if (st == NULL || (rc = run_make_swap(r, st)) != 0)
		return CLI_CANNOT;
	r->store[0] = st;
	st->creds = r->creds;
	st->alone = r->alone;
	r->device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if ((r->fam = make_shared("quire-family", size, &r->memfd)) == NULL)
		return cannot_share(size);
	r->fam->fam_budget = r->o.memory / 4096;
	r->fam->fam_pool_max = r->o.pool / 4096;
	rc = make_store(r, st);
	if (rc == EFBIG)
		return fail(
		    "the limit of file sizes (ulimit -f) is less than the %s that the pool may take: raise it",
		    cli_human(st->size, buf));
	if (rc == ENOTCONN) /* the callee has printed the line */
		return CLI_CANNOT;
	errno = rc;
	if (rc != 0)
		return cannot_share(st->size);
	promise_init(&r->fam->fam_promise, r->fam->fam_budget);
	make_shelf(r, st);
	return 0;
}
