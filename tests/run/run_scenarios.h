/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small programs that do what programs do with memory, processes and signals, and print what they saw. Each is run natively and
 * under `quire run` with less memory than it needs; output and exit status must be equal (tests/run/run_intercept_test.py).
 *
 * What a scenario prints must not depend on addresses, on time, or on which pages happen to be in memory.
 */
#ifndef RUN_SCENARIOS_H
#define RUN_SCENARIOS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PAGE 4096u
#define MIB (1u << 20)

struct scenario {
	const char *name;
	int (*run)(void);
};
extern const struct scenario memory_scenarios[], call_scenarios[], protect_scenarios[],
    random_scenarios[], kind_scenarios[], held_scenarios[], ask_scenarios[], process_scenarios[],
    signal_scenarios[], odd_scenarios[];

/* A wrong outcome is a line of output: native runs do not print it. */
#define EXPECT(c)                                                                                  \
	do {                                                                                       \
		if (!(c))                                                                          \
			printf("%s:%d: not so: %s\n", __func__, __LINE__, #c);                     \
	} while (0)

/* Every word of [p, +len) differs from page to page and from seed to seed. */
void fill(void *p, size_t len, uint64_t seed);
/* How many words are not what fill() wrote. */
size_t wrong(const void *p, size_t len, uint64_t seed);
/* Private anonymous read-write memory; ends the program if there is none. */
void *map(size_t len);
/* Touches the ballast (-b MIB), so that everything else leaves memory. Nothing without ballast. */
void push_out(void);
/* The ballast is given back: a process that does not fit any more has its memory served, but fits from now on. */
void drop_ballast(void);
/* Prints the result of a call, with what errno says if it is negative. */
void report(const char *what, long r);
/* Prints how a child that runs fn(arg) ends: its status, or the signal. */
void report_child(const char *what, int (*fn)(void *), void *arg);
int read_byte(void *p);  /* for a child: the byte at p */
extern const char *self; /* path of this program */
#endif
