/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * run/sites.c, which finds system call instructions in code, against the plain definition of a
 * site, on random bytes; and its use of the notes in a program's object.
 */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "run/sites.h"
#include "sys/linux/elf.h"

#define LEN 200000u
#define SEED 20261121u

static uint8_t text[LEN];

/* A branch at p, as the processor's manual has it. */
static bool leads(const uint8_t *p, const uint8_t *site)
{
	int64_t to = -1, at = p - text;
	int32_t rel;

	bool operand =
	    at >= 2 && (p[-1] == 0x8b || p[-1] == 0x89) && p[-2] >> 3 == 0x48 >> 3; /* of a mov */

	if (*p == 0xeb || (*p >> 4 == 7 && !operand)) {
		to = at + 2 + (int8_t)p[1];
	} else if (*p == 0xe8 || *p == 0xe9) {
		memcpy(&rel, p + 1, 4);
		to = at + 5 + rel;
	} else if (*p == 0x0f && p[1] >> 4 == 8) {
		memcpy(&rel, p + 2, 4);
		to = at + 6 + rel;
	}
	return to > site - text && to < site - text + 7;
}

static bool plain(const uint8_t *site)
{
	for (const uint8_t *p = text + 1; p < text + LEN - 32; p++)
		if (p >= site - 8192 && p < site + 8192 && leads(p, site))
			return false;
	return true;
}

static void put_site(uint32_t at, uint32_t nr)
{
	text[at] = 0xb8;
	memcpy(text + at + 1, &nr, 4);
	memcpy(text + at + 5, "\x0f\x05", 2);
}

static struct library fill(unsigned seed)
{
	struct library lib = { .text = text, .len = LEN, .id = { 1, 2, 3 } };

	srand(seed);
	for (uint32_t i = 0; i < LEN; i++)
		text[i] = (uint8_t)(rand() >> 8);
	return lib;
}

static void finds_what_is_there(void **state)
{
	uint8_t *site[MAXSITES];
	unsigned kept = 0, left = 0;

	(void)state;
	for (unsigned round = 0; round < 40; round++) {
		struct library lib = fill(SEED + round);
		struct sites_note note = { .sn_state = SITES_WRITING };
		uint32_t at[30];

		for (unsigned i = 0; i < 30; i++) {
			at[i] = i * 6600 + 40 + (uint32_t)rand() % 6000;
			put_site(at[i], i % 2 == 0 ? SYS_mmap : SYS_brk);
			int32_t from = (int32_t)at[i] + rand() % 16000 - 8000, rel;
			if (i % 3 == 0 || from < 8 || from > (int32_t)LEN - 60)
				continue;
			/* a branch to the site, into it, or behind it */
			text[from] = i % 3 == 1 ? 0xe8 : 0x0f;
			text[from + 1] = 0x84;
			rel = (int32_t)at[i] + rand() % 10 - 1 - (from + (i % 3 == 1 ? 5 : 6));
			memcpy(text + from + (i % 3 == 1 ? 1 : 2), &rel, 4);
		}
		unsigned n = sites_find(&lib, &note, site), k = 0;
		for (uint8_t *p = text; p < text + LEN - 7; p++) {
			uint32_t nr;

			memcpy(&nr, p + 1, 4);
			if (*p != 0xb8 || (nr != SYS_mmap && nr != SYS_brk) || p[5] != 0x0f ||
			    p[6] != 0x05)
				continue;
			if (!plain(p)) {
				left++;
				continue;
			}
			assert_true(k < n && site[k] == p);
			k++;
		}
		assert_int_equal(k, n);
		kept += n;
	}
	printf("seed %u: %u sites, %u left out\n", SEED, kept, left);
	assert_true(kept > 100 && left > 100);
}

/* The Debian library's execve() follows `movzbl 0xb(%rsp),%esi`, whose middle reads as a branch to its second byte. */
static void execve_was_left_out(void **state)
{
	struct library lib = { .text = text, .len = LEN };
	struct sites_note note = { .sn_state = SITES_WRITING };
	uint8_t *site[MAXSITES];

	(void)state;
	memset(text, 0x90, LEN);
	put_site(5000, SYS_execve);
	memcpy(text + 5000 - 39, "\x0f\xb6\x74\x24\x0b", 5);
	assert_int_equal(leads(text + 5000 - 37, text + 5000), true);
	assert_int_equal(sites_find(&lib, &note, site), 0);
	lib.entry = text + 5000;
	assert_int_equal(sites_find(&lib, &note, site), 1);
	memcpy(text + 5020, "\xeb\xed", 2); /* to 5003, and of this function */
	assert_int_equal(sites_find(&lib, &note, site), 0);

	struct library ours = { 0 };
	assert_int_equal(sites_library(&ours), 1);
	assert_memory_equal(ours.entry, "\xb8\x3b\0\0\0\x0f\x05", 7);
}

/*
 * `mov 8(%rax),%rsi` before the sched_setaffinity() of a new thread was once taken for a branch
 * into the site.
 */
static void an_operand_is_taken_for_no_branch(void **state)
{
	struct library lib = { .text = text, .len = LEN };
	struct sites_note note = { .sn_state = SITES_WRITING };
	uint8_t *site[MAXSITES];

	(void)state;
	memset(text, 0x90, LEN);
	put_site(5000, SYS_sched_setaffinity);
	memcpy(text + 5000 - 7, "\x48\x8b\x70\x08\x48\x8b\x10", 7);
	assert_int_equal(sites_find(&lib, &note, site), 1);
	text[5000 - 6] = 0x90;
	assert_int_equal(sites_find(&lib, &note, site), 0);
}

/*
 * sched_getaffinity() has two instructions within its site. It was once left alone, and a program
 * saw the one CPU to which the runtime had bound its thread.
 */
static void instructions_within_a_site_go_before_it(void **state)
{
	static const char within[] = "\x49\x39\xf0\x49\x0f\x46\xf0",
			  *names[] = { "sched_getaffinity", "pthread_getaffinity_np" };
	struct sites_note note = { .sn_state = SITES_WRITING };
	struct library lib = { .text = text, .len = LEN }, ours = { 0 };
	uint8_t *site[MAXSITES];
	unsigned n, found = 0;

	(void)state;
	memset(text, 0x90, LEN);
	put_site(5000, SYS_sched_getaffinity);
	memcpy(text + 5005, within, SITE_WITHIN);
	memcpy(text + 5005 + SITE_WITHIN, "\x0f\x05", 2);
	assert_int_equal(sites_find(&lib, &note, site), 1);
	memcpy(text + 5100, "\xeb\xa7", 2); /* to 5013, the last byte */
	assert_int_equal(sites_find(&lib, &note, site), 0);
	text[5101] += 1; /* behind it */
	assert_int_equal(sites_find(&lib, &note, site), 1);
	assert_ptr_equal(sites_gather(site[0]), text + 5000 + SITE_WITHIN);
	assert_memory_equal(text + 5000, within, SITE_WITHIN);
	assert_memory_equal(text + 5000 + SITE_WITHIN, "\xb8\xcc\0\0\0\x0f\x05\x90", SITE + 1);
	assert_ptr_equal(sites_gather(text + 5000 + SITE_WITHIN), text + 5000 + SITE_WITHIN);
	text[5010]++; /* other instructions */
	assert_int_equal(sites_find(&lib, &note, site), 0);

	assert_int_equal(sites_library(&ours), 1);
	n = sites_find(&ours, &note, site);
	for (unsigned i = 0; i < 2; i++) {
		const uint8_t *entry = dlsym(RTLD_DEFAULT, names[i]);

		for (unsigned j = 0; j < n; j++)
			found += site[j] > entry && site[j] < entry + 64 &&
			    site[j][1] == SYS_sched_getaffinity;
	}
	assert_int_equal(found, 2);
}

static void notes_are_used_instead_of_a_search(void **state)
{
	uint8_t *first[MAXSITES], *site[MAXSITES];
	struct sites_note note = { 0 }, was;
	struct library lib = fill(SEED), other;

	(void)state;
	memset(text, 0x90, LEN);
	put_site(100, SYS_mmap);
	put_site(5000, SYS_munmap);
	assert_int_equal(sites_find(&lib, &note, first), 2);
	assert_int_equal(note.sn_state, SITES_NOTED);
	put_site(9000, SYS_brk); /* the sites are not searched again: the note is used */
	assert_int_equal(sites_find(&lib, &note, site), 2);
	assert_memory_equal(first, site, 2 * sizeof *site);
	was = note;
	other = lib;
	other.id[0]++;
	assert_int_equal(sites_find(&other, &note, site), 3);
	other = lib;
	other.len -= 16;
	assert_int_equal(sites_find(&other, &note, site), 3);
	assert_memory_equal(&was, &note, sizeof note);
	text[101] ^= 0xff; /* other code under the same name */
	assert_int_equal(sites_find(&lib, &note, site), 2);
	assert_ptr_equal(site[1], text + 9000);
	note.sn_at[0] = LEN - 3;
	assert_int_equal(sites_find(&lib, &note, site), 2);
	note = (struct sites_note){ 0 }; /* a library without a name is never noted */
	memset(lib.id, 0, SITES_ID);
	assert_int_equal(sites_find(&lib, &note, site), 2);
	assert_int_equal(note.sn_state, SITES_EMPTY);
}

static void cut(const char *from, const char *to, size_t n)
{
	static char bytes[100000];
	FILE *f = fopen(from, "r"), *t = fopen(to, "w");

	assert_true(f != NULL && t != NULL);
	n = fread(bytes, 1, n, f);
	assert_int_equal(fwrite(bytes, 1, n, t), n);
	assert_true(fclose(f) == 0 && fclose(t) == 0);
}

/* The note made from the library's file equals the sites found in the mapped library. */
static void the_note_of_the_library_is_what_is_found(void **state)
{
	static const char path[] = "/lib/x86_64-linux-gnu/libc.so.6";
	struct sites_note note = { 0 }, want = { 0 };
	uint8_t *site[MAXSITES];
	struct library ours = { 0 };
	char part[] = "/tmp/quire-sites-XXXXXX";
	int fd = mkstemp(part);

	(void)state;
	assert_true(fd >= 0 && close(fd) == 0);
	sites_note_file("/nonexistent", &note);
	sites_note_file("/dev/null", &note);
	sites_note_file("/", &note);
	sites_note_file(part, &note);
	if (access(path, R_OK) == 0) {
		for (size_t n = 1; n < 100000; n = n * 3 / 2 + 1) {
			cut(path, part, n);
			sites_note_file(part, &note);
		}
		assert_int_equal(note.sn_state, SITES_EMPTY);
		assert_int_equal(sites_library(&ours), 1);
		assert_true(sites_find(&ours, &want, site) > 20);
		sites_note_file(path, &note);
		assert_memory_equal(&note, &want, sizeof note);
	}
	assert_int_equal(unlink(part), 0);
}

/*
 * Debian 12's kernel gives the auxiliary vector only by a file: no program was once hosted there.
 */
static void the_vector_before_linux_6_4_is_read(void **state)
{
	Elf64_auxv_t v[64] = { 0 };
	long n = elf_read_auxv_file(v, sizeof v);

	(void)state;
	assert_true(n >= (long)sizeof *v && n < (long)sizeof v && n % (long)sizeof *v == 0);
	for (unsigned i = 0; v[i].a_type != AT_NULL; i++)
		assert_int_equal(v[i].a_un.a_val, elf_auxv(v[i].a_type));
	assert_true(elf_auxv(AT_PHDR) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(finds_what_is_there),
		cmocka_unit_test(execve_was_left_out),
		cmocka_unit_test(an_operand_is_taken_for_no_branch),
		cmocka_unit_test(instructions_within_a_site_go_before_it),
		cmocka_unit_test(notes_are_used_instead_of_a_search),
		cmocka_unit_test(the_note_of_the_library_is_what_is_found),
		cmocka_unit_test(the_vector_before_linux_6_4_is_read) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
