/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runtime's side of the family's socket. Raw system calls only: in a forked child nothing of the C library may be used
 * before its own fork handlers ran, and errno's thread-local storage may not be ours.
 */
#include <fcntl.h>
#include <linux/un.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/linux/sys.h"
#include "run/host.h"
#include "run/host_quire.h"

static size_t length(const char *s)
{
	size_t n = 0;

	while (s[n] != '\0')
		n++;
	return n;
}

/* Receives the welcome with its descriptors. */
static int receive(int sock, struct family_welcome *w, int fds[3])
{
	union { struct cmsghdr h; char b[CMSG_SPACE(3 * sizeof(int))]; } ctl;
	struct iovec iov = { w, sizeof *w };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof ctl };
	long n;

	do
		n = sys_call3(SYS_recvmsg, sock, (long)&m, MSG_CMSG_CLOEXEC);
	while (n == -4 /* EINTR */);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return -104; /* ECONNRESET */
	if (n != (long)sizeof *w || w->fw_magic != FAMILY_MAGIC || w->fw_slot < 0)
		return -11; /* EAGAIN: no entry free */
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c == NULL || c->cmsg_type != SCM_RIGHTS)
		return -71; /* EPROTO */
	const int *got = (const int *)(const void *)CMSG_DATA(c);
	fds[0] = got[0];
	fds[1] = got[1];
	fds[2] = w->fw_nfds > 2 ? got[2] : -1;
	return 0;
}

uint64_t family_space(void)
{
	long fd = sys_call3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	uint64_t space = 0;
	uint32_t size = sizeof space;

	if (sys_call5(SYS_getsockopt, fd, SOL_SOCKET, SO_NETNS_COOKIE, (long)&space, (long)&size) != 0)
		space = 0;
	(void)sys_call1(SYS_close, fd);
	return space;
}

void family_watch(struct host *h)
{
	if (atomic_load(&h->h_fam->fam_watched) == 0)
		(void)sys_call6(SYS_sendto, h->h_sock, (long)"w", 1, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
}

void family_mortal(struct host *h, bool mortal)
{
	struct pollfd p = { .fd = h->h_sock, .events = POLLIN };

	if (mortal) {
		(void)sys_call3(SYS_fcntl, h->h_sock, F_SETOWN, h->h_pid);
		(void)sys_call3(SYS_fcntl, h->h_sock, F_SETSIG, SIGKILL);
	}
	(void)sys_call3(SYS_fcntl, h->h_sock, F_SETFL, mortal ? O_ASYNC : 0);
	if (mortal && sys_call3(SYS_poll, (long)&p, 1, 0) > 0) /* it was already */
		(void)sys_call2(SYS_kill, h->h_pid, SIGKILL);
}

/* "/proc/PID/fd/FD" */
static char *descriptor_path(char *out, const char *pid, size_t n, int fd)
{
	char digits[12], *d = digits + sizeof digits, *p = out;

	for (const char *s = "/proc/"; *s != '\0';)
		*p++ = *s++;
	while (n-- > 0)
		*p++ = *pid++;
	for (const char *s = "/fd/"; *s != '\0';)
		*p++ = *s++;
	*--d = '\0';
	do
		*--d = (char)('0' + fd % 10);
	while ((fd /= 10) > 0);
	while ((*p++ = *d++) != '\0')
		;
	return out;
}

/* The descriptor of the family's memory; -1: it is not what there is in this /proc, or not for us to open. */
static int open_family(const char *pid, size_t n, const char *fd)
{
	static const char is[] = "/memfd:quire-family";
	char path[64], what[sizeof is];
	int number = 0;

	for (; *fd >= '0' && *fd <= '9' && number < 100000; fd++)
		number = number * 10 + *fd - '0';
	(void)descriptor_path(path, pid, n, number);
	if (sys_call3(SYS_readlink, (long)path, (long)what, sizeof what - 1) != (long)sizeof what - 1)
		return -1;
	for (size_t i = 0; i < sizeof is - 1; i++)
		if (what[i] != is[i])
			return -1;
	return (int)sys_call4(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0);
}

static bool same(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b)
		a++, b++;
	return *a == *b;
}

/* The supervisor's number in the name of its socket, of *n digits. */
static const char *supervisor_of(const char *sockname, size_t *n)
{
	for (unsigned dashes = 0; dashes < 2 && *sockname != '\0'; sockname++)
		dashes += *sockname == '-';
	for (*n = 0; sockname[*n] >= '0' && sockname[*n] <= '9'; ++*n)
		;
	return sockname;
}

/*
 * The family's memory and descriptors from the supervisor's own, as /proc shows them: it need not be waited for then. Where it shows
 * another process of that number, or nothing, they come over the socket.
 */
static void fetch(struct host *h, const char *sockname)
{
	int memfd, swapfd, device = -1;
	char path[64];
	size_t n;
	const char *pid = supervisor_of(sockname, &n), *fd = pid + n + 1;

	if (n == 0 || n > 10 || pid[n] != '-' || *fd < '0' || *fd > '9' || (memfd = open_family(pid, n, fd)) < 0)
		return;
	long size = sys_call3(SYS_lseek, memfd, 0, SEEK_END), m = 0;
	if (size >= (long)sizeof(struct family))
		m = sys_call6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	struct family *f = m > 0 ? (struct family *)m : NULL;
	if (f == NULL || f->fam_magic != FAMILY_MAGIC || f->fam_size != (uint64_t)size || !same(f->fam_name, sockname))
		goto no;
	swapfd = (int)sys_call4(SYS_openat, AT_FDCWD, (long)descriptor_path(path, pid, n, f->fam_swapfd),
	    (long)(O_RDWR | O_CLOEXEC | f->fam_swapflags), 0);
	if (swapfd < 0)
		goto no;
	if (f->fam_device >= 0) {
		device = (int)sys_call4(
		    SYS_openat, AT_FDCWD, (long)descriptor_path(path, pid, n, f->fam_device), O_RDWR | O_CLOEXEC, 0);
		if (device < 0) {
			(void)sys_call1(SYS_close, swapfd);
			goto no;
		}
	}
	h->h_fam = f;
	h->h_memfd = hostfd_guard(memfd);
	h->h_swapfd = hostfd_guard(swapfd);
	h->h_device = device >= 0 ? hostfd_guard(device) : 0;
	return;
no:
	if (f != NULL)
		(void)sys_call2(SYS_munmap, m, size);
	(void)sys_call1(SYS_close, memfd);
}

/* The answer of the supervisor. */
static int take_welcome(struct host *h, int sock)
{
	struct family_welcome w;
	int fds[3] = { -1, -1, -1 }, rc;

	if ((rc = receive(sock, &w, fds)) != 0)
		return rc;
	long p = sys_call6(SYS_mmap, 0, (long)w.fw_fam_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	if (p < 0 && p > -4096)
		return (int)p;
	h->h_fam = (struct family *)p;
	h->h_memfd = hostfd_guard(fds[0]);
	h->h_swapfd = hostfd_guard(fds[1]);
	h->h_device = fds[2] >= 0 ? hostfd_guard(fds[2]) : 0;
	h->h_slot = w.fw_slot;
	return 0;
}

/* In a full family: who executes another program has just had an entry, which is given back soon. */
static int wait_slot(struct family *f)
{
	long pause[2] = { 0, 1000000 };
	int slot;

	for (unsigned tries = 0; (slot = family_slot(f)) < 0 && tries < 1000; tries++)
		(void)sys_call4(SYS_clock_nanosleep, 1, 0, (long)pause, 0);
	return slot;
}

/* From another network name space. */
static long connect_place(struct host *h, int sock)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t n;
	const char *pid = supervisor_of(h->h_fam->fam_name, &n);

	if (h->h_fam->fam_placefd < 0)
		return -111;
	(void)descriptor_path(sa.sun_path, pid, n, h->h_fam->fam_placefd);
	return sys_call3(SYS_connect, sock, (long)&sa, sizeof sa);
}

int family_connect(struct host *h, const char *sockname, int slot)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct family_hello hello = {
		.fh_magic = FAMILY_MAGIC, .fh_slot = slot, .fh_pid = (int32_t)sys_call0(SYS_getpid)
	};
	size_t n = length(sockname);
	bool mine = slot < 0;
	long sock, r;

	if (n + 2 > sizeof sa.sun_path)
		return -22;
	for (size_t i = 0; i < n; i++)
		sa.sun_path[i + 1] = sockname[i];
	sock = sys_call3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return (int)sock;
	r = sys_call3(SYS_connect, sock, (long)&sa, (long)(offsetof(struct sockaddr_un, sun_path) + 1 + n));
	if (h->h_fam == NULL && (r == 0 || r == -111 /* ECONNREFUSED */))
		fetch(h, sockname);
	if (r == -111 && h->h_fam != NULL)
		r = connect_place(h, (int)sock);
	if (r == 0 && h->h_fam != NULL) {
		hello.fh_silent = 1;
		if (mine && (hello.fh_slot = wait_slot(h->h_fam)) < 0)
			r = -11; /* EAGAIN: no entry free */
		else
			atomic_store(&h->h_fam->fam_proc[hello.fh_slot].fp_pid, hello.fh_pid);
	}
	if (r == 0)
		r = sys_call6(SYS_sendto, sock, (long)&hello, sizeof hello, MSG_NOSIGNAL, 0, 0);
	if (r >= 0 && hello.fh_silent != 0)
		h->h_slot = hello.fh_slot;
	else if (r >= 0)
		r = take_welcome(h, (int)sock);
	if (r < 0) {
		(void)sys_call1(SYS_close, sock);
		if (mine && hello.fh_slot >= 0)
			atomic_store(&h->h_fam->fam_proc[hello.fh_slot].fp_pid, 0);
		return (int)r;
	}
	h->h_sock = hostfd_guard((int)sock);
	h->h_pid = hello.fh_pid;
	h->h_me = &h->h_fam->fam_proc[h->h_slot];
	family_mortal(h, true);
	return 0;
}
