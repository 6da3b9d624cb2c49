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
    "Pages that do not fit are compressed into a pool and then swapped to a file of\n"
    "quire's own: no kernel swap, no out-of-memory kill.\n"
    "\n"
    "  quire run --memory 64M -- sort big.txt  the program and its children get 64M\n"
    "  quire check sort                        can machine, user, program be used?\n"
    "\n"
    "options of run that are used most; 'quire run --help' has all of them:\n"
    "  -m, --memory SIZE       64M, 1.5G, 25% of this machine's; default 50%\n"
    "  --swap PATH[:SIZE]      where the swap file lies, and its largest size\n"
    "  --swap URL              swap on a server: Redis or NBD\n"
    "  --report FORMAT[:PATH]  figures at the end: text (default), json or none\n"
    "  --live                  a line on the terminal with the present figures\n"
    "\n"
    "'quire check --help' says what check tests; 'man quire' has everything.\n"
    "exit status: the program's own; 125 quire failed, 126 the program cannot be\n"
    "hosted, 127 it was not found.\n";

static const char check_usage[] =
    "usage: quire check [program]\n"
    "       quire check [options] URL | @FILE\n"
    "\n"
    "Without an argument: whether this user and this kernel can serve a program's faults, and how; what newer kernels would add;\n"
    "how much memory there is. With a program: also whether it can be hosted. With a URL, or @FILE whose lines are URLs: how\n"
    "fast that place of far swap answers, compared with the disk of the swap file; the options are those of run.\n"
    "Standard error names the first obstacle, and the way out.\n"
    "\n"
    "exit status: 0 no obstacle; 125 machine, user, place or command line; 126 the program cannot be hosted, 127 it\n"
    "was not found.\n";

static const char run_usage[] =
    "usage: quire run [options] [--] program [argument ...]\n"
    "\n"
    "options:\n"
    "  -m, --memory SIZE     memory of the program and its children together: 64M, 1.5G, 25% (of what this\n"
    "                        machine or container has). Default 50%, least 8M\n"
    "  --pool SIZE           the most of --memory that compressed pages may take; 25% is of --memory. Default 75%\n"
    "  --swap PATH[:SIZE]    directory or file name for the swap file, and its largest size; SIZE alone means the\n"
    "                        default place, $TMPDIR or /var/tmp. Default size 4 times --memory or 16G, whichever is\n"
    "                        more, but no more than is free there. The file has no name while in use and is gone\n"
    "                        afterwards\n"
    "  --swap URL            swap on a server: redis://[user:password@]host:port[/db], rediss://, redis+cluster://host,...,\n"
    "                        nbd://host:port/export, nbds://, nbd+unix:///export?socket=PATH; ?size=4G limits it.\n"
    "                        Put a password into a line of --swap @FILE: ps shows the command line for a moment.\n"
    "                        Several --swap: pages go to the file first, and from it to the far places in order\n"
    "  --encrypt[=WHAT]      far (default): pages that leave this machine; all: those in the swap file, too; none\n"
    "  --far-timeout TIME    how long to wait for a lost server before its pages count as lost, 30s\n"
    "  --far-replicas N      Redis: a write is complete when N replicas have it. Default 0\n"
    "  --far-ca FILE, --far-psk FILE  TLS: the certificate to trust; NBD's pre-shared keys\n"
    "  --swap-password FILE  its first line is the password for URLs without one; without this option the value of\n"
    "                        QUIRE_SWAP_PASSWORD is\n"
    "  --swap-keep-free SIZE how much of its file system a swap file leaves free. Default an eighth\n"
    "  --swap-rate SIZE      the most bytes a second written and read, all places together. Default no limit\n"
    "  --force               allow a swap file on a tmpfs, whose files are memory themselves\n"
    "  --report FORMAT[:PATH]  text (default), json or none; to PATH instead of standard error\n"
    "  --policy NAME         which page is evicted when memory is full. Default generations; help lists the names\n"
    "  --prefetch NAME       which pages are read ahead. Default streams; help lists the names\n"
    "  --without LIST        for tests: features of the kernel to leave out: move,scan,poison,io_uring,...; see man quire\n"
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
