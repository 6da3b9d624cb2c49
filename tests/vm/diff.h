/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Differential runs: diff_script.c draws operations and performs each on Linux' own mmap
 * (diff_native.c) and on a system under test (diff_sim.c: the simulated machine; diff_quire.c:
 * libquire over the real MMU), and compares their results.
 *
 * Pages are numbered within a window of WINDOW pages, which every executor puts where it likes. Results are errno values.
 */
#ifndef QUIRE_TESTS_DIFF_H
#define QUIRE_TESTS_DIFF_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#define PAGE 4096u
#define WINDOW 256u
#define NFILES 3u
#define FILE_MAX 48u /* pages */

/* The result of an access. */
enum sig { SIG_NOTHING, SIG_MAPERR, SIG_ACCERR, SIG_BUS };

struct exec {
	const char *x_name;
	/* Every file has size bytes of data[file] at first. False: cannot run here. */
	bool (*x_open)(uint64_t seed, uint8_t *const *data, const uint64_t *size);
	void (*x_close)(void);
	/* Returns the number of violations of the executor's invariants. */
	unsigned (*x_check)(void);
	/* flags: as mmap's; fixed is implied. file < 0: anonymous. off in pages. */
	int (*x_map)(unsigned page, unsigned n, int prot, int flags, int file, unsigned off);
	int (*x_unmap)(unsigned page, unsigned n);
	int (*x_protect)(unsigned page, unsigned n, int prot);
	int (*x_advise)(unsigned page, unsigned n, int advice);
	int (*x_sync)(unsigned page, unsigned n, int flags);
	int (*x_incore)(unsigned page, unsigned n, unsigned char *vec);
	int (*x_lock)(unsigned page, unsigned n);
	int (*x_unlock)(unsigned page, unsigned n);
	/* Stops at the first byte that cannot be accessed; *done = bytes before it. */
	enum sig (*x_access)(uint64_t at, bool write, uint8_t *buf, uint64_t len, uint64_t *done);
	/* The file's bytes as read(2) and write(2) see them, within its size. */
	int (*x_fread)(int file, uint64_t off, uint8_t *buf, uint64_t len);
	int (*x_fwrite)(int file, uint64_t off, const uint8_t *buf, uint64_t len);
	/* NULL where the system has no such call: */
	int (*x_truncate)(int file, uint64_t size);
	int (*x_remap)(
	    unsigned page, unsigned oldn, unsigned newn, unsigned to); /* MAYMOVE | FIXED */
	/* Runs child(exec, arg) as a forked program; returns its result. */
	uint64_t (*x_fork)(uint64_t (*child)(const struct exec *, void *), void *arg);
};
extern const struct exec exec_native, exec_tested;

/* Accesses of this very process at base + at, with signals caught. For executors over real memory. */
void access_init(void);
enum sig access_real(
    uint8_t *base, uint64_t at, bool write, uint8_t *buf, uint64_t len, uint64_t *done);
#endif
