/* SPDX-License-Identifier: BSD-2-Clause */
/* The end of a run by an error: prints the error and the running fiber. */
#include "machine/sim/sim_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Thread_local struct mach *sim_current;

void mach_panic(const char *msg)
{
	fprintf(stderr, "panic: %s\n", msg);
	if (sim_current != NULL)
		fprintf(stderr, "  in %s on cpu %u at %llu ns\n", sim_current->m_cur->f_name,
		    sim_current->m_cur->f_cpu, (unsigned long long)sim_current->m_now);
	abort();
}

void sim_panicf(struct mach *m, const char *fmt, ...)
{
	char buf[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	sim_current = m;
	mach_panic(buf);
}
