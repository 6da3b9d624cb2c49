/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The floor of all rooms: statistics, counted by CPU and summed when they are read, and failures on purpose, by the number of the
 * call that is to fail. Every word is atomic and no lock is taken.
 */
#include "vm/impl.h"

const struct vm_stats *vm_statistics(struct vm *vm)
{
	uint64_t *sum = (uint64_t *)(void *)&vm->vm_stats;

	for (size_t i = 0; i < sizeof(vm->vm_stats) / sizeof(*sum); i++) {
		uint64_t n = 0;

		for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
			n += __atomic_load_n(
			    (uint64_t *)(void *)&vm->vm_cpu[c].vc_stats + i, __ATOMIC_RELAXED);
		__atomic_store_n(&sum[i], n, __ATOMIC_RELAXED);
	}
	return &vm->vm_stats;
}

/* ---- fault injection ---- */

void vm_inject(struct vm *vm, enum vm_inject what, uint64_t nth)
{
	for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
		__atomic_store_n(&vm->vm_cpu[c].vc_inject[what], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&vm->vm_inject_left[what], nth, __ATOMIC_RELAXED);
}

uint64_t vm_inject_seen(struct vm *vm, enum vm_inject what)
{
	uint64_t n = 0;

	for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
		n += __atomic_load_n(&vm->vm_cpu[c].vc_inject[what], __ATOMIC_RELAXED);
	return n;
}

bool vm_inject_fail(struct vm *vm, enum vm_inject what)
{
	uint64_t left = __atomic_load_n(&vm->vm_inject_left[what], __ATOMIC_RELAXED);

	(void)__atomic_add_fetch(&vm_cpu_of(vm)->vc_inject[what], 1, __ATOMIC_RELAXED);
	while (left > 0) {
		if (__atomic_compare_exchange_n(&vm->vm_inject_left[what], &left, left - 1, true,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return left == 1;
	}
	return false;
}
