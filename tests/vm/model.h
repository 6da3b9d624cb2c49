/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to the model test: model_ops.c (the model and its operations), model_inject.c, model_test.c (runs). */
#ifndef QUIRE_TESTS_MODEL_H
#define QUIRE_TESTS_MODEL_H

#include "machine/sim/sim.h"

#include <quire/anon.h>
#include <quire/as.h>
#include <quire/hat.h>
#include <quire/page.h>
#include <quire/policy.h>
#include <quire/seg.h>
#include <quire/vm.h>
#include <quire/vnode.h>

#include <inttypes.h>

#define NSPACES 5u
#define NPAGES 192u /* window of each space */
#define BASE window_base
#define NFILES 3u
#define FILE_PAGES 40u
#define NCPUS 2u

/* ---- the model ---- */
struct mpage {
	unsigned ref;
	bool freed; /* ADV_FREE: may read as zeroes, see model_more.c */
	uint8_t b[VM_PAGESIZE];
};
struct mobj {
	unsigned ref;
	struct mpage *page[NPAGES];
}; /* shared anonymous memory; NULL: zeroes */
enum kind { K_NONE, K_PRIVATE, K_PRIVFILE, K_SHARED, K_SHFILE };
struct slot {
	enum kind kind;
	unsigned prot, maxprot, file, idx;
	bool wired, soft;
	bool maybe; /* K_PRIVFILE: was locked once, which may have copied it */
	enum inherit inherit;
	struct mobj *obj;   /* K_SHARED */
	struct mpage *priv; /* K_PRIVATE, K_PRIVFILE: own copy; NULL: zeroes, the file's */
};
struct space {
	struct as *as;
	struct slot slot[NPAGES];
	unsigned softlo, softn;
};
struct file {
	struct vnode *vp;
	uint64_t size;
	uint8_t b[FILE_PAGES * VM_PAGESIZE];
};

struct options {
	uint64_t ops, seed, check, latency;
	pfn_t frames;
	const struct policy_ops *policy; /* NULL: the default */
	const struct prefetch_ops *prefetch;
	enum sim_format format;
	const char *format_name;
	uint64_t seeds; /* --inject: how many, from seed on */
	bool linux_like, split, inject, shrink, verbose;
};

struct test {
	const struct options *opt;
	struct mach *mach;
	struct vm *vm;
	struct vnode *swap;
	struct vnode *disk; /* under the first swap area */
	struct space sp[NSPACES];
	struct file file[NFILES];
	bool injecting;
	uint64_t rnd, word, refused, applied, starved;
};

/* The windows cross a boundary of every table level: 2^48, 2^39 or 2^30, whichever the spaces have. */
extern vaddr_t window_base;
/* Memory shared with the child that runs. */
extern volatile uint64_t *progress;

/* model_ops.c */
_Noreturn void __attribute__((format(printf, 1, 2))) fail(const char *fmt, ...);
uint64_t mix(uint64_t);
vaddr_t va_of(unsigned page);
void report(void *arg, const char *text); /* for the checkers */
void read_and_compare(struct test *, struct space *, vaddr_t, uint64_t len);
void check_file_page(struct test *, const struct file *, unsigned idx);
void space_free(struct space *);
void op_apply(struct test *, uint64_t word);
const char *op_name(uint64_t word);

bool chance(struct test *, unsigned one_in);
unsigned below(struct test *, unsigned n);
bool refused(struct test *, enum vm_err);
struct space *pick(struct test *);
void pick_range(struct test *, unsigned max, unsigned *lo, unsigned *n);
bool range_all(const struct space *, unsigned lo, unsigned n, bool mapped);
bool range_pinned(const struct space *, unsigned lo, unsigned n);
void slot_clear(struct slot *);
struct mpage *mpage_own(
    struct test *, struct slot *); /* not shared with another slot; of anonymous memory */

/* model_more.c */
struct mpage *slot_page(const struct slot *); /* NULL: zeroes, or the file's */
void freed_seen(struct mpage *, uint64_t off, const uint8_t *got, uint64_t n);
/*
 * After a write to a freed page: `page` has the present contents. False: they are neither of the
 * permitted contents.
 */
bool freed_written(struct test *, struct slot *, uint64_t off, const uint8_t *from, uint64_t n,
    const uint8_t *page);
void op_advfree(struct test *);
void op_transfer(struct test *);
void op_remap(struct test *);
void op_truncate(struct test *);
void op_relocate(struct test *);
void op_memory(struct test *);
void op_promote(struct test *);
void op_shrink(struct test *);
void op_swapdev(struct test *);

/* model_test.c */
void run_setup(struct test *, const struct options *);
void run_one(struct test *, uint64_t word);
void run_check(struct test *);
void run_verify(struct test *);
void run_teardown(struct test *);
uint64_t run_word(const struct options *, uint64_t i);

/* model_inject.c */
bool inject_all(const struct options *);
#endif
