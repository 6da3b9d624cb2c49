/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Failures by count. A short random script is run again and again; in the k-th run the k-th
 * allocation, I/O or interrupt of a kind fails (interrupts are lost or late, writes torn within a
 * page), k = 1, 2, ... until a run passes fewer than k. With an odd seed one fails, with an even
 * seed also the next seven of that kind. Each operation must succeed, or return a clean error and
 * change nothing. The bytes must be right, vm_check must find no violation, and at the end no
 * memory may be left allocated (model_test.c: run_teardown).
 *
 * vm_inject_fail is wrapped by the linker, so that the call stack of each failure is known: a site
 * is an allocating function's caller, a path the functions above it too. Sites and paths are
 * counted, which shows how much of the system failed.
 */
#include "tests/vm/model.h"

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAXSITES 16384u
#define BURST 8u
#define DEPTH 9
#define PASSED 10

struct table {
	unsigned n;
	uint64_t hash[MAXSITES];
};
static struct shared {
	struct table site, path;
	uint64_t injected;
} * shared; /* with the children */
/* Kinds beside enum vm_inject: the machine's. */
enum { INJECT_IPI = VM_INJECT_N, INJECT_TORN, INJECT_KINDS };

static unsigned burst, burst_left;
static enum vm_inject burst_what;

static void note(struct table *t, uint64_t hash)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->hash[i] == hash)
			return;
	if (t->n < MAXSITES)
		t->hash[t->n++] = hash;
}

/* frame[0] is in this file, frame[1] in the allocating function, frame[2] in its caller. */
static void note_stack(void)
{
	void *frame[DEPTH];
	int n = backtrace(frame, DEPTH);
	uint64_t hash = 0;

	for (int i = 1; i < n; i++) {
		hash = mix(hash ^ (uint64_t)(uintptr_t)frame[i]);
		if (i == 3)
			note(&shared->site, hash);
	}
	note(&shared->path, hash);
	shared->injected++;
}

bool __real_vm_inject_fail(struct vm *, enum vm_inject);
bool __wrap_vm_inject_fail(struct vm *, enum vm_inject);
bool __wrap_vm_inject_fail(struct vm *vm, enum vm_inject what)
{
	bool yes = __real_vm_inject_fail(vm, what);

	if (yes) {
		burst_left = burst;
		burst_what = what;
	} else if (burst_left == 0 || what != burst_what) {
		return false;
	}
	burst_left--;
	if (shared != NULL)
		note_stack();
	return true;
}

/* True: the run came as far as the nth. */
static bool inject_once(const struct options *opt, unsigned what, uint64_t nth)
{
	static struct test t;
	struct sim_stats st;
	bool passed;

	*progress = 0;
	run_setup(&t, opt);
	t.injecting = true;
	if (what == INJECT_IPI)
		sim_ipi_fail(t.mach, nth % 2 != 0 ? SIM_IPI_LOST : SIM_IPI_LATE, nth,
		    burst < 4 ? burst : 4, 100000);
	else if (what == INJECT_TORN)
		sim_disk_tear(
		    t.disk, nth, (uint32_t)(mix(nth) % 4), (uint32_t)(mix(nth) / 4 % 8), true);
	else
		vm_inject(t.vm, (enum vm_inject)what, nth);
	for (uint64_t i = 0; i < opt->ops; i++)
		run_one(&t, run_word(opt, i));
	sim_statistics(t.mach, &st);
	if (what == INJECT_IPI)
		passed = sim_ipi_seen(t.mach) >= nth;
	else if (what == INJECT_TORN)
		passed = st.ss_torn > 0;
	else
		passed = vm_inject_seen(t.vm, (enum vm_inject)what) >= nth;
	if (what < VM_INJECT_N)
		vm_inject(t.vm, (enum vm_inject)what, 0);
	burst_left = 0;
	run_check(&t);
	run_verify(&t);
	run_teardown(&t);
	return passed;
}

static bool inject_child(const struct options *opt, unsigned what, uint64_t nth, bool *passed)
{
	int status;
	pid_t pid;

	fflush(stdout);
	if ((pid = fork()) == 0)
		exit(inject_once(opt, what, nth) ? PASSED : 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	*passed = WIFEXITED(status) && WEXITSTATUS(status) == PASSED;
	return WIFEXITED(status) && (WEXITSTATUS(status) == PASSED || WEXITSTATUS(status) == 0);
}

static bool inject_kind(const struct options *opt, unsigned what, uint64_t *runs)
{
	static const char *const names[] = { "page", "kmem", "read", "write", "hat", "swap", "pin",
		"ipi", "torn" };
	bool passed = true;

	burst = opt->seed % 2 != 0 ? 1 : BURST;
	for (uint64_t nth = 1; passed; nth++) {
		if (!inject_child(opt, what, nth, &passed)) {
			fprintf(stderr,
			    "inject %s: failure %" PRIu64 " is not survived, seed %" PRIu64 "%s\n",
			    names[what], nth, opt->seed, opt->linux_like ? " --linux" : "");
			return false;
		}
		runs[what] += passed;
	}
	return true;
}

bool inject_all(const struct options *from)
{
	struct options opt = *from;
	uint64_t runs[INJECT_KINDS] = { 0 };

	shared =
	    mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return false;
	for (; opt.seed < from->seed + from->seeds; opt.seed++)
		for (unsigned what = 0; what < INJECT_KINDS; what++)
			if (!inject_kind(&opt, what, runs))
				return false;
	printf("  runs with a failure: %" PRIu64 " page, %" PRIu64 " kmem, %" PRIu64
	       " read, %" PRIu64 " write, %" PRIu64 " hat, %" PRIu64 " swap, %" PRIu64
	       " pin, %" PRIu64 " interrupt, %" PRIu64 " torn\n",
	    runs[VM_INJECT_PAGE], runs[VM_INJECT_KMEM], runs[VM_INJECT_IO_READ],
	    runs[VM_INJECT_IO_WRITE], runs[VM_INJECT_HAT], runs[VM_INJECT_SWAP],
	    runs[VM_INJECT_PIN], runs[INJECT_IPI], runs[INJECT_TORN]);
	printf("  %" PRIu64 " failures injected at %u call sites, on %u call paths\n",
	    shared->injected, shared->site.n, shared->path.n);
	return true;
}
