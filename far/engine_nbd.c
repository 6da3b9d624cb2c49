/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * NBD, by libnbd: any server of the protocol (nbdkit, qemu-nbd, nbd-server, a cloud disk behind one
 * of them). If the server promises that several connections see the same data (multi-conn), four
 * connections are used; a request goes to the connection with the fewest requests.
 *
 * A connection that dies aborts its requests: their callbacks report an error of the connection,
 * not of the request, so the engine does not answer these requests, and the device asks the next
 * link again.
 */
#include "far/conn.h"
#include "far/lease.h"
#include "far/lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS 4u
#define DEPTH 64u    /* requests of one connection */
#define FIRST_MS 250 /* for the first address of a name, before all are tried */

struct far_link {
	struct nbd_handle *h[CONNS];
	unsigned inflight[CONNS], n;
	uint64_t size;
	bool trims;
	struct far_lease lease;
};

/* One request on one connection. */
struct ask {
	struct far_link *l;
	struct far_io *io;
	unsigned conn;
};

/*
 * Turns libnbd's error into one line, with the way out if one is known. psk: the URL uses
 * pre-shared keys. True: a later try will fail, too.
 */
static bool why_nbd(bool psk, char why[FAR_WHY])
{
	static const struct {
		const char *said, *why;
		bool psk, final;
	} known[] = {
		{ "requires TLS", "it wants TLS: use nbds://", false, true },
		{ "refused TLS", "it has no TLS: nbd:// goes without", false, true },
		{ "no export named", "it has no export of that name", false, true },
		{ "certificate verif", "TLS: its certificate does not verify by --far-ca", false,
		    true },
		{ "gnutls_handshake",
		    "TLS failed: has it the user and the key that --far-psk names?", true, false },
	};
	const char *text = nbd_get_error(), *colon;

	if (text == NULL)
		text = "unknown error";
	for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
		if (strstr(text, known[i].said) != NULL && psk >= known[i].psk) {
			(void)snprintf(why, FAR_WHY, "%s", known[i].why);
			return known[i].final;
		}
	/* The name of libnbd's function is left out. */
	if (strncmp(text, "nbd_", 4) == 0 && (colon = strstr(text, ": ")) != NULL)
		text = colon + 2;
	(void)snprintf(why, FAR_WHY, "%s", text);
	return strstr(text, "certificate") != NULL;
}

/*
 * False: a server of that URL would not be known by its certificate or key. libnbd verifies no certificate over a Unix socket, nor if
 * it finds no certificate to trust in the folder that it is given.
 */
static bool may_use_tls(const struct far_url *u, const struct far_settings *set, char why[FAR_WHY])
{
	char path[4200];

	if (set->tls_psk != NULL && access(set->tls_psk, R_OK) != 0)
		(void)snprintf(why, FAR_WHY, "--far-psk %.150s: %s", set->tls_psk, strerror(errno));
	else if (set->tls_psk != NULL)
		return true;
	else if (u->socket[0] != '\0')
		(void)snprintf(why, FAR_WHY,
		    "TLS over a Unix socket: no certificate is verified there; use --far-psk FILE");
	else if (set->ca_file == NULL)
		(void)snprintf(why, FAR_WHY,
		    "TLS: give --far-psk FILE, or --far-ca FOLDER with ca-cert.pem, which verifies the server");
	else if (snprintf(path, sizeof path, "%.4096s/ca-cert.pem", set->ca_file) > 0 &&
	    access(path, R_OK) != 0)
		(void)snprintf(why, FAR_WHY,
		    "--far-ca %.100s: %s; of NBD it is a folder with ca-cert.pem", set->ca_file,
		    strerror(errno));
	else
		return true;
	return false;
}

/* The user of pre-shared keys: the URL's, else the first that the file names. */
static void psk_user(const struct far_url *u, const char *file, char user[64])
{
	FILE *f = fopen(file, "re");

	(void)snprintf(user, 64, "%s", u->user);
	if (f == NULL)
		return;
	if (user[0] == '\0' && fscanf(f, "%63[^:\n]", user) != 1)
		user[0] = '\0';
	(void)fclose(f);
}

static bool set_tls(struct nbd_handle *h, const struct far_url *u, const struct far_settings *set)
{
	char user[64];

	if (nbd_set_tls(h, LIBNBD_TLS_REQUIRE) != 0 || nbd_set_tls_verify_peer(h, true) != 0)
		return false;
	if (set->tls_psk == NULL)
		return nbd_set_tls_certificates(h, set->ca_file) == 0;
	psk_user(u, set->tls_psk, user);
	return nbd_set_tls_psk_file(h, set->tls_psk) == 0 &&
	    (user[0] == '\0' || nbd_set_tls_username(h, user) == 0);
}

static struct nbd_handle *handle_new(const struct far_url *u, const struct far_settings *set)
{
	struct nbd_handle *h = nbd_create();

	if (h == NULL)
		return NULL;
	if (nbd_set_export_name(h, u->path) == 0 && nbd_set_pread_initialize(h, false) == 0 &&
	    (!u->tls || set_tls(h, u, set)))
		return h;
	nbd_close(h);
	return NULL;
}

/* Waits until the handshake or the time is over. */
static bool await_handshake(struct nbd_handle *h, uint64_t until)
{
	while (!nbd_aio_is_ready(h)) {
		uint64_t now = far_now();

		if (nbd_aio_is_dead(h) || nbd_aio_is_closed(h) || now >= until)
			return false;
		if (nbd_poll(h, (int)((until - now) / 1000000u) + 1) < 0)
			return false;
	}
	return true;
}

/* Waits until the connecting socket is connected. False: it has failed, or the time is up. */
static bool await_connected(int fd, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	struct sockaddr_storage peer;

	return poll(&p, 1, wait_ms) == 1 &&
	    getpeername(fd, (struct sockaddr *)&peer, &(socklen_t){ sizeof peer }) == 0;
}

/*
 * Has libnbd connect by name: in no other way it learns which name the server's certificate must
 * have (before libnbd 1.22). libnbd tries only the first address. If that does not answer at once,
 * another socket, connected to any of the addresses, takes the place of libnbd's socket, from which
 * libnbd has read nothing yet. The name is looked up here first, because libnbd would wait for a
 * silent name server.
 */
static bool begin_by_name(
    struct nbd_handle *h, const char *host, const char *port, uint64_t until, char why[FAR_WHY])
{
	int own, fd;

	if (far_lookup(host, port, until, why) == NULL || nbd_aio_connect_tcp(h, host, port) != 0)
		return false;
	own = nbd_aio_get_fd(h);
	if (await_connected(own, FIRST_MS))
		return true;
	if (own < 0 || (fd = far_connect(host, port, until, why)) < 0)
		return false;
	bool ok = dup3(fd, own, O_CLOEXEC) == own;
	(void)close(fd);
	return ok;
}

/* Begins the connection. libnbd tries only the first address of a name, so it is made here. */
static bool begin_connection(struct nbd_handle *h, const struct far_url *u,
    const struct far_settings *set, uint64_t until, char why[FAR_WHY])
{
	const char *host = u->host[0].host, *port = u->host[0].port;
	int fd;

	if (u->socket[0] != '\0')
		return nbd_aio_connect_unix(h, u->socket) == 0;
	if (u->tls && set->tls_psk == NULL)
		return begin_by_name(h, host, port, until, why);
	fd = far_connect(host, port, until, why);
	return fd >= 0 && nbd_aio_connect_socket(h, fd) == 0; /* the socket is libnbd's now */
}

/* *final: a later try will fail, too. */
static struct nbd_handle *connect_one(const struct far_url *u, const struct far_settings *set,
    uint64_t until, bool *final, char why[FAR_WHY])
{
	struct nbd_handle *h = handle_new(u, set);

	*final = false;
	if (h == NULL) {
		*final = why_nbd(false, why);
		return NULL;
	}
	(void)snprintf(why, FAR_WHY, "it does not answer");
	if (begin_connection(h, u, set, until, why) && await_handshake(h, until))
		return h;
	if (nbd_get_error() != NULL)
		*final = why_nbd(set->tls_psk != NULL, why);
	nbd_close(h);
	return NULL;
}

/* Is the export one that this run may store pages on? Its last unit is the lease's. *final as connect_one. */
static bool take_export(
    struct far_link *l, const struct far_settings *set, bool *final, char why[FAR_WHY])
{
	int64_t size = nbd_get_size(l->h[0]);

	*final = true;
	if (size < (int64_t)(2 * FAR_UNIT) || nbd_is_read_only(l->h[0]) != 0) {
		(void)snprintf(why, FAR_WHY,
		    size < (int64_t)(2 * FAR_UNIT) ? "the export is too small"
						   : "the export is read-only");
		return false;
	}
	*final = false;
	l->size = (uint64_t)size / FAR_UNIT * FAR_UNIT - FAR_UNIT;
	l->trims = nbd_can_trim(l->h[0]) == 1;
	return far_lease_take(&l->lease, l->h[0], l->size, set->run, !set->look, final, why);
}

static struct far_link *nbd_open(const struct far_url *u, const struct far_settings *set,
    uint32_t wait_ms, bool *retry, char why[FAR_WHY])
{
	uint64_t until = far_now() + (uint64_t)wait_ms * 1000000u;
	struct far_link *l = calloc(1, sizeof *l);
	char ignored[FAR_WHY];
	bool final = false;

	if (u->tls && !may_use_tls(u, set, why))
		final = true;
	else if (l != NULL && (l->h[0] = connect_one(u, set, until, &final, why)) != NULL)
		l->n = 1;
	if (l == NULL || l->n == 0 || !take_export(l, set, &final, why)) {
		*retry = !final;
		if (l != NULL)
			far_nbd.fo_close(l, false);
		return NULL;
	}
	if (nbd_can_multi_conn(l->h[0]) == 1)
		while (l->n < CONNS &&
		    (l->h[l->n] = connect_one(u, set, until, &final, ignored)) != NULL)
			l->n++;
	return l;
}

static uint64_t nbd_size(const struct far_link *l) { return l->size; }

static int on_answer(void *arg, int *error)
{
	struct ask *a = arg;
	struct far_io *io = a->io;
	int e = *error;

	a->l->inflight[a->conn]--;
	free(a);
	switch (e) {
	case 0: far_done(io, 0); break;
	case ENOSPC:
		far_note(io, strerror(e));
		far_done(io, -ENOSPC);
		break;
	case ENOTCONN:
	case ESHUTDOWN:
	case ECONNRESET:
	case EPIPE: break; /* an error of the connection: the request is asked again */
	default: far_note(io, strerror(e)); far_done(io, -EIO);
	}
	return 1;
}

static bool nbd_submit(struct far_link *l, struct far_io *io)
{
	unsigned c = 0;
	int64_t cookie = -1;
	struct ask *a;

	if (io->op == FAR_TOUCH || (io->op == FAR_TRIM && !l->trims)) {
		far_done(io, 0);
		return true;
	}
	for (unsigned i = 1; i < l->n; i++)
		if (l->inflight[i] < l->inflight[c])
			c = i;
	if (l->inflight[c] >= DEPTH || (a = calloc(1, sizeof *a)) == NULL)
		return false;
	*a = (struct ask){ .l = l, .io = io, .conn = c };
	l->inflight[c]++;
	nbd_completion_callback cb = { .callback = on_answer, .user_data = a };
	if (io->op == FAR_READ)
		cookie = nbd_aio_pread(l->h[c], io->buf, io->len, io->at, cb, 0);
	else if (io->op == FAR_WRITE)
		cookie = nbd_aio_pwrite(l->h[c], io->buf, io->len, io->at, cb, 0);
	else
		cookie = nbd_aio_trim(l->h[c], io->len, io->at, cb, 0);
	if (cookie < 0) { /* the connection is dead: the next fo_work reports this */
		l->inflight[c]--;
		free(a);
	}
	return true;
}

static unsigned nbd_fds(struct far_link *l, struct pollfd fds[FAR_FDS], int *wake_ms)
{
	for (unsigned i = 0; i < l->n; i++) {
		unsigned dir = nbd_aio_get_direction(l->h[i]);

		fds[i] = (struct pollfd){ .fd = nbd_aio_get_fd(l->h[i]) };
		fds[i].events = (short)(((dir & LIBNBD_AIO_DIRECTION_READ) != 0 ? POLLIN : 0) |
		    ((dir & LIBNBD_AIO_DIRECTION_WRITE) != 0 ? POLLOUT : 0));
		if (nbd_aio_is_dead(l->h[i]))
			*wake_ms = 0;
	}
	return l->n;
}

static int nbd_work(struct far_link *l, const struct pollfd *fds, unsigned n, char why[FAR_WHY])
{
	far_lease_beat(&l->lease, l->h[0], far_now());
	for (unsigned i = 0; i < l->n; i++) {
		unsigned dir = nbd_aio_get_direction(l->h[i]);
		short got = i < n ? fds[i].revents : 0;

		if ((got & (POLLIN | POLLHUP | POLLERR)) != 0 &&
		    (dir & LIBNBD_AIO_DIRECTION_READ) != 0)
			(void)nbd_aio_notify_read(l->h[i]);
		else if ((got & POLLOUT) != 0 && (dir & LIBNBD_AIO_DIRECTION_WRITE) != 0)
			(void)nbd_aio_notify_write(l->h[i]);
		if (nbd_aio_is_dead(l->h[i]) || nbd_aio_is_closed(l->h[i])) {
			(void)snprintf(why, FAR_WHY, "the server closed the connection");
			return -EIO;
		}
	}
	return 0;
}

static void nbd_end(struct far_link *l, bool erase)
{
	if (erase)
		far_lease_drop(&l->lease, l->h[0]);
	for (unsigned i = 0; i < l->n; i++) {
		if (erase)
			(void)nbd_shutdown(l->h[i], 0);
		nbd_close(l->h[i]);
	}
	free(l);
}

const struct far_ops far_nbd = {
	.fo_open = nbd_open,
	.fo_size = nbd_size,
	.fo_submit = nbd_submit,
	.fo_fds = nbd_fds,
	.fo_work = nbd_work,
	.fo_close = nbd_end,
};
