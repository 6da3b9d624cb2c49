/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to cli/. */
#ifndef QUIRE_CLI_H
#define QUIRE_CLI_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "run/family.h"

/* One line on standard error, after "quire: "; on the terminal, or standard output, if it cannot be written there. CLI_CANNOT. */
int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int cli_too_few_files(void); /* as fail(): a file could not be opened (EMFILE) */

/* "64M", "1.5G", "64 MiB", "4096", "25%" (of total, 0: percent not allowed) to bytes. False: not a size. */
bool cli_size(const char *text, uint64_t total, uint64_t *bytes);
/* Bytes as people read them: "64 MiB", "1.5 GiB". Into buf, returned. */
const char *cli_human(uint64_t bytes, char buf[24]);
/* Memory this process may use: the least of RAM and the limits of its cgroups, in bytes. */
uint64_t cli_total_memory(void);
/*
 * Finds the program as the shell would and follows #! lines. True: it can be hosted, path is its file. False: why is the reason and the
 * way out, and errno is ENOENT (not found), EACCES (may not be executed) or ENOEXEC (is no program that can be hosted).
 */
bool cli_check_program(const char *name, char *path, size_t pathlen, char *why, size_t whylen);
/* True: this user may serve kernel-mode faults and the kernel has what is needed. False: why is the reason and the way out. */
bool cli_check_uffd(char *why, size_t whylen);

struct run_totals {
	uint64_t wall_ns;
	int status;
	unsigned left;
	struct family_counters c;
	uint64_t need_peak, unhosted_peak, budget, turned_away;
};
/* Are so many pages that are not hosted worth a word? Every program has some: its initialised data, the stack of its first thread. */
static inline bool cli_noted(uint64_t pages) { return pages >= (1u << 20) / 4096; }
void cli_report_text(FILE *, const struct family *, const void *pool, const struct run_totals *,
    uint64_t pool_limit, bool color);
void cli_report_json(FILE *, const struct family *, const void *pool, const struct run_totals *,
    uint64_t pool_limit);

int cli_run(int argc, char **argv);
int cli_check(int argc, char **argv);
/* On standard output; 0: main() says so if it could not be written. Of the command, of run, of check. */
int cli_help(void);
int cli_help_run(void);
int cli_help_check(void);
/* One line on standard error: there is no such command or option. With the name that is most like the word, if one is. CLI_CANNOT. */
int cli_unknown(const char *what, const char *word, const char *prefix, const char *const *names);
/* unknown.c: of the names, until NULL, the one that is meant by the word (until its end or a =); NULL: none is like it. */
const char *cli_name_like(const char *word, const char *const *names);
#define CLI_CANNOT 125 /* quire itself failed */
#define CLI_NOEXEC 126
#define CLI_NOTFOUND 127
#endif
