/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scenarios of threads, processes and descriptors, whose interaction must be as without Quire. See
 * run_scenarios.h.
 */
#include "tests/run/run_scenarios.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Waits for pid; prints how it ended. */
static void ended(const char *what, pid_t pid)
{
	int status;
	pid_t got;

	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	if (got != pid)
		printf("%s: not there\n", what);
	else if (WIFSIGNALED(status))
		printf("%s: signal %d\n", what, WTERMSIG(status));
	else
		printf("%s: status %d\n", what, WEXITSTATUS(status));
}

/* ---- threads ---- */
static _Thread_local uint64_t own[1024];
static atomic_int running;

static void *thread_work(void *arg)
{
	size_t id = (size_t)arg;
	char stack[40000], *p = malloc(MIB);

	own[1000] = id;
	fill(p, MIB, id);
	fill(stack, sizeof stack, id);
	push_out();
	(void)sched_yield();
	bool ok = own[1000] == id && wrong(p, MIB, id) == 0 && wrong(stack, sizeof stack, id) == 0;
	free(p);
	atomic_fetch_sub(&running, 1);
	return (void *)(uintptr_t)(ok ? id * 3 : 0);
}

static int threads(void)
{
	pthread_t t[6];

	for (size_t round = 0; round < 2; round++) {
		for (size_t i = 0; i < 6; i++)
			EXPECT(pthread_create(&t[i], NULL, thread_work, (void *)(i + 1)) == 0);
		for (size_t i = 0; i < 6; i++) {
			void *r;
			EXPECT(pthread_join(t[i], &r) == 0 && (uintptr_t)r == (i + 1) * 3);
		}
	}
	return 0;
}

static int detached(void)
{
	pthread_attr_t attr;
	pthread_t t;

	(void)pthread_attr_init(&attr);
	EXPECT(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
	EXPECT(pthread_attr_setstacksize(&attr, 256 * 1024) == 0);
	for (size_t i = 0; i < 8; i++) {
		atomic_fetch_add(&running, 1);
		EXPECT(pthread_create(&t, &attr, thread_work, (void *)(i + 1)) == 0);
		while (atomic_load(&running) > 3)
			(void)sched_yield();
	}
	while (atomic_load(&running) > 0)
		(void)sched_yield();
	return 0;
}

static uint64_t deep(unsigned n)
{
	volatile uint64_t frame[64];

	frame[0] = n;
	frame[63] = n == 0 ? 0 : deep(n - 1) + 1;
	return frame[63] + (frame[0] != n);
}

static void *deep_thread(void *arg)
{
	(void)arg;
	uint64_t n = deep(12000); /* more than 6 MiB */

	push_out();
	return (void *)(uintptr_t)(n + deep(12000));
}

static int recursion(void)
{
	pthread_t t[2];
	void *r;

	for (size_t i = 0; i < 2; i++)
		EXPECT(pthread_create(&t[i], NULL, deep_thread, NULL) == 0);
	printf("%llu\n", (unsigned long long)deep(10000));
	for (size_t i = 0; i < 2; i++)
		EXPECT(pthread_join(t[i], &r) == 0 && (uintptr_t)r == 24000);
	return 0;
}

static void cleanup(void *arg) { *(char **)arg = NULL; }

static void *cancel_me(void *arg)
{
	char here[10000];

	fill(here, sizeof here, 1);
	pthread_cleanup_push(cleanup, arg);
	atomic_fetch_add(&running, 1);
	for (;;)
		(void)pause();
	pthread_cleanup_pop(0);
	return NULL;
}

static int cancel(void)
{
	char *mark[4];
	pthread_t t[4];
	void *r;

	for (size_t i = 0; i < 4; i++) {
		mark[i] = (char *)&mark[i];
		EXPECT(pthread_create(&t[i], NULL, cancel_me, &mark[i]) == 0);
	}
	while (atomic_load(&running) < 4)
		(void)sched_yield();
	push_out();
	for (size_t i = 0; i < 4; i++)
		EXPECT(pthread_cancel(t[i]) == 0);
	for (size_t i = 0; i < 4; i++)
		EXPECT(pthread_join(t[i], &r) == 0 && r == PTHREAD_CANCELED && mark[i] == NULL);
	return 0;
}

static pthread_mutex_t *lock;
static pthread_cond_t *cond;
static unsigned *turn;
static void *turns(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < 50; i++) {
		(void)pthread_mutex_lock(lock);
		while (*turn % 3 != me)
			(void)pthread_cond_wait(cond, lock);
		(*turn)++;
		if (i % 25 == 0)
			push_out();
		(void)pthread_cond_broadcast(cond);
		(void)pthread_mutex_unlock(lock);
	}
	return NULL;
}

/* Locks whose words are paged out while threads wait on them; a robust lock whose owner dies. */
static int futexes(void)
{
	pthread_mutexattr_t robust;
	pthread_t t[3];

	lock = map(PAGE);
	cond = map(PAGE);
	turn = map(PAGE);
	(void)pthread_mutex_init(lock, NULL);
	(void)pthread_cond_init(cond, NULL);
	for (size_t i = 0; i < 3; i++)
		EXPECT(pthread_create(&t[i], NULL, turns, (void *)i) == 0);
	for (size_t i = 0; i < 3; i++)
		EXPECT(pthread_join(t[i], NULL) == 0);
	printf("%u\n", *turn);
	(void)pthread_mutexattr_init(&robust);
	EXPECT(pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST) == 0);
	EXPECT(pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED) == 0);
	pthread_mutex_t *shared =
	    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	(void)pthread_mutex_init(shared, &robust);
	pid_t pid = fork();
	if (pid == 0) {
		(void)pthread_mutex_lock(shared);
		_exit(6);
	}
	ended("owner", pid);
	EXPECT(pthread_mutex_lock(shared) == EOWNERDEAD);
	return 0;
}

/*
 * The kernel serves no fault in an ending thread: if the thread's robust lock or the word of a join
 * was paged out, the kernel did not change it, and the waiting threads waited forever.
 */
static void *die_with_lock(void *arg)
{
	EXPECT(pthread_mutex_lock(arg) == 0);
	push_out();
	return NULL;
}

static int owner_ends(void)
{
	pthread_mutexattr_t robust;

	EXPECT(pthread_mutexattr_init(&robust) == 0 &&
	    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST) == 0);
	for (int way = 0; way < 4; way++) {
		pthread_mutex_t *m = map(PAGE);
		pthread_t t;

		EXPECT(pthread_mutexattr_setprotocol(
			   &robust, way % 2 == 0 ? PTHREAD_PRIO_NONE : PTHREAD_PRIO_INHERIT) == 0 &&
		    pthread_mutex_init(m, &robust) == 0);
		EXPECT(pthread_create(&t, NULL, die_with_lock, m) == 0);
		EXPECT(pthread_join(t, NULL) == 0);
		push_out();
		printf("%d: %s\n", way, strerror(pthread_mutex_lock(m)));
		EXPECT(pthread_mutex_consistent(m) == 0);
		EXPECT(pthread_mutex_unlock(m) == 0);
	}
	return 0;
}

/* ---- processes ---- */
static int fork_budget(void)
{
	char *p = map(4 * MIB);
	pid_t pid[4];
	int status;

	fill(p, 4 * MIB, 1);
	push_out();
	for (size_t i = 0; i < 4; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			EXPECT(wrong(p, 4 * MIB, 1) == 0);
			fill(p, 2 * MIB, 10 + i);
			push_out();
			EXPECT(wrong(p, 2 * MIB, 10 + i) == 0);
			pid_t again = fork();
			if (again == 0) {
				EXPECT(wrong(p, 2 * MIB, 10 + i) == 0);
				exit(30);
			}
			EXPECT(waitpid(again, &status, 0) == again && WEXITSTATUS(status) == 30);
			exit((int)i + 20);
		}
	}
	fill(p + 2 * MIB, 2 * MIB, 2);
	for (size_t i = 0; i < 4; i++)
		ended("child", pid[i]);
	EXPECT(wrong(p, 2 * MIB, 1) == 0 && wrong(p + 2 * MIB, 2 * MIB, 2) == 0);
	return 0;
}

static void *fault_on(void *arg)
{
	char *p = map(2 * MIB);

	for (uint64_t i = 0; atomic_load((atomic_int *)arg) == 0; i++) {
		fill(p, 2 * MIB, i);
		EXPECT(wrong(p, 2 * MIB, i) == 0);
	}
	return NULL;
}

/* fork while other threads fault, map and unmap. */
static int fork_threads(void)
{
	static atomic_int stop;
	pthread_t t[2];
	char *p = map(MIB);

	fill(p, MIB, 1);
	for (size_t i = 0; i < 2; i++)
		EXPECT(pthread_create(&t[i], NULL, fault_on, &stop) == 0);
	for (int i = 0; i < 15; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			char *q = malloc(MIB);
			fill(q, MIB, 3);
			_exit(wrong(p, MIB, 1) == 0 && wrong(q, MIB, 3) == 0 ? i : 99);
		}
		ended("child", pid);
	}
	atomic_store(&stop, 1);
	for (size_t i = 0; i < 2; i++)
		EXPECT(pthread_join(t[i], NULL) == 0);
	return 0;
}

static int spawns(void)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)"echo from the shell; exit 7",
		NULL };
	char *p = map(MIB), line[64];
	posix_spawn_file_actions_t fa;
	pid_t pid;
	FILE *f;

	fill(p, MIB, 1);
	push_out();
	pid = vfork();
	if (pid == 0) {
		execv("/bin/sh", argv);
		_exit(98);
	}
	ended("vfork", pid);
	EXPECT(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0);
	ended("spawn", pid);
	EXPECT(posix_spawnp(&pid, "nonexistent-program", NULL, NULL, argv, environ) == ENOENT);
	(void)posix_spawn_file_actions_init(&fa);
	(void)posix_spawn_file_actions_addclose(&fa, 1);
	(void)posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	EXPECT(posix_spawn(&pid, "/bin/sh", &fa, NULL, argv, environ) == 0);
	ended("quiet spawn", pid);
	printf("system %d\n", WEXITSTATUS(system("exit 9")));
	f = popen("echo one; echo two", "r");
	while (fgets(line, sizeof line, f) != NULL)
		printf("popen: %s", line);
	printf("pclose %d\n", WEXITSTATUS(pclose(f)));
	f = popen("sed s/^/sed:/", "w");
	fputs("through\n", f);
	printf("pclose %d\n", pclose(f));
	pid = fork();
	if (pid == 0) {
		execlp("sh", "sh", "-c", "exit 11", (char *)NULL);
		_exit(98);
	}
	ended("execlp", pid);
	EXPECT(wrong(p, MIB, 1) == 0);
	EXPECT(execve("/nonexistent", argv, environ) == -1 && errno == ENOENT);
	fill(p, MIB, 2);
	push_out();
	EXPECT(wrong(p, MIB, 2) == 0); /* a failed execve leaves everything as it was */
	return 0;
}

/*
 * Variables that end where a readable page ends, or cross to the next page, in a list that does so,
 * too; a longer list than is read at once. `odd` is added to the list's address.
 */
static void exec_at_page_ends(size_t odd, unsigned n)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)"set | grep ^variable_ | sort",
		NULL };
	char *area = mmap(NULL, (n + 1) * 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *list = area + 2 * n * PAGE + PAGE - (n + 2) * sizeof list - odd, *null = NULL;

	(void)mprotect(area + (2 * n - 1) * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE);
	for (unsigned i = 0; i <= n; i++) {
		char *page = area + 2 * i * PAGE, s[80];
		size_t bytes = 1 +
		    (size_t)(i < n ? snprintf(s, sizeof s, "variable_%u=%.*s", i, (int)i % 23,
					 "a value of some length")
				   : snprintf(s, sizeof s, "LD_PRELOAD="));

		(void)mprotect(page, PAGE, PROT_READ | PROT_WRITE);
		page += i < n ? (ptrdiff_t)(PAGE - bytes) : -5;
		memcpy(page, s, bytes);
		memcpy(list + i * sizeof page, &page, sizeof page);
	}
	memcpy(list + (n + 1) * sizeof null, &null, sizeof null);
	(void)execve("/bin/sh", argv, (char **)(void *)list);
	_exit(98);
}

static int environment_at_page_ends(void)
{
	for (unsigned n = 1; n < 100; n += 14) {
		pid_t pid = fork();

		if (pid == 0)
			exec_at_page_ends(n % 3, n);
		ended("page ends", pid);
	}
	return 0;
}

/* An empty environment, or none: the program keeps the limit all the same. */
static int empty_environment(void)
{
	char *const none[] = { NULL },
		    *const again[] = { strdup(self), (char *)"-b", (char *)"10", (char *)"heap",
			    NULL };
	pid_t pid = fork();

	if (pid == 0) {
		execve(self, again, none);
		_exit(98);
	}
	ended("empty", pid);
	pid = fork();
	if (pid == 0) {
		execve(self, again, NULL);
		_exit(98);
	}
	ended("NULL", pid);
	EXPECT(clearenv() == 0);
	printf("system %d\n", system("exit 0"));
	pid = fork();
	if (pid == 0) {
		execv(self, again);
		_exit(98);
	}
	ended("clearenv", pid);
	return 0;
}

static int exit_codes(void)
{
	const int signals[] = { SIGKILL, SIGABRT, SIGTERM, SIGSEGV, SIGBUS, SIGFPE, SIGALRM,
		SIGPIPE, SIGRTMIN + 3 };
	struct rlimit none = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
	for (int i = 0; i < 256; i += 51) {
		pid_t pid = fork();
		if (pid == 0)
			exit(i);
		ended("exit", pid);
	}
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			(void)raise(signals[i]);
			_exit(98);
		}
		ended("raise", pid);
	}
	pid_t pid = fork();
	if (pid == 0)
		abort();
	ended("abort", pid);
	return 0;
}

/*
 * The parent ends at once; its child, in a separate session, continues and reports by a pipe to the
 * grandparent.
 */
static int daemons(void)
{
	char *p = map(2 * MIB), answer[8] = "";
	int fd[2];

	fill(p, 2 * MIB, 1);
	EXPECT(pipe(fd) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (daemon(1, 1) != 0)
			_exit(97);
		push_out();
		bool ok = wrong(p, 2 * MIB, 1) == 0;
		fill(p, 2 * MIB, 2);
		push_out();
		ok = ok && wrong(p, 2 * MIB, 2) == 0;
		pid_t last = fork();
		if (last == 0)
			_exit(wrong(p, 2 * MIB, 2) == 0 ? 8 : 9);
		int status = 0;
		(void)waitpid(last, &status, 0);
		_exit(
		    write(fd[1], ok && WEXITSTATUS(status) == 8 ? "good" : "bad", 5) == 5 ? 0 : 96);
	}
	ended("father", pid);
	(void)close(fd[1]);
	printf("%zd %s\n", read(fd[0], answer, sizeof answer), answer);
	return 0;
}

/* ---- descriptors ---- */
/* Continues after all descriptors are closed: more memory, a fork, an exec. */
static void use_all(const char *what)
{
	char *p = map(2 * MIB);
	int status = -1;

	fill(p, 2 * MIB, 1);
	push_out();
	pid_t pid = fork();
	if (pid == 0) {
		push_out();
		_exit(wrong(p, 2 * MIB, 1) == 0 ? 5 : 6);
	}
	(void)waitpid(pid, &status, 0);
	EXPECT(WEXITSTATUS(status) == 5);
	if (access(self, X_OK) == 0) { /* not in a folder that is root's alone */
		pid = fork();
		if (pid == 0) {
			execl(self, self, "-b", "10", "munmap", (char *)NULL);
			_exit(98);
		}
		(void)waitpid(pid, &status, 0);
		EXPECT(status == 0);
	}
	EXPECT(wrong(p, 2 * MIB, 1) == 0);
	printf("%s\n", what);
}

static int close_all(void)
{
	(void)dup2(1, 77);
	for (int fd = 3; fd < 5000; fd++)
		(void)close(fd);
	EXPECT(write(77, "x", 1) == -1 && errno == EBADF);
	use_all("close");
	(void)dup2(1, 77);
	closefrom(3);
	EXPECT(write(77, "x", 1) == -1 && errno == EBADF);
	use_all("closefrom");
	(void)dup2(1, 77);
	EXPECT(close_range(3, UINT_MAX, 0) == 0);
	EXPECT(write(77, "x", 1) == -1 && errno == EBADF);
	EXPECT(close_range(9, 8, 0) == -1 && errno == EINVAL);
	use_all("close_range");
	EXPECT(close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC) == 0);
	EXPECT(close_range(3, UINT_MAX, CLOSE_RANGE_UNSHARE) == 0);
	use_all("close_range flags");
	return 0;
}

/*
 * All descriptors that the program finds are to be closed by the exec. The last process of the family once
 * left it so: the family ended, and what was executed ended with it.
 */
static int closed_by_the_exec(void)
{
	for (int fd = 3; fd < 5000; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	use_all("by a child's exec");
	(void)fflush(stdout);
	if (access(self, X_OK) == 0)
		execl(self, self, "-b", "10", "munmap", (char *)NULL);
	return 0;
}

/* Descriptor numbers that a program may choose belong to the program. */
static int dup_everywhere(void)
{
	struct rlimit rl;
	unsigned bad = 0;

	EXPECT(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	int top = rl.rlim_cur > 4096 ? 4096 : (int)rl.rlim_cur;
	for (int fd = 3; fd < top; fd++)
		bad += dup2(1, fd) != fd;
	EXPECT(bad == 0);
	for (int fd = 3; fd < top; fd++)
		bad += write(fd, "", 0) != 0 || fcntl(fd, F_GETFD) != 0;
	EXPECT(bad == 0);
	for (int fd = 100; fd < top; fd++)
		bad += close(fd) != 0;
	EXPECT(bad == 0);
	use_all("dup2");
	EXPECT(fcntl(1, F_DUPFD, 1000) >= 1000);
	EXPECT(close(4000) == -1 && errno == EBADF);
	return 0;
}

/*
 * The process lets the kernel kill it for every call that is not needed for memory, output and
 * fork. It keeps its pages: in memory, in the store, behind PROT_NONE, never touched.
 */
static int filtered(bool all_threads)
{
	static const unsigned ok[] = { SYS_read, SYS_write, SYS_exit_group, SYS_brk, SYS_mmap,
		SYS_munmap, SYS_mprotect, SYS_clone, SYS_wait4, SYS_newfstatat, SYS_set_robust_list,
		SYS_gettid, SYS_getpid, SYS_rt_sigprocmask };
	enum { N = sizeof ok / sizeof *ok };
	struct sock_filter f[N + 3] = { BPF_STMT(
	    BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	struct sock_fprog prog = { N + 3, f };
	char *p = map(8 * MIB), *hidden = map(2 * MIB), *sparse = map(256 * MIB);
	char *shared = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; i < N; i++)
		f[i + 1] = (struct sock_filter)BPF_JUMP(
		    BPF_JMP | BPF_JEQ | BPF_K, ok[i], (uint8_t)(N - i), 0);
	f[N + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	f[N + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	fill(p, 8 * MIB, 1);
	fill(hidden, 2 * MIB, 2);
	fill(sparse + 100 * MIB, MIB, 3);
	fill(shared, MIB, 5);
	EXPECT(mprotect(hidden, 2 * MIB, PROT_NONE) == 0);
	push_out();
	EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0, 0, 0) == -1 &&
	    errno == EFAULT); /* can it? */
	EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (all_threads)
		EXPECT(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
			   &prog) == 0);
	else
		EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
	EXPECT(mprotect(hidden, 2 * MIB, PROT_READ | PROT_WRITE) == 0);
	EXPECT(wrong(p, 8 * MIB, 1) == 0 && wrong(hidden, 2 * MIB, 2) == 0 &&
	    wrong(sparse + 100 * MIB, MIB, 3) == 0);
	EXPECT(sparse[0] == 0 && sparse[200 * MIB] == 0);
	char *q = map(8 * MIB);
	fill(q, 8 * MIB, 4);
	push_out();
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		fill(shared, MIB, wrong(shared, MIB, 5) == 0 ? 6 : 7);
		_exit(wrong(q, 8 * MIB, 4) == 0 && wrong(p, 8 * MIB, 1) == 0 ? 21 : 22);
	}
	(void)waitpid(pid, &status, 0);
	EXPECT(WEXITSTATUS(status) == 21 && wrong(shared, MIB, 6) == 0);
	EXPECT(munmap(p, 8 * MIB) == 0 && wrong(q, 8 * MIB, 4) == 0);
	return 0;
}

static int filter(void) { return filtered(false); }

static int filter_all(void) { return filtered(true); }

/*
 * The service thread neither has nor opens descriptors of the program: a pipe ends when the program
 * closes it.
 */
static int own_descriptors(void)
{
	char path[96], name[64], here[64];
	struct dirent *task, *fd;
	unsigned others = 0;
	struct stat st;
	int p[2];

	EXPECT(pipe(p) == 0 && fstat(p[0], &st) == 0);
	push_out();
	DIR *tasks = opendir("/proc/self/task");
	EXPECT(tasks != NULL);
	while ((task = readdir(tasks)) != NULL) {
		if (task->d_name[0] == '.' || atoi(task->d_name) == getpid())
			continue;
		(void)snprintf(path, sizeof path, "/proc/self/task/%.20s/fd", task->d_name);
		DIR *fds = opendir(path);
		while (fds != NULL && (fd = readdir(fds)) != NULL) {
			(void)snprintf(path, sizeof path, "/proc/self/task/%.20s/fd/%.20s",
			    task->d_name, fd->d_name);
			ssize_t n = readlink(path, name, sizeof name - 1);
			if (n <= 0)
				continue;
			name[n] = '\0';
			(void)snprintf(here, sizeof here, "pipe:[%lu]", (unsigned long)st.st_ino);
			others += strcmp(name, here) == 0;
		}
		if (fds != NULL)
			(void)closedir(fds);
	}
	(void)closedir(tasks);
	printf("%u others have the pipe\n", others);
	(void)close(p[1]);
	EXPECT(read(p[0], name, 1) == 0);
	return 0;
}

/*
 * Each new descriptor has the lowest free number while the program opens and closes files and
 * another thread faults.
 */
static int lowest_number(void)
{
	static atomic_int stop;
	unsigned bad = 0;
	pthread_t t;

	EXPECT(pthread_create(&t, NULL, fault_on, &stop) == 0);
	for (unsigned i = 0; i < 20000; i++) {
		int fd = open("/dev/null", O_RDONLY);

		bad += fd != 3 || dup2(0, 4) != 4 || fcntl(4, F_GETFD) != 0;
		(void)close(4);
		(void)close(fd);
	}
	atomic_store(&stop, 1);
	EXPECT(pthread_join(t, NULL) == 0);
	printf("%u bad\n", bad);
	return 0;
}

static int few_descriptors(void)
{
	struct rlimit rl = { 16, 64 };

	EXPECT(setrlimit(RLIMIT_NOFILE, &rl) == 0);
	use_all("16 descriptors");
	return 0;
}

static int clone_main(void *arg)
{
	char here[20000];

	fill(here, sizeof here, 2);
	push_out();
	bool ok = wrong(arg, 2 * MIB, 1) == 0;
	fill(arg, 2 * MIB, 3);
	return ok && wrong(here, sizeof here, 2) == 0 ? 14 : 15;
}

/* clone() with a separate stack for the child, on a copy of the memory or on the memory itself. */
static int clones(void)
{
	char *p = map(2 * MIB), *stack = map(MIB);
	int tid = 0;

	fill(p, 2 * MIB, 1);
	push_out();
	pid_t pid = clone(clone_main, stack + MIB, SIGCHLD | CLONE_PARENT_SETTID, p, &tid);
	EXPECT(pid > 0 && tid == pid);
	ended("copy", pid);
	EXPECT(wrong(p, 2 * MIB, 1) == 0);
	ended("shared", clone(clone_main, stack + MIB, SIGCHLD | CLONE_VM | CLONE_VFORK, p));
	EXPECT(wrong(p, 2 * MIB, 3) == 0);
	EXPECT(clone(clone_main, NULL, SIGCHLD, p) == -1 && errno == EINVAL);
	struct {
		uint64_t flags, pidfd, child, parent, exit_signal, stack, stack_size, tls;
	} args = { .exit_signal = SIGCHLD };
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0)
		_exit(wrong(p, 2 * MIB, 3) == 0 ? 16 : 17);
	ended("clone3", pid);
	return 0;
}

/* A process without any rights: its memory works, and so do its children. */
static int drop_rights(void)
{
	char *p = map(2 * MIB);

	fill(p, 2 * MIB, 1);
	pid_t pid = fork();
	if (pid == 0) {
		if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
			_exit(97);
		push_out();
		EXPECT(wrong(p, 2 * MIB, 1) == 0);
		use_all("nobody");
		exit(12);
	}
	ended("nobody", pid);
	return 0;
}

static int terminal(void)
{
	char line[64] = "";

	for (int fd = 0; fd < 3; fd++)
		printf("%d %s\n", fd, isatty(fd) ? "terminal" : "none");
	EXPECT(fgets(line, sizeof line, stdin) != NULL);
	printf("read %s", line);
	fprintf(stderr, "to stderr\n");
	return 0;
}

const struct scenario process_scenarios[] = {
	{ "threads", threads },
	{ "detached", detached },
	{ "recursion", recursion },
	{ "cancel", cancel },
	{ "futexes", futexes },
	{ "owner-ends", owner_ends },
	{ "fork", fork_budget },
	{ "fork-threads", fork_threads },
	{ "clone", clones },
	{ "spawn", spawns },
	{ "empty-environment", empty_environment },
	{ "environment-at-page-ends", environment_at_page_ends },
	{ "exit-codes", exit_codes },
	{ "daemon", daemons },
	{ "close-all", close_all },
	{ "closed-by-the-exec", closed_by_the_exec },
	{ "dup-everywhere", dup_everywhere },
	{ "few-descriptors", few_descriptors },
	{ "filter", filter },
	{ "filter-all", filter_all },
	{ "own-descriptors", own_descriptors },
	{ "lowest-number", lowest_number },
	{ "drop-rights", drop_rights },
	{ "terminal", terminal },
	{ NULL, NULL },
};
