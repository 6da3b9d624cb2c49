/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's life: from the machine's first call to the first program, and the end.
 *
 * Order: the running code becomes a thread; the memory that vm_create takes (vm_boot_bytes) becomes
 * a hole; the vm; the kernel's own space (kas) with segkp for stacks, before any user space;
 * devices; the root file system; swap; the other CPUs; the first program.
 *
 * Locks: work_lock: a thread of the kernel holds work_lock as reader while it works, so that the
 * end of the system, the writer, finds no thread at work. Variables set before the other CPUs start
 * are constant afterwards.
 */
#include "kernel/core/kernel.h"
#include "kernel/dev/virtio_blk.h"
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

static struct thread boot_thread[ARCH_MAXCPUS];
static uint64_t boot_ns;

/* ---- CPUs ---- */
static void idle_begin(void)
{
	struct kcpu *k = arch_kcpu();

	k->k_idle = k->k_cur;
	k->k_cur->t_name = "idle";
	thread_idle_begin(); /* what this thread did before was no idling */
}

static _Noreturn void idle_loop(void)
{
	for (;;) {
		(void)arch_irq_off();
		if (arch_kcpu()->k_resched) {
			thread_yield();
			arch_irq_restore(true);
			continue;
		}
		arch_idle();
	}
}

void kernel_cpu_main(void)
{
	struct kcpu *k = arch_kcpu();

	KASSERT(k->k_id < arch_ncpus()); /* shootdowns reach this CPU */
	thread_boot(&boot_thread[k->k_id], 0, 0);
	idle_begin();
	arch_tick_start();
	idle_loop();
}

/* ---- the end ---- */
static void report_violation(void *arg, const char *text)
{
	(void)arg;
	kprintf("vm_check: %s\n", text);
}

static void print_statistics(void)
{
	const struct vm_stats *st = vm_statistics(the_vm);
	struct vm_usage u;

	vm_usage(the_vm, &u);
	kprintf(
	    "quire: faults %lu, zero-filled %lu, copied on write %lu, read by swap %lu, written by swap %lu, files read %lu, "
	    "written %lu\n",
	    (uint64_t)st->fault, (uint64_t)st->zfod, (uint64_t)st->cow, (uint64_t)st->swapin,
	    (uint64_t)st->swapout, (uint64_t)st->filein, (uint64_t)st->fileout);
	kprintf(
	    "quire: frames %lu, free %lu, kernel %lu, wired %lu, swap used %lu of %lu, %lu ms since start\n",
	    u.vu_frames, u.vu_free + u.vu_cache, u.vu_kernel, u.vu_wired, u.vu_swap_used,
	    u.vu_swap_total, (arch_time_ns() - boot_ns) / 1000000);
}

static struct mach_rwlock work_lock; /* R: a thread of the kernel works; W: the system ends */

void work_begin(void) { mach_rw_enter(&work_lock, false); }
void work_end(void) { mach_rw_exit(&work_lock); }

void kernel_shutdown(int status)
{
	unsigned bad;

	mach_rw_enter(&work_lock, true); /* for good */
	vfs_sync();
	print_statistics();
	syscall_report();
	bad = vm_check(the_vm, report_violation, NULL);
	kprintf("quire: vm_check: %u violations; status %d\n", bad, status);
	arch_poweroff(bad != 0 ? 0x70 : status);
}

/* ---- the beginning ---- */
static void init_main(void *arg)
{
	(void)arg;
	mach_rw_init(&work_lock, 0, "work");
	arch_cpus_start();
	blk_init();
	vfs_init();
	swap_init();
	proc_init();
	thread_exit();
}

void kernel_main(void)
{
	struct thread *t;

	thread_boot(&boot_thread[0], 0, 0);
	boot_ns = arch_time_ns();
	if (arch_cmdline_is_cut())
		kpanic("the command line is longer than %u bytes", ARCH_CMDLINE_MAX - 1);
	idle_begin();
	thread_init();
	arch_tick_start();
	memory_init();
	if ((t = thread_new(init_main, NULL, "init")) == NULL)
		kpanic("no memory for the first thread");
	t->t_detached = true;
	thread_go(t);
	idle_loop();
}
