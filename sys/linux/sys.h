/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Raw system calls of Linux on x86-64. The result is the kernel's: >= 0, or -errno. No function
 * here uses the C library, whose errno lives in a thread block that the runtime's threads do not
 * have.
 */
#ifndef QUIRE_LINUX_SYS_H
#define QUIRE_LINUX_SYS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}

static inline long sys_call0(long nr) { return sys_call6(nr, 0, 0, 0, 0, 0, 0); }
static inline long sys_call1(long nr, long a) { return sys_call6(nr, a, 0, 0, 0, 0, 0); }
static inline long sys_call2(long nr, long a, long b) { return sys_call6(nr, a, b, 0, 0, 0, 0); }
static inline long sys_call3(long nr, long a, long b, long c)
{
	return sys_call6(nr, a, b, c, 0, 0, 0);
}
static inline long sys_call4(long nr, long a, long b, long c, long d)
{
	return sys_call6(nr, a, b, c, d, 0, 0);
}
static inline long sys_call5(long nr, long a, long b, long c, long d, long e)
{
	return sys_call6(nr, a, b, c, d, e, 0);
}

/*
 * Did the call fail? Its result is -errno then. An address that mmap returns may have the highest
 * bit set and is no failure: so a result that is an address is checked by this function, never
 * compared with zero.
 */
static inline bool sys_failed(long r) { return r < 0 && r > -4096; }

/*
 * Sleeps for a millisecond or until a signal arrives: between two attempts that depend on other
 * processes.
 */
static inline void sys_pause(void)
{
	const long millisecond[2] = { 0, 1000000 };

	(void)sys_call4(SYS_clock_nanosleep, 1 /* CLOCK_MONOTONIC */, 0, (long)millisecond, 0);
}

/*
 * Does the CPU have the instruction that returns its number? Without it, sys_cpu takes 35 ns
 * instead of 1 ns.
 */
static inline bool sys_has_rdpid(void)
{
	uint32_t a = 0, b, c, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	if (a < 7)
		return false;
	a = 7;
	c = 0;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return (c >> 22 & 1) != 0;
}

/*
 * The number of the CPU; the kernel keeps this number, with the node's, in registers that these two
 * instructions read.
 */
static inline unsigned sys_cpu(bool rdpid)
{
	uint64_t v;

	if (rdpid)
		__asm__ volatile("rdpid %0" : "=r"(v));
	else
		__asm__ volatile("lsl %1,%0" : "=r"(v) : "r"(0x7bull) : "cc");
	return (unsigned)v & 0xfffu;
}

#endif
