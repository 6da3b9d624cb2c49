/* SPDX-License-Identifier: BSD-2-Clause */
/* inotify: what programs that watch files are told. A part of the program `programs`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "programs.h"

#define CHANGES                                                                                    \
	(IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVE | IN_CREATE | IN_DELETE |                \
	    IN_DELETE_SELF | IN_MOVE_SELF)

static int watcher;
static uint32_t cookie; /* of the last event */
static char dir[64], path[2][96];

static const char *in_dir(int k, const char *name)
{
	snprintf(path[k], sizeof(path[k]), "%s/%s", dir, name);
	return path[k];
}

/* Is the next event this one? name NULL: without a name. */
static int next_is(int wd, uint32_t mask, const char *name)
{
	static char buf[4096] __attribute__((aligned(8)));
	static ssize_t have, at;
	const struct inotify_event *e = (const void *)(buf + at);

	if (at == have) {
		at = 0;
		e = (const void *)buf;
		if ((have = read(watcher, buf, sizeof(buf))) <= 0) {
			have = 0;
			return 0;
		}
	}
	at += (ssize_t)(sizeof(*e) + e->len);
	cookie = e->cookie;
	return e->wd == wd && e->mask == mask && (name == NULL) == (e->len == 0) &&
	    (name == NULL || strcmp(e->name, name) == 0);
}

static int nothing_more(void) { return !next_is(0, 0, NULL) && errno == EAGAIN; }

static void watch_contents(int wd)
{
	int f = open(in_dir(0, "a"), O_CREAT | O_WRONLY, 0600);

	CHECK(next_is(wd, IN_CREATE, "a") && nothing_more());
	CHECK(write(f, "x", 1) == 1 && write(f, "x", 1) == 1);
	CHECK(next_is(wd, IN_MODIFY, "a") && nothing_more()); /* the same twice is told once */
	CHECK(ftruncate(f, 0) == 0 && next_is(wd, IN_MODIFY, "a"));
	CHECK(fchmod(f, 0644) == 0 && next_is(wd, IN_ATTRIB, "a"));
	close(f);
	CHECK(next_is(wd, IN_CLOSE_WRITE, "a") && nothing_more());
	f = open(in_dir(0, "a"), O_RDONLY);
	close(f);
	CHECK(nothing_more());
}

static void watch_names(int wd)
{
	uint32_t from;

	CHECK(rename(in_dir(0, "a"), in_dir(1, "b")) == 0);
	CHECK(next_is(wd, IN_MOVED_FROM, "a"));
	from = cookie;
	CHECK(next_is(wd, IN_MOVED_TO, "b") && from == cookie && from != 0 && nothing_more());
	CHECK(mkdir(in_dir(0, "s"), 0700) == 0 && next_is(wd, IN_CREATE | IN_ISDIR, "s"));
	CHECK(rmdir(in_dir(0, "s")) == 0 && next_is(wd, IN_DELETE | IN_ISDIR, "s"));
	CHECK(link(in_dir(0, "b"), in_dir(1, "c")) == 0 && next_is(wd, IN_CREATE, "c"));
	CHECK(unlink(in_dir(0, "c")) == 0 && next_is(wd, IN_DELETE, "c"));
	CHECK(symlink("b", in_dir(0, "l")) == 0 && next_is(wd, IN_CREATE, "l"));
	CHECK(unlink(in_dir(0, "l")) == 0 && next_is(wd, IN_DELETE, "l") && nothing_more());
}

/* A file that is watched for itself, too, to its end; then the directory's. */
static void watch_ends(int wd)
{
	int own = inotify_add_watch(watcher, in_dir(0, "b"), CHANGES);
	int unread = 0;

	CHECK(own > 0 && own != wd);
	CHECK(inotify_add_watch(
		  watcher, in_dir(0, "b"), IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF) == own);
	CHECK(rename(in_dir(0, "b"), in_dir(1, "e")) == 0);
	CHECK(next_is(wd, IN_MOVED_FROM, "b") && next_is(wd, IN_MOVED_TO, "e"));
	CHECK(next_is(own, IN_MOVE_SELF, NULL) && nothing_more());
	CHECK(unlink(in_dir(0, "e")) == 0);
	CHECK(next_is(own, IN_ATTRIB, NULL) && next_is(own, IN_DELETE_SELF, NULL));
	CHECK(next_is(own, IN_IGNORED, NULL) && next_is(wd, IN_DELETE, "e"));
	CHECK(fails(inotify_rm_watch(watcher, own), EINVAL) && nothing_more());
	CHECK(rmdir(dir) == 0 && ioctl(watcher, FIONREAD, &unread) == 0 && unread == 32);
	CHECK(next_is(wd, IN_DELETE_SELF, NULL) && next_is(wd, IN_IGNORED, NULL) && nothing_more());
}

static void a_watched_directory_tells_what_happens(void)
{
	static const char *const places[] = { "/tmp", "/dev/shm" };

	for (unsigned i = 0; i < 2; i++) {
		struct pollfd p = { .events = POLLIN };
		int wd;

		p.fd = watcher = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		snprintf(dir, sizeof(dir), "%s/watched.%d", places[i], (int)getpid());
		CHECK(watcher >= 0 && mkdir(dir, 0700) == 0);
		CHECK((wd = inotify_add_watch(watcher, dir, CHANGES | IN_ONLYDIR)) > 0);
		CHECK(nothing_more() && poll(&p, 1, 0) == 0);
		watch_contents(wd);
		watch_names(wd);
		watch_ends(wd);
		close(watcher);
	}
}

static void *create_and_close(void *arg)
{
	close(open(in_dir(0, "f"), O_CREAT | O_WRONLY, 0600));
	return arg;
}

/* Once such programs could only look again and again. */
static void a_read_waits_for_an_event(void)
{
	static const char *const wrong[] = { "/tmp/none", "/proc/self/maps" };
	pthread_t t;
	int wd;

	watcher = inotify_init1(0);
	snprintf(dir, sizeof(dir), "/tmp/waited.%d", (int)getpid());
	CHECK(mkdir(dir, 0700) == 0);
	CHECK((wd = inotify_add_watch(watcher, dir, IN_CLOSE_WRITE | IN_ONESHOT)) > 0);
	pthread_create(&t, NULL, create_and_close, NULL);
	CHECK(next_is(wd, IN_CLOSE_WRITE, "f") && next_is(wd, IN_IGNORED, NULL));
	pthread_join(t, NULL);
	CHECK(fails(inotify_add_watch(watcher, wrong[0], IN_MODIFY), ENOENT));
	CHECK(fails(inotify_add_watch(watcher, wrong[1], IN_MODIFY | IN_ONLYDIR), ENOTDIR));
	CHECK(fails(inotify_add_watch(watcher, dir, 0), EINVAL));
	CHECK(fails(inotify_add_watch(0, dir, IN_MODIFY), EINVAL));
	CHECK(fails(inotify_init1(1), EINVAL));
	CHECK(unlink(in_dir(0, "f")) == 0 && rmdir(dir) == 0);
	close(watcher);
}

const struct test notify_tests[] = {
	T(a_watched_directory_tells_what_happens, 1),
	T(a_read_waits_for_an_event, 1),
	{ NULL, NULL, 0 },
};
