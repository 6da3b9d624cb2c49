/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every system call that can change mappings, and the runtime's action for it: see calls.c.
 */
#ifndef QUIRE_RUN_CALLS_H
#define QUIRE_RUN_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum call_way {
	CALL_KERNEL, /* left to the kernel */
	/*
	 * intercepted when made through syscall(); the C library's function is interposed, or the
	 * library has none.
	 */
	CALL_NUMBER,
	CALL_SITE, /* also intercepted where the C library makes the call (sites.c) */
};

struct call {
	uint16_t c_nr;
	enum call_way c_way;
	const char *c_name;
	/* the runtime's action, or the reason why the kernel's own result is right */
	const char *c_why;
};

/* Call numbers that the headers of older distributions lack. */
#define NR_process_madvise 440
#define NR_process_mrelease 448
#define NR_set_mempolicy_home_node 450
#define NR_cachestat 451
#define NR_map_shadow_stack 453
#define NR_mseal 462
#define IOCTL_MOVE 0xc028aa05u /* UFFDIO_MOVE */

extern const struct call calls[];
extern const size_t calls_n;

bool calls_at_site(uint32_t nr);

#define CALLS_WORDS 8u /* of 64 numbers */
/* Sets the bit of each call that is intercepted when made through syscall(). */
void calls_bits(uint64_t bits[CALLS_WORDS]);
#endif
