/* SPDX-License-Identifier: BSD-2-Clause */
/* Internet sockets between processes of the machine: a part of the program `programs`. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "programs.h"

static struct sockaddr_in inet_name(const char *host, unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	a.sin_addr.s_addr = inet_addr(host);
	return a;
}

/* The socket's own port, or that of the other end. */
static unsigned port_of(int s, int peer)
{
	struct sockaddr_in a = { 0 };
	socklen_t n = sizeof(a);

	if ((peer ? getpeername : getsockname)(s, (void *)&a, &n) != 0 || n != sizeof(a))
		return 0;
	return ntohs(a.sin_port);
}

static int bind_to(int s, const char *host, unsigned port)
{
	struct sockaddr_in a = inet_name(host, port);

	return bind(s, (void *)&a, sizeof(a));
}

static int connect_to(int s, const char *host, unsigned port)
{
	struct sockaddr_in a = inet_name(host, port);

	return connect(s, (void *)&a, sizeof(a));
}

/* A socket that listens on a port that was free. */
static int new_listener(unsigned *port)
{
	int l = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind_to(l, "127.0.0.1", 0) == 0 && listen(l, 5) == 0);
	CHECK((*port = port_of(l, 0)) != 0);
	return l;
}

/* Two ends of a connection. */
static void new_stream(int s[2])
{
	unsigned port;
	int l = new_listener(&port);

	s[0] = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect_to(s[0], "127.0.0.1", port) == 0 && (s[1] = accept(l, NULL, NULL)) >= 0);
	close(l);
}

static int events_of(int fd)
{
	struct pollfd p = { fd, POLLIN | POLLOUT | POLLRDHUP, 0 };

	CHECK(poll(&p, 1, 0) >= 0);
	return p.revents;
}

/* What will come soon: the other end's word may be on its way on Linux. */
static int wait_for(int fd, short events)
{
	struct pollfd p = { fd, events, 0 };

	return poll(&p, 1, 10000) == 1 ? p.revents : 0;
}

static int error_of(int s)
{
	socklen_t n = sizeof(int);
	int err = -1;

	CHECK(getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &n) == 0);
	return err;
}

static void a_connection_has_two_names(void)
{
	struct sockaddr_in a;
	socklen_t n = sizeof(a);
	unsigned port;
	int l = new_listener(&port), c = socket(AF_INET, SOCK_STREAM, 0), s;
	char b[8];

	CHECK(port_of(c, 0) == 0 && fails(getpeername(c, (void *)&a, &n), ENOTCONN));
	CHECK(events_of(l) == 0 && fcntl(l, F_SETFL, O_NONBLOCK) == 0);
	CHECK(fails(accept(l, NULL, NULL), EAGAIN));
	CHECK(connect_to(c, "127.0.0.1", port) == 0 && wait_for(l, POLLIN) == POLLIN);
	CHECK((s = accept4(l, (void *)&a, &n, SOCK_CLOEXEC)) >= 0 && n == sizeof(a));
	CHECK(a.sin_family == AF_INET && a.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	CHECK(ntohs(a.sin_port) == port_of(c, 0) && port_of(s, 1) == port_of(c, 0));
	CHECK(port_of(s, 0) == port && port_of(c, 1) == port);
	n = sizeof(a);
	CHECK(getsockname(c, (void *)&a, &n) == 0 && a.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	CHECK(fails(connect_to(c, "127.0.0.1", port), EISCONN));
	CHECK(write(c, "hello", 5) == 5 && wait_for(s, POLLIN) == POLLIN);
	n = sizeof(a);
	CHECK(recvfrom(s, b, sizeof(b), 0, (void *)&a, &n) == 5 && n == 0);
	CHECK(events_of(s) == POLLOUT && events_of(c) == POLLOUT);
	close(c);
	close(s);
	close(l);
}

static void a_port_belongs_to_one_socket(void)
{
	unsigned port;
	int l = new_listener(&port), other = socket(AF_INET, SOCK_STREAM, 0), on = 1,
	    u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = inet_name("127.0.0.1", 0);

	CHECK(fails(bind_to(other, "127.0.0.1", port), EADDRINUSE));
	CHECK(fails(bind_to(other, "0.0.0.0", port), EADDRINUSE));
	CHECK(setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
	CHECK(fails(bind_to(other, "127.0.0.1", port), EADDRINUSE)); /* the other listens */
	CHECK(bind_to(other, "127.0.0.2", port) == 0);
	CHECK(fails(bind_to(other, "127.0.0.2", 0), EINVAL));
	CHECK(bind_to(u, "127.0.0.1", port) == 0); /* datagrams have ports of their own */
	CHECK(fails(bind_to(v, "0.0.0.0", port), EADDRINUSE));
	CHECK(setsockopt(u, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    setsockopt(v, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
	CHECK(bind_to(v, "0.0.0.0", port) == 0);
	close(l);
	l = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(bind_to(l, "127.0.0.1", port) == 0);
	CHECK(fails(bind(l, (void *)&a, 15), EINVAL));
	a.sin_family = AF_UNIX;
	CHECK(fails(bind(l, (void *)&a, sizeof(a)), EAFNOSUPPORT));
	close(other);
	other = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(fails(bind(other, (void *)&a, sizeof(a)), EAFNOSUPPORT));
	CHECK(fails(connect(other, (void *)&a, sizeof(a)), EAFNOSUPPORT));
	CHECK(fails(bind_to(other, "192.0.2.1", 0), EADDRNOTAVAIL));
	CHECK(listen(other, 5) == 0 && port_of(other, 0) != 0); /* a port is found for it */
	close(l);
	close(other);
	close(u);
	close(v);
}

static void a_refused_connection_is_told_once(void)
{
	unsigned port;
	int l = new_listener(&port), c = socket(AF_INET, SOCK_STREAM, 0), s;

	close(l);
	CHECK(fails(connect_to(c, "127.0.0.1", port), ECONNREFUSED));
	CHECK(error_of(c) == 0 && fails(send(c, "x", 1, MSG_NOSIGNAL), EPIPE));
	close(c);
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK(events_of(c) == (POLLOUT | POLLHUP));
	CHECK(fails(connect_to(c, "127.0.0.1", port), EINPROGRESS));
	CHECK(wait_for(c, POLLOUT) & POLLERR);
	CHECK(error_of(c) == ECONNREFUSED && error_of(c) == 0);
	close(c);
	l = new_listener(&port);
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK(fails(connect_to(c, "127.0.0.1", port), EINPROGRESS));
	CHECK(wait_for(c, POLLOUT) == POLLOUT && error_of(c) == 0);
	CHECK(connect_to(c, "127.0.0.1", port) == 0);
	CHECK(fails(connect_to(c, "127.0.0.1", port), EISCONN));
	CHECK((s = accept(l, NULL, NULL)) >= 0 && write(s, "x", 1) == 1);
	CHECK(wait_for(c, POLLIN) == POLLIN);
	close(s);
	close(c);
	close(l);
}

static void the_end_of_a_stream_is_told(void)
{
	char b[8];
	int s[2];

	new_stream(s);
	CHECK(write(s[0], "abc", 3) == 3 && shutdown(s[0], SHUT_WR) == 0);
	CHECK(fails(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE));
	CHECK(recv(s[1], b, sizeof(b), MSG_WAITALL) == 3 && read(s[1], b, sizeof(b)) == 0);
	CHECK(events_of(s[1]) == (POLLIN | POLLOUT | POLLRDHUP));
	CHECK(write(s[1], "back", 4) == 4 && read(s[0], b, sizeof(b)) == 4);
	CHECK(shutdown(s[1], SHUT_WR) == 0 && read(s[0], b, sizeof(b)) == 0);
	CHECK(events_of(s[1]) == (POLLIN | POLLOUT | POLLRDHUP | POLLHUP));
	close(s[0]);
	close(s[1]);
	/* the first bytes for an end that is closed are lost, and the next write tells so */
	new_stream(s);
	close(s[1]);
	CHECK(wait_for(s[0], POLLIN) == POLLIN && read(s[0], b, 1) == 0);
	CHECK(write(s[0], "x", 1) == 1 && (wait_for(s[0], 0) & POLLERR));
	CHECK(fails(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE) && read(s[0], b, 1) == 0);
	close(s[0]);
}

static void bytes_left_unread_reset_a_connection(void)
{
	static const int families[] = { AF_INET, AF_UNIX };
	int s[2], l, c;
	char b[8];
	unsigned port;

	for (int i = 0; i < 2; i++) {
		if (families[i] == AF_INET)
			new_stream(s);
		else
			CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
		CHECK(write(s[0], "abc", 3) == 3 && write(s[1], "de", 2) == 2);
		CHECK(wait_for(s[1], POLLIN) & POLLIN);
		close(s[1]);
		CHECK(wait_for(s[0], POLLHUP) & POLLERR);
		CHECK(read(s[0], b, sizeof(b)) == 2);
		CHECK(fails(read(s[0], b, sizeof(b)), ECONNRESET) && read(s[0], b, 1) == 0);
		CHECK(fails(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE));
		close(s[0]);
	}
	/* so does the end of a listener for connections that it has not accepted */
	l = new_listener(&port);
	c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect_to(c, "127.0.0.1", port) == 0 && close(l) == 0);
	CHECK(wait_for(c, POLLHUP) & POLLERR);
	CHECK(error_of(c) == ECONNRESET && read(c, b, 1) == 0);
	close(c);
	new_stream(s);
	CHECK(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
		  sizeof(struct linger)) == 0);
	close(s[0]);
	CHECK(fails(read(s[1], b, 1), ECONNRESET));
	close(s[1]);
}

static volatile sig_atomic_t broken;
static void count_broken(int sig)
{
	(void)sig;
	broken++;
}

static void a_broken_stream_sends_sigpipe(void)
{
	struct sigaction act = { .sa_handler = count_broken }, old;
	int s[2];

	broken = 0;
	CHECK(sigaction(SIGPIPE, &act, &old) == 0);
	new_stream(s);
	CHECK(shutdown(s[0], SHUT_WR) == 0 && fails(write(s[0], "x", 1), EPIPE) && broken == 1);
	CHECK(fails(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE) && broken == 1);
	CHECK(sigaction(SIGPIPE, &old, NULL) == 0);
	close(s[0]);
	close(s[1]);
}

static void a_listener_can_be_shut_down(void)
{
	unsigned port;
	int l = new_listener(&port), c = socket(AF_INET, SOCK_STREAM, 0), status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fails(accept(l, NULL, NULL), EINVAL) ? 0 : 1);
	CHECK(fails(shutdown(c, SHUT_RDWR), ENOTCONN));
	CHECK(shutdown(l, SHUT_RDWR) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(fails(connect_to(c, "127.0.0.1", port), ECONNREFUSED));
	close(l);
	close(c);
}

/* ---- datagrams ---- */
static int new_datagrams(unsigned *port)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK(bind_to(s, "127.0.0.1", 0) == 0 && (*port = port_of(s, 0)) != 0);
	return s;
}

static void datagrams_find_their_port(void)
{
	struct sockaddr_in to, from;
	socklen_t n = sizeof(from);
	unsigned pa;
	int a = new_datagrams(&pa), b = socket(AF_INET, SOCK_DGRAM, 0), left;
	char x[16];

	to = inet_name("127.0.0.1", pa);
	CHECK(fails(send(b, "x", 1, 0), EDESTADDRREQ));
	CHECK(sendto(b, "hello", 5, 0, (void *)&to, sizeof(to)) == 5 && port_of(b, 0) != 0);
	CHECK(sendto(b, "", 0, 0, (void *)&to, sizeof(to)) == 0);
	CHECK(wait_for(a, POLLIN) == POLLIN && ioctl(a, FIONREAD, &left) == 0 && left == 5);
	CHECK(recvfrom(a, x, 2, MSG_TRUNC | MSG_PEEK, (void *)&from, &n) == 5);
	CHECK(n == sizeof(from) && ntohs(from.sin_port) == port_of(b, 0) &&
	    from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	CHECK(recv(a, x, sizeof(x), 0) == 5 && memcmp(x, "hello", 5) == 0);
	CHECK(recv(a, x, sizeof(x), 0) == 0 && fails(recv(a, x, 1, MSG_DONTWAIT), EAGAIN));
	CHECK(sendto(a, "back", 4, 0, (void *)&from, n) == 4 && recv(b, x, sizeof(x), 0) == 4);
	to.sin_port = 0;
	CHECK(fails(sendto(b, "x", 1, 0, (void *)&to, sizeof(to)), EINVAL));
	CHECK(fails(sendto(b, "x", 1, 0, (void *)&to, 3), EINVAL));
	to.sin_family = 47;
	CHECK(fails(sendto(b, "x", 1, 0, (void *)&to, sizeof(to)), EAFNOSUPPORT));
	CHECK(fails(shutdown(b, SHUT_RD), ENOTCONN) && fails(listen(b, 1), EOPNOTSUPP) &&
	    fails(accept(b, NULL, NULL), EOPNOTSUPP));
	close(a);
	close(b);
}

static void datagrams_of_others_are_not_heard(void)
{
	struct sockaddr_in to;
	unsigned pa, pb, pc;
	int a = new_datagrams(&pa), b = new_datagrams(&pb), c = new_datagrams(&pc);
	char x[16];

	CHECK(connect_to(a, "127.0.0.1", pb) == 0 && port_of(a, 1) == pb);
	to = inet_name("127.0.0.1", pa);
	CHECK(sendto(c, "c", 1, 0, (void *)&to, sizeof(to)) == 1);
	CHECK(sendto(b, "b", 1, 0, (void *)&to, sizeof(to)) == 1);
	CHECK(recv(a, x, sizeof(x), 0) == 1 && x[0] == 'b');
	CHECK(fails(recv(a, x, sizeof(x), MSG_DONTWAIT), EAGAIN));
	to = inet_name("127.0.0.1", pc);
	CHECK(sendto(a, "elsewhere", 9, 0, (void *)&to, sizeof(to)) == 9);
	CHECK(recv(c, x, sizeof(x), 0) == 9);
	close(b);
	/* that the peer is gone is told by the call after the one that finds it */
	CHECK(send(a, "x", 1, 0) == 1 && wait_for(a, POLLIN) & POLLERR);
	CHECK(fails(send(a, "x", 1, 0), ECONNREFUSED) && send(a, "x", 1, 0) == 1);
	CHECK(wait_for(a, 0) & POLLERR);
	CHECK(fails(recv(a, x, 1, MSG_DONTWAIT), ECONNREFUSED));
	CHECK(fails(recv(a, x, 1, MSG_DONTWAIT), EAGAIN));
	memset(&to, 0, sizeof(to));
	CHECK(connect(a, (void *)&to, sizeof(to)) == 0 && fails(send(a, "x", 1, 0), EDESTADDRREQ));
	close(a);
	close(c);
}

/* A datagram for which the receiver has no room is lost; its sender does not wait. */
static void a_flood_of_datagrams_does_not_wait(void)
{
	static char b[65508];
	unsigned port;
	int a = new_datagrams(&port), c = socket(AF_INET, SOCK_DGRAM, 0), came = 0;

	CHECK(connect_to(c, "127.0.0.1", port) == 0);
	for (int i = 0; i < 1000; i++)
		CHECK(send(c, b, 1000, 0) == 1000);
	while (recv(a, b, sizeof(b), MSG_DONTWAIT) == 1000)
		came++;
	CHECK(came > 4 && came < 1000);
	CHECK(send(c, b, 65507, 0) == 65507 && recv(a, b, sizeof(b), 0) == 65507);
	CHECK(fails(send(c, b, 65508, 0), EMSGSIZE));
	close(a);
	close(c);
}

/* ---- options ---- */
static int option(int s, int level, int name)
{
	socklen_t n = sizeof(int);
	int v = -1;

	return getsockopt(s, level, name, &v, &n) == 0 && n == sizeof(int) ? v : -1;
}

static int set_option(int s, int level, int name, int v)
{
	return setsockopt(s, level, name, &v, sizeof(v));
}

static void options_are_kept(void)
{
	int s = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP), u = socket(AF_INET, SOCK_DGRAM, 0),
	    on = 1;
	struct linger l = { 0, 0 };
	socklen_t n = sizeof(l);

	CHECK(option(s, SOL_SOCKET, SO_TYPE) == SOCK_STREAM &&
	    option(s, SOL_SOCKET, SO_DOMAIN) == AF_INET &&
	    option(s, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP &&
	    option(u, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP);
	CHECK(option(s, IPPROTO_TCP, TCP_NODELAY) == 0 &&
	    set_option(s, IPPROTO_TCP, TCP_NODELAY, 5) == 0 &&
	    option(s, IPPROTO_TCP, TCP_NODELAY) == 1);
	CHECK(option(s, SOL_SOCKET, SO_KEEPALIVE) == 0 &&
	    set_option(s, SOL_SOCKET, SO_KEEPALIVE, 1) == 0 &&
	    option(s, SOL_SOCKET, SO_KEEPALIVE) == 1);
	CHECK(set_option(s, SOL_SOCKET, SO_SNDBUF, 20000) == 0 &&
	    option(s, SOL_SOCKET, SO_SNDBUF) == 40000);
	CHECK(set_option(s, SOL_SOCKET, SO_RCVBUF, 1) == 0 &&
	    option(s, SOL_SOCKET, SO_RCVBUF) == 2304);
	CHECK(option(s, IPPROTO_TCP, TCP_MAXSEG) == 536);
	CHECK(setsockopt(s, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 5 }, sizeof(l)) == 0 &&
	    getsockopt(s, SOL_SOCKET, SO_LINGER, &l, &n) == 0 && l.l_onoff == 1 && l.l_linger == 5);
	CHECK(option(s, IPPROTO_IP, IP_TTL) == 64 && set_option(u, IPPROTO_IP, IP_TTL, 7) == 0 &&
	    option(u, IPPROTO_IP, IP_TTL) == 7 && option(s, IPPROTO_IP, IP_TOS) == 0);
	CHECK(fails(getsockopt(s, 500, SO_TYPE, &on, &n), EOPNOTSUPP));
	CHECK(fails(setsockopt(s, 500, SO_TYPE, &on, n), ENOPROTOOPT));
	CHECK(fails(set_option(s, SOL_SOCKET, SO_TYPE, 1), ENOPROTOOPT));
	CHECK(fails(set_option(s, SOL_SOCKET, 9999, 1), ENOPROTOOPT));
	CHECK(fails(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, 3), EINVAL));
	CHECK(fails(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, (void *)-1, 4), EFAULT));
	CHECK(fails(set_option(s, IPPROTO_TCP, TCP_KEEPIDLE, 0), EINVAL));
	CHECK(fails(set_option(u, IPPROTO_TCP, TCP_NODELAY, 1), ENOPROTOOPT));
	close(s);
	close(u);
}

static void kinds_of_sockets_are_checked(void)
{
	char b[8];
	int s = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0), pair[2];
	struct sockaddr_in a = inet_name("127.0.0.1", 1);
	const int none = 46;

	CHECK(fails(socket(none, SOCK_STREAM, 0), EAFNOSUPPORT) &&
	    fails(socket(AF_INET, 75, 0), EINVAL) &&
	    fails(socket(AF_INET, SOCK_RAW, 0), EPROTONOSUPPORT));
	CHECK(fails(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT) &&
	    fails(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT));
	CHECK(fails(socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP));
	CHECK(fails(recv(s, b, 1, 0), ENOTCONN) && fails(accept(s, NULL, NULL), EINVAL));
	CHECK(fails(sendto(s, "x", 1, MSG_NOSIGNAL, (void *)&a, sizeof(a)), EPIPE));
	CHECK(fails(send(u, "x", 1, MSG_OOB), EOPNOTSUPP));
	CHECK(fails(recv(u, b, 1, MSG_ERRQUEUE | MSG_DONTWAIT), EAGAIN));
	CHECK(
	    fails(connect(s, (void *)&a, 3), EINVAL) && fails(connect(s, (void *)-1, 16), EFAULT));
	close(s);
	close(u);
}

/* More than any buffer takes, by a process that sends and one that sends it back. */
static void much_goes_round_on_loopback(void)
{
	enum { BYTES = 3000000 };
	static uint8_t buf[40000];
	unsigned port;
	int l = new_listener(&port), s, status, bad = 0;
	uint64_t at = 0;
	pid_t pid;

	if ((pid = fork()) == 0) {
		s = socket(AF_INET, SOCK_STREAM, 0);
		if (connect_to(s, "0.0.0.0", port) != 0) /* this machine */
			_exit(1);
		for (ssize_t n; at < BYTES; at += (uint64_t)n) {
			for (size_t i = 0; i < sizeof(buf); i++)
				buf[i] = (uint8_t)((at + i) * 31 >> 3);
			n = write(s, buf, BYTES - at < sizeof(buf) ? BYTES - at : sizeof(buf));
			if (n <= 0)
				_exit(2);
		}
		_exit(shutdown(s, SHUT_WR) == 0 && read(s, buf, 1) == 0 ? 0 : 3);
	}
	CHECK((s = accept(l, NULL, NULL)) >= 0);
	for (ssize_t r; (r = read(s, buf, 7777)) > 0; at += (uint64_t)r)
		for (ssize_t i = 0; i < r; i++)
			bad += buf[i] != (uint8_t)((at + (uint64_t)i) * 31 >> 3);
	CHECK(at == BYTES && bad == 0);
	close(s);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	close(l);
}

/* There is no other machine. */
static void no_way_leads_elsewhere(void)
{
	struct sockaddr_in a = inet_name("192.0.2.1", 80);
	int s = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK(fails(connect(s, (void *)&a, sizeof(a)), ENETUNREACH));
	CHECK(fails(connect(u, (void *)&a, sizeof(a)), ENETUNREACH));
	CHECK(fails(sendto(u, "x", 1, 0, (void *)&a, sizeof(a)), ENETUNREACH));
	close(s);
	close(u);
}

/* What had arrived before was once lost. */
static void the_end_of_reading_loses_nothing(void)
{
	static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
	char b[8];
	int s[2];

	for (int i = 0; i < 3; i++) {
		CHECK(socketpair(AF_UNIX, types[i], 0, s) == 0 && write(s[0], "abc", 3) == 3);
		CHECK(shutdown(s[1], SHUT_RD) == 0 && (events_of(s[1]) & POLLIN));
		CHECK(recv(s[1], b, 2, MSG_PEEK) == 2 && read(s[1], b, sizeof(b)) == 3);
		if (types[i] != SOCK_DGRAM) {
			CHECK(read(s[1], b, sizeof(b)) == 0);
			CHECK(fails(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE));
		}
		close(s[0]);
		close(s[1]);
	}
	new_stream(s);
	CHECK(write(s[0], "abc", 3) == 3 && (wait_for(s[1], POLLIN) & POLLIN));
	CHECK(shutdown(s[1], SHUT_RD) == 0 && read(s[1], b, 2) == 2);
	close(s[1]);
	CHECK(wait_for(s[0], POLLERR) & POLLERR); /* a byte is left unread */
	close(s[0]);
}

/* A connection for which there was no descriptor was once closed. */
static void without_a_descriptor_a_connection_waits(void)
{
	unsigned port;
	int l = new_listener(&port), c = socket(AF_INET, SOCK_STREAM, 0), a;
	struct rlimit all, few;
	char b;

	CHECK(connect_to(c, "127.0.0.1", port) == 0 && getrlimit(RLIMIT_NOFILE, &all) == 0);
	few = all;
	few.rlim_cur = (rlim_t)c + 1;
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	CHECK(fails(accept(l, NULL, NULL), EMFILE) && (events_of(l) & POLLIN));
	CHECK(setrlimit(RLIMIT_NOFILE, &all) == 0 && (a = accept(l, NULL, NULL)) >= 0);
	CHECK(write(c, "x", 1) == 1 && read(a, &b, 1) == 1 && b == 'x');
	close(a);
	close(c);
	close(l);
}

const struct test inet_tests[] = {
	T(a_connection_has_two_names, 1),
	T(a_port_belongs_to_one_socket, 1),
	T(a_refused_connection_is_told_once, 1),
	T(the_end_of_a_stream_is_told, 1),
	T(bytes_left_unread_reset_a_connection, 1),
	T(a_broken_stream_sends_sigpipe, 1),
	T(a_listener_can_be_shut_down, 1),
	T(datagrams_find_their_port, 1),
	T(datagrams_of_others_are_not_heard, 1),
	T(a_flood_of_datagrams_does_not_wait, 1),
	T(options_are_kept, 1),
	T(kinds_of_sockets_are_checked, 1),
	T(much_goes_round_on_loopback, 1),
	T(the_end_of_reading_loses_nothing, 1),
	T(without_a_descriptor_a_connection_waits, 1),
	T(no_way_leads_elsewhere, 0),
	{ NULL, NULL, 0 },
};
