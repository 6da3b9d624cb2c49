/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs for a machine whose swap disk fails: `errors once`: the disk fails one request; `errors
 * stack`: every read of written blocks fails.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PG 4096ul
#define PAGES 7168ul /* 28 MiB: more than the machine has */
#define MAPPED (PROT_READ | PROT_WRITE), (MAP_PRIVATE | MAP_ANONYMOUS)

static sigjmp_buf escape;
static volatile unsigned signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
	siglongjmp(escape, 1);
}

/* Returns the count of that name in /proc/quire. */
static unsigned long number(const char *name)
{
	FILE *f = fopen("/proc/quire", "r");
	unsigned long n = 0;
	char line[128];

	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ' ')
			n = strtoul(line + strlen(name), NULL, 10);
	fclose(f);
	return n;
}

/* Writes memory and reads it twice. An access that raises a signal is repeated. */
static int bear_one_error(void)
{
	uint64_t *p = mmap(NULL, PAGES * PG, MAPPED, -1, 0);
	volatile unsigned long i = 0, wrong = 0;

	if (p == MAP_FAILED)
		return 1;
	signal(SIGBUS, on_signal);
	(void)sigsetjmp(escape, 1);
	for (; i < PAGES && signals < 9; i++)
		p[i * PG / 8] = i + 1;
	for (unsigned pass = 1; pass <= 2; pass++) {
		i = 0;
		(void)sigsetjmp(escape, 1);
		for (; i < PAGES && signals < 9; i++) {
			wrong += p[i * PG / 8] != i + pass;
			p[i * PG / 8] = i + pass + 1;
		}
	}
	printf("errors: %u signals, %lu wrong, disk errors %lu\n", signals, wrong,
	    number("disk1_errors"));
	return wrong != 0 || signals >= 9;
}

/*
 * A child sleeps until its kernel stack is in swap, then is woken. This process reads no page from
 * swap, as it is locked in memory.
 */
static int wake_a_swapped_child(void)
{
	int fd[2];
	char c;

	(void)number("stacks_out"); /* allocates the heap before the memory is locked */
	if (pipe(fd) != 0 || mlockall(MCL_CURRENT) != 0)
		return 1;
	if (fork() == 0)
		_exit(read(fd[0], &c, 1) != 1);
	while (number("stacks_out") == 0) {
		uint8_t *p = mmap(NULL, PAGES * PG, MAPPED, -1, 0);

		if (p == MAP_FAILED)
			return 1;
		for (unsigned long i = 0; i < PAGES; i++)
			p[i * PG] = 1;
		munmap(p, PAGES * PG);
	}
	if (write(fd[1], "x", 1) != 1)
		return 1;
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	return argc > 1 && strcmp(argv[1], "stack") == 0 ? wake_a_swapped_child()
							 : bear_one_error();
}
