/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Queues of sockets: one for each direction of a connection; of a datagram socket one for all that it receives.
 *
 * A queue is a list of chunks, each of at most a page, so that a queue needs no large piece of memory. A message is a run of chunks that
 * are put into the queue at once; the last is marked (c_ends). In a stream the marks mean nothing, and bytes are added to
 * the last chunk while it has room. A note (the sender, and open files that are passed) hangs on the first chunk of its message; in a
 * stream a call takes no bytes behind those of a note.
 *
 * A queue takes bytes until its chunks have SOCKQ_BYTES; the last writer may exceed that by a message.
 *
 * Sockets that are passed can hold each other by messages that nobody can receive. They are never freed; at most SOCKETS_PASSED
 * sockets are on their way at a time, so that what is lost is bounded. A message that has sockets is freed by one thread at a time, from a
 * list (doomed): else sockets within sockets would free each other as deep as they are nested, on one kernel stack.
 *
 * Locks: q_lock, innermost but for the memory of programs, which is copied under it: it sleeps. doom_lock, under none.
 */
#include "kernel/sys/sockq.h"

#define SOCKETS_PASSED 256u
#define CHUNK_ROOM (VM_PAGESIZE - sizeof(struct chunk))
#define CHUNK_STEP 512u /* a chunk's memory is a multiple of it */

struct chunk {
	struct chunk *c_next;  /* q_lock */
	struct note *c_note;   /* q_lock: NULL: none */
	uint32_t c_room;       /* const: bytes that it may have */
	uint32_t c_from, c_to; /* q_lock: the bytes that it has */
	bool c_ends;           /* const: the message's last */
	char c_bytes[];
};

static struct mach_mutex doom_lock;
static struct note *doomed;   /* doom_lock: notes that go */
static bool dooming;          /* doom_lock: a thread frees the list */
static unsigned sockets_away; /* atomic: on their way */

void sockq_init(void) { mach_mutex_init(&doom_lock, 6, "messages that go"); }

/* ---- notes ---- */
static size_t note_bytes(unsigned files)
{
	return sizeof(struct note) + files * sizeof(struct file *);
}

struct note *note_new(unsigned files)
{
	struct note *n = kzalloc(note_bytes(files));

	if (n != NULL)
		n->n_nfiles = files;
	return n;
}

bool note_count_socket(void)
{
	if (__atomic_add_fetch(&sockets_away, 1, __ATOMIC_RELAXED) <= SOCKETS_PASSED)
		return true;
	__atomic_sub_fetch(&sockets_away, 1, __ATOMIC_RELAXED);
	return false;
}

void note_arrived(const struct file *f)
{
	if (file_is_socket(f))
		__atomic_sub_fetch(&sockets_away, 1, __ATOMIC_RELAXED);
}

static void put_note(struct note *n)
{
	for (unsigned i = 0; i < n->n_nfiles; i++) {
		if (n->n_files[i] == NULL)
			continue;
		note_arrived(n->n_files[i]);
		file_put(n->n_files[i]);
	}
	kfree(n, note_bytes(n->n_nfiles));
}

/* Another thread that is at it, or this thread further up its stack, frees what is put on the list meanwhile. */
static void free_later(struct note *n)
{
	mach_mutex_enter(&doom_lock);
	n->n_next = doomed;
	doomed = n;
	while (!dooming && (n = doomed) != NULL) {
		doomed = n->n_next;
		dooming = true;
		mach_mutex_exit(&doom_lock);
		put_note(n);
		mach_mutex_enter(&doom_lock);
		dooming = false;
	}
	mach_mutex_exit(&doom_lock);
}

void note_free(struct note *n)
{
	bool nests = false;

	if (n == NULL)
		return;
	for (unsigned i = 0; i < n->n_nfiles; i++)
		nests |= n->n_files[i] != NULL && file_is_socket(n->n_files[i]);
	if (nests)
		free_later(n);
	else
		put_note(n);
}

/* A copy that has references of its own: for a look at a message that stays. NULL: no memory, or too many sockets on their way. */
static struct note *copy_note(const struct note *n)
{
	struct note *to = note_new(n->n_nfiles);

	if (to == NULL)
		return NULL;
	to->n_from = n->n_from;
	to->n_pid = n->n_pid;
	for (unsigned i = 0; i < n->n_nfiles; i++) {
		if (file_is_socket(n->n_files[i]) && !note_count_socket()) {
			note_free(to);
			return NULL;
		}
		file_hold(n->n_files[i]);
		to->n_files[i] = n->n_files[i];
	}
	return to;
}

/* ---- where bytes are ---- */
struct span span_of(const struct iovec *v, unsigned n)
{
	struct span s = { .s_v = v, .s_n = n };

	for (unsigned i = 0; i < n; i++)
		s.s_left += v[i].len;
	return s;
}

/* The next n bytes of the span are copied from or to p; there are so many. 0 or -EFAULT. */
static int move_bytes(struct span *s, char *p, uint64_t n, bool out)
{
	while (n > 0) {
		uint64_t k = s->s_v == NULL ? s->s_left : s->s_v->len - s->s_at;
		int err = 0;

		k = k < n ? k : n;
		if (s->s_v == NULL)
			memcpy(out ? s->s_buf + s->s_at : p, out ? p : s->s_buf + s->s_at, k);
		else if (k > 0)
			err = out ? copy_out(s->s_v->base + s->s_at, p, k)
				  : copy_in(p, s->s_v->base + s->s_at, k);
		if (err != 0)
			return err;
		s->s_at += k;
		s->s_left -= k;
		p += k;
		n -= k;
		if (s->s_v != NULL && s->s_at == s->s_v->len) {
			s->s_v++;
			s->s_at = 0;
		}
	}
	return 0;
}

/* ---- chunks ---- */
static size_t chunk_bytes(uint64_t room) { return sizeof(struct chunk) + room; }

static struct chunk *chunk_new(uint64_t bytes)
{
	uint64_t room =
	    (chunk_bytes(bytes) + CHUNK_STEP - 1) / CHUNK_STEP * CHUNK_STEP - sizeof(struct chunk);
	struct chunk *c = kalloc(chunk_bytes(room));

	if (c != NULL)
		*c = (struct chunk){ .c_room = (uint32_t)room };
	return c;
}

static void chunk_free(struct chunk *c)
{
	note_free(c->c_note);
	kfree(c, chunk_bytes(c->c_room));
}

static void free_chunks(struct chunk *c)
{
	while (c != NULL) {
		struct chunk *next = c->c_next;

		chunk_free(c);
		c = next;
	}
}

/* Chunks with the next n bytes of the span, as a message. -EFAULT, -ENOBUFS. */
static int make_chunks(struct span *s, uint64_t n, struct chunk **first)
{
	struct chunk **p = first;
	int err;

	*first = NULL;
	do {
		uint64_t k = n < CHUNK_ROOM ? n : CHUNK_ROOM;
		struct chunk *c = chunk_new(k);

		err = c == NULL ? -ENOBUFS : move_bytes(s, c->c_bytes, k, false);
		if (err != 0) {
			kfree(c, c != NULL ? chunk_bytes(c->c_room) : 0);
			free_chunks(*first);
			return err;
		}
		c->c_to = (uint32_t)k;
		c->c_ends = n == k;
		*p = c;
		p = &c->c_next;
		n -= k;
	} while (n > 0);
	return 0;
}

/* ---- queues ---- */
struct sockq *sockq_new(bool whole)
{
	struct sockq *q = kzalloc(sizeof(*q));

	if (q == NULL)
		return NULL;
	q->q_refcnt = 1;
	q->q_whole = whole;
	mach_mutex_init(&q->q_lock, 6, "queue of a socket");
	return q;
}

void sockq_hold(struct sockq *q) { q->q_refcnt++; }

/* What is in the queue, which is empty then. q_lock held. */
static struct chunk *take_all(struct sockq *q)
{
	struct chunk *c = q->q_first;

	KASSERT(mach_mutex_held(&q->q_lock));
	q->q_first = q->q_last = NULL;
	q->q_used = 0;
	return c;
}

void sockq_put(struct sockq *q)
{
	if (q == NULL ||
	    __atomic_sub_fetch((unsigned *)(void *)&q->q_refcnt, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	free_chunks(q->q_first);
	mach_mutex_fini(&q->q_lock);
	kfree(q, sizeof(*q));
}

static void wake_queue(struct sockq *q)
{
	bool irq = spin_lock(&sched_lock);

	wake_all(&q->q_wait);
	wake_all(&poll_queue);
	spin_unlock(&sched_lock, irq);
}

bool sockq_end_reading(struct sockq *q, bool drop)
{
	struct chunk *c;
	bool unread;

	mach_mutex_enter(&q->q_lock);
	q->q_no_reader = true;
	q->q_freed++;
	q->q_came++;
	unread = q->q_first != NULL;
	c = drop ? take_all(q) : NULL;
	mach_mutex_exit(&q->q_lock);
	free_chunks(c);
	wake_queue(q);
	return unread;
}

void sockq_end_writing(struct sockq *q, bool reset)
{
	mach_mutex_enter(&q->q_lock);
	if (reset && q->q_reset == RESET_NONE)
		q->q_reset = RESET_NEW;
	q->q_no_writer = true;
	q->q_came++;
	mach_mutex_exit(&q->q_lock);
	wake_queue(q);
}

/* q_lock held. */
static bool take_reset(struct sockq *q)
{
	bool new = q->q_reset == RESET_NEW;

	KASSERT(mach_mutex_held(&q->q_lock));
	if (new)
		q->q_reset = RESET_TOLD;
	return new;
}

bool sockq_take_reset(struct sockq *q)
{
	bool new;

	mach_mutex_enter(&q->q_lock);
	new = take_reset(q);
	mach_mutex_exit(&q->q_lock);
	return new;
}

bool sockq_may_receive(const struct sockq *q)
{
	return q->q_used > 0 || q->q_no_writer || q->q_no_reader;
}
bool sockq_may_send(const struct sockq *q) { return q->q_used < SOCKQ_BYTES || q->q_no_reader; }

static bool may_receive(void *q) { return sockq_may_receive(q); }
static bool may_send(void *q) { return sockq_may_send(q); }

static int wait_queue(struct sockq *q, bool (*cond)(void *), unsigned flags, uint64_t deadline)
{
	int err;

	if (flags & SOCKQ_NONBLOCK)
		return cond(q) ? 0 : -EAGAIN;
	err = wait_until(&q->q_wait, cond, q, deadline, true);
	if (err == -ETIMEDOUT)
		return -EAGAIN;
	return err == -EINTR ? -ERESTART : err;
}

int sockq_readable(struct sockq *q)
{
	uint64_t n = 0;

	mach_mutex_enter(&q->q_lock);
	for (const struct chunk *c = q->q_first; c != NULL; c = c->c_next) {
		n += c->c_to - c->c_from;
		if (q->q_whole && c->c_ends)
			break;
	}
	mach_mutex_exit(&q->q_lock);
	return (int)n;
}

/* ---- sending ---- */
/* A stream's bytes go to the last chunk, if it has room: then the chunk is not needed. q_lock held. */
static bool merge_chunk(struct sockq *q, const struct chunk *c)
{
	struct chunk *last = q->q_last;
	uint32_t n = c->c_to - c->c_from;

	if (q->q_whole || c->c_next != NULL || c->c_note != NULL || last == NULL ||
	    last->c_note != NULL || last->c_room - last->c_to < n)
		return false;
	memcpy(last->c_bytes + last->c_to, c->c_bytes + c->c_from, n);
	last->c_to += n;
	return true;
}

/* The chunks are the queue's, if it takes them now: 0, -EPIPE, -EAGAIN. */
static int put_chunks(struct sockq *q, struct chunk *c)
{
	int err = 0;

	mach_mutex_enter(&q->q_lock);
	if (q->q_no_reader)
		err = -EPIPE;
	else if (q->q_used >= SOCKQ_BYTES)
		err = -EAGAIN;
	else if (merge_chunk(q, c))
		kfree(c, chunk_bytes(c->c_room));
	else {
		*(q->q_last != NULL ? &q->q_last->c_next : &q->q_first) = c;
		for (; c != NULL; c = c->c_next) {
			q->q_used += chunk_bytes(c->c_room);
			q->q_last = c;
		}
	}
	q->q_came += err == 0;
	mach_mutex_exit(&q->q_lock);
	return err;
}

/* One message, or a piece of a stream. The note is used up. */
static int send_some(struct sockq *q, struct span *s, uint64_t n, struct note *note, unsigned flags,
    uint64_t deadline)
{
	struct chunk *c;
	int err = q->q_no_reader ? -EPIPE : make_chunks(s, n, &c);

	if (err != 0) {
		note_free(note);
		return err;
	}
	c->c_note = note;
	while ((err = put_chunks(q, c)) == -EAGAIN)
		if ((err = wait_queue(q, may_send, flags, deadline)) != 0)
			break;
	if (err != 0)
		free_chunks(c);
	else
		wake_queue(q);
	return err;
}

int64_t sockq_send(
    struct sockq *q, struct span *s, struct note *note, unsigned flags, uint64_t deadline)
{
	uint64_t len = s->s_left, done = 0;
	int err = 0;

	if (q->q_whole && len > SOCKQ_BYTES) {
		note_free(note);
		return -EMSGSIZE;
	}
	if (q->q_whole || len == 0) {
		if (q->q_whole)
			err = send_some(q, s, len, note, flags, deadline);
		else
			note_free(note);
		return err != 0 ? err : (int64_t)len;
	}
	while (done < len && err == 0) {
		uint64_t n = len - done < CHUNK_ROOM ? len - done : CHUNK_ROOM;

		err = send_some(q, s, n, note, flags, deadline);
		note = NULL;
		done += err == 0 ? n : 0;
	}
	return done > 0 ? (int64_t)done : err;
}

/* ---- receiving ---- */
/* The first chunk has been used up. q_lock held. */
static void drop_first(struct sockq *q, struct chunk **gone)
{
	struct chunk *c = q->q_first;

	KASSERT(mach_mutex_held(&q->q_lock));
	q->q_first = c->c_next;
	if (q->q_first == NULL)
		q->q_last = NULL;
	q->q_freed += q->q_used >= SOCKQ_BYTES && q->q_used - chunk_bytes(c->c_room) < SOCKQ_BYTES;
	q->q_used -= chunk_bytes(c->c_room);
	c->c_next = *gone;
	*gone = c;
}

/* The chunk's note becomes the receipt's; of a message that stays, a copy. */
static int take_note(struct chunk *c, struct receipt *r, bool peek)
{
	if (c->c_note == NULL)
		return 0;
	if ((r->r_note = peek ? copy_note(c->c_note) : c->c_note) == NULL)
		return -ENOMEM;
	r->r_from = c->c_note->n_from;
	r->r_pid = c->c_note->n_pid;
	if (!peek)
		c->c_note = NULL;
	return 0;
}

/* The first message, as much of it as the span takes; the rest is lost. q_lock held. */
static int64_t take_message(
    struct sockq *q, struct span *s, struct receipt *r, bool peek, struct chunk **gone)
{
	struct chunk *c = q->q_first;
	int64_t err = take_note(c, r, peek), done = 0;
	bool ends = err != 0;

	while (!ends) {
		struct chunk *next = c->c_next;
		uint64_t n = c->c_to - c->c_from, k = n < s->s_left ? n : s->s_left;

		if (err == 0 && (err = move_bytes(s, c->c_bytes + c->c_from, k, true)) == 0)
			done += (int64_t)k;
		r->r_length += n;
		ends = c->c_ends;
		if (!peek)
			drop_first(q, gone);
		c = next;
	}
	return err != 0 ? err : done;
}

/* Bytes of a stream: up to the next note's, and those. *stop: no more is to be taken by this call. q_lock held. */
static int64_t take_bytes(
    struct sockq *q, struct span *s, struct receipt *r, bool peek, bool *stop, struct chunk **gone)
{
	struct chunk *c = q->q_first;
	int64_t done = 0, err = 0;

	while (c != NULL && s->s_left > 0 && err == 0) {
		struct chunk *next = c->c_next;
		uint64_t n = c->c_to - c->c_from, k = n < s->s_left ? n : s->s_left;
		bool noted = c->c_note != NULL;

		if ((err = take_note(c, r, peek)) != 0 ||
		    (err = move_bytes(s, c->c_bytes + c->c_from, k, true)) != 0)
			break;
		done += (int64_t)k;
		if (!peek && (c->c_from += (uint32_t)k) == c->c_to)
			drop_first(q, gone);
		c = next;
		if (noted) {
			*stop = true;
			break;
		}
	}
	r->r_length += (uint64_t)done;
	return done > 0 ? done : err;
}

int64_t sockq_receive(
    struct sockq *q, struct span *s, struct receipt *r, unsigned flags, uint64_t deadline)
{
	bool peek = (flags & SOCKQ_PEEK) != 0, stop = false;
	struct chunk *gone = NULL;
	int64_t done = 0, n = 0;

	*r = (struct receipt){ .r_from = { .n_len = 2 } };
	if (!q->q_whole && s->s_left == 0)
		return 0;
	for (;;) {
		bool end;

		mach_mutex_enter(&q->q_lock);
		end = q->q_first == NULL && (q->q_no_writer || q->q_no_reader);
		if (q->q_first != NULL && q->q_whole)
			n = take_message(q, s, r, peek, &gone);
		else if (q->q_first != NULL)
			n = take_bytes(q, s, r, peek, &stop, &gone);
		else
			n = -EAGAIN;
		if (end)
			n = take_reset(q) ? -ECONNRESET : 0;
		mach_mutex_exit(&q->q_lock);
		free_chunks(gone);
		if (gone != NULL)
			wake_queue(q);
		gone = NULL;
		done += n > 0 ? n : 0;
		if (n != -EAGAIN && (end || q->q_whole || stop || n < 0 || s->s_left == 0))
			break;
		if (done > 0 && (peek || !(flags & SOCKQ_WAITALL)))
			break;
		if ((n = wait_queue(q, may_receive, flags, deadline)) != 0)
			break;
	}
	return done > 0 ? done : n;
}
