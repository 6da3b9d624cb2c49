/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quire-far: the process that holds the connections of far swap. `quire run` starts it with the ring's memory and event
 * descriptor; it serves requests until its parent ends it or is gone, then removes what it stored. quire check starts it to
 * measure an engine. What connects where comes by a descriptor, so that no password is in the list of processes.
 *
 * One thread. It sleeps in poll() for its event, for the engine, and for housework; before it sleeps it says so (fr_asleep)
 * and looks at the ring once more, so that no request is missed.
 */
#include "far/far.h"
#include "store/far_ring.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "far/measure.h"

static int stop_event = -1;
static volatile sig_atomic_t stopping;

static void on_stop(int sig)
{
	const uint64_t one = 1;
	int e = errno;

	(void)sig;
	stopping = 1;
	(void)!write(stop_event, &one, sizeof one);
	errno = e;
}

/* ---- requests of the ring ---- */
struct serving {
	struct far_ring *ring;
	struct far_device *device;
	struct far_io io[FAR_RING_DEPTH];
	const char *name;
	uint32_t said; /* far_server_state that was last published */
};

static void futex_wake(uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

static void count(uint64_t *what) { (void)__atomic_fetch_add(what, 1, __ATOMIC_RELAXED); }

static void answer(struct far_io *io, int err)
{
	struct serving *sv = io->arg;
	struct far_ring *r = sv->ring;
	struct far_slot *s = &r->fr_slot[io - sv->io];
	uint32_t done = FAR_DONE;

	count(err != 0 ? &r->fr_errors : io->op == FAR_READ ? &r->fr_reads : io->op == FAR_WRITE ? &r->fr_writes : &r->fr_trims);
	s->fs_result = err;
	__atomic_store_n(&s->fs_state, FAR_DONE, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&s->fs_owner, __ATOMIC_SEQ_CST) == 0) /* its client is dead */
		(void)__atomic_compare_exchange_n(
		    &s->fs_state, &done, FAR_FREE, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	futex_wake(&s->fs_state);
}

/* Takes what was asked. The slot's words are read once; far_device_submit checks them. */
static bool take_asked(struct serving *sv)
{
	static const enum far_op ops[] = { FAR_READ, FAR_WRITE, FAR_TRIM };
	bool any = false;

	for (uint32_t i = 0; i < FAR_RING_DEPTH; i++) {
		struct far_slot *s = &sv->ring->fr_slot[i];
		uint32_t asked = FAR_ASKED, op;

		if (!__atomic_compare_exchange_n(
			&s->fs_state, &asked, FAR_TAKEN, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			continue;
		any = true;
		op = __atomic_load_n(&s->fs_op, __ATOMIC_RELAXED);
		sv->io[i] = (struct far_io){
			.op = ops[op < 3 ? op : 0],
			.len = __atomic_load_n(&s->fs_len, __ATOMIC_RELAXED),
			.at = __atomic_load_n(&s->fs_at, __ATOMIC_RELAXED),
			.buf = far_ring_buffer(sv->ring, i),
			.done = answer,
			.arg = sv,
		};
		far_device_submit(sv->device, &sv->io[i]);
	}
	return any;
}

/* Says once, on standard error, when the engine goes away, is given up, or is back. */
static void publish(struct serving *sv, uint32_t timeout_ms)
{
	const char *why;
	uint64_t away = far_device_away(sv->device, &why), now = far_now();
	uint32_t state = away == 0 ? FAR_UP : now - away < (uint64_t)timeout_ms * 1000000u ? FAR_AWAY : FAR_LOST;

	if (state == sv->said)
		return;
	if (state == FAR_AWAY)
		fprintf(stderr, "quire: swap at %s is away: %s; programs that need it wait up to %u s\n", sv->name, why,
			timeout_ms / 1000);
	else if (state == FAR_LOST)
		fprintf(stderr, "quire: swap at %s did not come back: %s; an access to a page that lies there ends in SIGBUS\n",
			sv->name, why);
	else if (sv->said != FAR_STARTING)
		fprintf(stderr, "quire: swap at %s is back\n", sv->name);
	sv->said = state;
	__atomic_store_n(&sv->ring->fr_away_ns, away, __ATOMIC_RELAXED);
	__atomic_store_n(&sv->ring->fr_server, state, __ATOMIC_RELEASE);
	futex_wake(&sv->ring->fr_server);
}

static void serve(struct serving *sv, uint32_t timeout_ms)
{
	uint64_t drained;

	while (!stopping) {
		publish(sv, timeout_ms);
		(void)take_asked(sv);
		__atomic_store_n(&sv->ring->fr_asleep, 1, __ATOMIC_SEQ_CST);
		far_device_wait(sv->device, stop_event, take_asked(sv) ? 0 : -1);
		__atomic_store_n(&sv->ring->fr_asleep, 0, __ATOMIC_SEQ_CST);
		(void)!read(stop_event, &drained, sizeof drained);
	}
}

/* ---- the start ---- */
struct options {
	struct far_url url;
	struct far_settings set;
	int ring_fd, event_fd;
	bool encrypt, check, json;
	struct far_measure_plan plan;
};

static int fail(const char *text, const char *why)
{
	fprintf(stderr, "quire: %s: %s\n", text, why);
	return 1;
}

static int no_ring(struct far_ring *r, const char *why)
{
	(void)snprintf(r->fr_why, sizeof r->fr_why, "%s", why);
	__atomic_store_n(&r->fr_server, FAR_ENDED, __ATOMIC_RELEASE);
	futex_wake(&r->fr_server);
	return 1;
}

static void keep_secrets(void)
{
	struct rlimit none = { 0, 0 };

	/* Pages, the key and passwords pass through: no core file, no debugger of the same user. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
}

static void random_name(char name[40])
{
	unsigned char r[16];

	if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
		abort(); /* the kernel has random numbers once it has booted */
	for (unsigned i = 0; i < 16; i++)
		(void)snprintf(name + 2 * i, 3, "%02x", r[i]);
}

static int run_server(struct options *o)
{
	struct far_ring *ring = mmap(NULL, far_ring_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, o->ring_fd, 0);
	static struct serving sv;
	struct far_crypt *crypt = NULL;
	char why[FAR_WHY] = "";

	if (ring == MAP_FAILED || ring->fr_magic != FAR_RING_MAGIC)
		return fail("far swap", "no ring");
	if (o->encrypt && (crypt = far_crypt_new(why)) == NULL)
		return no_ring(ring, why);
	sv.device = far_device_open(&o->url, &o->set, crypt, why);
	if (sv.device == NULL) {
		far_crypt_free(crypt);
		return no_ring(ring, why);
	}
	sv.ring = ring;
	sv.name = o->url.text;
	ring->fr_size = far_device_size(sv.device);
	serve(&sv, o->set.timeout_ms);
	far_device_close(sv.device, true);
	far_crypt_free(crypt);
	__atomic_store_n(&ring->fr_server, FAR_ENDED, __ATOMIC_RELEASE);
	futex_wake(&ring->fr_server);
	return 0;
}

/* The first line of descriptor fd is the URL. */
static bool read_url(int fd, struct far_url *url, char why[FAR_WHY])
{
	char text[2048];
	size_t n = 0;
	ssize_t got;

	while (n + 1 < sizeof text && (got = read(fd, text + n, sizeof text - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	bool ok = far_url_parse(text, url, why);
	explicit_bzero(text, sizeof text);
	return ok;
}

static uint64_t number(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0') {
		fprintf(stderr, "quire-far: '%s' is no number\n", text);
		exit(2);
	}
	return n;
}

static void usage(void)
{
	printf("usage: quire-far --url-fd N --ring-fd N --event-fd N [option…]   (started by 'quire run')\n"
	       "       quire-far --check --url-fd N [option…]                   (started by 'quire check')\n"
	       "options: --size BYTES --timeout MS --replicas N --expire S --ca FILE --psk FILE --encrypt\n"
	       "         --json --mib N --depth N\n");
}

static const struct option long_options[] = {
	{ "url-fd", required_argument, NULL, 'u' },	{ "ring-fd", required_argument, NULL, 'r' },
	{ "event-fd", required_argument, NULL, 'e' },	{ "size", required_argument, NULL, 's' },
	{ "timeout", required_argument, NULL, 't' },	{ "replicas", required_argument, NULL, 'n' },
	{ "expire", required_argument, NULL, 'x' },	{ "ca", required_argument, NULL, 'a' },
	{ "psk", required_argument, NULL, 'k' },	{ "encrypt", no_argument, NULL, 'c' },
	{ "check", no_argument, NULL, 'C' },		{ "json", no_argument, NULL, 'j' },
	{ "mib", required_argument, NULL, 'm' },	{ "depth", required_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },		{ NULL, 0, NULL, 0 },
};

/* -1: go on; else the exit status. */
static int parse(struct options *o, int argc, char **argv)
{
	int c, url_fd = -1;
	char why[FAR_WHY];

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		switch (c) {
		case 'u': url_fd = (int)number(optarg); break;
		case 'r': o->ring_fd = (int)number(optarg); break;
		case 'e': o->event_fd = (int)number(optarg); break;
		case 's': o->set.size = number(optarg); break;
		case 't': o->set.timeout_ms = (uint32_t)number(optarg); break;
		case 'n': o->set.replicas = (uint32_t)number(optarg); break;
		case 'x': o->set.expire_s = (uint32_t)number(optarg); break;
		case 'a': o->set.ca_file = optarg; break;
		case 'k': o->set.tls_psk = optarg; break;
		case 'c': o->encrypt = true; break;
		case 'C': o->check = true; break;
		case 'j': o->json = true; break;
		case 'm': o->plan.mib = (uint32_t)number(optarg); break;
		case 'd': o->plan.depth = (uint32_t)number(optarg); break;
		case 'h': usage(); return 0;
		default: return 2;
		}
	if (url_fd < 0 || (!o->check && (o->ring_fd < 0 || o->event_fd < 0))) {
		usage();
		return 2;
	}
	if (!read_url(url_fd, &o->url, why))
		return fail("far swap", why), 2;
	(void)close(url_fd);
	return -1;
}

int main(int argc, char **argv)
{
	struct options o = { .ring_fd = -1, .event_fd = -1, .set = { .timeout_ms = 30000, .expire_s = 300 },
			     .plan = { .mib = 32, .depth = 16 } };
	struct sigaction sa = { .sa_handler = on_stop };
	pid_t parent = getppid();
	int rc = parse(&o, argc, argv);

	if (rc >= 0)
		return rc;
	keep_secrets();
	random_name(o.set.run);
	stop_event = o.event_fd >= 0 ? o.event_fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)signal(SIGINT, SIG_IGN); /* the terminal's: the program decides when the run ends */
	(void)signal(SIGQUIT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		on_stop(SIGTERM);
	rc = o.check ? far_measure(&o.url, &o.set, o.encrypt, &o.plan, o.json) : run_server(&o);
	far_url_wipe(&o.url);
	return rc;
}
