/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk or file of the simulated machine: a vnode whose contents are host memory.
 *
 * With a latency a request is queued and transfers its data when it is done, at a virtual time; requests overlap and
 * finish in the order of their due times. A thread that polls with wait completes the earliest; when every thread waits or the time
 * has come, the interrupt fiber does. Without latency a request is done within vo_start.
 *
 * Errors: the nth request of a kind fails after ok pages, which are transferred. A torn write ends within a page: some of
 * its sectors are new, the rest old, and the disk says so or claims that all is well. When the power fails, what is under
 * way is torn and nothing works until it is back; what was written before is kept.
 */
#include "machine/sim/sim_impl.h"

#include <stdlib.h>
#include <string.h>

struct request {
	struct request *r_next;
	struct vm_io *r_io;
	uint64_t r_start, r_due;
};
struct fail {
	uint64_t f_nth, f_times;
	uint32_t f_ok;
};

struct tear {
	uint64_t t_nth;
	uint32_t t_ok, t_sectors;
	bool t_told;
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
	struct tear d_tear;
	uint64_t d_cut; /* when the power fails; 0: never */
};

static struct sim_disk *disk_of(struct vnode *vp) { return vp->v_data; }

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

	if (d->d_mach->m_cfg.no_direct_map &&
	    d->d_mach->m_loaded[mach_kva_frame(d->d_mach, buf)] != 0)
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

/* A write that ends within page i: its first sectors are stored. */
static void tear_page(struct sim_disk *d, struct vm_io *io, uint32_t i, uint32_t sectors)
{
	uint64_t off = io->io_off + vm_ptob(i), n = (uint64_t)sectors * SIM_SECTOR;

	if (i < io->io_npages && off + n <= d->d_size && n <= VM_PAGESIZE)
		memcpy(d->d_data + off, io->io_buf[i], n);
}

/* Stores or loads the first n pages; how many there are. */
static uint32_t transfer_pages(struct sim_disk *d, struct vm_io *io, uint32_t n, enum vm_err *err)
{
	for (uint32_t i = 0; i < n; i++) {
		if (io->io_off + vm_ptob(i) >= d->d_size) {
			*err = VM_EOF;
			return i;
		}
		transfer_page(d, io, i);
	}
	return n;
}

static uint32_t torn_write(struct sim_disk *d, struct vm_io *io, enum vm_err *err)
{
	struct tear *t = &d->d_tear;
	uint32_t n = transfer_pages(d, io, t->t_ok < io->io_npages ? t->t_ok : io->io_npages, err);

	tear_page(d, io, n, t->t_sectors);
	d->d_mach->m_stats.ss_torn++;
	if (!t->t_told)
		return io->io_npages;
	*err = VM_IO;
	return n;
}

/* Without power nothing is transferred; a write that was under way when it failed is torn anywhere. */
static uint32_t cut_off(struct sim_disk *d, struct vm_io *io, bool torn, enum vm_err *err)
{
	uint64_t at = torn && io->io_op == VM_IO_WRITE
	    ? sim_random(d->d_mach) % (io->io_npages * (VM_PAGESIZE / SIM_SECTOR))
	    : 0;
	uint32_t pages = (uint32_t)(at / (VM_PAGESIZE / SIM_SECTOR));

	*err = VM_IO;
	tear_page(
	    d, io, transfer_pages(d, io, pages, err), (uint32_t)(at % (VM_PAGESIZE / SIM_SECTOR)));
	return 0;
}

/* At m_now; it began at start. */
static void complete_io(struct sim_disk *d, struct vm_io *io, uint64_t start)
{
	enum vm_err err = VM_OK;
	uint32_t i;

	if (d->d_cut != 0 && d->d_mach->m_now >= d->d_cut)
		i = cut_off(d, io, start < d->d_cut, &err);
	else if (io->io_op == VM_IO_WRITE && d->d_tear.t_nth != 0 && --d->d_tear.t_nth == 0)
		i = torn_write(d, io, &err);
	else
		i = transfer_pages(d, io, fail_after(d, io, &err), &err);
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
	uint64_t start;

	if (r == NULL)
		return false;
	if (r->r_due > d->d_mach->m_now)
		d->d_mach->m_now = r->r_due;
	d->d_queue = r->r_next;
	io = r->r_io;
	start = r->r_start;
	free(r);
	complete_io(d, io, start);
	return true;
}

/* ---- vnode operations ---- */
static void disk_start(struct vnode *vp, struct vm_io *io)
{
	struct sim_disk *d = disk_of(vp);
	struct mach *m = d->d_mach;
	struct request *r = m->m_cfg.disk_latency == 0 ? NULL : malloc(sizeof(*r)),
		       **p = &d->d_queue;

	if (r == NULL) {
		complete_io(d, io, m->m_now);
		return;
	}
	r->r_io = io;
	r->r_start = m->m_now;
	r->r_due = m->m_now + m->m_cfg.disk_latency / 2 + sim_random(m) % m->m_cfg.disk_latency;
	while (*p != NULL && (*p)->r_due <= r->r_due)
		p = &(*p)->r_next;
	r->r_next = *p;
	*p = r;
}

static void disk_poll(struct vnode *vp, struct vm_io *io)
{
	struct sim_disk *d = disk_of(vp);
	bool wait = io != NULL;

	if (wait && d->d_queue != NULL && (d->d_mach->m_idle != NULL || d->d_mach->m_nlive != 0))
		sim_wait_disk(d->d_mach, d->d_queue->r_due); /* the CPU has something else to do */
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
	return disk_of(vp)->d_cut != 0 && disk_of(vp)->d_mach->m_now >= disk_of(vp)->d_cut ? VM_IO
											   : VM_OK;
}

static uint64_t disk_size(struct vnode *vp) { return disk_of(vp)->d_size; }

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
struct vnode *sim_disk_create(
    struct mach *m, struct vm *vm, const char *name, uint64_t size, uint32_t vflags)
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

void *sim_disk_data(struct vnode *vp) { return disk_of(vp)->d_data; }

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

void sim_disk_tear(struct vnode *vp, uint64_t nth, uint32_t ok, uint32_t sectors, bool told)
{
	disk_of(vp)->d_tear =
	    (struct tear){ .t_nth = nth, .t_ok = ok, .t_sectors = sectors, .t_told = told };
}

void sim_disk_power_fails(struct vnode *vp, uint64_t when) { disk_of(vp)->d_cut = when; }

void sim_disk_power_is_back(struct vnode *vp) { disk_of(vp)->d_cut = 0; }
