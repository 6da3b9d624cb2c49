/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What System V's shared memory, semaphores and messages have in common: Linux's numbers and its structure of
 * permissions, and ids. An id is the index of a slot and a count of the slot's uses, so that an old
 * id finds nothing.
 */
#ifndef QUIRE_KERNEL_IPC_H
#define QUIRE_KERNEL_IPC_H

#include <stdint.h>

#define IPC_PRIVATE 0
#define IPC_CREAT 01000u
#define IPC_EXCL 02000u
#define IPC_NOWAIT 04000
#define IPC_RMID 0
#define IPC_SET 1
#define IPC_STAT 2

struct ipc_perm { /* Linux's ipc64_perm */
	int32_t key;
	uint32_t uid, gid, cuid, cgid, mode;
	uint16_t seq, pad1;
	uint64_t u1, u2;
};

/* The id of slot i of so many, which was freed `uses` times. */
static inline int ipc_id(unsigned i, unsigned slots, unsigned uses)
{
	return (int)(uses % 10000 * slots + i);
}
#endif
