/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of calls (run/calls.c) is complete: each call once, with a reason, and all readers of
 * the table see the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "run/calls.h"

static const struct call *find(unsigned nr)
{
	for (size_t i = 0; i < calls_n; i++)
		if (calls[i].c_nr == nr)
			return &calls[i];
	return NULL;
}

static void each_call_stands_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < calls_n; i++) {
		assert_ptr_equal(find(calls[i].c_nr), &calls[i]);
		assert_true(strlen(calls[i].c_name) > 2 && strlen(calls[i].c_why) > 3);
		assert_true(calls[i].c_nr < CALLS_WORDS * 64);
	}
}

/* The calls that the kernel's documentation (man 2) describes as changing memory. */
static void no_call_on_memory_is_missing(void **state)
{
	static const uint16_t memory[] = { SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect,
		SYS_madvise, SYS_brk, SYS_remap_file_pages, SYS_shmat, SYS_shmdt, SYS_msync,
		SYS_mincore, SYS_mlock, SYS_mlock2, SYS_munlock, SYS_mlockall, SYS_munlockall,
		SYS_pkey_mprotect, SYS_pkey_alloc, SYS_pkey_free, SYS_memfd_create, SYS_userfaultfd,
		SYS_mbind, SYS_set_mempolicy, SYS_migrate_pages, SYS_move_pages,
		SYS_process_vm_readv, SYS_process_vm_writev, NR_process_madvise,
		NR_process_mrelease, NR_set_mempolicy_home_node, NR_cachestat, NR_map_shadow_stack,
		NR_mseal, SYS_clone, SYS_clone3, SYS_fork, SYS_vfork, SYS_execve, SYS_execveat,
		SYS_prctl, SYS_setrlimit, SYS_prlimit64 };

	(void)state;
	for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
		assert_non_null(find(memory[i]));
}

static void readers_of_the_table_agree(void **state)
{
	uint64_t bits[CALLS_WORDS] = { 0 };

	(void)state;
	calls_bits(bits);
	for (unsigned nr = 0; nr < CALLS_WORDS * 64; nr++) {
		const struct call *c = find(nr);
		int bit = (bits[nr / 64] >> (nr % 64) & 1) != 0;

		assert_int_equal(bit, c != NULL && c->c_way != CALL_KERNEL);
		assert_int_equal(calls_at_site(nr), c != NULL && c->c_way == CALL_SITE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_call_stands_once),
		cmocka_unit_test(no_call_on_memory_is_missing),
		cmocka_unit_test(readers_of_the_table_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
