/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap file: a file without a name, so that nothing is left behind however its users end. */
#ifndef QUIRE_STORE_SWAPFILE_H
#define QUIRE_STORE_SWAPFILE_H
#include <stdbool.h>
#include <stdint.h>
/*
 * path: a directory, or a file name that does not exist yet, or NULL ($TMPDIR, unless that is in
 * memory; else /var/tmp). A place on a tmpfs or ramfs is refused without force. There must be room
 * for size bytes, which are not reserved. The file is opened for direct I/O if the file system
 * supports it. Returns the descriptor (close-on-exec), or -1 with *why set to one line that names
 * the cause and the way out. Uses the C library; not for fault paths.
 */
int swapfile_open(const char *path, uint64_t size, bool force, const char **why);
/*
 * Allocates the disk space of the whole file now, so that no later write fails for lack of space.
 * 0, or -1 with *why. Success, too, if the file system cannot allocate space in advance.
 */
int swapfile_reserve(int fd, uint64_t size, const char **why);
#endif
