/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * far_lib QUIRE-FAR [option value]... [--pause] PLACE[,BYTES]...: options of struct quire_config,
 * see take_option(); memory of libquire over places, compared with its expected contents. Threads
 * write and read incompressible pages in random order.
 *
 * --more: maps and unmaps more memory, prints "half", and maps the memory again when it has read a
 * line: ends with 0 and "refused" if there is none any more.
 *
 * --pages N: so many pages, at most 6000; otherwise 4000. 1500 fit.
 *
 * --pause: half-way prints "half" and continues after it has read a line. Ends with 0 and "ok: …";
 * with 1 and a line about the error; with 3 and "no: REASON" if the system cannot be opened.
 */
#include <quire/quire.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGES 6000u /* at most */
#define THREADS 2u
#define ROUNDS 2500u
#define WORDS (4096u / 8u)

static uint64_t *memory;
static uint32_t pages = 4000;   /* --pages */
static uint32_t version[PAGES]; /* each page belongs to one thread */
static unsigned wrong;          /* atomic */

static uint64_t word_of(uint32_t page, uint32_t v, uint32_t i)
{
	uint64_t x = ((uint64_t)page << 40 ^ (uint64_t)v << 16 ^ i) * 0x9e3779b97f4a7c15u;

	return (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
}

static void write_page(uint32_t page)
{
	uint32_t v = ++version[page];

	for (uint32_t i = 0; i < WORDS; i++)
		memory[(size_t)page * WORDS + i] = word_of(page, v, i);
}

static void read_page(uint32_t page)
{
	for (uint32_t i = 0; i < WORDS; i++)
		if (memory[(size_t)page * WORDS + i] !=
		    (version[page] == 0 ? 0 : word_of(page, version[page], i))) {
			(void)__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
			return;
		}
}

static void *work(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;
	uint64_t rnd = me + 1;

	for (uint32_t k = 0; k < ROUNDS; k++) {
		uint32_t page;

		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		page = (uint32_t)(rnd >> 33) % (pages / THREADS) * THREADS + me;
		if ((rnd >> 32) % 3 == 0)
			write_page(page);
		else
			read_page(page);
	}
	return NULL;
}

static void run_threads(void)
{
	pthread_t t[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, work, (void *)i) != 0)
			abort();
	for (unsigned i = 0; i < THREADS; i++)
		(void)pthread_join(t[i], NULL);
}

static void tell_broken(void *arg, const char *text)
{
	(void)arg;
	printf("broken: %s\n", text);
}

#define MORE (16u << 20)

static void await_line(void)
{
	char c;

	printf("half\n");
	(void)fflush(stdout);
	(void)!read(0, &c, 1);
}

static void *map_more(struct quire *q)
{
	return quire_map(q, NULL, MORE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static int ask_for_more(struct quire *q)
{
	void *p = map_more(q);

	if (p == MAP_FAILED || quire_unmap(q, p, MORE) != 0) {
		printf("no memory from the start\n");
		return 1;
	}
	await_line();
	if (map_more(q) != MAP_FAILED || errno != ENOMEM) {
		printf("not refused\n");
		return 1;
	}
	printf("refused\n");
	return 0;
}

static int use(struct quire *q, int pause)
{
	struct quire_stats st;
	unsigned broken;

	memory = quire_map(q, NULL, (size_t)pages * 4096, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		printf("no memory: %s\n", strerror(errno));
		return 1;
	}
	for (uint32_t i = 0; i < pages; i++)
		write_page(i);
	run_threads();
	if (pause)
		await_line();
	run_threads();
	for (uint32_t i = 0; i < pages; i++)
		read_page(i);
	broken = quire_check(q, tell_broken, NULL);
	if (quire_stat(q, &st, sizeof st) != 0 || wrong != 0 || broken != 0) {
		printf("%u pages wrong, %u invariants broken\n", wrong, broken);
		return 1;
	}
	printf("ok: far_used %llu far_moved %llu far_sunk %llu swap_used %llu io_errors %llu\n",
	    (unsigned long long)st.far_used, (unsigned long long)st.far_moved,
	    (unsigned long long)st.far_sunk, (unsigned long long)st.swap_used,
	    (unsigned long long)st.io_errors);
	return 0;
}

/* False: there is no such option. */
static bool take_option(struct quire_config *c, const char *name, const char *value)
{
	const struct {
		const char *name, **text;
		uint32_t *number;
		uint64_t *bytes;
	} options[] = {
		{ "--ca", &c->far_ca, NULL, NULL },
		{ "--psk", &c->far_psk, NULL, NULL },
		{ "--password", &c->swap_password, NULL, NULL },
		{ "--password-file", &c->swap_password_file, NULL, NULL },
		{ "--encrypt", NULL, &c->encrypt, NULL },
		{ "--timeout", NULL, &c->far_timeout_ms, NULL },
		{ "--force", NULL, &c->swap_force, NULL },
		{ "--rate", NULL, NULL, &c->swap_rate },
		{ "--keep-free", NULL, NULL, &c->swap_keep_free },
	};

	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		if (strcmp(name, options[i].name) != 0)
			continue;
		if (options[i].text != NULL)
			*options[i].text = value;
		else if (options[i].number != NULL)
			*options[i].number = (uint32_t)strtoul(value, NULL, 10);
		else
			*options[i].bytes = strtoull(value, NULL, 10);
		return true;
	}
	return false;
}

int main(int argc, char **argv)
{
	struct quire_place places[QUIRE_PLACES];
	char why[256] = "";
	struct quire_config c = { .size = sizeof c,
		.memory = 6u << 20,
		.pool = 1u << 20,
		.places = places,
		.why = why,
		.why_size = sizeof why };
	struct quire *q;
	int pause = 0, more = 0, rc;

	if (argc < 3)
		return 2;
	c.far_program = argv[1];
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--pause") == 0) {
			pause = 1;
		} else if (strcmp(argv[i], "--more") == 0) {
			more = 1;
		} else if (strcmp(argv[i], "--pages") == 0 && i + 1 < argc) {
			pages = (uint32_t)strtoul(argv[++i], NULL, 10);
		} else if (i + 1 < argc && take_option(&c, argv[i], argv[i + 1])) {
			i++;
		} else if (c.nplaces < QUIRE_PLACES) {
			char *comma = strrchr(argv[i], ',');

			places[c.nplaces++] = (struct quire_place){ argv[i],
				comma != NULL ? strtoull(comma + 1, NULL, 10) : 0 };
			if (comma != NULL)
				*comma = '\0';
		}
	}
	if (pages > PAGES)
		return 2;
	if (quire_open(&c, &q) != 0) {
		printf("no: %s (%s)\n", why, strerror(errno));
		return 3;
	}
	rc = more ? ask_for_more(q) : use(q, pause);
	(void)quire_close(q);
	return rc;
}
