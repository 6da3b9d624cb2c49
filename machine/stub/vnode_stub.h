/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What vnodes of tests and benchmarks have in common: operations that do nothing. A vnode that is only a name takes
 * stub_refuse, too, and any size; a swap area has its own vo_start.
 */
#ifndef QUIRE_VNODE_STUB_H
#define QUIRE_VNODE_STUB_H

#include <quire/vnode.h>

/* vo_start: there are no contents. */
static inline void stub_refuse(struct vnode *vp, struct vm_io *io)
{
	(void)vp;
	io->io_err = VM_IO;
	io->io_ok = 0;
	io->io_done(io);
}

/* vo_poll, where each request ends within vo_start. */
static inline void stub_poll(struct vnode *vp, struct vm_io *io) { (void)vp, (void)io; }

static inline void stub_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp, (void)off, (void)len;
}

static inline enum vm_err stub_sync(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp, (void)off, (void)len;
	return VM_OK;
}

/* vo_inactive of a vnode that belongs to the test. */
static inline void stub_inactive(struct vnode *vp) { (void)vp; }
#endif
