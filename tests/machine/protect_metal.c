/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The accesses that the tables and the CPU's protections of a bare machine forbid
 * (conform=protect): a page is writable or executable, never both, and constant parts of the image
 * are writable at no address; the kernel can neither read, write nor execute a program's page, also
 * where a program enters it with every flag set that a program can set; no page is mapped at and
 * around address 0.
 *
 * Each access is tried, and must trap; accesses that are allowed are tried, too, so that a machine on which everything traps fails.
 * mmu.noguard on the command line leaves the CPU's protections out: this program must then fail.
 */
#include "machine/stub/vnode_stub.h"
#include "tests/machine/port_check.h"
#include "tests/machine/port_metal.h"

#include <quire/as.h>
#include <quire/page.h>
#include <quire/vm.h>
#include <quire/vnode.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 1024u
#define VA 0x80000000ull

enum { DATA, CODE, KDATA, KCONST, NPAGES };
static const unsigned rights[NPAGES] = {
	[DATA] = PROT_R | PROT_W,
	[CODE] = PROT_R | PROT_X,
	[KDATA] = PROT_R | PROT_W,
	[KCONST] = PROT_R,
};

struct env {
	struct mach *mach;
	struct vm *vm;
	struct vnode vn;
	struct as *as, *kas;
	struct hat *hat;
	struct page *pp[NPAGES];
	vaddr_t at[NPAGES];
};

/* Maps a page of breakpoint instructions with those rights. */
static void load_page(struct env *e, unsigned i)
{
	bool kernel = i == KDATA || i == KCONST;

	e->at[i] = (kernel ? mach_caps(e->mach)->mc_kernel_min : VA) + vm_ptob(i);
	CHECK(page_create(e->vm, &e->vn, vm_ptob(i), PG_WAIT | PG_ZERO, &e->pp[i]) == VM_OK);
	metal_fill_breakpoints(page_mapin(e->vm, e->pp[i]));
	page_filled(e->vm, e->pp[i], false);
	CHECK(hat_memload(kernel ? as_hat(e->kas) : e->hat, e->at[i], e->pp[i], rights[i],
		  HAT_LOAD) == VM_OK);
}

static void setup(struct env *e)
{
	struct vm_config vc = { .vc_frames = FRAMES };
	const struct mach_caps *caps;

	memset(e, 0, sizeof(*e));
	if ((e->mach = vc.vc_mach = metal_create(FRAMES)) == NULL ||
	    vm_create(&vc, &e->vm) != VM_OK) {
		fprintf(stderr, "%s: no machine\n", port_harness.ph_name);
		exit(1);
	}
	caps = mach_caps(e->mach);
	vnode_init(&e->vn, e->vm, &stub_name_ops, NULL);
	CHECK(as_alloc(e->vm, caps->mc_kernel_min, caps->mc_kernel_max, &e->kas) == VM_OK);
	CHECK(as_alloc(e->vm, caps->mc_user_min, caps->mc_user_max, &e->as) == VM_OK);
	e->hat = as_hat(e->as);
	for (unsigned i = 0; i < NPAGES; i++)
		load_page(e, i);
}

/* rw: the accesses, of "rwx", that must be possible; the others must trap. */
static bool may(struct env *e, vaddr_t at, bool user, const char *rwx)
{
	static const struct {
		char name;
		enum seg_rw rw;
	} all[] = { { 'r', S_READ }, { 'w', S_WRITE }, { 'x', S_EXEC } };
	bool right = true;

	for (unsigned i = 0; i < 3; i++) {
		bool want = false, got = metal_access(e->hat, at, all[i].rw, user);

		for (const char *p = rwx; *p != 0; p++)
			want |= *p == all[i].name;
		if (got != want)
			fprintf(stderr, "%s: access %c of the %s at %lx: %s\n",
			    port_harness.ph_name, all[i].name, user ? "program" : "kernel", at,
			    got ? "was made" : "trapped");
		right &= got == want;
	}
	return right;
}

static bool kernel_may(struct env *e, vaddr_t at, const char *rwx)
{
	return may(e, at, false, rwx);
}
static bool program_may(struct env *e, vaddr_t at, const char *rwx)
{
	return may(e, at, true, rwx);
}

/* ---- each page has the rights that it was given, and the kernel has none to a program's ---- */
static void test_pages(struct env *e)
{
	CHECK(program_may(e, e->at[DATA], "rw"));
	CHECK(program_may(e, e->at[CODE], "rx"));
	CHECK(program_may(e, e->at[KDATA], "") && program_may(e, e->at[KCONST], ""));
	CHECK(kernel_may(e, e->at[DATA], ""));
	CHECK(kernel_may(e, e->at[CODE], ""));
	CHECK(kernel_may(e, e->at[KDATA], "rw"));
	CHECK(kernel_may(e, e->at[KCONST], "r"));
}

/*
 * A program that has set every flag that it can set enters the kernel: the kernel's protections are
 * unchanged.
 */
static void test_flags_of_programs(struct env *e)
{
	CHECK(!metal_read_after(e->hat, e->at[DATA], false));
	CHECK(!metal_read_after(e->hat, e->at[DATA], true));
	CHECK(metal_read_after(e->hat, e->at[KDATA], false));
	CHECK(metal_read_after(e->hat, e->at[KDATA], true));
}

static void test_null_page(struct env *e)
{
	static const vaddr_t at[] = { 0, 8, VM_PAGESIZE - 1, VM_PAGESIZE, 0xffff };

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		CHECK(kernel_may(e, at[i], "") && program_may(e, at[i], ""));
	CHECK(mach_caps(e->mach)->mc_user_min > 0xffff);
}

/* ---- the image ---- */
static uint8_t image_data[64] = { 1 };
static const uint8_t image_constant[64] = { 1 };

static vaddr_t address(const void *p) { return (vaddr_t)(uintptr_t)p; }

static void test_image(struct env *e)
{
	uint8_t on_stack[64] __attribute__((aligned(16)));

	memset(on_stack, 0, sizeof(on_stack));
	CHECK(kernel_may(e, address(metal_text), "rx"));
	CHECK(kernel_may(e, address(image_constant), "r"));
	CHECK(kernel_may(e, address(image_data), "rw"));
	CHECK(kernel_may(e, address(on_stack), "rw"));
	CHECK(program_may(e, address(metal_text), "") && program_may(e, address(image_data), ""));
	/* by the direct map */
	CHECK(kernel_may(e, metal_direct(metal_text), "r"));
	CHECK(kernel_may(e, metal_direct(image_constant), "r"));
	CHECK(kernel_may(e, metal_direct(image_data), "rw"));
	CHECK(kernel_may(e, address(page_mapin(e->vm, e->pp[CODE])), "rw"));
	CHECK(program_may(e, address(page_mapin(e->vm, e->pp[CODE])), ""));
}

/* ---- every translation that all spaces share ---- */
static struct {
	unsigned number, executable, both, program_writes, low;
} seen;

static void see(vaddr_t at, unsigned attr, bool program)
{
	seen.number++;
	seen.executable += (attr & PROT_X) != 0;
	seen.both += (attr & PROT_W) && (attr & PROT_X);
	seen.program_writes += program && (attr & PROT_W);
	seen.low += at >> 63 == 0;
}

static void test_tables(struct env *e)
{
	(void)e;
	metal_foreach(see);
	printf("%s: %u translations, %u executable, %u writable and executable\n",
	    port_harness.ph_name, seen.number, seen.executable, seen.both);
	CHECK(seen.number > 10 && seen.executable > 10);
	CHECK(seen.both == 0);
	CHECK(seen.program_writes == 0);
	CHECK(seen.low == 0); /* without a program's space no page is mapped below */
}

int protect_main(void)
{
	struct env e;

	setup(&e);
	test_pages(&e);
	test_flags_of_programs(&e);
	test_null_page(&e);
	test_image(&e);
	test_tables(&e);
	printf("%s: protect: %u failures\n", port_harness.ph_name, failures);
	return failures != 0;
}
