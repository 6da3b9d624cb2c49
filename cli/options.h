/* SPDX-License-Identifier: BSD-2-Clause */
/* What the command line of `quire run` asks for. */
#ifndef QUIRE_CLI_OPTIONS_H
#define QUIRE_CLI_OPTIONS_H
#include <stdbool.h>
#include <stdint.h>

struct policy_ops;
struct prefetch_ops;

#define SWAPS_MAX 4u
#define KEEP_DEFAULT UINT64_MAX
/* One --swap. A swap place: either a path of this machine, or a URL of far swap. */
struct swap_option {
	const char *path; /* NULL: the default place, or far */
	const char *url;  /* NULL: this machine's. The URL without "size="; it may hold a
	                   * password */
	uint64_t bytes;   /* 0: as much as there is room for, or as the far end offers */
};

struct run_options {
	uint64_t memory, pool;              /* bytes */
	struct swap_option swap[SWAPS_MAX]; /* in the order in which pages go there */
	unsigned nswaps;                    /* at least 1 */
	enum {
		ENCRYPT_FAR,
		ENCRYPT_ALL,
		ENCRYPT_NONE
	} encrypt; /* which pages are encrypted: those that leave this machine; all that leave
	            * memory; none */
	uint32_t far_timeout_ms, far_replicas;
	const char *far_ca, *far_psk; /* NULL: none */
	const char *password_file;    /* NULL: none */
	uint64_t keep_free;           /* bytes; KEEP_DEFAULT: it was not given */
	uint64_t rate;                /* bytes a second of swap; 0: no limit */
	bool force;                   /* swap files may lie on a tmpfs */
	const char
	    *exposed; /* a URL of the command line that held a password, in the form that may be
	              * shown; NULL: none */
	const char *report_path; /* NULL: standard error */
	enum { REPORT_TEXT, REPORT_JSON, REPORT_NONE } report;
	const struct policy_ops *policy;     /* never NULL */
	const struct prefetch_ops *prefetch; /* NULL: the default */
	uint32_t without; /* enum sys_offer: the features of the kernel that are not to be used */
	bool live;
	bool help;   /* --help was asked for */
	bool listed; /* --policy help or --prefetch help was given, and has been answered */
};

/*
 * Reads the options up to the program's name, and sets optind to it. The strings in argv are split
 * in place. 0, or CLI_CANNOT after one line on standard error that names the mistake and the right
 * form. If o->help or o->listed is set, nothing else is valid.
 */
int cli_options(struct run_options *o, int argc, char **argv);
/*
 * Reports that the word is no option. Returns CLI_CANNOT after one line on standard error, which
 * names the most similar option, if there is one.
 */
int cli_unknown_option(const char *word);
/*
 * Parses the URL or @FILE of `quire check`, like that of --swap. 0, or CLI_CANNOT after one line on
 * standard error.
 */
int cli_take_url(struct run_options *o, char *text);
/*
 * Refuses options of TLS if no place is reached by TLS: the user would believe that the connection is protected. Called when all
 * places are known. 0, or an exit status after one line on standard error.
 */
int cli_check_far(const struct run_options *o);
#endif
