/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Declarations for the files of the test program `programs`: checks, and the tests in other files.
 */
#ifndef QUIRE_KERNEL_PROGRAMS_H
#define QUIRE_KERNEL_PROGRAMS_H

#include <errno.h>

#define PG 4096ul
#define MIB (1ul << 20)

extern int failed_line; /* line of the running test's first failed check; 0: none */
#define CHECK(e)                                                                                   \
	do {                                                                                       \
		if (!(e) && failed_line == 0)                                                      \
			failed_line = __LINE__;                                                    \
	} while (0)

/* Did a call with that result fail with that error? */
static inline int fails(long r, int err) { return r == -1 && errno == err; }

/* The number behind a word that begins a line of a file of /proc, or ~0: programs_proc.c. */
unsigned long number_in(const char *path, const char *word);

struct test {
	const char *name;
	void (*fn)(void);
	int native; /* Linux gives the same results on any machine, so the test also runs there */
};
/* clang-format off */
#define T(f, n) { #f, f, n }
/* clang-format on */
/* Each table ends with an entry without a name. */
extern const struct test proc_tests[];       /* programs_proc.c */
extern const struct test pipe_tests[];       /* programs_pipe.c */
extern const struct test call_tests[];       /* programs_call.c */
extern const struct test race_tests[];       /* programs_race.c */
extern const struct test event_tests[];      /* programs_event.c */
extern const struct test file_tests[];       /* programs_file.c */
extern const struct test socket_tests[];     /* programs_socket.c */
extern const struct test inet_tests[];       /* programs_inet.c */
extern const struct test edge_tests[];       /* programs_edge.c */
extern const struct test notify_tests[];     /* programs_notify.c */
extern const struct test sem_tests[];        /* programs_sem.c */
extern const struct test deny_tests[];       /* programs_deny.c: by name only */
extern const struct test cpu_tests[];        /* programs_cpu.c */
extern const struct test cpu_inner_tests[];  /* programs_cpu.c: run by other tests, by name only */
extern const struct test cred_tests[];       /* programs_cred.c: natively for root only */
extern const struct test cred_inner_tests[]; /* programs_cred.c: run by other tests, by name only */
extern const struct test errno_tests[];      /* programs_errno.c */
extern const struct test avx_tests[];        /* programs_avx.c */
extern const struct test message_tests[];    /* programs_message.c */
extern const struct test stress_tests[];     /* programs_stress.c: by name only */
extern const struct test race_inner_tests[]; /* programs_race.c: run by other tests, by name only */
extern const struct test inner_tests[];      /* programs_call.c: run by other tests, by name only */
#endif
