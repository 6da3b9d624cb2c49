/* SPDX-License-Identifier: BSD-2-Clause */
/* Segments: loading translations with retries, and the functions for members that a driver
 * lacks. */
#include "vm/impl.h"

#define LOAD_TRIES 1000u /* conflicts of a load are moments of another CPU's work */

enum vm_err seg_load(struct as *as, vaddr_t va, struct page *pp, unsigned attr, unsigned flags)
{
	unsigned tries = 0, reclaims = 0;

	for (;;) {
		enum vm_err e = hat_memload(as->a_hat, va, pp, attr, flags);

		if (e == VM_RETRY && tries++ < LOAD_TRIES)
			mach_yield();
		else if (e != VM_NOMEM || reclaims++ >= 8 || !pageout_wait(as->a_vm, 8))
			return e;
	}
}

enum vm_err seg_nosup_fault(struct seg *s, vaddr_t a, uint64_t l, enum fault_type t, enum seg_rw rw)
{
	return VM_NOMAP;
}
enum vm_err seg_nosup_prot(struct seg *s, vaddr_t a, uint64_t l, unsigned p) { return VM_NOTSUP; }
uint64_t seg_noop_swapout(struct seg *s) { return 0; }
bool seg_is_private(struct seg *s) { return false; }
bool seg_is_shared(struct seg *s) { return true; }
struct vnode *seg_no_file(struct seg *s, vaddr_t a, voff_t *off) { return NULL; }
enum vm_err seg_noop_sync(struct seg *s, vaddr_t a, uint64_t l, unsigned f) { return VM_OK; }
void seg_noop_incore(struct seg *s, vaddr_t a, uint64_t l, uint8_t *vec)
{
	memset(vec, 0, l >> VM_PAGESHIFT);
}
enum vm_err seg_nosup_lockop(struct seg *s, vaddr_t a, uint64_t l, enum lock_op op)
{
	return VM_NOTSUP;
}
enum vm_err seg_noop_advise(struct seg *s, vaddr_t a, uint64_t l, enum advice v) { return VM_OK; }
enum vm_err seg_nosup_inherit(struct seg *s, enum inherit i) { return VM_NOTSUP; }
enum vm_err seg_nosup_adopt(struct seg *s, vaddr_t a, uint64_t n, const uint64_t *present)
{
	return VM_NOTSUP;
}
enum vm_err seg_nosup_move(struct seg *s, vaddr_t a, uint64_t l, struct seg *n, vaddr_t to)
{
	return VM_NOTSUP;
}
enum vm_err seg_nosup_snapshot(struct seg *s, struct seg *n, unsigned p, unsigned m)
{
	return VM_NOTSUP;
}
enum vm_err seg_nosup_alike(struct seg *s, struct seg *n, int64_t off) { return VM_NOTSUP; }
uint64_t seg_noop_reserved(const struct seg *s) { return 0; }
uint64_t seg_unfilled_populated(struct seg *s, vaddr_t a, uint64_t l) { return SEG_UNFILLED; }
enum vm_err seg_retry_peek(struct seg *s, vaddr_t a, void *buf, uint64_t n) { return VM_RETRY; }
enum vm_err seg_retry_poke(struct seg *s, vaddr_t a, const void *buf, uint64_t n)
{
	return VM_RETRY;
}
bool seg_any_translation_ok(struct seg *s, vaddr_t a, pfn_t pfn, unsigned attr) { return true; }
unsigned seg_noop_check(struct seg *s, void (*report)(void *, const char *), void *arg)
{
	return 0;
}
