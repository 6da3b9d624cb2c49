/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of `programs` (programs.c): system calls as public suites use them; the result of each once
 * differed from Linux.
 */
#define _GNU_SOURCE
#include "programs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Runs fn in a child and returns the child's status. */
static int in_child(int (*fn)(void *), void *arg)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn(arg));
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static int exec_by_link(void *arg)
{
	char *argv[] = { "./by-link", "exe_of_this_process", NULL };

	(void)arg;
	return chdir("/tmp") == 0 && execv("./by-link", argv) == 0 ? 0 : 100;
}

/* /proc/self/exe is absolute and without links: a static program of the GNU C library stops at its start if not. */
static void exe_is_an_absolute_path(void)
{
	char self[512] = "";

	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0 && self[0] == '/');
	unlink("/tmp/by-link");
	CHECK(symlink(self, "/tmp/by-link") == 0);
	CHECK(in_child(exec_by_link, NULL) == 0);
	unlink("/tmp/by-link");
}

/* Run by the test above, in a process that was started by a relative name of a link. */
static void exe_of_this_process(void)
{
	char self[512] = "";

	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0 && self[0] == '/');
	CHECK(strstr(self, "by-link") == NULL);
}

static int be_killed(void *arg)
{
	(void)arg;
	raise(SIGABRT);
	return 0;
}

static void no_core_is_told_of(void) { CHECK(in_child(be_killed, NULL) == SIGABRT); }

/* ---- locks with a recorded owner ---- */
static pthread_mutex_t *shared_mutex(int robust, int protocol)
{
	pthread_mutex_t *m =
	    mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, robust);
	CHECK(pthread_mutexattr_setprotocol(&a, protocol) == 0);
	CHECK(pthread_mutex_init(m, &a) == 0);
	return m;
}

static int lock_and_die(void *arg)
{
	return pthread_mutex_lock(arg) == 0 ? 0 : 1; /* exits with the lock */
}

static void a_dead_owner_is_told_of(void)
{
	for (int pi = 0; pi < 2; pi++) {
		pthread_mutex_t *m = shared_mutex(
		    PTHREAD_MUTEX_ROBUST, pi ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);

		CHECK(in_child(lock_and_die, m) == 0);
		CHECK(pthread_mutex_lock(m) == EOWNERDEAD);
		CHECK(pthread_mutex_consistent(m) == 0 && pthread_mutex_unlock(m) == 0);
		CHECK(pthread_mutex_lock(m) == 0 && pthread_mutex_unlock(m) == 0);
		munmap(m, PG);
	}
}

enum { ADDERS = 3, ADDS = 300 };
static pthread_mutex_t *adders_lock;
static int added;

static void *add_under_lock(void *arg)
{
	for (int i = 0; i < ADDS; i++) {
		int now;

		pthread_mutex_lock(adders_lock);
		now = added;
		if (i % 16 == 0)
			sched_yield();
		added = now + 1;
		pthread_mutex_unlock(adders_lock);
	}
	return arg;
}

static void locks_with_inheritance_exclude(void)
{
	struct timespec soon;
	pthread_t t[ADDERS];

	adders_lock = shared_mutex(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
	for (int i = 0; i < ADDERS; i++)
		CHECK(pthread_create(&t[i], NULL, add_under_lock, NULL) == 0);
	for (int i = 0; i < ADDERS; i++)
		pthread_join(t[i], NULL);
	CHECK(added == ADDERS * ADDS);
	CHECK(pthread_mutex_lock(adders_lock) == 0);
	clock_gettime(CLOCK_REALTIME, &soon);
	CHECK(pthread_mutex_trylock(adders_lock) == EBUSY);
	CHECK(pthread_mutex_unlock(adders_lock) == 0);
	munmap(adders_lock, PG);
}

/* ---- pipes with names, and the end of pipes ---- */
static int write_hello(void *arg)
{
	int fd = open(arg, O_WRONLY);

	return fd >= 0 && write(fd, "hello", 5) == 5 ? 0 : 1;
}

static void fifos_join_processes(void)
{
	char path[] = "/tmp/a-fifo", buf[16];
	int status, fd;
	struct stat st;
	pid_t pid;

	unlink(path);
	CHECK(mkfifo(path, 0600) == 0 && stat(path, &st) == 0 && S_ISFIFO(st.st_mode));
	CHECK(open(path, O_WRONLY | O_NONBLOCK) == -1 && errno == ENXIO);
	if ((pid = fork()) == 0)
		_exit(write_hello(path));
	CHECK((fd = open(path, O_RDONLY)) >= 0); /* waits for the writer */
	CHECK(read(fd, buf, sizeof(buf)) == 5 && memcmp(buf, "hello", 5) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(read(fd, buf, sizeof(buf)) == 0);
	close(fd);
	CHECK((fd = open(path, O_RDWR)) >= 0 && write(fd, "x", 1) == 1 && read(fd, buf, 9) == 1);
	close(fd);
	CHECK((fd = open(path, O_RDONLY | O_NONBLOCK)) >= 0 && read(fd, buf, 9) == 0);
	close(fd);
	CHECK(unlink(path) == 0);
}

enum { CLOSINGS = 500 };
static int ends[2];
static volatile int turn;

static void *close_the_other_end(void *arg)
{
	for (int i = 1; i <= CLOSINGS; i++) {
		while (turn != i)
			sched_yield();
		close(ends[1]);
		turn = -i;
	}
	return arg;
}

/*
 * The close of the first end must not touch the pipe after the other end's close has freed the
 * pipe.
 */
static void both_ends_close_at_once(void)
{
	pthread_t t;

	CHECK(pthread_create(&t, NULL, close_the_other_end, NULL) == 0);
	for (int i = 1; i <= CLOSINGS; i++) {
		CHECK(pipe(ends) == 0);
		turn = i;
		close(ends[0]);
		while (turn != -i)
			sched_yield();
	}
	pthread_join(t, NULL);
}

/* ---- names ---- */
static void a_directory_does_not_move_below_itself(void)
{
	CHECK(mkdir("/tmp/up", 0700) == 0 && mkdir("/tmp/up/down", 0700) == 0);
	CHECK(rename("/tmp/up", "/tmp/up/down/x") == -1 && errno == EINVAL);
	CHECK(rename("/tmp/up", "/tmp/up/x") == -1 && errno == EINVAL);
	CHECK(rename("/tmp/up/down", "/tmp/up/other") == 0);
	CHECK(rmdir("/tmp/up/other") == 0 && rmdir("/tmp/up") == 0);
}

static int go_to_root_below(void *arg)
{
	struct stat st;
	char cwd[64];

	return chroot(arg) == 0 && chdir("/") == 0 && stat("/inside", &st) == 0 &&
		stat("/../inside", &st) == 0 && getcwd(cwd, sizeof(cwd)) != NULL &&
		strcmp(cwd, "/") == 0
	    ? 0
	    : 1;
}

static void chroot_changes_the_root(void)
{
	CHECK(mkdir("/tmp/jail", 0755) == 0 && mkdir("/tmp/jail/inside", 0755) == 0);
	CHECK(in_child(go_to_root_below, "/tmp/jail") == 0);
	CHECK(rmdir("/tmp/jail/inside") == 0 && rmdir("/tmp/jail") == 0);
}

static void a_script_has_its_own_name(void)
{
	const char text[] = "#!/bin/sh\nread c < /proc/$$/comm; [ \"$c\" = a-script ]\n";
	int fd = open("/tmp/a-script", O_WRONLY | O_CREAT | O_TRUNC, 0755);

	CHECK(fd >= 0 && write(fd, text, sizeof(text) - 1) == (ssize_t)sizeof(text) - 1);
	close(fd);
	CHECK(system("/tmp/a-script") == 0);
	unlink("/tmp/a-script");
}

/* /dev/shm has directories, links and renames: sem_open of the C libraries makes its files by link. */
static void shared_memory_has_names(void)
{
	int fd = open("/dev/shm/one", O_RDWR | O_CREAT | O_EXCL, 0600), names = 0;
	struct dirent *d;
	struct stat st;
	uint8_t *p;
	DIR *dir;

	CHECK(fd >= 0 && write(fd, "first", 5) == 5);
	CHECK(link("/dev/shm/one", "/dev/shm/two") == 0 && stat("/dev/shm/two", &st) == 0);
	CHECK(st.st_nlink == 2 && st.st_size == 5 && unlink("/dev/shm/one") == 0);
	CHECK(mkdir("/dev/shm/dir", 0700) == 0);
	CHECK(rename("/dev/shm/two", "/dev/shm/dir/three") == 0);
	CHECK(rmdir("/dev/shm/dir") == -1 && errno == ENOTEMPTY);
	CHECK(symlink("dir/three", "/dev/shm/link") == 0 && stat("/dev/shm/link", &st) == 0);
	CHECK(st.st_size == 5 && st.st_nlink == 1);
	CHECK((dir = opendir("/dev/shm/dir")) != NULL);
	while (dir != NULL && (d = readdir(dir)) != NULL)
		names++;
	CHECK(names == 3); /* . and .. too */
	closedir(dir);
	/* writes to a private mapping do not reach the file */
	CHECK(ftruncate(fd, 2 * PG) == 0);
	p = mmap(NULL, 2 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED && memcmp(p, "first", 5) == 0 && p[PG] == 0);
	p[0] = 'X', p[PG] = 7;
	CHECK(pread(fd, &st, 1, 0) == 1 && *(char *)&st == 'f');
	munmap(p, 2 * PG);
	close(fd);
	CHECK(rename("/dev/shm/dir", "/dev/shm/dir/below") == -1 && errno == EINVAL);
	CHECK(unlink("/dev/shm/dir/three") == 0 && rmdir("/dev/shm/dir") == 0);
	CHECK(unlink("/dev/shm/link") == 0 && stat("/dev/shm/dir", &st) == -1 && errno == ENOENT);
}

/*
 * Each file once had a fixed place for its bytes, by its number, and on Sv39 there were only 63
 * places.
 */
static void many_files_of_memory_fit(void)
{
	int fd[200];
	char c = 0;

	for (int i = 0; i < 200; i++)
		CHECK((fd[i] = memfd_create("many", 0)) >= 0 && write(fd[i], &i, 1) == 1);
	for (int i = 0; i < 200; i++) {
		CHECK(pread(fd[i], &c, 1, 0) == 1 && (uint8_t)c == i);
		close(fd[i]);
	}
}

/* ---- locks of files ---- */
static int locked_by_another(void *arg)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0 };
	int fd = *(int *)arg;

	if (fcntl(fd, F_GETLK, &l) != 0 || l.l_type != F_WRLCK || l.l_pid != getppid() ||
	    l.l_start != 10 || l.l_len != 20)
		return 1;
	l = (struct flock){ .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 1 };
	if (fcntl(fd, F_SETLK, &l) != -1 || (errno != EAGAIN && errno != EACCES))
		return 2;
	l = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 30, .l_len = 9 };
	return fcntl(fd, F_SETLK, &l) == 0 ? 0 : 3;
}

static int wait_for_lock(void *arg)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0 };

	return fcntl(*(int *)arg, F_SETLKW, &l) == 0 ? 0 : 1;
}

static void locks_of_files_exclude(void)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20 };
	int fd = open("/tmp/locked", O_RDWR | O_CREAT, 0600), other, status;
	pid_t pid;

	CHECK(fcntl(fd, F_SETLK, &l) == 0 && in_child(locked_by_another, &fd) == 0);
	if ((pid = fork()) == 0)
		_exit(wait_for_lock(&fd));
	CHECK(waitpid(pid, &status, WNOHANG) == 0);
	CHECK((other = open("/tmp/locked", O_RDWR)) >= 0);
	close(other); /* closing any descriptor of the file drops the locks */
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	other = open("/tmp/locked", O_RDWR);
	CHECK(flock(fd, LOCK_EX) == 0 && flock(other, LOCK_EX | LOCK_NB) == -1);
	CHECK(errno == EWOULDBLOCK && flock(fd, LOCK_UN) == 0);
	CHECK(flock(other, LOCK_SH | LOCK_NB) == 0 && flock(fd, LOCK_SH | LOCK_NB) == 0);
	close(other);
	close(fd);
	unlink("/tmp/locked");
}

/* ---- children and signals with values ---- */
static int exit_with_3(void *arg)
{
	(void)arg;
	return 3;
}

static void waits_tell_of_everything(void)
{
	siginfo_t si;
	int status;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	CHECK(kill(pid, SIGTSTP) == 0 && waitpid(pid, &status, WUNTRACED) == pid);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
	CHECK(waitpid(pid, &status, WUNTRACED | WNOHANG) == 0);
	CHECK(kill(pid, SIGCONT) == 0 && waitpid(pid, &status, WCONTINUED) == pid);
	CHECK(WIFCONTINUED(status));
	CHECK(kill(pid, SIGTERM) == 0);
	memset(&si, 0, sizeof(si));
	CHECK(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT) == 0);
	CHECK(si.si_pid == pid && si.si_code == CLD_KILLED && si.si_status == SIGTERM);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	CHECK(waitpid(pid, &status, 0) == -1 && errno == ECHILD);
	CHECK(waitpid(-1, &status, 0x40) == -1 && errno == EINVAL);
}

static void ignored_children_leave_nothing(void)
{
	int status;

	signal(SIGCHLD, SIG_IGN);
	CHECK(in_child(exit_with_3, NULL) == -1 && errno == ECHILD);
	CHECK(system("exit 4") == -1 || errno == ECHILD); /* by vfork */
	signal(SIGCHLD, SIG_DFL);
	CHECK(in_child(exit_with_3, NULL) == 3 << 8);
	CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
}

static void blocked_signals_are_kept_with_values(void)
{
	int real = SIGRTMIN + 1, status;
	union sigval v = { 0 };
	siginfo_t si;
	sigset_t set;
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, real);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	for (v.sival_int = 1; v.sival_int <= 3; v.sival_int++)
		CHECK(sigqueue(getpid(), real, v) == 0 && sigqueue(getpid(), SIGUSR1, v) == 0);
	CHECK(sigwaitinfo(&set, &si) == SIGUSR1 && si.si_value.sival_int == 1);
	for (int i = 1; i <= 3; i++)
		CHECK(sigwaitinfo(&set, &si) == real && si.si_value.sival_int == i &&
		    si.si_code == SI_QUEUE && si.si_pid == getpid());
	/* SIGCHLD is ignored by default; while it is blocked, sigwaitinfo gets it */
	if ((pid = fork()) == 0)
		_exit(exit_with_3(NULL));
	CHECK(sigwaitinfo(&set, &si) == SIGCHLD && si.si_pid == pid);
	CHECK(si.si_code == CLD_EXITED && si.si_status == 3);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(sigtimedwait(&set, &si, &(struct timespec){ 0, 1000 }) == -1 && errno == EAGAIN);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int use_the_cpu(void *arg)
{
	struct timespec now;

	(void)arg;
	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	while (now.tv_sec == 0 && now.tv_nsec < 30000000);
	return 0;
}

static void cpu_time_of_children_is_counted(void)
{
	struct rusage before, after, self;

	CHECK(getrusage(RUSAGE_CHILDREN, &before) == 0);
	CHECK(in_child(use_the_cpu, NULL) == 0);
	CHECK(getrusage(RUSAGE_CHILDREN, &after) == 0 && getrusage(RUSAGE_SELF, &self) == 0);
	CHECK((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 + after.ru_utime.tv_usec -
		before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec +
		(after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 >=
	    20000);
	CHECK(self.ru_maxrss > 0 && getrusage(7, &self) == -1 && errno == EINVAL);
	CHECK(clock_gettime((clockid_t)77, &(struct timespec){ 0, 0 }) == -1 && errno == EINVAL);
}

/* ---- arguments that are refused ---- */
static int set_the_hostname(void *arg)
{
	char name[65] = "";

	(void)arg;
	return sethostname("other", 5) == 0 && gethostname(name, sizeof(name)) == 0 &&
		strcmp(name, "other") == 0
	    ? 0
	    : 1;
}

static void wrong_arguments_are_refused(void)
{
	struct timespec past = { -1, 0 };
	char name[300];
	int fd[2], file;

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK(syscall(SYS_reboot, 0, 672274793, 0, NULL) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_reboot, 0xfee1dead, 0, 0, NULL) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_reboot, 0xfee1dead, 672274793, 5, NULL) == -1 && errno == EINVAL);
	CHECK(nanosleep(&past, NULL) == -1 && errno == EINVAL);
	CHECK(pipe2(fd, 1) == -1 && errno == EINVAL);
	CHECK(dup3(0, 9, O_NONBLOCK) == -1 && errno == EINVAL);
	CHECK(memfd_create(name, 0) == -1 && errno == EINVAL);
	CHECK(memfd_create("m", 0x40000000) == -1 && errno == EINVAL);
	CHECK(memfd_create((char *)8, 0) == -1 && errno == EFAULT);
	CHECK((file = open("/tmp/read-only", O_RDONLY | O_CREAT, 0600)) >= 0);
	CHECK(ftruncate(file, 1) == -1 && errno == EINVAL);
	CHECK(close(file) == 0 && unlink("/tmp/read-only") == 0);
	CHECK(munmap((void *)(~0ul - PG + 1), PG) == -1 && errno == EINVAL);
	CHECK(mprotect(NULL, PG, 0x40) == -1 && errno == EINVAL);
	CHECK(madvise(fd, ~0ul, MADV_NORMAL) == -1 && errno == EINVAL);
	CHECK(setpgid(0, -5) == -1 && errno == EINVAL);
}

static int lead_a_session(void *arg)
{
	(void)arg;
	return setsid() == getpid() && setsid() == -1 && errno == EPERM ? 0 : 1;
}

static void sessions_are_led_once(void) { CHECK(in_child(lead_a_session, NULL) == 0); }

static void the_hostname_is_kept(void) { CHECK(in_child(set_the_hostname, NULL) == 0); }

/* The wall clock once could not be set. */
static void the_wall_clock_is_set(void)
{
	struct timespec was, now, later;
	struct itimerspec at = { { 0, 0 }, { 0, 0 } };
	timer_t timer;
	struct sigevent none = { .sigev_notify = SIGEV_NONE };
	int status;
	pid_t pid;

	CHECK(clock_gettime(CLOCK_REALTIME, &was) == 0);
	at.it_value.tv_sec = was.tv_sec + 1000;
	CHECK(timer_create(CLOCK_REALTIME, &none, &timer) == 0);
	CHECK(timer_settime(timer, TIMER_ABSTIME, &at, NULL) == 0);
	if ((pid = fork()) == 0) { /* sleeps until a time that the clock jumps over */
		later = (struct timespec){ was.tv_sec + 1000, 0 };
		_exit(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &later, NULL));
	}
	later = (struct timespec){ was.tv_sec + 5000, 0 };
	CHECK(clock_settime(CLOCK_REALTIME, &later) == 0);
	CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0 && now.tv_sec >= later.tv_sec);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(timer_gettime(timer, &at) == 0 && at.it_value.tv_sec == 0);
	CHECK(clock_settime(CLOCK_REALTIME, &was) == 0);
	CHECK(clock_settime(CLOCK_MONOTONIC, &was) == -1 && errno == EINVAL);
	CHECK(timer_delete(timer) == 0);
}

/* A clock of CPU time with a wrong number, or of a process that there is not, once answered. */
static void clocks_of_others_have_names(void)
{
	const clockid_t wrong[] = { INT32_MIN, INT32_MIN + 1, -1073743192, -1 };
	struct timespec t;
	clockid_t mine;

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		CHECK(clock_gettime(wrong[i], &t) == -1 && errno == EINVAL);
	CHECK(clock_getcpuclockid(getppid(), &mine) == 0 && clock_gettime(mine, &t) == 0);
	CHECK(pthread_getcpuclockid(pthread_self(), &mine) == 0 && clock_gettime(mine, &t) == 0);
}

/* Every thread was once said to have the policy SCHED_OTHER and the nice value 0. */
static void scheduling_is_kept_and_told(void)
{
	struct sched_param p = { .sched_priority = 7 };
	int status;
	pid_t pid;

	CHECK(sched_setscheduler(0, SCHED_FIFO, &p) == 0 && sched_getscheduler(0) == SCHED_FIFO);
	p.sched_priority = 100;
	CHECK(sched_setparam(0, &p) == -1 && errno == EINVAL);
	CHECK(sched_setscheduler(0, 77, &p) == -1 && errno == EINVAL);
	CHECK(sched_getscheduler(999999) == -1 && errno == ESRCH);
	CHECK(setpriority(PRIO_PROCESS, 0, 5) == 0 && getpriority(PRIO_PROCESS, 0) == 5);
	if ((pid = fork()) == 0)
		_exit(sched_getscheduler(0) != SCHED_FIFO || sched_getparam(0, &p) != 0 ||
		    p.sched_priority != 7 || getpriority(PRIO_PROCESS, 0) != 5);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	p.sched_priority = 0;
	CHECK(sched_setscheduler(0, SCHED_OTHER, &p) == 0 && setpriority(PRIO_PROCESS, 0, 0) == 0);
}

/* A process that was stopped and continued once slept no longer. */
static void a_stop_does_not_end_a_sleep(void)
{
	struct timespec begin, end;
	pid_t pid;
	int status;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	if ((pid = fork()) == 0)
		_exit(nanosleep(&(struct timespec){ 1, 0 }, NULL));
	CHECK(kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid &&
	    WIFSTOPPED(status));
	CHECK(kill(pid, SIGCONT) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	CHECK((end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec >= 1000000000);
}

/* fsync of a pipe once succeeded; so did a mapping of more than there are addresses, with a wrong error. */
static void wrong_files_and_lengths_are_refused(void)
{
	int fd[2], file = memfd_create("x", 0);
	void *p;

	CHECK(pipe(fd) == 0 && fsync(fd[0]) == -1 && errno == EINVAL && fsync(file) == 0);
	CHECK(
	    mmap(NULL, SIZE_MAX, PROT_READ, MAP_SHARED, file, 0) == MAP_FAILED && errno == ENOMEM);
	CHECK(ftruncate(file, 4096) == 0);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	CHECK(p != MAP_FAILED && mlock(p, 4096) == 0);
	/* what is locked is not thrown away, in files of memory either */
	CHECK(msync(p, 4096, MS_SYNC | MS_INVALIDATE) == -1 && errno == EBUSY);
	CHECK(munmap(p, 4096) == 0);
	CHECK(mmap(NULL, (size_t)1 << 50, PROT_READ, MAP_SHARED, file, 0) == MAP_FAILED &&
	    errno == ENOMEM);
	close(fd[0]);
	close(fd[1]);
	close(file);
}

const struct test call_tests[] = {
	T(exe_is_an_absolute_path, 1),
	T(no_core_is_told_of, 0),
	T(a_dead_owner_is_told_of, 1),
	T(locks_with_inheritance_exclude, 1),
	T(fifos_join_processes, 1),
	T(both_ends_close_at_once, 1),
	T(a_directory_does_not_move_below_itself, 1),
	T(chroot_changes_the_root, 1),
	T(a_script_has_its_own_name, 1),
	T(shared_memory_has_names, 1),
	T(many_files_of_memory_fit, 1),
	T(locks_of_files_exclude, 1),
	T(waits_tell_of_everything, 1),
	T(ignored_children_leave_nothing, 1),
	T(blocked_signals_are_kept_with_values, 1),
	T(cpu_time_of_children_is_counted, 1),
	T(wrong_arguments_are_refused, 1),
	T(sessions_are_led_once, 1),
	T(the_hostname_is_kept, 0),
	T(the_wall_clock_is_set, 0),
	T(clocks_of_others_have_names, 1),
	T(scheduling_is_kept_and_told, 0),
	T(a_stop_does_not_end_a_sleep, 1),
	T(wrong_files_and_lengths_are_refused, 1),
	{ NULL, NULL, 0 },
};
const struct test inner_tests[] = { T(exe_of_this_process, 1), { NULL, NULL, 0 } };
