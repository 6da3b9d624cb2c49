/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device: requests, the life of links, encryption, and the map of stored units.
 *
 *   submitted --> waiting --fo_submit--> asked --far_done--> the caller
 *                    ^                     |
 *                    +---- link is dead ---+
 *
 * A request stays in one of the two lists until it is answered. When a link dies, all asked
 * requests wait again, in the order of their submission, and are asked again on the next link.
 * Reads and whole-range writes may be repeated, and the store never submits two requests for one
 * place at a time, so no other order matters.
 *
 * The device waits timeout_ms for a lost engine; then all waiting requests are answered -EIO, and
 * new requests are answered -EIO at once, until the engine is back. A link that answers no request
 * for half of that time, while requests are asked, counts as dead, too: a new link may work within
 * the other half. After STUCK_NS without an answer the engine is reported as away.
 *
 * The map of units that this run has stored (d_present) serves two purposes. At the end of the run
 * the units are trimmed. During the run they are touched, a few at a time, so that an engine that
 * forgets units of dead runs (Redis, by expiry) keeps the units of this run.
 */
#include "far/far.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_NS 200000000u    /* between attempts to reach an engine */
#define OPEN_MS 1000u          /* of one attempt */
#define ERASE_MS 5000u         /* time for removing stored units, at the end */
#define ERASE_MANY 256u        /* trims under way at a time */
#define STUCK_NS 2000000000ull /* a server without an answer for this long is reported as away */
#define NAP_MS 500 /* longest time until a closed connection is noticed while no request is asked */
#define NS_PER_MS 1000000u

struct list {
	struct far_io *first, *last;
};

struct far_device {
	const struct far_ops *d_ops;
	struct far_url d_url;
	struct far_settings d_set;
	struct far_crypt *d_crypt;
	struct far_link *d_link; /* NULL: the engine is away */
	struct list d_waiting, d_asked;
	uint64_t d_size;
	uint64_t d_away;     /* time since which there is no link; 0: there is a link */
	uint64_t d_try;      /* time of the next try */
	uint64_t d_progress; /* time at which a request was last answered, or the link was opened */
	char d_why[FAR_WHY];
	uint64_t *d_present;       /* bit per unit */
	uint64_t d_units, d_touch; /* units of the map; the next to be touched */
	uint64_t d_touch_at;
	unsigned d_housework; /* the device's own trims and touches that are under way */
};

static void list_add(struct list *l, struct far_io *io)
{
	io->next = NULL;
	io->prev = l->last;
	*(l->last != NULL ? &l->last->next : &l->first) = io;
	l->last = io;
}

static void list_remove(struct list *l, struct far_io *io)
{
	*(io->prev != NULL ? &io->prev->next : &l->first) = io->next;
	*(io->next != NULL ? &io->next->prev : &l->last) = io->prev;
}

/* Makes all asked requests wait again, before the requests that wait already. */
static void ask_again(struct far_device *d)
{
	if (d->d_asked.first == NULL)
		return;
	d->d_asked.last->next = d->d_waiting.first;
	if (d->d_waiting.first != NULL)
		d->d_waiting.first->prev = d->d_asked.last;
	else
		d->d_waiting.last = d->d_asked.last;
	d->d_waiting.first = d->d_asked.first;
	d->d_asked = (struct list){ 0 };
}

static void remember_unit(struct far_device *d, const struct far_io *io)
{
	uint64_t unit = io->at / FAR_UNIT;

	if (unit >= d->d_units)
		return;
	if (io->op == FAR_WRITE)
		d->d_present[unit / 64] |= 1ull << unit % 64;
	else if (io->op == FAR_TRIM)
		d->d_present[unit / 64] &= ~(1ull << unit % 64);
}

/* The text of a server goes to a terminal: removes control characters. */
static void clean_text(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
			*text = '?';
}

void far_note(struct far_io *io, const char *text)
{
	(void)snprintf(io->device->d_why, FAR_WHY, "%s", text);
	clean_text(io->device->d_why);
}

void far_done(struct far_io *io, int err)
{
	struct far_device *d = io->device;

	list_remove(&d->d_asked, io);
	d->d_progress = far_now();
	if (err == 0)
		remember_unit(d, io);
	if (err == 0 && io->op == FAR_READ && d->d_crypt != NULL &&
	    !far_unseal(d->d_crypt, io->buf, io->len, io->at))
		err = -EIO;
	io->done(io, err);
}

/* ---- links ---- */
/* Ends the link. since: the time at which a request was last answered on it. */
static void link_lost(struct far_device *d, uint64_t since, uint64_t now)
{
	if (d->d_link != NULL)
		d->d_ops->fo_close(d->d_link, false);
	d->d_link = NULL;
	d->d_away = since;
	/* Not before the next round, so that a caller can see that the engine was away. */
	d->d_try = now + 1;
	ask_again(d);
}

static void link_open(struct far_device *d, uint64_t now)
{
	uint32_t wait = d->d_set.timeout_ms < OPEN_MS ? d->d_set.timeout_ms : OPEN_MS;
	bool retry;

	d->d_link = d->d_ops->fo_open(&d->d_url, &d->d_set, wait, &retry, d->d_why);
	d->d_try = far_now() + RETRY_NS;
	clean_text(d->d_why);
	if (d->d_link == NULL)
		return;
	if (d->d_ops->fo_size(d->d_link) < d->d_size) {
		(void)snprintf(d->d_why, FAR_WHY, "it came back smaller than it was");
		d->d_ops->fo_close(d->d_link, false);
		d->d_link = NULL;
		return;
	}
	d->d_away = 0;
	d->d_progress = now;
}

static bool timed_out(const struct far_device *d, uint64_t since, uint64_t now)
{
	return now >=
	    since + (uint64_t)d->d_set.timeout_ms * NS_PER_MS; /* since may be later than now */
}

/* There is a link and a request: the time of the last answer. */
static uint64_t silent_since(const struct far_device *d)
{
	uint64_t asked = d->d_asked.first->since;

	return asked > d->d_progress ? asked : d->d_progress;
}

/* Ends a link that has answered no request for this long, although requests are asked. */
static bool is_silent_for(const struct far_device *d, uint64_t ns, uint64_t now)
{
	return d->d_link != NULL && d->d_asked.first != NULL && now >= silent_since(d) + ns;
}

static void fail_waiting(struct far_device *d)
{
	while (d->d_waiting.first != NULL) {
		struct far_io *io = d->d_waiting.first;

		list_remove(&d->d_waiting, io);
		io->done(io, -EIO);
	}
}

static void submit_waiting(struct far_device *d)
{
	while (d->d_link != NULL && d->d_waiting.first != NULL) {
		struct far_io *io = d->d_waiting.first;

		list_remove(&d->d_waiting, io);
		list_add(&d->d_asked, io); /* set before the call: the engine may answer at once */
		if (!d->d_ops->fo_submit(d->d_link, io)) {
			list_remove(&d->d_asked, io);
			io->prev = NULL;
			io->next = d->d_waiting.first;
			*(io->next != NULL ? &io->next->prev : &d->d_waiting.last) = io;
			d->d_waiting.first = io;
			return;
		}
	}
}

/* ---- housekeeping: the device's own requests ---- */
static void housework_done(struct far_io *io, int err)
{
	(void)err; /* a unit that could not be removed or touched will expire */
	io->device->d_housework--;
	free(io);
}

/* False: no memory. */
static bool start_housework(struct far_device *d, enum far_op op, uint64_t unit)
{
	struct far_io *io = calloc(1, sizeof *io);

	if (io == NULL)
		return false;
	io->op = op;
	io->at = unit * FAR_UNIT;
	io->len = FAR_UNIT;
	io->done = housework_done;
	d->d_housework++;
	far_device_submit(d, io);
	return true;
}

/* Finds the next stored unit from *unit on. False: none. */
static bool next_present(const struct far_device *d, uint64_t *unit)
{
	for (; *unit < d->d_units; (*unit)++) {
		uint64_t word = d->d_present[*unit / 64] >> *unit % 64;

		if (word != 0) {
			*unit += (uint64_t)__builtin_ctzll(word);
			return *unit < d->d_units;
		}
		*unit |= 63;
	}
	return false;
}

/* Each stored unit is touched three times in the time after which it would be forgotten. */
static void touch_some(struct far_device *d, uint64_t now)
{
	if (d->d_set.expire_s == 0 || d->d_link == NULL || now < d->d_touch_at ||
	    d->d_housework > 0)
		return;
	for (unsigned n = 0; n < ERASE_MANY; n++) {
		if (!next_present(d, &d->d_touch)) {
			d->d_touch = 0;
			d->d_touch_at = now + (uint64_t)d->d_set.expire_s * 1000000000u / 3;
			return;
		}
		(void)start_housework(d, FAR_TOUCH, d->d_touch++);
	}
}

static void erase_all(struct far_device *d)
{
	uint64_t now = far_now(), until = now + (uint64_t)ERASE_MS * NS_PER_MS, unit = 0;
	uint64_t answered = now + (uint64_t)ERASE_MS * NS_PER_MS / 2;

	/*
	 * A write under way will arrive in any case: only its answer tells that the unit must be
	 * removed.
	 */
	while (d->d_link != NULL && (d->d_asked.first != NULL || d->d_waiting.first != NULL) &&
	    far_now() < answered)
		(void)far_device_wait(d, -1, 100);
	for (;;) {
		while (d->d_housework < ERASE_MANY && next_present(d, &unit))
			if (!start_housework(d, FAR_TRIM, unit++))
				return;
		if (d->d_housework == 0 || far_now() > until)
			return;
		(void)far_device_wait(d, -1, 100);
	}
}

/* ---- calls ---- */
struct far_device *far_device_open(const struct far_ops *engine, const struct far_url *url,
    const struct far_settings *set, struct far_crypt *crypt, char why[FAR_WHY])
{
	struct far_device *d = calloc(1, sizeof *d);
	uint64_t now = far_now();
	bool retry = false;

	if (d == NULL) {
		(void)snprintf(why, FAR_WHY, "no memory");
		return NULL;
	}
	d->d_ops = engine;
	d->d_url = *url;
	d->d_set = *set;
	d->d_crypt = crypt;
	while ((d->d_link = d->d_ops->fo_open(url, set, OPEN_MS, &retry, why)) == NULL) {
		clean_text(why);
		if (!retry || timed_out(d, now, far_now())) {
			far_url_wipe(&d->d_url);
			free(d);
			return NULL;
		}
		(void)poll(NULL, 0, (int)(RETRY_NS / NS_PER_MS));
	}
	d->d_size = d->d_ops->fo_size(d->d_link);
	if (set->size != 0 && set->size < d->d_size)
		d->d_size = set->size;
	if (d->d_size == UINT64_MAX) {
		(void)snprintf(why, FAR_WHY, "it has no size of its own: give one");
		far_device_close(d, false);
		return NULL;
	}
	d->d_size = d->d_size / FAR_UNIT * FAR_UNIT;
	d->d_progress = d->d_touch_at = far_now();
	d->d_units = d->d_size / FAR_UNIT;
	d->d_present = calloc(d->d_units / 64 + 1, sizeof *d->d_present);
	if (d->d_present != NULL)
		return d;
	(void)snprintf(why, FAR_WHY, "no memory");
	d->d_units = 0;
	far_device_close(d, false);
	return NULL;
}

uint64_t far_device_size(const struct far_device *d) { return d->d_size; }

uint64_t far_device_away(const struct far_device *d, const char **why)
{
	*why = d->d_why;
	if (d->d_link == NULL)
		return d->d_away;
	return is_silent_for(d, STUCK_NS, far_now()) ? silent_since(d) : 0;
}

void far_device_submit(struct far_device *d, struct far_io *io)
{
	uint64_t now = far_now();

	io->device = d;
	io->since = now;
	if (io->at % FAR_SECTOR != 0 || io->len % FAR_SECTOR != 0 || io->len == 0 ||
	    io->at % FAR_UNIT + io->len > FAR_UNIT || io->at >= d->d_size) {
		far_note(io, "the request is none");
		io->done(io, -EIO);
		return;
	}
	if (d->d_link == NULL && timed_out(d, d->d_away, now)) {
		io->done(io, -EIO);
		return;
	}
	if (io->op == FAR_WRITE && d->d_crypt != NULL && !io->sealed) {
		if (!far_seal(d->d_crypt, io->buf, io->len, io->at)) {
			io->done(io, -EIO);
			return;
		}
		io->sealed = true;
	}
	if (io->op == FAR_WRITE && d->d_set.high != NULL && io->at / FAR_UNIT >= *d->d_set.high)
		__atomic_store_n(d->d_set.high, io->at / FAR_UNIT + 1, __ATOMIC_RELAXED);
	list_add(&d->d_waiting, io);
	submit_waiting(d);
}

/* The longest time to sleep before links or housekeeping need work. */
static int sleep_ms(const struct far_device *d, int wait_ms, int wake_ms)
{
	int most = d->d_asked.first != NULL ? 500 : 5000;
	uint64_t now = far_now(), retry = d->d_try > now ? d->d_try - now : 0;

	if (d->d_link == NULL)
		most = (int)(retry / NS_PER_MS) + 1;
	if (d->d_set.expire_s != 0 && d->d_touch_at < now + (uint64_t)most * NS_PER_MS) {
		if (d->d_touch_at > now)
			most = (int)((d->d_touch_at - now) / NS_PER_MS) + 1;
		else if (d->d_link != NULL)
			most = 1;
	}
	if (wake_ms >= 0 && wake_ms < most)
		most = wake_ms;
	return wait_ms >= 0 && wait_ms < most ? wait_ms : most;
}

int far_device_nap_ms(const struct far_device *d)
{
	int most = sleep_ms(d, NAP_MS, -1);

	return d->d_link != NULL && d->d_asked.first == NULL && d->d_waiting.first == NULL ? most
											   : 0;
}

bool far_device_wait(struct far_device *d, int fd, int wait_ms)
{
	struct pollfd fds[FAR_FDS + 1];
	int wake_ms = -1;
	unsigned n = d->d_link != NULL ? d->d_ops->fo_fds(d->d_link, fds, &wake_ms) : 0;
	uint64_t now, give_up = d->d_set.timeout_ms / 2 * (uint64_t)NS_PER_MS;

	fds[n] = (struct pollfd){ .fd = fd, .events = POLLIN }; /* poll passes over -1 */
	(void)poll(fds, n + 1, sleep_ms(d, wait_ms, wake_ms));
	now = far_now();
	/* The engine may know a more exact cause: then fo_work overwrites this cause. */
	if (is_silent_for(d, give_up < STUCK_NS ? give_up : STUCK_NS, now))
		(void)snprintf(d->d_why, FAR_WHY, "it does not answer");
	if (d->d_link != NULL && d->d_ops->fo_work(d->d_link, fds, n, d->d_why) != 0)
		link_lost(d, now, now);
	clean_text(d->d_why);
	if (is_silent_for(d, give_up, now))
		link_lost(d, silent_since(d), now);
	if (d->d_link == NULL && now >= d->d_try)
		link_open(d, now);
	if (d->d_link == NULL && timed_out(d, d->d_away, now))
		fail_waiting(d);
	submit_waiting(d);
	touch_some(d, now);
	return (fds[n].revents & POLLIN) != 0;
}

void far_device_close(struct far_device *d, bool erase)
{
	if (erase)
		erase_all(d);
	if (d->d_link != NULL)
		d->d_ops->fo_close(d->d_link, erase);
	d->d_link = NULL;
	ask_again(d);
	fail_waiting(d);
	far_url_wipe(&d->d_url);
	free(d->d_present);
	free(d);
}
