/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the runtime maps memory of its own: see own.c. */
#ifndef QUIRE_LINUX_OWN_H
#define QUIRE_LINUX_OWN_H

#include <stdint.h>

/* Reserves bytes of address space for sys_map_own(). One thread; once. Without address space: nothing. */
void sys_own_room(uint64_t bytes);
/* As mmap without a place: an address, or -errno. prot, flags, fd, off as the kernel's. May be called by any thread, in any state. */
long sys_map_own(uint64_t bytes, int prot, int flags, int fd, long off);
#endif
