/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rare actions that the kernel permits: clones with unusual flags, a first thread that ends, words
 * changed by the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/run/run_scenarios.h"

#define IOCTL_MOVE 0xc028aa05u
#define FEATURE_MOVE (1u << 16)

/* ---- clones ---- */
static long clone_with(struct clone_args *args, uint64_t flags)
{
	args->flags = flags;
	args->exit_signal = SIGCHLD;
	push_out();
	(void)fflush(stdout);
	return syscall(SYS_clone3, args, sizeof *args);
}

/*
 * The arguments, and the words to which the kernel writes numbers, are paged out when the call is
 * made. The kernel once accessed them while no fault was served, and the call never returned.
 */
static int clone_words(void)
{
	struct clone_args *args = map(PAGE);
	int *numbers = map(3 * PAGE), status;
	char *p = map(MIB);

	fill(p, MIB, 1);
	for (unsigned i = 0; i < 12; i++) {
		int *parent = numbers, *child = numbers + PAGE / sizeof(int),
		    *fd = numbers + 2 * PAGE / sizeof(int);

		fill(child, PAGE, i);
		args->parent_tid = (uintptr_t)(parent + 4);
		args->child_tid = (uintptr_t)(child + 4);
		args->pidfd = (uintptr_t)(fd + 4);
		long pid = clone_with(args,
		    CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_PIDFD | CLONE_CHILD_CLEARTID);
		if (pid == 0) {
			bool right = child[4] == getpid() && wrong(p, MIB, 1) == 0;

			_exit(right ? (int)wrong(child, PAGE, i) : 9); /* the word itself */
		}
		EXPECT(waitpid((pid_t)pid, &status, 0) == pid);
		EXPECT(parent[4] == pid && fd[4] > 2 && close(fd[4]) == 0);
		printf("%x\n", (unsigned)status);
	}
	return 0;
}

/*
 * A child shares its parent's descriptor table: the child's runtime once closed descriptors that
 * the parent's runtime needed.
 */
static int clone_descriptors(void)
{
	struct clone_args *args = map(PAGE);
	char *p = map(2 * MIB);
	int status;

	fill(p, 2 * MIB, 1);
	for (unsigned i = 0; i < 6; i++) {
		long pid = clone_with(args, i % 2 == 0 ? CLONE_FILES : CLONE_FILES | CLONE_FS);

		if (pid == 0) {
			push_out();
			_exit(wrong(p, 2 * MIB, 1) == 0 ? 3 : 9);
		}
		push_out();
		EXPECT(wrong(p, 2 * MIB, 1) == 0);
		EXPECT(waitpid((pid_t)pid, &status, 0) == pid);
		printf("%x\n", (unsigned)status);
	}
	return 0;
}

/* The structure is larger than the kernel knows: zeroes behind it are fine, other bytes are not. */
static int clone_sizes(void)
{
	struct clone_args *args = map(2 * PAGE);

	args->exit_signal = SIGCHLD;
	for (size_t size = 0; size <= 2 * PAGE; size += size < 128 ? 8 : 1016) {
		push_out();
		long r = syscall(SYS_clone3, args, size);
		if (r == 0)
			_exit(0);
		if (r > 0)
			EXPECT(waitpid((pid_t)r, NULL, 0) == r);
		printf("%zu: %s\n", size, r > 0 ? "made" : strerror(errno));
	}
	((char *)args)[1000] = 1;
	report("other bytes", syscall(SYS_clone3, args, 1016));
	return 0;
}

/* ---- the first thread ends ---- */
static void *work_alone(void *arg)
{
	pthread_t *first = arg;
	char *const argv[] = { (char *)"echo", (char *)"executed", NULL };
	unsigned char in[16];
	size_t n = 4 * MIB;
	int status;

	EXPECT(pthread_join(*first, NULL) == 0);
	char *p = map(n);
	fill(p, n, 1);
	push_out();
	EXPECT(mprotect(p, n / 2, PROT_READ) == 0);
	push_out();
	EXPECT(wrong(p, n, 1) == 0);
	report("mincore", mincore(p, 16ul * PAGE, in));
	report("mlock", mlock(p, 16ul * PAGE));
	report("munlock", munlock(p, 16ul * PAGE));
	report("mprotect", mprotect(p, n / 2, PROT_READ | PROT_WRITE));
	push_out();
	p = mremap(p, n, n + MIB, MREMAP_MAYMOVE);
	EXPECT(p != MAP_FAILED && wrong(p, n, 1) == 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(wrong(p, n, 1) == 0 ? 4 : 9);
	EXPECT(waitpid(pid, &status, 0) == pid);
	printf("child: %x\n", (unsigned)status);
	(void)fflush(stdout);
	(void)execv("/bin/echo", argv);
	printf("not executed: %s\n", strerror(errno));
	exit(1);
}

/*
 * Requests to the first thread, whose number is the process's, once got no answer after that thread
 * had ended.
 */
static int first_thread_ends(void)
{
	static pthread_t first;
	pthread_t t;

	first = pthread_self();
	EXPECT(pthread_create(&t, NULL, work_alone, &first) == 0);
	pthread_exit(NULL);
}

/* ---- words that the kernel changes ---- */
static long futex(int *word, int op, int value, const void *time, int *other, int last)
{
	return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, time, other, last);
}

/* Each word is paged out when the kernel must change it: the result was once EFAULT. */
static int futex_words(void)
{
	int *a = map(PAGE), *b = map(PAGE);
	struct timespec *soon = map(PAGE);

	for (int i = 0; i < 3; i++) {
		push_out();
		report("lock", futex(a, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
		EXPECT(*a == (int)syscall(SYS_gettid));
		push_out();
		report("lock again", futex(a, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
		push_out();
		report("unlock", futex(a, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
		EXPECT(*a == 0);
		push_out();
		report("wake and add",
		    futex(b, FUTEX_WAKE_OP, 1, (void *)1, a + 1,
			(int)FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)));
		printf("%d\n", a[1]);
		*soon = (struct timespec){ 0, 1000 };
		push_out();
		report("wait", futex(b, FUTEX_WAIT, 0, soon, NULL, 0));
	}
	EXPECT(mprotect(a, PAGE, PROT_READ) == 0);
	push_out();
	report("read-only", futex(a, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	EXPECT(mprotect(a, PAGE, PROT_NONE) == 0);
	report("closed", futex(a, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	report("nothing there", futex((int *)64, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	return 0;
}

/*
 * The program moves pages of hosted memory into a range whose faults it serves: paged-out pages
 * were once absent for the kernel.
 */
static int own_moves(void)
{
	struct {
		uint64_t dst, src, len, mode;
		int64_t moved;
	} *move = map(PAGE);
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURE_MOVE };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	char *src = map(16 * PAGE), *dst = map(16 * PAGE);
	struct uffdio_register reg = { .range = { (uintptr_t)dst, 16 * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING };

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0)
		return puts("pages do not move here"), 0;
	EXPECT(ioctl(fd, UFFDIO_REGISTER, &reg) == 0);
	fill(src, 16 * PAGE, 1);
	for (uint64_t half = 0; half < 2; half++) {
		move->dst = (uintptr_t)dst + half * 8 * PAGE;
		move->src = (uintptr_t)src + half * 8 * PAGE;
		move->len = 8 * PAGE;
		push_out();
		/* once as the C library calls it, once by number */
		report("move",
		    half == 0 ? ioctl(fd, IOCTL_MOVE, move)
			      : syscall(SYS_ioctl, fd, IOCTL_MOVE, move));
		printf("%lld\n", (long long)move->moved);
	}
	push_out();
	EXPECT(wrong(dst, 16 * PAGE, 1) == 0);
	printf("%d %d\n", src[0], src[15 * PAGE]);
	fill(src, 16 * PAGE, 2);
	push_out();
	EXPECT(wrong(src, 16 * PAGE, 2) == 0);
	return close(fd);
}

/* ---- advice by a system call that the program makes itself ---- */
/* Made by an instruction of the program, not of the C library, as some language runtimes do. */
static long own_madvise(void *p, size_t len, int advice)
{
	long r = SYS_madvise;

	__asm__ volatile("syscall"
			 : "+a"(r)
			 : "D"(p), "S"(len), "d"((long)advice)
			 : "rcx", "r11", "memory");
	return r;
}

/*
 * Go's runtime does this to memory that its C library mapped: pages that were in memory are gone without the runtime's doing. The
 * thread that touched such a page waited forever, as the page was taken for loaded. The pages are zeroes, also after they have left
 * memory, and what is written to them is kept. (What has left memory before is not dropped: `man quire`.)
 */
static int own_advice(void)
{
	enum { PAGES = 16 };
	char *p = map(PAGES * PAGE);
	size_t kept = 0;

	for (unsigned round = 0; round < 4; round++) {
		push_out();
		for (unsigned i = 0; i < PAGES; i++) { /* in memory when the advice is given */
			fill(p + i * PAGE, PAGE, round);
			EXPECT(own_madvise(p + i * PAGE, PAGE, MADV_DONTNEED) == 0);
			EXPECT(round % 2 != 0 || p[i * PAGE + 1] == 0);
		}
		if (round >= 2)
			push_out();
		for (unsigned i = 0; i < PAGES; i++) {
			for (unsigned k = 0; k < PAGE; k++)
				kept += p[i * PAGE + k] != 0;
			p[i * PAGE] = (char)i;
		}
		push_out();
		for (unsigned i = 0; i < PAGES; i++)
			EXPECT(p[i * PAGE] == (char)i);
	}
	printf("not zero: %zu\n", kept);
	return 0;
}

/* ---- threads that the C library does not know ---- */
static struct {
	char stack[16 * PAGE] __attribute__((aligned(16)));
	const char *name; /* that the thread gives itself, or NULL */
	_Atomic int named;
	pid_t first; /* is waited for: its end */
} unknown;

static int is_ended(pid_t tid)
{
	char path[64], text[512] = "", *at;
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
	if ((f = fopen(path, "r")) == NULL)
		return 1;
	(void)!fread(text, 1, sizeof text - 1, f);
	(void)fclose(f);
	at = strrchr(text, ')');
	return at != NULL && at[2] == 'Z';
}

static int outlive_first(void *arg)
{
	(void)arg;
	if (unknown.name != NULL)
		(void)syscall(SYS_prctl, PR_SET_NAME, unknown.name, 0, 0, 0);
	atomic_store(&unknown.named, 1);
	while (!is_ended(unknown.first))
		(void)syscall(SYS_sched_yield);
	(void)!write(1, "lives on\n", 9);
	return (int)syscall(SYS_exit, 7);
}

static int leave_a_thread(void *name)
{
	unknown.name = name;
	unknown.first = getpid();
	push_out();
	EXPECT(clone(outlive_first, unknown.stack + sizeof unknown.stack - 64,
		   CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
		   NULL) > 0);
	while (!atomic_load(&unknown.named))
		(void)syscall(SYS_sched_yield);
	return (int)syscall(SYS_exit, 7);
}

/* The first thread was counted after its end, so that the process stayed for ever; a thread was taken for the kernel's by its name. */
static int last_thread_ends(void)
{
	report_child("plain", leave_a_thread, NULL);
	report_child("named as one of the kernel's", leave_a_thread, (void *)"iou-wrk-1");
	return 0;
}

/* ---- children that die as they are born ---- */
#define STILLBORN 600u /* more than there are slots in a family */

/* Forks in a process that is traced; how many forks failed. */
static void fork_many(void)
{
	long failed = 0;

	(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	(void)raise(SIGSTOP);
	for (unsigned i = 0; i < STILLBORN; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		failed += pid < 0;
		(void)waitpid(pid, NULL, 0);
	}
	_exit(failed != 0);
}

/*
 * The kernel stops a traced child before its first instruction, and there it is killed. The slot of such a child stayed taken, so no
 * process could be forked in the end.
 */
static int killed_at_birth(void)
{
	const long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
	pid_t first = fork(), pid;
	long killed = 0;
	int status;

	if (first == 0)
		fork_many();
	EXPECT(waitpid(first, &status, 0) == first && WIFSTOPPED(status) &&
	    ptrace(PTRACE_SETOPTIONS, first, NULL, (void *)options) == 0);
	(void)ptrace(PTRACE_CONT, first, NULL, NULL);
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (pid != first && WIFSTOPPED(status)) {
			killed++;
			(void)kill(pid, SIGKILL);
		} else if (pid == first && WIFSTOPPED(status)) {
			(void)ptrace(PTRACE_CONT, pid, NULL, NULL);
		} else if (pid == first) {
			break;
		}
	}
	printf("killed %ld, the parent's status %x\n", killed, (unsigned)status);
	return 0;
}

/* ---- the limit of descriptors ---- */
static _Atomic int over;

static void *watch_limit(void *arg)
{
	const struct rlimit *want = arg;
	struct rlimit is;
	long differs = 0;

	while (!atomic_load(&over))
		differs += getrlimit(RLIMIT_NOFILE, &is) != 0 || is.rlim_cur != want->rlim_cur;
	return (void *)differs;
}

/* While the runtime gave descriptors of its own their numbers, the program's other threads were told a higher limit. */
static int limit_of_files(void)
{
	struct rlimit is;
	void *differs;
	pthread_t t;

	EXPECT(getrlimit(RLIMIT_NOFILE, &is) == 0);
	is.rlim_cur = 500;
	EXPECT(
	    setrlimit(RLIMIT_NOFILE, &is) == 0 && pthread_create(&t, NULL, watch_limit, &is) == 0);
	push_out();
	for (unsigned i = 0; i < 10; i++) /* each changes the store, and so its descriptors */
		EXPECT(prctl(PR_SET_DUMPABLE, i % 2) == 0);
	atomic_store(&over, 1);
	EXPECT(pthread_join(t, &differs) == 0);
	printf("another limit: %ld times\n", (long)differs);
	return 0;
}

/* Asks the kernel itself: the runtime's own answer waits until the limit is right. */
static void *watch_kernels_limit(void *arg)
{
	const struct rlimit *want = arg;
	long differs = 0, r;

	while (!atomic_load(&over)) {
		struct rlimit is = { 0 };

		__asm__ volatile("syscall"
				 : "=a"(r)
				 : "0"(SYS_getrlimit), "D"(RLIMIT_NOFILE), "S"(&is)
				 : "rcx", "r11", "memory");
		differs += is.rlim_cur != want->rlim_cur;
	}
	return (void *)differs;
}

/* A fork raises no limit that a process which another thread makes meanwhile would inherit. */
static int limit_in_forks(void)
{
	struct rlimit is;
	void *differs;
	pthread_t t;

	EXPECT(getrlimit(RLIMIT_NOFILE, &is) == 0);
	is.rlim_cur = 500;
	atomic_store(&over, 0);
	EXPECT(setrlimit(RLIMIT_NOFILE, &is) == 0 &&
	    pthread_create(&t, NULL, watch_kernels_limit, &is) == 0);
	for (unsigned i = 0; i < 300; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		EXPECT(waitpid(pid, NULL, 0) == pid);
	}
	atomic_store(&over, 1);
	EXPECT(pthread_join(t, &differs) == 0);
	printf("another limit: %ld times\n", (long)differs);
	return 0;
}

const struct scenario odd_scenarios[] = {
	{ "killed-at-birth", killed_at_birth },
	{ "limit-of-files", limit_of_files },
	{ "limit-in-forks", limit_in_forks },
	{ "last-thread-ends", last_thread_ends },
	{ "clone-words", clone_words },
	{ "clone-descriptors", clone_descriptors },
	{ "clone-sizes", clone_sizes },
	{ "first-thread-ends", first_thread_ends },
	{ "futex-words", futex_words },
	{ "own-moves", own_moves },
	{ "own-advice", own_advice },
	{ NULL, NULL },
};
