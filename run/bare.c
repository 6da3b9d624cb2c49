/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The functions that the compiler and the codecs call by name, within the runtime.
 *
 * The runtime binds to no symbol outside itself (tests/house/bare.sh). A preloaded library that
 * calls memcpy() calls the program's memcpy() if the program has one. A sanitizer's memcpy() does
 * not work before the sanitizer's constructor. A memcpy() that counts its calls in paged-out memory
 * would fault in the very thread that serves faults. So these functions are hidden, and the linker
 * binds every call to them, calls from the codecs' archives, too. A page is copied or cleared by
 * one instruction, which present processors execute a cache line at a time.
 *
 * Functions of the codecs that the runtime never calls use malloc() and the like, so these exist
 * and always return NULL: the runtime provides the codecs' memory.
 */
#include <emmintrin.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/machine.h>

#define STRING 256u /* bytes from which the processor's own instruction is quicker than a loop */

typedef uint64_t __attribute__((may_alias, aligned(1))) u64;
typedef uint32_t __attribute__((may_alias, aligned(1))) u32;
typedef uint16_t __attribute__((may_alias, aligned(1))) u16;

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *p, int c, size_t n);
size_t strlen(const char *s);
size_t strcspn(const char *s, const char *reject);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strrchr(const char *s, int c);
char *strcpy(char *restrict to, const char *restrict from);
char *stpcpy(char *restrict to, const char *restrict from);
char *strcat(char *restrict to, const char *restrict from);
void *malloc(size_t n);
void *calloc(size_t n, size_t m);
void free(void *p);
_Noreturn void __stack_chk_fail(void);
unsigned long long ZSTD_trace_compress_begin(const void *ctx);
void ZSTD_trace_compress_end(unsigned long long ctx, const void *trace);
unsigned long long ZSTD_trace_decompress_begin(const void *ctx);
void ZSTD_trace_decompress_end(unsigned long long ctx, const void *trace);

static __m128i load_vector(const char *p)
{
	return _mm_loadu_si128((const __m128i_u *)(const void *)p);
}
static void store_vector(char *p, __m128i v) { _mm_storeu_si128((__m128i_u *)(void *)p, v); }

/* Up to 32 bytes, which are all read before any is written: the two may overlap. */
static void move_few(char *d, const char *s, size_t n)
{
	if (n >= 16) {
		__m128i a = load_vector(s), b = load_vector(s + n - 16);

		store_vector(d, a);
		store_vector(d + n - 16, b);
	} else if (n >= 8) {
		uint64_t a = *(const u64 *)(const void *)s,
			 b = *(const u64 *)(const void *)(s + n - 8);

		*(u64 *)(void *)d = a;
		*(u64 *)(void *)(d + n - 8) = b;
	} else if (n >= 4) {
		uint32_t a = *(const u32 *)(const void *)s,
			 b = *(const u32 *)(const void *)(s + n - 4);

		*(u32 *)(void *)d = a;
		*(u32 *)(void *)(d + n - 4) = b;
	} else if (n >= 2) {
		uint16_t a = *(const u16 *)(const void *)s,
			 b = *(const u16 *)(const void *)(s + n - 2);

		*(u16 *)(void *)d = a;
		*(u16 *)(void *)(d + n - 2) = b;
	} else if (n == 1) {
		*d = *s;
	}
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	char *d = to;
	const char *s = from;

	if (n >= STRING) {
		__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
		return to;
	}
	for (; n > 32; n -= 16, d += 16, s += 16)
		store_vector(d, load_vector(s));
	move_few(d, s, n);
	return to;
}

void *memmove(void *to, const void *from, size_t n)
{
	char *d = to;
	const char *s = from;

	if ((uintptr_t)d - (uintptr_t)s >=
	    n) { /* copying forwards overwrites no byte that is still to be read */
		for (; n > 32; n -= 16, d += 16, s += 16)
			store_vector(d, load_vector(s));
	} else {
		for (; n > 32; n -= 16)
			store_vector(d + n - 16, load_vector(s + n - 16));
	}
	move_few(d, s, n);
	return to;
}

void *memset(void *to, int c, size_t n)
{
	char *d = to;
	uint64_t word = (uint8_t)c * 0x0101010101010101u;

	if (n >= STRING) {
		__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
		return to;
	}
	for (; n >= 8; n -= 8, d += 8)
		*(u64 *)(void *)d = word;
	for (; n > 0; n--)
		*d++ = (char)c;
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *p = a, *q = b;

	for (; n >= 8 && *(const u64 *)(const void *)p == *(const u64 *)(const void *)q; n -= 8)
		p += 8, q += 8;
	for (; n > 0; n--, p++, q++)
		if (*p != *q)
			return *p - *q;
	return 0;
}

void *memchr(const void *p, int c, size_t n)
{
	const char *s = p;
	const __m128i all = _mm_set1_epi8((char)c);

	for (; n >= 16; n -= 16, s += 16) {
		int hit = _mm_movemask_epi8(_mm_cmpeq_epi8(load_vector(s), all));

		if (hit != 0)
			return (void *)(uintptr_t)(s + __builtin_ctz((unsigned)hit));
	}
	for (; n > 0; n--, s++)
		if (*s == (char)c)
			return (void *)(uintptr_t)s;
	return NULL;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n] != '\0')
		n++;
	return n;
}

size_t strcspn(const char *s, const char *reject)
{
	size_t n = 0;

	for (; s[n] != '\0'; n++)
		for (const char *r = reject; *r != '\0'; r++)
			if (s[n] == *r)
				return n;
	return n;
}

int strncmp(const char *a, const char *b, size_t n)
{
	for (; n > 0; n--, a++, b++)
		if (*a != *b || *a == '\0')
			return (unsigned char)*a - (unsigned char)*b;
	return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }

char *strrchr(const char *s, int c)
{
	const char *last = NULL;

	do
		if (*s == (char)c)
			last = s;
	while (*s++ != '\0');
	return (char *)(uintptr_t)last;
}

char *stpcpy(char *restrict to, const char *restrict from)
{
	while ((*to = *from++) != '\0')
		to++;
	return to;
}

char *strcpy(char *restrict to, const char *restrict from)
{
	(void)stpcpy(to, from);
	return to;
}

char *strcat(char *restrict to, const char *restrict from)
{
	(void)stpcpy(to + strlen(to), from);
	return to;
}

/* ---- named by the codecs ---- */
void *malloc(size_t n)
{
	(void)n;
	return NULL;
}

void *calloc(size_t n, size_t m)
{
	(void)n;
	(void)m;
	return NULL;
}

void free(void *p) { (void)p; }

void __stack_chk_fail(void) { mach_panic("a codec has written beyond its stack"); }

/* Weak in the codec: the packing thread would call these functions of a program that has them. */
unsigned long long ZSTD_trace_compress_begin(const void *ctx)
{
	(void)ctx;
	return 0;
}

void ZSTD_trace_compress_end(unsigned long long ctx, const void *trace)
{
	(void)ctx;
	(void)trace;
}

unsigned long long ZSTD_trace_decompress_begin(const void *ctx)
{
	(void)ctx;
	return 0;
}

void ZSTD_trace_decompress_end(unsigned long long ctx, const void *trace)
{
	(void)ctx;
	(void)trace;
}
