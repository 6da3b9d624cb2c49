/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The supervisor at work. One thread runs the loop over sockets and signals. Another waits on the family's pressure word; it is
 * made when a process says that it has use for it. keeper.c has what packs. Locks: connlock (run.h).
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

uint64_t run_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void run_add_stats(struct pool_stats *sum, const struct pool_stats *ps)
{
	double pages = (double)(sum->bytes_written + sum->mem_bytes + 1),
	       more = (double)(ps->bytes_written + ps->mem_bytes);

	sum->ratio =
	    sum->ratio == 0 ? ps->ratio : (sum->ratio * pages + ps->ratio * more) / (pages + more);
#define X(n) sum->n += ps->n;
	/* clang-format off */
	X(pages) X(same_filled) X(mem_pages) X(mem_bytes) X(mem_held) X(mem_packed) X(mem_most) X(file_bytes) X(bytes_written) X(bytes_read) X(spills)
	X(compactions) X(write_errors) X(dense) X(young_pages) X(packed_behind) X(young_hits) X(cache_hits) X(behind) X(steals)
	X(set_aside) X(mem_target) X(repairs) X(far_bytes) X(bytes_far) X(sunk)
	/* clang-format on */
#undef X
}

void run_store_stats(struct run *r, struct pool_stats *sum, unsigned which)
{
	*sum = r->past;
	for (unsigned i = 0; i < RUN_STORES; i++)
		if (r->store[i] != NULL && r->store[i]->stats != NULL)
			run_add_stats(sum, &r->store[i]->stats[which]);
	if (sum->mem_target == 0) /* no process had use for the store */
		sum->mem_target = r->o.pool;
	if (sum->ratio == 0)
		sum->ratio = 1;
}

/* A process asked others for memory: a byte on its socket wakes each process whose fp_shrink has risen. */
static void *pressure_main(void *arg)
{
	struct run *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		uint32_t seen = atomic_load(&r->fam->fam_pressure);

		(void)pthread_mutex_lock(&r->connlock);
		for (unsigned i = 0; i < r->nconn; i++) {
			const struct conn *c = &r->conn[i];

			if (c->hears && atomic_load(&r->fam->fam_proc[c->slot].fp_shrink) != 0)
				(void)send(c->fd, &(char){ FAMILY_SHRINK }, 1,
				    MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		(void)pthread_mutex_unlock(&r->connlock);
		(void)syscall(SYS_futex, &r->fam->fam_pressure, FUTEX_WAIT, seen, NULL, NULL, 0);
	}
	return NULL;
}

/*
 * The thread and the store's keeper, as soon as a process has use for them: most programs fit. Where they cannot be started, a process
 * packs what it stores, no process is asked for memory, and the next process that has use for them has us try again.
 */
void run_start_threads(struct run *r, struct run_store *st)
{
	bool kept = st != NULL && run_keeper_start(r, st);

	if (!r->pressed)
		r->pressed = pthread_create(&r->pressure, NULL, pressure_main, r) == 0;
	if (r->pressed && kept)
		atomic_store(&r->fam->fam_watched, 1);
}

void run_end_threads(struct run *r)
{
	__atomic_store_n(&r->stop, true, __ATOMIC_RELEASE);
	if (r->pressed) {
		atomic_fetch_add(&r->fam->fam_pressure, 1);
		(void)syscall(SYS_futex, &r->fam->fam_pressure, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
		(void)pthread_join(r->pressure, NULL);
	}
	r->pressed = false;
}

void run_add_up(
    const struct run *r, struct family_counters *out, uint64_t *resident, uint64_t *need)
{
	memset(out, 0, sizeof *out);
	*resident = *need = 0;
#define X(n) atomic_store(&out->n, atomic_load(&r->fam->fam_dead.n));
	FAMILY_COUNTERS(X)
#undef X
	for (unsigned i = 0; i < FAMILY_PROCS && i < atomic_load(&r->fam->fam_procs); i++) {
		const struct family_proc *p = &r->fam->fam_proc[i];

		if (atomic_load(&p->fp_pid) == 0)
			continue;
#define X(n) atomic_fetch_add(&out->n, atomic_load(&p->fp_count.n));
		FAMILY_COUNTERS(X)
#undef X
		*resident += atomic_load(&p->fp_resident);
		*need += atomic_load(&p->fp_need);
	}
}

/* As much of the line as the terminal has room for, so that it stays one: whole parts, or what fits of the first. */
static void print_cut(char *line)
{
	struct winsize w;
	size_t n = strlen(line), most = n;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1)
		most = (size_t)w.ws_col - 1u; /* in the last column some begin the next line */
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

#define MEASURE_MS 250u /* between two looks at what is resident */

/* What serves far places: it tells what becomes of its engine. How many. */
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

/* Hands a signal to the program, unless the terminal sent it: to the whole foreground group, the program included. */
static void forward_signal(struct run *r, bool running)
{
	struct signalfd_siginfo si;

	if (read(r->sigfd, &si, sizeof si) == (ssize_t)sizeof si && si.ssi_signo != SIGCHLD &&
	    si.ssi_code != SI_KERNEL && running)
		(void)kill(r->child, (int)si.ssi_signo);
}

/* Reaps children. True: the program has ended, and *status says how. When it stops, quire stops, and goes on with it. */
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

/* Where the kernel cannot wait (no memory for it), nothing has happened; the program goes on, and is looked after in a moment. */
static void wait_for_events(struct pollfd *pfd, unsigned n)
{
	static const struct timespec moment = { .tv_nsec = 10 * 1000 * 1000 };
	int r = poll(pfd, n, MEASURE_MS);

	for (unsigned i = 0; r < 0 && i < n; i++)
		pfd[i].revents = 0;
	if (r < 0 && errno != EINTR)
		(void)nanosleep(&moment, NULL);
}

/* Until the program ends; after that (status NULL), until the last process of its family has. */
void run_supervise(struct run *r, int *status)
{
	struct family_counters last = { 0 };
	uint64_t last_ns = run_now_ns(), measured_ns = last_ns;
	bool tty = isatty(STDERR_FILENO) != 0 && r->o.live && status != NULL, gone = false;

	while (status != NULL ? !gone : run_family_lives(r)) {
		struct pollfd pfd[FAMILY_PROCS + RUN_STORES * (1 + POOL_FARS) + 2], *keepers, *ends;
		struct run_far *far[RUN_STORES * POOL_FARS];
		unsigned n = r->nconn, nfar;

		pfd[0] = (struct pollfd){ .fd = r->door, .events = POLLIN };
		pfd[1] = (struct pollfd){ .fd = r->sigfd, .events = POLLIN };
		for (unsigned i = 0; i < n; i++)
			pfd[i + 2] = (struct pollfd){ .fd = r->conn[i].fd, .events = POLLIN };
		keepers = pfd + n + 2;
		for (unsigned i = 0; i < RUN_STORES; i++)
			keepers[i] =
			    (struct pollfd){ .fd = r->store[i] != NULL ? r->store[i]->sock : -1,
				    .events = POLLIN };
		ends = keepers + RUN_STORES;
		nfar = watch_far(r, ends, far);
		wait_for_events(pfd, n + RUN_STORES + nfar + 2);
		for (unsigned i = 0; i < nfar; i++) /* before stores are dropped */
			if (ends[i].revents != 0)
				run_far_hear(far[i]);
		if (pfd[0].revents !=
		    0) /* first: a child's greeting comes before the end of its parent */
			run_open_door(r);
		for (unsigned i = n; i-- > 0;)
			if (pfd[i + 2].revents != 0)
				run_hear(r, i);
		for (unsigned i = 0; i < RUN_STORES; i++)
			if (keepers[i].revents != 0)
				run_hear_keeper(r, r->store[i]);
		if ((pfd[1].revents & POLLIN) != 0)
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
		fputs("\r\033[K", stderr); /* wiped: what follows begins on a clean line */
}
