/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs that allocate all memory. full HOW [N]. Granted memory is written with incompressible
 * bytes and read again; other memory must be refused by a call. Prints the result; ends with status
 * 0 if every failed call returned the right error and no byte is wrong.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define BLOCK (1u << 20)
#define BLOCKS 4096u
#define PAGES (BLOCK / PAGE) /* of a block */
#define WORDS (PAGE / 8)

static uint64_t *block[BLOCKS], seed[BLOCKS][PAGES];
static unsigned nblocks;

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static void write_page(unsigned b, unsigned p, uint64_t with)
{
	seed[b][p] = with;
	for (unsigned i = 0; i < WORDS; i++)
		block[b][p * WORDS + i] = mix(with + i);
}

static void write_block(unsigned b, uint64_t with)
{
	for (unsigned p = 0; p < PAGES; p++)
		write_page(b, p, mix(with + p));
}

static void check_blocks(void)
{
	for (unsigned b = 0; b < nblocks; b++)
		for (unsigned i = 0; i < PAGES * WORDS; i++)
			if (block[b][i] != mix(seed[b][i / WORDS] + i % WORDS)) {
				printf("block %u is wrong at word %u\n", b, i);
				exit(1);
			}
}

/* Allocates until memory is exhausted. flags: of mmap; 0: by malloc. */
static void take_all(int flags)
{
	while (nblocks < BLOCKS) {
		uint64_t *p = flags == 0 ? malloc(BLOCK)
					 : mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, flags, -1, 0);

		if (p == NULL || p == MAP_FAILED)
			break;
		block[nblocks] = p;
		write_block(nblocks, (uint64_t)nblocks << 32);
		nblocks++;
	}
	if (nblocks == BLOCKS || errno != ENOMEM) {
		printf("%u blocks, then %s\n", nblocks, strerror(errno));
		exit(2);
	}
}

/*
 * Rewrites all pages this many times, in random order, so that their stored objects are scattered.
 */
static int fill(unsigned rounds)
{
	take_all(0);
	for (uint64_t i = 0; i < (uint64_t)rounds * nblocks * PAGES; i++) {
		uint64_t at = mix(i + 1) % (nblocks * PAGES);

		write_page((unsigned)(at / PAGES), (unsigned)(at % PAGES), mix(i ^ 0x5bd1e995u));
	}
	check_blocks();
	return 0;
}

/*
 * As malloc's arenas: mapped without access and not reserved, opened when all other memory is
 * reserved.
 */
static int arena(void)
{
	size_t len = 16u << 20;
	char *p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return 3;
	take_all(MAP_PRIVATE | MAP_ANONYMOUS);
	if (mprotect(p, len, PROT_READ | PROT_WRITE) == 0)
		memset(p, 1, len);
	else if (errno != ENOMEM)
		return 4;
	check_blocks();
	return 0;
}

/* Memory that is not reserved: either refused when it is mapped, or usable. */
static int unreserved(void)
{
	take_all(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	check_blocks();
	return 0;
}

static pthread_barrier_t barrier;

static __attribute__((noinline)) void use_more(void)
{
	volatile char more[48u << 10];

	for (unsigned i = 0; i < sizeof more; i += PAGE)
		more[i] = 1;
}

/* deep: uses more of the stack when all memory is reserved. */
static void *use_stack(void *deep)
{
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	if (deep != NULL)
		use_more();
	return NULL;
}

static int stacks(unsigned n, int fill_up)
{
	pthread_t *t = malloc(n * sizeof *t);

	pthread_barrier_init(&barrier, NULL, n + 1);
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&t[i], NULL, use_stack, fill_up ? t : NULL) != 0) {
			printf("thread %u is refused\n", i);
			exit(5);
		}
	pthread_barrier_wait(&barrier);
	if (fill_up)
		take_all(0);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	check_blocks();
	printf("%u threads\n", n);
	return 0;
}

/*
 * A child has its parent's memory and writes all of it; without room for that, the fork is refused.
 */
static int forked(unsigned n)
{
	int status = 0;

	for (unsigned b = 0; b < n; b++) {
		if ((block[b] = malloc(BLOCK)) == NULL)
			return 6;
		write_block(b, b);
		nblocks++;
	}
	pid_t pid = fork();
	if (pid < 0) {
		printf("fork: %s\n", strerror(errno));
		check_blocks();
		return errno == ENOMEM ? 0 : 7;
	}
	for (unsigned b = 0; b < nblocks; b++)
		write_block(b, mix((uint64_t)getpid() + b));
	check_blocks();
	if (pid == 0)
		_exit(0);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return 8;
	printf("forked\n");
	return 0;
}

/* Maps far more memory than there is, as if little of it were used, and then touches all. */
static int sparse(void)
{
	size_t len = (size_t)1 << 40;
	char *p = mmap(
	    NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return 9;
	for (size_t at = 0; at < len; at += len / 64)
		p[at] = 1;
	for (size_t at = 0; at < len; at += PAGE)
		p[at] = 1;
	return 0;
}

/* Each child has three quarters of all memory; the children run one after another. */
static int children(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int status = 0;
		pid_t pid = fork();

		if (pid < 0)
			return 10;
		if (pid == 0) {
			for (unsigned b = 0; b < 40; b++) {
				if ((block[b] = malloc(BLOCK)) == NULL)
					_exit(1);
				write_block(b, b + i);
				nblocks++;
			}
			check_blocks();
			_exit(0);
		}
		if (waitpid(pid, &status, 0) != pid || status != 0)
			return 11;
	}
	printf("children: %u\n", n);
	return 0;
}

/*
 * Uses three quarters of all memory this many times, each time by another program in the same
 * process.
 */
static int again(char **argv, unsigned n)
{
	char left[16];

	for (unsigned b = 0; b < 40; b++) {
		if ((block[b] = malloc(BLOCK)) == NULL)
			return 12;
		write_block(b, b + n);
		nblocks++;
	}
	check_blocks();
	if (n == 0) {
		printf("again\n");
		return 0;
	}
	(void)snprintf(left, sizeof left, "%u", n - 1);
	return execl(argv[0], argv[0], "again", left, (char *)NULL);
}

int main(int argc, char **argv)
{
	unsigned n = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
	const char *how = argc > 1 ? argv[1] : "";

	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(how, "fill") == 0)
		return fill(n);
	if (strcmp(how, "arena") == 0)
		return arena();
	if (strcmp(how, "unreserved") == 0)
		return unreserved();
	if (strcmp(how, "stacks") == 0)
		return stacks(n, 0);
	if (strcmp(how, "stacks-full") == 0)
		return stacks(n, 1);
	if (strcmp(how, "sparse") == 0)
		return sparse();
	if (strcmp(how, "again") == 0)
		return again(argv, n);
	if (strcmp(how, "children") == 0)
		return children(n);
	return strcmp(how, "fork") == 0 ? forked(n) : 64;
}
