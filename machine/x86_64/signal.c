/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The frame of a signal handler, as Linux lays it out on x86-64: the restorer's address, ucontext,
 * siginfo, and the area of x87, SSE and AVX (fpu.c) that ucontext points to. If the CPU has XSAVE, the
 * area says by two magic numbers that the upper halves are there. rt_sigreturn reads the frame back,
 * except for registers that a program may not set (segments, system flags).
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

#define UC_FP_XSTATE 1u
#define UC_SS 6u /* the frame has SS, and SS is restored */

/* ---- the area ---- */
#define MXCSR_HIGH 26u /* the half of MXCSR whose bits do not exist: they would fault */
#define SW_BYTES 464u  /* for software */
#define MAGIC1 0x46505853u
#define MAGIC2 0x46505845u

struct sw_bytes {
	uint32_t magic1, extended_size;
	uint64_t xfeatures;
	uint32_t xstate_size, padding[7];
};
_Static_assert(sizeof(struct sw_bytes) == FPU_HEADER - SW_BYTES, "Linux's");

static uint64_t area_bytes(void)
{
	return fpu.fpu_bytes + (fpu.fpu_xcr0 != 0 ? sizeof(uint32_t) : 0);
}

static int area_out(uint64_t to)
{
	_Alignas(FPU_ALIGN) uint8_t area[FPU_BYTES] = { 0 };
	const struct sw_bytes sw = { MAGIC1, (uint32_t)area_bytes(), fpu.fpu_xcr0, fpu.fpu_bytes,
		{ 0 } };
	const uint32_t magic2 = MAGIC2;
	int err;

	fpu_area_save(area);
	if (fpu.fpu_xcr0 != 0)
		memcpy(area + SW_BYTES, &sw, sizeof(sw));
	err = copy_out(to, area, fpu.fpu_bytes);
	if (err != 0 || fpu.fpu_xcr0 == 0)
		return err;
	return copy_out(to + fpu.fpu_bytes, &magic2, sizeof(magic2));
}

/* Has the area, of which the first part is read, the upper halves? */
static bool is_extended(uint64_t from, const struct sw_bytes *sw)
{
	uint32_t magic2;

	return fpu.fpu_xcr0 != 0 && sw->magic1 == MAGIC1 && sw->xstate_size == fpu.fpu_bytes &&
	    copy_in(&magic2, from + fpu.fpu_bytes, sizeof(magic2)) == 0 && magic2 == MAGIC2;
}

/* Loads the registers. from 0: the initial ones. */
static int area_in(uint64_t from)
{
	_Alignas(FPU_ALIGN) uint8_t area[FPU_BYTES];
	uint64_t header[8] = { 3 }; /* x87 and SSE: the upper halves become 0 */
	struct sw_bytes sw;

	fpu_area_init(area);
	if (from != 0) {
		if (copy_in(area, from, FPU_HEADER) != 0)
			return -EFAULT;
		memcpy(&sw, area + SW_BYTES, sizeof(sw));
		if (is_extended(from, &sw)) {
			if (copy_in(area + FPU_HEADER, from + FPU_HEADER,
				fpu.fpu_bytes - FPU_HEADER) != 0)
				return -EFAULT;
			memcpy(header, area + FPU_HEADER, sizeof(header[0]));
			header[0] &= sw.xfeatures & fpu.fpu_xcr0;
		}
	}
	memset(area + MXCSR_HIGH, 0, 2);
	memset(area + SW_BYTES, 0, sizeof(sw));
	if (fpu.fpu_xcr0 != 0)
		memcpy(area + FPU_HEADER, header, sizeof(header));
	fpu_area_load(area);
	return 0;
}

/* ---- the frame ---- */
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
	struct frame *f = kzalloc(sizeof(*f));
	uint64_t sp, fpstate;
	int err;

	if (f == NULL)
		return -ENOMEM;
	sp = signal_stack(a, tf->tf_rsp, RED_ZONE, &f->uc.stack);
	fpstate = (sp - area_bytes()) & ~63ull;
	sp = ((fpstate - sizeof(*f)) & ~15ull) - 8;
	f->restorer = a->sa_restorer;
	f->uc.flags = UC_SS | (fpu.fpu_xcr0 != 0 ? UC_FP_XSTATE : 0);
	context_save(&f->uc.mc, tf);
	f->uc.mc.fpstate = fpstate;
	f->uc.mc.cr2 = info->addr;
	f->uc.mc.oldmask = f->uc.mask = oldmask;
	f->info = *info;
	err = area_out(fpstate);
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
	struct ucontext uc;
	const struct sigcontext *c = &uc.mc;

	if (copy_in(&uc, tf->tf_rsp, sizeof(uc)) != 0 || area_in(c->fpstate) != 0) {
		signal_force(SIGSEGV, 1, tf->tf_rsp);
		return 0;
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
