/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The keeper of a store: a process that packs the pages that the family's processes store, and
 * gives back whatever a dead process held. The supervisor itself never reads a store: every process
 * of the family may write there. Whatever they write, at worst the keeper ends. Then the supervisor
 * reports it, and kills the processes that had the store: they cannot rely on its contents any
 * more.
 *
 * The supervisor starts a keeper when a process first needs one (FAMILY_WATCH); most programs fit
 * and store nothing. It has the store, the family's state, one socket and one pipe, and nothing
 * else: no descriptor of a connection, no terminal, no signals, a session of its own, and no rights
 * beyond those of the store's processes. The pipe is
 * its life line: nothing is ever written there, and when the last supervisor that has the other end
 * is gone the kernel kills the keeper at once.
 *
 * Vocabulary: a note is a message on that socket. RELEASE names the tag of a dead process. The
 * keeper answers with the same note when it has given back all that the process held, the store's
 * lock included; the tag is not given to another process before. While the keeper releases a
 * process, the store's lock may be held by another process whose note the keeper has not answered:
 * that process is dead, too (is_reported). A note that cannot be sent now is owed, and sent when
 * the keeper has answered. STOP ends the keeper after the statistics. The statistics lie in a page
 * that supervisor and keeper share: the figures are for people, and are read while they are being
 * written.
 *
 * Two threads: one waits for notes, one packs. Locks: the store's own.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PUBLISH_MS 500
#define LOW_FILES                                                                                  \
	19 /* the fewest descriptors that a run needs, and then all that there are
	    * (run_count_descriptors) */
#define PATIENCE_MS                                                                                \
	1000 /* how long to wait for the keepers that were told to stop: none has anything
                          * left to write */

enum { NOTE_RELEASE, NOTE_STOP };
struct note {
	uint32_t what, tag;
}; /* STOP: tag is the number of connections that have the store */

/* ---- the keeper's own process ---- */
struct keeper {
	struct pool pool;
	struct family *fam;
	int sock;
	pthread_t server; /* const: the thread that waits for notes */
	uint64_t
	    due[TAG_WORDS]; /* atomics: tags of processes that are dead and not released. The server
	                   * thread writes them */
	bool stopping, used; /* the server thread's: STOP has come; a process still has the store */
	struct pool_stats
	    most; /* the statistics when the store was fullest, taken before a process's share was
	           * given back */
	struct pool_stats *out;
	pthread_t packer;
	bool packs;
	bool stop; /* atomic: tells the packer to end */
};

static int charge_family(void *arg, long pages)
{
	return family_pool_charge(((struct keeper *)arg)->fam, pages);
}

/* Reads the notes that have come. */
static void take_notes(struct keeper *k)
{
	struct note n;
	ssize_t got;

	while ((got = recv(k->sock, &n, sizeof n, MSG_DONTWAIT)) == (ssize_t)sizeof n) {
		if (n.what == NOTE_STOP) {
			k->stopping = true;
			k->used = n.tag != 0;
		} else {
			(void)__atomic_fetch_or(
			    &k->due[n.tag / 64], tag_bit(n.tag), __ATOMIC_RELEASE);
		}
	}
	if (got >= 0)
		_exit(0); /* the supervisor is gone, and the family with it */
}

/* Is there no process of the family with that tag, or is it dead? */
static bool is_reported(void *arg, uint32_t tag)
{
	struct keeper *k = arg;

	if (tag >= TAGS)
		return tag != POOL_KEEPER_TAG;
	if (pthread_equal(pthread_self(), k->server))
		take_notes(k);
	return (__atomic_load_n(&k->due[tag / 64], __ATOMIC_ACQUIRE) & tag_bit(tag)) != 0;
}

/* Has STOP come, and has no process the store any more? What is left in the store ends with it. */
static bool store_ends(void *arg)
{
	struct keeper *k = arg;

	take_notes(k);
	return k->stopping && !k->used;
}

static void release_due(struct keeper *k)
{
	for (unsigned tag = 0; tag < TAGS; tag++) {
		struct note n = { NOTE_RELEASE, tag };

		if (!tags_have(k->due, tag))
			continue;
		pool_release(&k->pool, tag);
		if (store_ends(k))
			return;
		(void)__atomic_fetch_and(&k->due[tag / 64], ~tag_bit(tag), __ATOMIC_RELEASE);
		(void)send(k->sock, &n, sizeof n, MSG_NOSIGNAL);
	}
}

static void *pack_pages(void *arg)
{
	struct keeper *k = arg;

	(void)pool_async(&k->pool); /* if there is no ring, the keeper writes synchronously */
	for (;;) {
		uint32_t seen = pool_work_seen(&k->pool);
		int rc;

		if (__atomic_load_n(&k->stop, __ATOMIC_ACQUIRE))
			break;
		if ((rc = pool_work(&k->pool, false)) == 0 && pool_sink(&k->pool) == 1)
			continue;
		if (rc != 1) /* below 0: an error, which the process that stores next gets, too */
			pool_wait_work(&k->pool, seen, rc);
	}
	pool_async_end(&k->pool);
	return NULL;
}

/* Publishes counters as they are, and amounts as they were when the store was fullest: at the end
 * everything has been given back. */
static void publish_counters(struct keeper *k)
{
	struct pool_stats ps;

	pool_stats(&k->pool, &ps);
	k->out[KEEPER_NOW] = ps;
	if (ps.mem_held + ps.file_bytes + ps.far_bytes >=
	    k->most.mem_held + k->most.file_bytes + k->most.far_bytes)
		k->most = ps;
	ps.mem_held = k->most.mem_held;
	ps.mem_bytes = k->most.mem_bytes;
	ps.mem_pages = k->most.mem_pages;
	ps.pages = k->most.pages;
	ps.file_bytes = k->most.file_bytes;
	ps.far_bytes = k->most.far_bytes;
	k->out[KEEPER_FULLEST] = ps;
}

/*
 * Closes all descriptors but those that the keeper needs, which become descriptors 3, 4, 5 and 6.
 * The limit of numbers may be low: all other descriptors are closed before a new number is taken.
 */
static void keep_only(int fds[4])
{
	int null;

	for (int fd = 3; fd < LOW_FILES; fd++)
		if (fd != fds[0] && fd != fds[1] && fd != fds[2] && fd != fds[3])
			(void)close(fd);
	null = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3; i++)
		(void)dup2(null, i);
	for (int i = 0; i < 4; i++) /* moved out of the range 3 to 6 first */
		fds[i] = fcntl(fds[i], F_DUPFD, 7);
	for (int i = 0; i < 4; i++)
		fds[i] = dup2(fds[i], i + 3);
	closefrom(7);
}

static void die_with(int life)
{
	struct pollfd p = { .fd = life, .events = POLLIN };

	(void)fcntl(life, F_SETOWN, getpid());
	(void)fcntl(life, F_SETSIG, SIGKILL);
	(void)fcntl(life, F_SETFL, O_ASYNC | O_NONBLOCK);
	if (poll(&p, 1, 0) != 0) /* the supervisor has ended already */
		_exit(0);
}

/* Serves until the supervisor sends STOP. True: a process still has the store at that time. */
static bool serve_supervisor(struct keeper *k)
{
	struct pollfd p = { .fd = k->sock, .events = POLLIN };

	while (!k->stopping) {
		int got = poll(&p, 1, PUBLISH_MS);

		publish_counters(k);
		if (got > 0)
			take_notes(k);
		release_due(k);
	}
	return k->used;
}

/*
 * The processes of the store write what the keeper reads, and a fault of the keeper might let them
 * make it do anything. So the keeper is of their user, has no capabilities, and cannot get more by
 * executing a program. A supervisor that may not change its user has no rights to lose.
 */
static void give_up_rights(const struct run_store *st)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	(void)syscall(SYS_setgroups, 0, NULL);
	(void)syscall(SYS_setresgid, st->gid, st->gid, st->gid);
	(void)syscall(SYS_setresuid, st->uid, st->uid, st->uid);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)syscall(SYS_capset, &head, none);
	(void)prctl(
	    PR_SET_DUMPABLE, 0); /* another user's process can be dumped according to a sysctl */
}

static _Noreturn void run_keeper(struct run *r, struct run_store *st, int end, int life)
{
	static struct keeper k;
	int fds[4] = { st->memfd, st->swapfd, end, life };
	sigset_t all;
	void *mem;

	(void)setsid();
	(void)prctl(PR_SET_NAME, "quire-keeper");
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	keep_only(fds);
	die_with(fds[3]);
	give_up_rights(st);
	k.out = st->stats;
	mem = mmap(NULL, st->size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	if (mem == MAP_FAILED || pool_attach(&k.pool, mem, st->size, fds[1]) != 0)
		_exit(1);
	k.fam = r->fam;
	k.sock = fds[2];
	k.server = pthread_self();
	k.pool.p_charge = charge_family;
	k.pool.p_gone = is_reported;
	k.pool.p_ends = store_ends;
	k.pool.p_charge_arg = &k;
	(void)pool_join(&k.pool, POOL_KEEPER_TAG);
	k.packs = pthread_create(&k.packer, NULL, pack_pages, &k) ==
	    0; /* otherwise each process packs the pages that it stores */
	bool used = serve_supervisor(&k);
	__atomic_store_n(&k.stop, true, __ATOMIC_RELEASE);
	pool_wake_packer(&k.pool);
	if (k.packs)
		(void)pthread_join(k.packer, NULL);
	publish_counters(&k);
	if (!used) /* the pages left have no owner, and end with the store */
		(void)charge_family(&k, -(long)(k.out[KEEPER_NOW].mem_held / 4096));
	_exit(0);
}

/* ---- the supervisor's side ---- */
bool run_keeper_start(struct run *r, struct run_store *st)
{
	int s[2], life[2];

	if (st->sock >= 0)
		return true;
	if (st->stats == NULL) {
		void *p = mmap(
		    NULL, KEEPER_STATS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			return false;
		st->stats = p;
	}
	if (st->broken || st->stopped ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) != 0)
		return false;
	if (pipe2(life, O_CLOEXEC) != 0) {
		(void)close(s[0]);
		(void)close(s[1]);
		return false;
	}
	st->keeper = fork();
	if (st->keeper == 0)
		run_keeper(r, st, s[1], life[0]);
	(void)close(s[1]);
	(void)close(life[0]);
	if (st->keeper < 0) {
		(void)close(s[0]);
		(void)close(life[1]);
		return false;
	}
	st->life = life[1];
	st->sock = s[0];
	return true;
}

static void keeper_gone(struct run_store *st)
{
	(void)close(st->sock);
	(void)close(st->life);
	st->sock = st->life = -1;
	st->keeper = 0;
}

/* Whether a keeper is needed for the release: the store has or should have a keeper, or the dead process holds the store's lock. */
static bool needs_release(const struct run_store *st, unsigned tag)
{
	return !st->broken && (st->wanted || st->sock >= 0 || pool_lock_tag(st->memfd) == tag);
}

void run_keeper_release(struct run *r, struct run_store *st, unsigned tag)
{
	if (!needs_release(st, tag)) {
		pool_tag_free(st->memfd, tag);
		return;
	}
	tags_add(st->owed, tag);
	tags_add(st->unsent, tag);
	run_keeper_settle(r, st);
}

void run_keeper_settle(struct run *r, struct run_store *st)
{
	for (unsigned tag = 0; tag < TAGS; tag++) {
		const struct note n = { NOTE_RELEASE, tag };

		if (!tags_have(st->unsent, tag))
			continue;
		if (!run_keeper_start(r, st) ||
		    send(st->sock, &n, sizeof n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof n)
			return;
		tags_drop(st->unsent, tag);
	}
}

bool run_keeper_hear(struct run_store *st)
{
	struct note n;
	ssize_t got = recv(st->sock, &n, sizeof n, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (got != (ssize_t)sizeof n || n.tag >= TAGS || !tags_have(st->owed, n.tag)) {
		keeper_gone(st);
		return false;
	}
	tags_drop(st->owed, n.tag);
	tags_drop(st->unsent, n.tag);
	pool_tag_free(st->memfd, n.tag);
	return true;
}

void run_keeper_stop(struct run_store *st)
{
	const struct note n = { NOTE_STOP, st->users };

	if (st->sock < 0)
		return;
	st->stopped = true;
	(void)send(st->sock, &n, sizeof n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

uint64_t run_keeper_patience(void) { return run_now_ns() + PATIENCE_MS * 1000000ull; }

void run_keeper_await(struct run_store *st, uint64_t end)
{
	struct pollfd p = { .fd = st->sock, .events = POLLIN };
	uint64_t now;

	while (st->sock >= 0 && (now = run_now_ns()) < end)
		if (poll(&p, 1, (int)((end - now) / 1000000) + 1) > 0)
			(void)run_keeper_hear(st);
	if (st->sock >= 0) /* the memory that the keeper works on may hold nonsense. This closes the
	                    * life line, too */
		keeper_gone(st);
}
