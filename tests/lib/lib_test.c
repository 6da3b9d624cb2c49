/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract of <quire/quire.h>, call by call: results, errors, and the signals that a bad access
 * gets. A case that depends on a process's signal handlers, or ends the process, runs in a separate
 * process: this program, executed with the name of the case.
 */
#include "tests/lib/lib_rig.h"

/* ---- open and close ---- */
static void open_refuses(void **state)
{
	struct quire_store bare = { .slots = 10 };
	struct quire_config none = { .size = sizeof none },
			    good = { .size = sizeof good, .memory = 2 * MIB }, c;
	struct quire *q;

	(void)state;
	fails(quire_open(NULL, &q), EINVAL);
	fails(quire_open(&good, NULL), EINVAL);
	fails(quire_open(&none, &q), EINVAL);
	c = good, c.size = 0;
	fails(quire_open(&c, &q), EINVAL);
	c = good, c.size = sizeof c + 8;
	fails(quire_open(&c, &q), EINVAL);
	c = good, c.memory = MIB - 1;
	fails(quire_open(&c, &q), EINVAL);
	c = good, c.swap = MIB;
	fails(quire_open(&c, &q), EINVAL);
	c = good, c.store = &bare;
	fails(quire_open(&c, &q), EINVAL);
	c = good, c.pool = MIB, c.swap = 16 * MIB, c.swap_path = "/nonexistent/directory";
	fails(quire_open(&c, &q), ENOENT);
	c.swap_path = "/proc";
	assert_int_equal(quire_open(&c, &q), -1);
	assert_true(errno != 0);
}

static unsigned count_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static unsigned count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned n = 0;

	assert_non_null(f);
	for (int c; (c = getc(f)) != EOF;)
		n += c == '\n';
	(void)fclose(f);
	return n;
}

static void close_leaves_nothing(void **state)
{
	unsigned fds = count_fds(), maps = 0;

	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		struct quire_config c = { .memory = 2 * MIB, .pool = MIB, .swap = 16 * MIB };
		struct quire *q = open_with(&c);
		char *p = map(q, 1024);
		int fd = file_of(8 * PAGE);
		char *f = quire_map(q, NULL, 8 * PAGE, RW, MAP_SHARED, fd, 0);

		assert_ptr_not_equal(f, MAP_FAILED);
		fill(p, 1024, i);
		f[5] = 'X';
		assert_int_equal(close(fd), 0);
		done(q);
		if (i == 3) /* the C library's own descriptors exist by now */
			maps = count_maps();
	}
	assert_int_equal(count_fds(), fds);
	assert_true(count_maps() <= maps + 1);
}

/* ---- map ---- */
static void map_has_errors_of_mmap(void **state)
{
	struct quire *q = small();
	int fd = file_of(2 * PAGE), ro = again(fd, O_RDONLY), wo = again(fd, O_WRONLY), ends[2];
	char *p = map(q, 4);

	(void)state;
	assert_int_equal(pipe(ends), 0);
	map_fails(quire_map(q, NULL, 0, RW, ANON, -1, 0), EINVAL);
	map_fails(quire_map(q, NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
	map_fails(
	    quire_map(q, NULL, PAGE, RW, MAP_PRIVATE | MAP_SHARED | MAP_ANONYMOUS, -1, 0), EINVAL);
	map_fails(quire_map(q, NULL, PAGE, RW, MAP_PRIVATE, fd, 7), EINVAL);
	map_fails(quire_map(q, p + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
	map_fails(quire_map(q, NULL, PAGE, 0x40, ANON, -1, 0), EINVAL);
	map_fails(quire_map(q, NULL, PAGE, PROT_READ | PROT_EXEC, ANON, -1, 0), EACCES);
	map_fails(quire_map(q, NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
	map_fails(quire_map(q, NULL, PAGE, PROT_READ, MAP_PRIVATE, ends[0], 0), ENODEV);
	map_fails(quire_map(q, NULL, PAGE, PROT_READ, MAP_PRIVATE, wo, 0), EACCES);
	map_fails(quire_map(q, NULL, PAGE, RW, MAP_SHARED, ro, 0), EACCES);
	map_fails(quire_map(q, NULL, PAGE, RW, ANON | MAP_GROWSDOWN, -1, 0), EOPNOTSUPP);
	map_fails(quire_map(q, p + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
	map_fails(
	    quire_map(q, (void *)(uintptr_t)(16 * MIB), PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
	map_fails(quire_map(q, NULL, (size_t)1 << 46, RW, ANON | MAP_NORESERVE, -1, 0), ENOMEM);
	assert_int_equal(close(fd) | close(ro) | close(wo) | close(ends[0]) | close(ends[1]), 0);
	done(q);
}

static void map_takes_a_hint_and_fixed_replaces(void **state)
{
	struct quire *q = small();
	char *p = map(q, 8), *at;

	(void)state;
	fill(p, 8, 1);
	at = quire_map(q, p + 16 * PAGE, PAGE, RW, ANON, -1, 0);
	assert_ptr_equal(at, p + 16 * PAGE);
	at = quire_map(q, p, PAGE, RW, ANON, -1, 0); /* taken: elsewhere */
	assert_ptr_not_equal(at, MAP_FAILED);
	assert_true(at < p || at >= p + 8 * PAGE);
	assert_ptr_equal(
	    quire_map(q, p + 2 * PAGE, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0), p + 2 * PAGE);
	assert_int_equal(wrong(p, 2, 1), 0);
	for (size_t i = 0; i < 2 * PAGE; i++)
		assert_int_equal(p[2 * PAGE + i], 0);
	done(q);
}

/* Memory is full when all of it is promised, not when all of it is used. */
static void map_gives_enomem_when_the_store_could_not_hold_it(void **state)
{
	struct quire_config c = { .memory = 2 * MIB, .pool = 2 * MIB };
	struct quire *q = open_with(&c);
	size_t most = 0;
	void *p[64];

	(void)state;
	map_fails(quire_map(q, NULL, 8 * MIB, RW, ANON, -1, 0), ENOMEM);
	while (most < 64 && (p[most] = quire_map(q, NULL, MIB / 4, RW, ANON, -1, 0)) != MAP_FAILED)
		most++;
	assert_int_equal(errno, ENOMEM);
	assert_true(most >= 8 && most < 16);
	for (size_t i = 0; i < most;
	     i++) /* every promise is kept, with contents that hardly compress */
		fill(p[i], 64, (unsigned)i);
	for (size_t i = 0; i < most; i++)
		assert_int_equal(wrong(p[i], 64, (unsigned)i), 0);
	assert_int_equal(quire_unmap(q, p[0], MIB / 4), 0);
	assert_ptr_not_equal(quire_map(q, NULL, MIB / 4, RW, ANON, -1, 0), MAP_FAILED);
	assert_ptr_not_equal(
	    quire_map(q, NULL, 64 * MIB, RW, ANON | MAP_NORESERVE, -1, 0), MAP_FAILED);
	done(q);
}

static void a_fixed_map_that_fails_leaves_the_old_mapping(void **state)
{
	struct quire *q = small();
	char *p = map(q, 8);

	(void)state;
	fill(p, 8, 9);
	map_fails(quire_map(q, p, 1024 * MIB, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
	assert_int_equal(wrong(p, 8, 9), 0);
	assert_int_equal(quire_pin(q, p + PAGE, PAGE, 1), 0);
	map_fails(quire_map(q, p, 4 * PAGE, RW, ANON | MAP_FIXED, -1, 0), EBUSY);
	assert_int_equal(quire_unpin(q, p + PAGE, PAGE, 1), 0);
	assert_int_equal(wrong(p, 8, 9), 0);
	done(q);
}

static void map_populates(void **state)
{
	struct quire *q = small();
	unsigned char vec[16];
	char *p = quire_map(q, NULL, 16 * PAGE, RW, ANON | MAP_POPULATE, -1, 0);

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(quire_incore(q, p, 16 * PAGE, vec), 0);
	for (unsigned i = 0; i < 16; i++)
		assert_true((vec[i] & QUIRE_IN_MEMORY) != 0);
	done(q);
}

/* ---- unmap, protect ---- */
static void unmapped_memory_gets_maperr(void **state)
{
	struct quire *q = small();
	char *p = map(q, 8);

	(void)state;
	fill(p, 8, 3);
	assert_int_equal(quire_unmap(q, p + 2 * PAGE, PAGE), 0);
	gets(p + 2 * PAGE + 5, false, SIGSEGV, SEGV_MAPERR);
	gets(p + 2 * PAGE + 5, true, SIGSEGV, SEGV_MAPERR);
	assert_int_equal(touch(p + 3 * PAGE, false), 0);
	assert_int_equal(quire_unmap(q, p + 2 * PAGE, PAGE), 0); /* nothing there: fine */
	fails(quire_unmap(q, p + 1, PAGE), EINVAL);
	fails(quire_unmap(q, p, 0), EINVAL);
	fails(quire_unmap(q, (void *)(uintptr_t)PAGE, PAGE), EINVAL);
	assert_int_equal(wrong(p, 2, 3), 0);
	done(q);
}

static void protection_holds_and_gets_accerr(void **state)
{
	struct quire *q = small();
	char *p = map(q, 8);

	(void)state;
	fill(p, 8, 4);
	for (unsigned round = 0; round < 2; round++) { /* resident, then paged out */
		assert_int_equal(quire_protect(q, p, 4 * PAGE, PROT_READ), 0);
		if (round == 1)
			crowd(q);
		gets(p + PAGE, true, SIGSEGV, SEGV_ACCERR);
		assert_int_equal(touch(p + PAGE, false), 0);
		assert_int_equal(quire_protect(q, p, 4 * PAGE, PROT_NONE), 0);
		gets(p + PAGE, false, SIGSEGV, SEGV_ACCERR);
		assert_int_equal(quire_protect(q, p, 4 * PAGE, RW), 0);
		assert_int_equal(wrong(p, 8, 4), 0);
	}
	fails(quire_protect(q, p, PAGE, PROT_READ | PROT_EXEC), EACCES);
	fails(quire_protect(q, p, PAGE, 0x40), EINVAL);
	fails(quire_protect(q, p + 3, PAGE, PROT_READ), EINVAL);
	assert_int_equal(quire_unmap(q, p + 4 * PAGE, PAGE), 0);
	fails(quire_protect(q, p, 8 * PAGE, PROT_READ), ENOMEM);
	gets(p + 3 * PAGE, true, SIGSEGV, SEGV_ACCERR); /* the part before the gap is changed */
	done(q);
}

/* ---- contents ---- */
static void contents_survive_being_paged_out(void **state)
{
	struct quire_config c = { .memory = 2 * MIB, .pool = MIB, .swap = 32 * MIB };
	struct quire *q = open_with(&c);
	char *p = map(q, 3000);

	(void)state;
	fill(p, 3000, 5);
	assert_int_equal(wrong(p, 3000, 5), 0);
	for (size_t i = 0; i < 3000; i += 3) /* scattered words, each read before it is written */
		((unsigned *)(void *)(p + i * PAGE))[7]++;
	for (size_t i = 0; i < 3000; i += 3)
		((unsigned *)(void *)(p + i * PAGE))[7]--;
	assert_int_equal(wrong(p, 3000, 5), 0);
	assert_true(stats(q).pages_out > 0 && stats(q).swap_used > 0);
	assert_true(stats(q).swap_written > 0 && stats(q).swap_read > 0);
	assert_true(stats(q).resident <= 2 * MIB);
	done(q);
}

struct worker {
	pthread_t thread;
	struct quire *q;
	unsigned salt;
	size_t bad;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	char *p = quire_map(w->q, NULL, 1024 * PAGE, RW, ANON, -1, 0);

	for (unsigned i = 0; p != MAP_FAILED && i < 3; i++) {
		fill(p, 1024, w->salt + i);
		w->bad += wrong(p, 1024, w->salt + i);
	}
	w->bad += p == MAP_FAILED;
	return NULL;
}

static void several_systems_with_threads_do_not_meet(void **state)
{
	struct quire *q[3];
	struct worker w[6];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		q[i] = small();
	for (unsigned i = 0; i < 6; i++) {
		w[i] = (struct worker){ .q = q[i / 2], .salt = i * 1000 };
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(pthread_join(w[i].thread, NULL), 0);
		assert_int_equal(w[i].bad, 0);
	}
	for (unsigned i = 0; i < 3; i++)
		done(q[i]);
}

/* ---- advice ---- */
static void advice_does_what_madvise_does(void **state)
{
	struct quire *q = small();
	unsigned char vec[8];
	char *p = map(q, 8);

	(void)state;
	fill(p, 8, 6);
	assert_int_equal(quire_advise(q, p, 8 * PAGE, MADV_PAGEOUT), 0);
	assert_int_equal(quire_incore(q, p, 8 * PAGE, vec), 0);
	for (unsigned i = 0; i < 8;
	     /* the pages are in the store, and perhaps in memory until their frames are needed */
	     i++)
		assert_true((vec[i] & QUIRE_IN_STORE) != 0);
	crowd(q);
	assert_int_equal(quire_incore(q, p, 8 * PAGE, vec), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(vec[i] & (QUIRE_IN_MEMORY | QUIRE_IN_STORE), QUIRE_IN_STORE);
	assert_int_equal(quire_advise(q, p, 8 * PAGE, MADV_WILLNEED), 0);
	assert_int_equal(quire_advise(q, p, 8 * PAGE, MADV_SEQUENTIAL), 0);
	assert_int_equal(wrong(p, 8, 6), 0);
	assert_int_equal(quire_advise(q, p, 8 * PAGE, MADV_RANDOM), 0);
	assert_int_equal(quire_advise(q, p, 8 * PAGE, MADV_COLD), 0);
	assert_int_equal(wrong(p, 8, 6), 0);
	assert_int_equal(quire_advise(q, p, 8 * PAGE, MADV_DONTNEED), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(p[i * PAGE], 0);
	assert_int_equal(quire_advise(q, p, 8 * PAGE, MADV_POPULATE_WRITE), 0);
	fails(quire_advise(q, p, PAGE, 12345), EINVAL);
	fails(quire_advise(q, p + 1, PAGE, MADV_NORMAL), EINVAL);
	assert_int_equal(quire_protect(q, p, PAGE, PROT_READ), 0);
	fails(quire_advise(q, p, PAGE, MADV_POPULATE_WRITE), EINVAL);
	assert_int_equal(quire_unmap(q, p + 4 * PAGE, PAGE), 0);
	fails(quire_advise(q, p, 8 * PAGE, MADV_DONTNEED), ENOMEM);
	done(q);
}

/* ---- keeping pages ---- */
static void locked_pages_stay(void **state)
{
	struct quire *q = small();
	unsigned char vec[8];
	char *p = map(q, 8), *big = map(q, 1024);

	(void)state;
	fill(p, 8, 7);
	assert_int_equal(quire_lock(q, p, 8 * PAGE), 0);
	assert_int_equal(quire_lock(q, p, 8 * PAGE), 0); /* not counted */
	crowd(q);
	assert_int_equal(quire_incore(q, p, 8 * PAGE, vec), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(vec[i] & (QUIRE_IN_MEMORY | QUIRE_IN_LOCKED),
		    QUIRE_IN_MEMORY | QUIRE_IN_LOCKED);
	assert_true(stats(q).locked >= 8 * PAGE);
	fails(quire_lock(q, big, 1024 * PAGE), ENOMEM); /* more pages than there are */
	assert_int_equal(quire_unlock(q, p, 8 * PAGE), 0);
	crowd(q);
	assert_int_equal(quire_incore(q, p, 8 * PAGE, vec), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(vec[i] & (QUIRE_IN_MEMORY | QUIRE_IN_LOCKED), 0);
	assert_int_equal(wrong(p, 8, 7), 0);
	assert_int_equal(quire_unmap(q, p + 4 * PAGE, PAGE), 0);
	fails(quire_lock(q, p, 8 * PAGE), ENOMEM);
	fails(quire_unlock(q, p + 1, PAGE), EINVAL);
	assert_int_equal(quire_unmap(q, big, 1024 * PAGE), 0);
	assert_int_equal(stats(q).locked, 0);
	done(q);
}

static void pinned_buffers_serve_system_calls(void **state)
{
	struct quire *q = small();
	int fd = file_of(0);
	char *p = map(q, 8);

	(void)state;
	fill(p, 8, 8);
	assert_int_equal(quire_pin(q, p + 100, 4 * PAGE, 0), 0); /* five pages */
	crowd(q);
	assert_int_equal(write(fd, p + 100, 4 * PAGE), 4 * PAGE);
	fails(quire_unmap(q, p, 8 * PAGE), EBUSY);
	assert_int_equal(quire_pin(q, p + 100, 4 * PAGE, 0), 0); /* counted */
	assert_int_equal(quire_unpin(q, p + 100, 4 * PAGE, 0), 0);
	fails(quire_unmap(q, p, PAGE), EBUSY);
	assert_int_equal(quire_unpin(q, p + 100, 4 * PAGE, 0), 0);
	assert_int_equal(quire_advise(q, p, 8 * PAGE, MADV_PAGEOUT), 0);
	assert_int_equal(quire_pin(q, p, 8 * PAGE, 1), 0);
	assert_int_equal(pread(fd, p + 100, 4 * PAGE, 0), 4 * PAGE);
	assert_int_equal(quire_unpin(q, p, 8 * PAGE, 1), 0);
	crowd(q);
	assert_int_equal(wrong(p, 8, 8), 0);
	assert_int_equal(quire_protect(q, p, PAGE, PROT_READ), 0);
	fails(quire_pin(q, p, PAGE, 1), EFAULT);
	assert_int_equal(quire_unmap(q, p + PAGE, PAGE), 0);
	fails(quire_pin(q, p, 2 * PAGE, 0), EFAULT);
	fails(quire_pin(q, p, 0, 0), EINVAL);
	fails(quire_pin(q, "elsewhere", 1, 0), EFAULT);
	assert_int_equal(quire_unmap(q, p, 8 * PAGE), 0); /* the refused calls left no pin behind */
	assert_int_equal(close(fd), 0);
	done(q);
}

/* As the header promises: a system call does not page in a page that is not pinned. */
static void a_system_call_on_a_paged_out_buffer_gets_efault(void **state)
{
	struct quire *q = small();
	int fd = file_of(0);
	char *p = map(q, 4);

	(void)state;
	fill(p, 4, 9);
	assert_int_equal(quire_advise(q, p, 4 * PAGE, MADV_PAGEOUT), 0);
	fails(write(fd, p, PAGE), EFAULT);
	(void)*(volatile char *)p;
	/* the result is short at a page that is not resident */
	assert_int_equal(write(fd, p, 2 * PAGE), PAGE);
	assert_int_equal(wrong(p, 4, 9), 0);
	assert_int_equal(close(fd), 0);
	done(q);
}

/* ---- files ---- */
static void private_file_memory_is_the_programs_own(void **state)
{
	struct quire *q = small();
	int fd = file_of(3 * PAGE + 10);
	char byte, *p = quire_map(q, NULL, 6 * PAGE, RW, MAP_PRIVATE, fd, 0);

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(p[PAGE], 'b');
	p[PAGE] = 'X';
	assert_int_equal(p[3 * PAGE + 9], 'd');
	assert_int_equal(p[3 * PAGE + 10], 0); /* the tail of the last page */
	gets(p + 4 * PAGE, false, SIGBUS, BUS_ADRERR);
	gets(p + 4 * PAGE + 8, true, SIGBUS, BUS_ADRERR);
	crowd(q);
	assert_int_equal(p[PAGE], 'X');
	assert_int_equal(p[PAGE + 1], 'b');
	assert_int_equal(pread(fd, &byte, 1, PAGE), 1);
	assert_int_equal(byte, 'b');
	assert_int_equal(close(fd), 0);
	done(q);
}

static void shared_file_memory_reaches_the_file(void **state)
{
	struct quire *q = small();
	int fd = file_of(64 * PAGE), ro = again(fd, O_RDONLY);
	char buf[4], *p = quire_map(q, NULL, 64 * PAGE, RW, MAP_SHARED, fd, 0);
	char *r = quire_map(q, NULL, 32 * PAGE, PROT_READ, MAP_SHARED, ro, 32 * PAGE);

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_ptr_not_equal(r, MAP_FAILED);
	assert_int_equal(close(fd), 0); /* the mapping keeps the file */
	assert_int_equal(r[0], p[32 * PAGE]);
	memcpy(p + 40 * PAGE, "abc", 4);
	assert_memory_equal(r + 8 * PAGE, "abc", 4); /* at once */
	assert_int_equal(quire_sync(q, p, 64 * PAGE, MS_SYNC), 0);
	assert_int_equal(pread(ro, buf, 4, 40 * PAGE), 4);
	assert_memory_equal(buf, "abc", 4);
	memcpy(p + 40 * PAGE, "xyz", 4); /* the page is written again after it was cleaned */
	crowd(q);
	assert_memory_equal(r + 8 * PAGE, "xyz", 4);
	assert_int_equal(quire_unmap(q, p, 64 * PAGE), 0);
	assert_int_equal(quire_unmap(q, r, 32 * PAGE), 0);
	assert_int_equal(pread(ro, buf, 4, 40 * PAGE), 4);
	assert_memory_equal(buf, "xyz", 4);
	fails(quire_sync(q, p, PAGE, MS_SYNC), ENOMEM);
	fails(quire_sync(q, p, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
	fails(quire_sync(q, p, PAGE, 64), EINVAL);
	assert_int_equal(close(ro), 0);
	done(q);
}

/*
 * The rest of a file's last page behind the end reads as zeroes each time it is read in, whatever
 * the frame held before.
 */
static void the_rest_of_a_files_last_page_is_zero(void **state)
{
	struct quire *q = small();
	/* more pages than fit: a page that is read in gets a used frame with old contents */
	char *ones = map(q, 2048);

	(void)state;
	for (size_t bytes = 3 * PAGE + 1; bytes < 4 * PAGE; bytes += 1009) {
		int fd = file_of(bytes);
		char *p = quire_map(q, NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
		char *c = quire_map(q, NULL, 4 * PAGE, RW, MAP_PRIVATE, fd, 0);

		assert_ptr_not_equal(p, MAP_FAILED);
		assert_ptr_not_equal(c, MAP_FAILED);
		for (unsigned round = 0; round < 3; round++) {
			memset(ones, 1, 2048 * PAGE);
			assert_int_equal(p[bytes - 1], 'd');
			assert_int_equal(c[bytes - 1], 'd');
			for (size_t i = bytes; i < 4 * PAGE; i++)
				assert_true(p[i] == 0 && c[i] == 0);
		}
		c[4 * PAGE - 1] = 1;
		assert_int_equal(p[4 * PAGE - 1], 0);
		assert_int_equal(quire_unmap(q, p, 4 * PAGE) | quire_unmap(q, c, 4 * PAGE), 0);
		assert_int_equal(close(fd), 0);
	}
	done(q);
}

/*
 * The file cannot be written (limit of file sizes): quire_sync reports it, and the page is written
 * as soon as that is possible.
 */
static void sync_tells_that_the_file_cannot_be_written(void **state)
{
	struct quire *q = small();
	int fd = file_of(4 * PAGE);
	char buf[4] = "", *p = quire_map(q, NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
	struct rlimit was, none;

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	none = (struct rlimit){ 0, was.rlim_max };
	void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
	memcpy(p + PAGE, "abc", 4);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	int told = quire_sync(q, p, 4 * PAGE, MS_SYNC), why = errno;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_int_equal(told, -1);
	assert_int_equal(why, EIO);
	assert_memory_equal(p + PAGE, "abc", 4);
	assert_int_equal(quire_sync(q, p, 4 * PAGE, MS_SYNC), 0);
	assert_int_equal(pread(fd, buf, 4, PAGE), 4);
	assert_memory_equal(buf, "abc", 4);
	(void)signal(SIGXFSZ, old);
	assert_int_equal(close(fd), 0);
	assert_int_equal(quire_unmap(q, p, 4 * PAGE), 0);
	done(q);
}

static void a_read_only_file_is_not_made_writable(void **state)
{
	struct quire *q = small();
	int fd = file_of(4 * PAGE), ro = again(fd, O_RDONLY);
	char *p = quire_map(q, NULL, 4 * PAGE, PROT_READ, MAP_SHARED, ro, 0);

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	gets(p, true, SIGSEGV, SEGV_ACCERR);
	fails(quire_protect(q, p, PAGE, RW), EACCES);
	p = quire_map(q, NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE, ro, 0);
	assert_int_equal(
	    quire_protect(q, p, PAGE, RW), 0); /* private memory may be written all the same */
	assert_int_equal(touch(p, true), 0);
	assert_int_equal(close(fd) | close(ro), 0);
	done(q);
}

static void shared_anonymous_memory_is_paged_too(void **state)
{
	struct quire *q = small();
	char *p = quire_map(q, NULL, 1024 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	fill(p, 1024, 10);
	assert_int_equal(wrong(p, 1024, 10), 0);
	done(q);
}

/* ---- a store provided by the program, and its failures ---- */
struct shelf {
	char (*page)[PAGE];
	int read_error, write_error;
	uint64_t discarded;
};

static int shelf_write(void *arg, uint64_t slot, const void *page)
{
	struct shelf *s = arg;

	if (s->write_error == 0)
		memcpy(s->page[slot], page, PAGE);
	return s->write_error;
}

static int shelf_read(void *arg, uint64_t slot, void *page)
{
	struct shelf *s = arg;

	if (s->read_error == 0)
		memcpy(page, s->page[slot], PAGE);
	return s->read_error;
}

static void shelf_discard(void *arg, uint64_t slot)
{
	(void)slot;
	((struct shelf *)arg)->discarded++;
}

static struct quire *with_shelf(struct shelf *s)
{
	struct quire_store st = { .read = shelf_read,
		.write = shelf_write,
		.discard = shelf_discard,
		.arg = s,
		.slots = 2048 };
	struct quire_config c = { .memory = 2 * MIB, .store = &st };

	*s = (struct shelf){ .page = calloc(2048, PAGE) };
	assert_non_null(s->page);
	return open_with(&c);
}

static void a_page_that_cannot_be_read_gets_sigbus(void **state)
{
	struct shelf s;
	struct quire *q = with_shelf(&s);
	char *p = map(q, 8), *other = map(q, 8);

	(void)state;
	fill(p, 8, 11);
	crowd(q);
	fill(other, 8, 12);
	s.read_error = EIO;
	gets(p + 2 * PAGE + 1, false, SIGBUS, BUS_ADRERR);
	fails(quire_pin(q, p, PAGE, 0), EIO);
	assert_int_equal(wrong(other, 8, 12), 0); /* nobody else notices */
	s.read_error = 0;
	assert_int_equal(wrong(p, 8, 11), 0); /* the call may be repeated */
	assert_true(stats(q).io_errors > 0);
	assert_int_equal(quire_unmap(q, p, 8 * PAGE), 0);
	assert_true(s.discarded > 0);
	done(q);
	free(s.page);
}

static void a_store_that_refuses_ends_in_sigbus_and_recovers(void **state)
{
	struct shelf s;
	struct quire *q = with_shelf(&s);
	char *p = map(q, 1024);
	size_t i;

	(void)state;
	s.write_error = ENOSPC;
	for (i = 0; i < 1024 && touch(p + i * PAGE, true) == 0; i++)
		((unsigned *)(void *)(p + i * PAGE))[1] = (unsigned)i;
	assert_true(i > 256 && i < 512); /* all of memory and no more */
	assert_int_equal(sig_seen, SIGBUS);
	s.write_error = 0;
	for (; i < 1024; i++) {
		assert_int_equal(touch(p + i * PAGE, true), 0);
		((unsigned *)(void *)(p + i * PAGE))[1] = (unsigned)i;
	}
	for (i = 0; i < 1024; i++)
		assert_int_equal(((unsigned *)(void *)(p + i * PAGE))[1], i);
	done(q);
	free(s.page);
}

/* ---- looking ---- */
static void statistics_and_incore_answer(void **state)
{
	struct quire *q = small();
	struct quire_stats st;
	unsigned char vec[4];
	char *p = map(q, 4);

	(void)state;
	fails(quire_stat(q, &st, 0), EINVAL);
	fails(quire_stat(q, NULL, sizeof st), EINVAL);
	memset(&st, 0x5a, sizeof st);
	assert_int_equal(
	    quire_stat(q, &st, sizeof st.faults), 0); /* the structure of an older program */
	assert_int_equal(st.promise_max, 0x5a5a5a5a5a5a5a5a);
	assert_int_equal(stats(q).mapped, 4 * PAGE);
	assert_int_equal(stats(q).memory, 2 * MIB);
	assert_int_equal(stats(q).promised, 4 * PAGE);
	assert_int_equal(quire_incore(q, p, 4 * PAGE, vec), 0);
	assert_int_equal(vec[0] | vec[3], 0);
	p[PAGE] = 1;
	assert_true(stats(q).zero_filled >= 1 && stats(q).faults >= 1 && stats(q).resident >= PAGE);
	assert_int_equal(stats(q).proportional, stats(q).resident); /* no memory is mapped twice */
	fails(quire_incore(q, p + 4 * PAGE, PAGE, vec), ENOMEM);
	fails(quire_incore(q, p + 1, PAGE, vec), EINVAL);
	assert_int_equal(quire_unmap(q, p, 4 * PAGE), 0);
	assert_int_equal(stats(q).promised, 0);
	assert_int_equal(stats(q).mapped, 0);
	done(q);
}

/* ---- signals of the program ---- */
static void sigbus_that_is_not_ours_goes_to_the_program(void **state)
{
	struct quire *q = small();
	int fd = file_of(10);
	char *native = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);

	(void)state;
	assert_ptr_not_equal(native, MAP_FAILED);
	gets(native + PAGE, false, SIGBUS, BUS_ADRERR);
	gets((char *)(uintptr_t)64, false, SIGSEGV, SEGV_MAPERR);
	assert_int_equal(munmap(native, 2 * PAGE), 0);
	assert_int_equal(close(fd), 0);
	done(q);
}

/* errno and the signal mask are the program's own across a fault. */
static void a_fault_changes_nothing_that_the_program_sees(void **state)
{
	struct quire *q = small();
	sigset_t before, after;
	char *p = map(q, 1024);

	(void)state;
	fill(p, 1024, 13);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &before);
	errno = 4711;
	assert_int_equal(wrong(p, 1024, 13), 0);
	assert_int_equal(errno, 4711);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_memory_equal(&before, &after, sizeof(unsigned long));
	done(q);
}

static void *on_own_stack(void *arg)
{
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 };
	char *p = arg;
	size_t *bad = malloc(sizeof *bad);

	if (ss.ss_sp == NULL || bad == NULL || sigaltstack(&ss, NULL) != 0)
		abort();
	fill(p, 1024, 14);
	*bad = wrong(p, 1024, 14);
	ss.ss_flags = SS_DISABLE;
	(void)sigaltstack(&ss, NULL);
	free(ss.ss_sp);
	return bad;
}

static void threads_with_a_signal_stack_are_served_there(void **state)
{
	struct quire *q = small();
	pthread_t t;
	void *bad;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, on_own_stack, map(q, 1024)), 0);
	assert_int_equal(pthread_join(t, &bad), 0);
	assert_int_equal(*(size_t *)bad, 0);
	free(bad);
	done(q);
}

/* ---- fork ---- */
static void a_child_has_none_of_it_and_the_parent_all(void **state)
{
	struct quire *q = small();
	char *p = map(q, 1024);
	int status;
	pid_t pid;

	(void)state;
	fill(p, 1024, 15);
	pid = fork();
	if (pid == 0)
		_exit(touch(p, false) == SIGSEGV
			? 0
			: 1); /* neither a page of zeroes nor a page of the parent */
	assert_true(pid > 0);
	assert_int_equal(wrong(p, 1024, 15), 0); /* while the child may still live */
	fill(p, 1024, 16);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(wrong(p, 1024, 16), 0);
	pid = fork();
	if (pid == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	done(q);
}

/* ---- cases in separate processes ---- */
static int flag;
static void plain_handler(int sig) { _exit(sig == SIGBUS && flag ? 42 : 43); }

static char *bare_map(int prot, int flags, int fd)
{
	struct quire_config c = { .size = sizeof c, .memory = 2 * MIB, .pool = 2 * MIB };
	struct quire *q;
	char *p;

	if (quire_open(&c, &q) != 0 ||
	    (p = quire_map(q, NULL, 4 * PAGE, prot, flags, fd, 0)) == MAP_FAILED)
		_exit(98);
	return p;
}

static int child(const char *what)
{
	char *p;

	(void)signal(
	    SIGSEGV, SIG_DFL); /* a sanitizer's handler, which ends the program in its own way */
	(void)signal(SIGBUS, SIG_DFL);
	if (strcmp(what, "unmapped") == 0) {
		p = bare_map(RW, ANON, -1);
		p[64 * PAGE] = 1;
	} else if (strcmp(what, "read-only") == 0) {
		p = bare_map(PROT_READ, ANON, -1);
		*(volatile char *)p = 1;
	} else if (strcmp(what, "past-end") == 0) {
		p = bare_map(PROT_READ, MAP_PRIVATE, file_of(10));
		(void)*(volatile char *)(p + PAGE);
	} else if (strcmp(what, "plain-handler") == 0) {
		/* a handler without siginfo, installed before the library's */
		(void)signal(SIGBUS, plain_handler);
		p = bare_map(PROT_READ, MAP_PRIVATE, file_of(10));
		(void)*(volatile char *)p;
		flag = 1;
		(void)*(volatile char *)(p + PAGE);
	} else if (strcmp(what, "ignored") == 0) {
		/* cannot be blocked for an access: the signal ends the program */
		(void)signal(SIGSEGV, SIG_IGN);
		p = bare_map(PROT_READ, ANON, -1);
		*(volatile char *)p = 1;
	} else if (strcmp(what, "blocked") == 0) {
		sigset_t set;

		p = bare_map(PROT_READ, ANON, -1);
		sigemptyset(&set);
		sigaddset(&set, SIGSEGV);
		(void)sigprocmask(SIG_BLOCK, &set, NULL);
		*(volatile char *)p = 1;
	}
	return 0;
}

static int run(const char *what)
{
	char *argv[] = { (char *)(uintptr_t) "lib_test", (char *)(uintptr_t)what, NULL };
	int status;
	pid_t pid;

	assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void without_handlers_a_bad_access_ends_the_program(void **state)
{
	(void)state;
	assert_int_equal(WTERMSIG(run("unmapped")), SIGSEGV);
	assert_int_equal(WTERMSIG(run("read-only")), SIGSEGV);
	assert_int_equal(WTERMSIG(run("past-end")), SIGBUS);
	assert_int_equal(WTERMSIG(run("ignored")), SIGSEGV);
	assert_int_equal(WTERMSIG(run("blocked")), SIGSEGV);
	assert_int_equal(WEXITSTATUS(run("plain-handler")), 42);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		unit(open_refuses),
		unit(close_leaves_nothing),
		unit(map_has_errors_of_mmap),
		unit(map_takes_a_hint_and_fixed_replaces),
		unit(map_gives_enomem_when_the_store_could_not_hold_it),
		unit(a_fixed_map_that_fails_leaves_the_old_mapping),
		unit(map_populates),
		unit(unmapped_memory_gets_maperr),
		unit(protection_holds_and_gets_accerr),
		unit(contents_survive_being_paged_out),
		unit(several_systems_with_threads_do_not_meet),
		unit(advice_does_what_madvise_does),
		unit(locked_pages_stay),
		unit(pinned_buffers_serve_system_calls),
		unit(a_system_call_on_a_paged_out_buffer_gets_efault),
		unit(private_file_memory_is_the_programs_own),
		unit(shared_file_memory_reaches_the_file),
		unit(the_rest_of_a_files_last_page_is_zero),
		unit(sync_tells_that_the_file_cannot_be_written),
		unit(a_read_only_file_is_not_made_writable),
		unit(shared_anonymous_memory_is_paged_too),
		unit(a_page_that_cannot_be_read_gets_sigbus),
		unit(a_store_that_refuses_ends_in_sigbus_and_recovers),
		unit(statistics_and_incore_answer),
		unit(sigbus_that_is_not_ours_goes_to_the_program),
		unit(a_fault_changes_nothing_that_the_program_sees),
		unit(threads_with_a_signal_stack_are_served_there),
		unit(a_child_has_none_of_it_and_the_parent_all),
		unit(without_handlers_a_bad_access_ends_the_program),
	};
	struct quire_config c = { .size = sizeof c, .memory = 2 * MIB };
	struct quire *q;

	if (argc > 1)
		return child(argv[1]);
	install();
	if (quire_open(&c, &q) != 0) {
		printf("skipped: %s\n", strerror(errno));
		return SKIP;
	}
	(void)quire_close(q);
	(void)__sigaction(SIGSEGV, NULL, &ours_segv);
	(void)__sigaction(SIGBUS, NULL, &ours_bus);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
