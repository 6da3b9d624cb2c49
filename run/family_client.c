/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runtime's side of joining a family (family.h). Raw system calls only: in a forked child no
 * function of the C library may be called before the library's fork handlers ran, and errno's
 * thread-local storage may be unusable.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/linux/sys.h"
#include "run/host.h"
#include "run/host_quire.h"
#include "run/rights.h"

/* waits for the supervisor's answer, a tenth of a second each: the supervisor may be stopped */
#define SETTLE_TRIES 10u
/* The descriptors of a welcome. */
enum { FD_FAMILY, FD_STORE, FD_SWAP, FD_CONNECTION, FD_DEVICE, FDS };

/* ---- the variable of the environment ---- */
/* Reads a number up to the next colon or the end; moves *s behind it. */
static uint64_t parse_number(const char **s, unsigned base)
{
	uint64_t v = 0;

	for (; **s != '\0' && **s != ':'; (*s)++)
		v = v * base + (uint64_t)(**s >= 'a' ? **s - 'a' + 10 : **s - '0');
	*s += **s == ':';
	return v;
}

/* 16 hexadecimal digits. */
static uint64_t parse_word(const char **s)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 16 && **s != '\0' && **s != ':'; i++, (*s)++)
		v = v * 16 + (uint64_t)(**s >= 'a' ? **s - 'a' + 10 : **s - '0');
	return v;
}

static char *put_number(char *out, uint64_t v, unsigned base, unsigned least)
{
	char digits[24], *d = digits + sizeof digits;

	do
		*--d = "0123456789abcdef"[v % base];
	while ((v /= base) > 0 || d > digits + sizeof digits - least);
	while (d < digits + sizeof digits)
		*out++ = *d++;
	return out;
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	uint32_t size = sizeof cookie;

	if (sys_call5(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, (long)&cookie, (long)&size) != 0)
		return 0;
	return cookie;
}

bool family_find(struct host *h, const char *value, bool *ours)
{
	int gate = (int)parse_number(&value, 10);

	h->h_cookie = parse_number(&value, 16);
	for (unsigned i = 0; i < FAMILY_TOKEN; i++)
		h->h_token[i] = parse_word(&value);
	value += *value == ':';
	*ours = parse_number(&value, 10) == (uint64_t)sys_call0(SYS_getpid);
	if (h->h_cookie == 0 || cookie_of(gate) != h->h_cookie)
		return false;
	h->h_gate = hostfd_guard_kept(gate);
	return true;
}

char *family_value(const struct host *h, char out[FAMILY_VALUE])
{
	char *p = put_number(out, (uint64_t)h->h_gate, 10, 1);

	*p++ = ':';
	p = put_number(p, h->h_cookie, 16, 1);
	*p++ = ':';
	for (unsigned i = 0; i < FAMILY_TOKEN; i++)
		p = put_number(p, h->h_token[i], 16, 16);
	*p++ = ':';
	*p = '\0';
	return out;
}

/* ---- the connection ---- */
static void tell_supervisor(struct host *h, char byte)
{
	(void)sys_call6(SYS_sendto, h->h_sock, (long)&byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
}

void family_watch(struct host *h)
{
	if (atomic_load(&h->h_fam->fam_watched) != 0 && atomic_load(&h->h_watched))
		return;
	atomic_store(&h->h_watched, true);
	tell_supervisor(h, FAMILY_WATCH);
}

void family_settle(struct host *h)
{
	struct family *f = h->h_fam;
	uint32_t mine = atomic_fetch_add(&f->fam_asked, 1) + 1, now;
	struct {
		long s, ns;
	} soon = { 0, 100000000 };

	tell_supervisor(h, FAMILY_SETTLE);
	for (unsigned i = 0;
	     i < SETTLE_TRIES && (int32_t)((now = atomic_load(&f->fam_settled)) - mine) < 0; i++)
		(void)sys_call6(SYS_futex, (long)&f->fam_settled, 0 /* FUTEX_WAIT */,
		    (long)(int)now, (long)&soon, 0, 0);
}

void family_hears(struct host *h) { tell_supervisor(h, FAMILY_HEARS); }

void family_end(const struct host *h)
{
	(void)sys_call2(SYS_kill, h->h_pid, SIGKILL);
	/* the first process of a PID namespace is not killed by signals from within */
	for (;;)
		(void)sys_call1(SYS_exit_group, 128 + SIGKILL);
}

void family_check(const struct host *h)
{
	struct pollfd p = { .fd = h->h_sock };

	if (sys_call3(SYS_poll, (long)&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0)
		family_end(h);
}

void family_mortal(struct host *h, bool mortal)
{
	struct pollfd p = { .fd = h->h_sock, .events = POLLIN };

	if (mortal) {
		(void)sys_call3(SYS_fcntl, h->h_sock, F_SETOWN, h->h_pid);
		(void)sys_call3(SYS_fcntl, h->h_sock, F_SETSIG, SIGKILL);
	}
	(void)sys_call3(SYS_fcntl, h->h_sock, F_SETFL, mortal ? O_ASYNC : 0);
	/* the supervisor had ended already */
	if (mortal && sys_call3(SYS_poll, (long)&p, 1, 0) > 0)
		family_end(h);
}

/*
 * Raises the limit of descriptors, so that descriptors can be made even if the program has used up
 * its numbers; returns the former limit, for limit_restore().
 */
static struct rlimit limit_raise(void)
{
	struct rlimit was = { 0 }, most;

	hostfd_limit_enter();
	if (sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&was) != 0)
		return (struct rlimit){ 0 };
	most = (struct rlimit){ was.rlim_max, was.rlim_max };
	hostfd_limit_raised(was.rlim_cur, most.rlim_cur);
	(void)sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&most, 0);
	return was;
}

static void limit_restore(struct rlimit was)
{
	if (was.rlim_max != 0)
		(void)sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&was, 0);
	hostfd_limit_exit();
}

/* Makes a pair of connected sockets. */
static long make_pair(int s[2])
{
	long r = hostfd_pair(s);

	if (r == -EMFILE) {
		struct rlimit was = limit_raise();

		r = hostfd_pair(s);
		limit_restore(was);
	}
	return r;
}

/* Sends the greeting through the gate, with the supervisor's end of the connection; end -1: without. */
static long greet_supervisor(struct host *h, struct family_hello *hello, int end)
{
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(sizeof(int))];
	} ctl = { 0 };
	struct iovec iov = { hello, sizeof *hello };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = end >= 0 ? sizeof ctl : 0 };
	struct cmsghdr *c = &ctl.h;
	long r;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	__builtin_memcpy(CMSG_DATA(c), &end, sizeof end);
	while ((r = sys_call3(SYS_sendmsg, h->h_gate, (long)&m, MSG_NOSIGNAL)) == -EINTR ||
	    r == -ETOOMANYREFS)
		if (r == -ETOOMANYREFS) /* this user has too many descriptors in flight */
			sys_pause();
	return r < 0 ? r : 0;
}

/* Takes the descriptors that came with the welcome; returns their number. */
static int take_descriptors(struct msghdr *m, int fds[FDS])
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	int n;

	if (c == NULL || c->cmsg_type != SCM_RIGHTS)
		return 0;
	n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	for (int i = 0; i < n && i < FDS; i++)
		__builtin_memcpy(&fds[i], CMSG_DATA(c) + (size_t)i * sizeof(int), sizeof(int));
	return n;
}

/* Each refusal has an errno of its own, for which stop_joining() has a line. */
static long refusal_errno(int32_t slot)
{
	switch (slot) {
	case FAMILY_NO_SLOT: return -EAGAIN;
	case FAMILY_NO_STORE: return -EUSERS;
	case FAMILY_NO_ROOM: return -ENOSPC;
	case FAMILY_NO_TAG: return -EBUSY;
	case FAMILY_NO_FILES: return -ENOBUFS;
	default: return -EPROTO;
	}
}

/*
 * Receives the answer on sock and closes sock. 0 or -errno; fds: -1 for each descriptor that did
 * not come.
 */
static long receive_welcome(int sock, struct family_welcome *w, int fds[FDS])
{
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(FDS * sizeof(int))];
	} ctl;
	struct iovec iov = { w, sizeof *w };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof ctl
	};
	struct rlimit was = limit_raise();
	long n;

	for (unsigned i = 0; i < FDS; i++)
		fds[i] = -1;
	do
		n = sys_call3(SYS_recvmsg, sock, (long)&m, MSG_CMSG_CLOEXEC);
	while (n == -EINTR);
	limit_restore(was);
	(void)sys_call1(SYS_close, sock);
	if (n <= 0)
		return n == 0 ? -ECONNRESET : n;
	if (n != (long)sizeof *w || w->fw_magic != FAMILY_MAGIC)
		return -EPROTO;
	if (w->fw_slot < 0)
		return refusal_errno(w->fw_slot);
	if (w->fw_slot >= (int)FAMILY_PROCS || w->fw_nfds < FDS - 1 ||
	    take_descriptors(&m, fds) != w->fw_nfds)
		return -EMFILE; /* no number was free for a descriptor */
	return 0;
}

static void *map_shared(int fd, uint64_t size, long *r)
{
	*r = sys_call6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (sys_failed(*r))
		return NULL;
	/* a core file of this process would contain pages of all other processes, too */
	(void)sys_call3(SYS_madvise, *r, (long)size, MADV_DONTDUMP);
	return (void *)*r;
}

/* Maps the store that a welcome brought. */
static long take_store(struct host *h, const int fds[FDS], struct family_store *st)
{
	long r;

	if ((st->f_mem = map_shared(fds[FD_STORE], h->h_told.fw_store_size, &r)) == NULL)
		return r;
	st->f_memfd = hostfd_guard(fds[FD_STORE]);
	st->f_swapfd = hostfd_guard(fds[FD_SWAP]);
	return 0;
}

/* Receives the answer on sock and closes sock. Returns the connection or -errno. */
static long take_welcome(struct host *h, int sock, struct family_store *st)
{
	int fds[FDS];
	long r = receive_welcome(sock, &h->h_told, fds);

	if (r != 0)
		return r;
	if ((h->h_fam = map_shared(fds[FD_FAMILY], FAMILY_BYTES, &r)) == NULL ||
	    (r = take_store(h, fds, st)) != 0)
		return r;
	h->h_memfd = hostfd_guard(fds[FD_FAMILY]);
	h->h_device = fds[FD_DEVICE] >= 0 ? hostfd_guard(fds[FD_DEVICE]) : 0;
	h->h_slot = h->h_told.fw_slot;
	return fds[FD_CONNECTION];
}

static struct family_hello make_hello(const struct host *h, int slot, unsigned flags, uint64_t tag)
{
	return (struct family_hello){ .fh_magic = FAMILY_MAGIC,
		.fh_token = { h->h_token[0], h->h_token[1] },
		.fh_slot = slot,
		.fh_flags = flags,
		.fh_store = h->h_told.fw_store,
		.fh_tag = tag };
}

/* Makes a socket pair and sends one end to the supervisor; returns the other end or -errno. */
static long open_pair(struct host *h, int slot, unsigned flags, uint64_t tag)
{
	struct family_hello hello = make_hello(h, slot, flags, tag);
	int s[2];
	long r = make_pair(s);

	if (r != 0)
		return r;
	r = greet_supervisor(h, &hello, s[1]);
	/* a process that gives up rights later must not find the name of its former store */
	__builtin_memset(&hello, 0, sizeof hello);
	__asm__ volatile("" ::"r"(&hello) : "memory");
	(void)sys_call1(SYS_close, s[1]);
	if (r != 0)
		(void)sys_call1(SYS_close, s[0]);
	return r != 0 ? r : s[0];
}

/* Asks for the store of the new credentials. 0 or -errno. */
static long ask_change(struct host *h, bool hidden, struct family_welcome *told, int fds[FDS])
{
	long r = -EBUSY;

	told->fw_slot = 0;
	for (unsigned tries = 0; r == -EBUSY && tries < FAMILY_TRIES; tries++) {
		if (tries > 0)
			sys_pause(); /* the keeper is giving back what ended processes had */
		r = open_pair(
		    h, h->h_slot, FAMILY_CHANGED | (hidden ? FAMILY_ALONE : 0), h->h_told.fw_tag);
		if (r >= 0)
			r = receive_welcome((int)r, told, fds);
	}
	if (told->fw_slot < 0 && told->fw_slot >= -FAMILY_REFUSALS)
		atomic_fetch_add(&h->h_fam->fam_unmoved[FAMILY_NO_SLOT - told->fw_slot], 1);
	return r;
}

int family_change(struct host *h, bool hidden, struct family_store *st)
{
	int fds[FDS];
	struct family_welcome told;
	long r = ask_change(h, hidden, &told, fds);

	if (r != 0)
		return (int)r;
	(void)sys_call1(SYS_close, fds[FD_FAMILY]);
	if (fds[FD_DEVICE] >= 0)
		(void)sys_call1(SYS_close, fds[FD_DEVICE]);
	(void)sys_call1(SYS_close, h->h_sock);
	h->h_sock = hostfd_guard(fds[FD_CONNECTION]);
	h->h_told = told;
	return (int)take_store(h, fds, st);
}

void family_moved(struct host *h) { tell_supervisor(h, FAMILY_MOVED); }

/* This process has the connection sock and the slot h_slot from now on. */
static void begin_membership(struct host *h, int sock)
{
	h->h_sock = sock;
	h->h_pid = (int)sys_call0(SYS_getpid);
	h->h_me = &h->h_fam->fam_proc[h->h_slot];
	atomic_store(&h->h_me->fp_pid, h->h_pid);
	family_mortal(h, true);
}

int family_connect(struct host *h, struct family_store *st)
{
	long sock = open_pair(h, -1, rights_hidden() ? FAMILY_ALONE : 0, 0);

	if (sock >= 0)
		sock = take_welcome(h, (int)sock, st);
	if (sock < 0)
		return (int)sock;
	begin_membership(h, hostfd_guard((int)sock));
	return 0;
}

int family_expect(struct host *h, int slot, unsigned tag)
{
	long sock = open_pair(h, slot, FAMILY_EXPECTED, tag);

	if (sock >= 0)
		hostfd_lend((int)sock);
	return sock < 0 ? (int)sock : 0;
}

void family_born(struct host *h, int slot)
{
	struct family_hello hello = make_hello(h, slot, FAMILY_SILENT, h->h_told.fw_tag);
	int parents = h->h_sock;

	h->h_slot = slot;
	begin_membership(h, hostfd_keep_lent());
	(void)greet_supervisor(h, &hello, -1); /* a supervisor that has ended kills this process */
	(void)sys_call1(SYS_close, parents);
}
