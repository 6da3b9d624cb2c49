/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * /proc: texts that are made when a file is opened.
 *
 * No inode is kept: each lookup makes an inode, whose number tells its kind (extra << 40 | what <<
 * 32 | pid), and the last reference frees it. If the process has ended in between, the result is
 * ENOENT. Locks: proc_lock while a process is looked up and read; for its address space a reference
 * is taken under it. Left out: settings (a write is accepted and has no effect), /proc/PID/task.
 */
#include "kernel/dev/virtio_blk.h"
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#include <quire/limits.h>

#define PROC_FS 5u

void syscall_text(struct text *);

enum what {
	W_ROOT,
	W_PID,
	W_SELF,
	W_MEMINFO,
	W_VMSTAT,
	W_QUIRE,
	W_STAT,
	W_UPTIME,
	W_MOUNTS,
	W_VERSION,
	W_CPUINFO,
	W_LOADAVG,
	W_FILESYSTEMS,
	W_SYS,
	W_SYSVM,
	W_OVERCOMMIT,
	W_MAPS,
	W_STATUS,
	W_PSTAT,
	W_STATM,
	W_CMDLINE,
	W_COMM,
	W_EXE,
	W_CWD,
	W_FD,
	W_SMAPS,
	W_FDLINK
};

static const struct entry {
	const char *e_name;
	enum what e_what;
	unsigned e_mode;
} root_entries[] = {
	{ "self", W_SELF, S_IFLNK | 0777 }, { "meminfo", W_MEMINFO, S_IFREG | 0444 }, { "vmstat", W_VMSTAT, S_IFREG | 0444 },
	{ "quire", W_QUIRE, S_IFREG | 0444 }, { "stat", W_STAT, S_IFREG | 0444 }, { "uptime", W_UPTIME, S_IFREG | 0444 },
	{ "mounts", W_MOUNTS, S_IFREG | 0444 }, { "version", W_VERSION, S_IFREG | 0444 }, { "cpuinfo", W_CPUINFO, S_IFREG | 0444 },
	{ "loadavg", W_LOADAVG, S_IFREG | 0444 }, { "filesystems", W_FILESYSTEMS, S_IFREG | 0444 }, { "sys", W_SYS, S_IFDIR | 0555 },
}, pid_entries[] = {
	{ "maps", W_MAPS, S_IFREG | 0444 }, { "smaps", W_SMAPS, S_IFREG | 0444 }, { "status", W_STATUS, S_IFREG | 0444 },
	{ "stat", W_PSTAT, S_IFREG | 0444 }, { "statm", W_STATM, S_IFREG | 0444 }, { "cmdline", W_CMDLINE, S_IFREG | 0444 },
	{ "comm", W_COMM, S_IFREG | 0644 }, { "exe", W_EXE, S_IFLNK | 0777 }, { "cwd", W_CWD, S_IFLNK | 0777 },
	{ "fd", W_FD, S_IFDIR | 0500 }, { "mounts", W_MOUNTS, S_IFREG | 0444 },
}, sys_entries[] = { { "vm", W_SYSVM, S_IFDIR | 0555 } }, sysvm_entries[] = { { "overcommit_memory", W_OVERCOMMIT, S_IFREG | 0644 } };
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct inode proc_root;
static const struct inode_ops dir_ops, text_ops, link_ops, file_link_ops;

static enum what what_of(const struct inode *i) { return (enum what)(i->i_ino >> 32 & 0xff); }
static int pid_of(const struct inode *i) { return (int)(uint32_t)i->i_ino; }

/* The files of a process belong to its effective user and group, all others to root. */
static void owner_of(int pid, unsigned *uid, unsigned *gid)
{
	const struct proc *p;

	mach_mutex_enter(&proc_lock);
	p = pid != 0 ? proc_find(pid) : NULL;
	*uid = p != NULL ? p->p_cred.c_euid : 0;
	*gid = p != NULL ? p->p_cred.c_egid : 0;
	mach_mutex_exit(&proc_lock);
}

static int make_inode(enum what w, int pid, unsigned mode, uint64_t extra, struct inode **ip)
{
	const struct inode_ops *ops = &text_ops;
	struct inode *i = kzalloc(sizeof(*i));

	if (i == NULL)
		return -ENOMEM;
	if ((mode & S_IFMT) == S_IFDIR)
		ops = &dir_ops;
	else if ((mode & S_IFMT) == S_IFLNK)
		ops = w == W_EXE || w == W_FDLINK ? &file_link_ops : &link_ops;
	inode_init(i, &none_vnode_ops, ops, PROC_FS,
	    extra << 40 | (uint64_t)w << 32 | (uint32_t)pid, mode);
	owner_of(pid, &i->i_uid, &i->i_gid);
	*ip = i;
	return 0;
}

static const struct entry *entries_of(enum what w, size_t *n)
{
	switch (w) {
	case W_ROOT: *n = COUNT(root_entries); return root_entries;
	case W_PID: *n = COUNT(pid_entries); return pid_entries;
	case W_SYS: *n = COUNT(sys_entries); return sys_entries;
	case W_SYSVM: *n = COUNT(sysvm_entries); return sysvm_entries;
	default: *n = 0; return NULL;
	}
}

/* The open file of a process: a reference, or NULL. */
static struct file *file_of(int pid, unsigned fd)
{
	struct files *fs = proc_hold_files(pid);
	struct file *f = NULL;

	if (fs != NULL) {
		f = files_get(fs, (int)fd);
		files_put(fs);
	}
	return f;
}

static int dir_lookup(struct inode *dir, const char *name, size_t len, struct inode **ip)
{
	const struct entry *e;
	const char *end;
	size_t n;
	uint64_t number = parse_number(name, &end);
	bool found;

	if (len == 2 && memcmp(name, "..", 2) == 0) {
		if (what_of(dir) == W_PID || what_of(dir) == W_SYS)
			*ip = inode_hold(&proc_root);
		else
			return make_inode(what_of(dir) == W_SYSVM ? W_SYS : W_PID, pid_of(dir),
			    S_IFDIR | 0555, 0, ip);
		return 0;
	}
	e = entries_of(what_of(dir), &n);
	for (size_t i = 0; i < n; i++)
		if (strlen(e[i].e_name) == len && memcmp(e[i].e_name, name, len) == 0)
			return make_inode(e[i].e_what, pid_of(dir), e[i].e_mode, 0, ip);
	if ((size_t)(end - name) != len)
		return -ENOENT;
	if (what_of(dir) == W_FD) {
		struct file *f = file_of(pid_of(dir), (unsigned)number);

		if (f == NULL)
			return -ENOENT;
		file_put(f);
		return make_inode(W_FDLINK, pid_of(dir), S_IFLNK | 0777, number + 1, ip);
	}
	if (what_of(dir) != W_ROOT)
		return -ENOENT;
	mach_mutex_enter(&proc_lock);
	found = proc_find((int)number) != NULL;
	mach_mutex_exit(&proc_lock);
	return found ? make_inode(W_PID, (int)number, S_IFDIR | 0555, 0, ip) : -ENOENT;
}

/* The descriptors of a process, from *pos on. */
static int list_files(int pid, uint64_t *pos, readdir_fn *fn, void *arg)
{
	struct files *fs = proc_hold_files(pid);
	char name[16];
	int fd;

	while (fs != NULL && *pos < FILES_MOST && (fd = files_next(fs, (unsigned)*pos)) >= 0) {
		ksnprintf(name, sizeof(name), "%d", fd);
		*pos = (uint64_t)fd;
		if (!fn(arg, name, strlen(name), (uint64_t)fd + 2, 10, (uint64_t)fd + 1))
			break;
		*pos = (uint64_t)fd + 1;
	}
	if (fs != NULL)
		files_put(fs);
	return 0;
}

static int dir_readdir(struct inode *dir, uint64_t *pos, readdir_fn *fn, void *arg)
{
	const struct entry *e;
	char name[16];
	size_t n;

	e = entries_of(what_of(dir), &n);
	for (; *pos < n; ++*pos)
		if (!fn(arg, e[*pos].e_name, strlen(e[*pos].e_name), *pos + 2, e[*pos].e_mode >> 12,
			*pos + 1))
			return 0;
	if (what_of(dir) == W_FD)
		return list_files(pid_of(dir), pos, fn, arg);
	if (what_of(dir) != W_ROOT)
		return 0;
	mach_mutex_enter(&proc_lock);
	for (int pid = (int)(*pos - n) + 1; pid < 32768 && all_procs != NULL; pid++) {
		if (proc_find(pid) == NULL)
			continue;
		ksnprintf(name, sizeof(name), "%d", pid);
		if (!fn(arg, name, strlen(name), (uint64_t)pid + 100, 4, n + (uint64_t)pid))
			break;
		*pos = n + (uint64_t)pid;
	}
	mach_mutex_exit(&proc_lock);
	return 0;
}

/* Writes the name to which /proc/PID/fd/N leads, as readlink returns it; returns its length. */
static int name_file(struct inode *i, char *buf, size_t room)
{
	int n;

	if (i->i_fs == 2)
		return ksnprintf(buf, room, "/dev/console");
	switch (inode_type(i)) {
	case S_IFIFO: return ksnprintf(buf, room, "pipe:[%lu]", i->i_ino);
	case S_IFSOCK: return ksnprintf(buf, room, "socket:[%lu]", i->i_ino);
	case S_IFDIR: return vfs_path(i, buf, room) - 1;
	default: n = vfs_path_file(i, buf, room);
	}
	return n > 0 ? n - 1 : ksnprintf(buf, room, "file:[%lu]", i->i_ino);
}

/* Returns a reference; NULL: there is no such process, or it has ended. */
static struct inode *program_of(int pid)
{
	struct inode *exe = NULL;
	struct proc *p;

	mach_mutex_enter(&proc_lock);
	if ((p = proc_find(pid)) != NULL && p->p_exe != NULL)
		exe = inode_hold(p->p_exe);
	mach_mutex_exit(&proc_lock);
	return exe;
}

/* Returns the program or the open file, even if it has no name any more. */
static int link_follow(struct inode *i, struct inode **to)
{
	struct file *f;

	if (what_of(i) == W_EXE)
		return (*to = program_of(pid_of(i))) != NULL ? 0 : -ENOENT;
	if ((f = file_of(pid_of(i), (unsigned)(i->i_ino >> 40) - 1)) == NULL)
		return -ENOENT;
	*to = inode_hold(f->f_inode);
	file_put(f);
	return 0;
}

static int link_read(struct inode *i, char *buf, size_t room)
{
	struct inode *exe, *cwd;
	struct file *f;
	int n;

	switch (what_of(i)) {
	case W_SELF: return ksnprintf(buf, room, "%d", this_proc()->p_pid);
	case W_EXE:
		if ((exe = program_of(pid_of(i))) == NULL)
			return -ENOENT;
		n = name_file(exe, buf, room);
		inode_put(exe);
		return n;
	case W_CWD:
		cwd = proc_hold_inode(&this_proc()->p_cwd);
		n = vfs_path(cwd, buf, room);
		inode_put(cwd);
		return n > 0 ? n - 1 : n;
	case W_FDLINK:
		if ((f = file_of(pid_of(i), (unsigned)(i->i_ino >> 40) - 1)) == NULL)
			return -ENOENT;
		n = name_file(f->f_inode, buf, room);
		file_put(f);
		return n;
	default: return -EINVAL;
	}
}

/* ---- texts ---- */
static void text_meminfo(struct text *x)
{
	struct vm_usage u;

	vm_usage(the_vm, &u);
	text_printf(x,
	    "MemTotal:       %8lu kB\nMemFree:        %8lu kB\nMemAvailable:   %8lu kB\n",
	    u.vu_frames * 4, u.vu_free * 4, (u.vu_free + u.vu_cache) * 4);
	text_printf(x,
	    "Buffers:        %8lu kB\nCached:         %8lu kB\nSwapCached:     %8lu kB\n", 0ul,
	    u.vu_cache * 4, 0ul);
	text_printf(x, "Unevictable:    %8lu kB\nMlocked:        %8lu kB\n", u.vu_wired * 4,
	    u.vu_wired * 4);
	text_printf(x,
	    "SwapTotal:      %8lu kB\nSwapFree:       %8lu kB\nSlab:           %8lu kB\n",
	    u.vu_swap_total * 4, (u.vu_swap_total - u.vu_swap_used) * 4, u.vu_kernel * 4);
	text_printf(x, "CommitLimit:    %8lu kB\nCommitted_AS:   %8lu kB\n", u.vu_resv_max * 4,
	    u.vu_reserved * 4);
}

static void text_vmstat(struct text *x, bool all)
{
	const struct vm_stats *st = vm_statistics(the_vm);

	if (!all) {
		text_printf(x,
		    "pgpgin %lu\npgpgout %lu\npswpin %lu\npswpout %lu\npgfault %lu\npgmajfault %lu\n",
		    (uint64_t)st->pgin * 4, (uint64_t)st->pgout * 4, (uint64_t)st->swapin,
		    (uint64_t)st->swapout, (uint64_t)st->fault, (uint64_t)st->fault_io);
		return;
	}
#define X(n) text_printf(x, #n " %lu\n", (uint64_t)st->n);
	VM_STATS(X)
#undef X
}

static void text_swap_areas(struct text *x)
{
	struct swap_info si;

	for (unsigned n = 0; swap_query(the_vm, n, &si); n++) {
		unsigned disk = 0;

		while (blk_disk(disk) != NULL && blk_swap_vnode(blk_disk(disk)) != si.si_vnode)
			disk++;
		text_printf(x, "swap%u_slots %lu\nswap%u_used %lu\nswap%u_priority %d\n", disk,
		    si.si_slots, disk, si.si_used, disk, si.si_prio);
	}
}

/* Segments of all programs and of the kernel's own space. */
static void text_segments(struct text *x)
{
	uint64_t spaces = 1, segments;
	struct as_usage u;

	as_usage(the_kas, &u);
	segments = u.au_nsegs;
	text_printf(x, "kernel_segments %lu\n", segments);
	mach_mutex_enter(&proc_lock);
	for (struct proc *p = all_procs; p != NULL; p = p->p_next) {
		if (p->p_as == NULL || p->p_borrowed)
			continue;
		as_usage(p->p_as, &u);
		segments += u.au_nsegs;
		spaces++;
	}
	mach_mutex_exit(&proc_lock);
	text_printf(x, "spaces %lu\nsegments %lu\n", spaces, segments);
}

static void text_quire(struct text *x)
{
	struct swapper_counters sc;
	struct blk_counters c;
	struct vm_usage u;

	vm_usage(the_vm, &u);
	text_segments(x);
	swapper_counters(&sc);
	text_printf(x, "swapped_processes %lu\nswapped_pages %lu\nstacks_out %lu\nstacks_in %lu\n",
	    sc.sc_processes, sc.sc_pages, sc.sc_stacks_out, sc.sc_stacks_in);
	text_swap_areas(x);
	text_printf(x, "queue_free %lu\nqueue_cache %lu\nqueue_policy %lu\n", u.vu_free, u.vu_cache,
	    u.vu_policy);
	text_printf(x,
	    "frames %lu\nfree %lu\ncache %lu\nkernel %lu\nwired %lu\nanon_slots %lu\nswap_total %lu\nswap_used %lu\n",
	    u.vu_frames, u.vu_free, u.vu_cache, u.vu_kernel, u.vu_wired, u.vu_anon_slots,
	    u.vu_swap_total, u.vu_swap_used);
	text_printf(x, "reserved %lu\nreserve_max %lu\nthreads %u\n", u.vu_reserved, u.vu_resv_max,
	    thread_count());
	text_printf(x, "tlb_loads %lu\ntlb_flushes %lu\ntlb_interrupts %lu\ntlb_marked %lu\n",
	    mmu_counters.mc_loads, mmu_counters.mc_flushes, mmu_counters.mc_shot,
	    mmu_counters.mc_marked);
	text_printf(x, "tlb_bits_by_trap %lu\n", mmu_counters.mc_traps);
	for (unsigned i = 0; blk_disk(i) != NULL; i++) {
		blk_counters(blk_disk(i), &c);
		text_printf(x,
		    "disk%u_reads %lu\ndisk%u_writes %lu\ndisk%u_pages_read %lu\ndisk%u_pages_written %lu\n",
		    i, c.bc_reads, i, c.bc_writes, i, c.bc_pages_read, i, c.bc_pages_written);
		text_printf(x, "disk%u_errors %lu\ndisk%u_interrupts %lu\ndisk%u_deepest %lu\n", i,
		    c.bc_errors, i, c.bc_interrupts, i, c.bc_deepest);
		text_printf(x, "disk%u_waits_under_proc_lock %lu\n", i, c.bc_proc_waits);
	}
	text_vmstat(x, true);
	syscall_text(x);
}

static void put_name(
    struct text *x, struct as *as, const struct proc *p, const struct as_info *info)
{
	char *path = kalloc(PATH_MAX);
	unsigned dev = 0;
	uint64_t ino = 0;
	voff_t off = 0;
	struct vnode *vp;
	vaddr_t brk = 0;

	if (path == NULL)
		return;
	path[0] = '\0';
	(void)as_brk(as, 0, &brk);
	if (as_file(as, info->ai_base, &vp, &off) == VM_OK) {
		struct inode *i = inode_of(vp);

		dev = i->i_fs;
		ino = i->i_ino;
		if (vfs_path_file(i, path, PATH_MAX) < 0)
			strlcpy(path, "(deleted)", PATH_MAX);
		inode_put(i);
	} else if (info->ai_base + info->ai_len == p->p_stack_top) {
		strlcpy(path, "[stack]", PATH_MAX);
	} else if (brk > info->ai_base && brk <= info->ai_base + info->ai_len) {
		strlcpy(path, "[heap]", PATH_MAX);
	}
	text_printf(x, " %08lx 00:%02x %lu", off, dev, ino);
	if (path[0] != '\0')
		text_printf(x, "                  %s", path);
	text_printf(x, "\n");
	kfree(path, PATH_MAX);
}

/* Counts the pages of a segment that as_incore reports. */
static void put_residence(struct text *x, struct as *as, const struct as_info *info)
{
	uint64_t rss = 0, dirty = 0, used = 0, anon = 0, swapped = 0, locked = 0;
	uint8_t vec[64];

	for (uint64_t i = 0, n = vm_btop(info->ai_len); i < n; i += 64) {
		uint64_t k = n - i < 64 ? n - i : 64;

		if (as_incore(as, info->ai_base + vm_ptob(i), vm_ptob(k), vec) != VM_OK)
			break;
		for (uint64_t j = 0; j < k; j++) {
			bool mapped = (vec[j] & INCORE_MAPPED) != 0;

			rss += mapped;
			dirty += mapped && (vec[j] & INCORE_MOD) != 0;
			used += mapped && (vec[j] & INCORE_REF) != 0;
			anon += mapped && (vec[j] & INCORE_ANON) != 0;
			swapped += (vec[j] & (INCORE_SWAPPED | INCORE_PRESENT)) == INCORE_SWAPPED;
			locked += (vec[j] & INCORE_LOCKED) != 0;
		}
	}
	text_printf(x,
	    "Size:           %8lu kB\nRss:            %8lu kB\nReferenced:     %8lu kB\n",
	    info->ai_len >> 10, rss * 4, used * 4);
	text_printf(x, "%s_Dirty:  %8lu kB\nAnonymous:      %8lu kB\nSwap:           %8lu kB\n",
	    info->ai_shared ? "Shared" : "Private", dirty * 4, anon * 4, swapped * 4);
	text_printf(x, "Locked:         %8lu kB\n", locked * 4);
}

static void text_maps(struct text *x, struct as *as, const struct proc *p, bool small)
{
	struct as_info info;

	for (vaddr_t at = 0; as_query(as, at, &info) == VM_OK; at = info.ai_base + info.ai_len) {
		text_printf(x, "%08lx-%08lx %c%c%c%c", info.ai_base, info.ai_base + info.ai_len,
		    info.ai_prot & PROT_R ? 'r' : '-', info.ai_prot & PROT_W ? 'w' : '-',
		    info.ai_prot & PROT_X ? 'x' : '-', info.ai_shared ? 's' : 'p');
		put_name(x, as, p, &info);
		if (!small)
			put_residence(x, as, &info);
	}
}

static const char *state_of(const struct proc *p)
{
	if (p->p_zombie)
		return "Z (zombie)";
	return p->p_stopped ? "T (stopped)" : "R (running)";
}

static void text_ids(struct text *x, const struct cred *c)
{
	text_printf(x, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nGroups:\t", c->c_uid, c->c_euid,
	    c->c_suid, c->c_euid, c->c_gid, c->c_egid, c->c_sgid, c->c_egid);
	for (unsigned i = 0; i < c->c_ngroups; i++)
		text_printf(x, "%u ", c->c_groups[i]);
	text_printf(x, "\n");
}

static void text_proc(struct text *x, enum what w, struct proc *p, struct as *as)
{
	struct as_usage u = { 0 };

	if (as != NULL && w != W_MAPS && w != W_SMAPS && w != W_CMDLINE && w != W_COMM)
		as_usage(as, &u);
	switch (w) {
	case W_MAPS:
	case W_SMAPS:
		if (as != NULL)
			text_maps(x, as, p, w == W_MAPS);
		break;
	case W_STATUS:
		text_printf(x, "Name:\t%s\nState:\t%s\nTgid:\t%d\nPid:\t%d\nPPid:\t%d\n", p->p_comm,
		    state_of(p), p->p_pid, p->p_pid, p->p_parent != NULL ? p->p_parent->p_pid : 0);
		text_ids(x, &p->p_cred);
		text_printf(x, "VmSize:\t%8lu kB\nVmLck:\t%8lu kB\nVmRSS:\t%8lu kB\nThreads:\t%u\n",
		    u.au_size >> 10, u.au_locked * 4, u.au_rss * 4, p->p_nthreads);
		break;
	case W_PSTAT:
		text_printf(x, "%d (%s) %c %d %d %d 0 0 0 0 0 0 0 0 0 0 0 20 0 %u 0 0 %lu %lu",
		    p->p_pid, p->p_comm, p->p_zombie ? 'Z' : 'R',
		    p->p_parent != NULL ? p->p_parent->p_pid : 0, p->p_pgid, p->p_sid,
		    p->p_nthreads, u.au_size, u.au_rss);
		text_printf(x,
		    " 18446744073709551615 0 0 %lu 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
		    p->p_stack_top);
		break;
	case W_STATM: text_printf(x, "%lu %lu 0 0 0 0 0\n", vm_btop(u.au_size), u.au_rss); break;
	case W_COMM: text_printf(x, "%s\n", p->p_comm); break;
	default: break;
	}
}

static int text_of_pid(struct text *x, enum what w, int pid)
{
	struct as *as = NULL;
	struct proc *p, copy;

	mach_mutex_enter(&proc_lock);
	if ((p = proc_find(pid)) == NULL) {
		mach_mutex_exit(&proc_lock);
		return -ESRCH;
	}
	if ((as = p->p_as) != NULL)
		as_hold(as);
	copy = *p;
	if (w == W_CMDLINE && p->p_args != NULL && p->p_argslen > 1 &&
	    (x->x_at = kalloc(p->p_argslen)) != NULL) {
		x->x_room = p->p_argslen;
		x->x_n = p->p_argslen - 1;
		memcpy(x->x_at, p->p_args, x->x_n);
	}
	mach_mutex_exit(&proc_lock);
	text_proc(x, w, &copy, as);
	if (as != NULL)
		as_free(as);
	return 0;
}

/* How long all CPUs together have had nothing to run, in ns. */
static uint64_t idle_sum(void)
{
	uint64_t all = 0;

	for (unsigned c = 0; c < arch_ncpus(); c++)
		all += thread_idle_ns(c);
	return all;
}

/* All time that is not idle counts as the programs' own. */
static void text_stat(struct text *x)
{
	uint64_t idle = idle_sum(), now = arch_time_ns();
	unsigned n = arch_ncpus();

	text_printf(
	    x, "cpu  %lu 0 0 %lu 0 0 0 0 0 0\n", (n * now - idle) / 10000000, idle / 10000000);
	for (unsigned c = 0; c < n; c++) {
		idle = thread_idle_ns(c);
		now = arch_time_ns();
		text_printf(x, "cpu%u %lu 0 0 %lu 0 0 0 0 0 0\n", c, (now - idle) / 10000000,
		    idle / 10000000);
	}
	text_printf(x, "btime %u\nprocesses %u\n", vfs_now() - (uint32_t)(now / 1000000000),
	    thread_count());
}

static void text_uptime(struct text *x)
{
	uint64_t idle = idle_sum() / 10000000, now = arch_time_ns() / 10000000;

	text_printf(x, "%lu.%02lu %lu.%02lu\n", now / 100, now % 100, idle / 100, idle % 100);
}

static int make_text(struct inode *i, struct text *x)
{
	switch (what_of(i)) {
	case W_MEMINFO: text_meminfo(x); break;
	case W_VMSTAT: text_vmstat(x, false); break;
	case W_QUIRE: text_quire(x); break;
	case W_STAT: text_stat(x); break;
	case W_UPTIME: text_uptime(x); break;
	case W_MOUNTS:
		text_printf(x,
		    "/dev/root / ext2 rw 0 0\ndev /dev devfs rw 0 0\nproc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n");
		break;
	case W_VERSION: text_printf(x, "Linux version 6.1.0-quire (quire)\n"); break;
	case W_CPUINFO:
		for (unsigned n = 0; n < arch_ncpus(); n++)
			text_printf(x, "processor\t: %u\n\n", n);
		break;
	case W_LOADAVG: text_printf(x, "0.00 0.00 0.00 1/%u 1\n", thread_count()); break;
	case W_FILESYSTEMS: text_printf(x, "\text2\nnodev\ttmpfs\nnodev\tproc\n"); break;
	case W_OVERCOMMIT: text_printf(x, "2\n"); break;
	default: return text_of_pid(x, what_of(i), pid_of(i));
	}
	return 0;
}

static int text_open(struct inode *i, struct file *f)
{
	struct text *x = kzalloc(sizeof(*x));
	int err;

	if (x == NULL)
		return -ENOMEM;
	if ((err = make_text(i, x)) != 0) {
		kfree(x->x_at, x->x_room);
		kfree(x, sizeof(*x));
		return err;
	}
	f->f_data = x;
	f->f_ops = &file_text_ops;
	return 0;
}

static const struct inode_ops dir_ops = { .io_lookup = dir_lookup, .io_readdir = dir_readdir };
static const struct inode_ops text_ops = { .io_open = text_open };
static const struct inode_ops link_ops = { .io_readlink = link_read };
static const struct inode_ops file_link_ops = { .io_readlink = link_read,
	.io_follow = link_follow };

struct inode *procfs_init(void)
{
	inode_init(
	    &proc_root, &kept_vnode_ops, &dir_ops, PROC_FS, (uint64_t)W_ROOT << 32, S_IFDIR | 0555);
	return &proc_root;
}
