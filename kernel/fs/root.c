/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All file systems: mounting at the start, write-behind, writing at the end, the disks for swap.
 *
 * Locks: none of its own.
 */
#include "kernel/dev/virtio_blk.h"
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

void vfs_sync(void)
{
	inodes_sync();
	(void)ext2_sync_all();
}

static void write_behind(void *arg)
{
	static struct waitq never;

	(void)arg;
	for (;;) {
		bool irq = spin_lock(&sched_lock);

		(void)wait_on(&never, arch_time_ns() + 5000000000u, false);
		spin_unlock(&sched_lock, irq);
		work_begin();
		thread_free_dead();
		vfs_sync();
		work_end();
	}
}

void vfs_init(void)
{
	struct disk *d = blk_disk((unsigned)cmdline_number("root", 0));
	struct thread *t;
	int err;

	inodes_init();
	if (d == NULL)
		kpanic("there is no disk for the root file system");
	if ((err = ext2_mount(d, &ext2_dir_ops, &vfs_root)) != 0)
		kpanic("the root file system: error %d", -err);
	tty_init();
	fifo_init();
	filelock_init();
	notify_init();
	vfs_mount("/dev", devfs_init());
	vfs_mount("/proc", procfs_init());
	vfs_mount("/dev/shm", tmpfs_init());
	if ((t = thread_new(write_behind, NULL, "write-behind")) != NULL)
		thread_go(t);
}

void swap_init(void)
{
	char list[64];
	const char *p = list;

	if (!cmdline_get("swap", list, sizeof(list)))
		return;
	while (*p != '\0') { /* numbers of disks, with :priority */
		unsigned n = (unsigned)parse_number(p, &p);
		int prio = *p == ':' ? (int)parse_number(p + 1, &p) : 0;
		struct disk *d = blk_disk(n);
		enum vm_err e =
		    d == NULL ? VM_INVAL : swap_add(the_vm, blk_swap_vnode(d), blk_pages(d), prio);

		if (e != VM_OK)
			kprintf("swap on disk %u: %s\n", n, vm_err_name(e));
		if (*p == ',')
			p++;
		else
			break;
	}
}
