/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a process joins the family: it connects, names its slot or asks for one, and gets the descriptors of the family's memory.
 * When its connection hangs up, what it was granted is given back.
 */
#include "run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PLACES	     "/dev/shm" /* where a socket may have a place for a moment */

/* One descriptor is needed for each process of the family, whatever the program's limit. */
int run_make_descriptors(struct run *r)
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

int run_make_socket(struct run *r)
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
bool run_family_there(const char *name)
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

static void release_slot(struct run *r, int slot)
{
	struct family_proc *p = &r->fam->fam_proc[slot];

	run_store_stats(r, &r->most);
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
void run_take_conn(struct run *r, int listener)
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

void run_drop_conn(struct run *r, unsigned i)
{
	(void)pthread_mutex_lock(&r->connlock);
	int slot = r->conn[i].slot;

	(void)close(r->conn[i].fd);
	r->conn[i] = r->conn[--r->nconn];
	(void)pthread_mutex_unlock(&r->connlock);
	if (slot >= 0)
		release_slot(r, slot);
}

void run_hear(struct run *r, unsigned i)
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
		run_start_threads(r);
		return;
	}
	if (n != (ssize_t)sizeof h || h.fh_magic != FAMILY_MAGIC || r->conn[i].slot >= 0) {
		run_drop_conn(r, i);
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
		run_drop_conn(r, i);
}

/* One for each process of the family; besides, one for the packer's ring, and one for a process that is about to be another program. */
int run_count_descriptors(struct run *r)
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
