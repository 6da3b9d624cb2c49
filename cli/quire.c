/* SPDX-License-Identifier: BSD-2-Clause */
/* The quire command. */
#include "cli.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef QUIRE_VERSION
#define QUIRE_VERSION "unknown"
#endif

static const char *const commands[] = { "run", "check", "help", "--help", "--version", NULL };

/* quire help [run | check] */
static int help_command(const char *topic)
{
	if (strcmp(topic, "run") == 0)
		return cli_help_run();
	if (strcmp(topic, "check") == 0)
		return cli_help_check();
	return cli_help();
}

static int run_command(int argc, char **argv)
{
	if (argc < 2)
		return cli_help();
	if (strcmp(argv[1], "run") == 0)
		return cli_run(argc - 1, argv + 1);
	if (strcmp(argv[1], "check") == 0)
		return cli_check(argc - 1, argv + 1);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return cli_help();
	if (strcmp(argv[1], "help") == 0)
		return help_command(argc > 2 ? argv[2] : "");
	if (strcmp(argv[1], "--version") == 0) {
		printf("quire %s\n", QUIRE_VERSION);
		return 0;
	}
	return cli_unknown("command", argv[1], "", commands);
}

#define STACK (64u << 10) /* bytes of stack that quire and the start of a hosted program may need */

/* Checked first, and printed without fail(), which needs more stack than there may be. */
static int check_stack(void)
{
	static const char line[] =
	    "quire: the limit of stacks (ulimit -s) is less than the 64 KiB that quire and what it runs need\n";
	struct rlimit rl;

	if (getrlimit(RLIMIT_STACK, &rl) != 0 || rl.rlim_cur >= STACK)
		return 0;
	(void)!write(STDERR_FILENO, line, sizeof line - 1);
	return CLI_CANNOT;
}

int main(int argc, char **argv)
{
	int status = check_stack();

	if (status == 0)
		status = run_command(argc, argv);

	if (ferror(stdout) == 0 && fflush(stdout) == 0)
		return status;
	return status != 0 ? status : fail("cannot write to standard output");
}
