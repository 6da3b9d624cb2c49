/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The frame of a signal handler, as Linux lays it out on riscv64: siginfo, then ucontext with the registers and the floating
 * point state. The handler returns to sigreturn_code, a page that every space has for user mode (boot.c). rt_sigreturn reads
 * the frame back.
 */
#include "machine/riscv64/cpu.h"

#include "kernel/proc/proc.h"

struct ucontext {
	uint64_t flags, link;
	struct sigstack stack;
	uint64_t mask;
	uint8_t unused[120]; /* for longer masks */
	struct {
		_Alignas(16) uint64_t pc;
		uint64_t x[31]; /* x1 .. x31 */
		struct fp_state fp;
		uint8_t
		    rest[528 - sizeof(struct fp_state)]; /* room for the longer registers of Q */
	} mc;
};
_Static_assert(offsetof(struct ucontext, mc) == 176, "Linux's");
struct frame {
	struct siginfo info;
	struct ucontext uc;
};
extern const char user_code[], sigreturn_code[];

int arch_signal_frame(struct trapframe *tf, int sig, const struct siginfo *info,
    const struct sigaction *a, uint64_t oldmask)
{
	struct frame *f = kzalloc(sizeof(*f));
	uint64_t sp;
	int err;

	if (f == NULL)
		return -ENOMEM;
	sp = (signal_stack(a, tf_sp(tf), 0, &f->uc.stack) - sizeof(*f)) & ~15ull;
	f->info = *info;
	f->uc.mask = oldmask;
	f->uc.mc.pc = tf->tf_pc;
	memcpy(f->uc.mc.x, tf->tf_x + 1, sizeof(f->uc.mc.x));
	fp_save(&f->uc.mc.fp);
	err = copy_out(sp, f, sizeof(*f));
	kfree(f, sizeof(*f));
	if (err != 0)
		return err;
	tf->tf_x[X_RA] = USER_CODE + (uint64_t)(sigreturn_code - user_code);
	tf->tf_x[X_SP] = sp;
	tf->tf_x[X_A0] = (uint64_t)sig;
	tf->tf_x[X_A1] = sp + offsetof(struct frame, info);
	tf->tf_x[X_A2] = sp + offsetof(struct frame, uc);
	tf->tf_pc = a->sa_handler;
	return 0;
}

int64_t arch_sigreturn(struct trapframe *tf)
{
	struct frame *f = kzalloc(sizeof(*f));

	if (f == NULL || copy_in(f, tf_sp(tf), sizeof(*f)) != 0) {
		kfree(f, sizeof(*f));
		signal_force(SIGSEGV, 1, tf_sp(tf));
		return 0;
	}
	memcpy(tf->tf_x + 1, f->uc.mc.x, sizeof(f->uc.mc.x));
	tf->tf_pc = f->uc.mc.pc;
	fp_load(&f->uc.mc.fp);
	tf->tf_status |= STATUS_FS; /* the thread's saved registers differ from these */
	signal_restore(f->uc.mask, &f->uc.stack);
	kfree(f, sizeof(*f));
	return (int64_t)tf->tf_x[X_A0];
}
