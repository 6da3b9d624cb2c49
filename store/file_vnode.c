/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A regular file as a vnode. I/O is done, in one vectored call, before vo_start returns. Writing
 * pages back never extends a file: bytes of the last page past the end of the file are dropped, as
 * mmap drops them.
 *
 * No locks: the kernel's file is the state. No errno: called from fault handlers.
 */
#include "store/file_vnode.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "sys/linux/sys.h"

static struct file_vnode *fv_of(struct vnode *vp) { return vp->v_data; }

static uint64_t file_size(struct vnode *vp)
{
	struct stat st;

	return sys_call2(SYS_fstat, fv_of(vp)->fv_fd, (long)&st) == 0 ? (uint64_t)st.st_size : 0;
}

/* Transfers len bytes; returns the number transferred, or -errno if none were. */
static long transfer_bytes(int fd, struct vm_io *io, uint64_t len)
{
	struct iovec iov[VM_IO_PAGES];
	uint64_t at = 0;

	while (at < len) {
		int n = 0;
		long r;

		for (uint64_t a = at; a < len; n++) {
			uint64_t in = a & VM_PAGEMASK,
				 part = VM_PAGESIZE - in < len - a ? VM_PAGESIZE - in : len - a;

			iov[n] = (struct iovec){ (char *)io->io_buf[a >> VM_PAGESHIFT] + in, part };
			a += part;
		}
		r = sys_call4(io->io_op == VM_IO_READ ? SYS_preadv : SYS_pwritev, fd, (long)iov, n,
		    (long)(io->io_off + at));
		if (r == -EINTR)
			continue;
		if (r <= 0)
			return at > 0 ? (long)at : r;
		at += (uint64_t)r;
	}
	return (long)at;
}

static void file_start(struct vnode *vp, struct vm_io *io)
{
	uint64_t end = file_size(vp), want = vm_ptob(io->io_npages), len;
	long r;

	io->io_ok = 0;
	io->io_err = VM_EOF;
	if (io->io_off < end) {
		len = end - io->io_off < want ? end - io->io_off : want;
		r = transfer_bytes(fv_of(vp)->fv_fd, io, len);
		io->io_err = VM_IO;
		if (r > 0) {
			bool all = (uint64_t)r == len;

			if (all && io->io_op == VM_IO_READ && (len & VM_PAGEMASK) != 0)
				__builtin_memset(
				    (char *)io->io_buf[len >> VM_PAGESHIFT] + (len & VM_PAGEMASK),
				    0, VM_PAGESIZE - (len & VM_PAGEMASK));
			io->io_ok = (uint32_t)vm_btop(all ? vm_page_round(len) : (uint64_t)r);
			if (all)
				io->io_err = io->io_ok == io->io_npages ? VM_OK : VM_EOF;
		}
	}
	/* A page past the end has no place in the file, so it counts as clean. */
	if (io->io_op == VM_IO_WRITE && io->io_err == VM_EOF) {
		io->io_ok = io->io_npages;
		io->io_err = VM_OK;
	}
	io->io_done(io);
}

static void poll_none(struct vnode *vp, struct vm_io *io)
{
	(void)vp;
	(void)io;
}

static void file_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp; /* a file keeps its contents */
	(void)off;
	(void)len;
}

static enum vm_err sync_file(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)off;
	(void)len;
	return sys_call1(SYS_fdatasync, fv_of(vp)->fv_fd) == 0 ? VM_OK : VM_IO;
}

static void file_inactive(struct vnode *vp)
{
	struct file_vnode *fv = fv_of(vp);

	fv->fv_gone(fv);
}

static const struct vnode_ops ops = {
	.vo_name = "file",
	.vo_start = file_start,
	.vo_poll = poll_none,
	.vo_discard = file_discard,
	.vo_sync = sync_file,
	.vo_size = file_size,
	.vo_inactive = file_inactive,
};

void file_vnode_init(struct file_vnode *fv, struct vm *vm)
{
	vnode_init(&fv->fv_vnode, vm, &ops, fv);
}
