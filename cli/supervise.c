/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The supervisor's loop over sockets and signals, and the live line. threads.c has the threads that
 * run beside it, count.c the sums.
 */
#include "run.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Writes as much of the live line as fits the terminal's width, so that it stays one line: whole
 * parts, or the beginning of the first. */
static void print_cut(char *line)
{
	struct winsize w;
	size_t n = strlen(line), most = n;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1)
		most = (size_t)w.ws_col - 1u; /* some terminals start a new line after the last
		                               * column */
	if (n > most) {
		bool whole = strncmp(line + most, " |", 2) == 0;

		line[most] = '\0';
		char *part = strrchr(line, '|');
		if (!whole && part != NULL)
			part[-1] = '\0';
	}
	fprintf(stderr, "\r\033[K%s", line);
}

/* What the live line says of far places: " | far 1.2 GiB", " | redis://… away for 3 s". */
static const char *far_words(const struct run *r, const struct pool_stats *ps, char buf[96])
{
	char a[24];

	buf[0] = '\0';
	if (r->store[0]->nfar > 0)
		(void)snprintf(buf, 96, " | far %s", cli_human(ps->far_bytes, a));
	for (unsigned i = 0; i < RUN_STORES; i++)
		for (unsigned k = 0; r->store[i] != NULL && k < r->store[i]->nfar; k++) {
			const struct run_far *f = &r->store[i]->far[k];
			uint64_t away = f->started.told.away_ns;

			if (away != 0)
				(void)snprintf(buf, 96, " | %.40s away for %.0f s", f->url,
				    (double)(run_now_ns() - away) / 1e9);
		}
	return buf;
}

static void live_line(struct run *r, struct family_counters *last, uint64_t *last_ns)
{
	struct family_counters c;
	uint64_t resident, need, t = run_now_ns();
	double dt = (double)(t - *last_ns) / 1e9;
	struct pool_stats ps;
	char a[24], b[24], s[24], k[24], beside[48] = "", far[96], line[352];

	run_add_up(r, &c, &resident, &need);
	run_store_stats(r, &ps, KEEPER_NOW);
	if (cli_noted(r->unhosted))
		(void)snprintf(
		    beside, sizeof beside, " | not hosted %s", cli_human(r->unhosted * 4096, k));
	(void)snprintf(line, sizeof line,
	    "quire: %s of %s%s | %.0f faults/s | in %.1f out %.1f MB/s | pool %.2fx | swapped %s%s",
	    cli_human(atomic_load(&r->fam->fam_charged) * 4096, a), cli_human(r->o.memory, b),
	    beside, (double)(c.faults - last->faults) / dt,
	    (double)(c.pages_in - last->pages_in) * 4096 / 1e6 / dt,
	    (double)(c.pages_out - last->pages_out) * 4096 / 1e6 / dt, ps.ratio,
	    cli_human(ps.file_bytes, s), far_words(r, &ps, far));
	print_cut(line);
	*last = c;
	*last_ns = t;
}

#define MEASURE_MS 250u /* time between two measurements of resident memory */

/* Collects the sockets of the keepers that exist, and no other entries: poll() refuses more entries
 * than files may be open. How many. */
static unsigned watch_keepers(struct run *r, struct pollfd *pfd, struct run_store **kept)
{
	unsigned n = 0;

	for (unsigned i = 0; i < RUN_STORES; i++)
		if (r->store[i] != NULL && r->store[i]->sock >= 0) {
			kept[n] = r->store[i];
			pfd[n++] = (struct pollfd){ .fd = r->store[i]->sock, .events = POLLIN };
		}
	return n;
}

/* Collects the descriptors of quire-far processes, which report what becomes of their engines. How
 * many. */
static unsigned watch_far(struct run *r, struct pollfd *pfd, struct run_far **far)
{
	unsigned n = 0;

	for (unsigned i = 0; i < RUN_STORES; i++)
		for (unsigned k = 0; r->store[i] != NULL && k < r->store[i]->nfar; k++) {
			far[n] = &r->store[i]->far[k];
			pfd[n] = (struct pollfd){ .fd = far[n]->started.life, .events = POLLIN };
			n++;
		}
	return n;
}

/* Sends a signal on to the program. A signal from the terminal is not sent on, because the terminal
 * sends it to the whole foreground group. */
static void forward_signal(struct run *r, bool running)
{
	struct signalfd_siginfo si;

	if (read(r->sigfd, &si, sizeof si) == (ssize_t)sizeof si && si.ssi_signo != SIGCHLD &&
	    si.ssi_code != SI_KERNEL && running)
		(void)kill(r->child, (int)si.ssi_signo);
}

/* Reaps children. True: the program has ended, and *status says how. When the program stops, quire
 * stops, and both continue together. */
static bool reap_children(struct run *r, int *status)
{
	bool gone = false;
	int st;
	pid_t w;

	while ((w = waitpid(-1, &st, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
		if (w != r->child)
			continue;
		if (WIFSTOPPED(st)) {
			(void)raise(SIGSTOP);
			(void)kill(r->child, SIGCONT);
		} else if (!WIFCONTINUED(st)) {
			*status = st;
			gone = true;
		}
	}
	return gone;
}

/* If the kernel cannot wait (no memory for it), nothing has changed; the program goes on, and the
 * loop tries again soon. */
static void wait_for_events(struct pollfd *pfd, unsigned n, bool wait)
{
	static const struct timespec moment = { .tv_nsec = 10 * 1000 * 1000 };
	int r = poll(pfd, n, wait ? MEASURE_MS : 0);

	for (unsigned i = 0; r < 0 && i < n; i++)
		pfd[i].revents = 0;
	if (r < 0 && errno != EINTR)
		(void)nanosleep(&moment, NULL);
}

/* The descriptors that one round of the loop waits for. */
struct round {
	unsigned n, nkept, nfar; /* connections; far places */
	unsigned stage;          /* the stage of settling when the round began */
	struct pollfd *conn, *death, *keeper, *end;
	struct pollfd
	    pfd[2 + 2 * FAMILY_PROCS + RUN_STORES * (1 + POOL_FARS)]; /* door, signals, and the next
	                                                               * ones */
	struct run_far *far[RUN_STORES * POOL_FARS];
	struct run_store *kept[RUN_STORES]; /* the stores whose keepers they are */
};

static void wait_round(struct run *r, struct round *w)
{
	w->n = r->nconn;
	w->stage = r->settling;
	w->pfd[0] = (struct pollfd){ .fd = r->door, .events = POLLIN };
	w->pfd[1] = (struct pollfd){ .fd = r->sigfd, .events = POLLIN };
	w->conn = w->pfd + 2;
	w->death = w->conn + w->n;
	for (unsigned i = 0; i < w->n; i++)
		w->conn[i] = (struct pollfd){ .fd = r->conn[i].fd, .events = POLLIN };
	for (unsigned i = 0; i < w->n && r->pidfds; i++)
		w->death[i] = (struct pollfd){ .fd = r->conn[i].pidfd, .events = POLLIN };
	w->keeper = r->pidfds ? w->death + w->n : w->death;
	w->nkept = watch_keepers(r, w->keeper, w->kept);
	w->end = w->keeper + w->nkept;
	w->nfar = watch_far(r, w->end, w->far);
	wait_for_events(w->pfd, (unsigned)(w->end - w->pfd) + w->nfar, w->stage == 0);
}

static void hear_all(struct run *r, const struct round *w)
{
	bool greeted = true;

	for (unsigned i = 0; i < w->nfar; i++) /* before stores are dropped */
		if (w->end[i].revents != 0)
			run_far_hear(w->far[i]);
	if (w->pfd[0].revents !=
	    0) /* first, because a child's greeting comes before the end of its parent */
		greeted = run_open_door(r);
	for (unsigned i = w->n; i-- > 0;)
		if (r->pidfds && w->death[i].revents != 0)
			run_drop_conn(r, i);
		else if (w->conn[i].revents != 0)
			run_hear(r, i);
	run_settle(r, w->stage, greeted);
	for (unsigned i = 0; i < w->nkept; i++)
		if (w->keeper[i].revents != 0)
			run_hear_keeper(r, w->kept[i]);
	for (unsigned i = 0; i < RUN_STORES; i++)
		if (r->store[i] != NULL)
			run_keeper_settle(r, r->store[i]);
}

/* Runs until the program ends; or (status NULL) until the last process of its family has ended. */
void run_supervise(struct run *r, int *status)
{
	struct family_counters last = { 0 };
	uint64_t last_ns = run_now_ns(), measured_ns = last_ns;
	bool tty = isatty(STDERR_FILENO) != 0 && r->o.live && status != NULL, gone = false;

	while (status != NULL ? !gone : run_family_lives(r)) {
		struct round w;

		wait_round(r, &w);
		hear_all(r, &w);
		if ((w.pfd[1].revents & POLLIN) != 0)
			forward_signal(r, status != NULL);
		if (status != NULL && reap_children(r, status))
			gone = true;
		run_sweep_stores(r);
		uint64_t resident, need;
		struct family_counters c;
		run_tell(r, tty);
		if (run_now_ns() - measured_ns >= MEASURE_MS * 1000000ull) {
			run_measure(r);
			measured_ns = run_now_ns();
		}
		run_add_up(r, &c, &resident, &need);
		if (need > r->need_peak)
			r->need_peak = need;
		if (tty && !gone && run_now_ns() - last_ns >= 450000000u)
			live_line(r, &last, &last_ns);
	}
	if (tty)
		fputs("\r\033[K", stderr); /* wiped: the next output begins on a clean line */
}
