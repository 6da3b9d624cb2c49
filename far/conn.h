/* SPDX-License-Identifier: BSD-2-Clause */
/* A TCP connection, with TLS or without, that never waits once it is open: what cannot be sent yet is kept. */
#ifndef QUIRE_FAR_CONN_H
#define QUIRE_FAR_CONN_H

#include "far/far.h"

#include <sys/types.h>
#include <sys/uio.h>

struct far_conn;
/*
 * A TCP connection to one of the host's addresses, until then (ns, as far_now). An address that does not answer does not keep the
 * others waiting. A socket that never waits, the caller's to close; or -1 and why.
 */
int far_connect(const char *host, const char *port, uint64_t until, char why[FAR_WHY]);
/*
 * Connects within wait_ms; TLS verifies the host's name against ca_file (NULL: the system's certificates). NULL: why.
 * *final: a certificate does not verify or ca_file cannot be read, so there is no use in another try.
 */
struct far_conn *far_conn_open(const char *host, const char *port, bool tls, const char *ca_file,
    uint32_t wait_ms, bool *final, char why[FAR_WHY]);
void far_conn_close(struct far_conn *); /* NULL is allowed */
/* Appends to what is to be sent. False: no memory. */
bool far_conn_put(struct far_conn *, const void *data, size_t len);
/* Appends parts that are large together: one system call sends what can be sent, without a copy. False: no memory. */
bool far_conn_put_parts(struct far_conn *, const struct iovec *part, int n);
/* Sends what can be sent. False: the connection is lost. */
bool far_conn_flush(struct far_conn *);
/* Up to len bytes that have arrived: > 0, 0: none now, -1: the connection is lost. */
ssize_t far_conn_get(struct far_conn *, void *buf, size_t len);
/* The same into parts, one after another; of TLS into the first one that is not empty only. */
ssize_t far_conn_get_parts(struct far_conn *, const struct iovec *part, int n);
/* Its descriptor, and what to poll for. */
struct pollfd far_conn_poll(const struct far_conn *);
#endif
