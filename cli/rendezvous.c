/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a process joins the family (run/family.h has the protocol). The door takes greetings from whoever has the gate, which no
 * process but those of the family ever had. A greeting brings the supervisor's end of a connection; on it the answer goes out,
 * with the descriptors, and on it the end of the process is seen: then what it was granted is given back.
 *
 * Nothing here waits, and nothing that a process says or writes is believed: a greeting must have the token and a slot that no
 * other connection has; which slot is whose is known here (conn[]), whatever the shared memory says.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <quire/policy.h>

#define ROUND 64u /* greetings taken before anything else is looked at again */

/* One descriptor is needed for each process of the family, whatever the program's limit. */
int run_make_descriptors(struct run *r)
{
	if (getrlimit(RLIMIT_NOFILE, &r->files) == 0) {
		struct rlimit all = { r->files.rlim_max, r->files.rlim_max };

		(void)setrlimit(RLIMIT_NOFILE, &all);
	}
	return 0;
}

int run_make_gate(struct run *r)
{
	uint64_t cookie = 0;
	int s[2], one = 1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) != 0)
		return fail("cannot make the family's sockets: %s", strerror(errno));
	r->door = s[0];
	r->gate = s[1];
	if (getsockopt(r->gate, SOL_SOCKET, SO_COOKIE, &cookie, &(socklen_t){ sizeof cookie }) != 0 ||
	    setsockopt(r->door, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) != 0 ||
	    getentropy(r->token, sizeof r->token) != 0)
		return fail("cannot make the family's sockets: %s", strerror(errno));
	(void)snprintf(r->family, sizeof r->family, "%llx:%016llx%016llx:", (unsigned long long)cookie,
	    (unsigned long long)r->token[0], (unsigned long long)r->token[1]);
	return 0;
}

bool run_family_there(const char *value)
{
	char *end;
	long gate = value != NULL ? strtol(value, &end, 10) : -1;
	uint64_t cookie = 0;

	if (gate <= 0 || gate > 1 << 30 || *end != ':' ||
	    getsockopt((int)gate, SOL_SOCKET, SO_COOKIE, &cookie, &(socklen_t){ sizeof cookie }) != 0 ||
	    strtoull(end + 1, NULL, 16) != cookie)
		return false;
	struct pollfd p = { .fd = (int)gate };
	return poll(&p, 1, 0) == 0; /* else the supervisor is gone */
}

static void release_slot(struct run *r, struct run_store *st, int slot)
{
	struct family_proc *p = &r->fam->fam_proc[slot];

	run_store_stats(r, &r->store.most);
	if (st != NULL)
		pool_release(&st->pool, (uint32_t)slot);
	family_uncharge(r->fam, atomic_exchange(&p->fp_granted, 0));
	promise_return(&r->fam->fam_promise, atomic_exchange(&p->fp_promised, 0));
#define X(n) atomic_fetch_add(&r->fam->fam_dead.n, atomic_exchange(&p->fp_count.n, 0));
	FAMILY_COUNTERS(X)
#undef X
	atomic_store(&p->fp_resident, 0);
	atomic_store(&p->fp_own, 0);
	atomic_fetch_sub(&r->fam->fam_need, atomic_exchange(&p->fp_need, 0));
	atomic_store(&p->fp_shrink, 0);
	atomic_store(&p->fp_managed, 0);
	atomic_store(&p->fp_hears, 0);
	atomic_store(&p->fp_pid, 0);
}

/* ---- slots ---- */
static bool slot_is_taken(const struct run *r, int slot)
{
	for (unsigned i = 0; i < r->nconn; i++)
		if (r->conn[i].slot == slot)
			return true;
	return false;
}

/* A slot for a process that executes a program; -1: all are taken. */
static int take_slot(struct run *r)
{
	for (int i = 0; i < (int)r->most; i++) {
		int32_t none = 0;
		uint32_t ever = atomic_load(&r->fam->fam_procs);

		if (slot_is_taken(r, i) || !atomic_compare_exchange_strong(&r->fam->fam_proc[i].fp_pid, &none, -1))
			continue;
		if (ever <= (unsigned)i)
			(void)atomic_compare_exchange_strong(&r->fam->fam_procs, &ever, (unsigned)i + 1);
		return i;
	}
	return -1;
}

/* ---- connections ---- */
static void add_conn(struct run *r, int fd, int slot, struct run_store *st)
{
	(void)pthread_mutex_lock(&r->connlock);
	r->conn[r->nconn++] = (struct conn){ .fd = fd, .slot = slot, .store = st };
	(void)pthread_mutex_unlock(&r->connlock);
	if (st != NULL)
		st->users++;
}

void run_drop_conn(struct run *r, unsigned i)
{
	struct conn c = r->conn[i];

	(void)pthread_mutex_lock(&r->connlock);
	(void)close(c.fd);
	r->conn[i] = r->conn[--r->nconn];
	(void)pthread_mutex_unlock(&r->connlock);
	release_slot(r, c.store, c.slot);
	if (c.store != NULL)
		c.store->users--;
}

void run_hear(struct run *r, unsigned i)
{
	char byte[2];
	ssize_t n = recv(r->conn[i].fd, byte, sizeof byte, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != 1)
		run_drop_conn(r, i);
	else if (byte[0] == FAMILY_WATCH)
		run_start_threads(r);
	else if (byte[0] == FAMILY_HEARS)
		r->conn[i].hears = true;
}

/* ---- the door ---- */
/* The answer, with the descriptors unless the family is full. */
static bool send_welcome(const struct run *r, int fd, int slot, const struct run_store *st)
{
	struct family_welcome w = { .fw_magic = FAMILY_MAGIC, .fw_slot = slot, .fw_nfds = r->device >= 0 ? 4 : 3 };
	int fds[4] = { r->memfd, st->memfd, st->swapfd, r->device };
	union { struct cmsghdr h; char b[CMSG_SPACE(sizeof fds)]; } ctl = { 0 };
	struct iovec iov = { &w, sizeof w };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t bytes = (size_t)w.fw_nfds * sizeof(int);

	w.fw_store = st->name;
	w.fw_store_size = st->size;
	w.fw_budget = r->o.memory / 4096;
	w.fw_swap_pages = r->promise_most; /* one process may have been promised all */
	w.fw_sites = r->sites;
	(void)snprintf(w.fw_policy, sizeof w.fw_policy, "%s", r->o.policy->pol_name);
	if (r->o.prefetch != NULL)
		(void)snprintf(w.fw_prefetch, sizeof w.fw_prefetch, "%s", r->o.prefetch->pf_name);
	if (slot >= 0) {
		m.msg_control = &ctl;
		m.msg_controllen = CMSG_SPACE(bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(c), fds, bytes);
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof w;
}

static bool is_connection(int fd)
{
	int domain = 0, type = 0;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){ sizeof domain }) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){ sizeof type }) == 0 && type == SOCK_SEQPACKET;
}

static bool is_greeting(const struct run *r, const struct family_hello *h, ssize_t n)
{
	return n == (ssize_t)sizeof *h && h->fh_magic == FAMILY_MAGIC && h->fh_token[0] == r->token[0] &&
	       h->fh_token[1] == r->token[1] && (h->fh_flags & ~(uint32_t)FAMILY_SILENT) == 0;
}

/* A process is let in. False: its slot is none, or another's. */
static bool let_in(struct run *r, const struct family_hello *h, int fd)
{
	bool silent = (h->fh_flags & FAMILY_SILENT) != 0;
	int slot = h->fh_slot;

	if (silent && (slot < 0 || slot >= (int)r->most || slot_is_taken(r, slot)))
		return false;
	if (!silent)
		slot = r->nconn < r->most ? take_slot(r) : -1;
	if (slot >= 0)
		add_conn(r, fd, slot, h->fh_store == r->store.name || !silent ? &r->store : NULL);
	if (!silent && !send_welcome(r, fd, slot, &r->store) && slot >= 0)
		run_drop_conn(r, r->nconn - 1);
	else if (slot < 0)
		(void)close(fd);
	return true;
}

/* All descriptors that came with a message; the first is kept in *fd, unless it is not alone. */
static void take_descriptors(struct msghdr *m, int *fd)
{
	unsigned n = 0;

	*fd = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
			int got;

			memcpy(&got, (char *)c + at, sizeof got);
			if (n++ == 0)
				*fd = got;
			else
				(void)close(got);
		}
	}
	if (n > 1) {
		(void)close(*fd);
		*fd = -1;
	}
}

/* False: there is none now. */
static bool take_greeting(struct run *r)
{
	struct family_hello h = { 0 };
	union { struct cmsghdr h; char b[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(8 * sizeof(int))]; } ctl;
	struct iovec iov = { &h, sizeof h };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof ctl };
	ssize_t n = recvmsg(r->door, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int fd;

	if (n < 0)
		return errno == EINTR;
	if (n == 0 && m.msg_controllen == 0) { /* the last process that had the gate has ended */
		(void)close(r->door);
		r->door = -1;
		return false;
	}
	take_descriptors(&m, &fd);
	if ((m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == MSG_CTRUNC && is_greeting(r, &h, n) && fd < 0)
		return true; /* no descriptor is left for it: it sees that it is turned away */
	if ((m.msg_flags & MSG_TRUNC) == 0 && is_greeting(r, &h, n) && is_connection(fd) && let_in(r, &h, fd))
		return true;
	r->turned_away++;
	if (fd >= 0)
		(void)close(fd);
	return true;
}

void run_open_door(struct run *r)
{
	for (unsigned n = 0; n < ROUND && r->door >= 0 && take_greeting(r); n++)
		;
}

/* One for each process of the family; besides, one for the packer's ring, and two for a process that is about to be another program. */
int run_count_descriptors(struct run *r)
{
	struct rlimit rl;
	int next = dup(r->door);

	(void)close(next);
	if (r->sigfd < 0 || next < 0 || getrlimit(RLIMIT_NOFILE, &rl) != 0 || (rlim_t)next + 4 > rl.rlim_cur)
		return fail(
		    "too few open files are allowed (ulimit -Hn): one is needed for each process, and ten more");
	rl.rlim_cur -= (rlim_t)next + 3;
	r->most = r->fam->fam_most = rl.rlim_cur < FAMILY_PROCS ? (uint32_t)rl.rlim_cur : FAMILY_PROCS;
	return 0;
}
