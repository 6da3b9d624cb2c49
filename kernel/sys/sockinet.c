/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of sockets of the Internet (AF_INET): an address of this machine and a port. There are no other machines and no packets: a
 * stream is a pair of queues as in the UNIX domain, and a datagram is put into its receiver's queue.
 *
 * The addresses are those of the loopback network, 127.0.0.0/8. 0.0.0.0 in a socket's own name stands for them all, and in a name to
 * reach for 127.0.0.1. Streams and datagrams have ports of their own. The name of a connection that was accepted takes up no port.
 *
 * Locks: names_lock (sockname.c).
 * Left out: IPv6, multicast, broadcast.
 */
#include "kernel/sys/socket.h"

#define INET_BYTES 16u /* of struct sockaddr_in */
#define LOOPBACK 0x7f000001u
#define PORT_FIRST 32768u /* of those that are given to sockets that ask for none: Linux's */
#define PORT_LAST 60999u

/* ---- names: port and address in the order of the network ---- */
static unsigned port_of(const struct sockname *n)
{
	return (unsigned)(uint8_t)n->n_path[0] << 8 | (uint8_t)n->n_path[1];
}

static uint32_t address_of(const struct sockname *n)
{
	uint32_t a = 0;

	for (unsigned i = 2; i < 6; i++)
		a = a << 8 | (uint8_t)n->n_path[i];
	return a;
}

static void set_port(struct sockname *n, unsigned port)
{
	n->n_path[0] = (char)(port >> 8);
	n->n_path[1] = (char)port;
}

static void set_address(struct sockname *n, uint32_t address)
{
	for (unsigned i = 5; i >= 2; i--, address >>= 8)
		n->n_path[i] = (char)address;
}

static bool is_ours(uint32_t address) { return address == 0 || address >> 24 == LOOPBACK >> 24; }

struct sockname inet_no_name(void)
{
	return (struct sockname){ .n_family = AF_INET, .n_len = INET_BYTES };
}

static bool has_port(const struct sockname *n) { return port_of(n) != 0; }

int inet_name_in(uint64_t from, uint64_t len, struct sockname *n)
{
	*n = inet_no_name();
	if (len > 128) /* struct sockaddr_storage */
		return -EINVAL;
	if (copy_in(n, from, len < 8 ? len : 8) != 0) /* the rest is padding */
		return -EFAULT;
	if (len < INET_BYTES)
		return -EINVAL;
	return n->n_family == AF_INET ? 0 : -EAFNOSUPPORT;
}

/* ---- ports ---- */
/* Do both names mean one address, or may they? */
static bool addresses_meet(const struct sockname *a, const struct sockname *b)
{
	return address_of(a) == 0 || address_of(b) == 0 || address_of(a) == address_of(b);
}

/* Does the other socket stand in the way of s having the name? */
static bool is_in_the_way(const struct socket *s, const struct sockname *n, const struct socket *o)
{
	if (o == s || o->s_family != AF_INET || o->s_type != s->s_type ||
	    port_of(&o->s_name) != port_of(n) || !addresses_meet(&o->s_name, n))
		return false;
	if (s->s_kept[KEPT_REUSEPORT] && o->s_kept[KEPT_REUSEPORT])
		return false;
	return !s->s_kept[KEPT_REUSEADDR] || !o->s_kept[KEPT_REUSEADDR] ||
	    o->s_state == SOCKET_LISTENS;
}

/* names_lock held. */
static bool name_is_free(const struct socket *s, const struct sockname *n)
{
	const struct socket *o = sockets_named;

	KASSERT(mach_mutex_held(&names_lock));
	while (o != NULL && !is_in_the_way(s, n, o))
		o = o->s_next;
	return o == NULL;
}

/* Has a socket of this type the port, at any address? names_lock held. */
static bool port_is_used(unsigned type, unsigned port)
{
	const struct socket *o = sockets_named;

	KASSERT(mach_mutex_held(&names_lock));
	while (o != NULL &&
	    (o->s_family != AF_INET || o->s_type != type || port_of(&o->s_name) != port))
		o = o->s_next;
	return o != NULL;
}

/* The socket gets the address, and a port that no other has. names_lock held. */
static int64_t take_any_port(struct socket *s, uint32_t address)
{
	static unsigned next = PORT_FIRST; /* names_lock */
	struct sockname n = inet_no_name();
	unsigned tries = PORT_LAST - PORT_FIRST + 1;

	KASSERT(mach_mutex_held(&names_lock));
	set_address(&n, address);
	while (tries-- > 0) {
		unsigned port = next;

		next = next == PORT_LAST ? PORT_FIRST : next + 1;
		if (port_is_used(s->s_type, port))
			continue;
		set_port(&n, port);
		socket_take_name(s, &n, NULL);
		return 0;
	}
	return -EADDRINUSE;
}

int64_t inet_bind(struct socket *s, struct sockname *n)
{
	int64_t err = 0;

	if (!is_ours(address_of(n)))
		return -EADDRNOTAVAIL;
	mach_mutex_enter(&names_lock);
	if (has_port(&s->s_name))
		err = -EINVAL;
	else if (port_of(n) == 0)
		err = take_any_port(s, address_of(n));
	else if (!name_is_free(s, n))
		err = -EADDRINUSE;
	else
		socket_take_name(s, n, NULL);
	mach_mutex_exit(&names_lock);
	return err;
}

int64_t inet_ready_to_listen(struct socket *s)
{
	KASSERT(mach_mutex_held(&names_lock));
	if (!has_port(&s->s_name))
		return take_any_port(s, 0);
	return name_is_free(s, &s->s_name) ? 0 : -EADDRINUSE;
}

int64_t inet_ready_to_reach(struct socket *s, struct sockname *n)
{
	KASSERT(mach_mutex_held(&names_lock));
	if (s->s_type == SOCK_DGRAM && port_of(n) == 0)
		return -EINVAL;
	if (!is_ours(address_of(n)))
		return -ENETUNREACH;
	if (address_of(n) == 0)
		set_address(n, LOOPBACK);
	return has_port(&s->s_name) ? 0 : take_any_port(s, 0);
}

/* ---- whom a name means ---- */
struct socket *inet_find_listener(const struct sockname *n)
{
	struct socket *found = NULL;

	KASSERT(mach_mutex_held(&names_lock));
	for (struct socket *o = sockets_named; o != NULL; o = o->s_next)
		if (o->s_family == AF_INET && o->s_type == SOCK_STREAM &&
		    o->s_state == SOCKET_LISTENS && port_of(&o->s_name) == port_of(n) &&
		    addresses_meet(&o->s_name, n) && (found == NULL || address_of(&o->s_name) != 0))
			found = o;
	return found;
}

static bool is_same_name(const struct sockname *a, const struct sockname *b)
{
	return memcmp(a->n_path, b->n_path, 6) == 0;
}

struct sockname inet_sender(const struct socket *s)
{
	struct sockname n = s->s_name;

	KASSERT(mach_mutex_held(&names_lock));
	if (address_of(&n) == 0)
		set_address(&n, LOOPBACK);
	return n;
}

/* How well a socket's names fit a datagram; 0: the datagram is not for the socket. */
static int fit_of(const struct socket *o, const struct sockname *from, const struct sockname *to)
{
	if (o->s_family != AF_INET || o->s_type != SOCK_DGRAM ||
	    port_of(&o->s_name) != port_of(to) || !addresses_meet(&o->s_name, to))
		return 0;
	if (o->s_state == SOCKET_CONNECTED && !is_same_name(&o->s_peer, from))
		return 0;
	return 1 + (address_of(&o->s_name) != 0) + 2 * (o->s_state == SOCKET_CONNECTED);
}

/* names_lock held. A reference; NULL: no socket is there, or it receives no more. */
static struct sockq *find_receiver(const struct sockname *from, const struct sockname *to)
{
	struct socket *found = NULL;
	int best = 0;

	KASSERT(mach_mutex_held(&names_lock));
	for (struct socket *o = sockets_named; o != NULL; o = o->s_next) {
		int fit = fit_of(o, from, to);

		if (fit > best) {
			best = fit;
			found = o;
		}
	}
	return found != NULL ? socket_queue(found, false) : NULL;
}

int64_t inet_find_queue(struct socket *s, const struct sockname *to, struct sockq **q)
{
	struct sockname n, from;
	int64_t err;

	*q = NULL;
	mach_mutex_enter(&names_lock);
	n = to != NULL ? *to : s->s_peer;
	err = to == NULL && s->s_state != SOCKET_CONNECTED ? -EDESTADDRREQ
							   : inet_ready_to_reach(s, &n);
	if (err == 0) {
		from = inet_sender(s);
		*q = find_receiver(&from, &n);
	}
	/* the machine of the receiver tells a connected sender, whose next call says so */
	if (err == 0 && *q == NULL && s->s_state == SOCKET_CONNECTED &&
	    is_same_name(&n, &s->s_peer)) {
		s->s_error = ECONNREFUSED;
		s->s_news++;
	}
	mach_mutex_exit(&names_lock);
	return err;
}
