/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Redis and Redis Cluster (Valkey alike): a unit is one string value, pipelined over one connection
 * a node. hiredis formats the commands and parses the replies; the transport is conn.c, for TLS.
 * Data of reads goes directly into the requests' buffers, not through hiredis.
 *
 *   write   SET key value EX expire          read   GETRANGE key from to; of a whole unit GET key
 *   trim    DEL key                          touch  EXPIRE key expire
 *   writes that must be on replicas: when their SETs are answered, one WAIT n ms on the same connection for all of them
 *
 * Keys are quire:RUN:{UNIT}: the braces are the cluster's hash tag, so units spread over its nodes. RUN is random.
 *
 * A node answers in the order of the requests, so each node has a queue of the replies that it
 * owes. Of a cluster: MOVED names the new owner of a slot, and the map of slots is asked for anew;
 * ASK sends this one request elsewhere; requests to a node that is lost, silent, or not ready
 * (CLUSTERDOWN, LOADING, TRYAGAIN, READONLY) are asked again after the map was read anew: by then a
 * replica may have taken over. Of a single server a lost connection is the link's end; the device
 * makes another.
 *
 * What each setting promises. Without replicas, an answered write is in the memory of the master,
 * and is lost if the master dies before the write reached a replica. With replicas = n, a write
 * counts as done after WAIT has reported it on n replicas. A write that does not reach them in time
 * (as when a master has lost its replicas) has failed, and the store keeps the page.
 *
 * A single server that is not ready, or forbids a command since the run began (NOAUTH, NOPERM), is asked again, too.
 *
 * A server that evicts keys would lose pages: such a server is refused at the start. A full server
 * (maxmemory, noeviction) answers OOM: the write fails with -ENOSPC, and the store keeps the page
 * elsewhere.
 */
#include "far/conn.h"
#include "far/redis_node.h"
#include "far/redis_says.h"
#include "far/slot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES 24u
#define DEPTH 256u            /* requests to one node */
#define REFRESH_NS 250000000u /* time between two requests for the map of slots */
#define SILENT_NS                                                                                  \
	3000000000ull /* in a cluster, a node that owes an answer for this long counts as lost */
/* bytes of the server's memory for a unit, with key and expiry: 80 KiB is jemalloc's next size */
#define UNIT_COST 83968u
#define NODE_MS 500u /* for connecting to one node of a cluster */

struct far_link {
	struct far_redis_use use; /* const */
	unsigned n;
	struct far_node node[NODES];
	uint32_t covered;         /* slots that have an owner in the last map */
	uint8_t owner[FAR_SLOTS]; /* number of the node; a single server is 0 */
	struct far_ios again;     /* requests to be asked again after the map was read anew */
	uint64_t refresh_at;      /* time to ask for the map; UINT64_MAX: the map is up to date */
	uint64_t again_at;
	char why[FAR_WHY]; /* the present error; "": none */
	bool dead;
};

/* Asks the request again after the map was read anew; not forever, as a cluster may stay without the needed slot. */
static void ask_later(struct far_link *l, struct far_io *io, uint64_t now)
{
	if (now - io->since > (uint64_t)l->use.set->timeout_ms * 1000000u) {
		far_note(io, l->why);
		far_done(io, -EIO);
		return;
	}
	far_ios_add(&l->again, io);
	if (l->again_at < now)
		l->again_at = now + REFRESH_NS;
}

/*
 * Called for a lost node. In a cluster its requests are asked again and the map is read anew; with
 * a single server the link ends.
 */
static void node_lost(struct far_link *l, struct far_node *nd, const char *why)
{
	uint64_t now = far_now();

	far_conn_close(nd->conn);
	nd->conn = NULL;
	if (nd->reader != NULL)
		redisReaderFree(nd->reader);
	nd->reader = NULL;
	nd->into = NULL;
	nd->skip = 0;
	nd->retry_at = now + REFRESH_NS;
	(void)snprintf(l->why, FAR_WHY, "%.199s port %.7s: %.40s", nd->host, nd->port, why);
	if (!l->use.cluster)
		l->dead = true;
	for (; far_node_owes(nd) > 0; nd->head++) {
		struct far_owed o = nd->owed[nd->head % FAR_OWED];

		if (l->use.cluster && (o.kind == OWED_IO || o.kind == OWED_SET))
			ask_later(l, o.io, now);
	}
	for (struct far_io *io; l->use.cluster &&
	     ((io = far_ios_take(&nd->waited)) != NULL || (io = far_ios_take(&nd->set)) != NULL);)
		ask_later(l, io, now);
	nd->waited.first = nd->set.first = NULL;
	if (l->refresh_at > now)
		l->refresh_at = now;
}

/* ---- the map of slots ---- */
/* Finds the node of that address, or makes it. NULL: there are too many. */
static struct far_node *node_of(struct far_link *l, const char *host, const char *port)
{
	struct far_node *nd;

	for (unsigned i = 0; i < l->n; i++)
		if (strcmp(l->node[i].host, host) == 0 && strcmp(l->node[i].port, port) == 0)
			return &l->node[i];
	if (l->n == NODES)
		return NULL;
	nd = &l->node[l->n++];
	memset(nd, 0, sizeof *nd);
	(void)snprintf(nd->host, sizeof nd->host, "%s", host);
	(void)snprintf(nd->port, sizeof nd->port, "%s", port);
	return nd;
}

/* One row of CLUSTER SLOTS: from, to, master, replicas… */
static void take_row(struct far_link *l, const struct far_node *from, const redisReply *row)
{
	struct far_node *nd = NULL;
	char port[8];

	if (row->type != REDIS_REPLY_ARRAY || row->elements < 3)
		return;
	/* replicas are recorded, too, as they may become masters */
	for (size_t i = 2; i < row->elements; i++) {
		const redisReply *at = row->element[i];
		struct far_node *one;

		if (at->type != REDIS_REPLY_ARRAY || at->elements < 2)
			continue;
		(void)snprintf(
		    port, sizeof port, "%u", (unsigned)(at->element[1]->integer & 0xffff));
		one = node_of(l, at->element[0]->len > 0 ? at->element[0]->str : from->host, port);
		nd = i == 2 ? one : nd;
	}
	for (long long s = row->element[0]->integer, to = row->element[1]->integer;
	     nd != NULL && s >= 0 && s <= to && s < (long long)FAR_SLOTS; s++, l->covered++)
		l->owner[s] = (uint8_t)(nd - l->node);
}

static bool take_slots(struct far_link *l, const struct far_node *from, const redisReply *r)
{
	if (r->type != REDIS_REPLY_ARRAY || r->elements == 0)
		return false;
	l->covered = 0;
	for (size_t i = 0; i < r->elements; i++)
		take_row(l, from, r->element[i]);
	return true;
}

static bool node_ready(struct far_link *l, struct far_node *nd, uint64_t now)
{
	char why[FAR_WHY];
	bool refused;

	if (nd->conn != NULL)
		return true;
	if (now < nd->retry_at)
		return false;
	if (far_node_connect(&l->use, nd, NODE_MS, &refused, why))
		return true;
	(void)snprintf(l->why, FAR_WHY, "%.250s", why);
	nd->retry_at = far_now() + REFRESH_NS;
	return false;
}

/* Asks any reachable node for the map. */
static void ask_slots(struct far_link *l, uint64_t now)
{
	l->refresh_at = now + REFRESH_NS;
	for (unsigned i = 0; i < l->n; i++) {
		struct far_node *nd = &l->node[i];

		if (node_ready(l, nd, now) &&
		    far_node_put(nd, OWED_SLOTS, NULL, 2, (const char *[]){ "CLUSTER", "SLOTS" }))
			return;
	}
}

/* The node that has the request's unit, by the last map of slots. */
static struct far_node *owner_of(struct far_link *l, const struct far_io *io)
{
	return &l->node[l->use.cluster ? l->owner[far_slot_of(io->at / FAR_UNIT)] : 0];
}

static bool submit_to_owner(struct far_link *l, struct far_io *io, uint64_t now)
{
	struct far_node *nd = owner_of(l, io);

	return node_ready(l, nd, now) && far_node_owes(nd) < DEPTH &&
	    far_node_put_io(&l->use, nd, io);
}

/* ---- replies ---- */
static bool is_error(const redisReply *r, const char *code)
{
	return r->type == REDIS_REPLY_ERROR && strncmp(r->str, code, strlen(code)) == 0;
}

static bool is_passing(const redisReply *r)
{
	static const char *const codes[] = { "CLUSTERDOWN", "LOADING", "TRYAGAIN", "READONLY",
		"MASTERDOWN", "BUSY", "NOAUTH", "NOPERM" };

	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (is_error(r, codes[i]))
			return true;
	return false;
}

/* "MOVED 3999 127.0.0.1:6381", "ASK …": returns the node that is named. */
static struct far_node *named_node(
    struct far_link *l, const struct far_node *from, const redisReply *r, unsigned *slot)
{
	char host[200] = "", port[8];
	const char *at = strchr(r->str, ' '), *colon;

	if (at == NULL)
		return NULL;
	*slot = (unsigned)strtoul(at + 1, NULL, 10) % FAR_SLOTS;
	at = strchr(at + 1, ' ');
	colon = at != NULL ? strrchr(at, ':') : NULL;
	if (colon == NULL || (size_t)(colon - at) > sizeof host)
		return NULL;
	memcpy(host, at + 1, (size_t)(colon - at - 1));
	(void)snprintf(port, sizeof port, "%.7s", colon + 1);
	return node_of(l, host[0] != '\0' ? host : from->host, port);
}

static void follow_redirect(struct far_link *l, const struct far_node *from, struct far_io *io,
    const redisReply *r, uint64_t now)
{
	unsigned slot = 0;
	struct far_node *nd = named_node(l, from, r, &slot);

	if (nd == NULL || !node_ready(l, nd, now)) {
		ask_later(l, io, now);
		return;
	}
	if (is_error(r, "MOVED")) {
		l->owner[slot] = (uint8_t)(nd - l->node);
		if (l->refresh_at > now + REFRESH_NS)
			l->refresh_at = now;
	} else if (!far_node_put(nd, OWED_ASKING, NULL, 1, (const char *[]){ "ASKING" })) {
		ask_later(l, io, now);
		return;
	}
	if (!far_node_put_io(&l->use, nd, io))
		ask_later(l, io, now);
}

/* Clears the error. */
static void answer_well(struct far_link *l, struct far_io *io)
{
	l->why[0] = '\0';
	far_done(io, 0);
}

/* Answers the request, or has it asked again. */
static void take_reply(struct far_link *l, const struct far_node *nd, struct far_io *io,
    const redisReply *r, uint64_t now)
{
	if (l->use.cluster && (is_error(r, "MOVED") || is_error(r, "ASK"))) {
		follow_redirect(l, nd, io, r, now);
	} else if (is_passing(r)) {
		(void)snprintf(l->why, FAR_WHY, "%.200s", r->str);
		ask_later(l, io, now);
		l->refresh_at = l->use.cluster && l->refresh_at > now ? now : l->refresh_at;
	} else if (r->type == REDIS_REPLY_ERROR) {
		char text[FAR_WHY];

		far_redis_error(r->str, text);
		far_note(io, text);
		far_done(io, is_error(r, "OOM") ? -ENOSPC : -EIO);
	} else if (io->op != FAR_READ) {
		io->found = r->type == REDIS_REPLY_INTEGER && r->integer > 0;
		answer_well(l, io);
	} else if (r->type == REDIS_REPLY_STRING && r->len > 0 && r->len <= io->len) {
		memcpy(io->buf, r->str,
		    r->len); /* a unit may be written only in part: the rest reads as zeroes */
		memset((char *)io->buf + r->len, 0, io->len - r->len);
		answer_well(l, io);
	} else {
		far_note(io, "the server does not have a page any more");
		far_done(io, -EIO);
	}
}

/* Handles the reply to WAIT: all writes before the WAIT are on enough replicas, or are asked again. */
static void take_wait(struct far_link *l, struct far_node *nd, const redisReply *r, uint64_t now)
{
	bool enough =
	    r->type == REDIS_REPLY_INTEGER && r->integer >= (long long)l->use.set->replicas;
	struct far_io *io;

	if (!enough)
		(void)snprintf(
		    l->why, FAR_WHY, "fewer than %u replicas have a write", l->use.set->replicas);
	while ((io = far_ios_take(&nd->waited)) != NULL) {
		if (enough)
			answer_well(l, io);
		else
			ask_later(l, io, now);
	}
}

static void take_owed(
    struct far_link *l, struct far_node *nd, struct far_owed o, const redisReply *r, uint64_t now)
{
	switch (o.kind) {
	case OWED_IO: take_reply(l, nd, o.io, r, now); break;
	case OWED_SET:
		if (r->type == REDIS_REPLY_ERROR)
			take_reply(l, nd, o.io, r, now);
		else
			far_ios_add(&nd->set, o.io);
		break;
	case OWED_WAIT: take_wait(l, nd, r, now); break;
	case OWED_SLOTS:
		if (take_slots(l, nd, r))
			l->refresh_at = l->again.first != NULL ? l->refresh_at : UINT64_MAX;
		break;
	case OWED_ASKING: break;
	}
	far_node_put_wait(&l->use, nd);
}

/* Handles the replies that hiredis has received completely. False: the node is lost. */
static bool take_replies(struct far_link *l, struct far_node *nd, uint64_t now)
{
	for (;;) {
		void *reply = NULL;
		struct far_owed o;

		if (redisReaderGetReply(nd->reader, &reply) != REDIS_OK) {
			node_lost(l, nd, "it does not speak Redis");
			return false;
		}
		if (reply == NULL)
			return true;
		nd->heard = now;
		if (far_node_owes(nd) == 0) {
			freeReplyObject(reply);
			node_lost(l, nd, "an answer that nobody asked for");
			return false;
		}
		o = nd->owed[nd->head++ % FAR_OWED];
		take_owed(l, nd, o, reply, now);
		freeReplyObject(reply);
		if (nd->conn == NULL)
			return false;
	}
}

/* ---- data of reads, received without hiredis, which would copy it three times ---- */
/* most reads whose answers one system call receives; as many are answered before new requests are taken */
/* room for the bytes between two strings: the end of a reply, and the head of the next reply */
#define AHEAD 4u
#define GAP 24u

/*
 * The bytes that a system call is expected to receive: for each read its gap, then its string,
 * directly into the request's buffer; at last the end of the last reply. If other bytes arrive (an
 * error instead of a string, for example), all bytes are gathered and given to hiredis.
 */
struct foreseen {
	struct iovec part[2 * AHEAD +
	    1]; /* gap, string, gap, string, …, end; the first gap is empty in the middle of a string */
	struct far_io *io[AHEAD]; /* the request of part 2i + 1 */
	int parts;
	char gap[AHEAD + 1][GAP], want[AHEAD][GAP];
};

/*
 * Makes the bytes before a string of that length: the outstanding bytes of the reply before, and
 * the head of the string's reply.
 */
static size_t make_gap(char gap[GAP], uint32_t skip, uint32_t len)
{
	return (size_t)snprintf(gap, GAP, "%s$%u\r\n", "\r\n" + (2 - skip), len);
}

/* Does hiredis have no part of the next answer? */
static bool is_between_replies(const struct far_node *nd)
{
	return nd->reader->ridx == -1 && nd->reader->pos == nd->reader->len;
}

/* Returns the read that the i-th answer from now belongs to. NULL: the answer belongs to another request. */
static struct far_io *read_owed(const struct far_node *nd, uint32_t i)
{
	const struct far_owed *o = &nd->owed[(nd->head + i) % FAR_OWED];

	return i < far_node_owes(nd) && o->kind == OWED_IO && o->io->op == FAR_READ ? o->io : NULL;
}

static void add_part(struct foreseen *f, void *at, size_t len)
{
	f->part[f->parts++] = (struct iovec){ at, len };
}

/* False: a reply of another kind comes next. */
static bool foresee_reads(const struct far_node *nd, struct foreseen *f)
{
	uint32_t skip = nd->skip;
	struct far_io *io;

	f->parts = 0;
	if (!is_between_replies(nd))
		return false;
	for (uint32_t i = 0; i < AHEAD && (io = read_owed(nd, i)) != NULL; i++) {
		uint32_t have = 0;
		size_t gap = 0;

		if (io == nd->into)
			have = nd->into_have;
		else
			gap = make_gap(f->want[i], skip, io->len);
		add_part(f, f->gap[i], gap);
		add_part(f, (char *)io->buf + have, io->len - have);
		f->io[i] = io;
		skip = 2;
	}
	add_part(f, f->gap[AHEAD], 2);
	return f->parts > 1;
}

/* Counts n more bytes received for nd->into. */
static void fill_read(struct far_link *l, struct far_node *nd, size_t n)
{
	struct far_io *io = nd->into;

	nd->into_have += (uint32_t)n;
	if (nd->into_have < io->len)
		return;
	nd->into = NULL;
	nd->skip = 2;
	nd->head++;
	answer_well(l, io);
	far_node_put_wait(&l->use, nd);
}

/* Handles bytes from the node that were not expected. False: the node is lost. */
static bool take_bytes(
    struct far_link *l, struct far_node *nd, const char *p, size_t n, uint64_t now)
{
	size_t end = n < nd->skip ? n : nd->skip;

	nd->skip -= (uint32_t)end;
	if (n > end && redisReaderFeed(nd->reader, p + end, n - end) != REDIS_OK) {
		node_lost(l, nd, "no memory");
		return false;
	}
	return n == end || take_replies(l, nd, now);
}

static char bytes[1u << 19]; /* bytes from a node, for hiredis. One thread */

/* Handles n bytes, the first of which is in that part. False: the node is lost. */
static bool take_unforeseen(struct far_link *l, struct far_node *nd, const struct foreseen *f,
    int part, size_t n, uint64_t now)
{
	size_t at = 0;

	for (; at < n; part++) {
		size_t some = f->part[part].iov_len < n - at ? f->part[part].iov_len : n - at;

		memcpy(bytes + at, f->part[part].iov_base, some);
		at += some;
	}
	return take_bytes(l, nd, bytes, n, now);
}

/* Handles n bytes received into the expected parts. False: the node is lost. */
static bool take_foreseen(
    struct far_link *l, struct far_node *nd, const struct foreseen *f, size_t n, uint64_t now)
{
	for (int i = 0; i + 1 < f->parts && n > 0; i += 2) {
		size_t gap = f->part[i].iov_len, some;

		if (gap > 0) {
			if (n < gap || memcmp(f->gap[i / 2], f->want[i / 2], gap) != 0)
				return take_unforeseen(l, nd, f, i, n, now);
			nd->skip = 0;
			nd->into = f->io[i / 2];
			nd->into_have = 0;
			n -= gap;
		}
		some = n < f->part[i + 1].iov_len ? n : f->part[i + 1].iov_len;
		fill_read(l, nd, some);
		n -= some;
	}
	nd->skip -= (uint32_t)n; /* length of the last part */
	return true;
}

/* What has come. Answers only a few reads at a time, so that the next requests are sent while the server works. */
static void node_work(struct far_link *l, struct far_node *nd, uint64_t now)
{
	struct foreseen f;
	ssize_t n;

	do {
		bool reads = foresee_reads(nd, &f);

		n = reads ? far_conn_get_parts(nd->conn, f.part, f.parts)
			  : far_conn_get(nd->conn, bytes, sizeof bytes);
		if (n > 0)
			nd->heard = now;
		if (n > 0 &&
		    !(reads ? take_foreseen(l, nd, &f, (size_t)n, now)
			    : take_bytes(l, nd, bytes, (size_t)n, now)))
			return;
		/* TLS may hold bytes that the socket no longer has. */
	} while (n > 0 && l->use.url->tls);
	if (n < 0)
		node_lost(l, nd, "the connection was closed");
}

/* ---- the engine ---- */
/* Connects to every master, so that an unusable master is refused at the start. */
static bool reach_masters(struct far_link *l, bool *refused, char why[FAR_WHY])
{
	for (unsigned s = 0; s < FAR_SLOTS; s++) {
		struct far_node *nd = &l->node[l->owner[s]];

		if (nd->conn == NULL && !far_node_connect(&l->use, nd, NODE_MS, refused, why)) {
			char cause[FAR_WHY];

			(void)snprintf(cause, sizeof cause, "%s", why);
			(void)snprintf(
			    why, FAR_WHY, "%.60s port %s: %.160s", nd->host, nd->port, cause);
			return false;
		}
	}
	return true;
}

/* Bytes of units for which the masters have room. Units spread evenly, so the master with the least room decides. */
static uint64_t room_of_masters(const struct far_link *l)
{
	uint64_t least = UINT64_MAX, masters = 0;

	for (unsigned i = 0; i < l->n; i++) {
		bool owner = memchr(l->owner, (int)i, FAR_SLOTS) != NULL;

		masters += owner;
		if (owner && l->node[i].room < least)
			least = l->node[i].room;
	}
	return least == UINT64_MAX ? least : least / UNIT_COST * masters * FAR_UNIT;
}

/* False: the link cannot be used with the server's present settings. */
static bool fits_now(struct far_link *l, bool *refused, char why[FAR_WHY])
{
	if (!l->use.set->fit)
		return true;
	if (!reach_masters(l, refused, why))
		return false;
	*refused = room_of_masters(l) == 0;
	if (*refused)
		(void)snprintf(why, FAR_WHY, "it is full: its maxmemory leaves no room");
	return !*refused;
}

/* Reads the first map of slots. False: the cluster has no map, or the node does not answer. */
static bool learn_slots(struct far_link *l, struct far_node *nd, uint64_t until)
{
	redisReply *r = far_node_ask(nd, 2, (const char *[]){ "CLUSTER", "SLOTS" }, until);
	bool learnt = r != NULL && take_slots(l, nd, r);

	freeReplyObject(r);
	return learnt;
}

static struct far_link *redis_open(const struct far_url *u, const struct far_settings *set,
    uint32_t wait_ms, bool *retry, char why[FAR_WHY])
{
	struct far_link *l = calloc(1, sizeof *l);
	bool refused = false;

	*retry = true;
	if (l == NULL) {
		(void)snprintf(why, FAR_WHY, "no memory");
		return NULL;
	}
	l->use.url = u;
	l->use.set = set;
	l->use.cluster = u->scheme == FAR_CLUSTER;
	l->refresh_at = UINT64_MAX;
	for (unsigned i = 0; i < u->nhosts; i++) {
		struct far_node *nd = node_of(l, u->host[i].host, u->host[i].port);
		uint64_t until = far_now() + (uint64_t)wait_ms * 1000000u;

		if (nd == NULL ||
		    !far_node_connect(&l->use, nd, wait_ms / u->nhosts + 1, &refused, why)) {
			if (refused)
				break;
			continue;
		}
		if (l->use.cluster && !learn_slots(l, nd, until)) {
			(void)snprintf(
			    why, FAR_WHY, "the cluster has no slots: it is not made yet");
			continue;
		}
		if (l->use.cluster && l->use.set->fit && l->covered < FAR_SLOTS) {
			(void)snprintf(why, FAR_WHY,
			    "%u of the cluster's slots have no master: see redis-cli --cluster fix",
			    FAR_SLOTS - l->covered);
			continue;
		}
		if (fits_now(l, &refused, why))
			return l;
		break;
	}
	*retry = !refused;
	far_redis.fo_close(l, false);
	return NULL;
}

static uint64_t redis_size(const struct far_link *l)
{
	uint64_t want = l->use.set->size != 0 ? l->use.set->size : UINT64_MAX,
		 room = l->use.set->fit ? room_of_masters(l) : UINT64_MAX;

	return want < room ? want : room;
}

static bool redis_submit(struct far_link *l, struct far_io *io)
{
	uint64_t now = far_now();
	struct far_node *nd = owner_of(l, io);

	if (l->dead || (nd->conn != NULL && far_node_owes(nd) >= DEPTH))
		return false;
	if (!submit_to_owner(l, io, now)) {
		if (!l->use.cluster)
			return false;
		ask_later(l, io, now);
		if (l->refresh_at > now)
			l->refresh_at = now;
	}
	return true;
}

static unsigned redis_fds(struct far_link *l, struct pollfd fds[FAR_FDS], int *wake_ms)
{
	unsigned n = 0;

	for (unsigned i = 0; i < l->n; i++) {
		if (l->node[i].conn == NULL)
			continue;
		if (!far_conn_flush(l->node[i].conn))
			*wake_ms = 0;
		fds[n++] = far_conn_poll(l->node[i].conn);
	}
	if (l->again.first != NULL || l->refresh_at != UINT64_MAX)
		*wake_ms = *wake_ms == 0 ? 0 : (int)(REFRESH_NS / 1000000u);
	return n;
}

static void redis_again(struct far_link *l, uint64_t now)
{
	struct far_ios all = l->again;
	struct far_io *io;

	if (all.first == NULL || now < l->again_at)
		return;
	l->again.first = NULL;
	while ((io = far_ios_take(&all)) != NULL)
		if (!submit_to_owner(l, io, now))
			ask_later(l, io, now);
}

/* poll() has reported no bytes. */
static bool is_quiet(const struct far_node *nd, const struct pollfd *fds, unsigned n)
{
	int fd = far_conn_poll(nd->conn).fd;

	for (unsigned i = 0; i < n; i++)
		if (fds[i].fd == fd)
			return fds[i].revents == 0;
	return false;
}

static int redis_work(struct far_link *l, const struct pollfd *fds, unsigned n, char why[FAR_WHY])
{
	uint64_t now = far_now();

	for (unsigned i = 0; i < l->n; i++) {
		struct far_node *nd = &l->node[i];

		if (nd->conn != NULL && !far_conn_flush(nd->conn))
			node_lost(l, nd, "the connection was closed");
		if (nd->conn != NULL && !is_quiet(nd, fds, n))
			node_work(l, nd, now);
		if (nd->conn != NULL && l->use.cluster && far_node_owes(nd) > 0 &&
		    now > nd->heard + SILENT_NS)
			node_lost(l, nd, "it does not answer");
	}
	if (l->dead) {
		(void)snprintf(why, FAR_WHY, "%s", l->why);
		return -EIO;
	}
	if (l->use.cluster && now >= l->refresh_at)
		ask_slots(l, now);
	redis_again(l, now);
	if (l->why[0] != '\0')
		(void)snprintf(why, FAR_WHY, "%s", l->why);
	return 0;
}

static void redis_end(struct far_link *l, bool erase)
{
	(void)erase; /* the device trims the units that it knows */
	for (unsigned i = 0; i < l->n; i++) {
		far_conn_close(l->node[i].conn);
		if (l->node[i].reader != NULL)
			redisReaderFree(l->node[i].reader);
	}
	free(l);
}

const struct far_ops far_redis = {
	.fo_leaves_keys = true,
	.fo_open = redis_open,
	.fo_size = redis_size,
	.fo_submit = redis_submit,
	.fo_fds = redis_fds,
	.fo_work = redis_work,
	.fo_close = redis_end,
};
