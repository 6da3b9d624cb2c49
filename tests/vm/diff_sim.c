/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The core on the simulated machine under test, as a kernel over it would use it: results of as_* turned into errno values as
 * Linux' system calls have them, faults into signals, read and write through the page cache.
 */
#include "machine/sim/sim.h"
#include "tests/vm/diff.h"

#include <quire/as.h>
#include <quire/page.h>
#include <quire/seg.h>
#include <quire/vm.h>
#include <quire/vnode.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FRAMES 192u
#define NCPUS 2u
#define BASE ((vaddr_t)0x8000000000 - 96 * PAGE)

static struct mach *mach;
static struct vm *vm;
static struct as *as;
static struct vnode *files[NFILES];
static unsigned turn; /* accesses from one CPU after the other */

static vaddr_t va(unsigned page) { return BASE + vm_ptob(page); }

static int error_of(enum vm_err e)
{
	switch (e) {
	case VM_OK: return 0;
	case VM_ACCESS: return EACCES;
	case VM_EXIST: return EEXIST;
	case VM_INVAL: return EINVAL;
	case VM_LOCKED: return EBUSY;
	case VM_IO: return EIO;
	case VM_NOMAP:
	case VM_NOMEM:
	case VM_NOSWAP:
	case VM_LIMIT: return ENOMEM;
	default: return EOPNOTSUPP;
	}
}

static bool s_open(uint64_t seed, uint8_t *const *data, const uint64_t *size)
{
	struct sim_config cfg = { .frames = FRAMES, .ncpus = NCPUS, .seed = seed };
	struct vm_config vc = { .vc_frames = FRAMES };
	struct vnode *swap;

	if ((mach = vc.vc_mach = sim_create(&cfg)) == NULL || vm_create(&vc, &vm) != VM_OK)
		return false;
	swap = sim_disk_create(mach, vm, "swap", vm_ptob(2 * WINDOW), V_SWAP);
	if (swap == NULL || swap_add(vm, swap, 2 * WINDOW, 0) != VM_OK)
		return false;
	vnode_rele(swap);
	for (unsigned i = 0; i < NFILES; i++) {
		if ((files[i] = sim_disk_create(mach, vm, "file", size[i], 0)) == NULL)
			return false;
		memcpy(sim_disk_data(files[i]), data[i], size[i]);
	}
	return as_alloc(vm, mach_caps(mach)->mc_user_min, mach_caps(mach)->mc_user_max, &as) ==
	    VM_OK;
}

static void s_close(void)
{
	as_free(as);
	for (unsigned i = 0; i < NFILES; i++)
		vnode_rele(files[i]);
	vm_destroy(vm);
	sim_destroy(mach);
}

static void report(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "check: %s\n", text);
}

static unsigned s_check(void)
{
	return vm_check(vm, report, NULL) + sim_tlb_check(mach, report, NULL);
}

static unsigned core_prot(int prot)
{
	return ((prot & PROT_READ) != 0 ? PROT_R : 0u) |
	    ((prot & PROT_WRITE) != 0 ? PROT_R | PROT_W : 0u);
}

static int s_map(unsigned page, unsigned n, int prot, int flags, int file, unsigned off)
{
	struct segvn_args sa = { .sa_prot = core_prot(prot),
		.sa_maxprot = PROT_R | PROT_W | PROT_X,
		.sa_flags = ((flags & MAP_SHARED) != 0 ? SEGVN_SHARED : 0u) |
		    ((flags & MAP_NORESERVE) != 0 ? SEGVN_NORESERVE : 0u) };
	vaddr_t at = va(page);

	if (file >= 0) {
		sa.sa_vnode = files[file];
		sa.sa_off = vm_ptob(off);
	}
	return error_of(as_map_at(as, &at, vm_ptob(n), 0,
	    ((flags & MAP_FIXED_NOREPLACE) != 0 ? AS_NOREPLACE : AS_FIXED) |
		((flags & MAP_POPULATE) != 0 ? AS_POPULATE : 0u),
	    segvn_create, &sa));
}

static int s_unmap(unsigned page, unsigned n)
{
	return error_of(as_unmap(as, va(page), vm_ptob(n)));
}
static int s_protect(unsigned page, unsigned n, int prot)
{
	return error_of(as_setprot(as, va(page), vm_ptob(n), core_prot(prot)));
}

static int s_advise(unsigned page, unsigned n, int advice)
{
	static const struct {
		int native;
		enum advice ours;
	} names[] = { { MADV_NORMAL, ADV_NORMAL }, { MADV_RANDOM, ADV_RANDOM },
		{ MADV_SEQUENTIAL, ADV_SEQUENTIAL }, { MADV_WILLNEED, ADV_WILLNEED },
		{ MADV_DONTNEED, ADV_DONTNEED }, { MADV_FREE, ADV_FREE }, { MADV_COLD, ADV_COLD },
		{ MADV_PAGEOUT, ADV_PAGEOUT }, { MADV_POPULATE_READ, ADV_POPULATE_READ },
		{ MADV_POPULATE_WRITE, ADV_POPULATE_WRITE } };
	enum vm_err e;

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].native != advice)
			continue;
		e = as_advise(as, va(page), vm_ptob(n), names[i].ours);
		return e == VM_PROT ? EINVAL : e == VM_EOF ? EFAULT : error_of(e);
	}
	return EINVAL;
}

static int s_sync(unsigned page, unsigned n, int flags)
{
	if ((flags & (MS_SYNC | MS_ASYNC)) == (MS_SYNC | MS_ASYNC))
		return EINVAL;
	return error_of(as_sync(as, va(page), vm_ptob(n),
	    ((flags & MS_ASYNC) != 0 ? SYNC_ASYNC : 0u) |
		((flags & MS_INVALIDATE) != 0 ? SYNC_INVAL : 0u)));
}

static int s_incore(unsigned page, unsigned n, unsigned char *vec)
{
	return error_of(as_incore(as, va(page), vm_ptob(n), vec));
}

static int lock_error(enum vm_err e) { return e == VM_PROT || e == VM_EOF ? ENOMEM : error_of(e); }

static int s_lock(unsigned page, unsigned n)
{
	return lock_error(as_lock(as, va(page), vm_ptob(n)));
}
static int s_unlock(unsigned page, unsigned n)
{
	return lock_error(as_unlock(as, va(page), vm_ptob(n)));
}

static enum sig s_access(uint64_t at, bool write, uint8_t *buf, uint64_t len, uint64_t *done)
{
	unsigned cpu = turn++ % NCPUS;

	switch (write ? sim_write(mach, as, cpu, BASE + at, buf, len, done)
		      : sim_read(mach, as, cpu, BASE + at, buf, len, done)) {
	case VM_OK: return SIG_NOTHING;
	case VM_NOMAP: return SIG_MAPERR;
	case VM_PROT: return SIG_ACCERR;
	default: return SIG_BUS;
	}
}

static int s_fread(int file, uint64_t off, uint8_t *buf, uint64_t len)
{
	uint64_t done;

	return vnode_read(files[file], off, buf, len, &done) == VM_OK && done == len ? 0 : EIO;
}
static int s_fwrite(int file, uint64_t off, const uint8_t *buf, uint64_t len)
{
	uint64_t done;

	return vnode_write(files[file], off, buf, len, &done) == VM_OK && done == len ? 0 : EIO;
}

/* The file's end moves first, so that no access reads truncated pages back. */
static int s_truncate(int file, uint64_t size)
{
	bool shrinks = size < files[file]->v_ops->vo_size(files[file]);

	if (!sim_disk_resize(files[file], size))
		return ENOMEM;
	if (shrinks)
		pvn_truncate(vm, files[file], size);
	return 0;
}

static int s_remap(unsigned page, unsigned oldn, unsigned newn, unsigned to)
{
	vaddr_t at = va(to);

	enum vm_err e =
	    as_remap(as, va(page), vm_ptob(oldn), vm_ptob(newn), REMAP_MAYMOVE | REMAP_FIXED, &at);

	return e == VM_NOMAP ? EFAULT : error_of(e);
}

static uint64_t s_fork(uint64_t (*child)(const struct exec *, void *), void *arg)
{
	struct as *parent = as, *copy;
	uint64_t got;

	if (as_dup(parent, &copy) != VM_OK)
		return 0;
	as = copy;
	got = child(&exec_tested, arg);
	as = parent;
	as_free(copy);
	return got;
}

const struct exec exec_tested = {
	.x_name = "sim",
	.x_open = s_open,
	.x_close = s_close,
	.x_check = s_check,
	.x_map = s_map,
	.x_unmap = s_unmap,
	.x_protect = s_protect,
	.x_advise = s_advise,
	.x_sync = s_sync,
	.x_incore = s_incore,
	.x_lock = s_lock,
	.x_unlock = s_unlock,
	.x_access = s_access,
	.x_fread = s_fread,
	.x_fwrite = s_fwrite,
	.x_truncate = s_truncate,
	.x_remap = s_remap,
	.x_fork = s_fork,
};
