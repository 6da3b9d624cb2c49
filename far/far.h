/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Far swap: a block device of 64 KiB units on an engine that other people run (an NBD server, Redis, a Redis Cluster) or in
 * an encrypted file. This header is the seam between the device (device.c) and its engines (engine_*.c).
 *
 * Vocabulary. A request reads, writes or trims a part of one unit. A link is a connection to an
 * engine until the first failure of its transport; then the device makes a new link. The device
 * keeps each request until it is answered, and can ask it again on a new link: engines need not
 * remember requests over a failure.
 *
 * Everything here runs in one thread, which waits in poll() (server.c). No function of this folder
 * may be used in a hosted program.
 */
#ifndef QUIRE_FAR_H
#define QUIRE_FAR_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAR_UNIT 65536u  /* bytes; a request lies within one */
#define FAR_SECTOR 4096u /* bytes; requests begin and end at multiples of a sector */
#define FAR_WHY 256u     /* room for one line with a cause */
#define FAR_FDS 32u      /* descriptors of one link, at most */

/*
 * FAR_TRIM: the unit's contents are no longer needed. FAR_TOUCH: the contents are still needed
 * (engines forget units of dead runs).
 */
enum far_op { FAR_READ, FAR_WRITE, FAR_TRIM, FAR_TOUCH };

struct far_io {
	struct far_io *next, *prev; /* the device's list */
	struct far_io *link;        /* the engine's list */
	struct far_device *device;
	enum far_op op;
	uint32_t len; /* bytes */
	uint64_t at;  /* byte offset in the device */
	/*
	 * len bytes; NULL except for reads and writes. With encryption a write changes the buffer
	 */
	void *buf;
	uint64_t since; /* ns: when the request was first asked */
	void (*done)(struct far_io *,
	    int err); /* err: 0, or -EIO (lost or wrong), -ENOSPC (full). Called once */
	void *arg;    /* the caller's */
	bool sealed;  /* a write: buf is encrypted already */
	bool found;   /* a completed trim: the unit existed, as far as the engine tells */
};

/* Where the engine is: a parsed URL. Strings are never NULL; password is wiped by far_url_wipe. */
enum far_scheme { FAR_FILE, FAR_NBD, FAR_REDIS, FAR_CLUSTER };
#define FAR_HOSTS 16u
struct far_url {
	enum far_scheme scheme;
	bool tls;
	char text[512]; /* the URL without its password, for messages */
	char user[64], password[256];
	unsigned nhosts; /* 1, but for a cluster */
	struct {
		char host[200];
		char port[8];
	} host[FAR_HOSTS];
	char path[512];   /* file name, or NBD export, or the number of a Redis database */
	char socket[128]; /* a Unix socket; else "" */
};

struct far_settings {
	char run[40];        /* the name of this run: keys begin with it */
	uint64_t size;       /* bytes wanted; 0: all that the engine has */
	uint64_t keep_free;  /* a file: bytes of its file system that the file leaves free */
	uint32_t timeout_ms; /* how long a lost engine is waited for */
	uint32_t replicas;   /* Redis: replicas that must have a write before it counts */
	uint32_t expire_s;   /* Redis: seconds after the end of the run at which keys expire */
	const char *
	    ca_file; /* TLS: certificates to trust; NULL: the system's. NBD: the folder with ca-cert.pem; NULL: only keys are in order */
	const char *tls_psk; /* NBD with TLS: file of pre-shared keys, or NULL */
	/*
	 * the size is reduced to the present room of the engine; an engine without room is refused
	 */
	bool fit;
	bool look; /* nothing will be stored: the engine is only asked for its size */
	uint64_t
	    *high; /* where the device keeps the highest unit ever written plus 1; NULL: nowhere */
};

struct far_link;
struct far_ops {
	bool fo_leaves_keys; /* units of a killed run stay at the engine, under the run's name */
	/*
	 * Connects within wait_ms. NULL, with one line in why. *retry: a later try may succeed (no
	 * server answers now).
	 */
	struct far_link *(*fo_open)(const struct far_url *, const struct far_settings *,
	    uint32_t wait_ms, bool *retry, char why[FAR_WHY]);
	uint64_t (*fo_size)(
	    const struct far_link *); /* bytes of the device; UINT64_MAX: no bound is known */
	/*
	 * Takes the request: far_done() will be called, unless fo_work fails first. False: the link
	 * can take no more requests now.
	 */
	bool (*fo_submit)(struct far_link *, struct far_io *);
	/*
	 * Fills fds with the descriptors to wait for and returns their number; *wake_ms: time after
	 * which fo_work must be called in any case (-1: none).
	 */
	unsigned (*fo_fds)(struct far_link *, struct pollfd fds[FAR_FDS], int *wake_ms);
	/*
	 * Does all work that is possible without waiting. 0; else the link is dead (one line in
	 * why) and will answer no further request.
	 */
	int (*fo_work)(struct far_link *, const struct pollfd *fds, unsigned n, char why[FAR_WHY]);
	/* Ends the link. erase: the run is over, which the server may be told. */
	void (*fo_close)(struct far_link *, bool erase);
};
extern const struct far_ops far_file, far_nbd, far_redis;
const struct far_ops *far_engine(enum far_scheme); /* engines.c */

/*
 * Called by engines to answer a request: the device removes the request from its list and decrypts
 * read data.
 */
void far_done(struct far_io *, int err);
/* Gives the cause of the error in the next far_done() of that request: one line for users. */
void far_note(struct far_io *, const char *text);

/* ---- url.c ---- */
/*
 * Parses text: file:PATH, nbd://host[:port]/export, nbds://…, nbd+unix:///export?socket=PATH,
 * redis://[user[:password]@] host[:port][/db], rediss://…, redis+cluster://[…@]host:port,…; false:
 * one line in why. A word that is not a URL gets no error of its own: far_is_url tells it apart.
 */
bool far_is_url(const char *text);
bool far_url_parse(const char *text, struct far_url *, char why[FAR_WHY]);
void far_url_wipe(struct far_url *);

/* ---- crypt.c: AES-256 in XTS mode, a sector of FAR_SECTOR bytes at a time, its number the tweak ---- */
struct far_crypt;
/*
 * Makes a key from the kernel's random numbers, in memory that is neither swapped nor dumped. Only
 * one key may exist, and this is the first call of OpenSSL in the process. NULL: one line in why.
 */
struct far_crypt *far_crypt_new(char why[FAR_WHY]);
void far_crypt_free(struct far_crypt *); /* wipes the key; NULL is allowed */
bool far_seal(struct far_crypt *, void *buf, uint32_t len, uint64_t at); /* in place */
bool far_unseal(struct far_crypt *, void *buf, uint32_t len, uint64_t at);

/* ---- device.c ---- */
struct far_device;
/*
 * Opens a device on that engine (far_engine(url->scheme)). NULL: one line in why. crypt may be
 * NULL; the caller keeps it.
 */
struct far_device *far_device_open(const struct far_ops *engine, const struct far_url *,
    const struct far_settings *, struct far_crypt *, char why[FAR_WHY]);
uint64_t far_device_size(const struct far_device *);
void far_device_submit(struct far_device *, struct far_io *);
/*
 * Waits up to wait_ms (-1: forever) for an event of the engine or of fd (-1: none), and does the
 * work that is due. True: fd has an event.
 */
bool far_device_wait(struct far_device *, int fd, int wait_ms);
/* Returns the ms for which the caller need not call the device; 0: a request is under way. */
int far_device_nap_ms(const struct far_device *);
/*
 * 0: the engine answers; else the time in ns since which the device waits for it. *why: the last
 * error.
 */
uint64_t far_device_away(const struct far_device *, const char **why);
/*
 * Ends the device; erase: also removes the units that this run stored. Requests under way end with
 * -EIO.
 */
void far_device_close(struct far_device *, bool erase);

uint64_t far_now(void); /* ns, monotonic; clock.c */
#endif
