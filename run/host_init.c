/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runtime's start in a program: called from the library's constructor, before the program's
 * own, with one thread. Joins the family named in the environment, builds the machine, the core and
 * the store. Outside a family the program runs on the kernel's memory as if the library were not
 * there; in a family a failure prints one line on standard error and ends the program, which must
 * not run without its limit. A family whose supervisor was killed is such a failure.
 */
#include "run/host_quire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <quire/anon.h>
#include <quire/policy.h>

#include "machine/linux/linux.h"
#include "sys/linux/own.h"
#include "sys/linux/sys.h"
#include "run/host.h"
#include "run/limits.h"
#include "run/rights.h"
#include "store/pool_vnode.h"

/* As host_stop(); at the start of a process -ENOMEM has only one cause. */
static _Noreturn void stop_start(const char *what, long rc)
{
	host_stop(rc == -ENOMEM || rc == VM_NOMEM
		? "no address space for so much memory: see ulimit -v and -d, vm.overcommit_memory, or give less"
		: what,
	    rc);
}

/* Frames for tables while native; more come by grant. */
#define FIRST_FRAMES 256u

/*
 * Other processes may have to give up memory first; if none has much, this process gets HOST_LEAST
 * frames all the same.
 */
static pfn_t first_frames(struct host *h)
{
	uint64_t got = 0;

	for (unsigned tries = 0; tries < 1000; tries++) {
		got += family_charge(h->h_fam, FIRST_FRAMES - got);
		if (got == FIRST_FRAMES || !host_ask_others(h))
			break;
		sys_pause();
	}
	if (got < HOST_LEAST) {
		family_force(h->h_fam, HOST_LEAST - got);
		got = HOST_LEAST;
	}
	atomic_fetch_add(&h->h_me->fp_granted, got);
	return (pfn_t)got;
}

static void create_engine(struct host *h, const struct family_store *st)
{
	/*
	 * As many frame numbers again, for pinned memory (host_pinned). Frames that are never
	 * granted cost only address space.
	 */
	struct linux_config lc = { .frames = (pfn_t)h->h_told.fw_budget * 2,
		.grant = host_grant,
		.ungrant = host_ungrant,
		.lost = host_lost,
		.pinned = host_pinned,
		.arg = h,
		.guard_fd = hostfd_guard,
		.device_fd = h->h_device,
		.without = (uint32_t)h->h_told.fw_without,
		.write_bits = true };
	struct vm_config vc = { .vc_frames = first_frames(h), .vc_anon_max = 1u << 28 };
	enum vm_err e;
	int rc;

	h->h_serve = host_serve;
	if ((rc = linux_create(&lc, &h->h_mach)) != 0)
		stop_start(rc == -ENOSYS
			? "no userfaultfd here: a tool that imitates the kernel (valgrind, qemu)? Run the program in it without quire"
			: "cannot open userfaultfd: run as root or set vm.unprivileged_userfaultfd=1",
		    rc);
	vc.vc_mach = h->h_mach;
	vc.vc_policy = policy_find(h->h_told.fw_policy);
	vc.vc_prefetch = prefetch_find(h->h_told.fw_prefetch);
	vc.vc_promise = host_promise;
	vc.vc_unpromise = host_unpromise;
	vc.vc_promisearg = h;
	promise_force(
	    &h->h_fam->fam_promise, host_shelf(h), HOST_LEAST); /* for the process's own tables */
	atomic_fetch_add(&h->h_me->fp_promised, HOST_LEAST);
	if ((e = vm_create(&vc, &h->h_vm)) != VM_OK ||
	    (e = as_alloc(h->h_vm, HOST_MIN, HOST_MAX, &h->h_as)) != VM_OK)
		stop_start(
		    "cannot start the memory system: report this line, it is a fault of Quire",
		    (long)e);
	if ((rc = store_open(h, st)) != 0)
		stop_start(
		    "cannot attach the store, which is damaged or has no place for another process: run the program again",
		    rc);
}

/*
 * Waits while the family is full: a process that executes another program has a second entry for a
 * moment, and the keeper releases ended processes one by one.
 */
static int join_family(struct host *h, struct family_store *st)
{
	int rc;

	limits_begin();
	for (unsigned tries = 0;
	     ((rc = family_connect(h, st)) == -EAGAIN || rc == -EBUSY) && tries < FAMILY_TRIES;
	     tries++)
		sys_pause();
	return rc;
}

static _Noreturn void stop_joining(int rc)
{
	switch (rc) {
	case -ECONNREFUSED:
	case -EPIPE: host_stop("quire run has ended, so this program ends: start it again", rc);
	case -EAGAIN:
		host_stop(
		    "all places of the family are taken: raise ulimit -Hn for quire run (to 600; 512 places at most), or run fewer processes at a time",
		    rc);
	case -EUSERS:
		host_stop(
		    "the family has no store for one more set of rights: run with fewer users at a time",
		    rc);
	case -ENOSPC:
		host_stop(
		    "no store can be made for one more set of rights: free disk space or memory, or give a smaller --swap",
		    rc);
	case -EBUSY:
		host_stop(
		    "quire-keeper has not yet released the processes that ended: run fewer at a time, and see whether it is stopped",
		    rc);
	case -ENOBUFS:
		host_stop(
		    "quire run has no descriptor left for one more process: raise its limit of open files (ulimit -Hn, fs.file-max)",
		    rc);
	case -EMFILE:
	case -ENFILE:
		host_stop(
		    "no descriptor is left to join the family: raise the limit of open files (ulimit -n, fs.file-max)",
		    rc);
	default: stop_start("cannot join the family: run the program again", rc);
	}
}

/*
 * Address space for mappings that the runtime makes while the program runs: tables for much memory,
 * and rings of many generations.
 */
#define OWN_ROOM (32ull << 20)

int host_init(const char *family)
{
	struct host *h = &host;
	struct family_store st;
	bool ours = false;
	int rc;

	if (!family_find(h, family, &ours)) {
		if (!ours) /* left over */
			return 0;
		stop_joining(-ECONNREFUSED);
	}
	if ((rc = join_family(h, &st)) != 0 || (rc = service_prepare(h)) != 0)
		stop_joining(rc);
	host_thread_pointer();
	mach_rw_init(&h->h_lock, 1, "host");
	mach_mutex_init(&h->h_brklock, 2, "brk");
	mach_mutex_init(&h->h_protlock, 2, "protection");
	mach_mutex_init(&h->h_marklock, 3, "marks");
	host_measure_start(h);
	rights_joined();
	create_engine(h, &st);
	sys_own_room(OWN_ROOM);
	host_measure_own(h);
	limits_end();
	h->h_brk_start = vm_page_round((uint64_t)sys_call1(SYS_brk, 0));
	h->h_brk_cur = (uint64_t)sys_call1(SYS_brk, 0);
	/*
	 * set before the service thread exists: the thread ends if this is set when a byte arrives
	 */
	h->h_off = false;
	host_publish(h);
	atomic_store(&h->h_fam->fam_started, 1);
	return 1;
}

struct sites_note *host_sites(void) { return &host.h_told.fw_sites; }

bool host_device(void) { return host.h_device > 0; }

char *host_family(char out[HOST_FAMILY]) { return family_value(&host, out); }

void host_close_on_exec(void) { hostfd_close_on_exec(host.h_gate); }
