/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Options of sockets: getsockopt and setsockopt.
 *
 * Of most options only the value is kept and told (table `kept`): on a connection within the machine nothing is delayed, lost or sent
 * again, so TCP_NODELAY, SO_KEEPALIVE and the like would change nothing. SO_REUSEADDR, SO_REUSEPORT, SO_LINGER without a time,
 * SO_PASSCRED and the limits of waiting have effect. Sizes of buffers have none.
 *
 * Locks: none; each value is atomic.
 * Left out: options that no program here was seen to need: they answer ENOPROTOOPT.
 */
#include "kernel/sys/calls.h"
#include "kernel/sys/socket.h"

#define IPPROTO_IP 0u
#define SO_REUSEADDR 2u
#define SO_TYPE 3u
#define SO_ERROR 4u
#define SO_SNDBUF 7u
#define SO_RCVBUF 8u
#define SO_LINGER 13u
#define SO_REUSEPORT 15u
#define SO_PASSCRED 16u
#define SO_PEERCRED 17u
#define SO_RCVTIMEO 20u
#define SO_SNDTIMEO 21u
#define SO_ACCEPTCONN 30u
#define SO_PROTOCOL 38u
#define SO_DOMAIN 39u
#define BUFFER_MOST 212992 /* bytes that a program may ask for: Linux's; twice as much is told */

/* Options whose value is kept. */
static const struct kept {
	uint8_t k_level, k_option;
	int k_initial, k_least, k_most; /* both 0: the value is told as 0 or 1 */
} kept[KEPT_OPTIONS] = {
	/* places that have names come first */
	{ SOL_SOCKET, SO_REUSEADDR, 0, 0, 0 }, { SOL_SOCKET, SO_REUSEPORT, 0, 0, 0 },
	{ SOL_SOCKET, SO_SNDBUF, SOCKQ_BYTES, 4608, 2 * BUFFER_MOST },
	{ SOL_SOCKET, SO_RCVBUF, SOCKQ_BYTES, 2304, 2 * BUFFER_MOST },
	{ SOL_SOCKET, 1, 0, 0, 0 },              /* SO_DEBUG */
	{ SOL_SOCKET, 5, 0, 0, 0 },              /* SO_DONTROUTE */
	{ SOL_SOCKET, 6, 0, 0, 0 },              /* SO_BROADCAST */
	{ SOL_SOCKET, 9, 0, 0, 0 },              /* SO_KEEPALIVE */
	{ SOL_SOCKET, 10, 0, 0, 0 },             /* SO_OOBINLINE */
	{ SOL_SOCKET, 12, 0, 0, 6 },             /* SO_PRIORITY */
	{ IPPROTO_TCP, 1, 0, 0, 0 },             /* TCP_NODELAY */
	{ IPPROTO_TCP, 2, 536, 88, 32767 },      /* TCP_MAXSEG */
	{ IPPROTO_TCP, 3, 0, 0, 0 },             /* TCP_CORK */
	{ IPPROTO_TCP, 4, 7200, 1, 32767 },      /* TCP_KEEPIDLE */
	{ IPPROTO_TCP, 5, 75, 1, 32767 },        /* TCP_KEEPINTVL */
	{ IPPROTO_TCP, 6, 9, 1, 127 },           /* TCP_KEEPCNT */
	{ IPPROTO_TCP, 7, 6, 1, 127 },           /* TCP_SYNCNT */
	{ IPPROTO_TCP, 12, 1, 0, 0 },            /* TCP_QUICKACK */
	{ IPPROTO_TCP, 18, 0, 0, 0x7fffffff },   /* TCP_USER_TIMEOUT */
	{ IPPROTO_IP, 1, 0, 0, 255 },            /* IP_TOS */
	{ IPPROTO_IP, 2, 64, 1, 255 },           /* IP_TTL */
	{ IPPROTO_IP, 10, 1, 0, 5 },             /* IP_MTU_DISCOVER */
	{ IPPROTO_IP, 33, 1, 0, 255 },           /* IP_MULTICAST_TTL */
	{ IPPROTO_IP, 34, 1, 0, 0 },             /* IP_MULTICAST_LOOP */
	{ IPPROTO_IP, 14, 65536, 65536, 65536 }, /* IP_MTU */
	{ SOL_SOCKET, 11, 0, 0, 0 },             /* SO_NO_CHECK */
};

/* The place of an option that the socket has; -1: it has none. */
static int find_kept(const struct socket *s, unsigned level, unsigned option)
{
	if (level == IPPROTO_TCP && s->s_type != SOCK_STREAM)
		return -1;
	for (unsigned i = 0; i < KEPT_OPTIONS; i++)
		if (kept[i].k_level == level && kept[i].k_option == option)
			return (int)i;
	return -1;
}

static int kept_value(const struct socket *s, unsigned place)
{
	return s->s_given >> place & 1 ? s->s_kept[place] : kept[place].k_initial;
}

static bool has_level(const struct socket *s, unsigned level)
{
	return level == SOL_SOCKET ||
	    (s->s_family == AF_INET && (level == IPPROTO_IP || level == IPPROTO_TCP));
}

/* ---- getsockopt ---- */
static int error_to_tell(struct socket *s)
{
	int err = socket_take_error(s);
	struct sockq *in = err == 0 ? socket_queue(s, false) : NULL;

	if (in != NULL && sockq_take_reset(in))
		err = -ECONNRESET;
	sockq_put(in);
	return -err;
}

static int protocol_of(const struct socket *s)
{
	if (s->s_family != AF_INET)
		return 0;
	return s->s_type == SOCK_STREAM ? (int)IPPROTO_TCP : (int)IPPROTO_UDP;
}

/* Options of 4 bytes. False: there is no such option. */
static bool number_of(struct socket *s, unsigned option, int *v)
{
	switch (option) {
	case SO_TYPE: *v = (int)s->s_type; return true;
	case SO_ERROR: *v = error_to_tell(s); return true;
	case SO_PASSCRED: *v = s->s_passcred; return true;
	case SO_ACCEPTCONN: *v = s->s_state == SOCKET_LISTENS; return true;
	case SO_PROTOCOL: *v = protocol_of(s); return true;
	case SO_DOMAIN: *v = (int)s->s_family; return true;
	default: return false;
	}
}

/* The value of an option of SOL_SOCKET, of *bytes. -ENOPROTOOPT. */
static int64_t option_value(struct socket *s, unsigned option, uint64_t v[2], uint32_t *bytes)
{
	uint64_t limit;
	int *n = (int *)(void *)v;

	switch (option) {
	case SO_LINGER:
		v[0] = s->s_linger;
		*bytes = sizeof(uint64_t);
		return 0;
	case SO_PEERCRED: /* pid, uid, gid */
		n[0] = s->s_peer_pid;
		*bytes = 3 * sizeof(int32_t);
		return 0;
	case SO_RCVTIMEO:
	case SO_SNDTIMEO:
		limit = option == SO_RCVTIMEO ? s->s_limit_in : s->s_limit_out;
		v[0] = limit / 1000000000;
		v[1] = limit % 1000000000 / 1000;
		*bytes = 2 * sizeof(uint64_t);
		return 0;
	default: *bytes = sizeof(int); return number_of(s, option, n) ? 0 : -ENOPROTOOPT;
	}
}

int64_t sys_getsockopt(const uint64_t *a)
{
	unsigned level = (unsigned)a[1], option = (unsigned)a[2];
	uint32_t len, bytes = sizeof(int);
	uint64_t v[2] = { 0, 0 };
	int64_t err;
	struct file *f = socket_get(a[0], &err);
	int place;

	if (f == NULL)
		return err;
	if (copy_in(&len, a[4], sizeof(len)) != 0)
		err = -EFAULT;
	else if ((int32_t)len < 0)
		err = -EINVAL;
	else if (!has_level(f->f_data, level))
		err = -EOPNOTSUPP;
	else if ((place = find_kept(f->f_data, level, option)) >= 0)
		*(int *)(void *)v = kept_value(f->f_data, (unsigned)place);
	else
		err =
		    level == SOL_SOCKET ? option_value(f->f_data, option, v, &bytes) : -ENOPROTOOPT;
	file_put(f);
	if (err != 0)
		return err;
	len = len < bytes ? len : bytes;
	return copy_out(a[3], v, len) != 0 || copy_out(a[4], &len, sizeof(len)) != 0 ? -EFAULT : 0;
}

/* ---- setsockopt ---- */
/* struct timeval: how long a call waits. */
static int64_t set_limit(struct socket *s, unsigned option, uint64_t from, uint64_t len)
{
	uint64_t t[2], ns;

	if (len < sizeof(t))
		return -EINVAL;
	if (copy_in(t, from, sizeof(t)) != 0)
		return -EFAULT;
	if ((int64_t)t[0] < 0 || t[1] >= 1000000)
		return -EDOM;
	ns = span_ns(t[0], t[1] * 1000);
	if (option == SO_RCVTIMEO)
		s->s_limit_in = ns;
	else
		s->s_limit_out = ns;
	return 0;
}

/* struct linger: if the end does not wait at all for what was sent, the connection is reset. */
static int64_t set_linger(struct socket *s, uint64_t from, uint64_t len)
{
	int v[2];
	uint64_t both;

	if (len < sizeof(v))
		return -EINVAL;
	if (copy_in(v, from, sizeof(v)) != 0)
		return -EFAULT;
	v[0] = v[0] != 0;
	memcpy(&both, v, sizeof(both));
	s->s_linger = both;
	s->s_abrupt = s->s_family == AF_INET && s->s_type == SOCK_STREAM && v[0] && v[1] == 0;
	return 0;
}

static int64_t set_kept(struct socket *s, unsigned place, int v)
{
	const struct kept *k = &kept[place];

	if (place == KEPT_SNDBUF || place == KEPT_RCVBUF) {
		v = v < 0 || v > BUFFER_MOST ? BUFFER_MOST : v;
		v = 2 * v < k->k_least ? k->k_least : 2 * v;
	}
	if (k->k_most == 0)
		v = v != 0;
	else if (v < k->k_least || v > k->k_most)
		return -EINVAL;
	s->s_kept[place] = v;
	s->s_given |= 1u << place;
	return 0;
}

static int64_t set_option(struct socket *s, const uint64_t *a)
{
	unsigned level = (unsigned)a[1], option = (unsigned)a[2];
	bool byte = level == IPPROTO_IP && a[4] >= 1 && a[4] < sizeof(int);
	int place = find_kept(s, level, option), v = 0;

	if (!has_level(s, level) || (place < 0 && level != SOL_SOCKET))
		return s->s_family == AF_UNIX ? -EOPNOTSUPP : -ENOPROTOOPT;
	if (place < 0 && (option == SO_RCVTIMEO || option == SO_SNDTIMEO))
		return set_limit(s, option, a[3], a[4]);
	if (place < 0 && option == SO_LINGER)
		return set_linger(s, a[3], a[4]);
	if (place < 0 && option != SO_PASSCRED)
		return -ENOPROTOOPT;
	if (a[4] < sizeof(v) && !byte)
		return -EINVAL;
	if (copy_in(&v, a[3], byte ? 1 : sizeof(v)) != 0)
		return -EFAULT;
	if (place >= 0)
		return set_kept(s, (unsigned)place, v);
	s->s_passcred = v != 0;
	return 0;
}

int64_t sys_setsockopt(const uint64_t *a)
{
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	err = (int)a[4] < 0 ? -EINVAL : set_option(f->f_data, a);
	file_put(f);
	return err;
}
