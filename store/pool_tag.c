/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tags of forked children (pool_member.c tells what a tag is).
 *
 * A parent chooses the tag of its child without asking the supervisor. Two processes that live at a
 * time must not have the same tag: the store would take the pages of the first for those of a dead
 * process when the second begins. So the record of the tags that are taken lies in the store, which
 * only processes that share the store can write. It must not lie in the family's state, which
 * processes of lesser rights write, too.
 *
 * A parent takes a tag before the fork. The supervisor frees the tag after the child has ended and
 * pool_release() is done, by a write to the memory object, of which the supervisor has no mapping.
 *
 * Left out: if a parent is killed after it took a tag and before it told the supervisor of the
 * child, the tag stays taken.
 *
 * Lock: none; the entries are atomic.
 */
#include "store/pool_impl.h"

uint32_t pool_tag_take(struct pool *p)
{
	for (uint32_t i = 0; i < POOL_CHILD_TAGS; i++) {
		uint8_t *at = &p->p_shared->ps_childtags[i], none = 0;

		if (__atomic_load_n(at, __ATOMIC_RELAXED) == 0 &&
		    __atomic_compare_exchange_n(
			at, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return POOL_CHILD_TAG + i;
	}
	return NONE;
}

void pool_tag_give(struct pool *p, uint32_t tag)
{
	if (pool_tag_is_child(tag))
		__atomic_store_n(
		    &p->p_shared->ps_childtags[tag - POOL_CHILD_TAG], 0, __ATOMIC_RELEASE);
}

void pool_tag_free(int fd, uint32_t tag)
{
	uint8_t none = 0;

	if (pool_tag_is_child(tag))
		(void)sys_call4(SYS_pwrite64, fd, (long)&none, sizeof none,
		    (long)(__builtin_offsetof(struct pool_shared, ps_childtags) + tag -
			POOL_CHILD_TAG));
}
