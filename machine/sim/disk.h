/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to machine/sim: a disk. disk.c has the contents, the requests under way and the failures;
 * disk_vnode.c has the vnode.
 */
#ifndef QUIRE_SIM_DISK_H
#define QUIRE_SIM_DISK_H

#include "machine/sim/sim_impl.h"

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

static inline struct sim_disk *disk_of(struct vnode *vp) { return vp->v_data; }

/* Ends a request that began at start, now. */
void sim_disk_complete(struct sim_disk *, struct vm_io *, uint64_t start);
/* Advances time to the first due request and ends it. False: there is no request. */
bool sim_disk_complete_first(struct sim_disk *);
#endif
