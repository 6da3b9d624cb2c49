/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A TCP connection, with TLS or without, that never waits after it is open: bytes that cannot be
 * sent yet are kept.
 */
#ifndef QUIRE_FAR_CONN_H
#define QUIRE_FAR_CONN_H

#include "far/far.h"

#include <sys/types.h>
#include <sys/uio.h>

struct far_conn;
/*
 * Opens a TCP connection to one of the host's addresses, before `until` (ns, as far_now). An address that does not answer does not
 * delay the attempts at the others. Returns a non-blocking socket, which the caller closes; or -1, with the cause in why.
 */
int far_connect(const char *host, const char *port, uint64_t until, char why[FAR_WHY]);
/*
 * Connects within wait_ms; TLS verifies the host's name against ca_file (NULL: the system's
 * certificates). NULL: the cause is in why. *final: a certificate does not verify or ca_file cannot
 * be read, so another try is useless.
 */
struct far_conn *far_conn_open(const char *host, const char *port, bool tls, const char *ca_file,
    uint32_t wait_ms, bool *final, char why[FAR_WHY]);
void far_conn_close(struct far_conn *); /* NULL is allowed */
/* Appends bytes to be sent. False: no memory. */
bool far_conn_put(struct far_conn *, const void *data, size_t len);
/*
 * Appends parts that are large together: one system call sends as much as possible, without a copy.
 * False: no memory.
 */
bool far_conn_put_parts(struct far_conn *, const struct iovec *part, int n);
/* Sends the appended bytes, as many as possible without waiting. False: the connection is lost. */
bool far_conn_flush(struct far_conn *);
/*
 * Reads up to len bytes that have arrived. > 0: their number; 0: none have arrived; -1: the
 * connection is lost.
 */
ssize_t far_conn_get(struct far_conn *, void *buf, size_t len);
/* The same into several parts in order; with TLS only into the first part that is not empty. */
ssize_t far_conn_get_parts(struct far_conn *, const struct iovec *part, int n);
/* The connection's descriptor, and the events to poll for. */
struct pollfd far_conn_poll(const struct far_conn *);
#endif
