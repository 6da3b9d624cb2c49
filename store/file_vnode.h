/* SPDX-License-Identifier: BSD-2-Clause */
/* A regular file as a vnode. */
#ifndef QUIRE_STORE_FILE_VNODE_H
#define QUIRE_STORE_FILE_VNODE_H
#include <quire/vnode.h>
struct file_vnode {
	struct vnode fv_vnode;
	/* owned by the vnode; open for writing if pages are to be written back */
	int fv_fd;
	uint64_t fv_dev, fv_ino; /* const: which file */
	/* called by the last release, which does nothing else: closes the file, frees the memory */
	void (*fv_gone)(struct file_vnode *);
	struct file_vnode *fv_next; /* the owner's */
};
/* Fills in fv_vnode; the other fields are set by the caller. Reference 1 is the caller's. */
void file_vnode_init(struct file_vnode *, struct vm *);
#endif
