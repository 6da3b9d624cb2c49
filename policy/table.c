/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Policies and prefetchers by name. To add a policy, add its name to POLICIES here and in
 * meson.build: the command line, the lab, the tests and the nightly run take their lists from these
 * two.
 */
#include <quire/policy.h>

#define POLICIES(X) X(clock2) X(lru) X(clockpro) X(arc) X(car) X(s3fifo) X(generations)
#define PREFETCHERS(X) X(streams) X(window) X(stride) X(majority) X(around) X(none)

#define DECLARE_POLICY(name) extern const struct policy_ops policy_##name;
#define DECLARE_PREFETCHER(name) extern const struct prefetch_ops prefetch_##name;
POLICIES(DECLARE_POLICY)
PREFETCHERS(DECLARE_PREFETCHER)

#define POLICY(name) &policy_##name,
#define PREFETCHER(name) &prefetch_##name,
const struct policy_ops *const policy_table[] = { POLICIES(POLICY) NULL };
const struct prefetch_ops *const prefetch_table[] = { PREFETCHERS(PREFETCHER) NULL };

static bool names_are_same(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b)
		a++, b++;
	return *a == *b;
}

const struct policy_ops *policy_find(const char *name)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++)
		if (names_are_same(policy_table[i]->pol_name, name))
			return policy_table[i];
	return NULL;
}

const struct prefetch_ops *prefetch_find(const char *name)
{
	for (unsigned i = 0; prefetch_table[i] != NULL; i++)
		if (names_are_same(prefetch_table[i]->pf_name, name))
			return prefetch_table[i];
	return NULL;
}
