/* SPDX-License-Identifier: BSD-2-Clause */
/* See swapfile.h. */
#include "store/swapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

static char reason[512];

static int refuse_file(const char **why, const char *path, const char *what)
{
	(void)snprintf(
	    reason, sizeof reason, "'%s': %s; name another place with --swap PATH", path, what);
	*why = reason;
	return -1;
}

/* Files of these file systems lie in memory: paging out to them would free no memory. */
static int is_memory(int rc, const struct statfs *fs)
{
	return rc == 0 &&
	    (fs->f_type == 0x01021994 /* tmpfs */ ||
		(unsigned)fs->f_type == 0x858458f6u /* ramfs */);
}

static const char *default_place(void)
{
	const char *tmp = getenv("TMPDIR");
	struct statfs fs;
	struct stat st;

	return tmp != NULL && stat(tmp, &st) == 0 && S_ISDIR(st.st_mode) &&
		!is_memory(statfs(tmp, &fs), &fs)
	    ? tmp
	    : "/var/tmp";
}

static int open_unnamed(const char *path, int isdir, int flags)
{
	if (isdir) {
		int fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
		char name[4096];

		if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
			return fd;
		(void)snprintf(name, sizeof name, "%s/quire-swap-%d", path, (int)getpid());
		return open_unnamed(name, 0, flags);
	}
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | flags, 0600);
	/* EINVAL: the file system has no direct I/O, but the name was created */
	if (fd >= 0 || errno == EINVAL)
		(void)unlink(path);
	return fd;
}

int swapfile_open(const char *path, uint64_t size, bool force, const char **why)
{
	struct statvfs vfs;
	struct statfs fs;
	struct stat st;
	int fd, isdir;

	if (path == NULL || *path == '\0')
		path = default_place();
	isdir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
	if (isdir && st.st_nlink == 0)
		return refuse_file(why, path, "this directory has been removed");
	if (!isdir && path[strlen(path) - 1] == '/')
		return refuse_file(why, path, "there is no such directory");
	if (!isdir && stat(path, &st) == 0)
		return refuse_file(why, path, "exists already and will not be overwritten");
	fd = open_unnamed(path, isdir, O_DIRECT);
	if (fd < 0 && errno == EINVAL)
		fd = open_unnamed(path, isdir, 0);
	if (fd < 0 && errno == ENOENT)
		return refuse_file(why, path,
		    isdir ? "no file can be made in this directory" : "there is no such directory");
	if (fd < 0)
		return refuse_file(why, path, strerror(errno));
	if (!force && is_memory(fstatfs(fd, &fs), &fs)) {
		(void)close(fd);
		return refuse_file(why, path,
		    "this is a tmpfs, whose files are memory themselves (--force takes it all the same)");
	}
	if (fstatvfs(fd, &vfs) == 0 && (uint64_t)vfs.f_bavail * vfs.f_frsize < size) {
		char what[64];

		(void)close(fd);
		(void)snprintf(what, sizeof what, "less than %llu MiB are free there",
		    (unsigned long long)(size >> 20));
		return refuse_file(why, path, what);
	}
	if (ftruncate(fd, (off_t)size) != 0) {
		int e = errno;

		(void)close(fd);
		return refuse_file(why, path, strerror(e));
	}
	return fd;
}

int swapfile_reserve(int fd, uint64_t size, const char **why)
{
	struct statvfs vfs;
	uint64_t room =
	    fstatvfs(fd, &vfs) == 0 ? (uint64_t)vfs.f_bavail * vfs.f_frsize : UINT64_MAX;
	int e = ENOSPC;

	/*
	 * checked first: a failing fallocate takes all free space before it fails, and other
	 * programs would find the disk full
	 */
	while (size <= room) {
		if (fallocate(fd, 0, 0, (off_t)size) == 0 || errno == EOPNOTSUPP || errno == ENOSYS)
			return 0;
		if (errno != EINTR) {
			e = errno;
			break;
		}
	}
	(void)!ftruncate(fd, 0); /* the space taken so far */
	room = fstatvfs(fd, &vfs) == 0 ? (uint64_t)vfs.f_bavail * vfs.f_frsize
				       : 0; /* another process may have filled the disk meanwhile */
	(void)snprintf(reason, sizeof reason,
	    "%llu MiB cannot be set aside there: %s (%llu MiB are free)",
	    (unsigned long long)(size >> 20), strerror(e), (unsigned long long)(room >> 20));
	*why = reason;
	return -1;
}
