/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The disk's part of a fault: the time to read a page of a swap file without any VM system.
 *
 *     disk [-m MiB] [-n READS] [-r REPEATS] [-d DIRECTORY]
 *
 * An unnamed file of MiB (256) in DIRECTORY (/var/tmp), written beforehand, past the page cache (O_DIRECT), one thread, one
 * read at a time of 4 KiB in no order. Figures, each a key with .min, .median and .max, in microseconds a read:
 *
 *   disk.read_us    reads alone
 *   disk.awake_us   the same, begun by io_submit, the result awaited by polling instead of sleeping
 *   disk.mixed_us   as many bytes are written meanwhile, in pieces of 64 KiB, as a pager must that evicts modified pages:
 *                   at most four pieces in flight (io_submit); time for both
 *   disk.sync_us    the same, each piece waited for
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "workload.h"

#define PIECE 65536u
#define PAGES (PIECE / WL_PAGE)
#define FLIGHT 4u
#define MAX_REPEATS 101
#define MIB (1ull << 20)

static void fatal(const char *what)
{
	dprintf(2, "disk: %s: %s\n", what, strerror(errno));
	_exit(2);
}

static struct disk {
	int fd;
	uint64_t bytes;
	char *piece; /* a buffer of FLIGHT pieces, then one of a page */
	aio_context_t aio, readaio;
	uint32_t inflight, next;
	struct workload w; /* state of the random numbers */
} d;

static void set_up(const char *folder, uint64_t bytes)
{
	d.bytes = bytes;
	d.fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);
	d.piece = mmap(NULL, FLIGHT * PIECE + WL_PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (d.fd < 0 || d.piece == MAP_FAILED || syscall(SYS_io_setup, FLIGHT, &d.aio) != 0 ||
	    syscall(SYS_io_setup, 1, &d.readaio) != 0 ||
	    !wl_init(&d.w, 1, (size_t)(bytes / WL_PAGE)))
		fatal(folder);
	for (size_t i = 0; i < FLIGHT * PIECE / 8; i++)
		((uint64_t *)(void *)d.piece)[i] = wl_mix(i);
	for (uint64_t at = 0; at < bytes; at += PIECE)
		if (pwrite(d.fd, d.piece, PIECE, (off_t)at) != (ssize_t)PIECE)
			fatal("writing");
	if (fsync(d.fd) != 0)
		fatal("fsync");
}

static void collect(long least)
{
	struct io_event ev[FLIGHT];
	struct timespec now = { 0, 0 };
	long n = syscall(SYS_io_getevents, d.aio, least, FLIGHT, ev, least > 0 ? NULL : &now);

	for (long i = 0; i < n; i++)
		if (ev[i].res != PIECE)
			fatal("writing");
	d.inflight -= n > 0 ? (uint32_t)n : 0;
}

static void send(void)
{
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = (uint32_t)d.fd,
		.aio_buf = (uint64_t)(d.piece + d.next++ % FLIGHT * PIECE),
		.aio_nbytes = PIECE,
		.aio_offset = (int64_t)(wl_next(&d.w) / PAGES * PIECE) },
		    *one = &cb;

	collect(d.inflight == FLIGHT);
	if (syscall(SYS_io_submit, d.aio, 1, &one) != 1)
		fatal("io_submit");
	d.inflight++;
}

/* The structure that a context's number points to: id, entries, head, tail. */
static void look(void)
{
	const uint32_t *ring = (const uint32_t *)(uintptr_t)d.readaio;

	while (__atomic_load_n(&ring[3], __ATOMIC_ACQUIRE) ==
	    __atomic_load_n(&ring[2], __ATOMIC_RELAXED))
		__builtin_ia32_pause();
}

static void read_page(int awake)
{
	char *page = d.piece + FLIGHT * PIECE;
	off_t at = (off_t)(wl_next(&d.w) * WL_PAGE);
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)d.fd,
		.aio_buf = (uint64_t)page,
		.aio_nbytes = WL_PAGE,
		.aio_offset = at },
		    *one = &cb;
	struct io_event ev;

	if (!awake) {
		if (pread(d.fd, page, WL_PAGE, at) != WL_PAGE)
			fatal("reading");
		return;
	}
	if (syscall(SYS_io_submit, d.readaio, 1, &one) != 1)
		fatal("io_submit");
	look();
	if (syscall(SYS_io_getevents, d.readaio, 1, 1, &ev, NULL) != 1 || ev.res != WL_PAGE)
		fatal("reading");
}

/* Microseconds a read. */
static double reads(size_t n, int awake, int writes, int wait)
{
	double began = wl_now_us();

	for (size_t i = 0; i < n; i++) {
		if (writes && i % PAGES == 0)
			send();
		while (wait && d.inflight > 0)
			collect(1);
		read_page(awake);
	}
	while (d.inflight > 0)
		collect(1);
	return (wl_now_us() - began) / (double)n;
}

static size_t number(const char *text, size_t high)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || n < 1 || n > high) {
		fprintf(stderr, "disk: %s: not a number from 1 to %zu\n", text, high);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	double alone[MAX_REPEATS], awake[MAX_REPEATS], mixed[MAX_REPEATS], sync[MAX_REPEATS];
	size_t mib = 256, n = 10000, repeats = 5;
	const char *folder = "/var/tmp";
	int c;

	while ((c = getopt(argc, argv, "m:n:r:d:")) != -1) {
		switch (c) {
		case 'm': mib = number(optarg, 1u << 20); break;
		case 'n': n = number(optarg, 1u << 28); break;
		case 'r': repeats = number(optarg, MAX_REPEATS); break;
		case 'd': folder = optarg; break;
		default: return 2;
		}
	}
	set_up(folder, mib * MIB);
	for (size_t r = 0; r < repeats; r++) {
		alone[r] = reads(n, 0, 0, 0);
		awake[r] = reads(n, 1, 0, 0);
		mixed[r] = reads(n, 0, 1, 0);
		sync[r] = reads(n, 0, 1, 1);
	}
	wl_print("disk.read_us", alone, repeats);
	wl_print("disk.awake_us", awake, repeats);
	wl_print("disk.mixed_us", mixed, repeats);
	wl_print("disk.sync_us", sync, repeats);
	wl_fini(&d.w);
	return 0;
}
