/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The public library over the core and the Linux machine with inline faults.
 *
 * A system has one window of addresses: one kernel mapping, registered once when it opens. Mapping
 * and unmapping inside it are done by the core without a system call, and the kernel never sees
 * more than one range. An access to an address there that is not mapped faults to the library as
 * any other, and gets its SIGSEGV from the trap.
 *
 * This process writes the swap file itself; servers and an encrypted file are reached through
 * quire-far, by a ring of shared memory that lies in the store (lib/swap.c, store/pool_far.c).
 *
 * The budget: frames of the arena (which the core's own tables come from, too) and, apart from it, the pool's memory.
 *
 * Every call blocks all signals while it runs: a handler that touched mapped memory while this thread holds a lock of the core
 * would wait for itself. For the same reason, memory of the program that arguments point to is
 * copied before the core is called, and results are copied after it.
 *
 * Locks: q_lock (a mutex, outermost) guards the list of files, and is held while mappings come and go. Vnodes are released
 * only by unmapping, so a file that is found in the list under q_lock stays.
 */
#include <quire/quire.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <quire/as.h>
#include <quire/machine.h>
#include <quire/policy.h>
#include <quire/vm.h>
#include <quire/vnode.h>

#include "lib/swap.h"
#include "machine/linux/linux.h"
#include "store/file_vnode.h"
#include "store/pool.h"
#include "store/pool_vnode.h"

#define MEMORY_MIN (1ull << 20)
#define MEMORY_MAX (1ull << 42)
#define WINDOW (1ull << 40)
#define VEC_PAGES 1024u
#define SEGMENT 65536u    /* of the pool */
#define SEGMENT_PAGES 15u /* the least number of 4 KiB pages that a segment holds */
#define SEGMENTS_ASIDE 6u

struct quire {
	struct mach *q_mach; /* const after open, down to q_swapfd */
	struct vm *q_vm;
	struct as *q_as;
	struct vnode *q_swap;
	struct quire_store q_store;
	struct vnode q_storevn;
	struct pool q_pool;
	void *q_poolmem;
	size_t q_poolsize;
	bool q_haspool;
	int q_swapfd;
	struct far_started q_far[POOL_FARS]; /* q_lock after open */
	unsigned q_nfar;
	char *q_window;
	uint64_t q_windowlen;
	bool q_spaced;
	struct mach_mutex q_lock;
	struct file_vnode *q_files; /* q_lock */
};

static int error_of(enum vm_err e)
{
	switch (e) {
	case VM_OK: return 0;
	case VM_PROT:
	case VM_ACCESS: return EACCES;
	case VM_IO:
	case VM_EOF: return EIO;
	case VM_LOCKED: return EBUSY;
	case VM_INVAL: return EINVAL;
	case VM_EXIST: return EEXIST;
	case VM_NOTSUP: return EOPNOTSUPP;
	default: return ENOMEM;
	}
}

static int set_errno(int error)
{
	if (error == 0)
		return 0;
	errno = error;
	return -1;
}

/* ---- entry ---- */
static void block_signals(sigset_t *old)
{
	sigset_t all;

	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, old);
}

static void restore_signals(const sigset_t *old) { (void)pthread_sigmask(SIG_SETMASK, old, NULL); }

static void enter_quire(struct quire *q, sigset_t *old)
{
	block_signals(old);
	mach_mutex_enter(&q->q_lock);
}

static void leave_quire(struct quire *q, const sigset_t *old)
{
	mach_mutex_exit(&q->q_lock);
	restore_signals(old);
}

/* Checks that the range is aligned and does not wrap; rounds *len up. */
static bool range_ok(const void *addr, size_t *len)
{
	uint64_t a = (uint64_t)addr, n = vm_page_round(*len);

	if ((a & VM_PAGEMASK) != 0 || *len == 0 || n < *len || a + n < a)
		return false;
	*len = n;
	return true;
}

static bool in_window(const struct quire *q, const void *addr, size_t len)
{
	uint64_t a = (uint64_t)addr, base = (uint64_t)q->q_window;

	return a >= base && len <= q->q_windowlen && a - base <= q->q_windowlen - len;
}

/* ---- a store of the program's own ---- */
static void store_start(struct vnode *vp, struct vm_io *io)
{
	const struct quire_store *s = &((struct quire *)vp->v_data)->q_store;
	uint64_t slot = vm_btop(io->io_off);
	int rc = 0;

	for (io->io_ok = 0; io->io_ok < io->io_npages; io->io_ok++) {
		rc = io->io_op == VM_IO_READ
		    ? s->read(s->arg, slot + io->io_ok, io->io_buf[io->io_ok])
		    : s->write(s->arg, slot + io->io_ok, io->io_buf[io->io_ok]);
		if (rc != 0)
			break;
	}
	if (rc == 0)
		io->io_err = VM_OK;
	else
		io->io_err = rc == ENOSPC && io->io_op == VM_IO_WRITE ? VM_NOSWAP : VM_IO;
	io->io_done(io);
}

static void store_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	const struct quire_store *s = &((struct quire *)vp->v_data)->q_store;

	for (uint64_t i = vm_btop(off); s->discard != NULL && i < vm_btop(off + len); i++)
		s->discard(s->arg, i);
}

static void store_poll(struct vnode *vp, struct vm_io *io)
{
	(void)vp;
	(void)io;
}

static enum vm_err store_sync(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp;
	(void)off;
	(void)len;
	return VM_OK;
}

static uint64_t store_size(struct vnode *vp)
{
	return vm_ptob(((struct quire *)vp->v_data)->q_store.slots);
}
static void store_inactive(struct vnode *vp) { (void)vp; /* part of the system's own structure */ }

static const struct vnode_ops store_ops = {
	.vo_name = "store",
	.vo_start = store_start,
	.vo_poll = store_poll,
	.vo_discard = store_discard,
	.vo_sync = store_sync,
	.vo_size = store_size,
	.vo_inactive = store_inactive,
};

/* ---- open and close ---- */
static bool names_known(const struct quire_config *c)
{
	return (c->policy == NULL || policy_find(c->policy) != NULL) &&
	    (c->prefetch == NULL || prefetch_find(c->prefetch) != NULL);
}

static bool config_ok(const struct quire_config *c)
{
	if (c->memory < MEMORY_MIN || c->memory > MEMORY_MAX ||
	    ((c->swap != 0 || c->nplaces != 0) && c->pool == 0) || c->window >= 1ull << 46)
		return false;
	if (c->store == NULL)
		return names_known(c) && c->pool <= MEMORY_MAX && c->swap <= MEMORY_MAX &&
		    c->promise <= MEMORY_MAX;
	return names_known(c) && c->pool == 0 && c->promise == 0 && c->store->read != NULL &&
	    c->store->write != NULL && c->store->slots > 0;
}

static int open_window(struct quire *q, uint64_t want)
{
	uint64_t len = want != 0 ? vm_page_round(want) : WINDOW;
	int rc;

	for (;; len /= 2) {
		void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p != MAP_FAILED) {
			q->q_window = p;
			q->q_windowlen = len;
			break;
		}
		if (want != 0 || len <= 1u << 30)
			return ENOMEM;
	}
	if (madvise(q->q_window, q->q_windowlen, MADV_DONTFORK) != 0)
		return errno;
	if (as_alloc(q->q_vm, (vaddr_t)q->q_window, (vaddr_t)q->q_window + q->q_windowlen,
		&q->q_as) != VM_OK)
		return ENOMEM;
	rc =
	    linux_range_register(q->q_mach, as_hat(q->q_as), (uint64_t)q->q_window, q->q_windowlen);
	if (rc == 0)
		rc = linux_trap_install(q->q_mach);
	if (rc == 0)
		rc = linux_space_add(q->q_mach, q->q_as, (uint64_t)q->q_window, q->q_windowlen);
	q->q_spaced = rc == 0;
	return -rc;
}

static int open_store_memory(struct quire *q, const struct pool_config *pc)
{
	int rc;

	q->q_poolsize = vm_page_round(pool_shared_size(pc));
	q->q_poolmem = mmap(NULL, q->q_poolsize, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (q->q_poolmem == MAP_FAILED) {
		q->q_poolmem = NULL;
		return ENOMEM;
	}
	(void)madvise(q->q_poolmem, q->q_poolsize, MADV_DONTFORK);
	if ((rc = pool_format(q->q_poolmem, pc)) != 0 ||
	    (rc = pool_attach(&q->q_pool, q->q_poolmem, q->q_poolsize, q->q_swapfd)) != 0)
		return -rc;
	q->q_haspool = true;
	return 0;
}

/* Maps the ring of each far place at its place in the store: it is the only part of the store that
 * quire-far shares. 0 or errno. */
static int open_rings(struct quire *q, const struct quire_swap *sw)
{
	uint64_t ring_at;
	int rc = 0;

	for (unsigned i = 0; i < sw->qs_nfar && rc == 0; i++) {
		struct far_ring *ring = pool_far(&q->q_pool, i, &ring_at);
		int fd = memfd_create("quire-ring", MFD_CLOEXEC);

		if (fd < 0 || ftruncate(fd, (off_t)far_ring_bytes()) != 0 ||
		    mmap(ring, far_ring_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			0) == MAP_FAILED ||
		    madvise(ring, far_ring_bytes(), MADV_DONTFORK) != 0) {
			rc = errno;
		} else {
			far_ring_format(ring);
			rc = quire_swap_start(sw, i, &q->q_far[i], fd);
		}
		q->q_nfar = i + 1;
		if (fd >= 0)
			(void)close(fd);
	}
	return rc;
}

static int open_pool(struct quire *q, const struct quire_config *c, uint64_t *slots)
{
	struct quire_swap sw;
	struct pool_config pc = { .mem_limit = c->pool, .rate = c->swap_rate };
	uint64_t swap;
	int rc = quire_swap_open(&sw, c);

	q->q_swapfd = sw.qs_fd;
	pc.file_limit = swap = sw.qs_bytes;
	pc.keep_free = sw.qs_bytes != 0 ? c->swap_keep_free : 0;
	for (unsigned i = 0; i < sw.qs_nfar; i++)
		swap += pc.far_bytes[i] = sw.qs_plan[i].bytes;
	if (rc == 0)
		rc = open_store_memory(q, &pc);
	if (rc == 0)
		rc = open_rings(q, &sw);
	quire_swap_close(&sw);
	if (rc != 0)
		return rc;
	pool_alone(&q->q_pool);
	/* The pages that fit even if none compresses: those are certain. Segments that are open,
	 * being written or kept aside hold fewer. */
	*slots = (c->pool + swap) / SEGMENT;
	*slots = *slots > 2 * SEGMENTS_ASIDE ? (*slots - SEGMENTS_ASIDE) * SEGMENT_PAGES
					     : *slots * SEGMENT_PAGES / 2;
	if (c->promise != 0)
		*slots = c->promise > c->memory ? vm_btop(c->promise - c->memory) : 0;
	q->q_swap = *slots == 0 ? NULL : pool_vnode_create(q->q_vm, &q->q_pool, *slots);
	return q->q_swap == NULL && *slots != 0 ? ENOMEM : 0;
}

static int open_store(struct quire *q, const struct quire_config *c)
{
	uint64_t slots = 0;
	int rc = 0;

	if (c->store != NULL) {
		q->q_store = *c->store;
		slots = q->q_store.slots;
		vnode_init(&q->q_storevn, q->q_vm, &store_ops, q);
		q->q_storevn.v_flags = V_SWAP;
		q->q_swap = &q->q_storevn;
	} else if (c->pool != 0) {
		rc = open_pool(q, c, &slots);
	}
	if (rc == 0 && q->q_swap != NULL && swap_add(q->q_vm, q->q_swap, slots, 0) != VM_OK)
		rc = ENOMEM;
	return rc;
}

/* The pages of those bytes of the pool and its places that fit even if none compresses. */
static uint64_t pages_of(uint64_t bytes) { return bytes / SEGMENT * SEGMENT_PAGES; }

/* A server that ends or shrinks, or a file that may not grow, has less room than was promised. */
static uint64_t pages_unbacked(void *arg)
{
	struct quire *q = arg;

	return q->q_haspool ? pages_of(pool_bytes_lost(&q->q_pool)) : 0;
}

static int build_system(struct quire *q, const struct quire_config *c)
{
	struct linux_config lc = { .frames = (pfn_t)vm_btop(c->memory),
		.inline_faults = true,
		.reuse_held = true,
		.forget_on_fork = true };
	struct vm_config vc = { .vc_frames = lc.frames,
		.vc_policy = c->policy != NULL ? policy_find(c->policy) : NULL,
		.vc_prefetch = c->prefetch != NULL ? prefetch_find(c->prefetch) : NULL,
		.vc_unbacked = pages_unbacked,
		.vc_promisearg = q };
	const char *without = getenv("QUIRE_WITHOUT"); /* for tests */
	enum vm_err e;
	int rc;

	if (without != NULL && !sys_offers_named(without, &lc.without))
		return EINVAL;
	rc = linux_create(&lc, &q->q_mach);

	if (rc != 0)
		return -rc;
	vc.vc_mach = q->q_mach;
	if ((e = vm_create(&vc, &q->q_vm)) != VM_OK)
		return error_of(e);
	rc = open_store(q, c);
	return rc != 0 ? rc : open_window(q, c->window);
}

static void destroy_system(struct quire *q)
{
	if (q->q_spaced)
		linux_space_remove(q->q_mach, q->q_as, (uint64_t)q->q_window, q->q_windowlen);
	if (q->q_as != NULL)
		as_free(q->q_as);
	if (q->q_swap != NULL) {
		(void)swap_remove(q->q_vm, q->q_swap);
		vnode_rele(q->q_swap);
	}
	if (q->q_haspool)
		pool_detach(&q->q_pool);
	for (unsigned i = 0; i < q->q_nfar; i++)
		far_stop(&q->q_far[i]);
	if (q->q_vm != NULL)
		vm_destroy(q->q_vm);
	if (q->q_mach != NULL)
		linux_destroy(q->q_mach);
	if (q->q_window != NULL)
		(void)munmap(q->q_window, q->q_windowlen);
	if (q->q_poolmem != NULL)
		(void)munmap(q->q_poolmem, q->q_poolsize);
	if (q->q_swapfd >= 0)
		(void)close(q->q_swapfd);
	mach_mutex_fini(&q->q_lock);
	free(q);
}

int quire_open(const struct quire_config *config, struct quire **qp)
{
	struct quire_config c = { 0 };
	sigset_t old;
	struct quire *q;
	int rc;

	if (config == NULL || qp == NULL || config->size == 0 || config->size > sizeof c)
		return set_errno(EINVAL);
	memcpy(&c, config, config->size);
	if (!config_ok(&c))
		return set_errno(EINVAL);
	q = calloc(1, sizeof *q);
	if (q == NULL)
		return set_errno(ENOMEM);
	q->q_swapfd = -1;
	mach_mutex_init(&q->q_lock, 1, "quire");
	block_signals(&old);
	rc = build_system(q, &c);
	if (rc != 0)
		destroy_system(q);
	restore_signals(&old);
	if (rc == 0)
		*qp = q;
	return set_errno(rc);
}

int quire_close(struct quire *q)
{
	sigset_t old;

	block_signals(&old);
	destroy_system(q);
	restore_signals(&old);
	return 0;
}

/* ---- files ---- */
struct owned_file {
	struct file_vnode of_file;
	struct quire *of_owner;
};

static void file_gone(struct file_vnode *fv)
{
	struct owned_file *of = (struct owned_file *)(void *)fv;
	struct file_vnode **p = &of->of_owner->q_files;

	while (*p != NULL && *p != fv)
		p = &(*p)->fv_next;
	if (*p == fv)
		*p = fv->fv_next;
	(void)close(fv->fv_fd);
	free(of);
}

/* Takes a reference to a descriptor that is open for reading and, if any mapping will need that,
 * for writing. q_lock. */
static int file_get(
    struct quire *q, int fd, int prot, bool shared, struct vnode **vpp, unsigned *maxprot)
{
	int fl = fcntl(fd, F_GETFL);
	struct file_vnode *fv;
	struct owned_file *of;
	struct stat st;

	if (fl < 0 || fstat(fd, &st) != 0)
		return EBADF;
	if (!S_ISREG(st.st_mode))
		return ENODEV;
	if ((fl & O_ACCMODE) == O_WRONLY || (fl & O_PATH) != 0 ||
	    (shared && (prot & PROT_WRITE) != 0 && (fl & O_ACCMODE) != O_RDWR))
		return EACCES;
	*maxprot = PROT_R | (!shared || (fl & O_ACCMODE) == O_RDWR ? PROT_W : 0u);
	for (fv = q->q_files; fv != NULL; fv = fv->fv_next)
		if (fv->fv_dev == st.st_dev && fv->fv_ino == st.st_ino) {
			int now = fcntl(fv->fv_fd, F_GETFL);

			/* A better descriptor takes the place of a read-only one: same file, same number. */
			if ((now & O_ACCMODE) == O_RDONLY && (fl & O_ACCMODE) == O_RDWR &&
			    dup3(fd, fv->fv_fd, O_CLOEXEC) < 0)
				return errno;
			vnode_hold(&fv->fv_vnode);
			*vpp = &fv->fv_vnode;
			return 0;
		}
	of = calloc(1, sizeof *of);
	if (of == NULL)
		return ENOMEM;
	fv = &of->of_file;
	of->of_owner = q;
	fv->fv_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fv->fv_fd < 0) {
		free(of);
		return ENOMEM;
	}
	fv->fv_dev = st.st_dev;
	fv->fv_ino = st.st_ino;
	fv->fv_gone = file_gone;
	fv->fv_next = q->q_files;
	q->q_files = fv;
	file_vnode_init(fv, q->q_vm);
	*vpp = &fv->fv_vnode;
	return 0;
}

/* ---- mapping ---- */
#define MAP_KNOWN                                                                                  \
	(MAP_PRIVATE | MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_FIXED_NOREPLACE |              \
	    MAP_NORESERVE | MAP_POPULATE)

static int map_args_ok(const void *addr, size_t *len, int prot, int flags, off_t off)
{
	if ((flags & ~MAP_KNOWN) != 0)
		return EOPNOTSUPP;
	if (((flags & MAP_PRIVATE) != 0) == ((flags & MAP_SHARED) != 0) ||
	    ((uint64_t)off & VM_PAGEMASK) != 0 || off < 0)
		return EINVAL;
	if ((prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0)
		return EINVAL;
	if ((prot & PROT_EXEC) != 0)
		return EACCES;
	if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) == 0)
		addr = NULL;
	if (*len == 0 || ((uint64_t)addr & VM_PAGEMASK) != 0)
		return EINVAL;
	return range_ok(addr, len) ? 0 : ENOMEM;
}

/* The core chooses the place: addr exactly, addr if it is free there, or the lowest hole. q_lock. */
static int place_mapping(struct quire *q, const void *addr, size_t len, int flags,
    const struct segvn_args *sa, vaddr_t *at)
{
	unsigned how = (flags & MAP_FIXED) != 0 ? AS_FIXED : 0;

	if ((flags & MAP_FIXED_NOREPLACE) != 0)
		how = AS_NOREPLACE;
	if (how != 0 && !in_window(q, addr, len))
		return ENOMEM;
	*at = (vaddr_t)addr;
	return error_of(as_map_at(q->q_as, at, len, 0, how, segvn_create, sa));
}

static unsigned core_prot(int prot)
{
	return ((prot & PROT_READ) != 0 ? PROT_R : 0u) |
	    ((prot & PROT_WRITE) != 0 ? PROT_R | PROT_W : 0u);
}

/* q_lock held. */
static int map_locked(
    struct quire *q, void *addr, size_t len, int prot, int flags, int fd, off_t off, vaddr_t *at)
{
	struct segvn_args sa = { .sa_prot = core_prot(prot),
		.sa_maxprot = PROT_R | PROT_W,
		.sa_off = (voff_t)off,
		.sa_flags = ((flags & MAP_SHARED) != 0 ? SEGVN_SHARED : 0u) |
		    ((flags & MAP_NORESERVE) != 0 ? SEGVN_NORESERVE : 0u) };
	int rc;

	assert(mach_mutex_held(&q->q_lock));
	if ((flags & MAP_ANONYMOUS) != 0)
		sa.sa_off = 0;
	else if ((rc = file_get(
		      q, fd, prot, (flags & MAP_SHARED) != 0, &sa.sa_vnode, &sa.sa_maxprot)) != 0)
		return rc;
	rc = place_mapping(q, addr, len, flags, &sa, at);
	if (sa.sa_vnode != NULL)
		vnode_rele(sa.sa_vnode); /* the segment has its own reference */
	return rc;
}

void *quire_map(struct quire *q, void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	int rc = map_args_ok(addr, &len, prot, flags, off);
	vaddr_t at = 0;
	sigset_t old;

	if (rc == 0) {
		enter_quire(q, &old);
		rc = map_locked(q, addr, len, prot, flags, fd, off, &at);
		leave_quire(q, &old);
	}
	if (rc == 0 && (flags & MAP_POPULATE) != 0 && prot != PROT_NONE)
		(void)quire_advise(q, (void *)at, len,
		    (prot & PROT_WRITE) != 0 ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	if (rc != 0) {
		errno = rc;
		return MAP_FAILED;
	}
	return (void *)at;
}

int quire_unmap(struct quire *q, void *addr, size_t len)
{
	sigset_t old;
	enum vm_err e;

	if (!range_ok(addr, &len) || !in_window(q, addr, len))
		return set_errno(EINVAL);
	enter_quire(q, &old);
	e = as_unmap(q->q_as, (vaddr_t)addr, len);
	leave_quire(q, &old);
	return set_errno(error_of(e));
}

int quire_protect(struct quire *q, void *addr, size_t len, int prot)
{
	sigset_t old;
	enum vm_err e;

	if (!range_ok(addr, &len) || (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0)
		return set_errno(EINVAL);
	if ((prot & PROT_EXEC) != 0)
		return set_errno(EACCES);
	enter_quire(q, &old);
	e = in_window(q, addr, len) ? as_setprot(q->q_as, (vaddr_t)addr, len, core_prot(prot))
				    : VM_NOMAP;
	leave_quire(q, &old);
	return set_errno(error_of(e));
}

static bool advice_of(int advice, enum advice *a)
{
	switch (advice) {
	case MADV_NORMAL: *a = ADV_NORMAL; return true;
	case MADV_RANDOM: *a = ADV_RANDOM; return true;
	case MADV_SEQUENTIAL: *a = ADV_SEQUENTIAL; return true;
	case MADV_WILLNEED: *a = ADV_WILLNEED; return true;
	case MADV_DONTNEED: *a = ADV_DONTNEED; return true;
	case MADV_FREE: *a = ADV_FREE; return true;
	case MADV_COLD: *a = ADV_COLD; return true;
	case MADV_PAGEOUT: *a = ADV_PAGEOUT; return true;
	case MADV_POPULATE_READ: *a = ADV_POPULATE_READ; return true;
	case MADV_POPULATE_WRITE: *a = ADV_POPULATE_WRITE; return true;
	default: return false;
	}
}

int quire_advise(struct quire *q, void *addr, size_t len, int advice)
{
	enum advice a;
	sigset_t old;
	enum vm_err e;

	if (!range_ok(addr, &len) || !advice_of(advice, &a))
		return set_errno(EINVAL);
	if (!in_window(q, addr, len))
		return set_errno(ENOMEM);
	block_signals(&old);
	e = as_advise(q->q_as, (vaddr_t)addr, len, a);
	restore_signals(&old);
	switch (e) { /* populating: the errors are Linux's */
	case VM_PROT: return set_errno(EINVAL);
	case VM_EOF: return set_errno(EFAULT);
	default: return set_errno(error_of(e));
	}
}

int quire_sync(struct quire *q, void *addr, size_t len, int flags)
{
	unsigned f = ((flags & MS_ASYNC) != 0 ? SYNC_ASYNC : 0u) |
	    ((flags & MS_INVALIDATE) != 0 ? SYNC_INVAL : 0u);
	sigset_t old;
	enum vm_err e;

	if (!range_ok(addr, &len) || (flags & ~(MS_SYNC | MS_ASYNC | MS_INVALIDATE)) != 0 ||
	    (flags & (MS_SYNC | MS_ASYNC)) == (MS_SYNC | MS_ASYNC))
		return set_errno(EINVAL);
	if (!in_window(q, addr, len))
		return set_errno(ENOMEM);
	block_signals(&old);
	e = as_sync(q->q_as, (vaddr_t)addr, len, f);
	restore_signals(&old);
	return set_errno(error_of(e));
}

/* ---- keeping pages ---- */
static int lock_op(
    struct quire *q, void *addr, size_t len, enum vm_err (*op)(struct as *, vaddr_t, uint64_t))
{
	sigset_t old;
	enum vm_err e;

	if (!range_ok(addr, &len))
		return set_errno(EINVAL);
	if (!in_window(q, addr, len))
		return set_errno(ENOMEM);
	block_signals(&old);
	e = op(q->q_as, (vaddr_t)addr, len);
	restore_signals(&old);
	return set_errno(e == VM_PROT || e == VM_EOF ? ENOMEM : error_of(e));
}

int quire_lock(struct quire *q, void *addr, size_t len) { return lock_op(q, addr, len, as_lock); }
int quire_unlock(struct quire *q, void *addr, size_t len)
{
	return lock_op(q, addr, len, as_unlock);
}

static int pin_op(
    struct quire *q, const void *addr, size_t len, int for_write, enum fault_type type)
{
	uint64_t from = vm_page_trunc((uint64_t)addr), in = (uint64_t)addr - from;
	sigset_t old;
	enum vm_err e;

	if (len == 0)
		return set_errno(EINVAL);
	if (len > q->q_windowlen || !in_window(q, (const void *)from, vm_page_round(in + len)))
		return set_errno(EFAULT);
	block_signals(&old);
	e = as_fault(q->q_as, from, vm_page_round(in + len), type, for_write ? S_WRITE : S_READ);
	restore_signals(&old);
	return set_errno(e == VM_NOMAP || e == VM_PROT ? EFAULT : error_of(e));
}

int quire_pin(struct quire *q, const void *addr, size_t len, int for_write)
{
	return pin_op(q, addr, len, for_write, F_SOFTLOCK);
}

int quire_unpin(struct quire *q, const void *addr, size_t len, int for_write)
{
	return pin_op(q, addr, len, for_write, F_SOFTUNLOCK);
}

/* ---- looking ---- */
int quire_incore(struct quire *q, void *addr, size_t len, unsigned char *vec)
{
	uint8_t part[VEC_PAGES];

	if (!range_ok(addr, &len))
		return set_errno(EINVAL);
	if (!in_window(q, addr, len))
		return set_errno(ENOMEM);
	for (uint64_t done = 0, n; done < vm_btop(len); done += n) {
		sigset_t old;
		enum vm_err e;

		n = vm_btop(len) - done < VEC_PAGES ? vm_btop(len) - done : VEC_PAGES;
		block_signals(&old);
		e = as_incore(q->q_as, (vaddr_t)addr + vm_ptob(done), vm_ptob(n), part);
		restore_signals(&old);
		if (e != VM_OK)
			return set_errno(error_of(e));
		for (uint64_t i = 0; i < n; i++)
			vec[done + i] =
			    part[i] & (QUIRE_IN_MEMORY | QUIRE_IN_LOCKED | QUIRE_IN_STORE);
	}
	return 0;
}

_Static_assert(QUIRE_IN_MEMORY == INCORE_PRESENT && QUIRE_IN_LOCKED == INCORE_LOCKED &&
	QUIRE_IN_STORE == INCORE_SWAPPED,
    "the core's bits are passed on");

/* For how long, in ns, a server has been waited for; 0: none is. q_lock. */
static uint64_t far_away(struct quire *q)
{
	struct timespec ts;
	uint64_t now, most = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	for (unsigned i = 0; i < q->q_nfar; i++) {
		(void)far_hear(&q->q_far[i]);
		if (q->q_far[i].told.away_ns != 0 && now - q->q_far[i].told.away_ns > most)
			most = now - q->q_far[i].told.away_ns;
	}
	return most;
}

int quire_stat(struct quire *q, struct quire_stats *out, size_t size)
{
	const struct vm_stats *s = vm_statistics(q->q_vm);
	struct pool_stats ps = { 0 };
	struct quire_stats st;
	struct vm_usage vu;
	struct as_usage au;
	uint64_t away;
	sigset_t old;

	if (size == 0 || out == NULL)
		return set_errno(EINVAL);
	enter_quire(q, &old);
	vm_usage(q->q_vm, &vu);
	as_usage(q->q_as, &au);
	if (q->q_haspool)
		pool_stats(&q->q_pool, &ps);
	away = far_away(q);
	leave_quire(q, &old);
	st = (struct quire_stats){
		.faults = s->fault,
		.faults_failed = s->fault_err + s->fault_nomap,
		.zero_filled = s->zfod,
		.copied = s->cow,
		.rescued = s->rescue,
		.pages_in = s->pgin,
		.pages_out = s->pgout,
		.clean_dropped = s->clean_drop,
		.io_errors = s->io_error,
		.memory = vm_ptob(vu.vu_frames),
		.memory_free = vm_ptob(vu.vu_free + vu.vu_cache),
		.mapped = au.au_size,
		.resident = vm_ptob(au.au_rss),
		.locked = vm_ptob(vu.vu_wired),
		.promised = vm_ptob(vu.vu_reserved),
		.promise_max = vm_ptob(vu.vu_resv_max),
		.pool_used = ps.mem_held,
		.pool_pages = vm_ptob(ps.pages),
		.swap_used = ps.file_bytes,
		.swap_read = ps.bytes_read,
		.swap_written = ps.bytes_written,
		.proportional = au.au_pss,
		.far_used = ps.far_bytes,
		.far_moved = ps.bytes_far,
		.far_sunk = ps.sunk * SEGMENT,
		.far_away_ms = away / 1000000u,
	};
	memcpy(out, &st, size < sizeof st ? size : sizeof st);
	return 0;
}

unsigned quire_check(struct quire *q, void (*report)(void *, const char *), void *arg)
{
	sigset_t old;
	unsigned n;

	block_signals(&old);
	n = vm_check(q->q_vm, report, arg);
	restore_signals(&old);
	return n;
}
