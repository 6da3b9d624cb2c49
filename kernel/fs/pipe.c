/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pipes: a ring of bytes, and pages. Both ends share one inode, whose i_data is the pipe (fifo_lock) until the last end is
 * closed: by /proc/PID/fd/N more ends may be opened.
 *
 * Pages come by vmsplice: a page-aligned range of a program's memory becomes a range of the pipe's
 * own address space (as_transfer), by copy-on-write, or for good if it is a gift. A piece is such a
 * range; its place in the stream is pc_at, the ring's counter of bytes written when the piece
 * arrived. vmsplice at the other end moves the range on into the reader's memory; read copies.
 *
 * Writes of at most PIPE_BUF bytes are not mixed with others. The ring is a frame at first and
 * grows to 16 when a writer fills it; if there is no memory for that, it stays as it is (p_limit),
 * and writers wait for room in the small ring. A FIFO is a pipe that is found by its inode while it
 * is open (fifos); its contents are dropped with the last end. Locks: fifo_lock, then p_lock; both
 * sleep. Waiting: p_wait, under sched_lock, for any change of the pipe.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#define PIPE_BUF 4096u
#define PIPE_SMALL 4096u
#define PIPE_LARGE 65536u

#define PIECES 16u

struct piece {
	struct piece *pc_next;
	vaddr_t pc_va; /* remaining range of the piece, in the pipe's space */
	uint64_t pc_len;
	uint64_t pc_at; /* bytes of the ring before the piece, counted as p_in */
};

struct pipe {
	struct mach_mutex p_lock;
	char *p_buf;                  /* p_lock */
	uint64_t p_room;              /* p_lock: a power of two */
	_Atomic uint64_t p_limit;     /* p_lock to change: most bytes of the ring */
	_Atomic uint64_t p_in, p_out; /* p_lock to change: bytes written and read so far */
	/* p_lock: the space of the pieces; NULL: there was no piece yet */
	struct as *p_space;
	struct piece *p_first;                 /* p_lock: in order */
	_Atomic uint64_t p_paged;              /* p_lock to change: bytes in pieces */
	_Atomic unsigned p_npieces;            /* p_lock to change */
	_Atomic unsigned p_readers, p_writers; /* p_lock to change */
	_Atomic unsigned p_reads, p_writes;    /* p_lock to change: ends opened so far */
	/* how often bytes or an end came, and a full pipe got room or an end went: for edge-triggered epoll */
	_Atomic uint64_t p_came, p_freed;
	_Atomic bool p_full; /* a write has left the pipe without room */
	struct waitq p_wait;
	struct inode *p_fifo;     /* const: the open files have its references; NULL: not a FIFO */
	struct pipe *p_next_fifo; /* fifo_lock */
};
static struct mach_mutex fifo_lock;
static struct pipe *fifos; /* fifo_lock */
static bool never_grows;   /* const after the start: pipe.nogrow, for tests */

static uint64_t in_ring(const struct pipe *p) { return p->p_in - p->p_out; }
/* Bytes that may be written now. */
static uint64_t ring_room(const struct pipe *p) { return p->p_limit - in_ring(p); }
static uint64_t bytes_to_read(const struct pipe *p) { return in_ring(p) + p->p_paged; }

static bool can_read(void *arg)
{
	struct pipe *p = arg;

	return bytes_to_read(p) > 0 || p->p_writers == 0;
}

struct wanted {
	struct pipe *w_pipe;
	uint64_t w_n;
};

static bool can_write(void *arg)
{
	const struct wanted *w = arg;

	return ring_room(w->w_pipe) >= w->w_n || w->w_pipe->p_readers == 0;
}

/* Something changed: bytes or an end came, else bytes went. */
static void wake_pipe(struct pipe *p, bool came)
{
	bool irq = spin_lock(&sched_lock);

	p->p_came += came;
	if (came && ring_room(p) < PIPE_BUF)
		p->p_full = true;
	if (p->p_full && ring_room(p) >= PIPE_BUF) {
		p->p_freed++;
		p->p_full = false;
	}
	wake_all(&p->p_wait);
	wake_all(&poll_queue);
	spin_unlock(&sched_lock, irq);
}

/*
 * Waits until cond(arg) holds. -EAGAIN: cond does not hold, and the caller does not wait
 * (nonblock); -ERESTART: a signal arrived.
 */
static int wait_pipe(struct pipe *p, bool (*cond)(void *), void *arg, bool nonblock)
{
	int err;

	if (cond(arg))
		return 0;
	if (nonblock)
		return -EAGAIN;
	err = wait_until(&p->p_wait, cond, arg, 0, true);
	return err == -EINTR ? -ERESTART : err;
}

int pipe_broken(void)
{
	signal_send_thread(arch_cur(), SIGPIPE, 0, 0);
	return -EPIPE;
}

static void copy_ring(struct pipe *p, char *buf, uint64_t at, uint64_t n, bool in)
{
	while (n > 0) {
		uint64_t i = at & (p->p_room - 1), k = p->p_room - i < n ? p->p_room - i : n;

		if (in)
			memcpy(p->p_buf + i, buf, k);
		else
			memcpy(buf, p->p_buf + i, k);
		buf += k;
		at += k;
		n -= k;
	}
}

/* Returns the first piece if it is next in the stream; p_lock held. */
static struct piece *piece_at_head(const struct pipe *p)
{
	KASSERT(mach_mutex_held(&p->p_lock));
	return p->p_first != NULL && p->p_first->pc_at == p->p_out ? p->p_first : NULL;
}

/* Removes the first n bytes of the first piece; p_lock held. */
static void piece_consume(struct pipe *p, uint64_t n, bool unmap)
{
	struct piece *pc = p->p_first;
	vaddr_t from = vm_page_trunc(pc->pc_va), to;

	KASSERT(mach_mutex_held(&p->p_lock));
	pc->pc_va += n;
	pc->pc_len -= n;
	p->p_paged -= n;
	to = pc->pc_len == 0 ? vm_page_round(pc->pc_va) : vm_page_trunc(pc->pc_va);
	if (unmap && to > from)
		(void)as_unmap(p->p_space, from, to - from);
	if (pc->pc_len > 0)
		return;
	p->p_first = pc->pc_next;
	p->p_npieces--;
	kfree(pc, sizeof(*pc));
}

/*
 * Takes up to len of the next bytes, all from the ring or all from one piece; p_lock held. -EIO: a
 * page cannot be read.
 */
static int64_t take_bytes(struct pipe *p, void *buf, uint64_t len)
{
	struct piece *pc = piece_at_head(p);
	uint64_t n = in_ring(p);

	KASSERT(mach_mutex_held(&p->p_lock));
	if (pc != NULL)
		n = pc->pc_len;
	else if (p->p_first != NULL)
		n = p->p_first->pc_at - p->p_out;
	if (n > len)
		n = len;
	if (pc == NULL) {
		copy_ring(p, buf, p->p_out, n, false);
		p->p_out += n;
		return (int64_t)n;
	}
	if (as_copyin(p->p_space, pc->pc_va, buf, n) != VM_OK)
		return -EIO;
	piece_consume(p, n, true);
	return (int64_t)n;
}

static int64_t pipe_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	struct pipe *p = f->f_data;
	int64_t n;
	int err;

	(void)off;
	for (;;) {
		mach_mutex_enter(&p->p_lock);
		if (bytes_to_read(p) > 0 || p->p_writers == 0 || len == 0) {
			n = take_bytes(p, buf, len);
			mach_mutex_exit(&p->p_lock);
			if (n > 0)
				wake_pipe(p, false);
			return n;
		}
		mach_mutex_exit(&p->p_lock);
		if ((err = wait_pipe(p, can_read, p, (f->f_flags & O_NONBLOCK) != 0)) != 0)
			return err;
	}
}

/* Grows the ring to its limit if it is too small for n more bytes. p_lock held. */
static void make_room(struct pipe *p, uint64_t n)
{
	char *more;

	KASSERT(mach_mutex_held(&p->p_lock));
	if (p->p_room == p->p_limit || p->p_room - in_ring(p) >= n)
		return;
	if (never_grows || (more = kalloc(PIPE_LARGE)) == NULL) {
		p->p_limit = p->p_room;
		return;
	}
	copy_ring(p, more, p->p_out, in_ring(p), false);
	kfree(p->p_buf, p->p_room);
	p->p_buf = more;
	for (struct piece *pc = p->p_first; pc != NULL; pc = pc->pc_next)
		pc->pc_at -= p->p_out;
	p->p_in -= p->p_out;
	p->p_out = 0;
	p->p_room = PIPE_LARGE;
}

static int64_t pipe_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	struct pipe *p = f->f_data;
	uint64_t done = 0;
	int err = 0;

	(void)off;
	while (done < len || len == 0) {
		struct wanted w = { p, len - done <= PIPE_BUF ? len - done : 1 };
		uint64_t n;

		mach_mutex_enter(&p->p_lock);
		if (p->p_readers == 0) {
			mach_mutex_exit(&p->p_lock);
			err = pipe_broken();
			break;
		}
		make_room(p, len - done);
		n = p->p_room - in_ring(p);
		if (n > len - done)
			n = len - done;
		if (len <= PIPE_BUF && n < len)
			n = 0;
		copy_ring(p, (char *)(uintptr_t)buf + done, p->p_in, n, true);
		p->p_in += n;
		done += n;
		mach_mutex_exit(&p->p_lock);
		if (n > 0)
			wake_pipe(p, true);
		if (done == len)
			break;
		if (f->f_flags & O_NONBLOCK) {
			err = -EAGAIN;
			break;
		}
		if ((err = wait_pipe(p, can_write, &w, false)) != 0)
			break;
	}
	return done > 0 || err == 0 ? (int64_t)done : err;
}

static int pipe_poll(struct file *f)
{
	struct pipe *p = f->f_data;

	int now = 0;

	if (file_may_read(f)) {
		now |= bytes_to_read(p) > 0 ? POLLIN : 0;
		now |= p->p_writers == 0 && p->p_writes > 0 ? POLLHUP : 0;
	}
	if (file_may_write(f)) {
		now |= ring_room(p) >= PIPE_BUF && p->p_readers > 0 ? POLLOUT : 0;
		now |= p->p_readers == 0 ? POLLERR : 0;
	}
	return now;
}

static uint64_t pipe_news(struct file *f, int bits)
{
	const struct pipe *p = f->f_data;

	(void)bits;
	return (file_may_read(f) ? p->p_came : 0) + (file_may_write(f) ? p->p_freed : 0);
}

static int64_t pipe_ioctl(struct file *f, unsigned cmd, uint64_t arg)
{
	struct pipe *p = f->f_data;
	int n = (int)bytes_to_read(p);

	return cmd == 0x541b ? copy_out(arg, &n, sizeof(n)) : -ENOTTY; /* FIONREAD */
}

static void pipe_free(struct pipe *p)
{
	mach_mutex_enter(&p->p_lock);
	while (p->p_first != NULL)
		piece_consume(p, p->p_first->pc_len, false);
	mach_mutex_exit(&p->p_lock);
	if (p->p_space != NULL)
		as_free(p->p_space);
	mach_mutex_fini(&p->p_lock);
	kfree(p->p_buf, p->p_room);
	kfree(p, sizeof(*p));
}

/* fifo_lock held. */
static void forget_fifo(struct pipe *p)
{
	struct pipe **q = &fifos;

	while (*q != p)
		q = &(*q)->p_next_fifo;
	*q = p->p_next_fifo;
}

static void pipe_close(struct file *f)
{
	struct pipe *p = f->f_data;
	bool last;

	mach_mutex_enter(&fifo_lock);
	mach_mutex_enter(&p->p_lock);
	p->p_writers -= file_may_write(f);
	p->p_readers -= file_may_read(f);
	last = p->p_readers + p->p_writers == 0;
	p->p_freed++; /* writers learn that no reader is left */
	/* not after the lock is dropped: then the closer of the other end may free the pipe */
	wake_pipe(p, true);
	mach_mutex_exit(&p->p_lock);
	if (last && p->p_fifo != NULL)
		forget_fifo(p);
	else if (last)
		f->f_inode->i_data = NULL;
	mach_mutex_exit(&fifo_lock);
	if (last)
		pipe_free(p);
}

static const struct file_ops pipe_ops = {
	.fo_read = pipe_read,
	.fo_write = pipe_write,
	.fo_poll = pipe_poll,
	.fo_news = pipe_news,
	.fo_ioctl = pipe_ioctl,
	.fo_close = pipe_close,
};

/* ---- pages ---- */
/*
 * Moves a range of this program's memory to the pipe's space. A gift leaves empty memory behind, in
 * one step, so that another thread never finds the range unmapped. VM_NOTSUP, VM_NOMAP: this memory
 * cannot be given away.
 */
static enum vm_err give_range(struct pipe *p, vaddr_t from, uint64_t len, vaddr_t *to)
{
	struct as *as = this_proc()->p_as;
	vaddr_t taken = 0;
	enum vm_err e = as_remap(as, from, len, len, REMAP_MAYMOVE | REMAP_DONTUNMAP, &taken);

	if (e != VM_OK)
		return e;
	e = as_transfer(as, taken, len, p->p_space, to, TRANSFER_MOVE, PROT_R | PROT_W);
	if (e != VM_OK)
		(void)as_remap(as, taken, len, len, REMAP_MAYMOVE | REMAP_FIXED, &from);
	return e;
}

/*
 * Makes the range of this program the pipe's last piece. Memory that cannot be given away is shared
 * by copy-on-write. p_lock held.
 */
static int add_piece(struct pipe *p, vaddr_t from, uint64_t len, bool gift)
{
	struct as *as = this_proc()->p_as;
	struct piece *pc = kzalloc(sizeof(*pc)), **last = &p->p_first;
	enum vm_err e = VM_OK;
	bool given = false;

	KASSERT(mach_mutex_held(&p->p_lock));
	if (pc == NULL)
		return -ENOMEM;
	if (p->p_space == NULL)
		e = as_alloc(the_vm, USER_MIN, user_top(), &p->p_space);
	if (e == VM_OK && gift && give_range(p, from, len, &pc->pc_va) == VM_OK)
		given = true;
	if (e == VM_OK && !given)
		e = as_transfer(
		    as, from, len, p->p_space, &pc->pc_va, TRANSFER_COW, PROT_R | PROT_W);
	if (e != VM_OK) {
		kfree(pc, sizeof(*pc));
		return err_of(e);
	}
	pc->pc_len = len;
	pc->pc_at = p->p_in;
	while (*last != NULL)
		last = &(*last)->pc_next;
	*last = pc;
	p->p_npieces++;
	p->p_paged += len;
	return 0;
}

static bool can_add_piece(void *arg)
{
	const struct pipe *p = arg;

	return p->p_npieces < PIECES || p->p_readers == 0;
}

int64_t pipe_give_pages(struct file *f, vaddr_t from, uint64_t len, bool gift, bool nonblock)
{
	struct pipe *p = f->f_data;
	int err = 0;

	nonblock |= (f->f_flags & O_NONBLOCK) != 0;
	for (;;) {
		bool broken;

		mach_mutex_enter(&p->p_lock);
		broken = p->p_readers == 0;
		if (!broken && p->p_npieces < PIECES) {
			err = add_piece(p, from, len, gift);
			mach_mutex_exit(&p->p_lock);
			wake_pipe(p, true);
			return err != 0 ? err : (int64_t)len;
		}
		mach_mutex_exit(&p->p_lock);
		if (broken)
			return pipe_broken();
		if ((err = wait_pipe(p, can_add_piece, p, nonblock)) != 0)
			return err;
	}
}

/* May all of the range be replaced by other pages of anonymous memory? */
static bool is_plain_memory(struct as *as, vaddr_t at, uint64_t len)
{
	struct as_info info;
	struct vnode *vp;
	voff_t off;
	enum vm_err e;

	if (as_query(as, at, &info) != VM_OK || info.ai_base > at ||
	    info.ai_base + info.ai_len < at + len || info.ai_shared || !(info.ai_prot & PROT_W))
		return false;
	if ((e = as_file(as, at, &vp, &off)) == VM_OK)
		inode_put(inode_of(vp));
	return e == VM_NOTSUP;
}

/*
 * Replaces the program's memory at `to` by a range of the pipe's space, in one step. After an error
 * the range still belongs to the pipe.
 */
static enum vm_err take_range(struct pipe *p, vaddr_t from, uint64_t len, vaddr_t to)
{
	struct as *as = this_proc()->p_as;
	vaddr_t here = 0;
	enum vm_err e =
	    as_transfer(p->p_space, from, len, as, &here, TRANSFER_MOVE, PROT_R | PROT_W);

	if (e != VM_OK)
		return e;
	e = as_remap(as, here, len, len, REMAP_MAYMOVE | REMAP_FIXED, &to);
	if (e != VM_OK)
		(void)as_transfer(as, here, len, p->p_space, &from, TRANSFER_MOVE, PROT_R | PROT_W);
	return e;
}

int64_t pipe_take_pages(struct file *f, vaddr_t to, uint64_t len, bool nonblock)
{
	struct pipe *p = f->f_data;
	struct as *as = this_proc()->p_as;
	struct piece *pc;
	int64_t r = 0;
	int err;

	nonblock |= (f->f_flags & O_NONBLOCK) != 0;
	if ((err = wait_pipe(p, can_read, p, nonblock)) != 0)
		return err;
	mach_mutex_enter(&p->p_lock);
	if ((pc = piece_at_head(p)) != NULL && ((pc->pc_va | pc->pc_len | to) & VM_PAGEMASK) == 0) {
		uint64_t n = pc->pc_len < vm_page_trunc(len) ? pc->pc_len : vm_page_trunc(len);

		if (n > 0 && is_plain_memory(as, to, n)) {
			enum vm_err e = take_range(p, pc->pc_va, n, to);

			if (e == VM_OK)
				piece_consume(p, n, false);
			r = e == VM_OK ? (int64_t)n : err_of(e);
		}
	}
	mach_mutex_exit(&p->p_lock);
	if (r > 0)
		wake_pipe(p, false);
	return r;
}

/* ---- splice and tee: bytes are copied first, and removed after they have arrived ---- */
uint64_t pipe_room(const struct file *f)
{
	struct pipe *p = f->f_data;
	uint64_t n;

	mach_mutex_enter(&p->p_lock);
	make_room(p, PIPE_LARGE);
	n = ring_room(p);
	mach_mutex_exit(&p->p_lock);
	return n;
}

/* Number of bytes of the ring before the piece, or before the pipe's end, from `out` on. */
static uint64_t ring_before(const struct pipe *p, const struct piece *pc, uint64_t out)
{
	return (pc != NULL ? pc->pc_at : p->p_in) - out;
}

/*
 * Copies the first bytes of the pipe, ring and pieces in their order, without removing them. p_lock
 * held. -EIO: a page cannot be read.
 */
static int64_t peek_bytes(struct pipe *p, char *buf, uint64_t len)
{
	const struct piece *pc = p->p_first;
	uint64_t out = p->p_out, got = 0;

	KASSERT(mach_mutex_held(&p->p_lock));
	while (got < len) {
		bool paged = pc != NULL && pc->pc_at == out;
		uint64_t n = paged ? pc->pc_len : ring_before(p, pc, out);

		n = n < len - got ? n : len - got;
		if (n == 0)
			break;
		if (!paged) {
			copy_ring(p, buf + got, out, n, false);
			out += n;
		} else if (as_copyin(p->p_space, pc->pc_va, buf + got, n) != VM_OK) {
			return got > 0 ? (int64_t)got : -EIO;
		} else {
			pc = pc->pc_next;
		}
		got += n;
	}
	return (int64_t)got;
}

/* Removes the first n bytes, which the pipe has. p_lock held. */
static void consume_bytes(struct pipe *p, uint64_t n)
{
	while (n > 0) {
		bool paged = piece_at_head(p) != NULL;
		uint64_t k = paged ? p->p_first->pc_len : ring_before(p, p->p_first, p->p_out);

		k = k < n ? k : n;
		if (paged)
			piece_consume(p, k, true);
		else
			p->p_out += k;
		n -= k;
	}
}

int pipe_await(struct file *f, bool write, bool nonblock)
{
	struct pipe *p = f->f_data;
	struct wanted w = { p, 1 };
	int err =
	    write ? wait_pipe(p, can_write, &w, nonblock) : wait_pipe(p, can_read, p, nonblock);

	return err == 0 && write && p->p_readers == 0 ? pipe_broken() : err;
}

int64_t pipe_to_file(struct file *in, struct file *out, char *buf, uint64_t len, uint64_t off)
{
	struct pipe *p = in->f_data;
	int64_t n;

	mach_mutex_enter(&p->p_lock);
	if ((n = peek_bytes(p, buf, len)) > 0 &&
	    (n = out->f_ops->fo_write(out, buf, (uint64_t)n, off)) > 0)
		consume_bytes(p, (uint64_t)n);
	mach_mutex_exit(&p->p_lock);
	if (n > 0)
		wake_pipe(p, false);
	return n;
}

static void lock_two(struct pipe *a, struct pipe *b)
{
	mach_mutex_enter(a < b ? &a->p_lock : &b->p_lock);
	mach_mutex_enter(a < b ? &b->p_lock : &a->p_lock);
}

int64_t pipe_to_pipe(struct file *in, struct file *out, char *buf, uint64_t len, bool take)
{
	struct pipe *from = in->f_data, *to = out->f_data;
	uint64_t room;
	int64_t n;

	lock_two(from, to);
	make_room(to, len);
	room = to->p_room - in_ring(to);
	n = peek_bytes(from, buf, len < room ? len : room);
	if (n > 0) {
		copy_ring(to, buf, to->p_in, (uint64_t)n, true);
		to->p_in += (uint64_t)n;
	}
	if (n > 0 && take)
		consume_bytes(from, (uint64_t)n);
	mach_mutex_exit(&to->p_lock);
	mach_mutex_exit(&from->p_lock);
	if (n > 0) {
		wake_pipe(to, true);
		wake_pipe(from, false);
	}
	return n;
}

bool pipe_same(const struct file *a, const struct file *b) { return a->f_data == b->f_data; }
bool pipe_has_bytes(const struct file *f) { return bytes_to_read(f->f_data) > 0; }
bool file_is_pipe(const struct file *f) { return f->f_ops == &pipe_ops; }

static const struct inode_ops pipe_inode_ops = { .io_lookup = NULL };

static struct pipe *pipe_alloc(void)
{
	struct pipe *p = kzalloc(sizeof(*p));

	if (p == NULL || (p->p_buf = kalloc(PIPE_SMALL)) == NULL) {
		kfree(p, sizeof(*p));
		return NULL;
	}
	p->p_room = PIPE_SMALL;
	p->p_limit = PIPE_LARGE;
	mach_mutex_init(&p->p_lock, 4, "pipe");
	return p;
}

int pipe_new(struct file **r, struct file **w, unsigned flags)
{
	struct pipe *p = pipe_alloc();
	struct inode *i = p == NULL ? NULL : anon_inode(&pipe_inode_ops, S_IFIFO | 0600);
	int err;

	if (i == NULL) {
		if (p != NULL)
			pipe_free(p);
		return -ENOMEM;
	}
	if ((err = file_new(inode_hold(i), &pipe_ops, flags & O_NONBLOCK, r)) == 0 &&
	    (err = file_new(inode_hold(i), &pipe_ops, (flags & O_NONBLOCK) | O_WRONLY, w)) != 0) {
		(*r)->f_ops = &file_pages_ops;
		file_put(*r);
	}
	if (err != 0) {
		inode_put(i);
		pipe_free(p);
		return err;
	}
	(*r)->f_data = (*w)->f_data = p;
	i->i_data = p;
	p->p_readers = p->p_writers = p->p_reads = p->p_writes = 1;
	inode_put(i);
	return 0;
}

/* ---- FIFOs ---- */
/*
 * Returns the pipe of an inode, with the file's ends counted; NULL: no memory, or a pipe without a
 * name that no longer exists.
 */
static struct pipe *join_fifo(struct inode *i, struct file *f)
{
	bool nameless = i->i_ops == &pipe_inode_ops;
	struct pipe *p;

	mach_mutex_enter(&fifo_lock);
	p = nameless ? i->i_data : fifos;
	while (!nameless && p != NULL && p->p_fifo != i)
		p = p->p_next_fifo;
	if (p == NULL && !nameless && (p = pipe_alloc()) != NULL) {
		p->p_fifo = i;
		p->p_next_fifo = fifos;
		fifos = p;
	}
	if (p != NULL) {
		mach_mutex_enter(&p->p_lock);
		p->p_readers += file_may_read(f);
		p->p_writers += file_may_write(f);
		p->p_reads += file_may_read(f);
		p->p_writes += file_may_write(f);
		wake_pipe(p, true);
		mach_mutex_exit(&p->p_lock);
	}
	mach_mutex_exit(&fifo_lock);
	return p;
}

struct meeting {
	struct pipe *m_pipe;
	/* number of ends of the other kind opened so far, at the opening of this end */
	unsigned m_others;
	bool m_reader;
};

static bool has_met(void *arg)
{
	const struct meeting *m = arg;
	const struct pipe *p = m->m_pipe;

	return m->m_reader ? p->p_writers > 0 || p->p_writes != m->m_others
			   : p->p_readers > 0 || p->p_reads != m->m_others;
}

/*
 * Waits for the other end, unless the pipe has no name, or the file is opened for both or not to
 * wait. After an error the caller sets other operations.
 */
int fifo_open(struct inode *i, struct file *f)
{
	struct pipe *p = join_fifo(i, f);
	struct meeting m = { .m_pipe = p, .m_reader = !file_may_write(f) };
	int err = 0;

	if (p == NULL)
		return i->i_ops == &pipe_inode_ops ? -ENXIO : -ENOMEM;
	f->f_ops = &pipe_ops;
	f->f_data = p;
	if (i->i_ops == &pipe_inode_ops || (file_may_read(f) && file_may_write(f)))
		return 0;
	m.m_others = m.m_reader ? p->p_writes : p->p_reads;
	if (f->f_flags & O_NONBLOCK)
		err = m.m_reader || p->p_readers > 0 ? 0 : -ENXIO;
	else
		err = wait_pipe(p, has_met, &m, false);
	if (err != 0)
		pipe_close(f);
	return err;
}

void fifo_init(void)
{
	mach_mutex_init(&fifo_lock, 3, "fifos");
	never_grows = cmdline_number("pipe.nogrow", 0) != 0;
}
