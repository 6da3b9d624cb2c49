/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this kernel, or the filter of this container, offers of the features that Quire uses if they
 * are there, and what it costs to do without: figures of this machine, measured here on a few pages
 * in some milliseconds. Each figure is the least of ROUNDS measurements, the one that other
 * programs disturbed least.
 */
#include "offer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "store/swapfile.h"
#include "sys/linux/offer.h"

#define PAGE 4096u
#define PAGES 64u
#define ROUNDS 7u
#define BYTES ((size_t)PAGES * PAGE)
#define FEATURE_MOVE (1ull << 16)
#define FEATURE_WP_ASYNC (1ull << 15)

struct move {
	uint64_t dst, src, len, mode;
	int64_t move;
};
#define UFFD_MOVE _IOWR(0xAA, 0x05, struct move)

/* Makes two ranges: one like a program's, registered for missing pages and protection, and one like
 * the arena. */
struct ranges {
	int fd, pagemap, pipe[2];
	char *program, *arena;
};

static double now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static char *map_pages(void)
{
	char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	(void)madvise(p, BYTES, MADV_NOHUGEPAGE);
	return p;
}

static bool register_range(int fd, char *at, uint64_t mode)
{
	struct uffdio_register r = { .range = { (uintptr_t)at, BYTES }, .mode = mode };

	return ioctl(fd, UFFDIO_REGISTER, &r) == 0;
}

static void close_ranges(struct ranges *r)
{
	int fds[] = { r->fd, r->pagemap, r->pipe[0], r->pipe[1] };

	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	if (r->program != NULL)
		(void)munmap(r->program, BYTES);
	if (r->arena != NULL)
		(void)munmap(r->arena, BYTES);
}

static bool open_ranges(struct ranges *r, int fd, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | features };

	*r = (struct ranges){
		.fd = fd, .program = map_pages(), .arena = map_pages(), .pipe = { -1, -1 }
	};
	r->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && r->program != NULL && r->arena != NULL &&
	    pipe2(r->pipe, O_CLOEXEC | O_NONBLOCK) == 0 && ioctl(fd, UFFDIO_API, &api) == 0 &&
	    register_range(
		fd, r->program, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP) &&
	    register_range(fd, r->arena, UFFDIO_REGISTER_MODE_WP))
		return true;
	close_ranges(r);
	return false;
}

static bool move_page(const struct ranges *r, char *to, char *from)
{
	struct move m = { .dst = (uintptr_t)to, .src = (uintptr_t)from, .len = PAGE };

	return ioctl(r->fd, UFFD_MOVE, &m) == 0;
}

static bool move_in_and_out(const struct ranges *r, char *program, char *arena)
{
	return move_page(r, program, arena) && move_page(r, arena, program);
}

/* Takes a page out as machine/linux/out.c does where pages cannot be moved. */
static bool copy_in_and_out(const struct ranges *r, char *program, char *arena)
{
	struct uffdio_copy in = { .dst = (uintptr_t)program, .src = (uintptr_t)arena, .len = PAGE };
	struct uffdio_writeprotect wp = { .range = { (uintptr_t)program, PAGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP };
	struct iovec page = { program, PAGE };
	uint64_t entry;

	return ioctl(r->fd, UFFDIO_COPY, &in) == 0 && madvise(arena, PAGE, MADV_DONTNEED) == 0 &&
	    ioctl(r->fd, UFFDIO_WRITEPROTECT, &wp) == 0 &&
	    vmsplice(r->pipe[1], &page, 1, 0) == PAGE && madvise(program, PAGE, MADV_FREE) == 0 &&
	    read(r->pipe[0], arena, PAGE) == PAGE && madvise(program, PAGE, MADV_PAGEOUT) == 0 &&
	    pread(r->pagemap, &entry, sizeof entry, (off_t)((uintptr_t)program / PAGE * 8)) ==
	    sizeof entry &&
	    (entry >> 62 == 0 || madvise(program, PAGE, MADV_DONTNEED) == 0);
}

/* Microseconds for a page out and in; below 0: the feature is missing. */
static double time_pages(
    int fd, uint64_t features, bool (*cycle)(const struct ranges *, char *program, char *arena))
{
	struct ranges r;
	double least = -1;

	if (!open_ranges(&r, fd, features))
		return -1;
	memset(r.arena, 7, BYTES);
	for (unsigned round = 0; round < ROUNDS; round++) {
		double began = now_us(), took;
		unsigned i = 0;

		while (i < PAGES &&
		    cycle(&r, r.program + (size_t)i * PAGE, r.arena + (size_t)i * PAGE))
			i++;
		took = (now_us() - began) / PAGES;
		if (i < PAGES) {
			least = -1;
			break;
		}
		if (least < 0 || took < least)
			least = took;
	}
	close_ranges(&r);
	return least;
}

/* Drops every other page of the range; below 0: the feature is missing. */
static double time_drops(bool together)
{
	char *p = map_pages();
	struct iovec v[PAGES / 2];
	double least = -1;

	for (unsigned round = 0; p != NULL && round < ROUNDS; round++) {
		bool done = true;
		double took;

		memset(p, 7, BYTES);
		for (unsigned i = 0; i < PAGES / 2; i++)
			v[i] = (struct iovec){ p + (size_t)i * 2 * PAGE, PAGE };
		took = now_us();
		if (together)
			done = syscall(SYS_process_madvise, -10000 /* PIDFD_SELF_THREAD */, v,
				   PAGES / 2, MADV_DONTNEED, 0) == BYTES / 2;
		for (unsigned i = 0; !together && i < PAGES / 2; i++)
			(void)madvise(v[i].iov_base, PAGE, MADV_DONTNEED);
		took = (now_us() - took) / (PAGES / 2);
		if (!done)
			break;
		if (least < 0 || took < least)
			least = took;
	}
	if (p != NULL)
		(void)munmap(p, BYTES);
	return least;
}

#define WRITE (64u * 1024u) /* the size of one write of the store */

/* Microseconds until a write to the swap file has finished; below 0: there is no place for a swap
 * file. */
static double time_write(void)
{
	const char *why;
	double least = -1;
	char *buf = mmap(NULL, WRITE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = buf != MAP_FAILED ? swapfile_open(NULL, 1u << 20, false, &why) : -1;

	if (fd >= 0)
		memset(buf, 7, WRITE);
	for (unsigned round = 0; fd >= 0 && round < ROUNDS; round++) {
		double took = now_us();

		if (pwrite(fd, buf, WRITE, (off_t)round * WRITE) != WRITE)
			break;
		took = now_us() - took;
		if (least < 0 || took < least)
			least = took;
	}
	if (fd >= 0)
		(void)close(fd);
	if (buf != MAP_FAILED)
		(void)munmap(buf, WRITE);
	return least;
}

/* Returns 0, or the error with which the ring that the store asks for was refused. */
static int try_ring(void)
{
	struct io_uring_params p = { .flags =
					 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };
	long fd = syscall(SYS_io_uring_setup, 8, &p);

	if (fd < 0)
		return errno;
	(void)close((int)fd);
	return 0;
}

static void print_pages(uint64_t features, int (*new_fd)(void))
{
	double copied = time_pages(new_fd(), 0, copy_in_and_out);
	double moved = (features & FEATURE_MOVE) != 0
	    ? time_pages(new_fd(), FEATURE_MOVE, move_in_and_out)
	    : -1;

	if (moved >= 0)
		printf(
		    "move         pages move: %.1f us in and out; copied, as before Linux 6.8, %.1f us\n",
		    moved, copied);
	else if (copied >= 0)
		printf(
		    "move         pages are copied, as this kernel cannot move them (Linux 6.8 can): %.1f us in and out\n",
		    copied);
	else
		printf(
		    "move         pages are copied, as this kernel cannot move them (Linux 6.8 can)\n");
	if ((features & FEATURE_WP_ASYNC) != 0 && moved >= 0)
		printf("scan         the kernel tells which pages were written\n");
	else
		printf(
		    "scan         the kernel does not tell which pages were written (Linux 6.7 does, and moves from 6.8): "
		    "some are taken out to see whether they come back, %.1f us each\n",
		    moved >= 0 ? moved : copied);
}

void cli_print_offers(uint64_t features, int (*new_fd)(void))
{
	int ring = try_ring();
	double one = time_drops(false), many = time_drops(true);

	print_pages(features, new_fd);
	if (ring == 0)
		printf("io_uring     the swap file is written behind\n");
	else
		printf("io_uring     %s: each write of the swap file is waited for, %.0f us here\n",
		    ring == EINVAL ? "this kernel's does not defer its work (Linux 6.1)"
				   : "not allowed here",
		    time_write());
	if (many >= 0)
		printf(
		    "madvise      process_madvise drops the memory of many frames at once: %.2f us a page, one by one %.2f us\n",
		    many, one);
	else
		printf(
		    "madvise      process_madvise is missing or not allowed here (Linux 6.14 has it): frames are dropped one by one, %.2f us a page\n",
		    one);
}
