/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of a bare machine: the direct map, holes, memory for the start. The machine reads its
 * memory map and says which ranges are holes (make_holes); the rest is the same on all machines.
 *
 * All data here is const after vm_create, or used by the boot CPU alone.
 */
#include "cpu.h"

#include "kernel/core/kernel.h"

struct mach the_machine;
char boot_cmdline[ARCH_CMDLINE_MAX];
static bool cmdline_cut;
uint64_t tables_next;

const struct mach_caps *mach_caps(struct mach *m) { return &m->m_caps; }
struct mach *arch_machine(void) { return &the_machine; }
const char *arch_cmdline(void) { return boot_cmdline; }
bool arch_cmdline_is_cut(void) { return cmdline_cut; }

void keep_cmdline(const char *line)
{
	cmdline_cut = strlcpy(boot_cmdline, line, sizeof(boot_cmdline)) >= sizeof(boot_cmdline);
}

/* ---- holes, and memory for the start ---- */
void add_hole(uint64_t from, uint64_t to)
{
	struct mach_caps *c = &the_machine.m_caps;

	from = vm_page_trunc(from) - vm_ptob(c->mc_frame0);
	to = vm_page_round(to) - vm_ptob(c->mc_frame0);
	if (from >= to)
		return;
	if (c->mc_nholes >
	    0) { /* behind the last one: what a firmware reserves may be two neighbours */
		struct mach_hole *last = &the_machine.m_holes[c->mc_nholes - 1];

		if (vm_ptob(last->mh_first + last->mh_n) == from) {
			last->mh_n += (pfn_t)((to - from) >> VM_PAGESHIFT);
			return;
		}
	}
	if (c->mc_nholes == 32)
		kpanic("too many holes in memory");
	the_machine.m_holes[c->mc_nholes++] = (struct mach_hole){ (pfn_t)(from >> VM_PAGESHIFT),
		(pfn_t)((to - from) >> VM_PAGESHIFT) };
	c->mc_holes = the_machine.m_holes;
}

void arch_boot_reserve(uint64_t bytes)
{
	const struct mach_caps *c = &the_machine.m_caps;

	the_machine.m_bootnext = tables_next;
	the_machine.m_bootend = vm_page_round(tables_next + bytes);
	if (the_machine.m_bootend > vm_ptob(c->mc_frame0 + c->mc_nframes))
		kpanic("too little memory");
	make_holes(the_machine.m_bootend);
}

uint64_t arch_memory_pages(void)
{
	uint64_t n = the_machine.m_caps.mc_nframes;

	for (unsigned i = 0; i < the_machine.m_caps.mc_nholes; i++)
		n -= the_machine.m_holes[i].mh_n;
	return n;
}

void *mach_boot_alloc(struct mach *m, size_t bytes)
{
	uint64_t pa = m->m_bootnext;

	bytes = (bytes + 63) & ~(size_t)63;
	if (bytes > m->m_bootend - pa)
		return NULL;
	m->m_bootnext += bytes;
	return memset(direct_map(pa), 0, bytes);
}

bool touches_constant(uint64_t pa, uint64_t bytes)
{
	return pa < image_pa(image_ro_end) && image_pa(image_start) < pa + bytes;
}

bool leave_guards_out(void)
{
	char value[8];

	return cmdline_get("mmu.noguard", value, sizeof(value));
}

uint64_t take_table(void)
{
	uint64_t pa = tables_next;

	tables_next += VM_PAGESIZE;
	memset(direct_map(pa), 0, VM_PAGESIZE);
	return pa;
}

/* ---- frames ---- */
void *mach_frame_kva(struct mach *m, pfn_t pfn)
{
	return direct_map(vm_ptob(m->m_caps.mc_frame0 + pfn));
}

pfn_t mach_kva_frame(struct mach *m, const void *kva)
{
	uint64_t pfn =
	    (((uint64_t)(uintptr_t)kva - DIRECT_BASE) >> VM_PAGESHIFT) - m->m_caps.mc_frame0;

	if (pfn >= m->m_caps.mc_nframes)
		kpanic("mach_kva_frame: no frame is at %p", kva);
	return (pfn_t)pfn;
}

uint64_t arch_phys(const void *kva)
{
	uint64_t va = (uint64_t)(uintptr_t)kva;

	return va >= KERNEL_BASE ? va - KERNEL_BASE : va - DIRECT_BASE;
}

/*
 * There is no host that wants memory back, gives memory, or reads frames without the core's
 * knowledge.
 */
void mach_frame_discard(struct mach *m, pfn_t pfn, pfn_t n) { (void)m, (void)pfn, (void)n; }
pfn_t mach_frames_grant(struct mach *m, pfn_t n)
{
	(void)m;
	return n;
}
void mach_frames_release(struct mach *m, pfn_t n) { (void)m, (void)n; }
void mach_frame_retire(struct mach *m, pfn_t pfn) { (void)m, (void)pfn; }
void mach_frame_renew(struct mach *m, pfn_t pfn) { (void)m, (void)pfn; }
