/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The shared/exclusive lock of a page with "exclusive wanted" (vm/frame/page_lock.c).
 *
 * One page; readers and a writer for ever, another writer, and one that upgrades and downgrades. What runs under
 * the lock of the page's name (struct page_lock) is atomic here. A waiter says P_WAITERS and sleeps in one step, as
 * mach_cv_wait drops the mutex.
 *
 * Shown: writers exclude everybody; nobody sleeps for ever (no lost wakeup); the first writer gets the lock however the
 * readers come and go (P_EWANTED), under weak fairness, as long as no other writer competes (fairness among writers is left
 * out on purpose).
 *
 * Broken on purpose: BREAK=1 readers ignore P_EWANTED: the writer starves. BREAK=2 a waiter drops that lock before it says
 * P_WAITERS: a wakeup is lost. BREAK=3 an upgrade does not look for other readers.
 */
#ifndef BREAK
#define BREAK 0
#endif
#ifdef LIVE
#define NREADERS 2
#define NPROCS 3	/* two readers, a writer */
#else
#define NREADERS 2
#define NPROCS 5	/* two readers, two writers, one that upgrades */
#endif

int selock = 0;		/* p_selock */
bool ewanted = false;	/* P_EWANTED */
bool waiters = false;	/* P_WAITERS */
bool asleep[NPROCS];	/* on the page's condition variable */
byte shared = 0, excl = 0; /* ghosts: who believes to hold it */
bool wants = false, got = false; /* of the first writer */
byte next = 0;		/* the processes' numbers */

/* page_wake_locked */
inline wake()
{
	if
	:: waiters ->
		waiters = false;
		i = 0;
		do
		:: i < NPROCS -> asleep[i] = false; i++
		:: else -> break
		od
	:: else
	fi;
	i = 0
}

/* page_wait_locked, the lock of the name held: the caller looks again afterwards */
inline say_waiting()
{
#if BREAK == 2
	skip
#else
	waiters = true;
	asleep[me] = true
#endif
}
inline sleep()
{
#if BREAK == 2
	atomic { waiters = true; asleep[me] = true };
#endif
	!asleep[me]
}

/* page_lock(SE_EXCL) */
inline lock_excl()
{
	ok = false;
	do
	:: ok -> break
	:: !ok ->
		atomic {
			if
			:: selock == 0 -> selock = -1; ewanted = false; ok = true; excl++
			:: else -> ewanted = true; say_waiting()
			fi
		};
		if
		:: !ok -> sleep()
		:: ok
		fi
	od
}

/* page_lock(SE_SHARED) */
inline lock_shared()
{
	ok = false;
	do
	:: ok -> break
	:: !ok ->
		atomic {
			if
#if BREAK == 1
			:: selock >= 0 -> selock++; ok = true; shared++
#else
			:: selock >= 0 && !ewanted -> selock++; ok = true; shared++
#endif
			:: else -> say_waiting()
			fi
		};
		if
		:: !ok -> sleep()
		:: ok
		fi
	od
}

/* page_unlock_locked; the ghost goes first, as the holder believes */
inline unlock_shared() { atomic { shared--; selock--; if :: selock == 0 -> wake() :: else fi } }
inline unlock_excl() { atomic { excl--; selock = 0; wake() } }

inline check()
{
	assert(excl <= 1 && (excl == 0 || shared == 0))
}

active [NREADERS] proctype reader()
{
	bool ok;
	byte i, me;

	atomic { me = next; next++ };
	do
	:: lock_shared(); check(); unlock_shared()
	od
}

active proctype writer()
{
	bool ok;
	byte i, me;

	atomic { me = next; next++ };
	do
	:: wants = true; lock_excl(); check(); atomic { wants = false; got = true }; unlock_excl(); got = false
	od
}

#ifndef LIVE
active proctype other_writer()
{
	bool ok;
	byte i, me;

	atomic { me = next; next++ };
	do
	:: lock_excl(); check(); unlock_excl()
	od
}

/* page_tryupgrade, page_downgrade */
active proctype upgrader()
{
	bool ok;
	byte i, me;

	atomic { me = next; next++ };
	do
	:: lock_shared(); check();
		atomic {
			if
#if BREAK == 3
			:: selock >= 1 -> shared--; excl++; selock = -1; ewanted = false; ok = true
#else
			:: selock == 1 -> shared--; excl++; selock = -1; ewanted = false; ok = true
#endif
			:: else -> ok = false
			fi
		};
		check();
		if
		:: ok -> atomic { excl--; shared++; selock = 1; wake() }; check()
		:: else
		fi;
		unlock_shared()
	od
}
#endif

#ifdef LIVE
ltl served { [] (wants -> <> got) }
#endif
