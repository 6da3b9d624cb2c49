/* SPDX-License-Identifier: BSD-2-Clause */
/* A message of a queue: of System V's (msg.c) and of POSIX's (mqueue.c). */
#ifndef QUIRE_KERNEL_MESSAGE_H
#define QUIRE_KERNEL_MESSAGE_H

#include "kernel/proc/proc.h"

struct message {
	struct message *m_next; /* the queue's lock */
	int64_t m_type;         /* System V: the type; POSIX: the priority */
	uint64_t m_len;
	char m_text[];
};

static inline void message_free(struct message *m) { kfree(m, sizeof(*m) + m->m_len); }

/* Makes a message of the program's text. 0, -ENOMEM, -EFAULT. May sleep. */
static inline int message_new(uint64_t text, uint64_t len, int64_t type, struct message **mp)
{
	struct message *m = kalloc(sizeof(*m) + len);

	if (m == NULL)
		return -ENOMEM;
	*m = (struct message){ NULL, type, len };
	if (copy_in(m->m_text, text, len) != 0) {
		message_free(m);
		return -EFAULT;
	}
	*mp = m;
	return 0;
}
#endif
