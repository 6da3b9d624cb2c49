/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small programs that use memory, processes and signals in the ways of real programs, and print the
 * results. Each is run natively and under `quire run` with less memory than it needs; output and
 * exit status must be equal (tests/run/run_intercept_test.py).
 *
 * The output of a scenario must not depend on addresses, on time, or on which pages happen to be in
 * memory.
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
/* The number of words that differ from those of fill(). */
size_t wrong(const void *p, size_t len, uint64_t seed);
/* Private anonymous read-write memory; ends the program if there is none. */
void *map(size_t len);
/* Touches the ballast (-b MIB), so that all other pages leave memory. Nothing without ballast. */
void push_out(void);
/* Gives the ballast back: the process is managed, but its memory fits from now on. */
void drop_ballast(void);
/* Prints the result of a call, with what errno says if it is negative. */
void report(const char *what, long r);
/* Prints how a child that runs fn(arg) ends: its status, or the signal. */
void report_child(const char *what, int (*fn)(void *), void *arg);
int read_byte(void *p);  /* for a child: the byte at p */
extern const char *self; /* path of this program */
#endif
