/* SPDX-License-Identifier: BSD-2-Clause */
/* The client's side of the ring to far swap: see far_ring.h. */
#include "store/far_ring.h"

#include "sys/linux/sys.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/time_types.h>
#include <sys/syscall.h>

#define CHECK_NS 200000000 /* how often a waiting client looks whether the server is still there */

size_t far_ring_bytes(void)
{
	return (sizeof(struct far_ring) + 4095) / 4096 * 4096 +
	    (size_t)FAR_RING_DEPTH * FAR_RING_UNIT;
}

void far_ring_format(void *mem)
{
	((struct far_ring *)mem)->fr_magic =
	    FAR_RING_MAGIC; /* the rest is zero: all slots are free */
}

static bool server_ended(const struct far_ring *r)
{
	return __atomic_load_n(&r->fr_server, __ATOMIC_ACQUIRE) == FAR_ENDED ||
	    (__atomic_load_n(&r->fr_alive, __ATOMIC_ACQUIRE) & FUTEX_OWNER_DIED) != 0;
}

void far_ring_sleep(const struct far_ring *r, uint32_t ticket, enum far_slot_state was)
{
	struct __kernel_timespec ts = { .tv_nsec = CHECK_NS };

	(void)sys_call6(
	    SYS_futex, (long)&r->fr_slot[ticket].fs_word, FUTEX_WAIT, was, (long)&ts, 0, 0);
}

static void copy_words(void *to, const void *from, uint32_t len)
{
	/* len is a multiple of a sector. */
	uint64_t *t = to;
	const uint64_t *f = from;

	for (uint32_t i = 0; i < len / sizeof *t; i++)
		t[i] = f[i];
}

/* Takes the lowest free slot, so that few buffers are ever touched. */
static struct far_slot *claim_slot(struct far_ring *r, uint32_t owner, uint32_t *ticket)
{
	for (uint32_t i = 0; i < FAR_RING_DEPTH; i++)
		if (far_slot_word(&r->fr_slot[i]) == far_word(FAR_FREE, 0) &&
		    far_slot_move(
			&r->fr_slot[i], far_word(FAR_FREE, 0), far_word(FAR_FILLING, owner))) {
			*ticket = i;
			return &r->fr_slot[i];
		}
	return NULL;
}

int far_ring_begin(struct far_ring *r, uint32_t owner, enum far_slot_op op, uint64_t at,
    uint32_t len, const void *data, uint32_t *ticket)
{
	struct far_slot *s;
	uint32_t asleep;

	if (server_ended(r))
		return -EIO;
	if ((s = claim_slot(r, owner, ticket)) == NULL)
		return -EAGAIN;
	s->fs_op = op;
	s->fs_at = at;
	s->fs_len = len;
	__atomic_store_n(
	    &s->fs_seq, __atomic_add_fetch(&r->fr_seq, 1, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	if (op == FAR_SLOT_WRITE)
		copy_words(far_ring_buffer(r, *ticket), data, len);
	__atomic_store_n(&s->fs_word, far_word(FAR_ASKED, owner), __ATOMIC_SEQ_CST);
	if ((asleep = __atomic_load_n(&r->fr_asleep, __ATOMIC_SEQ_CST)) != FAR_AWAKE) {
		(void)__atomic_fetch_add(&r->fr_bell, 1, __ATOMIC_SEQ_CST);
		(void)sys_call6(
		    SYS_futex, (long)&r->fr_bell, FUTEX_WAKE_BITSET, 1, 0, 0, (long)asleep);
	}
	return 0;
}

bool far_ring_lost(const struct far_ring *r)
{
	return server_ended(r) || __atomic_load_n(&r->fr_server, __ATOMIC_ACQUIRE) == FAR_LOST;
}

bool far_ring_ready(const struct far_ring *r, uint32_t ticket)
{
	return far_slot_state(&r->fr_slot[ticket]) == FAR_DONE || server_ended(r);
}

int far_ring_end(struct far_ring *r, uint32_t ticket, void *data, uint32_t len)
{
	struct far_slot *s = &r->fr_slot[ticket];
	int rc;

	if (far_slot_state(s) != FAR_DONE)
		return -EIO; /* the slot is lost with the ring */
	rc = s->fs_result;
	if (rc == 0 && s->fs_op == FAR_SLOT_READ)
		copy_words(data, far_ring_buffer(r, ticket), len);
	__atomic_store_n(&s->fs_word, far_word(FAR_FREE, 0), __ATOMIC_SEQ_CST);
	return rc;
}

void far_ring_release(struct far_ring *r, uint32_t owner)
{
	for (uint32_t i = 0; i < FAR_RING_DEPTH; i++) {
		struct far_slot *s = &r->fr_slot[i];
		uint64_t word;

		while (far_word_owner(word = far_slot_word(s)) == owner) {
			enum far_slot_state state = far_word_state(word);

			if (far_slot_move(s, word,
				far_word(
				    state == FAR_FILLING || state == FAR_DONE ? FAR_FREE : state,
				    0)))
				break;
		}
	}
}
