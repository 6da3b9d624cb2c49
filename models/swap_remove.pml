/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Removal of a swap area against faults, page-out and the end of an anon (vm/anon/swap.c swap_remove, evacuate,
 * swap_alloc_cluster, write_cluster, swap_free_slot; vm/anon/anon.c anon_getpage, anon_swapin, anon_bind, swapfs_dirty,
 * anon_decref, anon_tryhold, anon_holds_slot).
 *
 * One anon, referenced by a program; area A with one slot is removed, area B with one slot stays. Numbers: slot 1 is A's,
 * slot 2 is B's, 0 is none. Each block under vm_swaplock or the lock of the page's name
 * is one step, as is each atomic operation on the anon's two words.
 *
 * Shown: nothing is read from or written to an area that is gone, nor to a slot that its owner gave up; contents are right
 * wherever they are read; when the area goes none of its slots is used; no slot is freed twice; the removal ends.
 *
 * Broken on purpose: BREAK=1 the area goes as soon as no slot has an owner, though one is claimed for a write under way.
 * BREAK=2 evacuation gives the slot up without the page in memory. BREAK=3 page-out may still take slots of the area.
 */
#ifndef BREAK
#define BREAK 0
#endif
#define CLAIMED 9
#define ID 1

byte owner[3];		/* sw_chunk: 0 free, CLAIMED, ID */
byte used = 0;		/* A's sw_used */
bool removing = false, gone = false;
byte refcnt = 1, an_swap = 0;
bool page = false, lock = false, mod = false;
byte contents = 0, disk[3], truth = 0, writes = 0;
bool dead = false;	/* the anon was freed */

inline io(slot) { assert(slot != 0 && (slot != 1 || !gone)) }

/* swap_free_slot: claimed, discarded, free */
inline free_slot(slot)
{
	atomic { assert(owner[slot] != 0 && (slot != 1 || !gone)); owner[slot] = CLAIMED };
	disk[slot] = 99;	/* vo_discard */
	atomic { owner[slot] = 0; if :: slot == 1 -> used-- :: else fi }
}

/* anon_getpage(SE_EXCL): afterwards the page is locked and filled */
inline getpage()
{
	fill = false;
	atomic {
		if
		:: page && !lock -> lock = true
		:: !page -> page = true; lock = true; mod = false; fill = true
		fi
	};
	if
	:: fill ->
		s = an_swap;
		if
		:: s == 0 -> contents = 0
		:: else -> io(s); contents = disk[s]	/* anon_swapin */
		fi
	:: else
	fi
}

/* swapfs_dirty: the page is different from its copy */
inline dirty()
{
	if
	:: refcnt > 0 -> atomic { old = an_swap; an_swap = 0 }	/* the count is looked at in a step of its own */
	:: else -> old = 0
	fi;
	if
	:: old != 0 -> free_slot(old)
	:: else
	fi;
	old = 0
}

/* anon_decref: the last one frees page and slot */
inline decref()
{
	atomic { assert(refcnt > 0); refcnt--; last = refcnt == 0 };
	if
	:: last ->
		atomic {
			if
			:: page && !lock -> page = false; mod = false
			:: !page
			fi
		};
		atomic { old = an_swap; an_swap = 0; dead = true };
		if
		:: old != 0 -> free_slot(old)
		:: else
		fi
	:: else
	fi
}

/* The program: reads and writes its page a few times, then unmaps it. */
active proctype program()
{
	bool fill, last;
	byte s, old;

	do
	:: writes < 2 ->
		getpage();
		assert(contents == truth);
		if
		:: mod = true; dirty(); atomic { writes++; truth = writes; contents = writes }
		:: writes++
		fi;
		lock = false
	:: writes == 2 -> break
	od;
	decref()
}

active proctype pageout()
{
	byte slot, old;

	do
	:: dead && !page -> break
	:: atomic { page && !lock -> lock = true };
		if
		:: !mod && an_swap != 0 -> atomic { page = false; lock = false }	/* clean: its copy is right */
		:: else ->
			if	/* consider: the copy on disk is old */
			:: an_swap != 0 -> dirty()
			:: else
			fi;
			slot = 0;
			atomic {	/* swap_alloc_cluster */
				if
#if BREAK == 3
				:: owner[1] == 0 && !gone -> slot = 1; owner[1] = CLAIMED; used++
#else
				:: owner[1] == 0 && !removing && !gone -> slot = 1; owner[1] = CLAIMED; used++
#endif
				:: owner[2] == 0 -> slot = 2; owner[2] = CLAIMED
				:: else
				fi
			};
			if
			:: slot != 0 ->
				io(slot);
				disk[slot] = contents;		/* pvn_io */
				io(slot);
				owner[slot] = ID;		/* slot_owner_set */
				atomic { old = an_swap; an_swap = slot; mod = false };	/* anon_bind */
				if
				:: old != 0 -> free_slot(old)
				:: else
				fi;
				atomic { page = false; lock = false }	/* release */
			:: else -> lock = false
			fi
		fi
	od
}

active proctype remover()
{
	bool fill, last, held;
	byte s, old, id;

	removing = true;
	do
#if BREAK == 1
	:: atomic { owner[1] != ID -> gone = true }; break
#elif BREAK == 3
	/* the area is as large as the look at it was long */
	:: atomic { used == 0 -> skip }; skip; gone = true; break
#else
	:: used == 0 -> gone = true; break
#endif
	:: used > 0 ->
		id = owner[1];
		if
		:: id == ID ->	/* evacuate */
			atomic { held = refcnt > 0; if :: held -> refcnt++ :: else fi };	/* anon_tryhold */
			if
			:: held ->
#if BREAK == 2
				if
				:: an_swap == 1 -> dirty()
				:: else
				fi;
#else
				getpage();
				if
				:: an_swap == 1 -> mod = true; dirty()	/* anon_holds_slot: the page is locked */
				:: else
				fi;
				lock = false;
#endif
				decref()
			:: else
			fi
		:: else		/* free, or claimed: seen on a later round */
		fi
	od;
	assert(gone && owner[1] == 0)
}

#ifdef LIVE
ltl ends { <> gone }
#endif
