/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk of the simulated machine: contents in host memory, requests under way, failures. Its vnode is in disk_vnode.c.
 *
 * With a latency a request is queued and transfers its data when it is done, at a virtual time; requests overlap and
 * finish in the order of their due times. Without latency a request is done within vo_start.
 *
 * Errors: the nth request of a kind fails after ok pages, which are transferred. A torn write ends
 * within a page: some of its sectors are new, the rest old, and and the disk reports an error or
 * claims success. When the power fails, writes under way are torn, and no request works until the
 * power is back; data written before is kept.
 */
#include "machine/sim/disk.h"

#include <stdlib.h>
#include <string.h>

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

/* Stores or loads the first n pages; returns the number transferred. */
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

/* Ends the request at m_now; it began at start. */
void sim_disk_complete(struct sim_disk *d, struct vm_io *io, uint64_t start)
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

bool sim_disk_complete_first(struct sim_disk *d)
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
	sim_disk_complete(d, io, start);
	return true;
}

/* ---- for tests ---- */
void *sim_disk_data(struct vnode *vp) { return disk_of(vp)->d_data; }

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
