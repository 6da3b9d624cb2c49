/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reports what the program may not find out by itself: that a call failed, or a signal came,
 * because of Quire. The processes count such events in the family's memory (run/family.h); the
 * supervisor prints them on its own standard error, because descriptor 2 of a hosted process may be
 * a file of the program's. One line for each kind; the report has the numbers.
 */
#include "run.h"

#include <stdio.h>

#define MORE "give more with --swap PATH:SIZE"

#define UNMOVED "a process that gave up rights is not hosted any more: "

static uint64_t count_unmoved(const struct family *f, enum family_refusal why)
{
	return atomic_load(&f->fam_unmoved[FAMILY_NO_SLOT - why]);
}

void run_tell(struct run *r, bool wipe)
{
	const struct family *f = r->fam;
	uint64_t resident, need;
	struct family_counters c;

	run_add_up(r, &c, &resident, &need);
	const uint64_t no_room = atomic_load(&f->fam_no_room), lost = atomic_load(&c.lost_pages);
	const struct {
		uint64_t n;
		const char *line;
	} kinds[] = {
		{ atomic_load(&f->fam_refused),
		    "a request for memory was refused: all that --memory and --swap have room for is promised; " MORE },
		{ atomic_load(&f->fam_tables),
		    atomic_load(&f->fam_threadless) != 0
			? "a request for memory was refused: no thread can be made that serves it; raise the limit of processes (ulimit "
			  "-u, or the container's)"
			: "a request for memory was refused: no memory for tables, or too many mappings; give more with --memory" },
		{ atomic_load(&f->fam_full),
		    "SIGBUS for a touch of memory that is not reserved in full (a thread's stack, MAP_NORESERVE): all that --memory and "
		    "--swap have room for is promised; " MORE },
		{ lost > no_room ? lost - no_room : 0,
		    "SIGBUS for a touch of a page that is lost: its place of --swap could not be read, or gave other bytes; see the kernel's log, or name another place" },
		{ no_room,
		    "SIGBUS for a touch of memory for which there was no room: --memory is full, and no place of --swap takes more; " MORE },
		{ atomic_load(&f->fam_fileless),
		    "a fork was refused: no descriptor is left for it; raise the hard limit of open files (ulimit -Hn)" },
		{ count_unmoved(f, FAMILY_NO_STORE),
		    UNMOVED
		    "there are stores for as many sets of rights as there can be; run with fewer users at a time" },
		{ count_unmoved(f, FAMILY_NO_ROOM),
		    UNMOVED
		    "no other store could be made; free disk space or memory, or give a smaller --swap" },
		{ count_unmoved(f, FAMILY_NO_TAG),
		    UNMOVED
		    "quire-keeper has not yet released the processes that ended; run fewer at a time, and see whether it is stopped" },
		{ count_unmoved(f, FAMILY_NO_FILES),
		    UNMOVED
		    "quire run has no descriptor left; raise its hard limit of open files (ulimit -Hn)" },
	};

	for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (kinds[i].n == 0 || (r->told & 1u << i) != 0)
			continue;
		r->told |= 1u << i;
		if (wipe)
			fputs("\r\033[K", stderr);
		fprintf(stderr, "quire: %s\n", kinds[i].line);
	}
}
