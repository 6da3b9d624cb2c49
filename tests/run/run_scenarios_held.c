/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scenarios of memory held by the kernel: pages given to a pipe, a socket or a ring arrive
 * unchanged, and the program sees the kernel's writes. The list of such holds is in
 * machine/linux/renew.c.
 */
#include "tests/run/run_scenarios.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define GIVEN (64u * 1024u)

/*
 * Reads a pipe or socket that should hold len bytes of fill(seed). Returns the number of wrong
 * words; all, if the stream ends early.
 */
static size_t wrong_in(int fd, size_t len, uint64_t seed)
{
	char *got = malloc(len);
	size_t n = 0, bad;

	for (ssize_t r; n < len && (r = read(fd, got + n, len - n)) > 0;)
		n += (size_t)r;
	bad = n == len ? wrong(got, len, seed) : len;
	free(got);
	return bad;
}

/* Uses every frame for other memory. */
static void use_other_memory(void)
{
	push_out();
	push_out();
}

/* Evicts the pages, and uses their frames for other memory. */
static void lose(void *p, size_t len)
{
	EXPECT(madvise(p, len, MADV_PAGEOUT) == 0);
	use_other_memory();
}

static int given_to_pipe(unsigned flags)
{
	char *p = map(GIVEN);
	struct iovec v = { p, GIVEN };
	int pp[2];

	fill(p, GIVEN, 7);
	EXPECT(pipe(pp) == 0 && vmsplice(pp[1], &v, 1, flags) == GIVEN);
	lose(p, GIVEN);
	EXPECT(wrong(p, GIVEN, 7) == 0);
	lose(p, GIVEN);
	EXPECT(wrong_in(pp[0], GIVEN, 7) == 0);
	EXPECT(wrong(p, GIVEN, 7) == 0);
	return 0;
}

static int held_pipe(void) { return given_to_pipe(0); }
static int held_gift(void) { return given_to_pipe(SPLICE_F_GIFT); }

/* Copies the pipe's pages to another pipe, by tee, and to a file, by splice. */
static int held_splice(void)
{
	char name[] = "/tmp/quire-held-XXXXXX";
	char *p = map(GIVEN);
	struct iovec v = { p, GIVEN };
	int a[2], b[2], fd = mkstemp(name);

	EXPECT(fd >= 0 && unlink(name) == 0);
	fill(p, GIVEN, 8);
	EXPECT(pipe(a) == 0 && pipe(b) == 0 && vmsplice(a[1], &v, 1, 0) == GIVEN);
	lose(p, GIVEN);
	EXPECT(tee(a[0], b[1], GIVEN, 0) == GIVEN);
	lose(p, GIVEN);
	for (size_t n = 0; n < GIVEN;) {
		ssize_t r = splice(a[0], NULL, fd, NULL, GIVEN - n, SPLICE_F_MOVE);

		EXPECT(r > 0);
		n += r > 0 ? (size_t)r : GIVEN;
	}
	EXPECT(lseek(fd, 0, SEEK_SET) == 0 && wrong_in(fd, GIVEN, 8) == 0 &&
	    wrong_in(b[0], GIVEN, 8) == 0);
	return 0;
}

/* A connection over loopback with a slow reader, so that sent data stays in the socket. */
static void connection(int *from, int *to)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int small = 4096, big = 4 * (int)MIB, one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t n = sizeof sa;

	*from = socket(AF_INET, SOCK_STREAM, 0);
	(void)setsockopt(l, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	EXPECT(bind(l, (void *)&sa, n) == 0 && listen(l, 1) == 0 &&
	    getsockname(l, (void *)&sa, &n) == 0);
	(void)setsockopt(*from, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one);
	EXPECT(connect(*from, (void *)&sa, n) == 0 && (*to = accept(l, NULL, NULL)) >= 0);
	(void)setsockopt(*from, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
	(void)close(l);
}

/* Compares the first n received bytes with fill(seed); only whole words are compared. */
static int held_socket(void)
{
	size_t len = MIB, sent = 0;
	char *p = map(len);
	int s, a;

	connection(&s, &a);
	fill(p, len, 9);
	for (ssize_t r;
	     sent < len && (r = send(s, p + sent, len - sent, MSG_ZEROCOPY | MSG_DONTWAIT)) > 0;)
		sent += (size_t)r;
	lose(p, len);
	EXPECT(sent > GIVEN && wrong_in(a, sent & ~7ul, 9) == 0);
	EXPECT(wrong(p, len, 9) == 0);
	return 0;
}

/* ---- a ring, by the system calls alone ---- */
struct ring {
	int fd;
	struct io_uring_params par;
	char *sq, *cq;
	struct io_uring_sqe *sqe;
};

/* False: the kernel has no ring, or a filter forbids it. */
static bool ring_open(struct ring *r)
{
	memset(&r->par, 0, sizeof r->par);
	r->fd = (int)syscall(SYS_io_uring_setup, 8, &r->par);
	if (r->fd < 0)
		return false;
	r->sq = mmap(NULL, r->par.sq_off.array + 8 * 4, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, r->par.cq_off.cqes + 16 * sizeof(struct io_uring_cqe),
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_CQ_RING);
	r->sqe = mmap(NULL, 8 * sizeof *r->sqe, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
	    r->fd, IORING_OFF_SQES);
	return r->sq != MAP_FAILED && r->cq != MAP_FAILED && r->sqe != MAP_FAILED;
}

/* Submits one request; waits for that many completions. */
static void ring_submit(struct ring *r, const struct io_uring_sqe *e, unsigned wait)
{
	_Atomic unsigned *tail = (void *)(r->sq + r->par.sq_off.tail);
	unsigned mask = *(unsigned *)(void *)(r->sq + r->par.sq_off.ring_mask), t = *tail;

	r->sqe[t & mask] = *e;
	((unsigned *)(void *)(r->sq + r->par.sq_off.array))[t & mask] = t & mask;
	atomic_store(tail, t + 1);
	EXPECT(syscall(SYS_io_uring_enter, r->fd, 1, wait, wait > 0 ? IORING_ENTER_GETEVENTS : 0,
		   NULL, 0) == 1);
}

/* The result of the next completion. */
static int ring_result(struct ring *r)
{
	_Atomic unsigned *head = (void *)(r->cq + r->par.cq_off.head),
			 *tail = (void *)(r->cq + r->par.cq_off.tail);
	unsigned mask = *(unsigned *)(void *)(r->cq + r->par.cq_off.ring_mask), h = *head;

	if (h == atomic_load(tail))
		(void)syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	int res = ((struct io_uring_cqe *)(void *)(r->cq + r->par.cq_off.cqes))[h & mask].res;
	atomic_store(head, h + 1);
	return res;
}

static int held_send_zc(void)
{
	char *p = map(4 * GIVEN);
	struct io_uring_sqe e = {
		.opcode = IORING_OP_SEND_ZC, .addr = (uintptr_t)p, .len = 4 * GIVEN
	};
	struct ring r;
	int s, a;

	if (!ring_open(&r)) {
		printf("no ring\n");
		return 0;
	}
	connection(&s, &a);
	fill(p, 4 * GIVEN, 10);
	e.fd = s;
	ring_submit(&r, &e, 1);
	int sent = ring_result(&r);
	lose(p, 4 * GIVEN);
	EXPECT(sent > (int)GIVEN && wrong_in(a, (size_t)sent & ~7ul, 10) == 0);
	EXPECT(wrong(p, 4 * GIVEN, 10) == 0);
	return 0;
}

/*
 * A buffer registered with the ring is pinned: the program sees later reads into it, and writes
 * from it are right.
 */
static int held_fixed(void)
{
	char *p = map(GIVEN);
	struct iovec v = { p, GIVEN };
	struct io_uring_sqe e = { .opcode = IORING_OP_READ_FIXED,
		.addr = (uintptr_t)p,
		.len = GIVEN,
		.off = (uint64_t)-1 };
	struct ring r;
	int pp[2];

	if (!ring_open(&r)) {
		printf("no ring\n");
		return 0;
	}
	fill(p, GIVEN, 11);
	EXPECT(pipe(pp) == 0 &&
	    syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &v, 1) == 0);
	lose(p, GIVEN);
	char *q = map(GIVEN);
	fill(q, GIVEN, 12);
	EXPECT(write(pp[1], q, GIVEN) == GIVEN);
	e.fd = pp[0];
	ring_submit(&r, &e, 1);
	EXPECT(ring_result(&r) == GIVEN && wrong(p, GIVEN, 12) == 0);
	lose(p, GIVEN);
	e.opcode = IORING_OP_WRITE_FIXED;
	e.fd = pp[1];
	ring_submit(&r, &e, 1);
	EXPECT(ring_result(&r) == GIVEN && wrong_in(pp[0], GIVEN, 12) == 0);
	return 0;
}

/*
 * Registers more than twice the memory: the call may fail, as under RLIMIT_MEMLOCK, but the memory
 * is intact afterwards.
 */
static int held_too_much(void)
{
	size_t len = 24 * MIB;
	char *p = map(len);
	struct iovec v = { p, len };
	struct ring r;

	if (!ring_open(&r)) {
		printf("no ring\n");
		return 0;
	}
	if (syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &v, 1) != 0)
		EXPECT(errno == ENOMEM);
	fill(p, len, 19);
	EXPECT(wrong(p, len, 19) == 0);
	(void)close(r.fd);
	use_other_memory();
	EXPECT(wrong(p, len, 19) == 0);
	return 0;
}

/* A read is under way when its buffer would be evicted: the pipe is filled afterwards. */
static int held_read(void)
{
	char *p = map(GIVEN), *q = map(GIVEN);
	struct io_uring_sqe e = {
		.opcode = IORING_OP_READ, .addr = (uintptr_t)p, .len = GIVEN, .off = (uint64_t)-1
	};
	struct ring r;
	int pp[2];

	if (!ring_open(&r)) {
		printf("no ring\n");
		return 0;
	}
	fill(p, GIVEN, 13);
	fill(q, GIVEN, 14);
	EXPECT(pipe(pp) == 0);
	e.fd = pp[0];
	ring_submit(&r, &e, 0);
	lose(p, GIVEN);
	EXPECT(write(pp[1], q, GIVEN) == GIVEN && ring_result(&r) == GIVEN &&
	    wrong(p, GIVEN, 14) == 0);
	return 0;
}

/* Files without the page cache, to and from memory that has left. */
static int held_direct(void)
{
	char name[] = "/var/tmp/quire-held-XXXXXX";
	char *p = map(MIB);
	int fd = mkstemp(name);

	EXPECT(fd >= 0 && unlink(name) == 0);
	if (fcntl(fd, F_SETFL, O_DIRECT) != 0) {
		printf("no direct files\n");
		return 0;
	}
	fill(p, MIB, 15);
	push_out();
	EXPECT(pwrite(fd, p, MIB, 0) == MIB);
	fill(p, MIB, 16);
	push_out();
	EXPECT(pread(fd, p, MIB, 0) == MIB);
	push_out();
	EXPECT(wrong(p, MIB, 15) == 0);
	return 0;
}

/*
 * The child's side: its first part is paged out at the first stop, and the words are right at each
 * stop.
 */
static void be_changed(char *p)
{
	EXPECT(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
	fill(p, GIVEN, 18);
	use_other_memory();
	while (p[GIVEN + 9] != 21 || p[2 * GIVEN + 9] != 22)
		(void)raise(SIGSTOP);
	use_other_memory();
	EXPECT(wrong(p, GIVEN, 20) == 0 && p[GIVEN + 9] == 21 && p[2 * GIVEN + 9] == 22);
	_exit(3);
}

/*
 * Accesses the child by ptrace and by /proc/PID/mem. The kernel returns EIO for a paged-out page:
 * the access is repeated after the child has touched the page.
 */
static void poke(pid_t pid, char *word, int fd, char *other)
{
	char byte = 22;

	errno = 0;
	long w = ptrace(PTRACE_PEEKDATA, pid, word + 8, NULL);
	if (errno == 0)
		(void)ptrace(PTRACE_POKEDATA, pid, word + 8, (void *)((w & ~0xff00l) | 21 << 8));
	(void)!pwrite(fd, &byte, 1, (off_t)(uintptr_t)(other + 9));
}

/* Another process reads and writes paged-out memory. */
static int held_others(void)
{
	char *p = map(3 * GIVEN), *q = map(GIVEN), name[64];
	int status;
	pid_t pid;

	fill(p, 3 * GIVEN, 17);
	if ((pid = fork()) == 0)
		be_changed(p);
	struct iovec here = { q, GIVEN }, there = { p, GIVEN };
	EXPECT(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	use_other_memory();
	EXPECT(process_vm_readv(pid, &here, 1, &there, 1, 0) == GIVEN && wrong(q, GIVEN, 18) == 0);
	fill(q, GIVEN, 20);
	use_other_memory();
	EXPECT(process_vm_writev(pid, &here, 1, &there, 1, 0) == GIVEN);
	snprintf(name, sizeof name, "/proc/%d/mem", (int)pid);
	int fd = open(name, O_RDWR);
	EXPECT(fd >= 0);
	while (WIFSTOPPED(status)) {
		poke(pid, p + GIVEN, fd, p + 2 * GIVEN);
		EXPECT(
		    ptrace(PTRACE_CONT, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid);
	}
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	EXPECT(wrong(p, 3 * GIVEN, 17) == 0);
	return 0;
}

static void *wake(void *arg)
{
	_Atomic uint32_t *word = arg;

	use_other_memory();
	*word = 1;
	while (syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) == 0 && *word == 1)
		use_other_memory(); /* until the other thread waits, or has seen it */
	return NULL;
}

/*
 * A word on which a thread waits is paged out and in: the kernel names it by its address, not by
 * its page.
 */
static int held_futex(void)
{
	_Atomic uint32_t *word = map(PAGE);
	pthread_t t;

	EXPECT(pthread_create(&t, NULL, wake, (void *)word) == 0);
	while (*word == 0)
		(void)syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
	*word = 2;
	EXPECT(pthread_join(t, NULL) == 0);
	return 0;
}

const struct scenario held_scenarios[] = {
	{ "held-pipe", held_pipe },
	{ "held-gift", held_gift },
	{ "held-splice", held_splice },
	{ "held-socket", held_socket },
	{ "held-send-zc", held_send_zc },
	{ "held-fixed", held_fixed },
	{ "held-too-much", held_too_much },
	{ "held-read", held_read },
	{ "held-direct", held_direct },
	{ "held-others", held_others },
	{ "held-futex", held_futex },
	{ NULL, NULL },
};
