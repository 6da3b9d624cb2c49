/* SPDX-License-Identifier: BSD-2-Clause */
/* bench/core_threads.c on the Linux machine. */
#include "bench/core_threads.h"
#include "machine/linux/linux.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BYTES ((size_t)BT_PAGES * VM_PAGESIZE)

const char *const bt_about = "the core on the Linux machine, which moves a page by a system call:";
static char *mem;

struct as *bt_open(vaddr_t at[2], struct vnode **swap)
{
	struct linux_config lc = { .frames = 4 * BT_PAGES };
	struct vm_config vc = { .vc_frames = 4 * BT_PAGES };
	struct vm *vm;
	struct as *as;

	*swap = NULL;
	mem = mmap(NULL, 3 * BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	at[0] = (vaddr_t)(uintptr_t)mem;
	at[1] = at[0] + 2 * BYTES;
	if (mem == MAP_FAILED || linux_create(&lc, &vc.vc_mach) != 0 ||
	    vm_create(&vc, &vm) != VM_OK ||
	    as_alloc(vm, VM_PAGESIZE, (vaddr_t)1 << 47, &as) != VM_OK) {
		fprintf(stderr, "bench_core_linux: no machine\n");
		exit(1);
	}
	return as;
}

void bt_mapped(struct as *as, vaddr_t at)
{
	if (linux_range_register(vm_machine(as_vm(as)), as_hat(as), at, BYTES) != 0)
		exit(1);
}

void bt_close(struct as *as)
{
	struct vm *vm = as_vm(as);
	struct mach *m = vm_machine(vm);

	for (unsigned i = 0; i < 2; i++)
		linux_range_unregister(
		    m, as_hat(as), (vaddr_t)(uintptr_t)mem + i * 2 * BYTES, BYTES, true);
	as_free(as);
	vm_destroy(vm);
	linux_destroy(m);
	(void)munmap(mem, 3 * BYTES);
}
