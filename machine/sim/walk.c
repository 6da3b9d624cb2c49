/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page-table walkers of the simulated MMU, one per architecture, written from the
 * architectures' manuals and not from hat/, so that independent code reads the tables that the HAT
 * writes. Bits that are reserved must be zero; a walker that finds them set panics, where hardware
 * would raise a fault that no handler expects.
 *
 * A walk returns the rights and the address of the leaf entry. The caller (machine.c) decides
 * whether the access may go on, and sets A and D in the entry.
 */
#include "machine/sim/sim_impl.h"

#include <string.h>

static _Noreturn void bad_entry(
    struct mach *m, vaddr_t va, unsigned level, uint64_t e, const char *why)
{
	sim_panicf(m, "walk of %llx: level %u entry %llx: %s", (unsigned long long)va, level,
	    (unsigned long long)e, why);
}

/* Host address of physical frame number `frame`, which an entry of that level gave. */
static uint8_t *table_at(struct mach *m, uint64_t frame, vaddr_t va, unsigned level)
{
	uint64_t pfn = frame - m->m_cfg.frame0;

	if (pfn >= m->m_cfg.frames &&
	    pfn - m->m_cfg.frames - m->m_cfg.device_frames >= m->m_kframes)
		bad_entry(m, va, level, frame, "no such frame");
	return m->m_mem + ((frame - m->m_cfg.frame0) << VM_PAGESHIFT);
}

static bool check_leaf(
    struct mach *m, struct sim_leaf *l, void *entry, uint64_t frame, unsigned shift, vaddr_t va)
{
	uint64_t n = 1ull << (shift - VM_PAGESHIFT),
		 all = (uint64_t)m->m_cfg.frames + m->m_cfg.device_frames +
	    (l->l_user ? 0 : m->m_kframes);

	if (frame - m->m_cfg.frame0 >= all || frame - m->m_cfg.frame0 + n > all)
		bad_entry(m, va, 0, frame, "no such frame");
	if (frame & (n - 1))
		bad_entry(m, va, 0, frame, "the frame of a large page is not aligned");
	l->l_entry = entry;
	l->l_shift = shift;
	l->l_frame = (pfn_t)(frame - m->m_cfg.frame0);
	return true;
}

/* ---- x86: bits 0 P, 1 R/W, 2 U/S, 5 A, 6 D, 7 PS, 63 XD ---- */
static void x86_rights(struct sim_leaf *l, uint64_t e, uint64_t above, bool nx)
{
	l->l_user = (e & 4) != 0;
	l->l_r = true;
	l->l_w = (e & above & 2) != 0;
	l->l_x = !nx;
	l->l_a = (e & 1 << 5) != 0;
	l->l_d = (e & 1 << 6) != 0;
	l->l_caching = SIM_CACHED;
	if ((e >> 3 & 3) == 3)
		l->l_caching = SIM_UNCACHED;
	else if ((e >> 3 & 3) == 1)
		l->l_caching = SIM_COMBINING;
}

static bool walk_long(
    struct mach *m, uint64_t root, vaddr_t va, unsigned levels, struct sim_leaf *l)
{
	uint64_t frame = root, above = ~0ull;
	unsigned sign = 12 + 9 * levels - 1;
	bool nx = false, kernel = va >> sign == ~0ull >> sign;

	if (va >> sign != 0 && !kernel)
		return false; /* addresses between the halves are not canonical */
	for (unsigned level = levels; level > 0; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t *e =
		    (uint64_t *)(void *)table_at(m, frame, va, level) + (va >> shift & 0x1ff);

		if (!(*e & 1))
			return false;
		if (*e & 0x000fff0000000000ull) /* this machine has 40 bits of physical address */
			bad_entry(m, va, level, *e, "a reserved address bit is set");
		if (((*e & 4) == 0) != kernel)
			bad_entry(m, va, level, *e,
			    kernel ? "a user entry in the kernel's half"
				   : "a supervisor entry in the user half");
		nx |= *e >> 63 != 0;
		frame = (*e & 0x000ffffffffff000ull) >> 12;
		if (level == 1 || (*e & 0x80)) {
			if (level > 3 || (level > 1 && (*e & ((1ull << shift) - 1) & ~0x1fffull)))
				bad_entry(m, va, level, *e,
				    "PS where there is no large page, or low address bits set");
			x86_rights(l, *e, above, nx);
			return check_leaf(m, l, e, frame, shift, va);
		}
		above &= *e;
	}
	return false;
}

static bool walk_i386(struct mach *m, uint64_t root, vaddr_t va, struct sim_leaf *l)
{
	uint32_t *pde = (uint32_t *)(void *)table_at(m, root, va, 2) + (va >> 22 & 0x3ff), *pte;

	if (va >> 32 != 0 || !(*pde & 1))
		return false;
	if (!(*pde & 4))
		bad_entry(m, va, 2, *pde, "a supervisor entry in the user half");
	if (*pde & 0x80) {
		if (*pde & 0x3ff000)
			bad_entry(
			    m, va, 2, *pde, "reserved or PSE-36 bits of a 4 MiB page are set");
		x86_rights(l, *pde, ~0ull, false);
		return check_leaf(m, l, pde, *pde >> 12, 22, va);
	}
	pte = (uint32_t *)(void *)table_at(m, *pde >> 12, va, 1) + (va >> 12 & 0x3ff);
	if (!(*pte & 1))
		return false;
	if (*pte & 0x80)
		bad_entry(m, va, 1, *pte, "PAT is set");
	x86_rights(l, *pte, *pde, false);
	return check_leaf(m, l, pte, *pte >> 12, 12, va);
}

#define PAE_RESERVED 0x7ffffff000000000ull /* 36 bits of physical address, XD allowed */

/* When CR3 is loaded, the CPU reads the four directory pointers and never reads them again. */
void sim_pae_load(struct mach *m, uint64_t root, uint64_t pdpte[4])
{
	if (root >> 20 != 0)
		sim_panicf(m, "PAE: CR3 cannot point to frame %llx", (unsigned long long)root);
	memcpy(pdpte, table_at(m, root, 0, 3), 4 * sizeof(pdpte[0]));
	for (unsigned i = 0; i < 4; i++)
		if ((pdpte[i] & 1) && (pdpte[i] & (PAE_RESERVED | 1ull << 63 | 0x1e6)))
			bad_entry(m, (vaddr_t)i << 30, 3, pdpte[i],
			    "reserved bits of a directory pointer are set");
}

static bool walk_pae(struct mach *m, const uint64_t pdpte[4], vaddr_t va, struct sim_leaf *l)
{
	uint64_t top, *pde, *pte;

	if (va >> 32 != 0 || !((top = pdpte[va >> 30]) & 1))
		return false;
	pde = (uint64_t *)(void *)table_at(m, (top & 0xffffff000ull) >> 12, va, 2) +
	    (va >> 21 & 0x1ff);
	if (!(*pde & 1))
		return false;
	if ((*pde & PAE_RESERVED) || !(*pde & 4) || ((*pde & 0x80) && (*pde & 0x1ff000)))
		bad_entry(m, va, 2, *pde, "reserved bits, or a supervisor entry in the user half");
	if (*pde & 0x80) {
		x86_rights(l, *pde, ~0ull, *pde >> 63 != 0);
		return check_leaf(m, l, pde, (*pde & 0xfffe00000ull) >> 12, 21, va);
	}
	pte = (uint64_t *)(void *)table_at(m, (*pde & 0xffffff000ull) >> 12, va, 1) +
	    (va >> 12 & 0x1ff);
	if (!(*pte & 1))
		return false;
	if ((*pte & PAE_RESERVED) || !(*pte & 4) || (*pte & 0x80))
		bad_entry(m, va, 1, *pte, "reserved bits, or a supervisor entry in the user half");
	x86_rights(l, *pte, *pde, (*pte | *pde) >> 63 != 0);
	return check_leaf(m, l, pte, (*pte & 0xffffff000ull) >> 12, 12, va);
}

/* ---- RISC-V: bits 0 V, 1 R, 2 W, 3 X, 4 U, 5 G, 6 A, 7 D, 8-9 software, 10-53 PPN ---- */
static bool walk_sv(struct mach *m, uint64_t root, vaddr_t va, int levels, struct sim_leaf *l)
{
	uint64_t a = root;

	/* bits 63..38 (47) must all equal bit 38 (47): zeroes in the lower half, ones in the kernel's */
	int64_t high = (int64_t)va >> (12 + 9 * levels - 1);

	if (high != 0 && high != -1)
		return false;
	for (int i = levels - 1; i >= 0; i--) {
		uint64_t *e = (uint64_t *)(void *)table_at(m, a, va, (unsigned)i) +
		    (va >> (12 + 9 * i) & 0x1ff);

		if (!(*e & 1))
			return false;
		if ((*e >> 54 & ~0x180ull) != 0 || *e >> 61 == 3 ||
		    (*e & 6) == 4) /* 62-61: Svpbmt */
			bad_entry(m, va, (unsigned)i, *e, "reserved bits are set, or W without R");
		a = *e >> 10 & 0xfffffffffffull;
		if ((*e & 0xe) == 0) { /* a pointer: D, A and U are reserved */
			if (*e & 0xd0 || *e >> 61 != 0)
				bad_entry(m, va, (unsigned)i, *e, "A, D or U in a pointer");
			continue;
		}
		if (!(*e & 0x10) == (high == 0))
			bad_entry(m, va, (unsigned)i, *e,
			    "a supervisor entry in the user half, or the other way round");
		if (!(*e & 0x20) != (high == 0))
			bad_entry(m, va, (unsigned)i, *e,
			    "a global entry in the user half, or the other way round");
		l->l_user = high == 0;
		l->l_r = (*e & 2) != 0;
		l->l_w = (*e & 4) != 0;
		l->l_x = (*e & 8) != 0;
		l->l_a = (*e & 0x40) != 0;
		l->l_d = (*e & 0x80) != 0;
		l->l_caching = SIM_CACHED;
		if (*e >> 61 == 2)
			l->l_caching = SIM_UNCACHED;
		else if (*e >> 61 == 1)
			l->l_caching = SIM_COMBINING;
		return check_leaf(m, l, e, a, (unsigned)(12 + 9 * i), va);
	}
	return false;
}

/* ---- SPARC: bits 63 V, 62-61 size, 42-12 frame, 1 W; software's 10 M, 9 R, 8 write, 7 exec ---- */
static bool tte_leaf(struct mach *m, uint64_t tte, vaddr_t va, struct sim_leaf *l)
{
	static const unsigned shift[] = { 12, 15, 18, 21 };

	if (!(tte >> 63))
		return false;
	l->l_user = l->l_r = true;
	l->l_w = (tte & 0x100) != 0;
	l->l_x = (tte & 0x80) != 0;
	l->l_a = (tte & 0x200) != 0;
	l->l_d = (tte & 0x2) != 0;
	l->l_caching = (tte & 8) != 0 ? SIM_UNCACHED : SIM_COMBINING; /* E */
	if ((tte & 0x30) != 0)                                        /* CP CV */
		l->l_caching = SIM_CACHED;
	if (l->l_d && !l->l_w)
		bad_entry(m, va, 0, tte, "writable without the right");
	return check_leaf(m, l, NULL, (tte & 0x7fffffff000ull) >> 12, shift[tte >> 61 & 3], va);
}

/* The trap handler of a TLB miss: one read in each TSB, then the HAT. */
static bool walk_tsb(struct mach *m, struct hat *hat, vaddr_t va, struct sim_leaf *l)
{
	uint64_t tte;

	for (unsigned k = 0; k < 2; k++) {
		unsigned shift = k == 0 ? 12 : 21;
		pfn_t base = 0;
		uint64_t n = sfmmu_tsb(hat, k, &base);
		const uint64_t *e =
		    (const uint64_t *)(void *)(m->m_mem + ((size_t)base << VM_PAGESHIFT));

		if (n == 0)
			continue;
		e += 2 * (va >> shift & (n - 1));
		if (e[0] == va >> shift && e[1] >> 63) {
			m->m_stats.ss_tsb_hit++;
			return tte_leaf(m, e[1], va, l);
		}
	}
	m->m_stats.ss_tsb_miss++;
	return sfmmu_miss(hat, va, &tte) && tte_leaf(m, tte, va, l);
}

/* ---- by format ---- */
bool sim_walk(struct mach *m, struct hat *hat, bool user, vaddr_t va, struct sim_leaf *l)
{
	uint64_t root = (user ? hat_user_root(hat) : hat_root(hat)) + m->m_cfg.frame0, pdpte[4],
		 tte;

	switch (m->m_cfg.format) {
	case SIM_X86_64: return walk_long(m, root, va, 4, l);
	case SIM_LA57: return walk_long(m, root, va, 5, l);
	case SIM_I386: return walk_i386(m, root, va, l);
	case SIM_PAE: sim_pae_load(m, root, pdpte); return walk_pae(m, pdpte, va, l);
	case SIM_SV39: return walk_sv(m, root, va, 3, l);
	case SIM_SV48: return walk_sv(m, root, va, 4, l);
	case SIM_SFMMU: return sfmmu_peek(hat, va, &tte) && tte_leaf(m, tte, va, l);
	case SIM_NFORMATS: break;
	}
	return false;
}

bool sim_walk_cpu(struct mach *m, unsigned cpu, vaddr_t va, struct sim_leaf *l)
{
	struct sim_cpu *c = &m->m_cpu[cpu];

	switch (m->m_cfg.format) {
	case SIM_PAE: return walk_pae(m, c->c_pdpte, va, l);
	case SIM_SFMMU: return walk_tsb(m, c->c_hat, va, l);
	default: return sim_walk(m, c->c_hat, c->c_user, va, l);
	}
}

/* The hardware sets A, and D for a write. */
void sim_mark(struct mach *m, struct sim_leaf *l, bool a, bool d)
{
	bool riscv = m->m_cfg.format == SIM_SV39 || m->m_cfg.format == SIM_SV48;
	uint32_t accessed = riscv ? 0x40u : 0x20u, dirty = riscv ? 0x80u : 0x40u;
	uint32_t bits = (a ? accessed : 0) | (d ? dirty : 0);

	*(uint32_t *)l->l_entry |= bits; /* A and D are in the low half of every format's entry */
	l->l_a |= a;
	l->l_d |= d;
}

static const struct sim_format_info {
	const char *name;
	const struct hat_format *hat;
	vaddr_t user_max;
	unsigned nsizes;
	uint8_t shift[4];
	vaddr_t kernel_min,
	    kernel_max; /* an entry of the root for the kernel's own space, between those of kernel.c */
	/* address space numbers of the architecture; 0: none, and every switch empties the TLB */
	unsigned asids;
} formats[SIM_NFORMATS] = {
	[SIM_X86_64] = { "x86_64", &hat_x86_64, 1ull << 47, 3, { 12, 21, 30 },
	    0xffff960000000000ull, 0xffff968000000000ull, 4096 },
	[SIM_LA57] = { "la57", &hat_x86_64_la57, 1ull << 56, 3, { 12, 21, 30 },
	    0xff2c000000000000ull, 0xff2d000000000000ull, 4096 },
	[SIM_I386] = { "i386", &hat_i386, 0xc0000000, 2, { 12, 22 }, 0, 0, 0 },
	[SIM_PAE] = { "pae", &hat_i386_pae, 0xc0000000, 2, { 12, 21 }, 0, 0, 0 },
	[SIM_SV39] = { "sv39", &hat_sv39, 1ull << 38, 3, { 12, 21, 30 }, 0xffffffcb00000000ull,
	    0xffffffcb40000000ull, 65536 },
	[SIM_SV48] = { "sv48", &hat_sv48, 1ull << 47, 3, { 12, 21, 30 }, 0xffff960000000000ull,
	    0xffff968000000000ull, 65536 },
	[SIM_SFMMU] = { "sfmmu", &hat_sun4, 1ull << 43, 4, { 12, 15, 18, 21 }, 0, 0, 8192 },
};

const struct hat_format *sim_format_setup(struct sim_config *c, struct mach_caps *caps)
{
	const struct sim_format_info *f = &formats[c->format];

	if (c->user_max == 0)
		c->user_max = f->user_max;
	if (c->asids == 0 || f->asids == 0)
		c->asids = f->asids;
	if (c->no_asids)
		c->asids = 0;
	c->ad_by_trap |= c->format == SIM_SFMMU;
	caps->mc_kernel_min = c->max_mappings != 0 ? 0 : f->kernel_min;
	caps->mc_kernel_max = c->max_mappings != 0 ? 0 : f->kernel_max;
	caps->mc_npagesizes = c->max_mappings != 0 ? 1 : f->nsizes;
	memcpy(caps->mc_pageshift, f->shift, sizeof(f->shift));
	return f->hat;
}

bool sim_format_by_name(const char *name, enum sim_format *format)
{
	for (unsigned i = 0; i < SIM_NFORMATS; i++) {
		if (strcmp(formats[i].name, name) == 0) {
			*format = (enum sim_format)i;
			return true;
		}
	}
	return false;
}

enum sim_caching sim_caching_of(struct mach *m, struct hat *hat, vaddr_t va)
{
	struct sim_leaf l = { 0 };

	return sim_walk(m, hat, true, va, &l) ? l.l_caching : SIM_CACHED;
}
