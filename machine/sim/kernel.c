/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's half of the simulated x86-64 machines (sim_kernel).
 *
 * The core of this program is the kernel of the simulated machine, and runs on the host: it does
 * not need the simulated MMU. To measure the cost and the exposure of a mapped kernel, an image of
 * the kernel exists behind that MMU: a text, all of memory (the direct map), and an entry area with
 * one page of code and a stack for each CPU. A CPU that enters or leaves the kernel touches a page
 * of each, as a real CPU does.
 *
 * MAPPED: the root of every space has all three. SPLIT: the kernel's root has all three; the root
 * of user mode has only the entry area, in tables without other entries. The tables and the image
 * lie in frames behind the machine's memory, so the core cannot give them away; they are made once,
 * and roots only point to them.
 *
 * No lock: one host thread drives a machine. Left out: interrupt tables, global pages, a guard between the stacks.
 */
#include "machine/sim/sim_impl.h"

#include <string.h>

#define TEXT_PAGES 16u
#define SLOT_DIRECT 273u /* of the root */
#define SLOT_ENTRY 508u
#define SLOT_TEXT 511u
#define LARGE 21u

#define P 0x1ull
#define W 0x2ull
#define U 0x4ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define NX (1ull << 63)
#define FRAME 0x000ffffffffff000ull

static unsigned table_levels(const struct mach *m) { return m->m_cfg.format == SIM_LA57 ? 5 : 4; }

static unsigned shift_of(unsigned level) /* 0: the lowest */ { return 12 + 9 * level; }

static vaddr_t slot_va(const struct mach *m, unsigned slot)
{
	return ~0ull << shift_of(table_levels(m)) | (vaddr_t)slot << shift_of(table_levels(m) - 1);
}

static pfn_t first_frame(const struct mach *m) { return m->m_cfg.frames + m->m_cfg.device_frames; }

static uint64_t *table_of(struct mach *m, pfn_t pfn)
{
	return (uint64_t *)(void *)(m->m_mem + ((size_t)pfn << VM_PAGESHIFT));
}

static unsigned entry_pages(const struct mach *m) { return 1 + m->m_cfg.ncpus; }

/*
 * Frames for tables: two roots; the tables of three ranges; one more table for each GiB of the
 * direct map and for its unaligned ends.
 */
pfn_t sim_kernel_frames(const struct mach *m)
{
	if (m->m_cfg.kernel == SIM_KERNEL_OUTSIDE)
		return 0;
	return TEXT_PAGES + entry_pages(m) + 2 + 3 * (table_levels(m) - 1) + 4 +
	    (m->m_cfg.frames >> 18);
}

static pfn_t take_frame(struct mach *m)
{
	if (m->m_kused == m->m_kframes)
		sim_panicf(m, "the kernel's tables need more than %u frames", m->m_kframes);
	return first_frame(m) + m->m_kused++;
}

static void map_at(
    struct mach *m, pfn_t root, vaddr_t va, pfn_t pfn, unsigned shift, uint64_t flags)
{
	uint64_t *e = NULL;

	for (unsigned level = table_levels(m) - 1;; level--) {
		e = &table_of(m, root)[va >> shift_of(level) & 0x1ff];
		if (shift_of(level) == shift)
			break;
		if (*e == 0)
			*e = (take_frame(m) + m->m_cfg.frame0) << VM_PAGESHIFT | P | W;
		root = (pfn_t)(((*e & FRAME) >> VM_PAGESHIFT) - m->m_cfg.frame0);
	}
	*e = (pfn + m->m_cfg.frame0) << VM_PAGESHIFT | P | A | flags | (shift == LARGE ? PS : 0);
}

/* Maps all of memory at its physical address, by large pages where alignment permits. */
static void map_direct(struct mach *m, pfn_t root)
{
	const uint64_t large = 1u << (LARGE - VM_PAGESHIFT), frame0 = m->m_cfg.frame0;

	for (uint64_t i = 0; i < m->m_cfg.frames;) {
		bool fits = (frame0 + i) % large == 0 && i + large <= m->m_cfg.frames;

		map_at(m, root, slot_va(m, SLOT_DIRECT) + vm_ptob(frame0 + i), (pfn_t)i,
		    fits ? LARGE : VM_PAGESHIFT, W | D | NX);
		i += fits ? large : 1;
	}
}

static void map_entry(struct mach *m, pfn_t root)
{
	for (unsigned i = 0; i < entry_pages(m); i++)
		map_at(m, root, slot_va(m, SLOT_ENTRY) + vm_ptob(i),
		    first_frame(m) + TEXT_PAGES + i, VM_PAGESHIFT, i == 0 ? 0 : W | D | NX);
}

bool sim_kernel_init(struct mach *m)
{
	if (m->m_cfg.kernel == SIM_KERNEL_OUTSIDE)
		return true;
	if (m->m_cfg.format != SIM_X86_64 && m->m_cfg.format != SIM_LA57)
		return false;
	m->m_kused = TEXT_PAGES + entry_pages(m);
	m->m_kroot[0] = take_frame(m);
	m->m_kroot[1] = take_frame(m);
	for (unsigned i = 0; i < TEXT_PAGES; i++)
		map_at(m, m->m_kroot[0], slot_va(m, SLOT_TEXT) + vm_ptob(i), first_frame(m) + i,
		    VM_PAGESHIFT, 0);
	map_direct(m, m->m_kroot[0]);
	map_entry(m, m->m_kroot[1]);
	table_of(m, m->m_kroot[0])[SLOT_ENTRY] = table_of(m, m->m_kroot[1])[SLOT_ENTRY];
	return true;
}

void mmu_root_init(struct mach *m, void *table, bool user)
{
	if (m->m_cfg.kernel != SIM_KERNEL_OUTSIDE)
		memcpy(
		    (uint64_t *)table + 256, table_of(m, m->m_kroot[user]) + 256, VM_PAGESIZE / 2);
}

void sim_kernel_layout(struct mach *m, struct sim_kernel_layout *l)
{
	*l = (struct sim_kernel_layout){
		.kl_text = { slot_va(m, SLOT_TEXT), vm_ptob(TEXT_PAGES) },
		.kl_direct = { slot_va(m, SLOT_DIRECT) + vm_ptob(m->m_cfg.frame0),
		    vm_ptob(m->m_cfg.frames) },
		.kl_entry = { slot_va(m, SLOT_ENTRY), vm_ptob(entry_pages(m)) },
		.kl_data = table_of(m, first_frame(m)),
	};
}

/* ---- vm_check ---- */
/* A page of the entry area, mapped to itself. */
static bool is_entry_page(const struct mach *m, vaddr_t va, uint64_t e)
{
	uint64_t i = (va - slot_va(m, SLOT_ENTRY)) >> VM_PAGESHIFT;

	return i < entry_pages(m) && (e & U) == 0 &&
	    (e & FRAME) >> VM_PAGESHIFT == first_frame(m) + TEXT_PAGES + i + m->m_cfg.frame0;
}

static vaddr_t find_exposed(struct mach *m, pfn_t pfn, unsigned level, vaddr_t va, unsigned from)
{
	for (unsigned i = from; i < 512; i++) {
		uint64_t e = table_of(m, pfn)[i];
		vaddr_t at = va | (vaddr_t)i << shift_of(level), found;
		pfn_t below = (pfn_t)(((e & FRAME) >> VM_PAGESHIFT) - m->m_cfg.frame0);

		if (!(e & P))
			continue;
		if (level == 0 || (e & PS) || below >= first_frame(m) + m->m_kframes) {
			if (level > 0 || !is_entry_page(m, at, e))
				return at;
		} else if ((found = find_exposed(m, below, level - 1, at, 0)) != 0) {
			return found;
		}
	}
	return 0;
}

vaddr_t sim_kernel_exposed(struct mach *m, struct hat *hat)
{
	if (!sim_is_split(m))
		return 0;
	return find_exposed(
	    m, hat_user_root(hat), table_levels(m) - 1, ~0ull << shift_of(table_levels(m)), 256);
}
