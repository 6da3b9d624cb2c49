/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Naive replacement policies: lists as arrays, searched from one end to the other. For comparison
 * only.
 */
#ifndef QUIRE_POLICY_BRUTE_H
#define QUIRE_POLICY_BRUTE_H
#include <stdbool.h>
#include <stdint.h>

#define NOT_A_PAGE UINT32_MAX

/* Misses of the policy of that name on refs[n], with c frames; the pages evicted, in order, in out[] (room for n), *nout. */
uint64_t brute(const char *policy, const uint32_t *refs, uint64_t n, uint32_t c, uint32_t *out,
    uint64_t *nout);
uint64_t brute_min(
    const uint32_t *refs, uint64_t n, uint32_t c); /* farthest next use, found by search */
uint64_t brute_fewest(
    const uint32_t *refs, uint64_t n, uint32_t c); /* tries every choice; for tiny traces only */
#endif
