/* SPDX-License-Identifier: BSD-2-Clause */
/* bench/core_threads.c on host threads; its swap is host memory that is never read. */
#include "bench/core_threads.h"
#include "machine/stub/vnode_stub.h"
#include "machine/threads/mach_threads.h"

#include <stdio.h>
#include <stdlib.h>

const char *const bt_about = "the core, translations in a table:";

static void swap_start(struct vnode *vp, struct vm_io *io)
{
	io->io_err = VM_OK;
	io->io_ok = io->io_npages;
	io->io_done(io);
}
static uint64_t swap_size(struct vnode *vp) { return vm_ptob(4 * BT_PAGES); }
static void swap_inactive(struct vnode *vp) { free(vp); }
static const struct vnode_ops swap_ops = {
	.vo_name = "nowhere",
	.vo_start = swap_start,
	.vo_poll = stub_poll,
	.vo_discard = stub_discard,
	.vo_sync = stub_sync,
	.vo_size = swap_size,
	.vo_inactive = swap_inactive,
};

struct as *bt_open(vaddr_t at[2], struct vnode **swap)
{
	struct vm_config vc = { .vc_frames = 4 * BT_PAGES, .vc_mach = mt_create(4 * BT_PAGES) };
	struct as *as;
	struct vm *vm;

	at[0] = MT_BASE;
	at[1] = MT_BASE + MT_SPAN / 2;
	if (vm_create(&vc, &vm) != VM_OK || (*swap = malloc(sizeof **swap)) == NULL)
		exit(1);
	vnode_init(*swap, vm, &swap_ops, NULL);
	(*swap)->v_flags = V_SWAP;
	if (swap_add(vm, *swap, 4 * BT_PAGES, 0) != VM_OK ||
	    as_alloc(vm, MT_BASE, MT_BASE + MT_SPAN, &as) != VM_OK)
		exit(1);
	vnode_rele(*swap);
	return as;
}

void bt_mapped(struct as *as, vaddr_t at) {}

void bt_close(struct as *as)
{
	struct vm *vm = as_vm(as);
	struct mach *m = vm_machine(vm);

	as_free(as);
	vm_destroy(vm);
	mt_destroy(m);
}
