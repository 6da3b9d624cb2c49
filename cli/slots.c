/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots: entries of the family's table of processes. A slot belongs to a process from when it
 * joins, or its parent prepares it for a fork, until its connection has ended and each keeper has
 * given back all that the process held in its store (run_store.owed). Only then may another process
 * have the slot: its number is the process's name in the stores.
 */
#include "run.h"

#include <string.h>

bool run_slot_taken(const struct run *r, int slot)
{
	if (r->leaving[slot] > 0)
		return true;
	for (unsigned i = 0; i < r->nconn; i++)
		if (r->conn[i].slot == slot)
			return true;
	return false;
}

void run_slot_released(struct run *r, int slot)
{
	if (r->leaving[slot] == 0 || --r->leaving[slot] > 0)
		return;
	if (!run_slot_taken(r, slot))
		atomic_store(&r->fam->fam_proc[slot].fp_pid, 0);
}

void run_free_owed(struct run *r, struct run_store *st)
{
	for (int slot = 0; slot < (int)FAMILY_PROCS; slot++)
		if (slots_have(st->owed, (unsigned)slot))
			run_slot_released(r, slot);
	memset(st->owed, 0, sizeof st->owed);
	memset(st->unsent, 0, sizeof st->unsent);
}
