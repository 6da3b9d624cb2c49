/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lease of an NBD export: a sector by which a run sees that another one uses the export, as two would write over each other.
 *
 * Vocabulary. The stamp is what the sector holds: the name of the run, its process and host, and a number, the beat. The holder writes
 * the stamp anew each second with the next beat.
 *
 *   no stamp, or that of this run       the export is free, and is taken
 *   another's stamp, the beat rises     refused: in use by that process
 *   another's stamp, it stands still    its run was killed: the export is taken after LOOK_MS
 *
 * No clock of another machine is read. Two runs that begin in the same moment can both take the export: the sums of pages tell then.
 * A holder that stands still for LOOK_MS counts as killed.
 *
 * Locks: none; one thread.
 */
#ifndef QUIRE_FAR_LEASE_H
#define QUIRE_FAR_LEASE_H

#include "far/far.h"

#include <libnbd.h>

struct far_lease {
	uint64_t at;   /* byte offset of the stamp's sector */
	uint64_t beat; /* of the last stamp that was written; 0: none was */
	uint64_t next; /* ns: when to write the next */
	bool busy;     /* a stamp is being written */
	const char *run;
	char stamp[FAR_SECTOR];
};

/*
 * Takes the export for that run, whose name outlives the lease. hold: the run will store pages; else the export is only looked at, and a
 * killed run's stamp removed. False: one line in why; *final: another run has the export. Sleeps up to LOOK_MS.
 */
bool far_lease_take(struct far_lease *, struct nbd_handle *, uint64_t at, const char *run,
    bool hold, bool *final, char why[FAR_WHY]);
/* Begins to write the next stamp if it is due. The lease must live until the handle is closed. */
void far_lease_beat(struct far_lease *, struct nbd_handle *, uint64_t now);
/* Removes the stamp, if one was written. Waits for a second at most. */
void far_lease_drop(struct far_lease *, struct nbd_handle *);
#endif
