/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * far_drive QUIRE-FAR URL [--ops N] [--seed N] [--clients N] [--pause] [-- option of quire-far…]:
 * random requests through the ring to a far engine, compared with a model of each unit's contents.
 * Clients are processes, each with its own units.
 *
 * --pause: half-way prints "half" and continues after it has read a line: in between, the test acts
 * on the engine. Ends with 0 and "ok: N requests, N errors"; or with 1 and a line about the error.
 * An error of the engine is counted, and the unit's contents are unknown from then on; wrong bytes
 * always fail the test.
 */
#include "far/start.h"
#include "store/far_ring.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNITS 48u /* of one client */
#define SECTOR 4096u

static struct far_ring *ring;
static int life[2]; /* quire-far ends when this end of its socket is closed */

static uint64_t next_random(uint64_t *s)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return *s >> 33;
}

static void fill(char *buf, uint32_t len, uint64_t at, uint64_t version)
{
	for (uint32_t i = 0; i < len; i += 8) {
		uint64_t x = (at + i) * 0x9e3779b97f4a7c15u ^ version * 0xbf58476d1ce4e5b9u;

		memcpy(buf + i, &x, 8);
	}
}

struct totals {
	uint64_t requests, errors;
};

/* A request and its answer: 0, -EIO or -ENOSPC. */
static int do_request(uint32_t owner, enum far_slot_op op, uint64_t at, uint32_t len, void *data)
{
	const void *bytes = op == FAR_SLOT_WRITE ? data : NULL;
	uint32_t ticket;
	int rc;

	while ((rc = far_ring_begin(ring, owner, op, at, len, bytes, &ticket)) == -EAGAIN)
		far_ring_sleep(ring, 0, far_slot_state(&ring->fr_slot[0]));
	if (rc != 0)
		return rc;
	for (enum far_slot_state was = far_slot_state(&ring->fr_slot[ticket]);
	     !far_ring_ready(ring, ticket); was = far_slot_state(&ring->fr_slot[ticket]))
		far_ring_sleep(ring, ticket, was);
	return far_ring_end(ring, ticket, data, len);
}

/* version 0: the unit is empty; UINT64_MAX: the contents are unknown */
static int step(
    uint64_t *rnd, uint64_t version[UNITS], unsigned client, uint64_t *count, struct totals *t)
{
	static char buf[FAR_RING_UNIT], want[FAR_RING_UNIT];
	unsigned u = (unsigned)(next_random(rnd) % UNITS), what = (unsigned)(next_random(rnd) % 8);
	uint64_t at = ((uint64_t)client * UNITS + u) * FAR_RING_UNIT;
	int rc;

	t->requests++;
	if (what < 3) {
		version[u] = ++*count;
		fill(buf, sizeof buf, at, version[u]);
		rc = do_request(client + 1, FAR_SLOT_WRITE, at, sizeof buf, buf);
		if (rc != 0)
			version[u] = UINT64_MAX;
	} else if (what == 3) {
		rc = do_request(client + 1, FAR_SLOT_TRIM, at, sizeof buf, NULL);
		version[u] = rc == 0 ? 0 : UINT64_MAX;
	} else {
		uint32_t from = (uint32_t)(next_random(rnd) % (FAR_RING_UNIT / SECTOR)) * SECTOR;
		uint32_t len =
		    ((uint32_t)next_random(rnd) % ((FAR_RING_UNIT - from) / SECTOR) + 1) * SECTOR;

		if (version[u] == 0 || version[u] == UINT64_MAX)
			return 0;
		rc = do_request(client + 1, FAR_SLOT_READ, at + from, len, buf);
		fill(want, len, at + from, version[u]);
		if (rc == 0 && memcmp(buf, want, len) != 0) {
			printf("wrong bytes: client %u, unit %u, version %llu\n", client, u,
			    (unsigned long long)version[u]);
			(void)fflush(stdout);
			return 1;
		}
	}
	t->errors += rc != 0;
	return 0;
}

static int client(unsigned me, uint64_t ops, uint64_t seed, int go, int told, struct totals *t)
{
	uint64_t version[UNITS] = { 0 }, rnd = seed * 1000 + me, count = 0;
	char c = 'h';

	for (uint64_t i = 0; i < ops; i++) {
		if (go >= 0 && i == ops / 2 && (write(told, &c, 1) != 1 || read(go, &c, 1) != 1))
			return 1;
		if (step(&rnd, version, me, &count, t) != 0)
			return 1;
	}
	return 0;
}

static pid_t start_server(const char *program, const char *url, int ring_fd, char **more, int nmore)
{
	char a[16], b[16], c[16],
	    *argv[40] = { (char *)(uintptr_t)program, "--url-fd", a, "--ring-fd", b, "--life-fd",
		    c };
	int url_pipe[2], n = 7;
	pid_t pid;

	if (pipe(url_pipe) != 0 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, life) != 0 ||
	    write(url_pipe[1], url, strlen(url)) != (ssize_t)strlen(url))
		return -1;
	(void)close(url_pipe[1]);
	(void)snprintf(a, sizeof a, "%d", url_pipe[0]);
	(void)snprintf(b, sizeof b, "%d", ring_fd);
	(void)snprintf(c, sizeof c, "%d", life[1]);
	for (int i = 0; i < nmore && n < 39; i++)
		argv[n++] = more[i];
	argv[n] = NULL;
	if ((pid = fork()) == 0) {
		(void)close(life[0]);
		(void)execv(program, argv);
		_exit(127);
	}
	(void)close(url_pipe[0]);
	(void)close(life[1]);
	return pid;
}

static int run_clients(unsigned n, uint64_t ops, uint64_t seed, int pause, struct totals *all)
{
	int told[2], go[2], rc = 0;
	char c;

	if (pipe(told) != 0 || pipe(go) != 0)
		return 1;
	for (unsigned i = 0; i < n; i++) {
		if (fork() == 0) {
			/* If the test kills this program, the kernel kills its clients, too. */
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			(void)close(life[0]);
			(void)close(go[1]);
			_exit(client(i, ops, seed, pause ? go[0] : -1, told[1], &all[i]));
		}
	}
	if (pause) {
		for (unsigned i = 0; i < n; i++)
			rc |= read(told[0], &c, 1) != 1;
		printf("half\n");
		(void)fflush(stdout);
		(void)!read(0, &c, 1);
		for (unsigned i = 0; i < n; i++)
			rc |= write(go[1], &c, 1) != 1;
	}
	for (unsigned i = 0; i < n; i++) {
		int st;

		rc |= wait(&st) < 0 || st != 0;
	}
	return rc;
}

int main(int argc, char **argv)
{
	uint64_t ops = 2000, seed = 1;
	unsigned clients = 2;
	int pause = 0, i, fd, st, rc;
	struct totals *all, sum = { 0 };
	struct far_told told = { 0 };
	pid_t server;

	for (i = 3; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--pause") == 0)
			pause = 1;
		else if (strcmp(argv[i], "--ops") == 0)
			ops = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--clients") == 0)
			clients = (unsigned)atoi(argv[++i]);
	}
	fd = memfd_create("ring", 0);
	if (argc < 3 || fd < 0 || ftruncate(fd, (off_t)far_ring_bytes()) != 0)
		return 2;
	ring = mmap(NULL, far_ring_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	all = mmap(
	    NULL, sizeof *all * clients, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED || all == MAP_FAILED)
		return 2;
	far_ring_format(ring);
	server = start_server(argv[1], argv[2], fd, argv + i + 1, argc - i - 1);
	if (recv(life[0], &told, sizeof told, 0) != (ssize_t)sizeof told || told.state != FAR_UP) {
		printf("no server: %s\n", told.why);
		return 3;
	}
	rc = run_clients(clients, ops, seed, pause, all);
	(void)close(life[0]);
	if (waitpid(server, &st, 0) == server && st != 0) {
		printf("quire-far ended with %d\n", st);
		rc = 1;
	}
	for (unsigned k = 0; k < clients; k++) {
		sum.requests += all[k].requests;
		sum.errors += all[k].errors;
	}
	for (uint32_t k = 0; k < FAR_RING_DEPTH; k++)
		if (far_slot_state(&ring->fr_slot[k]) != FAR_FREE) {
			printf("slot %u is not free at the end\n", k);
			rc = 1;
		}
	if (rc == 0)
		printf("ok: %llu requests, %llu errors\n", (unsigned long long)sum.requests,
		    (unsigned long long)sum.errors);
	return rc;
}
