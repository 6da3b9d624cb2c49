/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A fault, serialised by the busy bit of an anon map's slot, against page-out that steals the slot's page (vm/anon/anon_map.c
 * anonmap_enter/exit; vm/seg/seg_vn.c fault_slot, fault_anon; vm/anon/anon.c anon_getpage, anon_swapin, swapfs_dirty; vm/reclaim/pageout.c
 * consider, flush, release; vm/anon/swap.c write_cluster).
 *
 * One slot with one anon, two threads of a program that fault and write, one page-out, one frame's worth of page, a disk
 * slot. Page-out never looks at the slot: it only tries the page's lock. A fault takes the busy bit, then the page's lock.
 *
 * Shown: what a thread reads is what was written last; nobody has a translation to a page that is gone; there is one page
 * of the name at most; a busy slot becomes free again (page-out looks at the page only so often then: page locks are not
 * handed over, so somebody who only tries might win against somebody who waits for ever).
 *
 * Broken on purpose: BREAK=1 page-out looks whether the page is modified before it takes the translation away: a write is
 * lost. BREAK=2 a fault loads its translation after it has dropped the page's lock. BREAK=3 the page is given up though its
 * write failed.
 */
#ifndef BREAK
#define BREAK 0
#endif
#define THREADS 2
#ifdef LIVE
#define PASSES 4
#else
#define PASSES 1	/* never raised: as many as it likes */
#endif

bool busy = false;	    /* the slot's */
bool page = false;	    /* a page has the anon's name */
byte lock = 0;		    /* its lock: 0 free, 1 exclusive (shared is left out: faults here write) */
bool mod = false;	    /* P_MOD */
byte contents = 0;	    /* of the frame */
bool mapped = false;	    /* the (one) translation */
bool hwmod = false;	    /* what the hardware knows of writes */
bool swapped = false;	    /* the anon has a disk slot */
byte disk = 0;		    /* what is in it */
byte truth = 0;		    /* ghost: the last value written; the anon starts as zeroes */
byte rounds = 0;

/* hat_pageunload: what the hardware knows goes to the page, in one step with the translation */
inline pageunload() { atomic { mod = mod || (mapped && hwmod); mapped = false; hwmod = false } }

/* anon_getpage(SE_EXCL): looks up or creates; both are one step under the lock of the name */
inline getpage()
{
	have = false;
	do
	:: have -> break
	:: !have ->
		atomic {
			if
			:: page && lock == 0 -> lock = 1; have = true		/* page_lookup */
			:: !page -> page = true; lock = 1; mod = false; have = true; fill = true /* page_create */
			fi						/* page && lock != 0: waits */
		}
	od;
	if
	:: fill ->
		fill = false;
		if
		:: swapped -> contents = disk	/* anon_swapin, the page E- and I/O-locked */
		:: else -> contents = 0; 	/* mach_frame_zero */
		fi
	:: else
	fi
}

active [THREADS] proctype thread()
{
	bool have, fill = false;

	do
	/* the program: through its translation, by hardware, in one step each */
	:: atomic { mapped ->
			assert(page);
			assert(contents == truth);
			if
			:: rounds < 3 -> rounds++; truth = rounds; contents = rounds; hwmod = true
			:: true
			fi }
	/* fault_slot */
	:: atomic { !mapped && !busy -> busy = true };
		getpage();
#if BREAK == 2
		lock = 0;
		atomic { mapped = true; hwmod = false };
#else
		atomic { assert(page); mapped = true; hwmod = false };	/* hat_memload, the page locked */
		lock = 0;
#endif
		busy = false
	od
}

active proctype pageout()
{
	bool dirty, failed;
	byte passes = 0;

	do
	:: atomic { page && lock == 0 && passes < PASSES -> lock = 1 };	/* next(): page_trylock_locked */
#if BREAK == 1
		dirty = mod || hwmod;
		pageunload();
#else
		pageunload();
		dirty = mod;
#endif
		failed = false;
		if
		:: dirty ->
			if
			:: swapped -> swapped = false		/* swapfs_dirty: the copy on disk is old */
			:: else
			fi;
			if
			:: atomic { disk = contents; swapped = true; mod = false }	/* write_cluster: written, bound, clean */
			:: failed = true					/* the store refused: stays dirty */
			fi
		:: else
		fi;
		if
#if BREAK != 3
		:: failed -> lock = 0					/* put_back */
		:: !failed ->
#else
		:: true ->
#endif
			atomic { assert(!mapped); page = false; lock = 0 }	/* release: page_destroy */
		fi;
#ifdef LIVE
		passes++
#endif
	od
}

#ifdef LIVE
ltl released { [] (busy -> <> !busy) }
#endif
