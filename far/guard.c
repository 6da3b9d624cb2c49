/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guard of a quire-far: a process that removes the keys of its quire-far if the quire-far is
 * killed.
 *
 * Vocabulary. The ward is the quire-far that serves. The alarm is a pipe whose write end only the
 * ward has. The ward writes a byte after it has removed its keys, so an end of file without a byte
 * means that the ward was killed. A sweep removes all keys that the ward can have stored: units 0
 * to the highest unit written (high, in shared memory), under the run's name.
 *
 *   ward ends by itself          a byte, then the end of the pipe     the guard ends
 *   ward is killed               the end of the pipe                  the guard sweeps, then ends
 *   ward and supervisor killed   the same
 *   all three killed             the keys expire (engine_redis.c)
 *
 * The ward's last writes may still lie in the server's sockets, and be stored after the key was
 * removed. So the guard sweeps until a whole sweep finds no key, at least twice.
 *
 * Only engines that keep keys for a dead run (fo_leaves_keys) have a guard: Redis. The blocks of an
 * NBD export are not trimmed after a kill, because the next run may have begun to write there. A
 * file has no name, and the kernel removes it with its last descriptor.
 *
 * The guard holds the address with its password, the run's name and the alarm; no ring, no
 * connection until it sweeps, no key of a cipher. Like the ward, the guard cannot be dumped. One
 * thread.
 */
#include "far/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define DEPTH 256u
#define ALARM 3                  /* the number of the alarm's descriptor in the guard */
#define PAUSE_MS 200             /* between two sweeps */
#define SWEEP_NS 120000000000ull /* longest time of all sweeps; keys left after that expire */

struct sweep {
	struct far_device *device;
	struct far_io io[DEPTH];
	bool busy[DEPTH];
	unsigned under_way;
	uint64_t found, failed;
};

/* ---- the guard ---- */
static void on_removed(struct far_io *io, int err)
{
	struct sweep *s = io->arg;

	s->busy[io - s->io] = false;
	s->under_way--;
	s->found += io->found;
	s->failed += err != 0;
}

/* Removes units 0 to high-1. False: time is up, or the server does not answer. */
static bool sweep_once(struct sweep *s, uint64_t high, uint64_t until)
{
	uint64_t next = 0;

	s->found = s->failed = 0;
	while (next < high || s->under_way > 0) {
		for (unsigned i = 0; i < DEPTH && next < high; i++) {
			if (s->busy[i])
				continue;
			s->io[i] = (struct far_io){ .op = FAR_TRIM,
				.at = next++ * FAR_UNIT,
				.len = FAR_UNIT,
				.done = on_removed,
				.arg = s };
			s->busy[i] = true;
			s->under_way++;
			far_device_submit(s->device, &s->io[i]);
		}
		if (s->failed > 0 || far_now() > until)
			return false;
		(void)far_device_wait(s->device, -1, 100);
	}
	return true;
}

static void sweep_keys(const struct far_url *url, const struct far_settings *set, uint64_t high)
{
	static struct sweep
	    s; /* if time is up, requests outlive the loop until the device is closed */
	uint64_t until = far_now() + SWEEP_NS;
	char why[FAR_WHY];

	if (high == 0 ||
	    (s.device = far_device_open(far_engine(url->scheme), url, set, NULL, why)) == NULL)
		return;
	for (unsigned n = 1; sweep_once(&s, high, until) && (n < 2 || s.found > 0); n++)
		(void)poll(NULL, 0, PAUSE_MS);
	far_device_close(s.device, false);
}

/* True: the ward has ended without a byte. */
static bool await_alarm(void)
{
	char byte;
	ssize_t n;

	do
		n = read(ALARM, &byte, 1);
	while (n < 0 && errno == EINTR);
	return n == 0;
}

/*
 * Closes all descriptors of the ward but the alarm: the ward's parent takes the end of its socket
 * for the ward's end, and a reader of the run's output waits for end of file. The alarm becomes
 * descriptor ALARM.
 */
static void close_all_but(int alarm)
{
	int null = open("/dev/null", O_RDWR);

	if (dup2(alarm, ALARM) < 0)
		_exit(1);
	for (int fd = 0; fd < ALARM; fd++)
		(void)dup2(null, fd);
	closefrom(ALARM + 1);
}

static void guard_ward(
    const struct far_url *url, const struct far_settings *set, int alarm, const uint64_t *high)
{
	close_all_but(alarm);
	(void)prctl(PR_SET_NAME, "quire-far-guard");
	(void)signal(SIGTERM, SIG_IGN); /* the guard ends when quire-far has ended */
	if (await_alarm())
		sweep_keys(url, set, __atomic_load_n(high, __ATOMIC_RELAXED));
	_exit(0);
}

/* ---- calls ---- */
struct far_guard far_guard_start(const struct far_url *url, const struct far_settings *set)
{
	struct far_guard g = { .alarm = -1 };
	int fd[2];
	void *high;
	pid_t pid;

	if (!far_engine(url->scheme)->fo_leaves_keys || pipe2(fd, O_CLOEXEC) != 0)
		return g;
	high =
	    mmap(NULL, sizeof *g.high, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = high != MAP_FAILED ? fork() : -1;
	if (pid == 0)
		guard_ward(url, set, fd[0], high);
	(void)close(fd[0]);
	if (pid < 0) { /* without a guard the keys of a killed process expire */
		if (high != MAP_FAILED)
			(void)munmap(high, sizeof *g.high);
		(void)close(fd[1]);
		return g;
	}
	return (struct far_guard){ .alarm = fd[1], .high = high };
}

void far_guard_dismiss(struct far_guard *g)
{
	if (g->alarm < 0)
		return;
	(void)!write(g->alarm, "", 1);
	(void)close(g->alarm);
	g->alarm = -1;
}
