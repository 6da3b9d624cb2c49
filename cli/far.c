/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Far swap: starting quire-far and ending it. A URL goes to it through a pipe, as it may hold a password; its life hangs on a
 * socket pair: each side sees the other's end. So it also outlives this process if a child of this one goes on supervising.
 */
#include "far.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

#define STOP_MS 8000 /* quire-far removes what it stored meanwhile */

static char password[256]; /* of the environment; "": none */

void far_take_password(void)
{
	const char *p = getenv("QUIRE_SWAP_PASSWORD");

	if (p == NULL)
		return;
	(void)snprintf(password, sizeof password, "%s", p);
	(void)unsetenv("QUIRE_SWAP_PASSWORD");
}

/* The URL with the password of the environment, %-encoded, where it has none. False: it does not fit. */
static bool whole_url(const char *url, char *out, size_t room)
{
	const char *host = strstr(url, "://"), *at = strchr(url, '@');
	char code[3 * sizeof password + 1], *p = code;
	int n;

	if (host == NULL || password[0] == '\0' ||
	    (at != NULL && memchr(host + 3, ':', (size_t)(at - host - 3)) != NULL)) {
		n = snprintf(out, room, "%s\n", url);
		return n > 0 && (size_t)n < room;
	}
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

/* For messages: what stands before '@' is left out. The text is never freed. */
static const char *shown_url(const char *url)
{
	const char *at = strchr(url, '@'), *host = strstr(url, "://");
	char *out = NULL;

	if (at == NULL || host == NULL ||
	    asprintf(&out, "%.*s%s", (int)(host + 3 - url), url, at + 1) < 0)
		return url;
	return out;
}

/* quire-far lies beside quire, or in ../libexec/quire. */
static bool find_far(char path[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash == NULL)
		return false;
	*slash = '\0';
	(void)snprintf(path, PATH_MAX, "%.4000s/quire-far", self);
	if (access(path, X_OK) == 0)
		return true;
	(void)snprintf(path, PATH_MAX, "%.4000s/../libexec/quire/quire-far", self);
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

static void add_options(struct arguments *a, const struct run_options *o, bool encrypt)
{
	add_number(a, "--timeout", o->far_timeout_ms);
	add_number(a, "--replicas", o->far_replicas);
	if (o->far_ca != NULL) {
		add_word(a, "--ca");
		add_word(a, o->far_ca);
	}
	if (o->far_psk != NULL) {
		add_word(a, "--psk");
		add_word(a, o->far_psk);
	}
	if (encrypt)
		add_word(a, "--encrypt");
}

/*
 * Executes quire-far in a child, or with detach in a process that is not our child; the descriptors in keep (ended by -1) stay open
 * there. The child's number, or -1.
 */
static pid_t execute_far(struct arguments *a, const int *keep, bool detach)
{
	char path[PATH_MAX];
	pid_t pid;

	if (!find_far(path)) {
		(void)fail(
		    "quire-far is not beside quire nor in ../libexec/quire: install quire whole");
		return -1;
	}
	a->argv[0] = path;
	a->argv[a->n] = NULL;
	if ((pid = vfork()) == 0) {
		sigset_t none;

		/* A grandchild: who counts the program's processes must not find it among our children. */
		if (detach && (pid = vfork()) != 0)
			_exit(pid < 0);
		(void)sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		for (const int *fd = keep; *fd >= 0; fd++)
			(void)fcntl(*fd, F_SETFD, 0);
		(void)execv(path, (char *const *)(uintptr_t)a->argv);
		_exit(127);
	}
	if (pid < 0)
		(void)fail("cannot start quire-far: %s", strerror(errno));
	else if (detach)
		(void)waitpid(pid, NULL, 0);
	return pid;
}

/* A pipe that holds the URL. Its end to read, or -1. */
static int url_pipe(const char *url)
{
	char text[2048];
	int fd[2] = { -1, -1 };
	bool ok = whole_url(url, text, sizeof text) && pipe2(fd, O_CLOEXEC) == 0 &&
	    write(fd[1], text, strlen(text)) == (ssize_t)strlen(text);

	explicit_bzero(text, sizeof text);
	if (fd[1] >= 0)
		(void)close(fd[1]);
	if (!ok) {
		(void)fail("--swap: the URL is too long");
		if (fd[0] >= 0)
			(void)close(fd[0]);
		return -1;
	}
	return fd[0];
}

static bool hung_up(int fd, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, wait_ms) == 1;
}

/* Until the engine is there or the child has given up. */
static bool await_server(struct run_far *f)
{
	struct timespec ts = { .tv_nsec = 50000000 };

	while (__atomic_load_n(&f->ring->fr_server, __ATOMIC_ACQUIRE) == FAR_STARTING &&
	    !hung_up(f->life, 0))
		(void)syscall(
		    SYS_futex, &f->ring->fr_server, FUTEX_WAIT, FAR_STARTING, &ts, NULL, 0);
	return __atomic_load_n(&f->ring->fr_server, __ATOMIC_ACQUIRE) == FAR_UP;
}

/* The URL of a plan in a pipe; a file of ours is inherited and named by its number. */
static int plan_pipe(const struct far_plan *plan)
{
	char url[64];

	if (plan->url != NULL)
		return url_pipe(plan->url);
	(void)snprintf(url, sizeof url, "file:/proc/self/fd/%d", plan->file);
	return url_pipe(url);
}

int far_probe(const struct run_options *o, struct far_plan *plan)
{
	struct arguments a = { .n = 1 };
	int out[2], url_fd = plan_pipe(plan), st = 0;
	char text[32] = "";
	pid_t pid;

	if (url_fd < 0)
		return CLI_CANNOT;
	if (pipe2(out, O_CLOEXEC) != 0) {
		(void)close(url_fd);
		return fail("cannot start quire-far: %s", strerror(errno));
	}
	add_number(&a, "--probe-fd", (unsigned)out[1]);
	add_number(&a, "--url-fd", (unsigned)url_fd);
	add_number(&a, "--size", plan->bytes);
	add_options(&a, o, false);
	pid = execute_far(&a, (const int[]){ url_fd, out[1], plan->file, -1 }, false);
	(void)close(url_fd);
	(void)close(out[1]);
	(void)!read(out[0], text, sizeof text - 1);
	(void)close(out[0]);
	if (pid < 0 || waitpid(pid, &st, 0) != pid || st != 0)
		return CLI_CANNOT; /* it has said why */
	plan->bytes = strtoull(text, NULL, 10);
	return 0;
}

int far_start(struct run_far *f, const struct run_options *o, const struct far_plan *plan,
    int memfd, uint64_t ring_at)
{
	struct arguments a = { .n = 1 };
	int life[2], url_fd = plan_pipe(plan);
	struct far_ring *ring =
	    mmap(NULL, far_ring_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, (off_t)ring_at);
	pid_t pid;

	if (ring == MAP_FAILED)
		return fail("cannot map shared memory: %s", strerror(errno));
	*f = (struct run_far){ .ring = ring,
		.life = -1,
		.url = plan->url != NULL ? shown_url(plan->url) : "the swap file" };
	if (url_fd < 0)
		return CLI_CANNOT;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life) != 0) {
		(void)close(url_fd);
		return fail("cannot start quire-far: %s", strerror(errno));
	}
	add_number(&a, "--url-fd", (unsigned)url_fd);
	add_number(&a, "--ring-fd", (unsigned)memfd);
	add_number(&a, "--ring-at", ring_at);
	add_number(&a, "--life-fd", (unsigned)life[1]);
	add_number(&a, "--size", plan->bytes);
	add_options(&a, o, plan->encrypt);
	far_ring_format(ring);
	pid = execute_far(&a, (const int[]){ url_fd, memfd, life[1], plan->file, -1 }, true);
	(void)close(url_fd);
	(void)close(life[1]);
	f->life = life[0];
	if (pid < 0)
		return CLI_CANNOT;
	if (await_server(f))
		return 0;
	(void)hung_up(f->life, STOP_MS); /* what it has to say is said then */
	return ring->fr_why[0] != '\0' ? fail("--swap %s: %.255s", f->url, ring->fr_why)
				       : CLI_CANNOT;
}

void far_ended(struct run_far *f)
{
	if (f->life < 0)
		return;
	(void)close(f->life);
	f->life = -1;
	(void)fail(
	    "swap at %s: quire-far has ended; an access to a page that lies there ends in SIGBUS",
	    f->url);
	__atomic_store_n(&f->ring->fr_server, FAR_ENDED, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < FAR_RING_DEPTH; i++)
		(void)syscall(
		    SYS_futex, &f->ring->fr_slot[i].fs_word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void far_stop(struct run_far *f)
{
	if (f->ring == NULL)
		return;
	if (f->life >= 0) {
		(void)shutdown(f->life, SHUT_WR);
		(void)hung_up(f->life, STOP_MS);
		(void)close(f->life);
	}
	(void)munmap(f->ring, far_ring_bytes());
	*f = (struct run_far){ .life = -1 };
}

int far_check(const struct run_options *o, const char *url, int file)
{
	struct arguments a = { .n = 1 };
	int url_fd = url_pipe(url), st;
	pid_t pid;

	if (url_fd < 0)
		return CLI_CANNOT;
	add_word(&a, "--check");
	add_number(&a, "--url-fd", (unsigned)url_fd);
	add_options(&a, o, o->encrypt != ENCRYPT_NONE);
	pid = execute_far(&a, (const int[]){ url_fd, file, -1 }, false);
	(void)close(url_fd);
	if (pid < 0 || waitpid(pid, &st, 0) != pid)
		return CLI_CANNOT;
	return st == 0 ? 0 : CLI_CANNOT;
}
