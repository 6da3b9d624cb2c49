/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hostile KIND: a family in which a process with few rights writes to the family's state, in order
 * to harm processes with more rights. tests/run/run_guard_test.py runs it under quire run.
 *
 * slots PAGES  the first process keeps so many pages. A process that has given up root marks the
 *              first process's slot as free, and a third process, as the first one's user, forks.
 *              Prints how many pages of the first process are wrong, and how the child ended.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/family.h"

#define PAGE 4096u
#define NOBODY 65534u

static struct family *find_family(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long from;
	char line[512];
	void *found = NULL;

	while (f != NULL && found == NULL && fgets(line, sizeof line, f) != NULL)
		if (strstr(line, "memfd:quire-family") != NULL && sscanf(line, "%lx", &from) == 1)
			found = (void *)(uintptr_t)from;
	if (f == NULL || found == NULL)
		exit(65);
	(void)fclose(f);
	return found;
}

static uint64_t word(size_t page, unsigned i) { return (page * 512 + i) * 0x9e3779b97f4a7c15u + 1; }

static void write_pages(uint64_t *p, size_t pages)
{
	for (size_t k = 0; k < pages; k++)
		for (unsigned i = 0; i < PAGE / 8; i++)
			p[k * PAGE / 8 + i] = word(k, i);
}

static size_t count_wrong(const uint64_t *p, size_t pages)
{
	size_t wrong = 0;

	for (size_t k = 0; k < pages; k++) {
		bool right = true;

		for (unsigned i = 0; i < PAGE / 8; i++)
			right &= p[k * PAGE / 8 + i] == word(k, i);
		wrong += !right;
	}
	return wrong;
}

/* Runs work in a child, which ends with its result. Returns how it ended. */
static int in_child(int (*work)(void *), void *arg)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(work(arg));
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

/* The entry of that process in the family's table. */
static struct family_proc *entry_of(int pid)
{
	struct family *f = find_family();
	unsigned i = 0;

	while (i < FAMILY_PROCS && atomic_load(&f->fam_proc[i].fp_pid) != pid)
		i++;
	if (i == FAMILY_PROCS)
		exit(67);
	return &f->fam_proc[i];
}

static int mark_free(void *arg)
{
	if (geteuid() == 0 && (setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
		return 1;
	atomic_store(&entry_of(*(int *)arg)->fp_pid, 0);
	return 0;
}

static int change_all(void *arg)
{
	uint64_t *p = *(void **)arg;

	for (size_t k = 0; k < 256; k++)
		p[k * PAGE / 8] = 7;
	return 0;
}

static int fork_and_change(void *arg)
{
	int status = in_child(change_all, arg);

	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int slots(size_t pages)
{
	uint64_t *p =
	    mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int own = (int)getpid();
	struct family_proc *entry = entry_of(own);

	if (p == MAP_FAILED)
		return 66;
	write_pages(p, pages);
	for (unsigned i = 0; i < 3; i++) {
		int marked = in_child(mark_free, &own), forked = in_child(fork_and_change, &p);

		printf("%d %d ", marked, forked);
		atomic_store(&entry->fp_pid, own);
	}
	printf("%zu\n", count_wrong(p, pages));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "slots") == 0)
		return slots(strtoul(argv[2], NULL, 10));
	return 64;
}
