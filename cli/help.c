/* SPDX-License-Identifier: BSD-2-Clause */
/* The help of quire, of quire run and of quire check. man/quire.1 has the same at length. */
#include "cli.h"

/* Fits one screen: 80 columns, 24 lines. */
static const char short_usage[] =
    "usage: quire run [options] [--] program [argument ...]\n"
    "       quire check [program | [options] URL | [options] @FILE]\n"
    "       quire --help | --version\n"
    "\n"
    "Runs an unmodified, dynamically linked program in a fixed amount of memory.\n"
    "What does not fit is compressed into a pool and then swapped to a file of\n"
    "quire's own: no kernel swap, no out-of-memory kill.\n"
    "\n"
    "  quire run --memory 64M -- sort big.txt  the program and its children get 64M\n"
    "  quire check sort                        are machine, user, program fit for it?\n"
    "\n"
    "options of run that are used most; 'quire run --help' has all of them:\n"
    "  -m, --memory SIZE       64M, 1.5G, 25% of this machine's; default 50%\n"
    "  --swap PATH[:SIZE]      where the swap file lies, and its largest size\n"
    "  --swap URL              swap far away: Redis or NBD\n"
    "  --report FORMAT[:PATH]  figures at the end: text (default), json or none\n"
    "  --live                  a line on the terminal with the present figures\n"
    "\n"
    "'quire check --help' says what check looks at; 'man quire' has everything.\n"
    "exit status: the program's own; 125 quire failed, 126 the program cannot be\n"
    "hosted, 127 it was not found.\n";

static const char check_usage[] =
    "usage: quire check [program]\n"
    "       quire check [options] URL | @FILE\n"
    "\n"
    "Without an argument: can this user and this kernel serve a program's faults, by which way, what newer kernels would add,\n"
    "and how much memory there is. With a program: can it be hosted, too. With a URL, or @FILE whose lines are URLs: how fast\n"
    "that place of far swap answers, beside the disk where the swap file would be; the options are those of run.\n"
    "The first thing that is in the way is said on standard error, with the way out.\n"
    "\n"
    "exit status: 0 nothing is in the way; 125 machine, user, place or command line; 126 the program cannot be hosted, 127 it\n"
    "was not found.\n";

static const char run_usage[] =
    "usage: quire run [options] [--] program [argument ...]\n"
    "\n"
    "options:\n"
    "  -m, --memory SIZE     memory of the program and its children together: 64M, 1.5G, 25% (of what this\n"
    "                        machine or container has). Default 50%, least 8M\n"
    "  --pool SIZE           most that compressed pages may take of --memory; 25% is of it. Default 75%\n"
    "  --swap PATH[:SIZE]    directory or file name for the swap file, and its largest size; SIZE alone is in the\n"
    "                        default place, $TMPDIR or /var/tmp. Default size 4 times --memory or 16G, whichever is\n"
    "                        more, but no more than is free there. The file has no name while in use and is gone\n"
    "                        afterwards\n"
    "  --swap URL            swap far away: redis://[user:password@]host:port[/db], rediss://, redis+cluster://host,...,\n"
    "                        nbd://host:port/export, nbds://, nbd+unix:///export?socket=PATH; ?size=4G bounds it.\n"
    "                        A password is better in a line of --swap @FILE: ps shows the command line's for a moment.\n"
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
    "  --prefetch NAME       what is read ahead. Default streams; help lists the names\n"
    "  --without LIST        for tests: of the kernel's, leave out move,scan,poison,io_uring,...; see man quire\n"
    "  --live                a line on the terminal with the present figures\n"
    "\n"
    "exit status: the program's own; 125 quire failed, 126 the program cannot be hosted, 127 it was not found.\n";

static int print_usage(const char *text)
{
	(void)fputs(text, stdout);
	return 0;
}

int cli_help(void) { return print_usage(short_usage); }
int cli_help_run(void) { return print_usage(run_usage); }
int cli_help_check(void) { return print_usage(check_usage); }
