/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Refusals for tests: the nth attempt of a kind (an allocation, an I/O: enum vm_inject) within the
 * calling thread's next system call fails.
 *
 * A program asks with prctl(PR_INJECT, kind, nth), which needs inject=1 on the kernel's command
 * line; prctl(PR_INJECT, kind, 0) returns how many attempts of the kind the last refused call made.
 * With one CPU and one busy process the attempts are the call's own, so a test that counts nth up
 * until the call makes fewer attempts has refused each one.
 *
 * Locks: none; the vm counts attempts atomically.
 */
#include "kernel/proc/proc.h"

int64_t inject_ask(uint64_t kind, uint64_t nth)
{
	struct inject *in = &this_uthread()->u_inject;

	if (cmdline_number("inject", 0) == 0 || kind >= VM_INJECT_N)
		return -EINVAL;
	if (nth == 0)
		return (int64_t)in->in_seen;
	*in = (struct inject){ .in_kind = (uint32_t)kind, .in_nth = nth };
	return 0;
}

bool inject_begin(struct uthread *u)
{
	struct inject *in = &u->u_inject;

	if (in->in_nth == 0)
		return false;
	vm_inject(the_vm, (enum vm_inject)in->in_kind, in->in_nth);
	in->in_nth = 0;
	return true;
}

void inject_end(struct uthread *u)
{
	struct inject *in = &u->u_inject;

	in->in_seen = vm_inject_seen(the_vm, (enum vm_inject)in->in_kind);
	vm_inject(the_vm, (enum vm_inject)in->in_kind, 0);
}
