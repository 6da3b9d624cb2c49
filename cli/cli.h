/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to cli/. */
#ifndef QUIRE_CLI_H
#define QUIRE_CLI_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "run/family.h"

/* Prints one line on standard error, after "quire: "; on the terminal, or standard output, if
 * standard error cannot be written. CLI_CANNOT. */
int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int cli_too_few_files(void); /* as fail(): a file could not be opened (EMFILE) */

/* "64M", "1.5G", "64 MiB", "4096", "25%" (of total, 0: percent not allowed) to bytes. False: not a size. */
bool cli_size(const char *text, uint64_t total, uint64_t *bytes);
/* Bytes in units that people read: "64 MiB", "1.5 GiB". Into buf, returned. */
const char *cli_human(uint64_t bytes, char buf[24]);
/* The memory that this process may use: the least of RAM and the limits of its cgroups, in
 * bytes. */
uint64_t cli_total_memory(void);
/*
 * Finds the program as the shell would and follows #! lines. True: it can be hosted, path is its file.
 * False: why is the reason and the way out, and errno is ENOENT (not found), EACCES (may not be
 * executed) or ENOEXEC (cannot be hosted).
 */
bool cli_check_program(const char *name, char *path, size_t pathlen, char *why, size_t whylen);
/* True: this user may serve kernel-mode faults, and the kernel has all that is needed. False: why
 * is the reason and the way out. */
bool cli_check_uffd(char *why, size_t whylen);

struct run_totals {
	uint64_t wall_ns;
	int status;
	unsigned left;
	struct family_counters c;
	uint64_t need_peak, unhosted_peak, budget, turned_away;
};
/* Are there so many pages that are not hosted that the report has a line for them? Every program
 * has some: its initialised data, the stack of its first thread. */
static inline bool cli_noted(uint64_t pages) { return pages >= (1u << 20) / 4096; }
void cli_report_text(FILE *, const struct family *, const void *pool, const struct run_totals *,
    uint64_t pool_limit, bool color);
void cli_report_json(FILE *, const struct family *, const void *pool, const struct run_totals *,
    uint64_t pool_limit);

int cli_run(int argc, char **argv);
int cli_check(int argc, char **argv);
/* Print help on standard output. 0 even if it could not be written: main() reports that. The help
 * of the command, of run, and of check. */
int cli_help(void);
int cli_help_run(void);
int cli_help_check(void);
/* Prints one line on standard error: there is no such command or option. The line suggests the
 * known name that is most like the word, if there is one. CLI_CANNOT. */
int cli_unknown(const char *what, const char *word, const char *prefix, const char *const *names);
/* unknown.c: the one of the names (ended by NULL) that the word, up to its end or a =, was probably
 * meant to be; NULL: none is like it. */
const char *cli_name_like(const char *word, const char *const *names);
#define CLI_CANNOT 125 /* quire itself failed */
#define CLI_NOEXEC 126
#define CLI_NOTFOUND 127
#endif
