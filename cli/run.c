/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quire run: makes the state that the family shares (area.c) and the gate by which its processes
 * join (rendezvous.c), starts the program with the runtime preloaded, supervises (supervise.c), and
 * reports at the end. The program is a child; terminal signals reach it by itself, others are
 * forwarded; the exit status or fatal signal becomes our own.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static int set_env(struct run *r)
{
	char self[PATH_MAX], lib[PATH_MAX + 64], value[2 * PATH_MAX];
	const char *old = getenv("LD_PRELOAD");
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash != NULL)
		*slash = '\0';
	(void)snprintf(lib, sizeof lib, "%s/libquire-run.so", self);
	if (access(lib, R_OK) != 0)
		(void)snprintf(lib, sizeof lib, "%s/../lib/quire/libquire-run.so", self);
	if (access(lib, R_OK) != 0)
		return fail(
		    "libquire-run.so is not beside %s nor in ../lib/quire: install quire whole",
		    self);
	(void)snprintf(value, sizeof value, "%s%s%s", lib, old != NULL && *old != '\0' ? ":" : "",
	    old != NULL ? old : "");
	(void)snprintf(
	    r->variable, sizeof r->variable, FAMILY_ENV "="); /* become_program() appends the rest,
	                                                       * which is not known yet */
	if (setenv("LD_PRELOAD", value, 1) != 0 || putenv(r->variable) != 0)
		return fail("cannot make the environment: %s; see ulimit -v", strerror(errno));
	return 0;
}

/* Puts the gate where the runtime would (hostfd_guard): just above the program's soft limit, or at
 * the highest numbers there are. */
static int place_gate(const struct run *r)
{
	long base = r->files.rlim_cur < 4096 ? (long)r->files.rlim_cur : 4096;

	if (r->files.rlim_max < (rlim_t)base + 32)
		base = (long)r->files.rlim_max - 32;
	return fcntl(r->gate, F_DUPFD, base > 3 ? base : 3);
}

/* Runs in the child of a vfork: the environment is its parent's, which waits. Returns only if the
 * program cannot be executed. */
static void become_program(struct run *r, char **argv, const sigset_t *mask)
{
	int gate = place_gate(r);

	(void)snprintf(
	    r->variable, sizeof r->variable, FAMILY_ENV "=%d:%s%d", gate, r->family, (int)getpid());
	(void)sigprocmask(SIG_SETMASK, mask, NULL);
	(void)setrlimit(RLIMIT_NOFILE, &r->files);
	(void)setrlimit(RLIMIT_FSIZE, &r->fsize);
	if (gate >= 0)
		execv(r->program, argv);
	r->unexecuted = errno;
}

static int start_program(struct run *r, char **argv)
{
	static const int forwarded[] = { SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1,
		SIGUSR2, SIGALRM, SIGWINCH, SIGCONT, SIGTSTP };
	sigset_t set, old;
	int rc = set_env(r);

	if (rc != 0)
		return rc;
	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++)
		(void)sigaddset(&set, forwarded[i]);
	(void)sigprocmask(SIG_BLOCK, &set, &old);
	r->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if ((rc = run_count_descriptors(r)) != 0)
		return rc;
	r->start_ns = run_now_ns();
	(void)prctl(
	    PR_SET_CHILD_SUBREAPER, 1); /* orphans of the family become children of this process, so
	                                 * that it learns of the end of the last one */
	r->child = vfork();             /* a copy of this process's memory would be thrown away at
	                                 * once */
	if (r->child == 0) {
		become_program(r, argv, &old);
		_exit(CLI_NOEXEC);
	}
	(void)close(r->gate);
	r->gate = -1;
	if (r->child < 0)
		return fail(errno == EAGAIN
			? "cannot fork: %s; raise the limit of processes (ulimit -u, or the container's)"
			: "cannot fork: %s; free some memory",
		    strerror(errno));
	if (r->unexecuted != 0) {
		rc = r->unexecuted == ENOENT ? CLI_NOTFOUND : CLI_NOEXEC;
		(void)fail("cannot execute '%s': %s; see quire check", r->program,
		    strerror(r->unexecuted));
		(void)waitpid(r->child, NULL, 0);
	}
	if (rc == 0)
		sites_note_file(
		    "/lib/x86_64-linux-gnu/libc.so.6", &r->sites); /* this overlaps with the
		                                                    * loader's work */
	return rc;
}

static void write_report(struct run *r, int status)
{
	struct run_totals t = { .wall_ns = run_now_ns() - r->start_ns,
		.status = status,
		.left = r->left,
		.need_peak = r->need_peak,
		.budget = r->o.memory / 4096,
		.turned_away = r->turned_away };
	FILE *f = stderr;
	struct pool_stats ps;
	uint64_t resident, need;

	if (r->o.report == REPORT_NONE ||
	    (atomic_load(&r->fam->fam_started) == 0 && WIFEXITED(status) &&
		WEXITSTATUS(status) == CLI_CANNOT))
		return; /* no program ran, and the callee has printed the line */
	run_add_up(r, &t.c, &resident, &need);
	if (atomic_load(&r->fam->fam_need_peak) > t.need_peak)
		t.need_peak = atomic_load(&r->fam->fam_need_peak);
	t.unhosted_peak = atomic_load(&r->fam->fam_unhosted_peak);
	if (r->unhosted_peak > t.unhosted_peak)
		t.unhosted_peak = r->unhosted_peak;
	run_store_stats(r, &ps, KEEPER_FULLEST);
	if (r->report_file != NULL)
		f = r->report_file;
	if (r->o.report == REPORT_JSON)
		cli_report_json(f, r->fam, &ps, &t, r->o.pool);
	else
		cli_report_text(f, r->fam, &ps, &t, r->o.pool, isatty(fileno(f)) != 0);
	if (fflush(f) != 0 || (f != stderr && fclose(f) != 0))
		(void)fail("--report: cannot write it: %s", strerror(errno));
}

static void watch_family(struct run *r, int *status)
{
	__atomic_store_n(&r->stop, false, __ATOMIC_RELEASE);
	if (atomic_load(&r->fam->fam_watched) != 0)
		run_start_threads(r, NULL);
	run_supervise(r, status);
	run_end_threads(r);
}

static void stop_helpers(struct run *r)
{
	uint64_t end;

	for (unsigned i = 0; i < RUN_STORES; i++)
		if (r->store[i] != NULL)
			run_keeper_stop(r->store[i]);
	end = run_keeper_patience();
	for (unsigned i = 0; i < RUN_STORES; i++)
		if (r->store[i] != NULL) {
			run_keeper_await(r->store[i], end);
			run_stop_far(r->store[i]);
		}
}

/*
 * The program has ended, but children of it go on (a daemon, a job of a shell): the memory limit
 * still holds for them, so a process must stay that hands out their memory. A child of this process
 * stays; this process ends as the program did.
 */
static void stay_behind(struct run *r)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	(void)run_open_door(r);
	for (unsigned i = r->nconn; i-- > 0;) /* the program's own connection has hung up */
		run_hear(r, i);
	if (!run_family_lives(r))
		return;
	r->left = r->nconn > 0 ? r->nconn : 1;
	if (fork() != 0)
		return;
	int null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		(void)dup2(null, fd);
	(void)setsid();
	r->o.live = false;
	watch_family(r, NULL);
	stop_helpers(r);
	_exit(0);
}

/* If standard error is closed, the swap file would get descriptor 2, and our messages would go
 * there. The program still finds it closed. */
static void keep_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		(void)close(fd);
}

int cli_run(int argc, char **argv)
{
	static struct run r = {
		.device = -1, .door = -1, .gate = -1, .connlock = PTHREAD_MUTEX_INITIALIZER
	};
	char why[PATH_MAX + 256];
	int rc, status = 0;

	if ((rc = cli_options(&r.o, argc, argv)) != 0)
		return rc;
	if (r.o.listed)
		return 0;
	if (r.o.help)
		return cli_help_run();
	if ((rc = cli_check_far(&r.o)) != 0)
		return rc;
	keep_standard();
	r.alone = !creds_own(&r.creds);
	(void)prctl(PR_SET_DUMPABLE,
	    0); /* this process has all that the family shares: no core file, no access by
	         * /proc/PID/fd */
	if (!cli_check_program(argv[optind], r.program, sizeof r.program, why, sizeof why)) {
		rc = errno == ENOENT ? CLI_NOTFOUND : CLI_NOEXEC;
		(void)fail("%s", why);
		return rc;
	}
	if (!cli_check_uffd(why, sizeof why))
		return fail("%s", why);
	if (run_family_there(getenv(FAMILY_ENV)))
		return fail(
		    "already inside quire run: one budget holds for the whole family; run the program without it");
	if (r.o.report_path != NULL &&
	    (r.report_file = fopen(r.o.report_path, "we")) ==
		NULL) /* opened now, so that an error does not show only after the run */
		return fail("--report: cannot write '%s': %s", r.o.report_path, strerror(errno));
	if ((rc = run_make_descriptors(&r)) != 0 || (rc = run_make_family(&r)) != 0 ||
	    (rc = run_make_gate(&r)) != 0 || (rc = start_program(&r, argv + optind)) != 0)
		return rc;
	watch_family(&r, &status);
	if (atomic_load(&r.fam->fam_started) == 0 && WIFEXITED(status) &&
	    WEXITSTATUS(status) < CLI_CANNOT)
		(void)fail(
		    "'%s' was not hosted: the loader could not load the runtime; see its own line, and install quire whole",
		    r.program);
	stay_behind(&r);
	if (r.left == 0)
		stop_helpers(&r);
	write_report(&r, status);
	if (WIFSIGNALED(status)) {
		struct rlimit none = { 0, 0 };

		(void)setrlimit(RLIMIT_CORE, &none);
		(void)signal(WTERMSIG(status), SIG_DFL);
		sigset_t all;
		(void)sigfillset(&all);
		(void)sigprocmask(SIG_UNBLOCK, &all, NULL);
		(void)raise(WTERMSIG(status));
		return 128 + WTERMSIG(status);
	}
	return WEXITSTATUS(status);
}
