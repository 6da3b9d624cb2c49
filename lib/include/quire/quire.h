/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libquire: memory that may be larger than the RAM that it takes. An mmap-like interface to a
 * virtual memory system of its own inside the process: a fixed budget of page frames, page
 * replacement, and a store for what does not fit.
 *
 *	struct quire_config c = { .size = sizeof c, .memory = 64 << 20, .pool = 128 << 20 };
 *	struct quire *q;
 *	if (quire_open(&c, &q) != 0) ...
 *	char *p = quire_map(q, NULL, 256 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
 *
 * Then p is ordinary memory: any thread reads and writes it. Needs Linux 5.7 or later on x86-64, and from 5.11 on no privilege.
 * Before 6.8 the kernel cannot move pages: they are copied, which is slower.
 *
 * How faults are served: by the thread that faults, in a SIGBUS handler installed by the first quire_open.
 * A thread that touches mapped memory must not block SIGBUS. A handler that the program had
 * installed before is called for every SIGBUS that is not libquire's; one installed later replaces
 * libquire's, so install the program's first.
 *
 * A bad access gets the signals that it gets with mmap: SIGSEGV with SEGV_MAPERR (nothing mapped)
 * or SEGV_ACCERR (protection); SIGBUS if the store or file failed or the access is past the end of
 * the file.
 *
 * System calls do not fault pages in: a call whose buffer is mapped memory that is not resident
 * fails with EFAULT or transfers less. Pin the buffer around the call with quire_pin and
 * quire_unpin. Keep a buffer that the kernel reads after the call (MSG_ZEROCOPY, vmsplice,
 * io_uring) pinned until the kernel has finished with it: when a page leaves memory its frame is used for
 * another page.
 *
 * Refused: executable mappings (EACCES). Not supported: stacks of threads in mapped memory (a fault
 * there could not be served). The child of a fork has none of this memory and must not call
 * libquire: it may exec, or use memory of its own.
 *
 * All calls may be made by any thread at any time except quire_close; none may be made by a signal handler.
 * They return 0, or -1 with errno. addr and offsets must be page aligned (EINVAL); lengths are
 * rounded up; 0 is EINVAL.
 */
#ifndef QUIRE_QUIRE_H
#define QUIRE_QUIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct quire; /* one system: its budget, its store, its mappings. Several may be open at once */

/* A store of the program's own, for pages that do not fit. */
struct quire_store {
	/*
	 * Writes or reads the 4096 bytes of page `slot` (0 <= slot < slots). 0, or an errno value:
	 * ENOSPC for a write that finds no room; any other value counts as an I/O error. Called
	 * from the fault handler, by several threads at once for different slots: async-signal-safe
	 * functions only, no malloc, no memory mapped by quire_map.
	 */
	int (*write)(void *arg, uint64_t slot, const void *page);
	int (*read)(void *arg, uint64_t slot, void *page);
	/* The contents of the slot are not needed any more. May be NULL. */
	void (*discard)(void *arg, uint64_t slot);
	void *arg;
	uint64_t slots;
};

/*
 * A place for pages that fit neither into memory nor into the pool. where: a directory or a new file of this machine, NULL: $TMPDIR or
 * /var/tmp; or the URL of a server: redis://[user[:password]@]host:port[/db], rediss://, redis+cluster://host:port,...,
 * nbd://host:port/export, nbds://, nbd+unix:///export?socket=PATH. bytes: its size; of a server 0: as much as it has (Redis
 * without maxmemory: it must be given).
 */
struct quire_place {
	const char *where;
	uint64_t bytes;
};
#define QUIRE_PLACES 4u
#define QUIRE_ENCRYPT_FAR 0u /* encrypt the pages that leave this machine */
#define QUIRE_ENCRYPT_ALL 1u /* encrypt the file of this machine, too */
#define QUIRE_ENCRYPT_NONE 2u

struct quire_config {
	size_t size; /* sizeof(struct quire_config) */
	uint64_t
	    memory; /* bytes of page frames: all that mapped memory and the system's own tables occupy; at least 1 MiB */
	uint64_t pool; /* bytes for compressed pages, besides memory; 0: none */
	uint64_t
	    swap; /* bytes of a swap file behind the pool (the pool must not be 0 then); 0: none */
	const char *
	    swap_path; /* a directory, or a new file; NULL: $TMPDIR or /var/tmp. The file has no name once it is open */
	const struct quire_store *store; /* used instead of pool and swap; copied. NULL: none */
	/*
	 * Bytes of private and anonymous memory that may be promised at one time; a map beyond them
	 * fails with ENOMEM. 0: as much as certainly fits even if nothing compresses. A larger
	 * value is a bet on compression: if the bet is lost, an access gets SIGBUS. With a store,
	 * store->slots sets the limit.
	 */
	uint64_t promise;
	uint64_t
	    window; /* bytes of addresses for all mappings; 0: 1 TiB, or less if the process may not have so many */
	/* The replacement policy and the prefetcher, by name (quire-lab list); NULL: the defaults.
	 * EINVAL: no such. */
	const char *policy, *prefetch;
	/*
	 * Instead of swap and swap_path: several places, at most QUIRE_PLACES, of them one of this machine. They are tiers: pages go
	 * to the file first, and to the servers in that order when it is full. quire_open copies
	 * all strings, or uses them only during the call. A place that is a server, or is
	 * encrypted, is served by a process, quire-far (not a child of the program), which
	 * quire_close ends.
	 */
	const struct quire_place *places;
	uint32_t nplaces;
	uint32_t encrypt; /* QUIRE_ENCRYPT_* */
	uint32_t
	    far_timeout_ms;    /* how long to wait for a lost server; after that its pages are lost
	                     * (SIGBUS); 0: 30 s */
	uint32_t far_replicas; /* Redis: a write counts when so many replicas have it */
	const char *
	    far_ca; /* TLS: the certificates to trust; NULL: the system's. NBD: a folder with ca-cert.pem */
	const char *far_psk; /* NBD with TLS: file of pre-shared keys; NULL: far_ca must be given */
	/* The password for URLs that have none. NULL: the first line of the file; if that is NULL,
	 * too: QUIRE_SWAP_PASSWORD's value. */
	const char *swap_password, *swap_password_file;
	uint64_t
	    swap_keep_free; /* bytes of its file system that the file of this machine leaves to others */
	uint64_t swap_rate;  /* bytes a second read and written, all places together; 0: no limit */
	uint32_t swap_force; /* not 0: the file may lie on a tmpfs */
	const char *
	    far_program; /* quire-far; NULL: beside the program, in ../libexec/quire, or where it was installed */
	char *why; /* if quire_open fails because of a place, it writes one line here. NULL: none */
	size_t why_size;
};

/* ENOTCONN: a place that is a server cannot be used. EINVAL: a bad configuration; ENOSYS, EPERM:
 * this kernel lacks what is needed; ENOMEM; or the error of opening the swap file. */
int quire_open(const struct quire_config *, struct quire **);
/* Unmaps everything and frees the system. Shared file pages are written first; a write that fails
 * is not reported: call quire_sync before, which reports it. No other thread may use the system or
 * its memory. Answers 0. */
int quire_close(struct quire *);

/*
 * As mmap: MAP_FAILED and errno on failure. flags: MAP_PRIVATE or MAP_SHARED, with MAP_ANONYMOUS, MAP_FIXED,
 * MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_POPULATE as wished; others give EOPNOTSUPP. Without
 * MAP_FIXED an address that is free in the system's window is used, addr (may be NULL) if possible;
 * with it, ranges outside of the window fail with ENOMEM, and if the call fails, previous mappings
 * there stay. fd: a regular file, which may be closed afterwards. Mappings of one file in one
 * system see each other's writes at once; read(2), write(2) and other systems see them after
 * quire_sync. EACCES (the descriptor's mode, PROT_EXEC), EBADF, EBUSY (MAP_FIXED over a pinned
 * page), EEXIST (MAP_FIXED_NOREPLACE), EINVAL, ENODEV (not a regular file), ENOMEM (also if no
 * descriptor can be had for the file), EOPNOTSUPP. Pages that MAP_POPULATE cannot bring in are left
 * to faults.
 */
void *quire_map(struct quire *, void *addr, size_t len, int prot, int flags, int fd, off_t off);
/*
 * EBUSY: part of it is pinned; ENOMEM: no memory to cut a mapping: nothing was unmapped. Addresses where nothing is mapped are fine.
 * EINVAL: also a range outside of the system's window.
 */
int quire_unmap(struct quire *, void *addr, size_t len);
/*
 * EACCES: PROT_EXEC, or PROT_WRITE of a shared file that is open for reading only; EINVAL: unknown bits in prot; ENOMEM: a gap, or a promise
 * cannot be made. The part of the range before the failure is changed.
 */
int quire_protect(struct quire *, void *addr, size_t len, int prot);
/*
 * advice: MADV_NORMAL, RANDOM, SEQUENTIAL, WILLNEED, DONTNEED, FREE, COLD, PAGEOUT, POPULATE_READ, POPULATE_WRITE.
 * EINVAL: another advice, or populating met a page that forbids it; ENOMEM: a gap (the rest of the
 * range is advised, but populating stops there), or no memory; EBUSY: MADV_DONTNEED or MADV_FREE of
 * locked or pinned pages; EFAULT: populating went past the end of a file; EIO.
 */
int quire_advise(struct quire *, void *addr, size_t len, int advice);
/*
 * Writes shared file pages. flags: MS_SYNC or neither of the two (also waits until they are durable), or MS_ASYNC; MS_INVALIDATE. EBUSY:
 * MS_INVALIDATE of locked or pinned pages; EINVAL: other flags, or both; EIO; ENOMEM: a gap. All of the range is tried.
 */
int quire_sync(struct quire *, void *addr, size_t len, int flags);
/*
 * Makes pages resident and keeps them so, until unlock or unmap; calls do not nest. ENOMEM: a gap, a page without access or past the end of a
 * file, or too much would be locked; EIO. On failure only pages that were locked before stay
 * locked. quire_unlock: ENOMEM: a gap; the mapped parts are unlocked.
 */
int quire_lock(struct quire *, void *addr, size_t len);
int quire_unlock(struct quire *, void *addr, size_t len);
/*
 * Makes pages resident and keeps them so, and at their frames, until a quire_unpin of the same range: for system calls. Pins
 * count. for_write: the call will store there. addr need not be aligned. EFAULT: the memory does
 * not allow that access; EIO; ENOMEM: too much would be pinned, or no room for a page. On failure
 * no page is pinned. quire_unpin of a range that was pinned returns 0.
 */
int quire_pin(struct quire *, const void *addr, size_t len, int for_write);
int quire_unpin(struct quire *, const void *addr, size_t len, int for_write);
/* A byte a page: QUIRE_IN_* bits. ENOMEM: a gap; vec may be filled in part. */
#define QUIRE_IN_MEMORY 0x01
#define QUIRE_IN_LOCKED 0x08
#define QUIRE_IN_STORE 0x40 /* the store has a copy */
int quire_incore(struct quire *, void *addr, size_t len, unsigned char *vec);

struct quire_stats {
	/* counts since quire_open */
	uint64_t faults, faults_failed, zero_filled, copied, rescued, pages_in, pages_out,
	    clean_dropped, io_errors;
	/* now, in bytes */
	uint64_t memory, memory_free, mapped, resident, locked, promised, promise_max;
	uint64_t pool_used, pool_pages,
	    swap_used; /* memory of the pool; bytes of pages kept in it; bytes of the file */
	uint64_t swap_read, swap_written; /* bytes of the file, since quire_open */
	/* now, in bytes: resident (RSS); resident, but a page that several mappings have counts
	 * once, not once for each (PSS) */
	uint64_t proportional;
	uint64_t far_used;    /* bytes of places served by quire-far, now */
	uint64_t far_moved;   /* bytes written to and read from them, since quire_open */
	uint64_t far_sunk;    /* bytes that went from the file to them for lack of room there */
	uint64_t far_away_ms; /* for how long a server has been waited for, now; 0: none is waited
	                       * for */
};
/* size = sizeof(struct quire_stats): fields that caller or library does not know are left alone.
 * EINVAL: size is 0. */
int quire_stat(struct quire *, struct quire_stats *, size_t size);
/* For tests and careful programs: verifies the whole system while no other thread uses it. Returns
 * the number of broken invariants. */
unsigned quire_check(struct quire *, void (*report)(void *arg, const char *text), void *arg);

#ifdef __cplusplus
}
#endif
#endif
