/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line of `quire run`. A command line that can mean only one thing is understood, even
 * if it is not written as the help says: `--memory 64 M`, `--swap 4G`. Everything else is refused
 * in one line, which names the mistake and the right form.
 */
#include "cli.h"
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <quire/policy.h>

#include "far/start.h"
#include "sys/linux/offer.h"

#define MIN_MEMORY (8ull << 20)
#define MIN_SWAP (1ull << 20)
#define SWAP_LINE 2048u /* bytes of a line of --swap @FILE */

/* False: the text could not be written, as on a full disk. */
static bool say_line(FILE *f, const char *line)
{
	return f != NULL && fprintf(f, "quire: %s\n", line) > 0 && fflush(f) == 0;
}

int fail(const char *fmt, ...)
{
	char line[2 * PATH_MAX];
	va_list ap;
	FILE *terminal;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (!say_line(stderr, line)) {
		terminal = fopen("/dev/tty", "we");
		if (!say_line(terminal, line))
			(void)say_line(stdout, line);
		if (terminal != NULL)
			(void)fclose(terminal);
	}
	return CLI_CANNOT;
}

int cli_too_few_files(void)
{
	return fail(
	    "too few open files are allowed (ulimit -Hn): one is needed for each process, and eighteen more");
}

/* Is it a number without a unit, and too small to be meant in bytes? */
static bool lacks_unit(const char *text)
{
	uint64_t v;

	return strspn(text, "0123456789.") == strlen(text) && cli_size(text, 0, &v) &&
	    v < MIN_SWAP && atof(text) > 0;
}

/* "M", "GB", "kib" */
static bool is_unit(const char *text)
{
	char size[8] = "1";
	uint64_t v;

	return text != NULL && strlen(text) <= 3 &&
	    strchr("KMGT", toupper((unsigned char)text[0])) != NULL && text[0] != '\0' &&
	    cli_size(strcat(size, text), 0, &v);
}

/*
 * The option's value; "64" with "M" as the next word is "64M", as no option takes an amount of 64
 * bytes. The joined text is never freed: the options point to it.
 */
static char *join_unit(char *value, char **argv)
{
	const char *number = strrchr(value, ':');
	char *joined;

	if (!lacks_unit(number != NULL ? number + 1 : value) || !is_unit(argv[optind]))
		return value;
	joined = malloc(strlen(value) + strlen(argv[optind]) + 1);
	if (joined == NULL)
		return value;
	(void)strcat(strcpy(joined, value), argv[optind]);
	optind++;
	return joined;
}

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* PATH, PATH:SIZE, :SIZE or SIZE. */
static int take_swap(struct swap_option *o, char *text)
{
	char *colon = strrchr(text, ':'), *size = colon != NULL ? colon + 1 : text;
	bool path_too = colon != NULL && colon != text;

	if (*text == '\0' || strcmp(text, ":") == 0)
		return fail("--swap: no place is named: write /var/tmp or /var/tmp:4G");
	if (*text == '-')
		return fail(
		    "--swap: no place is named before '%s': write /var/tmp or /var/tmp:4G, or ./ before the name of a file",
		    text);
	if (colon == NULL && (!isdigit((unsigned char)*text) || strchr(text, '/') != NULL)) {
		o->path = text;
		return 0;
	}
	if (colon == NULL && is_directory(text))
		return fail("--swap: is '%s' a size or the directory? Write /var/tmp:%s or ./%s",
		    text, text, text);
	if (lacks_unit(size))
		return fail("--swap: '%s' has no unit: write 512M or 4G", size);
	if (!cli_size(size, 0, &o->bytes))
		return fail("--swap: '%s' is not a size: write 512M or 4G%s", size,
		    colon == NULL ? ", or ./ before the name of a file" : "");
	if (o->bytes < MIN_SWAP)
		return fail("--swap %s is too little: give at least 1M", size);
	if (path_too) {
		*colon = '\0';
		o->path = text;
	}
	return 0;
}

/* Is the text "SCHEME://…"? */
static bool is_url(const char *text)
{
	size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+");

	return n > 0 && strncmp(text + n, "://", 3) == 0;
}

/*
 * A copy of a URL of the command line, never freed. The original, which the list of processes
 * shows, is overwritten up to the host, and o->exposed is set if there was a password. NULL: no
 * memory.
 */
static char *hide_password(struct run_options *o, char *url)
{
	char *copy = strdup(url), *from = strstr(url, "://");
	const char *at = far_user_end(url);

	if (copy == NULL || at == NULL)
		return copy;
	if (far_has_password(url))
		o->exposed = far_shown_url(copy);
	for (char *p = from + 3; p < at; p++)
		*p = 'x';
	return copy;
}

/* Parses a URL with "size=4G" among its parameters. The option keeps the text. */
static int take_far(struct swap_option *sw, char *url)
{
	const char *user = url != NULL ? far_user_end(url) : NULL;
	char *size, *end, *host = user != NULL ? url + (user - url) : url;

	if (url == NULL)
		return fail("no memory");
	if ((size = strstr(host, "?size=")) == NULL && (size = strstr(host, "&size=")) == NULL) {
		sw->url = url;
		return 0;
	}
	end = size + 6 + strcspn(size + 6, "&");
	char *value = strndup(size + 6, (size_t)(end - size - 6));
	if (value == NULL)
		return fail("no memory");
	if (lacks_unit(value) || !cli_size(value, 0, &sw->bytes) || sw->bytes < MIN_SWAP)
		return fail("--swap: '%s' is no size of at least 1M: write size=4G", value);
	free(value);
	/* "?size=4G&x" becomes "?x" */
	if (*end == '&')
		memmove(size + 1, end + 1, strlen(end + 1) + 1);
	else
		*size = '\0';
	sw->url = url;
	return 0;
}

/* Appends the place to the options. */
static int add_place(struct run_options *o, char *text, bool url)
{
	struct swap_option *sw = &o->swap[o->nswaps];
	int rc;

	if (o->nswaps == SWAPS_MAX)
		return fail("--swap: name at most %u places", SWAPS_MAX);
	rc = url ? take_far(sw, text) : take_swap(sw, text);
	for (unsigned i = 0; rc == 0 && sw->url == NULL && i < o->nswaps; i++)
		if (o->swap[i].url == NULL)
			return fail(
			    "--swap: two places of this machine; name one, and far ones by URL");
	o->nswaps += rc == 0;
	return rc;
}

/* Reads the file: each line is a place, as --swap takes it. */
static int take_swap_file(struct run_options *o, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[SWAP_LINE], *copy;
	unsigned had = o->nswaps;
	int rc = 0;

	if (f == NULL)
		return fail("--swap @%s: %s; name a file that lists places", path, strerror(errno));
	(void)setvbuf(f, NULL, _IONBF, 0); /* unbuffered, so that no copy of a password stays in a
	                                    * buffer */
	while (rc == 0 && fgets(line, sizeof line, f) != NULL) {
		line[strcspn(line, "\r\n")] = '\0';
		if (line[0] == '\0')
			continue;
		rc = (copy = strdup(line)) == NULL ? fail("no memory")
						   : add_place(o, copy, is_url(copy));
	}
	explicit_bzero(line, sizeof line);
	(void)fclose(f);
	if (rc == 0 && o->nswaps == had)
		return fail(
		    "--swap @%s: the file has no line: write one for each place, such as a URL",
		    path);
	return rc;
}

static int take_one_swap(struct run_options *o, char *text)
{
	if (text[0] == '@')
		return take_swap_file(o, text + 1);
	return is_url(text) ? add_place(o, hide_password(o, text), true)
			    : add_place(o, text, false);
}

/* Called when all options have been read. The list of processes has shown the password already: the
 * line says how the next run avoids it. */
static void tell_exposed(const struct run_options *o)
{
	if (o->exposed != NULL)
		(void)fail(
		    "%s: its password stood on the command line, where the list of processes showed it for a moment; "
		    "--swap @FILE or QUIRE_SWAP_PASSWORD avoids that",
		    o->exposed);
}

int cli_take_url(struct run_options *o, char *text)
{
	int rc;

	o->nswaps = 0;
	o->swap[0] = (struct swap_option){ 0 };
	rc = take_one_swap(o, text);
	tell_exposed(o);
	if (rc != 0)
		return rc;
	return o->swap[0].url != NULL ? 0 : fail("check @FILE: the first line must be a URL");
}

/* Parses "30s", "500ms", "2m", or a number of seconds. */
static int take_timeout(struct run_options *o, const char *text)
{
	char *end;
	double v = strtod(text, &end);

	if (strcmp(end, "ms") != 0)
		v *= strcmp(end, "m") == 0 ? 60000 : 1000;
	if (end == text ||
	    (strcmp(end, "ms") != 0 && strcmp(end, "m") != 0 && strcmp(end, "s") != 0 &&
		*end != '\0') ||
	    !(v >= 100) || v > 86400e3)
		return fail(
		    "--far-timeout: '%s' is no time from 100ms to a day: write 30s or 2m", text);
	o->far_timeout_ms = (uint32_t)v;
	return 0;
}

static int take_replicas(struct run_options *o, const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (end == text || *end != '\0' || n > 16)
		return fail("--far-replicas: '%s' is no number: give 0 to 16", text);
	o->far_replicas = (uint32_t)n;
	return 0;
}

/* "5G", "0" */
static int take_keep(struct run_options *o, const char *text)
{
	if (strcmp(text, "0") != 0 && lacks_unit(text))
		return fail("--swap-keep-free: '%s' has no unit: write 5G, or 0", text);
	if (!cli_size(text, 0, &o->keep_free) || o->keep_free == KEEP_DEFAULT)
		return fail("--swap-keep-free: '%s' is not a size: write 5G, or 0", text);
	return 0;
}

/* "50M", "50M/s" */
static int take_rate(struct run_options *o, char *text)
{
	char *per = strstr(text, "/s");

	if (per != NULL && per[2] == '\0')
		*per = '\0';
	if (lacks_unit(text) || !cli_size(text, 0, &o->rate) || o->rate < MIN_SWAP)
		return fail(
		    "--swap-rate: '%s' is not a rate of at least 1M a second: write 50M", text);
	return 0;
}

static int take_encrypt(struct run_options *o, const char *text)
{
	if (text == NULL || strcmp(text, "all") == 0)
		o->encrypt = ENCRYPT_ALL;
	else if (strcmp(text, "far") == 0)
		o->encrypt = ENCRYPT_FAR;
	else if (strcmp(text, "none") == 0)
		o->encrypt = ENCRYPT_NONE;
	else
		return fail("--encrypt: '%s' is none of its values: write all, far or none", text);
	return 0;
}

static int take_report(struct run_options *o, char *text)
{
	char *colon = strchr(text, ':');

	if (colon != NULL) {
		*colon = '\0';
		o->report_path = colon + 1;
	}
	if (strcmp(text, "text") == 0)
		o->report = REPORT_TEXT;
	else if (strcmp(text, "json") == 0)
		o->report = REPORT_JSON;
	else if (strcmp(text, "none") == 0)
		o->report = REPORT_NONE;
	else
		return fail("--report: '%s' is none of its values: write text, json or none", text);
	if (colon != NULL && *o->report_path == '\0')
		return fail("--report: no file is named: write json:FILE or text:FILE");
	return 0;
}

static int take_memory(struct run_options *o, const char *text)
{
	uint64_t total = cli_total_memory();
	char buf[24];

	if (!cli_size(text, total, &o->memory))
		return fail("--memory: '%s' is not a size: write 64M, 1.5G or 25%%", text);
	if (o->memory > total)
		return fail(
		    "--memory %s is more than the %s that this machine or container has: give less",
		    text, cli_human(total, buf));
	if (lacks_unit(text))
		return fail(
		    "--memory %s has no unit, and %s bytes are too little: write %sM; the least is %s",
		    text, text, text, cli_human(MIN_MEMORY, buf));
	if (o->memory < MIN_MEMORY)
		return fail("--memory %s is too little: give at least %s", text,
		    cli_human(MIN_MEMORY, buf));
	return 0;
}

static int take_pool(struct run_options *o, const char *text)
{
	if (!cli_size(text, o->memory, &o->pool))
		return fail("--pool: '%s' is not a size: write 32M or 25%%", text);
	if (lacks_unit(text))
		return fail("--pool %s has no unit: write %sM or %s%%", text, text, text);
	if (o->pool > o->memory * 3 / 4)
		return fail(
		    "--pool %s is more than three quarters of --memory: nothing would be left to run in",
		    text);
	return 0;
}

/* `--policy help`: prints the names on standard output, with a line about each. */
static int list_names(struct run_options *o, bool prefetchers)
{
	o->listed = true;
	for (unsigned i = 0; !prefetchers && policy_table[i] != NULL; i++)
		(void)printf("%-12s %s\n", policy_table[i]->pol_name, policy_table[i]->pol_about);
	for (unsigned i = 0; prefetchers && prefetch_table[i] != NULL; i++)
		(void)printf("%-12s %s\n", prefetch_table[i]->pf_name, prefetch_table[i]->pf_about);
	return ferror(stdout) != 0 || fflush(stdout) != 0 ? fail("cannot write to standard output")
							  : 0;
}

enum {
	O_POOL = 256,
	O_SWAP,
	O_REPORT,
	O_LIVE,
	O_POLICY,
	O_PREFETCH,
	O_ENCRYPT,
	O_TIMEOUT,
	O_REPLICAS,
	O_CA,
	O_PSK,
	O_WITHOUT,
	O_PASSWORD,
	O_KEEP,
	O_RATE,
	O_FORCE
};

static const struct option opts[] = {
	{ "memory", required_argument, NULL, 'm' },
	{ "swap", required_argument, NULL, O_SWAP },
	{ "pool", required_argument, NULL, O_POOL },
	{ "report", required_argument, NULL, O_REPORT },
	{ "live", no_argument, NULL, O_LIVE },
	{ "help", no_argument, NULL, 'h' },
	{ "policy", required_argument, NULL, O_POLICY },
	{ "prefetch", required_argument, NULL, O_PREFETCH },
	{ "encrypt", optional_argument, NULL, O_ENCRYPT },
	{ "far-timeout", required_argument, NULL, O_TIMEOUT },
	{ "far-replicas", required_argument, NULL, O_REPLICAS },
	{ "without", required_argument, NULL, O_WITHOUT },
	{ "far-ca", required_argument, NULL, O_CA },
	{ "far-psk", required_argument, NULL, O_PSK },
	{ "swap-password", required_argument, NULL, O_PASSWORD },
	{ "swap-keep-free", required_argument, NULL, O_KEEP },
	{ "swap-rate", required_argument, NULL, O_RATE },
	{ "force", no_argument, NULL, O_FORCE },
	{ NULL, 0, NULL, 0 },
};

/* Parses names of features of the kernel that are not to be used. */
static int take_without(struct run_options *o, const char *names)
{
	if (sys_offers_named(names, &o->without))
		return 0;
	return fail(
	    "--without: '%s' is unknown: write a list of move, scan, poison, io_uring, process_madvise, close_range, pidfd",
	    names);
}

int cli_unknown(const char *what, const char *word, const char *prefix, const char *const *names)
{
	size_t n = strlen(prefix);
	const char *like = strncmp(word, prefix, n) == 0 ? cli_name_like(word + n, names) : NULL;

	if (like != NULL)
		return fail("unknown %s '%s'; did you mean %s%s?", what, word, prefix, like);
	return fail("unknown %s '%s'; see quire --help", what, word);
}

int cli_unknown_option(const char *word)
{
	const char *names[sizeof opts / sizeof opts[0]];
	char name[64];

	for (unsigned i = 0; i < sizeof opts / sizeof opts[0]; i++)
		names[i] = opts[i].name;
	/* Only up to the =: the value may hold a password. */
	(void)snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
	return cli_unknown("option", name, "--", names);
}

/* Stores the option c, as getopt_long() returned it, in o. 0, or an exit status. */
static int take_option(
    struct run_options *o, int c, char **argv, const char **memory, const char **pool)
{
	switch (c) {
	case 'm': *memory = join_unit(optarg, argv); return 0;
	case O_POOL: *pool = join_unit(optarg, argv); return 0;
	case O_SWAP: /* a URL is read in place, because it is overwritten there */
		return take_one_swap(o, is_url(optarg) ? optarg : join_unit(optarg, argv));
	case O_ENCRYPT: return take_encrypt(o, optarg);
	case O_TIMEOUT: return take_timeout(o, optarg);
	case O_REPLICAS: return take_replicas(o, optarg);
	case O_WITHOUT: return take_without(o, optarg);
	case O_CA: o->far_ca = optarg; return 0;
	case O_PSK: o->far_psk = optarg; return 0;
	case O_PASSWORD: o->password_file = optarg; return 0;
	case O_KEEP: return take_keep(o, join_unit(optarg, argv));
	case O_RATE: return take_rate(o, join_unit(optarg, argv));
	case O_FORCE: o->force = true; return 0;
	case O_REPORT: return take_report(o, optarg);
	case O_LIVE: o->live = true; return 0;
	case O_POLICY:
		if (strcmp(optarg, "help") == 0)
			return list_names(o, false);
		if ((o->policy = policy_find(optarg)) == NULL)
			return fail("--policy: no '%s'; '--policy help' lists them", optarg);
		return 0;
	case O_PREFETCH:
		if (strcmp(optarg, "help") == 0)
			return list_names(o, true);
		if ((o->prefetch = prefetch_find(optarg)) == NULL)
			return fail("--prefetch: no '%s'; '--prefetch help' lists them", optarg);
		return 0;
	case 'h': o->help = true; return 0;
	case ':': return fail("%s needs a value; see quire run --help", argv[optind - 1]);
	default: return cli_unknown_option(argv[optind - 1]);
	}
}

/* Is there a far place, or one that is reached by TLS? */
static bool has_far(const struct run_options *o, bool tls)
{
	for (unsigned i = 0; i < o->nswaps; i++) {
		const char *url = o->swap[i].url;

		if (url != NULL &&
		    (!tls || strncmp(url, "rediss", 6) == 0 || strncmp(url, "nbds", 4) == 0))
			return true;
	}
	return false;
}

int cli_check_far(const struct run_options *o)
{
	const char *tls = o->far_ca != NULL ? "--far-ca" : "--far-psk";

	if ((o->far_ca != NULL || o->far_psk != NULL) && !has_far(o, true))
		return fail(
		    "%s: no place with TLS is named; name one, as --swap rediss://HOST or nbds://HOST",
		    tls);
	if (o->password_file != NULL && !has_far(o, false))
		(void)fail("--swap-password is not used: name a far place, as --swap redis://HOST");
	return 0;
}

int cli_options(struct run_options *o, int argc, char **argv)
{
	const char *memory = "50%", *pool = "75%", *without = getenv("QUIRE_WITHOUT");
	int c, rc = 0;

	*o = (struct run_options){
		.policy = &policy_generations, .far_timeout_ms = 30000, .keep_free = KEEP_DEFAULT
	};
	opterr = 0;
	if (without != NULL && (rc = take_without(o, without)) != 0)
		return rc;
	while ((c = getopt_long(argc, argv, "+:hm:", opts, NULL)) != -1) {
		rc = take_option(o, c, argv, &memory, &pool);
		if (rc != 0 || o->help || o->listed)
			return rc;
	}
	tell_exposed(o);
	if (optind >= argc)
		return fail("no program given: quire run --memory 64M -- program arguments");
	if ((rc = take_memory(o, memory)) != 0 || (rc = take_pool(o, pool)) != 0)
		return rc;
	o->memory &= ~(uint64_t)4095;
	if (o->nswaps == 0)
		o->nswaps = 1; /* the default place */
	return 0;
}
