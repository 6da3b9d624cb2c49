/* SPDX-License-Identifier: BSD-2-Clause */
/* What bench/core_threads.c needs of the machine that it runs on. */
#ifndef BENCH_CORE_THREADS_H
#define BENCH_CORE_THREADS_H

#include "vm/impl.h"

#define BT_PAGES 8192u /* a thread */

extern const char *const bt_about;
/* A system with 4 * BT_PAGES frames and a space; where the two segments may lie. Swap for the machines that can have it. */
struct as *bt_open(vaddr_t at[2], struct vnode **swap);
void bt_mapped(struct as *, vaddr_t at); /* a segment is there now */
void bt_close(struct as *);
#endif
