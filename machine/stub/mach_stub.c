/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A stand-in machine for tests of the physical layer: host threads, one block of host memory as
 * frames, and a HAT that translates nothing. Lock ranks are checked. Weak functions stand for the
 * parts of the core that a test does not link (a pageout with no page to reclaim), so that the
 * physical layer can be tested alone.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vm/impl.h"
#include "machine/stub/mach_stub.h"

#define STUB_BOOT 64u

struct mach {
	struct mach_caps m_caps;
	unsigned char *m_mem;
	void *m_boot[STUB_BOOT];
	unsigned m_nboot;
	_Atomic uint32_t m_grant;
	_Atomic uint64_t m_discarded;
};

struct mach *stub_create(pfn_t nframes, pfn_t grant, unsigned ncpus)
{
	struct mach *m = calloc(1, sizeof(*m));

	m->m_caps = (struct mach_caps){ .mc_name = "stub",
		.mc_nframes = nframes,
		.mc_ncpus = ncpus,
		.mc_direct_map = true,
		.mc_threads = false,
		.mc_user_min = 0x10000,
		.mc_user_max = 1ull << 47 };
	m->m_mem = aligned_alloc(VM_PAGESIZE, (size_t)nframes * VM_PAGESIZE);
	memset(m->m_mem, 0xa5, (size_t)nframes * VM_PAGESIZE);
	m->m_grant = grant;
	return m;
}

void stub_destroy(struct mach *m)
{
	for (unsigned i = 0; i < m->m_nboot; i++)
		free(m->m_boot[i]);
	free(m->m_mem);
	free(m);
}

uint32_t stub_grant_left(struct mach *m) { return m->m_grant; }

const struct mach_caps *mach_caps(struct mach *m) { return &m->m_caps; }

/* ---- locks, with ranks ---- */

struct stub_lock {
	void *host; /* pthread object */
	const char *name;
	uint32_t rank;
	bool writer; /* of a reader-writer lock: the writer holds it */
};
_Static_assert(sizeof(struct stub_lock) <= sizeof(struct mach_mutex), "a lock fits its storage");

static _Thread_local struct {
	const struct stub_lock *held[32];
	unsigned n;
} stub_held;

static void stub_rank_check(const struct stub_lock *l)
{
	for (unsigned i = 0; i < stub_held.n; i++) {
		if (stub_held.held[i]->rank >= l->rank) {
			fprintf(stderr, "taking %s (%u) while holding %s (%u)\n", l->name, l->rank,
			    stub_held.held[i]->name, stub_held.held[i]->rank);
			abort();
		}
	}
}

static void stub_rank_push(const struct stub_lock *l)
{
	if (stub_held.n == 32)
		abort();
	stub_held.held[stub_held.n++] = l;
}

static void stub_rank_pop(const struct stub_lock *l)
{
	for (unsigned i = stub_held.n; i-- > 0;) {
		if (stub_held.held[i] == l) {
			stub_held.held[i] = stub_held.held[--stub_held.n];
			return;
		}
	}
	abort();
}

static bool stub_holds(const void *l)
{
	for (unsigned i = 0; i < stub_held.n; i++) {
		if (stub_held.held[i] == l)
			return true;
	}
	return false;
}

/* Host objects, in a list, so that those of a system that panicked can be freed with its machine. */
struct stub_host {
	struct stub_host *next, *prev;
	union {
		pthread_mutex_t mu;
		pthread_rwlock_t rw;
		pthread_cond_t cv;
	} u;
};
static struct stub_host stub_hosts = { .next = &stub_hosts, .prev = &stub_hosts };
static pthread_mutex_t stub_hosts_lock = PTHREAD_MUTEX_INITIALIZER;

static void *stub_host_alloc(void)
{
	struct stub_host *h = calloc(1, sizeof(*h));

	pthread_mutex_lock(&stub_hosts_lock);
	h->next = stub_hosts.next;
	h->prev = &stub_hosts;
	h->next->prev = h;
	stub_hosts.next = h;
	pthread_mutex_unlock(&stub_hosts_lock);
	return &h->u;
}

static void stub_host_free(void *u)
{
	struct stub_host *h =
	    (struct stub_host *)(void *)((char *)u - offsetof(struct stub_host, u));

	pthread_mutex_lock(&stub_hosts_lock);
	h->next->prev = h->prev;
	h->prev->next = h->next;
	pthread_mutex_unlock(&stub_hosts_lock);
	free(h);
}

void stub_abandon(struct mach *m)
{
	while (stub_hosts.next != &stub_hosts)
		stub_host_free(&stub_hosts.next->u);
	stub_destroy(m);
}

static struct stub_lock *stub_of(void *l) { return l; }

void mach_mutex_init(struct mach_mutex *mu, unsigned rank, const char *name)
{
	struct stub_lock *l = stub_of(mu);

	memset(l, 0, sizeof(*l));
	l->host = stub_host_alloc();
	l->rank = rank;
	l->name = name;
	pthread_mutex_init(l->host, NULL);
}

void mach_mutex_fini(struct mach_mutex *mu)
{
	pthread_mutex_destroy(stub_of(mu)->host);
	stub_host_free(stub_of(mu)->host);
}

void mach_mutex_enter(struct mach_mutex *mu)
{
	stub_rank_check(stub_of(mu));
	pthread_mutex_lock(stub_of(mu)->host);
	stub_rank_push(stub_of(mu));
}

bool mach_mutex_tryenter(struct mach_mutex *mu)
{
	if (pthread_mutex_trylock(stub_of(mu)->host) != 0)
		return false;
	stub_rank_push(stub_of(mu));
	return true;
}

void mach_mutex_exit(struct mach_mutex *mu)
{
	stub_rank_pop(stub_of(mu));
	pthread_mutex_unlock(stub_of(mu)->host);
}

bool mach_mutex_held(const struct mach_mutex *mu) { return stub_holds(mu); }

void mach_rw_init(struct mach_rwlock *rw, unsigned rank, const char *name)
{
	struct stub_lock *l = stub_of(rw);

	memset(l, 0, sizeof(*l));
	l->host = stub_host_alloc();
	l->rank = rank;
	l->name = name;
	pthread_rwlock_init(l->host, NULL);
}

void mach_rw_fini(struct mach_rwlock *rw)
{
	pthread_rwlock_destroy(stub_of(rw)->host);
	stub_host_free(stub_of(rw)->host);
}

void mach_rw_enter(struct mach_rwlock *rw, bool writer)
{
	stub_rank_check(stub_of(rw));
	if (writer)
		pthread_rwlock_wrlock(stub_of(rw)->host);
	else
		pthread_rwlock_rdlock(stub_of(rw)->host);
	stub_of(rw)->writer = writer;
	stub_rank_push(stub_of(rw));
}

bool mach_rw_tryenter(struct mach_rwlock *rw, bool writer)
{
	pthread_rwlock_t *host = stub_of(rw)->host;

	if ((writer ? pthread_rwlock_trywrlock(host) : pthread_rwlock_tryrdlock(host)) != 0)
		return false;
	stub_of(rw)->writer = writer;
	stub_rank_push(stub_of(rw));
	return true;
}

void mach_rw_exit(struct mach_rwlock *rw)
{
	stub_rank_pop(stub_of(rw));
	pthread_rwlock_unlock(stub_of(rw)->host);
}

bool mach_rw_held(const struct mach_rwlock *rw, bool writer)
{
	return stub_holds(rw) && (!writer || stub_of((struct mach_rwlock *)(uintptr_t)rw)->writer);
}

static pthread_cond_t *stub_cond(struct mach_cv *cv)
{
	return (pthread_cond_t *)(uintptr_t)cv->opaque[0];
}

void mach_cv_init(struct mach_cv *cv)
{
	cv->opaque[0] = (uint64_t)(uintptr_t)stub_host_alloc();
	pthread_cond_init(stub_cond(cv), NULL);
}

void mach_cv_fini(struct mach_cv *cv)
{
	pthread_cond_destroy(stub_cond(cv));
	stub_host_free(stub_cond(cv));
}

void mach_cv_wait(struct mach_cv *cv, struct mach_mutex *mu)
{
	stub_rank_pop(stub_of(mu));
	pthread_cond_wait(stub_cond(cv), stub_of(mu)->host);
	stub_rank_push(stub_of(mu));
}

bool mach_cv_timedwait(struct mach_cv *cv, struct mach_mutex *mu, uint64_t ns)
{
	struct timespec ts;
	int e;

	clock_gettime(CLOCK_REALTIME, &ts);
	ns += (uint64_t)ts.tv_nsec;
	ts.tv_sec += (time_t)(ns / 1000000000u);
	ts.tv_nsec = (long)(ns % 1000000000u);
	stub_rank_pop(stub_of(mu));
	e = pthread_cond_timedwait(stub_cond(cv), stub_of(mu)->host, &ts);
	stub_rank_push(stub_of(mu));
	return e == 0;
}

void mach_cv_broadcast(struct mach_cv *cv) { pthread_cond_broadcast(stub_cond(cv)); }

/* ---- CPUs, time ---- */

static _Thread_local unsigned stub_cpu;
static jmp_buf *stub_panic_jump;
static char stub_panic_text[256];

void stub_cpu_set(unsigned cpu) { stub_cpu = cpu; }

unsigned mach_cpu_id(void) { return stub_cpu; }

uint64_t mach_time_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct mach_thread *mach_thread_create(
    struct mach *m, void (*fn)(void *), void *arg, const char *name)
{
	(void)m, (void)fn, (void)arg, (void)name;
	return NULL;
}

void mach_thread_join(struct mach_thread *t) { (void)t; }

void mach_yield(void) { sched_yield(); }

void stub_expect_panic(jmp_buf *jump)
{
	stub_panic_jump = jump;
	stub_panic_text[0] = '\0';
}

const char *stub_panic_message(void) { return stub_panic_text; }

/* An expected panic leaves the core as it is (perhaps locked): the test abandons that system. */
_Noreturn void mach_panic(const char *msg)
{
	snprintf(stub_panic_text, sizeof(stub_panic_text), "%s", msg);
	if (stub_panic_jump != NULL) {
		jmp_buf *jump = stub_panic_jump;

		stub_panic_jump = NULL;
		stub_held.n = 0;
		longjmp(*jump, 1);
	}
	fprintf(stderr, "panic: %s\n", msg);
	abort();
}

/* ---- memory ---- */

void *mach_boot_alloc(struct mach *m, size_t bytes)
{
	size_t all = ((bytes + 63) & ~(size_t)63) +
	    256; /* memory read behind the end reads as zeroes, the same each time */
	void *p = m->m_nboot < STUB_BOOT ? aligned_alloc(64, all) : NULL;

	if (p == NULL)
		return NULL;
	memset(p, 0, all);
	m->m_boot[m->m_nboot++] = p;
	return p;
}

void *mach_frame_kva(struct mach *m, pfn_t pfn) { return m->m_mem + (size_t)pfn * VM_PAGESIZE; }

pfn_t mach_kva_frame(struct mach *m, const void *kva)
{
	size_t off = (size_t)((const unsigned char *)kva - m->m_mem);

	return off / VM_PAGESIZE < m->m_caps.mc_nframes ? (pfn_t)(off / VM_PAGESIZE) : PFN_INVALID;
}

void mach_frame_zero(struct mach *m, pfn_t pfn) { memset(mach_frame_kva(m, pfn), 0, VM_PAGESIZE); }

void mach_frame_copy(struct mach *m, pfn_t dst, pfn_t src)
{
	memcpy(mach_frame_kva(m, dst), mach_frame_kva(m, src), VM_PAGESIZE);
}

void mach_frame_discard(struct mach *m, pfn_t pfn, pfn_t n)
{
	memset(mach_frame_kva(m, pfn), 0xdd, (size_t)n * VM_PAGESIZE);
	m->m_discarded += n;
}

void mach_frame_retire(struct mach *m, pfn_t pfn)
{
	(void)m;
	(void)pfn;
}
void mach_frame_renew(struct mach *m, pfn_t pfn)
{
	(void)m;
	(void)pfn;
}
pfn_t mach_frames_grant(struct mach *m, pfn_t n)
{
	uint32_t left = m->m_grant;

	do {
		if (n > left)
			n = left;
	} while (!__atomic_compare_exchange_n((uint32_t *)(void *)&m->m_grant, &left, left - n,
	    false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return n;
}

void mach_frames_release(struct mach *m, pfn_t n) { m->m_grant += n; }

/* ---- a HAT that translates nothing ---- */

void hat_swapout(struct hat *hat) { (void)hat; }

void hat_pageunload(struct page *pp) { (void)pp; }

uint32_t hat_pages_tryunload(struct page **pages, uint32_t n)
{
	(void)pages;
	return n;
}

unsigned hat_page_getshare(struct page *pp)
{
	(void)pp;
	return 0;
}

void hat_foreach(struct hat *hat, void (*cb)(void *, vaddr_t, pfn_t, unsigned, bool), void *arg)
{
	(void)hat, (void)cb, (void)arg;
}

void hat_page_foreach(struct page *pp, void (*cb)(void *, struct hat *, vaddr_t), void *arg)
{
	(void)pp, (void)cb, (void)arg;
}

unsigned hat_check(struct hat *hat, void (*report)(void *, const char *), void *arg)
{
	(void)hat, (void)report, (void)arg;
	return 0;
}

/* ---- the rest of the core, if a test does not link it ---- */
#define WEAK __attribute__((weak))

WEAK size_t anon_boot_bytes(const struct vm_config *vc)
{
	(void)vc;
	return 0;
}

WEAK enum vm_err anon_init(struct vm *vm)
{
	mach_mutex_init(&vm->vm_anonlock, RANK_ANON + 1, "anon");
	mach_mutex_init(&vm->vm_swaplock, RANK_SWAP, "swap");
	return VM_OK;
}

WEAK void anon_fini(struct vm *vm)
{
	mach_mutex_fini(&vm->vm_anonlock);
	mach_mutex_fini(&vm->vm_swaplock);
}

WEAK uint32_t anon_count(struct vm *vm)
{
	(void)vm;
	return 0;
}

WEAK enum vm_err anonmap_init(struct vm *vm)
{
	(void)vm;
	return VM_OK;
}

WEAK void anonmap_fini(struct vm *vm) { (void)vm; }

WEAK bool anonmap_count_refs(struct vm *vm, bool back)
{
	(void)vm, (void)back;
	return true;
}

WEAK bool anon_holds_slot(struct vm *vm, anon_id id, uint32_t slot)
{
	(void)vm, (void)id, (void)slot;
	return true;
}

WEAK unsigned anon_check(struct vm *vm, bool (*count_map_refs)(struct vm *, bool back),
    void (*report)(void *, const char *), void *arg)
{
	(void)vm, (void)count_map_refs, (void)report, (void)arg;
	return 0;
}

WEAK unsigned swap_check(struct vm *vm, bool (*holds)(struct vm *, anon_id, uint32_t),
    void (*report)(void *, const char *), void *arg)
{
	(void)vm, (void)holds, (void)report, (void)arg;
	return 0;
}

WEAK unsigned as_check(struct as *as, void (*report)(void *, const char *), void *arg)
{
	(void)as, (void)report, (void)arg;
	return 0;
}

WEAK void pageout_setup(struct vm *vm)
{
	vm->vm_lotsfree = 16;
	vm->vm_reserve = 8;
}

WEAK void pageout_start(struct vm *vm) { (void)vm; }

WEAK void pageout_stop(struct vm *vm) { (void)vm; }

WEAK bool pageout_wait(struct vm *vm, pfn_t want)
{
	(void)vm, (void)want;
	return false;
}

WEAK pfn_t pageout_reclaim(struct vm *vm, pfn_t n)
{
	(void)vm, (void)n;
	return 0;
}

WEAK enum vm_err pvn_putpages(
    struct vm *vm, struct vnode *vp, voff_t off, uint64_t len, unsigned flags)
{
	(void)vm, (void)vp, (void)off, (void)len, (void)flags;
	return VM_OK;
}

const struct policy_ops WEAK policy_clock2;
const struct prefetch_ops WEAK prefetch_window;
const struct prefetch_ops WEAK prefetch_streams;
