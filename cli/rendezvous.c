/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a process joins the family (run/family.h has the protocol). The door takes greetings from any
 * process that has the gate, and only processes of the family ever had it. A greeting brings a
 * socket. The answer goes out on that socket, with the descriptors; one of these is the process's
 * end of its connection. When the process ends, its connection hangs up: then whatever it was
 * granted is given back. The connection of a forked child is in a greeting of its parent, sent
 * before the fork; the child's own greeting only shows which process it is.
 *
 * Nothing here blocks, and nothing that a process sends or writes is believed: a greeting must have
 * the token; conn[] records which slot, store and tag belong to which process, whatever the shared
 * memory says (slots.c).
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <quire/policy.h>

#include "sys/linux/offer.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#define SCM_PIDFD_TYPE 4 /* SCM_PIDFD as newer headers define it */
#define ROUND 64u        /* greetings taken before the loop looks at other events again */

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
		return errno == EMFILE
		    ? cli_too_few_files()
		    : fail(
			  "cannot make the family's sockets: %s; see ulimit -n, and what the container forbids",
			  strerror(errno));
	r->door = s[0];
	r->gate = s[1];
	if (getsockopt(r->gate, SOL_SOCKET, SO_COOKIE, &cookie, &(socklen_t){ sizeof cookie }) !=
		0 ||
	    setsockopt(r->door, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) != 0 ||
	    getentropy(r->token, sizeof r->token) != 0)
		return fail(
		    "cannot make the family's sockets: %s; see ulimit -n, and what the container forbids",
		    strerror(errno));
	r->unproven = (r->o.without & SYS_PIDFD) != 0 ||
	    setsockopt(r->door, SOL_SOCKET, SO_PASSPIDFD, &one, sizeof one) != 0;
	r->cookie = cookie;
	(void)snprintf(r->family, sizeof r->family,
	    "%llx:%016llx%016llx:", (unsigned long long)cookie, (unsigned long long)r->token[0],
	    (unsigned long long)r->token[1]);
	return 0;
}

bool run_family_there(const char *value)
{
	char *end;
	long gate = value != NULL ? strtol(value, &end, 10) : -1;
	uint64_t cookie = 0;

	if (gate <= 0 || gate > 1 << 30 || *end != ':' ||
	    getsockopt((int)gate, SOL_SOCKET, SO_COOKIE, &cookie, &(socklen_t){ sizeof cookie }) !=
		0 ||
	    strtoull(end + 1, NULL, 16) != cookie)
		return false;
	struct pollfd p = { .fd = (int)gate };
	return poll(&p, 1, 0) == 0; /* otherwise the supervisor is gone */
}

/* All that the process of that tag held in the store is given back. */
static void leave_store(struct run *r, struct run_store *st, unsigned tag)
{
	if (st == NULL)
		return;
	st->users--;
	run_keeper_release(r, st, tag);
}

static void return_promise(struct run *r, const struct run_store *st, struct family_proc *p)
{
	uint64_t n = atomic_exchange(&p->fp_promised, 0);

	if (st != NULL)
		promise_return(&r->fam->fam_promise, run_shelf(r, st), n);
}

static void release_slot(struct run *r, const struct run_store *st, int slot)
{
	struct family_proc *p = &r->fam->fam_proc[slot];

	family_uncharge(r->fam, atomic_exchange(&p->fp_granted, 0));
	return_promise(r, st, p);
#define X(n) atomic_fetch_add(&r->fam->fam_dead.n, atomic_exchange(&p->fp_count.n, 0));
	FAMILY_COUNTERS(X)
#undef X
	atomic_store(&p->fp_resident, 0);
	atomic_store(&p->fp_own, 0);
	atomic_fetch_sub(&r->fam->fam_need, atomic_exchange(&p->fp_need, 0));
	atomic_store(&p->fp_shrink, 0);
	atomic_store(&p->fp_managed, 0);
	atomic_store(&p->fp_hears, 0);
	atomic_fetch_add(&r->fam->fam_ended, 1);
	atomic_store(&p->fp_pid, 0);
}

/* ---- slots (slots.c) ---- */
/* Finds a slot for a process that executes a program; -1: all are taken. */
static int take_slot(struct run *r)
{
	for (int i = 0; i < (int)r->most; i++) {
		int32_t none = 0;
		uint32_t ever = atomic_load(&r->fam->fam_procs);

		if (run_slot_taken(r, i) ||
		    !atomic_compare_exchange_strong(&r->fam->fam_proc[i].fp_pid, &none, -1))
			continue;
		if (ever <= (unsigned)i)
			(void)atomic_compare_exchange_strong(
			    &r->fam->fam_procs, &ever, (unsigned)i + 1);
		return i;
	}
	return -1;
}

/* ---- messages ---- */
/* What came with a message besides its bytes. */
struct received {
	int fd; /* the descriptor that was sent, or -1 */
	unsigned nfds;
	int pidfd;        /* a pidfd of the sender, or -1 */
	struct ucred who; /* the sender; pid 0: not known */
};

static void take_ancillary(struct msghdr *m, struct received *got)
{
	*got = (struct received){ .fd = -1, .pidfd = -1 };
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&got->who, CMSG_DATA(c), sizeof got->who);
		if (c->cmsg_type == SCM_PIDFD_TYPE)
			memcpy(&got->pidfd, CMSG_DATA(c), sizeof got->pidfd);
		if (c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
			if (got->fd >= 0)
				(void)close(got->fd);
			memcpy(&got->fd, (char *)c + at, sizeof got->fd);
			got->nfds++;
		}
	}
	if (got->nfds > 1) {
		(void)close(got->fd);
		got->fd = -1;
	}
}

/* Calls recvmsg without waiting. */
static ssize_t receive_message(int sock, void *buf, size_t size, int *flags, struct received *got)
{
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int)) +
		    CMSG_SPACE(8 * sizeof(int))];
	} ctl;
	struct iovec iov = { buf, size };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof ctl
	};
	ssize_t n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*got = (struct received){ .fd = -1, .pidfd = -1 };
	if (n >= 0)
		take_ancillary(&m, got);
	*flags = m.msg_flags;
	return n;
}

/* Finds the store for the process that sent that message. NULL: *why says why. */
static struct run_store *store_of(struct run *r, const struct received *from, bool alone, int *why)
{
	struct creds c;
	struct run_store *st;

	alone = alone || !creds_read(from->pidfd, from->who.pid, from->who.uid, from->who.gid, &c);
	st = run_store_for(r, alone ? NULL : &c, why);
	if (st != NULL && !st->given) {
		st->uid = from->who.uid;
		st->gid = from->who.gid;
	}
	return st;
}

/*
 * The slots that a process may use of the store: all that can be promised, because one process may
 * have been promised all. The number comes from the supervisor's own settings: any process may have
 * written to the family's state.
 */
static uint64_t most_slots(const struct run *r, const struct run_store *st)
{
	const struct promise_shelf own = { .s_most = pool_file_pages(run_swap_bytes(st)) };
	struct promise all = { 0 };

	promise_init(&all, r->o.memory / 4096);
	return promise_most(&all, &own);
}

/*
 * Sends the answer on fd: with the descriptors if there is a slot. slot below 0: an enum
 * family_refusal. connection: the process's end,
 * -1: it gets none. Both are closed here: if the answer cannot be sent, the connection ends with
 * them.
 */
static void send_welcome(
    const struct run *r, int fd, int slot, struct run_store *st, unsigned tag, int connection)
{
	struct family_welcome w = {
		.fw_magic = FAMILY_MAGIC, .fw_slot = slot, .fw_nfds = r->device >= 0 ? 5 : 4
	};
	int fds[5] = { r->memfd, -1, -1, connection, r->device };
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(sizeof fds)];
	} ctl = { 0 };
	struct iovec iov = { &w, sizeof w };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t bytes = (size_t)w.fw_nfds * sizeof(int);

	w.fw_budget = r->o.memory / 4096;
	w.fw_sites = r->sites;
	w.fw_without = r->o.without;
	(void)snprintf(w.fw_policy, sizeof w.fw_policy, "%s", r->o.policy->pol_name);
	if (r->o.prefetch != NULL)
		(void)snprintf(w.fw_prefetch, sizeof w.fw_prefetch, "%s", r->o.prefetch->pf_name);
	if (slot >= 0) {
		w.fw_store = st->name;
		w.fw_tag = tag;
		w.fw_shelf = st->place;
		w.fw_swap_pages = most_slots(r, st);
		w.fw_store_size = st->size;
		st->given = true;
		fds[1] = st->memfd;
		fds[2] = st->swapfd;
		m.msg_control = &ctl;
		m.msg_controllen = CMSG_SPACE(bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(c), fds, bytes);
	}
	(void)sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)close(fd);
	if (connection >= 0)
		(void)close(connection);
}

/* ---- connections ---- */
/* Takes over the sender's pidfd. */
static void add_conn(
    struct run *r, int fd, struct received *from, int slot, struct run_store *st, unsigned tag)
{
	struct conn c = {
		.fd = fd, .slot = slot, .pid = from->who.pid, .pidfd = -1, .store = st, .tag = tag
	};

	if (r->pidfds) {
		c.pidfd = from->pidfd;
		from->pidfd = -1;
	}
	(void)pthread_mutex_lock(&r->connlock);
	r->conn[r->nconn++] = c;
	(void)pthread_mutex_unlock(&r->connlock);
	if (st != NULL)
		st->users++;
}

static bool make_connection(int ends[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0;
}

void run_drop_conn(struct run *r, unsigned i)
{
	struct conn c = r->conn[i];

	(void)pthread_mutex_lock(&r->connlock);
	(void)close(c.fd);
	r->conn[i] = r->conn[--r->nconn];
	(void)pthread_mutex_unlock(&r->connlock);
	if (c.pidfd >= 0)
		(void)close(c.pidfd);
	leave_store(r, c.before, c.tag_before);
	leave_store(r, c.store, c.tag);
	if (c.slot >= 0)
		release_slot(r, c.store, c.slot);
}

/*
 * A settlement takes two rounds of the supervisor's loop. The first round takes all greetings that came before the request, so
 * that their connections are known. The second round sees which of those connections have ended.
 */
static void begin_settling(struct run *r)
{
	if (r->settling > 0) {
		r->settle_again = true;
		return;
	}
	r->settling = 1;
	r->settle_asked = atomic_load(&r->fam->fam_asked);
}

void run_settle(struct run *r, unsigned stage, bool greeted)
{
	if (stage == 1 && greeted)
		r->settling = 2;
	if (stage != 2)
		return;
	atomic_store(&r->fam->fam_settled, r->settle_asked);
	(void)syscall(SYS_futex, &r->fam->fam_settled, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	r->settling = 0;
	if (r->settle_again)
		begin_settling(r);
	r->settle_again = false;
}

static bool obey_byte(struct run *r, struct conn *c, char byte)
{
	switch (byte) {
	case FAMILY_WATCH: run_start_threads(r, c->store); return true;
	case FAMILY_HEARS: c->hears = true; return true;
	case FAMILY_MOVED:
		leave_store(r, c->before, c->tag_before);
		c->before = NULL;
		return true;
	case FAMILY_SETTLE: begin_settling(r); return true;
	default: return false;
	}
}

void run_hear(struct run *r, unsigned i)
{
	/* The end of the connection is read after all bytes that the process sent. */
	for (unsigned k = 0; k < ROUND; k++) {
		char byte[2];
		ssize_t n = recv(r->conn[i].fd, byte, sizeof byte, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n != 1 || !obey_byte(r, &r->conn[i], byte[0])) {
			run_drop_conn(r, i);
			return;
		}
	}
}

bool run_family_lives(const struct run *r)
{
	if (r->door >= 0)
		return true;
	for (unsigned i = 0; i < r->nconn; i++)
		if (r->conn[i].pid > 0 && (kill(r->conn[i].pid, 0) == 0 || errno == EPERM))
			return true;
	return false; /* some connections may be left whose other ends this process holds */
}

/* ---- keepers ---- */
/* The keeper has died of what the processes wrote to the store. The memory that they stored is
 * lost. */
static void end_store(struct run *r, struct run_store *st)
{
	st->broken = true;
	(void)fail(
	    "quire-keeper has ended: it was killed, or the memory that processes of this run share was damaged by one of them; those "
	    "that have it end; run the program again");
	for (unsigned i = r->nconn; i-- > 0;)
		if (r->conn[i].store == st || r->conn[i].before == st)
			run_drop_conn(r, i);
	memset(st->owed, 0, sizeof st->owed); /* no process gets the store any more */
	memset(st->unsent, 0, sizeof st->unsent);
}

void run_hear_keeper(struct run *r, struct run_store *st)
{
	if (st->sock < 0)
		return;
	if (run_keeper_hear(st))
		run_keeper_settle(r, st);
	else
		end_store(r, st);
}

/* ---- the door ---- */
/* It never holds the gate: while the supervisor had the gate, the hang-up would not show that no
 * process of the family has it. */
static bool is_connection(const struct run *r, int fd)
{
	int domain = 0, type = 0;
	uint64_t cookie = 0;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){ sizeof domain }) == 0 &&
	    domain == AF_UNIX &&
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){ sizeof type }) == 0 &&
	    type == SOCK_SEQPACKET &&
	    getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &(socklen_t){ sizeof cookie }) == 0 &&
	    cookie != r->cookie;
}

static bool is_greeting(const struct run *r, const struct family_hello *h, ssize_t n)
{
	return n == (ssize_t)sizeof *h && h->fh_magic == FAMILY_MAGIC &&
	    h->fh_token[0] == r->token[0] && h->fh_token[1] == r->token[1] &&
	    ((h->fh_flags & ~(uint32_t)(FAMILY_ALONE | FAMILY_CHANGED)) == 0 ||
		h->fh_flags == FAMILY_SILENT || h->fh_flags == FAMILY_EXPECTED);
}

/*
 * A greeting of a process that is about to fork. The child has a slot, a store and a tag there. The
 * name of the store proves that the sender is a process of the store, which alone can know a tag
 * there. If any process has made another take the child's slot, the child goes on without. False:
 * there is no room, or the greeting names another process's slot or tag.
 */
static bool expect_child(struct run *r, const struct family_hello *h, const struct received *from)
{
	struct received unknown = { .fd = from->fd, .pidfd = -1 };
	struct run_store *st = run_store_named(r, h->fh_store);
	int slot = h->fh_slot;

	if (slot < 0 || slot >= (int)r->most || run_slot_taken(r, slot))
		slot = -1;
	if (r->nconn >= r->most || (slot < 0 && st == NULL))
		return false;
	if (st != NULL &&
	    (h->fh_tag >= TAGS || !pool_tag_is_child((uint32_t)h->fh_tag) ||
		run_tag_taken(r, st, (unsigned)h->fh_tag)))
		return false;
	add_conn(r, from->fd, &unknown, slot, st, (unsigned)h->fh_tag);
	return true;
}

/*
 * A greeting of a forked child. False: no process expects a child of that store and tag, or of that
 * slot if there is no store. Takes over the sender's pidfd.
 */
static bool meet_child(struct run *r, const struct family_hello *h, struct received *from)
{
	const struct run_store *st = run_store_named(r, h->fh_store);

	for (unsigned i = 0; i < r->nconn; i++) {
		struct conn *c = &r->conn[i];

		if (c->pid != 0 || c->store != st ||
		    (st != NULL ? c->tag != h->fh_tag : c->slot != h->fh_slot))
			continue;
		c->pid = from->who.pid;
		if (r->pidfds) {
			c->pidfd = from->pidfd;
			from->pidfd = -1;
		}
		return true;
	}
	return false;
}

/* Pages that the process was promised are charged to the other store's places from now on. The
 * process waits for the answer meanwhile. */
static void move_promise(struct run *r, const struct conn *c, const struct run_store *to)
{
	uint64_t n = atomic_load(&r->fam->fam_proc[c->slot].fp_promised);

	promise_force(&r->fam->fam_promise, run_shelf(r, to), n);
	if (c->store != NULL)
		promise_return(&r->fam->fam_promise, run_shelf(r, c->store), n);
}

/* Finds a tag for a process of the store, and makes its connection. 0, or an enum family_refusal. */
static int give_place(const struct run *r, const struct run_store *st, unsigned *tag, int ends[2])
{
	if ((*tag = run_tag_for(r, st)) == POOL_CHILD_TAG)
		return FAMILY_NO_TAG;
	return make_connection(ends) ? 0 : FAMILY_NO_FILES;
}

/*
 * A greeting of a process that now has other credentials. It gets a store for them, and also keeps
 * the one before until it sends FAMILY_MOVED. False: the sender is not the process of that slot, or
 * changes again before it has moved, which no runtime does.
 */
static bool let_change(struct run *r, const struct family_hello *h, const struct received *from)
{
	struct run_store *st;
	struct conn *c = NULL;
	unsigned tag;
	int ends[2], why = 0;

	for (unsigned i = 0; i < r->nconn; i++)
		if (h->fh_slot >= 0 && r->conn[i].slot == h->fh_slot &&
		    r->conn[i].pid == from->who.pid)
			c = &r->conn[i];
	if (c == NULL || c->before != NULL)
		return false;
	st = store_of(r, from, (h->fh_flags & FAMILY_ALONE) != 0, &why);
	if (st == c->store)
		st = NULL; /* the process hides its memory from now on, so it gets another store */
	if ((st == NULL && (st = store_of(r, from, true, &why)) == NULL) ||
	    (why = give_place(r, st, &tag, ends)) != 0) {
		send_welcome(r, from->fd, why, NULL, 0, -1);
		return true;
	}
	(void)pthread_mutex_lock(&r->connlock);
	(void)close(c->fd);
	c->fd = ends[0];
	c->hears = false;
	(void)pthread_mutex_unlock(&r->connlock);
	move_promise(r, c, st);
	c->before = c->store;
	c->tag_before = c->tag;
	c->store = st;
	c->tag = tag;
	st->users++;
	send_welcome(r, from->fd, c->slot, st, tag, ends[1]);
	return true;
}

/* A greeting of a program that was executed. */
static void let_in(struct run *r, struct received *from, bool alone)
{
	int slot = r->nconn < r->most ? take_slot(r) : -1, why = FAMILY_NO_SLOT;
	struct run_store *st = slot >= 0 ? store_of(r, from, alone, &why) : NULL;
	unsigned tag;
	int ends[2];

	if (st != NULL && (why = give_place(r, st, &tag, ends)) == 0) {
		add_conn(r, ends[0], from, slot, st, tag);
		send_welcome(r, from->fd, slot, st, tag, ends[1]);
		return;
	}
	send_welcome(r, from->fd, why, NULL, 0, -1);
	if (slot >= 0)
		atomic_store(&r->fam->fam_proc[slot].fp_pid, 0);
}

/* Takes one greeting. False: there is none now. */
static bool take_greeting(struct run *r)
{
	struct family_hello h = { 0 };
	struct received from;
	int flags;
	ssize_t n = receive_message(r->door, &h, sizeof h, &flags, &from);
	bool right = is_greeting(r, &h, n) && (flags & MSG_TRUNC) == 0;

	if (n < 0)
		return errno == EINTR;
	if (r->unproven && from.who.pid > 0)
		from.pidfd = (int)syscall(SYS_pidfd_open, from.who.pid, 0);
	if (n == 0 && from.who.pid == 0) { /* the last process that had the gate has ended */
		(void)close(r->door);
		r->door = -1;
		return false;
	}
	if (right && h.fh_flags == FAMILY_SILENT) {
		right = from.nfds == 0 && meet_child(r, &h, &from);
	} else if (right && from.fd >= 0 && is_connection(r, from.fd)) {
		if (h.fh_flags == FAMILY_EXPECTED)
			right = expect_child(r, &h, &from);
		else if ((h.fh_flags & FAMILY_CHANGED) != 0)
			right = let_change(r, &h, &from);
		else
			let_in(r, &from, (h.fh_flags & FAMILY_ALONE) != 0);
	} else if (!right ||
	    (flags & MSG_CTRUNC) ==
		0) { /* otherwise no descriptor was left for the connection: the process sees that
		      * it is turned away */
		right = false;
	}
	if (!right) {
		r->turned_away++;
		if (from.fd >= 0)
			(void)close(from.fd);
	}
	if (from.pidfd >= 0)
		(void)close(from.pidfd);
	return true;
}

bool run_open_door(struct run *r)
{
	unsigned n = 0;

	while (n < ROUND && r->door >= 0 && take_greeting(r))
		n++;
	return n < ROUND;
}

/*
 * Descriptors: a connection for each process of the family, and a pidfd for each if enough descriptors are allowed.
 * The packer's ring needs one more, the first store's keeper two. While a process joins, four more
 * are open: the socket that its greeting brought, its pidfd, and both ends of its connection. A
 * quarter of what is left is for further stores, if they can have no more.
 */
#define OTHER_FILES (1u + 2u + 4u)
#define MOST_FILES (1u << 20) /* more are of no use */
int run_count_descriptors(struct run *r)
{
	struct rlimit rl;
	int next = dup(r->door);

	(void)close(next);
	if (r->sigfd < 0 || next < 0 || getrlimit(RLIMIT_NOFILE, &rl) != 0 ||
	    (rlim_t)next + OTHER_FILES + 1 > rl.rlim_cur)
		return cli_too_few_files();
	uint32_t have = (uint32_t)((rl.rlim_cur < MOST_FILES ? rl.rlim_cur : MOST_FILES) -
		     ((rlim_t)next + OTHER_FILES)),
		 room = have - have / 4;
	r->pidfds = room >= 2 * FAMILY_PROCS;
	r->most = r->fam->fam_most = room < FAMILY_PROCS ? room : FAMILY_PROCS;
	r->spare = have - (r->pidfds ? 2 : 1) * r->most;
	return 0;
}
