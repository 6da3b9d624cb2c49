/* SPDX-License-Identifier: BSD-2-Clause */
/* One Redis server; see redis_node.c. */
#ifndef QUIRE_FAR_REDIS_NODE_H
#define QUIRE_FAR_REDIS_NODE_H

#include "far/far.h"

#include <hiredis/hiredis.h>

#define FAR_OWED                                                                                   \
	1024u /* replies that a node owes, a power of two: at most two a request, and WAIT */

/* The kind of request to which a reply belongs. */
enum far_owed_kind { OWED_IO, OWED_SET, OWED_WAIT, OWED_ASKING, OWED_SLOTS };
struct far_owed {
	enum far_owed_kind kind;
	struct far_io *io;
};

struct far_ios {
	struct far_io *first, *last;
}; /* a list, by link */

struct far_node {
	char host[200], port[8];
	struct far_conn *conn; /* NULL: lost */
	redisReader *reader;
	/* the read at the head of the queue that receives bytes directly; NULL: there is none */
	struct far_io *into;
	uint32_t into_have; /* bytes that this read has received */
	uint32_t skip;      /* bytes of the end of a reply that are still to be skipped */
	struct far_owed owed[FAR_OWED];
	uint32_t head, tail; /* head and tail of the queue of owed replies */
	/* ns: time at which the node last answered, or was last asked while it owed no reply */
	uint64_t heard;
	uint64_t retry_at;
	uint64_t
	    room; /* bytes that the node's maxmemory left when the link was made; UINT64_MAX: no maxmemory is set */
	struct far_ios set;    /* writes that the node has done and for which no WAIT was sent */
	struct far_ios waited; /* writes that the WAIT under way covers */
};

/* How the servers of a link are used; const while the link exists. */
struct far_redis_use {
	const struct far_url *url;
	const struct far_settings *set;
	bool cluster;
};

static inline void far_ios_add(struct far_ios *l, struct far_io *io)
{
	io->link = NULL;
	*(l->first != NULL ? &l->last->link : &l->first) = io;
	l->last = io;
}

/* The first of the list, which is taken out; NULL: the list is empty. */
static inline struct far_io *far_ios_take(struct far_ios *l)
{
	struct far_io *io = l->first;

	if (io != NULL)
		l->first = io->link;
	return io;
}

/* How many replies the node owes. */
static inline uint32_t far_node_owes(const struct far_node *nd) { return nd->tail - nd->head; }

/*
 * Appends a command, whose reply the node owes then: of that kind, and for that request or NULL.
 * False: the node is lost, or owes too many replies, or there is no memory.
 */
bool far_node_put(
    struct far_node *, enum far_owed_kind, struct far_io *, int argc, const char **argv);
/* Appends the command of a request. False: as far_node_put. */
bool far_node_put_io(const struct far_redis_use *, struct far_node *, struct far_io *);
/* Appends a WAIT for all writes that the node has done since the last WAIT, one WAIT at a time. */
void far_node_put_wait(const struct far_redis_use *, struct far_node *);
/*
 * Sends a command and waits for its reply, until that time at most; the node owes no other reply.
 * Returns the reply, which the caller frees; NULL: there is none.
 */
redisReply *far_node_ask(struct far_node *, int argc, const char **argv, uint64_t until);
/*
 * Connects to the node and logs in. False: the cause is in why; *refused: the server answered and
 * can never be used.
 */
bool far_node_connect(const struct far_redis_use *, struct far_node *, uint32_t wait_ms,
    bool *refused, char why[FAR_WHY]);
#endif
