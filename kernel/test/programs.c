/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the kernel's behaviour by a Linux program: built static against a C library, run in the
 * machine by run.py, and natively on Linux, where every result must be the same. `programs NAME...`
 * runs some; none: all. Prints "ok NAME" or "FAILED NAME line"; the status is the number of
 * failures.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "programs.h"

int failed_line;

static uint64_t rng = 88172645463325252ull;
static uint64_t next(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	return rng ^= rng << 17;
}

static uint8_t *map(size_t n, int prot, int flags)
{
	uint8_t *p = mmap(NULL, n, prot, flags | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* ---- signals of memory ---- */
static sigjmp_buf escape;
static siginfo_t caught;

static void on_signal(int sig, siginfo_t *si, void *ctx)
{
	(void)sig, (void)ctx;
	caught = *si;
	siglongjmp(escape, 1);
}

/* The signal that an access takes; 0: none. */
static int try(volatile uint8_t *p, int write)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	memset(&caught, 0, sizeof(caught));
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	if (sigsetjmp(escape, 1) == 0) {
		if (write)
			*p = 1;
		else
			(void)*p;
	}
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	return caught.si_signo;
}

static void signals_name_the_address(void)
{
	uint8_t *p = map(4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	CHECK(try(p, 1) == 0);
	mprotect(p + PG, PG, PROT_READ);
	CHECK(try(p + PG + 5, 0) == 0);
	CHECK(try(p + PG + 5, 1) == SIGSEGV && caught.si_code == SEGV_ACCERR &&
	    caught.si_addr == p + PG + 5);
	mprotect(p + PG, PG, PROT_NONE);
	CHECK(try(p + PG + 7, 0) == SIGSEGV && caught.si_code == SEGV_ACCERR);
	munmap(p + 2 * PG, PG);
	CHECK(try(p + 2 * PG + 9, 0) == SIGSEGV && caught.si_code == SEGV_MAPERR &&
	    caught.si_addr == p + 2 * PG + 9);
	CHECK(try(p + 3 * PG, 1) == 0);
	CHECK(try(NULL, 0) == SIGSEGV && caught.si_addr == NULL);
	CHECK(try((uint8_t *)0xffff800000000000, 0) == SIGSEGV);
	CHECK(try((uint8_t *)0xffffffff80100000, 0) == SIGSEGV);
	munmap(p, 4 * PG);
}

static void files_end_with_sigbus(void)
{
	int fd = open("/tmp/short", O_RDWR | O_CREAT | O_TRUNC, 0600);
	uint8_t *p;

	CHECK(write(fd, "hello", 5) == 5);
	p = mmap(NULL, 2 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(memcmp(p, "hello", 5) == 0 && p[5] == 0 && p[PG - 1] == 0);
	CHECK(try(p + PG, 0) == SIGBUS && caught.si_addr == p + PG);
	p[0] = 'J';
	char buf[8] = { 0 };
	CHECK(pread(fd, buf, 8, 0) == 5 &&
	    strcmp(buf, "Jello") == 0); /* the mapping and the file share one page */
	CHECK(pwrite(fd, "y", 1, 4) == 1 && p[4] == 'y');
	CHECK(ftruncate(fd, PG + 10) == 0 && try(p + PG, 0) == 0 && p[PG] == 0);
	CHECK(ftruncate(fd, 2) == 0 && try(p + PG, 0) == SIGBUS && p[2] == 0);
	munmap(p, 2 * PG);
	close(fd);
	unlink("/tmp/short");
}

/* ---- copies ---- */
static void fork_gives_each_its_own(void)
{
	uint8_t *p = map(64 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE),
		*s = map(PG, PROT_READ | PROT_WRITE, MAP_SHARED);
	int status;

	for (unsigned i = 0; i < 64; i++)
		p[i * PG] = (uint8_t)i;
	pid_t pid = fork();
	if (pid == 0) {
		int bad = 0;

		for (unsigned i = 0; i < 64; i += 2)
			p[i * PG] = (uint8_t)(100 + i);
		for (unsigned i = 0; i < 64; i++)
			bad += p[i * PG] != (uint8_t)(i % 2 == 0 ? 100 + i : i);
		s[0] = 77;
		_exit(bad != 0);
	}
	for (unsigned i = 1; i < 64; i += 2)
		p[i * PG] = (uint8_t)(200 - i);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0 && s[0] == 77);
	for (unsigned i = 0; i < 64; i++)
		CHECK(p[i * PG] == (uint8_t)(i % 2 == 0 ? i : 200 - i));
	munmap(p, 64 * PG);
	munmap(s, PG);
}

static void private_files_stay_as_they_are(void)
{
	int fd = open("/tmp/private", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char buf[4];

	CHECK(write(fd, "abcd", 4) == 4);
	uint8_t *p = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	p[1] = 'X';
	CHECK(
	    pread(fd, buf, 4, 0) == 4 && memcmp(buf, "abcd", 4) == 0 && memcmp(p, "aXcd", 4) == 0);
	munmap(p, PG);
	close(fd);
	unlink("/tmp/private");
}

static void memory_moves_and_grows(void)
{
	uint8_t *p = map(4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE), *q, *b;

	memset(p, 5, 4 * PG);
	q = mremap(p, 4 * PG, 200 * PG, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q[0] == 5 && q[4 * PG - 1] == 5 && q[4 * PG] == 0 &&
	    q[200 * PG - 1] == 0);
	munmap(q, 200 * PG);
	b = sbrk(0);
	CHECK(sbrk(100 * PG) == b);
	b[99 * PG] = 1;
	CHECK(sbrk(-100 * (long)PG) != (void *)-1);
	q = map(3 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	memset(q, 9, 3 * PG);
	madvise(q, PG, MADV_DONTNEED);
	CHECK(q[0] == 0 && q[PG] == 9);
	munmap(q, 3 * PG);
}

static int deep(int n)
{
	volatile char frame[2000];

	frame[0] = (char)n;
	return n == 0 ? 0 : deep(n - 1) + (frame[0] == (char)n);
}

static void the_stack_grows(void) { CHECK(deep(3000) == 3000); /* 6 MB */ }

/* ---- processes and threads ---- */
static void *adder(void *arg)
{
	static pthread_mutex_t mx = PTHREAD_MUTEX_INITIALIZER;

	for (int i = 0; i < 5000; i++) {
		pthread_mutex_lock(&mx);
		++*(volatile int *)arg;
		pthread_mutex_unlock(&mx);
	}
	return arg;
}

static void threads_share_and_lock(void)
{
	pthread_t t[4];
	int sum = 0;
	void *r;

	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&t[i], NULL, adder, &sum) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(t[i], &r) == 0 && r == &sum);
	CHECK(sum == 20000);
}

static void pipes_carry_everything(void)
{
	enum { N = 300000 };
	uint8_t *p = map(N, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int fd[2], status;
	long got = 0, bad = 0;

	CHECK(pipe(fd) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(fd[0]);
		for (int i = 0; i < N; i++)
			p[i] = (uint8_t)(i * 7 + i / 256);
		for (long at = 0; at < N;) {
			ssize_t n = write(fd[1], p + at, (size_t)(N - at < 10000 ? N - at : 10000));

			if (n <= 0)
				_exit(1);
			at += n;
		}
		_exit(0);
	}
	close(fd[1]);
	for (ssize_t n; (n = read(fd[0], p + got, (size_t)(N - got))) > 0; got += n)
		;
	for (long i = 0; i < got; i++)
		bad += p[i] != (uint8_t)(i * 7 + i / 256);
	CHECK(got == N && bad == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	close(fd[0]);
	signal(SIGPIPE, SIG_IGN);
	CHECK(pipe(fd) == 0 && close(fd[0]) == 0 && write(fd[1], "x", 1) == -1 && errno == EPIPE);
	close(fd[1]);
	munmap(p, N);
}

static volatile sig_atomic_t signals, on_alt;
static char altstack[16384];

static void count_signal(int sig)
{
	char here;

	(void)sig;
	signals++;
	on_alt = &here >= altstack && &here < altstack + sizeof(altstack);
}

static void signals_arrive(void)
{
	stack_t ss = { .ss_sp = altstack, .ss_size = sizeof(altstack) };
	struct sigaction sa = { .sa_handler = count_signal, .sa_flags = SA_ONSTACK | SA_RESTART };
	int fd[2], status;
	char c;

	signals = 0;
	sigaltstack(&ss, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	CHECK(signals == 1 && on_alt);
	CHECK(pipe(fd) == 0);
	pid_t pid = fork();
	/*
	 * The child's signal interrupts the parent's read, which continues (SA_RESTART). The child
	 * sleeps first, so that the parent most likely waits in its read; if the parent does not
	 * wait yet, the checks hold as well.
	 */
	if (pid == 0) {
		struct timespec t = { 0, 50000000 };

		nanosleep(&t, NULL);
		kill(getppid(), SIGUSR1);
		nanosleep(&t, NULL);
		_exit(write(fd[1], "y", 1) == 1 ? 3 : 4);
	}
	CHECK(read(fd[0], &c, 1) == 1 && c == 'y' && signals == 2);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 3);
	pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
	    WTERMSIG(status) == SIGKILL);
	sigset_t set, old;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	raise(SIGUSR1);
	CHECK(signals == 2);
	sigprocmask(SIG_SETMASK, &old, NULL);
	CHECK(signals == 3);
	close(fd[0]);
	close(fd[1]);
}

/* As many pieces as readv takes, one byte each, from the end to the beginning; one more is refused. */
static void read_in_pieces(pid_t pid, uint8_t *from)
{
	enum { MOST = 1024 };
	static struct iovec to[MOST + 1], of[MOST + 1];
	static uint8_t got[MOST];

	for (unsigned i = 0; i <= MOST; i++) {
		to[i] = (struct iovec){ &got[i % MOST], 1 };
		of[i] = (struct iovec){ &from[MOST - i], 1 };
	}
	CHECK(process_vm_readv(pid, to, MOST, of, MOST, 0) == MOST);
	for (unsigned i = 0; i < MOST; i++)
		CHECK(got[i] == (uint8_t)((MOST - i) * 11));
	CHECK(process_vm_readv(pid, to, MOST + 1, of, MOST, 0) == -1 && errno == EINVAL);
	CHECK(process_vm_readv(pid, to, MOST, of, MOST + 1, 0) == -1 && errno == EINVAL);
}

static void spaces_talk(void)
{
	uint8_t *p = map(3 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE),
		*got = map(3 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int fd[2], back[2], status;
	char c;

	CHECK(pipe(fd) == 0 && pipe(back) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		for (unsigned i = 0; i < 3 * PG; i++)
			p[i] = (uint8_t)(i * 11);
		c = 'r';
		(void)!write(fd[1], &c, 1);
		(void)!read(back[0], &c, 1);
		_exit(p[100] == 99 ? 0 : 1);
	}
	CHECK(read(fd[0], &c, 1) == 1);
	struct iovec l = { got, 3 * PG }, r = { p, 3 * PG };
	CHECK(process_vm_readv(pid, &l, 1, &r, 1, 0) == (ssize_t)(3 * PG));
	for (unsigned i = 0; i < 3 * PG; i++)
		CHECK(got[i] == (uint8_t)(i * 11));
	read_in_pieces(pid, p);
	got[0] = 99;
	l.iov_len = r.iov_len = 1;
	r.iov_base = p + 100;
	CHECK(process_vm_writev(pid, &l, 1, &r, 1, 0) == 1);
	(void)!write(back[1], &c, 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	munmap(p, 3 * PG);
	munmap(got, 3 * PG);
}

static void memfd_is_shared(void)
{
	int fd = memfd_create("quire", 0), status;
	uint8_t *p;

	CHECK(fd >= 0 && ftruncate(fd, 8 * PG) == 0);
	p = mmap(NULL, 8 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	pid_t pid = fork();
	if (pid == 0) {
		p[3 * PG] = 42;
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && p[3 * PG] == 42);
	uint8_t b = 0;
	CHECK(pread(fd, &b, 1, 3 * PG) == 1 && b == 42);
	munmap(p, 8 * PG);
	close(fd);
}

static void system_v_memory_is_shared(void)
{
	int id = shmget(IPC_PRIVATE, 5 * PG, IPC_CREAT | 0600), status;
	uint8_t *p = shmat(id, NULL, 0), *q;

	CHECK(id >= 0 && p != (void *)-1 && p[0] == 0);
	pid_t pid = fork();
	if (pid == 0) {
		p[4 * PG] = 33;
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && p[4 * PG] == 33);
	q = shmat(id, NULL, SHM_RDONLY);
	CHECK(q != (void *)-1 && q[4 * PG] == 33 && try(q, 1) == SIGSEGV &&
	    caught.si_code == SEGV_ACCERR);
	struct shmid_ds ds;
	CHECK(shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_segsz == 5 * PG);
	CHECK(shmdt(q) == 0 && shmdt(p + PG) == -1 && shmdt(p) == 0 && try(p, 0) == SIGSEGV);
	p = shmat(id, NULL, 0);
	CHECK(p[4 * PG] == 33); /* the memory keeps its contents while no process has it mapped */
	CHECK(shmctl(id, IPC_RMID, NULL) == 0 && shmdt(p) == 0 && shmat(id, NULL, 0) == (void *)-1);
}

static void events_are_waited_for(void)
{
	int ep = epoll_create1(0), fd[2], ev = eventfd(0, EFD_NONBLOCK);
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 7 }, got[4];
	uint64_t v = 3;

	CHECK(ep >= 0 && pipe(fd) == 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e) == 0);
	e.data.u64 = 8;
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e) == 0 && epoll_wait(ep, got, 4, 10) == 0);
	CHECK(write(fd[1], "x", 1) == 1 && epoll_wait(ep, got, 4, -1) == 1 &&
	    got[0].data.u64 == 7 && got[0].events == EPOLLIN);
	CHECK(write(ev, &v, 8) == 8 && epoll_wait(ep, got, 4, -1) == 2);
	CHECK(read(ev, &v, 8) == 8 && v == 3 && read(ev, &v, 8) == -1 && errno == EAGAIN);
	CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, fd[0], NULL) == 0 && epoll_wait(ep, got, 4, 0) == 0);
	close(ep), close(fd[0]), close(fd[1]), close(ev);
}

static void directories_and_names(void)
{
	char buf[300], path[64];
	struct stat a, b;
	struct dirent *d;
	unsigned n = 0;
	DIR *dir;

	CHECK(mkdir("/tmp/dir", 0755) == 0 && mkdir("/tmp/dir", 0755) == -1 && errno == EEXIST);
	for (int i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), "/tmp/dir/file-with-a-long-name-%d", i);
		int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
		CHECK(fd >= 0 && write(fd, path, strlen(path)) == (ssize_t)strlen(path) &&
		    close(fd) == 0);
	}
	CHECK((dir = opendir("/tmp/dir")) != NULL);
	while (dir != NULL && (d = readdir(dir)) != NULL)
		n++;
	closedir(dir);
	CHECK(n == 302 && rmdir("/tmp/dir") == -1 && errno == ENOTEMPTY);
	CHECK(link("/tmp/dir/file-with-a-long-name-5", "/tmp/dir/l") == 0 &&
	    stat("/tmp/dir/l", &a) == 0 && a.st_nlink == 2);
	CHECK(
	    symlink("l", "/tmp/dir/s") == 0 && stat("/tmp/dir/s", &b) == 0 && b.st_ino == a.st_ino);
	CHECK(readlink("/tmp/dir/s", buf, sizeof(buf)) == 1 && lstat("/tmp/dir/s", &b) == 0 &&
	    S_ISLNK(b.st_mode));
	CHECK(rename("/tmp/dir/l", "/tmp/dir/file-with-a-long-name-6") == 0 &&
	    stat("/tmp/dir/file-with-a-long-name-6", &b) == 0 && b.st_ino == a.st_ino);
	int fd = open("/tmp/dir/file-with-a-long-name-7", O_RDWR);
	CHECK(unlink("/tmp/dir/file-with-a-long-name-7") == 0 && pread(fd, buf, 5, 0) == 5 &&
	    memcmp(buf, "/tmp/", 5) == 0);
	close(fd);
	fd = open("/tmp/dir/holes", O_RDWR | O_CREAT, 0600);
	CHECK(pwrite(fd, "end", 3, 9 * MIB) == 3 && pread(fd, buf, 4, 5 * MIB) == 4 &&
	    memcmp(buf, "\0\0\0", 4) == 0);
	CHECK(pread(fd, buf, 10, 9 * MIB) == 3 && memcmp(buf, "end", 3) == 0 && fsync(fd) == 0 &&
	    close(fd) == 0);
	unlink("/tmp/dir/holes");
	unlink("/tmp/dir/s");
	for (int i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), "/tmp/dir/file-with-a-long-name-%d", i);
		CHECK(unlink(path) == 0 || i == 7);
	}
	CHECK(rmdir("/tmp/dir") == 0 && stat("/tmp/dir", &a) == -1 && errno == ENOENT);
}

/* Each of these calls once made the kernel access an address that the program had passed. */
static void odd_arguments_are_refused(void)
{
	CHECK(mknod("/tmp/odd", S_IFLNK | 0777, 0x1234) == -1 && errno == EINVAL);
	CHECK(mknod("/tmp/odd", S_IFDIR | 0777, 0) == -1 && errno == EPERM);
	CHECK(mknod("/tmp/odd", 0050000 | 0777, 0) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_fcntl, 0xfffff00000000001ul, F_SETFD, 0) ==
	    0); /* a descriptor has 32 bits */
}

/* The inode of such a removed directory once stayed on the disk without a name. */
static void a_mount_point_keeps_its_name(void)
{
	CHECK(rmdir("/proc") == -1 && errno == EBUSY);
	CHECK(unlink("/proc") == -1 && errno == EISDIR);
	CHECK(rename("/proc", "/tmp/proc") == -1 && errno == EBUSY);
	CHECK(rename("/proc", "/proc") == 0);
	CHECK(mkdir("/tmp/over", 0755) == 0);
	CHECK(rename("/tmp/over", "/proc") == -1 && errno == EBUSY);
	CHECK(rmdir("/tmp/over") == 0 && access("/proc/self/maps", R_OK) == 0);
}

/*
 * from: another file of that file system. A file that was added to such a directory once could not
 * be reached, and stayed on the disk.
 */
static void give_names_to_a_removed_directory(const char *dir, const char *from)
{
	int kept = open(from, O_RDWR | O_CREAT, 0644), fd = -1;

	CHECK(kept >= 0 && mkdir(dir, 0755) == 0 && (fd = open(dir, O_RDONLY | O_DIRECTORY)) >= 0);
	CHECK(rmdir(dir) == 0);
	CHECK(openat(fd, "x", O_RDWR | O_CREAT, 0644) == -1 && errno == ENOENT);
	CHECK(mkdirat(fd, "x", 0755) == -1 && errno == ENOENT);
	CHECK(symlinkat("y", fd, "x") == -1 && errno == ENOENT);
	CHECK(linkat(AT_FDCWD, from, fd, "x", 0) == -1 && errno == ENOENT);
	CHECK(renameat(AT_FDCWD, from, fd, "x") == -1 && errno == ENOENT);
	close(fd);
	CHECK(unlink(from) == 0);
	close(kept);
}

static void a_removed_directory_takes_no_names(void)
{
	give_names_to_a_removed_directory("/tmp/gone", "/tmp/kept");
	give_names_to_a_removed_directory("/dev/shm/gone", "/dev/shm/kept");
}

/* ---- more memory than the machine has ---- */
static void what_cannot_be_kept_is_refused(void)
{
	size_t total = 0;
	unsigned n = 0;
	uint8_t *p[4096];

	while (n < 4096 && (p[n] = map(16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE)) != NULL) {
		total += 16 * MIB;
		n++;
	}
	CHECK(n < 4096 && errno == ENOMEM && total >= 32 * MIB);
	while (n > 0)
		munmap(p[--n], 16 * MIB);
}

/*
 * Compares memory byte by byte with a model: a word for each page determines its contents. Forks
 * now and then; each child checks all pages.
 */
static void random_writes_and_forks(void)
{
	enum { PAGES = 12288, STEPS = 60000 }; /* 48 MiB */
	uint8_t *p = map(PAGES * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	uint32_t *want = calloc(PAGES, sizeof(*want));
	int status;

	CHECK(p != NULL && want != NULL);
	if (p == NULL || want == NULL)
		return;
	for (unsigned step = 1; step <= STEPS; step++) {
		unsigned i = (unsigned)(next() % PAGES);
		uint32_t *at = (uint32_t *)(void *)(p + i * PG);

		CHECK(at[0] == want[i] && at[1023] == want[i]);
		at[0] = at[1023] = want[i] = step;
		if (step % 20000 != 0)
			continue;
		pid_t pid = fork();
		if (pid == 0) {
			unsigned bad = 0;

			for (unsigned k = 0; k < PAGES; k++)
				bad += *(uint32_t *)(void *)(p + k * PG) != want[k];
			for (unsigned k = 0; k < PAGES; k += 3)
				*(uint32_t *)(void *)(p + k * PG) = ~want[k];
			for (unsigned k = 0; k < PAGES; k++)
				bad += *(uint32_t *)(void *)(p + k * PG) !=
				    (k % 3 == 0 ? ~want[k] : want[k]);
			_exit(bad != 0);
		}
		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	}
	for (unsigned k = 0; k < PAGES; k++)
		CHECK(*(uint32_t *)(void *)(p + k * PG) == want[k]);
	free(want);
	munmap(p, PAGES * PG);
}

/*
 * A thread reads a few pages again and again while another one needs more memory than there is: the
 * first thread's pages are evicted while it reads, and its CPU must flush their translations in
 * time.
 */
enum { HOT = 32, COLD = 10240, ROUNDS = 3 };
static uint8_t *hot;
static volatile int hot_stop;
static volatile unsigned long hot_reads, hot_wrong;

static void *read_hot(void *arg)
{
	unsigned long reads = 0, wrong = 0;

	while (!hot_stop) {
		for (unsigned i = 0; i < HOT; i++) {
			volatile uint64_t *at = (volatile uint64_t *)(void *)(hot + i * PG);

			wrong +=
			    at[0] != 0x1234500000000000 + i || at[511] != 0x5432100000000000 + i;
			reads++;
		}
		hot_wrong = wrong;
	}
	hot_reads = reads;
	return arg;
}

static void a_hot_thread_reads_right(void)
{
	uint8_t *cold = map(COLD * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	pthread_t t;

	hot = map(HOT * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	for (unsigned i = 0; i < HOT; i++) {
		((uint64_t *)(void *)(hot + i * PG))[0] = 0x1234500000000000 + i;
		((uint64_t *)(void *)(hot + i * PG))[511] = 0x5432100000000000 + i;
	}
	hot_stop = 0;
	hot_wrong = 0;
	CHECK(pthread_create(&t, NULL, read_hot, NULL) == 0);
	for (unsigned r = 1; r <= ROUNDS && hot_wrong == 0; r++) {
		/* each page that is evicted costs a shootdown, which may take long in an emulator */
		for (unsigned i = 0; i < COLD; i++)
			cold[i * PG] = (uint8_t)r;
		printf("hot thread: round %u\n", r);
		fflush(stdout);
	}
	hot_stop = 1;
	pthread_join(t, NULL);
	printf("hot thread: %lu wrong of %lu reads\n", hot_wrong, hot_reads);
	CHECK(hot_wrong == 0 && hot_reads > 0);
	munmap(cold, COLD * PG);
	munmap(hot, HOT * PG);
}

/*
 * A thread reads one page and makes no call, so that its CPU keeps the translation. Another thread
 * puts another page there and tells the reader, which must see that page. Shown even if the frame
 * of the old page is used again: the new page had a frame of its own before.
 */
enum { CHANGES = 100 };
static struct {
	volatile uint64_t *page;
	volatile uint64_t turn, answered, read;
} spin;

static void *read_changes(void *arg)
{
	for (uint64_t turn = 1; turn <= CHANGES; turn++) {
		while (spin.turn < turn)
			(void)spin.page[0];
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		spin.read = spin.page[0];
		__atomic_store_n(&spin.answered, turn, __ATOMIC_SEQ_CST);
	}
	return arg;
}

static void a_spinning_thread_sees_pages_change(void)
{
	unsigned wrong = 0;
	pthread_t t;

	memset(&spin, 0, sizeof spin);
	spin.page = (uint64_t *)(void *)map(PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	CHECK(pthread_create(&t, NULL, read_changes, NULL) == 0);
	for (uint64_t turn = 1; turn <= CHANGES; turn++) {
		uint64_t *next = (uint64_t *)(void *)map(PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
		void *there = (void *)(uintptr_t)spin.page;

		next[0] = turn;
		CHECK(mremap(next, PG, PG, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
		__atomic_store_n(&spin.turn, turn, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&spin.answered, __ATOMIC_SEQ_CST) < turn)
			sched_yield();
		wrong += spin.read != turn;
	}
	pthread_join(t, NULL);
	printf("spinning thread: %u wrong of %u changes\n", wrong, (unsigned)CHANGES);
	CHECK(wrong == 0);
	munmap((void *)(uintptr_t)spin.page, PG);
}

static const struct test tests[] = {
	T(signals_name_the_address, 1),
	T(files_end_with_sigbus, 1),
	T(fork_gives_each_its_own, 1),
	T(private_files_stay_as_they_are, 1),
	T(memory_moves_and_grows, 1),
	T(the_stack_grows, 1),
	T(threads_share_and_lock, 1),
	T(pipes_carry_everything, 1),
	T(signals_arrive, 1),
	T(spaces_talk, 1),
	T(memfd_is_shared, 1),
	T(system_v_memory_is_shared, 1),
	T(events_are_waited_for, 1),
	T(directories_and_names, 1),
	T(odd_arguments_are_refused, 1),
	T(a_mount_point_keeps_its_name, 0),
	T(a_removed_directory_takes_no_names, 1),
	T(a_hot_thread_reads_right, 1),
	T(a_spinning_thread_sees_pages_change, 1),
	T(what_cannot_be_kept_is_refused, 0),
	T(random_writes_and_forks, 1),
	{ NULL, NULL, 0 },
};

static int run_tests(const struct test *t, int argc, char **argv)
{
	int failed = 0, native = getenv("NATIVE") != NULL;

	for (; t->name != NULL; t++) {
		int wanted = argc < 2;

		for (int k = 1; k < argc; k++)
			wanted |= strcmp(argv[k], t->name) == 0;
		if (!wanted || (native && !t->native))
			continue;
		failed_line = 0;
		t->fn();
		if (failed_line != 0)
			printf("FAILED %s line %d\n", t->name, failed_line);
		else
			printf("ok %s\n", t->name);
		fflush(stdout);
		failed += failed_line != 0;
	}
	return failed;
}

int main(int argc, char **argv)
{
	return run_tests(tests, argc, argv) + run_tests(proc_tests, argc, argv) +
	    run_tests(pipe_tests, argc, argv) + run_tests(call_tests, argc, argv) +
	    run_tests(race_tests, argc, argv) + run_tests(event_tests, argc, argv) +
	    run_tests(file_tests, argc, argv) + run_tests(socket_tests, argc, argv) +
	    run_tests(inet_tests, argc, argv) + run_tests(edge_tests, argc, argv) +
	    run_tests(sem_tests, argc, argv) + run_tests(cpu_tests, argc, argv) +
	    run_tests(avx_tests, argc, argv) + run_tests(message_tests, argc, argv) +
	    run_tests(notify_tests, argc, argv) + run_tests(errno_tests, argc, argv) +
	    run_tests(cred_tests, argc, argv) +
	    (argc > 1 ? run_tests(stress_tests, argc, argv) + run_tests(deny_tests, argc, argv) +
			run_tests(inner_tests, argc, argv) +
			run_tests(race_inner_tests, argc, argv) +
			run_tests(cred_inner_tests, argc, argv) +
			run_tests(cpu_inner_tests, argc, argv)
		      : 0);
}
