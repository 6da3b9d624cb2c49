/* SPDX-License-Identifier: BSD-2-Clause */
/* Files, names and descriptors where threads, processes and want of memory meet: a part of the program `programs`. */
#define _GNU_SOURCE
#include <dirent.h>
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
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "programs.h"

/* The signal that a child dies of that reads (or writes) the byte; 0: none. */
static int signal_of_access(volatile uint8_t *p, int write)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (write)
			*p = 1;
		else
			(void)*p;
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* Beyond the end there were once zeroes, also where the file had been longer. */
static void a_mapping_of_tmpfs_ends_with_the_file(void)
{
	int fd = memfd_create("short", 0);
	uint8_t *p = mmap(NULL, 4 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK(p != MAP_FAILED && signal_of_access(p, 0) == SIGBUS);
	CHECK(write(fd, "hello", 5) == 5 && memcmp(p, "hello", 5) == 0);
	CHECK(signal_of_access(p + PG - 1, 1) == 0);
	CHECK(signal_of_access(p + PG, 0) == SIGBUS && signal_of_access(p + PG, 1) == SIGBUS);
	CHECK(ftruncate(fd, 3 * PG) == 0);
	memset(p, 7, 3 * PG);
	CHECK(ftruncate(fd, PG + 1) == 0 && p[PG] == 7 && p[PG + 1] == 0);
	CHECK(signal_of_access(p + 2 * PG, 0) == SIGBUS);
	CHECK(ftruncate(fd, 3 * PG) == 0 && p[2 * PG] == 0);
	CHECK(pwrite(fd, "x", 1, 4 * PG - 1) == 1 && p[4 * PG - 1] == 'x');
	munmap(p, 4 * PG);
	close(fd);
}

/* A private mapping once had zeroes behind the file's last page. */
static void a_private_mapping_of_tmpfs_ends_with_the_file(void)
{
	int fd = memfd_create("short", 0);

	CHECK(write(fd, "hello", 5) == 5);
	for (unsigned first = 0; first < 2; first++) {
		uint8_t *p = mmap(
		    NULL, 4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, (off_t)(first * PG));
		uint8_t *end = p + PG - first * PG;

		CHECK(p != MAP_FAILED);
		if (first == 0) {
			CHECK(memcmp(p, "hello", 6) == 0 && p[PG - 1] == 0);
			CHECK(signal_of_access(p + PG - 1, 1) == 0);
		}
		CHECK(signal_of_access(end, 0) == SIGBUS && signal_of_access(end, 1) == SIGBUS);
		CHECK(signal_of_access(p + 4 * PG - 1, 0) == SIGBUS);
		CHECK(mprotect(p, 4 * PG, PROT_READ) == 0);
		CHECK(signal_of_access(end, 0) == SIGBUS && signal_of_access(end, 1) == SIGSEGV);
		CHECK(mmap(p, 4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) == p);
		CHECK(memcmp(p, "hello", 6) == 0 && signal_of_access(p + PG, 1) == SIGBUS);
		CHECK(munmap(p, 4 * PG) == 0 && signal_of_access(end, 0) == SIGSEGV);
	}
	close(fd);
}

/* ---- epoll ---- */
/* An epoll was once always ready. */
static void an_epoll_is_polled(void)
{
	int ep = epoll_create1(0), outer = epoll_create1(0), ev = eventfd(0, 0);
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = 1 };
	struct pollfd p = { ep, POLLIN, 0 };
	uint64_t n = 1;

	CHECK(poll(&p, 1, 0) == 0);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e) == 0 && poll(&p, 1, 0) == 0);
	CHECK(epoll_ctl(outer, EPOLL_CTL_ADD, ep, &e) == 0);
	CHECK(epoll_wait(outer, &e, 1, 0) == 0);
	CHECK(write(ev, &n, sizeof(n)) == 8);
	CHECK(poll(&p, 1, 20000) == 1 && p.revents == POLLIN);
	CHECK(epoll_wait(outer, &e, 1, 20000) == 1 && e.events == EPOLLIN);
	CHECK(read(ev, &n, sizeof(n)) == 8 && poll(&p, 1, 0) == 0);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, outer, &e) == -1 && errno == ELOOP);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e) == -1 && errno == EINVAL);
	close(ev);
	close(outer);
	close(ep);
}

/* A ring of epolls, which no process sees as a whole, and a chain that is too long. */
static void epolls_in_a_ring_are_polled(void)
{
	struct epoll_event e = { .events = EPOLLIN };
	int a = epoll_create1(0), b = epoll_create1(0), c, status;
	pid_t pid;

	CHECK(epoll_ctl(a, EPOLL_CTL_ADD, c = dup(b), &e) == 0);
	if ((pid = fork()) == 0) {
		close(c); /* here the entry means nothing */
		(void)epoll_ctl(b, EPOLL_CTL_ADD, a, &e);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(epoll_wait(a, &e, 1, 0) == 0 && epoll_wait(b, &e, 1, 0) == 0);
	CHECK(poll(&(struct pollfd){ a, POLLIN, 0 }, 1, 0) == 0);
	close(a);
	close(b);
	close(c);
}

/* Of more ready files than the caller asks for the same were once told again and again. */
static void every_ready_file_has_its_turn(void)
{
	int ep = epoll_create1(0), ev[5];
	unsigned seen = 0;

	for (unsigned i = 0; i < 5; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.u32 = i };

		ev[i] = eventfd(1, 0);
		CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ev[i], &e) == 0);
	}
	for (int i = 0; i < 5; i++) {
		struct epoll_event e;

		CHECK(epoll_wait(ep, &e, 1, 0) == 1);
		seen |= 1u << e.data.u32;
	}
	CHECK(seen == 31);
	for (int i = 0; i < 5; i++)
		close(ev[i]);
	close(ep);
}

/* ---- eventfd ---- */
static void *add_one(void *arg)
{
	uint64_t n = 1;

	return write(*(int *)arg, &n, sizeof(n)) == 8 ? arg : NULL;
}

/* The counter once began again at 0. */
static void an_event_counter_is_full(void)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	struct pollfd p = { fd, POLLIN | POLLOUT, 0 };
	uint64_t n = UINT64_MAX;
	pthread_t t;
	void *r;

	CHECK(write(fd, &n, sizeof(n)) == -1 && errno == EINVAL);
	n = UINT64_MAX - 1;
	CHECK(write(fd, &n, sizeof(n)) == 8 && poll(&p, 1, 0) == 1 && p.revents == POLLIN);
	n = 1;
	CHECK(write(fd, &n, sizeof(n)) == -1 && errno == EAGAIN);
	CHECK(fcntl(fd, F_SETFL, 0) == 0 && pthread_create(&t, NULL, add_one, &fd) == 0);
	CHECK(read(fd, &n, sizeof(n)) == 8 && n == UINT64_MAX - 1);
	CHECK(pthread_join(t, &r) == 0 && r == &fd);
	CHECK(read(fd, &n, sizeof(n)) == 8 && n == 1);
	close(fd);
}

/* ---- descriptors ---- */
/* A table of 2^32 entries was once looked for without end. */
static void a_limit_of_descriptors_has_a_limit(void)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	CHECK(setrlimit(RLIMIT_NOFILE, &all) == -1 && errno == EPERM);
	CHECK(fcntl(0, F_DUPFD, 0x90000000) == -1 && (errno == EINVAL || errno == EMFILE));
	CHECK(dup2(0, -1) == -1 && errno == EBADF && dup2(0, 0x7fffffff) == -1 && errno == EBADF);
}

static int target;
static volatile int stop;

static void *open_and_close(void *arg)
{
	(void)arg;
	while (!stop) {
		int fd = open("/dev/null", O_RDONLY);

		if (fd >= 0 && fd != target)
			close(fd);
	}
	return NULL;
}

/* Between the close and the copy another thread once got the number; dup2 then answered another. */
static void dup2_replaces_at_once(void)
{
	pthread_t t[2];

	stop = 0;
	target = dup(0);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, open_and_close, NULL);
	for (int i = 0; i < 20000; i++)
		CHECK(dup2(0, target) == target);
	stop = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	close(target);
}

static _Noreturn void change_descriptors(void)
{
	for (;;) {
		int high = fcntl(0, F_DUPFD, 200 + rand() % 700);
		pid_t pid;

		close(high);
		if ((pid = fork()) == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
}

/* Their table was once read while it moved or went. */
static void descriptors_of_others_are_read_while_they_change(void)
{
	pid_t pid[2];
	char name[64];

	for (int i = 0; i < 2; i++)
		if ((pid[i] = fork()) == 0)
			change_descriptors();
	for (int round = 0; round < 300; round++) {
		pid_t which = pid[round % 2] + round % 3; /* the child, or those that it makes */
		struct dirent *e;
		struct stat st;
		DIR *d;

		snprintf(name, sizeof(name), "/proc/%d/fd", which);
		if ((d = opendir(name)) == NULL)
			continue;
		while ((e = readdir(d)) != NULL)
			(void)fstatat(dirfd(d), e->d_name, &st, 0);
		closedir(d);
	}
	for (int i = 0; i < 2; i++) {
		kill(pid[i], SIGKILL);
		CHECK(waitpid(pid[i], NULL, 0) == pid[i]);
	}
}

/* ---- offsets ---- */
#define COPIERS 4
static int copy_in_fd, copy_out_fd[COPIERS];
static long copied[COPIERS];

static void *copy_some(void *arg)
{
	int i = (int)(intptr_t)arg;
	ssize_t n;

	while ((n = sendfile(copy_out_fd[i], copy_in_fd, NULL, 1000)) > 0)
		copied[i] += n;
	return NULL;
}

/* Linux does not promise it. Bytes were once copied by several threads. */
static void a_shared_offset_moves_once(void)
{
	enum { BYTES = 2000000 };
	char buf[1000] = { 0 };
	pthread_t t[COPIERS];
	long total = 0;

	copy_in_fd = open("/tmp/copied", O_RDWR | O_CREAT | O_TRUNC, 0600);
	for (int i = 0; i < BYTES / 1000; i++)
		CHECK(write(copy_in_fd, buf, 1000) == 1000);
	CHECK(lseek(copy_in_fd, 0, SEEK_SET) == 0);
	memset(copied, 0, sizeof(copied));
	for (int i = 0; i < COPIERS; i++) {
		copy_out_fd[i] = open("/dev/null", O_WRONLY);
		pthread_create(&t[i], NULL, copy_some, (void *)(intptr_t)i);
	}
	for (int i = 0; i < COPIERS; i++) {
		pthread_join(t[i], NULL);
		total += copied[i];
		close(copy_out_fd[i]);
	}
	CHECK(total == BYTES);
	close(copy_in_fd);
	unlink("/tmp/copied");
}

static int is_refused(long r, int err) { return r == -1 && errno == err; }

static void odd_offsets_are_refused(void)
{
	int fd = open("/tmp/odd", O_RDWR | O_CREAT | O_TRUNC, 0600),
	    ro = open("/tmp/odd", O_RDONLY), p[2];
	int64_t below = -100, zero = 0;
	struct stat st;

	CHECK(pipe(p) == 0 && write(fd, "abcdef", 6) == 6);
	CHECK(syscall(SYS_copy_file_range, ro, &zero, fd, &below, 3, 0) == -1);
	CHECK(syscall(SYS_copy_file_range, ro, &below, fd, &zero, 3, 0) == -1);
	CHECK(is_refused(syscall(SYS_copy_file_range, ro, NULL, fd, NULL, 3, 1), EINVAL));
	CHECK(is_refused(sendfile(p[1], p[0], NULL, 10), EINVAL));
	CHECK(is_refused(fallocate(ro, 0, 0, 4096), EBADF));
	CHECK(is_refused(fallocate(fd, 0, -1, 4096), EINVAL));
	CHECK(is_refused(fallocate(fd, 0, 0, 0), EINVAL));
	CHECK(is_refused(fallocate(fd, 0, INT64_MAX, INT64_MAX), EFBIG));
	CHECK(is_refused(pwrite(fd, "x", 1, INT64_MAX - 1), EFBIG));
	CHECK(fstat(fd, &st) == 0 && st.st_size == 6);
	close(p[0]);
	close(p[1]);
	close(ro);
	close(fd);
	unlink("/tmp/odd");
}

/* ls once reported that the call is not there. */
static void no_access_list_is_no_error_to_report(void)
{
	char b[16];

	CHECK(lgetxattr("/tmp", "system.posix_acl_access", b, sizeof(b)) == -1 &&
	    (errno == ENOTSUP || errno == ENODATA));
	CHECK(getxattr("/tmp", "user.none", b, sizeof(b)) == -1 &&
	    (errno == ENOTSUP || errno == ENODATA));
}

/* ---- names ---- */
static int is_there(const char *path, struct stat *st) { return lstat(path, st) == 0; }

static int make_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	return fd < 0 ? -1 : close(fd);
}

static void rename_to_and_fro(const char *a, const char *b, int is_dir)
{
	struct stat x, y;
	char up[64];

	for (int i = 0; i < 300; i++) {
		const char *from = i % 2 == 0 ? a : b, *to = i % 2 == 0 ? b : a;

		CHECK(rename(from, to) == 0 && !is_there(from, &x) && is_there(to, &y));
		if (!is_dir)
			continue;
		snprintf(up, sizeof(up), "%s/..", to);
		CHECK(is_there(up, &x) && is_there(i % 2 == 0 ? "/tmp/rb" : "/tmp/ra", &y) &&
		    x.st_ino == y.st_ino);
		CHECK(rmdir(to) == -1 && errno == ENOTEMPTY);
	}
}

static void names_go_to_and_fro(void)
{
	CHECK(mkdir("/tmp/ra", 0700) == 0 && mkdir("/tmp/rb", 0700) == 0);
	CHECK(make_file("/tmp/ra/f") == 0 && mkdir("/tmp/ra/d", 0700) == 0 &&
	    make_file("/tmp/ra/d/in") == 0);
	rename_to_and_fro("/tmp/ra/f", "/tmp/rb/f", 0);
	rename_to_and_fro("/tmp/ra/d", "/tmp/rb/d", 1);
	CHECK(unlink("/tmp/ra/f") == 0 && unlink("/tmp/ra/d/in") == 0);
	CHECK(rmdir("/tmp/ra/d") == 0 && rmdir("/tmp/ra") == 0 && rmdir("/tmp/rb") == 0);
}

/* The file was once made, and stayed, though the call said EMFILE. */
static void no_number_makes_no_file(void)
{
	struct rlimit old, few;
	struct stat st;
	int fd = dup(0);

	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	few = (struct rlimit){ (rlim_t)fd, old.rlim_max };
	close(fd);
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	CHECK(open("/tmp/numberless", O_WRONLY | O_CREAT, 0600) == -1 && errno == EMFILE);
	CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0 && !is_there("/tmp/numberless", &st));
	CHECK((fd = open("/tmp/numberless", O_WRONLY | O_CREAT | O_EXCL, 0600)) >= 0 &&
	    close(fd) == 0);
	unlink("/tmp/numberless");
}

const struct test file_tests[] = {
	T(a_mapping_of_tmpfs_ends_with_the_file, 1),
	T(a_private_mapping_of_tmpfs_ends_with_the_file, 1),
	T(an_epoll_is_polled, 1),
	T(epolls_in_a_ring_are_polled, 1),
	T(every_ready_file_has_its_turn, 1),
	T(an_event_counter_is_full, 1),
	T(a_limit_of_descriptors_has_a_limit, 1),
	T(dup2_replaces_at_once, 1),
	T(descriptors_of_others_are_read_while_they_change, 1),
	T(a_shared_offset_moves_once, 0),
	T(odd_offsets_are_refused, 1),
	T(no_access_list_is_no_error_to_report, 1),
	T(names_go_to_and_fro, 1),
	T(no_number_makes_no_file, 1),
	{ NULL, NULL, 0 },
};
