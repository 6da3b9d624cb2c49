/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets of the UNIX domain and, within this machine, of the Internet: streams, datagrams and sequenced packets; pairs (socketpair), and
 * those that meet by a name. Both are one mechanism: they differ in names (sockname.c, sockinet.c) and in what a sender is told of a
 * receiver that is gone.
 *
 * Two connected sockets have two queues (sockq.c), one for each direction: an end receives from one and sends to the other. A datagram
 * socket has the queue from which it receives as long as it lives, and sends to those of others. shutdown gives up a direction: the
 * queue is told that it has no reader, or no writer, any more, and so is what closing does.
 *
 * Locks: s_lock, under names_lock: which queues an end still has. A call holds a reference to the queue that it uses. sockname.c and
 * sockq.c have the others.
 * Left out: other domains. A stream of the Internet whose other end is shut down for reading is refused, as in the UNIX domain.
 */
#include "kernel/sys/socket.h"
#include "kernel/sys/calls.h"

/* ---- one transfer ---- */
#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_EOR | MSG_DONTROUTE | MSG_CONFIRM)
#define DATAGRAM_BYTES 65507u /* of the Internet: Linux's */
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
	if (s->s_family == AF_INET && s->s_type == SOCK_DGRAM)
		return inet_find_queue(s, to, q);
	if (to != NULL && s->s_type != SOCK_DGRAM && s->s_family != AF_INET)
		return s->s_state == SOCKET_CONNECTED ? -EISCONN : -EOPNOTSUPP;
	if (to != NULL && s->s_type == SOCK_DGRAM)
		return socket_find_queue(s, to, q);
	if ((*q = socket_queue(s, true)) == NULL && s->s_family == AF_INET)
		return -EPIPE;
	if (*q == NULL)
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
	m->m_note->n_from = s->s_family == AF_INET ? inet_sender(s) : s->s_name;
	mach_mutex_exit(&names_lock);
	if (m->m_note->n_pid == 0)
		m->m_note->n_pid = this_proc()->p_pid;
	return 0;
}

int socket_take_error(struct socket *s)
{
	return -__atomic_exchange_n((int *)(void *)&s->s_error, 0, __ATOMIC_ACQ_REL);
}

/* Is the sender of a stream of the Internet, whose other end is closed, told of a reset? */
static bool take_reset(struct socket *s)
{
	struct sockq *in = socket_queue(s, false);
	bool reset = in != NULL && sockq_take_reset(in);

	sockq_put(in);
	return reset;
}

/* A stream of the Internet, of len bytes, that was refused: the first bytes for an end that is closed are lost without a word. */
static int64_t refuse_inet(struct socket *s, struct sockq *out, uint64_t len)
{
	struct sockq *in;
	bool known;

	if (take_reset(s))
		return -ECONNRESET;
	if (socket_take_error(s) != 0 || s->s_cut || out == NULL || out->q_no_writer)
		return -EPIPE;
	in = socket_queue(s, false);
	known = in == NULL || in->q_reset != RESET_NONE;
	sockq_put(in);
	if (known)
		return -EPIPE;
	s->s_error = EPIPE;
	s->s_cut = true;
	s->s_news++;
	wake(&poll_queue);
	return (int64_t)len;
}

/* A datagram of the Internet waits for nobody: it is lost if its receiver has no room, and if there is none. */
static int64_t send_inet_datagram(struct move *m, struct sockq *q, struct span *span)
{
	uint64_t len = span->s_left;
	int64_t r = (int64_t)len;

	if (q != NULL && len <= DATAGRAM_BYTES)
		r = sockq_send(q, span, m->m_note, queue_flags(m) | SOCKQ_NONBLOCK, 0);
	else
		note_free(m->m_note);
	if (len > DATAGRAM_BYTES)
		return -EMSGSIZE;
	return r == -EAGAIN || r == -EPIPE ? (int64_t)len : r;
}

/* The note is used up. */
static int64_t send_to(struct move *m, struct sockq *q, struct span *span)
{
	struct socket *s = m->m_file->f_data;
	uint64_t len = span->s_left;
	int64_t r = q != NULL && q->q_no_writer ? -EPIPE : 0;

	if (s->s_family == AF_INET && s->s_type == SOCK_DGRAM)
		return send_inet_datagram(m, q, span);
	if (r == 0)
		r = sockq_send(q, span, m->m_note, queue_flags(m), deadline_of(s->s_limit_out));
	else
		note_free(m->m_note);
	return r == -EPIPE && s->s_family == AF_INET ? refuse_inet(s, q, len) : r;
}

/* The note is used up. */
static int64_t send_message(struct move *m, struct span *span)
{
	struct socket *s = m->m_file->f_data;
	struct sockq *q = NULL;
	int64_t r = s->s_type == SOCK_DGRAM ? socket_take_error(s) : 0;

	if (r == 0)
		r = find_out(s, m->m_to, &q);
	if (r == 0 && (r = add_sender(s, m)) == 0)
		r = send_to(m, q, span);
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
	int64_t r = q == NULL || s->s_type == SOCK_DGRAM ? socket_take_error(s) : 0;

	if (q == NULL && r == 0)
		r = s->s_type == SOCK_SEQPACKET || s->s_family == AF_INET ? -ENOTCONN : -EINVAL;
	if (r != 0) {
		sockq_put(q);
		return r;
	}
	r = sockq_receive(q, span, &m->m_receipt, queue_flags(m), deadline_of(s->s_limit_in));
	sockq_put(q);
	if (m->m_receipt.r_pid == 0)
		m->m_receipt.r_pid = s->s_peer_pid;
	return r;
}

/* There are never urgent bytes, nor messages about errors, to receive. */
static int64_t refuse_flags(unsigned flags, bool out)
{
	if (!out && (flags & MSG_ERRQUEUE))
		return -EAGAIN;
	return !out && (flags & MSG_OOB) ? -EINVAL : -EOPNOTSUPP;
}

int64_t socket_transfer(struct move *m, struct span *span, bool out)
{
	if (m->m_flags & ~(out ? SEND_FLAGS : RECEIVE_FLAGS)) {
		note_free(m->m_note);
		return refuse_flags(m->m_flags, out);
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
	enum sockq_reset reset = in != NULL ? in->q_reset : RESET_NONE;
	int now = ended || sockq_may_receive(in) ? POLLIN : 0;

	now |= broken || sockq_may_send(out) ? POLLOUT : 0;
	now |= ended ? POLLRDHUP : 0;
	now |= reset == RESET_NEW || s->s_error != 0 ? POLLERR : 0;
	/* on the Internet an end that is closed shows only when something was sent there */
	if (s->s_family == AF_INET && out != NULL)
		broken = out->q_no_writer || s->s_cut || reset != RESET_NONE;
	sockq_put(in);
	sockq_put(out);
	return ended && broken ? now | POLLHUP : now;
}

static int poll_datagrams(struct socket *s)
{
	struct sockq *in = socket_queue(s, false), *out = socket_queue(s, true);
	int now = in != NULL && sockq_may_receive(in) ? POLLIN : 0;

	now |= out == NULL || sockq_may_send(out) ? POLLOUT : 0;
	now |= s->s_error != 0 ? POLLERR : 0;
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
	default: return POLLOUT | POLLHUP | (s->s_error != 0 ? POLLERR | POLLIN | POLLRDHUP : 0);
	}
}

static uint64_t socket_news(struct file *f, int bits)
{
	struct socket *s = f->f_data;
	struct sockq *in = socket_queue(s, false), *out = socket_queue(s, true);
	uint64_t n =
	    s->s_news + (in != NULL && (bits & (POLLIN | POLLHUP | POLLRDHUP)) ? in->q_came : 0);

	n += out != NULL && (bits & POLLOUT) ? out->q_freed : 0;
	sockq_put(in);
	sockq_put(out);
	return n;
}

#define FIONREAD 0x541bu
#define SIOCOUTQ 0x5411u

static int64_t socket_ioctl(struct file *f, unsigned cmd, uint64_t arg)
{
	struct socket *s = f->f_data;
	struct sockq *q;
	int n = 0;

	if (cmd != FIONREAD && cmd != SIOCOUTQ)
		return -ENOTTY;
	if (cmd == SIOCOUTQ && s->s_family == AF_INET) /* all that was sent has arrived */
		return s->s_state == SOCKET_LISTENS ? -EINVAL : copy_out(arg, &n, sizeof(n));
	if ((q = socket_queue(s, cmd == SIOCOUTQ)) == NULL)
		return -EINVAL;
	n = sockq_readable(q);
	sockq_put(q);
	return copy_out(arg, &n, sizeof(n));
}

/* Nothing more arrives. drop: what has arrived is freed. Returns whether there was anything. */
static bool shut_reading(struct socket *s, bool drop)
{
	struct sockq *q = socket_queue(s, false);
	bool unread = q != NULL && sockq_end_reading(q, drop);

	sockq_put(q);
	return unread;
}

/* No more is sent. The queue stays while a call uses it, and so does what is in it. */
static void shut_writing(struct socket *s, bool reset)
{
	struct sockq *q = socket_queue(s, true);

	if (q != NULL && s->s_type != SOCK_DGRAM)
		sockq_end_writing(q, reset);
	sockq_put(q);
}

static void socket_close(struct file *f)
{
	struct socket *s = f->f_data;
	bool unread;

	socket_forget_name(s);
	unread = shut_reading(s, true);
	shut_writing(s, unread || s->s_abrupt);
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
	.fo_news = socket_news,
	.fo_ioctl = socket_ioctl,
	.fo_close = socket_close,
};

struct file *socket_get(uint64_t fd, int64_t *err)
{
	return fd_get_kind((int)fd, &socket_ops, -ENOTSOCK, err);
}

int socket_name_in(const struct file *f, uint64_t from, uint64_t len, struct sockname *n)
{
	const struct socket *s = f->f_data;

	return s->s_family == AF_INET ? inet_name_in(from, len, n) : unix_name_in(from, len, n);
}

/* A socket of two queues, whose references it takes over, whatever the result. in NULL: of none yet. */
static int socket_new(unsigned family, unsigned type, struct sockq *in, struct sockq *out,
    unsigned flags, struct file **fp)
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
	s->s_family = family;
	s->s_type = type;
	s->s_in = in;
	s->s_out = out;
	s->s_state = out != NULL ? SOCKET_CONNECTED : SOCKET_FRESH;
	s->s_name = (struct sockname){ .n_family = AF_UNIX, .n_len = 2 };
	if (family == AF_INET)
		s->s_name = inet_no_name();
	s->s_peer = s->s_name;
	s->s_peer_pid = this_proc()->p_pid;
	*fp = f;
	return 0;
}

int socket_end_new(unsigned family, unsigned type, unsigned flags, struct file **b,
    struct sockq **in, struct sockq **out)
{
	int err = -ENOMEM;

	*in = sockq_new(type != SOCK_STREAM);
	*out = sockq_new(type != SOCK_STREAM);
	if (*in != NULL && *out != NULL) {
		sockq_hold(*in);
		sockq_hold(*out);
		if ((err = socket_new(family, type, *out, *in, flags, b)) == 0)
			return 0;
	}
	sockq_put(*in);
	sockq_put(*out);
	return err;
}

static int pair_new(unsigned type, unsigned flags, struct file **a, struct file **b)
{
	struct sockq *in, *out;
	int err = socket_end_new(AF_UNIX, type, flags, b, &in, &out);

	if (err == 0 && (err = socket_new(AF_UNIX, type, in, out, flags, a)) != 0)
		file_put(*b);
	return err;
}

#define SOCK_RAW 3u
#define SOCK_KINDS 11u

static int check_inet(unsigned type, uint64_t protocol)
{
	if (type != SOCK_STREAM && type != SOCK_DGRAM)
		return type == SOCK_RAW ? -EPROTONOSUPPORT : -ESOCKTNOSUPPORT;
	if (protocol != 0 && protocol != (type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP))
		return -EPROTONOSUPPORT;
	return 0;
}

/* The arguments family, type and protocol: 0, or the error of a kind of socket that is left out. */
static int check_kind(const uint64_t *a, unsigned *type)
{
	*type = (unsigned)a[1] & ~(O_NONBLOCK | O_CLOEXEC);
	if (*type >= SOCK_KINDS)
		return -EINVAL;
	if ((unsigned)a[0] == AF_INET)
		return check_inet(*type, a[2]);
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

	if ((err = check_kind(a, &type)) == 0 && (unsigned)a[0] != AF_UNIX)
		err = -EOPNOTSUPP;
	if (err != 0 || (err = pair_new(type, flags, &x, &y)) != 0)
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
	if ((err = socket_new((unsigned)a[0], type, in, NULL, flags, &f)) != 0)
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
	err = a[1] > 2 ? -EINVAL : 0; /* 0: reading, 1: writing, 2: both */
	if (err == 0 && s->s_state == SOCKET_FRESH &&
	    (s->s_type != SOCK_DGRAM || s->s_family == AF_INET))
		err = -ENOTCONN;
	if (err == 0 && s->s_state == SOCKET_LISTENS && a[1] != 1)
		socket_end_listening(s);
	if (err == 0 && a[1] != 1)
		(void)shut_reading(s, false);
	if (err == 0 && a[1] != 0)
		shut_writing(s, false);
	file_put(f);
	return err;
}
