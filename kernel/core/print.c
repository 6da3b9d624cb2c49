/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's part of a C library: strings, formatting, output on the console, panics, the command
 * line.
 *
 * Output goes byte by byte to the machine's console (arch_putc) and takes no lock, so that a panic prints wherever it happens;
 * lines of two CPUs may mix.
 * Left out: floating point; conversions other than d i u x o p s c.
 *
 * Locks: none.
 */
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

static void put_char(struct out *o, char c)
{
	if (o->o_n + 1 < o->o_room)
		o->o_at[o->o_n] = c;
	o->o_n++;
}

static void put_padded(struct out *o, const char *s, size_t n, unsigned width, bool left, char pad)
{
	for (size_t i = n; !left && i < width; i++)
		put_char(o, pad);
	for (size_t i = 0; i < n; i++)
		put_char(o, s[i]);
	for (size_t i = n; left && i < width; i++)
		put_char(o, ' ');
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

/* A conversion, from behind its % to its letter. */
struct conversion {
	unsigned c_width;
	size_t c_most; /* bytes of a string */
	bool c_left, c_wide;
	char c_pad, c_letter;
};

static const char *parse_conversion(const char *f, struct conversion *c, va_list *ap)
{
	*c = (struct conversion){ .c_most = SIZE_MAX, .c_pad = ' ' };
	for (; *f == '-' || *f == '0'; f++) {
		c->c_left |= *f == '-';
		c->c_pad = *f == '0' ? '0' : c->c_pad;
	}
	for (; *f >= '0' && *f <= '9'; f++)
		c->c_width = c->c_width * 10 + (unsigned)(*f - '0');
	if (f[0] == '.' && f[1] == '*') {
		c->c_most = (size_t)va_arg(*ap, int);
		f += 2;
	} else if (f[0] == '.') {
		for (c->c_most = 0, f++; *f >= '0' && *f <= '9'; f++)
			c->c_most = c->c_most * 10 + (size_t)(*f - '0');
	}
	for (; *f == 'l' || *f == 'z'; f++)
		c->c_wide = true;
	c->c_letter = *f;
	return f;
}

static void put_unsigned(struct out *o, const struct conversion *c, uint64_t v)
{
	unsigned base = 10;

	if (c->c_letter == 'x' || c->c_letter == 'p')
		base = 16;
	else if (c->c_letter == 'o')
		base = 8;
	put_number(o, v, false, base, c->c_width, c->c_left, c->c_pad);
}

static void put_signed(struct out *o, const struct conversion *c, int64_t v)
{
	put_number(
	    o, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, v < 0, 10, c->c_width, c->c_left, c->c_pad);
}

static void put_argument(struct out *o, const struct conversion *c, va_list *ap)
{
	const char *s;
	size_t n = 0;
	char one;

	switch (c->c_letter) {
	case 'd':
	case 'i': put_signed(o, c, c->c_wide ? va_arg(*ap, int64_t) : va_arg(*ap, int)); break;
	case 'u':
	case 'x':
	case 'o':
		put_unsigned(o, c, c->c_wide ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned));
		break;
	case 'p': put_unsigned(o, c, (uintptr_t)va_arg(*ap, void *)); break;
	case 's':
		for (s = va_arg(*ap, const char *); n < c->c_most && s[n] != '\0'; n++)
			;
		put_padded(o, s, n, c->c_width, c->c_left, ' ');
		break;
	case 'c':
		one = (char)va_arg(*ap, int);
		put_padded(o, &one, 1, c->c_width, c->c_left, ' ');
		break;
	default: put_char(o, c->c_letter);
	}
}

int kvsnprintf(char *to, size_t room, const char *f, va_list ap)
{
	struct out o = { .o_at = to, .o_room = room };
	struct conversion c;
	/* a va_list parameter may be an array, whose address is no pointer to a va_list */
	va_list args;

	va_copy(args, ap);
	for (; *f != '\0'; f++) {
		if (*f != '%') {
			put_char(&o, *f);
			continue;
		}
		f = parse_conversion(f + 1, &c, &args);
		put_argument(&o, &c, &args);
	}
	va_end(args);
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

static void print_console(const char *s)
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
	print_console(line);
}

static void print_panic(const char *f, va_list ap)
{
	char line[512];

	(void)arch_irq_off();
	(void)kvsnprintf(line, sizeof(line), f, ap);
	kprintf("panic: %s\n", line);
}

void kstop(const char *f, ...)
{
	va_list ap;

	va_start(ap, f);
	print_panic(f, ap);
	va_end(ap);
	arch_stop();
}

void kpanic(const char *f, ...)
{
	va_list ap;

	va_start(ap, f);
	print_panic(f, ap);
	va_end(ap);
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

/* The value of a hexadecimal digit; 99: the character is none. */
static unsigned digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a' + 10);
	return 99;
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
		unsigned d = digit_value(*s);

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
