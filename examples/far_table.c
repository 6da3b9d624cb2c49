/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A table larger than this machine's memory: 64 MiB of it in 8 MiB of memory and a server that
 * exists already.
 *
 *     far_table redis://127.0.0.1:6379    far_table nbd://127.0.0.1/export    far_table redis+cluster://10.0.0.2:7001,10.0.0.3:7001
 *
 * Pages that leave the 8 MiB are packed into the pool of 4 MiB, and from there go to the server,
 * encrypted. A password is taken from QUIRE_SWAP_PASSWORD. The library starts quire-far for that;
 * it looks for it beside this program, then where it was installed.
 *
 * The program sees plain memory. If a page is lost for good, the access to it gets SIGBUS.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <quire/quire.h>

#define TABLE (64u << 20)
#define WORDS (TABLE / sizeof(uint64_t))

/* Numbers that do not compress, so that pages need the server. The same seed gives the same row. */
static uint64_t next_number(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static size_t fill_and_check(uint64_t *table)
{
	uint64_t seed = 42;
	size_t wrong = 0;

	for (size_t i = 0; i < WORDS; i++)
		table[i] = next_number(&seed);
	seed = 42;
	for (size_t i = 0; i < WORDS; i++)
		wrong += table[i] != next_number(&seed);
	return wrong;
}

int main(int argc, char **argv)
{
	char why[256] = "";
	struct quire_place place = { argc > 1 ? argv[1] : NULL, 128u << 20 };
	struct quire_config c = { .size = sizeof c,
		.memory = 8u << 20,
		.pool = 4u << 20,
		.places = &place,
		.nplaces = 1,
		.why = why,
		.why_size = sizeof why };
	struct quire_stats st;
	struct quire *q;
	uint64_t *table;
	size_t wrong;

	if (argc != 2) {
		fprintf(stderr, "usage: far_table URL\n");
		return 2;
	}
	if (quire_open(&c, &q) != 0) {
		fprintf(stderr, "far_table: %s\n",
		    why[0] != '\0' ? why : "the system cannot be opened");
		return 1;
	}
	table =
	    quire_map(q, NULL, TABLE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (table == MAP_FAILED) {
		perror("far_table: quire_map");
		return 1;
	}
	wrong = fill_and_check(table);
	(void)quire_stat(q, &st, sizeof st);
	printf("%u MiB in %zu MiB: %zu wrong; %zu MiB are far, %zu MiB went there and back\n",
	    TABLE >> 20, (size_t)(st.memory >> 20), wrong, (size_t)(st.far_used >> 20),
	    (size_t)(st.far_moved >> 20));
	(void)quire_close(q); /* removes the stored pages */
	return wrong != 0;
}
