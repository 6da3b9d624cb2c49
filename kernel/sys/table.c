/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way into the kernel: from a system call's number to its function, from a fault to as_fault.
 *
 * The table is made of calls.h. A call returns its result or a negative error; trap_leave settles
 * -ERESTART. A number without a call gives ENOSYS and is counted. Locks: none; the counters are
 * atomic.
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/calls.h"

#define NCALLS 512u

struct call {
	const char *name;
	int64_t (*fn)(const uint64_t *);
};
/*
 * The architecture's column; a call that the architecture lacks is put into a slot that no number
 * reaches.
 */
#if defined(__x86_64__)
#define NUMBER(x86, riscv) ((x86) >= 0 ? (x86) : (int)NCALLS + (riscv))
#else
#define NUMBER(x86, riscv) ((riscv) >= 0 ? (riscv) : (int)NCALLS + (x86))
#endif
#define ENTRY(n, x86, riscv) [NUMBER(x86, riscv)] = { #n, sys_##n },
static const struct call calls[2 * NCALLS] = { CALLS(ENTRY) };
static uint64_t counts[NCALLS], unknown[NCALLS]; /* atomic */
static bool trace;

/*
 * Must the call be made again after a signal? What rt_sigreturn returns is the program's register,
 * whatever its value.
 */
static bool was_interrupted(uint64_t nr, int64_t r)
{
	return (r == -ERESTART || r == -ERESTARTNOHAND) && calls[nr].fn != sys_rt_sigreturn;
}

void syscall(struct trapframe *tf)
{
	struct uthread *u = this_uthread();
	uint64_t nr = tf_sysno(tf), a[6];
	int64_t r = -ENOSYS;
	bool inject;

	u->u_tf = tf;
	tf_args(tf, a);
	inject = inject_begin(u);
	if (nr < NCALLS)
		__atomic_add_fetch(&counts[nr], 1, __ATOMIC_RELAXED);
	if (nr < NCALLS && calls[nr].fn != NULL)
		r = calls[nr].fn(a);
	else if (nr < NCALLS)
		__atomic_add_fetch(&unknown[nr], 1, __ATOMIC_RELAXED);
	if (inject)
		inject_end(u);
	if (trace)
		kprintf("[%d] %s(%lx, %lx, %lx, %lx) = %ld\n", u->u_tid,
		    nr < NCALLS && calls[nr].name != NULL ? calls[nr].name : "?", a[0], a[1], a[2],
		    a[3], r);
	if (was_interrupted(nr, r)) {
		u->u_syscall = (int64_t)nr; /* trap_leave decides */
		u->u_restartable = r == -ERESTART;
		return;
	}
	tf_set_result(tf, r);
}

void syscall_report(void)
{
	for (unsigned i = 0; i < NCALLS; i++)
		if (unknown[i] != 0)
			kprintf(
			    "quire: system call %u is unknown: %lu times ENOSYS\n", i, unknown[i]);
}

void syscall_text(struct text *x)
{
	for (unsigned i = 0; i < NCALLS; i++)
		if (unknown[i] != 0)
			text_printf(x, "enosys_%u %lu\n", i, unknown[i]);
}

void syscall_init(void) { trace = cmdline_number("strace", 0) != 0; }

/* ---- faults ---- */
static void fault_signal(enum vm_err e, vaddr_t addr)
{
	switch (e) {
	case VM_NOMAP: signal_force(SIGSEGV, 1, addr); break;
	case VM_PROT:
	case VM_ACCESS: signal_force(SIGSEGV, 2, addr); break;
	case VM_EOF: signal_force(SIGBUS, 2, addr); break;
	default: signal_force(SIGBUS, 3, addr); break;
	}
}

#define NOMEM_TRIES 200u
#define REFUSED_TRIES 8u

/* Have all writes of page-out since the two counts failed, and was there at least one? */
static bool disk_refuses(uint64_t errors, uint64_t written)
{
	const struct vm_stats *st = vm_statistics(the_vm);

	return st->io_error > errors && st->pgout == written;
}

/*
 * Memory was reserved, so frames will become free: page-out must write pages first, and other
 * threads must release their locked pages. If all writes to the disk fail, the wait ends soon, as
 * no frame will become free.
 */
enum vm_err fault_in(struct as *as, vaddr_t addr, enum fault_type type, enum seg_rw rw)
{
	uint64_t errors = 0, written = 0;
	enum vm_err e;

	for (unsigned i = 0;; i++) {
		e = as_fault(as, vm_page_trunc(addr), VM_PAGESIZE, type, rw);
		if (e != VM_NOMEM && e != VM_RETRY)
			return e;
		if (e == VM_NOMEM && i == 0) {
			errors = vm_statistics(the_vm)->io_error;
			written = vm_statistics(the_vm)->pgout;
		}
		if (e == VM_NOMEM &&
		    (i == NOMEM_TRIES || (i >= REFUSED_TRIES && disk_refuses(errors, written))))
			return e;
		if (e == VM_NOMEM)
			thread_pause();
	}
}

bool kernel_fault(struct trapframe *tf, vaddr_t addr, bool user, bool present, enum seg_rw rw)
{
	enum fault_type type = present ? F_PROT : F_INVAL;
	struct uthread *u = this_uthread();
	enum vm_err e;

	if (!user)
		return the_kas != NULL && arch_cur()->t_preempt == 0 &&
		    fault_in(the_kas, addr, type, rw) == VM_OK;
	u->u_tf = tf;
	u->u_syscall = -1;
	e = fault_in(this_proc()->p_as, addr, type, rw);
	if (e != VM_OK)
		fault_signal(e, addr);
	return true;
}

void kernel_exception(struct trapframe *tf, int sig, int code)
{
	this_uthread()->u_tf = tf;
	this_uthread()->u_syscall = -1;
	signal_force(sig, code, tf_ip(tf));
}
