/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets of the UNIX domain: streams, datagrams and sequenced packets; pairs (socketpair), and those that meet by a name.
 *
 * Two connected sockets have two queues (sockq.c), one for each direction: an end receives from one and sends to the other. A datagram
 * socket has the queue from which it receives as long as it lives, and sends to those of others. shutdown gives up a direction: the
 * queue is told that it has no reader, or no writer, any more, and so is what closing does.
 *
 * Locks: s_lock, under names_lock: which queues an end still has. A call holds a reference to the queue that it uses. sockname.c and
 * sockq.c have the others.
 * Left out: other domains; most options are accepted without effect.
 */
#include "kernel/sys/socket.h"
#include "kernel/sys/calls.h"

/* ---- one transfer ---- */
#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_EOR)
#define RECEIVE_FLAGS                                                                              \
	(MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT | MSG_NOSIGNAL | MSG_WAITALL | MSG_CMSG_CLOEXEC)

static uint64_t deadline_of(uint64_t limit) { return limit == 0 ? 0 : arch_time_ns() + limit; }

static unsigned queue_flags(const struct move *m)
{
	unsigned how = m->m_flags & MSG_PEEK ? SOCKQ_PEEK : 0;

	if ((m->m_flags & MSG_DONTWAIT) || (m->m_file->f_flags & O_NONBLOCK))
		how |= SOCKQ_NONBLOCK;
	return m->m_flags & MSG_WAITALL ? how | SOCKQ_WAITALL : how;
}

/* Where a message goes: a reference. */
static int64_t find_out(struct socket *s, const struct sockname *to, struct sockq **q)
{
	if (to != NULL && s->s_type != SOCK_DGRAM)
		return s->s_state == SOCKET_CONNECTED ? -EISCONN : -EOPNOTSUPP;
	if (to != NULL)
		return socket_find_queue(to, s->s_type, q);
	if ((*q = socket_queue(s, true)) == NULL)
		return s->s_type == SOCK_DGRAM || s->s_state != SOCKET_CONNECTED ? -ENOTCONN
										 : -EPIPE;
	return 0;
}

/* Every message of a datagram socket has a note, which says from where it is. */
static int64_t add_sender(struct socket *s, struct move *m)
{
	bool told = s->s_type != SOCK_STREAM || m->m_note != NULL;

	if (told && m->m_note == NULL && (m->m_note = note_new(0)) == NULL)
		return -ENOBUFS;
	if (m->m_note == NULL)
		return 0;
	mach_mutex_enter(&names_lock);
	m->m_note->n_from = s->s_name;
	mach_mutex_exit(&names_lock);
	if (m->m_note->n_pid == 0)
		m->m_note->n_pid = this_proc()->p_pid;
	return 0;
}

/* The note is used up. */
static int64_t send_message(struct move *m, struct span *span)
{
	struct socket *s = m->m_file->f_data;
	struct sockq *q = NULL;
	int64_t r = find_out(s, m->m_to, &q);

	if (r == 0 && (r = add_sender(s, m)) == 0 && q->q_no_writer)
		r = -EPIPE;
	if (r == 0)
		r = sockq_send(q, span, m->m_note, queue_flags(m), deadline_of(s->s_limit_out));
	else
		note_free(m->m_note);
	sockq_put(q);
	if (r == -EPIPE && s->s_type == SOCK_DGRAM)
		return -ECONNREFUSED;
	if (r == -EPIPE && !(m->m_flags & MSG_NOSIGNAL))
		signal_send_thread(arch_cur(), SIGPIPE, 0, 0);
	return r;
}

static int64_t receive_message(struct move *m, struct span *span)
{
	struct socket *s = m->m_file->f_data;
	struct sockq *q = socket_queue(s, false);
	int64_t r;

	if (q == NULL)
		return s->s_type == SOCK_SEQPACKET ? -ENOTCONN : -EINVAL;
	r = sockq_receive(q, span, &m->m_receipt, queue_flags(m), deadline_of(s->s_limit_in));
	sockq_put(q);
	if (m->m_receipt.r_pid == 0)
		m->m_receipt.r_pid = s->s_peer_pid;
	return r;
}

int64_t socket_transfer(struct move *m, struct span *span, bool out)
{
	if (m->m_flags & ~(out ? SEND_FLAGS : RECEIVE_FLAGS)) {
		note_free(m->m_note);
		return -EOPNOTSUPP;
	}
	return out ? send_message(m, span) : receive_message(m, span);
}

static int64_t socket_move(struct file *f, struct span *span, bool out)
{
	struct move m = { .m_file = f };
	int64_t r = socket_transfer(&m, span, out);

	if (!out)
		note_free(m.m_receipt.r_note);
	return r;
}

static int64_t socket_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	struct span s = { .s_buf = buf, .s_left = len };

	(void)off;
	return socket_move(f, &s, false);
}

static int64_t socket_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	struct span s = { .s_buf = (char *)(uintptr_t)buf, .s_left = len };

	(void)off;
	return socket_move(f, &s, true);
}

static int64_t socket_vector(struct file *f, const struct iovec *v, unsigned n, bool write)
{
	struct span s = span_of(v, n);

	return socket_move(f, &s, write);
}

/* What would not wait is ready: receiving at the end, and sending that fails. */
static int poll_connected(struct socket *s)
{
	struct sockq *in = socket_queue(s, false), *out = socket_queue(s, true);
	bool ended = in == NULL || in->q_no_writer || in->q_no_reader,
	     broken = out == NULL || out->q_no_reader || out->q_no_writer;
	int now = ended || sockq_may_receive(in) ? POLLIN : 0;

	now |= broken || sockq_may_send(out) ? POLLOUT : 0;
	now |= ended ? POLLRDHUP : 0;
	sockq_put(in);
	sockq_put(out);
	return ended && broken ? now | POLLHUP : now;
}

static int poll_datagrams(struct socket *s)
{
	struct sockq *in = socket_queue(s, false), *out = socket_queue(s, true);
	int now = in != NULL && sockq_may_receive(in) ? POLLIN : 0;

	now |= out == NULL || sockq_may_send(out) ? POLLOUT : 0;
	sockq_put(in);
	sockq_put(out);
	return now;
}

static int socket_poll(struct file *f)
{
	struct socket *s = f->f_data;

	if (s->s_type == SOCK_DGRAM)
		return poll_datagrams(s);
	switch (s->s_state) {
	case SOCKET_LISTENS: return s->s_queued > 0 ? POLLIN : 0;
	case SOCKET_CONNECTED: return poll_connected(s);
	default: return POLLOUT | POLLHUP;
	}
}

static int64_t socket_ioctl(struct file *f, unsigned cmd, uint64_t arg)
{
	struct sockq *q = cmd == 0x541b ? socket_queue(f->f_data, false) : NULL; /* FIONREAD */
	int n;

	if (q == NULL)
		return cmd == 0x541b ? -EINVAL : -ENOTTY;
	n = sockq_readable(q);
	sockq_put(q);
	return copy_out(arg, &n, sizeof(n));
}

/* The direction ends. The queue stays while a call uses it, and what is in it, too, if only its writer goes. */
static void shut_direction(struct socket *s, bool out)
{
	struct sockq *q = socket_queue(s, out);

	if (q == NULL)
		return;
	if (out && s->s_type != SOCK_DGRAM)
		sockq_end_writing(q);
	else if (!out)
		sockq_end_reading(q);
	sockq_put(q);
}

static void socket_close(struct file *f)
{
	struct socket *s = f->f_data;

	socket_forget_name(s);
	shut_direction(s, false);
	shut_direction(s, true);
	sockq_put(s->s_in);
	sockq_put(s->s_out);
	mach_mutex_fini(&s->s_lock);
	kfree(s, sizeof(*s));
}

static const struct file_ops socket_ops = {
	.fo_read = socket_read,
	.fo_write = socket_write,
	.fo_vector = socket_vector,
	.fo_poll = socket_poll,
	.fo_ioctl = socket_ioctl,
	.fo_close = socket_close,
};

struct file *socket_get(uint64_t fd, int64_t *err)
{
	return fd_get_kind((int)fd, &socket_ops, -ENOTSOCK, err);
}

/* A socket of two queues, whose references it takes over, whatever the result. in NULL: of none yet. */
static int socket_new(
    unsigned type, struct sockq *in, struct sockq *out, unsigned flags, struct file **fp)
{
	struct socket *s;
	struct file *f = anon_file(&socket_ops, S_IFSOCK | 0777, O_RDWR | flags, sizeof(*s));

	if (f == NULL) {
		sockq_put(in);
		sockq_put(out);
		return -ENOMEM;
	}
	s = f->f_data;
	mach_mutex_init(&s->s_lock, 4, "socket");
	s->s_type = type;
	s->s_in = in;
	s->s_out = out;
	s->s_state = out != NULL ? SOCKET_CONNECTED : SOCKET_FRESH;
	s->s_name = s->s_peer = (struct sockname){ .n_family = AF_UNIX, .n_len = 2 };
	s->s_peer_pid = this_proc()->p_pid;
	*fp = f;
	return 0;
}

int socket_end_new(
    unsigned type, unsigned flags, struct file **b, struct sockq **in, struct sockq **out)
{
	int err = -ENOMEM;

	*in = sockq_new(type != SOCK_STREAM);
	*out = sockq_new(type != SOCK_STREAM);
	if (*in != NULL && *out != NULL) {
		sockq_hold(*in);
		sockq_hold(*out);
		if ((err = socket_new(type, *out, *in, flags, b)) == 0)
			return 0;
	}
	sockq_put(*in);
	sockq_put(*out);
	return err;
}

static int pair_new(unsigned type, unsigned flags, struct file **a, struct file **b)
{
	struct sockq *in, *out;
	int err = socket_end_new(type, flags, b, &in, &out);

	if (err == 0 && (err = socket_new(type, in, out, flags, a)) != 0)
		file_put(*b);
	return err;
}

/* The arguments family, type and protocol: 0, or the error of a kind of socket that is left out. */
static int check_kind(const uint64_t *a, unsigned *type)
{
	*type = (unsigned)a[1] & ~(O_NONBLOCK | O_CLOEXEC);
	if ((unsigned)a[0] != AF_UNIX)
		return -EAFNOSUPPORT;
	if (*type != SOCK_STREAM && *type != SOCK_DGRAM && *type != SOCK_SEQPACKET)
		return -ESOCKTNOSUPPORT;
	if (a[2] > 1)
		return -EPROTONOSUPPORT;
	return 0;
}

int64_t sys_socketpair(const uint64_t *a)
{
	unsigned type, flags = (unsigned)a[1] & O_NONBLOCK;
	bool cloexec = (a[1] & O_CLOEXEC) != 0;
	struct file *x, *y;
	int err;

	if ((err = check_kind(a, &type)) != 0 || (err = pair_new(type, flags, &x, &y)) != 0)
		return err;
	return fd_install_pair(x, y, cloexec, a[3]);
}

int64_t sys_socket(const uint64_t *a)
{
	unsigned type, flags = (unsigned)a[1] & O_NONBLOCK;
	struct sockq *in = NULL;
	struct file *f;
	int err;

	if ((err = check_kind(a, &type)) != 0)
		return err;
	if (type == SOCK_DGRAM && (in = sockq_new(true)) == NULL)
		return -ENOMEM;
	if ((err = socket_new(type, in, NULL, flags, &f)) != 0)
		return err;
	return fd_install(this_proc()->p_files, f, 0, (a[1] & O_CLOEXEC) != 0);
}

int64_t sys_shutdown(const uint64_t *a)
{
	int64_t err;
	struct file *f = socket_get(a[0], &err);
	struct socket *s;

	if (f == NULL)
		return err;
	s = f->f_data;
	err = a[1] > 2 ? -EINVAL : 0;
	if (err == 0 && s->s_state != SOCKET_CONNECTED && s->s_type != SOCK_DGRAM)
		err = s->s_state == SOCKET_FRESH ? -ENOTCONN : 0;
	if (err == 0 && a[1] != 1) /* 0: reading, 1: writing, 2: both */
		shut_direction(s, false);
	if (err == 0 && a[1] != 0)
		shut_direction(s, true);
	file_put(f);
	return err;
}

/* ---- options ---- */
#define SO_RCVTIMEO 20u
#define SO_SNDTIMEO 21u
#define SO_PASSCRED 16u

/* The value of an option, of *bytes. -ENOPROTOOPT. */
static int64_t option_value(const struct socket *s, unsigned option, uint64_t v[2], uint32_t *bytes)
{
	uint64_t limit;
	int32_t *cred = (int32_t *)(void *)v;

	*bytes = sizeof(int32_t);
	v[0] = v[1] = 0;
	switch (option) {
	case 2:                               /* SO_REUSEADDR */
	case 4:                               /* SO_ERROR */
	case 9:                               /* SO_KEEPALIVE */
	case 38: return 0;                    /* SO_PROTOCOL */
	case 3: v[0] = s->s_type; return 0;   /* SO_TYPE */
	case 7:                               /* SO_SNDBUF */
	case 8: v[0] = SOCKQ_BYTES; return 0; /* SO_RCVBUF */
	case 39: v[0] = AF_UNIX; return 0;    /* SO_DOMAIN */
	case SO_PASSCRED: v[0] = s->s_passcred; return 0;
	case 30: v[0] = s->s_state == SOCKET_LISTENS; return 0; /* SO_ACCEPTCONN */
	case 17:                                                /* SO_PEERCRED: pid, uid, gid */
		cred[0] = s->s_peer_pid;
		*bytes = 3 * sizeof(int32_t);
		return 0;
	case SO_RCVTIMEO:
	case SO_SNDTIMEO:
		limit = option == SO_RCVTIMEO ? s->s_limit_in : s->s_limit_out;
		v[0] = limit / 1000000000;
		v[1] = limit % 1000000000 / 1000;
		*bytes = 2 * sizeof(uint64_t);
		return 0;
	default: return -ENOPROTOOPT;
	}
}

int64_t sys_getsockopt(const uint64_t *a)
{
	uint32_t len, bytes = 0;
	uint64_t v[2];
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	err = (unsigned)a[1] == SOL_SOCKET ? option_value(f->f_data, (unsigned)a[2], v, &bytes)
					   : -ENOPROTOOPT;
	file_put(f);
	if (err != 0)
		return err;
	if (copy_in(&len, a[4], sizeof(len)) != 0)
		return -EFAULT;
	if ((int32_t)len < 0)
		return -EINVAL;
	len = len < bytes ? len : bytes;
	return copy_out(a[3], v, len) != 0 || copy_out(a[4], &len, sizeof(len)) != 0 ? -EFAULT : 0;
}

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

/* Sizes and the like: accepted, without effect. */
static int64_t set_option(struct socket *s, const uint64_t *a)
{
	unsigned option = (unsigned)a[2];
	int on;

	if ((unsigned)a[1] != SOL_SOCKET)
		return -ENOPROTOOPT;
	if (option == SO_RCVTIMEO || option == SO_SNDTIMEO)
		return set_limit(s, option, a[3], a[4]);
	if (a[4] < sizeof(on))
		return -EINVAL;
	if (copy_in(&on, a[3], sizeof(on)) != 0)
		return -EFAULT;
	if (option == SO_PASSCRED)
		s->s_passcred = on != 0;
	return 0;
}

int64_t sys_setsockopt(const uint64_t *a)
{
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	err = set_option(f->f_data, a);
	file_put(f);
	return err;
}
