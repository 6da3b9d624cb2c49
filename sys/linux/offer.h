/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Features of newer kernels, or calls that a container's filter may forbid, that the code can do
 * without. Each can be disabled on purpose, so that tests use the alternative on any kernel (quire
 * run --without, QUIRE_WITHOUT for libquire).
 */
#ifndef QUIRE_LINUX_OFFER_H
#define QUIRE_LINUX_OFFER_H

#include <stdbool.h>
#include <stdint.h>

enum sys_offer {
	SYS_MOVE = 1u,   /* UFFDIO_MOVE, Linux 6.8: pages move */
	SYS_SCAN = 2u,   /* PAGEMAP_SCAN and UFFD_FEATURE_WP_ASYNC, 6.7: which pages were written */
	SYS_POISON = 4u, /* UFFDIO_POISON, 6.6: a touch of a lost page raises SIGBUS */
	SYS_IO_URING = 8u, /* io_uring with deferred work, 6.1: the swap file is written behind */
	SYS_CLOSE_RANGE =
	    32u,         /* close_range, 5.9: the service thread leaves the program's descriptors */
	SYS_PIDFD = 64u, /* SO_PASSPIDFD, 6.5: proof of which process sent a greeting */
	/*
	 * process_madvise with MADV_DONTNEED on the calling process, 6.14: one call drops many
	 * pages
	 */
	SYS_DROP_MANY = 16u,
};

/*
 * Parses names as in "move,scan"; valid names are those of the table. False: the text has another
 * name.
 */
static inline bool sys_offers_named(const char *text, uint32_t *offers)
{
	static const char names[][16] = { "move", "scan", "poison", "io_uring", "process_madvise",
		"close_range", "pidfd" };

	for (*offers = 0; *text != '\0'; text += *text == ',') {
		unsigned i = 0, n = 0;

		while (text[n] != '\0' && text[n] != ',')
			n++;
		while (i < 7 &&
		    (__builtin_strlen(names[i]) != n || __builtin_memcmp(names[i], text, n) != 0))
			i++;
		if (i == 7)
			return false;
		*offers |= 1u << i;
		text += n;
	}
	return true;
}
#endif
