/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scenarios of queries about memory, and of the errors that manual pages name: results must be the
 * kernel's, also for paged-out pages.
 */
#include "tests/run/run_scenarios.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define TOO_LONG ((size_t)0 - PAGE)

static bool zero(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static long mapped(const void *p) { return p == MAP_FAILED ? -1 : 0; }

/* The mapping at p as /proc/self/smaps tells it: a field in KiB. -1: there is none. */
static long smaps_field(const void *p, const char *field)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long a, e, in = 0;
	long v = -1;
	char line[512];
	size_t n = strlen(field);

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		if (sscanf(line, "%lx-%lx ", &a, &e) == 2)
			in = a <= (unsigned long)p && (unsigned long)p < e;
		if (in && strncmp(line, field, n) == 0)
			v = strtol(line + n, NULL, 10);
	}
	if (f != NULL)
		(void)fclose(f);
	return v;
}

static long status_field(const char *field)
{
	FILE *f = fopen("/proc/self/status", "r");
	long v = -1;
	char line[256];
	size_t n = strlen(field);

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, field, n) == 0)
			v = strtol(line + n, NULL, 10);
	if (f != NULL)
		(void)fclose(f);
	return v;
}

/* How many lines of /proc/self/maps lie in [p, p + len). */
static int mappings_in(const char *p, size_t len)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long a, e;
	int n = 0;
	char line[512];

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "%lx-%lx ", &a, &e) == 2)
			n += e > (unsigned long)p && a < (unsigned long)p + len;
	if (f != NULL)
		(void)fclose(f);
	return n;
}

static unsigned resident_pages(const void *p, size_t n)
{
	unsigned char v[1024];
	unsigned k = 0;

	EXPECT(n <= sizeof v && mincore((void *)(uintptr_t)p, n * PAGE, v) == 0);
	for (size_t i = 0; i < n; i++)
		k += v[i] & 1;
	return k;
}

/* ---- errors ---- */
static int mapping_errors(void)
{
	char *p = map(8 * PAGE), *hole = map(4 * PAGE), *const top = (char *)0x7ffffffff000;

	EXPECT(munmap(hole + PAGE, PAGE) == 0);
	fill(p, 8 * PAGE, 1);
	push_out();
	report(
	    "mmap length 0", mapped(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	report("mmap no kind", mapped(mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0)));
	report("mmap odd place",
	    mapped(mmap(p + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
	report("mmap odd offset",
	    mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 5)));
	report("mmap offset",
	    mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, PAGE)));
	report("mmap too long",
	    mapped(mmap(NULL, TOO_LONG, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	report("mmap no file", mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0)));
	report("mmap over it",
	    mapped(mmap(
		p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)));
	report("mmap over a part",
	    mapped(mmap(p - PAGE, 2 * PAGE, PROT_READ,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)));
	report("mmap beyond",
	    mapped(mmap(top, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
	report("mmap sync",
	    mapped(
		mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_ANONYMOUS | 0x80000, -1, 0)));
	report("mmap huge",
	    mapped(
		mmap(NULL, 2 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0)));
	report("mmap huge at an odd place",
	    mapped(mmap(p + ((uintptr_t)p % (2 * MIB) == 0 ? PAGE : 0), 2 * MIB, PROT_READ,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED, -1, 0)));
	report("munmap 0", munmap(p, 0));
	report("munmap odd", munmap(p + 1, PAGE));
	report("munmap beyond", munmap(top, 2 * PAGE));
	report("munmap too long", munmap(p, TOO_LONG));
	report("munmap nothing", munmap(hole + PAGE, PAGE));
	report("munmap at 0", munmap(NULL, 16 * PAGE));
	report("munmap up to beyond", munmap(top - PAGE, 2 * PAGE));
	report("mprotect odd", mprotect(p + 1, PAGE, PROT_READ));
	report("mprotect hole", mprotect(hole, 4 * PAGE, PROT_READ));
	report("mprotect nothing", mprotect(hole + PAGE, PAGE, PROT_READ));
	report("mprotect 0", mprotect(p, 0, PROT_NONE));
	report("mprotect unknown", mprotect(p, PAGE, 0x100));
	report("mprotect grows both", mprotect(p, PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP));
	report("mprotect grows down", mprotect(p, PAGE, PROT_READ | PROT_GROWSDOWN));
	report("mprotect wraps", mprotect(p, TOO_LONG, PROT_READ));
	EXPECT(zero(hole, PAGE) && wrong(p, 8 * PAGE, 1) == 0);
	return 0;
}

static int advice_errors(void)
{
	char *p = map(8 * PAGE), *hole = map(4 * PAGE);

	EXPECT(munmap(hole + PAGE, PAGE) == 0);
	fill(p, 8 * PAGE, 1);
	push_out();
	report("msync odd", msync(p + 1, PAGE, MS_SYNC));
	report("msync both", msync(p, PAGE, MS_SYNC | MS_ASYNC));
	report("msync unknown", msync(p, PAGE, 64));
	report("msync hole", msync(hole, 4 * PAGE, MS_SYNC));
	report("msync it", msync(p, 8 * PAGE, MS_SYNC | MS_INVALIDATE));
	report("msync wraps", msync(p, TOO_LONG, MS_SYNC));
	EXPECT(mlock(p, PAGE) == 0);
	report("msync locked", msync(p, 8 * PAGE, MS_INVALIDATE));
	EXPECT(munlock(p, PAGE) == 0);
	report("msync unlocked", msync(p, 8 * PAGE, MS_INVALIDATE));
	report("madvise odd", madvise(p + 1, PAGE, MADV_DONTNEED));
	report("madvise 0", madvise(p, 0, MADV_DONTNEED));
	report("madvise wraps", madvise(p, TOO_LONG, MADV_DONTNEED));
	report("madvise unknown", madvise(p, PAGE, 1212));
	report("madvise unknown 0", madvise(p, 0, 1212));
	report("madvise hole", madvise(hole, 4 * PAGE, MADV_NORMAL));
	report("mincore odd", mincore(p + 1, PAGE, (unsigned char *)p));
	report("mincore hole", mincore(hole, 4 * PAGE, (unsigned char *)p));
	report("mincore nowhere", mincore(p + PAGE, PAGE, NULL));
	report("mincore long", mincore(p, TOO_LONG, (unsigned char *)p));
	report("mlock hole", mlock(hole, 4 * PAGE));
	report("mlock wraps", mlock(p, TOO_LONG));
	report("mlock 0", mlock(p, 0));
	report("munlock hole", munlock(hole, 4 * PAGE));
	report("munlock wraps", munlock(p, TOO_LONG));
	report("mlockall 0", mlockall(0));
	report("mlockall unknown", mlockall(16));
	report("mlockall on fault alone", mlockall(MCL_ONFAULT));
	report("remap_file_pages", syscall(SYS_remap_file_pages, p, PAGE, 0, 0, 0));
	report("brk 0", syscall(SYS_brk, 0) > 0 ? 0 : -1);
	EXPECT(zero(hole, PAGE) && wrong(p + PAGE, 7 * PAGE, 1) > 0);
	return 0;
}

static int remap_errors(void)
{
	char *p = map(8 * PAGE), *q = map(8 * PAGE), *hole = map(4 * PAGE);
	const int fixed = MREMAP_MAYMOVE | MREMAP_FIXED;

	EXPECT(munmap(hole + PAGE, PAGE) == 0);
	fill(p, 8 * PAGE, 1);
	fill(q, 8 * PAGE, 2);
	push_out();
	report("odd", mapped(mremap(p + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE)));
	report("to 0", mapped(mremap(p, PAGE, 0, MREMAP_MAYMOVE)));
	report("unknown", mapped(mremap(p, PAGE, PAGE, 64)));
	report("fixed alone", mapped(mremap(p, PAGE, PAGE, MREMAP_FIXED, q)));
	report("fixed odd", mapped(mremap(p, PAGE, PAGE, fixed, q + 1)));
	report("fixed on itself", mapped(mremap(p, 4 * PAGE, 4 * PAGE, fixed, p + PAGE)));
	report("fixed same", mapped(mremap(p, 4 * PAGE, 4 * PAGE, fixed, p)));
	report("over a hole", mapped(mremap(hole, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE)));
	report("of nothing", mapped(mremap(hole + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE)));
	report("in place", mapped(mremap(p, PAGE, 2 * PAGE, 0)));
	report("old 0 of private", mapped(mremap(p, 0, 2 * PAGE, MREMAP_MAYMOVE)));
	report("longer than there is", mapped(mremap(p, PAGE, (size_t)1 << 47, MREMAP_MAYMOVE)));
	report("dontunmap of other length",
	    mapped(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL)));
	report("dontunmap alone", mapped(mremap(p, PAGE, PAGE, MREMAP_DONTUNMAP, NULL)));
	EXPECT(wrong(p, 8 * PAGE, 1) == 0 && wrong(q, 8 * PAGE, 2) == 0);
	push_out();
	char *r = mremap(p, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	report("dontunmap", mapped(r));
	EXPECT(r != MAP_FAILED && wrong(r, 8 * PAGE, 1) == 0 && zero(p, 8 * PAGE));
	fill(p, 8 * PAGE, 3);
	push_out();
	EXPECT(wrong(r, 8 * PAGE, 1) == 0 && wrong(p, 8 * PAGE, 3) == 0);
	r = mremap(p, 8 * PAGE, 8 * PAGE, fixed | MREMAP_DONTUNMAP, q);
	report("dontunmap fixed", mapped(r));
	EXPECT(r == q && wrong(q, 8 * PAGE, 3) == 0 && zero(p, 8 * PAGE));
	return 0;
}

/* ---- information about memory ---- */
static int told_of_locks(void)
{
	for (int way = 0; way < 4; way++) {
		char *p = map(64 * PAGE);
		int r = 0;

		fill(p, 8 * PAGE, 1);
		EXPECT(madvise(p, 4 * PAGE, MADV_PAGEOUT) == 0);
		switch (way) {
		case 0: r = mlock(p, 64 * PAGE); break;
		case 1: r = mlock2(p, 64 * PAGE, 0); break;
		case 2: r = mlock2(p, 64 * PAGE, MLOCK_ONFAULT); break;
		default: r = mlock(p + 100, 63 * PAGE); break;
		}
		report("lock", r);
		printf("%d: VmLck %ld Locked %ld Rss %ld present %u\n", way, status_field("VmLck:"),
		    way == 2 ? 0 : smaps_field(p, "Locked:"), way == 2 ? 0 : smaps_field(p, "Rss:"),
		    way == 2 ? 0 : resident_pages(p, 64));
		push_out();
		if (way != 2)
			EXPECT(resident_pages(p, 64) == 64);
		if (way == 2) {
			fill(p + 8 * PAGE, 8 * PAGE, 2);
			push_out();
			EXPECT(resident_pages(p + 8 * PAGE, 8) == 8);
		}
		EXPECT(wrong(p, 8 * PAGE, 1) == 0);
		report("unlock of a part", munlock(p + 4 * PAGE, 4 * PAGE));
		printf("%d: VmLck %ld\n", way, status_field("VmLck:"));
		report("unlock", munlock(p, 64 * PAGE));
		printf("%d: VmLck %ld\n", way, status_field("VmLck:"));
		EXPECT(munmap(p, 64 * PAGE) == 0);
	}
	char *p = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	report("mprotect of locked", mlock(p, 64 * PAGE));
	EXPECT(mprotect(p, 32 * PAGE, PROT_READ | PROT_WRITE) == 0);
	printf("VmLck %ld, %u\n", status_field("VmLck:"), resident_pages(p, 32));
	EXPECT(munmap(p, 16 * PAGE) == 0);
	printf("VmLck %ld\n", status_field("VmLck:"));
	EXPECT(mmap(p + 16 * PAGE, 16 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) != MAP_FAILED);
	printf("VmLck %ld\n", status_field("VmLck:"));
	return 0;
}

/*
 * Of memory that is locked in part, advice takes what lies before the locked part, refuses the locked part and ends
 * there. Memory was once dropped before the refusal, and a part that was not locked kept its contents.
 */
static int advice_of_locked(void)
{
	static const int advice[] = { MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT,
		102 /* GUARD_INSTALL */, 24 /* DONTNEED_LOCKED */ };
	char *p = map(16 * PAGE);

	for (size_t k = 0; k < sizeof advice / sizeof *advice; k++) {
		char kept[17] = "";

		memset(p, 'x', 16 * PAGE);
		EXPECT(mlock(p + 4 * PAGE, 4 * PAGE) == 0);
		push_out();
		long r = madvise(p, 16 * PAGE, advice[k]);
		int why = r != 0 ? errno : 0;
		long inside = madvise(p + 5 * PAGE, 2 * PAGE, advice[k]);

		(void)madvise(p, 16 * PAGE, 103 /* GUARD_REMOVE */);
		for (unsigned i = 0; i < 16; i++)
			kept[i] = p[i * PAGE] == 'x' ? 'x' : '0';
		printf("%d: %ld %d, %ld, %s, locked %ld\n", advice[k], r, why, inside, kept,
		    status_field("VmLck:"));
		EXPECT(munlock(p, 16 * PAGE) == 0);
	}
	EXPECT(munmap(p, 16 * PAGE) == 0);
	return 0;
}

/* ---- everything is locked ---- */
static void *on_a_stack(void *arg)
{
	volatile char here[64 * 1024];

	memset((void *)(uintptr_t)here, 5, sizeof here);
	push_out();
	*(unsigned *)arg =
	    resident_pages((char *)((uintptr_t)here + PAGE - 1 - ((uintptr_t)here - 1) % PAGE), 15);
	return NULL;
}

static int none_locked(void *p)
{
	char *q = map(4 * PAGE);

	printf("VmLck %ld, Locked %ld\n", status_field("VmLck:"), smaps_field(q, "Locked:"));
	return wrong(p, 64 * PAGE, 1) == 0 ? 0 : 1;
}

static int locked_without_right(void *p)
{
	struct rlimit none = { 0, 0 }, little = { 4 * PAGE, 4 * PAGE };

	if (setrlimit(RLIMIT_MEMLOCK, &little) != 0 || seteuid(65534) != 0)
		return 2;
	EXPECT(mlock((char *)p + 8 * PAGE, 2 * PAGE) == 0);
	report("little allowed", mlockall(MCL_CURRENT));
	push_out();
	printf("locked before: VmLck %ld, there %u\n", status_field("VmLck:"),
	    resident_pages((char *)p + 8 * PAGE, 2));
	EXPECT(munlock((char *)p + 8 * PAGE, 2 * PAGE) == 0);
	report("future", mlockall(MCL_FUTURE));
	report("too much then",
	    mapped(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	report("of a file", mapped(mmap(NULL, MIB, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0)));
	EXPECT(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
	report("none allowed", mlockall(MCL_CURRENT));
	report("none in future", mlockall(MCL_FUTURE));
	report("unlock", munlockall());
	return 3;
}

static int all_locked(void)
{
	char *p = map(64 * PAGE), *q;
	unsigned on_stack = 0;
	pthread_attr_t attr;
	pthread_t t;

	fill(p, 64 * PAGE, 1);
	report_child("without right", locked_without_right, p);
	push_out();
	drop_ballast();
	report("current", mlockall(MCL_CURRENT));
	push_out();
	printf("%u, some %d\n", resident_pages(p, 64), status_field("VmLck:") > 256);
	q = map(64 * PAGE);
	printf("new: %u\n", resident_pages(q, 64));
	report("future", mlockall(MCL_FUTURE));
	q = map(64 * PAGE);
	push_out();
	printf("new: %u, Locked %ld\n", resident_pages(q, 64), smaps_field(q, "Locked:"));
	q = mremap(q, 64 * PAGE, 96 * PAGE, MREMAP_MAYMOVE);
	printf("longer: %u, Rss %ld, Locked %ld\n", resident_pages(q, 96), smaps_field(q, "Rss:"),
	    smaps_field(q, "Locked:"));
	EXPECT(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, 256 * 1024) == 0 &&
	    pthread_create(&t, &attr, on_a_stack, &on_stack) == 0 && pthread_join(t, NULL) == 0);
	printf("on a stack: %u\n", on_stack);
	char *top = sbrk(16 * PAGE);
	top += PAGE - 1 - ((uintptr_t)top - 1) % PAGE;
	push_out();
	printf("heap: %u\n", resident_pages(top, 15));
	report("drop", madvise(p, PAGE, MADV_DONTNEED));
	report_child("child", none_locked, p);
	report("unlock", munlockall());
	printf("VmLck %ld\n", status_field("VmLck:"));
	q = map(PAGE);
	printf("new: %u\n", resident_pages(q, 1));
	push_out();
	EXPECT(wrong(p, 64 * PAGE, 1) == 0);
	return 0;
}

/* Locks memory while the parent, which waits, holds the most. */
static int lock_beside_parent(void *arg)
{
	char *p = map(MIB), *top;

	(void)arg;
	drop_ballast();
	fill(p, MIB, 2);
	report("one MiB", mlock(p, MIB));
	report("future", mlockall(MCL_FUTURE));
	p = mmap(NULL, MIB / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("half a MiB: %u\n", p != MAP_FAILED ? resident_pages(p, MIB / 2 / PAGE) : 0);
	top = sbrk(16 * PAGE);
	printf("heap: %d\n", top != (void *)-1);
	return 0;
}

/* Memory of another process is no reason to refuse a lock, as it can be taken back. */
static int locked_beside_another(void)
{
	char *p = map(7 * MIB);

	fill(p, 7 * MIB, 1);
	report_child("child", lock_beside_parent, NULL);
	EXPECT(wrong(p, 7 * MIB, 1) == 0);
	return 0;
}

/*
 * Untouched pages are absent; locked and just written pages are present. Natively a kernel may be
 * set to fill memory by larger pages.
 */
static int told_of_pages(void)
{
	char *p = map(64 * PAGE);

	EXPECT(madvise(p, 64 * PAGE, MADV_NOHUGEPAGE) == 0);
	printf("%u\n", resident_pages(p, 64));
	for (unsigned i = 0; i < 64; i += 2)
		p[i * PAGE] = 1;
	printf("%u\n", resident_pages(p, 64));
	EXPECT(madvise(p, 32 * PAGE, MADV_DONTNEED) == 0);
	printf("%u\n", resident_pages(p, 64));
	EXPECT(madvise(p, 32 * PAGE, MADV_POPULATE_WRITE) == 0);
	printf("%u\n", resident_pages(p, 64));
	EXPECT(munmap(p, 64 * PAGE) == 0);
	p = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	printf("%u\n", resident_pages(p, 64));
	return 0;
}

/*
 * The lines of /proc/self/maps: equal neighbours are one line, also after they were made different
 * and equal again.
 */
static int told_of_mappings(void)
{
	char *p = mmap((void *)0x300000000000, 64 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	fill(p, 64 * PAGE, 1);
	printf("%d\n", mappings_in(p, 64 * PAGE));
	EXPECT(mprotect(p + 8 * PAGE, 8 * PAGE, PROT_READ) == 0);
	printf("%d\n", mappings_in(p, 64 * PAGE));
	EXPECT(mprotect(p + 24 * PAGE, 8 * PAGE, PROT_NONE) == 0);
	printf("%d\n", mappings_in(p, 64 * PAGE));
	EXPECT(mprotect(p, 64 * PAGE, PROT_READ | PROT_WRITE) == 0);
	printf("%d\n", mappings_in(p, 64 * PAGE));
	push_out();
	EXPECT(wrong(p, 64 * PAGE, 1) == 0);
	EXPECT(munmap(p + 16 * PAGE, PAGE) == 0);
	printf("%d\n", mappings_in(p, 64 * PAGE));
	EXPECT(mlock(p + 32 * PAGE, PAGE) == 0);
	printf("%d\n", mappings_in(p, 64 * PAGE));
	EXPECT(munlock(p + 32 * PAGE, PAGE) == 0);
	printf("%d\n", mappings_in(p, 64 * PAGE));
	EXPECT(mmap(p + 16 * PAGE, PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == p + 16 * PAGE);
	printf("size of the first %ld\n", smaps_field(p, "Size:"));
	return 0;
}

/* ---- where memory lies ---- */
static int nodes(void)
{
	char *p = map(64 * PAGE);
	unsigned long mask = 1, got = 0;
	int mode = -1, node = -1, status[4];
	void *pages[4] = { p, p + PAGE, p + 40 * PAGE, (void *)0x1000 };

	fill(p, 32 * PAGE, 1);
	push_out();
	report("mbind", syscall(SYS_mbind, p, 16 * PAGE, MPOL_BIND, &mask, 64, 0));
	report(
	    "mbind strict", syscall(SYS_mbind, p, 16 * PAGE, MPOL_BIND, &mask, 64, MPOL_MF_STRICT));
	report("mbind move",
	    syscall(SYS_mbind, p, 16 * PAGE, MPOL_BIND, &mask, 64, MPOL_MF_MOVE | MPOL_MF_STRICT));
	report("mbind odd", syscall(SYS_mbind, p + 1, PAGE, MPOL_BIND, &mask, 64, 0));
	report("mbind bad flags", syscall(SYS_mbind, p, PAGE, MPOL_BIND, &mask, 64, 0x1000));
	report("mbind bad mask", syscall(SYS_mbind, p, PAGE, MPOL_BIND, (void *)16, 64, 0));
	push_out();
	EXPECT(wrong(p, 32 * PAGE, 1) == 0);
	report("get_mempolicy", syscall(SYS_get_mempolicy, &mode, &got, 64, p, MPOL_F_ADDR));
	printf("%d %lu\n", mode, got);
	push_out();
	report("get_mempolicy node",
	    syscall(SYS_get_mempolicy, &node, NULL, 0, p + 8 * PAGE, MPOL_F_NODE | MPOL_F_ADDR));
	printf("%d\n", node);
	report("set_mempolicy", syscall(SYS_set_mempolicy, MPOL_PREFERRED, &mask, 64));
	fill(p, 32 * PAGE, 2);
	push_out();
	EXPECT(wrong(p, 32 * PAGE, 2) == 0);
	report("set_mempolicy", syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0));
	report("move_pages odd", syscall(SYS_move_pages, 0, 4, (void *)16, NULL, status, 0));
	(void)wrong(p, 2 * PAGE, 2);
	report("move_pages", syscall(SYS_move_pages, 0, 4, pages, NULL, status, 0));
	printf("%d %d %d\n", status[0], status[2], status[3]);
	report("migrate_pages", syscall(SYS_migrate_pages, 0, 64, &mask, &mask));
	EXPECT(wrong(p, 32 * PAGE, 2) == 0);
	report("mbind again", syscall(SYS_mbind, p, 64 * PAGE, MPOL_DEFAULT, NULL, 0, 0));
	EXPECT(wrong(p, 32 * PAGE, 2) == 0);
	return 0;
}

/* ---- limits ---- */
static int limited_data(void *p)
{
	struct rlimit l;
	long data = status_field("VmData:") * 1024;

	(void)p;
	EXPECT(getrlimit(RLIMIT_DATA, &l) == 0);
	(void)data;
	l.rlim_cur = 0;
	report("no data", setrlimit(RLIMIT_DATA, &l));
	report("mmap",
	    mapped(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	report(
	    "mmap to read", mapped(mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	report("sbrk", sbrk(MIB) == (void *)-1 ? -1 : 0);
	report("mprotect",
	    mprotect(mmap(NULL, MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MIB,
		PROT_READ | PROT_WRITE));
	return 5;
}

static int limited_space(void *p)
{
	struct rlimit l = { 0, RLIM_INFINITY };

	report("no space", setrlimit(RLIMIT_AS, &l));
	report("mmap",
	    mapped(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	report("mmap none", mapped(mmap(NULL, MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	report("sbrk", sbrk(MIB) == (void *)-1 ? -1 : 0);
	report("mremap", mapped(mremap(p, 16 * PAGE, MIB, MREMAP_MAYMOVE)));
	EXPECT(wrong(p, 16 * PAGE, 1) == 0);
	l.rlim_cur = RLIM_INFINITY;
	report("space", setrlimit(RLIMIT_AS, &l));
	report("mremap", mapped(mremap(p, 16 * PAGE, MIB, MREMAP_MAYMOVE)));
	return 6;
}

static int limited_stack(void *p)
{
	struct rlimit l = { 1 << 20, 1 << 20 };
	struct sigaction sa = { .sa_handler = SIG_DFL };

	(void)p;
	EXPECT(sigaction(SIGSEGV, &sa, NULL) == 0 && setrlimit(RLIMIT_STACK, &l) == 0);
	volatile char *deep = __builtin_alloca(64 * 1024);
	deep[0] = 1;
	printf("%d\n", deep[0]);
	volatile char *too_deep = (volatile char *)__builtin_frame_address(0) - 4 * MIB;
	*too_deep = 1;
	return 7;
}

static int limited(void)
{
	char *p = map(16 * PAGE);

	fill(p, 16 * PAGE, 1);
	push_out();
	report_child("data", limited_data, p);
	report_child("space", limited_space, p);
	report_child("stack", limited_stack, p);
	EXPECT(wrong(p, 16 * PAGE, 1) == 0);
	return 0;
}

static _Atomic bool asked_enough;

static void ask_limits(int n)
{
	struct rlimit l;

	(void)n;
	EXPECT(getrlimit(RLIMIT_AS, &l) == 0 && getrlimit(RLIMIT_DATA, &l) == 0);
}

static void *asks_limits(void *p)
{
	while (!asked_enough)
		ask_limits(0);
	return p;
}

/*
 * Children of a process query limits while another thread of the parent queries them at the fork;
 * so do handlers that interrupt such a call.
 */
static int limits_in_children_and_handlers(void)
{
	struct sigaction sa = { .sa_handler = ask_limits, .sa_flags = SA_RESTART };
	struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { 0 };
	pthread_t t;

	EXPECT(pthread_create(&t, NULL, asks_limits, NULL) == 0);
	for (unsigned i = 0; i < 64; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			ask_limits(0);
			_exit(0);
		}
		EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	}
	asked_enough = true;
	EXPECT(pthread_join(t, NULL) == 0);
	EXPECT(sigaction(SIGALRM, &sa, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
	for (unsigned i = 0; i < 5000; i++)
		ask_limits(0);
	EXPECT(setitimer(ITIMER_REAL, &never, NULL) == 0);
	printf("asked\n");
	return 0;
}

/* ---- moving bytes ---- */
static int partial_copies(void)
{
	char *p = map(8 * PAGE), *q = map(8 * PAGE);
	struct iovec l[2] = { { q, 4 * PAGE }, { q + 4 * PAGE, 4 * PAGE } },
		     r[2] = { { p, 4 * PAGE }, { p + 4 * PAGE, 4 * PAGE } };
	pid_t me = getpid();

	fill(p, 8 * PAGE, 1);
	EXPECT(munmap(p + 6 * PAGE, PAGE) == 0);
	push_out();
	report("into a hole", process_vm_readv(me, l, 2, r, 2, 0));
	EXPECT(wrong(q, 4 * PAGE, 1) == 0);
	r[0].iov_base = p + 6 * PAGE;
	report("from a hole", process_vm_readv(me, l, 2, r, 1, 0));
	EXPECT(
	    mprotect(p, 2 * PAGE, PROT_READ) == 0 && mprotect(p + 2 * PAGE, PAGE, PROT_NONE) == 0);
	r[0] = (struct iovec){ p, 4 * PAGE };
	push_out();
	report("up to closed", process_vm_readv(me, l, 1, r, 1, 0));
	report("write of read-only", process_vm_writev(me, l, 1, r, 1, 0));
	report("flags", process_vm_readv(me, l, 1, r, 1, 1));
	report("nobody", process_vm_readv(0x7ffffff, l, 1, r, 1, 0));
	report("no list", process_vm_readv(me, (void *)16, 1, r, 1, 0));
	EXPECT(mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE) == 0 && wrong(p, 4 * PAGE, 1) == 0);
	int pp[2];
	EXPECT(pipe(pp) == 0);
	fill(p, 4 * PAGE, 3);
	push_out();
	report("write up to a hole", write(pp[1], p + 4 * PAGE, 4 * PAGE));
	report("read", read(pp[0], q, 8 * PAGE));
	EXPECT(write(pp[1], q, 4 * PAGE) == 4 * PAGE);
	EXPECT(mprotect(p, 2 * PAGE, PROT_READ) == 0);
	push_out();
	report("read to read-only", read(pp[0], p, 4 * PAGE));
	report("read to a hole", read(pp[0], p + 4 * PAGE, 4 * PAGE));
	report("getcwd to closed",
	    mprotect(p, 4 * PAGE, PROT_NONE) == 0 ? syscall(SYS_getcwd, p, 4 * PAGE) : 0);
	return 0;
}

static int sent_files(void)
{
	char name[] = "/tmp/quire-sent-XXXXXX", *p = map(MIB), *q = map(MIB);
	int fd = mkstemp(name), sv[2], pp[2];
	off_t *off = (off_t *)(void *)map(PAGE);
	loff_t *loff = (loff_t *)(void *)map(PAGE);

	EXPECT(fd >= 0 && unlink(name) == 0 && pipe(pp) == 0 &&
	    socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	fill(p, MIB, 1);
	push_out();
	EXPECT(write(fd, p, MIB) == MIB);
	*off = PAGE;
	*loff = 2 * PAGE;
	push_out();
	report("sendfile", sendfile(sv[0], fd, off, 16 * PAGE));
	printf("%ld\n", (long)*off);
	EXPECT(recv(sv[1], q, 16 * PAGE, MSG_WAITALL) == 16 * PAGE &&
	    memcmp(q, p + PAGE, 16 * PAGE) == 0);
	push_out();
	report("splice", splice(fd, loff, pp[1], NULL, 8 * PAGE, 0));
	printf("%ld\n", (long)*loff);
	EXPECT(read(pp[0], q, 8 * PAGE) == 8 * PAGE && memcmp(q, p + 2 * PAGE, 8 * PAGE) == 0);
	push_out();
	report("copy_file_range", copy_file_range(fd, off, fd, loff, PAGE, 0));
	struct iovec v = { q, 4 * PAGE };
	EXPECT(write(pp[1], p, 4 * PAGE) == 4 * PAGE);
	push_out();
	report("vmsplice out", vmsplice(pp[0], &v, 1, 0));
	EXPECT(memcmp(q, p, 4 * PAGE) == 0);
	return 0;
}

/* ---- shared segments and seals ---- */
static int segments(void)
{
	int id = shmget(IPC_PRIVATE, 4 * PAGE, 0600 | IPC_CREAT), status;
	char *p = shmat(id, NULL, 0), *q = map(8 * PAGE);
	struct shmid_ds *ds = map(PAGE);

	fill(q, 8 * PAGE, 1);
	push_out();
	report("stat", shmctl(id, IPC_STAT, ds));
	printf("%ld\n", (long)ds->shm_nattch);
	pid_t pid = fork();
	if (pid == 0) {
		fill(p, 4 * PAGE, 2);
		_exit(shmdt(p) == 0 ? 3 : 4);
	}
	EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3 &&
	    wrong(p, 4 * PAGE, 2) == 0);
	report("at an odd place", mapped(shmat(id, q + 5, 0)));
	report("rounded, taken", mapped(shmat(id, q + 5, SHM_RND)));
	report("remap nowhere", mapped(shmat(id, NULL, SHM_REMAP)));
	report("read-only", mapped(shmat(id, NULL, SHM_RDONLY)));
	report("remapped", mapped(shmat(id, q + 5, SHM_RND | SHM_REMAP)));
	EXPECT(wrong(q, 4 * PAGE, 2) == 0 && wrong(q + 4 * PAGE, 4 * PAGE, 1) > 0);
	report("detach the wrong one", shmdt(q + PAGE));
	report("detach", shmdt(q));
	report("remove", shmctl(id, IPC_RMID, NULL));
	EXPECT(wrong(p, 4 * PAGE, 2) == 0);
	report("too large", shmget(IPC_PRIVATE, (size_t)-1, 0600 | IPC_CREAT));
	return 0;
}

/*
 * A range that the program has unmapped stays empty: the runtime once mapped its rings there, in a
 * child at its first fault. The first mapped pages fill the highest holes, which the kernel uses
 * first.
 */
static int unmap_and_page(void *arg)
{
	enum { PAGES = 200 };
	char *p[PAGES];
	unsigned char v;
	int taken = 0;

	(void)arg;
	for (int i = 0; i < PAGES; i++)
		p[i] = mmap(NULL, PAGE, i % 2 != 0 ? PROT_READ : PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < PAGES; i += 2)
		EXPECT(munmap(p[i], PAGE) == 0);
	push_out();
	for (int i = 0; i < PAGES; i += 2)
		taken += mincore(p[i], PAGE, &v) == 0 || errno != ENOMEM;
	return taken;
}

static int empty_places(void)
{
	report_child("taken", unmap_and_page, NULL);
	report_child("taken", unmap_and_page, NULL);
	return 0;
}

/*
 * The service thread once made the process share a list of semaphore undos, which its child must
 * not have.
 */
static int compare_with_parent(void *arg)
{
	(void)arg;
	return (int)syscall(SYS_kcmp, getpid(), getppid(), KCMP_SYSVSEM, 0, 0);
}

static int undo_lists(void)
{
	report_child("compared", compare_with_parent, NULL);
	return 0;
}

const struct scenario ask_scenarios[] = {
	{ "empty-places", empty_places },
	{ "undo-lists", undo_lists },
	{ "mapping-errors", mapping_errors },
	{ "advice-errors", advice_errors },
	{ "mremap-errors", remap_errors },
	{ "told-of-locks", told_of_locks },
	{ "advice-of-locked", advice_of_locked },
	{ "all-locked", all_locked },
	{ "locked-beside-another", locked_beside_another },
	{ "told-of-pages", told_of_pages },
	{ "told-of-mappings", told_of_mappings },
	{ "nodes", nodes },
	{ "limited", limited },
	{ "limits-in-children-and-handlers", limits_in_children_and_handlers },
	{ "partial-copies", partial_copies },
	{ "sent-files", sent_files },
	{ "segments", segments },
	{ NULL, NULL },
};
