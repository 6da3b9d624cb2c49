/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The copy functions of the riscv64 machine, run on this machine: every alignment, and no access
 * outside the buffers.
 */
#define memset riscv_memset
#define memcpy riscv_memcpy
#include "machine/riscv64/lib.c"
#undef memset
#undef memcpy

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096u
#define MOST 200u

/* Two pages, of which the second cannot be touched. */
static uint8_t *page_before_a_gap(void)
{
	uint8_t *p = mmap(
	    NULL, (size_t)2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED && mprotect(p + PAGE, PAGE, PROT_NONE) == 0);
	return p;
}

static void fill(uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 37 + (i >> 3) + seed);
}

static void copies_of_every_alignment_are_exact(void **state)
{
	uint8_t *from = page_before_a_gap(), *to = page_before_a_gap(), want[PAGE];

	(void)state;
	fill(from, PAGE, 1);
	for (size_t a = 0; a < 8; a++)
		for (size_t b = 0; b < 8; b++)
			for (size_t n = 0; n < MOST; n++) {
				memset(to, 0xee, PAGE);
				memset(want, 0xee, PAGE);
				memcpy(want + b, from + a, n);
				assert_ptr_equal(riscv_memcpy(to + b, from + a, n), to + b);
				assert_memory_equal(to, want, MOST + 16);
				/* up to the last byte before the gap */
				riscv_memcpy(to + PAGE - n - b, from + PAGE - n - a % (n + 1), n);
				assert_memory_equal(
				    to + PAGE - n - b, from + PAGE - n - a % (n + 1), n);
			}
	munmap(from, (size_t)2 * PAGE);
	munmap(to, (size_t)2 * PAGE);
}

/* The kernel's memmove to lower addresses is this memcpy. */
static void a_copy_down_may_overlap(void **state)
{
	uint8_t buf[512], want[512];

	(void)state;
	for (size_t a = 0; a < 8; a++)
		for (size_t down = 1; down < 24; down++)
			for (size_t n = 0; n < MOST; n++) {
				fill(buf, sizeof(buf), 3);
				memcpy(want, buf, sizeof(buf));
				memmove(want + 32 + a - down, want + 32 + a, n);
				riscv_memcpy(buf + 32 + a - down, buf + 32 + a, n);
				assert_memory_equal(buf, want, sizeof(buf));
			}
}

static void filling_stays_in_its_range(void **state)
{
	uint8_t buf[320], want[320];

	(void)state;
	for (size_t a = 0; a < 8; a++)
		for (size_t n = 0; n < MOST; n++) {
			memset(buf, 1, sizeof(buf));
			memset(want, 1, sizeof(want));
			memset(want + a, 0xa5, n);
			riscv_memset(buf + a, 0xa5, n);
			assert_memory_equal(buf, want, sizeof(buf));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_of_every_alignment_are_exact),
		cmocka_unit_test(a_copy_down_may_overlap),
		cmocka_unit_test(filling_stays_in_its_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
