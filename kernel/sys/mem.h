/* SPDX-License-Identifier: BSD-2-Clause */
/* System calls of memory: the function that exec shares with them. */
#ifndef QUIRE_KERNEL_SYS_MEM_H
#define QUIRE_KERNEL_SYS_MEM_H

#include "kernel/proc/proc.h"

/* The end of mmap's area, below the room into which a stack that ends at `top` may grow. */
static inline vaddr_t mmap_below(const struct proc *p, vaddr_t stack_top)
{
	uint64_t room = p->p_rlim[3].cur < 64u << 20 ? p->p_rlim[3].cur : 64u << 20;

	return vm_page_trunc(stack_top - room) - (2u << 20);
}
static inline vaddr_t mmap_top(const struct proc *p) { return mmap_below(p, p->p_stack_top); }
#endif
