/* SPDX-License-Identifier: BSD-2-Clause */
/* Edge-triggered epoll: a part of the program `programs`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "programs.h"

static int watch(int e, int op, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.fd = fd };

	return epoll_ctl(e, op, fd, &ev);
}

/* What the epoll tells of now; 0: nothing. */
static unsigned told(int e)
{
	struct epoll_event ev = { 0 };

	return epoll_wait(e, &ev, 1, 0) == 1 ? ev.events : 0;
}

/* Writes until there is no room. */
static void fill(int fd)
{
	static char b[65536];

	while (write(fd, b, sizeof(b)) > 0)
		continue;
	CHECK(errno == EAGAIN);
}

static void drain(int fd)
{
	static char b[65536];

	while (read(fd, b, sizeof(b)) > 0)
		continue;
	CHECK(errno == EAGAIN);
}

static void an_edge_is_told_once(void)
{
	int e = epoll_create1(0), p[2], kind;
	char c;

	for (kind = 0; kind < 2; kind++) {
		CHECK((kind ? pipe2(p, O_NONBLOCK)
			    : socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p)) == 0);
		CHECK(watch(e, EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLET) == 0 && told(e) == 0);
		CHECK(write(p[1], "ab", 2) == 2 && told(e) == EPOLLIN && told(e) == 0);
		CHECK(write(p[1], "c", 1) == 1 && told(e) == EPOLLIN && told(e) == 0);
		CHECK(read(p[0], &c, 1) == 1 && told(e) == 0); /* what is left is no news */
		CHECK(watch(e, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET) == 0 && told(e) == EPOLLIN);
		/* read and written between two calls */
		CHECK(read(p[0], &c, 1) == 1 && read(p[0], &c, 1) == 1 && told(e) == 0);
		CHECK(write(p[1], "d", 1) == 1 && read(p[0], &c, 1) == 1 &&
		    write(p[1], "e", 1) == 1 && told(e) == EPOLLIN && told(e) == 0);
		CHECK(close(p[1]) == 0 && (told(e) & EPOLLHUP) && told(e) == 0);
		close(p[0]);
	}
	close(e);
}

static void room_is_told_once(void)
{
	int e = epoll_create1(0), p[2], kind;
	char c;

	for (kind = 0; kind < 2; kind++) {
		CHECK((kind ? pipe2(p, O_NONBLOCK)
			    : socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p)) == 0);
		CHECK(watch(e, EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLET) == 0);
		CHECK(told(e) == EPOLLOUT && told(e) == 0);
		CHECK(write(p[1], "x", 1) == 1 && told(e) == 0);
		fill(p[1]);
		CHECK(told(e) == 0);
		drain(p[0]);
		CHECK(told(e) == EPOLLOUT && told(e) == 0);
		CHECK(read(p[0], &c, 1) == -1 && close(p[0]) == 0);
		CHECK((told(e) & (EPOLLERR | EPOLLHUP)) && told(e) == 0);
		close(p[1]);
	}
	close(e);
}

static void counters_and_timers_have_edges(void)
{
	struct itimerspec soon = { .it_value = { 0, 1000000 } };
	int e = epoll_create1(0), fd = eventfd(1, EFD_NONBLOCK),
	    t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct epoll_event ev;
	uint64_t n;

	CHECK(watch(e, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET) == 0 && told(e) == EPOLLIN);
	CHECK(told(e) == 0 && eventfd_write(fd, 1) == 0 && told(e) == EPOLLIN && told(e) == 0);
	CHECK(eventfd_read(fd, &n) == 0 && n == 2 && told(e) == 0);
	CHECK(eventfd_write(fd, 1) == 0 && told(e) == EPOLLIN);
	CHECK(watch(e, EPOLL_CTL_ADD, t, EPOLLIN | EPOLLET) == 0 && told(e) == 0);
	for (int i = 0; i < 2; i++) {
		CHECK(timerfd_settime(t, 0, &soon, NULL) == 0);
		CHECK(epoll_wait(e, &ev, 1, 10000) == 1 && ev.data.fd == t && told(e) == 0);
	}
	close(t);
	close(fd);
	close(e);
}

static void one_shot_needs_a_word_to_go_on(void)
{
	int e = epoll_create1(0), fd = eventfd(1, EFD_NONBLOCK);

	CHECK(watch(e, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET | EPOLLONESHOT) == 0);
	CHECK(told(e) == EPOLLIN && eventfd_write(fd, 1) == 0 && told(e) == 0);
	CHECK(watch(e, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT) == 0 && told(e) == EPOLLIN);
	CHECK(told(e) == 0 && watch(e, EPOLL_CTL_MOD, fd, EPOLLIN) == 0);
	CHECK(told(e) == EPOLLIN && told(e) == EPOLLIN);
	close(fd);
	close(e);
}

static void exclusive_watches_are_checked(void)
{
	int e = epoll_create1(0), inner = epoll_create1(0), fd = eventfd(1, EFD_NONBLOCK);
	const uint32_t exclusive = EPOLLIN | EPOLLEXCLUSIVE;

	CHECK(fails(watch(e, EPOLL_CTL_ADD, fd, exclusive | EPOLLONESHOT), EINVAL));
	CHECK(fails(watch(e, EPOLL_CTL_ADD, fd, exclusive | EPOLLRDHUP), EINVAL));
	CHECK(fails(watch(e, EPOLL_CTL_ADD, inner, exclusive), EINVAL));
	CHECK(watch(e, EPOLL_CTL_ADD, fd, exclusive | EPOLLET) == 0 && told(e) == EPOLLIN);
	CHECK(fails(watch(e, EPOLL_CTL_MOD, fd, EPOLLIN), EINVAL));
	CHECK(watch(e, EPOLL_CTL_DEL, fd, 0) == 0 && watch(e, EPOLL_CTL_ADD, fd, EPOLLIN) == 0);
	CHECK(fails(watch(e, EPOLL_CTL_MOD, fd, exclusive), EINVAL));
	close(fd);
	close(inner);
	close(e);
}

/* Memory of a closed file once passed for the file: a new one at its place could not be watched. */
static void a_new_file_is_not_the_one_that_was_closed(void)
{
	int e = epoll_create1(0), p[2];

	for (int i = 0; i < 50; i++) {
		CHECK(pipe(p) == 0 && watch(e, EPOLL_CTL_ADD, p[0], EPOLLIN) == 0);
		CHECK(close(p[0]) == 0 && close(p[1]) == 0);
	}
	CHECK(pipe(p) == 0 && write(p[1], "x", 1) == 1 && told(e) == 0);
	close(p[0]);
	close(p[1]);
	close(e);
}

/* The watch of a file that was closed once passed for that of the new file: it was changed, and told nothing. */
static void a_watch_of_a_closed_file_is_not_changed(void)
{
	int e = epoll_create1(0), p[2], before;

	CHECK(pipe(p) == 0 && watch(e, EPOLL_CTL_ADD, p[0], EPOLLIN) == 0);
	before = p[0];
	CHECK(close(p[0]) == 0 && close(p[1]) == 0 && pipe(p) == 0 && p[0] == before);
	CHECK(write(p[1], "x", 1) == 1 && fails(watch(e, EPOLL_CTL_MOD, p[0], EPOLLIN), ENOENT));
	CHECK(fails(watch(e, EPOLL_CTL_DEL, p[0], 0), ENOENT));
	CHECK(watch(e, EPOLL_CTL_ADD, p[0], EPOLLIN) == 0 && told(e) == EPOLLIN);
	close(p[0]);
	close(p[1]);
	close(e);
}

const struct test edge_tests[] = {
	T(an_edge_is_told_once, 1),
	T(room_is_told_once, 1),
	T(counters_and_timers_have_edges, 1),
	T(one_shot_needs_a_word_to_go_on, 1),
	T(exclusive_watches_are_checked, 1),
	T(a_new_file_is_not_the_one_that_was_closed, 1),
	T(a_watch_of_a_closed_file_is_not_changed, 1),
	{ NULL, NULL, 0 },
};
