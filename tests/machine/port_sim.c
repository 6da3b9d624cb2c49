/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The simulated machine for the conformance programs. With SIM_AS_LINUX the machine imitates the
 * Linux port.
 */
#include "machine/sim/sim.h"
#include "tests/machine/port_harness.h"

#include <stdio.h>
#include <string.h>

#define NCPUS 3u
#define HOLES 8u /* frames that are no memory: the first, and some near the end */

static enum sim_format format;
static bool by_trap, split, no_flush;

/*
 * A format of sim_format_by_name; with "+trap" the HAT sets reference and modification bits, not the MMU; with "+split" each
 * space has a root for user mode; with "+noflush" the machine is broken: no TLB ever forgets a translation.
 */
static bool port_option(const char *arg)
{
	char name[32];
	size_t n = strcspn(arg, "+");

	if (n >= sizeof(name))
		return false;
	memcpy(name, arg, n);
	name[n] = '\0';
	by_trap = strcmp(arg + n, "+trap") == 0;
	split = strcmp(arg + n, "+split") == 0;
	no_flush = strcmp(arg + n, "+noflush") == 0;
	return sim_format_by_name(name, &format) &&
	    (arg[n] == '\0' || by_trap || split || no_flush);
}

static struct mach *port_create(pfn_t frames)
{
	static struct mach_hole holes[2] = { { 0, 2 } };
	struct sim_config cfg = { .frames = frames + HOLES,
		.nholes = 2,
		.holes = holes,
		.ncpus = NCPUS,
		.seed = 7,
		.threads = true,
		.format = format,
		.device_frames = 16,
		.ad_by_trap = by_trap,
		.no_flush = no_flush,
		.kernel = split ? SIM_KERNEL_SPLIT : SIM_KERNEL_OUTSIDE,
		.frame0 = format >= SIM_SV39 ? 0x80000
		    : format == SIM_PAE      ? 0x100000 - frames / 2
					     : 0 };
	holes[1] = (struct mach_hole){ frames + 2, HOLES - 3 };
#ifdef SIM_AS_LINUX
	sim_config_linux(&cfg);
#endif
	return sim_create(&cfg);
}

static void port_run(struct mach *m, void (*fn)(void *), void *arg)
{
	sim_select(m);
	fn(arg);
}

/*
 * Each access is made by another CPU: cached translations of one CPU must not differ from
 * another's.
 */
static enum vm_err port_touch(
    struct mach *m, struct hat *hat, vaddr_t va, bool write, uint8_t *byte)
{
	enum vm_err err = VM_OK;

	for (unsigned cpu = 0; cpu < NCPUS; cpu++) {
		enum vm_err e = sim_touch(m, hat, cpu, va, write, byte);

		if (cpu > 0 && e != err)
			mach_panic("the CPUs see different translations");
		err = e;
	}
	return err;
}

static enum vm_err port_kernel_read(struct mach *m, struct hat *hat, vaddr_t va, uint8_t *byte)
{
	bool found = false;

	for (unsigned cpu = 0; cpu < NCPUS; cpu++) {
		bool f = sim_kernel_read(m, hat, cpu, va, byte);

		if (cpu > 0 && f != found)
			mach_panic("the CPUs see different translations of the kernel");
		found = f;
	}
	return found ? VM_OK : VM_NOMAP;
}

static void port_report(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "%s\n", text);
}

static unsigned port_check(struct mach *m) { return sim_tlb_check(m, port_report, NULL); }

const struct port_harness port_harness = {
#ifdef SIM_AS_LINUX
	.ph_name = "sim as linux",
#else
	.ph_name = "sim",
#endif
	.ph_option = port_option,
	.ph_create = port_create,
	.ph_destroy = sim_destroy,
	.ph_run = port_run,
	.ph_touch = port_touch,
	.ph_kernel_read = port_kernel_read,
	.ph_check = port_check,
};
