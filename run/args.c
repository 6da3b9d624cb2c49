/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See args.h. If a sandbox forbids the call, every address counts as valid here: args_unchecked()
 * tells the callers, some of which can find out by the program's own call.
 */
#include "run/args.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "sys/linux/sys.h"

#define PAGE 4096u

static _Atomic bool trusting;

void args_trust(void) { trusting = true; }

bool args_trusted(void) { return trusting; }

/* The call of the kernel: the n bytes here, and as many bytes of the program in `count` places. */
static long call_kernel(long nr, void *here, size_t n, const struct iovec *there, size_t count)
{
	struct iovec local = { here, n };

	if (n == 0 || trusting)
		return n == 0 ? 0 : -EPERM;
	return sys_call6(nr, sys_call0(SYS_gettid), (long)&local, 1, (long)there, (long)count, 0);
}

static bool copy_by_kernel(long nr, void *here, const void *there, size_t n)
{
	struct iovec remote = { (void *)(uintptr_t)there, n };
	long r = call_kernel(nr, here, n, &remote, 1);

	if (r != -EPERM && r != -ENOSYS)
		return r == (long)n;
	if (nr == SYS_process_vm_readv)
		__builtin_memcpy(here, there, n);
	else
		__builtin_memcpy((void *)(uintptr_t)there, here, n);
	return true;
}

bool args_read(void *to, const void *from, size_t n)
{
	return copy_by_kernel(SYS_process_vm_readv, to, from, n);
}

bool args_write(void *to, const void *from, size_t n)
{
	return copy_by_kernel(SYS_process_vm_writev, (void *)(uintptr_t)from, to, n);
}

bool args_read_each(void *to, const void *const *from, size_t count, size_t n)
{
	struct iovec remote[ARGS_EACH];
	long r;

	for (size_t i = 0; i < count; i++)
		remote[i] = (struct iovec){ (void *)(uintptr_t)from[i], n };
	r = call_kernel(SYS_process_vm_readv, to, count * n, remote, count);
	if (r != -EPERM && r != -ENOSYS)
		return r == (long)(count * n);
	for (size_t i = 0; i < count; i++)
		__builtin_memcpy((char *)to + i * n, from[i], n);
	return true;
}

bool args_unchecked(void)
{
	static _Atomic bool
	    asked; /* a sandbox that permitted the call once can only become a filter */
	char from = 0, to;
	struct iovec there = { &from, 1 };

	if (!trusting && !asked)
		asked = call_kernel(SYS_process_vm_readv, &to, 1, &there, 1) == 1;
	return trusting || !asked;
}

/* Copies in pieces that do not cross the end of a page, as the next page may not exist. */
long args_length(const char *s, size_t max)
{
	char piece[256];

	for (size_t at = 0; at <= max;) {
		size_t n = PAGE - ((uintptr_t)(s + at) & (PAGE - 1));

		n = n > sizeof piece ? sizeof piece : n;
		if (!args_read(piece, s + at, n))
			return -EFAULT;
		for (size_t i = 0; i < n; i++)
			if (piece[i] == '\0')
				return at + i <= max ? (long)(at + i) : -E2BIG;
		at += n;
	}
	return -E2BIG;
}
