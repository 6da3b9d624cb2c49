/* SPDX-License-Identifier: BSD-2-Clause */
/* See lease.h. */
#include "far/lease.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BEAT_NS 1000000000u   /* between two stamps */
#define LOOK_MS 5000          /* so long another's stamp is looked at */
#define STEP_MS 500           /* between two looks */
#define ANSWER_NS 1000000000u /* so long one read or write of the stamp may take */
#define MAGIC "quire swap, run "

/* False: the request failed or was not answered in time. */
static bool await_answer(struct nbd_handle *h, int64_t cookie)
{
	uint64_t until = far_now() + ANSWER_NS;
	int done = 0;

	while (cookie >= 0 && (done = nbd_aio_command_completed(h, (uint64_t)cookie)) == 0)
		if (far_now() > until || nbd_poll(h, STEP_MS) < 0)
			return false;
	return done == 1;
}

static bool read_stamp(const struct far_lease *l, struct nbd_handle *h, char stamp[FAR_SECTOR])
{
	bool ok =
	    await_answer(h, nbd_aio_pread(h, stamp, FAR_SECTOR, l->at, NBD_NULL_COMPLETION, 0));

	stamp[FAR_SECTOR - 1] = '\0';
	return ok;
}

static bool write_stamp(struct far_lease *l, struct nbd_handle *h)
{
	return await_answer(
	    h, nbd_aio_pwrite(h, l->stamp, FAR_SECTOR, l->at, NBD_NULL_COMPLETION, 0));
}

/* The next stamp: l->stamp. */
static void make_stamp(struct far_lease *l)
{
	char host[80] = "";

	(void)gethostname(host, sizeof host - 1);
	memset(l->stamp, 0, sizeof l->stamp);
	(void)snprintf(l->stamp, sizeof l->stamp, MAGIC "%s, process %d of %s, beat %" PRIu64 "\n",
	    l->run, (int)getpid(), host, ++l->beat);
}

/* Is that the stamp of another run? */
static bool is_anothers(const struct far_lease *l, const char *stamp)
{
	size_t magic = strlen(MAGIC), run = strlen(l->run);

	return strncmp(stamp, MAGIC, magic) == 0 &&
	    (strncmp(stamp + magic, l->run, run) != 0 || stamp[magic + run] != ',');
}

/* Says who has the export: "process N of HOST". */
static void name_holder(const char *stamp, char why[FAR_WHY])
{
	const char *from = strstr(stamp, "process "),
		   *to = from != NULL ? strstr(from, ", beat") : NULL;

	(void)snprintf(why, FAR_WHY,
	    "the export is in use by %.*s; an export is for one run at a time",
	    to != NULL && to - from < 120 ? (int)(to - from) : 0, from != NULL ? from : "");
}

/* Looks whether another's stamp changes. False: the export could not be read. */
static bool watch_stamp(
    const struct far_lease *l, struct nbd_handle *h, char stamp[FAR_SECTOR], bool *lives)
{
	char now[FAR_SECTOR];

	*lives = false;
	for (int ms = 0; ms < LOOK_MS && !*lives; ms += STEP_MS) {
		(void)poll(NULL, 0, STEP_MS);
		if (!read_stamp(l, h, now))
			return false;
		if (!is_anothers(l, now))
			return true; /* its holder has ended */
		*lives = strcmp(now, stamp) != 0;
	}
	return true;
}

bool far_lease_take(struct far_lease *l, struct nbd_handle *h, uint64_t at, const char *run,
    bool hold, bool *final, char why[FAR_WHY])
{
	char stamp[FAR_SECTOR];
	bool ok, stale, lives = false;

	l->at = at;
	l->run = run;
	ok = read_stamp(l, h, stamp);
	stale = ok && is_anothers(l, stamp);
	if (stale)
		ok = watch_stamp(l, h, stamp, &lives);
	if (lives) {
		*final = true;
		name_holder(stamp, why);
		return false;
	}
	if (ok && hold) {
		make_stamp(l);
		ok = write_stamp(l, h);
		l->next = far_now() + BEAT_NS;
	} else if (ok && stale) {
		memset(l->stamp, 0, sizeof l->stamp);
		ok = write_stamp(l, h);
	}
	if (!ok)
		(void)snprintf(why, FAR_WHY,
		    "the last sector of the export, which says who uses it, cannot be read or written");
	return ok;
}

static int on_written(void *arg, int *error)
{
	(void)error; /* the next stamp follows soon */
	((struct far_lease *)arg)->busy = false;
	return 1;
}

void far_lease_beat(struct far_lease *l, struct nbd_handle *h, uint64_t now)
{
	nbd_completion_callback cb = { .callback = on_written, .user_data = l };

	if (l->beat == 0 || l->busy || now < l->next)
		return;
	make_stamp(l);
	l->next = now + BEAT_NS;
	l->busy = true;
	if (nbd_aio_pwrite(h, l->stamp, FAR_SECTOR, l->at, cb, 0) < 0)
		l->busy = false; /* the connection is dead */
}

void far_lease_drop(struct far_lease *l, struct nbd_handle *h)
{
	uint64_t until = far_now() + ANSWER_NS;

	while (l->busy && far_now() < until && nbd_poll(h, STEP_MS) >= 0)
		;
	if (l->beat == 0 || l->busy)
		return;
	memset(l->stamp, 0, sizeof l->stamp);
	(void)write_stamp(l, h);
}
