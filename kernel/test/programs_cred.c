/* SPDX-License-Identifier: BSD-2-Clause */
/* Users and groups: what programs may do that are not root's. A part of the program `programs`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "programs.h"

#define USER 1000
#define OTHER 70000 /* more than 16 bits */
#define GROUP 2000

static char dir[64];

static const char *in_dir(const char *name)
{
	static char path[4][128];
	static unsigned k;
	char *p = path[k++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

/* A child becomes that user, in the groups USER and GROUP, and runs the function; its first failed check is ours. */
static void as_user(uid_t uid, void (*fn)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		const gid_t group = GROUP;

		CHECK(setgroups(1, &group) == 0 && setgid(USER) == 0 && setuid(uid) == 0);
		fn();
		_exit(failed_line == 0 ? 0 : 1 + failed_line % 255);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	if (status != 0)
		printf("as user %d: status %x\n", (int)uid, (unsigned)status);
}

static void make_file(const char *name, mode_t mode, uid_t uid, gid_t gid)
{
	int f = open(in_dir(name), O_CREAT | O_WRONLY, 0600);

	CHECK(f >= 0 && write(f, "x", 1) == 1 && close(f) == 0);
	CHECK(chown(in_dir(name), uid, gid) == 0 && chmod(in_dir(name), mode) == 0);
}

static void begin_dir(mode_t mode)
{
	strcpy(dir, "/tmp/cred.XXXXXX");
	CHECK(mkdtemp(dir) == dir && chmod(dir, mode) == 0);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st, (void)kind, (void)at;
	return remove(path);
}
static void end_dir(void) { CHECK(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0); }

static int opens(const char *name, int flags)
{
	int f = open(in_dir(name), flags);

	return f >= 0 ? close(f) == 0 : 0;
}

static void user_reads_and_writes(void)
{
	CHECK(getuid() == USER && geteuid() == USER && getgid() == USER && getegid() == USER);
	CHECK(opens("own", O_RDWR) && opens("all", O_RDWR) && opens("group", O_RDONLY));
	CHECK(!opens("group", O_WRONLY) && errno == EACCES);
	CHECK(!opens("roots", O_RDONLY) && errno == EACCES);
	CHECK(!opens("readable", O_RDONLY | O_TRUNC) && errno == EACCES);
	CHECK(fails(truncate(in_dir("readable"), 0), EACCES));
	CHECK(fails(access(in_dir("readable"), W_OK), EACCES) &&
	    access(in_dir("readable"), R_OK) == 0);
	/* the first digit that fits counts, even if another one permits more */
	CHECK(!opens("not_owner", O_RDONLY) && errno == EACCES);
	CHECK(fails(open(in_dir("new"), O_CREAT | O_WRONLY, 0666), EACCES));
	CHECK(fails(mkdir(in_dir("newdir"), 0777), EACCES) && fails(unlink(in_dir("all")), EACCES));
	CHECK(fails(rename(in_dir("own"), in_dir("mine")), EACCES) &&
	    fails(link(in_dir("own"), in_dir("two")), EACCES));
	CHECK(fails(chmod(in_dir("all"), 0600), EPERM) && chmod(in_dir("own"), 0640) == 0);
	CHECK(
	    fails(chown(in_dir("own"), OTHER, -1), EPERM) && chown(in_dir("own"), -1, GROUP) == 0);
	CHECK(fails(chown(in_dir("own"), -1, 3000), EPERM));
	CHECK(utimensat(AT_FDCWD, in_dir("all"), NULL, 0) == 0);
	CHECK(fails(
	    utimensat(AT_FDCWD, in_dir("all"), (const struct timespec[2]){ { 1, 0 }, { 2, 0 } }, 0),
	    EPERM));
	CHECK(fails(utimensat(AT_FDCWD, in_dir("readable"), NULL, 0), EACCES));
	CHECK(fails(execl(in_dir("all"), "all", (char *)NULL), EACCES));
}

static void modes_of_files_bind_users(void)
{
	struct stat st;

	begin_dir(0755);
	make_file("own", 0600, USER, USER);
	make_file("all", 0666, 0, 0);
	make_file("roots", 0600, 0, 0);
	make_file("readable", 0644, 0, 0);
	make_file("group", 0640, 0, GROUP);
	make_file("not_owner", 0077, USER, 0);
	as_user(USER, user_reads_and_writes);
	CHECK(stat(in_dir("own"), &st) == 0 && st.st_gid == GROUP && (st.st_mode & 07777) == 0640);
	/* root may read what nobody may, but not execute it */
	CHECK(chmod(in_dir("roots"), 0) == 0 && opens("roots", O_RDWR));
	CHECK(fails(access(in_dir("roots"), X_OK), EACCES));
	end_dir();
}

static void user_walks(void)
{
	CHECK(!opens("inner", O_RDONLY) && errno == EACCES);
	CHECK(fails(chdir(dir), EACCES) && fails(access(in_dir("inner"), F_OK), EACCES));
	CHECK(fails(open(in_dir("new"), O_CREAT | O_WRONLY, 0666), EACCES));
}

static void a_directory_that_is_closed_hides_its_files(void)
{
	begin_dir(0700);
	make_file("inner", 0666, 0, 0);
	as_user(USER, user_walks);
	end_dir();
}

static void user_makes_files(void)
{
	struct stat st;

	CHECK(close(open(in_dir("made"), O_CREAT | O_RDWR, 0400)) == 0);
	CHECK(stat(in_dir("made"), &st) == 0 && st.st_uid == OTHER && st.st_gid == GROUP);
	CHECK(!opens("made", O_WRONLY) && errno == EACCES);
	CHECK(mkdir(in_dir("sub"), 0700) == 0 && stat(in_dir("sub"), &st) == 0);
	CHECK(st.st_uid == OTHER && st.st_gid == GROUP && (st.st_mode & S_ISGID) != 0);
	CHECK(fails(unlink(in_dir("roots")), EPERM) &&
	    fails(rename(in_dir("roots"), in_dir("r")), EPERM));
	CHECK(fails(rename(in_dir("made"), in_dir("roots")), EPERM));
	CHECK(rename(in_dir("made"), in_dir("moved")) == 0 && unlink(in_dir("moved")) == 0);
	CHECK(fails(mknod(in_dir("null"), S_IFCHR | 0666, 0x103), EPERM) &&
	    mkfifo(in_dir("fifo"), 0600) == 0);
}

static void in_a_sticky_directory_each_removes_its_own(void)
{
	struct stat st;

	begin_dir(01777);
	CHECK(chown(dir, 0, GROUP) == 0 && chmod(dir, 03777) == 0);
	make_file("roots", 0666, 0, 0);
	as_user(OTHER, user_makes_files);
	sync();
	CHECK(stat(in_dir("fifo"), &st) == 0 && st.st_uid == OTHER && st.st_gid == GROUP);
	end_dir();
}

static void user_asks_for_roots_rights(void)
{
	struct rlimit r;
	char byte;
	struct iovec here = { &byte, 1 }, there = { &failed_line, 1 };

	CHECK(fails(setuid(0), EPERM) && fails(setresuid(-1, 0, -1), EPERM) &&
	    fails(setgroups(0, NULL), EPERM));
	CHECK(fails(setgid(0), EPERM) && fails(kill(getppid(), 0), EPERM) &&
	    fails(kill(1, SIGTERM), EPERM));
	CHECK(kill(getpid(), 0) == 0 && setreuid(USER, USER) == 0);
	CHECK(fails(syscall(SYS_tgkill, getppid(), getppid(), 0), EPERM));
	CHECK(fails(settimeofday(&(struct timeval){ 2000000000, 0 }, NULL), EPERM));
	CHECK(fails(sethostname("x", 1), EPERM) && fails(chroot("/"), EPERM));
	CHECK(getrlimit(RLIMIT_NOFILE, &r) == 0);
	r.rlim_max++;
	CHECK(fails(setrlimit(RLIMIT_NOFILE, &r), EPERM));
	CHECK(fails(setpriority(PRIO_PROCESS, 0, -5), EACCES) &&
	    fails(setpriority(PRIO_PROCESS, getppid(), 5), EPERM));
	CHECK(
	    setpriority(PRIO_PROCESS, 0, 5) == 0 && fails(setpriority(PRIO_PROCESS, 0, 1), EACCES));
	CHECK(fails(process_vm_readv(getppid(), &here, 1, &there, 1, 0), EPERM));
	CHECK(access("/proc/self/fd/0", F_OK) == 0 && fails(access("/proc/1/fd", R_OK), EACCES));
}

static void what_only_root_may_is_refused(void) { as_user(USER, user_asks_for_roots_rights); }

static void ids_move_as_their_rules_say(void)
{
	uid_t r, e, s;
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		CHECK(setresuid(USER, OTHER, 3000) == 0 && getresuid(&r, &e, &s) == 0);
		CHECK(r == USER && e == OTHER && s == 3000);
		CHECK(fails(setuid(4000), EPERM) && fails(setreuid(3000, -1), EPERM));
		CHECK(setuid(3000) == 0 && geteuid() == 3000 && getuid() == USER);
		CHECK(setreuid(-1, USER) == 0 && getresuid(&r, &e, &s) == 0 && e == USER &&
		    s == 3000);
		CHECK(setresuid(-1, 3000, -1) == 0 && setreuid(3000, USER) == 0);
		CHECK(getresuid(&r, &e, &s) == 0 && r == 3000 && e == USER && s == USER);
		_exit(failed_line == 0 ? 0 : 1 + failed_line % 255);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static volatile sig_atomic_t sender_uid = -1;
static void note_sender(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	sender_uid = (sig_atomic_t)info->si_uid;
}

static void user_exits(void) { usleep(1); }

static void a_signal_tells_its_senders_user(void)
{
	struct sigaction a = { .sa_sigaction = note_sender, .sa_flags = SA_SIGINFO | SA_RESTART },
			 old;

	CHECK(sigaction(SIGCHLD, &a, &old) == 0);
	as_user(USER, user_exits);
	CHECK(sender_uid == USER);
	CHECK(sigaction(SIGCHLD, &old, NULL) == 0);
}

/* Becomes a copy of this program that belongs to another user and has the bit of setuid. */
static void user_executes(void)
{
	execl(in_dir("program"), "programs", "effective_user_is_the_files", (char *)NULL);
	CHECK(0);
}

static void a_setuid_program_has_its_files_user(void)
{
	static char buf[1 << 16];
	struct stat st;
	int from = open("/proc/self/exe", O_RDONLY), to;
	ssize_t n;

	begin_dir(0755);
	CHECK((to = open(in_dir("program"), O_CREAT | O_WRONLY, 0700)) >= 0);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		CHECK(write(to, buf, (size_t)n) == n);
	CHECK(n == 0 && close(to) == 0 && close(from) == 0);
	CHECK(chown(in_dir("program"), OTHER, 0) == 0 && chmod(in_dir("program"), 04755) == 0);
	as_user(USER, user_executes);
	/* a new owner takes the bit away */
	CHECK(chown(in_dir("program"), 3000, 0) == 0);
	CHECK(stat(in_dir("program"), &st) == 0 && (st.st_mode & S_ISUID) == 0);
	end_dir();
}

static void effective_user_is_the_files(void)
{
	uid_t r, e, s;

	CHECK(getresuid(&r, &e, &s) == 0 && r == USER && e == OTHER && s == OTHER);
	CHECK(setuid(USER) == 0 && geteuid() == USER && setuid(OTHER) == 0 && geteuid() == OTHER);
}

const struct test cred_tests[] = {
	T(modes_of_files_bind_users, 0),
	T(a_directory_that_is_closed_hides_its_files, 0),
	T(in_a_sticky_directory_each_removes_its_own, 0),
	T(what_only_root_may_is_refused, 0),
	T(ids_move_as_their_rules_say, 0),
	T(a_signal_tells_its_senders_user, 0),
	T(a_setuid_program_has_its_files_user, 0),
	{ NULL, NULL, 0 },
};
/* Run by other tests, by name only. */
const struct test cred_inner_tests[] = {
	T(effective_user_is_the_files, 0),
	{ NULL, NULL, 0 },
};
