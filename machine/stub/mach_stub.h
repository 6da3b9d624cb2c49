/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_MACH_STUB_H
#define TESTS_MACH_STUB_H

#include <setjmp.h>

#include <quire/machine.h>

/* grant: frames mach_frames_grant gives beyond those on line at start. */
struct mach *stub_create(pfn_t nframes, pfn_t grant, unsigned ncpus);
void stub_destroy(struct mach *);
void stub_abandon(struct mach *); /* after a panic: also frees all locks of every system */
uint32_t stub_grant_left(struct mach *);
void stub_cpu_set(unsigned cpu); /* sets the CPU of the calling thread */
/* The next panic jumps there instead of aborting. */
void stub_expect_panic(jmp_buf *);
const char *stub_panic_message(void);
#endif
