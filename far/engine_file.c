/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A file of this machine as a far device: for encrypted swap, which hosted programs cannot write
 * themselves. Requests go through liburing with direct I/O; if the kernel refuses io_uring, each
 * request is done at once, synchronously.
 *
 * The file is given open (file:/proc/self/fd/N or a path); the caller owns the file, whose size is
 * set already.
 */
#include "far/far.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DEPTH 64u
#define GROW (1u << 20) /* bytes by which the file grows between two checks of the file system */

struct far_link {
	struct io_uring ring;
	bool async;
	int fd;
	uint64_t size, keep_free;
	unsigned inflight;
	uint64_t *grown; /* with keep_free: bit per unit that has blocks on the disk */
	uint64_t
	    may_grow; /* bytes by which the file may grow before the file system is asked again */
};

static struct far_link *file_open(const struct far_url *u, const struct far_settings *set,
    uint32_t wait_ms, bool *retry, char why[FAR_WHY])
{
	struct far_link *l = calloc(1, sizeof *l);
	struct stat st;

	(void)wait_ms;
	*retry = false;
	if (l == NULL)
		return NULL;
	l->fd = open(u->path, O_RDWR | O_CLOEXEC | O_DIRECT);
	if (l->fd < 0 && errno == EINVAL)
		l->fd = open(u->path, O_RDWR | O_CLOEXEC);
	if (l->fd < 0 || fstat(l->fd, &st) != 0) {
		(void)snprintf(why, FAR_WHY, "%s", strerror(errno));
		free(l);
		return NULL;
	}
	l->size = (uint64_t)st.st_size;
	l->keep_free = set->keep_free;
	l->grown = calloc(l->size / FAR_UNIT / 64 + 1, sizeof *l->grown);
	if (l->grown == NULL) {
		(void)snprintf(why, FAR_WHY, "no memory");
		(void)close(l->fd);
		free(l);
		return NULL;
	}
	l->async = io_uring_queue_init(DEPTH, &l->ring, 0) == 0;
	return l;
}

static uint64_t file_size(const struct far_link *l) { return l->size; }

static void answer_io(struct far_io *io, long got)
{
	if (got == (long)io->len || (io->op == FAR_TRIM && got == 0)) {
		far_done(io, 0);
		return;
	}
	far_note(io, got < 0 ? strerror((int)-got) : "the file ended");
	far_done(io, got == -ENOSPC ? -ENOSPC : -EIO);
}

/*
 * Would a write to a unit without blocks on the disk leave less than keep_free on the file system?
 * Checked after each GROW bytes.
 */
static bool has_room(struct far_link *l, const struct far_io *io)
{
	uint64_t unit = io->at / FAR_UNIT, bit = 1ull << unit % 64;
	struct statvfs fs;

	if (l->keep_free == 0 || io->op != FAR_WRITE || (l->grown[unit / 64] & bit) != 0)
		return true;
	if (l->may_grow < FAR_UNIT) {
		if (fstatvfs(l->fd, &fs) != 0 ||
		    (uint64_t)fs.f_bavail * fs.f_frsize < l->keep_free + GROW)
			return false;
		l->may_grow = GROW;
	}
	l->may_grow -= FAR_UNIT;
	l->grown[unit / 64] |= bit;
	return true;
}

static void note_trim(struct far_link *l, const struct far_io *io)
{
	if (io->op == FAR_TRIM && io->len == FAR_UNIT)
		l->grown[io->at / FAR_UNIT / 64] &= ~(1ull << io->at / FAR_UNIT % 64);
}

static bool file_submit_sync(struct far_link *l, struct far_io *io)
{
	long r;

	if (io->op == FAR_READ)
		r = pread(l->fd, io->buf, io->len, (off_t)io->at);
	else if (io->op == FAR_WRITE)
		r = pwrite(l->fd, io->buf, io->len, (off_t)io->at);
	else
		r = fallocate(l->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->at,
		    (off_t)io->len);
	answer_io(io, r < 0 ? -errno : r);
	return true;
}

static bool file_submit(struct far_link *l, struct far_io *io)
{
	struct io_uring_sqe *e;

	if (io->op == FAR_TOUCH) {
		far_done(io, 0);
		return true;
	}
	if (!has_room(l, io)) {
		far_note(io, "--swap-keep-free leaves what is free there to others");
		far_done(io, -ENOSPC);
		return true;
	}
	if (!l->async) {
		note_trim(l, io);
		return file_submit_sync(l, io);
	}
	if (l->inflight >= DEPTH || (e = io_uring_get_sqe(&l->ring)) == NULL)
		return false;
	if (io->op == FAR_READ)
		io_uring_prep_read(e, l->fd, io->buf, io->len, io->at);
	else if (io->op == FAR_WRITE)
		io_uring_prep_write(e, l->fd, io->buf, io->len, io->at);
	else
		io_uring_prep_fallocate(e, l->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)io->at, (off_t)io->len);
	note_trim(l, io);
	io_uring_sqe_set_data(e, io);
	l->inflight++;
	(void)io_uring_submit(&l->ring);
	return true;
}

static unsigned file_fds(struct far_link *l, struct pollfd fds[FAR_FDS], int *wake_ms)
{
	(void)wake_ms;
	if (!l->async)
		return 0;
	fds[0] = (struct pollfd){ .fd = l->ring.ring_fd, .events = POLLIN };
	return 1;
}

static int file_work(struct far_link *l, const struct pollfd *fds, unsigned n, char why[FAR_WHY])
{
	struct io_uring_cqe *c;

	(void)fds;
	(void)n;
	(void)why;
	while (l->async && io_uring_peek_cqe(&l->ring, &c) == 0) {
		struct far_io *io = io_uring_cqe_get_data(c);
		int res = c->res;

		io_uring_cqe_seen(&l->ring, c);
		l->inflight--;
		answer_io(io, res);
	}
	return 0;
}

static void file_end(struct far_link *l, bool erase)
{
	struct io_uring_cqe *c;

	(void)erase;
	while (l->async && l->inflight > 0 && io_uring_wait_cqe(&l->ring, &c) == 0) {
		io_uring_cqe_seen(&l->ring, c); /* the kernel must not write to freed buffers */
		l->inflight--;
	}
	if (l->async)
		io_uring_queue_exit(&l->ring);
	(void)close(l->fd);
	free(l->grown);
	free(l);
}

const struct far_ops far_file = {
	.fo_open = file_open,
	.fo_size = file_size,
	.fo_submit = file_submit,
	.fo_fds = file_fds,
	.fo_work = file_work,
	.fo_close = file_end,
};
