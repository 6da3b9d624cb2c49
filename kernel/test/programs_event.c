/* SPDX-License-Identifier: BSD-2-Clause */
/* Timers, signals and sockets as events that a program waits for: a part of the program `programs`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "programs.h"

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static struct itimerspec after_ms(long first, long every)
{
	return (struct itimerspec){ { every / 1000, every % 1000 * 1000000 },
		{ first / 1000, first % 1000 * 1000000 } };
}

/* ---- timerfd ---- */
static void timers_are_files(void)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	struct itimerspec t = after_ms(30, 20), old;
	struct pollfd p = { fd, POLLIN, 0 };
	uint64_t n = 0, start = now_ns(CLOCK_MONOTONIC), wall;

	CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	CHECK(read(fd, &n, sizeof(n)) == -1 && errno == EAGAIN);
	CHECK(timerfd_settime(fd, 0, &t, NULL) == 0);
	CHECK(timerfd_gettime(fd, &old) == 0 && old.it_interval.tv_nsec == 20000000 &&
	    old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 30000000);
	CHECK(poll(&p, 1, 20000) == 1 && p.revents == POLLIN);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
	CHECK(read(fd, &n, 7) == -1 && errno == EINVAL);
	CHECK(read(fd, &n, sizeof(n)) == 8 && n >= 1);
	usleep(100000);
	CHECK(read(fd, &n, sizeof(n)) == 8 && n >= 4); /* missed expirations are counted */
	t = after_ms(0, 0);
	CHECK(timerfd_settime(fd, 0, &t, &old) == 0 && old.it_interval.tv_nsec == 20000000);
	CHECK(timerfd_gettime(fd, &old) == 0 && old.it_value.tv_sec == 0 &&
	    old.it_value.tv_nsec == 0);
	CHECK(read(fd, &n, sizeof(n)) == -1 && errno == EAGAIN);
	close(fd);
	/* a past and a future time of the wall clock; reading waits */
	fd = timerfd_create(CLOCK_REALTIME, 0);
	wall = now_ns(CLOCK_REALTIME);
	t = (struct itimerspec){ { 0, 0 }, { 1, 0 } };
	CHECK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, NULL) == 0);
	CHECK(read(fd, &n, sizeof(n)) == 8 && n == 1);
	wall = now_ns(CLOCK_REALTIME) + 50000000;
	t.it_value = (struct timespec){ (time_t)(wall / 1000000000), (long)(wall % 1000000000) };
	CHECK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, NULL) == 0);
	CHECK(read(fd, &n, sizeof(n)) == 8 && n == 1 && now_ns(CLOCK_REALTIME) >= wall);
	t.it_value.tv_nsec = 1000000000;
	CHECK(timerfd_settime(fd, 0, &t, NULL) == -1 && errno == EINVAL);
	close(fd);
	CHECK(timerfd_create(77, 0) == -1 && errno == EINVAL);
	CHECK(timerfd_gettime(0, &old) == -1 && errno == EINVAL);
	CHECK(timerfd_gettime(999, &old) == -1 && errno == EBADF);
}

/* ---- timer_create ---- */
static volatile int rang, rang_value, rang_code;

static void ring(int sig, siginfo_t *si, void *context)
{
	(void)sig, (void)context;
	rang++;
	rang_value = si->si_value.sival_int;
	rang_code = si->si_code;
}

static void await_rings(int n)
{
	for (unsigned tries = 0; tries < 2000 && rang < n; tries++)
		usleep(10000);
}

static void timers_send_signals(void)
{
	struct sigaction sa = { .sa_sigaction = ring, .sa_flags = SA_SIGINFO }, old;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3 };
	struct itimerspec t = after_ms(10, 10), now;
	timer_t one, two;
	sigset_t set;
	siginfo_t si;
	int status;
	pid_t pid;

	sigaction(SIGRTMIN + 3, &sa, &old);
	rang = 0;
	ev.sigev_value.sival_int = 42;
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &one) == 0);
	ev.sigev_value.sival_int = 43;
	CHECK(timer_create(CLOCK_REALTIME, &ev, &two) == 0 && one != two);
	CHECK(timer_settime(one, 0, &t, NULL) == 0);
	await_rings(3);
	CHECK(rang >= 3 && rang_value == 42 && rang_code == SI_TIMER);
	CHECK(timer_gettime(one, &now) == 0 && now.it_interval.tv_nsec == 10000000);
	/* at most one signal is pending; further expirations are its overrun */
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	sigprocmask(SIG_BLOCK, &set, NULL);
	usleep(120000);
	CHECK(sigwaitinfo(&set, &si) == SIGRTMIN + 3 && si.si_code == SI_TIMER &&
	    si.si_value.sival_int == 42);
	t = after_ms(0, 0);
	CHECK(timer_settime(one, 0, &t, NULL) == 0);
	CHECK(si.si_overrun >= 2);
	while (sigtimedwait(&set, &si, &(struct timespec){ 0, 0 }) > 0)
		;
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	CHECK(timer_delete(one) == 0 && timer_delete(one) == -1 && errno == EINVAL);
	/* a child has no timers */
	if ((pid = fork()) == 0)
		_exit(syscall(SYS_timer_gettime, two, &now) == -1 && errno == EINVAL ? 7 : 1);
	CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
	CHECK(timer_delete(two) == 0);
	ev.sigev_signo = 99;
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &one) == -1 && errno == EINVAL);
	sigaction(SIGRTMIN + 3, &old, NULL);
}

static volatile int called;
static void call_back(union sigval v) { called += v.sival_int; }

/* For SIGEV_THREAD the C library makes a thread, to which the kernel sends the signal. */
static void timers_call_functions(void)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD };
	struct itimerspec t = after_ms(5, 0);
	timer_t id;

	ev.sigev_notify_function = call_back;
	ev.sigev_value.sival_int = 5;
	called = 0;
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &id) == 0 && timer_settime(id, 0, &t, NULL) == 0);
	for (unsigned tries = 0; tries < 2000 && called == 0; tries++)
		usleep(10000);
	CHECK(called == 5);
	CHECK(timer_delete(id) == 0);
}

/* ---- timers of CPU time ---- */
static volatile int ticks;
static void on_tick(int sig) { (void)sig, ticks++; }

static uint64_t cpu_time(clockid_t clock)
{
	struct timespec t;

	CHECK(clock_gettime(clock, &t) == 0);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void work_until(int want, clockid_t clock, uint64_t most_ns)
{
	uint64_t end = cpu_time(clock) + most_ns;

	while (ticks < want && cpu_time(clock) < end)
		;
}

/* Such timers were once refused. A process that sleeps uses no such time. */
static void timers_count_cpu_time(void)
{
	static const int which[2] = { ITIMER_VIRTUAL, ITIMER_PROF },
			 sig[2] = { SIGVTALRM, SIGPROF };
	struct itimerval t = { { 0, 20000 }, { 0, 30000 } }, left, off = { { 0, 0 }, { 0, 0 } };
	uint64_t start;

	for (unsigned i = 0; i < 2; i++) {
		signal(sig[i], on_tick);
		ticks = 0;
		start = cpu_time(CLOCK_PROCESS_CPUTIME_ID);
		CHECK(setitimer(which[i], &t, NULL) == 0);
		CHECK(getitimer(which[i], &left) == 0 && left.it_interval.tv_usec == 20000 &&
		    left.it_value.tv_sec == 0 && left.it_value.tv_usec > 0);
		work_until(3, CLOCK_PROCESS_CPUTIME_ID, 20000000000);
		CHECK(ticks >= 3 && cpu_time(CLOCK_PROCESS_CPUTIME_ID) - start >= 60000000);
		CHECK(setitimer(which[i], &off, NULL) == 0);
		signal(sig[i], SIG_DFL);
	}
}

static void timers_have_clocks_of_cpu_time(void)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec t = { { 0, 0 }, { 0, 30000000 } };
	clockid_t own, clocks[4] = { CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID };
	timer_t id;

	CHECK(clock_getcpuclockid(0, &clocks[2]) == 0 &&
	    pthread_getcpuclockid(pthread_self(), &clocks[3]) == 0);
	signal(SIGUSR1, on_tick);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t start = cpu_time(clocks[i]);

		ticks = 0;
		CHECK(
		    timer_create(clocks[i], &ev, &id) == 0 && timer_settime(id, 0, &t, NULL) == 0);
		work_until(1, clocks[i], 20000000000);
		CHECK(ticks == 1 && cpu_time(clocks[i]) - start >= 30000000);
		CHECK(timer_delete(id) == 0);
	}
	signal(SIGUSR1, SIG_DFL);
	CHECK(clock_getcpuclockid(1, &own) != 0 || timer_create((clockid_t)0x7fff, &ev, &id) == -1);
}

/* The time of a thread that had a CPU to itself once stood still for all others. */
static void cpu_time_of_others_goes_on(void)
{
	clockid_t clock;
	uint64_t start;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			;
	CHECK(clock_getcpuclockid(pid, &clock) == 0);
	start = cpu_time(clock);
	for (unsigned tries = 0; tries < 2000 && cpu_time(clock) < start + 100000000; tries++)
		usleep(10000);
	CHECK(cpu_time(clock) >= start + 100000000);
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

/* ---- signalfd ---- */
static void signals_are_files(void)
{
	struct signalfd_siginfo si[3];
	sigset_t set, old;
	int fd, status;
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &old);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	CHECK(fd >= 0 && read(fd, si, sizeof(si)) == -1 && errno == EAGAIN);
	CHECK(poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 0) == 0);
	kill(getpid(), SIGUSR1);
	CHECK(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 1234 }) == 0);
	CHECK(poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 0) == 1);
	CHECK(read(fd, si, 100) == -1 && errno == EINVAL);
	CHECK(read(fd, si, sizeof(si)) == 2 * sizeof(si[0]));
	CHECK(si[0].ssi_signo == SIGUSR1 && si[0].ssi_pid == (uint32_t)getpid());
	CHECK(si[1].ssi_signo == (uint32_t)SIGRTMIN && si[1].ssi_int == 1234 &&
	    si[1].ssi_code == SI_QUEUE);
	CHECK(read(fd, si, sizeof(si)) == -1 && errno == EAGAIN);
	/* a waiting thread is woken */
	fcntl(fd, F_SETFL, 0);
	if ((pid = fork()) == 0) {
		usleep(30000);
		_exit(3);
	}
	CHECK(read(fd, si, sizeof(si)) == sizeof(si[0]) && si[0].ssi_signo == SIGCHLD &&
	    si[0].ssi_pid == (uint32_t)pid && si[0].ssi_status == 3 &&
	    si[0].ssi_code == CLD_EXITED);
	CHECK(waitpid(pid, &status, 0) == pid);
	/* another set */
	sigdelset(&set, SIGUSR1);
	CHECK(signalfd(fd, &set, 0) == fd);
	kill(getpid(), SIGUSR1);
	CHECK(poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 0) == 0);
	sigaddset(&set, SIGUSR1);
	CHECK(sigtimedwait(&set, NULL, &(struct timespec){ 0, 0 }) == SIGUSR1);
	CHECK(signalfd(0, &set, 0) == -1 && errno == EINVAL);
	close(fd);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

/* ---- all of them at once ---- */
enum { PINGS = 200 };

static void *ping(void *arg)
{
	uint64_t one = 1;

	for (int i = 0; i < PINGS; i++) {
		(void)!write(*(int *)arg, &one, sizeof(one));
		kill(getpid(), SIGUSR2);
		if (i % 16 == 0)
			usleep(1000);
	}
	return arg;
}

/*
 * No event is lost: every written count and every expiration of a timer arrives, and signals arrive
 * only while epoll_pwait waits.
 */
static void epoll_timers_and_signals_together(void)
{
	struct sigaction sa = { .sa_sigaction = ring, .sa_flags = SA_SIGINFO | SA_RESTART }, old;
	int ep = epoll_create1(EPOLL_CLOEXEC), ev = eventfd(0, EFD_NONBLOCK),
	    tf = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct epoll_event e = { .events = EPOLLIN }, got[4];
	struct itimerspec t = after_ms(3, 3), off = after_ms(0, 0);
	uint64_t pings = 0, ticks = 0, n, start, span;
	sigset_t block, none, was;
	int in_wait = 0, outside = 0;
	pthread_t thread;

	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR2);
	sigprocmask(SIG_BLOCK, &block, &was);
	sigaction(SIGUSR2, &sa, &old);
	e.data.fd = ev;
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e) == 0);
	e.data.fd = tf;
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, tf, &e) == 0);
	start = now_ns(CLOCK_MONOTONIC);
	CHECK(timerfd_settime(tf, 0, &t, NULL) == 0);
	rang = 0;
	CHECK(pthread_create(&thread, NULL, ping, &ev) == 0);
	while (pings < PINGS || ticks < 20 || rang == 0) {
		int before = rang, k = epoll_pwait(ep, got, 4, 20000, &none);

		in_wait += rang != before;
		before = rang;
		CHECK(k > 0 || (k == -1 && errno == EINTR));
		for (int i = 0; i < k; i++) {
			CHECK(read(got[i].data.fd, &n, sizeof(n)) == 8);
			if (got[i].data.fd == ev)
				pings += n;
			else
				ticks += n;
		}
		outside += rang != before;
		if (failed_line != 0)
			break;
	}
	pthread_join(thread, NULL);
	CHECK(timerfd_settime(tf, 0, &off, NULL) == 0);
	span = now_ns(CLOCK_MONOTONIC) - start;
	CHECK(pings == PINGS && ticks <= span / 3000000 && in_wait > 0 && outside == 0);
	sigtimedwait(&block, NULL, &(struct timespec){ 0, 0 });
	sigaction(SIGUSR2, &old, NULL);
	sigprocmask(SIG_SETMASK, &was, NULL);
	close(ep);
	close(ev);
	close(tf);
}

/* ---- sockets with names ---- */
/* The address of a path, or of an abstract name (@...); its length. */
static socklen_t address_of(const char *name, struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(a->sun_path, name, strlen(name));
	if (name[0] != '@')
		return (socklen_t)(sizeof(sa_family_t) + strlen(name) + 1);
	a->sun_path[0] = '\0';
	return (socklen_t)(sizeof(sa_family_t) + strlen(name));
}

static int connected_to(const char *name)
{
	struct sockaddr_un a;
	socklen_t len = address_of(name, &a);
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(s, (struct sockaddr *)&a, len) == 0)
		return s;
	len = (socklen_t)errno;
	close(s);
	errno = (int)len;
	return -1;
}

/* Echoes each byte of many clients twice, until a client closes. */
static void serve(int l, int clients)
{
	struct sockaddr_un peer;

	for (int i = 0; i < clients; i++) {
		socklen_t len = sizeof(peer);
		int c = accept(l, (struct sockaddr *)&peer, &len);
		char b[64];
		ssize_t n;

		if (c < 0 || len != sizeof(sa_family_t) || peer.sun_family != AF_UNIX)
			_exit(1);
		while ((n = read(c, b, sizeof(b))) > 0) {
			for (ssize_t k = 0; k < n; k++)
				b[k] = (char)(b[k] * 2);
			if (send(c, b, (size_t)n, MSG_NOSIGNAL) != n)
				_exit(2);
		}
		close(c);
	}
	_exit(8);
}

static int ask(const char *name, pid_t server)
{
	int s = connected_to(name), ok;
	struct sockaddr_un a;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	char b[3] = { 1, 2, 3 };

	ok = s >= 0 && write(s, b, 3) == 3 && recv(s, b, 3, MSG_WAITALL) == 3 && b[0] == 2 &&
	    b[1] == 4 && b[2] == 6;
	ok = ok && getsockopt(s, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.pid == server &&
	    len == sizeof(cred);
	len = sizeof(a);
	ok = ok && getpeername(s, (struct sockaddr *)&a, &len) == 0 &&
	    (name[0] == '@' ? memcmp(a.sun_path + 1, name + 1, strlen(name) - 1)
			    : strcmp(a.sun_path, name)) == 0;
	ok = ok && shutdown(s, SHUT_WR) == 0 && read(s, b, 1) == 0;
	close(s);
	return ok;
}

static void meet_by(const char *name)
{
	enum { CLIENTS = 6 };
	int l = socket(AF_UNIX, SOCK_STREAM, 0), other = socket(AF_UNIX, SOCK_STREAM, 0), status;
	struct pollfd p = { l, POLLIN, 0 };
	struct sockaddr_un a;
	socklen_t len = address_of(name, &a);
	pid_t pid[CLIENTS], server;

	CHECK(connected_to(name) == -1 && errno == (name[0] == '@' ? ECONNREFUSED : ENOENT));
	CHECK(listen(other, 1) == -1 && errno == EINVAL);
	CHECK(bind(l, (struct sockaddr *)&a, len) == 0);
	CHECK(
	    bind(l, (struct sockaddr *)&a, len) == -1 && (errno == EINVAL || errno == EADDRINUSE));
	CHECK(bind(other, (struct sockaddr *)&a, len) == -1 && errno == EADDRINUSE);
	/* the socket does not listen yet */
	CHECK(connected_to(name) == -1 && errno == ECONNREFUSED);
	CHECK(accept(l, NULL, NULL) == -1 && errno == EINVAL);
	CHECK(getpeername(other, (struct sockaddr *)&a, &len) == -1 && errno == ENOTCONN);
	CHECK(send(other, "x", 1, MSG_NOSIGNAL) == -1 && errno == ENOTCONN);
	CHECK(listen(l, 2) == 0 && poll(&p, 1, 0) == 0);
	fcntl(l, F_SETFL, O_NONBLOCK);
	CHECK(accept(l, NULL, NULL) == -1 && errno == EAGAIN);
	fcntl(l, F_SETFL, 0);
	for (int i = 0; i < CLIENTS; i++) { /* more clients at a time than the queue holds */
		if ((pid[i] = fork()) == 0)
			_exit(ask(name, getppid()) ? 6 : 1);
		CHECK(pid[i] > 0);
	}
	CHECK(poll(&p, 1, 20000) == 1 && p.revents == POLLIN);
	if ((server = fork()) == 0)
		serve(l, CLIENTS);
	CHECK(server > 0);
	for (int i = 0; server < 0 && i < CLIENTS; i++)
		kill(pid[i], SIGKILL); /* otherwise the clients would wait forever */
	close(l);
	for (int i = 0; i < CLIENTS; i++)
		CHECK(waitpid(pid[i], &status, 0) == pid[i] && WEXITSTATUS(status) == 6);
	/*
	 * Waits by the child's number, as this may be the first process, which also has orphans of
	 * other tests as children.
	 */
	CHECK(
	    waitpid(server, &status, 0) == server && WIFEXITED(status) && WEXITSTATUS(status) == 8);
	CHECK(connected_to(name) == -1 && errno == ECONNREFUSED);
	close(other);
}

static void sockets_meet_by_names(void)
{
	struct stat st;

	unlink("/tmp/a.socket");
	meet_by("@quire/abstract");
	meet_by("/tmp/a.socket");
	CHECK(stat("/tmp/a.socket", &st) == 0 && S_ISSOCK(st.st_mode));
	CHECK(open("/tmp/a.socket", O_RDWR) == -1 && errno == ENXIO);
	CHECK(unlink("/tmp/a.socket") == 0);
	meet_by("/dev/shm/a.socket");
	CHECK(unlink("/dev/shm/a.socket") == 0);
	CHECK(connected_to("/dev") == -1 && errno == ECONNREFUSED);
}

/*
 * A client that has connected and was not accepted reads end of file when the listener is closed.
 */
static void a_listener_goes_with_its_queue(void)
{
	struct sockaddr_un a;
	socklen_t len = address_of("@quire/goes", &a);
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c, s;
	char b;

	CHECK(bind(l, (struct sockaddr *)&a, len) == 0 && listen(l, 5) == 0);
	c = connected_to("@quire/goes");
	CHECK(c >= 0 && write(c, "x", 1) == 1);
	close(l);
	CHECK(read(c, &b, 1) <= 0);
	close(c);
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(s, (struct sockaddr *)&a, len) == 0); /* the socket's name is free again */
	close(s);
	CHECK(fails(socket(46, SOCK_STREAM, 0), EAFNOSUPPORT));
}

/* ---- descriptors ---- */
static volatile int asked_enough;

static void *ask_flags(void *arg)
{
	int wrong = 0;

	while (!asked_enough)
		wrong |= fcntl(0, F_GETFD) != 0 && fcntl(0, F_SETFD, 0) != 0;
	return wrong ? arg : NULL;
}

/*
 * The flags of descriptors were once read from an old table after another thread had replaced it by
 * a larger table.
 */
static void flags_are_asked_while_the_table_grows(void)
{
	void *wrong = NULL;
	pthread_t t;
	int fd[600];

	asked_enough = 0;
	CHECK(pthread_create(&t, NULL, ask_flags, &wrong) == 0);
	for (int round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 600; i++)
			fd[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		CHECK(fcntl(fd[599], F_GETFD) == FD_CLOEXEC);
		for (unsigned i = 0; i < 600; i++)
			close(fd[i]);
	}
	asked_enough = 1;
	CHECK(pthread_join(t, &wrong) == 0 && wrong == NULL);
}

static void sendfile_asks_how_files_are_open(void)
{
	int r = open("/dev/null", O_RDONLY), w = open("/dev/null", O_WRONLY);

	CHECK(sendfile(w, w, NULL, 10) == -1 && errno == EBADF);
	CHECK(sendfile(r, r, NULL, 10) == -1 && errno == EBADF);
	close(r);
	close(w);
}

static void a_thread_is_killed_by_both_numbers(void)
{
	CHECK(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) == 0);
	CHECK(
	    syscall(SYS_tgkill, getppid() + 12345, syscall(SYS_gettid), 0) == -1 && errno == ESRCH);
	CHECK(syscall(SYS_tgkill, 0, syscall(SYS_gettid), 0) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_tkill, 0, 0) == -1 && errno == EINVAL);
}

const struct test event_tests[] = {
	T(timers_are_files, 1),
	T(timers_send_signals, 1),
	T(timers_call_functions, 1),
	T(timers_count_cpu_time, 0), /* Linux counts ticks for these two */
	T(timers_have_clocks_of_cpu_time, 1),
	T(cpu_time_of_others_goes_on, 1),
	T(signals_are_files, 1),
	T(epoll_timers_and_signals_together, 1),
	T(sockets_meet_by_names, 1),
	T(a_listener_goes_with_its_queue, 1),
	T(flags_are_asked_while_the_table_grows, 1),
	T(sendfile_asks_how_files_are_open, 1),
	T(a_thread_is_killed_by_both_numbers, 1),
	{ NULL, NULL, 0 },
};
