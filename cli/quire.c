/* SPDX-License-Identifier: BSD-2-Clause */
/* The quire command. */
#include "cli.h"

#include <string.h>

#ifndef QUIRE_VERSION
#define QUIRE_VERSION "unknown"
#endif

static const char usage[] =
    "usage: quire run [options] [--] program [argument ...]\n"
    "       quire check [program | [options] URL]\n"
    "       quire --help | --version\n"
    "\n"
    "Runs an unmodified, dynamically linked program in a fixed amount of memory. What does not fit is compressed into a\n"
    "pool and then swapped to a file of quire's own: no kernel swap, no out-of-memory kill. check says whether this\n"
    "machine, this user and the program are fit for it.\n"
    "\n"
    "options of run:\n"
    "  -m, --memory SIZE     memory of the program and its children together: 64M, 1.5G, 25% (of what this\n"
    "                        machine or container has). Default 50%, least 8M\n"
    "  --pool SIZE           most that compressed pages may take of --memory; 25% is of it. Default 75%\n"
    "  --swap PATH[:SIZE]    directory or file name for the swap file, and its largest size; SIZE alone is in the\n"
    "                        default place, $TMPDIR or /var/tmp. Default size 4 times --memory or 16G, whichever is\n"
    "                        more, but no more than is free there. The file has no name while in use and is gone\n"
    "                        afterwards\n"
    "  --swap URL            swap far away: redis://[user:password@]host:port[/db], rediss://, redis+cluster://host,...,\n"
    "                        nbd://host:port/export, nbds://, nbd+unix:///export?socket=PATH; ?size=4G bounds it.\n"
    "                        Several --swap: pages go to the file first and sink from it to the far places in order\n"
    "  --encrypt[=WHAT]      all: the swap file too; far (default): what leaves this machine; none\n"
    "  --far-timeout TIME    how long a lost server is waited for, 30s, before its pages count as lost\n"
    "  --far-replicas N      Redis: a write counts once N replicas have it. Default 0\n"
    "  --far-ca FILE, --far-psk FILE  TLS: the certificate to trust; NBD's pre-shared keys\n"
    "  --swap-password FILE  its first line is the password of a URL without one; else QUIRE_SWAP_PASSWORD in the\n"
    "                        environment is\n"
    "  --swap-keep-free SIZE what a swap file leaves free for others. Default an eighth of the file system\n"
    "  --swap-rate SIZE      most bytes a second that are written and read, all places together. Default no limit\n"
    "  --force               a swap file may lie on a tmpfs, whose files are memory themselves\n"
    "  --report FORMAT[:PATH]  text (default), json or none; to PATH instead of standard error\n"
    "  --policy NAME         which page goes when memory is full. Default generations; help lists the names\n"
    "  --prefetch NAME       what is read ahead. Default near; help lists the names\n"
    "  --without LIST        for tests: of the kernel's, leave out move,scan,poison,io_uring,...; see man quire\n"
    "  --live                a line on the terminal with the present figures\n"
    "\n"
    "exit status: the program's own; 125 quire failed, 126 the program cannot be hosted, 127 it was not found.\n";

int cli_help(void) { return fputs(usage, stdout) < 0 || fflush(stdout) != 0 ? CLI_CANNOT : 0; }

int main(int argc, char **argv)
{
	if (argc < 2)
		return cli_help();
	if (strcmp(argv[1], "run") == 0)
		return cli_run(argc - 1, argv + 1);
	if (strcmp(argv[1], "check") == 0)
		return cli_check(argc - 1, argv + 1);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		return cli_help();
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("quire %s\n", QUIRE_VERSION);
		return 0;
	}
	fprintf(stderr, "quire: no command '%s'; see quire --help\n", argv[1]);
	return CLI_CANNOT;
}
