/* SPDX-License-Identifier: BSD-2-Clause */
/* See start.h. */
#include "far/start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_MS 8000 /* ms that quire-far has for removing its units */
#define URL_MAX 2048u

extern char **environ;

static int refuse_far(char why[FAR_WHY_START], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(why, FAR_WHY_START, fmt, ap);
	va_end(ap);
	return -1;
}

/* ---- URLs ---- */
const char *far_user_end(const char *url)
{
	const char *host = strstr(url, "://");

	if (host == NULL)
		return NULL;
	host += 3;
	return memrchr(
	    host, '@', strncasecmp(url, "redis", 5) == 0 ? strlen(host) : strcspn(host, "/?"));
}

bool far_has_password(const char *url)
{
	const char *at = far_user_end(url), *host = strstr(url, "://");

	return at != NULL && memchr(host + 3, ':', (size_t)(at - host - 3)) != NULL;
}

/*
 * Inserts the password, %-encoded, into a URL without a password. False: the result does not fit.
 */
static bool whole_url(const char *url, const char *password, char *out, size_t room)
{
	const char *host = strstr(url, "://"), *at = far_user_end(url);
	char code[3 * 255 + 1], *p = code;
	int n;

	if (host == NULL || password == NULL || password[0] == '\0' || far_has_password(url)) {
		n = snprintf(out, room, "%s\n", url);
		return n > 0 && (size_t)n < room;
	}
	if (strlen(password) > 255)
		return false;
	for (const char *c = password; *c != '\0'; c++)
		p += sprintf(p, "%%%02x", (unsigned char)*c);
	host += 3;
	if (at != NULL)
		n = snprintf(out, room, "%.*s:%s%s\n", (int)(at - url), url, code, at);
	else
		n = snprintf(out, room, "%.*s:%s@%s\n", (int)(host - url), url, code, host);
	explicit_bzero(code, sizeof code);
	return n > 0 && (size_t)n < room;
}

const char *far_shown_url(const char *url)
{
	const char *at = far_user_end(url), *host = strstr(url, "://");
	char *out = NULL;

	if (at == NULL || asprintf(&out, "%.*s%s", (int)(host + 3 - url), url, at + 1) < 0)
		return url;
	return out;
}

/* Makes a pipe that holds the URL; returns its read end, or -1. */
static int make_url_pipe(const char *url, const char *password, char why[FAR_WHY_START])
{
	char text[URL_MAX];
	int fd[2] = { -1, -1 };
	bool ok = whole_url(url, password, text, sizeof text) && pipe2(fd, O_CLOEXEC) == 0 &&
	    write(fd[1], text, strlen(text)) == (ssize_t)strlen(text);

	explicit_bzero(text, sizeof text);
	if (fd[1] >= 0)
		(void)close(fd[1]);
	if (ok)
		return fd[0];
	if (fd[0] >= 0)
		(void)close(fd[0]);
	return refuse_far(why, "the URL is too long");
}

/*
 * Puts the URL of a plan into a pipe; a file that the parent opened is inherited and named by its
 * number.
 */
static int make_plan_pipe(
    const struct far_options *o, const struct far_plan *plan, char why[FAR_WHY_START])
{
	char url[64];

	if (plan->url != NULL)
		return make_url_pipe(plan->url, o->password, why);
	(void)snprintf(url, sizeof url, "file:/proc/self/fd/%d", plan->file);
	return make_url_pipe(url, NULL, why);
}

/* ---- the program ---- */
/* quire-far lies beside this program, or in ../libexec/quire, or where it was installed. */
static bool find_program(const struct far_options *o, char path[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	if (o->program != NULL) {
		(void)snprintf(path, PATH_MAX, "%s", o->program);
		return access(path, X_OK) == 0;
	}
	self[n > 0 ? n : 0] = '\0';
	if ((slash = strrchr(self, '/')) != NULL) {
		*slash = '\0';
		(void)snprintf(path, PATH_MAX, "%.4000s/quire-far", self);
		if (access(path, X_OK) == 0)
			return true;
		(void)snprintf(path, PATH_MAX, "%.4000s/../libexec/quire/quire-far", self);
		if (access(path, X_OK) == 0)
			return true;
	}
	(void)snprintf(path, PATH_MAX, "%s/quire/quire-far", QUIRE_LIBEXEC);
	return access(path, X_OK) == 0;
}

struct arguments {
	char text[16][32]; /* of numbers */
	const char *argv[40];
	unsigned n, ntext;
};

static void add_word(struct arguments *a, const char *word) { a->argv[a->n++] = word; }

static void add_number(struct arguments *a, const char *option, unsigned long long value)
{
	add_word(a, option);
	(void)snprintf(a->text[a->ntext], sizeof a->text[0], "%llu", value);
	add_word(a, a->text[a->ntext++]);
}

static void add_options(struct arguments *a, const struct far_options *o, bool encrypt)
{
	add_number(a, "--timeout", o->timeout_ms);
	add_number(a, "--replicas", o->replicas);
	if (o->ca != NULL) {
		add_word(a, "--ca");
		add_word(a, o->ca);
	}
	if (o->psk != NULL) {
		add_word(a, "--psk");
		add_word(a, o->psk);
	}
	if (encrypt)
		add_word(a, "--encrypt");
}

#define FULL                                                                                       \
	"no process can be made for quire-far: raise the limit of processes (ulimit -u, or the container's)"
#define EXIT_FULL 2 /* exit status of the child that detaches: it could not make a process */

struct execution {
	const char *path;
	const char *const *argv;
	const int *keep; /* descriptors that stay open in the child, ended by -1 */
	bool detach;
};

/* Runs in the child, which shares its parent's memory until execve(), while the parent sleeps. */
static int execute_there(void *arg)
{
	const struct execution *x = arg;
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	/*
	 * quire-far becomes a grandchild: code that counts or awaits the program's children must
	 * not find it. Signals stay blocked until no handler of the program's can run here.
	 */
	if (x->detach) {
		pid_t pid = vfork();

		if (pid != 0)
			_exit(pid < 0 ? EXIT_FULL : 0);
	}
	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			(void)sigaction(sig, &dfl, NULL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (const int *fd = x->keep; *fd >= 0; fd++)
		(void)fcntl(*fd, F_SETFD, 0);
	(void)execve(x->path, (char *const *)(uintptr_t)x->argv, environ);
	_exit(127);
}

/*
 * Executes quire-far; with detach in a process that is not a child of this process. The
 * intermediate child raises no SIGCHLD. Returns the child's number, for await_child(), or -1.
 */
static pid_t execute_far(const struct far_options *o, struct arguments *a, const int *keep,
    bool detach, char why[FAR_WHY_START])
{
	static const size_t stack_bytes = 64u << 10;
	char path[PATH_MAX], *stack;
	struct execution x = { path, a->argv, keep, detach };
	sigset_t all, old;
	pid_t pid;

	if (!find_program(o, path))
		return refuse_far(why,
		    "quire-far is not beside the program, nor in ../libexec/quire, nor in %s/quire: install quire whole",
		    QUIRE_LIBEXEC);
	if ((stack = malloc(stack_bytes)) == NULL)
		return refuse_far(why, "no memory");
	a->argv[0] = path;
	a->argv[a->n] = NULL;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = clone(execute_there, stack + stack_bytes, CLONE_VM | CLONE_VFORK, &x);
	if (pid < 0 && errno == EAGAIN)
		(void)refuse_far(why, FULL);
	else if (pid < 0)
		(void)refuse_far(why, "cannot start quire-far: %s", strerror(errno));
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	free(stack);
	return pid;
}

/* Returns the child's status; -1: the status is unknown. */
static int await_child(pid_t pid)
{
	int st = -1;
	pid_t got;

	do
		got = waitpid(pid, &st, __WALL);
	while (got < 0 && errno == EINTR);
	return got == pid ? st : -1;
}

/* ---- calls ---- */
int far_probe(const struct far_options *o, struct far_plan *plan, char why[FAR_WHY_START])
{
	struct arguments a = { .n = 1 };
	int out[2], url_fd = make_plan_pipe(o, plan, why), st = 0;
	char text[FAR_WHY_START] = "", *end;
	pid_t pid;
	size_t n = 0;
	ssize_t got;

	if (url_fd < 0)
		return -1;
	if (pipe2(out, O_CLOEXEC) != 0) {
		(void)close(url_fd);
		return refuse_far(why, "cannot start quire-far: %s", strerror(errno));
	}
	add_number(&a, "--probe-fd", (unsigned)out[1]);
	add_number(&a, "--url-fd", (unsigned)url_fd);
	add_number(&a, "--size", plan->bytes);
	add_options(&a, o, false);
	pid = execute_far(o, &a, (const int[]){ url_fd, out[1], plan->file, -1 }, false, why);
	(void)close(url_fd);
	(void)close(out[1]);
	while (n + 1 < sizeof text &&
	    ((got = read(out[0], text + n, sizeof text - 1 - n)) > 0 ||
		(got < 0 && errno == EINTR)))
		n += got > 0 ? (size_t)got : 0;
	(void)close(out[0]);
	if (pid < 0)
		return -1;
	st = await_child(pid);
	text[strcspn(text, "\n")] = '\0';
	plan->bytes = strtoull(text, &end, 10);
	if (st == 0 && end != text && *end == '\0')
		return 0;
	return refuse_far(
	    why, "%s", text[0] != '\0' ? text : "quire-far ended before it could say why");
}

static bool is_readable(int fd, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, wait_ms) == 1;
}

/* Waits up to wait_ms until quire-far has closed its end. */
static void await_end(int life, int wait_ms)
{
	struct far_told told;

	while (is_readable(life, wait_ms) && recv(life, &told, sizeof told, 0) > 0)
		;
}

bool far_hear(struct far_started *f)
{
	struct far_told told;
	ssize_t n;

	while ((n = recv(f->life, &told, sizeof told, MSG_DONTWAIT)) == (ssize_t)sizeof told) {
		told.why[sizeof told.why - 1] = '\0';
		f->told = told;
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

int far_start(struct far_started *f, const struct far_options *o, const struct far_plan *plan,
    int memfd, uint64_t ring_at, char why[FAR_WHY_START])
{
	struct arguments a = { .n = 1 };
	int life[2], url_fd = make_plan_pipe(o, plan, why);
	pid_t pid;
	int st;

	*f = (struct far_started){ .life = -1 };
	if (url_fd < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, life) != 0) {
		(void)close(url_fd);
		return refuse_far(why, "cannot start quire-far: %s", strerror(errno));
	}
	add_number(&a, "--url-fd", (unsigned)url_fd);
	add_number(&a, "--ring-fd", (unsigned)memfd);
	add_number(&a, "--ring-at", ring_at);
	add_number(&a, "--life-fd", (unsigned)life[1]);
	add_number(&a, "--size", plan->bytes);
	add_number(&a, "--keep-free", plan->keep_free);
	add_options(&a, o, plan->encrypt);
	pid =
	    execute_far(o, &a, (const int[]){ url_fd, memfd, life[1], plan->file, -1 }, true, why);
	(void)close(url_fd);
	(void)close(life[1]);
	f->life = life[0];
	if (pid < 0)
		return -1;
	st = await_child(pid);
	/* The first message arrives when the engine answers or is declared lost. */
	while (!is_readable(f->life, -1))
		;
	if (far_hear(f) && f->told.state == FAR_UP)
		return 0;
	await_end(f->life, STOP_MS);
	if (WIFEXITED(st) && WEXITSTATUS(st) == EXIT_FULL)
		return refuse_far(why, FULL);
	return refuse_far(why, "%s",
	    f->told.why[0] != '\0' ? f->told.why : "quire-far ended before it could say why");
}

bool far_was_killed(const struct far_started *f, int memfd, uint64_t ring_at)
{
	uint32_t alive;

	if (f->life < 0 ||
	    pread(memfd, &alive, sizeof alive,
		(off_t)(ring_at + offsetof(struct far_ring, fr_alive))) != (ssize_t)sizeof alive ||
	    (alive & FUTEX_OWNER_DIED) == 0)
		return false;
	await_end(f->life, STOP_MS);
	return true;
}

void far_stop(struct far_started *f)
{
	if (f->life < 0)
		return;
	(void)shutdown(f->life, SHUT_WR);
	await_end(f->life, STOP_MS);
	(void)close(f->life);
	f->life = -1;
}

int far_check(const struct far_options *o, const char *url, bool encrypt, int file)
{
	struct arguments a = { .n = 1 };
	char why[FAR_WHY_START];
	int url_fd = make_url_pipe(url, o->password, why);
	pid_t pid = -1;

	if (url_fd >= 0) {
		add_word(&a, "--check");
		add_number(&a, "--url-fd", (unsigned)url_fd);
		add_options(&a, o, encrypt);
		pid = execute_far(o, &a, (const int[]){ url_fd, file, -1 }, false, why);
		(void)close(url_fd);
	}
	if (pid < 0) {
		fprintf(stderr, "quire: %s\n", why);
		return -1;
	}
	return await_child(pid) == 0 ? 0 : -1;
}
