/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that stays the kernel's. unhosted HOW PAGES: writes so many pages of that kind.
 *
 *   none        ordinary memory: hosted
 *   inline mapped by a system call in this program, not in the C library
 *   file        a private mapping of a file
 *   shared      shared anonymous memory
 *   executable  memory that may be executed
 *   hold        ordinary memory; then says "ready" and waits for the end of its input. Statically linked it is not hosted
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096u

static long call6(long nr, long a, long b, long c, long d, long e, long f)
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

static char *map_kind(const char *how, size_t len)
{
	const int rw = PROT_READ | PROT_WRITE;

	if (strcmp(how, "inline") == 0) {
		long p = call6(SYS_mmap, 0, (long)len, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		return p < 0 && p > -4096 ? MAP_FAILED : (char *)p;
	}
	if (strcmp(how, "file") == 0) {
		char name[] = "/var/tmp/quire-unhosted-XXXXXX";
		int fd = mkstemp(name);

		(void)unlink(name);
		return fd < 0 || ftruncate(fd, (off_t)len) != 0
		    ? MAP_FAILED
		    : mmap(NULL, len, rw, MAP_PRIVATE, fd, 0);
	}
	if (strcmp(how, "shared") == 0)
		return mmap(NULL, len, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return mmap(NULL, len, strcmp(how, "executable") == 0 ? rw | PROT_EXEC : rw,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int main(int argc, char **argv)
{
	size_t len = argc == 3 ? strtoul(argv[2], NULL, 10) * PAGE : 0;
	char *p = len > 0 ? map_kind(argv[1], len) : MAP_FAILED, c;

	if (p == MAP_FAILED)
		return 64;
	for (size_t i = 0; i < len; i += PAGE)
		p[i] = 1;
	if (strcmp(argv[1], "hold") == 0) {
		puts("ready");
		(void)fflush(stdout);
		while (read(0, &c, 1) > 0)
			;
	}
	return 0;
}
