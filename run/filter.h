/* SPDX-License-Identifier: BSD-2-Clause */
/* Filters of system calls that the program installs: see filter.c. */
#ifndef QUIRE_RUN_FILTER_H
#define QUIRE_RUN_FILTER_H

#include <stdbool.h>

struct sock_fprog;

/*
 * Does this filter, an argument of the program's that the kernel has installed, forbid a call without
 * which a program cannot be hosted, or give an answer other than EPERM or ENOSYS for one of the
 * runtime's other calls? The function makes no system call.
 * device: programs that are executed have a descriptor of /dev/userfaultfd.
 */
bool filter_forbids(const struct sock_fprog *, bool device);
#endif
