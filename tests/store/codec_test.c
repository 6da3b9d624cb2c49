/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a page is packed (store/codec.c): every page unpacks unchanged, and literals are coded if
 * that makes pages much smaller.
 *
 *   codec_test [PATTERN]     PATTERN selects tests by name
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/codec.h"

#define PAGE 4096u
/* pages after which the area knows the saving; an odd number, so that the next page is no sample */
#define MANY 1001u

static void *new_area(void)
{
	void *a = calloc(1, codec_bytes());

	assert_non_null(a);
	return a;
}

static uint64_t next_random(uint64_t *x)
{
	*x = *x * 6364136223846793005u + 1442695040888963407u;
	return *x >> 33;
}

/*
 * Digits: at most four bits of information in each byte, and hardly a match. Coding saves more than
 * half.
 */
static void fill_text(uint8_t *page, uint64_t seed)
{
	for (unsigned i = 0; i < PAGE; i++)
		page[i] = (uint8_t)('0' + next_random(&seed) % 10);
}

/*
 * Half of the bytes have 100 different values, of which coding saves a seventh; the rest is one
 * match.
 */
static void fill_heap(uint8_t *page, uint64_t seed)
{
	memset(page, 0, PAGE);
	for (unsigned i = 0; i < PAGE / 2; i++)
		page[i] = (uint8_t)(next_random(&seed) % 100);
}

/* Packs and unpacks the page and compares. Returns the packed length; only LZ4 may return 0. */
static uint32_t pack_page(void *area, bool dense, const uint8_t *page)
{
	char out[PAGE];
	uint8_t back[PAGE];
	uint32_t n = codec_pack(area, dense, page, out, PAGE);

	if (n == 0 && !dense)
		return 0;
	assert_int_not_equal(n, 0);
	assert_int_equal(codec_unpack(area, out, n, back), 0);
	assert_memory_equal(back, page, PAGE);
	return n;
}

static void learn(void *area, void (*fill)(uint8_t *, uint64_t))
{
	uint8_t page[PAGE];

	for (unsigned i = 0; i < MANY; i++) {
		fill(page, i);
		(void)pack_page(area, true, page);
	}
}

/* The packed size of one more page of that kind. */
static uint32_t size_of(void *area, void (*fill)(uint8_t *, uint64_t))
{
	uint8_t page[PAGE];

	fill(page, MANY);
	return pack_page(area, true, page);
}

static void every_page_comes_back(void **state)
{
	void *area = new_area();
	uint8_t page[PAGE];

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		if (i % 3 == 0)
			fill_text(page, i);
		else
			fill_heap(page, i);
		(void)pack_page(area, i % 2 == 0, page);
	}
	free(area);
}

static void literals_of_text_are_coded(void **state)
{
	void *area = new_area();

	(void)state;
	learn(area, fill_text);
	assert_in_range(size_of(area, fill_text), PAGE / 4, PAGE / 2);
	free(area);
}

/* A new area codes its first pages to measure the saving. */
static void literals_are_left_where_coding_saves_little(void **state)
{
	void *area = new_area(), *fresh = new_area();
	uint32_t plain, coded;

	(void)state;
	learn(area, fill_heap);
	plain = size_of(area, fill_heap);
	coded = size_of(fresh, fill_heap);
	assert_true(coded < plain);
	assert_in_range(plain, PAGE / 2, PAGE / 2 + 64);
	free(area);
	free(fresh);
}

static void what_pages_are_like_is_learnt_anew(void **state)
{
	void *area = new_area(), *fresh = new_area();

	(void)state;
	learn(area, fill_heap);
	learn(area, fill_text);
	assert_in_range(size_of(area, fill_text), PAGE / 4, PAGE / 2);
	for (unsigned i = 0; i < 8; i++)
		learn(area, fill_heap);
	assert_true(size_of(fresh, fill_heap) < size_of(area, fill_heap));
	free(area);
	free(fresh);
}

static void what_does_not_fit_is_refused(void **state)
{
	void *area = new_area();
	uint8_t page[PAGE];
	char out[PAGE];

	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		fill_text(page, i);
		assert_int_equal(codec_pack(area, true, page, out, 256), 0);
	}
	assert_in_range(pack_page(area, true, page), PAGE / 4, PAGE / 2);
	free(area);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_page_comes_back),
		cmocka_unit_test(literals_of_text_are_coded),
		cmocka_unit_test(literals_are_left_where_coding_saves_little),
		cmocka_unit_test(what_pages_are_like_is_learnt_anew),
		cmocka_unit_test(what_does_not_fit_is_refused),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
