/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of `programs` (programs.c): pages through pipes, and the files of /proc about memory. */
#define _GNU_SOURCE
#include "programs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

unsigned long number_in(const char *path, const char *word)
{
	unsigned long n = ~0ul;
	char line[512];
	FILE *f = fopen(path, "r");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, word, strlen(word)) == 0 &&
		    strchr(" \t:", line[strlen(word)]) != NULL)
			n = strtoul(line + strlen(word) + 1, NULL, 10);
	if (f != NULL)
		fclose(f);
	return n;
}

static void fill(uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 7 + i / 4096 + seed);
}

static int is_filled(const uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != (uint8_t)(i * 7 + i / 4096 + seed))
			return 0;
	return 1;
}

#define SPLICED (8 * PG)

/*
 * Pages between written bytes keep their place in the stream; a receiver gets them by splice and by
 * read.
 */
static void vmsplice_moves_pages(void)
{
	uint8_t *from =
	    mmap(NULL, SPLICED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *to =
	    mmap(NULL, SPLICED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec out = { from, SPLICED }, in = { to, SPLICED };
	char word[4];
	int fd[2], status;
	pid_t pid;

	CHECK(pipe(fd) == 0 && from != MAP_FAILED && to != MAP_FAILED);
	fill(from, SPLICED, 1);
	CHECK(write(fd[1], "one", 3) == 3);
	CHECK(vmsplice(fd[1], &out, 1, 0) == (ssize_t)SPLICED);
	CHECK(write(fd[1], "two", 3) == 3);
	CHECK(read(fd[0], word, 3) == 3 && memcmp(word, "one", 3) == 0);
	for (size_t got = 0; got < SPLICED;) {
		ssize_t n = read(fd[0], to + got, SPLICED - got);

		CHECK(n > 0);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	CHECK(is_filled(to, SPLICED, 1) && is_filled(from, SPLICED, 1));
	CHECK(read(fd[0], word, 3) == 3 && memcmp(word, "two", 3) == 0);

	/* a child gives pages away, which are then mapped in this process */
	fill(to, SPLICED, 9);
	if ((pid = fork()) == 0) {
		fill(from, SPLICED, 2);
		_exit(vmsplice(fd[1], &out, 1, SPLICE_F_GIFT) == (ssize_t)SPLICED ? 0 : 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	for (size_t got = 0; got < SPLICED;) {
		ssize_t n = vmsplice(fd[0], &in, 1, 0);

		CHECK(n > 0);
		if (n <= 0)
			break;
		got += (size_t)n;
		in.iov_base = to + got;
		in.iov_len = SPLICED - got;
	}
	CHECK(is_filled(to, SPLICED, 2));
	fill(to, SPLICED, 3);
	CHECK(is_filled(to, SPLICED, 3));
	CHECK(vmsplice(STDIN_FILENO == fd[0] ? 1 : fd[1], NULL, 0, 0) == 0);
	close(fd[0]);
	close(fd[1]);
	munmap(from, SPLICED);
	munmap(to, SPLICED);
}

/* The line of maps, or of smaps up to its "Locked:", that has the address; false: there is none. */
static int find_mapping(const char *path, const void *at, char *line, size_t room)
{
	FILE *f = fopen(path, "r");
	int found = 0;

	while (!found && f != NULL && fgets(line, (int)room, f) != NULL) {
		unsigned long from, to;

		found = sscanf(line, "%lx-%lx ", &from, &to) == 2 && from <= (uintptr_t)at &&
		    (uintptr_t)at < to;
	}
	if (f != NULL)
		fclose(f);
	return found;
}

static void maps_names_the_files(void)
{
	char path[] = "/tmp/mapped-file", line[512], rights[8];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	unsigned long off = 0;
	void *file, *anon = mmap(NULL, PG, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *heap = sbrk(PG);

	CHECK(fd >= 0 && ftruncate(fd, 4 * PG) == 0);
	file = mmap(NULL, 2 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 2 * PG);
	CHECK(file != MAP_FAILED);
	CHECK(find_mapping("/proc/self/maps", file, line, sizeof(line)) &&
	    strstr(line, path) != NULL);
	CHECK(sscanf(line, "%*s %7s %lx", rights, &off) == 2 && strcmp(rights, "rw-s") == 0 &&
	    off == 2 * PG);
	CHECK(
	    find_mapping("/proc/self/maps", anon, line, sizeof(line)) && strchr(line, '/') == NULL);
	CHECK(find_mapping("/proc/self/maps", line, line, sizeof(line)) &&
	    strstr(line, "[stack]") != NULL);
	CHECK(find_mapping("/proc/self/maps", heap, line, sizeof(line)) &&
	    strstr(line, "[heap]") != NULL);
	CHECK(find_mapping(
		  "/proc/self/maps", (void *)(uintptr_t)maps_names_the_files, line, sizeof(line)) &&
	    strstr(line, "programs") != NULL && strstr(line, "r-x") != NULL);
	CHECK(rename(path, "/tmp/renamed-file") == 0);
	CHECK(find_mapping("/proc/self/maps", file, line, sizeof(line)) &&
	    strstr(line, "/tmp/renamed-file") != NULL);
	CHECK(unlink("/tmp/renamed-file") == 0);
	CHECK(find_mapping("/proc/self/maps", file, line, sizeof(line)) &&
	    strstr(line, "(deleted)") != NULL);
	munmap(file, 2 * PG);
	munmap(anon, PG);
	close(fd);
}

/* Kilobytes that smaps counts under that word for the mapping that has the address. */
static unsigned long smaps_of(const void *at, const char *word)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long n = ~0ul;
	char line[512];
	int mine = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			mine = from <= (uintptr_t)at && (uintptr_t)at < to;
		else if (mine && strncmp(line, word, strlen(word)) == 0)
			n = strtoul(line + strlen(word), NULL, 10);
	}
	if (f != NULL)
		fclose(f);
	return n;
}

static void smaps_counts_what_is_there(void)
{
	/* the middle: its neighbours have other rights, so that no segment merges with it */
	uint8_t *all = mmap(NULL, 10 * PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		*p = all + PG;

	CHECK(mprotect(p, 8 * PG, PROT_READ | PROT_WRITE) == 0);
	CHECK(smaps_of(p, "Size:") == 32 && smaps_of(p, "Rss:") == 0);
	for (unsigned i = 0; i < 5; i++)
		p[i * PG] = 1;
	CHECK(mlock(p, 5 * PG) == 0); /* no page of it is paged out during the checks */
	/* memory that is first touched in order may be filled a little ahead */
	CHECK(smaps_of(p, "Rss:") >= 20 && smaps_of(p, "Rss:") <= 32);
	CHECK(smaps_of(p, "Anonymous:") == smaps_of(p, "Rss:") &&
	    smaps_of(p, "Private_Dirty:") >= 20);
	munmap(all, 10 * PG);
}

static void proc_tells_of_memory(void)
{
	unsigned long total = number_in("/proc/meminfo", "MemTotal"),
		      size = number_in("/proc/self/status", "VmSize");
	unsigned long faults = number_in("/proc/vmstat", "pgfault"),
		      free = number_in("/proc/meminfo", "MemFree");
	uint8_t *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(total > 8192 && total < 1ul << 30 && free <= total);
	for (size_t i = 0; i < MIB; i += PG)
		p[i] = 1;
	CHECK(number_in("/proc/vmstat", "pgfault") >= faults + 16);
	CHECK(number_in("/proc/self/status", "VmSize") >= size + MIB / 1024);
	CHECK(number_in("/proc/self/status", "VmRSS") <= number_in("/proc/self/status", "VmSize"));
	CHECK(number_in("/proc/self/status", "Pid") == (unsigned long)getpid());
	CHECK(mlock(p, 4 * PG) == 0);
	CHECK(number_in("/proc/self/status", "VmLck") == 16);
	CHECK(number_in("/proc/meminfo", "SwapTotal") != ~0ul &&
	    number_in("/proc/vmstat", "pswpout") != ~0ul);
	munmap(p, MIB);
}

/* Hundredths of a second in which the CPUs worked and in which they had nothing to do. */
static void cpu_time(unsigned long *work, unsigned long *idle)
{
	FILE *f = fopen("/proc/stat", "re");

	*work = *idle = 0;
	CHECK(f != NULL && fscanf(f, "cpu %lu 0 0 %lu", work, idle) == 2);
	fclose(f);
}

static void idle_time_is_told(void)
{
	unsigned long work, idle, work_after, idle_after;
	struct timespec now, end;

	cpu_time(&work, &idle);
	nanosleep(&(struct timespec){ 0, 300000000 }, NULL);
	cpu_time(&work_after, &idle_after);
	CHECK(idle_after >= idle + 15);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += 300000000;
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
	work = work_after;
	cpu_time(&work_after, &idle);
	CHECK(work_after >= work + 15);
}

static void proc_quire_counts(void)
{
	static const char *const words[] = { "frames", "queue_free", "queue_cache", "queue_policy",
		"segments", "spaces", "kernel_segments", "swap1_slots", "swap1_used",
		"swap1_priority", "tlb_loads", "tlb_flushes", "tlb_interrupts", "tlb_marked",
		"disk0_reads", "disk0_errors", "disk0_deepest", "fault" };
	unsigned long frames = number_in("/proc/quire", "frames"), segments, moved;
	void *p[8];

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (number_in("/proc/quire", words[i]) == ~0ul)
			printf("/proc/quire lacks %s\n", words[i]);
		CHECK(number_in("/proc/quire", words[i]) != ~0ul);
	}
	CHECK(number_in("/proc/quire", "queue_free") + number_in("/proc/quire", "queue_policy") <=
	    frames);
	CHECK(number_in("/proc/quire", "swap1_slots") == number_in("/proc/quire", "swap_total"));
	segments = number_in("/proc/quire", "segments");
	for (unsigned i = 0; i < 8; i++) /* no two have the same rights as their neighbours */
		p[i] = mmap(NULL, PG, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(number_in("/proc/quire", "segments") >= segments + 6);
	for (unsigned i = 0; i < 8; i++)
		munmap(p[i], PG);
	moved = number_in("/proc/quire", "xfer_move");
	vmsplice_moves_pages();
	/* the gift moves into the pipe and out again */
	CHECK(number_in("/proc/quire", "xfer_move") == moved + 2 * SPLICED / PG);
	CHECK(number_in("/proc/quire", "xfer_share") >= SPLICED / PG);
}

/* ---- shared images ---- */
#define IMAGE (64 * PG)

static int read_image(int fd)
{
	const uint8_t *p = mmap(NULL, IMAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);

	return p == MAP_FAILED || !is_filled(p, IMAGE, 4);
}

/*
 * Pages of a file that one process has read are mapped by other processes without a read and
 * without further frames.
 */
static void an_image_is_in_memory_once(void)
{
	int fd = open("/tmp/image", O_RDWR | O_CREAT | O_TRUNC, 0700), status;
	uint8_t *p = malloc(IMAGE);
	unsigned long reads, fresh;

	CHECK(fd >= 0 && p != NULL);
	fill(p, IMAGE, 4);
	CHECK(write(fd, p, IMAGE) == (ssize_t)IMAGE && fsync(fd) == 0 && read_image(fd) == 0);
	reads = number_in("/proc/quire", "disk0_pages_read");
	fresh = number_in("/proc/quire", "zfod");
	for (unsigned i = 0; i < 8; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(read_image(fd));
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
	CHECK(number_in("/proc/quire", "disk0_pages_read") < reads + IMAGE / PG);
	CHECK(number_in("/proc/quire", "zfod") < fresh + 8 * IMAGE / PG);
	unlink("/tmp/image");
	close(fd);
	free(p);
}

/* ---- whole processes ---- */
#define SLEEPER (512 * PG)
static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleep_cond = PTHREAD_COND_INITIALIZER;
static int may_wake;

static void *sleep_on_a_futex(void *arg)
{
	pthread_mutex_lock(&sleep_lock);
	while (!may_wake)
		pthread_cond_wait(&sleep_cond, &sleep_lock);
	pthread_mutex_unlock(&sleep_lock);
	return arg;
}

/* One thread sleeps in a pipe, another at a futex; afterwards all memory must be unchanged. */
static int sleep_and_look(int fd)
{
	uint8_t *p =
	    mmap(NULL, SLEEPER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t t;
	void *back = NULL;
	char c;

	fill(p, SLEEPER, 5);
	if (pthread_create(&t, NULL, sleep_on_a_futex, p) != 0 || read(fd, &c, 1) != 1)
		return 1;
	pthread_mutex_lock(&sleep_lock);
	may_wake = 1;
	pthread_cond_signal(&sleep_cond);
	pthread_mutex_unlock(&sleep_lock);
	pthread_join(t, &back);
	return back != p || !is_filled(p, SLEEPER, 5);
}

static void sleepers_are_swapped_out_and_come_back(void)
{
	unsigned long out = number_in("/proc/quire", "stacks_out"),
		      in = number_in("/proc/quire", "stacks_in");
	unsigned long seen = out;
	size_t room = 40 * MIB; /* more memory than the machine has, so that page-out runs */
	uint8_t *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd[2], status;
	pid_t pid;

	CHECK(p != MAP_FAILED && pipe(fd) == 0 && out != ~0ul);
	if ((pid = fork()) == 0)
		_exit(sleep_and_look(fd[0]));
	for (unsigned pass = 1; pass < 5000 && seen < out + 2; pass++) {
		for (size_t i = 0; i < room; i += PG)
			p[i] = (uint8_t)pass;
		seen = number_in("/proc/quire", "stacks_out");
	}
	CHECK(seen >= out + 2);
	CHECK(write(fd[1], "x", 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(number_in("/proc/quire", "stacks_in") >= in + 2);
	CHECK(number_in("/proc/quire", "swapped_processes") > 0);
	/* the swapper once held proc_lock while it wrote, and each fork waited for the disk */
	CHECK(number_in("/proc/quire", "disk1_waits_under_proc_lock") == 0);
	close(fd[0]);
	close(fd[1]);
	munmap(p, room);
}

const struct test proc_tests[] = {
	T(vmsplice_moves_pages, 1),
	T(maps_names_the_files, 1),
	T(smaps_counts_what_is_there, 1),
	T(proc_tells_of_memory, 1),
	T(idle_time_is_told, 0),
	T(proc_quire_counts, 0),
	T(an_image_is_in_memory_once, 0),
	T(sleepers_are_swapped_out_and_come_back, 0),
	{ NULL, NULL, 0 },
};
