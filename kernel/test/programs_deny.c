/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Want of memory, or an error of the disk, inside a call: a part of the program `programs`, by name only.
 *
 * Each call is made again and again; the first time its first attempt to get memory (or to read, or
 * to write) is refused, the next time its second, until it makes fewer attempts. A call that fails
 * has changed nothing, a call that succeeds has done its work. kernel/sys/inject.c refuses, on a
 * machine that is started with inject=1 and has one CPU.
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

enum { PR_INJECT = 0x51495231, PAGE = 0, KMEM = 1, IO_READ = 2, IO_WRITE = 3, HAT = 4, SWAP = 5 };
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
	return (int)(got = (int)pwrite(grown, b, sizeof(b), 12 * 4096));
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

/* Calls that only read have no work of which something could be half done. */
static int never(void) { return got >= 0; }
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
	{ "stat", set_f, go_stat, never, clear_f_and_g },
	{ "statx", set_f, go_statx, never, clear_f_and_g },
	{ "readlink", set_l, go_readlink, never, clear_l },
	{ "access", set_f, go_access, never, clear_f_and_g },
	{ "chmod", set_f, go_chmod, never, clear_f_and_g },
	{ "getdents", set_open_dir, go_getdents, never, clear_open },
	{ "chdir", NULL, go_chdir, never, clear_chdir },
	{ "getcwd", set_chdir, go_getcwd, never, clear_chdir },
	{ NULL, NULL, NULL, NULL, NULL },
};

/* ---- refusing ---- */
static int is_expected(int kind, int err)
{
	if (kind == IO_READ || kind == IO_WRITE)
		return err == EIO;
	return err == ENOMEM || err == EAGAIN;
}

/* What /proc/quire says after a word. */
static unsigned long counter(const char *word)
{
	static char b[16384];
	int fd = open("/proc/quire", O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, b + 1, sizeof(b) - 2);
	char *p, key[64];

	close(fd);
	b[0] = '\n';
	b[n > 0 ? n + 1 : 1] = '\0';
	snprintf(key, sizeof(key), "\n%s ", word);
	return (p = strstr(b, key)) != NULL ? strtoul(p + strlen(key), NULL, 10) : 0;
}

/* The attempts that the call made; *r, *err: its result. */
static long refuse(const struct call *c, int kind, long nth, int *r, int *err)
{
	if (c->set != NULL)
		c->set();
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
		state = c->state();
		if (failed_line != 0 || seen < 0 || nth == MOST || state != (r >= 0) ||
		    (r < 0 && (seen < nth || !is_expected(kind, err)))) {
			printf(
			    "%s in %s, kind %d, refusal %ld of %ld: result %d, errno %d, state %d\n",
			    c->name, where, kind, nth, seen, r, err, state);
			wrong++;
			nth = MOST;
		}
		c->clear();
	} while (nth < MOST && nth++ <= seen);
}

static void refuse_calls(const struct call *c, const char *dir, const int *kinds)
{
	unsigned long before;

	where = dir;
	wrong = 0;
	CHECK(mkdir(where, 0700) == 0);
	before = counter("reserved");
	for (; c->name != NULL; c++)
		for (const int *k = kinds; *k >= 0; k++)
			refuse_each(c, *k);
	CHECK(wrong == 0);
	CHECK(counter("reserved") == before);
	CHECK(rmdir(where) == 0);
}

static const int memory[] = { PAGE, KMEM, HAT, SWAP, -1 };

static void names_survive_want_of_memory(void)
{
	refuse_calls(name_calls, "/tmp/deny", memory);
	refuse_calls(name_calls, "/dev/shm/deny", memory);
}

const struct test deny_tests[] = {
	T(names_survive_want_of_memory, 0),
	{ NULL, NULL, 0 },
};
