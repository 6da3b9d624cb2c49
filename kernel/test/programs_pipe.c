/* SPDX-License-Identifier: BSD-2-Clause */
/* Pipes that are spliced and duplicated, and the alternate stack of signals: a part of the program `programs`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "programs.h"

#define N 50000u

static uint8_t bytes[N], got[N];

static void make_bytes(void)
{
	for (unsigned i = 0; i < N; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	memset(got, 0, sizeof(got));
}

static int read_all(int fd, uint8_t *to, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = read(fd, to + done, n - done);

		if (r <= 0)
			return 0;
		done += (size_t)r;
	}
	return 1;
}

/*
 * Splices from a file to a pipe to a file: offsets advance correctly, and every byte is at its
 * place.
 */
static void splice_carries_files(void)
{
	int from = open("/tmp/splice.from", O_RDWR | O_CREAT | O_TRUNC, 0600),
	    to = open("/tmp/splice.to", O_RDWR | O_CREAT | O_TRUNC, 0600), fd[2];
	loff_t at = 100, where = 8192;
	size_t moved = 0;

	make_bytes();
	CHECK(from >= 0 && to >= 0 && pipe(fd) == 0);
	CHECK(write(from, bytes, N) == N && lseek(from, 0, SEEK_SET) == 0);
	while (moved < N) {
		ssize_t in = splice(from, NULL, fd[1], NULL, N - moved, 0), out = 0;

		CHECK(in > 0);
		if (in <= 0)
			return;
		while (out < in) {
			ssize_t r =
			    splice(fd[0], NULL, to, NULL, (size_t)(in - out), SPLICE_F_MOVE);

			CHECK(r > 0);
			if (r <= 0)
				return;
			out += r;
		}
		moved += (size_t)in;
	}
	CHECK(lseek(from, 0, SEEK_CUR) == N && lseek(to, 0, SEEK_CUR) == N);
	CHECK(splice(from, NULL, fd[1], NULL, 10, 0) == 0); /* the file's end */
	CHECK(lseek(to, 0, SEEK_SET) == 0 && read_all(to, got, N) && memcmp(got, bytes, N) == 0);
	/* with the caller's offsets, the files' own offsets stay */
	CHECK(splice(from, &at, fd[1], NULL, 50, 0) == 50 && at == 150);
	CHECK(splice(fd[0], NULL, to, &where, 50, 0) == 50 && where == 8242);
	CHECK(lseek(from, 0, SEEK_CUR) == N && lseek(to, 0, SEEK_CUR) == N);
	CHECK(pread(to, got, 50, 8192) == 50 && memcmp(got, bytes + 100, 50) == 0);
	close(from);
	close(to);
	close(fd[0]);
	close(fd[1]);
	unlink("/tmp/splice.from");
	unlink("/tmp/splice.to");
}

static void splice_and_tee_between_pipes(void)
{
	int a[2], b[2], c[2];
	struct iovec v = { bytes, 4096 };
	uint8_t word[8];

	make_bytes();
	CHECK(pipe(a) == 0 && pipe(b) == 0 && pipe(c) == 0);
	CHECK(write(a[1], "one", 3) == 3);
	CHECK(vmsplice(a[1], &v, 1, 0) == 4096);
	CHECK(write(a[1], "two", 3) == 3);
	/* a copy goes to b, and the bytes are still in a */
	for (ssize_t n = 0, r; n < 4102; n += r) {
		r = tee(a[0], b[1], 4102, 0);
		CHECK(r > 0);
		/*
		 * only a part of the bytes was there: Linux moves buffers, each a piece of the
		 * stream
		 */
		if (r != 4102)
			break;
	}
	CHECK(read(b[0], word, 3) == 3 && memcmp(word, "one", 3) == 0);
	CHECK(read_all(b[0], got, 4096) && memcmp(got, bytes, 4096) == 0);
	/* then they move */
	for (ssize_t n = 0, r; n < 4102; n += r) {
		r = splice(a[0], NULL, c[1], NULL, (size_t)(4102 - n), 0);
		CHECK(r > 0);
		if (r <= 0)
			return;
	}
	CHECK(splice(a[0], NULL, c[1], NULL, 1, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN);
	CHECK(read(c[0], word, 3) == 3 && memcmp(word, "one", 3) == 0);
	CHECK(read_all(c[0], got, 4096) && memcmp(got, bytes, 4096) == 0);
	CHECK(read(c[0], word, 3) == 3 && memcmp(word, "two", 3) == 0);
	close(a[1]);
	CHECK(splice(a[0], NULL, c[1], NULL, 1, 0) == 0); /* every writing end is closed */
	CHECK(tee(a[0], c[1], 1, 0) == 0);
	close(a[0]);
	for (unsigned i = 0; i < 2; i++) {
		close(b[i]);
		close(c[i]);
	}
}

static void *write_later(void *fd)
{
	(void)write(*(int *)fd, "x", 1);
	return NULL;
}

static void splice_waits_or_says_so(void)
{
	struct iovec in = { got, 1 }, out = { bytes, 100 };
	int a[2], b[2], file = open("/tmp/splice.from", O_RDWR | O_CREAT | O_TRUNC, 0600);
	pthread_t t;
	ssize_t n = 0, r;

	CHECK(pipe(a) == 0 && pipe(b) == 0 && file >= 0);
	CHECK(splice(a[0], NULL, file, NULL, 1, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN);
	CHECK(tee(a[0], b[1], 1, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN);
	CHECK(vmsplice(a[0], &in, 1, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN);
	CHECK(pthread_create(&t, NULL, write_later, &a[1]) == 0);
	CHECK(splice(a[0], NULL, b[1], NULL, 1, 0) == 1);
	pthread_join(t, NULL);
	CHECK(read(b[0], got, 1) == 1 && got[0] == 'x');
	/* until the pipe is full */
	while ((r = vmsplice(a[1], &out, 1, SPLICE_F_NONBLOCK)) > 0)
		n += r;
	CHECK(r == -1 && errno == EAGAIN && n > 0);
	CHECK(pwrite(file, "yz", 2, 0) == 2);
	while ((r = write(b[1], bytes, 4096)) == 4096 && (fcntl(b[1], F_SETFL, O_NONBLOCK), 1))
		;
	CHECK(fcntl(b[1], F_SETFL, 0) == 0);
	CHECK(splice(file, NULL, b[1], NULL, 2, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN);
	CHECK(lseek(file, 0, SEEK_CUR) == 0); /* no byte was taken from the pipe */
	close(file);
	for (unsigned i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
	unlink("/tmp/splice.from");
}

static void splice_refuses_what_it_cannot(void)
{
	int a[2], b[2], file = open("/tmp/splice.from", O_RDWR | O_CREAT | O_TRUNC, 0600),
			end = open("/tmp/splice.from", O_WRONLY | O_APPEND);
	loff_t at = 0;

	CHECK(pipe(a) == 0 && pipe(b) == 0 && file >= 0 && end >= 0 && write(a[1], "abc", 3) == 3);
	CHECK(splice(a[0], &at, file, NULL, 1, 0) == -1 && errno == ESPIPE);
	CHECK(splice(file, NULL, a[1], &at, 1, 0) == -1 && errno == ESPIPE);
	CHECK(splice(file, NULL, end, NULL, 1, 0) == -1 && errno == EINVAL);
	CHECK(splice(a[0], NULL, a[1], NULL, 1, 0) == -1 && errno == EINVAL);
	CHECK(splice(a[1], NULL, file, NULL, 1, 0) == -1 && errno == EBADF);
	CHECK(splice(a[0], NULL, end, NULL, 1, 0) == -1 && errno == EINVAL);
	CHECK(splice(a[0], NULL, file, NULL, 1, 0x100) == -1 && errno == EINVAL);
	CHECK(splice(-1, NULL, a[1], NULL, 1, 0) == -1 && errno == EBADF);
	CHECK(splice(a[0], NULL, file, NULL, 0, 0) == 0);
	CHECK(tee(a[0], file, 1, 0) == -1 && errno == EINVAL);
	CHECK(tee(a[0], a[1], 1, 0) == -1 && errno == EINVAL);
	CHECK(tee(a[1], b[1], 1, 0) == -1 && errno == EBADF);
	signal(SIGPIPE, SIG_IGN);
	close(b[0]);
	CHECK(splice(a[0], NULL, b[1], NULL, 1, 0) == -1 && errno == EPIPE);
	CHECK(splice(a[0], NULL, file, NULL, 3, 0) == 3); /* no byte was lost */
	signal(SIGPIPE, SIG_DFL);
	close(a[0]);
	close(a[1]);
	close(b[1]);
	close(file);
	close(end);
	unlink("/tmp/splice.from");
}

static uint8_t spliced_page[4096] __attribute__((aligned(4096)));

/*
 * A shell's <(...): opens a pipe by its descriptor in /proc; and a file that has no name any more.
 */
static void descriptors_are_opened_by_name(void)
{
	struct iovec v = { spliced_page, 4096 };
	int fd[2], other, file = open("/tmp/nameless", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char path[32], word[8];

	CHECK(pipe(fd) == 0 && write(fd[1], "abc", 3) == 3);
	snprintf(path, sizeof(path), "/dev/fd/%d", fd[0]);
	other = open(path, O_RDONLY);
	CHECK(other >= 0 && read(other, word, 1) == 1 && word[0] == 'a');
	close(fd[0]);
	CHECK(read(other, word, 8) == 2 && memcmp(word, "bc", 2) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd[1]);
	CHECK(
	    (fd[0] = open(path, O_WRONLY)) >= 0 && close(fd[1]) == 0 && write(fd[0], "d", 1) == 1);
	close(fd[0]);
	CHECK(read(other, word, 8) == 1 && word[0] == 'd' && read(other, word, 8) == 0);
	close(other);
	/* opening a pipe without a writer for reading does not wait */
	CHECK(pipe(fd) == 0 && write(fd[1], "e", 1) == 1 && close(fd[1]) == 0);
	snprintf(path, sizeof(path), "/dev/fd/%d", fd[0]);
	CHECK((other = open(path, O_RDONLY)) >= 0 && read(other, word, 8) == 1);
	close(fd[0]);
	close(other);
	/* bytes that were spliced in and never read are freed with the pipe */
	CHECK(pipe(fd) == 0 && vmsplice(fd[1], &v, 1, 0) == 4096);
	close(fd[0]);
	close(fd[1]);
	CHECK(write(file, "still", 5) == 5 && unlink("/tmp/nameless") == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	other = open(path, O_RDONLY);
	CHECK(other >= 0 && read(other, word, 8) == 5 && memcmp(word, "still", 5) == 0);
	close(other);
	close(file);
}

/* ---- pairs of sockets ---- */
static void sockets_come_in_pairs(void)
{
	int s[2], v = -1, status;
	socklen_t len = sizeof(v);
	struct pollfd p;
	char word[8];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) == 0);
	CHECK(fcntl(s[0], F_GETFD) == FD_CLOEXEC);
	CHECK(write(s[0], "to", 2) == 2 && send(s[1], "fro", 3, 0) == 3);
	CHECK(recv(s[1], word, 8, MSG_DONTWAIT) == 2 && memcmp(word, "to", 2) == 0);
	CHECK(read(s[0], word, 8) == 3 && memcmp(word, "fro", 3) == 0);
	CHECK(recv(s[0], word, 8, MSG_DONTWAIT) == -1 && errno == EAGAIN);
	CHECK(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &v, &len) == 0 && v == SOCK_STREAM);
	p = (struct pollfd){ s[0], POLLIN | POLLOUT, 0 };
	CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLOUT);
	make_bytes();
	pid_t pid = fork();
	if (pid == 0) { /* more than the pair can hold */
		close(s[0]);
		_exit(send(s[1], bytes, N, 0) == N && send(s[1], bytes, N, 0) == N ? 0 : 1);
	}
	CHECK(recv(s[0], got, N, MSG_WAITALL) == N && recv(s[0], got, N, MSG_WAITALL) == N);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(memcmp(got, bytes, N) == 0);
	CHECK(shutdown(s[1], SHUT_WR) == 0 && read(s[0], word, 8) == 0 && write(s[0], "x", 1) == 1);
	close(s[1]);
	CHECK(poll(&p, 1, 0) == 1 && (p.revents & (POLLIN | POLLHUP)) == (POLLIN | POLLHUP));
	/* and the program continues */
	CHECK(send(s[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
	close(s[0]);
	CHECK(recv(open("/dev/null", O_RDONLY), word, 1, 0) == -1 && errno == ENOTSOCK);
}

static void messages_are_gathered(void)
{
	struct iovec v[2] = { { bytes, 3 }, { bytes + 10, 5 } }, in = { got, 100 };
	struct msghdr out = { .msg_iov = v, .msg_iovlen = 2 },
		      back = { .msg_iov = &in, .msg_iovlen = 1 };
	int s[2];

	make_bytes();
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	CHECK(sendmsg(s[0], &out, 0) == 8 && recvmsg(s[1], &back, 0) == 8);
	CHECK(memcmp(got, bytes, 3) == 0 && memcmp(got + 3, bytes + 10, 5) == 0);
	CHECK(back.msg_controllen == 0 && back.msg_flags == 0);
	close(s[0]);
	close(s[1]);
}

/* ---- the alternate stack ---- */
static char alternate[32768], other[32768];
static volatile sig_atomic_t flags_there, error_there;

static void look_at_the_stack(int sig)
{
	stack_t now, want = { .ss_sp = other, .ss_size = sizeof(other) };

	(void)sig;
	memset(&now, 0, sizeof(now));
	(void)sigaltstack(NULL, &now);
	flags_there = now.ss_flags;
	error_there = sigaltstack(&want, NULL) == -1 ? errno : 0;
}

static void a_handler_knows_its_stack(void)
{
	stack_t ss = { .ss_sp = alternate, .ss_size = sizeof(alternate) }, old;
	stack_t small = { .ss_sp = other, .ss_size = 1000 }, odd = ss,
		off = { .ss_flags = SS_DISABLE };
	struct sigaction sa = { .sa_handler = look_at_the_stack, .sa_flags = SA_ONSTACK };

	CHECK(sigaltstack(&ss, NULL) == 0);
	CHECK(sigaltstack(NULL, &old) == 0 && old.ss_flags == 0 && old.ss_sp == alternate &&
	    old.ss_size == sizeof(alternate));
	odd.ss_flags = 4;
	CHECK(sigaltstack(&odd, NULL) == -1 && errno == EINVAL);
	CHECK(sigaltstack(&small, NULL) == -1 && errno == ENOMEM);
	sigaction(SIGUSR2, &sa, NULL);
	raise(SIGUSR2);
	CHECK(flags_there == SS_ONSTACK && error_there == EPERM);
	CHECK(sigaltstack(NULL, &old) == 0 && old.ss_flags == 0 && old.ss_sp == alternate);
	/* a handler that runs on the program's stack may set another signal stack; its return restores the old signal stack */
	sa.sa_flags = 0;
	sigaction(SIGUSR2, &sa, NULL);
	raise(SIGUSR2);
	CHECK(flags_there == 0 && error_there == 0);
	CHECK(sigaltstack(NULL, &old) == 0 && old.ss_sp == alternate);
	CHECK(sigaltstack(&off, &old) == 0 && old.ss_sp == alternate);
	CHECK(sigaltstack(NULL, &old) == 0 && old.ss_flags == SS_DISABLE);
	signal(SIGUSR2, SIG_DFL);
}

const struct test pipe_tests[] = {
	T(splice_carries_files, 1),
	T(splice_and_tee_between_pipes, 1),
	T(splice_waits_or_says_so, 1),
	T(splice_refuses_what_it_cannot, 1),
	T(descriptors_are_opened_by_name, 1),
	T(sockets_come_in_pairs, 1),
	T(messages_are_gathered, 1),
	T(a_handler_knows_its_stack, 1),
	{ NULL, NULL, 0 },
};
