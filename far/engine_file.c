/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A file of this machine as a far device: for encrypted swap, which hosted programs cannot write by themselves. By liburing
 * with direct I/O; where the kernel refuses io_uring each request is made at once, synchronously.
 *
 * The file is given open (file:/proc/self/fd/N or a path); it is the caller's and has its size already.
 */
#include "far/far.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH 64u

struct far_link {
	struct io_uring ring;
	bool async;
	int fd;
	uint64_t size;
	unsigned inflight;
};

static struct far_link *file_open(const struct far_url *u, const struct far_settings *set,
    uint32_t wait_ms, bool *retry, char why[FAR_WHY])
{
	struct far_link *l = calloc(1, sizeof *l);
	struct stat st;

	(void)set;
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
	l->async = io_uring_queue_init(DEPTH, &l->ring, 0) == 0;
	return l;
}

static uint64_t file_size(const struct far_link *l) { return l->size; }

static void answer(struct far_io *io, long got)
{
	if (got == (long)io->len || (io->op == FAR_TRIM && got == 0)) {
		far_done(io, 0);
		return;
	}
	far_note(io, got < 0 ? strerror((int)-got) : "the file ended");
	far_done(io, got == -ENOSPC ? -ENOSPC : -EIO);
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
	answer(io, r < 0 ? -errno : r);
	return true;
}

static bool file_submit(struct far_link *l, struct far_io *io)
{
	struct io_uring_sqe *e;

	if (io->op == FAR_TOUCH) {
		far_done(io, 0);
		return true;
	}
	if (!l->async)
		return file_submit_sync(l, io);
	if (l->inflight >= DEPTH || (e = io_uring_get_sqe(&l->ring)) == NULL)
		return false;
	if (io->op == FAR_READ)
		io_uring_prep_read(e, l->fd, io->buf, io->len, io->at);
	else if (io->op == FAR_WRITE)
		io_uring_prep_write(e, l->fd, io->buf, io->len, io->at);
	else
		io_uring_prep_fallocate(e, l->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)io->at, (off_t)io->len);
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
		answer(io, res);
	}
	return 0;
}

static void file_end(struct far_link *l, bool erase)
{
	struct io_uring_cqe *c;

	(void)erase;
	while (l->async && l->inflight > 0 && io_uring_wait_cqe(&l->ring, &c) == 0) {
		io_uring_cqe_seen(
		    &l->ring, c); /* the kernel must not write to buffers that are gone */
		l->inflight--;
	}
	if (l->async)
		io_uring_queue_exit(&l->ring);
	(void)close(l->fd);
	free(l);
}

const struct far_ops far_file = {
	.fo_name = "file",
	.fo_open = file_open,
	.fo_size = file_size,
	.fo_submit = file_submit,
	.fo_fds = file_fds,
	.fo_work = file_work,
	.fo_close = file_end,
};
