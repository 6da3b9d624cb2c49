/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a store's pages go when memory is full: an unnamed file of this machine, then far places (far.c). The first store is given
 * what the options say, and each of other credentials as much again: a file of its own, far places of its own.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/swapfile.h"

#define MIN_SWAP (1ull << 20)
#define MIN_ROOM (64ull << 20) /* where no size is given: less would be full before long */
#define DEFAULT_SWAP (16ull << 30)

static uint64_t default_swap(const struct run *r)
{
	return r->o.memory * 4 > DEFAULT_SWAP ? r->o.memory * 4 : DEFAULT_SWAP;
}

/* The place of this machine that the options name; NULL: the default. */
static const char *local_path(const struct run *r)
{
	for (unsigned i = 0; i < r->o.nswaps; i++)
		if (r->o.swap[i].url == NULL)
			return r->o.swap[i].path;
	return NULL;
}

/* The limit of file sizes to the hard one: the child takes the old one back. False: that is less. */
bool run_raise_fsize(uint64_t least)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_FSIZE, &rl) != 0 || rl.rlim_cur >= least)
		return true;
	rl.rlim_cur = rl.rlim_max;
	return setrlimit(RLIMIT_FSIZE, &rl) == 0 && rl.rlim_cur >= least;
}

/*
 * The swap file of this machine, of *want bytes; 0: as much as is in order. Never larger than what is free there: what is promised to
 * the program must be had when it comes to it.
 */
static int make_file(struct run *r, struct run_store *st, const char *path, uint64_t *want)
{
	bool given = *want != 0;
	uint64_t room;
	struct statvfs vfs;
	const char *why = "";
	char a[24], b[24];

	if (!run_raise_fsize(*want > MIN_SWAP ? *want : MIN_SWAP))
		return fail("--swap: the limit of file sizes (ulimit -f) is less than %s",
		    cli_human(*want > MIN_SWAP ? *want : MIN_SWAP, a));
	st->swapfd = swapfile_open(path, given ? MIN_SWAP : MIN_ROOM, &why);
	if (st->swapfd < 0)
		return fail("--swap: %s", why);
	if (fstatvfs(st->swapfd, &vfs) != 0)
		return fail("--swap: %s", strerror(errno));
	room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	if (*want > room)
		return fail(
		    "--swap: %s is more than the %s free there; give a smaller size or name another place",
		    cli_human(*want, a), cli_human(room, b));
	if (!given) {
		*want = default_swap(r);
		if (*want > room - room / 8)
			*want = room - room / 8;
	}
	if (!run_raise_fsize(*want))
		return fail("--swap: the limit of file sizes (ulimit -f) is less than %s",
		    cli_human(*want, a));
	if (ftruncate(st->swapfd, (off_t)*want) != 0)
		return fail("--swap: %s cannot be had: %s", cli_human(*want, a), strerror(errno));
	if (given && swapfile_reserve(st->swapfd, *want, &why) != 0)
		return fail("--swap: %s", why);
	return 0;
}

/* Far places in the order of the options; a file that is encrypted is reached like one. */
static int make_far(struct run *r, struct run_store *st, const struct swap_option *sw)
{
	struct far_plan *plan = &st->plan[st->nfar];
	int rc;

	if (st->nfar == POOL_FARS)
		return fail("--swap: at most %u far or encrypted places", POOL_FARS);
	*plan = (struct far_plan){ .url = sw->url,
		.encrypt = r->o.encrypt != ENCRYPT_NONE,
		.file = -1,
		.bytes = sw->bytes };
	if (sw->url == NULL) {
		if ((rc = make_file(r, st, sw->path, &plan->bytes)) != 0)
			return rc;
		plan->file = st->swapfd;
		st->swapfd = -1;
	} else {
		if (plan->bytes == 0)
			plan->bytes = default_swap(r);
		if ((rc = far_probe(&r->o, plan)) != 0)
			return rc;
	}
	st->nfar++;
	return 0;
}

int run_make_swap(struct run *r, struct run_store *st)
{
	int rc = 0;

	(void)getrlimit(RLIMIT_FSIZE, &r->fsize);
	far_take_password();
	for (unsigned i = 0; i < r->o.nswaps && rc == 0; i++) {
		const struct swap_option *sw = &r->o.swap[i];

		r->reserve |= sw->url == NULL && sw->bytes != 0;
		st->file_bytes =
		    sw->url == NULL && r->o.encrypt != ENCRYPT_ALL ? sw->bytes : st->file_bytes;
		rc = sw->url != NULL || r->o.encrypt == ENCRYPT_ALL
		    ? make_far(r, st, sw)
		    : make_file(r, st, sw->path, &st->file_bytes);
	}
	/* Every process is given the descriptor of the file: where there is none, of something that holds nothing. */
	if (rc == 0 && st->swapfd < 0 && (st->swapfd = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
		rc = fail("cannot open /dev/null: %s", strerror(errno));
	return rc;
}

/* A file as large as *want, or as large as there is room for, for another store. Its descriptor, or -1. */
static int more_file(struct run *r, uint64_t *want)
{
	uint64_t room;
	struct statvfs vfs;
	const char *why;
	int fd = swapfile_open(local_path(r), MIN_SWAP, &why);

	if (fd < 0)
		return -1;
	if (fstatvfs(fd, &vfs) == 0) {
		room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
		if (*want > room - room / 8)
			*want = room - room / 8;
		*want &= ~65535ull;
		if (*want >= MIN_SWAP && ftruncate(fd, (off_t)*want) == 0 &&
		    (!r->reserve || swapfile_reserve(fd, *want, &why) == 0))
			return fd;
	}
	(void)close(fd);
	return -1;
}

int run_make_more_swap(struct run *r, struct run_store *st)
{
	const struct run_store *first = r->store[0];

	st->file_bytes = first->file_bytes;
	st->nfar = first->nfar;
	for (unsigned i = 0; i < st->nfar; i++) {
		st->plan[i] = first->plan[i];
		if (st->plan[i].url == NULL &&
		    (st->plan[i].file = more_file(r, &st->plan[i].bytes)) < 0)
			return -1;
	}
	st->swapfd = st->file_bytes != 0 ? more_file(r, &st->file_bytes)
					 : open("/dev/null", O_RDWR | O_CLOEXEC);
	return st->swapfd < 0 ? -1 : 0;
}

uint64_t run_swap_bytes(const struct run_store *st)
{
	uint64_t total = st->file_bytes;

	for (unsigned i = 0; i < st->nfar; i++)
		total += st->plan[i].bytes;
	return total;
}

bool run_start_far(struct run *r, struct run_store *st)
{
	for (unsigned i = 0; i < st->nfar; i++)
		if (far_start(&st->far[i], &r->o, &st->plan[i], st->memfd, st->ring_at[i]) != 0)
			return false;
	return true;
}

void run_stop_far(struct run_store *st)
{
	for (unsigned i = 0; i < st->nfar; i++)
		far_stop(&st->far[i]);
}
