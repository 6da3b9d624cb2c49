/* SPDX-License-Identifier: BSD-2-Clause */
/* See conn.h. TLS by OpenSSL; without a verified certificate there is no connection. */
#include "far/conn.h"
#include "far/lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct far_conn {
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;        /* NULL: plain */
	bool want_write; /* TLS must write before it can read more */
	char *out;       /* [out_from, out_to) is to be sent */
	size_t out_from, out_to, out_room;
};

static int left_ms(uint64_t until)
{
	uint64_t now = far_now();

	return now >= until ? 0 : (int)((until - now) / 1000000u) + 1;
}

static bool wait_for(int fd, short events, uint64_t until)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, left_ms(until)) == 1;
}

/* ---- connecting: all addresses of a name, each begun a moment after the one before it ---- */
#define TRIES 8u    /* under way at a time */
#define NEXT_MS 250 /* after which the next address is tried, too */

/* Attempts under way, in the order in which they were begun. */
struct tries {
	struct pollfd fd[TRIES];
	unsigned n;
	int error; /* error of the address that failed last */
};

/* Begins an attempt. True: the address answered at once, and its socket is the last of t->fd. */
static bool begin_try(struct tries *t, const struct addrinfo *ai)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
	bool there;

	if (fd < 0) {
		t->error = errno;
		return false;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	there = connect(fd, ai->ai_addr, ai->ai_addrlen) == 0;
	if (!there && errno != EINPROGRESS) {
		t->error = errno;
		(void)close(fd);
		return false;
	}
	t->fd[t->n++] = (struct pollfd){ .fd = fd, .events = POLLOUT };
	return there;
}

/* Takes attempt i out of those under way. Its socket. */
static int take_try(struct tries *t, unsigned i)
{
	int fd = t->fd[i].fd;

	memmove(&t->fd[i], &t->fd[i + 1], (--t->n - i) * sizeof *t->fd);
	return fd;
}

/* Waits until an attempt succeeds, one fails, or so long. The socket of the one that succeeded, or -1. */
static int await_tries(struct tries *t, int wait_ms)
{
	if (poll(t->fd, t->n, wait_ms) <= 0)
		return -1;
	for (unsigned i = t->n; i-- > 0;) {
		int e = 0;
		socklen_t n = sizeof e;

		if (t->fd[i].revents == 0)
			continue;
		if (getsockopt(t->fd[i].fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && e == 0)
			return take_try(t, i);
		t->error = e;
		(void)close(take_try(t, i));
	}
	return -1;
}

/*
 * A socket that is connected to one of the addresses, or -1 and errno. An address that does not answer leaves the others the rest of
 * the time: each is begun NEXT_MS after the one before it, or as soon as that has failed.
 */
static int connect_first(const struct addrinfo *ai, uint64_t until)
{
	struct tries t = { .error = ETIMEDOUT };
	int fd = -1;

	while (fd < 0 && (ai != NULL || t.n > 0) && left_ms(until) > 0) {
		int wait_ms = left_ms(until);

		if (ai != NULL && t.n < TRIES) {
			if (begin_try(&t, ai))
				fd = take_try(&t, t.n - 1);
			ai = ai->ai_next;
			wait_ms = ai != NULL && wait_ms > NEXT_MS ? NEXT_MS : wait_ms;
		}
		if (fd < 0 && t.n > 0)
			fd = await_tries(&t, wait_ms);
	}
	if (t.n > 0)
		t.error = ETIMEDOUT;
	while (t.n > 0)
		(void)close(take_try(&t, t.n - 1));
	errno = t.error;
	return fd;
}

int far_connect(const char *host, const char *port, uint64_t until, char why[FAR_WHY])
{
	const struct addrinfo *all = far_lookup(host, port, until, why);
	int fd = all != NULL ? connect_first(all, until) : -1;

	if (all != NULL && fd < 0)
		(void)snprintf(why, FAR_WHY, "%s port %s: %s", host, port, strerror(errno));
	return fd;
}

/* *final: the call will fail whenever it is tried again. */
static bool start_tls(struct far_conn *c, const char *host, const char *ca_file, uint64_t until,
    bool *final, char why[FAR_WHY])
{
	int rc = 0;

	c->ctx = SSL_CTX_new(TLS_client_method());
	if (c->ctx == NULL || (c->ssl = SSL_new(c->ctx)) == NULL)
		goto failed;
	(void)SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION);
	if (ca_file != NULL ? SSL_CTX_load_verify_locations(c->ctx, ca_file, NULL) != 1
			    : SSL_CTX_set_default_verify_paths(c->ctx) != 1) {
		(void)snprintf(why, FAR_WHY, "TLS: no certificates can be read from %s",
		    ca_file != NULL ? ca_file : "the system's store");
		*final = true;
		return false;
	}
	SSL_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
	if (SSL_set1_host(c->ssl, host) != 1 || SSL_set_tlsext_host_name(c->ssl, host) != 1 ||
	    SSL_set_fd(c->ssl, c->fd) != 1)
		goto failed;
	(void)SSL_set_mode(
	    c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	while ((rc = SSL_connect(c->ssl)) != 1) {
		int e = SSL_get_error(c->ssl, rc);

		if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
			goto failed;
		if (!wait_for(c->fd, e == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until)) {
			(void)snprintf(why, FAR_WHY,
			    "TLS with %s failed: no answer in time; is it a TLS port?", host);
			return false;
		}
	}
	return true;
failed:
	rc = c->ssl != NULL ? (int)SSL_get_verify_result(c->ssl) : X509_V_OK;
	*final = rc != X509_V_OK;
	if (*final)
		(void)snprintf(why, FAR_WHY, "TLS: the certificate of %s: %s", host,
		    X509_verify_cert_error_string(rc));
	else
		(void)snprintf(why, FAR_WHY, "TLS with %s failed: is it a TLS port?", host);
	return false;
}

struct far_conn *far_conn_open(const char *host, const char *port, bool tls, const char *ca_file,
    uint32_t wait_ms, bool *final, char why[FAR_WHY])
{
	uint64_t until = far_now() + (uint64_t)wait_ms * 1000000u;
	struct far_conn *c = calloc(1, sizeof *c);

	*final = false;
	if (c == NULL)
		return NULL;
	c->fd = far_connect(host, port, until, why);
	if (c->fd < 0 || (tls && !start_tls(c, host, ca_file, until, final, why))) {
		far_conn_close(c);
		return NULL;
	}
	return c;
}

void far_conn_close(struct far_conn *c)
{
	if (c == NULL)
		return;
	SSL_free(c->ssl);
	SSL_CTX_free(c->ctx);
	ERR_clear_error();
	if (c->fd >= 0)
		(void)close(c->fd);
	free(c->out);
	free(c);
}

bool far_conn_put(struct far_conn *c, const void *data, size_t len)
{
	if (c->out_to + len > c->out_room && c->out_from > 0) {
		memmove(c->out, c->out + c->out_from, c->out_to - c->out_from);
		c->out_to -= c->out_from;
		c->out_from = 0;
	}
	if (c->out_to + len > c->out_room) {
		size_t room = (c->out_to + len) * 2;
		char *more = realloc(c->out, room);

		if (more == NULL)
			return false;
		c->out = more;
		c->out_room = room;
	}
	memcpy(c->out + c->out_to, data, len);
	c->out_to += len;
	return true;
}

bool far_conn_put_parts(struct far_conn *c, const struct iovec *part, int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)part, .msg_iovlen = (size_t)n };
	ssize_t sent = 0;

	/* With TLS, and while earlier bytes wait, all bytes are copied. */
	if (c->ssl == NULL && c->out_from == c->out_to &&
	    (sent = sendmsg(c->fd, &m, MSG_NOSIGNAL)) < 0)
		sent = 0; /* the next flush reports an error of the connection */
	for (int i = 0; i < n; i++) {
		size_t gone = (size_t)sent < part[i].iov_len ? (size_t)sent : part[i].iov_len;

		sent -= (ssize_t)gone;
		if (gone < part[i].iov_len &&
		    !far_conn_put(c, (const char *)part[i].iov_base + gone, part[i].iov_len - gone))
			return false;
	}
	return true;
}

/* As send(): > 0; 0: no byte can be sent now; -1: the connection is lost. */
static ssize_t send_some(struct far_conn *c)
{
	size_t len = c->out_to - c->out_from;
	ssize_t n;
	int e;

	if (c->ssl == NULL) {
		n = send(c->fd, c->out + c->out_from, len, MSG_NOSIGNAL);
		if (n >= 0)
			return n;
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	}
	n = SSL_write(c->ssl, c->out + c->out_from, len > 1u << 20 ? 1 << 20 : (int)len);
	if (n > 0)
		return n;
	e = SSL_get_error(c->ssl, (int)n);
	ERR_clear_error();
	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

bool far_conn_flush(struct far_conn *c)
{
	while (c->out_from < c->out_to) {
		ssize_t n = send_some(c);

		if (n < 0)
			return false;
		if (n == 0)
			return true;
		c->out_from += (size_t)n;
	}
	c->out_from = c->out_to = 0;
	return true;
}

ssize_t far_conn_get_parts(struct far_conn *c, const struct iovec *part, int n)
{
	ssize_t got;

	if (c->ssl != NULL) {
		while (n > 1 && part->iov_len == 0)
			part++, n--;
		return far_conn_get(c, part->iov_base, part->iov_len);
	}
	got = readv(c->fd, part, n);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	return got == 0 ? -1 : got;
}

ssize_t far_conn_get(struct far_conn *c, void *buf, size_t len)
{
	ssize_t n;
	int e;

	if (c->ssl == NULL)
		return far_conn_get_parts(c, &(struct iovec){ buf, len }, 1);
	n = SSL_read(c->ssl, buf, (int)len);
	if (n > 0)
		return n;
	e = SSL_get_error(c->ssl, (int)n);
	ERR_clear_error();
	c->want_write = e == SSL_ERROR_WANT_WRITE;
	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

struct pollfd far_conn_poll(const struct far_conn *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	if (c->out_from < c->out_to || c->want_write)
		p.events |= POLLOUT;
	return p;
}
