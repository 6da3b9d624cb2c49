/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap file: a file without a name, so that nothing is left behind however its users end. */
#ifndef QUIRE_STORE_SWAPFILE_H
#define QUIRE_STORE_SWAPFILE_H
#include <stdbool.h>
#include <stdint.h>
/*
 * path: a directory, or a file name that does not exist yet, or NULL ($TMPDIR, unless that is in memory; else
 * /var/tmp). A place on a tmpfs or ramfs is refused without force. There must be room for size bytes,
 * which are not set aside. Opened for direct I/O where
 * the file system can. The descriptor (close-on-exec), or -1 with *why set to one line that says the cause and the way out.
 * Uses the C library; not for fault paths.
 */
int swapfile_open(const char *path, uint64_t size, bool force, const char **why);
/*
 * Takes the disk space for all of it now, so that no write fails for lack of it later. 0, or -1 with *why. A file system that
 * cannot promise space in advance counts as having done so.
 */
int swapfile_reserve(int fd, uint64_t size, const char **why);
#endif
