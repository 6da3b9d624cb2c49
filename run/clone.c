/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The arguments of a clone that copies the memory. The clone is made while the world stands still
 * (h_lock W: no fault is served), so all memory of the program that the kernel reads or writes
 * during the call must be resident. So the arguments of clone3 are copied to the stack, which is
 * locked (fork.c), and the words to which the kernel writes process numbers are listed, to be
 * locked as well. The kernel writes the word of CLONE_CHILD_SETTID in the child, where no memory is
 * registered yet: a paged-out page would be replaced by a new page there.
 *
 * A child that would share the descriptor table (CLONE_FILES) gets a copy: its runtime has
 * descriptors of its own in place of its parent's, and closing these in a shared table would close
 * the parent's.
 *
 * Locks: none is held here.
 */
#include "run/clone.h"

#include <errno.h>
#include <sys/syscall.h>

#include "run/args.h"
#include "sys/linux/sys.h"

#define SET_TIDS 32u  /* levels of namespaces; the kernel refuses more */
#define LARGEST 4096u /* bytes of clone3's arguments; the kernel refuses more */

_Static_assert(SET_TIDS * sizeof(int) <= FORK_WORD_BYTES, "the words that are locked have room");

static void add_word(struct fork_words *w, uint64_t at, uint64_t len)
{
	if (at != 0)
		w->range[w->n++] = (struct fork_range){ at, len };
}

/* The bytes past the arguments known here must be zeroes; else the call is refused. */
static long check_rest(const char *at, uint64_t n)
{
	while (n > 0) {
		char piece[64];
		uint64_t k = n < sizeof piece ? n : sizeof piece;

		if (!args_read(piece, at, k))
			return -EFAULT;
		for (uint64_t i = 0; i < k; i++)
			if (piece[i] != 0)
				return -E2BIG;
		at += k;
		n -= k;
	}
	return 0;
}

static long take_clone3(struct clone_call *c)
{
	uint64_t size = (uint64_t)c->c_a[4], most = sizeof c->c_room, k = size < most ? size : most;

	if (size > LARGEST)
		return -E2BIG;
	if (!args_read(c->c_room, (const void *)c->c_a[5], k))
		return -EFAULT;
	c->c_size = (long)k;
	if (c->c_args.set_tid_size <= SET_TIDS)
		add_word(&c->c_words, c->c_args.set_tid, c->c_args.set_tid_size * sizeof(int));
	return size > k ? check_rest((const char *)c->c_a[5] + k, size - k) : 0;
}

static void take_clone(struct clone_call *c)
{
	c->c_args.flags = (uint64_t)c->c_a[5];
	c->c_args.parent_tid = c->c_args.pidfd = (uint64_t)c->c_a[3];
	c->c_args.child_tid = (uint64_t)c->c_a[2];
}

long clone_take(struct clone_call *c, long nr, const long *a)
{
	long r = 0;

	c->c_nr = nr;
	c->c_a = a;
	c->c_words.n = 0;
	__builtin_memset(c->c_room, 0, sizeof c->c_room);
	if (nr == SYS_clone3)
		r = take_clone3(c);
	else if (nr == SYS_clone)
		take_clone(c);
	c->c_args.flags &= ~(uint64_t)CLONE_FILES;
	if ((c->c_args.flags & CLONE_PIDFD) != 0)
		add_word(&c->c_words, c->c_args.pidfd, sizeof(int));
	if ((c->c_args.flags & CLONE_PARENT_SETTID) != 0)
		add_word(&c->c_words, c->c_args.parent_tid, sizeof(int));
	if ((c->c_args.flags & CLONE_CHILD_SETTID) != 0)
		add_word(&c->c_words, c->c_args.child_tid, sizeof(int));
	return r;
}

long clone_make(const struct clone_call *c)
{
	const long *a = c->c_a;

	if (c->c_nr == SYS_clone3)
		return sys_call2(SYS_clone3, (long)&c->c_args, c->c_size);
	/*
	 * a child with its own stack begins on a copy of this stack; the stub switches to the
	 * child's stack (make_stub)
	 */
	if (c->c_nr == SYS_clone)
		return sys_call5(SYS_clone, (long)c->c_args.flags, 0, a[3], a[2], a[1]);
	return sys_call6(c->c_nr, a[5], a[4], a[3], a[2], a[1], a[0]);
}
