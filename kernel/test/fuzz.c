/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random system calls with random arguments: `fuzz SEED CHILDREN CALLS [STEP]`. Whatever the calls
 * return, the kernel must keep running: run.py checks for a panic, for a hanging machine, and for
 * errors found by vm_check.
 *
 * Each child makes CALLS calls, drawn from its own seed, on files, pipes and memory that it has
 * just made. STEP prints each call before it is made. A child that makes no call for a while (it
 * waits for an event that never occurs) is killed. The first process makes no random calls, and no
 * call gets its number as an argument.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define AREA (64u * 4096)
#define AT_ONCE 4
#define NUMBERS 470
#define PATIENCE_MS 200
#define FDS 24

struct progress {
	volatile unsigned long calls;
};
static struct progress *shared; /* a slot for each child that runs now */
static uint8_t *area;           /* readable and writable; the page behind it is not mapped */
static uint64_t rng;
static int step;
static const char *const names[] = { "/tmp/fuzz/a", "/tmp/fuzz/b", "/tmp/fuzz/d", "/tmp/fuzz/d/c",
	"/dev/shm/f", "/dev/shm/g", "/tmp/fuzz/fifo", "/tmp/fuzz/link", "/proc/self/maps", "/proc",
	"/proc/self/fd", "/dev/null", "/tmp/fuzz/nothing/x", "", ".", "..", "/bin/hello",
	"/bin/sh" };

static uint64_t next(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	return rng ^= rng << 17;
}
static uint64_t below(uint64_t n) { return next() % n; }

/* Draws a number of the kinds that calls take: small, a flag, a power of two, near an end. */
static uint64_t number(void)
{
	static const uint64_t edges[] = { 0, 1, 2, 3, 4, 8, 16, 4095, 4096, 4097, 65536, AREA,
		~0ull, ~0ull - 4095, 1ull << 31, (1ull << 31) - 1, 1ull << 32, 1ull << 47,
		1ull << 63, (1ull << 63) - 1, 0xffffffff80000000ull, 0xffff800000000000ull };

	switch (below(6)) {
	case 0: return edges[below(sizeof(edges) / sizeof(edges[0]))];
	case 1: return 1ull << below(64);
	case 2: return below(64);
	case 3: return next() >> below(64);
	case 4: return 4096 * below(80);
	default: return below(8);
	}
}

/* Draws an address in the area, at its end, or outside all mappings. */
static uint64_t address(void)
{
	uint64_t base = (uint64_t)(uintptr_t)area;

	switch (below(8)) {
	case 0: return base + AREA - below(64);
	case 1: return number();
	case 2: return base + 4096 * below(AREA / 4096);
	case 3: return (uint64_t)(uintptr_t)names[below(sizeof(names) / sizeof(names[0]))];
	case 4: return 0;
	default: return base + 8 * below(AREA / 8);
	}
}

static uint64_t argument(void)
{
	switch (below(5)) {
	case 0:
	case 1: return address();
	case 2: return below(FDS);
	default: return number();
	}
}

/* Fills the area with words for calls that read through pointers. */
static void fill_area(void)
{
	uint64_t *w = (uint64_t *)(void *)area;

	for (unsigned i = 0; i < AREA / 8; i += 1 + (unsigned)below(3))
		w[i] = below(3) == 0 ? address() : number();
}

/*
 * May this child make the call? Calls that would end the child are rare; no argument may name the
 * first process or its memory.
 */
static int allowed(long nr, uint64_t *a)
{
	switch (nr) {
	case SYS_exit:
	case SYS_exit_group:
	case SYS_rt_sigreturn:
	case SYS_execve: return below(50) == 0;
	case SYS_sync: return below(8) == 0;
	case SYS_kill:
	case SYS_tkill:
		if ((int)a[0] >= -1 && (int)a[0] <= 1)
			a[0] = (uint64_t)getpid();
		return below(20) == 0;
	case SYS_tgkill: a[0] = (uint64_t)getpid(); return (int)a[1] > 1;
	case SYS_rt_sigqueueinfo:
	case SYS_process_vm_writev: return (int)a[0] > 1;
	default: return 1;
	}
}

static void one_call(struct progress *p)
{
	long nr = (long)below(NUMBERS), r;
	uint64_t a[6];

	for (unsigned i = 0; i < 6; i++)
		a[i] = argument();
	if (!allowed(nr, a))
		return;
	if (step)
		printf(
		    "call %ld %lx %lx %lx %lx %lx %lx\n", nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	p->calls++;
	if (nr == SYS_clone) { /* with memory of its own, or as a thread that fails at once */
		a[0] &= ~(uint64_t)0xff;
		a[0] |= SIGCHLD;
	}
	r = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
#ifdef SYS_fork
	if (r == 0 && (nr == SYS_fork || nr == SYS_vfork))
		_exit(0);
#endif
	if (r == 0 && nr == SYS_clone)
		syscall(SYS_exit, 0);
	if (step)
		printf(" = %ld\n", r);
}

static void *call_beside(void *arg)
{
	for (;;)
		one_call(arg);
	return NULL;
}

static void make_files(void)
{
	int fd[2], ep;
	struct epoll_event e = { .events = EPOLLIN };

	mkdir("/tmp/fuzz", 0755);
	mkdir("/tmp/fuzz/d", 0755);
	mkfifo("/tmp/fuzz/fifo", 0600);
	(void)!symlink("a", "/tmp/fuzz/link");
	for (unsigned i = 0; i < 6; i++) {
		int f = open(names[i], O_RDWR | O_CREAT, 0644);

		if (f >= 0)
			(void)!write(f, area, 10000);
	}
	(void)open("/tmp/fuzz/d", O_RDONLY | O_DIRECTORY);
	(void)!pipe(fd);
	(void)!pipe2(fd, O_NONBLOCK);
	(void)eventfd(1, EFD_NONBLOCK);
	ep = epoll_create1(0);
	(void)epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e);
	(void)!ftruncate(memfd_create("fuzz", 0), 20000);
	(void)open("/dev/zero", O_RDWR);
	(void)open("/proc/self/smaps", O_RDONLY);
	(void)open("/tmp/fuzz/fifo", O_RDWR | O_NONBLOCK);
}

static void come_back(int sig) { (void)sig; }

static void child(uint64_t seed, unsigned long calls, struct progress *p)
{
	static const struct itimerval often = { { 0, 30000 }, { 0, 30000 } };
	struct sigaction sa = { .sa_handler = come_back };
	struct rlimit lock = { 262144, 262144 }, space = { 64u << 20, 64u << 20 };
	int null = open("/dev/null", O_RDWR);
	pthread_t t;

	rng = seed * 0x9e3779b97f4a7c15ull + 1;
	setsid();
	sigaction(SIGALRM, &sa, NULL); /* a waiting call gets EINTR */
	setitimer(ITIMER_REAL, &often, NULL);
	setrlimit(RLIMIT_MEMLOCK, &lock);
	setrlimit(RLIMIT_AS, &space);
	for (int fd = 0; fd < 3; fd++)
		if (!step || fd == 0)
			dup2(null, fd);
	area = mmap(NULL, AREA + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(area + AREA, 4096);
	fill_area();
	make_files();
	if (!step &&
	    below(3) ==
		0) /* two threads share the space: the order of their calls differs from run to run */
		(void)pthread_create(&t, NULL, call_beside, p);
	while (p->calls < calls) {
		one_call(p);
		if (below(16) == 0)
			fill_area();
	}
	_exit(0);
}

static void forget_segments(void)
{
	for (int id = 0; id < 4096; id++)
		if (shmctl(id, IPC_RMID, NULL) == -1 && errno == EINVAL && id > 64)
			break;
}

/* ---- the first process ---- */
struct slot {
	pid_t pid; /* 0: no child */
	unsigned idle;
	unsigned long last;
};
static struct slot slots[AT_ONCE];
static unsigned begun, killed, died;
static unsigned long total;

/* Reaps ended children and their orphans. */
static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned i = 0; i < AT_ONCE; i++) {
			if (slots[i].pid != pid)
				continue;
			died += WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL;
			total += shared[i].calls;
			slots[i].pid = 0;
			forget_segments();
		}
	}
}

static void begin(unsigned i, uint64_t seed, unsigned long calls)
{
	pid_t pid;

	shared[i].calls = 0;
	if ((pid = fork()) == 0)
		child(seed + begun, calls, &shared[i]);
	if (pid < 0)
		return;
	slots[i] = (struct slot){ .pid = pid };
	begun++;
}

/* Kills a child that makes no more calls: it waits for an event that does not occur. */
static void look_at(unsigned i)
{
	slots[i].idle = shared[i].calls == slots[i].last ? slots[i].idle + 1 : 0;
	slots[i].last = shared[i].calls;
	if (slots[i].idle * 10 < PATIENCE_MS)
		return;
	kill(slots[i].pid, SIGKILL);
	killed++;
	slots[i].idle = 0;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	unsigned children = argc > 2 ? (unsigned)atoi(argv[2]) : 20, running = 1;
	unsigned long calls = argc > 3 ? (unsigned long)atol(argv[3]) : 300;

	step = argc > 4;
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	while (running > 0 || begun < children) {
		reap();
		running = 0;
		for (unsigned i = 0; i < (step ? 1 : AT_ONCE); i++) {
			if (slots[i].pid != 0)
				look_at(i);
			else if (begun < children)
				begin(i, seed, calls);
			running += slots[i].pid != 0;
		}
		usleep(10000);
	}
	printf("fuzz: %u children, %lu calls, %u died of a signal, %u killed\n", begun, total, died,
	    killed);
	return 0;
}
