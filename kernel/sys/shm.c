/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System V shared memory: files of tmpfs without names, found by key and id (ipc.h).
 *
 * Locks: shm_lock (sleeps). Left out: permissions, SHM_HUGETLB, SHM_LOCK, the number of attachments
 * (shm_nattch is 1 if any mapping is left).
 */
#include "kernel/sys/calls.h"
#include "kernel/sys/ipc.h"
#include "kernel/sys/mem.h"

#include <quire/anon.h>

#define NSEGS 128u
#define SHM_RDONLY 010000u
#define SHM_RND 020000u
#define SHM_REMAP 040000u

struct shmid_ds { /* Linux's */
	struct ipc_perm perm;
	uint64_t segsz;
	int64_t atime, dtime, ctime;
	int32_t cpid, lpid;
	uint64_t nattch, u4, u5;
};

static struct shmseg {
	struct inode *s_inode; /* NULL: free */
	int s_key;
	unsigned s_use, s_mode;
	bool s_removed;
	int s_cpid, s_lpid;
	uint32_t s_atime, s_dtime, s_ctime;
} segs[NSEGS];
static struct mach_mutex shm_lock;

void shm_init(void) { mach_mutex_init(&shm_lock, 4, "shm"); }

static int id_of(unsigned i) { return ipc_id(i, NSEGS, segs[i].s_use); }

static struct shmseg *seg_of(uint64_t id)
{
	unsigned i = (unsigned)id % NSEGS;

	return (int)id >= 0 && segs[i].s_inode != NULL && id_of(i) == (int)id ? &segs[i] : NULL;
}

/*
 * Is the segment mapped anywhere? The tmpfs inode has its own reference to the map, and the mapping
 * of tmpfs one.
 */
static bool is_attached(const struct shmseg *s) { return s->s_inode->i_vnode.v_refcnt > 1; }

static void drop_if_gone(struct shmseg *s)
{
	struct inode *i = s->s_inode;

	if (!s->s_removed || is_attached(s))
		return;
	s->s_inode = NULL;
	s->s_use++;
	inode_put(i);
}

static int64_t make_segment(int key, uint64_t size, unsigned flags)
{
	struct inode *in;
	unsigned i = 0;
	int err;

	if (size == 0 || size > 1ull << 32)
		return -EINVAL;
	while (i < NSEGS && segs[i].s_inode != NULL)
		i++;
	if (i == NSEGS)
		return -ENOSPC;
	if ((err = memfile_new(&in)) != 0)
		return err;
	mach_mutex_enter(&in->i_lock);
	err = in->i_ops->io_truncate(in, size);
	mach_mutex_exit(&in->i_lock);
	if (err != 0) {
		inode_put(in);
		return err == -ENOSPC ? -ENOMEM : err;
	}
	segs[i] = (struct shmseg){ .s_inode = in,
		.s_key = key,
		.s_use = segs[i].s_use,
		.s_mode = flags & 0777,
		.s_cpid = this_proc()->p_pid,
		.s_ctime = vfs_now() };
	return id_of(i);
}

int64_t sys_shmget(const uint64_t *a)
{
	int key = (int)a[0];
	int64_t r = -ENOENT;
	bool found = false;

	mach_mutex_enter(&shm_lock);
	for (unsigned i = 0; key != IPC_PRIVATE && i < NSEGS && !found; i++) {
		if (segs[i].s_inode == NULL || segs[i].s_key != key || segs[i].s_removed)
			continue;
		found = true;
		if ((a[2] & (IPC_CREAT | IPC_EXCL)) == (IPC_CREAT | IPC_EXCL))
			r = -EEXIST;
		else
			r = a[1] > segs[i].s_inode->i_size ? -EINVAL : id_of(i);
	}
	if (!found && (key == IPC_PRIVATE || (a[2] & IPC_CREAT)))
		r = make_segment(key, a[1], (unsigned)a[2]);
	mach_mutex_exit(&shm_lock);
	return r;
}

int64_t sys_shmat(const uint64_t *a)
{
	struct segvn_args args = { .sa_flags = SEGVN_SHARED,
		.sa_maxprot = PROT_R | PROT_W | PROT_X };
	unsigned flags = (unsigned)a[2];
	struct proc *p = this_proc();
	vaddr_t at = flags & SHM_RND ? vm_page_trunc(a[1]) : a[1];
	struct shmseg *s;
	uint64_t len;
	enum vm_err e;

	if ((at & VM_PAGEMASK) != 0 || (at == 0 && (flags & SHM_REMAP)))
		return -EINVAL;
	mach_mutex_enter(&shm_lock);
	if ((s = seg_of(a[0])) == NULL) {
		mach_mutex_exit(&shm_lock);
		return -EINVAL;
	}
	args.sa_prot = PROT_R | (flags & SHM_RDONLY ? 0 : PROT_W);
	args.sa_amp = tmpfs_memory(s->s_inode);
	len = vm_page_round(s->s_inode->i_size);
	if (at != 0) {
		e = flags & SHM_REMAP
		    ? as_map_at(p->p_as, &at, len, VM_PAGESIZE, AS_FIXED, segvn_create, &args)
		    : as_map(p->p_as, at, len, segvn_create, &args);
	} else {
		do
			if ((e = as_gap(p->p_as, len, VM_PAGESIZE, USER_MIN, mmap_top(p), true,
				 &at)) == VM_OK)
				e = as_map(p->p_as, at, len, segvn_create, &args);
		while (e == VM_EXIST);
	}
	if (e == VM_OK) {
		s->s_atime = vfs_now();
		s->s_lpid = p->p_pid;
	}
	mach_mutex_exit(&shm_lock);
	if (e == VM_OK)
		return (int64_t)at;
	if (e == VM_EXIST)
		return -EINVAL;
	return err_of(e) == -EFAULT ? -ENOMEM : err_of(e);
}

int64_t sys_shmdt(const uint64_t *a)
{
	struct as *as = this_proc()->p_as;
	struct as_info info;

	if ((a[0] & VM_PAGEMASK) != 0 || as_query(as, a[0], &info) != VM_OK ||
	    info.ai_base != a[0] || !info.ai_shared)
		return -EINVAL;
	return err_of(as_unmap(as, info.ai_base, info.ai_len));
}

int64_t sys_shmctl(const uint64_t *a)
{
	struct shmid_ds ds = { .segsz = 0 };
	struct shmseg *s;
	int64_t r = 0;

	mach_mutex_enter(&shm_lock);
	if ((s = seg_of(a[0])) == NULL) {
		r = -EINVAL;
	} else if (a[1] == IPC_RMID) { /* mappings keep the memory, the id becomes invalid */
		s->s_removed = true;
		drop_if_gone(s);
	} else if (a[1] == IPC_STAT || a[1] == 13) { /* 13: SHM_STAT */
		ds.perm.key = s->s_key;
		ds.perm.mode = s->s_mode;
		ds.segsz = s->s_inode->i_size;
		ds.atime = s->s_atime;
		ds.dtime = s->s_dtime;
		ds.ctime = s->s_ctime;
		ds.cpid = s->s_cpid;
		ds.lpid = s->s_lpid;
		r = copy_out(a[2], &ds, sizeof(ds));
	} else if (a[1] == IPC_SET) {
		if ((r = copy_in(&ds, a[2], sizeof(ds))) == 0) {
			s->s_mode = ds.perm.mode & 0777;
			s->s_ctime = vfs_now();
		}
	} else {
		r = -EINVAL;
	}
	mach_mutex_exit(&shm_lock);
	return r;
}
