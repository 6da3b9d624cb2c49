/* SPDX-License-Identifier: BSD-2-Clause */
/* libquire under test: a system of 1 MiB and a pool, on real memory of this process. No fork, mremap or truncation. */
#include "tests/vm/diff.h"

#include <quire/quire.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct quire *q;
static uint8_t *window;
static int fds[NFILES];

static uint8_t *va(unsigned page) { return window + (uint64_t)page * PAGE; }

static uint64_t bytes(unsigned n) { return (uint64_t)n * PAGE; }

static int answer(int rc) { return rc == 0 ? 0 : errno; }

static bool q_open(uint64_t seed, uint8_t *const *data, const uint64_t *size)
{
	struct quire_config c = {
		.size = sizeof(c), .memory = 1u << 20, .pool = 8u << 20, .window = 1u << 30
	};

	(void)seed;
	if (quire_open(&c, &q) != 0) {
		printf("skipped: quire_open: %s\n", strerror(errno));
		return false;
	}
	window = quire_map(q, NULL, bytes(3 * WINDOW), PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (window == MAP_FAILED)
		return false;
	window += bytes(WINDOW);
	(void)quire_unmap(q, window, bytes(WINDOW));
	for (unsigned i = 0; i < NFILES; i++) {
		fds[i] = memfd_create("diff", MFD_CLOEXEC);
		if (fds[i] < 0 || pwrite(fds[i], data[i], size[i], 0) != (ssize_t)size[i])
			return false;
	}
	return true;
}

static void q_close(void)
{
	(void)quire_close(q);
	for (unsigned i = 0; i < NFILES; i++)
		(void)close(fds[i]);
}

static void report(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "check: %s\n", text);
}

static unsigned q_check(void) { return quire_check(q, report, NULL); }

static int q_map(unsigned page, unsigned n, int prot, int flags, int file, unsigned off)
{
	if ((flags & MAP_FIXED_NOREPLACE) == 0)
		flags |= MAP_FIXED;
	return quire_map(q, va(page), bytes(n), prot, flags, file < 0 ? -1 : fds[file],
		   (off_t)bytes(off)) == MAP_FAILED
	    ? errno
	    : 0;
}

static int q_unmap(unsigned page, unsigned n) { return answer(quire_unmap(q, va(page), bytes(n))); }
static int q_protect(unsigned page, unsigned n, int prot)
{
	return answer(quire_protect(q, va(page), bytes(n), prot));
}
static int q_advise(unsigned page, unsigned n, int advice)
{
	return answer(quire_advise(q, va(page), bytes(n), advice));
}
static int q_sync(unsigned page, unsigned n, int flags)
{
	return answer(quire_sync(q, va(page), bytes(n), flags));
}
static int q_incore(unsigned page, unsigned n, unsigned char *vec)
{
	return answer(quire_incore(q, va(page), bytes(n), vec));
}
static int q_lock(unsigned page, unsigned n) { return answer(quire_lock(q, va(page), bytes(n))); }
static int q_unlock(unsigned page, unsigned n)
{
	return answer(quire_unlock(q, va(page), bytes(n)));
}
static enum sig q_access(uint64_t at, bool write, uint8_t *buf, uint64_t len, uint64_t *done)
{
	return access_real(window, at, write, buf, len, done);
}

/* After a sync, read(2) sees bytes written through mappings, also through removed ones. */
static int q_fread(int file, uint64_t off, uint8_t *buf, uint64_t len)
{
	void *p = quire_map(q, NULL, bytes(FILE_MAX), PROT_READ, MAP_SHARED, fds[file], 0);

	if (p == MAP_FAILED || quire_sync(q, p, bytes(FILE_MAX), MS_SYNC) != 0 ||
	    quire_unmap(q, p, bytes(FILE_MAX)) != 0)
		return errno;
	return pread(fds[file], buf, len, (off_t)off) == (ssize_t)len ? 0 : EIO;
}

static int q_fwrite(int file, uint64_t off, const uint8_t *buf, uint64_t len)
{
	return pwrite(fds[file], buf, len, (off_t)off) == (ssize_t)len ? 0 : EIO;
}

const struct exec exec_tested = {
	.x_name = "libquire",
	.x_open = q_open,
	.x_close = q_close,
	.x_check = q_check,
	.x_map = q_map,
	.x_unmap = q_unmap,
	.x_protect = q_protect,
	.x_advise = q_advise,
	.x_sync = q_sync,
	.x_incore = q_incore,
	.x_lock = q_lock,
	.x_unlock = q_unlock,
	.x_access = q_access,
	.x_fread = q_fread,
	.x_fwrite = q_fwrite,
};
