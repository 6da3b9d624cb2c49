/* SPDX-License-Identifier: BSD-2-Clause */
/* What the command line of `quire run` asks for. */
#ifndef QUIRE_CLI_OPTIONS_H
#define QUIRE_CLI_OPTIONS_H
#include <stdbool.h>
#include <stdint.h>

struct policy_ops;
struct prefetch_ops;

struct run_options {
	uint64_t memory, pool, swap_bytes; /* bytes; swap_bytes 0: as much as there is room for */
	const char *swap_path, *report_path; /* NULL: the default place; standard error */
	enum { REPORT_TEXT, REPORT_JSON, REPORT_NONE } report;
	const struct policy_ops *policy; /* never NULL */
	const struct prefetch_ops *prefetch; /* NULL: the default */
	bool live;
	bool help;   /* --help was asked for */
	bool listed; /* --policy help or --prefetch help was asked for, and answered */
};

/*
 * Reads the options up to the program's name, and sets optind to it. The strings in argv are split where they lie.
 * 0, or CLI_CANNOT after one line on standard error that names the mistake and the right form. With o->help or o->listed
 * set nothing else is valid.
 */
int cli_options(struct run_options *o, int argc, char **argv);
#endif
