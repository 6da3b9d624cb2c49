/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a family shares: one memory object (run/family.h, then the store) and one unnamed swap file. Made once, before the
 * program starts; both end with the last process that has them.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <quire/policy.h>

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
static int make_swap(struct run *r)
{
	uint64_t want = r->o.swap_bytes, room;
	struct statvfs vfs;
	const char *why = "";
	char a[24], b[24];

	(void)getrlimit(RLIMIT_FSIZE, &r->fsize);
	if (!raise_fsize(want > MIN_SWAP ? want : MIN_SWAP))
		return fail("--swap: the limit of file sizes (ulimit -f) is less than %s",
		    cli_human(want > MIN_SWAP ? want : MIN_SWAP, a));
	r->swapfd = swapfile_open(r->o.swap_path, want != 0 ? MIN_SWAP : MIN_ROOM, &why);
	if (r->swapfd < 0)
		return fail("--swap: %s", why);
	if (fstatvfs(r->swapfd, &vfs) != 0)
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
	if (ftruncate(r->swapfd, (off_t)want) != 0)
		return fail("--swap: %s cannot be had: %s", cli_human(want, a), strerror(errno));
	if (r->o.swap_bytes != 0 && swapfile_reserve(r->swapfd, want, &why) != 0)
		return fail("--swap: %s", why);
	r->o.swap_bytes = want;
	return 0;
}

int run_make_family(struct run *r)
{
	struct pool_config pc = {
		.mem_limit = r->o.pool, .mem_floor = r->o.pool / 6, .max_members = FAMILY_PROCS + 1
	}; /* and we */
	int rc;
	uint64_t head = (sizeof(struct family) + 65535) & ~65535ull, size;
	char buf[24];

	if ((rc = make_swap(r)) != 0)
		return rc;
	pc.file_limit = r->o.swap_bytes;
	size = head + pool_shared_size(&pc);
	if (!raise_fsize(size))
		return fail("the limit of file sizes (ulimit -f) is less than the %s that the pool may take",
		    cli_human(size, buf));
	r->device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	r->memfd = memfd_create("quire-family", MFD_CLOEXEC);
	if (r->memfd < 0 || ftruncate(r->memfd, (off_t)size) != 0)
		return fail("cannot make shared memory: %s", strerror(errno));
	r->fam = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, r->memfd, 0);
	if (r->fam == MAP_FAILED)
		return fail("cannot map shared memory of %llu MiB: %s; see ulimit -v, or give a smaller --swap or --memory",
		    (unsigned long long)(size >> 20), strerror(errno));
	r->fam->fam_magic = FAMILY_MAGIC;
	r->fam->fam_size = size;
	r->fam->fam_pool_off = head;
	r->fam->fam_pool_size = size - head;
	r->fam->fam_budget = r->o.memory / 4096;
	r->fam->fam_pool_max = r->o.pool / 4096;
	(void)snprintf(r->fam->fam_policy, sizeof r->fam->fam_policy, "%s", r->o.policy->pol_name);
	if (r->o.prefetch != NULL)
		(void)snprintf(r->fam->fam_prefetch, sizeof r->fam->fam_prefetch, "%s", r->o.prefetch->pf_name);
	r->fam->fam_swap_pages = (r->o.swap_bytes + r->o.pool * 2) / 4096;
	if (pool_format((char *)r->fam + head, &pc) != 0)
		return fail("cannot format the store");
	if ((rc = pool_attach(&r->store, (char *)r->fam + head, size - head, r->swapfd)) != 0)
		return fail("cannot attach the store: %s; see ulimit -v and -d", strerror(-rc));
	r->store.p_charge = charge;
	r->store.p_charge_arg = r->fam;
	if (pool_join(&r->store, FAMILY_PROCS) == 0)
		pool_pack_behind(&r->store, r->o.pool / YOUNG);
	return 0;
}
