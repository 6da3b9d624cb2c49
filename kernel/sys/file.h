/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading and writing of open files, for the calls that move bytes otherwise than read and write do. */
#ifndef QUIRE_KERNEL_SYS_FILE_H
#define QUIRE_KERNEL_SYS_FILE_H

#include "kernel/proc/proc.h"

#define IOV_MAX 1024u

struct iovec { /* Linux's */
	uint64_t base, len;
};
/* A copy of the program's n pieces, for vector_free; n 0: NULL. 0, -EINVAL (more than IOV_MAX), -ENOMEM, -EFAULT: then *v is NULL. May sleep. */
int copy_in_vector(uint64_t from, uint64_t n, struct iovec **v);
void vector_free(struct iovec *, uint64_t n); /* NULL: nothing */
/*
 * Bytes between the program's memory and the file, by a bounce buffer, n pieces in their order. off: where in the file; NULL: at its
 * own offset. How many were moved, or a negative error. May wait as the file's operations do.
 */
int64_t transfer_vector(struct file *, const struct iovec *, unsigned n, bool write, uint64_t *off);
/*
 * The lowest free numbers for two files, whose references the call takes over, written to `to` of the program as two ints. 0 or a
 * negative error: then neither has a number. Takes fs_lock.
 */
int fd_install_pair(struct file *, struct file *, bool cloexec, uint64_t to);
#endif
