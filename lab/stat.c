/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How much memory do programs take that share a part of their pages? Several spaces of one image on
 * the simulated machine, and one that is forked from another. Measured for each: the size of its
 * mappings, the pages of these that are in memory (RSS), and its part of them (PSS): a page that n
 * spaces have mapped counts as page / n. The sum of all PSS is the memory that the pages take
 * altogether; it is compared with a count of their frames.
 *
 * Each space has the text and the data of one file, mapped privately, a heap, and memory that is shared by all.
 * It reads text and data, writes a quarter of the data, all of the heap and all of the shared
 * memory. Then it is forked, and the child writes a quarter of the heap.
 */
#include "lab/stat.h"
#include "machine/sim/sim.h"

#include <quire/anon.h>
#include <quire/as.h>
#include <quire/hat.h>
#include <quire/vm.h>

#include <stdlib.h>

#define PG VM_PAGESIZE
#define TEXT_AT ((vaddr_t)1 << 22)
#define DATA_AT ((vaddr_t)1 << 32)
#define HEAP_AT ((vaddr_t)1 << 33)
#define SHARED_AT ((vaddr_t)1 << 34)
#define RW (PROT_R | PROT_W)

struct scene {
	const struct stat_options *o;
	struct mach *m;
	struct vm *vm;
	struct vnode *image;
	struct anon_map *shared;
	struct as *as[STAT_SPACES];
};

static bool map_range(struct as *as, vaddr_t va, uint64_t pages, struct segvn_args a)
{
	a.sa_maxprot = RW | PROT_X;
	return pages == 0 || as_map(as, va, vm_ptob(pages), segvn_create, &a) == VM_OK;
}

/* Reads or writes a byte of each page. */
static bool touch_pages(struct scene *s, struct as *as, vaddr_t va, uint64_t pages, bool write)
{
	uint8_t byte = 1;
	enum vm_err e = VM_OK;

	for (uint64_t i = 0; i < pages && e == VM_OK; i++)
		e = write ? sim_write(s->m, as, 0, va + vm_ptob(i), &byte, 1, NULL)
			  : sim_read(s->m, as, 0, va + vm_ptob(i), &byte, 1, NULL);
	return e == VM_OK;
}

static bool start_program(struct scene *s, struct as **asp)
{
	const struct stat_options *o = s->o;
	voff_t data = vm_ptob(o->text);
	struct as *as;

	if (as_alloc(s->vm, 0x10000, (vaddr_t)1 << 40, asp) != VM_OK)
		return false;
	as = *asp;
	return map_range(as, TEXT_AT, o->text,
		   (struct segvn_args){ .sa_vnode = s->image, .sa_prot = PROT_R | PROT_X }) &&
	    map_range(as, DATA_AT, o->data,
		(struct segvn_args){ .sa_vnode = s->image, .sa_off = data, .sa_prot = RW }) &&
	    map_range(as, HEAP_AT, o->heap, (struct segvn_args){ .sa_prot = RW }) &&
	    map_range(as, SHARED_AT, o->shared,
		(struct segvn_args){
		    .sa_amp = s->shared, .sa_prot = RW, .sa_flags = SEGVN_SHARED }) &&
	    touch_pages(s, as, TEXT_AT, o->text, false) &&
	    touch_pages(s, as, DATA_AT, o->data, false) &&
	    touch_pages(s, as, DATA_AT, o->data / 4, true) &&
	    touch_pages(s, as, HEAP_AT, o->heap, true) &&
	    touch_pages(s, as, SHARED_AT, o->shared, true);
}

/* The child reads all of its memory, so that it has translations, and writes a quarter of its
 * heap. */
static bool fork_program(struct scene *s, struct as *parent, struct as **asp)
{
	const struct stat_options *o = s->o;

	return as_dup(parent, asp) == VM_OK && touch_pages(s, *asp, TEXT_AT, o->text, false) &&
	    touch_pages(s, *asp, DATA_AT, o->data, false) &&
	    touch_pages(s, *asp, HEAP_AT, o->heap, false) &&
	    touch_pages(s, *asp, HEAP_AT, o->heap / 4, true) &&
	    touch_pages(s, *asp, SHARED_AT, o->shared, false);
}

struct frames {
	uint8_t *seen;
	uint64_t n;
};

static void count_frame(void *arg, vaddr_t va, pfn_t pfn, unsigned attr, bool locked)
{
	struct frames *f = arg;

	(void)va;
	(void)attr;
	(void)locked;
	f->n += f->seen[pfn] == 0;
	f->seen[pfn] = 1;
}

static bool run_scene(struct scene *s, struct stat_result *r)
{
	const struct stat_options *o = s->o;
	struct frames f = { calloc(mach_caps(s->m)->mc_nframes, 1), 0 };
	bool ok = f.seen != NULL;

	for (unsigned i = 0; i < o->spaces && ok; i++)
		ok = i > 0 && i == o->spaces - 1 ? fork_program(s, s->as[0], &s->as[i])
						 : start_program(s, &s->as[i]);
	for (unsigned i = 0; i < o->spaces && ok; i++) {
		struct as_usage u;

		as_usage(s->as[i], &u);
		r->space[i] = (struct stat_space){ u.au_size, vm_ptob(u.au_rss), u.au_pss };
		hat_foreach(as_hat(s->as[i]), count_frame, &f);
	}
	r->frames = vm_ptob(f.n);
	free(f.seen);
	return ok;
}

static bool set_up(struct scene *s)
{
	const struct stat_options *o = s->o;
	struct sim_config cfg = {
		.frames = (pfn_t)(4096 +
		    2 * (o->text + o->data + o->shared + o->spaces * (o->data + o->heap)))
	};
	struct vm_config vc = { .vc_frames = cfg.frames, .vc_overcommit = true };

	vc.vc_mach = s->m = sim_create(&cfg);
	if (s->m == NULL || vm_create(&vc, &s->vm) != VM_OK)
		return false;
	s->image = sim_disk_create(s->m, s->vm, "image", vm_ptob(o->text + o->data + 1), 0);
	s->shared = anonmap_alloc(s->vm, o->shared + 1);
	return s->image != NULL && s->shared != NULL;
}

bool stat_run(const struct stat_options *o, struct stat_result *r)
{
	struct scene s = { .o = o };
	bool ok = set_up(&s) && run_scene(&s, r);

	for (unsigned i = 0; i < o->spaces; i++)
		if (s.as[i] != NULL)
			as_free(s.as[i]);
	if (s.shared != NULL)
		anonmap_rele(s.shared);
	if (s.image != NULL)
		vnode_rele(s.image);
	if (s.vm != NULL)
		vm_destroy(s.vm);
	if (s.m != NULL)
		sim_destroy(s.m);
	return ok;
}
