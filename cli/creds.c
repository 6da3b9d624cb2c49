/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The credentials of a process, as far as they decide which process may read another's memory: the
 * ones that ptrace_may_access() of the kernel compares. Two processes of equal credentials, neither
 * hidden nor in a sandbox, may read each other's memory natively, so they may share a store. Processes
 * of other credentials have another store.
 *
 * A process could send its greeting and then execute a program with more rights, whose credentials
 * the supervisor would then read. Hence the real user and group are compared with those that the
 * kernel attached to the message, and a process that cannot be dumped, such as one that has just
 * gained rights, shares its store with no other. /proc does not show of root's processes whether
 * they can be dumped: they report that themselves (FAMILY_ALONE), while they can still be believed.
 *
 * Left out: supplementary groups, which the kernel does not compare; Landlock's domains, which it
 * does not show.
 */
#include "creds.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Reads a file of a process in /proc, at most size - 1 bytes, as a string. */
static bool read_file(pid_t pid, const char *name, char *buf, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return false;
	n = read(fd, buf, size - 1);
	(void)close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n >= 0;
}

/* Reads the numbers of a line of /proc/PID/status; returns how many. */
static unsigned parse_numbers(
    const char *status, const char *line, int base, uint64_t *v, unsigned most)
{
	const char *p = strstr(status, line);
	unsigned n = 0;

	if (p == NULL)
		return 0;
	for (p += strlen(line); n < most; n++) {
		char *end;
		unsigned long long x = strtoull(p, &end, base);

		if (end == p || memchr(p, '\n', (size_t)(end - p)) != NULL)
			break;
		v[n] = x;
		p = end;
	}
	return n;
}

/* How many system call filters are set. */
static uint64_t count_filters(const char *status)
{
	uint64_t v;

	return parse_numbers(status, "\nSeccomp_filters:", 10, &v, 1) == 1 ||
		parse_numbers(status, "\nSeccomp:", 10, &v, 1) == 1
	    ? v
	    : 0;
}

/* Does /proc show this process under its own number? If not, the process belongs to another PID
 * namespace. */
static bool proc_is_ours(void)
{
	char self[24];
	ssize_t n = readlink("/proc/self", self, sizeof self - 1);

	self[n > 0 ? n : 0] = '\0';
	return atoi(self) == (int)getpid();
}

static uint64_t inode_of(pid_t pid, const char *name, uid_t *owner)
{
	char path[64];
	struct stat st;

	(void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	if (stat(path, &st) != 0)
		return 0;
	*owner = st.st_uid;
	return st.st_ino;
}

static uint64_t label_of(pid_t pid)
{
	uint64_t h = 0xcbf29ce484222325u;
	char text[256];

	if (!read_file(pid, "attr/current", text, sizeof text) || text[0] == '\0')
		return 0;
	for (const char *p = text; *p != '\0'; p++)
		h = (h ^ (unsigned char)*p) * 0x100000001b3u;
	return h;
}

static bool is_alive(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return pidfd >= 0 && poll(&p, 1, 0) == 0;
}

bool creds_read(int pidfd, pid_t pid, uid_t uid, gid_t gid, struct creds *c)
{
	static bool known, ours; /* taken from /proc at the first call, as is `own` */
	static uint64_t own;
	char status[4096];
	uint64_t v[4];
	uid_t owner = 0;

	memset(c, 0, sizeof *c);
	if (!known) {
		known = true;
		ours = proc_is_ours() && read_file(getpid(), "status", status, sizeof status);
		own = ours ? count_filters(status) : 0;
	}
	if (pid <= 0 || !ours || !read_file(pid, "status", status, sizeof status) ||
	    parse_numbers(status, "\nUid:", 10, v, 4) != 4)
		return false;
	for (unsigned i = 0; i < 4; i++)
		c->uid[i] = (uint32_t)v[i];
	if (parse_numbers(status, "\nGid:", 10, v, 4) != 4)
		return false;
	for (unsigned i = 0; i < 4; i++)
		c->gid[i] = (uint32_t)v[i];
	if (parse_numbers(status, "\nCapPrm:", 16, &c->permitted, 1) != 1 ||
	    parse_numbers(status, "\nCapEff:", 16, &c->effective, 1) != 1)
		return false;
	c->userns = inode_of(pid, "ns/user", &owner);
	c->label = label_of(pid);
	if (c->userns == 0 || inode_of(pid, "fd", &owner) == 0 ||
	    owner != c->uid[1]) /* the process cannot be dumped */
		return false;
	return c->uid[0] == uid && c->gid[0] == gid && count_filters(status) <= own &&
	    is_alive(pidfd);
}

bool creds_own(struct creds *c)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	bool ok = creds_read(pidfd, getpid(), getuid(), getgid(), c);

	if (pidfd >= 0)
		(void)close(pidfd);
	return ok;
}

bool creds_equal(const struct creds *a, const struct creds *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}
