/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Open files: their life, and the operations of the two commonest kinds.
 *
 * file_pages_ops: the file's bytes are pages of its inode's vnode; read and write copy them through the page cache.
 * file_text_ops: the file is a text that was made when it was opened (/proc); it does not change while the file is open.
 * Locks: f_lock guards f_off, i_lock the inode's size. f_refcnt is atomic; the last file_put closes.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#include <stdarg.h>

void file_init(struct file *f, struct inode *i, const struct file_ops *ops, unsigned flags)
{
	static _Atomic uint64_t last;

	f->f_refcnt = 1;
	f->f_serial = ++last;
	f->f_flags = flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | O_CLOEXEC);
	f->f_ops = ops;
	f->f_inode = i;
	mach_mutex_init(&f->f_lock, 2, "file");
}

int file_new(struct inode *i, const struct file_ops *ops, unsigned flags, struct file **fp)
{
	struct file *f = kzalloc(sizeof(*f));

	if (f == NULL) {
		inode_put(i);
		return -ENOMEM;
	}
	file_init(f, i, ops, flags);
	*fp = f;
	return 0;
}

struct file *anon_file(const struct file_ops *ops, unsigned mode, unsigned flags, size_t bytes)
{
	static const struct inode_ops no_ops = { .io_lookup = NULL };
	void *data = kzalloc(bytes);
	struct inode *i = data == NULL ? NULL : anon_inode(&no_ops, mode);
	struct file *f;

	if (i == NULL || file_new(i, ops, flags, &f) != 0) {
		kfree(data, bytes);
		return NULL;
	}
	f->f_data = data;
	return f;
}

void file_hold(struct file *f)
{
	__atomic_add_fetch((unsigned *)(void *)&f->f_refcnt, 1, __ATOMIC_RELAXED);
}

void file_put(struct file *f)
{
	if (__atomic_sub_fetch((unsigned *)(void *)&f->f_refcnt, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	filelock_drop(f, NULL);
	if (!(f->f_flags & O_PATH))
		notify_inode(f->f_inode, file_may_write(f) ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
	if (f->f_ops->fo_close != NULL)
		f->f_ops->fo_close(f);
	inode_put(f->f_inode);
	kfree(f, sizeof(*f));
}

/* ---- pages ---- */
static int64_t pages_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	uint64_t done = 0;
	enum vm_err e;

	if (inode_type(f->f_inode) == S_IFDIR)
		return -EISDIR;
	if (off >= f->f_inode->i_size)
		return 0;
	e = vnode_read(&f->f_inode->i_vnode, off, buf, len, &done);
	if (done > 0)
		notify_inode(f->f_inode, IN_ACCESS);
	return done > 0 || e == VM_EOF || e == VM_OK ? (int64_t)done : err_of(e);
}

/*
 * Makes room for [off, off + *len). If the disk has less, *len becomes the number of bytes with
 * room, in whole pages. i_lock held.
 */
static int make_room(struct inode *i, uint64_t off, uint64_t *len)
{
	int err;

	if (off > FILE_BYTES_MOST || *len > FILE_BYTES_MOST - off)
		return -EFBIG;
	if (i->i_ops->io_extend == NULL)
		return 0;
	while ((err = i->i_ops->io_extend(i, off, *len)) == -ENOSPC &&
	    vm_page_trunc(off + *len - 1) > off)
		*len = vm_page_trunc(off + *len - 1) - off;
	return err;
}

static int64_t pages_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	struct inode *i = f->f_inode;
	uint64_t done = 0, before;
	int err;
	enum vm_err e;

	if (len == 0)
		return 0;
	mach_mutex_enter(&i->i_lock);
	before = i->i_size;
	if (f->f_flags & O_APPEND)
		off = before;
	if ((err = make_room(i, off, &len)) == 0) {
		if (off + len > before)
			i->i_size = off + len;
		e = vnode_write(&i->i_vnode, off, buf, len, &done);
		if (off + done < i->i_size && before < i->i_size)
			i->i_size = off + done > before ? off + done : before;
		i->i_mtime = i->i_ctime = vfs_now();
		i->i_dirty = true;
		err = done > 0 ? 0 : err_of(e);
	}
	mach_mutex_exit(&i->i_lock);
	if (err == 0)
		notify_inode(i, IN_MODIFY);
	return err != 0 ? err : (int64_t)done;
}

static int pages_poll(struct file *f)
{
	(void)f;
	return POLLIN | POLLOUT;
}

const struct file_ops file_pages_ops = {
	.fo_read = pages_read,
	.fo_write = pages_write,
	.fo_poll = pages_poll,
	.fo_seekable = true,
};

/* ---- text ---- */
#define TEXT_MAX (1u << 20)

void text_printf(struct text *x, const char *f, ...)
{
	va_list ap;
	int n;

	for (;;) {
		char *more;
		size_t room = x->x_room == 0 ? 4096 : 2 * x->x_room;

		va_start(ap, f);
		n = kvsnprintf(x->x_at == NULL ? (char *)&n : x->x_at + x->x_n,
		    x->x_at == NULL ? 0 : x->x_room - x->x_n, f, ap);
		va_end(ap);
		if (x->x_at != NULL && x->x_n + (size_t)n < x->x_room)
			break;
		if (room > TEXT_MAX || (more = kalloc(room)) == NULL)
			return;
		memcpy(more, x->x_at, x->x_n);
		kfree(x->x_at, x->x_room);
		x->x_at = more;
		x->x_room = room;
	}
	x->x_n += (size_t)n;
}

static int64_t text_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	struct text *x = f->f_data;

	if (off >= x->x_n)
		return 0;
	if (len > x->x_n - off)
		len = x->x_n - off;
	memcpy(buf, x->x_at + off, len);
	return (int64_t)len;
}

static int64_t text_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	(void)f, (void)buf, (void)off;
	return (int64_t)len; /* a write to a setting, which this kernel does not have */
}

static void text_close(struct file *f)
{
	struct text *x = f->f_data;

	kfree(x->x_at, x->x_room);
	kfree(x, sizeof(*x));
}

const struct file_ops file_text_ops = {
	.fo_read = text_read,
	.fo_write = text_write,
	.fo_poll = pages_poll,
	.fo_close = text_close,
	.fo_seekable = true,
};
