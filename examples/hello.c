/* SPDX-License-Identifier: BSD-2-Clause */
/* 64 MiB of data in 16 MiB of memory: the rest is compressed. */
#include <stdio.h>

#include <quire/quire.h>

int main(void)
{
	struct quire_config c = {
		.size = sizeof c, .memory = 16u << 20, .pool = 32u << 20, .promise = 96u << 20
	};
	struct quire_stats st;
	size_t n = (64u << 20) / sizeof(unsigned), wrong = 0;
	struct quire *q;
	unsigned *a;

	if (quire_open(&c, &q) != 0) {
		perror("quire_open");
		return 1;
	}
	a = quire_map(
	    q, NULL, n * sizeof *a, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (a == MAP_FAILED) {
		perror("quire_map");
		return 1;
	}
	for (size_t i = 0; i < n; i++)
		a[i] = (unsigned)(i / 16);
	for (size_t i = 0; i < n; i++)
		wrong += a[i] != (unsigned)(i / 16);
	(void)quire_stat(q, &st, sizeof st);
	printf("%zu MiB in %zu MiB: %zu wrong; %zu pages out, %zu in; %zu KiB compressed\n",
	    n * sizeof *a >> 20, (size_t)(st.memory >> 20), wrong, (size_t)st.pages_out,
	    (size_t)st.pages_in, (size_t)(st.pool_used >> 10));
	(void)quire_close(q);
	return wrong != 0;
}
