/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads that race each other through exec, exit, stops, faults and pipes: a part of the program `programs`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "programs.h"

static char self[256];

static const char *own_path(void)
{
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n > 0 ? n : 0] = '\0';
	return self;
}

/* ---- exec beside exec, exit and a kill ---- */
static void *exec_the_end(void *arg)
{
	execl(own_path(), self, "ends_with_5", NULL);
	return arg;
}

/* Each of two threads once waited for the other to end. */
static void two_threads_exec_at_once(void)
{
	int status;

	for (int i = 0; i < 20; i++) {
		pthread_t t[3];
		pid_t pid = fork();

		if (pid == 0) {
			for (int k = 0; k < 3; k++)
				pthread_create(&t[k], NULL, exec_the_end, NULL);
			exec_the_end(NULL);
			_exit(1);
		}
		CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
		    WEXITSTATUS(status) == 5);
	}
}

static void *sleep_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void execs_for_ever(void)
{
	pthread_t t;

	(void)!write(1, "x", 1);
	for (int k = 0; k < 3; k++)
		pthread_create(&t, NULL, sleep_for_ever, NULL);
	execl(own_path(), self, "execs_for_ever", NULL);
	_exit(1);
}

/*
 * A signal that arrived while exec ended the other threads was once lost with the thread that took
 * it.
 */
static void a_kill_reaches_what_execs(void)
{
	int status, fd[2];
	char c[8];

	for (int i = 0; i < 20; i++) {
		CHECK(pipe(fd) == 0);
		pid_t pid = fork();

		if (pid == 0) {
			dup2(fd[1], 1);
			close(fd[0]);
			close(fd[1]);
			execl(own_path(), self, "execs_for_ever", NULL);
			_exit(1);
		}
		close(fd[1]);
		for (int k = 0; k < i % 5 + 1; k++)
			CHECK(read(fd[0], c, 1) == 1);
		CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid &&
		    WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		close(fd[0]);
	}
}

static void *exec_the_names(void *arg)
{
	execl(own_path(), self, "is_its_main_thread", NULL);
	return arg;
}

static void is_its_main_thread(void) { _exit(syscall(SYS_gettid) == getpid() ? 6 : 1); }

static void a_thread_that_execs_is_the_process(void)
{
	pthread_t t;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		pthread_create(&t, NULL, exec_the_names, NULL);
		sleep_for_ever(NULL);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 6);
}

/* Descriptors shared with another process are not closed there by an exec. */
static int share_files(void *fd)
{
	fcntl(*(int *)fd, F_SETFD, FD_CLOEXEC);
	execl(own_path(), self, "ends_with_5", NULL);
	return 1;
}

static void exec_takes_its_own_descriptors(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	int fd = open("/dev/null", O_RDONLY), status;
	pid_t pid = clone(share_files, stack + sizeof(stack), CLONE_FILES | SIGCHLD, &fd);

	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	    WEXITSTATUS(status) == 5);
	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	close(fd);
}

static void *wait_for_all(void *count)
{
	int status;

	for (;;) {
		pid_t pid = waitpid(-1, &status, 0);

		if (pid > 0)
			++*(volatile int *)count;
		else if (*(volatile int *)count == 200)
			return NULL;
	}
}

/*
 * The structure of a vfork's child was once freed by another waiting thread, while the vforking
 * thread still read it.
 */
static void others_wait_for_a_vforked_child(void)
{
	pthread_t t;
	int count = 0;

	CHECK(pthread_create(&t, NULL, wait_for_all, &count) == 0);
	for (int i = 0; i < 200; i++) {
		pid_t pid = vfork();

		if (pid == 0)
			_exit(3);
		CHECK(pid > 0);
	}
	pthread_join(t, NULL);
	CHECK(count == 200);
}

/* ---- threads that end, beside threads that fork ---- */
static void *end_at_once(void *arg) { return arg; }

static void *fork_and_wait(void *bad)
{
	int status;

	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(9);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 9)
			++*(volatile int *)bad;
	}
	return NULL;
}

static void threads_end_while_others_fork(void)
{
	pthread_t forker[2], t[8];
	int bad[2] = { 0, 0 };

	for (int k = 0; k < 2; k++)
		CHECK(pthread_create(&forker[k], NULL, fork_and_wait, &bad[k]) == 0);
	for (int i = 0; i < 40; i++) {
		for (int k = 0; k < 8; k++)
			CHECK(pthread_create(&t[k], NULL, end_at_once, NULL) == 0);
		for (int k = 0; k < 8; k++)
			pthread_join(t[k], NULL);
	}
	for (int k = 0; k < 2; k++)
		pthread_join(forker[k], NULL);
	CHECK(bad[0] == 0 && bad[1] == 0);
}

/* Calls exit_group while threads are made, run, fault and sleep. */
static void a_process_ends_in_the_middle(void)
{
	int status;

	for (int i = 0; i < 30; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			pthread_t t;

			for (int k = 0; k < 6; k++)
				pthread_create(&t, NULL,
				    k % 3 == 0       ? sleep_for_ever
					: k % 3 == 1 ? fork_and_wait
						     : end_at_once,
				    &status);
			_exit(4);
		}
		CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
		    WEXITSTATUS(status) == 4);
	}
}

static void *clean_up_later(void *arg)
{
	char c;

	pthread_cleanup_push((void (*)(void *))free, malloc(100));
	(void)!read(*(int *)arg, &c, 1);
	pthread_cleanup_pop(1);
	return NULL;
}

static void threads_are_cancelled(void)
{
	int fd[2];
	void *r;

	CHECK(pipe(fd) == 0);
	for (int i = 0; i < 30; i++) {
		pthread_t t[4];

		for (int k = 0; k < 4; k++)
			CHECK(pthread_create(&t[k], NULL, clean_up_later, &fd[0]) == 0);
		for (int k = 0; k < 4; k++)
			CHECK(pthread_cancel(t[k]) == 0);
		for (int k = 0; k < 4; k++)
			CHECK(pthread_join(t[k], &r) == 0 && r == PTHREAD_CANCELED);
	}
	close(fd[0]);
	close(fd[1]);
}

/* ---- stops ---- */
static volatile unsigned long *counter;

static void *count_up(void *arg)
{
	for (;;)
		++*counter;
	return arg;
}

static int counter_rests(void)
{
	unsigned long before = *counter;

	usleep(30000);
	return *counter == before;
}

/* A stop signal once stopped only the thread that took it. */
static void a_stop_stops_every_thread(void)
{
	int status;
	pthread_t t;

	counter = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = fork();
	if (pid == 0) {
		pthread_create(&t, NULL, count_up, NULL);
		sleep_for_ever(NULL);
	}
	while (*counter == 0)
		usleep(1000);
	CHECK(kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid &&
	    WIFSTOPPED(status));
	/*
	 * A thread stops when it leaves the kernel. If the counting thread does not stop, this loop
	 * does not end.
	 */
	for (int rests = 0; rests < 3;)
		rests = counter_rests() ? rests + 1 : 0;
	CHECK(kill(pid, SIGCONT) == 0);
	while (counter_rests())
		;
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
	munmap((void *)(uintptr_t)counter, PG);
}

/* ---- signals whose frame has no room ---- */
static volatile uintptr_t spinner_at; /* an address on the spinning thread's stack; 0: not yet */
static volatile int spinner_tid;

static void *spin_without_stack(void *arg)
{
	static uint8_t other[65536];
	const stack_t st = { .ss_sp = other, .ss_size = sizeof(other) };
	volatile uint8_t below[4 * PG]; /* what the C library keeps lies at the top of the stack */

	below[0] = 1;
	sigaltstack(&st, NULL);
	spinner_tid = (int)syscall(SYS_gettid);
	spinner_at = (uintptr_t)below;
	for (;;)
		__asm__ volatile("");
	return arg;
}

static void on_usr1(int sig) { _exit(sig); }
static void on_segv(int sig) { _exit(sig == SIGSEGV ? 9 : 8); }

/* segv: SIGSEGV's handler has these flags; -1: there is none. How the process ends. */
static int end_without_room(int segv)
{
	struct sigaction sa = { .sa_handler = on_usr1 };
	const size_t size = 64 * PG;
	pthread_attr_t a;
	pthread_t t;
	int status;
	pid_t pid = fork();

	if (pid != 0)
		return waitpid(pid, &status, 0) == pid ? status : -1;
	sigaction(SIGUSR1, &sa, NULL);
	sa = (struct sigaction){ .sa_handler = on_segv, .sa_flags = segv };
	if (segv >= 0)
		sigaction(SIGSEGV, &sa, NULL);
	uint8_t *stack =
	    mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_init(&a);
	if (pthread_attr_setstack(&a, stack, size) != 0 ||
	    pthread_create(&t, &a, spin_without_stack, NULL) != 0)
		_exit(1);
	while (spinner_at == 0)
		sched_yield();
	uintptr_t end = (spinner_at & ~(PG - 1)) + PG;
	if (mprotect(stack, end - (uintptr_t)stack, PROT_NONE) != 0 ||
	    syscall(SYS_tgkill, getpid(), spinner_tid, SIGUSR1) != 0)
		_exit(2);
	sleep_for_ever(NULL);
	_exit(3);
}

/* The process once ended at once, also if SIGSEGV had a handler with a stack of its own. */
static void a_signal_without_room_becomes_sigsegv(void)
{
	int status = end_without_room(SA_ONSTACK);

	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 9);
	status = end_without_room(0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	status = end_without_room(-1);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

/* ---- spaces that end while others run ---- */
enum { ENDED = 20, FAULTS_EACH = 100 };

/*
 * The end of a space makes the CPUs leave it that still have it loaded. Such a CPU, if it ran
 * another program by then, once left that program's space instead: the program faulted without end
 * until another thread took the CPU.
 */
static void the_end_of_a_space_disturbs_no_other(void)
{
	unsigned long faults = number_in("/proc/quire", "fault");
	int status;

	counter = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t counts = fork();
	if (counts == 0)
		count_up(NULL);
	for (int i = 0; i < ENDED; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
		for (unsigned long before = *counter; *counter == before;)
			;
	}
	CHECK(kill(counts, SIGKILL) == 0 && waitpid(counts, &status, 0) == counts);
	faults = number_in("/proc/quire", "fault") - faults;
	CHECK(faults < (unsigned long)ENDED * FAULTS_EACH);
	munmap((void *)(uintptr_t)counter, PG);
}

/*
 * A CPU once said that it had another space before it had loaded that space's root: the root that it
 * still used was freed, and when its page got other contents, the CPU was reset without a line.
 * A process leaves its space on the CPUs where it sleeps, and ends while it wakes a process there.
 */
enum { BREEDERS = 3, BRED = 40, SLEEPS = 3 };

static void tell_and_end(int wakes)
{
	struct timespec short_time = { .tv_nsec = 100000 };

	for (int i = 0; i < SLEEPS; i++)
		nanosleep(&short_time, NULL);
	_exit(write(wakes, "x", 1) == 1 ? 3 : 4);
}

static void breed_sleepers(void)
{
	int end[2], status;
	char c;

	if (pipe(end) != 0)
		_exit(1);
	for (int i = 0; i < BRED; i++) {
		pid_t pid = fork();

		if (pid == 0)
			tell_and_end(end[1]);
		if (read(end[0], &c, 1) != 1 || waitpid(pid, &status, 0) != pid || status != 3 << 8)
			_exit(2);
	}
	_exit(0);
}

/* The process of the tests may be the first of the machine: orphans of other tests then become its children. */
static void a_root_is_freed_when_no_cpu_has_it(void)
{
	pid_t pid[BREEDERS];
	int status;

	for (int i = 0; i < BREEDERS; i++) {
		pid[i] = fork();
		CHECK(pid[i] >= 0);
		if (pid[i] == 0)
			breed_sleepers();
	}
	for (int i = 0; i < BREEDERS; i++)
		CHECK(waitpid(pid[i], &status, 0) == pid[i] && status == 0);
}

/*
 * The process once stopped after the second signal, which had found it still running: for good, as a
 * process that waits to be continued takes no SIGKILL.
 */
static void a_signal_overtakes_no_stop(void)
{
	static const int after[] = { SIGCONT, SIGKILL };
	int status;

	counter = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 400 && failed_line == 0; i++) {
		unsigned long before = *counter;
		int sig = after[i % 2];
		pid_t pid = fork(), got;

		if (pid == 0)
			for (;; ++*counter)
				kill(getpid(), 0); /* takes the lock that a stop takes, too */
		while (*counter == before)
			sched_yield();
		CHECK(kill(pid, SIGSTOP) == 0);
		before = *counter;
		CHECK(kill(pid, sig) == 0);
		while ((got = waitpid(pid, &status, WNOHANG | WUNTRACED)) == 0 &&
		    (sig == SIGKILL || *counter == before))
			sched_yield();
		CHECK(sig == SIGKILL ? got == pid && WIFSIGNALED(status) : got == 0);
		if (got == 0 || !WIFSIGNALED(status))
			CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
	}
	munmap((void *)(uintptr_t)counter, PG);
}

/* ---- time ---- */
static void on_alarm(int sig) { (void)sig; }

/* A time of more seconds than nanoseconds can count was once taken as zero. */
static void a_long_sleep_is_long(void)
{
	static const time_t lengths[] = { (time_t)1 << 62, 18446744074, (time_t)(~0ull >> 1) };
	struct sigaction sa = { .sa_handler = on_alarm };
	struct itimerval often = { { 0, 20000 }, { 0, 20000 } }, never = { { 0, 0 }, { 0, 0 } };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (unsigned i = 0; i < 3; i++) {
		struct timespec ts = { lengths[i], 0 };

		CHECK(nanosleep(&ts, NULL) == -1 && errno == EINTR);
		CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR);
		CHECK(ppoll(NULL, 0, &ts, NULL) == -1 && errno == EINTR);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_DFL);
}

/* ---- mappings that are replaced while other threads read them ---- */
static uint8_t *looked_at;
static volatile int look_stop;

static void *look_all_the_time(void *arg)
{
	while (!look_stop)
		for (unsigned i = 0; i < 8; i++)
			(void)*(volatile uint8_t *)(looked_at + i * PG);
	return arg;
}

/* A reader never finds an unmapped address, which would raise SIGSEGV. */
static void a_mapping_is_replaced_at_once(void)
{
	int fd = memfd_create("quire", 0), p[2], status;
	pid_t pid = fork();

	if (pid != 0) {
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
		close(fd);
		return;
	}
	struct iovec v;
	pthread_t t;

	if (ftruncate(fd, 8 * PG) != 0 || pwrite(fd, "snap", 4, 0) != 4 || pipe(p) != 0)
		_exit(1);
	looked_at = mmap(NULL, 8 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_create(&t, NULL, look_all_the_time, NULL);
	for (int i = 0; i < 300; i++) {
		if (mmap(looked_at, 8 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
			0) != looked_at ||
		    memcmp(looked_at, "snap", 4) != 0)
			_exit(2);
		if (mmap(looked_at, 8 * PG, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) != looked_at)
			_exit(3);
		v = (struct iovec){ looked_at, 8 * PG };
		looked_at[0] = 7;
		if (vmsplice(p[1], &v, 1, SPLICE_F_GIFT) != 8 * (ssize_t)PG ||
		    vmsplice(p[0], &v, 1, 0) != 8 * (ssize_t)PG || looked_at[0] != 7)
			_exit(4);
	}
	look_stop = 1;
	pthread_join(t, NULL);
	_exit(0);
}

/* ---- pipes whose ring is full ---- */
enum { WRITERS = 4, RECORD = 3000, EACH = 60 };

/* The process's own open file: half of the writers block, and half poll. */
static void write_records(const char *path, int w)
{
	static uint8_t rec[RECORD];
	int fd = open(path, O_WRONLY | (w % 2 == 0 ? O_NONBLOCK : 0));
	struct pollfd pf = { .fd = fd, .events = POLLOUT };

	memset(rec, w + 1, sizeof(rec));
	for (int i = 0; i < EACH;) {
		ssize_t n = write(fd, rec, RECORD);

		if (n == RECORD)
			i++;
		else if (n != -1 || errno != EAGAIN || w % 2 != 0 || poll(&pf, 1, -1) != 1)
			_exit(1);
	}
	_exit(0);
}

/*
 * Records that do not fill a ring evenly, from several processes: each arrives whole. poll gives a
 * writer the right answer.
 */
static void small_writes_stay_whole(void)
{
	static const char path[] = "/tmp/small_writes";
	int fd, status, seen[WRITERS] = { 0 }, bad = 0;
	uint8_t got[RECORD];
	pid_t pid[WRITERS];

	CHECK(mkfifo(path, 0600) == 0);
	CHECK((fd = open(path, O_RDWR)) >= 0);
	for (int w = 0; w < WRITERS; w++)
		if ((pid[w] = fork()) == 0)
			write_records(path, w);
	for (int i = 0; i < WRITERS * EACH; i++) {
		size_t at = 0;

		while (at < RECORD) {
			ssize_t n = read(fd, got + at, RECORD - at);

			if (n <= 0) {
				CHECK(0);
				break;
			}
			at += (size_t)n;
		}
		for (int k = 1; k < RECORD; k++)
			bad += got[k] != got[0];
		if (got[0] >= 1 && got[0] <= WRITERS)
			seen[got[0] - 1]++;
	}
	for (int w = 0; w < WRITERS; w++) {
		CHECK(waitpid(pid[w], &status, 0) == pid[w] && status == 0);
		CHECK(seen[w] == EACH);
	}
	CHECK(bad == 0);
	close(fd);
	unlink(path);
}

/* ---- names ---- */
static void maps_follow_a_rename(void)
{
	char line[512];
	int fd, found = 0;
	FILE *f;

	mkdir("/tmp/moved", 0755);
	fd = open("/tmp/renamed", O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1);
	void *p = mmap(NULL, PG, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(rename("/tmp/renamed", "/tmp/moved/here") == 0);
	f = fopen("/proc/self/maps", "r");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		found |= strstr(line, "/tmp/moved/here\n") != NULL;
	CHECK(found);
	if (f != NULL)
		fclose(f);
	munmap(p, PG);
	close(fd);
	unlink("/tmp/moved/here");
	rmdir("/tmp/moved");
}

/* ---- the end of a process whose thread waits for its vforked child ---- */
/* In a process of its own: tells the number of a child that sleeps, and waits in vfork until the child execs or ends. */
static void wait_in_vfork(int to)
{
	if (syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0) == 0) {
		pid_t me = getpid();

		(void)!write(to, &me, sizeof(me));
		for (;;)
			pause();
	}
}

static void *wait_in_vfork_beside(void *fd)
{
	wait_in_vfork(*(int *)fd);
	return fd;
}

/* how: 0: the process waits in vfork itself; 1: another thread of it does, and it execs; 2: ... and it exits. */
static pid_t process_in_vfork(int how, pid_t *child)
{
	int fd[2], back[2];
	pid_t pid;
	char c;

	if (pipe(fd) != 0 || pipe(back) != 0)
		return -1;
	if ((pid = fork()) == 0) {
		pthread_t t;

		signal(SIGUSR1, SIG_IGN);
		if (how == 0) {
			wait_in_vfork(fd[1]);
			_exit(1);
		}
		pthread_create(&t, NULL, wait_in_vfork_beside, &fd[1]);
		(void)!read(back[0], &c, 1); /* the child lives */
		if (how == 1)
			execl(own_path(), self, "ends_with_5", NULL);
		_exit(6);
	}
	*child = -1;
	CHECK(read(fd[0], child, sizeof(*child)) == sizeof(*child));
	(void)!write(back[1], "x", 1);
	close(fd[0]), close(fd[1]), close(back[0]), close(back[1]);
	return pid;
}

/* Such a process once lived until the child ended, whatever it was sent. */
static void a_process_that_waits_for_a_vforked_child_can_end(void)
{
	static const int sent[] = { SIGKILL, SIGTERM, 0, 0 }, how[] = { 0, 0, 1, 2 };
	int status;

	for (int i = 0; i < 4; i++) {
		pid_t child, pid = process_in_vfork(how[i], &child);

		CHECK(pid > 0 && child > 0);
		if (how[i] == 0) {
			kill(pid, SIGUSR1); /* which the process ignores */
			kill(pid, sent[i]);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(how[i] == 0 ? WIFSIGNALED(status) && WTERMSIG(status) == sent[i]
				  : WIFEXITED(status) && WEXITSTATUS(status) == 4 + how[i]);
		CHECK(kill(child, SIGKILL) == 0);
		(void)waitpid(child, &status, 0); /* the first process has got it */
	}
}

static void ends_with_5(void) { _exit(5); }

const struct test race_tests[] = {
	T(two_threads_exec_at_once, 1),
	T(a_kill_reaches_what_execs, 1),
	T(a_thread_that_execs_is_the_process, 1),
	T(exec_takes_its_own_descriptors, 1),
	T(others_wait_for_a_vforked_child, 1),
	T(a_process_that_waits_for_a_vforked_child_can_end, 1),
	T(threads_end_while_others_fork, 1),
	T(a_process_ends_in_the_middle, 1),
	T(threads_are_cancelled, 1),
	T(a_stop_stops_every_thread, 1),
	T(a_signal_overtakes_no_stop, 1),
	T(a_signal_without_room_becomes_sigsegv, 1),
	T(the_end_of_a_space_disturbs_no_other, 0),
	T(a_root_is_freed_when_no_cpu_has_it, 1),
	T(a_long_sleep_is_long, 1),
	T(a_mapping_is_replaced_at_once, 1),
	T(small_writes_stay_whole, 1),
	T(maps_follow_a_rename, 1),
	{ NULL, NULL, 0 },
};

const struct test race_inner_tests[] = {
	T(ends_with_5, 1),
	T(execs_for_ever, 1),
	T(is_its_main_thread, 1),
	{ NULL, NULL, 0 },
};
