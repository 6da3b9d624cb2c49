/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What vnodes of tests and benchmarks have in common: operations that do nothing. A vnode that is only a name has stub_name_ops; a
 * swap area has its own vo_start.
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

/* vo_size: more than any test has pages for. */
static inline uint64_t stub_size(struct vnode *vp)
{
	(void)vp;
	return 1ull << 40;
}

static const struct vnode_ops stub_name_ops __attribute__((unused)) = { .vo_name = "names",
	.vo_start = stub_refuse,
	.vo_poll = stub_poll,
	.vo_discard = stub_discard,
	.vo_sync = stub_sync,
	.vo_size = stub_size,
	.vo_inactive = stub_inactive };
#endif
