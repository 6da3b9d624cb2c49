/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The simulated machine: creation and the program's accesses.
 *
 * Left out: caches, memory ordering (fibers switch at scheduling points only).
 */
#include "machine/sim/sim_impl.h"

#include "quire/as.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIM_MAXFAULTS 1000u /* faults at one page without success */
#define SIM_ACCESS_NS 100u

void sim_config_linux(struct sim_config *c)
{
	c->max_mappings = 1;
	c->no_direct_map = true;
	c->no_ref_bits = true;
	c->no_mod_bits = true;
}

static void config_defaults(struct sim_config *c)
{
	if (c->frames == 0)
		c->frames = 1024;
	if (c->ncpus == 0)
		c->ncpus = 1;
	if (c->grant == 0)
		c->grant = c->frames;
	if (c->tlb_entries == 0)
		c->tlb_entries = 64;
	if (c->ipi_timeout == 0)
		c->ipi_timeout = 10000 + 8 * c->ipi_latency;
	if (c->switch_every == 0)
		c->switch_every = 3;
	if (c->user_min == 0)
		c->user_min = 0x10000;
}

static const struct hat_format *caps_init(struct mach *m)
{
	struct sim_config *c = &m->m_cfg;
	const struct hat_format *f = sim_format_setup(c, &m->m_caps);
	struct mach_caps sizes = m->m_caps;

	m->m_caps = (struct mach_caps){
		.mc_name = "sim",
		.mc_nframes = c->frames,
		.mc_ncpus = c->ncpus,
		.mc_max_mappings = c->max_mappings,
		.mc_direct_map = !c->no_direct_map,
		.mc_ref_bits = !c->no_ref_bits,
		.mc_mod_bits = !c->no_mod_bits,
		.mc_threads = c->threads,
		.mc_user_min = c->user_min,
		.mc_user_max = c->user_max,
		.mc_frame0 = c->frame0,
		.mc_nholes = c->nholes,
		.mc_holes = c->holes,
		.mc_kernel_min = sizes.mc_kernel_min,
		.mc_kernel_max = sizes.mc_kernel_max,
		.mc_npagesizes = sizes.mc_npagesizes,
	};
	for (unsigned i = 0; i < c->nodes && i < 8; i++)
		m->m_nodeend[i] = (pfn_t)((uint64_t)c->frames * (i + 1) / c->nodes);
	for (unsigned i = 0; i < c->ncpus && i < ASID_CPUS && c->nodes > 0; i++)
		m->m_cpunode[i] = (uint8_t)(i * c->nodes / c->ncpus);
	m->m_caps.mc_nnodes = c->nodes;
	m->m_caps.mc_nodeend = m->m_nodeend;
	m->m_caps.mc_cpunode = m->m_cpunode;
	memcpy(m->m_caps.mc_pageshift, sizes.mc_pageshift, sizeof(sizes.mc_pageshift));
	return f;
}

/* Frames: memory, then the device's frames, then the kernel's own. */
static size_t mem_bytes(const struct mach *m)
{
	return ((size_t)m->m_cfg.frames + m->m_cfg.device_frames + m->m_kframes) << VM_PAGESHIFT;
}

void *sim_device_data(struct mach *m)
{
	return m->m_mem + ((size_t)m->m_cfg.frames << VM_PAGESHIFT);
}

struct mach *sim_create(const struct sim_config *cfg)
{
	struct mach *m = calloc(1, sizeof(*m));
	const struct hat_format *format;

	if (m == NULL)
		return NULL;
	m->m_cfg = *cfg;
	config_defaults(&m->m_cfg);
	format = caps_init(m);
	m->m_kframes = sim_kernel_frames(m);
	m->m_grant = m->m_cfg.grant;
	m->m_rng = m->m_cfg.seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull;
	m->m_mem =
	    mmap(NULL, mem_bytes(m), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->m_mem != MAP_FAILED && m->m_cfg.frames >= 1u << 16)
		(void)madvise(m->m_mem, mem_bytes(m),
		    MADV_HUGEPAGE); /* the host's own faults would take most of the time */
	m->m_loaded = calloc(m->m_cfg.frames, sizeof(*m->m_loaded));
	m->m_retired = calloc(m->m_cfg.frames, sizeof(*m->m_retired));
	if (m->m_mem == MAP_FAILED || m->m_loaded == NULL || m->m_retired == NULL ||
	    !sim_tlb_init(m)) {
		if (m->m_mem != MAP_FAILED)
			(void)munmap(m->m_mem, mem_bytes(m));
		free(m->m_loaded);
		free(m->m_retired);
		free(m);
		return NULL;
	}
	sim_fibers_init(m);
	sim_current = m;
	if (!sim_kernel_init(m) ||
	    !hat_shared_init(&m->m_hat, m, format, m->m_cfg.frame0,
		m->m_cfg.asids / (sim_is_split(m) ? 2 : 1), sim_is_split(m))) {
		sim_destroy(m);
		return NULL;
	}
	return m;
}

void sim_destroy(struct mach *m)
{
	struct boot_chunk *b;

	sim_fibers_fini(m);
	while ((b = m->m_boot) != NULL) {
		m->m_boot = b->b_next;
		free(b);
	}
	(void)munmap(m->m_mem, mem_bytes(m));
	free(m->m_loaded);
	free(m->m_retired);
	sim_tlb_fini(m);
	if (sim_current == m)
		sim_current = NULL;
	free(m);
}

void sim_select(struct mach *m) { sim_current = m; }
const struct mach_caps *mach_caps(struct mach *m) { return &m->m_caps; }
void sim_statistics(struct mach *m, struct sim_stats *st) { *st = m->m_stats; }

/* ---- the program's accesses ---- */
static bool leaf_allows(const struct sim_leaf *l, enum seg_rw rw)
{
	switch (rw) {
	case S_WRITE: return l->l_user && l->l_w;
	case S_EXEC: return l->l_user && l->l_x;
	default: return l->l_user && l->l_r;
	}
}

/*
 * Sets the bits that the access wants in the leaf entry, as far as this machine has them. False:
 * the machine traps for these bits.
 */
static bool mark_leaf(struct mach *m, enum seg_rw rw, struct sim_leaf *l)
{
	bool a = !m->m_cfg.no_ref_bits && !l->l_a,
	     d = rw == S_WRITE && !m->m_cfg.no_mod_bits && !l->l_d;

	if ((a || d) && m->m_cfg.ad_by_trap)
		return false;
	if (a || d)
		sim_mark(m, l, a, d);
	return true;
}

/* The hardware's part of one access: NULL and *type if it traps, else the byte's host address. */
static uint8_t *translate_access(struct mach *m, struct hat *hat, unsigned cpu, vaddr_t va,
    enum seg_rw rw, enum fault_type *type)
{
	struct tlb_entry *t;
	struct sim_leaf l;

again:
	sim_cpu_enter(m, cpu, hat);
	t = sim_tlb_find(m, cpu, va);

	if (t != NULL && leaf_allows(&t->t_leaf, rw) && (t->t_leaf.l_a || m->m_cfg.no_ref_bits) &&
	    (rw != S_WRITE || t->t_leaf.l_d || m->m_cfg.no_mod_bits)) {
		m->m_stats.ss_tlb_hit++;
		l = t->t_leaf;
	} else {
		m->m_stats.ss_tlb_miss++;
		*type = F_INVAL;
		if (!sim_walk_cpu(m, cpu, va, &l))
			return NULL;
		*type = F_PROT;
		if (!leaf_allows(&l, rw))
			return NULL;
		if (!mark_leaf(m, rw, &l)) {
			m->m_stats.ss_trap++;
			sim_kernel_enter(m, cpu);
			if (hat_trap(hat, va, rw))
				goto again;
			return NULL;
		}
		sim_tlb_fill(m, cpu, va, &l);
	}
	return m->m_mem + ((size_t)l.l_frame << VM_PAGESHIFT) + (va & ((1ull << l.l_shift) - 1));
}

static enum vm_err access_page(
    struct mach *m, struct as *as, unsigned cpu, vaddr_t va, enum seg_rw rw, uint8_t **at)
{
	struct hat *hat = as_hat(as);
	enum fault_type type = F_INVAL;
	enum vm_err err;

	m->m_stats.ss_access++;
	m->m_now += SIM_ACCESS_NS;
	for (unsigned try = 0; try < SIM_MAXFAULTS; try++) {
		sim_sched_point(m);
		if ((*at = translate_access(m, hat, cpu, va, rw, &type)) != NULL)
			return VM_OK;
		m->m_stats.ss_fault++;
		sim_kernel_enter(m, cpu);
		if ((err = as_fault(as, vm_page_trunc(va), VM_PAGESIZE, type, rw)) != VM_OK &&
		    err != VM_RETRY)
			return err;
	}
	return VM_RETRY;
}

static enum vm_err access_range(struct mach *m, struct as *as, unsigned cpu, vaddr_t va,
    uint8_t *buf, uint64_t len, enum seg_rw rw, uint64_t *done)
{
	enum vm_err err = VM_OK;
	uint64_t off = 0;
	uint8_t *at;

	sim_current = m;
	if (cpu >= m->m_cfg.ncpus)
		sim_panicf(m, "access on cpu %u of %u", cpu, m->m_cfg.ncpus);
	m->m_cur->f_cpu = cpu;
	while (off < len) {
		uint64_t n = VM_PAGESIZE - ((va + off) & VM_PAGEMASK);

		if (n > len - off)
			n = len - off;
		if ((err = access_page(m, as, cpu, va + off, rw, &at)) != VM_OK)
			break;
		if (rw == S_WRITE)
			memcpy(at, buf + off, n);
		else
			memcpy(buf + off, at, n);
		off += n;
	}
	if (done != NULL)
		*done = off;
	return err;
}

enum vm_err sim_read(struct mach *m, struct as *as, unsigned cpu, vaddr_t va, void *buf,
    uint64_t len, uint64_t *done)
{
	return access_range(m, as, cpu, va, buf, len, S_READ, done);
}

enum vm_err sim_write(struct mach *m, struct as *as, unsigned cpu, vaddr_t va, const void *buf,
    uint64_t len, uint64_t *done)
{
	return access_range(m, as, cpu, va, (uint8_t *)(uintptr_t)buf, len, S_WRITE, done);
}

enum vm_err sim_exec(struct mach *m, struct as *as, unsigned cpu, vaddr_t va)
{
	uint8_t byte;

	return access_range(m, as, cpu, va, &byte, 1, S_EXEC, NULL);
}

enum vm_err sim_touch(
    struct mach *m, struct hat *hat, unsigned cpu, vaddr_t va, bool write, uint8_t *byte)
{
	enum fault_type type;
	uint8_t *at = translate_access(m, hat, cpu, va, write ? S_WRITE : S_READ, &type);

	if (at == NULL)
		return type == F_PROT ? VM_PROT : VM_NOMAP;
	if (write)
		*at = *byte;
	else
		*byte = *at;
	return VM_OK;
}
