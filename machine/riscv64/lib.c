/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The functions that the compiler calls on this architecture: copying and filling, counting of
 * bits, atomic operations on bytes (the base instructions have atomics for words only). The
 * compiler's own libraries are made for programs with floating point.
 */
#include <quire/types.h>

#pragma GCC optimize("no-tree-loop-distribute-patterns")

void *memset(void *to, int c, size_t n)
{
	uint8_t *p = to;
	uint64_t word = (uint8_t)c * 0x0101010101010101ull;

	for (; n > 0 && ((uintptr_t)p & 7) != 0; n--)
		*p++ = (uint8_t)c;
	for (; n >= 64; n -= 64, p += 64)
		for (unsigned i = 0; i < 8; i++)
			((uint64_t *)(void *)p)[i] = word;
	for (; n >= 8; n -= 8, p += 8)
		*(uint64_t *)(void *)p = word;
	for (; n > 0; n--)
		*p++ = (uint8_t)c;
	return to;
}

/*
 * Copies words from an unaligned address: each word is assembled from two aligned words, the second
 * of which is the first for the next word. Only aligned words that contain bytes of the source are
 * read. Each word is read before the word below it in `to` is written, so `to` may lie below `from`
 * and overlap it (memmove). Returns the bytes copied.
 */
static size_t copy_shifted(uint8_t *to, const uint8_t *from, size_t n)
{
	unsigned right = (unsigned)((uintptr_t)from & 7) * 8, left = 64 - right;
	const uint64_t *q = (const uint64_t *)(const void *)(from - right / 8);
	uint64_t *p = (uint64_t *)(void *)to, low = *q;
	size_t words = n / 8;

	for (size_t i = 0; i < words; i++) {
		uint64_t high = *++q;

		*p++ = low >> right | high << left;
		low = high;
	}
	return words * 8;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	uint8_t *p = to;
	const uint8_t *q = from;

	if (n >= 16) {
		for (; ((uintptr_t)p & 7) != 0; n--)
			*p++ = *q++;
		if (((uintptr_t)q & 7) != 0) {
			size_t done = copy_shifted(p, q, n);

			p += done, q += done, n -= done;
		}
		for (; n >= 32 && ((uintptr_t)q & 7) == 0; n -= 32, p += 32, q += 32)
			for (unsigned i = 0; i < 4; i++)
				((uint64_t *)(void *)p)[i] = ((const uint64_t *)(const void *)q)[i];
		for (; n >= 8 && ((uintptr_t)q & 7) == 0; n -= 8, p += 8, q += 8)
			*(uint64_t *)(void *)p = *(const uint64_t *)(const void *)q;
	}
	for (; n > 0; n--)
		*p++ = *q++;
	return to;
}

/* ---- bits ---- */
int __clzdi2(uint64_t v);
int __ctzdi2(uint64_t v);
int __popcountdi2(uint64_t v);

int __clzdi2(uint64_t v)
{
	int n = 0;

	for (unsigned step = 32; step > 0; step /= 2)
		if (v >> (64 - step) == 0) {
			n += (int)step;
			v <<= step;
		}
	return n;
}

int __ctzdi2(uint64_t v) { return 63 - __clzdi2(v & -v); }

int __popcountdi2(uint64_t v)
{
	v -= v >> 1 & 0x5555555555555555ull;
	v = (v & 0x3333333333333333ull) + (v >> 2 & 0x3333333333333333ull);
	return (int)(((v + (v >> 4)) & 0x0f0f0f0f0f0f0f0full) * 0x0101010101010101ull >> 56);
}

/*
 * ---- atomics on bytes: a compare-and-exchange of the containing word, always in total order ----
 */
static uint32_t *word_of(volatile void *p) { return (uint32_t *)((uintptr_t)p & ~(uintptr_t)3); }
static unsigned shift_of(volatile void *p) { return (unsigned)((uintptr_t)p & 3) * 8; }

bool quire_byte_cas(volatile void *p, void *expected, uint8_t to) __asm__(
    "__atomic_compare_exchange_1");
uint8_t quire_byte_exchange(volatile void *p, uint8_t to) __asm__("__atomic_exchange_1");
uint8_t quire_byte_or(volatile void *p, uint8_t v) __asm__("__atomic_fetch_or_1");
uint8_t quire_byte_and(volatile void *p, uint8_t v) __asm__("__atomic_fetch_and_1");
uint8_t quire_byte_add(volatile void *p, uint8_t v) __asm__("__atomic_fetch_add_1");
uint8_t quire_byte_sub(volatile void *p, uint8_t v) __asm__("__atomic_fetch_sub_1");

bool quire_byte_cas(volatile void *p, void *expected, uint8_t to)
{
	uint32_t *w = word_of(p), old = __atomic_load_n(w, __ATOMIC_SEQ_CST);
	unsigned s = shift_of(p);

	do {
		if ((uint8_t)(old >> s) != *(uint8_t *)expected) {
			*(uint8_t *)expected = (uint8_t)(old >> s);
			return false;
		}
	} while (!__atomic_compare_exchange_n(w, &old, (old & ~(0xffu << s)) | (uint32_t)to << s,
	    true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return true;
}

uint8_t quire_byte_exchange(volatile void *p, uint8_t to)
{
	uint8_t old = *(volatile uint8_t *)p;

	while (!quire_byte_cas(p, &old, to))
		;
	return old;
}

uint8_t quire_byte_or(volatile void *p, uint8_t v)
{
	return (
	    uint8_t)(__atomic_fetch_or(word_of(p), (uint32_t)v << shift_of(p), __ATOMIC_SEQ_CST) >>
	    shift_of(p));
}

uint8_t quire_byte_and(volatile void *p, uint8_t v)
{
	unsigned s = shift_of(p);

	return (uint8_t)(__atomic_fetch_and(
			     word_of(p), ~(0xffu << s) | (uint32_t)v << s, __ATOMIC_SEQ_CST) >>
	    s);
}

uint8_t quire_byte_add(volatile void *p, uint8_t v)
{
	uint8_t old = *(volatile uint8_t *)p;

	while (!quire_byte_cas(p, &old, (uint8_t)(old + v)))
		;
	return old;
}

uint8_t quire_byte_sub(volatile void *p, uint8_t v) { return quire_byte_add(p, (uint8_t)-v); }
