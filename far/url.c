/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * URLs of far swap: see far.h. The input is typed by a user: every part is bounded, and a mistake
 * is named.
 */
#include "far/far.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct scheme {
	const char *name;
	enum far_scheme scheme;
	bool tls, unix_socket;
	const char *port;
} schemes[] = {
	{ "file:", FAR_FILE, false, false, "" },
	{ "nbd://", FAR_NBD, false, false, "10809" },
	{ "nbds://", FAR_NBD, true, false, "10809" },
	{ "nbd+unix://", FAR_NBD, false, true, "" },
	{ "nbds+unix://", FAR_NBD, true, true, "" },
	{ "redis://", FAR_REDIS, false, false, "6379" },
	{ "rediss://", FAR_REDIS, true, false, "6379" },
	{ "redis+cluster://", FAR_CLUSTER, false, false, "6379" },
	{ "rediss+cluster://", FAR_CLUSTER, true, false, "6379" },
};

static bool refuse_url(char why[FAR_WHY], const char *what)
{
	(void)snprintf(why, FAR_WHY, "%s", what);
	return false;
}

static const struct scheme *scheme_of(const char *text)
{
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
		if (strncasecmp(text, schemes[i].name, strlen(schemes[i].name)) == 0)
			return &schemes[i];
	return NULL;
}

bool far_is_url(const char *text)
{
	const char *p = text;

	while (isalnum((unsigned char)*p) || *p == '+')
		p++;
	return scheme_of(text) != NULL || (p > text && strncmp(p, "://", 3) == 0);
}

/* Copies [from, to) with %XX decoded. False: the text does not fit or is malformed. */
static bool copy_decoded(char *out, size_t room, const char *from, const char *to)
{
	size_t n = 0;

	for (; from < to; from++) {
		char c = *from;

		if (c == '%') {
			char hex[3] = { 0 }, *end;

			if (to - from < 3)
				return false;
			memcpy(hex, from + 1, 2);
			c = (char)strtol(hex, &end, 16);
			if (*end != '\0' || c == '\0')
				return false;
			from += 2;
		}
		if (n + 1 >= room)
			return false;
		out[n++] = c;
	}
	out[n] = '\0';
	return true;
}

static bool parse_user(struct far_url *u, const char *from, const char *to, char why[FAR_WHY])
{
	const char *colon = memchr(from, ':', (size_t)(to - from));

	if (!copy_decoded(u->user, sizeof u->user, from, colon != NULL ? colon : to) ||
	    (colon != NULL && !copy_decoded(u->password, sizeof u->password, colon + 1, to)))
		return refuse_url(why, "the user name or password is too long, or has a bad %XX");
	return true;
}

/* host, host:port, [IPv6] or [IPv6]:port */
static bool parse_host(
    struct far_url *u, const char *from, const char *to, const char *port, char why[FAR_WHY])
{
	const char *end = to, *colon;

	if (u->nhosts == FAR_HOSTS)
		return refuse_url(why, "too many hosts");
	if (*from == '[') {
		const char *close = memchr(from, ']', (size_t)(to - from));

		if (close == NULL)
			return refuse_url(why, "a '[' without ']'");
		colon = close + 1 < to && close[1] == ':' ? close + 1 : NULL;
		from++;
		end = close;
	} else {
		colon = memchr(from, ':', (size_t)(to - from));
		end = colon != NULL ? colon : to;
	}
	if (from == end ||
	    !copy_decoded(u->host[u->nhosts].host, sizeof u->host[0].host, from, end))
		return refuse_url(why, "no host, or its name is too long");
	(void)snprintf(u->host[u->nhosts].port, sizeof u->host[0].port, "%s", port);
	if (colon != NULL) {
		char *tail, text[8];
		long n;

		if (!copy_decoded(text, sizeof text, colon + 1, to))
			return refuse_url(why, "that is no port number");
		n = strtol(text, &tail, 10);
		if (*tail != '\0' || n < 1 || n > 65535)
			return refuse_url(why, "the port must be a number from 1 to 65535");
		(void)snprintf(u->host[u->nhosts].port, sizeof u->host[0].port, "%ld", n);
	}
	u->nhosts++;
	return true;
}

static bool parse_query(struct far_url *u, const char *query, char why[FAR_WHY])
{
	if (strncmp(query, "socket=", 7) != 0 || strchr(query, '&') != NULL)
		return refuse_url(why,
		    "after '?' stand size=4G, and socket=PATH of nbd+unix://, and nothing else");
	return copy_decoded(u->socket, sizeof u->socket, query + 7, query + strlen(query)) ||
	    refuse_url(why, "the path of the socket is too long");
}

static bool parse_hosts(
    struct far_url *u, const char *from, const char *to, const char *port, char why[FAR_WHY])
{
	while (from <= to) {
		const char *comma = memchr(from, ',', (size_t)(to - from));

		if (!parse_host(u, from, comma != NULL ? comma : to, port, why))
			return false;
		if (comma == NULL)
			break;
		from = comma + 1;
	}
	if (u->nhosts > 1 && u->scheme != FAR_CLUSTER)
		return refuse_url(why, "several hosts: that is for redis+cluster://");
	return true;
}

static bool parse_path(struct far_url *u, const char *from, const char *to, char why[FAR_WHY])
{
	if (!copy_decoded(u->path, sizeof u->path, from, to))
		return refuse_url(why, "what follows the host is too long");
	if (u->scheme == FAR_CLUSTER && u->path[0] != '\0')
		return refuse_url(
		    why, "a cluster has only database 0: nothing may follow the hosts");
	if (u->scheme == FAR_REDIS && strspn(u->path, "0123456789") != strlen(u->path))
		return refuse_url(why, "the database must be a number");
	return true;
}

static bool parse_rest(
    struct far_url *u, const struct scheme *s, const char *rest, char why[FAR_WHY])
{
	const char *query = strchr(rest, '?'), *end = query != NULL ? query : rest + strlen(rest);
	const char *slash = memchr(rest, '/', (size_t)(end - rest)),
		   *stop = slash != NULL ? slash : end,
		   *at = memrchr(rest, '@', (size_t)(stop - rest));

	/* For messages: without the user's name and the password. */
	(void)snprintf(u->text, sizeof u->text, "%s%s", s->name, at != NULL ? at + 1 : rest);
	if (at == NULL && u->scheme != FAR_NBD && strchr(rest, '@') != NULL)
		return refuse_url(why, "write '/' as %2f and '?' as %3f in the password");
	if (at != NULL && u->scheme == FAR_NBD && !u->tls)
		return refuse_url(
		    why, "nbd:// has no user name (nbds:// has): leave out what stands before '@'");
	if (at != NULL && !parse_user(u, rest, at, why))
		return false;
	if (query != NULL && !parse_query(u, query + 1, why))
		return false;
	if (s->unix_socket != (u->socket[0] != '\0'))
		return refuse_url(
		    why, "nbd+unix:///EXPORT?socket=PATH is the form for a Unix socket");
	if (!s->unix_socket && !parse_hosts(u, at != NULL ? at + 1 : rest, stop, s->port, why))
		return false;
	return parse_path(u, slash != NULL ? slash + 1 : end, end, why);
}

bool far_url_parse(const char *text, struct far_url *u, char why[FAR_WHY])
{
	const struct scheme *s = scheme_of(text);
	const char *rest;

	memset(u, 0, sizeof *u);
	if (s == NULL)
		return refuse_url(why,
		    "no engine has such a URL: known are file:, nbd://, nbds://, nbd+unix://, redis://, rediss:// and redis+cluster://");
	u->scheme = s->scheme;
	u->tls = s->tls;
	rest = text + strlen(s->name);
	if (s->scheme == FAR_FILE) {
		(void)snprintf(u->text, sizeof u->text, "%s",
		    strncmp(rest, "/proc/self/fd/", 14) == 0 ? "the disk of this machine" : text);
		return copy_decoded(u->path, sizeof u->path, rest, rest + strlen(rest)) ||
		    refuse_url(why, "the path is too long");
	}
	return parse_rest(u, s, rest, why);
}

void far_url_wipe(struct far_url *u) { explicit_bzero(u->password, sizeof u->password); }
