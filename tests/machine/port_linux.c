/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Linux machine for the conformance programs. All spaces live in this process, so each gets
 * separate addresses, registered with the machine. Accesses are real: a faulting access raises
 * SIGBUS, whose error code distinguishes a missing page from a protected page.
 */
#include "machine/linux/linux.h"
#include "tests/machine/port_harness.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define SKIP 77 /* Meson's exit status for a test that cannot run here */
#define MODULUS (1ull << 32)
#define MAXRESERVED 8u
#define PF_PRESENT 1

static struct reserved {
	void *addr;
	size_t len;
} reserved[MAXRESERVED];
static unsigned nreserved;
static sigjmp_buf escape;
static volatile sig_atomic_t touching, present;
static volatile uintptr_t touched;

static void on_sigbus(int sig, siginfo_t *si, void *ctx)
{
	const ucontext_t *uc = ctx;

	if (!touching || ((uintptr_t)si->si_addr ^ touched) >= VM_PAGESIZE) {
		/* an unexpected signal: the access is repeated and ends the program */
		(void)signal(sig, SIG_DFL);
		return;
	}
	present = (uc->uc_mcontext.gregs[REG_ERR] & PF_PRESENT) != 0;
	siglongjmp(escape, 1);
}

static struct mach *port_create(pfn_t frames)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	struct linux_config cfg = { .frames = frames, .inline_faults = true };
	const char *without = getenv("QUIRE_WITHOUT");
	struct mach *m;
	int rc;

	if (!sys_offers_named(without != NULL ? without : "", &cfg.without))
		abort();
	rc = linux_create(&cfg, &m);
	if (rc != 0) {
		printf("skipped: the Linux machine cannot be made here: %s\n", strerror(-rc));
		exit(SKIP);
	}
	(void)sigaction(SIGBUS, &sa, NULL);
	return m;
}

static void port_destroy(struct mach *m)
{
	for (unsigned i = 0; i < nreserved; i++)
		(void)munmap(reserved[i].addr, reserved[i].len);
	nreserved = 0;
	linux_destroy(m);
}

static vaddr_t port_reserve(struct mach *m, struct hat *hat, vaddr_t want, uint64_t len)
{
	size_t all = len + MODULUS;
	void *p = mmap(
	    NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	vaddr_t at;

	if (p == MAP_FAILED || nreserved == MAXRESERVED)
		mach_panic("no addresses");
	reserved[nreserved++] = (struct reserved){ p, all };
	at = (vaddr_t)p + ((want - (vaddr_t)p) & (MODULUS - 1));
	if (linux_range_register(m, hat, at, len) != 0)
		mach_panic("the range cannot be registered");
	return at;
}

static void port_run(struct mach *m, void (*fn)(void *), void *arg)
{
	(void)m;
	fn(arg);
}

/* There is no table walk in software: the hardware itself is asked. */
static enum vm_err port_touch(
    struct mach *m, struct hat *hat, vaddr_t va, bool write, uint8_t *byte)
{
	volatile uint8_t *p = (volatile uint8_t *)(uintptr_t)va;

	(void)m;
	(void)hat;
	touched = (uintptr_t)va & ~(uintptr_t)VM_PAGEMASK;
	if (sigsetjmp(escape, 1) != 0) {
		touching = 0;
		return present ? VM_PROT : VM_NOMAP;
	}
	touching = 1;
	if (write)
		*p = *byte;
	else
		*byte = *p;
	touching = 0;
	return VM_OK;
}

const struct port_harness port_harness = {
	.ph_name = "linux",
	.ph_create = port_create,
	.ph_destroy = port_destroy,
	.ph_reserve = port_reserve,
	.ph_run = port_run,
	.ph_touch = port_touch,
};
