/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scenarios of rare calls of run/calls.c: each must return the kernel's result and leave the same
 * contents.
 */
#include "tests/run/run_scenarios.h"

#include "run/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIDFD_SELF (-10000)
#define GUARD_INSTALL 102
#define GUARD_REMOVE 103
#define DONTNEED_LOCKED 24

extern char **environ;

static bool zero(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* The kernel reads the list before it acts. The runtime once read each vector when its turn came. */
static void purge_the_list_itself(int fd, unsigned n)
{
	char *p = map(2 * PAGE);
	struct iovec *v = (struct iovec *)(void *)p;

	memset(p + PAGE, 7, PAGE);
	for (unsigned i = 0; i < n; i++)
		v[i] = (struct iovec){ p + (i == 0 ? 0 : PAGE), PAGE };
	report("the list's own memory", syscall(NR_process_madvise, fd, v, n, MADV_DONTNEED, 0));
	printf("%u vectors: %d %d\n", n, p[0], p[PAGE]);
}

/*
 * Allocators purge this way: dropped contents once came back, as the runtime did not know the call.
 */
static int purge_by_process_madvise(void)
{
	char *p = map(4 * MIB);
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	struct iovec v[3] = { { p, MIB }, { p + 2 * MIB, MIB }, { (void *)16, PAGE } };

	fill(p, 4 * MIB, 1);
	push_out();
	long r = syscall(NR_process_madvise, fd, v, 2, MADV_DONTNEED, 0);
	report("DONTNEED of itself", r);
	if (r > 0)
		EXPECT(zero(p, MIB) && zero(p + 2 * MIB, MIB));
	EXPECT(wrong(p + MIB, MIB, 1) != 0 && wrong(p + 3 * MIB, MIB, 1) != 0);
	fill(p, 4 * MIB, 2);
	push_out();
	report("COLD", syscall(NR_process_madvise, fd, v, 2, MADV_COLD, 0));
	EXPECT(wrong(p, 4 * MIB, 2) == 0);
	report("by its own name", syscall(NR_process_madvise, PIDFD_SELF, v, 1, MADV_PAGEOUT, 0));
	EXPECT(wrong(p, 4 * MIB, 2) == 0);
	report("the last one is bad", syscall(NR_process_madvise, fd, v, 3, MADV_COLD, 0));
	report("the first one is bad", syscall(NR_process_madvise, fd, v + 2, 1, MADV_COLD, 0));
	report("a bad list", syscall(NR_process_madvise, fd, (void *)16, 2, MADV_COLD, 0));
	report("no advice", syscall(NR_process_madvise, fd, v, 2, 12345, 0));
	report("flags", syscall(NR_process_madvise, fd, v, 2, MADV_COLD, 1));
	report("no descriptor", syscall(NR_process_madvise, -1, v, 2, MADV_COLD, 0));
	report("nothing", syscall(NR_process_madvise, fd, v, 0, MADV_COLD, 0));
	purge_the_list_itself(fd, 2);
	purge_the_list_itself(fd, 200);
	/* an empty vector at the end is not looked at, others are */
	v[1] = (struct iovec){ (void *)16, 0 };
	report("an empty vector at the end", syscall(NR_process_madvise, fd, v, 2, MADV_COLD, 0));
	report("only an empty vector", syscall(NR_process_madvise, fd, v + 1, 1, MADV_COLD, 0));
	v[2] = v[0];
	report("an empty vector first", syscall(NR_process_madvise, fd, v + 1, 2, MADV_COLD, 0));
	EXPECT(wrong(p, 4 * MIB, 2) == 0);
	return close(fd);
}

/*
 * A child wakes a thread of its parent that waited before the fork: the futex's name must not
 * change at the fork.
 */
static void *wait_for_post(void *arg)
{
	while (sem_wait(arg) != 0 && errno == EINTR)
		;
	return NULL;
}

static int post(void *arg) { return sem_post(arg); }

/* Is the thread asleep in futex()? The thread's file in /proc begins with the call's number. */
static bool sleeps(pid_t tid)
{
	char path[64], text[16] = "";
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
	if ((f = fopen(path, "r")) == NULL)
		return true;
	bool yes = fgets(text, sizeof text, f) != NULL && strncmp(text, "202 ", 4) == 0;
	(void)fclose(f);
	return yes;
}

static _Atomic int waiter_tid;
static void *waiter(void *arg)
{
	waiter_tid = (int)syscall(SYS_gettid);
	return wait_for_post(arg);
}

static int futex_over_fork(void)
{
	sem_t *s = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_t t;

	EXPECT(sem_init(s, 1, 0) == 0);
	push_out();
	for (int i = 0; i < 3; i++) {
		waiter_tid = 0;
		EXPECT(pthread_create(&t, NULL, waiter, s) == 0);
		while (waiter_tid == 0 || !sleeps(waiter_tid))
			(void)sched_yield();
		report_child("posted", post, s);
		EXPECT(pthread_join(t, NULL) == 0);
	}
	return 0;
}

static int unmap_sealed(void *p)
{
	report("child's munmap", munmap(p, PAGE));
	report("child's mprotect", mprotect(p, PAGE, PROT_NONE));
	return read_byte(p);
}

/* Sealed memory refuses changes, and no part of a refused call may have been done. */
static int sealed(void)
{
	char *p = map(3 * MIB), *q;

	fill(p, 3 * MIB, 1);
	push_out();
	long r = syscall(NR_mseal, p + MIB, MIB, 0);
	report("mseal", r);
	if (r != 0)
		return 0;
	report("mseal of a bad address", syscall(NR_mseal, p + 1, MIB, 0));
	report("mseal with flags", syscall(NR_mseal, p, MIB, 1));
	report("munmap", munmap(p + MIB, MIB));
	report("munmap of more", munmap(p, 3 * MIB));
	EXPECT(wrong(p, 3 * MIB, 1) == 0);
	report("mmap",
	    mmap(p + MIB / 2, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		    MAP_FAILED
		? -1
		: 0);
	q = mremap(p + MIB, MIB, 2 * MIB, MREMAP_MAYMOVE);
	report("mremap", q == MAP_FAILED ? -1 : 0);
	q = map(PAGE);
	report("mremap over it",
	    mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + MIB + PAGE) == MAP_FAILED ? -1
											       : 0);
	report("mprotect", mprotect(p + MIB, PAGE, PROT_READ));
	report("mprotect none", mprotect(p + 2 * MIB - PAGE, PAGE, PROT_NONE));
	push_out();
	EXPECT(wrong(p, 3 * MIB, 1) == 0);
	fill(p, 3 * MIB, 2);
	push_out();
	EXPECT(wrong(p, 3 * MIB, 2) == 0);
	report_child("child", unmap_sealed, p + MIB);
	report("munmap beside it", munmap(p, MIB));
	/* a range with a hole is sealed nowhere */
	q = map(4 * PAGE);
	fill(q, 4 * PAGE, 3);
	EXPECT(munmap(q + PAGE, 2 * PAGE) == 0);
	report("mseal over a hole", syscall(NR_mseal, q, 4 * PAGE, 0));
	report("mprotect after it", mprotect(q + 3 * PAGE, PAGE, PROT_READ));
	report("munmap after it", munmap(q, PAGE));
	report("mmap after it",
	    mmap(q + PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		    MAP_FAILED
		? -1
		: 0);
	report("munmap of all of it", munmap(q, 4 * PAGE));
	return 0;
}

/*
 * A key's rights are those of the mapping in a child, too. On machines without keys the calls fail.
 */
static void denied(int sig) { _exit(sig == SIGSEGV ? 33 : 34); }
static int key_over_fork(void)
{
	for (int kind = MAP_SHARED; kind <= MAP_PRIVATE; kind++) {
		char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
		int key = pkey_alloc(0, 0);

		fill(p, 4 * PAGE, 1);
		push_out();
		if (key < 0) {
			report("pkey_alloc", key);
			report("pkey_mprotect", pkey_mprotect(p, PAGE, PROT_READ, 3));
			EXPECT(pkey_mprotect(p, PAGE, PROT_READ, -1) == 0 &&
			    mprotect(p, PAGE, PROT_READ | PROT_WRITE) == 0);
			EXPECT(wrong(p, 4 * PAGE, 1) == 0);
			continue;
		}
		EXPECT(pkey_mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE, key) == 0);
		push_out();
		EXPECT(wrong(p, 4 * PAGE, 1) == 0 && pkey_set(key, PKEY_DISABLE_ACCESS) == 0);
		EXPECT(signal(SIGSEGV, denied) != SIG_ERR);
		report_child("child", read_byte, p);
		EXPECT(signal(SIGSEGV, SIG_DFL) != SIG_ERR && pkey_set(key, 0) == 0 &&
		    wrong(p, 4 * PAGE, 1) == 0);
		EXPECT(munmap(p, 4 * PAGE) == 0 && pkey_free(key) == 0);
	}
	return 0;
}

/* Does the kernel report that flag for the mapping at p? */
static bool mapping_has(const char *p, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long a, e, in = 0;
	bool yes = false;
	char line[512];

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		if (sscanf(line, "%lx-%lx ", &a, &e) == 2)
			in = a <= (unsigned long)p && (unsigned long)p < e;
		if (in && strncmp(line, "VmFlags", 7) == 0)
			yes = strstr(line, flag) != NULL;
	}
	if (f != NULL)
		(void)fclose(f);
	return yes;
}

/* Bytes that exist only where fill() wrote them. */
static bool is_secret(const char *p, const uint64_t *secret) { return memcmp(p, secret, 64) == 0; }

/*
 * Is a page of the secret in writable memory that is part of a core file? Mappings shared with
 * other processes are checked by name only.
 */
static bool in_core_file(const uint64_t *secret, const char *own, size_t len)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	uintptr_t a = 0, e = 0;
	char line[512], rights[8] = "";
	bool yes = false;

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		uintptr_t from, to;

		if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3) {
			a = from;
			e = to;
		}
		if (strncmp(line, "VmFlags", 7) != 0 || strstr(line, " dd") != NULL ||
		    strncmp(rights, "rw-p", 4) != 0)
			continue;
		for (uintptr_t at = a; at < e && !yes; at += PAGE)
			yes = (at < (uintptr_t)own || at >= (uintptr_t)own + len) &&
			    is_secret((const char *)at, secret);
	}
	if (f != NULL)
		(void)fclose(f);
	return yes;
}

static int check_dump(void *p) { return mapping_has(p, " dd") ? 1 : 2; }

static int not_dumped(void)
{
	char *p = map(8 * PAGE);

	fill(p, 8 * PAGE, 1);
	push_out();
	EXPECT(madvise(p, 4 * PAGE, MADV_DONTDUMP) == 0);
	EXPECT(mapping_has(p, " dd") && !mapping_has(p + 4 * PAGE, " dd"));
	push_out();
	EXPECT(wrong(p, 8 * PAGE, 1) == 0);
	/* of that many pages, some are in frames and not at their addresses */
	char *many = map(4 * MIB);
	/* the words with which the pages begin, stored at no page's beginning */
	uint64_t *kept_out = map(PAGE);
	EXPECT(madvise(many, 4 * MIB, MADV_DONTDUMP) == 0);
	for (size_t i = 0; i < 4 * MIB; i += PAGE)
		fill(many + i, 64, 77);
	fill(kept_out + 1, 64, 77);
	for (int i = 0; i < 3; i++) {
		for (size_t at = 0; at < 4 * MIB; at += PAGE)
			(void)*(volatile char *)(many + at);
		EXPECT(madvise(many, 4 * MIB, MADV_COLD) == 0);
		EXPECT(!in_core_file(kept_out + 1, many, 4 * MIB));
	}
	report_child("child", check_dump, p);
	EXPECT(madvise(p, 4 * PAGE, MADV_DODUMP) == 0 && !mapping_has(p, " dd") &&
	    wrong(p, 8 * PAGE, 1) == 0);
	return 0;
}

static int no_access_then(void *which)
{
	char *half[] = { (char *)"A=1", (char *)16, NULL }, *argv[] = { (char *)"true", NULL };
	char *none = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *volatile bad = (char *)16;
	long r = 0;

	switch ((intptr_t)which) {
	case 0: r = execve("/bin/true", argv, (char **)bad); break;
	case 1: r = execve("/bin/true", argv, half); break;
	case 2: r = execve("/bin/true", (char **)bad, environ); break;
	case 3: r = execve(bad, argv, environ); break;
	case 4: r = execve("/bin/true", argv, (char **)none); break;
	case 5: r = syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, bad, 0); break;
	case 6: r = sched_setaffinity(0, 8, (cpu_set_t *)bad); break;
	case 7: r = sched_getaffinity(0, 128, (cpu_set_t *)none); break;
	case 8: r = mincore(none, PAGE, (unsigned char *)bad); break;
	case 9: r = syscall(SYS_clone3, bad, 88); break;
	case 10: r = syscall(SYS_clone3, none, 88); break;
	case 11: r = ioctl(0, 0xc020aa00, bad); break;
	case 12: r = syscall(SYS_sched_setaffinity, 0, 8, none + PAGE - 4); break;
	/* the kernel opens the program before it reads the environment */
	case 13: r = execve("/no/program", argv, (char **)bad); break;
	case 14: r = execve("/", argv, half); break;
	case 15: r = syscall(SYS_execveat, AT_FDCWD, "/no/program", argv, bad, 0); break;
	default: return 0;
	}
	report("answer", r < 0 ? -1 : r);
	return 1;
}

/* Invalid addresses as arguments give errors only. */
static int bad_addresses(void)
{
	for (intptr_t i = 0; i < 16; i++)
		report_child("call", no_access_then, (void *)i);
	return 0;
}

/* Locking obeys the kernel's limits, and the kernel counts locked memory. */
static long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[128];
	long v = -1;

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		(void)sscanf(line, "VmLck: %ld", &v);
	if (f != NULL)
		(void)fclose(f);
	return v;
}

static int lock_without_right(void *p)
{
	struct rlimit none = { 0, 0 }, little = { 4 * PAGE, 4 * PAGE };

	if (setrlimit(RLIMIT_MEMLOCK, &little) != 0 || seteuid(65534) != 0)
		return 2;
	report("as much as allowed", mlock(p, 4 * PAGE));
	report("more", mlock(p, 5 * PAGE));
	EXPECT(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
	report("nothing allowed", mlock((char *)p + 8 * PAGE, PAGE));
	return 0;
}

static int drop_what_was_locked(void *p)
{
	printf("%ld KiB\n", locked_kib());
	return madvise(p, PAGE, MADV_DONTNEED) == 0 && zero(p, PAGE) ? 0 : 1;
}

static int locks_of_memory(void)
{
	for (int prot = 0; prot < 4; prot++) {
		char *p = mmap(NULL, 16 * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		report("mlock", mlock(p, 16 * PAGE));
		printf("prot %d: %ld KiB\n", prot, locked_kib());
		push_out();
		report("munlock", munlock(p, 16 * PAGE));
		printf("%ld KiB\n", locked_kib());
	}
	char *p = map(16 * PAGE);
	fill(p, 16 * PAGE, 1);
	EXPECT(mlock(p, 16 * PAGE) == 0 && wrong(p, 16 * PAGE, 1) == 0);
	report_child("child has none locked", drop_what_was_locked, p);
	report("DONTNEED of locked", madvise(p, PAGE, MADV_DONTNEED));
	report("the other one", madvise(p, PAGE, DONTNEED_LOCKED));
	EXPECT(zero(p, PAGE) && mprotect(p, 16 * PAGE, PROT_NONE) == 0 &&
	    mprotect(p, 16 * PAGE, PROT_READ) == 0);
	EXPECT(wrong(p, 16 * PAGE, 1) > 0 && mprotect(p, 16 * PAGE, PROT_READ | PROT_WRITE) == 0);
	p = mremap(p, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
	EXPECT(p != MAP_FAILED && munlockall() == 0);
	printf("%ld KiB\n", locked_kib());
	report_child("without right", lock_without_right, map(16 * PAGE));
	return 0;
}

/* Maps memory of another kind over tracked memory, and makes calls on shared memory. */
static int other_kinds(void)
{
	char *p = map(16 * PAGE), *q;
	int id = shmget(IPC_PRIVATE, 16 * PAGE, 0600 | IPC_CREAT);

	fill(p, 16 * PAGE, 1);
	push_out();
	EXPECT(shmat(id, p, 0) == MAP_FAILED && errno == EINVAL && wrong(p, 16 * PAGE, 1) == 0);
	EXPECT(shmat(id, p + 1, SHM_REMAP) == MAP_FAILED && wrong(p, 16 * PAGE, 1) == 0);
	EXPECT(shmat(id, p, SHM_REMAP) == p && zero(p, 16 * PAGE));
	EXPECT(shmctl(id, IPC_RMID, NULL) == 0);
	fill(p, 16 * PAGE, 2);
	push_out();
	EXPECT(wrong(p, 16 * PAGE, 2) == 0 && munmap(p, 16 * PAGE) == 0);
	p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fill(p, 16 * PAGE, 3);
	p[PAGE] = 8;
	report("remap_file_pages", syscall(SYS_remap_file_pages, p, PAGE, 0, 1, 0));
	printf("%d\n", p[0]);
	report("of private memory", syscall(SYS_remap_file_pages, map(PAGE), PAGE, 0, 0, 0));
	p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	q = mremap(p, 0, 16 * PAGE, MREMAP_MAYMOVE);
	EXPECT(q != MAP_FAILED);
	q[3 * PAGE] = 5;
	EXPECT(p[3 * PAGE] == 5);
	report("MADV_REMOVE", madvise(p, 16 * PAGE, MADV_REMOVE));
	printf("%d\n", p[3 * PAGE]);
	q = map(PAGE);
	q[0] = 7;
	report("MADV_REMOVE of private memory", madvise(q, PAGE, MADV_REMOVE));
	printf("%d\n", q[0]);
	return 0;
}

/* Guards are pages without access and without a mapping of their own. */
static int guards(void)
{
	char *p = map(16 * PAGE);

	fill(p, 16 * PAGE, 1);
	push_out();
	report("install", madvise(p + 4 * PAGE, PAGE, GUARD_INSTALL));
	report_child("touched", read_byte, p + 4 * PAGE);
	EXPECT(wrong(p, 4 * PAGE, 1) == 0);
	push_out();
	report("remove", madvise(p, 16 * PAGE, GUARD_REMOVE));
	printf("%d\n", p[4 * PAGE]);
	EXPECT(wrong(p, 4 * PAGE, 1) == 0);
	EXPECT(madvise(p + 8 * PAGE, PAGE, MADV_DONTFORK) == 0 &&
	    madvise(p + 8 * PAGE, PAGE, GUARD_INSTALL) == 0);
	EXPECT(madvise(p + 8 * PAGE, PAGE, GUARD_REMOVE) == 0);
	report_child("not forked", read_byte, p + 8 * PAGE);
	report("unknown", madvise(p, PAGE, 12345));
	return 0;
}

/* Mappings at addresses that few programs use. */
static int low_addresses(void)
{
	const uintptr_t at[] = { 0x1000, 0x10000, 0x100000, 0x100000000 };

	for (unsigned i = 0; i < 4; i++) {
		char *p = mmap((void *)at[i], 4 * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		report("map", p == MAP_FAILED ? -1 : 0);
		if (p == MAP_FAILED)
			continue;
		fill(p, 4 * PAGE, i);
		push_out();
		EXPECT(wrong(p, 4 * PAGE, i) == 0 && munmap(p, 4 * PAGE) == 0);
	}
	return 0;
}

/* Calls that the kernel refuses to processes with several threads. */
static int leave_user_space(void *p)
{
	(void)wrong(p, MIB, 1);
	report("user", unshare(CLONE_NEWUSER));
	EXPECT(wrong(p, MIB, 1) == 0);
	push_out();
	EXPECT(wrong(p, MIB, 1) == 0);
	int fd = open("/proc/self/ns/net", O_RDONLY);
	report("net", unshare(CLONE_NEWNET));
	report("into a net that is another's", setns(fd, CLONE_NEWNET));
	report_child("child", read_byte, p);
	return 0;
}

static int leave_with_processes(void *p)
{
	report("user and processes", unshare(CLONE_NEWUSER | CLONE_NEWPID));
	report_child("child", read_byte, p);
	report("threads", unshare(CLONE_THREAD));
	EXPECT(wrong(p, MIB, 1) == 0);
	return 0;
}

static int enter_own(void *p)
{
	int mnt = open("/proc/self/ns/mnt", O_RDONLY), user = open("/proc/self/ns/user", O_RDONLY);

	report("own mounts", setns(mnt, CLONE_NEWNS));
	report("own users", setns(user, 0));
	report("no descriptor", setns(-1, 0));
	report("nothing", unshare(0));
	report("bad flags", unshare(1));
	EXPECT(wrong(p, MIB, 1) == 0);
	return 0;
}

static int one_thread(void)
{
	char *p = map(MIB);

	fill(p, MIB, 1);
	push_out();
	report_child("user", leave_user_space, p);
	report_child("processes", leave_with_processes, p);
	report_child("own", enter_own, p);
	EXPECT(wrong(p, MIB, 1) == 0);
	return 0;
}

/* An impossible break drops no memory: it was once taken for a break below the heap. */
static int impossible_break(void)
{
	char *p = sbrk(2 * MIB);

	fill(p, 2 * MIB, 1);
	push_out();
	for (intptr_t i = 0; i < 3; i++) {
		static const uintptr_t want[] = { UINTPTR_MAX, UINTPTR_MAX - PAGE,
			(uintptr_t)1 << 47 };

		EXPECT(
		    syscall(SYS_brk, want[i]) == (long)(p + 2 * MIB) && wrong(p, 2 * MIB, 1) == 0);
	}
	EXPECT(brk(p) == 0 && sbrk(0) == p);
	return 0;
}

/* Memory populated at its mapping is dropped, paged and forked as any other memory. */
static int populated(void)
{
	for (int prot = PROT_READ; prot <= (PROT_READ | PROT_WRITE); prot += PROT_WRITE) {
		char *p = mmap(NULL, MIB, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

		EXPECT(p != MAP_FAILED && zero(p, MIB) &&
		    mprotect(p, MIB, PROT_READ | PROT_WRITE) == 0);
		fill(p, MIB, 1);
		push_out();
		EXPECT(wrong(p, MIB, 1) == 0);
		EXPECT(madvise(p, MIB / 2, MADV_DONTNEED) == 0 && zero(p, MIB / 2));
		report_child("child", read_byte, p);
		EXPECT(munmap(p, MIB) == 0);
	}
	return 0;
}

/* The break is moved by other means than brk. */
static int break_by_prctl(void)
{
	char *old = sbrk(0), *p;
	long r = prctl(PR_SET_MM, PR_SET_MM_BRK, old + MIB, 0, 0);

	report("PR_SET_MM_BRK", r);
	if (r != 0)
		return 0;
	EXPECT(sbrk(0) == old || sbrk(0) == old + MIB); /* the C library remembers the break */
	p = (char *)syscall(SYS_brk, old + 3 * MIB);
	EXPECT(p == old + 3 * MIB);
	fill(old + MIB, 2 * MIB, 1);
	push_out();
	EXPECT(wrong(old + MIB, 2 * MIB, 1) == 0);
	EXPECT((char *)syscall(SYS_brk, old + 2 * MIB) == old + 2 * MIB &&
	    wrong(old + MIB, MIB, 1) != 0);
	return 0;
}

/* The filter holds for this process from now on. */
static void install_filter(const struct sock_fprog *prog)
{
	EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, prog) == 0);
}

/*
 * A filter kills a process that makes calls which only the runtime makes: programs are executed all
 * the same.
 */
static int filtered_exec(void *arg)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof code / sizeof *code, code };
	struct rlimit rl;

	(void)arg;
	install_filter(&prog);
	EXPECT(getrlimit(RLIMIT_AS, &rl) == 0);
	(void)execl("/bin/sh", "sh", "-c", "exit 5", NULL);
	return 1;
}

static int filter_of_reads(void)
{
	push_out();
	report_child("filtered", filtered_exec, NULL);
	return 0;
}

/* What a filter answers, and the one call that it does so for. */
struct refusal {
	unsigned call, answer;
};

#define REFUSAL_LENGTH 6

/* The filter that answers so; all other calls are allowed, by its last instruction. */
static struct sock_fprog filter_that_refuses(
    const struct refusal *f, struct sock_filter code[REFUSAL_LENGTH])
{
	const struct sock_filter filter[REFUSAL_LENGTH] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, f->call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, f->answer),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	memcpy(code, filter, sizeof filter);
	return (struct sock_fprog){ REFUSAL_LENGTH, code };
}

/* A program is executed behind a filter that is set first, among filters that allow all. */
static int refused_exec(void *arg)
{
	struct sock_filter code[REFUSAL_LENGTH];
	struct sock_fprog prog = filter_that_refuses(arg, code),
			  all = { 1, code + REFUSAL_LENGTH - 1 };

	install_filter(&all);
	EXPECT(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == 0);
	install_filter(&all);
	(void)execl("/bin/sh", "sh", "-c", "/bin/true && exit 5", NULL);
	return 1;
}

/*
 * Programs behind a filter were once killed for a call that only the runtime makes, or ended with
 * the line that quire run had ended: man(1) filters the programs that it starts.
 */
static int filter_of_the_runtime(void)
{
	static const unsigned calls_of_it[] = { SYS_userfaultfd, SYS_getsockopt, SYS_sendmsg,
		SYS_capget, SYS_socketpair, SYS_process_vm_readv };
	struct refusal f;

	push_out();
	for (size_t i = 0; i < sizeof calls_of_it / sizeof *calls_of_it; i++) {
		f.call = calls_of_it[i];
		f.answer = SECCOMP_RET_KILL_PROCESS;
		report_child("killed for a call of the runtime", refused_exec, &f);
		f.answer = SECCOMP_RET_TRAP;
		report_child("a signal for it", refused_exec, &f);
		f.answer = SECCOMP_RET_ERRNO | EACCES;
		report_child("refused", refused_exec, &f);
	}
	return 0;
}

/* execve and execveat with each of their lists bad in each way; none of them may succeed. */
static void exec_with_bad_lists(void)
{
	char *p = map(2 * PAGE), *q = map(2 * PAGE), *text = map(MIB), *args[] = { "true", NULL };
	char *good[] = { "A=1", "LD_PRELOAD=none", NULL }, *wild[] = { (char *)-4096L, NULL },
	     *bad_text[] = { "A=1", p + PAGE - 3, NULL }, *large[] = { text, NULL };
	char **cut = (char **)(void *)(q + PAGE) - 1;
	char **const lists[] = { bad_text, cut, wild, large, (char **)8 };

	memset(p, 'x', PAGE);
	memset(text, 'x', MIB - 1);
	*cut = good[0];
	EXPECT(munmap(p + PAGE, PAGE) == 0 && munmap(q + PAGE, PAGE) == 0);
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		report("bad environment", execve("/bin/true", args, lists[i]));
		report("bad arguments", execve("/bin/true", lists[i], good));
		report("no such program", execve("/no/such", args, lists[i]));
		report("execveat", syscall(SYS_execveat, AT_FDCWD, "/bin/true", args, lists[i], 0));
	}
	report("bad path", execve(p + PAGE - 3, args, good));
}

/* Bad addresses are errors behind a filter, too: once they ended the process. */
static int bad_behind_filter(void *arg)
{
	struct sock_filter code[REFUSAL_LENGTH];
	struct sock_fprog prog = filter_that_refuses(arg, code),
			  wild = { 1, (struct sock_filter *)8 };
	struct rlimit rl;

	install_filter(&prog);
	exec_with_bad_lists();
	for (int i = 0; i < 3; i++) {
		static const int what[] = { RLIMIT_AS, RLIMIT_NOFILE, RLIMIT_CORE };

		report("setrlimit", syscall(SYS_prlimit64, 0, what[i], 8, NULL));
		report("getrlimit", syscall(SYS_prlimit64, 0, what[i], NULL, 8));
		EXPECT(syscall(SYS_prlimit64, 0, what[i], NULL, &rl) == 0);
		report("both", syscall(SYS_prlimit64, 0, what[i], &rl, 8));
	}
	report("a filter nowhere", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 8));
	report("its code nowhere", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &wild));
	report("clone3", syscall(SYS_clone3, 8, 64));
	report("process_madvise", syscall(NR_process_madvise, PIDFD_SELF, 8, 1, MADV_COLD, 0));
	report("ioctl", ioctl(-1, UFFDIO_REGISTER, 8));
	(void)fflush(stdout);
	(void)execl("/bin/sh", "sh", "-c", "exit 5", NULL);
	return 1;
}

static int bad_addresses_behind_a_filter(void)
{
	struct refusal f = { SYS_process_vm_readv, SECCOMP_RET_ALLOW };

	report_child("a filter that permits all", bad_behind_filter, &f);
	f.answer = SECCOMP_RET_ERRNO | EPERM;
	report_child("a filter that refuses the runtime's question", bad_behind_filter, &f);
	return 0;
}

/*
 * A second filter is installed behind one that permits only this and the end: the first kills for
 * any call that the runtime would make to read the second.
 */
static int second_filter(void *arg)
{
	struct sock_filter few[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog first = { 5, few }, second = { 1, few + 4 };

	(void)arg;
	install_filter(&first);
	_exit(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &second) == 0 ? 6 : 7);
}

static int filter_behind_a_filter(void)
{
	push_out();
	report_child("two filters", second_filter, NULL);
	return 0;
}

/*
 * Makes each call of the table with invalid arguments: the result is the kernel's, and each call is
 * handled.
 */
static int every_call(void)
{
	static const uint16_t not_so[] = { SYS_clone, SYS_fork, SYS_exit, SYS_execve,
		SYS_execveat };

	for (size_t i = 0; i < calls_n; i++) {
		bool skip = calls[i].c_way == CALL_KERNEL;

		for (size_t k = 0; k < sizeof not_so / sizeof *not_so; k++)
			skip |= calls[i].c_nr == not_so[k];
		if (skip)
			continue;
		errno = 0;
		(void)syscall(calls[i].c_nr, -1l, -1l, -1l, -1l, -1l, -1l);
		printf("%s: %s\n", calls[i].c_name, strerror(errno));
	}
	return 0;
}

/*
 * Limits of address space and data count the program's memory, and read back as the program set
 * them. MAP_STACK memory is not promised in full: only the limit refuses it.
 */
static int limit_of_parent(void *arg)
{
	struct rlimit rl = *(struct rlimit *)arg;

	return prlimit(getppid(), RLIMIT_AS, &rl, NULL) == 0 ? 0 : 1;
}

static int limits_of_space(void)
{
	enum { UNIT = 32 * MIB };
	static const int kinds[] = { RLIMIT_AS, RLIMIT_DATA };
	char *p[32];

	for (int i = 0; i < 2; i++) {
		struct rlimit old, set, got;
		int n = 0;

		EXPECT(getrlimit((unsigned)kinds[i], &old) == 0);
		set = old;
		set.rlim_cur = 8ul * UNIT + UNIT / 2 + 24 * MIB;
		EXPECT(setrlimit((unsigned)kinds[i], &set) == 0 &&
		    getrlimit((unsigned)kinds[i], &got) == 0);
		EXPECT(got.rlim_cur == set.rlim_cur && got.rlim_max == old.rlim_max);
		while (n < 32 &&
		    (p[n] = mmap(NULL, UNIT, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) != MAP_FAILED)
			n++;
		printf("%d fit\n", n);
		while (n > 0)
			EXPECT(munmap(p[--n], UNIT) == 0);
		EXPECT(setrlimit((unsigned)kinds[i], &old) == 0 &&
		    getrlimit((unsigned)kinds[i], &got) == 0);
		EXPECT(got.rlim_cur == old.rlim_cur && got.rlim_max == old.rlim_max);
	}
	struct rlimit own, others, now;
	EXPECT(getrlimit(RLIMIT_AS, &own) == 0);
	others = own;
	others.rlim_cur = 1ul << 40;
	EXPECT(setrlimit(RLIMIT_AS, &others) == 0);
	others.rlim_cur = 1ul << 41;
	report_child("another process", limit_of_parent, &others);
	EXPECT(getrlimit(RLIMIT_AS, &now) == 0 && setrlimit(RLIMIT_AS, &own) == 0);
	printf("set by another process: %ld MiB\n", (long)(now.rlim_cur >> 20));
	report("bad", syscall(SYS_prlimit64, 0, RLIMIT_AS, (void *)16, NULL));
	report("bad", syscall(SYS_prlimit64, 0, RLIMIT_AS, NULL, (void *)16));
	struct rlimit wrong_order = { 2 * MIB, MIB };
	report("more than the hard limit", setrlimit(RLIMIT_AS, &wrong_order));
	return 0;
}

/*
 * Allocates memory up to a limit, and then uses it: memory that the runtime needs for this must be
 * available.
 */
static int use_all_of(void *kind)
{
	struct rlimit rl = { 300ul * MIB, 300ul * MIB };
	enum { MOST = 4096 };
	static char *p[MOST];
	size_t n = 0, bad = 0;

	if (setrlimit((unsigned)(intptr_t)kind, &rl) != 0)
		return 2;
	for (size_t size = MIB; size >= PAGE; size /= 2)
		while (n < MOST &&
		    (p[n] = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) != MAP_FAILED)
			n++;
	for (size_t i = 0; i < n; i++)
		p[i][0] = (char)i;
	for (size_t i = 0; i < n; i++)
		bad += p[i][0] != (char)i;
	return bad == 0 && n > 200 ? 0 : 1;
}

static int all_of_the_limit(void)
{
	push_out();
	report_child("address space", use_all_of, (void *)RLIMIT_AS);
	report_child("data", use_all_of, (void *)RLIMIT_DATA);
	return 0;
}

/*
 * Makes as many mappings of a page as the kernel permits: then memory works, and no contents are
 * lost.
 */
static int many_maps(void)
{
	enum { MOST = 70000 };
	static char *at[MOST];
	char *p = map(MIB);

	fill(p, MIB, 1);
	for (int prot = PROT_NONE; prot <= PROT_WRITE; prot += PROT_WRITE) {
		char *base = mmap(NULL, MOST * 2ul * PAGE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		int n = 0, works = 0;

		EXPECT(base != MAP_FAILED && munmap(base, MOST * 2ul * PAGE) == 0);
		while (n < (prot == PROT_NONE ? MOST : 4000) &&
		    (at[n] = mmap(base + n * 2l * PAGE, PAGE, prot,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)) != MAP_FAILED)
			n++;
		if (prot == PROT_NONE) /* the engine has a few dozen mappings */
			printf("%s\n", n > 65000 ? "as many as the kernel has" : "few");
		for (int i = 0; prot == PROT_WRITE && i < n; i += 64)
			at[i][0] = (char)i;
		push_out();
		EXPECT(wrong(p, MIB, 1) == 0);
		for (int i = 0; prot == PROT_WRITE && i < n; i += 64)
			works += at[i][0] != (char)i;
		for (int i = 0; i < n; i++)
			works += munmap(at[i], PAGE);
		EXPECT(works == 0);
		char *q = map(4 * MIB);
		fill(q, 4 * MIB, 2);
		EXPECT(wrong(q, 4 * MIB, 2) == 0 && munmap(q, 4 * MIB) == 0);
	}
	return 0;
}

const struct scenario call_scenarios[] = {
	{ "purge-by-process-madvise", purge_by_process_madvise },
	{ "futex-over-fork", futex_over_fork },
	{ "sealed", sealed },
	{ "key-over-fork", key_over_fork },
	{ "not-dumped", not_dumped },
	{ "bad-addresses", bad_addresses },
	{ "locks-of-memory", locks_of_memory },
	{ "other-kinds", other_kinds },
	{ "guards", guards },
	{ "low-addresses", low_addresses },
	{ "one-thread", one_thread },
	{ "many-maps", many_maps },
	{ "limits-of-space", limits_of_space },
	{ "all-of-the-limit", all_of_the_limit },
	{ "impossible-break", impossible_break },
	{ "every-call", every_call },
	{ "populated", populated },
	{ "break-by-prctl", break_by_prctl },
	{ "filter-of-reads", filter_of_reads },
	{ "filter-of-the-runtime", filter_of_the_runtime },
	{ "bad-addresses-behind-a-filter", bad_addresses_behind_a_filter },
	{ "filter-behind-a-filter", filter_behind_a_filter },
	{ NULL, NULL },
};
