/* SPDX-License-Identifier: BSD-2-Clause */
/* Signals: declarations shared by the file that sends them and the file that delivers them. */
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
#endif
