/* SPDX-License-Identifier: BSD-2-Clause */
/* Policies and prefetchers by name. */
#include <quire/policy.h>

const struct policy_ops *const policy_table[] = {
	&policy_clock2,
	&policy_lru,
	&policy_clockpro,
	&policy_arc,
	&policy_car,
	&policy_s3fifo,
	&policy_generations,
	NULL,
};

static bool same(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b)
		a++, b++;
	return *a == *b;
}

const struct policy_ops *policy_find(const char *name)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++)
		if (same(policy_table[i]->pol_name, name))
			return policy_table[i];
	return NULL;
}

const struct prefetch_ops *const prefetch_table[] = {
	&prefetch_near, &prefetch_window, &prefetch_stride, &prefetch_majority, &prefetch_around, &prefetch_none, NULL,
};

const struct prefetch_ops *prefetch_find(const char *name)
{
	for (unsigned i = 0; prefetch_table[i] != NULL; i++)
		if (same(prefetch_table[i]->pf_name, name))
			return prefetch_table[i];
	return NULL;
}
