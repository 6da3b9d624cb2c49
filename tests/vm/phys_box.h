/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Code shared by the tests of the physical layer: a system on the stand-in machine, with a checking
 * policy.
 */
#ifndef QUIRE_TESTS_PHYS_BOX_H
#define QUIRE_TESTS_PHYS_BOX_H

#include "vm/impl.h"
#include "machine/stub/mach_stub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/caller_begin.h"

static uint64_t rnd_state;

static inline uint32_t rnd(uint32_t below)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return (uint32_t)((rnd_state >> 16) % below);
}

static inline void print_violation(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "violation: %s\n", text);
}

static inline void assert_sound(struct vm *vm)
{
	assert_int_equal(vm_check(vm, print_violation, NULL), 0);
}

/* A policy that counts its calls and refuses invalid ones. */
struct fifo {
	struct page *f_pages;
	struct page_queue f_queue;
	uint64_t f_touched, f_evicted;
};

static inline size_t fifo_size(pfn_t nframes)
{
	(void)nframes;
	return sizeof(struct fifo);
}

static inline void fifo_init(void *st, const struct pol_env *env)
{
	struct fifo *f = st;

	f->f_pages = env->pe_pages;
	page_queue_init(&f->f_queue);
}

static inline void fifo_resize(void *st, pfn_t room) { (void)st, (void)room; }

static inline bool fifo_miss(void *st, uint64_t id, bool fresh)
{
	(void)st, (void)id, (void)fresh;
	return false;
}

static inline void fifo_insert(void *st, struct page *pp, uint64_t id, bool prefetched)
{
	struct fifo *f = st;

	(void)prefetched;
	if (id != page_name_hash(pp->p_vnode, pp->p_offset))
		mach_panic("fifo: insert under another name");
	page_queue_push_tail(page_vm(pp), &f->f_queue, pp);
}

static inline void fifo_remove(void *st, struct page *pp, uint64_t id, bool evicted)
{
	struct fifo *f = st;

	if (id != page_name_hash(pp->p_vnode, pp->p_offset))
		mach_panic("fifo: remove under another name");
	page_queue_remove(page_vm(pp), &f->f_queue, pp);
	f->f_evicted += evicted;
}

static inline void fifo_touch(void *st, struct page *pp)
{
	(void)pp;
	((struct fifo *)st)->f_touched++;
}

static inline struct page *fifo_next(void *st, enum pol_ask *ask)
{
	struct fifo *f = st;

	*ask = POL_ASK_EVICT;
	return f->f_queue.q_head == PAGE_NIL ? NULL : &f->f_pages[f->f_queue.q_head];
}

static inline void fifo_seen(void *st, struct page *pp, bool referenced, bool skipped)
{
	(void)st, (void)pp, (void)referenced, (void)skipped;
}

static inline void fifo_cool(void *st, struct page *pp) { (void)st, (void)pp; }

static inline uint32_t fifo_pages(const void *st)
{
	return ((const struct fifo *)st)->f_queue.q_len;
}

static const struct policy_ops fifo_policy = {
	.pol_name = "fifo",
	.pol_size = fifo_size,
	.pol_init = fifo_init,
	.pol_resize = fifo_resize,
	.pol_miss = fifo_miss,
	.pol_insert = fifo_insert,
	.pol_remove = fifo_remove,
	.pol_touch = fifo_touch,
	.pol_next = fifo_next,
	.pol_cool = fifo_cool,
	.pol_pages = fifo_pages,
	.pol_seen = fifo_seen,
};

struct box {
	struct mach *b_mach;
	struct vm *b_vm;
};

static inline struct box box_open(pfn_t nframes, pfn_t online, uint64_t seed)
{
	struct box b = { .b_mach = stub_create(nframes, nframes - online, 2) };
	struct vm_config vc = {
		.vc_mach = b.b_mach, .vc_frames = online, .vc_policy = &fifo_policy
	};

	rnd_state = seed;
	stub_cpu_set(0);
	assert_int_equal(vm_create(&vc, &b.b_vm), VM_OK);
	assert_sound(b.b_vm);
	return b;
}

static inline void box_close(struct box *b)
{
	assert_sound(b->b_vm);
	(void)kmem_reap(b->b_vm);
	vm_destroy(b->b_vm);
	stub_destroy(b->b_mach);
}

#include "tests/caller_end.h"
#define assert_sound(...) (CALLER, (assert_sound)(__VA_ARGS__))
#define box_open(...) (CALLER, (box_open)(__VA_ARGS__))
#define box_close(...) (CALLER, (box_close)(__VA_ARGS__))
#endif
