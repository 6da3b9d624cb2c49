/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading and writing of open files, for calls that move bytes in other ways than read and write.
 */
#ifndef QUIRE_KERNEL_SYS_FILE_H
#define QUIRE_KERNEL_SYS_FILE_H

#include "kernel/proc/proc.h"

#define IOV_MAX 1024u

struct iovec { /* Linux's */
	uint64_t base, len;
};
/*
 * Copies the program's n pieces to *v, to be freed by vector_free; n 0: *v is NULL. Lengths are cut so that they have 2 GiB less a
 * page in all, as Linux cuts them. 0; or -EINVAL (more than IOV_MAX, or a negative length), -ENOMEM, -EFAULT, and *v is NULL. May sleep.
 */
int copy_in_vector(uint64_t from, uint64_t n, struct iovec **v);
void vector_free(struct iovec *, uint64_t n); /* NULL: nothing */
/*
 * Copies bytes between the program's memory and the file, by a bounce buffer, n pieces in order.
 * off: offset in the file; NULL: the file's own offset. Returns the number of bytes, or a negative
 * error. May wait as the file's operations do.
 */
int64_t transfer_vector(struct file *, const struct iovec *, unsigned n, bool write, uint64_t *off);
/*
 * Gives two files the lowest free descriptors and writes them to the program's address `to` as two
 * ints. Takes the references of both files over. 0, or a negative error, and neither has a
 * descriptor. Takes fs_lock.
 */
int fd_install_pair(struct file *, struct file *, bool cloexec, uint64_t to);
#endif
