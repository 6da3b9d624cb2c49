/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of `programs` (programs.c): what calls answer to wrong arguments, and names with links and slashes. Each answer once differed
 * from Linux.
 */
#define _GNU_SOURCE
#include "programs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* A new directory, in which the test works; the descriptor of the directory before it. */
static int enter_directory(char *name)
{
	int before = open(".", O_RDONLY | O_DIRECTORY);

	CHECK(
	    before >= 0 && mkdtemp(strcpy(name, "/tmp/errno.XXXXXX")) != NULL && chdir(name) == 0);
	return before;
}

static void leave_directory(int before, const char *name)
{
	CHECK(fchdir(before) == 0 && rmdir(name) == 0);
	close(before);
}

static int make_file(const char *name) { return open(name, O_RDWR | O_CREAT | O_EXCL, 0600); }

static void a_file_is_made_where_links_lead(void)
{
	char name[32];
	int before = enter_directory(name), fd;

	CHECK(mkdir("d", 0700) == 0 && symlink("d/link", "first") == 0 &&
	    symlink("../file", "d/link") == 0);
	CHECK(fails(open("first", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST));
	CHECK(fails(open("first", O_RDWR), ENOENT));
	CHECK((fd = open("first", O_RDWR | O_CREAT, 0600)) >= 0);
	CHECK(access("file", F_OK) == 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
	CHECK(symlink("ring", "ring") == 0 && fails(open("ring", O_RDWR | O_CREAT, 0600), ELOOP));
	CHECK(symlink("none/file", "deep") == 0 &&
	    fails(open("deep", O_RDWR | O_CREAT, 0600), ENOENT));
	CHECK(fails(open("d", O_RDONLY | O_CREAT, 0600), EISDIR));
	CHECK(unlink("d/link") == 0 && unlink("first") == 0 && unlink("file") == 0 &&
	    unlink("ring") == 0 && unlink("deep") == 0 && rmdir("d") == 0);
	leave_directory(before, name);
}

static void a_slash_at_the_end_means_a_directory(void)
{
	char name[32];
	int before = enter_directory(name);
	struct stat st;

	CHECK(mkdir("d", 0700) == 0 && mkdir("d/e", 0700) == 0 && symlink("d", "link") == 0 &&
	    close(make_file("file")) == 0);
	CHECK(fails(unlink("link/"), ENOTDIR) && fails(unlink("file/"), ENOTDIR));
	CHECK(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
	CHECK(lstat("link/", &st) == 0 && S_ISDIR(st.st_mode));
	CHECK(fails(rename("file/", "other"), ENOTDIR) && fails(rename("file", "other/"), ENOTDIR));
	CHECK(fails(rmdir("d/e/.."), ENOTEMPTY) && fails(rmdir("d/e/."), EINVAL));
	CHECK(rename("d/e/", "f/") == 0 && rmdir("f/") == 0);
	CHECK(unlink("file") == 0 && unlink("link") == 0 && rmdir("d") == 0);
	leave_directory(before, name);
}

static void flags_of_names_are_checked(void)
{
	struct timespec t[2] = { { 0, 1000000000 }, { 0, 0 } };
	struct statx sx;
	struct stat st;
	char name[32], text[8];
	int before = enter_directory(name);

	CHECK(close(make_file("file")) == 0 && symlink("file", "link") == 0);
	CHECK(fails(fstatat(AT_FDCWD, "file", &st, 0x8000), EINVAL));
	CHECK(fails(statx(AT_FDCWD, "file", 0x8000000, STATX_ALL, &sx), EINVAL));
	CHECK(fails(statx(AT_FDCWD, "file", 0, 0x80000000u, &sx), EINVAL));
	CHECK(fails(access("file", 17), EINVAL));
	CHECK(fails(fchownat(AT_FDCWD, "file", 0, 0, 0x4000), EINVAL));
	CHECK(fails(utimensat(AT_FDCWD, "file", NULL, 0x4000), EINVAL));
	CHECK(fails(utimensat(AT_FDCWD, "file", t, 0), EINVAL));
	CHECK(fails(unlinkat(AT_FDCWD, "file", 0x10), EINVAL));
	CHECK(fails(linkat(AT_FDCWD, "file", AT_FDCWD, "other", 1), EINVAL));
	CHECK(fails(syscall(SYS_readlinkat, AT_FDCWD, "link", text, 0), EINVAL));
	CHECK(fails(readlink("file", text, sizeof(text)), EINVAL));
	CHECK(fails(syscall(SYS_getdents64, before, text, sizeof(text)), EINVAL));
	CHECK(unlink("file") == 0 && unlink("link") == 0);
	leave_directory(before, name);
}

/* A descriptor by O_PATH names the file, and does nothing with it. */
static void a_file_opened_by_name_alone_is_left_alone(void)
{
	char name[32];
	int before = enter_directory(name), fd = -1, n;
	struct stat st;

	CHECK(close(make_file("file")) == 0 && (fd = open("file", O_PATH)) >= 0);
	CHECK(fstat(fd, &st) == 0 && fcntl(fd, F_GETFD) == 0 && (fcntl(fd, F_GETFL) & O_PATH));
	CHECK(fails(fchmod(fd, 0644), EBADF) && fails(fchown(fd, 0, 0), EBADF));
	CHECK(fails(lseek(fd, 0, SEEK_SET), EBADF) && fails(fsync(fd), EBADF));
	CHECK(fails(fcntl(fd, F_SETFL, 0), EBADF) && fails(ftruncate(fd, 0), EBADF));
	CHECK(fails(flock(fd, LOCK_SH), EBADF) && fails(ioctl(fd, 0x541b, &n), EBADF));
	CHECK(mmap(NULL, PG, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == EBADF);
	CHECK(close(fd) == 0 && unlink("file") == 0);
	leave_directory(before, name);
}

static void pieces_have_a_length_in_all(void)
{
	char a[4] = "abc", b[4];
	struct iovec v[2] = { { a, 3 }, { b, SIZE_MAX } };
	int fd = memfd_create("x", 0);

	CHECK(fails(writev(fd, v, 2), EINVAL) && fails(readv(fd, v, 2), EINVAL));
	CHECK(lseek(fd, 0, SEEK_END) == 0);
	v[0].iov_len = v[1].iov_len = 3;
	CHECK(pwritev2(fd, v, 1, 0, RWF_DSYNC) == 3);
	v[0].iov_base = b;
	CHECK(preadv2(fd, v, 1, 0, 0) == 3 && memcmp(b, "abc", 3) == 0);
	CHECK(lseek(fd, 1, SEEK_SET) == 1 && preadv2(fd, v, 1, -1, 0) == 2 && b[0] == 'b');
	CHECK(fails(preadv2(fd, v, 1, 0, 0x8000), EOPNOTSUPP));
	CHECK(fails(lseek(fd, -1, SEEK_HOLE), ENXIO) && fails(lseek(fd, -1, SEEK_DATA), ENXIO));
	close(fd);
}

static void a_range_is_not_copied_onto_itself(void)
{
	off64_t from = 0, to = 2;
	int fd = memfd_create("x", 0), other = -1;
	char name[32];
	int before = enter_directory(name);

	CHECK(close(make_file("file")) == 0 && (other = open("file", O_WRONLY | O_APPEND)) >= 0);
	CHECK(write(fd, "0123456789", 10) == 10);
	CHECK(fails(copy_file_range(fd, &from, fd, &to, 5, 0), EINVAL));
	CHECK(fails(sendfile(other, fd, &from, 5), EINVAL));
	CHECK(close(other) == 0 && (other = open("file", O_RDWR)) >= 0);
	CHECK(sendfile(other, fd, &from, 5) == 5);
	to = 5, from = 0;
	CHECK(copy_file_range(other, &from, other, &to, 5, 0) == 5 && to == 10);
	CHECK(close(other) == 0 && (other = open("file", O_WRONLY | O_APPEND)) >= 0);
	CHECK(close(fd) == 0 && (fd = open("file", O_RDONLY)) >= 0);
	CHECK(fails(copy_file_range(fd, &from, other, NULL, 5, 0), EBADF));
	close(fd);
	CHECK(close(other) == 0 && unlink("file") == 0);
	leave_directory(before, name);
}

static void select_tells_of_a_wrong_descriptor(void)
{
	struct timeval t = { 0, 1000 };
	int fd = eventfd(1, 0);
	fd_set set;

	FD_ZERO(&set);
	FD_SET(99, &set);
	CHECK(fails(select(100, &set, NULL, NULL, &t), EBADF));
	t = (struct timeval){ 0, 1000 };
	CHECK(select(0, NULL, NULL, NULL, &t) == 0 && t.tv_sec == 0 && t.tv_usec == 0);
	FD_ZERO(&set);
	FD_SET(fd, &set);
	t = (struct timeval){ 1000, 0 };
	CHECK(select(fd + 1, &set, NULL, NULL, &t) == 1 && t.tv_sec <= 1000);
	close(fd);
}

static void advice_and_numbers_of_files_are_checked(void)
{
	int fd[2], file = memfd_create("x", 0);

	CHECK(pipe(fd) == 0);
	CHECK(posix_fadvise(file, 0, 0, 77) == EINVAL && posix_fadvise(fd[0], 0, 0, 0) == ESPIPE &&
	    posix_fadvise(99, 0, 0, 0) == EBADF && posix_fadvise(file, 0, 0, 0) == 0);
	CHECK(fails(readahead(99, 0, 1), EBADF) && fails(readahead(fd[0], 0, 1), EINVAL));
	CHECK(fails(sync_file_range(fd[0], 0, 0, 0), ESPIPE) &&
	    fails(sync_file_range(file, 0, 0, 64), EINVAL) &&
	    fails(sync_file_range(file, -1, 0, 0), EINVAL));
	CHECK(fails(syncfs(99), EBADF) && fails(fallocate(fd[1], 0, 0, 5), ESPIPE));
	CHECK(fails(fcntl(file, F_DUPFD, -1), EINVAL) &&
	    fails(fcntl(file, F_DUPFD, 1 << 30), EINVAL));
	CHECK(fails(fcntl(file, F_GETPIPE_SZ), EBADF) && fcntl(fd[0], F_GETPIPE_SZ) == 65536);
	CHECK(fails(close_range(60, 61, 64), EINVAL) && fails(eventfd(0, 0x40), EINVAL) &&
	    fails(epoll_create1(64), EINVAL) && fails(getrandom(fd, 1, 99), EINVAL));
	close(fd[0]);
	close(fd[1]);
	close(file);
}

static void threads_and_groups_are_checked(void)
{
	const pid_t none = 999999;
	cpu_set_t cpus;
	int status = -1;
	pid_t pid;

	CPU_ZERO(&cpus);
	CHECK(fails(sched_setaffinity(0, sizeof(cpus), &cpus), EINVAL));
	CHECK(sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) > 0 &&
	    sched_setaffinity(0, sizeof(cpus), &cpus) == 0);
	CHECK(fails(sched_setaffinity(none, sizeof(cpus), &cpus), ESRCH) &&
	    fails(sched_getaffinity(none, sizeof(cpus), &cpus), ESRCH));
	CHECK(fails(syscall(SYS_set_robust_list, 0, 8), EINVAL));
	CHECK(fails(syscall(SYS_rt_sigsuspend, NULL, 4), EINVAL));
	CHECK(fails(syscall(SYS_clone, 0x10000 | SIGCHLD, 0, 0, 0, 0), EINVAL) &&
	    fails(syscall(SYS_clone, 0x800 | SIGCHLD, 0, 0, 0, 0), EINVAL));
	CHECK(prctl(PR_GET_TIMERSLACK) > 0 && prctl(PR_CAPBSET_READ, 1) == 1);
	if ((pid = fork()) == 0)
		_exit(setsid() == getpid() && fails(setpgid(0, 0), EPERM) ? 0 : 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(fails(setpgid(getppid() > 1 ? getppid() : none, 0), ESRCH));
}

static void no_length_is_nothing_to_lock(void)
{
	char *p = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(mlock(p, 0) == 0 && msync(p, 0, 0) == 0);
	CHECK(fails(mlock((void *)-PG, 2 * PG), EINVAL) && fails(mlockall(4), EINVAL));
	CHECK(mmap(NULL, PG, PROT_READ, MAP_PRIVATE | MAP_SHARED | 4 | MAP_ANONYMOUS, -1, 0) ==
		MAP_FAILED &&
	    errno == EINVAL);
	CHECK(munmap(p, PG) == 0);
}

const struct test errno_tests[] = {
	T(a_file_is_made_where_links_lead, 1),
	T(a_slash_at_the_end_means_a_directory, 1),
	T(flags_of_names_are_checked, 1),
	T(a_file_opened_by_name_alone_is_left_alone, 1),
	T(pieces_have_a_length_in_all, 1),
	T(a_range_is_not_copied_onto_itself, 1),
	T(select_tells_of_a_wrong_descriptor, 1),
	T(advice_and_numbers_of_files_are_checked, 1),
	T(threads_and_groups_are_checked, 1),
	T(no_length_is_nothing_to_lock, 1),
	{ NULL, NULL, 0 },
};
