/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The parts of machine.h and hat.h that a bare machine needs: how much memory vm_create takes,
 * frames that are no memory, frames that become executable, bits of reference that an instruction
 * fetch sets.
 */
#include "hat/mmu.h"
#include "tests/vm/segs.h"

#include <quire/policy.h>

static void boot_bytes_are_what_vm_create_takes(void **state)
{
	const struct policy_ops *const policies[] = { NULL, policy_find("clockpro"),
		policy_find("arc") };
	static const pfn_t frames[] = { 64, 1000, 70000 };

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		struct sim_config cfg = { .frames = frames[i / 3], .ncpus = 1 + i % 4 };
		struct vm_config vc = { .vc_frames = cfg.frames,
			.vc_policy = policies[i % 3],
			.vc_anon_max = i * 1000 };
		struct mach *m = vc.vc_mach = sim_create(&cfg);
		struct sim_stats st;
		struct vm *vm;

		assert_non_null(m);
		assert_int_equal(vm_create(&vc, &vm), VM_OK);
		sim_statistics(m, &st);
		vc.vc_mach = NULL;
		assert_int_equal(st.ss_boot, vm_boot_bytes(&vc, mach_caps(m)));
		vm_destroy(vm);
		sim_destroy(m);
	}
}

static void report(void *arg, const char *text)
{
	(void)arg;
	fail_msg("%s", text);
}

/* Every frame that is no hole comes on line, and no other frame, however many the core requests. */
static void holes_stay_off_line(void **state)
{
	static const struct mach_hole holes[] = { { 0, 3 }, { 50, 1 }, { 63, 64 }, { 255, 1 } };
	struct sim_config cfg = { .frames = 256, .nholes = 4, .holes = holes };
	struct vm_config vc = { .vc_frames = 256 };
	struct mach *m = vc.vc_mach = sim_create(&cfg);
	struct page *got[256];
	struct vm_usage u;
	struct vm *vm;
	unsigned n = 0;

	(void)state;
	assert_int_equal(vm_create(&vc, &vm), VM_OK);
	vm_usage(vm, &u);
	assert_int_equal(u.vu_frames, 256 - 69);
	while (n < 256 && (got[n] = page_kalloc(vm, 0, PG_RESERVE)) != NULL) {
		assert_false(mach_is_hole(mach_caps(m), page_pfn(vm, got[n])));
		n++;
	}
	assert_true(n > 150);
	while (n > 0)
		page_kfree(vm, got[--n], 0);
	assert_int_equal(vm_check(vm, report, NULL), 0);
	vm_destroy(vm);
	sim_destroy(m);
}

static uint64_t made_executable(struct sys *s)
{
	struct sim_stats st;

	sim_statistics(s->m, &st);
	return st.ss_exec_loaded;
}

/*
 * The machine is told when a frame is loaded executable, and when a loaded frame becomes
 * executable; not otherwise.
 */
static void the_machine_hears_of_frames_made_executable(void **state)
{
	struct segvn_args a = { .sa_prot = PROT_R | PROT_W,
		.sa_maxprot = PROT_R | PROT_W | PROT_X };
	struct sim_config cfg = { .frames = 256 };
	struct as *as;
	struct sys s;

	(void)state;
	sys_init_cfg(&s, &cfg, 100);
	assert_int_equal(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 30, &as), VM_OK);
	assert_int_equal(as_map(as, BASE, 4 * PG, segvn_create, &a), VM_OK);
	put(&s, as, BASE, 1);
	put(&s, as, BASE + PG, 2);
	assert_int_equal(made_executable(&s), 0);
	assert_int_equal(as_setprot(as, BASE, PG, PROT_R | PROT_X), VM_OK);
	assert_int_equal(sim_exec(s.m, as, 0, BASE), VM_OK);
	assert_int_equal(made_executable(&s), 1);
	assert_int_equal(as_setprot(as, BASE + 2 * PG, PG, PROT_R | PROT_X), VM_OK);
	assert_int_equal(sim_exec(s.m, as, 0, BASE + 2 * PG), VM_OK);
	assert_true(made_executable(&s) >= 1);
	assert_int_equal(sim_exec(s.m, as, 0, BASE + PG), VM_PROT);
	as_free(as);
	sys_fini(&s);
}

/* Where software sets the reference bit: a fetch from a page that may be executed only sets it, and is no fault. */
static void an_instruction_fetch_sets_the_reference_bit(void **state)
{
	struct segvn_args a = { .sa_prot = PROT_R | PROT_W,
		.sa_maxprot = PROT_R | PROT_W | PROT_X };
	struct sim_config cfg = { .frames = 256, .format = SIM_SV48, .ad_by_trap = true };
	struct as *as;
	struct sys s;

	(void)state;
	sys_init_cfg(&s, &cfg, 100);
	assert_int_equal(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 30, &as), VM_OK);
	assert_int_equal(as_map(as, BASE, PG, segvn_create, &a), VM_OK);
	put(&s, as, BASE, 1);
	assert_int_equal(as_setprot(as, BASE, PG, PROT_X), VM_OK);
	assert_int_equal(sim_exec(s.m, as, 0, BASE), VM_OK);
	hat_sync(as_hat(as), BASE, PG, true);
	assert_true(!hat_trap(as_hat(as), BASE, S_READ));
	assert_true(!hat_trap(as_hat(as), BASE, S_WRITE));
	assert_true(hat_trap(as_hat(as), BASE, S_EXEC));
	assert_int_equal(sim_exec(s.m, as, 0, BASE), VM_OK);
	as_free(as);
	sys_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(boot_bytes_are_what_vm_create_takes),
		cmocka_unit_test(holes_stay_off_line),
		cmocka_unit_test(the_machine_hears_of_frames_made_executable),
		cmocka_unit_test(an_instruction_fetch_sets_the_reference_bit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
