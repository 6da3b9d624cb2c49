/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runtime's side of the family's socket. Raw system calls only: in a forked child nothing of the C library may be used
 * before its own fork handlers ran, and errno's thread-local storage may not be ours.
 */
#include <linux/un.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "machine/linux/sys.h"
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

int family_connect(struct host *h, const char *sockname, int slot)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct family_hello hello = {
		.fh_magic = FAMILY_MAGIC, .fh_slot = slot, .fh_pid = (int32_t)sys_call0(SYS_getpid)
	};
	struct family_welcome w;
	size_t n = length(sockname);
	int fds[3] = { -1, -1, -1 }, rc;
	long sock, r;

	if (n + 2 > sizeof sa.sun_path)
		return -22;
	for (size_t i = 0; i < n; i++)
		sa.sun_path[i + 1] = sockname[i];
	sock = sys_call3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return (int)sock;
	r = sys_call3(SYS_connect, sock, (long)&sa, (long)(offsetof(struct sockaddr_un, sun_path) + 1 + n));
	if (r == 0)
		r = sys_call6(SYS_sendto, sock, (long)&hello, sizeof hello, MSG_NOSIGNAL, 0, 0);
	if (r < 0 || (rc = receive((int)sock, &w, fds)) != 0) {
		(void)sys_call1(SYS_close, sock);
		return r < 0 ? (int)r : rc;
	}
	h->h_sock = hostfd_guard((int)sock);
	h->h_slot = w.fw_slot;
	h->h_pid = hello.fh_pid;
	if (h->h_fam != NULL) { /* a forked child: it has inherited the mapping and the descriptors */
		(void)sys_call1(SYS_close, fds[0]);
		(void)sys_call1(SYS_close, fds[1]);
		if (fds[2] >= 0)
			(void)sys_call1(SYS_close, fds[2]);
	} else {
		long p = sys_call6(SYS_mmap, 0, (long)w.fw_fam_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);

		if (p < 0 && p > -4096)
			return (int)p;
		h->h_fam = (struct family *)p;
		h->h_memfd = hostfd_guard(fds[0]);
		h->h_swapfd = hostfd_guard(fds[1]);
		h->h_device = fds[2] >= 0 ? hostfd_guard(fds[2]) : 0;
	}
	h->h_me = &h->h_fam->fam_proc[h->h_slot];
	return 0;
}
