/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interposition: finds the C library's system-call sites for memory, fork and exec and makes them
 * call the runtime.
 *
 * Why sites and not symbols: malloc, sbrk, thread creation and fork call the library's internal
 * names, which no preloaded symbol catches. Why not seccomp: a filter outlives exec and would hang
 * a program without the runtime.
 *
 * A site is `mov $N,%eax; syscall` (b8 imm32 0f 05), seven bytes. It becomes `jmp stub` and two int3. The stub, made within
 * 2 GiB of the library, steps over the red zone, and calls intercept_common, which saves what a system call preserves:
 * every register but rax, rcx, r11, with the flags and the vector state. A site is left alone if some branch nearby targets
 * its inside. In Debian 12's libc.so.6 the sites are: mmap 1, munmap 1, mprotect 1, mremap 1, madvise 2, brk 1, clone 2
 * (_Fork and clone(); threads are made by clone3, which always shares memory), execve 1, mlock family 5; execveat 2, mlockall 1,
 * exit 2. Two instructions stand within the sites of sched_getaffinity and pthread_getaffinity_np;
 * they are moved before the site.
 *
 * clone with CLONE_VM (a thread, vfork, posix_spawn) is made by the stub itself without touching
 * the stack. The function syscall() is replaced as a whole: its calls take the same path.
 *
 * The runtime's descriptors are moved to high numbers; close, close_range, closefrom, dup2 and dup3
 * of the program treat them as not open. These five are interposed by symbol: only the program's
 * code calls them on numbers that it did not open.
 *
 * Locks: none; patching is done in the constructor, before the program's own code runs.
 */
#include "run/host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sys/linux/sys.h"
#include "run/affinity.h"
#include "run/args.h"
#include "run/calls.h"
#include "run/clone.h"
#include "run/compound.h"
#include "run/creds.h"
#include "run/exec.h"
#include "run/filter.h"
#include "run/limits.h"
#include "run/sanitizer.h"
#include "run/sites.h"
#include "run/tasks.h"
#include "run/text.h"
#include "run/thread_end.h"

/* ---- the code that a patched site runs ---- */
/*
 * const after the constructor: the calls that are intercepted when made through syscall(). All
 * zero: the process is not hosted.
 */
__attribute__((used)) static uint64_t syscall_ours[CALLS_WORDS];

/*
 * No handler may run while the world stands still for the copy: it could fault, and no thread would
 * serve the fault.
 */
static long do_fork(const long *a, long nr)
{
	uint64_t all = ~0ull, old;
	struct clone_call call;
	long r = clone_take(&call, nr, a);

	if (r != 0)
		return r;
	(void)sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, 8);
	r = host_fork_prepare(&call.c_words);
	if (r != 0) {
		(void)sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, 8);
		return r;
	}
	r = clone_make(&call);
	if (r == 0)
		host_fork_child();
	else
		host_fork_parent(r);
	(void)sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, 8);
	return r;
}

/*
 * A thread ends. A process ends with its last thread, but the service thread does not end by
 * itself: so the end of the program's last thread ends the process. (The C library counts its
 * threads; this code serves the child of clone() and programs that make the call themselves.)
 */
static long do_exit(long status)
{
	uint64_t all = ~0ull;

	if (host_served()) {
		(void)sys_call4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&all, 0, 8);
		/* what is opened to count them has numbers of this thread's own */
		(void)sys_call1(SYS_unshare, CLONE_FILES);
		if (host_own_process() && tasks_end_last())
			(void)sys_call1(SYS_exit_group, status);
		thread_end(status, host_forget_rseq());
	}
	return sys_call1(SYS_exit, status);
}

/*
 * The program serves the faults of a range itself (userfaultfd). A range can have only one server
 * of its faults, so the range becomes the kernel's. Memory that the program moves into such a range
 * becomes the kernel's, too: the kernel moves present pages only, and a paged-out page is not
 * present. The argument's address may be invalid.
 */
static long do_ioctl(const long *a)
{
	bool reg = (uint32_t)a[4] == UFFDIO_REGISTER, move = (uint32_t)a[4] == IOCTL_MOVE;
	union {
		struct uffdio_register reg;
		struct {
			uint64_t dst, src, len;
		} move;
	} arg;

	if (args_trusted()) /* all memory is the kernel's */
		return sys_call3(SYS_ioctl, a[5], a[4], a[3]);
	/* if the range cannot be released, the kernel refuses the registration, too */
	if (reg && args_read(&arg.reg, (const void *)a[3], sizeof arg.reg))
		(void)host_release((void *)arg.reg.range.start, (size_t)arg.reg.range.len);
	if (move && args_read(&arg.move, (const void *)a[3], sizeof arg.move))
		(void)host_release((void *)arg.move.src, (size_t)arg.move.len);
	return sys_call3(SYS_ioctl, a[5], a[4], a[3]);
}

#define THREAD_EXIT                                                                                \
	0x10000 /* not a call number: a thread of the C library, which counts its threads, ends */

/* a: r9, r8, r10, rdx, rsi, rdi. */
long intercept(long nr, const long *a);
__attribute__((used)) long intercept(long nr, const long *a)
{
	switch (nr) {
	case SYS_mmap:
		return host_mmap((void *)a[5], (size_t)a[4], (int)a[3], (int)a[2], (int)a[1], a[0]);
	case SYS_munmap: return host_munmap((void *)a[5], (size_t)a[4]);
	case SYS_mprotect: return host_mprotect((void *)a[5], (size_t)a[4], (int)a[3]);
	case SYS_madvise: return host_madvise((void *)a[5], (size_t)a[4], (int)a[3]);
	case SYS_mremap:
		return host_mremap(
		    (void *)a[5], (size_t)a[4], (size_t)a[3], (int)a[2], (void *)a[1]);
	case SYS_brk: return host_brk((void *)a[5]);
	case SYS_mincore: return host_mincore((void *)a[5], (size_t)a[4], (unsigned char *)a[3]);
	case SYS_mlock:
	case SYS_mlock2:
	case SYS_munlock: return host_mlock(nr, (void *)a[5], (size_t)a[4], (int)a[3]);
	case SYS_sched_getaffinity:
		return affinity_get((int)a[5], (unsigned long)a[4], (unsigned long *)a[3]);
	case SYS_sched_setaffinity:
		return affinity_set((int)a[5], (unsigned long)a[4], (const unsigned long *)a[3]);
	case SYS_set_robust_list: /* called by a new thread */
		affinity_own();
		return sys_call2(nr, a[5], a[4]);
	case SYS_execve:
	case SYS_execveat: return exec_call(nr, a);
	case SYS_exit: return do_exit(a[5]);
	case THREAD_EXIT:
		if (host_served())
			thread_end(0, host_forget_rseq());
		return sys_call1(SYS_exit, 0);
	case SYS_ioctl: return do_ioctl(a);
	case SYS_mlockall: return host_mlockall((int)a[5]);
	case SYS_munlockall: return host_mlock(nr, NULL, 0, 0);
	case SYS_shmat: return compound_shmat(a);
	case SYS_pkey_mprotect: return compound_pkey_mprotect(a);
	case NR_mseal: return host_seal((void *)a[5], (size_t)a[4], (unsigned long)a[3]);
	case NR_process_madvise: return compound_process_madvise(a);
	case SYS_unshare:
	case SYS_setns: return compound_one_thread(nr, a);
	case SYS_clone:
	case SYS_clone3:
	case SYS_fork: return do_fork(a, nr);
	default: return -ENOSYS;
	}
}

/*
 * On the stack: the return address into the stub, then the call's number, which the result
 * replaces.
 */
__asm__(
    ".text\n.globl intercept_common\n.hidden intercept_common\n.type intercept_common,@function\n"
    "intercept_common:\n"
    "	push %rbp\n	mov %rsp,%rbp\n	pushfq\n	cld\n"
    "	push %rdi\n	push %rsi\n	push %rdx\n	push %r10\n	push %r8\n	push %r9\n"
    "	sub $2816,%rsp\n	and $-64,%rsp\n"
    "	xor %eax,%eax\n"
    "	mov %rax,512(%rsp)\n	mov %rax,520(%rsp)\n	mov %rax,528(%rsp)\n	mov %rax,536(%rsp)\n"
    "	mov %rax,544(%rsp)\n	mov %rax,552(%rsp)\n	mov %rax,560(%rsp)\n	mov %rax,568(%rsp)\n"
    "	mov $0xe7,%eax\n	xor %edx,%edx\n	xsave64 (%rsp)\n"
    "	mov 16(%rbp),%rdi\n	lea -56(%rbp),%rsi\n	call intercept\n"
    "	mov %rax,16(%rbp)\n"
    "	mov $0xe7,%eax\n	xor %edx,%edx\n	xrstor64 (%rsp)\n"
    "	lea -56(%rbp),%rsp\n"
    "	pop %r9\n	pop %r8\n	pop %r10\n	pop %rdx\n	pop %rsi\n	pop %rdi\n	popfq\n	pop %rbp\n"
    "	mov 8(%rsp),%rax\n	ret\n"
    ".size intercept_common,.-intercept_common\n");
void intercept_common(void);

/* ---- patching ---- */
#define STUBS 8192
_Static_assert(UFFDIO_REGISTER == 0xc020aa00 && IOCTL_MOVE == 0xc028aa05, "as make_stub has it");
_Static_assert(FUTEX_WRITES == 0x39e0, "as syscall() has it");

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t n)
{
	memcpy(at, bytes, n);
	return at + n;
}

static uint8_t *put_jmp(uint8_t *at, const uint8_t *to)
{
	int32_t rel = (int32_t)(to - (at + 5));

	*at = 0xe9;
	memcpy(at + 1, &rel, 4);
	return at + 5;
}

static uint8_t *make_stub(uint8_t *at, uint8_t *site, uint32_t nr)
{
	void (*common)(void) = intercept_common;

	if (nr == SYS_clone) { /* test $CLONE_VM,%edi; jz +12; mov $56,%eax; syscall; jmp back */
		at = put_bytes(at, "\xf7\xc7\x00\x01\x00\x00\x74\x0c\xb8", 9);
		at = put_bytes(at, &nr, 4);
		at = put_bytes(at, "\x0f\x05", 2);
		at = put_jmp(at, site + 7);
	}
	if (nr ==
	    SYS_ioctl) { /* cmp $UFFDIO_REGISTER,%esi; je +20; cmp $UFFDIO_MOVE,%esi; je +12; and so on: most calls are others, and frequent in some programs */
		at = put_bytes(at, "\x81\xfe\x00\xaa\x20\xc0\x74\x14", 8);
		at = put_bytes(at, "\x81\xfe\x05\xaa\x28\xc0\x74\x0c\xb8", 9);
		at = put_bytes(at, &nr, 4);
		at = put_bytes(at, "\x0f\x05", 2);
		at = put_jmp(at, site + 7);
	}
	at = put_bytes(at, "\x48\x8d\x64\x24\x80", 5); /* lea -128(%rsp),%rsp */
	*at++ = 0x68;                                  /* push nr */
	at = put_bytes(at, &nr, 4);
	at = put_bytes(at, "\x49\xbb", 2); /* mov $common,%r11 */
	at = put_bytes(at, &common, 8);
	at = put_bytes(at, "\x41\xff\xd3", 3);                     /* call *%r11 */
	at = put_bytes(at, "\x48\x8d\xa4\x24\x88\x00\x00\x00", 8); /* lea 136(%rsp),%rsp */
	if (nr ==
	    SYS_clone) /* test %rax,%rax; jnz +8; test %rsi,%rsi; jz +3; mov %rsi,%rsp: the child's own stack */
		at = put_bytes(at, "\x48\x85\xc0\x75\x08\x48\x85\xf6\x74\x03\x48\x89\xf4", 13);
	return put_jmp(at, site + 7);
}

/* Maps a page for the stubs near the library. */
static uint8_t *stub_page(const struct library *lib)
{
	for (intptr_t d = 1 << 20; d < 1 << 30; d += 1 << 20)
		for (int side = 0; side < 2; side++) {
			uint8_t *want = (uint8_t *)(((uintptr_t)lib->text & ~0xfffull) +
			    (uintptr_t)(side == 0 ? -d : d + (intptr_t)lib->len));
			long p = sys_call6(SYS_mmap, (long)want, STUBS, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

			if (p == (long)want)
				return want;
			if (p > 0)
				(void)sys_call2(SYS_munmap, p, STUBS);
		}
	return NULL;
}

static unsigned essential_bit(uint32_t nr)
{
	switch (nr) {
	case SYS_mmap: return 1u;
	case SYS_munmap: return 2u;
	case SYS_brk: return 4u;
	case SYS_clone: return 8u;
	case SYS_execve: return 16u;
	default: return 0;
	}
}

/* A site that is not found, or cannot be changed, stays as it is. */
static uint8_t *patch_thread_exits(const struct library *lib, uint8_t *at)
{
	for (unsigned i = 0; i < THREAD_EXITS; i++) {
		uint8_t *site = lib->exits[i], *stub = at;
		long page = (long)((uintptr_t)site & ~0xfffull);

		if (site == NULL ||
		    sys_call3(SYS_mprotect, page, 2 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC) !=
			0)
			continue;
		at = make_stub(at, site, THREAD_EXIT);
		(void)put_jmp(site, stub);
		(void)sys_call3(SYS_mprotect, page, 2 * 4096, PROT_READ | PROT_EXEC);
	}
	return at;
}

/*
 * Returns the bit set of the patched calls: enough to host if mmap, munmap, brk, clone and execve
 * are in it.
 */
static int patch_library(struct library lib, uint8_t *stubs)
{
	uint8_t *site[MAXSITES], *at = stubs;
	unsigned n, essential = 0;

	if (stubs == NULL)
		return 0;
	n = sites_find(&lib, host_sites(), site);
	if (n == 0)
		return 0;
	uint8_t *lo = (uint8_t *)((uintptr_t)site[0] & ~0xfffull);
	size_t len = (size_t)(site[n - 1] + SITE_LONGEST - lo);
	if (sys_call3(SYS_mprotect, (long)lo, (long)len, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		uint32_t nr;
		uint8_t *stub = at, *from = sites_gather(site[i]);

		memcpy(&nr, from + 1, 4);
		at = make_stub(at, from, nr);
		(void)put_jmp(from, stub);
		from[5] = from[6] = 0xcc;
		essential |= essential_bit(nr);
	}
	(void)sys_call3(SYS_mprotect, (long)lo, (long)len, PROT_READ | PROT_EXEC);
	(void)patch_thread_exits(&lib, at);
	if (sys_call3(SYS_mprotect, (long)stubs, STUBS, PROT_READ | PROT_EXEC) != 0)
		return 0; /* the sites jump to a missing stub: the process must end */
	return essential == 31;
}

#define STATICS (1u << 20) /* a smaller mapping is not worth a range of its own */

/* Zeroed static data of one object: whole pages of a writable segment beyond what the file fills. */
static int take_statics(const struct elf_object *o, void *arg)
{
	(void)arg;
	if (text_contains(o->name, EXEC_LIBRARY))
		return 0;
	for (unsigned i = 0; i < o->nphdr; i++) {
		const Elf64_Phdr *ph = &o->phdr[i];
		uintptr_t a = (o->base + ph->p_vaddr + ph->p_filesz + 4095) & ~(uintptr_t)4095;
		uintptr_t e = (o->base + ph->p_vaddr + ph->p_memsz + 4095) & ~(uintptr_t)4095;

		if (ph->p_type == PT_LOAD && (ph->p_flags & (PF_W | PF_X)) == PF_W && e > a &&
		    e - a >= STATICS)
			host_take((void *)a, e - a);
	}
	return 0;
}

static const char *env_value(char *const *envp, const char *name)
{
	for (; *envp != NULL; envp++)
		if (text_starts(*envp, name))
			return *envp + strlen(name);
	return NULL;
}

/* First of all constructors (-z initfirst), before the C library's own: getenv does not work yet, but the loader passes
 * the environment. */
__attribute__((constructor)) static void start(int argc, char **argv, char **envp)
{
	const char *family = env_value(envp, "QUIRE_FAMILY="),
		   *preload = env_value(envp, "LD_PRELOAD=");

	(void)argc;
	if (family == NULL || preload == NULL)
		return;
	/* before any access to memory of which memcheck knows nothing: it would report each */
	if (text_contains(preload, "/vgpreload_"))
		host_stop(
		    "valgrind has no userfaultfd, so no program in it can be hosted: run it without quire",
		    -ENOSYS);
	sanitizer_start(argv, envp);
	if (!exec_prepare(preload))
		return;
	calls_bits(syscall_ours);
	/*
	 * the page near the library is mapped before the arena, gigabytes large, occupies the
	 * address
	 */
	struct library lib = { 0 };
	uint8_t *stubs = sites_library(&lib) ? stub_page(&lib) : NULL;
	if (host_init(family) == 0) {
		if (stubs != NULL)
			(void)sys_call2(SYS_munmap, (long)stubs, STUBS);
		return;
	}
	if (!creds_find() || !patch_library(lib, stubs)) {
		static const char no[] =
		    "quire: this C library's system calls cannot be intercepted: run with glibc 2.36 or alike\n";

		(void)sys_call3(SYS_write, 2, (long)no, sizeof no - 1);
		(void)sys_call1(SYS_exit_group, 126);
	}
	(void)elf_each(take_statics, NULL);
	exec_hosted();
}

/*
 * The last destructor. A process that ends by _exit() or a signal may not publish its last faults,
 * some hundred.
 */
__attribute__((destructor)) static void end(void) { host_count(); }

/* ---- interposed by symbol: the runtime's descriptors look closed ---- */
#define EXPORT __attribute__((visibility("default")))

static int find_errno(const struct elf_object *o, void *arg)
{
	int *(**where)(void) = arg;

	if (!sites_is_libc(o->name))
		return 0;
	*where = (int *(*)(void))elf_symbol(o, "__errno_location");
	return 1;
}

/*
 * Called in a thread of the program, which needs errno. The C library's function, looked up at the
 * first call.
 */
static void set_errno(int to)
{
	static int *(*where)(void); /* atomic: every thread finds the same function */
	int *(*at)(void) = __atomic_load_n(&where, __ATOMIC_ACQUIRE);

	if (at == NULL && elf_each(find_errno, &at) != 0)
		__atomic_store_n(&where, at, __ATOMIC_RELEASE);
	if (at != NULL)
		*at() = to;
}

static long return_errno(long r)
{
	if (r < 0) {
		set_errno((int)-r);
		return -1;
	}
	return r;
}

/*
 * prctl or seccomp by number, that filters the system calls of this process from now on. seccomp
 * returns a descriptor if the program wants a listener.
 */
static long set_filter(long nr, const long *a, bool filter)
{
	long r = host_leave();

	if (r == 0)
		r = sys_call5(nr, a[5], a[4], a[3], a[2], a[1]);
	if (r >= 0 && filter && filter_forbids((const struct sock_fprog *)a[3], host_device()))
		exec_unhosted();
	return r;
}

/* a as intercept() has them. Calls that install no filter only ask for features of the kernel. */
static long do_prctl(const long *a)
{
	bool strict = a[4] == SECCOMP_MODE_STRICT,
	     filter = a[4] == SECCOMP_MODE_FILTER && a[3] != 0;

	if (a[5] == PR_SET_MM)
		return compound_prctl_mm(a);
	if (a[5] == PR_SET_SECCOMP && (strict || filter))
		return set_filter(SYS_prctl, a, filter);
	long r = sys_call5(SYS_prctl, a[5], a[4], a[3], a[2], a[1]);
	if (r == 0 && a[5] == PR_SET_DUMPABLE && a[4] == 0)
		creds_changed(true);
	return r;
}

static long do_seccomp(const long *a)
{
	bool strict = a[5] == SECCOMP_SET_MODE_STRICT,
	     filter = a[5] == SECCOMP_SET_MODE_FILTER && a[3] != 0;

	return strict || filter ? set_filter(SYS_seccomp, a, filter)
				: sys_call3(SYS_seccomp, a[5], a[4], a[3]);
}

/* The calls made through syscall() that are intercepted. a: as the arguments of intercept(). */
long intercept_syscall(long nr, const long *a);
__attribute__((used)) long intercept_syscall(long nr, const long *a)
{
	switch (nr) {
	case SYS_close: return hostfd_ours((int)a[5]) ? -EBADF : sys_call1(nr, a[5]);
	case SYS_dup2:
	case SYS_dup3:
		return hostfd_ours((int)a[5]) || hostfd_ours((int)a[4])
		    ? -EBADF
		    : sys_call3(nr, a[5], a[4], a[3]);
	case SYS_close_range: return hostfd_close_range((unsigned)a[5], (unsigned)a[4], (int)a[3]);
	case SYS_prctl: return do_prctl(a);
	case SYS_setuid:
	case SYS_setgid:
	case SYS_setreuid:
	case SYS_setregid:
	case SYS_setresuid:
	case SYS_setresgid:
	case SYS_capset:
	case NR_landlock_restrict_self: return creds_call(nr, a);
	case SYS_seccomp: return do_seccomp(a);
	case SYS_setrlimit: return limits_call(0, (int)a[5], (const void *)a[4], NULL);
	case SYS_getrlimit:
		return a[4] == 0 ? -EFAULT : limits_call(0, (int)a[5], NULL, (void *)a[4]);
	case SYS_prlimit64:
		return limits_call((int)a[5], (int)a[4], (const void *)a[3], (void *)a[2]);
	case SYS_ioctl: return do_ioctl(a);
	case SYS_futex: return compound_futex(a);
	default: return intercept(nr, a);
	}
}

long intercept_errno(long r);
__attribute__((used)) long intercept_errno(long r) { return return_errno(r); }

/*
 * syscall(): as the C library's, except for the numbers whose bit is set in syscall_ours; of clone
 * and clone3 only calls that copy the address space are intercepted. A child with its own stack
 * returns on that stack.
 */
/*
 * Is it a clone3 that copies the address space, so that the runtime has to do with it? No if its
 * arguments cannot be read: the kernel then returns the error.
 */
bool clone3_copies(const void *args);
__attribute__((used)) bool clone3_copies(const void *args)
{
	uint64_t flags;

	return !args_trusted() && args_read(&flags, args, sizeof flags) && (flags & CLONE_VM) == 0;
}

__asm__(
    ".text\n.globl syscall\n.type syscall,@function\nsyscall:\n"
    "	cmp $511,%rdi\n	ja 1f\n	lea syscall_ours(%rip),%rax\n	bt %rdi,(%rax)\n	jc 3f\n"
    "1:	mov %rdi,%rax\n	mov %rsi,%rdi\n	mov %rdx,%rsi\n	mov %rcx,%rdx\n	mov %r8,%r10\n"
    "	mov %r9,%r8\n	mov 8(%rsp),%r9\n	syscall\n"
    "	cmp $-4095,%rax\n	jae 2f\n	ret\n"
    "2:	mov %rax,%rdi\n	jmp intercept_errno\n"
    "3:	cmp $56,%rdi\n	jne 4f\n	test $0x100,%esi\n	jnz 1b\n" /* CLONE_VM */
    "4:	cmp $202,%rdi\n	jne 7f\n" /* of futex only the operations of FUTEX_WRITES */
    /* keep on the stack: the call, its second argument */
    "	mov %edx,%eax\n	and $0x7f,%eax\n	cmp $31,%eax\n	ja 1b\n	mov $0x39e0,%r11d\n	bt %eax,%r11d\n	jnc 1b\n"
    "7:	cmp $435,%rdi\n	jne 5f\n"
    "	push %rdi\n	push %rsi\n	push %rdx\n	push %rcx\n	push %r8\n	push %r9\n	sub $8,%rsp\n"
    "	mov %rsi,%rdi\n	call clone3_copies\n	add $8,%rsp\n"
    "	pop %r9\n	pop %r8\n	pop %rcx\n	pop %rdx\n	pop %rsi\n	pop %rdi\n"
    "	test %al,%al\n	jz 1b\n"
    "5:	push %rbx\n	mov %rdi,%rbx\n	push %rdx\n"
    "	push %rsi\n	push %rdx\n	push %rcx\n	push %r8\n	push %r9\n	pushq 64(%rsp)\n"
    "	mov %rsp,%rsi\n	sub $8,%rsp\n	call intercept_syscall\n	add $56,%rsp\n"
    "	pop %rdx\n	mov %rbx,%rcx\n	pop %rbx\n"
    "	cmp $-4095,%rax\n	jae 2b\n"
    "	test %rax,%rax\n	jnz 6f\n	cmp $56,%rcx\n	jne 6f\n	test %rdx,%rdx\n	jz 6f\n	mov %rdx,%rsp\n"
    "6:	ret\n"
    ".size syscall,.-syscall\n");

EXPORT int close(int fd)
{
	return (int)return_errno(hostfd_ours(fd) ? -EBADF : sys_call1(SYS_close, fd));
}

EXPORT int prctl(int option, ...)
{
	va_list ap;
	long a[6] = { 0 };

	va_start(ap, option);
	a[5] = option;
	for (unsigned i = 4; i > 0; i--)
		a[i] = va_arg(ap, long);
	va_end(ap);
	return (int)return_errno(do_prctl(a));
}

/*
 * These and unshare are interposed for the case that the C library's site cannot be patched
 * (sites.c).
 */
int own_prlimit(pid_t pid, int what, const struct rlimit *set, struct rlimit *get);
__attribute__((used)) int own_prlimit(
    pid_t pid, int what, const struct rlimit *set, struct rlimit *get)
{
	return (int)return_errno(limits_call(pid, what, set, get));
}

int own_setrlimit(int what, const struct rlimit *set);
__attribute__((used)) int own_setrlimit(int what, const struct rlimit *set)
{
	return own_prlimit(0, what, set, NULL);
}

int own_getrlimit(int what, struct rlimit *get);
__attribute__((used)) int own_getrlimit(int what, struct rlimit *get)
{
	return own_prlimit(0, what, NULL, get);
}

/* Interposed by both names: the headers may use the second name. */
#define ALIAS(name, own) ".globl " name "\n.type " name ",@function\n.set " name "," own "\n"
__asm__(ALIAS("prlimit", "own_prlimit") ALIAS("prlimit64", "own_prlimit")
	ALIAS("setrlimit", "own_setrlimit") ALIAS("setrlimit64", "own_setrlimit")
	    ALIAS("getrlimit", "own_getrlimit") ALIAS("getrlimit64", "own_getrlimit"));

EXPORT int unshare(int flags)
{
	const long a[6] = { [5] = flags };

	return (int)return_errno(compound_one_thread(SYS_unshare, a));
}

EXPORT int dup2(int from, int to)
{
	return (int)return_errno(
	    hostfd_ours(from) || hostfd_ours(to) ? -EBADF : sys_call2(SYS_dup2, from, to));
}

EXPORT int dup3(int from, int to, int flags)
{
	return (int)return_errno(
	    hostfd_ours(from) || hostfd_ours(to) ? -EBADF : sys_call3(SYS_dup3, from, to, flags));
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	return (int)return_errno(hostfd_close_range(first, last, flags));
}

EXPORT void closefrom(int lowest)
{
	(void)close_range((unsigned)(lowest < 0 ? 0 : lowest), ~0u, 0);
}
