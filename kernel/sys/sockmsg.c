/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sending and receiving through sockets: read, write, send, recv and their kin are one transfer each (socket_transfer).
 *
 * Beside bytes a message may carry open files (SCM_RIGHTS), for which the receiver gets descriptors, and who sent it
 * (SCM_CREDENTIALS), which a socket with SO_PASSCRED is told. What the receiver has no room for is closed, and MSG_CTRUNC says so.
 *
 * Locks: none held here; those of the queues are taken by sockq.c.
 * Left out: MSG_OOB, MSG_ERRQUEUE; credentials are told as they are sent: every program is root and may name any process.
 */
#include "kernel/sys/calls.h"
#include "kernel/sys/socket.h"

#define SCM_RIGHTS 1u
#define SCM_CREDENTIALS 2u
#define CONTROL_MOST 4096u /* bytes of control messages to send */

struct msghdr { /* Linux's */
	uint64_t name;
	uint32_t namelen, pad;
	uint64_t iov, iovlen, control, controllen;
	uint32_t flags, pad2;
};
struct cmsghdr {
	uint64_t len;
	uint32_t level, type;
};

/* ---- send, recv ---- */
int64_t sys_sendto(const uint64_t *a)
{
	struct iovec v = { a[1], a[2] };
	struct span span = span_of(&v, 1);
	struct move m = { .m_flags = (unsigned)a[3] };
	struct sockname to;
	int64_t r;

	if ((m.m_file = socket_get(a[0], &r)) == NULL)
		return r;
	if (a[4] != 0 && a[5] != 0) {
		r = socket_name_in(m.m_file, a[4], a[5], &to);
		m.m_to = &to;
	}
	if (a[4] == 0 || a[5] == 0 || r == 0)
		r = socket_transfer(&m, &span, true);
	file_put(m.m_file);
	return r;
}

/* The sender's name, if it has one. */
static int64_t sender_out(const struct receipt *r, uint64_t to, uint64_t len_at)
{
	uint32_t none = 0;

	if (r->r_from.n_len > 2)
		return socket_name_out(&r->r_from, to, len_at);
	return len_at == 0 ? 0 : copy_out(len_at, &none, sizeof(none));
}

/* What a call that receives answers: MSG_TRUNC asks for the length of a message that is longer than its room. */
static int64_t answer_of(const struct move *m, int64_t r)
{
	const struct socket *s = m->m_file->f_data;

	return r >= 0 && (m->m_flags & MSG_TRUNC) && s->s_type != SOCK_STREAM
	    ? (int64_t)m->m_receipt.r_length
	    : r;
}

int64_t sys_recvfrom(const uint64_t *a)
{
	struct iovec v = { a[1], a[2] };
	struct span span = span_of(&v, 1);
	struct move m = { .m_flags = (unsigned)a[3] };
	int64_t r;

	if ((m.m_file = socket_get(a[0], &r)) == NULL)
		return r;
	r = answer_of(&m, socket_transfer(&m, &span, false));
	file_put(m.m_file);
	note_free(m.m_receipt.r_note);
	return r >= 0 && a[4] != 0 && sender_out(&m.m_receipt, a[4], a[5]) != 0 ? -EFAULT : r;
}

/* ---- control messages ---- */
/* The files of n descriptors at `at` of the program's control message. -EBADF, -ETOOMANYREFS; then the note has those before. */
static int64_t hold_files(const int32_t *fd, struct note *note)
{
	for (unsigned i = 0; i < note->n_nfiles; i++) {
		struct file *f = fd_get(fd[i]);

		if (f == NULL)
			return -EBADF;
		if (file_is_socket(f) && !note_count_socket()) {
			file_put(f);
			return -ETOOMANYREFS;
		}
		note->n_files[i] = f;
	}
	return 0;
}

static int64_t rights_in(const char *data, uint64_t bytes, struct note **note)
{
	uint64_t n = bytes / sizeof(int32_t);

	if (n > FILES_PASSED || (*note != NULL && (*note)->n_nfiles > 0))
		return -EINVAL;
	note_free(*note);
	if ((*note = note_new((unsigned)n)) == NULL)
		return -ENOBUFS;
	return hold_files((const int32_t *)(const void *)data, *note);
}

static int64_t credentials_in(const char *data, uint64_t bytes, struct note **note)
{
	if (bytes != 3 * sizeof(int32_t))
		return -EINVAL;
	if (*note == NULL && (*note = note_new(0)) == NULL)
		return -ENOBUFS;
	(*note)->n_pid = *(const int32_t *)(const void *)data;
	return 0;
}

/* What the control messages in buf ask for becomes the note. */
static int64_t read_control(const char *buf, uint64_t len, struct note **note)
{
	int64_t err = 0;

	for (uint64_t at = 0; err == 0 && len - at >= sizeof(struct cmsghdr);) {
		const struct cmsghdr *c = (const void *)(buf + at);
		const char *data = buf + at + sizeof(*c);

		if (c->len < sizeof(*c) || c->len > len - at)
			return -EINVAL;
		if (c->level != SOL_SOCKET)
			err = 0;
		else if (c->type == SCM_RIGHTS)
			err = rights_in(data, c->len - sizeof(*c), note);
		else if (c->type == SCM_CREDENTIALS)
			err = credentials_in(data, c->len - sizeof(*c), note);
		else
			err = -EINVAL;
		at += (c->len + 7) & ~7ull;
		at = at < len ? at : len;
	}
	return err;
}

static int64_t control_in(const struct msghdr *h, struct note **note)
{
	int64_t err;
	char *buf;

	if (h->control == 0 || h->controllen == 0)
		return 0;
	if (h->controllen > CONTROL_MOST)
		return -ENOBUFS;
	if ((buf = kalloc(h->controllen)) == NULL)
		return -ENOBUFS;
	err = copy_in(buf, h->control, h->controllen) != 0 ? -EFAULT
							   : read_control(buf, h->controllen, note);
	kfree(buf, h->controllen);
	if (err != 0) {
		note_free(*note);
		*note = NULL;
	}
	return err;
}

/* Control messages for the program, one after the other. */
struct control {
	uint64_t c_to, c_room, c_used;
	bool c_short; /* there was no room */
};

/* A control message of so many bytes begins: where its data goes; 0: no room. */
static uint64_t begin_control(struct control *c, uint32_t type, uint64_t bytes)
{
	struct cmsghdr h = { sizeof(h) + bytes, SOL_SOCKET, type };
	uint64_t at = c->c_to + c->c_used;

	if (c->c_to == 0 || c->c_room - c->c_used < h.len || copy_out(at, &h, sizeof(h)) != 0) {
		c->c_short = true;
		return 0;
	}
	c->c_used += (h.len + 7) & ~7ull;
	if (c->c_used > c->c_room)
		c->c_used = c->c_room;
	return at + sizeof(h);
}

/* Descriptors for the files of the note, as many as there is room for; the others are closed with the note. */
static void rights_out(struct control *c, struct note *note, bool cloexec)
{
	uint64_t room = c->c_room - c->c_used, n = note->n_nfiles, at;
	unsigned done = 0;

	if (c->c_to == 0 || room < sizeof(struct cmsghdr) + sizeof(int32_t))
		n = 0;
	else if ((room - sizeof(struct cmsghdr)) / sizeof(int32_t) < n)
		n = (room - sizeof(struct cmsghdr)) / sizeof(int32_t);
	c->c_short |= n < note->n_nfiles;
	if (n == 0 || (at = begin_control(c, SCM_RIGHTS, n * sizeof(int32_t))) == 0)
		return;
	for (; done < n; done++) {
		struct file *f = note->n_files[done];
		int fd;

		file_hold(f);
		if ((fd = fd_install(this_proc()->p_files, f, 0, cloexec)) < 0)
			break;
		if (copy_out(at + done * sizeof(fd), &fd, sizeof(fd)) != 0) {
			(void)fd_close(this_proc()->p_files, fd);
			break;
		}
	}
	c->c_short |= done < n;
	if (done == n)
		return;
	/* fewer: the message is as long as what is in it */
	c->c_used = at - sizeof(struct cmsghdr) - c->c_to;
	if (done > 0)
		(void)begin_control(c, SCM_RIGHTS, done * sizeof(int32_t));
}

static void control_out(struct move *m, struct msghdr *h)
{
	const struct socket *s = m->m_file->f_data;
	struct control c = { .c_to = h->control, .c_room = h->control != 0 ? h->controllen : 0 };

	if (s->s_passcred) {
		const int32_t cred[3] = { m->m_receipt.r_pid, 0, 0 };
		uint64_t at = begin_control(&c, SCM_CREDENTIALS, sizeof(cred));

		if (at != 0)
			(void)copy_out(at, cred, sizeof(cred));
	}
	if (m->m_receipt.r_note != NULL && m->m_receipt.r_note->n_nfiles > 0)
		rights_out(&c, m->m_receipt.r_note, (m->m_flags & MSG_CMSG_CLOEXEC) != 0);
	h->controllen = c.c_used;
	h->flags |= c.c_short ? MSG_CTRUNC : 0;
}

/* ---- sendmsg, recvmsg ---- */
/* *to is room for the receiver's name while the message is sent. */
static int64_t send_header(struct move *m, struct msghdr *h, struct sockname *to)
{
	struct iovec *v;
	struct span span;
	int64_t r;

	if (h->name != 0 && h->namelen != 0) {
		if ((r = socket_name_in(m->m_file, h->name, h->namelen, to)) != 0)
			return r;
		m->m_to = to;
	}
	if ((r = copy_in_vector(h->iov, h->iovlen, &v)) != 0)
		return r;
	if ((r = control_in(h, &m->m_note)) == 0) {
		span = span_of(v, (unsigned)h->iovlen);
		r = socket_transfer(m, &span, true);
	}
	vector_free(v, h->iovlen);
	return r;
}

static int64_t receive_header(struct move *m, struct msghdr *h, uint64_t at)
{
	struct iovec *v;
	struct span span;
	int64_t r;

	if ((r = copy_in_vector(h->iov, h->iovlen, &v)) != 0)
		return r;
	span = span_of(v, (unsigned)h->iovlen);
	r = socket_transfer(m, &span, false);
	vector_free(v, h->iovlen);
	if (r < 0)
		return r;
	h->flags = m->m_receipt.r_length > (uint64_t)r ? MSG_TRUNC : 0;
	if (((struct socket *)m->m_file->f_data)->s_type == SOCK_SEQPACKET)
		h->flags |= MSG_EOR;
	control_out(m, h);
	if (h->name != 0 &&
	    sender_out(&m->m_receipt, h->name, at + offsetof(struct msghdr, namelen)) != 0)
		return -EFAULT;
	if (h->name == 0 &&
	    copy_out(at + offsetof(struct msghdr, namelen), &(uint32_t){ 0 }, 4) != 0)
		return -EFAULT;
	if (copy_out(at + offsetof(struct msghdr, controllen), &h->controllen, 8) != 0 ||
	    copy_out(at + offsetof(struct msghdr, flags), &h->flags, 4) != 0)
		return -EFAULT;
	return answer_of(m, r);
}

static int64_t message_call(const uint64_t *a, bool send)
{
	struct move m = { .m_flags = (unsigned)a[2] };
	struct sockname to;
	struct msghdr h;
	int64_t r;

	if ((m.m_file = socket_get(a[0], &r)) == NULL)
		return r;
	if (copy_in(&h, a[1], sizeof(h)) != 0)
		r = -EFAULT;
	else if (h.iovlen > IOV_MAX)
		r = -EMSGSIZE;
	else
		r = send ? send_header(&m, &h, &to) : receive_header(&m, &h, a[1]);
	if (!send)
		note_free(m.m_receipt.r_note);
	file_put(m.m_file);
	return r;
}
int64_t sys_sendmsg(const uint64_t *a) { return message_call(a, true); }
int64_t sys_recvmsg(const uint64_t *a) { return message_call(a, false); }

#define MMSGHDR 64u /* struct mmsghdr: a msghdr, and how many bytes */

/* Messages one after the other; how many. The caller waits for the first only as the flags say, and for the others not at all if it receives. */
static int64_t many_messages(const uint64_t *a, bool send)
{
	int64_t r = 0;
	uint64_t n = 0;

	while (n < a[2] && n < IOV_MAX) {
		uint64_t at = a[1] + n * MMSGHDR,
			 flags = n > 0 && !send ? a[3] | MSG_DONTWAIT : a[3];

		r = message_call((const uint64_t[6]){ a[0], at, flags & ~0x10000ull }, send);
		if (r < 0)
			break;
		if (copy_out(at + sizeof(struct msghdr), &(uint32_t){ (uint32_t)r }, 4) != 0) {
			r = -EFAULT;
			break;
		}
		n++;
	}
	return n > 0 ? (int64_t)n : r;
}
int64_t sys_sendmmsg(const uint64_t *a) { return many_messages(a, true); }
int64_t sys_recvmmsg(const uint64_t *a) { return many_messages(a, false); }
