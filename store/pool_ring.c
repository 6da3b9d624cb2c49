/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments written behind: an io_uring of one thread, so that the thread that makes room need not wait for the disk.
 *
 * The ring belongs to the thread that called pool_async. Completions are delivered only when that
 * thread enters the ring (IORING_SETUP_DEFER_TASKRUN), so they never interrupt another thread of a
 * hosted program. Any other thread, or any thread if the kernel refuses the ring, writes
 * synchronously. The calls are raw system calls, as liburing might allocate.
 *
 * A write in flight is an entry of its member (struct member, m_io): segment and block. The segment
 * is WRITING and s_async, and its memory stays readable. The thread of the ring collects the result
 * when it next needs memory. If that thread does not collect the result, a waiting thread takes the
 * segment over (pool_steal_locked): it writes the segment to another block and leaves the first
 * block to the entry until the result is collected. The writes of a killed process may reach the
 * disk after its death: their blocks lie in quarantine for ten seconds before they are used again.
 * (No read is left in flight: it would change memory later.)
 */
#include "store/pool_impl.h"
#include "sys/linux/own.h"

#include <linux/io_uring.h>

#define ENTRIES 8u
#define RING_FLAGS (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
#define Q_NO_MMAP (1u << 14) /* IORING_SETUP_NO_MMAP, which older headers lack */

struct pool_ring {
	/*
	 * -1: the asynchronous I/O of any thread (pool_alone): aio, ops, waiting and inflight are
	 * guarded by the store's lock
	 */
	int fd;
	uint64_t aio;
	struct member_io ops[POOL_WRITES];
	/* counted from 1; 0: the write is not to a far place, or is being collected */
	uint32_t far_ticket[POOL_WRITES];
	uint32_t far_inflight; /* writes of inflight that are to far places */
	/* a thread sleeps for the next result; other threads wait until that result is collected */
	bool waiting;
	/* const: thread pointer of the ring's thread, which does not end before pool_async_end() */
	const void *self;
	uint32_t inflight;
	char *map, *sqe;
	size_t mapbytes;
	uint32_t *sq_tail, *sq_array, *cq_head, *cq_tail, sq_mask, cq_mask;
	struct io_uring_cqe *cqe;
};
#define SQE_BYTES (ENTRIES * sizeof(struct io_uring_sqe))

/* Closes the kernel's ring. */
static void ring_unmap(struct pool_ring *r)
{
	if (r->sqe != NULL)
		(void)sys_call2(SYS_munmap, (long)r->sqe, PAGE);
	if (r->map != NULL)
		(void)sys_call2(SYS_munmap, (long)r->map, (long)r->mapbytes);
	if (r->fd >= 0)
		(void)sys_call1(SYS_close, r->fd);
	r->map = r->sqe = NULL;
	r->fd = -1;
}

static void ring_free(struct pool_ring *r)
{
	ring_unmap(r);
	pool_aio_destroy(r->aio);
	(void)sys_call2(SYS_munmap, (long)r, PAGE);
}

/* The kernel's ring and its table of requests are a page each. */
_Static_assert(SQE_BYTES <= PAGE, "the requests are one page");

static void find_ring(struct pool_ring *r, const struct io_uring_params *q)
{
	(void)sys_call3(SYS_madvise, (long)r->map, (long)r->mapbytes,
	    MADV_DONTFORK); /* a child makes its own ring */
	(void)sys_call3(SYS_madvise, (long)r->sqe, PAGE, MADV_DONTFORK);
	r->sq_tail = (uint32_t *)(void *)(r->map + q->sq_off.tail);
	r->sq_array = (uint32_t *)(void *)(r->map + q->sq_off.array);
	r->sq_mask = q->sq_entries - 1;
	r->cq_head = (uint32_t *)(void *)(r->map + q->cq_off.head);
	r->cq_tail = (uint32_t *)(void *)(r->map + q->cq_off.tail);
	r->cq_mask = q->cq_entries - 1;
	r->cqe = (struct io_uring_cqe *)(void *)(r->map + q->cq_off.cqes);
}

static int map_part(int fd, uint64_t bytes, unsigned flags, uint64_t what, char **at)
{
	long m = sys_map_own(bytes, PROT_READ | PROT_WRITE, (int)flags, fd, (long)what);

	*at = sys_failed(m) ? NULL : (char *)m;
	return *at == NULL ? (int)m : 0;
}

/* The ring lies in the kernel's memory and is mapped (before Linux 6.5). */
static int map_ring(struct pool_ring *r, struct io_uring_params *q)
{
	unsigned flags = MAP_SHARED | MAP_POPULATE;
	long fd;
	int rc;

	*q = (struct io_uring_params){ .flags = RING_FLAGS };
	fd = sys_call2(SYS_io_uring_setup, ENTRIES, (long)q);
	r->fd = (int)fd;
	if (fd < 0)
		return (int)fd;
	if ((q->features & IORING_FEAT_SINGLE_MMAP) == 0)
		return -ENOSYS;
	size_t sq = q->sq_off.array + q->sq_entries * sizeof(uint32_t);
	size_t cq = q->cq_off.cqes + q->cq_entries * sizeof(struct io_uring_cqe);
	r->mapbytes = sq > cq ? sq : cq;
	rc = map_part(r->fd, r->mapbytes, flags, IORING_OFF_SQ_RING, &r->map);
	return rc != 0 ? rc : map_part(r->fd, PAGE, flags, IORING_OFF_SQES, &r->sqe);
}

/* The ring lies in our memory, which the kernel uses (Linux 6.5). */
static int lend_ring(struct pool_ring *r, struct io_uring_params *q)
{
	unsigned flags = MAP_PRIVATE | MAP_ANONYMOUS;
	uint64_t at;
	long fd;
	int rc;

	r->mapbytes = PAGE;
	if ((rc = map_part(-1, PAGE, flags, 0, &r->map)) != 0 ||
	    (rc = map_part(-1, PAGE, flags, 0, &r->sqe)) != 0)
		return rc;
	*q = (struct io_uring_params){ .flags = RING_FLAGS | Q_NO_MMAP };
	/* the last word of either: user_addr, which older headers do not name */
	at = (uint64_t)r->sqe;
	__builtin_memcpy((char *)(&q->sq_off + 1) - sizeof at, &at, sizeof at);
	at = (uint64_t)r->map;
	__builtin_memcpy((char *)(&q->cq_off + 1) - sizeof at, &at, sizeof at);
	fd = sys_call2(SYS_io_uring_setup, ENTRIES, (long)q);
	r->fd = (int)fd;
	return fd < 0 ? (int)fd : 0;
}

static int open_ring(struct pool_ring *r)
{
	struct io_uring_params q;
	int rc = lend_ring(r, &q);

	if (rc == -EINVAL) {
		ring_unmap(r);
		rc = map_ring(r, &q);
	}
	if (rc == 0)
		find_ring(r, &q);
	else
		ring_unmap(r);
	return rc;
}

int pool_async(struct pool *p)
{
	long m;
	int rc;

	if (!pool_has_blocks(p) || p->p_member == NONE || p->p_ring != NULL)
		return -EINVAL;
	m = sys_map_own(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sys_failed(m))
		return (int)m;
	struct pool_ring *r = (struct pool_ring *)m;
	r->fd = -1;
	rc = p->p_fd < 0 ? -ENOSYS : open_ring(r);
	if (rc != 0 &&
	    p->p_shared->ps_nfar == 0) { /* writes to far places do not use the kernel's ring */
		ring_free(r);
		return rc;
	}
	r->self = __builtin_thread_pointer();
	__atomic_store_n(&p->p_ring, r, __ATOMIC_RELEASE);
	return 0;
}

void pool_alone(struct pool *p)
{
	struct pool_ring *r;
	long m;

	p->p_alone = true;
	if (!pool_has_blocks(p))
		return;
	m = sys_map_own(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sys_failed(m))
		return;
	r = (struct pool_ring *)m;
	r->fd = -1;
	if ((p->p_fd < 0 || pool_aio_setup(POOL_WRITES, &r->aio) != 0) &&
	    p->p_shared->ps_nfar == 0) {
		ring_free(r);
		return;
	}
	p->p_ring = r;
	if (r->aio != 0 || p->p_shared->ps_nfar > 0)
		(void)pool_fetch_open(p); /* without it, loads are synchronous */
}

/* Returns the ring if the calling thread may use it. */
static struct pool_ring *ring_of_thread(struct pool *p)
{
	struct pool_ring *r = __atomic_load_n(&p->p_ring, __ATOMIC_ACQUIRE);

	return r != NULL && (p->p_alone || r->self == __builtin_thread_pointer()) ? r : NULL;
}

uint32_t pool_inflight(struct pool *p)
{
	const struct pool_ring *r = ring_of_thread(p);

	return r != NULL ? r->inflight : 0;
}

static struct member_io *ops_of(struct pool *p)
{
	return p->p_alone ? p->p_ring->ops : pool_members(p->p_shared)[p->p_member].m_io;
}

static int submit_write(
    struct pool_ring *r, int fd, void *mem, uint64_t at, uint32_t bytes, uint64_t op)
{
	if (r->aio != 0)
		return pool_aio_write(r->aio, fd, mem, at, bytes, op);
	if (r->fd < 0)
		return -EAGAIN;
	uint32_t tail = *r->sq_tail;
	struct io_uring_sqe *e = (struct io_uring_sqe *)(void *)r->sqe + (tail & r->sq_mask);
	long rc;

	*e = (struct io_uring_sqe){ .opcode = IORING_OP_WRITE,
		.fd = fd,
		.off = at,
		.addr = (uint64_t)mem,
		.len = bytes,
		.user_data = op };
	r->sq_array[tail & r->sq_mask] = tail & r->sq_mask;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	do
		rc = sys_call6(SYS_io_uring_enter, r->fd, 1, 0, 0, 0, 0);
	while (rc == -EINTR);
	if (rc == 1)
		return 0;
	/* the kernel did not take the request: removes it from the queue */
	__atomic_store_n(r->sq_tail, tail, __ATOMIC_RELEASE);
	return rc < 0 ? (int)rc : -EAGAIN;
}

/* ---- lock held ---- */

int pool_write_start_locked(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct pool_ring *r = ring_of_thread(p);
	uint32_t op = 0;
	int rc;

	POOL_ASSERT(pool_held(s));
	if (r == NULL || r->inflight >= POOL_WRITES || p->p_sync ||
	    (p->p_fd >= 0 && pool_file_limited(p)))
		return -EAGAIN;
	struct member_io *io = ops_of(p);
	while (io[op].io_block != 0)
		op++;
	if ((rc = pool_write_begin_locked(p, i)) != 0)
		return rc;
	struct segment *g = &segs_of(s)[i];
	io[op].io_seg = i + 1;
	BARRIER();
	io[op].io_block = g->s_block + 1;
	g->s_async = 1;
	BARRIER();
	set_state(g, SEG_WRITING);
	char *mem = slot_mem(s, g->s_slot);
	uint64_t off = (uint64_t)g->s_block * SEG_BYTES;
	uint32_t bytes = pool_seg_bytes(g), block = g->s_block, ticket = 0;
	bool far = pool_far_of(s, block) != NULL;
	r->inflight++; /* other threads may collect the result as soon as the write is submitted */
	pool_unlock(s);
	pool_pace(p, bytes);
	if (pool_injected(p, POOL_INJECT_SUBMIT))
		rc = -EAGAIN;
	else
		rc = far ? pool_far_begin(p, block, mem, bytes, &ticket)
			 : submit_write(r, p->p_fd, mem, off, bytes, op);
	if (pool_injected(p, POOL_INJECT_KILL))
		(void)sys_call2(SYS_kill, sys_call0(SYS_getpid), 9);
	pool_lock(p);
	if (rc == 0 && far) {
		r->far_ticket[op] = ticket + 1;
		r->far_inflight++;
	}
	if (rc == 0)
		return 0;
	r->inflight--;
	if (io[op].io_seg == 0) { /* taken over by another thread already */
		pool_block_give_locked(s, io[op].io_block - 1);
		pool_op_clear(&io[op]);
	} else {
		pool_op_clear(&io[op]);
		pool_write_end_locked(p, i, -EAGAIN);
	}
	return -EAGAIN;
}

/* Judges the result of a write of that many bytes. A short write means that the disk is full. */
static int write_result(int res, uint32_t bytes)
{
	if (res == (int)bytes)
		return 0;
	if (res >= 0 || res == -ENOSPC)
		return -ENOSPC;
	return res == -EFBIG ? -EAGAIN : -EIO;
}

static void collect_write(struct pool *p, struct member_io *io, int res)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = io->io_seg, block = io->io_block - 1,
		 bytes = i != 0 ? pool_seg_bytes(&segs_of(s)[i - 1]) : 0;
	int rc = write_result(res, bytes);

	if (pool_injected(p, POOL_INJECT_WRITE))
		rc = -EIO;
	pool_op_clear(io);
	if (i == 0) { /* taken over by another thread meanwhile */
		pool_block_give_locked(s, block);
		return;
	}
	if (rc == 0) {
		(void)__atomic_add_fetch(&s->ps_stats.bytes_written, bytes, __ATOMIC_RELAXED);
		s->ps_stats.behind++;
	} else {
		p->p_sync = 1; /* the next write is synchronous and reports the error */
	}
	pool_write_end_locked(p, i - 1, rc);
}

/*
 * Collects results of writes to far places; wait: waits for at least one, dropping the lock. How
 * many.
 */
static uint32_t reap_far(struct pool *p, struct pool_ring *r, bool wait)
{
	struct member_io *io = ops_of(p);
	uint32_t n = 0;

	for (uint32_t op = 0; op < POOL_WRITES; op++) {
		uint32_t ticket = r->far_ticket[op], block = io[op].io_block - 1, i;
		int rc;

		if (ticket == 0 || (!wait && !pool_far_ready(p, block, ticket - 1)))
			continue;
		/* this thread collects the result; other threads skip the entry */
		r->far_ticket[op] = 0;
		pool_unlock(p->p_shared);
		rc = pool_far_end(p, block, ticket - 1);
		pool_lock(p);
		r->inflight--;
		r->far_inflight--;
		i = io[op].io_seg;
		collect_write(p, &io[op],
		    rc == 0 && i != 0 ? (int)pool_seg_bytes(&segs_of(p->p_shared)[i - 1]) : rc);
		wait = false;
		n++;
	}
	return n;
}

static uint32_t reap_aio(struct pool *p, struct pool_ring *r, int wait)
{
	struct pool_shared *s = p->p_shared;
	struct pool_aio_result res[POOL_WRITES];
	uint32_t n;

	if (r->waiting) {
		uint32_t io = s->ps_io;

		if (!wait)
			return 0;
		pool_unlock(s);
		(void)pool_sleep(p, &s->ps_io, io);
		pool_lock(p);
		return 1; /* perhaps a result has arrived: the caller looks again */
	}
	if (wait) {
		r->waiting = true;
		pool_unlock(s);
	}
	n = pool_aio_collect(r->aio, wait, res, POOL_WRITES);
	if (wait) {
		pool_lock(p);
		r->waiting = false;
	}
	for (uint32_t i = 0; i < n; i++) {
		r->inflight--;
		collect_write(p, &r->ops[res[i].data], res[i].res);
	}
	return n;
}

uint32_t pool_reap_locked(struct pool *p, int wait)
{
	struct pool_ring *r = ring_of_thread(p);
	uint32_t n = 0, head, far;

	POOL_ASSERT(pool_held(p->p_shared));
	if (r == NULL || r->inflight == 0)
		return 0;
	far = r->far_inflight > 0 ? reap_far(p, r, wait && r->far_inflight == r->inflight) : 0;
	if (far > 0 || r->far_inflight == r->inflight)
		return far;
	if (r->aio != 0)
		return reap_aio(p, r, wait);
	if (wait)
		pool_unlock(p->p_shared);
	(void)sys_call6(SYS_io_uring_enter, r->fd, 0, wait, IORING_ENTER_GETEVENTS, 0, 0);
	if (wait)
		pool_lock(p);
	for (head = *r->cq_head; head != __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE); n++) {
		const struct io_uring_cqe *c = &r->cqe[head & r->cq_mask];
		uint64_t op = c->user_data;
		int res = c->res;

		__atomic_store_n(r->cq_head, ++head, __ATOMIC_RELEASE);
		r->inflight--;
		collect_write(p, &ops_of(p)[op], res);
	}
	return n;
}

int pool_steal_locked(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs_of(s)[i];
	uint32_t block = pool_block_take_locked(p);

	POOL_ASSERT(pool_held(s));
	if (g->s_async == 0 || g->s_member == NONE || block == NONE) {
		if (block != NONE)
			pool_block_give_locked(s, block);
		return -EAGAIN;
	}
	struct member_io *io = pool_members(s)[g->s_member].m_io;
	for (uint32_t op = 0; op < POOL_WRITES; op++)
		if (io[op].io_seg == i + 1)
			io[op].io_seg = 0; /* the block stays with the entry */
	BARRIER();
	g->s_block = block;
	g->s_async = 0;
	s->ps_stats.steals++;
	return pool_write_sync_locked(p, i);
}

void pool_ring_close(struct pool *p, int forked)
{
	struct pool_ring *r = p->p_ring;

	p->p_ring = NULL;
	p->p_sync = 0;
	if (r == NULL)
		return;
	if (forked) /* the child has no mapping of the ring */
		r->map = r->sqe = NULL;
	if (forked && p->p_ownfds)
		r->fd = -1;
	ring_free(r);
}

void pool_poll(struct pool *p, int wait)
{
	if (p->p_ring == NULL)
		return;
	pool_lock(p);
	do
		(void)pool_reap_locked(p, wait);
	while (wait && pool_inflight(p) > 0);
	pool_unlock(p->p_shared);
}
