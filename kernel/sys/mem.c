/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System calls of memory: thin over the vm's address spaces.
 *
 * Placing: a free range at the hint is taken; else the highest hole below the room into which the
 * stack may grow. as_gap and as_map are two steps: if another thread was faster, both are repeated.
 *
 * Locks: the vm has the locks of the space. i_lock while a file gets the blocks to which its
 * mapping may write; proc_lock to find another process and to hold its space.
 */
#include "kernel/sys/mem.h"
#include "kernel/sys/calls.h"
#include "kernel/sys/file.h"

#define MAP_SHARED 1u
#define MAP_PRIVATE 2u
#define MAP_FIXED 0x10u
#define MAP_ANONYMOUS 0x20u
#define MAP_32BIT 0x40u
#define MAP_NORESERVE 0x4000u
#define MAP_POPULATE 0x8000u
#define MAP_NOREPLACE 0x100000u

static int mem_err(enum vm_err e)
{
	switch (e) {
	case VM_NOMAP:
	case VM_NOMEM:
	case VM_NOSWAP:
	case VM_LIMIT: return -ENOMEM;
	case VM_PROT:
	case VM_ACCESS: return -EACCES;
	case VM_LOCKED: return -EBUSY;
	case VM_IO: return -EIO;
	case VM_RETRY: return -EAGAIN;
	default: return err_of(e);
	}
}

/* The end of the area for mappings without a given address. */
static vaddr_t top_for(const struct proc *p, unsigned flags)
{
	return flags & MAP_32BIT ? 1ull << 31 : mmap_top(p);
}

static enum vm_err place_mapping(
    struct proc *p, vaddr_t *at, uint64_t len, unsigned flags, const struct segvn_args *a)
{
	vaddr_t hint = vm_page_trunc(*at), max = top_for(p, flags);
	enum vm_err e;

	if (flags & (MAP_FIXED | MAP_NOREPLACE)) {
		unsigned how = flags & MAP_NOREPLACE ? AS_FIXED | AS_NOREPLACE : AS_FIXED;

		return as_map_at(p->p_as, at, len, VM_PAGESIZE,
		    flags & MAP_NOREPLACE ? how & ~AS_FIXED : how, segvn_create, a);
	}
	if (hint >= 0x10000 && hint < max && len <= max - hint &&
	    as_map(p->p_as, hint, len, segvn_create, a) == VM_OK) {
		*at = hint;
		return VM_OK;
	}
	do {
		if ((e = as_gap(p->p_as, len, VM_PAGESIZE, 0x10000, max, true, at)) != VM_OK)
			return e;
		e = as_map(p->p_as, *at, len, segvn_create, a);
	} while (e == VM_EXIST);
	return e;
}

/*
 * The object by which a file is mapped. Checks that the file can be mapped this way; 0 or a
 * negative error.
 */
static int file_args(
    struct file *f, unsigned flags, unsigned prot, uint64_t off, uint64_t len, struct segvn_args *a)
{
	struct inode *i = f->f_inode;
	bool writer = (f->f_flags & O_ACCMODE) != 0;
	int err = 0;

	if (inode_type(i) != S_IFREG)
		return inode_type(i) == S_IFCHR && i->i_rdev == 0x105 ? 0 : -ENODEV;
	if ((f->f_flags & O_ACCMODE) == O_WRONLY)
		return -EACCES;
	a->sa_off = off;
	if (tmpfs_memory(i) != NULL) {
		if (!(flags & MAP_SHARED))
			return 0; /* map_snapshot */
		mach_mutex_enter(&i->i_lock);
		err = i->i_ops->io_extend(i, off, len);
		mach_mutex_exit(&i->i_lock);
		a->sa_amp = tmpfs_memory(i);
		return err;
	}
	a->sa_vnode = &i->i_vnode;
	if (!(flags & MAP_SHARED))
		return 0;
	if (!writer) {
		a->sa_maxprot &= ~PROT_W;
		return prot & PROT_W ? -EACCES : 0;
	}
	if (i->i_ops->io_extend == NULL)
		return 0;
	/*
	 * page-out cannot allocate blocks: so holes are filled now, and blocks of growth when the
	 * file grows
	 */
	mach_mutex_enter(&i->i_lock);
	i->i_filled = true;
	if (off < i->i_size) {
		uint64_t n = i->i_size - off < len ? i->i_size - off : len;

		err = i->i_ops->io_extend(i, off, n);
		i->i_dirty = true;
	}
	mach_mutex_exit(&i->i_lock);
	return err;
}

/* A private mapping of a tmpfs file: the present bytes of the file, and SIGBUS behind its end. */
struct snapshot {
	struct inode *n_inode;
	uint64_t n_off, n_len;
	unsigned n_prot;
};

static int take_snapshot(const struct snapshot *n, vaddr_t at)
{
	return tmpfs_snapshot(n->n_inode, n->n_off, n->n_len, this_proc()->p_as, at, n->n_prot);
}

/* Maps in the highest hole of [min, max). */
static int snapshot_in_hole(const struct snapshot *n, vaddr_t min, vaddr_t max, vaddr_t *at)
{
	enum vm_err e;
	int err;

	do {
		e = as_gap(this_proc()->p_as, n->n_len, VM_PAGESIZE, min, max, true, at);
		err = e == VM_OK ? take_snapshot(n, *at) : mem_err(e);
	} while (e == VM_OK && err == -EEXIST);
	return err;
}

/*
 * Replaces all mappings at `to`, in one step: other threads see the old mapping or the new mapping.
 */
static int snapshot_instead(const struct snapshot *n, vaddr_t to)
{
	struct as *as = this_proc()->p_as;
	vaddr_t from, place = to;
	enum vm_err e;
	int err;

	if (to < USER_MIN || to > user_top() || n->n_len > user_top() - to)
		return -ENOMEM;
	if ((err = snapshot_in_hole(n, USER_MIN, to, &from)) == -ENOMEM)
		err = snapshot_in_hole(n, to + n->n_len, user_top(), &from);
	if (err != 0)
		return err;
	e = as_remap(as, from, n->n_len, n->n_len, REMAP_MAYMOVE | REMAP_FIXED, &place);
	if (e != VM_OK)
		(void)as_unmap(as, from, n->n_len);
	return mem_err(e);
}

static int map_snapshot(const struct snapshot *n, unsigned flags, vaddr_t *at)
{
	vaddr_t hint = vm_page_trunc(*at), max = top_for(this_proc(), flags);

	if (flags & MAP_NOREPLACE)
		return *at >= USER_MIN ? take_snapshot(n, *at) : -ENOMEM;
	if (flags & MAP_FIXED)
		return snapshot_instead(n, *at);
	if (hint >= USER_MIN && hint < max && n->n_len <= max - hint &&
	    take_snapshot(n, hint) == 0) {
		*at = hint;
		return 0;
	}
	return snapshot_in_hole(n, USER_MIN, max, at);
}

int64_t sys_mmap(const uint64_t *a)
{
	struct segvn_args args = { .sa_prot = (unsigned)a[2] & 7,
		.sa_maxprot = PROT_R | PROT_W | PROT_X };
	uint64_t len = vm_page_round(a[1]);
	unsigned flags = (unsigned)a[3];
	struct file *f = NULL;
	vaddr_t at = a[0];
	enum vm_err e;
	int err = 0;

	/* the kind: shared, private, or both bits: shared, and its flags are checked */
	if (a[1] == 0 || (a[5] & VM_PAGEMASK) != 0 || (flags & 0xf) == 0 || (flags & 0xf) > 3)
		return -EINVAL;
	if (len == 0 || len > user_top()) /* 0: the length, rounded to pages, has no number */
		return -ENOMEM;
	if ((flags & (MAP_FIXED | MAP_NOREPLACE)) && (at & VM_PAGEMASK) != 0)
		return -EINVAL;
	if (flags & MAP_SHARED)
		args.sa_flags |= SEGVN_SHARED;
	if (flags & MAP_NORESERVE)
		args.sa_flags |= SEGVN_NORESERVE;
	if (!(flags & MAP_ANONYMOUS)) {
		if ((f = fd_get_open((int)a[4])) == NULL)
			return -EBADF;
		err = file_args(f, flags, args.sa_prot, a[5], len, &args);
	}
	if (err == 0 && f != NULL && !(flags & MAP_SHARED) && tmpfs_memory(f->f_inode) != NULL) {
		const struct snapshot n = { f->f_inode, a[5], len, args.sa_prot };

		err = map_snapshot(&n, flags, &at);
	} else if (err == 0) {
		e = place_mapping(this_proc(), &at, len, flags, &args);
		err = e == VM_EXIST ? -EEXIST : mem_err(e);
	}
	if (f != NULL)
		file_put(f);
	if (err != 0)
		return err;
	if ((flags & MAP_POPULATE) && (args.sa_prot & (PROT_R | PROT_W)))
		(void)as_advise(this_proc()->p_as, at, len,
		    args.sa_prot & PROT_W && !(flags & MAP_SHARED) ? ADV_POPULATE_WRITE
								   : ADV_POPULATE_READ);
	return (int64_t)at;
}

int64_t sys_munmap(const uint64_t *a)
{
	if ((a[0] & VM_PAGEMASK) != 0 || a[1] == 0 || a[0] > user_top() || a[1] > user_top() - a[0])
		return -EINVAL;
	return mem_err(as_unmap(this_proc()->p_as, a[0], vm_page_round(a[1])));
}

int64_t sys_mprotect(const uint64_t *a)
{
	if ((a[0] & VM_PAGEMASK) != 0 || (a[2] & ~7ull) != 0)
		return -EINVAL;
	if (a[1] == 0)
		return 0;
	return mem_err(
	    as_setprot(this_proc()->p_as, a[0], vm_page_round(a[1]), (unsigned)a[2] & 7));
}

int64_t sys_brk(const uint64_t *a)
{
	vaddr_t now = 0;

	if (as_brk(this_proc()->p_as, a[0], &now) != VM_OK)
		(void)as_brk(this_proc()->p_as, 0, &now);
	return (int64_t)now;
}

int64_t sys_mremap(const uint64_t *a)
{
	vaddr_t to = a[4];
	enum vm_err e;

	if ((a[0] & VM_PAGEMASK) != 0 || a[2] == 0 || (a[3] & ~7ull) != 0)
		return -EINVAL;
	e = as_remap(
	    this_proc()->p_as, a[0], vm_page_round(a[1]), vm_page_round(a[2]), (unsigned)a[3], &to);
	if (e == VM_OK)
		return (int64_t)to;
	return e == VM_NOMAP ? -EFAULT : mem_err(e);
}

int64_t sys_msync(const uint64_t *a)
{
	unsigned flags = (a[2] & 1 ? SYNC_ASYNC : 0) | (a[2] & 2 ? SYNC_INVAL : 0);

	if ((a[0] & VM_PAGEMASK) != 0 || (a[2] & ~7ull) != 0 || (a[2] & 5) == 5)
		return -EINVAL;
	if (a[1] == 0)
		return 0;
	return mem_err(as_sync(this_proc()->p_as, a[0], vm_page_round(a[1]), flags));
}

int64_t sys_mincore(const uint64_t *a)
{
	uint64_t n = vm_btop(vm_page_round(a[1]));
	enum vm_err e = VM_OK;
	uint8_t vec[256];

	if ((a[0] & VM_PAGEMASK) != 0)
		return -EINVAL;
	for (uint64_t at = 0; at < n && e == VM_OK;) {
		uint64_t k = n - at < sizeof(vec) ? n - at : sizeof(vec);

		e = as_incore(this_proc()->p_as, a[0] + vm_ptob(at), vm_ptob(k), vec);
		for (uint64_t i = 0; i < k; i++)
			vec[i] &= 1;
		if (e == VM_OK && copy_out(a[2] + at, vec, k) != 0)
			return -EFAULT;
		at += k;
	}
	return mem_err(e);
}

int64_t sys_madvise(const uint64_t *a)
{
	static const int8_t of[] = { [0] = ADV_NORMAL,
		[1] = ADV_RANDOM,
		[2] = ADV_SEQUENTIAL,
		[3] = ADV_WILLNEED,
		[4] = ADV_DONTNEED,
		[8] = ADV_FREE,
		[9] = ADV_REMOVE,
		[20] = ADV_COLD,
		[21] = ADV_PAGEOUT,
		[22] = ADV_POPULATE_READ,
		[23] = ADV_POPULATE_WRITE };
	struct as *as = this_proc()->p_as;
	uint64_t len = vm_page_round(a[1]);

	if ((a[0] & VM_PAGEMASK) != 0 || len < a[1] || a[0] + len < a[0])
		return -EINVAL;
	switch (a[2]) {
	case 10: return mem_err(as_inherit(as, a[0], len, INHERIT_NONE)); /* DONTFORK */
	case 11: return mem_err(as_inherit(as, a[0], len, INHERIT_COPY)); /* DOFORK */
	case 18: return mem_err(as_inherit(as, a[0], len, INHERIT_ZERO)); /* WIPEONFORK */
	case 19: return mem_err(as_inherit(as, a[0], len, INHERIT_COPY));
	case 14:
	case 15:
	case 12:
	case 13:
	case 16:
	case 17: /* huge pages, merging, core dumps: this advice has no effect */ return 0;
	default: break;
	}
	if (a[2] > 23 || (of[a[2]] == 0 && a[2] != 0))
		return -EINVAL;
	return len == 0 ? 0 : mem_err(as_advise(as, a[0], len, (enum advice)of[a[2]]));
}

int64_t sys_mlock(const uint64_t *a)
{
	if (a[1] == 0)
		return 0;
	if (a[0] + a[1] + VM_PAGESIZE - 1 < a[0])
		return -EINVAL;
	return mem_err(as_lock(
	    this_proc()->p_as, vm_page_trunc(a[0]), vm_page_round(a[1] + (a[0] & VM_PAGEMASK))));
}
int64_t sys_mlock2(const uint64_t *a) { return a[2] != 0 ? -EINVAL : sys_mlock(a); }
int64_t sys_munlock(const uint64_t *a)
{
	return mem_err(as_unlock(
	    this_proc()->p_as, vm_page_trunc(a[0]), vm_page_round(a[1] + (a[0] & VM_PAGEMASK))));
}
int64_t sys_mlockall(const uint64_t *a)
{
	if (a[0] == 0 || (a[0] & ~7ull) != 0 || a[0] == 4) /* 4: how, without what */
		return -EINVAL;
	return mem_err(as_lockall(this_proc()->p_as, (a[0] & 1) != 0, (a[0] & 2) != 0));
}
int64_t sys_munlockall(const uint64_t *a)
{
	(void)a;
	return mem_err(as_unlockall(this_proc()->p_as));
}

#define MEMFD_NAME_MAX 249u

int64_t sys_memfd_create(const uint64_t *a)
{
	struct inode *i;
	struct file *f;
	char name[MEMFD_NAME_MAX + 1];
	int64_t len = copy_in_string(name, a[0], sizeof(name));
	int err;

	if (len < 0)
		return len == -ENAMETOOLONG ? -EINVAL : len;
	if ((a[1] & ~3ull) != 0) /* close on exec, and seals, which do not exist */
		return -EINVAL;
	if ((err = memfile_new(&i)) != 0)
		return err;
	if ((err = file_new(i, &file_pages_ops, O_RDWR, &f)) != 0)
		return err;
	(void)i->i_ops->io_open(i, f);
	return fd_install(this_proc()->p_files, f, 0, (a[1] & 1) != 0);
}

/* ---- messages between spaces ---- */
/* The space of a process, with a reference. -ESRCH: there is no such process; -EPERM. */
static int64_t hold_space_of(int pid, struct as **as)
{
	struct proc *p;
	int64_t r = 0;

	mach_mutex_enter(&proc_lock);
	p = proc_find(pid);
	if (p == NULL || p->p_zombie || p->p_as == NULL)
		r = -ESRCH;
	else if (!cred_may_control(p))
		r = -EPERM;
	else
		as_hold(*as = p->p_as);
	mach_mutex_exit(&proc_lock);
	return r;
}

/*
 * Copies from pieces to pieces, and changes both lists. Returns bytes; -EFAULT: not even the first
 * byte could be copied.
 */
static int64_t copy_vectors(struct as *other, struct iovec *local, uint64_t nlocal,
    struct iovec *remote, uint64_t nremote, bool write)
{
	struct as *me = this_proc()->p_as;
	uint64_t li = 0, ri = 0;
	int64_t total = 0;

	while (li < nlocal && ri < nremote) {
		uint64_t n = local[li].len < remote[ri].len ? local[li].len : remote[ri].len,
			 done = 0;
		enum vm_err e = write
		    ? as_copy(me, local[li].base, other, remote[ri].base, n, &done)
		    : as_copy(other, remote[ri].base, me, local[li].base, n, &done);

		total += (int64_t)done;
		if (e != VM_OK) {
			if (total == 0)
				total = -EFAULT;
			break;
		}
		local[li].base += n;
		remote[ri].base += n;
		if ((local[li].len -= n) == 0)
			li++;
		if ((remote[ri].len -= n) == 0)
			ri++;
	}
	return total;
}

static int64_t process_vm(const uint64_t *a, bool write)
{
	struct iovec *local = NULL, *remote = NULL;
	struct as *other;
	int64_t r;

	if (a[5] != 0)
		return -EINVAL;
	if ((r = copy_in_vector(a[1], a[2], &local)) == 0)
		r = copy_in_vector(a[3], a[4], &remote);
	if (r == 0 && (r = hold_space_of((int)a[0], &other)) == 0) {
		r = copy_vectors(other, local, a[2], remote, a[4], write);
		as_free(other);
	}
	vector_free(local, a[2]);
	vector_free(remote, a[4]);
	return r;
}

int64_t sys_process_vm_readv(const uint64_t *a) { return process_vm(a, false); }
int64_t sys_process_vm_writev(const uint64_t *a) { return process_vm(a, true); }
