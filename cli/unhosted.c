/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that the kernel keeps for the family, beside what is hosted: initialised data, stacks of first threads, private mappings of
 * files that were written, shared anonymous memory, what a program maps by system calls that the runtime does not see, a process
 * that is not hosted. --memory does not limit it, so it is measured and reported.
 *
 * At intervals each descendant's entry in /proc is read: its anonymous and shared memory that is
 * resident, less what the family has charged for the process (which is at least its resident part
 * of that) and what the runtime itself takes. That is a lower bound. A process that ends by exit()
 * measures itself exactly at that moment (run/measure.c). The largest sum ever seen goes to the
 * report.
 *
 * A descendant without a slot that maps the family's state was just forked, or is a child of
 * vfork() whose memory is its parent's. A descendant that does not map it is not hosted, or may be
 * about to join if the runtime is among its mappings. Shared memory is counted once, in the process
 * that has most of it mapped; the store's is never counted.
 */
#include "run.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DESCENDANTS (4 * FAMILY_PROCS)
#define RUNTIME "libquire-run.so"
#define STATE "memfd:quire-family"
#define BEGINNING 256u /* pages that a process has before it joins, at most */
#define SLACK 512u     /* pages of the store's tables that a process may have mapped, at least */

struct sizes {
	uint64_t anon, shmem;
}; /* resident, pages */

static bool read_sizes(pid_t pid, struct sizes *s)
{
	char path[64], line[256];
	unsigned long long kib;

	*s = (struct sizes){ 0 };
	(void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return false;
	while (fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "RssAnon: %llu", &kib) == 1)
			s->anon = kib / 4;
		else if (sscanf(line, "RssShmem: %llu", &kib) == 1)
			s->shmem = kib / 4;
	(void)fclose(f);
	return true;
}

/* For a process without a slot: how many of its pages belong to its start; all of them, if it is
 * hosted. */
static uint64_t pages_of_start(pid_t pid)
{
	char path[64], line[4096];
	uint64_t pages = 0;

	(void)snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return UINT64_MAX; /* the process is gone, or may not be looked at */
	while (pages < UINT64_MAX && fgets(line, sizeof line, f) != NULL)
		if (strstr(line, STATE) != NULL)
			pages = UINT64_MAX;
		else if (strstr(line, RUNTIME) != NULL)
			pages = BEGINNING;
	(void)fclose(f);
	return pages;
}

/* Appends the children of all threads of that process to pids; returns how many pids there are
 * then. */
static unsigned add_children(const char *of, pid_t *pids, unsigned n)
{
	char path[320];

	(void)snprintf(path, sizeof path, "/proc/%s/task", of);
	DIR *d = opendir(path);
	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		int pid;

		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof path, "/proc/%.16s/task/%.16s/children", of, e->d_name);
		FILE *f = fopen(path, "re");
		while (f != NULL && n < DESCENDANTS && fscanf(f, "%d", &pid) == 1)
			pids[n++] = pid;
		if (f != NULL)
			(void)fclose(f);
	}
	if (d != NULL)
		(void)closedir(d);
	return n;
}

static const struct family_proc *find_slot(const struct run *r, pid_t pid)
{
	for (unsigned i = 0; i < r->nconn; i++)
		if (r->conn[i].pid == pid && r->conn[i].slot >= 0)
			return &r->fam->fam_proc[r->conn[i].slot];
	return NULL;
}

static bool is_keeper(const struct run *r, pid_t pid)
{
	for (unsigned i = 0; i < RUN_STORES; i++)
		if (r->store[i] != NULL && r->store[i]->keeper == pid)
			return true;
	return false;
}

static uint64_t less_or_zero(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

void run_measure(struct run *r)
{
	static pid_t pids[DESCENDANTS]; /* only the loop's thread uses it */
	uint64_t anon = 0, shmem = 0,
		 store = atomic_load(&r->fam->fam_pool_pages) +
	    atomic_load(&r->fam->fam_need) / 32 + SLACK;
	unsigned n = add_children("self", pids, 0);

	for (unsigned i = 0; i < n; i++) {
		const struct family_proc *p = find_slot(r, pids[i]);
		uint64_t start;
		char name[16];
		struct sizes s;

		(void)snprintf(name, sizeof name, "%d", (int)pids[i]);
		if (is_keeper(r, pids[i]))
			continue;
		n = add_children(name, pids, n);
		start = p == NULL ? pages_of_start(pids[i]) : 0;
		if (start == UINT64_MAX || !read_sizes(pids[i], &s))
			continue;
		uint64_t shared = p == NULL ? s.shmem : less_or_zero(s.shmem, store);
		anon += p == NULL
		    ? less_or_zero(s.anon, start)
		    : less_or_zero(s.anon, atomic_load(&p->fp_granted) + atomic_load(&p->fp_own));
		shmem = shared > shmem ? shared : shmem;
	}
	r->unhosted = anon + shmem;
	if (r->unhosted > r->unhosted_peak)
		r->unhosted_peak = r->unhosted;
}
