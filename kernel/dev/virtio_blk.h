/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks: vnodes whose pages are blocks of the device. */
#ifndef QUIRE_KERNEL_VIRTIO_BLK_H
#define QUIRE_KERNEL_VIRTIO_BLK_H

#include <quire/vnode.h>

struct disk;
void blk_init(void);
/* disk i in the order of QEMU's command line; NULL: no such disk */
struct disk *blk_disk(unsigned n);
uint64_t blk_pages(const struct disk *);
struct vnode *blk_vnode(struct disk *); /* a vnode over the whole disk; swap uses blk_swap_vnode */
struct vnode *blk_swap_vnode(struct disk *);
#define BLK_NONE 0xffffffffu /* this page is not on the disk and is skipped */
/* Starts a request for pages of the disk that need not lie together: block[i] is the disk's page for io_buf[i]. */
void blk_start(struct disk *, struct vm_io *, const uint32_t *block);
void blk_wait(struct disk *, struct vm_io *); /* waits until io_done(io) was called */
enum vm_err blk_flush(struct disk *);
struct blk_counters {
	uint64_t bc_reads, bc_writes, bc_pages_read, bc_pages_written, bc_errors, bc_interrupts,
	    bc_deepest, bc_proc_waits; /* the last number: waits of threads that hold proc_lock */
};
void blk_counters(const struct disk *, struct blk_counters *);
#endif
