/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scenarios of memory calls (mmap, munmap, mremap, brk, fork): each must return the kernel's result
 * and leave the same contents. run_scenarios.h tells how they are run.
 */
#include "tests/run/run_scenarios.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static bool zero(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static int heap(void)
{
	enum { N = 4000 };
	static char *p[N];
	static size_t len[N];

	for (size_t i = 0; i < N; i++) {
		len[i] = (i * 7919 % 61 + 1) * 64;
		p[i] = malloc(len[i]);
		fill(p[i], len[i], i);
	}
	for (size_t i = 0; i < N; i += 3) {
		len[i] *= 3;
		p[i] = realloc(p[i], len[i]);
		EXPECT(wrong(p[i], len[i] / 3, i) == 0);
		fill(p[i], len[i], i);
	}
	for (size_t i = 1; i < N; i += 3) {
		free(p[i]);
		p[i] = NULL;
	}
	for (size_t i = 0; i < N; i++)
		EXPECT(p[i] == NULL || wrong(p[i], len[i], i) == 0);
	char *big = calloc(1, 3 * MIB);
	EXPECT(zero(big, 3 * MIB));
	free(big);
	return 0;
}

static int remap(void)
{
	char *p = map(MIB), *q, *r;

	fill(p, MIB, 1);
	push_out();
	q = mremap(p, MIB, 3 * MIB, MREMAP_MAYMOVE); /* grow */
	EXPECT(q != MAP_FAILED && wrong(q, MIB, 1) == 0 && zero(q + MIB, 2 * MIB));
	fill(q, 3 * MIB, 2);
	q = mremap(q, 3 * MIB, MIB, 0); /* shrink */
	EXPECT(wrong(q, MIB, 2) == 0);
	r = map(4 * MIB);
	fill(r, 4 * MIB, 3);
	push_out();
	EXPECT(mremap(q, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, r + MIB) ==
	    r + MIB); /* onto other memory */
	EXPECT(wrong(r + MIB, MIB, 2) == 0 && wrong(r, MIB, 3) == 0);
	EXPECT(
	    mremap(r + MIB, MIB, 2 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, r + MIB) == MAP_FAILED &&
	    errno == EINVAL);
	EXPECT(mremap(r + 1, MIB, MIB, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
	EXPECT(mremap(r, MIB, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
	/* several segments at once, refused: no contents may be lost */
	EXPECT(mremap(r, 3 * MIB, 2 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, r + MIB) == MAP_FAILED &&
	    errno == EINVAL);
	EXPECT(wrong(r, MIB, 3) == 0 && wrong(r + MIB, MIB, 2) == 0);
	/* part of a mapping, in place and away */
	q = mremap(r + MIB, MIB / 2, 2 * MIB, MREMAP_MAYMOVE);
	EXPECT(q != MAP_FAILED && wrong(q, MIB / 2, 2) == 0 && zero(q + MIB / 2, MIB));
	EXPECT(mremap(q, 2 * MIB, 2 * MIB, 0) == q);
	/* a hole before: grown in place only if it fits */
	r = map(8 * PAGE);
	fill(r, 8 * PAGE, 4);
	EXPECT(mremap(r, 4 * PAGE, 6 * PAGE, 0) == MAP_FAILED && errno == ENOMEM);
	EXPECT(munmap(r + 4 * PAGE, 4 * PAGE) == 0);
	EXPECT(wrong(r, 4 * PAGE, 4) == 0);
	/* this C library passes an address that was not given: hence syscall() */
	q = (char *)syscall(
	    SYS_mremap, r, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
	EXPECT(q != MAP_FAILED && wrong(q, 4 * PAGE, 4) == 0 && zero(r, 4 * PAGE));
	return 0;
}

static int advise(void)
{
	char *p = map(2 * MIB);

	fill(p, 2 * MIB, 1);
	push_out();
	EXPECT(madvise(p + MIB, MIB, MADV_DONTNEED) == 0);
	EXPECT(wrong(p, MIB, 1) == 0 && zero(p + MIB, MIB));
	fill(p + MIB, MIB, 2);
	EXPECT(madvise(p, MIB, MADV_HUGEPAGE) == 0 && madvise(p, MIB, MADV_NOHUGEPAGE) == 0);
	EXPECT(madvise(p, 2 * MIB, MADV_SEQUENTIAL) == 0 && madvise(p, 2 * MIB, MADV_RANDOM) == 0);
	EXPECT(madvise(p, 2 * MIB, MADV_WILLNEED) == 0 && madvise(p, 2 * MIB, MADV_NORMAL) == 0);
	EXPECT(madvise(p, 2 * MIB, MADV_COLD) == 0 && madvise(p, 2 * MIB, MADV_PAGEOUT) == 0);
	EXPECT(madvise(p, 2 * MIB, MADV_DONTDUMP) == 0 && madvise(p, 2 * MIB, MADV_DODUMP) == 0);
	EXPECT(wrong(p, MIB, 1) == 0 && wrong(p + MIB, MIB, 2) == 0);
	EXPECT(madvise(p, 2 * MIB, MADV_POPULATE_WRITE) == 0 &&
	    madvise(p, 2 * MIB, MADV_POPULATE_READ) == 0);
	EXPECT(wrong(p, MIB, 1) == 0 && wrong(p + MIB, MIB, 2) == 0);
	EXPECT(madvise(p + 1, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
	EXPECT(madvise(p, PAGE, 12345) == -1 && errno == EINVAL);
	EXPECT(madvise(p, 0, MADV_DONTNEED) == 0);
	EXPECT(madvise(p, MIB, MADV_FREE) == 0);
	fill(p, MIB, 3);
	EXPECT(wrong(p, MIB, 3) == 0);
	munmap(p + PAGE, PAGE);
	EXPECT(madvise(p, 3 * PAGE, MADV_DONTNEED) == -1 &&
	    errno == ENOMEM); /* but the rest is done */
	EXPECT(zero(p, PAGE) && zero(p + 2 * PAGE, PAGE));
	return 0;
}

static int advise_fork(void)
{
	char *p = map(4 * PAGE);
	int status;

	fill(p, 2 * PAGE, 1);
	fill(p + 2 * PAGE, 2 * PAGE, 2);
	EXPECT(madvise(p, PAGE, MADV_WIPEONFORK) == 0);
	EXPECT(madvise(p + PAGE, PAGE, MADV_DONTFORK) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		EXPECT(zero(p, PAGE) && wrong(p + 2 * PAGE, 2 * PAGE, 2) == 0);
		fflush(stdout);
		_exit(write(-1, p + PAGE, 1) == -1 && errno == EBADF ? 3 : 4);
	}
	EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
	EXPECT(wrong(p, 2 * PAGE, 1) == 0 && wrong(p + 2 * PAGE, 2 * PAGE, 2) == 0);
	return 0;
}

static bool there(void *p)
{
	unsigned char v;

	return mincore(p, PAGE, &v) == 0;
}

/*
 * V8 gives this advice for all its memory, which was once not hosted for that reason. A child gets
 * none of the memory, and the parent loses none.
 */
static int not_forked(void)
{
	char *p = map(8 * MIB), *q;
	int status;

	EXPECT(madvise(p, 8 * MIB, MADV_DONTFORK) == 0);
	for (size_t i = 0; i < 8; i++)
		fill(p + i * MIB, MIB, i);
	push_out();
	EXPECT(madvise(p + 2 * MIB, MIB, MADV_DOFORK) == 0);
	EXPECT(munmap(p + 3 * MIB, MIB) == 0);
	EXPECT(mmap(p + 3 * MIB, MIB, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 3 * MIB);
	fill(p + 3 * MIB, MIB, 33);
	EXPECT(mprotect(p + 4 * MIB, MIB, PROT_READ) == 0 &&
	    mprotect(p + 5 * MIB, MIB, PROT_NONE) == 0);
	q = mremap(p + 6 * MIB, MIB, 2 * MIB, MREMAP_MAYMOVE);
	EXPECT(q != MAP_FAILED && q != p + 6 * MIB);
	for (int round = 0; round < 2; round++) {
		pid_t pid = fork();

		if (pid == 0) {
			for (size_t i = 0; i < 8; i++)
				printf("%zu: %d\n", i, there(p + i * MIB));
			EXPECT(!there(q) && !there(q + 2 * MIB - PAGE));
			EXPECT(wrong(p + 2 * MIB, MIB, 2) == 0 && wrong(p + 3 * MIB, MIB, 33) == 0);
			fill(map(MIB), MIB, 9);
			fflush(stdout);
			_exit(3);
		}
		EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
		    WEXITSTATUS(status) == 3);
		EXPECT(mprotect(p + 5 * MIB, MIB, PROT_READ | PROT_WRITE) == 0);
		for (size_t i = 0; i < 6; i++)
			EXPECT(wrong(p + i * MIB, MIB, i == 3 ? 33 : i) == 0);
		EXPECT(wrong(q, MIB, 6) == 0 && wrong(p + 7 * MIB, MIB, 7) == 0);
		push_out();
	}
	return 0;
}

static long faults_fd;
static void *serve_faults(void *unused)
{
	struct uffd_msg m;

	while (read((int)faults_fd, &m, sizeof m) == (ssize_t)sizeof m &&
	    m.event == UFFD_EVENT_PAGEFAULT) {
		_Alignas(PAGE) static char page[PAGE];
		uint64_t at = m.arg.pagefault.address & ~(uint64_t)(PAGE - 1);
		struct uffdio_copy c = { .dst = at, .src = (uint64_t)(uintptr_t)page, .len = PAGE };

		memset(page, (int)(at / PAGE % 251), PAGE);
		EXPECT(ioctl((int)faults_fd, UFFDIO_COPY, &c) == 0);
	}
	return unused;
}

static size_t not_served(const char *p, size_t len)
{
	size_t bad = 0;

	for (size_t i = 0; i < len; i += PAGE / 2)
		bad += (unsigned char)p[i] != (uintptr_t)(p + i) / PAGE % 251;
	return bad;
}

/*
 * The program has its own userfaultfd: the range was once refused to it, or the process could no
 * longer be managed.
 */
static int own_faults(void)
{
	char *early = map(2 * MIB), *late;
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)early, MIB },
		.mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_range gone = { (uintptr_t)early, MIB };
	pthread_t t;

	faults_fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (faults_fd < 0 || ioctl((int)faults_fd, UFFDIO_API, &api) != 0) {
		printf("no userfaultfd\n");
		return 0;
	}
	fill(early + MIB, MIB, 1);
	EXPECT(ioctl((int)faults_fd, UFFDIO_REGISTER, &reg) == 0);
	EXPECT(pthread_create(&t, NULL, serve_faults, NULL) == 0);
	EXPECT(not_served(early, MIB / 2) == 0);
	push_out(); /* a hosted process is managed from here on */
	EXPECT(not_served(early, MIB) == 0 && wrong(early + MIB, MIB, 1) == 0);
	late = map(MIB);
	EXPECT(mprotect(late, PAGE, PROT_NONE) == 0);
	late[PAGE] = 7;
	reg.range.start = (uintptr_t)late;
	/* so the page was not noticed */
	EXPECT(syscall(SYS_ioctl, faults_fd, UFFDIO_REGISTER, &reg) == 0);
	EXPECT(syscall(SYS_ioctl, faults_fd, UFFDIO_API, NULL) == -1 && errno == EFAULT);
	EXPECT(mprotect(late, PAGE, PROT_READ | PROT_WRITE) == 0);
	EXPECT(late[PAGE] == 7 && late[PAGE + 1] == 0);
	EXPECT(not_served(late, PAGE) == 0 && not_served(late + 2 * PAGE, MIB - 2 * PAGE) == 0);
	EXPECT(ioctl((int)faults_fd, UFFDIO_UNREGISTER, &gone) == 0);
	EXPECT(madvise(early, MIB, MADV_DONTNEED) == 0 && zero(early, MIB));
	reg.range.start = 1;
	EXPECT(ioctl((int)faults_fd, UFFDIO_REGISTER, &reg) == -1 && errno == EINVAL);
	EXPECT(ioctl((int)faults_fd, UFFDIO_REGISTER, NULL) == -1 && errno == EFAULT);
	return 0;
}

static int protect(void)
{
	char *p = map(4 * MIB), *copy = map(MIB);

	fill(p, 4 * MIB, 1);
	memcpy(copy, p + MIB, MIB);
	push_out();
	EXPECT(mprotect(p, MIB, PROT_NONE) == 0);
	EXPECT(mprotect(p + MIB, MIB, PROT_READ) == 0);
	EXPECT(memcmp(p + MIB, copy, MIB) == 0);
	push_out();
	EXPECT(mprotect(p, 2 * MIB, PROT_READ | PROT_WRITE) == 0);
	EXPECT(wrong(p, 4 * MIB, 1) == 0);
	EXPECT(mprotect(p, PAGE, PROT_READ | PROT_EXEC) == 0);
	memset(p + PAGE, 0, PAGE);
	EXPECT(mprotect(p, 4 * MIB, PROT_READ | PROT_WRITE) == 0);
	EXPECT(zero(p + PAGE, PAGE) && wrong(p, PAGE, 1) == 0);
	EXPECT(mprotect(p + 1, PAGE, PROT_READ) == -1 && errno == EINVAL);
	EXPECT(munmap(p + MIB, MIB) == 0);
	EXPECT(mprotect(p, 4 * MIB, PROT_NONE) == -1 && errno == ENOMEM);
	EXPECT(mprotect(p, MIB, PROT_READ | PROT_WRITE) == 0 && wrong(p, PAGE, 1) == 0);
	/* reserved first, used piece by piece: what malloc's arenas and language runtimes do */
	char *r =
	    mmap(NULL, 64 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	EXPECT(r != MAP_FAILED);
	for (size_t i = 0; i < 16; i++) {
		EXPECT(mprotect(r + i * 4 * MIB, MIB / 4, PROT_READ | PROT_WRITE) == 0);
		fill(r + i * 4 * MIB, MIB / 4, i);
	}
	for (size_t i = 0; i < 16; i++)
		EXPECT(wrong(r + i * 4 * MIB, MIB / 4, i) == 0);
	return 0;
}

static int unmap(void)
{
	char *p = map(3 * MIB);

	fill(p, MIB, 1);
	fill(p + 2 * MIB, MIB, 2);
	EXPECT(munmap(p + MIB, MIB) == 0);
	push_out();
	EXPECT(wrong(p, MIB, 1) == 0 && wrong(p + 2 * MIB, MIB, 2) == 0);
	EXPECT(munmap(p + MIB, MIB) == 0); /* no mapping there: no error */
	EXPECT(munmap(p + 1, PAGE) == -1 && errno == EINVAL);
	EXPECT(munmap(p, 0) == -1 && errno == EINVAL);
	EXPECT(msync(p, 3 * MIB, MS_ASYNC) == -1 && errno == ENOMEM);
	EXPECT(munmap(p + PAGE, 3 * MIB - 2 * PAGE) == 0);
	EXPECT(wrong(p, PAGE, 1) == 0);
	EXPECT(munmap(p, 3 * MIB) == 0);
	EXPECT(write(-1, p, 1) == -1);
	return 0;
}

static int fixed(void)
{
	char *p = map(4 * MIB);
	int fd = open(self, O_RDONLY);

	fill(p, 4 * MIB, 1);
	push_out();
	EXPECT(mmap(p + MIB, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == p + MIB);
	EXPECT(zero(p + MIB, MIB) && wrong(p, MIB, 1) == 0);
	EXPECT(mmap(p, 4 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		   0) == MAP_FAILED &&
	    errno == EEXIST);
	EXPECT(wrong(p, MIB, 1) == 0);
	EXPECT(mmap(p + 2 * MIB, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == p + 2 * MIB);
	EXPECT(memcmp(p + 2 * MIB, "\177ELF", 4) == 0 && wrong(p, MIB, 1) == 0);
	EXPECT(mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, 9999, 0) == MAP_FAILED &&
	    errno == EBADF);
	EXPECT(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
	    errno == EINVAL);
	EXPECT(mmap(p + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		MAP_FAILED &&
	    errno == EINVAL);
	EXPECT(mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
	EXPECT(mmap(NULL, -(size_t)PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
		MAP_FAILED &&
	    errno == ENOMEM);
	return 0;
}

/* The kernel checks before it unmaps: after an error everything is as it was. */
static int fixed_error(void)
{
	char *p = map(MIB);

	fill(p, MIB, 1);
	EXPECT(mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, 9999, 0) == MAP_FAILED &&
	    errno == EBADF);
	EXPECT(wrong(p, MIB, 1) == 0);
	return 0;
}

static int kinds(void)
{
	int fd = open("/dev/zero", O_RDWR), null = open("/dev/null", O_WRONLY);
	char *z = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char *s = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *g = mmap(NULL, MIB, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_STACK, -1, 0);
	char *m = mmap(NULL, MIB, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_32BIT, -1, 0);
	char *x =
	    mmap(NULL, MIB, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *ro = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *sparse = mmap(NULL, 1ul << 40, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	EXPECT(mremap(s, 0, MIB, MREMAP_MAYMOVE) != MAP_FAILED &&
	    mremap(m, 0, MIB, MREMAP_MAYMOVE) == MAP_FAILED);
	EXPECT(z != MAP_FAILED && s != MAP_FAILED && g != MAP_FAILED && m != MAP_FAILED &&
	    x != MAP_FAILED && ro != MAP_FAILED);
	EXPECT((uintptr_t)m < 1ul << 32);
	EXPECT(zero(ro, MIB) && write(null, ro, MIB) == MIB);
	char *const all[] = { z, s, g, m, x };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		fill(all[i], MIB, i);
	EXPECT(sparse != MAP_FAILED);
	for (size_t i = 0; i < 64; i++)
		sparse[i << 34] = (char)(i + 1);
	push_out();
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		EXPECT(wrong(all[i], MIB, i) == 0);
	for (size_t i = 0; i < 64; i++)
		EXPECT(sparse[i << 34] == (char)(i + 1));
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 }; /* mov $42,%eax; ret */
	memcpy(x, code, sizeof code);
	int (*f)(void);
	memcpy(&f, &x, sizeof f);
	printf("%d\n", f());
	EXPECT(mprotect(ro, MIB, PROT_READ | PROT_WRITE) == 0);
	fill(ro, MIB, 9);
	EXPECT(wrong(ro, MIB, 9) == 0);
	return 0;
}

static int brk_moves(void)
{
	char *start = sbrk(0), *top;

	EXPECT(sbrk(2 * MIB) == start);
	fill((char *)(((uintptr_t)start + 4095) & ~4095ul), MIB, 1);
	push_out();
	EXPECT(wrong((char *)(((uintptr_t)start + 4095) & ~4095ul), MIB, 1) == 0);
	EXPECT(sbrk(-(intptr_t)MIB) == start + 2 * MIB && sbrk(0) == start + MIB);
	EXPECT(sbrk(MIB) == start + MIB);
	EXPECT(zero((char *)(((uintptr_t)start + MIB + 4095) & ~4095ul),
	    MIB / 2)); /* the memory was given back, so it reads as zeroes */
	top = sbrk(0);
	EXPECT(sbrk(10) == top && sbrk(10) == top + 10 && sbrk(-20) == top + 20);
	EXPECT(brk(start) == 0 && sbrk(0) == start);
	EXPECT(brk((void *)1) == -1 || sbrk(0) == start);
	EXPECT(sbrk((intptr_t)1 << 46) == (void *)-1 && errno == ENOMEM && sbrk(0) == start);
	return 0;
}

static int limits(void)
{
	char *p = map(MIB);
	struct rlimit rl = { 8ul << 30, 8ul << 30 };

	fill(p, MIB, 1);
	EXPECT(setrlimit(RLIMIT_AS, &rl) == 0);
	EXPECT(mmap(NULL, 9ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		   0) == MAP_FAILED &&
	    errno == ENOMEM);
	EXPECT(malloc(9ul << 30) == NULL);
	push_out();
	char *q = map(2 * MIB);
	fill(q, 2 * MIB, 2);
	EXPECT(wrong(p, MIB, 1) == 0 && wrong(q, 2 * MIB, 2) == 0);
	rl.rlim_cur = MIB;
	EXPECT(setrlimit(RLIMIT_DATA, &rl) == 0);
	EXPECT(mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
		MAP_FAILED &&
	    errno == ENOMEM);
	EXPECT(wrong(p, MIB, 1) == 0);
	return 0;
}

static int raw(void)
{
	char *p = (char *)syscall(SYS_mmap, NULL, 4 * MIB, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	     *q;

	EXPECT(p != MAP_FAILED);
	fill(p, 4 * MIB, 1);
	push_out();
	EXPECT(wrong(p, 4 * MIB, 1) == 0);
	EXPECT(syscall(SYS_munmap, p + MIB, MIB) == 0);
	EXPECT(mmap(p + MIB, MIB, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == p + MIB);
	EXPECT(zero(p + MIB, MIB));
	fill(p + 3 * MIB, MIB, 6);
	q = (char *)syscall(SYS_mremap, p, MIB, 2 * MIB, MREMAP_MAYMOVE);
	EXPECT(wrong(q, MIB, 1) == 0 && zero(q + MIB, MIB));
	EXPECT(syscall(SYS_madvise, q, MIB, MADV_DONTNEED) == 0 && zero(q, MIB));
	EXPECT(syscall(SYS_mprotect, q, MIB, PROT_NONE) == 0 &&
	    syscall(SYS_mprotect, q, MIB, PROT_READ | PROT_WRITE) == 0);
	EXPECT(syscall(SYS_mmap, NULL, 0, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 &&
	    errno == EINVAL);
	EXPECT(syscall(SYS_getpid) == getpid());
	EXPECT(syscall(SYS_close, -1) == -1 && errno == EBADF);
	EXPECT(syscall(100000, 1, 2, 3, 4, 5, 6) == -1 && errno == ENOSYS);
	long now = syscall(SYS_brk, 0);
	EXPECT(syscall(SYS_brk, now + MIB) == now + MIB);
	memset((void *)now, 7, MIB);
	EXPECT(syscall(SYS_brk, now) == now);
	pid_t pid = (pid_t)syscall(SYS_fork);
	if (pid == 0) {
		fill(q, 2 * MIB, 5);
		_exit(wrong(q, 2 * MIB, 5) == 0 ? 7 : 8);
	}
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(wrong(p + 3 * MIB, MIB, 6) == 0 ? 9 : 10);
	EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 9);
	EXPECT(zero(q, MIB));
	return 0;
}

static char *temporary(void)
{
	static char name[64];

	(void)snprintf(name, sizeof name, "/tmp/quire-scenario-XXXXXX");
	return name;
}

/* Buffers that are not in memory, given to calls of every sort. */
static int io(void)
{
	char *name = temporary(), *buf = map(MIB), *other = map(MIB);
	int fd = mkstemp(name), sv[2], pipes[2];
	struct iovec v[2] = { { other + 100, 300000 }, { other + 400000, 500000 } };
	struct stat *st = map(PAGE);
	struct msghdr *mh = map(PAGE);
	char *volatile nowhere = NULL;

	(void)unlink(name);
	fill(buf, MIB, 1);
	push_out();
	EXPECT(write(fd, buf, MIB) == MIB);
	push_out();
	EXPECT(pread(fd, other, MIB, 0) == MIB && wrong(other, MIB, 1) == 0);
	memset(other, 0, MIB);
	push_out();
	EXPECT(preadv(fd, v, 2, 0) == 800000);
	EXPECT(memcmp(other + 100, buf, 300000) == 0 &&
	    memcmp(other + 400000, buf + 300000, 500000) == 0);
	EXPECT(pwritev(fd, v, 2, MIB) == 800000);
	push_out();
	EXPECT(fstat(fd, st) == 0 && st->st_size == MIB + 800000);
	EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv) == 0 && pipe(pipes) == 0);
	v[0] = (struct iovec){ buf, 50000 };
	*mh = (struct msghdr){ .msg_iov = v, .msg_iovlen = 1 };
	push_out();
	EXPECT(sendmsg(sv[0], mh, 0) == 50000);
	v[0].iov_base = other + 7;
	push_out();
	EXPECT(recvmsg(sv[1], mh, 0) == 50000 && memcmp(other + 7, buf, 50000) == 0);
	push_out();
	EXPECT(write(pipes[1], buf, 60000) == 60000);
	push_out();
	EXPECT(read(pipes[0], other, 60000) == 60000 && memcmp(other, buf, 60000) == 0);
	push_out();
	EXPECT(getcwd(other, MIB) == other && other[0] == '/');
	push_out();
	EXPECT(open(strcpy(other + 5000, "/nonexistent/name"), O_RDONLY) == -1 && errno == ENOENT);
	push_out();
	EXPECT(getrandom(other, MIB, 0) >= 0 && wrong(buf, MIB, 1) == 0);
	EXPECT(pread(fd, nowhere, 10, 0) == -1 && errno == EFAULT);
	return 0;
}
static int process_vm(void)
{
	char *a = map(MIB), *b = map(MIB);
	struct iovec l = { b, MIB }, r = { a, MIB };

	fill(a, MIB, 1);
	push_out();
	EXPECT(process_vm_readv(getpid(), &l, 1, &r, 1, 0) == MIB && wrong(b, MIB, 1) == 0);
	fill(a, MIB, 2);
	push_out();
	EXPECT(process_vm_writev(getpid(), &r, 1, &l, 1, 0) == MIB && wrong(b, MIB, 2) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		char *c = map(MIB);
		r.iov_base = b;
		l.iov_base = c;
		EXPECT(
		    process_vm_readv(getppid(), &l, 1, &r, 1, 0) == MIB && wrong(c, MIB, 2) == 0);
		fflush(stdout);
		_exit(5);
	}
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5);
	return 0;
}

/* The kernel holds many pages at once, some of them while others must be evicted. */
static int direct_io(void)
{
	size_t len = 12 * MIB;
	char *a = map(len);
	int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno == EINVAL || errno == EOPNOTSUPP
		    ? 0
		    : 1; /* a file system without direct I/O */
	fill(a, len, 1);
	push_out();
	EXPECT(pwrite(fd, a, len, 0) == (ssize_t)len);
	fill(a, len, 2);
	for (unsigned i = 0; i < 3; i++) {
		push_out();
		EXPECT(pread(fd, a, len, 0) == (ssize_t)len && wrong(a, len, 1) == 0);
		fill(a, len, 2);
	}
	return close(fd);
}

static char *map_shared(size_t len)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/*
 * Behaviour of shared anonymous memory that differs from private memory: alone, and with children.
 */
static int shared(void)
{
	char *a = map_shared(2 * MIB), *b = map_shared(8 * PAGE), *c = map_shared(8 * PAGE), *d;
	int status;

	fill(a, 2 * MIB, 1);
	for (size_t i = 0; i < 4; i++)
		fill(b + i * PAGE, PAGE, 2);
	push_out();
	EXPECT(madvise(a, MIB, MADV_DONTNEED) == 0);
	EXPECT(madvise(a, MIB, MADV_FREE) == -1 && errno == EINVAL);
	EXPECT(wrong(a, 2 * MIB, 1) == 0);
	EXPECT(
	    mprotect(b, 2 * PAGE, PROT_NONE) == 0 && mprotect(b + 2 * PAGE, PAGE, PROT_READ) == 0);
	push_out();
	a = mremap(a, 2 * MIB, MIB, MREMAP_MAYMOVE);
	fill(c, 8 * PAGE, 3);
	d = mremap(c, 0, 8 * PAGE, MREMAP_MAYMOVE); /* a second view */
	EXPECT(d != MAP_FAILED && d != c && wrong(d, 8 * PAGE, 3) == 0);
	fill(d, PAGE, 4);
	EXPECT(wrong(c, PAGE, 4) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		bool good = wrong(a, MIB, 1) == 0 && wrong(b + 2 * PAGE, PAGE, 2) == 0;

		fill(a, MIB, 5);
		good &= mprotect(b, 8 * PAGE, PROT_READ | PROT_WRITE) == 0 &&
		    wrong(b, PAGE, 2) == 0 && wrong(b + 3 * PAGE, PAGE, 2) == 0;
		fill(b + PAGE, 7 * PAGE, 6);
		fill(d, 8 * PAGE, 7);
		_exit(good ? 3 : 4);
	}
	push_out();
	EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
	EXPECT(wrong(a, MIB, 5) == 0 && wrong(c, 8 * PAGE, 7) == 0);
	EXPECT(mprotect(b, 8 * PAGE, PROT_READ | PROT_WRITE) == 0);
	EXPECT(wrong(b, PAGE, 2) == 0 && wrong(b + PAGE, 7 * PAGE, 6) == 0);
	char *e = map_shared(MIB); /* after the fork: for the next child */
	fill(e, MIB, 8);
	push_out();
	pid = fork();
	if (pid == 0) {
		bool good = wrong(e, MIB, 8) == 0 && wrong(a, MIB, 5) == 0;

		fill(e, MIB, 9);
		_exit(good ? 5 : 6);
	}
	EXPECT(
	    waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5 && wrong(e, MIB, 9) == 0);
	EXPECT(madvise(e, MIB, MADV_REMOVE) == 0 && e[0] == 0 && e[MIB - 1] == 0);
	char *f = map_shared(MIB);
	fill(f + MIB / 2, MIB / 2, 10);
	EXPECT(madvise(f, MIB / 2, MADV_REMOVE) == 0 && f[0] == 0 &&
	    wrong(f + MIB / 2, MIB / 2, 10) == 0);
	EXPECT(munmap(a, MIB) == 0 && munmap(e, MIB) == 0 && munmap(b, 8 * PAGE) == 0 &&
	    munmap(f, MIB) == 0);
	return 0;
}

/* Threads write continuously while other threads fork: no write is lost. */
static _Atomic int forked;
static void *count_up(void *arg)
{
	volatile uint64_t *p = arg;

	while (atomic_load(&forked) == 0)
		for (size_t i = 0; i < MIB / sizeof *p; i += PAGE / sizeof *p / 2)
			p[i]++;
	return NULL;
}

static int shared_while_writing(void)
{
	enum { ROUNDS = 5 };
	uint64_t *p[ROUNDS];
	uint64_t sum = 0;

	for (unsigned r = 0; r < ROUNDS; r++) {
		pthread_t t;

		p[r] = (uint64_t *)(void *)map_shared(MIB);
		fill((char *)p[r], 16, 1);
		uint64_t first = p[r][0];
		atomic_store(&forked, 0);
		if (pthread_create(&t, NULL, count_up, p[r]) != 0)
			return 1;
		while (((volatile uint64_t *)p[r])[0] < first + 50)
			;
		pid_t pid = fork();
		if (pid == 0) {
			uint64_t was = ((volatile uint64_t *)p[r])[0];

			while (((volatile uint64_t *)p[r])[0] <
			    was + 5) /* the parent's thread continues */
				;
			_exit(7);
		}
		int status;
		EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
		atomic_store(&forked, 1);
		pthread_join(t, NULL);
		p[r][0] -= first;
		for (size_t i = 0; i < MIB / sizeof sum;
		     i += PAGE / sizeof sum / 2) /* each got every increment */
			sum += p[r][i] == p[r][0] ? 0 : 1;
	}
	EXPECT(sum == 0);
	return 0;
}

static int resident(void)
{
	char *p = map(64 * PAGE);
	unsigned char vec[64];

	fill(p, 64 * PAGE, 1);
	EXPECT(mincore(p, 64 * PAGE, vec) == 0);
	EXPECT(mincore(p + 1, PAGE, vec) == -1 && errno == EINVAL);
	EXPECT(mlock(p, 16 * PAGE) == 0);
	push_out();
	EXPECT(mincore(p, 16 * PAGE, vec) == 0);
	for (unsigned i = 0; i < 16; i++)
		EXPECT((vec[i] & 1) != 0);
	EXPECT(wrong(p, 64 * PAGE, 1) == 0);
	EXPECT(munlock(p, 16 * PAGE) == 0);
	push_out();
	EXPECT(wrong(p, 64 * PAGE, 1) == 0);
	EXPECT(munmap(p + PAGE, PAGE) == 0);
	EXPECT(mincore(p, 4 * PAGE, vec) == -1 && errno == ENOMEM);
	EXPECT(mlock(p, 4 * PAGE) == -1 && errno == ENOMEM);
	EXPECT(mlock2(p, PAGE, 12345) == -1 && errno == EINVAL);
	char *q = map(16 * PAGE); /* one half each */
	EXPECT(mlock2(q, 16 * PAGE, MLOCK_ONFAULT) == 0);
	fill(q, 16 * PAGE, 2);
	EXPECT(munmap(q, 16 * PAGE) == 0); /* still locked */
	return 0;
}

/* The kernel keeps the pages of memory that is only read: its answer holds for them. */
static int read_only_resident(void)
{
	unsigned char vec[4];
	char *p, *q;

	push_out();
	p = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	q = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(p != MAP_FAILED && q != MAP_FAILED);
	EXPECT(mincore(p, 4 * PAGE, vec) == 0);
	for (unsigned i = 0; i < 4; i++)
		EXPECT((vec[i] & 1) != 0);
	EXPECT(((volatile char *)q)[PAGE] == 0);
	EXPECT(mincore(q, 4 * PAGE, vec) == 0);
	EXPECT((vec[0] & 1) == 0 && (vec[1] & 1) != 0);
	EXPECT(munmap(p, 4 * PAGE) == 0 && munmap(q, 4 * PAGE) == 0);
	return 0;
}

static int maps(void)
{
	char *p = map(16 * PAGE), line[512];
	FILE *f;

	EXPECT(mprotect(p + 4 * PAGE, 4 * PAGE, PROT_NONE) == 0);
	fill(p, PAGE, 1);
	push_out();
	for (size_t i = 0; i < 16; i += 4) {
		f = fopen("/proc/self/maps", "r");
		while (fgets(line, sizeof line, f) != NULL) {
			uintptr_t lo, hi;
			char prot[8];

			if (sscanf(line, "%lx-%lx %7s", &lo, &hi, prot) == 3 &&
			    lo <= (uintptr_t)p + i * PAGE && hi > (uintptr_t)p + i * PAGE)
				printf("%zu %s\n", i, prot);
		}
		fclose(f);
	}
	return 0;
}

static char big[6 * MIB], initialised[2 * MIB] = { 1, 2, 3 };
static int statics(void)
{
	EXPECT(zero(big, sizeof big) && initialised[2] == 3);
	fill(big, sizeof big, 1);
	fill(initialised, sizeof initialised, 2);
	push_out();
	EXPECT(wrong(big, sizeof big, 1) == 0 && wrong(initialised, sizeof initialised, 2) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		EXPECT(wrong(big, sizeof big, 1) == 0);
		fill(big, sizeof big, 3);
		EXPECT(wrong(big, sizeof big, 3) == 0 &&
		    wrong(initialised, sizeof initialised, 2) == 0);
		exit(4);
	}
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 4);
	EXPECT(wrong(big, sizeof big, 1) == 0);
	return 0;
}

/* Many ranges: one protected page in three. */
static int ranges(void)
{
	char *p = map(3000 * PAGE);

	for (size_t i = 0; i < 3000; i++)
		*(size_t *)(void *)(p + i * PAGE) = i;
	for (size_t i = 0; i < 3000; i += 3)
		EXPECT(mprotect(p + i * PAGE, PAGE, PROT_NONE) == 0);
	for (size_t i = 1; i < 3000; i += 3)
		EXPECT(munmap(p + i * PAGE, PAGE) == 0);
	push_out();
	for (size_t i = 2; i < 3000; i += 3)
		EXPECT(*(size_t *)(void *)(p + i * PAGE) == i);
	for (size_t i = 0; i < 3000; i += 3) {
		EXPECT(mprotect(p + i * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
		EXPECT(*(size_t *)(void *)(p + i * PAGE) == i);
	}
	return 0;
}

const struct scenario memory_scenarios[] = {
	{ "heap", heap },
	{ "mremap", remap },
	{ "madvise", advise },
	{ "madvise-fork", advise_fork },
	{ "not-forked", not_forked },
	{ "own-faults", own_faults },
	{ "mprotect", protect },
	{ "munmap", unmap },
	{ "map-fixed", fixed },
	{ "map-fixed-error", fixed_error },
	{ "map-kinds", kinds },
	{ "brk", brk_moves },
	{ "rlimit", limits },
	{ "raw-syscall", raw },
	{ "io", io },
	{ "process-vm", process_vm },
	{ "direct-io", direct_io },
	{ "shared", shared },
	{ "shared-while-writing", shared_while_writing },
	{ "mincore-mlock", resident },
	{ "mincore-of-read-only-memory", read_only_resident },
	{ "maps", maps },
	{ "statics", statics },
	{ "ranges", ranges },
	{ NULL, NULL },
};
