/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the machine has from the kernel around it: CPUs, time, the end of the process. The functions
 * of machine.h here take no struct mach.
 *
 * Left out: threads (the runtime has one of its own; the core reclaims synchronously).
 */
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "sys/linux/elf.h"
#include "machine/linux/linux_impl.h"

static unsigned linux_ncpus = 1; /* this and the next: every linux_host_init sets the same value */
static bool linux_rdpid;
static int (*linux_clock)(clockid_t, struct timespec *); /* of the vDSO, NULL: there is none */

static unsigned count_cpus(void)
{
	uint64_t mask[16] = { 0 };
	long n = sys_call3(SYS_sched_getaffinity, 0, sizeof mask, (long)mask);
	unsigned top = 0;

	for (long i = 0; i < n / 8; i++)
		if (mask[i] != 0)
			top = (unsigned)i * 64 + 63u - (unsigned)__builtin_clzll(mask[i]);
	return top + 1;
}

/* The vDSO's clock_gettime: a program may replace the C library's function of that name. */
static int (*find_clock(void))(clockid_t, struct timespec *)
{
	struct elf_object vdso;

	return elf_at(elf_auxv(AT_SYSINFO_EHDR), &vdso)
	    ? (int (*)(clockid_t, struct timespec *))elf_symbol(&vdso, "__vdso_clock_gettime")
	    : NULL;
}

unsigned linux_host_init(void)
{
	linux_ncpus = count_cpus();
	linux_rdpid = sys_has_rdpid();
	linux_clock = find_clock();
	return linux_ncpus;
}

unsigned mach_cpu_id(void) { return sys_cpu(linux_rdpid) % linux_ncpus; }

uint64_t mach_time_ns(void)
{
	struct timespec ts;

	if (linux_clock == NULL || linux_clock(CLOCK_MONOTONIC, &ts) != 0)
		(void)sys_call2(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct mach_thread *mach_thread_create(
    struct mach *m, void (*fn)(void *), void *arg, const char *name)
{
	(void)m;
	(void)fn;
	(void)arg;
	(void)name;
	return NULL;
}

void mach_thread_join(struct mach_thread *t)
{
	if (t != NULL)
		mach_panic("a thread is joined on a machine that makes none");
}

void mach_yield(void) { (void)sys_call0(SYS_sched_yield); }

/* Aborts by the default action of SIGABRT, whatever mask and handler the program has set. */
void mach_panic(const char *msg)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		uint64_t mask;
	} dfl = { .handler = SIG_DFL };
	static const char fault[] = " (a fault of Quire: report this line)\n";
	uint64_t set = 1ull << (SIGABRT - 1);

	(void)sys_call3(SYS_write, 2, (long)"quire: panic: ", 14);
	(void)sys_call3(SYS_write, 2, (long)msg, (long)__builtin_strlen(msg));
	(void)sys_call3(SYS_write, 2, (long)fault, sizeof fault - 1);
	(void)sys_call4(SYS_rt_sigaction, SIGABRT, (long)&dfl, 0, 8);
	(void)sys_call4(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, 8);
	(void)sys_call3(SYS_tgkill, sys_call0(SYS_getpid), sys_call0(SYS_gettid), SIGABRT);
	for (;;)
		(void)sys_call1(SYS_exit_group, 134);
}
