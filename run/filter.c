/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Can a program be hosted behind a filter of system calls (seccomp)?
 *
 * A filter outlives execve(), and its list has the calls of the program, not those of the runtime.
 * A filter that kills a process for such a call would kill each program that is executed behind it,
 * and a program cannot find this out: the attempt is the call. So the process that installs a
 * filter runs its code for each call of the runtime, as the kernel would. It does so afterwards, in
 * the program's memory: the kernel has found the addresses and the code valid, and no system call,
 * which this filter or one before it could punish, is needed for it. If the answer is bad, programs that the process and its children execute are not hosted
 * (exec_unhosted).
 *
 * The code is run for one set of arguments of each call: the table names the arguments that filters
 * look at.
 *
 * Locks: none.
 */
#include "run/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "run/calls.h"
#include "sys/linux/sys.h"

/*
 * The runtime's calls. May: the runtime goes on without the call. Arg, value: an argument that
 * filters look at; all others are 0.
 */
#define MUST(nr)                                                                                   \
	{                                                                                          \
		SYS_##nr, false, 0, 0                                                              \
	}
#define MUST_WITH(nr, arg, value)                                                                  \
	{                                                                                          \
		SYS_##nr, false, arg, value                                                        \
	}
#define MAY(nr)                                                                                    \
	{                                                                                          \
		SYS_##nr, true, 0, 0                                                               \
	}
#define FEW_THREADS (CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_FS | CLONE_FILES)
static const struct {
	uint16_t nr;
	bool may;
	uint8_t arg;
	uint64_t value;
} runtime_calls[] = { MUST(brk), MUST(capget), MUST_WITH(clone, 0, FEW_THREADS), MUST(close),
	MUST(exit), MUST(exit_group), MUST(faccessat), MUST(fcntl), MUST(fstat), MUST(futex),
	MUST(getpid), MUST(getppid), MUST(getresgid), MUST(getresuid), MUST(getsockopt),
	MUST(gettid), MUST_WITH(ioctl, 1, UFFDIO_API), MUST(kill), MUST(madvise),
	MUST_WITH(mmap, 2, PROT_READ | PROT_WRITE),
	MUST_WITH(mprotect, 2, PROT_READ | PROT_WRITE | PROT_EXEC), MUST(mremap), MUST(munmap),
	MUST(newfstatat), MUST(openat), MUST(poll), MUST(prctl), MUST(pread64), MUST(prlimit64),
	MUST(pwrite64), MUST(read), MUST(recvfrom), MUST(recvmsg), MUST(rt_sigaction),
	MUST(rt_sigprocmask), MUST(sched_yield), MUST(sendmsg), MUST(sendto),
	MUST_WITH(socketpair, 0, AF_UNIX), MUST(tgkill), MAY(userfaultfd), MUST(write),
	MUST(writev), MAY(arch_prctl), MAY(clock_gettime), MAY(clock_nanosleep), MAY(clone3),
	MAY(close_range), MAY(eventfd2), MAY(fadvise64), MAY(fallocate), MAY(fdatasync),
	MAY(fstatfs), MAY(get_robust_list), MAY(getcpu), MAY(getdents64), MAY(getrandom),
	MAY(io_destroy), MAY(io_getevents), MAY(io_setup), MAY(io_submit), MAY(io_uring_enter),
	MAY(io_uring_setup), MAY(memfd_create), MAY(mincore), MAY(mlock2), MAY(msync), MAY(munlock),
	MAY(pipe2), MAY(process_vm_readv), MAY(rseq), MAY(rt_sigtimedwait), MAY(sched_getaffinity),
	MAY(sched_getattr), MAY(sched_setaffinity), MAY(sched_setattr), MAY(set_robust_list),
	MAY(set_tid_address), MAY(shutdown), MAY(vmsplice), { NR_process_madvise, true, 0, 0 } };

/* A run of a filter: its registers, and the call that it looks at. */
struct filter_run {
	uint32_t a, x, mem[BPF_MEMWORDS];
	struct seccomp_data data;
};

static uint32_t load_word(const struct filter_run *r, const struct sock_filter *f)
{
	switch (BPF_MODE(f->code)) {
	case BPF_ABS: {
		const uint32_t *words = (const uint32_t *)&r->data;

		return f->k < sizeof r->data ? words[f->k / 4] : 0;
	}
	case BPF_LEN: return sizeof r->data;
	case BPF_MEM: return r->mem[f->k % BPF_MEMWORDS];
	default: return f->k;
	}
}

static uint32_t compute_word(uint32_t a, uint32_t b, uint16_t code)
{
	switch (BPF_OP(code)) {
	case BPF_ADD: return a + b;
	case BPF_SUB: return a - b;
	case BPF_MUL: return a * b;
	case BPF_DIV: return b == 0 ? 0 : a / b;
	case BPF_OR: return a | b;
	case BPF_AND: return a & b;
	case BPF_LSH: return b < 32 ? a << b : 0;
	case BPF_RSH: return b < 32 ? a >> b : 0;
	case BPF_XOR: return a ^ b;
	default: return 0u - a; /* BPF_NEG */
	}
}

/* How many instructions a jump leaves out. */
static uint32_t jump_over(uint32_t a, uint32_t b, const struct sock_filter *f)
{
	switch (BPF_OP(f->code)) {
	case BPF_JA: return f->k;
	case BPF_JEQ: return a == b ? f->jt : f->jf;
	case BPF_JGT: return a > b ? f->jt : f->jf;
	case BPF_JGE: return a >= b ? f->jt : f->jf;
	default: return (a & b) != 0 ? f->jt : f->jf; /* BPF_JSET */
	}
}

/*
 * The filter's answer for the call in r->data. Jumps go forward only, so the loop ends. A code that
 * ends without an answer is invalid: the kernel does not install it.
 */
static uint32_t run_filter(struct filter_run *r, const struct sock_filter *code, size_t n)
{
	for (size_t at = 0; at < n; at++) {
		const struct sock_filter *f = code + at;
		uint32_t b = BPF_SRC(f->code) == BPF_X ? r->x : f->k;

		switch (BPF_CLASS(f->code)) {
		case BPF_LD: r->a = load_word(r, f); break;
		case BPF_LDX: r->x = load_word(r, f); break;
		case BPF_ST: r->mem[f->k % BPF_MEMWORDS] = r->a; break;
		case BPF_STX: r->mem[f->k % BPF_MEMWORDS] = r->x; break;
		case BPF_ALU: r->a = compute_word(r->a, b, f->code); break;
		case BPF_JMP: at += jump_over(r->a, b, f); break;
		case BPF_RET: return BPF_RVAL(f->code) == BPF_A ? r->a : f->k;
		default: /* BPF_MISC */
			if (BPF_MISCOP(f->code) == BPF_TAX)
				r->x = r->a;
			else
				r->a = r->x;
			break;
		}
	}
	return SECCOMP_RET_ALLOW;
}

/*
 * The runtime takes these two errors to mean that the kernel lacks the call. In the place of
 * userfaultfd() it uses the descriptor of the device that the family has.
 */
static bool is_missing(uint32_t answer)
{
	uint32_t error = answer & SECCOMP_RET_DATA;

	return error == EPERM || error == ENOSYS;
}

static bool code_forbids(const struct sock_filter *code, size_t n, bool device)
{
	for (size_t i = 0; i < sizeof runtime_calls / sizeof *runtime_calls; i++) {
		struct filter_run r = { .data = { .nr = runtime_calls[i].nr,
					    .arch = AUDIT_ARCH_X86_64 } };

		r.data.args[runtime_calls[i].arg] = runtime_calls[i].value;
		uint32_t answer = run_filter(&r, code, n);

		switch (answer & SECCOMP_RET_ACTION_FULL) {
		case SECCOMP_RET_ALLOW:
		case SECCOMP_RET_LOG: break;
		case SECCOMP_RET_ERRNO:
			if (!runtime_calls[i].may || !is_missing(answer) ||
			    (runtime_calls[i].nr == SYS_userfaultfd && !device))
				return true;
			break;
		default: return true; /* the process is killed, gets a signal, or is stopped */
		}
	}
	return false;
}

bool filter_forbids(const struct sock_fprog *prog, bool device)
{
	return code_forbids(prog->filter, prog->len, device);
}
