/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_family socket|area SEED ROUNDS: a process of a family that behaves as badly as a process
 * can. tests/run/fuzz_test.py runs it under quire run and checks the supervisor.
 *
 * socket: greetings of every kind over the gate, and bytes on the connection. This process has
 * memory and reports at the end whether the memory is unchanged. area: in addition, it overwrites
 * words of the family's state and of the store, and discards pages of them. Processes of that store
 * cannot continue then, and need not.
 *
 * The same seed makes the same calls, as far as other processes permit.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/family.h"

#define PAGE 4096u
#define KEPT 3000u /* pages */

static uint64_t state;
static int gate;
static uint64_t token[FAMILY_TOKEN];

static uint64_t rnd(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state * 0x2545f4914f6cdd1dull >> 11) % n;
}

/* Values at which code often fails. */
static uint64_t odd(void)
{
	static const uint64_t v[] = { 0, 1, 2, 7, 63, 64, 511, 512, 513, 4095, 4096, 65535, 65536,
		0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, 0x7fffffffffffffff,
		0x8000000000000000, ~0ull };

	return rnd(4) == 0 ? rnd(~0ull) : v[rnd(sizeof v / sizeof *v)];
}

/* ---- greetings ---- */
static bool find_gate(void)
{
	const char *v = getenv(FAMILY_ENV);
	unsigned long long a, b;

	if (v == NULL || sscanf(v, "%d:%*[0-9a-f]:%16llx%16llx", &gate, &a, &b) != 3)
		return false;
	token[0] = a;
	token[1] = b;
	return true;
}

/* Makes a descriptor of a random kind to send with a greeting. */
static int some_fd(int pair)
{
	int p[2];

	switch (rnd(5)) {
	case 0: return open("/dev/null", O_RDWR);
	case 1: return dup(gate);
	case 2:
		if (pipe(p) != 0)
			return -1;
		(void)close(p[0]);
		return p[1];
	case 3: return socket(AF_UNIX, SOCK_STREAM, 0);
	default: return dup(pair);
	}
}

static void greet(void)
{
	struct family_hello h = { FAMILY_MAGIC, { token[0], token[1] }, -1, 0, rnd(8),
		500 + rnd(600) };
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(8 * sizeof(int))];
	} ctl = { 0 };
	char buf[2 * sizeof h];
	int pair[2], fds[8], n = rnd(8) == 0 ? (int)rnd(9) : 1;
	size_t len = rnd(6) == 0 ? rnd(sizeof buf + 1) : sizeof h;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0)
		return;
	if (rnd(3) == 0)
		h.fh_slot = (int32_t)odd();
	if (rnd(3) == 0)
		h.fh_flags = (uint32_t)rnd(17);
	if (rnd(8) == 0)
		h.fh_token[rnd(2)] ^= 1ull << rnd(64);
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = (char)rnd(256);
	memcpy(buf, &h, sizeof h);
	if (rnd(6) == 0)
		buf[rnd(sizeof h)] ^= (char)(1 << rnd(8));
	for (int i = 0; i < n; i++)
		fds[i] = rnd(4) == 0 ? some_fd(pair[1]) : dup(pair[1]);
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (n > 0) {
		m.msg_control = &ctl;
		m.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof(int));
	}
	(void)sendmsg(gate, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (int i = 0; i < n; i++)
		(void)close(fds[i]);
	(void)close(pair[1]);
	/* the connection, if the greeting was accepted */
	for (unsigned i = (unsigned)rnd(4); i > 0; i--) {
		size_t bytes = 1 + rnd(3);

		for (size_t b = 0; b < bytes; b++)
			buf[b] = rnd(2) == 0 ? "whms"[rnd(4)] : (char)rnd(256);
		(void)send(pair[0], buf, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	if (rnd(4) != 0)
		(void)close(pair[0]);
}

/* ---- the shared areas ---- */
struct area {
	char *mem;
	size_t len;
	int fd;
};
static struct area areas[2];
static unsigned nareas;

static void find_areas(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	char line[512];

	while (f != NULL && nareas < 2 && fgets(line, sizeof line, f) != NULL)
		if (strstr(line, "memfd:quire-") != NULL &&
		    sscanf(line, "%lx-%lx rw-s", &from, &to) == 2)
			areas[nareas++] = (struct area){ (char *)from, to - from, -1 };
	if (f != NULL)
		(void)fclose(f);
}

static void scribble(void)
{
	const struct area *a = &areas[rnd(nareas)];
	/* the head has the counts; the rest of a store is gigabytes of empty memory */
	size_t span = rnd(2) == 0 ? 8192
	    : rnd(2) == 0         ? 1u << 20
				  : a->len,
	       at = rnd(span < a->len ? span : a->len) & ~7ull;
	uint64_t *w = (uint64_t *)(void *)(a->mem + at);

	switch (rnd(8)) {
	case 0: *(uint32_t *)(void *)((char *)w + 4 * rnd(2)) = (uint32_t)odd(); break;
	case 1: *w ^= 1ull << rnd(64); break;
	case 2: (void)madvise((void *)((uintptr_t)w & ~4095ull), PAGE, MADV_REMOVE); break;
	case 3:
		for (unsigned i = 0; i < 64 && at + 8 * i + 8 <= a->len; i++)
			w[i] = odd();
		break;
	default: *w = odd(); break;
	}
}

/* ---- rounds ---- */
static void misbehave(bool area)
{
	unsigned n = 1 + (unsigned)rnd(40);

	(void)alarm(5); /* a process that has damaged the store may wait for its lock forever */
	for (unsigned i = 0; i < n; i++)
		if (area && rnd(3) != 0)
			scribble();
		else
			greet();
	if (rnd(4) == 0)
		(void)raise(SIGKILL);
	_exit(0);
}

int main(int argc, char **argv)
{
	bool area = argc == 4 && strcmp(argv[1], "area") == 0, good = true;

	if (argc != 4 || !find_gate())
		return 64;
	find_areas();
	if (nareas != 2)
		return 65;
	state = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15ull + 1;
	uint64_t *kept =
	    mmap(NULL, KEPT * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (kept == MAP_FAILED)
		return 66;
	for (size_t i = 0; i < KEPT; i++)
		kept[i * PAGE / 8] = i * 3 + 1;
	for (unsigned long r = strtoul(argv[3], NULL, 10); r > 0; r--) {
		pid_t pid = fork();

		if (pid == 0)
			misbehave(area);
		(void)rnd(2); /* the next one does something else */
		if (pid > 0)
			(void)waitpid(pid, NULL, 0);
		for (size_t i = 0; i < KEPT; i += 100)
			good &= kept[i * PAGE / 8] == i * 3 + 1;
	}
	for (size_t i = 0; i < KEPT; i++)
		good &= kept[i * PAGE / 8] == i * 3 + 1;
	printf("%s\n", good ? "kept" : "lost");
	return good ? 0 : 1;
}
