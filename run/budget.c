/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process's share of the family's budget: its counters for the report, the frames it takes and
 * gives back, the pool's growth. Called by the machine, the store and the engine (host_quire.c). No
 * lock: all fields of the family are atomic.
 */
#include "run/host_quire.h"

#include <errno.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"

/* ---- counting ---- */
void host_publish(struct host *h)
{
	const struct vm_stats *s = vm_statistics(h->h_vm);
	struct family_counters *c = &h->h_me->fp_count;
	struct vm_usage u;

	vm_usage(h->h_vm, &u);
	atomic_store(&c->faults, s->fault);
	atomic_store(&c->faults_zero, s->zfod);
	atomic_store(&c->faults_swap, s->swapin);
	atomic_store(&c->faults_cow, s->cow);
	atomic_store(&c->faults_rescue, s->rescue);
	atomic_store(&c->pages_in, s->pgin);
	atomic_store(&c->pages_out, s->pgout);
	atomic_store(&c->clean_drop, s->clean_drop);
	atomic_store(&c->refaults, s->refault);
	atomic_store(&c->prefetched, s->prefetch);
	atomic_store(&c->prefetch_used, s->prefetch_hit);
	atomic_store(&c->prefetch_wasted, s->prefetch_waste);
	atomic_store(&c->adopted, s->adopted);
	atomic_store(&c->io_errors, s->io_error);
	atomic_store(&h->h_me->fp_resident, u.vu_frames - u.vu_free);
	uint64_t need = h->h_managed ? u.vu_anon_slots : atomic_load(&h->h_committed);
	uint64_t all = need - atomic_exchange(&h->h_me->fp_need, need);
	all += atomic_fetch_add(&h->h_fam->fam_need, all);
	family_raise(&h->h_fam->fam_need_peak, all);
	atomic_store(&h->h_me->fp_managed, h->h_managed);
}

/* ---- frames and the family's budget: callbacks of the machine and the pool ---- */
bool host_ask_others(struct host *h)
{
	uint64_t mine = atomic_load(&h->h_me->fp_granted), most = mine + HOST_ASKED;
	struct family_proc *victim = NULL;

	for (unsigned i = 0; i < family_entries(h->h_fam); i++) {
		struct family_proc *p = &h->h_fam->fam_proc[i];

		if (atomic_load(&p->fp_hears) != 0 && p != h->h_me &&
		    atomic_load(&p->fp_granted) > most) {
			most = atomic_load(&p->fp_granted);
			victim = p;
		}
	}
	if (victim != NULL && atomic_load(&victim->fp_shrink) == 0) {
		atomic_store(&victim->fp_shrink, (uint32_t)((most - mine) / 4 + 1));
		atomic_fetch_add(&h->h_fam->fam_pressure, 1);
		(void)sys_call6(SYS_futex, (long)&h->h_fam->fam_pressure, 1 /* FUTEX_WAKE */,
		    0x7fffffff, 0, 0, 0);
		family_watch(h);
	}
	return victim != NULL;
}

/*
 * a full family refuses at every fault: a search through all processes each time would cost more
 * than it finds
 */
#define ASK_EVERY 64u

static void ask_after_refusals(struct host *h)
{
	static _Atomic uint32_t times;

	if (atomic_fetch_add_explicit(&times, 1, memory_order_relaxed) % ASK_EVERY == 0)
		(void)host_ask_others(h);
}

void host_force_charge(struct host *h, uint64_t n)
{
	family_force(h->h_fam, n);
	atomic_fetch_add(&h->h_me->fp_granted, n);
}

/* A process without frames makes no progress and gives none back. */
static uint64_t grant_least(struct host *h, uint64_t n)
{
	uint64_t have = atomic_load(&h->h_me->fp_granted);

	if (have >= HOST_LEAST)
		return 0;
	if (n > HOST_LEAST - have)
		n = HOST_LEAST - have;
	host_force_charge(h, n);
	return n;
}

/*
 * Grants frames to the machine: from the credit charged already, else from the family's budget;
 * never from the pool's share once the process is managed.
 */
pfn_t host_grant(void *arg, pfn_t n)
{
	struct host *h = arg;
	uint64_t credit = atomic_load(&h->h_credit), take, got;

	do
		take = credit < n ? credit : n;
	while (take > 0 && !atomic_compare_exchange_weak(&h->h_credit, &credit, credit - take));
	if (take == n)
		return n;
	got = family_charge_frames(h->h_fam, n - take);
	atomic_fetch_add(&h->h_me->fp_granted, got);
	if (got + take < n) {
		ask_after_refusals(h);
		got += grant_least(h, n - take - got);
	}
	return (pfn_t)(take + got);
}

void host_ungrant(void *arg, pfn_t n)
{
	struct host *h = arg;

	family_uncharge(h->h_fam, n);
	atomic_fetch_sub(&h->h_me->fp_granted, n);
}

/* ---- promises: callbacks of the core ---- */
bool host_promise(void *arg, uint64_t n, bool touched)
{
	struct host *h = arg;
	struct family *f = h->h_fam;
	uint64_t lost = touched ? 0 : host_pages_lost(h);

	if (!promise_take(&f->fam_promise, host_shelf(h), n, lost, touched)) {
		if (!h->h_adopting) {
			if (!touched) /* a touch may be refused: host_lost then sends SIGBUS */
				atomic_fetch_add(&f->fam_refused, 1);
			return false;
		}
		promise_force(&f->fam_promise, host_shelf(h), n);
	}
	atomic_fetch_add(&h->h_me->fp_promised, n);
	return true;
}

void host_unpromise(void *arg, uint64_t n)
{
	struct host *h = arg;

	promise_return(&h->h_fam->fam_promise, host_shelf(h), n);
	atomic_fetch_sub(&h->h_me->fp_promised, n);
}

uint32_t host_ended(const struct host *h) { return atomic_load(&h->h_fam->fam_ended); }

/* Does any other process have a share? */
static bool others_have_some(const struct host *h)
{
	for (unsigned i = 0; i < family_entries(h->h_fam); i++) {
		const struct family_proc *p = &h->h_fam->fam_proc[i];

		if (p != h->h_me &&
		    (atomic_load(&p->fp_promised) | atomic_load(&p->fp_granted)) != 0)
			return true;
	}
	return false;
}

bool host_await_ended(struct host *h, uint32_t seen)
{
	if (host_ended(h) == seen && others_have_some(h))
		family_settle(h);
	return host_ended(h) != seen;
}

bool host_await_frames(struct host *h, uint32_t seen)
{
	bool came;

	if (host_ask_others(h)) {
		sys_pause();
		return true;
	}
	if (host_await_ended(h, seen))
		return true;
	mach_rw_enter(&h->h_lock, false);
	came = h->h_managed && pool_shrink(h->h_pool, vm_ptob(HOST_PINNED)) == 0;
	mach_rw_exit(&h->h_lock);
	return came;
}

void host_lost(void *arg, enum vm_err why)
{
	struct host *h = arg;

	atomic_fetch_add(why == VM_NOSWAP ? &h->h_fam->fam_full : &h->h_me->fp_count.lost_pages, 1);
	if (why == VM_NOMEM)
		atomic_fetch_add(&h->h_fam->fam_no_room, 1);
}

int host_pool_charge(void *arg, long pages)
{
	return family_pool_charge(((struct host *)arg)->h_fam, pages) == 0 ? 0 : -ENOSPC;
}

/* Balances frames and pool: gives up frames for the growth of the pool, at most this many now. */
void host_balance(struct host *h, uint64_t most)
{
	uint64_t over = family_frames_over(h->h_fam);

	HOST_ASSERT(mach_rw_held(&h->h_lock, false));
	if (over == 0)
		return;
	uint64_t rest = atomic_load_explicit(&h->h_balance_rest, memory_order_relaxed);
	/*
	 * The pages that could be evicted are pinned: a search through all of them at every fault
	 * would be most of the work.
	 */
	if (rest > 0 && most != UINT64_MAX) {
		atomic_store_explicit(&h->h_balance_rest, rest - 1, memory_order_relaxed);
		return;
	}
	if (vm_shrink(h->h_vm, host_spare(h, over < most ? over : most)) == 0)
		atomic_store_explicit(&h->h_balance_rest, HOST_PINNED, memory_order_relaxed);
}
