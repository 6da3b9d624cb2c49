/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The places to which a store's pages go when memory is full: an unnamed file of this machine, then
 * far places (far.c). The first store is given what the options say. Each store for other
 * credentials is given the same again: a file of its own, far places of its own.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/swapfile.h"

#define MIN_SWAP (1ull << 20)
#define MIN_ROOM                                                                                   \
	(64ull << 20) /* the least when no size is given: a smaller file would soon be
                                * full */
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

/* Raises the limit of file sizes to the hard limit: the child takes the old one back. False: the
 * hard limit is below least. */
bool run_raise_fsize(uint64_t least)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_FSIZE, &rl) != 0 || rl.rlim_cur >= least)
		return true;
	rl.rlim_cur = rl.rlim_max;
	return setrlimit(RLIMIT_FSIZE, &rl) == 0 && rl.rlim_cur >= least;
}

/*
 * Bytes of that file system that a swap file leaves to others: as the options say, otherwise an
 * eighth of it. But the file may use at least half of the free space, or a disk that is nearly full
 * could not be used without options.
 */
static uint64_t kept_free(const struct run *r, const struct statvfs *vfs)
{
	uint64_t eighth = (uint64_t)vfs->f_blocks * vfs->f_frsize / 8;
	uint64_t half = (uint64_t)vfs->f_bavail * vfs->f_frsize / 2;

	if (r->o.keep_free != KEEP_DEFAULT)
		return r->o.keep_free;
	return eighth < half ? eighth : half;
}

/* A size that was given is set aside at once: the free space bounds it, and so does
 * --swap-keep-free if that was given. */
static int check_given(const struct run *r, uint64_t want, uint64_t room)
{
	char a[24], b[24];

	if (want > room)
		return fail(
		    "--swap: %s is more than the %s free there; give a smaller size or name another place",
		    cli_human(want, a), cli_human(room, b));
	if (r->o.keep_free != KEEP_DEFAULT && r->o.keep_free > room - want)
		return fail(
		    "--swap: %s would leave less than --swap-keep-free %s of the file system; "
		    "give a smaller size or name another place",
		    cli_human(want, a), cli_human(r->o.keep_free, b));
	return 0;
}

/*
 * Makes the swap file of this machine, of *want bytes; 0: a size chosen by the free space. It is
 * never larger than the free space: memory that is promised to the program must be there when the
 * program uses it. *keep: bytes that the file must leave free as it grows.
 */
static int make_file(
    struct run *r, struct run_store *st, const char *path, uint64_t *want, uint64_t *keep)
{
	bool given = *want != 0;
	uint64_t room;
	struct statvfs vfs;
	const char *why = "";
	char a[24], b[24];
	int rc;

	if (!run_raise_fsize(*want > MIN_SWAP ? *want : MIN_SWAP))
		return fail("--swap: the limit of file sizes (ulimit -f) is less than %s: raise it",
		    cli_human(*want > MIN_SWAP ? *want : MIN_SWAP, a));
	st->swapfd = swapfile_open(path, given ? MIN_SWAP : MIN_ROOM, r->o.force, &why);
	if (st->swapfd < 0)
		return fail("--swap: %s", why);
	if (fstatvfs(st->swapfd, &vfs) != 0)
		return fail("--swap: %s", strerror(errno));
	room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	*keep = 0;
	if (given && (rc = check_given(r, *want, room)) != 0)
		return rc;
	if (!given) {
		*keep = kept_free(r, &vfs);
		room = room > *keep ? room - *keep : 0;
		if (room < MIN_ROOM)
			return fail(
			    "--swap: less than %s are free there beside the %s of --swap-keep-free; "
			    "name another place or give less",
			    cli_human(MIN_ROOM, a), cli_human(*keep, b));
		*want = default_swap(r) < room ? default_swap(r) : room;
	}
	if (!run_raise_fsize(*want))
		return fail("--swap: the limit of file sizes (ulimit -f) is less than %s: raise it",
		    cli_human(*want, a));
	if (ftruncate(st->swapfd, (off_t)*want) != 0)
		return fail(
		    "--swap: %s cannot be had: %s; give a smaller size or name another place",
		    cli_human(*want, a), strerror(errno));
	if (given && swapfile_reserve(st->swapfd, *want, &why) != 0)
		return fail("--swap: %s", why);
	return 0;
}

/* Plans far places in the order of the options; an encrypted file is reached like a far place. */
static int make_far(struct run *r, struct run_store *st, const struct swap_option *sw)
{
	struct far_plan *plan = &st->plan[st->nfar];
	struct far_options o = run_far_options(&r->o);
	char why[FAR_WHY_START];
	int rc;

	if (st->nfar == POOL_FARS)
		return fail("--swap: name at most %u far or encrypted places", POOL_FARS);
	*plan = (struct far_plan){ .url = sw->url,
		.encrypt = r->o.encrypt != ENCRYPT_NONE,
		.file = -1,
		.bytes = sw->bytes };
	if (sw->url == NULL) {
		if ((rc = make_file(r, st, sw->path, &plan->bytes, &plan->keep_free)) != 0)
			return rc;
		plan->file = st->swapfd;
		st->swapfd = -1;
	} else {
		if (plan->bytes == 0)
			plan->bytes = default_swap(r);
		if (far_probe(&o, plan, why) != 0)
			return fail("--swap: %s", why);
	}
	st->nfar++;
	return 0;
}

int run_make_swap(struct run *r, struct run_store *st)
{
	int rc;

	(void)getrlimit(RLIMIT_FSIZE, &r->fsize);
	rc = far_take_password(&r->o);
	for (unsigned i = 0; i < r->o.nswaps && rc == 0; i++) {
		const struct swap_option *sw = &r->o.swap[i];

		r->reserve |= sw->url == NULL && sw->bytes != 0;
		st->file_bytes =
		    sw->url == NULL && r->o.encrypt != ENCRYPT_ALL ? sw->bytes : st->file_bytes;
		rc = sw->url != NULL || r->o.encrypt == ENCRYPT_ALL
		    ? make_far(r, st, sw)
		    : make_file(r, st, sw->path, &st->file_bytes, &st->keep_free);
	}
	/* Every process is given the descriptor of the file: if there is none, a descriptor of
	 * something that holds nothing. */
	if (rc == 0 && st->swapfd < 0 && (st->swapfd = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
		rc = fail("cannot open /dev/null: %s; see whether this container has it",
		    strerror(errno));
	return rc;
}

/* A file as large as *want, or as large as there is room for, for another store. Its descriptor, or -1. */
static int more_file(struct run *r, uint64_t *want, uint64_t *keep)
{
	uint64_t room, kept;
	struct statvfs vfs;
	const char *why;
	int fd = swapfile_open(local_path(r), MIN_SWAP, r->o.force, &why);

	if (fd < 0)
		return -1;
	if (fstatvfs(fd, &vfs) == 0) {
		room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
		kept = kept_free(r, &vfs);
		room = room > kept ? room - kept : 0;
		*keep = r->reserve ? 0 : kept;
		if (*want > room)
			*want = room;
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
	st->nfar = 0;
	for (unsigned i = 0; i < first->nfar; i++) {
		struct far_plan *plan = &st->plan[st->nfar];

		*plan = first->plan[i];
		if (plan->url != NULL && strncmp(plan->url, "nbd", 3) == 0)
			continue; /* the first store has the whole export */
		if (plan->url == NULL &&
		    (plan->file = more_file(r, &plan->bytes, &plan->keep_free)) < 0)
			return -1;
		st->nfar++;
	}
	st->swapfd = st->file_bytes != 0 ? more_file(r, &st->file_bytes, &st->keep_free)
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
	struct far_options o = run_far_options(&r->o);
	char why[FAR_WHY_START];

	for (unsigned i = 0; i < st->nfar; i++) {
		struct run_far *f = &st->far[i];

		f->url = st->plan[i].url != NULL ? far_shown_url(st->plan[i].url) : "the swap file";
		if (far_start(&f->started, &o, &st->plan[i], st->memfd, st->ring_at[i], why) != 0) {
			(void)fail("--swap %s: %s; see 'quire check URL'", f->url, why);
			return false;
		}
	}
	return true;
}

void run_stop_far(struct run_store *st)
{
	for (unsigned i = 0; i < st->nfar; i++) {
		struct run_far *f = &st->far[i];

		/* A program that dies of it may end before the socket pair does. */
		if (far_was_killed(&f->started, st->memfd, st->ring_at[i]))
			run_far_hear(f);
		far_stop(&f->started);
	}
}
