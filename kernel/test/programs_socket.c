/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages of sockets: datagrams, packets, passed files, looks without taking: a part of the program `programs`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "programs.h"

/* An address of a name; of an abstract one, which begins with @. Its length. */
static socklen_t address(struct sockaddr_un *un, const char *name)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, name);
	if (name[0] == '@')
		un->sun_path[0] = '\0';
	return (
	    socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + (name[0] != '@'));
}

/* ---- passed files ---- */
/* One byte, and n descriptors. */
static long send_files(int s, const int *fd, unsigned n)
{
	char room[CMSG_SPACE(8 * sizeof(int))] __attribute__((aligned(8))) = { 0 }, byte = 'f';
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room };
	struct cmsghdr *c = (void *)room;

	m.msg_controllen = CMSG_SPACE(n * sizeof(int));
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(c), fd, n * sizeof(int));
	return sendmsg(s, &m, 0);
}

/* How many descriptors came, with room for `most`; *flags: the message's. -1: nothing came. */
static int receive_files(int s, int *fd, unsigned most, int how, int *flags)
{
	char room[CMSG_SPACE(8 * sizeof(int))] __attribute__((aligned(8))), byte[8];
	struct iovec v = { byte, sizeof(byte) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room };
	struct cmsghdr *c;
	unsigned n;

	m.msg_controllen = most == 0 ? 0 : CMSG_LEN(most * sizeof(int));
	if (recvmsg(s, &m, how) < 0)
		return -1;
	*flags = m.msg_flags;
	if ((c = CMSG_FIRSTHDR(&m)) == NULL)
		return 0;
	n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(fd, CMSG_DATA(c), n * sizeof(int));
	return (int)n;
}

static int pipe_works(int to, int from)
{
	char c = 0;

	return write(to, "p", 1) == 1 && read(from, &c, 1) == 1 && c == 'p';
}

static void files_are_passed(void)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };

	for (int k = 0; k < 3; k++) {
		int s[2], p[2], got[8] = { -1, -1 }, flags, status;
		char c;
		pid_t pid;

		CHECK(socketpair(AF_UNIX, types[k], 0, s) == 0 && pipe(p) == 0);
		if ((pid = fork()) == 0)
			_exit(send_files(s[1], p, 2) == 1 ? 0 : 1);
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
		CHECK(receive_files(s[0], got, 8, 0, &flags) == 2 && (flags & MSG_CTRUNC) == 0);
		CHECK(fcntl(got[0], F_GETFD) == 0 && pipe_works(got[1], p[0]) &&
		    pipe_works(p[1], got[0]));
		/* the last reference may be on its way */
		close(p[1]);
		CHECK(send_files(s[0], &got[1], 1) == 1);
		close(got[1]);
		CHECK(receive_files(s[1], &got[1], 8, MSG_CMSG_CLOEXEC, &flags) == 1);
		CHECK(fcntl(got[1], F_GETFD) == FD_CLOEXEC && pipe_works(got[1], p[0]));
		/* those for which there is no room, and those that nobody receives, are closed */
		CHECK(send_files(s[0], (int[]){ p[0], got[1] }, 2) == 1);
		close(got[1]);
		CHECK(receive_files(s[1], &got[2], 1, 0, &flags) == 1 && (flags & MSG_CTRUNC) != 0);
		CHECK(read(p[0], &c, 1) == 0);
		CHECK(send_files(s[0], (int[]){ s[0], -1 }, 2) == -1 && errno == EBADF);
		close(got[0]);
		close(got[2]);
		close(p[0]);
		close(s[0]);
		close(s[1]);
	}
}

/* Bytes of two messages with files come apart. */
static void passed_files_keep_their_place(void)
{
	int s[2], p[2], got[8], flags;
	char b[8];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && pipe(p) == 0);
	CHECK(write(s[0], "ab", 2) == 2 && send_files(s[0], &p[0], 1) == 1 &&
	    write(s[0], "cd", 2) == 2 && send_files(s[0], &p[1], 1) == 1);
	CHECK(read(s[1], b, 1) == 1 && b[0] == 'a');
	CHECK(receive_files(s[1], got, 8, 0, &flags) == 1); /* with "bf" */
	close(got[0]);
	CHECK(read(s[1], b, 8) == 3 && memcmp(b, "cdf", 3) == 0); /* read closes what is passed */
	close(p[0]);
	close(p[1]);
	close(s[0]);
	close(s[1]);
}

/* Sockets in messages to each other, as deep as they may be: closing them once would have used a stack each. */
static void sockets_are_nested(void)
{
	for (int round = 0; round < 5; round++) {
		int s[2], outer[2];

		CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
		for (int i = 0; i < 200; i++) {
			CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, outer) == 0 &&
			    send_files(outer[0], s, 1) == 1);
			close(s[0]);
			close(s[1]);
			s[0] = outer[1];
			s[1] = outer[0];
		}
		close(s[0]);
		close(s[1]);
	}
}

/* ---- messages ---- */
static void datagrams_stay_whole(void)
{
	struct iovec v[2];
	char b[16], c[4];
	struct stat st;
	int s[2], n;

	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, s) == 0);
	CHECK(fcntl(s[0], F_GETFD) == FD_CLOEXEC && fstat(s[0], &st) == 0 && S_ISSOCK(st.st_mode));
	CHECK(send(s[0], "hello", 5, 0) == 5 && send(s[0], "", 0, 0) == 0 &&
	    write(s[0], "world!", 6) == 6);
	CHECK(ioctl(s[1], FIONREAD, &n) == 0 && n == 5);
	CHECK(recv(s[1], b, sizeof(b), MSG_PEEK) == 5 && memcmp(b, "hello", 5) == 0);
	CHECK(recv(s[1], b, 2, MSG_PEEK | MSG_TRUNC) == 5);
	CHECK(recv(s[1], b, 2, 0) == 2 && memcmp(b, "he", 2) == 0); /* the rest is lost */
	CHECK(recv(s[1], b, sizeof(b), 0) == 0);
	v[0] = (struct iovec){ b, 3 };
	v[1] = (struct iovec){ c, 4 };
	CHECK(readv(s[1], v, 2) == 6 && memcmp(b, "wor", 3) == 0 && memcmp(c, "ld!", 3) == 0);
	CHECK(writev(s[0], v, 2) == 7 && recv(s[1], b, sizeof(b), 0) == 7);
	CHECK(fails(recv(s[1], b, sizeof(b), MSG_DONTWAIT), EAGAIN));
	close(s[1]);
	CHECK(fails(send(s[0], "x", 1, 0), ECONNREFUSED));
	close(s[0]);
}

static void datagrams_go_by_name(void)
{
	struct sockaddr_un un, from;
	int a = socket(AF_UNIX, SOCK_DGRAM, 0), b = socket(AF_UNIX, SOCK_DGRAM, 0);
	socklen_t len = address(&un, "@one"), n = sizeof(from);
	char x[16];

	CHECK(bind(a, (void *)&un, len) == 0 && sendto(b, "hi", 2, 0, (void *)&un, len) == 2);
	CHECK(recvfrom(a, x, sizeof(x), 0, (void *)&from, &n) == 2 && n == 0);
	len = address(&from, "/tmp/two");
	CHECK(bind(b, (void *)&from, len) == 0);
	CHECK(connect(b, (void *)&un, address(&un, "@one")) == 0 && send(b, "again", 5, 0) == 5);
	n = sizeof(from);
	CHECK(recvfrom(a, x, sizeof(x), 0, (void *)&from, &n) == 5);
	CHECK(n == len && strcmp(from.sun_path, "/tmp/two") == 0);
	CHECK(sendto(a, "back", 4, 0, (void *)&from, n) == 4 && read(b, x, sizeof(x)) == 4);
	CHECK(fails(listen(b, 1), EOPNOTSUPP));
	CHECK(fails(sendto(b, "x", 1, 0, (void *)&un, address(&un, "@none")), ECONNREFUSED));
	close(a);
	CHECK(fails(send(b, "x", 1, 0), ECONNREFUSED));
	close(b);
	unlink("/tmp/two");
}

/* A datagram socket once received from every sender, also while it was connected to one of them. */
static void a_connected_datagram_socket_hears_no_other(void)
{
	struct sockaddr_un one, two;
	int a = socket(AF_UNIX, SOCK_DGRAM, 0), b = socket(AF_UNIX, SOCK_DGRAM, 0);
	int c = socket(AF_UNIX, SOCK_DGRAM, 0);
	socklen_t n = address(&one, "@hears"), m = address(&two, "@heard");
	char x[4];

	CHECK(bind(a, (void *)&one, n) == 0 && bind(b, (void *)&two, m) == 0);
	CHECK(connect(a, (void *)&two, m) == 0);
	CHECK(fails(sendto(c, "c", 1, 0, (void *)&one, n), EPERM));
	CHECK(fails(connect(c, (void *)&one, n), EPERM));
	CHECK(sendto(b, "b", 1, 0, (void *)&one, n) == 1);
	CHECK(recv(a, x, sizeof(x), MSG_DONTWAIT) == 1 && x[0] == 'b');
	CHECK(connect(a, &(struct sockaddr){ .sa_family = AF_UNSPEC }, 2) == 0);
	CHECK(sendto(c, "c", 1, 0, (void *)&one, n) == 1);
	close(a);
	close(b);
	close(c);
}

static void packets_are_connected(void)
{
	struct sockaddr_un un;
	socklen_t len = address(&un, "/tmp/packets");
	int l = socket(AF_UNIX, SOCK_SEQPACKET, 0), c = socket(AF_UNIX, SOCK_SEQPACKET, 0), s = -1,
	    other = socket(AF_UNIX, SOCK_STREAM, 0);
	char b[8];

	CHECK(bind(l, (void *)&un, len) == 0 && listen(l, 2) == 0);
	CHECK(fails(connect(other, (void *)&un, len), EPROTOTYPE));
	CHECK(connect(c, (void *)&un, len) == 0 && (s = accept(l, NULL, NULL)) >= 0);
	CHECK(write(c, "abc", 3) == 3 && write(c, "de", 2) == 2);
	CHECK(read(s, b, sizeof(b)) == 3 && read(s, b, sizeof(b)) == 2);
	close(c);
	CHECK(read(s, b, sizeof(b)) == 0);
	CHECK(fails(send(s, "x", 1, MSG_NOSIGNAL), EPIPE));
	close(s);
	close(l);
	close(other);
	unlink("/tmp/packets");
}

static void streams_are_looked_at(void)
{
	struct timeval limit = { 0, 30000 }, told;
	socklen_t n = sizeof(told);
	char b[8] = { 0 };
	int s[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && write(s[0], "abc", 3) == 3);
	CHECK(recv(s[1], b, 2, MSG_PEEK) == 2 && memcmp(b, "ab", 2) == 0);
	CHECK(write(s[0], "de", 2) == 2 && recv(s[1], b, 8, MSG_PEEK) == 5);
	CHECK(read(s[1], b, 8) == 5 && memcmp(b, "abcde", 5) == 0);
	CHECK(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0);
	CHECK(getsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &told, &n) == 0 && n == sizeof(told));
	CHECK(fails(read(s[1], b, 1), EAGAIN));
	close(s[0]);
	CHECK(read(s[1], b, 1) == 0);
	close(s[1]);
}

static void senders_are_told(void)
{
	char room[256] __attribute__((aligned(8))), b[8];
	struct iovec v = { b, sizeof(b) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room };
	struct cmsghdr *c;
	int s[2], on = 1;

	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
	CHECK(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
	CHECK(write(s[0], "x", 1) == 1);
	m.msg_controllen = sizeof(room);
	CHECK(recvmsg(s[1], &m, 0) == 1 && (c = CMSG_FIRSTHDR(&m)) != NULL);
	CHECK(c != NULL && c->cmsg_type == SCM_CREDENTIALS &&
	    ((struct ucred *)(void *)CMSG_DATA(c))->pid == getpid());
	close(s[0]);
	close(s[1]);
}

/* More than a queue takes, from a process to another, in odd sizes. */
static void streams_carry_everything(void)
{
	enum { BYTES = 1000000 };
	uint8_t buf[9973];
	uint64_t at = 0;
	int s[2], status, bad = 0;
	pid_t pid;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	if ((pid = fork()) == 0) {
		for (at = 0; at < BYTES;) {
			size_t n = (at * 7 + 1) % sizeof(buf) + 1;
			ssize_t r;

			n = n < BYTES - at ? n : BYTES - at;
			for (size_t i = 0; i < n; i++)
				buf[i] = (uint8_t)((at + i) * 31 >> 3);
			if ((r = write(s[0], buf, n)) <= 0)
				_exit(1);
			at += (uint64_t)r;
		}
		_exit(0);
	}
	close(s[0]);
	for (ssize_t r; (r = read(s[1], buf, sizeof(buf))) > 0; at += (uint64_t)r)
		for (ssize_t i = 0; i < r; i++)
			bad += buf[i] != (uint8_t)((at + (uint64_t)i) * 31 >> 3);
	CHECK(at == BYTES && bad == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	close(s[1]);
}

/* What a full queue takes, and that a waiting sender goes on. */
static void a_full_queue_waits(void)
{
	char b[1000] = { 0 };
	struct pollfd p;
	int s[2], n = 0, status;
	pid_t pid;

	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
	while (send(s[0], b, sizeof(b), MSG_DONTWAIT) == sizeof(b))
		n++;
	CHECK(errno == EAGAIN && n > 4);
	p = (struct pollfd){ s[0], POLLOUT, 0 };
	CHECK(poll(&p, 1, 0) == 0);
	if ((pid = fork()) == 0)
		_exit(send(s[0], b, sizeof(b), 0) == sizeof(b) ? 0 : 1);
	for (int i = 0; i <= n; i++)
		CHECK(recv(s[1], b, sizeof(b), 0) == sizeof(b));
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(fails(recv(s[1], b, 1, MSG_DONTWAIT), EAGAIN));
	close(s[0]);
	close(s[1]);
}

const struct test socket_tests[] = {
	T(files_are_passed, 1),
	T(passed_files_keep_their_place, 1),
	T(sockets_are_nested, 1),
	T(datagrams_stay_whole, 1),
	T(datagrams_go_by_name, 1),
	T(a_connected_datagram_socket_hears_no_other, 1),
	T(packets_are_connected, 1),
	T(streams_are_looked_at, 1),
	T(senders_are_told, 1),
	T(streams_carry_everything, 1),
	T(a_full_queue_waits, 1),
	{ NULL, NULL, 0 },
};
