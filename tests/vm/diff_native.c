/* SPDX-License-Identifier: BSD-2-Clause */
/* The oracle: Linux' own mmap, on files without a name. Also accesses of this process with their signals caught. */
#include "tests/vm/diff.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- accesses ---- */
static sigjmp_buf escape;
static volatile sig_atomic_t armed;
static volatile enum sig caught;
static volatile uint64_t progress;

static void on_signal(int sig, siginfo_t *si, void *ctx)
{
	(void)ctx;
	if (!armed) {
		/* a real crash: the access is repeated and ends the program */
		(void)signal(sig, SIG_DFL);
		return;
	}
	caught = sig == SIGBUS ? SIG_BUS : si->si_code == SEGV_ACCERR ? SIG_ACCERR : SIG_MAPERR;
	siglongjmp(escape, 1);
}

void access_init(void)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	(void)sigaction(SIGSEGV, &sa, NULL);
	(void)sigaction(SIGBUS, &sa, NULL);
}

enum sig access_real(
    uint8_t *base, uint64_t at, bool write, uint8_t *buf, uint64_t len, uint64_t *done)
{
	volatile uint8_t *p = base + at;

	caught = SIG_NOTHING;
	progress = 0;
	if (sigsetjmp(escape, 1) == 0) {
		armed = 1;
		for (uint64_t i = 0; i < len; i++) {
			if (write)
				p[i] = buf[i];
			else
				buf[i] = p[i];
			progress = i + 1;
		}
	}
	armed = 0;
	*done = progress;
	return caught;
}

/* ---- the system ---- */
static uint8_t *window;
static int fds[NFILES];

static uint8_t *va(unsigned page) { return window + (uint64_t)page * PAGE; }

static uint64_t bytes(unsigned n) { return (uint64_t)n * PAGE; }

static int answer(int rc) { return rc == 0 ? 0 : errno; }

/* Far from where the process' own mappings go: its unmapped pages must stay unmapped. */
static uint8_t *find_window(void)
{
#ifdef __SANITIZE_THREAD__ /* the address must not collide with AddressSanitizer's memory */
	static const uint64_t places[] = { 0x2000000000, 0x2000000000 };
#else
	static const uint64_t places[] = { 0x300000000000, 0x2000000000 };
#endif

	for (unsigned i = 0; i < 2; i++) {
		void *want = (void *)(uintptr_t)places[i],
		     *p = mmap(want, bytes(WINDOW), PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (p != MAP_FAILED)
			(void)munmap(p, bytes(WINDOW));
		if (p == want)
			return p;
	}
	return NULL;
}

static bool native_open(uint64_t seed, uint8_t *const *data, const uint64_t *size)
{
	(void)seed;
	access_init();
	if ((window = find_window()) == NULL)
		return false;
	for (unsigned i = 0; i < NFILES; i++) {
		fds[i] = memfd_create("diff", MFD_CLOEXEC);
		if (fds[i] < 0 || pwrite(fds[i], data[i], size[i], 0) != (ssize_t)size[i])
			return false;
	}
	return true;
}

static void native_close(void)
{
	(void)munmap(window, bytes(WINDOW));
	for (unsigned i = 0; i < NFILES; i++)
		(void)close(fds[i]);
}

static unsigned native_check(void) { return 0; }

static int native_map(unsigned page, unsigned n, int prot, int flags, int file, unsigned off)
{
	if ((flags & MAP_FIXED_NOREPLACE) == 0)
		flags |= MAP_FIXED;
	return mmap(va(page), bytes(n), prot, flags, file < 0 ? -1 : fds[file],
		   (off_t)bytes(off)) == MAP_FAILED
	    ? errno
	    : 0;
}

static int native_unmap(unsigned page, unsigned n) { return answer(munmap(va(page), bytes(n))); }
static int native_protect(unsigned page, unsigned n, int prot)
{
	return answer(mprotect(va(page), bytes(n), prot));
}
static int native_advise(unsigned page, unsigned n, int advice)
{
	return answer(madvise(va(page), bytes(n), advice));
}
static int native_sync(unsigned page, unsigned n, int flags)
{
	return answer(msync(va(page), bytes(n), flags));
}
static int native_incore(unsigned page, unsigned n, unsigned char *vec)
{
	return answer(mincore(va(page), bytes(n), vec));
}
/* The sanitizers' mlock does nothing, so the kernel is asked directly. */
static int native_lock(unsigned page, unsigned n)
{
	return answer((int)syscall(SYS_mlock, va(page), bytes(n)));
}
static int native_unlock(unsigned page, unsigned n)
{
	return answer((int)syscall(SYS_munlock, va(page), bytes(n)));
}
static enum sig native_access(uint64_t at, bool write, uint8_t *buf, uint64_t len, uint64_t *done)
{
	return access_real(window, at, write, buf, len, done);
}
static int native_fread(int file, uint64_t off, uint8_t *buf, uint64_t len)
{
	return pread(fds[file], buf, len, (off_t)off) == (ssize_t)len ? 0 : EIO;
}
static int native_fwrite(int file, uint64_t off, const uint8_t *buf, uint64_t len)
{
	return pwrite(fds[file], buf, len, (off_t)off) == (ssize_t)len ? 0 : EIO;
}
static int native_truncate(int file, uint64_t size)
{
	return answer(ftruncate(fds[file], (off_t)size));
}

static int native_remap(unsigned page, unsigned oldn, unsigned newn, unsigned to)
{
	void *p = mremap(va(page), bytes(oldn), bytes(newn), MREMAP_MAYMOVE | MREMAP_FIXED, va(to));

	return p == MAP_FAILED ? errno : 0;
}

static uint64_t native_fork(uint64_t (*child)(const struct exec *, void *), void *arg)
{
	uint64_t got = 0;
	int fd[2], status;
	pid_t pid;

	if (pipe(fd) != 0)
		return 0;
	if ((pid = fork()) == 0) {
		got = child(&exec_native, arg);
		_exit(write(fd[1], &got, sizeof(got)) == sizeof(got) ? 0 : 1);
	}
	(void)close(fd[1]);
	if (pid < 0 || read(fd[0], &got, sizeof(got)) != sizeof(got) ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		fprintf(stderr, "diff: the native child failed\n");
	(void)close(fd[0]);
	return got;
}

const struct exec exec_native = {
	.x_name = "native",
	.x_open = native_open,
	.x_close = native_close,
	.x_check = native_check,
	.x_map = native_map,
	.x_unmap = native_unmap,
	.x_protect = native_protect,
	.x_advise = native_advise,
	.x_sync = native_sync,
	.x_incore = native_incore,
	.x_lock = native_lock,
	.x_unlock = native_unlock,
	.x_access = native_access,
	.x_fread = native_fread,
	.x_fwrite = native_fwrite,
	.x_truncate = native_truncate,
	.x_remap = native_remap,
	.x_fork = native_fork,
};
