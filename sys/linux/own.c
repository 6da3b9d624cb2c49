/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the runtime maps memory of its own in a program that it shares an address space with.
 *
 * A place that the program has unmapped is the program's to know: it may expect a fault there, ask whether something is there
 * (mincore), or map something there again, with MAP_FIXED, which would replace what is there. The kernel gives such a place to the
 * next mapping that fits. So the runtime reserves a room at its start, and maps there, from one end to the other. Where the room
 * is used up, or there is none (libquire), the kernel chooses.
 *
 * What is unmapped leaves a hole in the room, which is not used again.
 *
 * Memory of the kernel's own, such as a ring of io_uring, goes to no place that a caller chooses (Linux 6.5, and stable releases of
 * 6.1). It goes below 2 GiB, where the kernel maps nothing for a program that does not ask for it.
 *
 * Lock: none, room_next is advanced by exchange.
 */
#include "sys/linux/own.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"

#define PAGE 4096ull

static _Atomic uint64_t room_next; /* the first address not yet used */
static uint64_t room_end;          /* const after sys_own_room(); 0: there is no room */

void sys_own_room(uint64_t bytes)
{
	long p = sys_call6(SYS_mmap, 0, (long)bytes, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (sys_failed(p))
		return;
	atomic_store(&room_next, (uint64_t)p);
	room_end = (uint64_t)p + bytes;
}

/* 0: no room. */
static uint64_t take_room(uint64_t bytes)
{
	uint64_t at = atomic_load(&room_next), n = (bytes + PAGE - 1) & ~(PAGE - 1);

	do
		if (room_end == 0 || n > room_end - at)
			return 0;
	while (!atomic_compare_exchange_weak(&room_next, &at, at + n));
	return at;
}

long sys_map_own(uint64_t bytes, int prot, int flags, int fd, long off)
{
	uint64_t at = take_room(bytes);
	long r = sys_call6(
	    SYS_mmap, (long)at, (long)bytes, prot, at == 0 ? flags : flags | MAP_FIXED, fd, off);

	if (r == -EINVAL && at != 0 && fd >= 0)
		r = sys_call6(SYS_mmap, 0, (long)bytes, prot, flags | MAP_32BIT, fd, off);
	return r;
}
