/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quire-far: the process that holds the connections of far swap. `quire run` starts it with the
 * ring's memory and event descriptor; it serves requests until its parent ends it or has ended,
 * then removes the stored units. quire check starts quire-far to measure an engine. If quire-far is
 * killed, a guard (guard.c) removes the stored units. URLs come through a descriptor, so that the
 * list of processes shows no password.
 *
 * One thread does the work. Before the thread sleeps, it sets fr_asleep and looks at the ring once
 * more, so that no request is missed. While the engine owes answers, the thread sleeps in poll(),
 * and a second thread waits for the ring's bell, a futex, and passes it on as an event; so a hosted
 * process needs no descriptor to reach quire-far. While no request is under way, the first thread
 * waits for the bell itself.
 */
#include "far/far.h"
#include "far/guard.h"
#include "far/start.h"
#include "store/far_ring.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "far/measure.h"

static int stop_event = -1;
static volatile sig_atomic_t stopping;
static uint32_t *nap_bell; /* const once there is a ring */

static void on_stop(int sig)
{
	const uint64_t one = 1;
	int e = errno;

	(void)sig;
	stopping = 1;
	(void)!write(stop_event, &one, sizeof one);
	if (nap_bell != NULL) {
		(void)__atomic_fetch_add(nap_bell, 1, __ATOMIC_SEQ_CST);
		(void)syscall(SYS_futex, nap_bell, FUTEX_WAKE_BITSET, 1, NULL, NULL, FAR_NAPS);
	}
	errno = e;
}

/* ---- requests of the ring ---- */
struct serving {
	struct far_ring *ring;
	struct far_device *device;
	struct far_io io[FAR_RING_DEPTH];
	const char *name;
	int life_fd;
	uint32_t said;     /* far_server_state that was last published */
	uint32_t failures; /* bits of enum failure: kinds reported already */
};

enum failure { NO_ROOM, NO_READ, NO_WRITE };

static void futex_wake(uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

static void count_one(uint64_t *what) { (void)__atomic_fetch_add(what, 1, __ATOMIC_RELAXED); }

/*
 * Reports the first failed request of each kind with its cause. publish_state() reports that the
 * engine is away.
 */
static void say_failure(struct serving *sv, const struct far_io *io, int err)
{
	static const struct {
		const char *what, *then;
	} text[] = {
		[NO_ROOM] = { "takes no more", "; pages stay in memory or go to another place" },
		[NO_READ] = { "cannot give back a page", "" },
		[NO_WRITE] = { "cannot store a page",
		    "; it stays in memory or goes to another place" },
	};
	enum failure kind = io->op == FAR_READ ? NO_READ : NO_WRITE;
	const char *why;

	if (err == -ENOSPC)
		kind = NO_ROOM;
	if (far_device_away(sv->device, &why) != 0 || io->op == FAR_TRIM ||
	    (sv->failures & 1u << kind) != 0)
		return;
	sv->failures |= 1u << kind;
	fprintf(stderr, "quire: swap at %s %s: %s%s\n", sv->name, text[kind].what, why,
	    text[kind].then);
}

static void answer_slot(struct far_io *io, int err)
{
	struct serving *sv = io->arg;
	struct far_ring *r = sv->ring;
	struct far_slot *s = &r->fr_slot[io - sv->io];

	if (err != 0)
		say_failure(sv, io, err);
	if (err != 0)
		count_one(&r->fr_errors);
	else if (io->op == FAR_READ)
		count_one(&r->fr_reads);
	else
		count_one(io->op == FAR_WRITE ? &r->fr_writes : &r->fr_trims);
	s->fs_result = err;
	far_slot_done(s);
	futex_wake((uint32_t *)(void *)&s->fs_word);
}

static uint64_t unit_of(const struct far_slot *s)
{
	return __atomic_load_n(&s->fs_at, __ATOMIC_RELAXED) / FAR_UNIT;
}

/* Must another request for the same unit be done before that of slot i? */
static bool must_wait(const struct serving *sv, uint32_t i)
{
	const struct far_slot *mine = &sv->ring->fr_slot[i];

	for (uint32_t k = 0; k < FAR_RING_DEPTH; k++) {
		const struct far_slot *s = &sv->ring->fr_slot[k];
		enum far_slot_state state = far_slot_state(s);

		if (k == i || unit_of(s) != unit_of(mine))
			continue;
		if (state == FAR_TAKEN ||
		    (state == FAR_ASKED &&
			(int32_t)(__atomic_load_n(&s->fs_seq, __ATOMIC_RELAXED) -
			    __atomic_load_n(&mine->fs_seq, __ATOMIC_RELAXED)) < 0))
			return true;
	}
	return false;
}

/*
 * Takes the requests that clients have asked. The slot's words are read once; far_device_submit
 * checks them.
 */
static bool take_asked(struct serving *sv)
{
	static const enum far_op ops[] = { FAR_READ, FAR_WRITE, FAR_TRIM };
	bool any = false;

	for (uint32_t i = 0; i < FAR_RING_DEPTH; i++) {
		struct far_slot *s = &sv->ring->fr_slot[i];
		uint64_t word = far_slot_word(s);
		uint32_t op;

		if (far_word_state(word) != FAR_ASKED || must_wait(sv, i) ||
		    !far_slot_move(s, word, far_word(FAR_TAKEN, far_word_owner(word))))
			continue;
		any = true;
		op = __atomic_load_n(&s->fs_op, __ATOMIC_RELAXED);
		sv->io[i] = (struct far_io){
			.op = ops[op < 3 ? op : 0],
			.len = __atomic_load_n(&s->fs_len, __ATOMIC_RELAXED),
			.at = __atomic_load_n(&s->fs_at, __ATOMIC_RELAXED),
			.buf = far_ring_buffer(sv->ring, i),
			.done = answer_slot,
			.arg = sv,
		};
		far_device_submit(sv->device, &sv->io[i]);
	}
	return any;
}

/* Tells our parent. If the parent has ended, listen_for_end() notices. */
static void tell_parent(int life_fd, uint32_t state, uint64_t away, const char *why)
{
	struct far_told told = { .state = state, .away_ns = away };

	(void)snprintf(told.why, sizeof told.why, "%s", why);
	(void)send(life_fd, &told, sizeof told, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/*
 * Reports once when the engine becomes unreachable, is declared lost, or is back: to the parent,
 * and on standard error.
 */
static void publish_state(struct serving *sv, uint32_t timeout_ms)
{
	const char *why;
	uint64_t away = far_device_away(sv->device, &why), now = far_now();
	uint32_t state = FAR_UP, was = sv->said;

	if (away != 0)
		state = now - away < (uint64_t)timeout_ms * 1000000u ? FAR_AWAY : FAR_LOST;
	if (state == was)
		return;
	/* first: what has read the line finds the state */
	sv->said = state;
	__atomic_store_n(&sv->ring->fr_server, state, __ATOMIC_RELEASE);
	if (state == FAR_AWAY)
		fprintf(stderr,
		    "quire: swap at %s is away: %s; programs that need it wait up to %u s\n",
		    sv->name, why, timeout_ms / 1000);
	else if (state == FAR_LOST)
		fprintf(stderr,
		    "quire: swap at %s did not come back: %s; an access to a page that lies there ends in SIGBUS\n",
		    sv->name, why);
	else if (was != FAR_STARTING)
		fprintf(stderr, "quire: swap at %s is back\n", sv->name);
	tell_parent(sv->life_fd, state, away, why);
}

/* Waits for the bell on behalf of the thread that sleeps in poll(). Ends with the process. */
static void *listen_for_bell(void *arg)
{
	struct far_ring *r = arg;
	const uint64_t one = 1;
	uint32_t seen = __atomic_load_n(&r->fr_bell, __ATOMIC_SEQ_CST);

	for (;;) {
		uint32_t now;

		(void)syscall(
		    SYS_futex, &r->fr_bell, FUTEX_WAIT_BITSET, seen, NULL, NULL, FAR_POLLS);
		if ((now = __atomic_load_n(&r->fr_bell, __ATOMIC_SEQ_CST)) != seen)
			(void)!write(stop_event, &one, sizeof one);
		seen = now;
	}
	return NULL;
}

/*
 * The parent holds the other end of the socket, which closes when the parent ends this process or
 * has ended itself. Ends with the process.
 */
static void *listen_for_end(void *arg)
{
	char c;
	ssize_t n;

	do
		n = recv(*(int *)arg, &c, 1, 0);
	while (n > 0 || (n < 0 && errno == EINTR));
	on_stop(SIGTERM);
	return NULL;
}

/* Waits until the bell rings, at most this long. False: so long. */
static bool sleep_on_bell(struct far_ring *r, uint32_t bell, int ms)
{
	uint64_t until = far_now() + (uint64_t)ms * 1000000u;
	struct timespec ts = { (time_t)(until / 1000000000u), (long)(until % 1000000000u) };

	return syscall(SYS_futex, &r->fr_bell, FUTEX_WAIT_BITSET, bell, &ts, NULL, FAR_NAPS) == 0 ||
	    errno != ETIMEDOUT;
}

static void serve_ring(struct serving *sv, uint32_t timeout_ms)
{
	struct far_ring *r = sv->ring;
	uint64_t drained;

	while (!stopping) {
		publish_state(sv, timeout_ms);
		(void)take_asked(sv);

		int nap_ms = far_device_nap_ms(sv->device);
		uint32_t bell = __atomic_load_n(&r->fr_bell, __ATOMIC_SEQ_CST);
		__atomic_store_n(
		    &r->fr_asleep, nap_ms > 0 ? FAR_NAPS : FAR_POLLS, __ATOMIC_SEQ_CST);
		bool any = take_asked(sv), rang = false, heard = false;
		if (!any && nap_ms > 0 && !stopping)
			rang = sleep_on_bell(r, bell, nap_ms);
		if (!rang)
			heard = far_device_wait(sv->device, stop_event, any || nap_ms > 0 ? 0 : -1);
		__atomic_store_n(&r->fr_asleep, FAR_AWAKE, __ATOMIC_SEQ_CST);
		if (heard)
			(void)!read(stop_event, &drained, sizeof drained);
	}
}

/* ---- the start ---- */
struct options {
	struct far_url url;
	struct far_settings set;
	int ring_fd, life_fd, probe_fd;
	uint64_t ring_at; /* offset of the ring in its memory */
	bool encrypt, check, json;
	struct far_measure_plan plan;
};

static int fail_url(const char *text, const char *why)
{
	fprintf(stderr, "quire: %s: %s\n", text, why);
	return 1;
}

/*
 * When this thread ends, in whatever way, the kernel marks fr_alive: waiting clients see that no
 * answer will come. This replaces the C library's list of the thread: no code here uses robust
 * mutexes.
 */
static void mark_when_dead(struct far_ring *r)
{
	static struct robust_list entry;
	static struct robust_list_head head;

	entry.next = &head.list;
	head.list.next = &entry;
	head.futex_offset = (long)((char *)&r->fr_alive - (char *)&entry);
	__atomic_store_n(&r->fr_alive, (uint32_t)gettid(), __ATOMIC_RELEASE);
	(void)syscall(SYS_set_robust_list, &head, sizeof head);
}

static int cannot_start(int life_fd, const char *why)
{
	tell_parent(life_fd, FAR_ENDED, 0, why);
	return 1;
}

static void keep_secrets(void)
{
	struct rlimit none = { 0, 0 };

	/*
	 * Pages, the key and passwords are in this process: it permits no core file and no debugger
	 * of the same user.
	 */
	(void)prctl(PR_SET_DUMPABLE, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
}

static void random_name(char name[40])
{
	unsigned char r[16];

	if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
		abort(); /* after boot the kernel always has random numbers */
	for (unsigned i = 0; i < 16; i++)
		(void)snprintf(name + 2 * i, 3, "%02x", r[i]);
}

static int run_server(struct options *o)
{
	/* before the process has keys or connections */
	struct far_guard guard = far_guard_start(&o->url, &o->set);
	struct far_ring *ring = mmap(NULL, far_ring_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED,
	    o->ring_fd, (off_t)o->ring_at);
	static struct serving sv;
	pthread_t thread;
	struct far_crypt *crypt = NULL;
	char why[FAR_WHY] = "";

	if (ring == MAP_FAILED || ring->fr_magic != FAR_RING_MAGIC)
		return fail_url("far swap", "no ring");
	o->set.high = guard.high;
	mark_when_dead(ring);
	nap_bell = &ring->fr_bell;
	if (o->encrypt && (crypt = far_crypt_new(why)) == NULL)
		return cannot_start(o->life_fd, why);
	sv.device = far_device_open(far_engine(o->url.scheme), &o->url, &o->set, crypt, why);
	if (sv.device == NULL) {
		far_crypt_free(crypt);
		return cannot_start(o->life_fd, why);
	}
	sv.ring = ring;
	sv.name = o->url.text;
	sv.life_fd = o->life_fd;
	ring->fr_size = far_device_size(sv.device);
	if (pthread_create(&thread, NULL, listen_for_bell, ring) != 0 ||
	    pthread_create(&thread, NULL, listen_for_end, &o->life_fd) != 0) {
		far_device_close(sv.device, true);
		far_crypt_free(crypt);
		return cannot_start(o->life_fd,
		    "no thread can be made: raise the limit of processes (ulimit -u, or the container's)");
	}
	serve_ring(&sv, o->set.timeout_ms);
	far_device_close(sv.device, true);
	far_guard_dismiss(&guard);
	far_crypt_free(crypt);
	__atomic_store_n(&ring->fr_server, FAR_ENDED, __ATOMIC_RELEASE);
	return 0;
}

/* Tells the parent how many bytes the engine has, or why the engine cannot be used. */
static int probe_size(const struct options *o)
{
	char why[FAR_WHY] = "";
	struct far_device *d =
	    far_device_open(far_engine(o->url.scheme), &o->url, &o->set, NULL, why);

	if (d == NULL) {
		(void)dprintf(o->probe_fd, "%s: %s\n", o->url.text, why);
		return 1;
	}
	(void)dprintf(o->probe_fd, "%" PRIu64 "\n", far_device_size(d));
	far_device_close(d, false);
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

static uint64_t parse_number(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0') {
		fprintf(stderr, "quire-far: '%s' is no number\n", text);
		exit(2);
	}
	return n;
}

static void print_usage(void)
{
	printf(
	    "usage: quire-far --url-fd N --ring-fd N --life-fd N [option…]   (started by 'quire run')\n"
	    "       quire-far --probe-fd N --url-fd N [option…]              (the same: how large is it?)\n"
	    "       quire-far --check --url-fd N [option…]                   (started by 'quire check')\n"
	    "options: --ring-at OFFSET --size BYTES --timeout MS --replicas N --expire S --keep-free BYTES --ca FILE --psk FILE --encrypt\n"
	    "         --json --mib N --depth N\n");
}

static const struct option long_options[] = {
	{ "url-fd", required_argument, NULL, 'u' },
	{ "ring-fd", required_argument, NULL, 'r' },
	{ "ring-at", required_argument, NULL, 'o' },
	{ "life-fd", required_argument, NULL, 'l' },
	{ "probe-fd", required_argument, NULL, 'p' },
	{ "size", required_argument, NULL, 's' },
	{ "timeout", required_argument, NULL, 't' },
	{ "replicas", required_argument, NULL, 'n' },
	{ "expire", required_argument, NULL, 'x' },
	{ "keep-free", required_argument, NULL, 'f' },
	{ "ca", required_argument, NULL, 'a' },
	{ "psk", required_argument, NULL, 'k' },
	{ "encrypt", no_argument, NULL, 'c' },
	{ "check", no_argument, NULL, 'C' },
	{ "json", no_argument, NULL, 'j' },
	{ "mib", required_argument, NULL, 'm' },
	{ "depth", required_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* -1: go on; else the exit status. */
static int parse_options(struct options *o, int argc, char **argv)
{
	int c, url_fd = -1;
	char why[FAR_WHY];

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		switch (c) {
		case 'u': url_fd = (int)parse_number(optarg); break;
		case 'r': o->ring_fd = (int)parse_number(optarg); break;
		case 'p': o->probe_fd = (int)parse_number(optarg); break;
		case 'l': o->life_fd = (int)parse_number(optarg); break;
		case 'o': o->ring_at = parse_number(optarg); break;
		case 's': o->set.size = parse_number(optarg); break;
		case 't': o->set.timeout_ms = (uint32_t)parse_number(optarg); break;
		case 'n': o->set.replicas = (uint32_t)parse_number(optarg); break;
		case 'f': o->set.keep_free = parse_number(optarg); break;
		case 'x': o->set.expire_s = (uint32_t)parse_number(optarg); break;
		case 'a': o->set.ca_file = optarg; break;
		case 'k': o->set.tls_psk = optarg; break;
		case 'c': o->encrypt = true; break;
		case 'C': o->check = true; break;
		case 'j': o->json = true; break;
		case 'm': o->plan.mib = (uint32_t)parse_number(optarg); break;
		case 'd': o->plan.depth = (uint32_t)parse_number(optarg); break;
		case 'h': print_usage(); return 0;
		default: return 2;
		}
	if (url_fd < 0 || (!o->check && o->probe_fd < 0 && (o->ring_fd < 0 || o->life_fd < 0))) {
		print_usage();
		return 2;
	}
	if (!read_url(url_fd, &o->url, why)) {
		if (o->probe_fd >= 0)
			(void)dprintf(o->probe_fd, "%s\n", why);
		else if (o->life_fd >= 0)
			tell_parent(o->life_fd, FAR_ENDED, 0, why);
		else
			(void)fail_url("no address of swap", why);
		return 2;
	}
	(void)close(url_fd);
	return -1;
}

/*
 * Who stops a service, or a whole process group, sends SIGTERM to this process, too. The program may
 * take its time to end, and needs its pages until then: the socket to the parent tells the end.
 */
static int serve_until_end(struct options *o)
{
	(void)signal(SIGTERM, SIG_IGN);
	return run_server(o);
}

int main(int argc, char **argv)
{
	struct options o = { .ring_fd = -1,
		.life_fd = -1,
		.probe_fd = -1,
		.set = { .timeout_ms = 30000, .expire_s = 300 },
		.plan = { .mib = 32, .depth = 16 } };
	struct sigaction sa = { .sa_handler = on_stop };
	int rc = parse_options(&o, argc, argv);

	if (rc >= 0)
		return rc;
	keep_secrets();
	random_name(o.set.run);
	stop_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	(void)sigaction(SIGTERM, &sa, NULL);
	/*
	 * ^C on the terminal also signals this process, but the program decides when the run ends
	 */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGQUIT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	o.set.fit = o.probe_fd >= 0 || o.check;
	o.set.look = o.probe_fd >= 0;
	if (o.probe_fd >= 0)
		rc = probe_size(&o);
	else if (o.check)
		rc = far_measure(&o.url, &o.set, o.encrypt, &o.plan, o.json);
	else
		rc = serve_until_end(&o);
	far_url_wipe(&o.url);
	return rc;
}
