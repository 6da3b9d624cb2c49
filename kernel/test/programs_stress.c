/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stress tests: too many processes, full disks, files that shrink under their mappings, names that
 * many processes change, programs that are replaced or killed while they wait for the disk. A part
 * of the program `programs`. Each test compares its results with Linux's guarantees.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "programs.h"

static void *shared_pages(size_t n)
{
	return mmap(NULL, n * PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static int ended_with(pid_t pid, int code)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == code;
}

/* ---- more processes than the machine has room for ---- */
enum { BOMB_MOST = 3000 };
struct bomb {
	volatile int made, refused, odd;
};

static void explode(struct bomb *b)
{
	while (b->refused == 0 && __atomic_add_fetch(&b->made, 1, __ATOMIC_RELAXED) < BOMB_MOST) {
		pid_t pid = fork();

		if (pid < 0 && errno != EAGAIN && errno != ENOMEM)
			b->odd = errno;
		if (pid < 0)
			b->refused = 1;
	}
	for (;;)
		pause();
}

/*
 * Whatever the limit is, fork in the process that reaches it fails with an error, and the process's
 * group can be killed.
 */
static void a_fork_bomb_is_refused_and_can_be_killed(void)
{
	struct bomb *b = shared_pages(1);
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		setpgid(0, 0);
		explode(b);
	}
	setpgid(pid, pid);
	while (b->refused == 0 && b->made < BOMB_MOST)
		usleep(10000);
	CHECK(b->odd == 0);
	for (int i = 0; i < 3; i++) /* a child that was made during the kill got no signal */
		CHECK(kill(-pid, SIGKILL) == 0 || errno == ESRCH);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	/* this may be the first process, which becomes the parent of orphans */
	for (unsigned tries = 0; tries < 6000 && kill(-pid, SIGKILL) == 0; tries++) {
		while (waitpid(-1, &status, WNOHANG) > 0)
			;
		usleep(10000);
	}
	CHECK(kill(-pid, 0) == -1 && errno == ESRCH);
	if ((pid = fork()) == 0)
		_exit(9);
	CHECK(pid > 0 && ended_with(pid, 9));
	munmap(b, PG);
}

/* ---- a file that shrinks and grows under its mappings ---- */
enum { TRUNC_PAGES = 8, TRUNC_ROUNDS = 60 };
static sigjmp_buf past_fault;
static volatile int bus_code;
static void *volatile bus_at;

static void note_bus(int sig, siginfo_t *si, void *context)
{
	(void)sig, (void)context;
	bus_code = si->si_code;
	bus_at = si->si_addr;
	siglongjmp(past_fault, 1);
}

/* Returns the byte, or -1 for a SIGBUS with that address. */
static int byte_at(volatile uint8_t *p)
{
	bus_code = 0;
	if (sigsetjmp(past_fault, 1) != 0)
		return bus_code == BUS_ADRERR && bus_at == (void *)(uintptr_t)p ? -1 : -2;
	return *p;
}

/* Checks the mapping of a file whose first `size` bytes are `fill`. */
static void check_mapping(uint8_t *p, size_t size, int fill)
{
	size_t end = (size + PG - 1) & ~(PG - 1);

	if (size > 0)
		CHECK(byte_at(p) == fill && byte_at(p + size - 1) == fill);
	if (size < end)
		CHECK(byte_at(p + size) == 0 && byte_at(p + end - 1) == 0);
	if (end < TRUNC_PAGES * PG)
		CHECK(byte_at(p + end) == -1 && byte_at(p + TRUNC_PAGES * PG - 1) == -1);
}

static void shrink_and_grow(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
	uint8_t *shared, *private;
	unsigned rng = 7;

	shared = mmap(NULL, TRUNC_PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	private = mmap(NULL, TRUNC_PAGES * PG, PROT_READ, MAP_PRIVATE, fd, 0);
	for (int i = 0; i < TRUNC_ROUNDS && failed_line == 0; i++) {
		size_t size, less;

		rng = rng * 1103515245 + 12345;
		size = (rng >> 8) % (TRUNC_PAGES * PG + 1);
		less = size == 0 ? 0 : (rng >> 4) % size;
		CHECK(ftruncate(fd, (off_t)size) == 0);
		memset(shared, i & 0x7f, size);
		check_mapping(shared, size, i & 0x7f);
		check_mapping(private, size, i & 0x7f);
		CHECK(ftruncate(fd, (off_t)less) == 0);
		check_mapping(shared, less, i & 0x7f);
		check_mapping(private, less, i & 0x7f);
		/* bytes that were cut off do not reappear */
		CHECK(ftruncate(fd, TRUNC_PAGES * PG) == 0);
		for (size_t at = less; at < TRUNC_PAGES * PG; at += 509)
			CHECK(byte_at(shared + at) == 0 && byte_at(private + at) == 0);
		CHECK(ftruncate(fd, (off_t)less) == 0);
	}
	munmap(shared, TRUNC_PAGES * PG);
	munmap(private, TRUNC_PAGES * PG);
	close(fd);
	unlink(name);
}

static void a_file_shrinks_under_its_mappings(void)
{
	struct sigaction sa = { .sa_sigaction = note_bus, .sa_flags = SA_SIGINFO }, old;

	sigaction(SIGBUS, &sa, &old);
	shrink_and_grow("/tmp/shrinks");
	sigaction(SIGBUS, &old, NULL);
}

/* Such pages once had no blocks when they were written. */
static void a_mapping_beyond_the_end_is_kept_once_the_file_grows(void)
{
	enum { N = 64 };
	int fd = open("/tmp/grows", O_RDWR | O_CREAT | O_TRUNC, 0644);
	uint8_t *p = mmap(NULL, N * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), c = 0;

	CHECK(ftruncate(fd, N * PG) == 0);
	for (unsigned i = 0; i < N; i++)
		p[i * PG + 5] = (uint8_t)(i + 1);
	CHECK(msync(p, N * PG, MS_SYNC) == 0 && fsync(fd) == 0);
	munmap(p, N * PG);
	CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
	for (unsigned i = 0; i < N; i++)
		CHECK(pread(fd, &c, 1, (off_t)(i * PG + 5)) == 1 && c == (uint8_t)(i + 1));
	close(fd);
	unlink("/tmp/grows");
}

/*
 * A process truncates a file while another process reads its mapping: the reader sees old bytes,
 * zeroes or SIGBUS only.
 */
static void one_truncates_and_others_read(void)
{
	struct sigaction sa = { .sa_sigaction = note_bus, .sa_flags = SA_SIGINFO }, old;
	int fd = open("/tmp/shrinks", O_RDWR | O_CREAT | O_TRUNC, 0644);
	volatile int *stop = shared_pages(1);
	uint8_t *p = mmap(NULL, TRUNC_PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char block[PG];
	pid_t pid[2];

	sigaction(SIGBUS, &sa, &old);
	memset(block, 0x5a, sizeof(block));
	for (int k = 0; k < 2; k++) {
		if ((pid[k] = fork()) != 0)
			continue;
		for (unsigned i = 0; !*stop; i++) {
			int c = byte_at(p + i * 1021 % (TRUNC_PAGES * PG));

			if (c != -1 && c != 0 && c != 0x5a)
				_exit(1);
		}
		_exit(0);
	}
	for (int i = 0; i < TRUNC_ROUNDS; i++) {
		for (unsigned k = 0; k < TRUNC_PAGES; k++)
			CHECK(pwrite(fd, block, PG, (off_t)(k * PG)) == (ssize_t)PG);
		CHECK(ftruncate(fd, i * 131 % (int)(TRUNC_PAGES * PG)) == 0);
	}
	*stop = 1;
	CHECK(ended_with(pid[0], 0) && ended_with(pid[1], 0));
	sigaction(SIGBUS, &old, NULL);
	munmap(p, TRUNC_PAGES * PG);
	munmap((void *)(uintptr_t)stop, PG);
	close(fd);
	unlink("/tmp/shrinks");
}

/* ---- many processes change the same names ---- */
enum { NAMERS = 4, NAME_ROUNDS = 400 };

static int is_one_of(int err, int a, int b, int c) { return err == a || err == b || err == c; }

/* Counts results other than success and the errors that a race may cause. */
static int change_names(const char *dir, unsigned rng)
{
	char a[64], b[64];

	for (unsigned i = 0; i < NAME_ROUNDS; i++) {
		int fd, r = 0;

		rng = rng * 1103515245 + 12345;
		snprintf(a, sizeof(a), "%s/n%u", dir, (rng >> 10) % 6);
		snprintf(b, sizeof(b), "%s/n%u", dir, (rng >> 14) % 6);
		switch ((rng >> 20) % 5) {
		case 0:
			if ((fd = open(a, O_RDWR | O_CREAT, 0644)) >= 0) {
				r = write(fd, a, 64) != 64;
				close(fd);
			} else {
				r = errno != EISDIR;
			}
			break;
		case 1: r = unlink(a) != 0 && !is_one_of(errno, ENOENT, EISDIR, EISDIR); break;
		case 2: r = link(a, b) != 0 && !is_one_of(errno, ENOENT, EEXIST, EPERM); break;
		case 3: r = rename(a, b) != 0 && !is_one_of(errno, ENOENT, EISDIR, ENOTDIR); break;
		default:
			r = (rng & 64 ? mkdir(a, 0755) : rmdir(a)) != 0 &&
			    !is_one_of(errno, ENOENT, EEXIST, ENOTDIR);
		}
		if (r != 0)
			return errno == 0 ? 255 : errno;
	}
	return 0;
}

static void race_for_names(const char *dir)
{
	pid_t pid[NAMERS];
	char name[64];

	CHECK(mkdir(dir, 0755) == 0);
	for (unsigned k = 0; k < NAMERS; k++)
		if ((pid[k] = fork()) == 0)
			_exit(change_names(dir, 77 * k + 1));
	for (unsigned k = 0; k < NAMERS; k++)
		CHECK(ended_with(pid[k], 0));
	for (unsigned i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "%s/n%u", dir, i);
		CHECK(
		    unlink(name) == 0 || errno == ENOENT || (errno == EISDIR && rmdir(name) == 0));
	}
	CHECK(rmdir(dir) == 0);
}

static void names_change_under_many(void)
{
	race_for_names("/tmp/names");
	race_for_names("/dev/shm/names");
}

/* A name that is only replaced is never missing, and its file is complete. */
static void replace_and_open(const char *name, const char *fresh)
{
	volatile int *stop = shared_pages(1);
	char text[100], back[100];
	pid_t pid;
	int fd;

	memset(text, 'x', sizeof(text));
	close(open(name, O_RDWR | O_CREAT, 0644));
	CHECK(truncate(name, sizeof(text)) == 0);
	if ((pid = fork()) == 0) {
		while (!*stop) {
			if ((fd = open(name, O_RDONLY)) < 0)
				_exit(1);
			if (read(fd, back, sizeof(back)) != sizeof(back))
				_exit(2);
			close(fd);
		}
		_exit(0);
	}
	for (int i = 0; i < 200; i++) {
		fd = open(fresh, O_RDWR | O_CREAT | O_EXCL, 0644);
		CHECK(write(fd, text, sizeof(text)) == sizeof(text));
		close(fd);
		CHECK(rename(fresh, name) == 0);
	}
	*stop = 1;
	CHECK(ended_with(pid, 0));
	CHECK(unlink(name) == 0);
	munmap((void *)(uintptr_t)stop, PG);
}

static void a_replaced_name_is_never_missing(void)
{
	replace_and_open("/tmp/replaced", "/tmp/fresh");
	replace_and_open("/dev/shm/replaced", "/dev/shm/fresh");
}

/* ---- no room ---- */
static void fill_block(uint8_t *block, unsigned n)
{
	for (unsigned i = 0; i < PG; i += 8)
		memcpy(block + i, &(uint64_t){ n * 0x9e3779b97f4a7c15ull + i }, 8);
}

/* Writes blocks until the disk refuses; returns their number and the error. */
static unsigned fill_file(int fd, int *err)
{
	uint8_t block[PG];
	unsigned n = 0;
	ssize_t r;

	for (;; n++) {
		fill_block(block, n);
		if ((r = write(fd, block, PG)) != (ssize_t)PG)
			break;
	}
	*err = r < 0 ? errno : 0;
	return n;
}

static void check_file(int fd, unsigned n)
{
	uint8_t block[PG], want[PG];

	for (unsigned i = 0; i < n && failed_line == 0; i++) {
		fill_block(want, i);
		CHECK(pread(fd, block, PG, (off_t)i * (off_t)PG) == (ssize_t)PG);
		CHECK(memcmp(block, want, PG) == 0);
	}
}

enum { ROOMS = 64 };

/*
 * Takes nearly all room by files without names, without writing to them; returns the number of
 * files. The size is refused where a file may not be so large, too: several of half of it follow.
 * Between 1 and 3 MiB are left.
 */
static unsigned take_room(const char *dir, off_t size, int *fds)
{
	unsigned files = 0;
	char name[64];
	int left;

	snprintf(name, sizeof(name), "%s/left", dir);
	left = open(name, O_RDWR | O_CREAT, 0644);
	unlink(name);
	CHECK(posix_fallocate(left, 0, (off_t)MIB) == 0);
	while (size >= (off_t)(2 * MIB) && files < ROOMS) {
		snprintf(name, sizeof(name), "%s/room%u", dir, files);
		fds[files] = open(name, O_RDWR | O_CREAT, 0644);
		unlink(name);
		if (posix_fallocate(fds[files], 0, size) == 0) {
			files++;
			continue;
		}
		close(fds[files]);
		size /= 2;
	}
	close(left);
	return files;
}

/* Leaves the disk as it was; run.py checks it by e2fsck. */
static void a_full_disk_refuses_and_corrupts_nothing(void)
{
	int fd = open("/tmp/fills", O_RDWR | O_CREAT | O_TRUNC, 0644), other, err = 0;
	struct statvfs before, after;
	struct stat st;
	char many[64 * 1024];
	unsigned n, files;
	int room[ROOMS];

	memset(many, 7, sizeof(many));
	CHECK(statvfs("/tmp", &before) == 0);
	files = take_room("/tmp", 64 * (off_t)MIB, room);
	n = fill_file(fd, &err);
	CHECK(n > 100 && err == ENOSPC);
	CHECK(fstat(fd, &st) == 0 && st.st_size == (off_t)n * (off_t)PG);
	CHECK(mkdir("/tmp/nothing", 0755) == -1 && errno == ENOSPC);
	other = open("/tmp/small", O_RDWR | O_CREAT, 0644);
	CHECK(other < 0 || (write(other, many, sizeof(many)) == -1 && errno == ENOSPC));
	/* a write that does not fit as a whole is short */
	CHECK(ftruncate(fd, (off_t)(n - 4) * (off_t)PG) == 0);
	if (other >= 0) {
		ssize_t r = write(other, many, sizeof(many));

		CHECK(r > 0 && r < (ssize_t)sizeof(many));
		CHECK(fstat(other, &st) == 0 && st.st_size == r);
		close(other);
	}
	CHECK(posix_fallocate(fd, 0, (off_t)(n + 100) * (off_t)PG) == ENOSPC);
	CHECK(fsync(fd) == 0);
	check_file(fd, n - 4);
	unlink("/tmp/small");
	close(fd);
	CHECK(unlink("/tmp/fills") == 0);
	while (files > 0)
		close(room[--files]);
	sync();
	CHECK(statvfs("/tmp", &after) == 0 && after.f_bfree == before.f_bfree);
}

static void a_full_tmpfs_refuses_and_corrupts_nothing(void)
{
	int room[ROOMS], fd = open("/dev/shm/fills", O_RDWR | O_CREAT | O_TRUNC, 0644), err = 0;
	unsigned n, files = take_room("/dev/shm", (off_t)1 << 31, room);
	pid_t pid;

	n = fill_file(fd, &err);
	CHECK(n > 10 && err == ENOSPC);
	check_file(fd, n);
	while (files > 0)
		close(room[--files]);
	if ((pid = fork()) == 0)
		_exit(9);
	CHECK(ended_with(pid, 9));
	check_file(fd, n);
	close(fd);
	unlink("/dev/shm/fills");
}

/* ---- programs that are replaced, or killed, while they wait for the disk ---- */
enum { HEAVY_PAGES = 4096 }; /* 16 MiB, of 24 that the machine has */

static void touch_much(void)
{
	uint8_t *p = mmap(
	    NULL, HEAVY_PAGES * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned i = 0; i < HEAVY_PAGES; i++)
		p[i * PG] = (uint8_t)i;
	for (unsigned i = 0; i < HEAVY_PAGES; i++)
		if (p[i * PG] != (uint8_t)i)
			_exit(1);
}

/*
 * PROGRAMS_LEFT in the environment: number of rounds. Made by
 * programs_are_replaced_while_they_swap.
 */
static void fills_memory_and_execs(void)
{
	int left = atoi(getenv("PROGRAMS_LEFT") != NULL ? getenv("PROGRAMS_LEFT") : "0");
	char next[16];

	touch_much();
	if (left == 0)
		_exit(5);
	snprintf(next, sizeof(next), "%d", left - 1);
	setenv("PROGRAMS_LEFT", next, 1);
	execl("/proc/self/exe", "programs", "fills_memory_and_execs", NULL);
	_exit(2);
}

static void programs_are_replaced_while_they_swap(void)
{
	pid_t pid[3];

	for (int k = 0; k < 3; k++) {
		if ((pid[k] = fork()) != 0)
			continue;
		setenv("PROGRAMS_LEFT", "3", 1);
		execl("/proc/self/exe", "programs", "fills_memory_and_execs", NULL);
		_exit(2);
	}
	for (int k = 0; k < 3; k++)
		CHECK(ended_with(pid[k], 5));
}

static void use_disk(int kind, int fd)
{
	char block[PG];

	for (unsigned i = 0;; i++) {
		if (kind == 0) {
			touch_much();
		} else if (kind == 1) {
			(void)!pread(fd, block, PG, (off_t)(i * 37 % 2048) * (off_t)PG);
		} else {
			(void)!pwrite(fd, block, 1, (off_t)(i * 37 % 2048) * (off_t)PG + 9);
			(void)fsync(fd);
		}
	}
}

static void what_waits_for_the_disk_can_be_killed(void)
{
	int fd = open("/tmp/busy", O_RDWR | O_CREAT | O_TRUNC, 0644), status;
	uint8_t block[PG];
	struct stat st;

	for (unsigned i = 0; i < 2048; i++) {
		fill_block(block, i);
		CHECK(write(fd, block, PG) == (ssize_t)PG);
	}
	for (int i = 0; i < 18; i++) {
		pid_t pid = fork();

		if (pid == 0)
			use_disk(i % 3, fd);
		usleep((useconds_t)(1000 + i * 7919 % 60000));
		CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	CHECK(fstat(fd, &st) == 0 && st.st_size == 2048 * (off_t)PG);
	for (unsigned i = 0; i < 2048; i++) {
		uint8_t want[PG];

		fill_block(want, i);
		CHECK(pread(fd, block, PG, (off_t)i * (off_t)PG) == (ssize_t)PG);
		block[9] = want[9];
		CHECK(memcmp(block, want, PG) == 0);
	}
	close(fd);
	unlink("/tmp/busy");
}

const struct test stress_tests[] = {
	T(a_fork_bomb_is_refused_and_can_be_killed, 0),
	T(a_file_shrinks_under_its_mappings, 1),
	T(a_mapping_beyond_the_end_is_kept_once_the_file_grows, 1),
	T(one_truncates_and_others_read, 1),
	T(names_change_under_many, 1),
	T(a_replaced_name_is_never_missing, 1),
	T(a_full_disk_refuses_and_corrupts_nothing, 0),
	T(a_full_tmpfs_refuses_and_corrupts_nothing, 0),
	T(programs_are_replaced_while_they_swap, 1),
	T(what_waits_for_the_disk_can_be_killed, 1),
	T(fills_memory_and_execs, 1),
	{ NULL, NULL, 0 },
};
