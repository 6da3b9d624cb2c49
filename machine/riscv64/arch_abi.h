/* SPDX-License-Identifier: BSD-2-Clause */
/* The parts of Linux's interface to programs that differ between architectures: riscv64. */
#ifndef QUIRE_ARCH_ABI_H
#define QUIRE_ARCH_ABI_H

#include <quire/types.h>

#define ARCH_ELF_MACHINE 243u
#define ARCH_UNAME "riscv64"
#define ARCH_HWCAP 0x112dull /* I M A F D C, each the bit of its letter */
#define ARCH_SA_RESTORER 0   /* struct sigaction has no field sa_restorer */
#define ARCH_EPOLL_PACKED
#define ARCH_SEM_TIME(name) uint64_t name; /* of struct semid_ds */

struct stat {
	uint64_t st_dev, st_ino;
	uint32_t st_mode, st_nlink, st_uid, st_gid;
	uint64_t st_rdev, pad1;
	int64_t st_size;
	int32_t st_blksize, pad2;
	int64_t st_blocks;
	uint64_t st_atime, st_atimensec, st_mtime, st_mtimensec, st_ctime, st_ctimensec;
	uint32_t unused[2];
};
_Static_assert(sizeof(struct stat) == 128, "Linux's");
#endif
