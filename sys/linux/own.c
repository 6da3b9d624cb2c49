/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the runtime maps its own memory in a program with which it shares an address space.
 *
 * The program may still use a range that it has unmapped: it may expect a fault there, query the
 * range (mincore), or map memory there again with MAP_FIXED, which would replace a mapping of the
 * runtime. The kernel gives such a range to the next mapping that fits. So the runtime reserves a
 * room of address space at its start, and maps its memory there, from one end to the other. If the
 * room is used up, or there is none (libquire), the kernel chooses the address.
 *
 * An unmapped range leaves a hole in the room, which is not used again.
 *
 * For memory of the kernel, such as a ring of io_uring, the caller cannot choose an address (Linux
 * 6.5, and stable releases of 6.1). Such memory is mapped below 2 GiB, where the kernel maps other
 * memory only on request.
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
