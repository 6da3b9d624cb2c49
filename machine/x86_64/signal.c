/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The frame of a signal handler, as Linux lays it out on x86-64: the restorer's address, ucontext,
 * siginfo, and the FXSAVE area that ucontext points to. rt_sigreturn reads the frame back, except
 * for registers that a program may not set (segments, system flags).
 */
#include "machine/x86_64/cpu.h"

#include "kernel/proc/proc.h"

struct sigcontext {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip,
	    eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};
struct ucontext {
	uint64_t flags, link;
	struct sigstack stack;
	struct sigcontext mc;
	uint64_t mask;
};
struct frame {
	uint64_t restorer;
	struct ucontext uc;
	struct siginfo info;
};
#define RFLAGS_USER 0x00000000000cd5ull /* arithmetic, trap and direction */
#define RED_ZONE 128u

static void context_save(struct sigcontext *c, const struct trapframe *tf)
{
	*c = (struct sigcontext){ tf->tf_r8, tf->tf_r9, tf->tf_r10, tf->tf_r11, tf->tf_r12,
		tf->tf_r13, tf->tf_r14, tf->tf_r15, tf->tf_rdi, tf->tf_rsi, tf->tf_rbp, tf->tf_rbx,
		tf->tf_rdx, tf->tf_rax, tf->tf_rcx, tf->tf_rsp, tf->tf_rip, tf->tf_rflags,
		.cs = (uint16_t)tf->tf_cs, .ss = (uint16_t)tf->tf_ss, .err = tf->tf_err,
		.trapno = tf->tf_trap == TRAP_SYSCALL ? 0 : tf->tf_trap };
}

int arch_signal_frame(struct trapframe *tf, int sig, const struct siginfo *info,
    const struct sigaction *a, uint64_t oldmask)
{
	_Alignas(16) uint8_t fpu[512];
	struct frame *f = kzalloc(sizeof(*f));
	uint64_t sp, fpstate;
	int err;

	if (f == NULL)
		return -ENOMEM;
	sp = signal_stack(a, tf->tf_rsp, RED_ZONE, &f->uc.stack);
	fpstate = (sp - sizeof(fpu)) & ~63ull;
	sp = ((fpstate - sizeof(*f)) & ~15ull) - 8;
	f->restorer = a->sa_restorer;
	context_save(&f->uc.mc, tf);
	f->uc.mc.fpstate = fpstate;
	f->uc.mc.cr2 = info->addr;
	f->uc.mc.oldmask = f->uc.mask = oldmask;
	f->info = *info;
	__asm__ volatile("fxsave %0" : "=m"(fpu));
	err = copy_out(fpstate, fpu, sizeof(fpu));
	if (err == 0)
		err = copy_out(sp, f, sizeof(*f));
	kfree(f, sizeof(*f));
	if (err != 0)
		return err;
	tf->tf_rsp = sp;
	tf->tf_rip = a->sa_handler;
	tf->tf_rdi = (uint64_t)sig;
	tf->tf_rsi = sp + offsetof(struct frame, info);
	tf->tf_rdx = sp + offsetof(struct frame, uc);
	tf->tf_rax = 0;
	tf->tf_rflags &= ~0x500ull; /* direction, trap */
	return 0;
}

int64_t arch_sigreturn(struct trapframe *tf)
{
	_Alignas(16) uint8_t fpu[512];
	struct ucontext uc;
	const struct sigcontext *c = &uc.mc;

	if (copy_in(&uc, tf->tf_rsp, sizeof(uc)) != 0 ||
	    (c->fpstate != 0 && copy_in(fpu, c->fpstate, sizeof(fpu)) != 0)) {
		signal_force(SIGSEGV, 1, tf->tf_rsp);
		return 0;
	}
	if (c->fpstate != 0) {
		fpu[27] = 0; /* bits of MXCSR that do not exist would fault */
		fpu[26] = 0;
		__asm__ volatile("fxrstor %0" : : "m"(fpu));
	}
	tf->tf_r8 = c->r8, tf->tf_r9 = c->r9, tf->tf_r10 = c->r10, tf->tf_r11 = c->r11;
	tf->tf_r12 = c->r12, tf->tf_r13 = c->r13, tf->tf_r14 = c->r14, tf->tf_r15 = c->r15;
	tf->tf_rdi = c->rdi, tf->tf_rsi = c->rsi, tf->tf_rbp = c->rbp, tf->tf_rbx = c->rbx;
	tf->tf_rdx = c->rdx, tf->tf_rcx = c->rcx, tf->tf_rsp = c->rsp;
	tf->tf_rip = c->rip & 0x7fffffffffffull;
	tf->tf_rflags = (tf->tf_rflags & ~RFLAGS_USER) | (c->eflags & RFLAGS_USER) | 0x202;
	signal_restore(uc.mask, &uc.stack);
	return (int64_t)c->rax;
}
