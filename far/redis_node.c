/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One Redis server: its connection, the commands that go there, and the queue of the replies that it
 * owes. engine_redis.c handles the replies and knows the cluster.
 *
 * Commands are pipelined: each is followed by an entry of the queue, and the server answers in this
 * order. While a connection is made, one command at a time is sent and its reply awaited: the
 * password, the database, and whether the server can be used at all.
 *
 * Lock: none, one thread.
 */
#include "far/redis_node.h"
#include "far/conn.h"
#include "far/redis_says.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* time for replicas to receive a write: the connection answers no other request meanwhile */
#define WAIT_MS "500"

/* Adds an owed reply. */
static void owe_reply(struct far_node *nd, enum far_owed_kind kind, struct far_io *io)
{
	if (far_node_owes(nd) == 0)
		nd->heard = far_now();
	nd->owed[nd->tail++ % FAR_OWED] = (struct far_owed){ kind, io };
}

bool far_node_put(
    struct far_node *nd, enum far_owed_kind kind, struct far_io *io, int argc, const char **argv)
{
	char *text = NULL;
	int len;
	bool ok;

	if (nd->conn == NULL || far_node_owes(nd) == FAR_OWED ||
	    (len = redisFormatCommandArgv(&text, argc, argv, NULL)) < 0)
		return false;
	ok = far_conn_put(nd->conn, text, (size_t)len);
	free(text); /* hiredis 0.14 allocated this by malloc */
	if (ok)
		owe_reply(nd, kind, io);
	return ok;
}

bool far_node_put_io(const struct far_redis_use *use, struct far_node *nd, struct far_io *io)
{
	char key[80], a[24], b[24], expire[16], head[160], tail[64];

	(void)snprintf(key, sizeof key, "quire:%s:{%" PRIu64 "}", use->set->run, io->at / FAR_UNIT);
	(void)snprintf(expire, sizeof expire, "%u", use->set->expire_s);
	switch (io->op) {
	case FAR_READ:
		if (io->len == FAR_UNIT) /* so the server need not copy the string first */
			return far_node_put(nd, OWED_IO, io, 2, (const char *[]){ "GET", key });
		(void)snprintf(a, sizeof a, "%" PRIu64, io->at % FAR_UNIT);
		(void)snprintf(b, sizeof b, "%" PRIu64, io->at % FAR_UNIT + io->len - 1);
		return far_node_put(nd, OWED_IO, io, 4, (const char *[]){ "GETRANGE", key, a, b });
	case FAR_TRIM: return far_node_put(nd, OWED_IO, io, 2, (const char *[]){ "DEL", key });
	case FAR_TOUCH:
		return far_node_put(nd, OWED_IO, io, 3, (const char *[]){ "EXPIRE", key, expire });
	case FAR_WRITE: break;
	}
	/* By hand: hiredis would copy the unit twice. */
	if (nd->conn == NULL || far_node_owes(nd) == FAR_OWED)
		return false;
	(void)snprintf(head, sizeof head, "*5\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%u\r\n", strlen(key),
	    key, io->len);
	(void)snprintf(tail, sizeof tail, "\r\n$2\r\nEX\r\n$%zu\r\n%s\r\n", strlen(expire), expire);
	const struct iovec part[] = { { head, strlen(head) }, { io->buf, io->len },
		{ tail, strlen(tail) } };
	if (!far_conn_flush(nd->conn) || !far_conn_put_parts(nd->conn, part, 3))
		return false;
	owe_reply(nd, use->set->replicas == 0 ? OWED_IO : OWED_SET, io);
	return true;
}

void far_node_put_wait(const struct far_redis_use *use, struct far_node *nd)
{
	char replicas[16];

	(void)snprintf(replicas, sizeof replicas, "%u", use->set->replicas);
	if (nd->waited.first == NULL && nd->set.first != NULL &&
	    far_node_put(nd, OWED_WAIT, NULL, 3, (const char *[]){ "WAIT", replicas, WAIT_MS })) {
		nd->waited = nd->set;
		nd->set.first = NULL;
	}
}

/* ---- the start: one command at a time, each reply awaited ---- */
redisReply *far_node_ask(struct far_node *nd, int argc, const char **argv, uint64_t until)
{
	void *reply = NULL;
	char buf[4096];

	if (!far_node_put(nd, OWED_ASKING, NULL, argc, argv))
		return NULL;
	for (;;) {
		struct pollfd p;
		ssize_t n;

		if (!far_conn_flush(nd->conn))
			return NULL;
		while ((n = far_conn_get(nd->conn, buf, sizeof buf)) > 0)
			if (redisReaderFeed(nd->reader, buf, (size_t)n) != REDIS_OK)
				return NULL;
		if (redisReaderGetReply(nd->reader, &reply) != REDIS_OK)
			return NULL;
		if (reply != NULL)
			break;
		if (n < 0 || far_now() >= until)
			return NULL;
		p = far_conn_poll(nd->conn);
		(void)poll(&p, 1, 50);
	}
	nd->head++;
	return reply;
}

/* Sends a command; its reply must not be an error. */
static bool command_node(
    struct far_node *nd, int argc, const char **argv, uint64_t until, char why[FAR_WHY])
{
	redisReply *r = far_node_ask(nd, argc, argv, until);
	bool ok = r != NULL && r->type != REDIS_REPLY_ERROR;

	if (r == NULL)
		(void)snprintf(why, FAR_WHY, "it does not answer %s", argv[0]);
	else if (!ok)
		far_redis_refusal(r->str, why);
	freeReplyObject(r);
	return ok;
}

static bool log_in(const struct far_url *u, struct far_node *nd, uint64_t until, char why[FAR_WHY])
{
	if (u->password[0] != '\0') {
		bool ok = u->user[0] != '\0'
		    ? command_node(
			  nd, 3, (const char *[]){ "AUTH", u->user, u->password }, until, why)
		    : command_node(nd, 2, (const char *[]){ "AUTH", u->password }, until, why);

		if (!ok)
			return false;
	}
	return u->path[0] == '\0' ||
	    command_node(nd, 2, (const char *[]){ "SELECT", u->path }, until, why);
}

/* Would the server evict keys? Is it of the kind that the URL names? */
static bool is_acceptable(bool cluster, struct far_node *nd, uint64_t until, char why[FAR_WHY])
{
	redisReply *r = far_node_ask(nd, 1, (const char *[]){ "INFO" }, until);
	bool ok = false;

	if (r != NULL && r->type == REDIS_REPLY_STRING)
		ok = far_redis_judge(r->str, cluster, &nd->room, why);
	else
		far_redis_refusal(r != NULL && r->type == REDIS_REPLY_ERROR
			? r->str
			: "it does not answer INFO: is it Redis?",
		    why);
	freeReplyObject(r);
	return ok;
}

/* Does the server have the commands that a run uses? None of these commands stores a key. */
static bool has_commands(
    const struct far_redis_use *use, struct far_node *nd, uint64_t until, char why[FAR_WHY])
{
	char key[80];

	(void)snprintf(key, sizeof key, "quire:%s:{}", use->set->run);
	const struct {
		int argc;
		const char *argv[6];
	} used[] = {
		{ 6, { "SET", key, "0", "EX", "1", "XX" } },
		{ 2, { "GET", key } },
		{ 4, { "GETRANGE", key, "0", "1" } },
		{ 3, { "EXPIRE", key, "1" } },
		{ 2, { "DEL", key } },
		{ 3, { "WAIT", "0", "1" } },
	};

	for (unsigned i = 0; i < sizeof used / sizeof *used - (use->set->replicas == 0); i++) {
		redisReply *r = far_node_ask(nd, used[i].argc, (const char **)used[i].argv, until);
		bool lacks = r == NULL || (r->type == REDIS_REPLY_ERROR && far_redis_lacks(r->str));

		if (r == NULL)
			(void)snprintf(why, FAR_WHY, "it does not answer %s", used[i].argv[0]);
		else if (lacks)
			far_redis_refusal(r->str, why);
		freeReplyObject(r);
		if (lacks)
			return false;
	}
	return true;
}

bool far_node_connect(const struct far_redis_use *use, struct far_node *nd, uint32_t wait_ms,
    bool *refused, char why[FAR_WHY])
{
	uint64_t until = far_now() + (uint64_t)wait_ms * 1000000u;

	*refused = false;
	nd->head = nd->tail = 0;
	nd->conn = far_conn_open(
	    nd->host, nd->port, use->url->tls, use->set->ca_file, wait_ms, refused, why);
	if (nd->conn == NULL)
		return false;
	nd->reader = redisReaderCreate();
	if (nd->reader != NULL) {
		/* keeps the buffer of a unit: hiredis would free the buffer after each reply */
		nd->reader->maxbuf = 0;
		if (log_in(use->url, nd, until, why) &&
		    is_acceptable(use->cluster, nd, until, why) &&
		    (!use->set->fit || has_commands(use, nd, until, why))) {
			nd->heard = far_now();
			return true;
		}
		*refused =
		    strstr(why, "does not answer") == NULL && strncmp(why, "LOADING", 7) != 0;
		redisReaderFree(nd->reader);
		nd->reader = NULL;
	}
	far_conn_close(nd->conn);
	nd->conn = NULL;
	return false;
}
