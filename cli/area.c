/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a family shares: a memory object with its state (run/family.h), and the store: a memory object and an unnamed swap file.
 * All end with the last process that has them. No process can change the size of a memory object: the supervisor would die of it.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/swapfile.h"

#define YOUNG	     16u /* that part of the pool may hold pages that are not packed yet */
#define MIN_SWAP     (1ull << 20)
#define MIN_ROOM     (64ull << 20) /* where no size is given: less would be full before long */
#define DEFAULT_SWAP (16ull << 30)

/* What the store takes for itself. */
static int charge(void *arg, long pages) { return family_pool_charge(arg, pages); }

/* The limit of file sizes to the hard one: the child takes the old one back. False: that is less. */
static bool raise_fsize(uint64_t least)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_FSIZE, &rl) != 0 || rl.rlim_cur >= least)
		return true;
	rl.rlim_cur = rl.rlim_max;
	return setrlimit(RLIMIT_FSIZE, &rl) == 0 && rl.rlim_cur >= least;
}

/* Never larger than what is free there: what is promised to the program must be had when it comes to it. */
static int make_swap(struct run *r, struct run_store *st)
{
	uint64_t want = r->o.swap_bytes, room;
	struct statvfs vfs;
	const char *why = "";
	char a[24], b[24];

	(void)getrlimit(RLIMIT_FSIZE, &r->fsize);
	if (!raise_fsize(want > MIN_SWAP ? want : MIN_SWAP))
		return fail("--swap: the limit of file sizes (ulimit -f) is less than %s",
		    cli_human(want > MIN_SWAP ? want : MIN_SWAP, a));
	st->swapfd = swapfile_open(r->o.swap_path, want != 0 ? MIN_SWAP : MIN_ROOM, &why);
	if (st->swapfd < 0)
		return fail("--swap: %s", why);
	if (fstatvfs(st->swapfd, &vfs) != 0)
		return fail("--swap: %s", strerror(errno));
	room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	if (want > room)
		return fail("--swap: %s is more than the %s free there; give a smaller size or name another place",
			    cli_human(want, a), cli_human(room, b));
	if (want == 0) {
		want = r->o.memory * 4 > DEFAULT_SWAP ? r->o.memory * 4 : DEFAULT_SWAP;
		if (want > room - room / 8)
			want = room - room / 8;
	}
	if (!raise_fsize(want))
		return fail("--swap: the limit of file sizes (ulimit -f) is less than %s", cli_human(want, a));
	if (ftruncate(st->swapfd, (off_t)want) != 0)
		return fail("--swap: %s cannot be had: %s", cli_human(want, a), strerror(errno));
	if (r->o.swap_bytes != 0 && swapfile_reserve(st->swapfd, want, &why) != 0)
		return fail("--swap: %s", why);
	r->o.swap_bytes = want;
	return 0;
}

/* Shared memory of that size, zeroed. NULL after a line on standard error. */
static void *make_shared(const char *name, uint64_t size, int *fd)
{
	char buf[24];
	void *p;

	if (!raise_fsize(size)) {
		(void)fail("the limit of file sizes (ulimit -f) is less than the %s that the pool may take",
		    cli_human(size, buf));
		return NULL;
	}
	*fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0 || ftruncate(*fd, (off_t)size) != 0 ||
	    fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
		(void)fail("cannot make shared memory: %s", strerror(errno));
		return NULL;
	}
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (p != MAP_FAILED)
		return p;
	(void)fail("cannot map shared memory of %llu MiB: %s; see ulimit -v, or give a smaller --swap or --memory",
	    (unsigned long long)(size >> 20), strerror(errno));
	return NULL;
}

static int make_store(struct run *r, struct run_store *st)
{
	struct pool_config pc = {
		.mem_limit = r->o.pool, .mem_floor = 512u << 10, .max_members = FAMILY_PROCS + 1
	}; /* and we */
	void *mem;
	int rc;

	if ((rc = make_swap(r, st)) != 0)
		return rc;
	pc.file_limit = r->o.swap_bytes;
	st->run = r;
	st->size = pool_shared_size(&pc);
	if ((mem = make_shared("quire-store", st->size, &st->memfd)) == NULL)
		return CLI_CANNOT;
	if (pool_format(mem, &pc) != 0)
		return fail("cannot format the store");
	if ((rc = pool_attach(&st->pool, mem, st->size, st->swapfd)) != 0)
		return fail("cannot attach the store: %s; see ulimit -v and -d", strerror(-rc));
	st->pool.p_charge = charge;
	st->pool.p_charge_arg = r->fam;
	if (pool_join(&st->pool, FAMILY_PROCS) == 0)
		pool_pack_behind(&st->pool, r->o.pool / YOUNG);
	return 0;
}

int run_make_family(struct run *r)
{
	r->device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	r->fam = make_shared("quire-family", (sizeof(struct family) + 4095) & ~4095ull, &r->memfd);
	if (r->fam == NULL)
		return CLI_CANNOT;
	r->fam->fam_budget = r->o.memory / 4096;
	r->fam->fam_pool_max = r->o.pool / 4096;
	if (make_store(r, &r->store) != 0)
		return CLI_CANNOT;
	promise_init(&r->fam->fam_promise, pool_file_pages(r->o.swap_bytes), r->fam->fam_budget);
	r->promise_most = r->fam->fam_promise.p_most;
	return 0;
}
