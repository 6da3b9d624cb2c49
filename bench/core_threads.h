/* SPDX-License-Identifier: BSD-2-Clause */
/* The functions that bench/core_threads.c needs of its machine. */
#ifndef BENCH_CORE_THREADS_H
#define BENCH_CORE_THREADS_H

#include "vm/impl.h"

#define BT_PAGES 8192u /* a thread */

extern const char *const bt_about;
/* Makes a system with 4 * BT_PAGES frames and a space; the addresses for the two segments. Adds
 * swap on the machines that can have it. */
struct as *bt_open(vaddr_t at[2], struct vnode **swap);
void bt_mapped(struct as *, vaddr_t at); /* a segment has been made there */
void bt_close(struct as *);
#endif
