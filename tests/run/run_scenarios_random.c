/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random calls on one piece of the address space: the result of each call, and every page of the
 * piece afterwards (its bytes, or the signal of a read), must be as natively. random-calls has the
 * calls that change memory, random-io in addition those that read and write memory for the program,
 * in a piece that also has mappings of a file.
 *
 * QUIRE_SEED in the environment is added to the seeds.
 *
 * Left out: mremap of several mappings, for which results differ between kernels, and MADV_FREE and
 * MADV_COLLAPSE, whose outcome is the kernel's choice; in random-io also memory that is mapped for
 * writing alone, which the kernel does not read for a program and Quire maps readable (quire(1)).
 */
#include "tests/run/run_scenarios.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES 48u
static char *const space = (char *)0x200000000000; /* where no other mapping is near */

static uint64_t state;
static unsigned draw(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state % n);
}

static sigjmp_buf back;
static void caught(int sig, siginfo_t *si, void *context)
{
	(void)context;
	siglongjmp(back, sig * 100 + si->si_code);
}

/* The byte at p; or a number from 1000 on: the signal and its code. */
static int look(const char *p)
{
	int c = sigsetjmp(back, 1);

	return c != 0 ? 1000 + c : *(const volatile unsigned char *)p;
}

static int put(char *p, unsigned v)
{
	int c = sigsetjmp(back, 1);

	if (c != 0)
		return 1000 + c;
	*(volatile char *)p = (char)v;
	return 0;
}

static uint64_t mix(uint64_t h, uint64_t v) { return (h ^ v) * 1099511628211u; }

static uint64_t look_at_all(uint64_t h)
{
	for (unsigned i = 0; i < PAGES; i++)
		h = mix(
		    h, (uint64_t)(look(space + i * PAGE) * 4096 + look(space + i * PAGE + 2000)));
	return h;
}

static long in_a_child(void)
{
	int status;
	pid_t pid;

	(void)fflush(stdout);
	if ((pid = fork()) == 0) {
		uint64_t h = look_at_all(1);

		for (unsigned i = 0; i < PAGES; i += 3)
			(void)put(space + i * PAGE, 77);
		_exit((int)((h ^ h >> 32 ^ h >> 16 ^ h >> 8) & 127));
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static const int prots[] = { 0, 1, 2, 3, 3, 3, 1, 3, 5, 7 };
static bool not_for_writing_alone;
static int draw_prot(void)
{
	int prot = prots[draw(10)];

	return prot == PROT_WRITE && not_for_writing_alone ? PROT_READ | PROT_WRITE : prot;
}

static const int advices[] = { 0, 1, 2, 3, 4, 4, 4, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
	21, 22, 23, 24, 102, 103, 12345 };

static long map_some(char *p, size_t len)
{
	int prot = draw_prot(), flags = MAP_ANONYMOUS | (draw(6) == 0 ? MAP_SHARED : MAP_PRIVATE);

	flags |= draw(3) == 0 ? MAP_NORESERVE : 0;
	flags |= draw(5) == 0 ? MAP_POPULATE : 0;
	flags |= draw(12) == 0 ? MAP_LOCKED : 0;
	flags |= draw(4) == 0 ? MAP_FIXED_NOREPLACE : MAP_FIXED;
	return (long)mmap(p, len, prot, flags, -1, 0);
}

static long one_call(unsigned op, char *p, size_t len, unsigned k)
{
	unsigned char vec[PAGES];

	switch (op) {
	case 0:
	case 1: return map_some(p, len);
	case 2: return munmap(p, len);
	case 3:
	case 4:
	case 5:
	case 6: return mprotect(p, len, draw_prot());
	case 7:
	case 8:
	case 9: return madvise(p, len, advices[draw(sizeof advices / sizeof *advices)]);
	case 10:
		return (long)mremap(
		    p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, space + draw(PAGES) * PAGE);
	case 11: return mlock(p, len);
	case 12: return munlock(p, len);
	case 13: push_out(); return 0;
	case 14: return in_a_child();
	case 15: return mincore(p, len, vec);
	case 16: return msync(p, len, MS_ASYNC);
	default: break;
	}
	long faults = 0;
	for (size_t at = 0; at < len; at += PAGE) {
		faults = faults * 3 + put(p + at, k + (unsigned)(at / PAGE));
		faults = faults * 3 + put(p + at + 2000, k * 5);
	}
	return faults;
}

/* ---- reading and writing ---- */
static int file, pipe_end[2], sock[2];
enum { OTHER = 64u << 10 };
static char *other; /* OTHER bytes that no random call changes the mapping of */

/* The result of a call and its errno, with what has been read. */
static long outcome(uint64_t h, long r)
{
	return (long)mix(mix(h, (uint64_t)r), r == -1 ? (uint64_t)errno : 0);
}

static void *place(void) { return space + draw(PAGES) * PAGE; }

static void set_blocking(int fd, bool blocks) { (void)fcntl(fd, F_SETFL, blocks ? 0 : O_NONBLOCK); }

/* What the pipe or socket holds, or 0. errno stays. */
static uint64_t drain(int fd)
{
	int was = errno;
	uint64_t h = 0;
	ssize_t n;

	set_blocking(fd, false);
	while ((n = read(fd, other, OTHER)) > 0)
		for (ssize_t i = 0; i < n; i += 97)
			h = mix(h, (unsigned char)other[i]);
	set_blocking(fd, true);
	errno = was;
	return h;
}

static long write_then_read(char *p, size_t len)
{
	long r = write(pipe_end[1], p + draw(2) * 50, len);

	return outcome(drain(pipe_end[0]), r);
}

static long read_into(char *p, size_t len, unsigned k)
{
	long r;

	memset(other, (int)k, len);
	EXPECT(write(pipe_end[1], other, len) == (ssize_t)len);
	r = read(pipe_end[0], p + draw(2) * 50, len);
	(void)drain(pipe_end[0]);
	return r;
}

/* The pages are the pipe's, too, while the program has other memory at their addresses. */
static long give(char *p, size_t len)
{
	struct iovec v = { p, len };
	long r;

	set_blocking(pipe_end[1], false);
	r = vmsplice(pipe_end[1], &v, 1, draw(2) ? SPLICE_F_GIFT : 0);
	set_blocking(pipe_end[1], true);
	int was = errno;
	switch (draw(4)) {
	case 0: EXPECT(munmap(p, len) == 0); break;
	case 1: (void)madvise(p, len, MADV_DONTNEED); break;
	case 2: push_out(); break;
	default: break;
	}
	errno = was;
	return outcome(drain(pipe_end[0]), r);
}

static long by_process(char *p, size_t len)
{
	struct iovec local[3] = { { p, len }, { place(), 300 }, { other, 500 } },
		     remote[2] = { { place(), 5000 }, { other + 1000, 20000 } };

	return draw(2) ? process_vm_writev(getpid(), local, 3, remote + 1, 1, 0)
		       : process_vm_readv(getpid(), local, 3, remote, 2, 0);
}

static long by_file(char *p, size_t len)
{
	struct iovec v[3] = { { p, len }, { (char *)place() + 100, 200 }, { place(), PAGE } };
	off_t at = (off_t)draw(PAGES) * 512;

	return draw(2) ? pwritev(file, v, 3, at) : preadv(file, v, 3, at);
}

static long by_socket(char *p, size_t len)
{
	struct iovec from[2] = { { p, len }, { place(), 1000 } },
		     to[2] = { { (char *)place() + 8, 2000 }, { other, OTHER } };
	struct msghdr out = { .msg_iov = from, .msg_iovlen = 2 },
		      in = { .msg_iov = to, .msg_iovlen = 2 };
	long r = sendmsg(sock[0], &out, MSG_DONTWAIT),
	     got = r > 0 ? recvmsg(sock[1], &in, MSG_DONTWAIT) : 0;

	return outcome((uint64_t)outcome(drain(sock[1]), r), got);
}

static long by_kernel(char *p)
{
	switch (draw(6)) {
	case 0: return syscall(SYS_futex, p, FUTEX_WAIT, 0x12345678, NULL, NULL, 0);
	case 1: return syscall(SYS_futex, p, FUTEX_WAKE, 1, NULL, NULL, 0);
	case 2: return syscall(SYS_futex, p, FUTEX_CMP_REQUEUE, 1, 1L, place(), 0x1234567);
	case 3: return syscall(SYS_clock_getres, CLOCK_MONOTONIC, p + draw(2) * (PAGE - 8));
	case 4: return syscall(SYS_rt_sigprocmask, 0, NULL, p + draw(PAGE - 4), 8);
	default: return syscall(SYS_uname, p);
	}
}

static bool is_writable(char *p, size_t len)
{
	for (size_t at = 0; at < len; at += PAGE)
		if (put(p + at, (unsigned)look(p + at)) != 0)
			return false;
	return true;
}

static volatile sig_atomic_t seen_by_handler;
static void use_stack(int sig)
{
	volatile char b[3000];

	for (unsigned i = 0; i < sizeof b; i++)
		b[i] = (char)(i + (unsigned)sig);
	push_out();
	seen_by_handler = b[2000];
}

/* A handler runs on a stack that has left memory. */
static long on_other_stack(char *p)
{
	stack_t st = { .ss_sp = p, .ss_size = 8 * PAGE }, old;

	if (p + 8 * PAGE > space + PAGES * PAGE || !is_writable(p, 8 * PAGE) ||
	    sigaltstack(&st, &old) != 0)
		return -2;
	push_out();
	EXPECT(raise(SIGUSR1) == 0 && sigaltstack(&old, NULL) == 0);
	memset(p, 0, 8 * PAGE);
	return seen_by_handler;
}

static long map_of_file(char *p, size_t len)
{
	static const int readable[] = { 0, 1, 3, 3, 3, 5, 7 };
	int flags =
	    MAP_FIXED | (draw(2) ? MAP_SHARED : MAP_PRIVATE) | (draw(5) == 0 ? MAP_POPULATE : 0);

	return (long)mmap(p, len, readable[draw(7)], flags, file, (off_t)(draw(PAGES) * PAGE));
}

static long one_of_io(unsigned op, char *p, size_t len, unsigned k)
{
	size_t some = len > 8 * PAGE ? 8 * PAGE : len;

	switch (op) {
	case 0:
	case 1: return map_of_file(p, len);
	case 2:
	case 3: return write_then_read(p, some);
	case 4:
	case 5: return read_into(p, some, k);
	case 6:
	case 7: return give(p, some);
	case 8:
	case 9: return by_process(p, some);
	case 10: return by_file(p, some);
	case 11: return by_socket(p, some / 2);
	case 12: return by_kernel(p);
	case 13: return on_other_stack(p);
	case 14:
		return fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)draw(PAGES) * PAGE, (off_t)len);
	default: return one_call(draw(19), p, len, k);
	}
}

static void open_all(void)
{
	struct sigaction sa = { .sa_handler = use_stack, .sa_flags = SA_ONSTACK };

	other = map(OTHER);
	file = memfd_create("random-io", 0);
	EXPECT(file >= 0 && ftruncate(file, PAGES * PAGE) == 0);
	for (unsigned i = 0; i < PAGES; i++)
		EXPECT(pwrite(file, &i, sizeof i, (off_t)i * PAGE) == sizeof i);
	EXPECT(pipe(pipe_end) == 0 && fcntl(pipe_end[1], F_SETPIPE_SZ, 1 << 20) > 0);
	EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock) == 0);
	EXPECT(sigaction(SIGUSR1, &sa, NULL) == 0);
}

static void close_all(void)
{
	const int fds[] = { file, pipe_end[0], pipe_end[1], sock[0], sock[1] };

	for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++)
		EXPECT(close(fds[i]) == 0);
	EXPECT(munmap(other, OTHER) == 0);
}

/* ---- runs ---- */
static void run_seed(unsigned seed, bool io)
{
	const char *more = getenv("QUIRE_SEED");
	uint64_t h = 14695981039346656037u;

	state = (seed + (more != NULL ? strtoul(more, NULL, 10) : 0)) * 0x9e3779b97f4a7c15u;
	for (unsigned k = 0; k < 60; k++) {
		unsigned a = draw(PAGES), n = 1 + draw(draw(3) != 0 ? 6 : PAGES);
		long r;

		n = a + n > PAGES ? PAGES - a : n;
		errno = 0;
		r = io ? one_of_io(draw(30), space + a * PAGE, n * PAGE, k)
		       : one_call(draw(19), space + a * PAGE, n * PAGE, k);
		h = look_at_all(mix(mix(h, (uint64_t)r), r == -1 ? (uint64_t)errno : 0));
		if (k % 10 == 9)
			printf("seed %u, %u calls: %lx\n", seed, k + 1, h);
	}
	EXPECT(munmap(space, PAGES * PAGE) == 0);
}

static int random_calls(void)
{
	struct sigaction sa = { .sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_NODEFER };

	EXPECT(sigaction(SIGSEGV, &sa, NULL) == 0 && sigaction(SIGBUS, &sa, NULL) == 0);
	/* the first ones, and one that met a mark lost with its guarded page */
	static const unsigned seeds[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 83 };

	for (unsigned i = 0; i < sizeof seeds / sizeof *seeds; i++)
		run_seed(seeds[i], false);
	return 0;
}

static int random_io(void)
{
	struct sigaction sa = { .sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_NODEFER };

	EXPECT(sigaction(SIGSEGV, &sa, NULL) == 0 && sigaction(SIGBUS, &sa, NULL) == 0);
	not_for_writing_alone = true;
	for (unsigned seed = 1; seed <= 6; seed++) {
		open_all();
		run_seed(seed, true);
		close_all();
	}
	return 0;
}

const struct scenario random_scenarios[] = {
	{ "random-calls", random_calls },
	{ "random-io", random_io },
	{ NULL, NULL },
};
