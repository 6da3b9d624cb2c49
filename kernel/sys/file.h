/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading and writing of open files, for the calls that move bytes otherwise than read and write do. */
#ifndef QUIRE_KERNEL_SYS_FILE_H
#define QUIRE_KERNEL_SYS_FILE_H

#include "kernel/proc/proc.h"

#define IOV_MAX 1024u

struct iovec { /* Linux's */
	uint64_t base, len;
};
/*
 * Bytes between the program's memory and the file, by a bounce buffer, n pieces in their order. off: where in the file; NULL: at its
 * own offset. How many were moved, or a negative error. May wait as the file's operations do.
 */
int64_t transfer_vector(struct file *, const struct iovec *, unsigned n, bool write, uint64_t *off);
#endif
