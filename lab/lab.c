/* SPDX-License-Identifier: BSD-2-Clause */
/* quire-lab: runs replacement and prefetch policies over a trace of page references, and measures
 * what spaces that share memory take. */
#include "lab.h"
#include "stat.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <unistd.h>

static const char usage[] =
    "usage: quire-lab policies [--raw] [--frames LIST] [--policy LIST] [--writes] [--unseen-reads] [--csv] FILE | PATTERN[:PAGES[:LENGTH[:SEED]]]\n"
    "       quire-lab prefetch [--raw] [--frames LIST] [--prefetch LIST] [--csv] FILE | PATTERN[:PAGES[:LENGTH[:SEED]]]\n"
    "       quire-lab generate [--text] [--pages N] [--length N] [--seed N] [--output FILE] PATTERN\n"
    "       quire-lab trace [--recent N] --output FILE [--] PROGRAM [ARGUMENT ...]\n"
    "       quire-lab stat [--spaces N] [--text N] [--data N] [--heap N] [--shared N] [--csv]\n"
    "       quire-lab list\n"
    "       quire-lab --help\n"
    "\n"
    "policies  prints how often each replacement policy misses on a trace, and MIN, the fewest misses that any policy can have.\n"
    "prefetch  prints, for each prefetcher beside the lru policy, how many references had to wait, how many pages were read\n"
    "          ahead, and how many of these were used.\n"
    "generate  writes a trace of a standard pattern to standard output.\n"
    "trace     runs an x86-64 program under qemu-x86_64 (Debian's qemu-user) and writes which pages of data it references.\n"
    "stat      prints the resident memory (RSS) of spaces of one image, the last a fork of the first, and the part of it that\n"
    "          counts for each (PSS), on the simulated machine.\n"
    "list      names the policies, the prefetchers and the patterns.\n"
    "\n"
    "A trace is a file (- is standard input): binary as generate writes it, or text with a page number a line and w after\n"
    "it if the page is written. Instead of a file the name of a pattern may be given.\n"
    "\n"
    "  --frames LIST  memory sizes, in frames or as percentages of the pages used. Default 5%,10%,25%,50%,75%\n"
    "  --policy LIST, --prefetch LIST  only these\n"
    "  --writes       print how many pages had to be written, instead of misses\n"
    "  --unseen-reads tell the policies of misses and writes only, as Linux tells quire run\n"
    "  --csv          for programs\n"
    "  --raw          the file is binary without a header\n"
    "  --pages N      pages of a pattern, default 4096; --length N references, default 1000000; --seed N, default 1\n"
    "  --recent N     of trace: references to the N pages referenced last are left out, 1 to 64, default 16\n"
    "  --spaces N     of stat: default 4, at most 64; --text, --data, --heap, --shared N: pages of each of a space's parts,\n"
    "                 default 256, 64, 128 and 32\n";

static _Noreturn void die_with(const char *format, ...)
{
	va_list ap;

	fputs("quire-lab: ", stderr);
	va_start(ap, format);
	(void)vfprintf(stderr, format, ap);
	va_end(ap);
	fputs("\n", stderr);
	exit(2);
}

static uint64_t parse_number(const char *what, const char *s, uint64_t most)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(s, &end, 0);
	if (*s < '0' || *s > '9' || *end != '\0' || errno != 0 || n == 0 || n > most)
		die_with("%s: '%s' is not a number from 1 to %" PRIu64, what, s, most);
	return n;
}

/* ---- the trace ---- */
#define PAGES_MAX (1u << 30)
#define LENGTH_MAX (1ull << 36)

static bool is_pattern(const char *name, size_t n)
{
	for (unsigned i = 0; trace_patterns[i].name != NULL; i++)
		if (strlen(trace_patterns[i].name) == n &&
		    memcmp(trace_patterns[i].name, name, n) == 0)
			return true;
	return false;
}

static void generate_pattern(struct trace *t, char *spec)
{
	uint64_t v[3] = { 4096, 1000000, 1 };
	const uint64_t most[3] = { PAGES_MAX, LENGTH_MAX, UINT64_MAX };
	char *save, *name = strtok_r(spec, ":", &save), *p;

	for (unsigned i = 0; (p = strtok_r(NULL, ":", &save)) != NULL; i++) {
		if (i == 3)
			die_with("'%s': a pattern takes pages, length and seed at most", p);
		v[i] = parse_number(name, p, most[i]);
	}
	if (!trace_generate(t, name, (uint32_t)v[0], v[1], v[2]))
		die_with("not enough memory for the trace");
}

static void load_trace(struct trace *t, char *name, bool raw)
{
	char why[160];
	FILE *f = stdin;

	trace_init(t);
	if (is_pattern(name, strcspn(name, ":")) && access(name, F_OK) != 0) {
		generate_pattern(t, name);
		return;
	}
	if (strcmp(name, "-") != 0 && (f = fopen(name, "rb")) == NULL)
		die_with("%s: %s; quire-lab list names the patterns", name, strerror(errno));
	if (!trace_read(t, f, raw ? TRACE_RAW : TRACE_GUESS, why, sizeof why))
		die_with("%s: %s", name, why);
	if (f != stdin)
		(void)fclose(f);
}

/* ---- policies ---- */
#define COLUMNS_MAX 32u

struct options {
	bool raw, writes, unseen, csv;
	const char *policies;
	uint32_t frames[COLUMNS_MAX];
	unsigned ncolumns;
};

static void frames_list(struct options *o, const char *list, uint32_t pages)
{
	char *copy = strdup(list), *save, *p;

	for (p = strtok_r(copy, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save)) {
		size_t n = strlen(p);
		uint64_t f;

		if (o->ncolumns == COLUMNS_MAX)
			die_with("--frames: more than %u sizes", COLUMNS_MAX);
		if (n > 1 && p[n - 1] == '%') {
			p[n - 1] = '\0';
			f = parse_number("--frames", p, 100) * pages / 100;
			f = f == 0 ? 1 : f;
		} else {
			f = parse_number("--frames", p, PAGES_MAX);
		}
		o->frames[o->ncolumns++] = (uint32_t)f;
	}
	free(copy);
	if (o->ncolumns == 0)
		die_with("--frames: no size given");
}

static bool is_listed(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; p != NULL;
	     p = strchr(p, ',') != NULL ? strchr(p, ',') + 1 : NULL)
		if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0'))
			return true;
	return list == NULL;
}

static void check_list(const char *list, bool prefetch)
{
	char *copy = strdup(list), *save;

	for (char *p = strtok_r(copy, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save))
		if (prefetch ? prefetch_find(p) == NULL
			     : policy_find(p) == NULL && strcmp(p, "min") != 0)
			die_with("no %s '%s'; quire-lab list names them",
			    prefetch ? "prefetcher" : "policy", p);
	free(copy);
}

static void print_row(const struct options *o, const char *name, const struct replay_result *r)
{
	printf(o->csv ? "%s" : "%-12s", name);
	for (unsigned i = 0; i < o->ncolumns; i++)
		printf(o->csv ? ",%" PRIu64 : "%13" PRIu64, o->writes ? r[i].writes : r[i].misses);
	printf("\n");
	(void)fflush(stdout);
}

static void print_table(const struct options *o, const struct trace *t)
{
	struct replay_result r[COLUMNS_MAX];

	if (!o->csv)
		printf("%" PRIu64 " references, %u pages; %s with so many frames\n", t->t_len,
		    t->t_npages, o->writes ? "pages written" : "misses");
	printf(o->csv ? "frames" : "%-12s", "frames");
	for (unsigned i = 0; i < o->ncolumns; i++)
		printf(o->csv ? ",%u" : "%13u", o->frames[i]);
	printf("\n");
	for (unsigned p = 0; policy_table[p] != NULL; p++) {
		if (!is_listed(o->policies, policy_table[p]->pol_name))
			continue;
		for (unsigned i = 0; i < o->ncolumns; i++)
			if (!replay(policy_table[p], t, o->frames[i], NULL, NULL, &r[i]))
				die_with("%s: not enough memory for %u frames",
				    policy_table[p]->pol_name, o->frames[i]);
		print_row(o, policy_table[p]->pol_name, r);
	}
	if (!is_listed(o->policies, "min"))
		return;
	for (unsigned i = 0; i < o->ncolumns; i++)
		if (!replay_min(t, o->frames[i], &r[i]))
			die_with("min: not enough memory");
	print_row(o, "min", r);
}

/* Columns: waited: references that had to wait; accuracy: the used share of the pages read ahead;
 * coverage: the share of all reads that was read ahead and used. */
static void prefetch_table_print(const struct options *o, const struct trace *t)
{
	if (!o->csv)
		printf("%" PRIu64
		       " references, %u pages; policy lru\n%-10s %8s %12s %12s %12s %9s %9s\n",
		    t->t_len, t->t_npages, "prefetch", "frames", "waited", "read ahead", "used",
		    "accuracy", "coverage");
	else
		printf("prefetch,frames,waited,read_ahead,used\n");
	for (unsigned p = 0; prefetch_table[p] != NULL; p++) {
		const char *name = prefetch_table[p]->pf_name;

		for (unsigned i = 0; i < o->ncolumns && is_listed(o->policies, name); i++) {
			struct prefetch_result r;

			if (!replay_prefetch(prefetch_table[p], policy_find("lru"), t, o->frames[i],
				NULL, NULL, &r))
				die_with("%s: not enough memory for %u frames", name, o->frames[i]);
			if (o->csv) {
				printf("%s,%u,%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n", name,
				    o->frames[i], r.misses, r.issued, r.used);
				continue;
			}
			printf("%-10s %8u %12" PRIu64 " %12" PRIu64 " %12" PRIu64
			       " %8.1f%% %8.1f%%\n",
			    name, o->frames[i], r.misses, r.issued, r.used,
			    r.issued == 0 ? 0 : 100 * (double)r.used / (double)r.issued,
			    100 * (double)r.used / (double)(r.used + r.misses));
		}
	}
}

static const char *option_value(int argc, char **argv, int *i)
{
	if (*i + 1 >= argc)
		die_with("%s needs a value; see quire-lab --help", argv[*i]);
	return argv[++*i];
}

static int replay_command(int argc, char **argv, bool prefetch)
{
	const char *frames = "5%,10%,25%,50%,75%", *only = prefetch ? "--prefetch" : "--policy";
	struct options o = { .ncolumns = 0 };
	char *name = NULL;
	struct trace t;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--raw") == 0)
			o.raw = true;
		else if (strcmp(argv[i], "--writes") == 0 && !prefetch)
			o.writes = true;
		else if (strcmp(argv[i], "--unseen-reads") == 0 && !prefetch)
			o.unseen = true;
		else if (strcmp(argv[i], "--csv") == 0)
			o.csv = true;
		else if (strcmp(argv[i], "--frames") == 0)
			frames = option_value(argc, argv, &i);
		else if (strcmp(argv[i], only) == 0)
			check_list(o.policies = option_value(argc, argv, &i), prefetch);
		else if (argv[i][0] == '-' && argv[i][1] != '\0')
			die_with("%s has no option %s; see quire-lab --help", argv[0], argv[i]);
		else if (name != NULL)
			die_with("one trace at a time: '%s' or '%s'", name, argv[i]);
		else
			name = argv[i];
	}
	if (name == NULL)
		die_with("%s needs a trace; see quire-lab --help", argv[0]);
	load_trace(&t, name, o.raw);
	t.t_reads_unseen = o.unseen;
	frames_list(&o, frames, t.t_npages);
	if (prefetch)
		prefetch_table_print(&o, &t);
	else
		print_table(&o, &t);
	trace_free(&t);
	return 0;
}

/* ---- generate, list ---- */
static int generate_command(int argc, char **argv)
{
	uint64_t pages = 4096, length = 1000000, seed = 1;
	const char *pattern = NULL, *output = NULL;
	FILE *f = stdout;
	bool text = false;
	struct trace t;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--text") == 0)
			text = true;
		else if (strcmp(argv[i], "--pages") == 0)
			pages = parse_number("--pages", option_value(argc, argv, &i), PAGES_MAX);
		else if (strcmp(argv[i], "--length") == 0)
			length = parse_number("--length", option_value(argc, argv, &i), LENGTH_MAX);
		else if (strcmp(argv[i], "--seed") == 0)
			seed = parse_number("--seed", option_value(argc, argv, &i), UINT64_MAX);
		else if (strcmp(argv[i], "--output") == 0)
			output = option_value(argc, argv, &i);
		else if (argv[i][0] == '-' || pattern != NULL)
			die_with("generate does not know '%s'; see quire-lab --help", argv[i]);
		else
			pattern = argv[i];
	}
	if (pattern == NULL || !is_pattern(pattern, strlen(pattern)))
		die_with("generate needs a pattern; quire-lab list names them");
	if (output == NULL && !text && isatty(STDOUT_FILENO))
		die_with("a binary trace on a terminal: redirect it, or use --text or --output");
	trace_init(&t);
	if (!trace_generate(&t, pattern, (uint32_t)pages, length, seed))
		die_with("not enough memory for the trace");
	if (output != NULL && (f = fopen(output, "wb")) == NULL)
		die_with("%s: %s", output, strerror(errno));
	if (!trace_write(&t, f, text) || (f != stdout && fclose(f) != 0))
		die_with("%s: %s", output != NULL ? output : "standard output", strerror(errno));
	trace_free(&t);
	return 0;
}

/* ---- trace ---- */
/* The plugin lies beside this program, or where it is installed. */
static void find_plugin(char *path, size_t len)
{
	static const char *const places[] = { "quire-trace.so", "../lib/quire/quire-trace.so" };
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n < 0)
		die_with("/proc/self/exe: %s", strerror(errno));
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	for (unsigned i = 0; i < 2; i++) {
		(void)snprintf(path, len, "%s/%s", self, places[i]);
		if (access(path, R_OK) == 0)
			return;
	}
	die_with("no quire-trace.so beside %s: build it first", self);
}

/* The path of a program that is in PATH; false: it is in none of its folders. */
static bool find_program(const char *name, char *found, size_t room)
{
	const char *path = getenv("PATH") != NULL ? getenv("PATH") : "/usr/bin:/bin";

	for (size_t n; *path != '\0'; path += n + (path[n] == ':')) {
		n = strcspn(path, ":");
		(void)snprintf(found, room, "%.*s/%s", (int)n, path, name);
		if (n > 0 && access(found, X_OK) == 0)
			return true;
	}
	return false;
}

static int trace_command(int argc, char **argv)
{
	char plugin[4200], with[8500], **args = calloc((size_t)argc + 5, sizeof *args);
	const char *output = NULL;
	uint64_t recent = 16;
	int i = 1, n = 0;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		if (strcmp(argv[i], "--output") == 0)
			output = option_value(argc, argv, &i);
		else if (strcmp(argv[i], "--recent") == 0)
			recent = parse_number("--recent", option_value(argc, argv, &i), 64);
		else
			die_with("trace has no option %s; see quire-lab --help", argv[i]);
	}
	if (output == NULL || i >= argc || args == NULL)
		die_with("trace needs --output FILE and a program; see quire-lab --help");
	if (strchr(output, ',') != NULL || strlen(output) > 4000)
		die_with("--output: '%.40s': no commas and no more than 4000 characters", output);
	find_plugin(plugin, sizeof plugin);
	(void)snprintf(with, sizeof with, "%s,out=%s,recent=%u", plugin, output, (unsigned)recent);
	(void)personality(ADDR_NO_RANDOMIZE); /* the same run gives the same trace */
	args[n++] = (char *)"qemu-x86_64";
	args[n++] = (char *)"-plugin";
	args[n++] = with;
	if (strchr(argv[i], '/') == NULL) {
		static char found[4096];

		if (!find_program(argv[i], found, sizeof found))
			die_with(
			    "'%s' was not found: give a path, or a name that is in PATH", argv[i]);
		argv[i] = found;
	}
	for (; i < argc; i++)
		args[n++] = argv[i];
	(void)execvp(args[0], args);
	die_with("qemu-x86_64 cannot be run (%s): apt install qemu-user", strerror(errno));
}

/* ---- stat ---- */
#define STAT_PAGES (1u << 18) /* of all spaces together: 1 GiB */

static void stat_options(int argc, char **argv, struct stat_options *o, bool *csv)
{
	const struct {
		const char *name;
		uint64_t *at, most;
	} opts[] = { { "--spaces", &o->spaces, STAT_SPACES }, { "--text", &o->text, STAT_PAGES },
		{ "--data", &o->data, STAT_PAGES }, { "--heap", &o->heap, STAT_PAGES },
		{ "--shared", &o->shared, STAT_PAGES } };

	for (int i = 1; i < argc; i++) {
		unsigned k = 0;

		while (k < 5 && strcmp(argv[i], opts[k].name) != 0)
			k++;
		if (k < 5)
			*opts[k].at =
			    parse_number(opts[k].name, option_value(argc, argv, &i), opts[k].most);
		else if (strcmp(argv[i], "--csv") == 0)
			*csv = true;
		else
			die_with("stat does not know '%s'; see quire-lab --help", argv[i]);
	}
	if (o->text + o->shared + o->spaces * (o->data + o->heap) > STAT_PAGES)
		die_with("more than %u pages altogether", STAT_PAGES);
}

static void stat_row(const char *name, const struct stat_space *s)
{
	printf("%-20s %11.1f %11.1f %11.1f\n", name, (double)s->mapped / 1024,
	    (double)s->rss / 1024, (double)s->pss / 1024);
}

static int stat_command(int argc, char **argv)
{
	struct stat_options o = { 4, 256, 64, 128, 32 };
	struct stat_space sum = { 0, 0, 0 };
	static struct stat_result r;
	bool csv = false;

	stat_options(argc, argv, &o, &csv);
	if (!stat_run(&o, &r))
		die_with("not enough memory");
	if (csv)
		printf("space,mapped,rss,pss\n");
	else
		printf("%-20s %11s %11s %11s\n", "KiB", "mapped", "RSS", "PSS");
	for (unsigned i = 0; i < o.spaces; i++) {
		const struct stat_space *s = &r.space[i];
		char name[32];

		(void)snprintf(name, sizeof name, "space %u%s", i + 1,
		    i > 0 && i == o.spaces - 1 ? ", a fork of 1" : "");
		sum.mapped += s->mapped;
		sum.rss += s->rss;
		sum.pss += s->pss;
		if (csv)
			printf("%u,%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n", i + 1, s->mapped, s->rss,
			    s->pss);
		else
			stat_row(name, s);
	}
	if (csv) {
		printf("frames,,,%" PRIu64 "\n", r.frames);
		return 0;
	}
	stat_row("sum", &sum);
	printf("%-20s %35.1f\n", "frames they take", (double)r.frames / 1024);
	return 0;
}

static int print_lists(void)
{
	printf("policies:\n");
	for (unsigned i = 0; policy_table[i] != NULL; i++)
		printf("  %-12s %s\n", policy_table[i]->pol_name, policy_table[i]->pol_about);
	printf("  %-12s %s\n", "min",
	    "the fewest misses that any policy can have (Belady 1966); needs the future, so traces only");
	printf("prefetchers:\n");
	for (unsigned i = 0; prefetch_table[i] != NULL; i++)
		printf("  %-12s %s\n", prefetch_table[i]->pf_name, prefetch_table[i]->pf_about);
	printf("patterns:\n");
	for (unsigned i = 0; trace_patterns[i].name != NULL; i++)
		printf("  %-12s %s\n", trace_patterns[i].name, trace_patterns[i].about);
	return 0;
}

static int run_command(int argc, char **argv)
{
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    (argc > 2 && strcmp(argv[2], "--help") == 0)) {
		fputs(usage, stdout);
		return 0;
	}
	if (strcmp(argv[1], "policies") == 0)
		return replay_command(argc - 1, argv + 1, false);
	if (strcmp(argv[1], "prefetch") == 0)
		return replay_command(argc - 1, argv + 1, true);
	if (strcmp(argv[1], "generate") == 0)
		return generate_command(argc - 1, argv + 1);
	if (strcmp(argv[1], "trace") == 0)
		return trace_command(argc - 1, argv + 1);
	if (strcmp(argv[1], "stat") == 0)
		return stat_command(argc - 1, argv + 1);
	if (strcmp(argv[1], "list") == 0)
		return print_lists();
	die_with("no command '%s'; see quire-lab --help", argv[1]);
}

int main(int argc, char **argv)
{
	int status;

	if (argc < 2) {
		fputs(usage, stderr);
		return 2;
	}
	status = run_command(argc, argv);
	if (ferror(stdout) != 0 || fflush(stdout) != 0)
		die_with("standard output: %s", strerror(errno));
	return status;
}
