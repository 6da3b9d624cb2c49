/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's asynchronous I/O (io_submit), for a store that one process has to itself.
 *
 * Why not io_uring here: its completions are delivered either by the submitting thread, which may
 * be busy in the program or have ended, or by additional threads; one more thread in the address
 * space makes each move of a page cost a TLB shootdown. The kernel records a completion of
 * io_submit in whatever context it happens; any thread may collect it; no thread's system call is
 * interrupted.
 *
 * Writes behind: one context; the ring (pool_ring.c) records the writes in flight, under the
 * store's lock. Loads: each load has its own context (pool_fetch.c).
 */
#include "store/pool_aio.h"
#include "store/pool_impl.h"

#define MAGIC_AIO 0xa10a10a1u

/*
 * The kernel's ring to which a context's number points; user space may read it if magic and
 * features have these values.
 */
struct aio_ring {
	uint32_t id, nr, head, tail, magic, compat, incompat, header;
};

int pool_aio_setup(uint32_t n, uint64_t *aio)
{
	*aio = 0;
	return (int)sys_call2(SYS_io_setup, n, (long)aio);
}

void pool_aio_destroy(uint64_t aio)
{
	if (aio != 0)
		(void)sys_call1(SYS_io_destroy, (long)aio);
}

uint32_t pool_aio_ready(uint64_t aio)
{
	const struct aio_ring *r = (const struct aio_ring *)(uintptr_t)aio;
	uint32_t head, tail;

	if (r->magic != MAGIC_AIO || r->incompat != 0)
		return ~0u; /* the count is not known: ask the kernel */
	head = __atomic_load_n(&r->head, __ATOMIC_RELAXED);
	tail = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);
	return tail >= head ? tail - head : tail + r->nr - head;
}

void pool_aio_prepare(
    struct iocb *cb, int write, int fd, void *mem, uint64_t at, uint32_t n, uint64_t data)
{
	*cb = (struct iocb){ .aio_data = data,
		.aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)fd,
		.aio_buf = (uint64_t)mem,
		.aio_nbytes = n,
		.aio_offset = (int64_t)at };
}

/* Returns how many requests the kernel took. */
uint32_t pool_aio_send(uint64_t aio, struct iocb *cb, uint32_t n)
{
	struct iocb *each[POOL_AIO_MOST];
	uint32_t sent = 0;

	for (uint32_t i = 0; i < n; i++)
		each[i] = &cb[i];
	while (sent < n) {
		long r = sys_call3(SYS_io_submit, (long)aio, (long)(n - sent), (long)(each + sent));

		if (r > 0)
			sent += (uint32_t)r;
		else if (r != -EINTR)
			break;
	}
	return sent;
}

int pool_aio_write(uint64_t aio, int fd, void *mem, uint64_t at, uint32_t n, uint64_t data)
{
	struct iocb cb;

	pool_aio_prepare(&cb, 1, fd, mem, at, n, data);
	return pool_aio_send(aio, &cb, 1) == 1 ? 0 : -EAGAIN;
}

uint32_t pool_aio_collect(uint64_t aio, int wait, struct pool_aio_result *res, uint32_t max)
{
	struct io_event ev[POOL_WRITES + POOL_AIO_MOST];
	struct {
		long s, ns;
	} now = { 0, 0 };
	long n;

	if (max > POOL_WRITES + POOL_AIO_MOST)
		max = POOL_WRITES + POOL_AIO_MOST;
	if (!wait && pool_aio_ready(aio) == 0)
		return 0;
	do
		n = sys_call5(
		    SYS_io_getevents, (long)aio, wait, max, (long)ev, wait ? 0 : (long)&now);
	while (n == -EINTR);
	for (long i = 0; i < n; i++)
		res[i] = (struct pool_aio_result){ .data = ev[i].data, .res = (int)ev[i].res };
	return n > 0 ? (uint32_t)n : 0;
}
