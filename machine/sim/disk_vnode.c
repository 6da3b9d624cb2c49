/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vnode of a simulated disk: how its requests begin, and which thread waits for their end. A
 * thread that polls with wait completes the earliest request; when every thread waits or the
 * request is due, the interrupt fiber completes it.
 */
#include "machine/sim/disk.h"

#include <stdlib.h>
#include <string.h>

static void disk_start(struct vnode *vp, struct vm_io *io)
{
	struct sim_disk *d = disk_of(vp);
	struct mach *m = d->d_mach;
	struct request *r = m->m_cfg.disk_latency == 0 ? NULL : malloc(sizeof(*r)),
		       **p = &d->d_queue;

	if (r == NULL) {
		sim_disk_complete(d, io, m->m_now);
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
		sim_wait_disk(d->d_mach, d->d_queue->r_due); /* the CPU has other work */
	while (d->d_queue != NULL && d->d_queue->r_due <= d->d_mach->m_now)
		if (sim_disk_complete_first(d) && wait)
			return;
	if (wait)
		(void)sim_disk_complete_first(d);
}

static void serve_interrupts(void *mach)
{
	struct mach *m = mach;

	for (;;) {
		for (struct sim_disk *d = m->m_disks; d != NULL; d = d->d_next) {
			if (d->d_queue != NULL && d->d_queue->r_due <= m->m_now) {
				(void)sim_disk_complete_first(d);
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
	while (sim_disk_complete_first(disk_of(vp)))
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
		m->m_intr = sim_fiber_new(m, serve_interrupts, m, "disk interrupts");
		if (m->m_intr != NULL)
			m->m_intr->f_state = F_INTR;
	}
	d->d_next = m->m_disks;
	m->m_disks = d;
	return &d->d_vnode;
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
