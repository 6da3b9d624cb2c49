/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to the calls of sockets: socket.c has the theory, sockname.c and sockinet.c the names, sockmeet.c the meeting by names,
 * sockmsg.c the calls that move messages, sockopt.c the options.
 */
#ifndef QUIRE_KERNEL_SYS_SOCKET_H
#define QUIRE_KERNEL_SYS_SOCKET_H

#include "kernel/sys/sockq.h"

#define AF_UNIX 1u
#define AF_INET 2u
#define IPPROTO_TCP 6u
#define IPPROTO_UDP 17u
#define SOCK_STREAM 1u
#define SOCK_DGRAM 2u
#define SOCK_SEQPACKET 5u
#define SOL_SOCKET 1u
#define LINE_MOST 128u /* connections that wait to be accepted, of a listener */
/* Places of options whose value is kept: the first; sockopt.c has the others. */
enum { KEPT_REUSEADDR, KEPT_REUSEPORT, KEPT_SNDBUF, KEPT_RCVBUF };
#define KEPT_OPTIONS 26u
#define MSG_OOB 0x1u
#define MSG_PEEK 0x2u
#define MSG_DONTROUTE 0x4u
#define MSG_CTRUNC 0x8u
#define MSG_TRUNC 0x20u
#define MSG_DONTWAIT 0x40u
#define MSG_EOR 0x80u
#define MSG_WAITALL 0x100u
#define MSG_CONFIRM 0x800u
#define MSG_ERRQUEUE 0x2000u
#define MSG_NOSIGNAL 0x4000u
#define MSG_MORE 0x8000u
#define MSG_CMSG_CLOEXEC 0x40000000u

enum socket_state { SOCKET_FRESH, SOCKET_LISTENS, SOCKET_CONNECTED };

struct socket {
	unsigned s_family, s_type; /* const */
	struct mach_mutex s_lock;
	_Atomic enum socket_state s_state; /* names_lock to change */
	struct sockname s_name, s_peer;    /* names_lock */
	bool s_binding;                    /* names_lock: a thread makes the file of the name */
	struct inode *s_node;  /* names_lock: the file of the name, a reference; NULL: none */
	struct socket *s_next; /* names_lock: of sockets_named */
	/*
	 * names_lock: the line of other ends that nobody has accepted, first and last; of such an end: the next. References
	 */
	struct file *s_first, *s_last, *s_behind;
	_Atomic unsigned s_queued; /* names_lock to change: the line's length */
	_Atomic uint64_t s_news;   /* how often one came into line, or the socket's state changed */
	unsigned s_backlog;        /* names_lock */
	int s_peer_pid; /* names_lock: of the process that connected, listened, or made the pair */
	int s_pid;      /* names_lock: of the process that listens */
	struct waitq s_wait; /* accept */
	/* s_lock: references; NULL: shut down, or not there yet. Of datagrams s_out is another socket's s_in, to which it is connected. */
	struct sockq *s_in, *s_out;
	bool
	    s_begun; /* names_lock: connect did not wait, and has not told yet how the connection went */
	_Atomic int s_error; /* of the socket, to be told once; 0: none */
	/*
	 * A stream of the Internet has sent to an end that was closed: what it sends is refused from now on. Until then the sender
	 * cannot know.
	 */
	_Atomic bool s_cut;
	_Atomic bool s_abrupt;            /* the end of the socket resets its connection */
	_Atomic uint32_t s_given;         /* bits: places of s_kept that the program has set */
	_Atomic int s_kept[KEPT_OPTIONS]; /* options: sockopt.c */
	_Atomic uint64_t s_linger;        /* SO_LINGER: struct linger */
	_Atomic bool s_passcred;          /* SO_PASSCRED */
	_Atomic uint64_t s_limit_in, s_limit_out; /* SO_RCVTIMEO, SO_SNDTIMEO: ns; 0: none */
};

extern struct mach_mutex names_lock;
extern struct socket *sockets_named; /* names_lock: sockets with a name, of all families */
/* A reference; or NULL, and why. */
struct file *socket_get(uint64_t fd, int64_t *err);
/* A reference to the queue of a direction; NULL: there is none. */
struct sockq *socket_queue(struct socket *, bool out);
/*
 * Two connected ends: *b is a socket; *in and *out are the queues of the end that is no socket yet, references of the caller's. b is
 * told nothing of names. -ENOMEM.
 */
int socket_end_new(unsigned family, unsigned type, unsigned flags, struct file **b,
    struct sockq **in, struct sockq **out);
/* The socket loses its name and those that wait to be accepted. */
void socket_forget_name(struct socket *);
/* Those that wait to be accepted are gone; the socket does not listen any more. */
void socket_end_listening(struct socket *);
/* The error that is to be told, as a negative number; 0: none. It is told then, once. */
int socket_take_error(struct socket *);
/* The socket gets that name, which no other has, and is in the list of those with a name. names_lock held. */
void socket_take_name(struct socket *, const struct sockname *, struct inode *node);
/* The socket of the UNIX domain gets the name; n of two bytes: a name is made up for it. May sleep. */
int64_t socket_bind(struct socket *, struct sockname *);
/* The file of a name; NULL for an abstract one. A reference. May sleep. */
int socket_find_node(const struct sockname *, struct inode **);
/* The socket that has a name. node: the file of the name; NULL: the name is abstract. names_lock held. */
struct socket *socket_find_bound(const struct sockname *, const struct inode *node);
extern struct waitq connect_queue; /* connects that found a line full */
/*
 * The queue to which datagrams of the socket for a name go: a reference. -ECONNREFUSED, -EPROTOTYPE, -EPERM (the name's socket is connected to
 * another), or why there is no such name.
 */
int64_t socket_find_queue(const struct socket *, const struct sockname *, struct sockq **);
/* A name of the program's, for a socket of that family. -EINVAL, -EFAULT; AF_INET: -EAFNOSUPPORT. */
int socket_name_in(const struct file *, uint64_t from, uint64_t len, struct sockname *);
int unix_name_in(uint64_t from, uint64_t len, struct sockname *);
/* To a program that has told its room at len_at: as much as fits, and how long the name is. */
int64_t socket_name_out(const struct sockname *, uint64_t to, uint64_t len_at);

/* ---- the Internet: sockinet.c ---- */
/* No name: no port, of any address. */
struct sockname inet_no_name(void);
int inet_name_in(uint64_t from, uint64_t len, struct sockname *);
/* -EINVAL: the socket has a name; -EADDRNOTAVAIL, -EADDRINUSE. */
int64_t inet_bind(struct socket *, struct sockname *);
/* A socket without a name gets a port that is free; it may listen with the name that it has then. -EADDRINUSE. names_lock held. */
int64_t inet_ready_to_listen(struct socket *);
/*
 * Makes *n, to which the program wants to send or to connect, a name of this machine, and the socket's own name one from which it can.
 * -ENETUNREACH, -EADDRINUSE (no port is free), -EINVAL (to port 0). names_lock held.
 */
int64_t inet_ready_to_reach(struct socket *, struct sockname *n);
/* The stream socket that listens there; NULL: none. names_lock held. */
struct socket *inet_find_listener(const struct sockname *);
/*
 * The queue to which a datagram of the socket goes, a reference; NULL: to none, and it is lost. to NULL: to where the socket is connected.
 * 0, -EDESTADDRREQ, or an error of inet_ready_to_reach.
 */
int64_t inet_find_queue(struct socket *, const struct sockname *to, struct sockq **);
/* From where a message of the socket is: told to its receiver. names_lock held. */
struct sockname inet_sender(const struct socket *);

/* One transfer through a socket. */
struct move {
	struct file *m_file;
	unsigned m_flags;            /* MSG_* */
	const struct sockname *m_to; /* NULL: where the socket is connected to */
	struct note *m_note;         /* to send; NULL: none */
	struct receipt m_receipt;
};
/*
 * Moves a message. Bytes, or a negative error; the note to send is used up, whatever the result, and that of the receipt is the
 * caller's. May sleep.
 */
int64_t socket_transfer(struct move *, struct span *, bool out);
#endif
