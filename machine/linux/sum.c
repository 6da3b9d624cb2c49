/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sums of pages, by which the machine knows whether a page was written while it was loaded: it has no modification bits, and a
 * fault on the first write to a clean page costs ten times as much as looking at the page twice.
 *
 * Where the kernel tells of writes (scan.c), it could tell whether a page was written that was
 * protected when loaded. A moved page cannot be protected from the start: the page would have to be
 * copied in, and its first write would fault in the kernel. The copy and the fault cost several
 * times as much as two sums.
 *
 * The sum is NH (Black, Halevi, Krawczyk, Krovetz and Rogaway: UMAC, CRYPTO 1999) on words of 64 bits with a secret key for
 * each machine: any two different pages have the same sum with probability 2^-64, even if an attacker chose them, as long as the key
 * is not known. So a change is overlooked once in 2^64 times; a disk gives a wrong sector more often.
 */
#include <errno.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

#define WORDS (VM_PAGESIZE / 8)

int sum_init(struct mach *m)
{
	uint64_t got = 0;

	while (got < sizeof m->m_key) {
		long n = sys_call3(SYS_getrandom, (long)((char *)m->m_key + got),
		    (long)(sizeof m->m_key - got), 0);

		if (n < 0 && n != -EINTR)
			return (int)n;
		got += n > 0 ? (uint64_t)n : 0;
	}
	return 0;
}

struct sum sum_page(const struct mach *m, const void *page)
{
	const uint64_t *w = page, *k = m->m_key;
	unsigned __int128 a = 0, b = 0, all;

	for (unsigned i = 0; i < WORDS; i += 4) {
		a += (unsigned __int128)(w[i] + k[i]) * (w[i + 1] + k[i + 1]);
		b += (unsigned __int128)(w[i + 2] + k[i + 2]) * (w[i + 3] + k[i + 3]);
	}
	all = a + b;
	return (struct sum){ (uint64_t)all, (uint64_t)(all >> 64) };
}
