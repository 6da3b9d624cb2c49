/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Code shared by the tests of address spaces and segments: a system on a simulated machine, with
 * swap, checked and emptied.
 */
#ifndef QUIRE_TESTS_SEGS_H
#define QUIRE_TESTS_SEGS_H

#include "machine/sim/sim.h"
#include "vm/seg/seg_vn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/caller_begin.h"

struct sys {
	struct mach *m;
	struct vm *vm;
	struct vnode *swap; /* NULL: none */
};
#define RW (PROT_R | PROT_W)
#define PG VM_PAGESIZE
#define MB ((uint64_t)1 << 20)
#define BASE ((vaddr_t)0x10000000)

static inline void on_violation(void *arg, const char *text)
{
	(void)arg;
	print_error("violation: %s\n", text);
}

static inline void assert_sound(struct sys *s)
{
	assert_int_equal(vm_check(s->vm, on_violation, NULL), 0);
	assert_int_equal(sim_tlb_check(s->m, on_violation, NULL), 0);
}

static inline void sys_init_cfg(struct sys *s, const struct sim_config *cfg, uint64_t swap_pages)
{
	struct vm_config vc = { 0 };

	s->m = sim_create(cfg);
	assert_non_null(s->m);
	vc.vc_mach = s->m;
	vc.vc_frames = cfg->frames;
	assert_int_equal(vm_create(&vc, &s->vm), VM_OK);
	s->swap = NULL;
	if (swap_pages == 0)
		return;
	s->swap = sim_disk_create(s->m, s->vm, "swap", vm_ptob(swap_pages), V_SWAP);
	assert_non_null(s->swap);
	assert_int_equal(swap_add(s->vm, s->swap, swap_pages, 0), VM_OK);
}

static inline void sys_init(struct sys *s, pfn_t frames, uint64_t swap_pages)
{
	struct sim_config cfg = { .frames = frames, .ncpus = 2, .seed = 3 };

	sys_init_cfg(s, &cfg, swap_pages);
}

/* All memory must have been given back. */
static inline void sys_fini(struct sys *s)
{
	struct vm_usage u;

	assert_sound(s);
	vm_usage(s->vm, &u);
	assert_int_equal(u.vu_anon_slots, 0);
	assert_int_equal(u.vu_reserved, 0);
	assert_int_equal(u.vu_swap_used, 0);
	assert_int_equal(u.vu_wired, 0);
	if (s->swap != NULL) {
		assert_int_equal(swap_remove(s->vm, s->swap), VM_OK);
		vnode_rele(s->swap);
	}
	vm_destroy(s->vm);
	sim_destroy(s->m);
}

static inline struct as *new_as(struct sys *s)
{
	struct as *as;

	assert_int_equal(as_alloc(s->vm, 0x10000, (vaddr_t)1 << 40, &as), VM_OK);
	return as;
}

static inline enum vm_err map_anon(struct as *as, vaddr_t va, uint64_t pages, unsigned flags)
{
	struct segvn_args a = { .sa_prot = RW, .sa_maxprot = RW | PROT_X, .sa_flags = flags };

	return as_map(as, va, pages * PG, segvn_create, &a);
}

static inline enum vm_err map_file(struct as *as, vaddr_t va, uint64_t pages, struct vnode *vp,
    voff_t off, unsigned prot, unsigned flags)
{
	struct segvn_args a = { .sa_vnode = vp,
		.sa_off = off,
		.sa_prot = prot,
		.sa_maxprot = RW | PROT_X,
		.sa_flags = flags };

	return as_map(as, va, pages * PG, segvn_create, &a);
}

static inline enum vm_err try_put(struct sys *s, struct as *as, vaddr_t va, uint64_t v)
{
	return sim_write(s->m, as, 0, va, &v, sizeof(v), NULL);
}

static inline void put(struct sys *s, struct as *as, vaddr_t va, uint64_t v)
{
	assert_int_equal(try_put(s, as, va, v), VM_OK);
}

static inline enum vm_err try_get(struct sys *s, struct as *as, vaddr_t va, uint64_t *v)
{
	return sim_read(s->m, as, 1, va, v, sizeof(*v), NULL);
}

static inline uint64_t get(struct sys *s, struct as *as, vaddr_t va)
{
	uint64_t v = 0;

	assert_int_equal(try_get(s, as, va, &v), VM_OK);
	return v;
}

/* A word for each page of a range. */
static inline void fill(struct sys *s, struct as *as, vaddr_t va, uint64_t pages, uint64_t seed)
{
	for (uint64_t i = 0; i < pages; i++)
		put(s, as, va + i * PG, seed + i);
}

static inline void expect(struct sys *s, struct as *as, vaddr_t va, uint64_t pages, uint64_t seed)
{
	for (uint64_t i = 0; i < pages; i++)
		assert_int_equal(get(s, as, va + i * PG), seed + i);
}

static inline void expect_zero(struct sys *s, struct as *as, vaddr_t va, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++)
		assert_int_equal(get(s, as, va + i * PG), 0);
}

static inline uint64_t nsegs(struct as *as)
{
	struct as_usage u;

	as_usage(as, &u);
	return u.au_nsegs;
}

static inline uint64_t rss(struct as *as)
{
	struct as_usage u;

	as_usage(as, &u);
	return u.au_rss;
}

static inline uint64_t reserved(struct sys *s)
{
	struct vm_usage u;

	vm_usage(s->vm, &u);
	return u.vu_reserved;
}

/* A file whose pages hold seed + i in their first word. The caller's reference. */
static inline struct vnode *new_file(struct sys *s, uint64_t bytes, uint64_t seed)
{
	struct vnode *vp = sim_disk_create(s->m, s->vm, "file", bytes, 0);

	assert_non_null(vp);
	for (uint64_t i = 0; i * PG < bytes; i++)
		memcpy((char *)sim_disk_data(vp) + i * PG, &(uint64_t){ seed + i }, 8);
	return vp;
}

#include "tests/caller_end.h"
#define assert_sound(...) (CALLER, (assert_sound)(__VA_ARGS__))
#define sys_init_cfg(...) (CALLER, (sys_init_cfg)(__VA_ARGS__))
#define sys_init(...) (CALLER, (sys_init)(__VA_ARGS__))
#define sys_fini(...) (CALLER, (sys_fini)(__VA_ARGS__))
#define new_as(...) (CALLER, (new_as)(__VA_ARGS__))
#define new_file(...) (CALLER, (new_file)(__VA_ARGS__))
#define put(...) (CALLER, (put)(__VA_ARGS__))
#define get(...) (CALLER, (get)(__VA_ARGS__))
#define fill(...) (CALLER, (fill)(__VA_ARGS__))
#define expect(...) (CALLER, (expect)(__VA_ARGS__))
#define expect_zero(...) (CALLER, (expect_zero)(__VA_ARGS__))
#endif
