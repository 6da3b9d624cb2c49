/* SPDX-License-Identifier: BSD-2-Clause */
/* The counting of failures in the programs of port_harness.h; each program includes this once. */
#ifndef QUIRE_PORT_CHECK_H
#define QUIRE_PORT_CHECK_H

#include "tests/machine/port_harness.h"

#include <stdio.h>

#define CHECK(e) check((e), #e, __FILE__, __LINE__)

static unsigned failures;

/* The first failures are printed, all are counted. */
static void check(bool ok, const char *what, const char *file, int line)
{
	if (ok)
		return;
	if (failures++ < 20)
		fprintf(stderr, "%s: %s:%d: %s\n", port_harness.ph_name, file, line, what);
}
#endif
