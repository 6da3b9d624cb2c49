/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory engine of the runtime: see host_quire.c. */
#ifndef QUIRE_RUN_HOST_QUIRE_H
#define QUIRE_RUN_HOST_QUIRE_H

#include <quire/as.h>
#include <quire/machine.h>
#include <quire/vm.h>

#include "run/family.h"
#include "store/pool.h"

struct host {
	/* const after host_init */
	struct mach *h_mach;
	struct vm *h_vm;
	struct as *h_as;
	struct family *h_fam;
	const char *h_sockname;
	int h_memfd, h_swapfd, h_device; /* h_device: /dev/userfaultfd, 0: none */

	/* set anew in a forked child before anything else runs */
	struct family_proc *h_me;
	int h_slot, h_sock, h_pid;
	struct pool h_pool;
	struct vnode *h_swapvn;

	/*
	 * h_lock: readers are every system call we serve and every batch of faults; the writers are adoption and fork, which
	 * want the world still. Rank: outermost.
	 */
	struct mach_rwlock h_lock;
	bool h_managed;		  /* h_lock: faults are ours; before, the kernel serves first touches alone */
	_Atomic uint64_t h_committed; /* pages of read-write ranges, charged to the family while not managed */
	_Atomic uint64_t h_credit;    /* pages charged already that the next grants take first */
	uint64_t h_brk_start, h_brk_cur; /* h_brklock */
	struct mach_mutex h_brklock;
	_Atomic bool h_off; /* not inside a family, or no longer (h_lock W): pass everything through */
	void *h_svc_stack;	  /* the service thread's stack and thread block */
};
extern struct host host;

/*
 * Frames a process keeps whatever others ask: its tables, and pages enough that an instruction finds all of its operands.
 * Below that it gets frames even where none are left; what was had so is counted in fam_forced.
 */
#define HOST_LEAST 192u
static inline pfn_t host_spare(const struct host *h, uint64_t want)
{
	uint64_t have = atomic_load(&h->h_me->fp_granted), most = have > HOST_LEAST ? have - HOST_LEAST : 0;

	return (pfn_t)(want < most ? want : most);
}

/* run/family_client.c: raw system calls only. All answer 0 or -errno. */
int family_connect(
    struct host *, const char *sockname, int slot); /* sets h_sock, h_slot, and (first time) descriptors, h_fam */
uint64_t family_space(void); /* our network name space, as in FAMILY_ENV; 0: unknown */
void host_thread_pointer(unsigned long hwcap2); /* host_quire.c; AT_HWCAP2: how the thread pointer is read and written */
/* run/service.c */
int service_start(struct host *);
void service_end(void); /* h_off is set, its socket shut down: waits until the thread is no more. No lock held */
/* run/budget.c: callbacks of the machine and the store */
pfn_t host_grant(void *host, pfn_t n);
void host_ungrant(void *host, pfn_t n);
int host_pool_charge(void *host, long pages);
bool host_ask_others(struct host *); /* false: none has much more than this process */
enum vm_err host_adopt(struct host *); /* native to managed. h_lock W */
void host_balance(struct host *, uint64_t most); /* h_lock, managed: the family's budget between frames and pool */
void host_publish(struct host *); /* counters into the family's memory */
#endif
