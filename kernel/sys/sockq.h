/* SPDX-License-Identifier: BSD-2-Clause */
/* Queues of what sockets send each other: sockq.c has the theory. */
#ifndef QUIRE_KERNEL_SYS_SOCKQ_H
#define QUIRE_KERNEL_SYS_SOCKQ_H

#include "kernel/sys/file.h"

#define SOCKQ_BYTES 65536u /* that a queue takes, and the longest message */
#define NAME_BYTES 108u
#define FILES_PASSED 253u /* with one message: Linux's */

/* sockaddr_un or sockaddr_in, and how much of it counts; without a name: 2 bytes, and of sockaddr_in the port 0 */
struct sockname {
	uint16_t n_family;
	char n_path[NAME_BYTES];
	uint32_t n_len;
};

/* What comes with the first byte of a message. */
struct note {
	struct note *n_next; /* of the list of those that go: doom_lock */
	struct sockname n_from;
	int n_pid; /* of the sender */
	unsigned n_nfiles;
	struct file *n_files[]; /* references */
};

enum sockq_reset { RESET_NONE, RESET_NEW, RESET_TOLD };
struct chunk;
struct sockq {
	_Atomic unsigned q_refcnt;
	bool q_whole; /* const: messages, each taken as a whole; else a stream of bytes */
	struct mach_mutex q_lock;
	struct chunk *q_first, *q_last; /* q_lock */
	_Atomic uint64_t q_used;        /* q_lock to change: memory of the chunks */
	_Atomic bool q_no_reader,
	    q_no_writer; /* q_lock to change: what is sent is refused; nothing more will come */
	_Atomic enum sockq_reset
	    q_reset; /* q_lock to change: at the end the receiver is told of ECONNRESET, once */
	/* q_lock to change: how often bytes or the end came, and a full queue got room or lost its reader */
	_Atomic uint64_t q_came, q_freed;
	struct waitq q_wait; /* any of these changed */
};

/* Where bytes of a call are: in the program's pieces, or in kernel memory. */
struct span {
	const struct iovec *s_v; /* NULL: kernel memory */
	unsigned s_n;
	uint64_t s_at; /* in the first piece */
	char *s_buf;
	uint64_t s_left; /* bytes in all */
};
struct span span_of(const struct iovec *, unsigned n);

#define SOCKQ_NONBLOCK 1u
#define SOCKQ_PEEK 2u
#define SOCKQ_WAITALL 4u

struct sockq *sockq_new(bool whole); /* NULL: no memory */
void sockq_hold(struct sockq *);
void sockq_put(
    struct sockq *); /* NULL: nothing; the last reference drops what is in it. May sleep. */
/*
 * Senders are refused from now on. Receivers still get what is in the queue, then the end. drop: there are no receivers any more, so what is
 * in the queue is freed. Returns whether there was anything. May sleep.
 */
bool sockq_end_reading(struct sockq *, bool drop);
/* Nothing more will be sent; reset: for the reason that the receiver is told of. */
void sockq_end_writing(struct sockq *, bool reset);
/* Is there a reset of which the receiver was not told? It is, by the caller. */
bool sockq_take_reset(struct sockq *);

/* A note with room for so many files; NULL: no memory. */
struct note *note_new(unsigned files);
/* The note and its references go. NULL: nothing. May sleep. */
void note_free(struct note *);

/*
 * Sends. note: comes with the first byte, and is used up, whatever the result; NULL: none. deadline: as wait_until's. Bytes, or: -EPIPE
 * (no reader), -EMSGSIZE (a message that no queue takes), -EAGAIN (the caller does not wait, or the deadline has passed), -ERESTART,
 * -EFAULT, -ENOBUFS (no memory).
 */
int64_t sockq_send(struct sockq *, struct span *, struct note *, unsigned flags, uint64_t deadline);

/* What sockq_receive tells beside the bytes. */
struct receipt {
	struct note *r_note; /* the caller's, for note_free; NULL: none came */
	struct sockname r_from;
	int r_pid;         /* 0: of the other end */
	uint64_t r_length; /* of the message */
};
/* Receives. Bytes; 0 at the end (no writer); -ECONNRESET, -EAGAIN, -ERESTART, -EFAULT, -ENOMEM (the note of what stays in the queue). */
int64_t sockq_receive(
    struct sockq *, struct span *, struct receipt *, unsigned flags, uint64_t deadline);

bool sockq_may_receive(const struct sockq *); /* without waiting */
bool sockq_may_send(const struct sockq *);
int sockq_readable(struct sockq *); /* bytes: FIONREAD's answer */
void sockq_init(void);
/* May one more socket be on its way in a message? It is counted; note_free, or the receiver's note_arrived, ends that. */
bool note_count_socket(void);
void note_arrived(const struct file *);
static inline bool file_is_socket(const struct file *f) { return f->f_ops->fo_vector != NULL; }
#endif
