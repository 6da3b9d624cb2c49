/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to the lab (and its tests): traces of page references, and the results of policies on
 * them. */
#ifndef QUIRE_LAB_H
#define QUIRE_LAB_H

#include <quire/policy.h>

#include <stdio.h>

/*
 * A trace. Files: binary: the eight bytes "QTRACE1\n", then a 64-bit little-endian word per reference: page number * 2, + 1 if
 * it writes. Raw: the same without the first eight bytes. Text: a reference a line: page number
 * (decimal, or hexadecimal with 0x), then w if it writes, r or nothing otherwise; empty lines are
 * skipped, and so is the rest of a line from # on.
 */
struct trace {
	uint64_t t_len;
	uint32_t *t_page; /* [t_len] dense page numbers 0 .. t_npages - 1, in order of first use */
	uint8_t *t_write; /* [t_len] */
	bool t_reads_unseen; /* a policy is told of misses and writes only: see replay */
	uint64_t *t_addr;    /* [t_npages] page numbers as in the file */
	uint32_t t_npages;
	uint32_t t_addrcap, t_hashcap;
	uint64_t t_cap;
	uint32_t *t_hash;
};
#define TRACE_MAGIC "QTRACE1\n"

void trace_init(struct trace *);
void trace_free(struct trace *);
bool trace_add(struct trace *, uint64_t page, bool write); /* false: no memory */
enum trace_format { TRACE_GUESS, TRACE_RAW };
/* False: why gets a line of text: the error in the file, and its place. */
bool trace_read(struct trace *, FILE *, enum trace_format, char *why, size_t whylen);
bool trace_write(const struct trace *, FILE *, bool text);

/*
 * Standard patterns, by name. pages: how many pages the pattern covers; len: how many references;
 * the same seed gives the same trace. False: no such pattern.
 */
bool trace_generate(
    struct trace *, const char *pattern, uint32_t pages, uint64_t len, uint64_t seed);
struct trace_pattern {
	const char *name, *about;
};
extern const struct trace_pattern trace_patterns[]; /* ends with a NULL name */

struct replay_result {
	uint64_t misses;
	uint64_t writes; /* pages evicted after they were written */
};
/*
 * Runs a policy over a trace with that many frames (>= 1). The policy is told of every reference, but of
 * no read of a page in memory if t_reads_unseen is set.
 * evicted (may be NULL) is called for each eviction with the index of the reference and the dense
 * page number. False: no memory, or (a bug of the policy) the policy named no victim.
 */
bool replay(const struct policy_ops *, const struct trace *, uint32_t frames,
    void (*evicted)(void *arg, uint64_t at, uint32_t page), void *arg, struct replay_result *);
struct prefetch_result {
	uint64_t misses;       /* references that had to wait for their page */
	uint64_t issued, used; /* pages read ahead; how many of them were used before they were
	                        * evicted */
	uint64_t unused;       /* how many were evicted before; the others are in memory at the
	                        * end */
};
/*
 * Runs a prefetcher over a trace beside a policy with that many frames, the whole trace being one segment. Only pages that
 * occur in the trace can be read ahead; at most a quarter of the frames at once. told (may be NULL)
 * is called for every plan.
 */
bool replay_prefetch(const struct prefetch_ops *, const struct policy_ops *, const struct trace *,
    uint32_t frames,
    void (*told)(void *arg, uint64_t idx, unsigned max, unsigned flags, const struct pf_plan *),
    void *arg, struct prefetch_result *);
/* The dense number of a page; PAGE_NIL: it does not occur. */
uint32_t trace_find(const struct trace *, uint64_t page);
/* Belady's MIN: the fewest misses that any policy can have. */
bool replay_min(const struct trace *, uint32_t frames, struct replay_result *);
#endif
