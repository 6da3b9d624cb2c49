/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copies from and to the memory of the running program, and the kernel memory through which calls copy.
 *
 * as_copyin and as_copyout fault the program's pages in, so that a copy may sleep. An address that
 * the program may not use gives -EFAULT. Locks: none of its own.
 */
#include "kernel/sys/file.h"

#define BOUNCE 65536u
#define BOUNCE_SMALL 4096u
#define MOVE_MOST 0x7ffff000ull /* bytes that one call moves: Linux's */

int copy_in(void *to, uint64_t from, uint64_t len)
{
	return as_copyin(this_proc()->p_as, from, to, len) == VM_OK ? 0 : -EFAULT;
}

int copy_out(uint64_t to, const void *from, uint64_t len)
{
	return as_copyout(this_proc()->p_as, from, to, len) == VM_OK ? 0 : -EFAULT;
}

int64_t copy_in_string(char *to, uint64_t from, uint64_t room)
{
	uint64_t n = 0;

	while (n < room) {
		uint64_t part = VM_PAGESIZE - ((from + n) & VM_PAGEMASK);

		if (part > room - n)
			part = room - n;
		if (copy_in(to + n, from + n, part) != 0)
			return -EFAULT;
		for (uint64_t i = 0; i < part; i++)
			if (to[n + i] == '\0')
				return (int64_t)(n + i);
		n += part;
	}
	return -ENAMETOOLONG;
}

int copy_in_span(uint64_t from, uint64_t *ns)
{
	uint64_t t[2];

	if (copy_in(t, from, sizeof(t)) != 0)
		return -EFAULT;
	if ((int64_t)t[0] < 0 || t[1] >= 1000000000)
		return -EINVAL;
	*ns = span_ns(t[0], t[1]);
	return 0;
}

void vector_free(struct iovec *v, uint64_t n) { kfree(v, n * sizeof(*v)); }

int copy_in_vector(uint64_t from, uint64_t n, struct iovec **v)
{
	uint64_t total = 0;
	int err;

	*v = NULL;
	if (n > IOV_MAX)
		return -EINVAL;
	if (n == 0)
		return 0;
	if ((*v = kalloc(n * sizeof(**v))) == NULL)
		return -ENOMEM;
	err = copy_in(*v, from, n * sizeof(**v));
	for (uint64_t i = 0; err == 0 && i < n; i++) {
		struct iovec *p = *v + i;

		if ((int64_t)p->len < 0)
			err = -EINVAL;
		p->len = p->len < MOVE_MOST - total ? p->len : MOVE_MOST - total;
		total += p->len;
	}
	if (err == 0)
		return 0;
	vector_free(*v, n);
	*v = NULL;
	return err;
}

char *bounce_alloc(uint64_t most, uint64_t *room)
{
	char *buf;

	*room = most > BOUNCE_SMALL ? BOUNCE : BOUNCE_SMALL;
	if ((buf = kalloc(*room)) == NULL)
		buf = kalloc(*room = BOUNCE_SMALL);
	return buf;
}
