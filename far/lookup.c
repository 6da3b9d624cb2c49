/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The look-up of names. A name server that does not answer keeps getaddrinfo() for half a minute, in
 * which quire-far would answer no request and would not notice the end of the run. So a thread of
 * the C library looks the name up (getaddrinfo_a), and the caller waits only as long as it may.
 *
 * A look-up that is late goes on; the next call for the same name takes its result. The addresses of
 * the last look-up that succeeded are kept: a server is found again while its name server is away.
 * If addresses are kept, a look-up is waited for KNOWN_NS at most.
 *
 * Entries are never freed: a run asks for the few names of its URL and of its cluster's nodes, and
 * the C library may still write to an entry. Lock: none, the caller is one thread.
 */
#include "far/lookup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KNOWN_NS 250000000u

struct name {
	struct name *next;
	char host[200], port[8];
	struct addrinfo hints;
	struct gaicb ask; /* the C library's while asked is true */
	bool asked;
	struct addrinfo *known; /* of the last look-up that succeeded; NULL: none has */
};

static struct name *names;

/* Finds the entry of that name, or makes it. NULL: no memory. */
static struct name *name_of(const char *host, const char *port)
{
	struct name *n;

	for (n = names; n != NULL; n = n->next)
		if (strcmp(n->host, host) == 0 && strcmp(n->port, port) == 0)
			return n;
	if ((n = calloc(1, sizeof *n)) == NULL)
		return NULL;
	(void)snprintf(n->host, sizeof n->host, "%s", host);
	(void)snprintf(n->port, sizeof n->port, "%s", port);
	n->hints.ai_socktype = SOCK_STREAM;
	n->next = names;
	names = n;
	return n;
}

static void keep_addresses(struct name *n, struct addrinfo *all)
{
	if (n->known != NULL)
		freeaddrinfo(n->known);
	n->known = all;
}

/* An address in figures needs no look-up, and no thread. */
static bool is_in_figures(struct name *n)
{
	struct addrinfo figures = n->hints, *all = NULL;

	figures.ai_flags = AI_NUMERICHOST;
	if (getaddrinfo(n->host, n->port, &figures, &all) != 0)
		return false;
	keep_addresses(n, all);
	return true;
}

/* Waits until the look-up is done, or the time is up. 0 or the look-up's error. */
static int await_answer(struct name *n, uint64_t until)
{
	const struct gaicb *const list[] = { &n->ask };
	uint64_t now;

	while (gai_error(&n->ask) == EAI_INPROGRESS && (now = far_now()) < until) {
		struct timespec left = { (time_t)((until - now) / 1000000000u),
			(long)((until - now) % 1000000000u) };

		(void)gai_suspend(list, 1, &left);
	}
	return gai_error(&n->ask);
}

/* Begins a look-up if none is under way, and takes its result. 0 or the look-up's error. */
static int look_up(struct name *n, uint64_t until)
{
	struct gaicb *list[] = { &n->ask };
	int rc;

	if (!n->asked) {
		n->ask = (struct gaicb){
			.ar_name = n->host, .ar_service = n->port, .ar_request = &n->hints
		};
		if ((rc = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL)) != 0)
			return rc;
		n->asked = true;
	}
	if ((rc = await_answer(n, until)) == EAI_INPROGRESS)
		return rc;
	n->asked = false;
	if (rc == 0)
		keep_addresses(n, n->ask.ar_result);
	return rc;
}

const struct addrinfo *far_lookup(
    const char *host, const char *port, uint64_t until, char why[FAR_WHY])
{
	struct name *n = name_of(host, port);
	uint64_t soon = far_now() + KNOWN_NS;
	int rc;

	if (n == NULL) {
		(void)snprintf(why, FAR_WHY, "no memory");
		return NULL;
	}
	if (!n->asked && is_in_figures(n))
		return n->known;
	rc = look_up(n, n->known != NULL && soon < until ? soon : until);
	if (rc != 0 && n->known == NULL)
		(void)snprintf(why, FAR_WHY, "%s: %s", host,
		    rc == EAI_INPROGRESS ? "the name server does not answer" : gai_strerror(rc));
	return n->known;
}
