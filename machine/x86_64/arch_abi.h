/* SPDX-License-Identifier: BSD-2-Clause */
/* The parts of Linux's interface to programs that differ between architectures: x86-64. */
#ifndef QUIRE_ARCH_ABI_H
#define QUIRE_ARCH_ABI_H

#include <quire/types.h>

#define ARCH_ELF_MACHINE 62u
#define ARCH_UNAME "x86_64"
#define ARCH_HWCAP 0
#define ARCH_SA_RESTORER 1 /* struct sigaction has the field sa_restorer */
#define ARCH_EPOLL_PACKED __attribute__((packed))
#define ARCH_SEM_TIME(name) uint64_t name, name##_high; /* of struct semid_ds */

struct stat {
	uint64_t st_dev, st_ino, st_nlink;
	uint32_t st_mode, st_uid, st_gid, pad0;
	uint64_t st_rdev;
	int64_t st_size, st_blksize, st_blocks;
	uint64_t st_atime, st_atimensec, st_mtime, st_mtimensec, st_ctime, st_ctimensec;
	int64_t unused[3];
};
#endif
