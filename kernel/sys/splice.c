/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * splice and tee: bytes between a pipe and a file, or between two pipes, without a program's memory.
 *
 * Bytes are removed from a pipe only after they have arrived: they are copied, written, then
 * removed, all under the lock of the source pipe. A file's offset advances by the bytes that the
 * pipe took. Both calls wait until a byte can be moved, then move the bytes that are there;
 * SPLICE_F_NONBLOCK, or O_NONBLOCK of a pipe, forbids waiting for pipes.
 *
 * Left out: pages do not move, they are copied (vmsplice moves them); SPLICE_F_MOVE and SPLICE_F_MORE are hints without effect.
 *
 * Locks: only f_lock of a file whose own offset is used.
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/calls.h"

#define SPLICE_F_ALL 15u

struct splice {
	struct file *in, *out;
	uint64_t *inoff, *outoff; /* the offset; NULL: a pipe, or a file without an offset */
	uint64_t len;
	bool nonblock;
	char *buf;
	uint64_t room; /* of buf */
};

static uint64_t get_lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }

static int64_t splice_to_file(struct splice *s)
{
	int64_t total = 0, r = 0;
	int err;

	while ((uint64_t)total < s->len) {
		if (total > 0 && !pipe_has_bytes(s->in))
			break;
		if ((err = pipe_await(s->in, false, s->nonblock)) != 0)
			return total > 0 ? total : err;
		r = pipe_to_file(s->in, s->out, s->buf,
		    get_lesser(s->len - (uint64_t)total, s->room),
		    s->outoff != NULL ? *s->outoff : 0);
		if (r <= 0)
			break;
		if (s->outoff != NULL)
			*s->outoff += (uint64_t)r;
		total += r;
	}
	return total > 0 ? total : r;
}

static int64_t splice_from_file(struct splice *s)
{
	int err = pipe_await(s->out, true, s->nonblock);
	int64_t r;

	if (err != 0)
		return err;
	r = s->in->f_ops->fo_read(s->in, s->buf,
	    get_lesser(get_lesser(s->len, s->room), pipe_room(s->out)),
	    s->inoff != NULL ? *s->inoff : 0);
	if (r > 0)
		r = s->out->f_ops->fo_write(s->out, s->buf, (uint64_t)r, 0);
	if (r > 0 && s->inoff != NULL)
		*s->inoff += (uint64_t)r;
	return r;
}

static int64_t splice_pipes(struct splice *s, bool take)
{
	for (;;) {
		int err = pipe_await(s->in, false, s->nonblock);
		int64_t r;

		if (err == 0 && !pipe_has_bytes(s->in))
			return 0; /* every writing end is closed */
		if (err == 0)
			err = pipe_await(s->out, true, s->nonblock);
		if (err != 0)
			return err;
		/* another thread may have been faster */
		r = pipe_to_pipe(s->in, s->out, s->buf, get_lesser(s->len, s->room), take);
		if (r != 0)
			return r;
	}
}

static bool pipe_never_waits(const struct file *f)
{
	return file_is_pipe(f) && (f->f_flags & O_NONBLOCK) != 0;
}

/*
 * Checks whether bytes can be moved to or from that side; 0 or an error. at: the caller gave an
 * offset for the side.
 */
static int check_splice(const struct splice *s, bool in_at, bool out_at)
{
	bool from = file_is_pipe(s->in), to = file_is_pipe(s->out);

	if (!file_may_read(s->in) || !file_may_write(s->out))
		return -EBADF;
	if ((from && in_at) || (to && out_at))
		return -ESPIPE;
	if (!from && !to)
		return -EINVAL;
	if (from && to)
		return pipe_same(s->in, s->out) ? -EINVAL : 0;
	if ((in_at && !s->in->f_ops->fo_seekable) || (out_at && !s->out->f_ops->fo_seekable))
		return -EINVAL;
	if (!to && (s->out->f_flags & O_APPEND))
		return -EINVAL;
	if (inode_type(s->in->f_inode) == S_IFDIR)
		return -EINVAL;
	return s->in->f_ops->fo_read == NULL || s->out->f_ops->fo_write == NULL ? -EINVAL : 0;
}

static int64_t splice_any(struct splice *s)
{
	bool from = file_is_pipe(s->in), to = file_is_pipe(s->out);

	if (from && to)
		return splice_pipes(s, true);
	return from ? splice_to_file(s) : splice_from_file(s);
}

/* off: the program's address of the offset for f; 0: the file's own offset is used. */
static uint64_t *place_of(struct file *f, uint64_t off, uint64_t *copy)
{
	if (!f->f_ops->fo_seekable)
		return NULL;
	return off != 0 ? copy : &f->f_off;
}

/* A file whose own offset is used is locked during the call. */
static int64_t splice_files(struct splice *s, uint64_t inp, uint64_t outp)
{
	uint64_t in_at = 0, out_at = 0;
	struct file *locked = NULL;
	int64_t r;

	if ((inp != 0 && copy_in(&in_at, inp, 8) != 0) ||
	    (outp != 0 && copy_in(&out_at, outp, 8) != 0))
		return -EFAULT;
	if ((int64_t)in_at < 0 || (int64_t)out_at < 0)
		return -EINVAL;
	if ((s->buf = bounce_alloc(s->len, &s->room)) == NULL)
		return -ENOMEM;
	s->inoff = place_of(s->in, inp, &in_at);
	s->outoff = place_of(s->out, outp, &out_at);
	if (s->inoff == &s->in->f_off)
		locked = s->in;
	else if (s->outoff == &s->out->f_off)
		locked = s->out;
	if (locked != NULL)
		mach_mutex_enter(&locked->f_lock);
	r = splice_any(s);
	if (locked != NULL)
		mach_mutex_exit(&locked->f_lock);
	kfree(s->buf, s->room);
	if (r > 0 &&
	    ((inp != 0 && copy_out(inp, &in_at, 8) != 0) ||
		(outp != 0 && copy_out(outp, &out_at, 8) != 0)))
		r = -EFAULT;
	return r;
}

static void put_files(struct splice *s)
{
	if (s->in != NULL)
		file_put(s->in);
	if (s->out != NULL)
		file_put(s->out);
}

int64_t sys_splice(const uint64_t *a)
{
	struct splice s = { .len = a[4], .nonblock = (a[5] & SPLICE_F_NONBLOCK) != 0 };
	int64_t r = -EBADF;

	if (a[4] == 0)
		return 0;
	if ((a[5] & ~(uint64_t)SPLICE_F_ALL) != 0)
		return -EINVAL;
	s.in = fd_get((int)a[0]);
	s.out = fd_get((int)a[2]);
	if (s.in != NULL && s.out != NULL && (r = check_splice(&s, a[1] != 0, a[3] != 0)) == 0) {
		s.nonblock |= pipe_never_waits(s.in) || pipe_never_waits(s.out);
		r = splice_files(&s, a[1], a[3]);
	}
	put_files(&s);
	return r;
}

int64_t sys_tee(const uint64_t *a)
{
	struct splice s = { .len = a[2], .nonblock = (a[3] & SPLICE_F_NONBLOCK) != 0 };
	int64_t r = -EBADF;

	if ((a[3] & ~(uint64_t)SPLICE_F_ALL) != 0)
		return -EINVAL;
	if (a[2] == 0)
		return 0;
	s.in = fd_get((int)a[0]);
	s.out = fd_get((int)a[1]);
	if (s.in != NULL && s.out != NULL && file_may_read(s.in) && file_may_write(s.out)) {
		s.nonblock |= pipe_never_waits(s.in) || pipe_never_waits(s.out);
		if (!file_is_pipe(s.in) || !file_is_pipe(s.out) || pipe_same(s.in, s.out))
			r = -EINVAL;
		else if ((s.buf = bounce_alloc(s.len, &s.room)) == NULL)
			r = -ENOMEM;
		else
			r = splice_pipes(&s, false);
		if (s.buf != NULL)
			kfree(s.buf, s.room);
	}
	put_files(&s);
	return r;
}
