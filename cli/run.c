/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quire run: makes the family's shared memory and swap file, starts the program with the runtime preloaded, and
 * supervises: hands the descriptors to each process of the family that connects, gives back what a dead one was granted,
 * passes requests for memory on to those who have it, shows the live line, reports at the end.
 *
 * One thread runs the socket loop. Two are made when a process says that it has use for them: one waits on the family's
 * pressure word, one packs what processes store. The program is a child; terminal signals reach it by itself, others are
 * forwarded; the exit status or fatal signal becomes our own.
 */
#include "cli.h"
#include "options.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <limits.h>
#include <stddef.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <quire/policy.h>

#include "store/pool.h"
#include "store/swapfile.h"

struct run {
	struct run_options o; /* const once the family is made */
	FILE *report_file;
	char program[PATH_MAX];

	struct family *fam;
	int memfd, swapfd, device, listener, place, sigfd; /* device: /dev/userfaultfd, -1: none */
	int spare; /* a descriptor to let go when none is left, so that who connects can be turned away */
	struct rlimit files; /* the program's own */
	char sockname[FAMILY_NAME], family[FAMILY_NAME + 64]; /* family: the variable of the environment */
	uint64_t space; /* network name space of the socket; 0: unknown */
	struct conn { int fd, slot; } conn[FAMILY_PROCS];
	unsigned nconn;
	pthread_mutex_t connlock; /* conn[], nconn: the pressure thread reads them */
	pid_t child;
	volatile int unexecuted; /* an errno: why the child has not executed the program */
	uint64_t need_peak, start_ns;
	struct rlimit fsize; /* as it was: the program's */
	bool stop; /* atomic: the threads shall end */
	bool pressed, packs; /* they are there */
	pthread_t pressure, packer;
	unsigned left; /* processes of the family that go on after the program */
	struct pool store;
	struct pool_stats most; /* when the store was fullest, seen before a process's share was given back */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#define YOUNG	     16u /* that part of the pool may hold pages that are not packed yet */
#define MIN_SWAP     (1ull << 20)
#define MIN_ROOM     (64ull << 20) /* where no size is given: less would be full before long */
#define PLACES	     "/dev/shm" /* where a socket may have a place for a moment */
#define DEFAULT_SWAP (16ull << 30)

/* What the store takes for itself. */
static int charge(void *arg, long pages) { return family_pool_charge(arg, pages); }

/* The limit of file sizes to the hard one: the child takes the old one back. False: that is less. */
static bool raise_fsize(uint64_t least)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_FSIZE, &rl) != 0 || rl.rlim_cur >= least)
		return true;
	rl.rlim_cur = rl.rlim_max;
	return setrlimit(RLIMIT_FSIZE, &rl) == 0 && rl.rlim_cur >= least;
}

/* Never larger than what is free there: what is promised to the program must be had when it comes to it. */
static int make_swap(struct run *r)
{
	uint64_t want = r->o.swap_bytes, room;
	struct statvfs vfs;
	const char *why = "";
	char a[24], b[24];

	(void)getrlimit(RLIMIT_FSIZE, &r->fsize);
	if (!raise_fsize(want > MIN_SWAP ? want : MIN_SWAP))
		return fail("--swap: the limit of file sizes (ulimit -f) is less than %s",
		    cli_human(want > MIN_SWAP ? want : MIN_SWAP, a));
	r->swapfd = swapfile_open(r->o.swap_path, want != 0 ? MIN_SWAP : MIN_ROOM, &why);
	if (r->swapfd < 0)
		return fail("--swap: %s", why);
	if (fstatvfs(r->swapfd, &vfs) != 0)
		return fail("--swap: %s", strerror(errno));
	room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	if (want > room)
		return fail("--swap: %s is more than the %s free there; give a smaller size or name another place",
			    cli_human(want, a), cli_human(room, b));
	if (want == 0) {
		want = r->o.memory * 4 > DEFAULT_SWAP ? r->o.memory * 4 : DEFAULT_SWAP;
		if (want > room - room / 8)
			want = room - room / 8;
	}
	if (!raise_fsize(want))
		return fail("--swap: the limit of file sizes (ulimit -f) is less than %s", cli_human(want, a));
	if (ftruncate(r->swapfd, (off_t)want) != 0)
		return fail("--swap: %s cannot be had: %s", cli_human(want, a), strerror(errno));
	if (r->o.swap_bytes != 0 && swapfile_reserve(r->swapfd, want, &why) != 0)
		return fail("--swap: %s", why);
	r->o.swap_bytes = want;
	return 0;
}

static int make_family(struct run *r)
{
	struct pool_config pc = {
		.mem_limit = r->o.pool, .mem_floor = r->o.pool / 6, .max_members = FAMILY_PROCS + 1
	}; /* and we */
	int rc;
	uint64_t head = (sizeof(struct family) + 65535) & ~65535ull, size;
	char buf[24];

	if ((rc = make_swap(r)) != 0)
		return rc;
	pc.file_limit = r->o.swap_bytes;
	size = head + pool_shared_size(&pc);
	if (!raise_fsize(size))
		return fail("the limit of file sizes (ulimit -f) is less than the %s that the pool may take",
		    cli_human(size, buf));
	r->device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	r->memfd = memfd_create("quire-family", MFD_CLOEXEC);
	if (r->memfd < 0 || ftruncate(r->memfd, (off_t)size) != 0)
		return fail("cannot make shared memory: %s", strerror(errno));
	r->fam = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, r->memfd, 0);
	if (r->fam == MAP_FAILED)
		return fail("cannot map shared memory of %llu MiB: %s; see ulimit -v, or give a smaller --swap or --memory",
		    (unsigned long long)(size >> 20), strerror(errno));
	r->fam->fam_magic = FAMILY_MAGIC;
	r->fam->fam_size = size;
	r->fam->fam_pool_off = head;
	r->fam->fam_pool_size = size - head;
	r->fam->fam_budget = r->o.memory / 4096;
	r->fam->fam_pool_max = r->o.pool / 4096;
	(void)snprintf(r->fam->fam_policy, sizeof r->fam->fam_policy, "%s", r->o.policy->pol_name);
	if (r->o.prefetch != NULL)
		(void)snprintf(r->fam->fam_prefetch, sizeof r->fam->fam_prefetch, "%s", r->o.prefetch->pf_name);
	r->fam->fam_swap_pages = (r->o.swap_bytes + r->o.pool * 2) / 4096;
	if (pool_format((char *)r->fam + head, &pc) != 0)
		return fail("cannot format the store");
	if ((rc = pool_attach(&r->store, (char *)r->fam + head, size - head, r->swapfd)) != 0)
		return fail("cannot attach the store: %s; see ulimit -v and -d", strerror(-rc));
	r->store.p_charge = charge;
	r->store.p_charge_arg = r->fam;
	if (pool_join(&r->store, FAMILY_PROCS) == 0)
		pool_pack_behind(&r->store, r->o.pool / YOUNG);
	return 0;
}

/* One descriptor is needed for each process of the family, whatever the program's limit. */
static int make_descriptors(struct run *r)
{
	if (getrlimit(RLIMIT_NOFILE, &r->files) == 0) {
		struct rlimit all = { r->files.rlim_max, r->files.rlim_max };

		(void)setrlimit(RLIMIT_NOFILE, &all);
	}
	r->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return r->spare >= 0 ? 0 : fail("cannot open files: %s", strerror(errno));
}

/* Does somebody listen at that address? 0 if so, EAGAIN if he is busy; ECONNREFUSED if not. */
static int knock(const struct sockaddr_un *sa, size_t len)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), why = errno;

	if (fd < 0)
		return why;
	why = connect(fd, (const struct sockaddr *)sa, (socklen_t)len) == 0 ? 0 : errno;
	(void)close(fd);
	return why;
}

/* A supervisor killed while its place was in the file system has left it there. Nobody listens to such a one. */
static void sweep_places(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	DIR *d = opendir(PLACES);

	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		if (strncmp(e->d_name, "quire-", 6) != 0 || e->d_type != DT_SOCK)
			continue;
		if ((size_t)snprintf(sa.sun_path, sizeof sa.sun_path, PLACES "/%s", e->d_name) >= sizeof sa.sun_path)
			continue;
		if (knock(&sa, sizeof sa) == ECONNREFUSED)
			(void)unlink(sa.sun_path);
	}
	if (d != NULL)
		(void)closedir(d);
}

/*
 * For processes in other network name spaces, where the name of the family's socket is nobody's: one with a place in a file system.
 * The place is given up at once; what stays is a descriptor of it, by which they find it in /proc. Without it they are not hosted.
 * Another supervisor may sweep it away before we listen: hence more than one try.
 */
static void make_place(struct run *r)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	sweep_places();
	(void)snprintf(sa.sun_path, sizeof sa.sun_path, PLACES "/%s", r->sockname);
	for (unsigned tries = 0; tries < 8 && r->fam->fam_placefd < 0; tries++) {
		if (r->place >= 0)
			(void)close(r->place);
		r->place = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (r->place < 0 || bind(r->place, (struct sockaddr *)&sa, sizeof sa) != 0)
			return;
		(void)listen(r->place, 128);
		r->fam->fam_placefd = open(sa.sun_path, O_PATH | O_CLOEXEC);
		(void)unlink(sa.sun_path);
	}
}

static int make_socket(struct run *r)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	unsigned rnd = 0;

	(void)!getentropy(&rnd, sizeof rnd);
	(void)snprintf(r->sockname, sizeof r->sockname, "quire-%08x-%d-%d", rnd, (int)getpid(), r->memfd);
	memcpy(r->fam->fam_name, r->sockname, sizeof r->fam->fam_name);
	r->fam->fam_swapfd = r->swapfd;
	r->fam->fam_device = r->device;
	r->fam->fam_placefd = -1;
	r->fam->fam_swapflags = (uint32_t)fcntl(r->swapfd, F_GETFL) & O_DIRECT;
	memcpy(sa.sun_path + 1, r->sockname, strlen(r->sockname));
	r->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->listener < 0 ||
	    bind(r->listener, (struct sockaddr *)&sa,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(r->sockname))) != 0 ||
	    listen(r->listener, 128) != 0)
		return fail("cannot make the family's socket: %s", strerror(errno));
	if (getsockopt(r->listener, SOL_SOCKET, SO_NETNS_COOKIE, &r->space, &(socklen_t){ sizeof r->space }) != 0)
		r->space = 0;
	make_place(r);
	return 0;
}

/* Does the variable name a family that is there? If not it is left over. */
static bool family_there(const char *name)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t n = name != NULL ? strcspn(name, ":") : 0;
	int why;

	if (n == 0 || n >= FAMILY_NAME)
		return false;
	memcpy(sa.sun_path + 1, name, n);
	why = knock(&sa, offsetof(struct sockaddr_un, sun_path) + 1 + n);
	return why == 0 || why == EAGAIN;
}

/* ---- the loop ---- */
/* Counters as they are, amounts as they were when the store was fullest: at the end everything has been given back. */
static void store_stats(struct run *r, struct pool_stats *ps)
{
	pool_stats(&r->store, ps);
	if (ps->mem_held + ps->file_bytes < r->most.mem_held + r->most.file_bytes) {
		ps->mem_held = r->most.mem_held;
		ps->mem_bytes = r->most.mem_bytes;
		ps->mem_pages = r->most.mem_pages;
		ps->file_bytes = r->most.file_bytes;
	}
}

static void release_slot(struct run *r, int slot)
{
	struct family_proc *p = &r->fam->fam_proc[slot];

	store_stats(r, &r->most);
	pool_release(&r->store, (uint32_t)slot);
	family_uncharge(r->fam, atomic_exchange(&p->fp_granted, 0));
#define X(n) atomic_fetch_add(&r->fam->fam_dead.n, atomic_exchange(&p->fp_count.n, 0));
	FAMILY_COUNTERS(X)
#undef X
	atomic_store(&p->fp_resident, 0);
	atomic_fetch_sub(&r->fam->fam_need, atomic_exchange(&p->fp_need, 0));
	atomic_store(&p->fp_shrink, 0);
	atomic_store(&p->fp_managed, 0);
	atomic_store(&p->fp_hears, 0);
	atomic_store(&p->fp_pid, 0);
}

/* A process connects. One for which there is no room or no descriptor is turned away, and ends: it must not wait for ever. */
static void take_conn(struct run *r, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		(void)close(r->spare);
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			(void)close(fd);
		r->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return;
	}
	if (fd >= 0 && r->nconn < FAMILY_PROCS) {
		(void)pthread_mutex_lock(&r->connlock);
		r->conn[r->nconn++] = (struct conn){ fd, -1 };
		(void)pthread_mutex_unlock(&r->connlock);
	} else if (fd >= 0) {
		(void)close(fd);
	}
}

static void drop_conn(struct run *r, unsigned i)
{
	(void)pthread_mutex_lock(&r->connlock);
	int slot = r->conn[i].slot;

	(void)close(r->conn[i].fd);
	r->conn[i] = r->conn[--r->nconn];
	(void)pthread_mutex_unlock(&r->connlock);
	if (slot >= 0)
		release_slot(r, slot);
}

/* Somebody asked others for memory: wake those whose fp_shrink is up, by a byte on their socket. */
static void *pressure_main(void *arg)
{
	struct run *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		uint32_t seen = atomic_load(&r->fam->fam_pressure);

		(void)pthread_mutex_lock(&r->connlock);
		for (unsigned i = 0; i < r->nconn; i++) {
			const struct family_proc *p = &r->fam->fam_proc[r->conn[i].slot >= 0 ? r->conn[i].slot : 0];

			if (r->conn[i].slot >= 0 && atomic_load(&p->fp_shrink) != 0 && atomic_load(&p->fp_hears) != 0)
				(void)send(r->conn[i].fd, "s", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		(void)pthread_mutex_unlock(&r->connlock);
		(void)syscall(SYS_futex, &r->fam->fam_pressure, FUTEX_WAIT, seen, NULL, NULL, 0);
	}
	return NULL;
}

/* Packs what the family's processes store, so that they need not (store/pool_young.c). */
static void *packer_main(void *arg)
{
	struct run *r = arg;

	(void)pool_async(&r->store); /* without it it writes synchronously */
	for (;;) {
		uint32_t seen = pool_work_seen(&r->store);
		int rc;

		if (__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE))
			break;
		if ((rc = pool_work(&r->store, false)) != 1) /* below 0: whoever stores next is told, too */
			pool_wait_work(&r->store, seen, rc);
	}
	pool_async_end(&r->store);
	return NULL;
}

/*
 * The two threads, as soon as somebody has use for them: most programs fit. Where they cannot be had, whoever stores packs by
 * itself, nobody is asked for memory, and the next who has use for them has us try again.
 */
static void start_threads(struct run *r)
{
	if (!r->pressed)
		r->pressed = pthread_create(&r->pressure, NULL, pressure_main, r) == 0;
	if (!r->packs)
		r->packs = pthread_create(&r->packer, NULL, packer_main, r) == 0;
	if (r->pressed && r->packs)
		atomic_store(&r->fam->fam_watched, 1);
}

static void end_threads(struct run *r)
{
	__atomic_store_n(&r->stop, true, __ATOMIC_RELEASE);
	if (r->packs) {
		pool_wake_packer(&r->store);
		(void)pthread_join(r->packer, NULL);
	}
	if (r->pressed) {
		atomic_fetch_add(&r->fam->fam_pressure, 1);
		(void)syscall(SYS_futex, &r->fam->fam_pressure, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
		(void)pthread_join(r->pressure, NULL);
	}
	r->packs = r->pressed = false;
}

static void welcome(struct run *r, unsigned i)
{
	struct family_hello h;
	struct family_welcome w = { .fw_magic = FAMILY_MAGIC, .fw_slot = -1, .fw_nfds = r->device >= 0 ? 3 : 2,
				    .fw_fam_size = r->fam->fam_size };
	struct iovec iov = { &w, sizeof w };
	union { struct cmsghdr h; char b[CMSG_SPACE(3 * sizeof(int))]; } ctl = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl,
			    .msg_controllen = CMSG_SPACE((size_t)w.fw_nfds * sizeof(int)) };
	int fds[3] = { r->memfd, r->swapfd, r->device };
	ssize_t n = recv(r->conn[i].fd, &h, sizeof h, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == 1 && r->conn[i].slot >= 0) {
		start_threads(r);
		return;
	}
	if (n != (ssize_t)sizeof h || h.fh_magic != FAMILY_MAGIC || r->conn[i].slot >= 0) {
		drop_conn(r, i);
		return;
	}
	w.fw_slot = h.fh_slot >= 0 && h.fh_slot < (int)FAMILY_PROCS ? h.fh_slot : family_slot(r->fam);
	if (w.fw_slot >= 0)
		atomic_store(&r->fam->fam_proc[w.fw_slot].fp_pid, h.fh_pid);
	r->conn[i].slot = w.fw_slot;
	if (h.fh_silent != 0)
		return;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN((size_t)w.fw_nfds * sizeof(int));
	memcpy(CMSG_DATA(c), fds, (size_t)w.fw_nfds * sizeof(int));
	if (sendmsg(r->conn[i].fd, &m, MSG_NOSIGNAL) < 0)
		drop_conn(r, i);
}

static void totals(const struct run *r, struct family_counters *out, uint64_t *resident, uint64_t *need)
{
	memset(out, 0, sizeof *out);
	*resident = *need = 0;
#define X(n) atomic_store(&out->n, atomic_load(&r->fam->fam_dead.n));
	FAMILY_COUNTERS(X)
#undef X
	for (unsigned i = 0; i < atomic_load(&r->fam->fam_procs); i++) {
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

static void live_line(struct run *r, struct family_counters *last, uint64_t *last_ns)
{
	struct family_counters c;
	uint64_t resident, need, t = now_ns();
	double dt = (double)(t - *last_ns) / 1e9;
	struct pool_stats ps;
	char a[24], b[24], s[24], line[256];

	totals(r, &c, &resident, &need);
	pool_stats(&r->store, &ps);
	(void)snprintf(line, sizeof line,
	    "quire: %s of %s | %.0f faults/s | in %.1f out %.1f MB/s | pool %.2fx | swapped %s",
	    cli_human(atomic_load(&r->fam->fam_charged) * 4096, a), cli_human(r->o.memory, b),
	    (double)(c.faults - last->faults) / dt, (double)(c.pages_in - last->pages_in) * 4096 / 1e6 / dt,
	    (double)(c.pages_out - last->pages_out) * 4096 / 1e6 / dt, ps.ratio, cli_human(ps.file_bytes, s));
	print_cut(line);
	*last = c;
	*last_ns = t;
}

/* Until the program ends; after that (status NULL), until the last process of its family has. */
static void supervise(struct run *r, int *status)
{
	struct family_counters last = { 0 };
	uint64_t last_ns = now_ns();
	bool tty = isatty(STDERR_FILENO) != 0 && r->o.live && status != NULL, gone = false;

	/* a process that just executes another program is not connected for a moment */
	for (unsigned alone = 0; status != NULL ? !gone : alone < 3; alone = r->nconn > 0 ? 0 : alone + 1) {
		struct pollfd pfd[FAMILY_PROCS + 3];
		unsigned n = r->nconn;

		pfd[0] = (struct pollfd){ .fd = r->listener, .events = POLLIN };
		pfd[1] = (struct pollfd){ .fd = r->sigfd, .events = POLLIN };
		pfd[2] = (struct pollfd){ .fd = r->place, .events = POLLIN };
		for (unsigned i = 0; i < n; i++)
			pfd[i + 3] = (struct pollfd){ .fd = r->conn[i].fd, .events = POLLIN };
		if (poll(pfd, n + 3, r->o.live ? 500 : 1000) < 0 && errno != EINTR)
			break;
		for (unsigned i = n; i-- > 0;)
			if (pfd[i + 3].revents != 0)
				welcome(r, i);
		if ((pfd[0].revents & POLLIN) != 0)
			take_conn(r, r->listener);
		if ((pfd[2].revents & POLLIN) != 0)
			take_conn(r, r->place);
		if ((pfd[1].revents & POLLIN) != 0) {
			struct signalfd_siginfo si;

			if (read(r->sigfd, &si, sizeof si) == (ssize_t)sizeof si && si.ssi_signo != SIGCHLD) {
				/* the terminal sends these to the whole foreground group, the program included */
				if (si.ssi_code != SI_KERNEL && status != NULL)
					(void)kill(r->child, (int)si.ssi_signo);
			}
		}
		int st;
		pid_t w;
		while (status != NULL && (w = waitpid(-1, &st, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
			if (w != r->child)
				continue;
			if (WIFSTOPPED(st)) {
				(void)raise(SIGSTOP); /* job control: stop with the program, go on with it */
				(void)kill(r->child, SIGCONT);
			} else if (!WIFCONTINUED(st)) {
				*status = st;
				gone = true;
			}
		}
		uint64_t resident, need;
		struct family_counters c;
		totals(r, &c, &resident, &need);
		if (need > r->need_peak)
			r->need_peak = need;
		if (tty && !gone && now_ns() - last_ns >= 450000000u)
			live_line(r, &last, &last_ns);
	}
	if (tty)
		fputs("\r\033[K", stderr); /* wiped: what follows begins on a clean line */
}

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
		return fail("libquire-run.so is not beside %s nor in ../lib/quire: install quire whole", self);
	(void)snprintf(
	    value, sizeof value, "%s%s%s", lib, old != NULL && *old != '\0' ? ":" : "", old != NULL ? old : "");
	(void)snprintf(r->family, sizeof r->family, FAMILY_ENV "=%s:%llx:", r->sockname, (unsigned long long)r->space);
	if (setenv("LD_PRELOAD", value, 1) != 0 || putenv(r->family) != 0)
		return fail("cannot make the environment: %s", strerror(errno));
	return 0;
}

/* The child of a vfork: the environment is its parent's, which waits. Answers only if the program cannot be executed. */
static void become(struct run *r, char **argv, const sigset_t *mask)
{
	char *end = r->family + strlen(r->family);

	(void)snprintf(end, (size_t)(r->family + sizeof r->family - end), "%d", (int)getpid());
	(void)sigprocmask(SIG_SETMASK, mask, NULL);
	(void)setrlimit(RLIMIT_NOFILE, &r->files);
	(void)setrlimit(RLIMIT_FSIZE, &r->fsize);
	execv(r->program, argv);
	r->unexecuted = errno;
}

/* One for each process of the family; besides, one for the packer's ring, and one for a process that is about to be another program. */
static int count_descriptors(struct run *r)
{
	struct rlimit rl;
	int next = dup(r->listener);

	(void)close(next);
	if (r->sigfd < 0 || next < 0 || getrlimit(RLIMIT_NOFILE, &rl) != 0 || (rlim_t)next + 3 > rl.rlim_cur)
		return fail(
		    "too few open files are allowed (ulimit -Hn): one is needed for each process, and ten more");
	rl.rlim_cur -= (rlim_t)next + 2;
	r->fam->fam_most = rl.rlim_cur < FAMILY_PROCS ? (uint32_t)rl.rlim_cur : FAMILY_PROCS;
	return 0;
}

static int start(struct run *r, char **argv)
{
	static const int forwarded[] = { SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH,
		SIGCONT, SIGTSTP };
	sigset_t set, old;
	int rc = set_env(r);

	if (rc != 0)
		return rc;
	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++)
		(void)sigaddset(&set, forwarded[i]);
	(void)sigprocmask(SIG_BLOCK, &set, &old);
	r->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if ((rc = count_descriptors(r)) != 0)
		return rc;
	r->start_ns = now_ns();
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that the end of the last descendant is known */
	r->child = vfork(); /* a copy of this process would be thrown away at once */
	if (r->child == 0) {
		become(r, argv, &old);
		_exit(CLI_NOEXEC);
	}
	if (r->child < 0)
		return fail("cannot fork: %s", strerror(errno));
	if (r->unexecuted != 0) {
		rc = r->unexecuted == ENOENT ? CLI_NOTFOUND : CLI_NOEXEC;
		(void)fail("cannot execute '%s': %s", r->program, strerror(r->unexecuted));
		(void)waitpid(r->child, NULL, 0);
	}
	if (rc == 0)
		sites_note_file(
		    "/lib/x86_64-linux-gnu/libc.so.6", &r->fam->fam_sites); /* while the loader is at work */
	return rc;
}

static void report(struct run *r, int status)
{
	struct run_totals t = {
		.wall_ns = now_ns() - r->start_ns, .status = status, .left = r->left, .need_peak = r->need_peak
	};
	FILE *f = stderr;
	struct pool_stats ps;
	uint64_t resident, need;

	if (r->o.report == REPORT_NONE || (atomic_load(&r->fam->fam_started) == 0 && WIFEXITED(status) && WEXITSTATUS(status) == CLI_CANNOT))
		return; /* nothing ran, and a line has said why */
	totals(r, &t.c, &resident, &need);
	if (atomic_load(&r->fam->fam_need_peak) > t.need_peak)
		t.need_peak = atomic_load(&r->fam->fam_need_peak);
	store_stats(r, &ps);
	if (r->report_file != NULL)
		f = r->report_file;
	if (r->o.report == REPORT_JSON)
		cli_report_json(f, r->fam, &ps, &t, r->o.pool);
	else
		cli_report_text(f, r->fam, &ps, &t, r->o.pool, isatty(fileno(f)) != 0);
	if (fflush(f) != 0 || (f != stderr && fclose(f) != 0))
		(void)fail("--report: cannot write it: %s", strerror(errno));
}

static void watch(struct run *r, int *status)
{
	__atomic_store_n(&r->stop, false, __ATOMIC_RELEASE);
	if (atomic_load(&r->fam->fam_watched) != 0)
		start_threads(r);
	supervise(r, status);
	end_threads(r);
}

/*
 * The program has ended, but children of it work on (a daemon, a job of a shell): their limit holds, so somebody has to stay
 * who hands out their memory. A process of our own does; this one ends as the program did.
 */
static void stay_behind(struct run *r)
{
	pid_t w;

	while ((w = waitpid(-1, NULL, WNOHANG)) > 0)
		;
	if (w < 0) /* no descendant is left */
		return;
	for (unsigned i = r->nconn; i-- > 0;)
		if (r->conn[i].slot >= 0 && atomic_load(&r->fam->fam_proc[r->conn[i].slot].fp_pid) == r->child)
			drop_conn(r, i);
	r->left = r->nconn > 0 ? r->nconn : 1;
	if (fork() != 0)
		return;
	int null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		(void)dup2(null, fd);
	(void)setsid();
	r->o.live = false;
	watch(r, NULL);
	_exit(0);
}

/* Were standard error closed, the swap file would have its number and our messages in it. The program finds it closed all the same. */
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
		.swapfd = -1, .device = -1, .place = -1, .connlock = PTHREAD_MUTEX_INITIALIZER
	};
	char why[PATH_MAX + 256];
	int rc, status = 0;

	if ((rc = cli_options(&r.o, argc, argv)) != 0)
		return rc;
	if (r.o.help)
		return cli_help();
	keep_standard();
	if (!cli_check_program(argv[optind], r.program, sizeof r.program, why, sizeof why)) {
		rc = errno == ENOENT ? CLI_NOTFOUND : CLI_NOEXEC;
		(void)fail("%s", why);
		return rc;
	}
	if (!cli_check_uffd(why, sizeof why))
		return fail("%s", why);
	if (family_there(getenv(FAMILY_ENV)))
		return fail(
		    "already inside quire run: one budget holds for the whole family; run the program without it");
	if (r.o.report_path != NULL &&
	    (r.report_file = fopen(r.o.report_path, "we")) == NULL) /* not when all is done and lost */
		return fail("--report: cannot write '%s': %s", r.o.report_path, strerror(errno));
	if ((rc = make_descriptors(&r)) != 0 || (rc = make_family(&r)) != 0 || (rc = make_socket(&r)) != 0 ||
	    (rc = start(&r, argv + optind)) != 0)
		return rc;
	watch(&r, &status);
	stay_behind(&r);
	report(&r, status);
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
