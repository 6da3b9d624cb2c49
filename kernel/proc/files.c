/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of open files of a process: from a descriptor's number to its file.
 *
 * A number can be taken before its file is there (FD_TAKEN): a call that makes files on disk fails before it changes the disk if there is
 * no number. Until then the number means no file.
 * Threads share the table, and so do processes with CLONE_FILES. A table grows by powers of two and never shrinks.
 * Locks: fs_lock: the table. The last reference of a file is put after fs_lock, as that may sleep.
 */
#include "kernel/proc/proc.h"

#define FD_TAKEN 2u /* fs_cloexec, of a number without a file */

struct files *files_new(void)
{
	struct files *fs = kzalloc(sizeof(*fs));

	if (fs != NULL) {
		fs->fs_refcnt = 1;
		mach_mutex_init(&fs->fs_lock, 4, "descriptors");
	}
	return fs;
}

static bool files_grow(struct files *fs, unsigned want)
{
	unsigned n = fs->fs_n == 0 ? 16 : fs->fs_n;
	struct file **file;
	uint8_t *flag;

	KASSERT(want <= FILES_MOST);
	while (n < want)
		n *= 2;
	if (n == fs->fs_n)
		return true;
	file = kzalloc(n * sizeof(*file));
	flag = kzalloc(n);
	if (file == NULL || flag == NULL) {
		kfree(file, n * sizeof(*file));
		kfree(flag, n);
		return false;
	}
	if (fs->fs_n > 0) {
		memcpy(file, fs->fs_file, fs->fs_n * sizeof(*file));
		memcpy(flag, fs->fs_cloexec, fs->fs_n);
		kfree(fs->fs_file, fs->fs_n * sizeof(*file));
		kfree(fs->fs_cloexec, fs->fs_n);
	}
	fs->fs_file = file;
	fs->fs_cloexec = flag;
	fs->fs_n = n;
	return true;
}

struct files *files_dup(struct files *old)
{
	struct files *fs = files_new();

	if (fs == NULL)
		return NULL;
	mach_mutex_enter(&old->fs_lock);
	if (!files_grow(fs, old->fs_n > 0 ? old->fs_n : 1)) {
		mach_mutex_exit(&old->fs_lock);
		files_put(fs);
		return NULL;
	}
	for (unsigned i = 0; i < old->fs_n; i++) {
		if ((fs->fs_file[i] = old->fs_file[i]) != NULL)
			file_hold(fs->fs_file[i]);
		fs->fs_cloexec[i] = fs->fs_file[i] != NULL ? old->fs_cloexec[i] : 0;
	}
	mach_mutex_exit(&old->fs_lock);
	return fs;
}

void files_put(struct files *fs)
{
	if (__atomic_sub_fetch((unsigned *)(void *)&fs->fs_refcnt, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (unsigned i = 0; i < fs->fs_n; i++)
		if (fs->fs_file[i] != NULL)
			file_put(fs->fs_file[i]);
	kfree(fs->fs_file, fs->fs_n * sizeof(*fs->fs_file));
	kfree(fs->fs_cloexec, fs->fs_n);
	mach_mutex_fini(&fs->fs_lock);
	kfree(fs, sizeof(*fs));
}

int fd_take(struct files *fs, unsigned from)
{
	unsigned i = from;
	int fd = -EMFILE;

	mach_mutex_enter(&fs->fs_lock);
	while (i < fs->fs_n && (fs->fs_file[i] != NULL || fs->fs_cloexec[i] == FD_TAKEN))
		i++;
	if (i >= this_proc()->p_rlim[7].cur)
		fd = -EMFILE;
	else if (!files_grow(fs, i + 1))
		fd = -ENOMEM;
	else {
		fs->fs_cloexec[i] = FD_TAKEN;
		fd = (int)i;
	}
	mach_mutex_exit(&fs->fs_lock);
	return fd;
}

void fd_fill(struct files *fs, int fd, struct file *f, bool cloexec)
{
	mach_mutex_enter(&fs->fs_lock);
	KASSERT(fs->fs_file[fd] == NULL && fs->fs_cloexec[fd] == FD_TAKEN);
	fs->fs_file[fd] = f;
	fs->fs_cloexec[fd] = f != NULL && cloexec;
	mach_mutex_exit(&fs->fs_lock);
}

int fd_install(struct files *fs, struct file *f, unsigned from, bool cloexec)
{
	int fd = fd_take(fs, from);

	if (fd < 0)
		file_put(f);
	else
		fd_fill(fs, fd, f, cloexec);
	return fd;
}

struct file *files_get(struct files *fs, int fd)
{
	struct file *f = NULL;

	mach_mutex_enter(&fs->fs_lock);
	if (fd >= 0 && (unsigned)fd < fs->fs_n && (f = fs->fs_file[fd]) != NULL)
		file_hold(f);
	mach_mutex_exit(&fs->fs_lock);
	return f;
}

int files_next(struct files *fs, unsigned from)
{
	int fd = -1;

	mach_mutex_enter(&fs->fs_lock);
	for (unsigned i = from; i < fs->fs_n && fd < 0; i++)
		if (fs->fs_file[i] != NULL)
			fd = (int)i;
	mach_mutex_exit(&fs->fs_lock);
	return fd;
}

struct files *proc_hold_files(int pid)
{
	struct files *fs = NULL;
	struct proc *p;

	mach_mutex_enter(&proc_lock);
	if ((p = proc_find(pid)) != NULL && (fs = p->p_files) != NULL)
		fs->fs_refcnt++;
	mach_mutex_exit(&proc_lock);
	return fs;
}

void proc_set_files(struct proc *p, struct files *fs)
{
	struct files *old;

	mach_mutex_enter(&proc_lock);
	old = p->p_files;
	p->p_files = fs;
	mach_mutex_exit(&proc_lock);
	files_put(old);
}

struct file *fd_get(int fd) { return files_get(this_proc()->p_files, fd); }

struct file *fd_get_open(int fd)
{
	struct file *f = fd_get(fd);

	if (f == NULL || !(f->f_flags & O_PATH))
		return f;
	file_put(f);
	return NULL;
}

struct file *fd_get_kind(int fd, const struct file_ops *ops, int other, int64_t *err)
{
	struct file *f = fd_get(fd);

	if (f != NULL && f->f_ops == ops)
		return f;
	*err = f == NULL ? -EBADF : other;
	if (f != NULL)
		file_put(f);
	return NULL;
}

int fd_replace(struct files *fs, struct file *f, unsigned fd, bool cloexec)
{
	struct file *old = NULL;
	int err = 0;

	mach_mutex_enter(&fs->fs_lock);
	if (fd >= this_proc()->p_rlim[7].cur)
		err = -EBADF;
	else if (!files_grow(fs, fd + 1))
		err = -ENOMEM;
	else if (fs->fs_file[fd] == NULL && fs->fs_cloexec[fd] == FD_TAKEN)
		err = -EBUSY;
	if (err == 0) {
		old = fs->fs_file[fd];
		fs->fs_file[fd] = f;
		fs->fs_cloexec[fd] = cloexec;
	}
	mach_mutex_exit(&fs->fs_lock);
	if (err != 0)
		file_put(f);
	if (old != NULL) {
		filelock_drop(this_proc(), old->f_inode);
		file_put(old);
	}
	return err != 0 ? err : (int)fd;
}

int fd_close(struct files *fs, int fd)
{
	struct file *f = NULL;

	mach_mutex_enter(&fs->fs_lock);
	if (fd >= 0 && (unsigned)fd < fs->fs_n && (f = fs->fs_file[fd]) != NULL) {
		fs->fs_file[fd] = NULL;
		fs->fs_cloexec[fd] = 0;
	}
	mach_mutex_exit(&fs->fs_lock);
	if (f == NULL)
		return -EBADF;
	filelock_drop(this_proc(), f->f_inode);
	file_put(f);
	return 0;
}

bool fd_cloexec(struct files *fs, int fd, int set)
{
	bool was = false;

	mach_mutex_enter(&fs->fs_lock);
	if (fd >= 0 && (unsigned)fd < fs->fs_n && fs->fs_file[fd] != NULL) {
		was = fs->fs_cloexec[fd] != 0;
		if (set >= 0)
			fs->fs_cloexec[fd] = (uint8_t)set;
	}
	mach_mutex_exit(&fs->fs_lock);
	return was;
}

void files_close_on_exec(struct files *fs)
{
	for (unsigned i = 0; i < fs->fs_n; i++)
		if (fs->fs_file[i] != NULL && fs->fs_cloexec[i])
			(void)fd_close(fs, (int)i);
}
