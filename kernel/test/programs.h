/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by the files of the test program `programs`: checks, and the tests that programs_proc.c has. */
#ifndef QUIRE_KERNEL_PROGRAMS_H
#define QUIRE_KERNEL_PROGRAMS_H

#define PG 4096ul
#define MIB (1ul << 20)

extern int failed_line; /* of the first check of the running test that failed; 0: none */
#define CHECK(e)                                                                                   \
	do {                                                                                       \
		if (!(e) && failed_line == 0)                                                      \
			failed_line = __LINE__;                                                    \
	} while (0)

struct test {
	const char *name;
	void (*fn)(void);
	int native; /* Linux gives the same answers, on any machine: the test runs there, too */
};
/* clang-format off */
#define T(f, n) { #f, f, n }
/* clang-format on */
/* Each ended by an entry without a name. */
extern const struct test proc_tests[];       /* programs_proc.c */
extern const struct test pipe_tests[];       /* programs_pipe.c */
extern const struct test call_tests[];       /* programs_call.c */
extern const struct test race_tests[];       /* programs_race.c */
extern const struct test event_tests[];      /* programs_event.c */
extern const struct test stress_tests[];     /* programs_stress.c: by name only */
extern const struct test race_inner_tests[]; /* programs_race.c: run by other tests, by name only */
extern const struct test inner_tests[];      /* programs_call.c: run by other tests, by name only */
#endif
