/* SPDX-License-Identifier: BSD-2-Clause */
/* Formatting, the kernel's own output, panics, strings. */
#include "kernel/core/kernel.h"

#include <stdarg.h>

/* ---- strings ---- */
void *memmove(void *to, const void *from, size_t n)
{
	char *t = to;
	const char *f = from;

	if (t <= f || t >= f + n)
		return memcpy(to, from, n);
	while (n-- > 0)
		t[n] = f[n];
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n > 0; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n] != '\0')
		n++;
	return n;
}

int strcmp(const char *a, const char *b)
{
	for (; *a == *b && *a != '\0'; a++, b++)
		;
	return (uint8_t)*a - (uint8_t)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
	for (; n > 0 && *a == *b && *a != '\0'; a++, b++, n--)
		;
	return n == 0 ? 0 : (uint8_t)*a - (uint8_t)*b;
}

char *strchr(const char *s, int c)
{
	for (; *s != (char)c; s++)
		if (*s == '\0')
			return NULL;
	return (char *)(uintptr_t)s;
}

size_t strlcpy(char *to, const char *from, size_t room)
{
	size_t n = strlen(from);

	if (room > 0) {
		size_t k = n < room - 1 ? n : room - 1;

		memcpy(to, from, k);
		to[k] = '\0';
	}
	return n;
}

/* ---- formatting: d i u x p s c %, with 0, width, -, l, z, ll, and .precision or .* of s ---- */
struct out {
	char *o_at;
	size_t o_room, o_n;
};

static void put(struct out *o, char c)
{
	if (o->o_n + 1 < o->o_room)
		o->o_at[o->o_n] = c;
	o->o_n++;
}

static void put_padded(struct out *o, const char *s, size_t n, unsigned width, bool left, char pad)
{
	for (size_t i = n; !left && i < width; i++)
		put(o, pad);
	for (size_t i = 0; i < n; i++)
		put(o, s[i]);
	for (size_t i = n; left && i < width; i++)
		put(o, ' ');
}

static void put_number(
    struct out *o, uint64_t v, bool negative, unsigned base, unsigned width, bool left, char pad)
{
	char digits[24];
	size_t n = sizeof(digits);

	do
		digits[--n] = "0123456789abcdef"[v % base];
	while ((v /= base) != 0);
	if (negative)
		digits[--n] = '-';
	put_padded(o, digits + n, sizeof(digits) - n, width, left, pad);
}

int kvsnprintf(char *to, size_t room, const char *f, va_list ap)
{
	struct out o = { .o_at = to, .o_room = room };

	for (; *f != '\0'; f++) {
		bool left = false, wide = false;
		unsigned width = 0;
		size_t most = SIZE_MAX;
		char pad = ' ';

		if (*f != '%') {
			put(&o, *f);
			continue;
		}
		f++;
		for (; *f == '-' || *f == '0'; f++) {
			left |= *f == '-';
			pad = *f == '0' ? '0' : pad;
		}
		for (; *f >= '0' && *f <= '9'; f++)
			width = width * 10 + (unsigned)(*f - '0');
		if (*f == '.') {
			f++;
			if (*f == '*') {
				most = (size_t)va_arg(ap, int);
				f++;
			} else {
				for (most = 0; *f >= '0' && *f <= '9'; f++)
					most = most * 10 + (size_t)(*f - '0');
			}
		}
		for (; *f == 'l' || *f == 'z'; f++)
			wide = true;
		if (*f == 'd' || *f == 'i') {
			int64_t v = wide ? va_arg(ap, int64_t) : va_arg(ap, int);

			put_number(
			    &o, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, v < 0, 10, width, left, pad);
		} else if (*f == 'u' || *f == 'x' || *f == 'o') {
			uint64_t v = wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);

			put_number(&o, v, false,
			    *f == 'x'       ? 16
				: *f == 'o' ? 8
					    : 10,
			    width, left, pad);
		} else if (*f == 'p') {
			put_number(&o, (uintptr_t)va_arg(ap, void *), false, 16, width, left, pad);
		} else if (*f == 's') {
			const char *s = va_arg(ap, const char *);
			size_t n = 0;

			while (n < most && s[n] != '\0')
				n++;
			put_padded(&o, s, n, width, left, ' ');
		} else if (*f == 'c') {
			char c = (char)va_arg(ap, int);

			put_padded(&o, &c, 1, width, left, ' ');
		} else {
			put(&o, *f);
		}
	}
	if (room > 0)
		to[o.o_n < room ? o.o_n : room - 1] = '\0';
	return (int)o.o_n;
}

int ksnprintf(char *to, size_t room, const char *f, ...)
{
	va_list ap;
	int n;

	va_start(ap, f);
	n = kvsnprintf(to, room, f, ap);
	va_end(ap);
	return n;
}

static void print(const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '\n')
			arch_putc('\r');
		arch_putc(*s);
	}
}

void kprintf(const char *f, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, f);
	(void)kvsnprintf(line, sizeof(line), f, ap);
	va_end(ap);
	print(line);
}

void kpanic(const char *f, ...)
{
	char line[512];
	va_list ap;

	(void)arch_irq_off();
	va_start(ap, f);
	(void)kvsnprintf(line, sizeof(line), f, ap);
	va_end(ap);
	print("panic: ");
	print(line);
	print("\n");
	for (void **fp = __builtin_frame_address(0);
	     (uintptr_t)fp > 0xffff800000000000u && fp[1] != NULL; fp = fp[0])
		kprintf("  %p\n", fp[1]);
	arch_stop();
}

/* ---- the command line ---- */
bool cmdline_get(const char *name, char *value, size_t room)
{
	size_t n = strlen(name);

	for (const char *p = arch_cmdline(); *p != '\0';) {
		const char *end = p;

		while (*end != ' ' && *end != '\0')
			end++;
		if (strncmp(p, name, n) == 0 && p[n] == '=') {
			size_t len = (size_t)(end - p) - n - 1;

			if (len >= room)
				len = room - 1;
			memcpy(value, p + n + 1, len);
			value[len] = '\0';
			return true;
		}
		for (p = end; *p == ' '; p++)
			;
	}
	return false;
}

/* Decimal, or hexadecimal with 0x. */
uint64_t parse_number(const char *s, const char **end)
{
	uint64_t v = 0;
	unsigned base = 10;

	if (s[0] == '0' && s[1] == 'x') {
		base = 16;
		s += 2;
	}
	for (;; s++) {
		unsigned d = *s >= '0' && *s <= '9' ? (unsigned)(*s - '0')
		    : *s >= 'a' && *s <= 'f'        ? (unsigned)(*s - 'a' + 10)
						    : 99;

		if (d >= base)
			break;
		v = v * base + d;
	}
	if (end != NULL)
		*end = s;
	return v;
}

uint64_t cmdline_number(const char *name, uint64_t otherwise)
{
	char value[32];

	return cmdline_get(name, value, sizeof(value)) ? parse_number(value, NULL) : otherwise;
}

static uint64_t random_state;

uint64_t random_next(void)
{
	uint64_t x;

	if (random_state == 0)
		random_state = cmdline_number("seed", arch_entropy()) | 1;
	x = __atomic_add_fetch(&random_state, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}
