/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk or file of the simulated machine: a vnode whose contents are host memory.
 *
 * With a latency a request is queued and transfers its data when it is done, at a virtual time; requests overlap and
 * finish in the order of their due times. Who polls with wait completes the earliest; when everybody waits or the time
 * has come, the interrupt fiber does. Without latency a request is done within vo_start.
 *
 * Errors: the nth request of a kind fails after ok pages, which are transferred (a torn write).
 */
#include "machine/sim/sim_impl.h"

#include <stdlib.h>
#include <string.h>

struct request {
	struct request *r_next;
	struct vm_io *r_io;
	uint64_t r_due;
};
struct fail {
	uint64_t f_nth, f_times;
	uint32_t f_ok;
};

struct sim_disk {
	struct vnode d_vnode;
	struct mach *d_mach;
	struct sim_disk *d_next;
	const char *d_name;
	uint8_t *d_data;
	uint64_t d_size, d_room; /* bytes; room is whole pages */
	struct request *d_queue; /* by due time */
	struct fail d_fail[2];
};

static struct sim_disk *disk_of(struct vnode *vp)
{
	return vp->v_data;
}

bool sim_disk_due(struct mach *m, uint64_t *when)
{
	*when = UINT64_MAX;
	for (struct sim_disk *d = m->m_disks; d != NULL; d = d->d_next)
		if (d->d_queue != NULL && d->d_queue->r_due < *when)
			*when = d->d_queue->r_due;
	return *when <= m->m_now;
}

/* ---- one request ---- */
static uint32_t fail_after(struct sim_disk *d, struct vm_io *io, enum vm_err *err)
{
	struct fail *f = &d->d_fail[io->io_op];

	if (f->f_nth == 0 || --f->f_nth > 0)
		return io->io_npages;
	f->f_nth = --f->f_times > 0 ? 1 : 0;
	*err = VM_IO;
	return f->f_ok < io->io_npages ? f->f_ok : io->io_npages;
}

static void transfer_page(struct sim_disk *d, struct vm_io *io, uint32_t i)
{
	uint64_t off = io->io_off + vm_ptob(i), n = d->d_size - off;
	uint8_t *buf = io->io_buf[i];

	if (d->d_mach->m_cfg.no_direct_map && d->d_mach->m_loaded[mach_kva_frame(d->d_mach, buf)] != 0)
		sim_panicf(d->d_mach, "%s: I/O to a frame that is loaded", d->d_name);
	if (n > VM_PAGESIZE)
		n = VM_PAGESIZE;
	if (io->io_op == VM_IO_WRITE) {
		memcpy(d->d_data + off, buf, n);
	} else {
		memcpy(buf, d->d_data + off, n);
		memset(buf + n, 0, VM_PAGESIZE - n);
	}
}

static void complete(struct sim_disk *d, struct vm_io *io)
{
	enum vm_err err = VM_OK;
	uint32_t n = fail_after(d, io, &err), i;

	for (i = 0; i < n; i++) {
		if (io->io_off + vm_ptob(i) >= d->d_size) {
			err = VM_EOF;
			break;
		}
		transfer_page(d, io, i);
	}
	if (io->io_op == VM_IO_READ)
		d->d_mach->m_stats.ss_reads++;
	else
		d->d_mach->m_stats.ss_writes++;
	io->io_ok = i;
	io->io_err = err;
	io->io_done(io);
}

static bool complete_first(struct sim_disk *d)
{
	struct request *r = d->d_queue;
	struct vm_io *io;

	if (r == NULL)
		return false;
	if (r->r_due > d->d_mach->m_now)
		d->d_mach->m_now = r->r_due;
	d->d_queue = r->r_next;
	io = r->r_io;
	free(r);
	complete(d, io);
	return true;
}

/* ---- vnode operations ---- */
static void disk_start(struct vnode *vp, struct vm_io *io)
{
	struct sim_disk *d = disk_of(vp);
	struct mach *m = d->d_mach;
	struct request *r = m->m_cfg.disk_latency == 0 ? NULL : malloc(sizeof(*r)), **p = &d->d_queue;

	if (r == NULL) {
		complete(d, io);
		return;
	}
	r->r_io = io;
	r->r_due = m->m_now + m->m_cfg.disk_latency / 2 + sim_random(m) % m->m_cfg.disk_latency;
	while (*p != NULL && (*p)->r_due <= r->r_due)
		p = &(*p)->r_next;
	r->r_next = *p;
	*p = r;
}

static void disk_poll(struct vnode *vp, bool wait)
{
	struct sim_disk *d = disk_of(vp);

	while (d->d_queue != NULL && d->d_queue->r_due <= d->d_mach->m_now)
		if (complete_first(d) && wait)
			return;
	if (wait)
		(void)complete_first(d);
}

void sim_disk_intr(void *mach)
{
	struct mach *m = mach;

	for (;;) {
		for (struct sim_disk *d = m->m_disks; d != NULL; d = d->d_next) {
			if (d->d_queue != NULL && d->d_queue->r_due <= m->m_now) {
				(void)complete_first(d);
				break;
			}
		}
		m->m_cur->f_state = F_INTR;
		mach_yield();
	}
}

static void disk_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	struct sim_disk *d = disk_of(vp);

	if (off < d->d_size && !d->d_mach->m_cfg.no_poison && (vp->v_flags & V_SWAP))
		memset(d->d_data + off, 0xdd, len < d->d_size - off ? len : d->d_size - off);
}

static enum vm_err disk_sync(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)off;
	(void)len;
	while (complete_first(disk_of(vp)))
		;
	return VM_OK;
}

static uint64_t disk_size(struct vnode *vp)
{
	return disk_of(vp)->d_size;
}

static void disk_inactive(struct vnode *vp)
{
	struct sim_disk *d = disk_of(vp), **p = &d->d_mach->m_disks;

	if (d->d_queue != NULL)
		sim_panicf(d->d_mach, "%s: freed with a request under way", d->d_name);
	while (*p != d)
		p = &(*p)->d_next;
	*p = d->d_next;
	free(d->d_data);
	free(d);
}

static const struct vnode_ops disk_ops = {
	.vo_name = "sim disk",
	.vo_start = disk_start,
	.vo_poll = disk_poll,
	.vo_discard = disk_discard,
	.vo_sync = disk_sync,
	.vo_size = disk_size,
	.vo_inactive = disk_inactive,
};

/* ---- for tests ---- */
struct vnode *sim_disk_create(struct mach *m, struct vm *vm, const char *name, uint64_t size, uint32_t vflags)
{
	struct sim_disk *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	d->d_mach = m;
	d->d_name = name;
	vnode_init(&d->d_vnode, vm, &disk_ops, d);
	d->d_vnode.v_flags = vflags;
	if (!sim_disk_resize(&d->d_vnode, size)) {
		free(d);
		return NULL;
	}
	if (m->m_cfg.disk_latency != 0 && m->m_intr == NULL) {
		m->m_intr = sim_fiber_new(m, sim_disk_intr, m, "disk interrupts");
		if (m->m_intr != NULL)
			m->m_intr->f_state = F_INTR;
	}
	d->d_next = m->m_disks;
	m->m_disks = d;
	return &d->d_vnode;
}

void *sim_disk_data(struct vnode *vp)
{
	return disk_of(vp)->d_data;
}

bool sim_disk_resize(struct vnode *vp, uint64_t size)
{
	struct sim_disk *d = disk_of(vp);
	uint64_t room = vm_page_round(size);

	if (room > d->d_room) {
		uint8_t *p = realloc(d->d_data, room);

		if (p == NULL)
			return false;
		memset(p + d->d_room, 0, room - d->d_room);
		d->d_data = p;
		d->d_room = room;
	}
	if (size < d->d_size)
		memset(d->d_data + size, 0, d->d_size - size);
	d->d_size = size;
	return true;
}

void sim_disk_fail(struct vnode *vp, enum vm_iop op, uint64_t nth, uint64_t times, uint32_t ok)
{
	disk_of(vp)->d_fail[op] = (struct fail){ .f_nth = nth, .f_times = times, .f_ok = ok };
}
