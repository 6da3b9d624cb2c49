/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Want of memory inside a call: a part of the program `programs`, by name only.
 *
 * Each call is made again and again; the first time its first attempt to get memory is refused, the
 * next time its second, until it makes fewer attempts. A call that fails has changed nothing, a call
 * that succeeds has done its work. kernel/sys/inject.c refuses, on a machine that is started with
 * inject=1 and has one CPU.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "programs.h"

enum { PR_INJECT = 0x51495231, PAGE = 0, KMEM = 1, HAT = 4, SWAP = 5 };
enum { MOST = 400 }; /* attempts of a call: more mean that it never ends */

/* A call that is refused something. */
struct call {
	const char *name;
	void (*set)(void); /* makes what the call needs; NULL: nothing */
	int (*go)(void);   /* the call: -1 and errno, or more */
	int (*state)(
	    void); /* 1: the call has done its work; 0: it has done nothing; else neither */
	void (*clear)(void); /* removes what set and go have made */
};

static const char *where; /* the directory in which the calls of names work */
static int got;           /* what go returned */
static int wrong;         /* calls that did not do what they should */

static const char *at(const char *name)
{
	static char path[4][256];
	static unsigned n;

	n = (n + 1) % 4;
	snprintf(path[n], sizeof(path[n]), "%s/%s", where, name);
	return path[n];
}

static ino_t ino(const char *name)
{
	struct stat st;

	return lstat(at(name), &st) == 0 ? st.st_ino : 0;
}

static nlink_t links(const char *name)
{
	struct stat st;

	return stat(at(name), &st) == 0 ? st.st_nlink : 0;
}

static int make(const char *name)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_EXCL, 0600);

	return fd < 0 ? -1 : close(fd);
}

/* ---- names ---- */
static ino_t first_ino, second_ino;

static void set_f(void)
{
	CHECK(make("f") == 0);
	first_ino = ino("f");
}

static void set_f_and_g(void)
{
	set_f();
	CHECK(make("g") == 0);
	second_ino = ino("g");
}

static void clear_f_and_g(void)
{
	unlink(at("f"));
	unlink(at("g"));
}

static int go_create(void) { return got = open(at("f"), O_WRONLY | O_CREAT | O_EXCL, 0600); }
static int state_create(void)
{
	struct stat st;

	if (ino("f") == 0)
		return 0;
	return got >= 0 && links("f") == 1 && fstat(got, &st) == 0 && st.st_ino == ino("f") ? 1
											    : -1;
}
static void clear_create(void)
{
	if (got >= 0)
		close(got);
	unlink(at("f"));
}

static int go_truncate(void) { return got = open(at("f"), O_WRONLY | O_TRUNC); }
static void set_long(void)
{
	char b[64] = "0123456789";
	int fd = open(at("f"), O_WRONLY | O_CREAT | O_EXCL, 0600);

	CHECK(fd >= 0 && write(fd, b, sizeof(b)) == sizeof(b));
	close(fd);
}
static int state_truncate(void)
{
	struct stat st;

	CHECK(stat(at("f"), &st) == 0);
	return got >= 0 && st.st_size == 0;
}

static int go_mkdir(void) { return mkdir(at("d"), 0700); }
static int state_mkdir(void)
{
	char up[128];
	struct stat st;

	snprintf(up, sizeof(up), "%s/..", at("d"));
	if (ino("d") == 0)
		return links(".") == 2 ? 0 : -1;
	return links("d") == 2 && links(".") == 3 && stat(up, &st) == 0 && st.st_ino == ino(".")
	    ? 1
	    : -1;
}
static void clear_d(void) { rmdir(at("d")); }

static void set_d(void) { CHECK(mkdir(at("d"), 0700) == 0); }
static int go_rmdir(void) { return rmdir(at("d")); }
static int state_rmdir(void)
{
	if (ino("d") == 0)
		return links(".") == 2 ? 1 : -1;
	return links("d") == 2 && links(".") == 3 ? 0 : -1;
}

static const char text_long[] =
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
static int state_of_link(const char *text)
{
	char b[128];
	ssize_t n;

	if (ino("l") == 0)
		return 0;
	n = readlink(at("l"), b, sizeof(b));
	return n == (ssize_t)strlen(text) && memcmp(b, text, (size_t)n) == 0 ? 1 : -1;
}
static int go_symlink(void) { return symlink("short", at("l")); }
static int state_symlink(void) { return state_of_link("short"); }
static int go_symlink_long(void) { return symlink(text_long, at("l")); }
static int state_symlink_long(void) { return state_of_link(text_long); }
static void clear_l(void) { unlink(at("l")); }

static int go_mkfifo(void) { return mkfifo(at("l"), 0600); }
static int state_mkfifo(void)
{
	struct stat st;

	return lstat(at("l"), &st) == 0 ? (S_ISFIFO(st.st_mode) ? 1 : -1) : 0;
}

static int go_link(void) { return link(at("f"), at("g")); }
static int state_link(void)
{
	if (ino("f") != first_ino)
		return -1;
	if (ino("g") == 0)
		return links("f") == 1 ? 0 : -1;
	return ino("g") == first_ino && links("f") == 2 ? 1 : -1;
}

static int go_unlink(void) { return unlink(at("f")); }
static int state_unlink(void)
{
	if (ino("f") == 0)
		return 1;
	return links("f") == 1 ? 0 : -1;
}

static int go_rename(void) { return rename(at("f"), at("g")); }
static int state_rename(void)
{
	if (ino("f") == first_ino && ino("g") == 0 && links("f") == 1)
		return 0;
	return ino("f") == 0 && ino("g") == first_ino && links("g") == 1 ? 1 : -1;
}
static int state_rename_over(void)
{
	if (ino("f") == first_ino && ino("g") == second_ino)
		return links("f") == 1 && links("g") == 1 ? 0 : -1;
	return ino("f") == 0 && ino("g") == first_ino && links("g") == 1 ? 1 : -1;
}

/* a/d moves to b/d; over: b/d is there and empty. */
static void set_dirs(void)
{
	CHECK(
	    mkdir(at("a"), 0700) == 0 && mkdir(at("b"), 0700) == 0 && mkdir(at("a/d"), 0700) == 0);
	first_ino = ino("a/d");
	second_ino = 0;
}
static void set_dirs_over(void)
{
	set_dirs();
	CHECK(mkdir(at("b/d"), 0700) == 0);
	second_ino = ino("b/d");
}
static int go_rename_dir(void) { return rename(at("a/d"), at("b/d")); }
static int state_rename_dir(void)
{
	int over = second_ino != 0;

	if (ino("a/d") == first_ino && ino("b/d") == second_ino)
		return links("a") == 3 && links("b") == (over ? 3 : 2) && ino("a/d/..") == ino("a")
		    ? 0
		    : -1;
	if (ino("a/d") != 0 || ino("b/d") != first_ino)
		return -1;
	return links("a") == 2 && links("b") == 3 && ino("b/d/..") == ino("b") ? 1 : -1;
}
static void clear_dirs(void)
{
	rmdir(at("a/d"));
	rmdir(at("b/d"));
	rmdir(at("a"));
	rmdir(at("b"));
}

/* A directory whose block is full: the next name takes a new block. */
enum { FULL = 31 }; /* entries of 128 bytes, beside the two of every directory */
static void set_full(void)
{
	char name[160];

	CHECK(mkdir(at("full"), 0700) == 0);
	for (unsigned i = 0; i < FULL; i++) {
		snprintf(name, sizeof(name), "full/%0120u", i);
		CHECK(symlink("x", at(name)) == 0);
	}
}
static const char new_name[] =
    "full/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";
static int go_fill(void) { return symlink("y", at(new_name)); }
static int names_in(const char *dir)
{
	DIR *d = opendir(at(dir));
	int n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d == NULL || closedir(d) != 0)
		return -1;
	return n;
}
static int state_fill(void)
{
	int n = names_in("full");

	if (ino(new_name) == 0)
		return n == FULL + 2 ? 0 : -1;
	return n == FULL + 3 ? 1 : -1;
}
static void clear_full(void)
{
	char name[160];

	for (unsigned i = 0; i < FULL; i++) {
		snprintf(name, sizeof(name), "full/%0120u", i);
		unlink(at(name));
	}
	unlink(at(new_name));
	CHECK(rmdir(at("full")) == 0);
}

/* A file that grows: into its first block of indirection. */
static int grown = -1;
static void set_grow(void)
{
	char b[4096];

	memset(b, 7, sizeof(b));
	CHECK((grown = open(at("f"), O_RDWR | O_CREAT | O_EXCL, 0600)) >= 0);
	for (unsigned i = 0; i < 12; i++)
		CHECK(write(grown, b, sizeof(b)) == sizeof(b));
}
static int go_grow(void)
{
	static char b[3 * 4096];

	memset(b, 8, sizeof(b));
	return got = (int)pwrite(grown, b, sizeof(b), 12 * 4096);
}
/* A write may stop early, and then says where. */
static int state_grow(void)
{
	struct stat st;
	char c = 0;

	CHECK(fstat(grown, &st) == 0 && pread(grown, &c, 1, 12 * 4096 - 1) == 1 && c == 7);
	if (got < 0)
		return st.st_size == 12 * 4096 ? 0 : -1;
	return st.st_size == 12 * 4096 + got && pread(grown, &c, 1, st.st_size - 1) == 1 && c == 8
	    ? 1
	    : -1;
}
static void clear_grow(void)
{
	close(grown);
	unlink(at("f"));
}
static int go_lengthen(void) { return ftruncate(grown, 64 << 20) < 0 ? -1 : 0; }
static void set_short(void)
{
	CHECK((grown = open(at("f"), O_RDWR | O_CREAT | O_EXCL, 0600)) >= 0);
}
static int state_lengthen(void)
{
	struct stat st;

	CHECK(fstat(grown, &st) == 0);
	return st.st_size == 64 << 20 ? 1 : (st.st_size == 0 ? 0 : -1);
}

/* The state after calls with no work of which something could be half done, such as those that only read. */
static int state_result(void) { return got >= 0; }
static int go_stat(void)
{
	struct stat st;

	return got = stat(at("f"), &st);
}
static int go_statx(void)
{
	struct statx st;

	return got = statx(AT_FDCWD, at("f"), 0, STATX_ALL, &st);
}
static int go_readlink(void)
{
	char b[128];

	return got = (int)readlink(at("l"), b, sizeof(b));
}
static void set_l(void) { CHECK(symlink(text_long, at("l")) == 0); }
static int go_access(void) { return got = access(at("f"), R_OK); }
static int go_chmod(void) { return got = chmod(at("f"), 0644); }
static int go_getdents(void)
{
	static char b[4096];
	int fd = got;

	return got = (int)syscall(SYS_getdents64, fd, b, sizeof(b));
}
static int opened;
static void set_open_dir(void) { CHECK((got = opened = open(where, O_RDONLY)) >= 0); }
static void clear_open(void) { close(opened); }
static int go_chdir(void) { return got = chdir(where); }
static void clear_chdir(void) { CHECK(chdir("/") == 0); }
static int go_getcwd(void)
{
	char b[256];

	return got = (int)syscall(SYS_getcwd, b, sizeof(b));
}
static void set_chdir(void) { CHECK(chdir(where) == 0); }

static const struct call name_calls[] = {
	{ "open a new file", NULL, go_create, state_create, clear_create },
	{ "open and truncate", set_long, go_truncate, state_truncate, clear_create },
	{ "mkdir", NULL, go_mkdir, state_mkdir, clear_d },
	{ "rmdir", set_d, go_rmdir, state_rmdir, clear_d },
	{ "symlink", NULL, go_symlink, state_symlink, clear_l },
	{ "symlink with a long text", NULL, go_symlink_long, state_symlink_long, clear_l },
	{ "mknod", NULL, go_mkfifo, state_mkfifo, clear_l },
	{ "link", set_f, go_link, state_link, clear_f_and_g },
	{ "unlink", set_f, go_unlink, state_unlink, clear_f_and_g },
	{ "rename", set_f, go_rename, state_rename, clear_f_and_g },
	{ "rename over a file", set_f_and_g, go_rename, state_rename_over, clear_f_and_g },
	{ "rename of a directory", set_dirs, go_rename_dir, state_rename_dir, clear_dirs },
	{ "rename over a directory", set_dirs_over, go_rename_dir, state_rename_dir, clear_dirs },
	{ "a name in a full block", set_full, go_fill, state_fill, clear_full },
	{ "write at the end", set_grow, go_grow, state_grow, clear_grow },
	{ "ftruncate", set_short, go_lengthen, state_lengthen, clear_grow },
	{ "stat", set_f, go_stat, state_result, clear_f_and_g },
	{ "statx", set_f, go_statx, state_result, clear_f_and_g },
	{ "readlink", set_l, go_readlink, state_result, clear_l },
	{ "access", set_f, go_access, state_result, clear_f_and_g },
	{ "chmod", set_f, go_chmod, state_result, clear_f_and_g },
	{ "getdents", set_open_dir, go_getdents, state_result, clear_open },
	{ "chdir", NULL, go_chdir, state_result, clear_chdir },
	{ "getcwd", set_chdir, go_getcwd, state_result, clear_chdir },
	{ NULL, NULL, NULL, NULL, NULL },
};

/* ---- memory, processes, descriptors ---- */
static uint8_t *area; /* of set_area: AREA pages, each used */
static void *mapped;
enum { AREA = 16 };

static void set_area(void)
{
	area = mmap(NULL, AREA * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(area != MAP_FAILED);
	for (unsigned i = 0; i < AREA; i++)
		area[i * PG] = (uint8_t)(i + 1);
	mapped = MAP_FAILED;
}
static int area_is_whole(unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		if (area[i * PG] != (uint8_t)(i + 1))
			return 0;
	return 1;
}
static int state_area(void) { return area_is_whole(0, AREA) ? got >= 0 : -1; }
static void clear_area(void)
{
	munmap(area, AREA * PG);
	if (mapped != MAP_FAILED)
		munmap(mapped, 64 * PG);
}
static int result_of(void *p)
{
	mapped = p;
	return got = p == MAP_FAILED ? -1 : 0;
}
static int go_mmap(void)
{
	return result_of(
	    mmap(NULL, 64 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}
static int go_mmap_shared(void)
{
	return result_of(
	    mmap(NULL, 64 * PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}
static int go_mmap_populated(void)
{
	return result_of(mmap(NULL, 64 * PG, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
}
/* A part of the area is replaced: for want of memory the old part stays. */
static int go_mmap_fixed(void)
{
	void *p = mmap(area + 4 * PG, 4 * PG, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return got = p == MAP_FAILED ? -1 : 0;
}
static int state_mmap_fixed(void)
{
	if (!area_is_whole(0, 4) || !area_is_whole(8, AREA))
		return -1;
	if (got < 0)
		return area_is_whole(4, 8) ? 0 : -1;
	return area[4 * PG] == 0 && area[7 * PG] == 0 ? 1 : -1;
}
static void set_file_area(void)
{
	set_area();
	set_grow();
}
static int go_mmap_file(void)
{
	return result_of(mmap(NULL, 12 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, grown, 0));
}
static int go_mmap_file_shared(void)
{
	return result_of(mmap(NULL, 12 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, grown, 0));
}
static int state_mmap_file(void)
{
	return got < 0 ? 0 : (((uint8_t *)mapped)[11 * PG] == 7 && area_is_whole(0, AREA) ? 1 : -1);
}
static void clear_file_area(void)
{
	clear_area();
	clear_grow();
}
static int go_munmap(void) { return got = munmap(area + 4 * PG, 4 * PG); }
static int state_munmap(void)
{
	unsigned char vec[1];

	if (!area_is_whole(0, 4) || !area_is_whole(8, AREA))
		return -1;
	if (got < 0)
		return area_is_whole(4, 8) ? 0 : -1;
	return mincore(area + 4 * PG, PG, vec) == -1 ? 1 : -1;
}
static int go_mprotect(void) { return got = mprotect(area + 4 * PG, 4 * PG, PROT_READ); }
static int go_mremap(void)
{
	void *p = mremap(area, AREA * PG, 64 * PG, MREMAP_MAYMOVE);

	if (p != MAP_FAILED)
		area = p;
	return got = p == MAP_FAILED ? -1 : 0;
}
static void clear_mremap(void) { munmap(area, got >= 0 ? 64 * PG : AREA * PG); }
static int go_mlock(void) { return got = mlock(area, AREA * PG); }
static int go_dontneed(void) { return got = madvise(area + AREA * PG, 0, MADV_DONTNEED); }
static int go_brk(void)
{
	long now = syscall(SYS_brk, 0);

	return got = syscall(SYS_brk, now + 64 * (long)PG) == now ? (errno = ENOMEM, -1) : 0;
}
static void clear_brk(void)
{
	if (got >= 0)
		syscall(SYS_brk, syscall(SYS_brk, 0) - 64 * (long)PG);
}
static int go_fork(void)
{
	if ((got = fork()) == 0)
		_exit(area_is_whole(0, AREA) ? 0 : 1);
	return got;
}
static int state_fork(void)
{
	int status;

	if (got < 0)
		return area_is_whole(0, AREA) && waitpid(-1, &status, WNOHANG) == -1 ? 0 : -1;
	return waitpid(got, &status, 0) == got && status == 0 && area_is_whole(0, AREA) ? 1 : -1;
}
static int own(void *arg)
{
	(void)arg;
	return 0;
}
static int go_clone(void)
{
	static char stack[65536] __attribute__((aligned(16)));

	return got = clone(own, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
}
static void clear_fd(void)
{
	if (got >= 0)
		close(got);
}
static int pair[2];
static void clear_pair(void)
{
	if (got >= 0) {
		close(pair[0]);
		close(pair[1]);
	}
}
static void set_pair(void) { CHECK((got = pipe2(pair, O_NONBLOCK)) == 0); }
static void set_sockets(void) { CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0); }
static void clear_sockets(void)
{
	close(pair[0]);
	close(pair[1]);
}
static int go_pipe(void) { return got = pipe(pair); }
static int go_socketpair(void) { return got = socketpair(AF_UNIX, SOCK_STREAM, 0, pair); }
static int go_socket(void) { return got = socket(AF_UNIX, SOCK_DGRAM, 0); }
static int go_write_pipe(void)
{
	static char b[32768];

	return got = (int)write(pair[1], b, sizeof(b));
}
static int state_write_pipe(void)
{
	static char b[65536];
	int n;

	n = (int)read(pair[0], b, sizeof(b));
	return got < 0 ? (n == -1 ? 0 : -1) : (n == got ? 1 : -1);
}
static int go_vmsplice(void)
{
	struct iovec v = { area, 4 * PG };

	return got = (int)vmsplice(pair[1], &v, 1, 0);
}
static void set_pipe_area(void)
{
	set_area();
	set_pair();
}
static void clear_pipe_area(void)
{
	clear_area();
	clear_sockets();
}
static int go_sendmsg(void)
{
	char byte = 'x', control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	*c = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(c), &pair[0], sizeof(int));
	return got = (int)sendmsg(pair[0], &m, 0);
}
static int state_sendmsg(void)
{
	char b[4];

	return (int)recv(pair[1], b, 1, MSG_DONTWAIT) == 1 ? 1 : 0;
}
static int listener;
static void set_unbound(void) { CHECK((listener = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0); }
static int bind_to(int fd, int (*fn)(int, const struct sockaddr *, socklen_t))
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", at("s"));
	return fn(fd, (struct sockaddr *)&a, sizeof(a));
}
static int go_bind(void) { return got = bind_to(listener, bind); }
static int state_bind(void) { return ino("s") != 0; }
static void clear_bind(void)
{
	close(listener);
	unlink(at("s"));
}
static void set_bound(void)
{
	set_unbound();
	CHECK(bind_to(listener, bind) == 0 && listen(listener, 4) == 0);
	CHECK((pair[0] = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
	pair[1] = -1;
}
static int go_connect(void) { return got = bind_to(pair[0], connect); }
static int state_connect(void)
{
	fcntl(listener, F_SETFL, O_NONBLOCK);
	pair[1] = accept(listener, NULL, NULL);
	return pair[1] >= 0;
}
static void clear_connect(void)
{
	clear_sockets();
	clear_bind();
}
static void set_connected(void)
{
	set_bound();
	CHECK(bind_to(pair[0], connect) == 0);
	fcntl(listener, F_SETFL, O_NONBLOCK);
}
static int go_accept(void) { return got = pair[1] = accept(listener, NULL, NULL); }
/* A connection that could not be accepted waits on. */
static int state_accept(void)
{
	if (got >= 0)
		return 1;
	return (pair[1] = accept(listener, NULL, NULL)) >= 0 ? 0 : -1;
}
static int go_epoll(void) { return got = epoll_create1(0); }
static int go_epoll_add(void)
{
	struct epoll_event e = { .events = EPOLLIN };

	return got = epoll_ctl(opened, EPOLL_CTL_ADD, pair[0], &e);
}
static void set_epoll(void)
{
	set_pair();
	CHECK((opened = epoll_create1(0)) >= 0);
}
static void clear_epoll(void)
{
	clear_sockets();
	close(opened);
}
static int go_eventfd(void) { return got = eventfd(0, 0); }
static int go_timerfd(void) { return got = timerfd_create(CLOCK_MONOTONIC, 0); }
static int go_signalfd(void)
{
	sigset_t none;

	sigemptyset(&none);
	return got = signalfd(-1, &none, 0);
}
static int go_memfd(void) { return got = memfd_create("deny", 0); }
static int go_dup_high(void) { return got = fcntl(0, F_DUPFD, 300); }
static timer_t timer;
static int go_timer(void)
{
	int id = -1;

	got = (int)syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &id);
	timer = (timer_t)(intptr_t)id;
	return got;
}
static void clear_timer(void)
{
	if (got >= 0)
		syscall(SYS_timer_delete, (int)(intptr_t)timer);
}
static int go_shmget(void) { return got = shmget(IPC_PRIVATE, 4 * PG, 0600); }
static void clear_shm(void)
{
	if (got >= 0)
		shmctl(got, IPC_RMID, NULL);
}
static int segment;
static void set_shm(void) { CHECK((segment = shmget(IPC_PRIVATE, 4 * PG, 0600)) >= 0); }
static int go_shmat(void)
{
	mapped = shmat(segment, NULL, 0);
	return got = mapped == (void *)-1 ? -1 : 0;
}
static void clear_shmat(void)
{
	if (got >= 0)
		shmdt(mapped);
	shmctl(segment, IPC_RMID, NULL);
}
static int go_semget(void) { return got = semget(IPC_PRIVATE, 4, 0600); }
static void clear_sem(void)
{
	if (got >= 0)
		semctl(got, 0, IPC_RMID);
}
static int go_process_vm(void)
{
	struct iovec to = { area, 4 * PG }, from = { area + 8 * PG, 4 * PG };

	return got = (int)process_vm_readv(getpid(), &to, 1, &from, 1, 0);
}
static int go_readv(void)
{
	struct iovec v[2] = { { area, 4 * PG }, { area + 8 * PG, 4 * PG } };

	return got = (int)preadv(grown, v, 2, 0);
}

static const struct call other_calls[] = {
	{ "mmap", set_area, go_mmap, state_area, clear_area },
	{ "mmap, shared", set_area, go_mmap_shared, state_area, clear_area },
	{ "mmap, populated", set_area, go_mmap_populated, state_area, clear_area },
	{ "mmap in a place", set_area, go_mmap_fixed, state_mmap_fixed, clear_area },
	{ "mmap of a file", set_file_area, go_mmap_file, state_mmap_file, clear_file_area },
	{ "mmap of a file, shared", set_file_area, go_mmap_file_shared, state_mmap_file,
	    clear_file_area },
	{ "munmap", set_area, go_munmap, state_munmap, clear_area },
	{ "mprotect", set_area, go_mprotect, state_area, clear_area },
	{ "mremap", set_area, go_mremap, state_area, clear_mremap },
	{ "mlock", set_area, go_mlock, state_area, clear_area },
	{ "madvise", set_area, go_dontneed, state_area, clear_area },
	{ "brk", NULL, go_brk, state_result, clear_brk },
	{ "fork", set_area, go_fork, state_fork, clear_area },
	{ "vfork", set_area, go_clone, state_fork, clear_area },
	{ "pipe", NULL, go_pipe, state_result, clear_pair },
	{ "write to a pipe", set_pair, go_write_pipe, state_write_pipe, clear_sockets },
	{ "vmsplice", set_pipe_area, go_vmsplice, state_write_pipe, clear_pipe_area },
	{ "socketpair", NULL, go_socketpair, state_result, clear_pair },
	{ "socket", NULL, go_socket, state_result, clear_fd },
	{ "sendmsg", set_sockets, go_sendmsg, state_sendmsg, clear_sockets },
	{ "bind", set_unbound, go_bind, state_bind, clear_bind },
	{ "connect", set_bound, go_connect, state_connect, clear_connect },
	{ "accept", set_connected, go_accept, state_accept, clear_connect },
	{ "epoll_create", NULL, go_epoll, state_result, clear_fd },
	{ "epoll_ctl", set_epoll, go_epoll_add, state_result, clear_epoll },
	{ "eventfd", NULL, go_eventfd, state_result, clear_fd },
	{ "timerfd", NULL, go_timerfd, state_result, clear_fd },
	{ "signalfd", NULL, go_signalfd, state_result, clear_fd },
	{ "memfd_create", NULL, go_memfd, state_result, clear_fd },
	{ "dup to a high number", NULL, go_dup_high, state_result, clear_fd },
	{ "timer_create", NULL, go_timer, state_result, clear_timer },
	{ "shmget", NULL, go_shmget, state_result, clear_shm },
	{ "shmat", set_shm, go_shmat, state_result, clear_shmat },
	{ "semget", NULL, go_semget, state_result, clear_sem },
	{ "process_vm_readv", set_area, go_process_vm, state_result, clear_area },
	{ "preadv", set_file_area, go_readv, state_result, clear_file_area },
	{ NULL, NULL, NULL, NULL, NULL },
};

/* ---- refusing ---- */
static const int memory[] = { PAGE, KMEM, HAT, SWAP, -1 };

static int is_want(int err) { return err == ENOMEM || err == EAGAIN || err == ENOBUFS; }

/* The segments of memory and the open files, as a number that tells sets of them apart. */
static unsigned long shape(void)
{
	static char b[16384];
	unsigned long h = 5381;
	int fd = open("/proc/self/maps", O_RDONLY);
	ssize_t n;

	while ((n = read(fd, b, sizeof(b))) > 0)
		for (ssize_t i = 0; i < n; i++)
			h = h * 33 + (unsigned char)b[i];
	close(fd);
	for (int i = 0; i < 1024; i++)
		h = h * 33 + (fcntl(i, F_GETFD) >= 0);
	return h;
}

static unsigned long before_go; /* shape */

/* The attempts that the call made; *r, *err: its result. */
static long refuse(const struct call *c, int kind, long nth, int *r, int *err)
{
	if (c->set != NULL)
		c->set();
	before_go = shape();
	CHECK(prctl(PR_INJECT, kind, nth) == 0);
	errno = 0;
	*r = c->go();
	*err = errno;
	return prctl(PR_INJECT, kind, 0);
}

static void refuse_each(const struct call *c, int kind)
{
	long nth = 1, seen;
	int r, err, state;

	do {
		failed_line = 0;
		seen = refuse(c, kind, nth, &r, &err);
		if (r < 0)
			CHECK(shape() == before_go);
		state = c->state();
		if (failed_line != 0 || seen < 0 || nth == MOST || state != (r >= 0) ||
		    (r < 0 && (seen < nth || !is_want(err)))) {
			printf(
			    "%s in %s, kind %d, refusal %ld of %ld: result %d, errno %d, state %d\n",
			    c->name, where, kind, nth, seen, r, err, state);
			wrong++;
			nth = MOST;
		}
		c->clear();
	} while (nth < MOST && nth++ <= seen);
}

static void refuse_calls(const struct call *c, const char *dir)
{
	unsigned long before;

	where = dir;
	wrong = 0;
	CHECK(mkdir(where, 0700) == 0);
	before = number_in("/proc/quire", "reserved");
	CHECK(before != ~0ul);
	for (; c->name != NULL; c++)
		for (const int *k = memory; *k >= 0; k++)
			refuse_each(c, *k);
	CHECK(wrong == 0);
	CHECK(number_in("/proc/quire", "reserved") == before);
	CHECK(rmdir(where) == 0);
}

static void names_survive_want_of_memory(void)
{
	refuse_calls(name_calls, "/tmp/deny");
	refuse_calls(name_calls, "/dev/shm/deny");
}

static void memory_and_files_survive_want_of_memory(void)
{
	refuse_calls(other_calls, "/tmp/deny");
}

/* exec either takes place, or the old program goes on. */
static void exec_survives_want_of_memory(void)
{
	char *argv[] = { "true", NULL }, *envp[] = { NULL };
	int status;

	for (const int *kind = memory; *kind >= 0; kind++) {
		int row = 0, refused = 0;

		for (long nth = 1; row < 5 && nth < MOST; nth++) {
			pid_t pid = fork();

			if (pid == 0) {
				prctl(PR_INJECT, *kind, nth);
				execve("/bin/busybox", argv, envp);
				_exit(is_want(errno) ? 100 : 101);
			}
			CHECK(
			    waitpid(pid, &status, 0) == pid && (status == 0 || status == 100 << 8));
			row = status == 0 ? row + 1 : 0;
			refused += status != 0;
		}
		CHECK(row == 5);
		printf("exec, kind %d: %d refused\n", *kind, refused);
	}
}

const struct test deny_tests[] = {
	T(names_survive_want_of_memory, 0),
	T(memory_and_files_survive_want_of_memory, 0),
	T(exec_survives_want_of_memory, 0),
	{ NULL, NULL, 0 },
};
