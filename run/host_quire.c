/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory engine of the runtime: the program's memory system calls, answered by an address space
 * of the core. This file hands each call that comes from enter.c to its function in map.c,
 * mprotect.c, advise.c, remap.c, fork.c, leave.c, and calls.c has the table of all of them. They
 * work on tracked ranges: pieces.c, track.c, adopt.c, protect.c, release.c.
 *
 * Tracked: every private anonymous mapping that is not executable, and the heap (brk). Each is a segvn segment of h_as. The
 * kernel has a real mapping of the same range and protection, so /proc, faults outside and protection errors are its own.
 *
 * Shared anonymous memory is the kernel's. Pages of shared memory cannot be moved, and the kernel
 * names a futex in shared memory by the mapping, which therefore cannot be replaced when a child
 * comes to share it.
 *
 * Two phases. Native: no range is registered, and the kernel serves first touches; read-write pages
 * are charged to the family when they are mapped, so touched pages can never exceed the budget.
 * When a charge is refused the process is adopted: all read-write ranges are registered and the
 * pages found there become the core's (host_adopt). From then on the process is managed.
 *
 * Managed ranges are registered, and are read-write or read-only; a range without access has no
 * page at its address. Executable memory is made resident and left to the kernel
 * (host_release_range), no longer tracked. See protect.c.
 *
 * Every call runs on a stack of the runtime (enter.c). The service thread has its own stack.
 *
 * Locks: h_lock (outermost) > h_protlock > h_brklock > h_marklock > the core's. Fork and adoption take h_lock as writer: no fault is being served, no
 * call is under way, so the child inherits no lock held by a thread it does not have.
 *
 * Left out: shared memory, MAP_GROWSDOWN and MAP_HUGETLB mappings stay the kernel's own.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"
#include "run/calls.h"

/* Meanwhile the service thread, which publishes only now and then, does nothing. */
static long do_count(struct host *h)
{
	mach_rw_enter(&h->h_lock, true);
	if (!h->h_off) {
		host_publish(h);
		host_measure(h);
	}
	mach_rw_exit(&h->h_lock);
	return 0;
}

/* ---- what enter.c calls, on our stack ---- */
/* A call that began while the process was hosted and arrives here after the hosting has ended. */
static long pass_on(enum op op, const long *a)
{
	static const short nr[] = { [OP_MMAP] = SYS_mmap,
		[OP_MUNMAP] = SYS_munmap,
		[OP_MPROTECT] = SYS_mprotect,
		[OP_MADVISE] = SYS_madvise,
		[OP_MREMAP] = SYS_mremap,
		[OP_BRK] = SYS_brk,
		[OP_SEAL] = NR_mseal,
		[OP_SHMAT] = SYS_shmat };

	if (op == OP_RELEASE || op == OP_BRK_MOVED || op == OP_MINCORE)
		return 0;
	if (op == OP_MLOCK)
		return sys_call3(a[0], a[1], a[2], a[3]);
	return sys_call6(nr[op], a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The calls that do not need h_lock as writer. */
static long dispatch_call(struct host *h, enum op op, const long *a)
{
	long r;

	mach_rw_enter(&h->h_lock, false);
	if (h->h_off) {
		mach_rw_exit(&h->h_lock);
		return pass_on(op, a);
	}
	switch (op) {
	case OP_MMAP: r = call_mmap(h, a[0], a[1], (int)a[2], (int)a[3], (int)a[4], a[5]); break;
	case OP_MUNMAP: r = call_munmap(h, a[0], a[1]); break;
	case OP_MPROTECT: r = call_mprotect(h, a[0], a[1], (int)a[2]); break;
	case OP_MADVISE: r = call_madvise(h, a[0], a[1], (int)a[2]); break;
	case OP_MREMAP: r = call_mremap(h, a[0], a[1], a[2], (int)a[3], a[4]); break;
	case OP_BRK: r = call_brk(h, a[0]); break;
	case OP_TAKE:
		r = host_errno(host_track(h, (uint64_t)a[0], (uint64_t)a[1], RW, SEGVN_NORESERVE));
		break;
	case OP_MINCORE: r = call_mincore(h, a[0], a[1], (uint8_t *)a[2]); break;
	case OP_SEAL: r = call_seal(h, (uint64_t)a[0], (uint64_t)a[1], a[2]); break;
	case OP_SHMAT: r = call_shmat(h, a[0], a[1], a[2], a[3]); break;
	case OP_BRK_MOVED:
		r = 0;
		call_brk_moved(h);
		break;
	case OP_RELEASE: r = call_release(h, (uint64_t)a[0], (uint64_t)a[1]); break;
	default: r = call_mlock(h, a[0], a[1], a[2], a[3]); break;
	}
	mach_rw_exit(&h->h_lock);
	return r;
}

/*
 * Has brk failed? On failure brk returns the present break instead of an error; brk(0) is only a
 * question.
 */
static bool break_failed(enum op op, const long *a, long r)
{
	return op == OP_BRK && a[0] != 0 && r != a[0];
}

/* Did the call fail for lack of memory, with everything undone? */
static bool call_failed(enum op op, const long *a, long r)
{
	return r == -ENOMEM || r == -EAGAIN || break_failed(op, a, r);
}

/*
 * Other processes and the pool can give memory back, and ended processes do: a call that failed for
 * lack of memory is made again.
 */
long host_dispatch(enum op op, const long *a)
{
	struct host *h = &host;

	switch (op) {
	case OP_FORK_PREPARE:
		return host_fork_still(
		    h, (uint64_t)a[0], (uint64_t)a[1], (const struct fork_words *)a[2]);
	case OP_FORK_PARENT: return host_fork_made(h, a[0]);
	case OP_FORK_CHILD: return host_fork_born(h);
	case OP_LEAVE: return host_do_leave(h);
	case OP_MOVE: return store_move(h, a[0] != 0);
	case OP_COUNT: return do_count(h);
	case OP_ALONE: return service_alone(h, a[0], a[1], a[2]);
	default: break;
	}
	for (unsigned tries = 0;; tries++) {
		uint32_t ended = host_ended(h);
		uint64_t refused = atomic_load(&h->h_fam->fam_refused),
			 unlocked = atomic_load(&h->h_lock_refused);
		long r = dispatch_call(h, op, a);

		if (!call_failed(op, a, r) || tries == HOST_WAITS)
			return r;
		if (atomic_load(&h->h_lock_refused) != unlocked) {
			if (!host_await_frames(h, ended))
				return r;
		} else {
			if ((r != -ENOMEM && !break_failed(op, a, r)) ||
			    atomic_load(&h->h_fam->fam_refused) == refused ||
			    !host_await_ended(h, ended))
				return r;
			atomic_fetch_sub(&h->h_fam->fam_refused, 1); /* not refused yet */
		}
	}
}
