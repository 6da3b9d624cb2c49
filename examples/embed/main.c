/* SPDX-License-Identifier: BSD-2-Clause */
/* A program over its own port (port.c): 8 MiB of data in 2 MiB of memory, swapped to a disk in RAM; then a fork. */
#include "port.h"

#include <quire/anon.h>
#include <quire/as.h>
#include <quire/seg.h>
#include <quire/vnode.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 512u
#define DATA 2048u /* pages */
#define SWAP 4096u /* pages */

/* ---- a disk: an I/O is done before disk_start returns ---- */
static void disk_start(struct vnode *vp, struct vm_io *io)
{
	unsigned char *at = (unsigned char *)vp->v_data + io->io_off;

	for (uint32_t i = 0; i < io->io_npages; i++, at += VM_PAGESIZE)
		if (io->io_op == VM_IO_WRITE)
			memcpy(at, io->io_buf[i], VM_PAGESIZE);
		else
			memcpy(io->io_buf[i], at, VM_PAGESIZE);
	io->io_ok = io->io_npages;
	io->io_err = VM_OK;
	io->io_done(io);
}
static void disk_poll(struct vnode *vp, struct vm_io *io) {}
static void disk_discard(struct vnode *vp, voff_t off, uint64_t len) {}
static enum vm_err disk_sync(struct vnode *vp, voff_t off, uint64_t len) { return VM_OK; }
static uint64_t disk_size(struct vnode *vp) { return (uint64_t)SWAP * VM_PAGESIZE; }
static void disk_inactive(struct vnode *vp) {}
static const struct vnode_ops disk_ops = { .vo_name = "ram",
	.vo_start = disk_start,
	.vo_poll = disk_poll,
	.vo_discard = disk_discard,
	.vo_sync = disk_sync,
	.vo_size = disk_size,
	.vo_inactive = disk_inactive };

static void must(enum vm_err e, const char *what)
{
	if (e != VM_OK) {
		fprintf(stderr, "embed: %s: error %d\n", what, (int)e);
		exit(1);
	}
}

static void put(struct as *as, uint64_t page, uint64_t v)
{
	must(embed_access(as, EMBED_BASE + page * VM_PAGESIZE, &v, true), "write");
}
static uint64_t get(struct as *as, uint64_t page)
{
	uint64_t v = 0;

	must(embed_access(as, EMBED_BASE + page * VM_PAGESIZE, &v, false), "read");
	return v;
}

static void say(void *arg, const char *text) { fprintf(stderr, "embed: violation: %s\n", text); }

int main(void)
{
	struct segvn_args args = { .sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W };
	struct vm_config vc = { 0 };
	struct mach *m = embed_create(FRAMES, &vc);
	static struct vnode disk = { .v_flags = V_SWAP };
	struct as *as, *child;
	const struct vm_stats *st;
	uint64_t wrong = 0, bad;
	struct vm *vm;

	must(vm_create(&vc, &vm), "vm_create");
	vnode_init(&disk, vm, &disk_ops, calloc(SWAP, VM_PAGESIZE));
	must(swap_add(vm, &disk, SWAP, 0), "swap_add");
	must(as_alloc(vm, EMBED_BASE, EMBED_BASE + EMBED_SPAN, &as), "as_alloc");
	must(as_map(as, EMBED_BASE, (uint64_t)DATA * VM_PAGESIZE, segvn_create, &args), "as_map");
	for (uint64_t i = 0; i < DATA; i++)
		put(as, i, i * 3);
	for (uint64_t i = 0; i < DATA; i++)
		wrong += get(as, i * 1021 % DATA) != i * 1021 % DATA * 3;
	must(as_dup(as, &child), "as_dup");
	for (uint64_t i = 0; i < DATA; i += 2)
		put(child, i, 7);
	for (uint64_t i = 0; i < DATA; i++)
		wrong += get(as, i) != i * 3 || get(child, i) != (i % 2 == 0 ? 7 : i * 3);
	bad = vm_check(vm, say, NULL);
	st = vm_statistics(vm);
	printf("%u pages in %u frames: %" PRIu64 " wrong, %" PRIu64 " violations; %" PRIu64
	       " faults, %" PRIu64 " copies, %" PRIu64 " pages out, %" PRIu64 " in\n",
	    DATA, FRAMES, wrong, bad, (uint64_t)st->fault, (uint64_t)st->cow, (uint64_t)st->swapout,
	    (uint64_t)st->swapin);
	as_free(child);
	as_free(as);
	must(swap_remove(vm, &disk), "swap_remove");
	free(disk.v_data);
	vm_destroy(vm);
	embed_destroy(m);
	return wrong != 0 || bad != 0;
}
