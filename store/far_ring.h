/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ring through which processes of a family reach far swap: slots in shared memory, each with a buffer of one unit. The
 * far process (far/server.c) holds the connections; hosted processes never do.
 *
 *   FREE --client: claims--> FILLING --asks--> ASKED --server: takes--> TAKEN --answers--> DONE --client: collects--> FREE
 *
 * A slot belongs to its client in FILLING and DONE, to the server in TAKEN. State and owner share
 * one word, and each step is one atomic operation on this word. The owner names the client, so that
 * a dead client's slots can be given back (far_ring_release): an owner of 0 means that no client
 * will collect the answer, and the server frees the slot instead of saying DONE.
 *
 * Requests for one unit are done one after another, in the order of fs_seq. So the unfinished write
 * of a dead client is done before the writes of the client that has the unit now.
 *
 * The server does not trust the shared memory: it copies a request once and checks the bounds of
 * the copy.
 *
 * The client's functions use raw system calls only, allocate nothing, and may be called in the service thread. Locks: none.
 */
#ifndef QUIRE_STORE_FAR_RING_H
#define QUIRE_STORE_FAR_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAR_RING_MAGIC 0x30676e6972726166ull
#define FAR_RING_DEPTH 64u
#define FAR_RING_UNIT 65536u

enum far_slot_state { FAR_FREE, FAR_FILLING, FAR_ASKED, FAR_TAKEN, FAR_DONE };
enum far_slot_op { FAR_SLOT_READ, FAR_SLOT_WRITE, FAR_SLOT_TRIM };
enum far_server_state { FAR_STARTING, FAR_UP, FAR_AWAY, FAR_LOST, FAR_ENDED };

/*
 * How the server sleeps, and which bit of the futex wakes it. While its engine owes answers, the
 * server sleeps in poll(), and a second thread waits on the futex for it. While no request is under
 * way, the server sleeps on the futex itself, so that each of a series of faults wakes one thread
 * and not two.
 */
enum far_sleep { FAR_AWAKE, FAR_POLLS = 1, FAR_NAPS = 2 };

struct far_slot {
	uint64_t
	    fs_word; /* atomic: far_word(); its low half is a futex: the client waits for DONE */
	uint32_t fs_op, fs_len;
	uint64_t fs_at;    /* byte offset in the device */
	int32_t fs_result; /* of DONE: 0, -EIO, -ENOSPC */
	uint32_t
	    fs_seq; /* order of requests: of two for one unit the server does the one with the smaller number first */
};

struct far_ring {
	uint64_t fr_magic;
	uint64_t fr_size;   /* bytes of the device; const once fr_server is UP */
	uint32_t fr_server; /* atomic: far_server_state */
	uint32_t fr_asleep; /* atomic: far_sleep; if it is not 0, ring the bell */
	uint32_t
	    fr_bell; /* atomic; futex with bits: rises when there is work for a server that sleeps */
	uint32_t fr_seq; /* atomic: fs_seq of the last request */
	/*
	 * The server's thread number; a robust futex: when the server ends, in whatever way, the
	 * kernel sets FUTEX_OWNER_DIED. 0: no server has come yet.
	 */
	uint32_t fr_alive, fr_pad;
	uint64_t fr_reads, fr_writes, fr_trims, fr_errors; /* atomic: requests answered so far */
	struct far_slot fr_slot[FAR_RING_DEPTH];
};

static inline uint64_t far_word(enum far_slot_state state, uint32_t owner)
{
	return (uint64_t)owner << 32 | state;
}
static inline enum far_slot_state far_word_state(uint64_t word)
{
	return (enum far_slot_state)(uint32_t)word;
}
static inline uint32_t far_word_owner(uint64_t word) { return (uint32_t)(word >> 32); }
static inline uint64_t far_slot_word(const struct far_slot *s)
{
	return __atomic_load_n(&s->fs_word, __ATOMIC_SEQ_CST);
}
static inline enum far_slot_state far_slot_state(const struct far_slot *s)
{
	return far_word_state(far_slot_word(s));
}
static inline bool far_slot_move(struct far_slot *s, uint64_t from, uint64_t to)
{
	return __atomic_compare_exchange_n(
	    &s->fs_word, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
/* For the server: marks the request as answered. The server then wakes the slot's futex. */
static inline void far_slot_done(struct far_slot *s)
{
	uint64_t word;

	do {
		word = far_slot_word(s);
	} while (!far_slot_move(s, word,
	    far_word(far_word_owner(word) == 0 ? FAR_FREE : FAR_DONE, far_word_owner(word))));
}

/*
 * Bytes of shared memory that a ring takes; whole pages. A buffer takes memory only after its first
 * use.
 */
size_t far_ring_bytes(void);
void far_ring_format(void *mem);
static inline void *far_ring_buffer(struct far_ring *r, uint32_t slot)
{
	return (char *)r + (sizeof *r + 4095) / 4096 * 4096 + (size_t)slot * FAR_RING_UNIT;
}

/*
 * Submits a request. owner 0: no client collects the answer, and *ticket is not to be used. data:
 * the len bytes of a write, else NULL. 0: *ticket is for far_ring_end; -EAGAIN: all slots are
 * taken, try later; -EIO: the server has ended.
 */
int far_ring_begin(struct far_ring *, uint32_t owner, enum far_slot_op, uint64_t at, uint32_t len,
    const void *data, uint32_t *ticket);
/* Has the server ended, or given its engine up? */
bool far_ring_lost(const struct far_ring *);
/* Is there an answer to the request, or has the server ended? */
bool far_ring_ready(const struct far_ring *, uint32_t ticket);
/* Sleeps while the slot has that state, at most 200 ms: then the caller looks again. */
void far_ring_sleep(const struct far_ring *, uint32_t ticket, enum far_slot_state);
/*
 * Collects the answer to a request that is ready; copies the len bytes of a read to data. 0,
 * -ENOSPC, -EIO: the server could not do the request, or has ended. Never sleeps.
 */
int far_ring_end(struct far_ring *, uint32_t ticket, void *data, uint32_t len);
/* Frees the slots of a dead client, those under way when the server has answered them. */
void far_ring_release(struct far_ring *, uint32_t owner);
#endif
