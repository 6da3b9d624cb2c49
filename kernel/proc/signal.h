/* SPDX-License-Identifier: BSD-2-Clause */
/* Signals: declarations for the files that send signals and the file that delivers them. */
#ifndef QUIRE_KERNEL_SIGNAL_H
#define QUIRE_KERNEL_SIGNAL_H

#include "kernel/proc/proc.h"

#define FATAL_ALWAYS (SIGBIT(SIGKILL) | SIGBIT(SIGSTOP))
#define DEFAULT_IGNORE (SIGBIT(SIGCHLD) | SIGBIT(SIGURG) | SIGBIT(SIGWINCH) | SIGBIT(SIGCONT))
#define DEFAULT_STOP (SIGBIT(SIGSTOP) | SIGBIT(SIGTSTP) | SIGBIT(SIGTTIN) | SIGBIT(SIGTTOU))
#define DEFAULT_CORE                                                                               \
	(SIGBIT(SIGABRT) | SIGBIT(SIGSEGV) | SIGBIT(SIGBUS) | SIGBIT(SIGILL) | SIGBIT(SIGFPE) |    \
	    SIGBIT(3) | SIGBIT(5))

/* Is a signal pending and not blocked? */
static inline uint64_t deliverable_signals(const struct uthread *u)
{
	return (u->u_signals.s_pending | u->u_proc->p_signals.s_pending) & ~u->u_sigmask;
}

/* ---- what a program is told of an event by: the part of Linux's structure that the kernel reads ---- */
enum { SIGEV_SIGNAL = 0, SIGEV_NONE = 1, SIGEV_THREAD = 2, SIGEV_THREAD_ID = 4 };
struct sigevent {
	uint64_t value;
	int32_t signo, notify, tid;
};
/*
 * Reads the program's structure and checks the signal and the thread (tid is 0 without
 * SIGEV_THREAD_ID); from 0: SIGALRM for the process. 0, -EFAULT, -EINVAL. Takes proc_lock.
 */
int sigevent_in(uint64_t from, struct sigevent *);
#endif
