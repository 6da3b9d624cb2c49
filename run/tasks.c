/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The threads of the process, by what the kernel lists in /proc. Workers, which the kernel makes for io_uring, are among them: they
 * are threads for calls that want a process of one thread, and a program's end does not wait for them. A worker is told by a
 * flag of the kernel's that it has before it is listed. Its name says whose worker it is, but only once it has run: until then it
 * has the name of the thread that made it. A task that has gone between the list and the look at it is none.
 *
 * The functions open files: the caller minds that the numbers of the descriptors are the program's.
 *
 * Lock: end_lock guards end_passed; innermost. Its holder has all signals blocked. A forked child makes it anew.
 */
#include "run/tasks.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include <quire/machine.h>

#include "run/text.h"
#include "sys/linux/sys.h"

#define FLAG_WORKER 0x10u /* PF_IO_WORKER */
#define FLAG_ENDS 0x4u    /* PF_EXITING */

struct task {
	uint32_t t_flags;  /* the kernel's: FLAG_* */
	uint32_t t_worker; /* of which thread a worker that has run is one; 0: none */
};

/* Of /proc/self/task/TID/stat: "TID (name) state ppid pgrp session tty tpgid flags ...". The name may have parentheses. */
static bool parse_stat(const char *stat, struct task *t)
{
	const char *at = strrchr(stat, ')');
	unsigned field = 0;

	if (at == NULL)
		return false;
	for (at++; *at != '\0' && field < 7; at++)
		field += *at == ' ';
	t->t_flags = (uint32_t)text_number(at);
	while (*stat != '(')
		stat++;
	t->t_worker = text_starts(stat, "(iou-wrk-") ? (uint32_t)text_number(stat + 9) : 0;
	return field == 7;
}

/* False: the task has gone. */
static bool read_task(const char *tid, struct task *t)
{
	char path[64] = "/proc/self/task/", stat[512];
	size_t n = strlen(path);
	long got;

	if (strlen(tid) > 16)
		return false;
	(void)strcpy(path + n, tid);
	(void)strcat(path, "/stat");
	long fd = sys_call4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	got = sys_call3(SYS_read, fd, (long)stat, sizeof stat - 1);
	(void)sys_call1(SYS_close, fd);
	if (got <= 0)
		return false;
	stat[got] = '\0';
	return parse_stat(stat, t);
}

/* How many tasks of the process `counts` is true of; 0, too, if they cannot be listed. */
static unsigned count_tasks(
    bool (*counts)(const struct task *, uint32_t tid, uint32_t arg), uint32_t arg)
{
	_Alignas(8) char buf[1024];
	unsigned n = 0;
	long got,
	    fd = sys_call4(SYS_openat, AT_FDCWD, (long)"/proc/self/task",
		O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	if (fd < 0)
		return 0;
	while ((got = sys_call3(SYS_getdents64, fd, (long)buf, sizeof buf)) > 0)
		for (long at = 0; at < got;) {
			const char *tid =
			    buf + at + 19; /* struct linux_dirent64: d_reclen at 16, d_name at 19 */
			struct task t;
			uint16_t len;

			memcpy(&len, buf + at + 16, sizeof len);
			n += tid[0] != '.' && read_task(tid, &t) &&
			    counts(&t, (uint32_t)text_number(tid), arg);
			at += len;
		}
	(void)sys_call1(SYS_close, fd);
	return n;
}

static bool is_running(const struct task *t, uint32_t tid, uint32_t arg)
{
	(void)tid;
	(void)arg;
	return (t->t_flags & (FLAG_WORKER | FLAG_ENDS)) == 0;
}

unsigned tasks_running(void) { return count_tasks(is_running, 0); }

/* The first thread stays listed after its end, as long as there is another: no thread waits for that. */
static bool is_leaving(const struct task *t, uint32_t tid, uint32_t of)
{
	return ((t->t_flags & FLAG_ENDS) != 0 && tid != (uint32_t)sys_call0(SYS_getpid)) ||
	    ((t->t_flags & FLAG_WORKER) != 0 && t->t_worker == of);
}

bool tasks_leaving(uint32_t tid) { return count_tasks(is_leaving, tid) > 0; }

static bool is_task_running(const struct task *t, uint32_t tid, uint32_t which)
{
	return tid == which && is_running(t, tid, 0);
}

static struct mach_mutex end_lock;
static uint32_t
    end_passed; /* end_lock: the last thread that is to end, and leaves another behind */

void tasks_forked(void)
{
	mach_mutex_init(&end_lock, 4, "ends");
	end_passed = 0;
}

bool tasks_end_last(void)
{
	bool last;

	mach_mutex_enter(&end_lock);
	/* of two threads that end at once, the second is the last */
	while (end_passed != 0 && count_tasks(is_task_running, end_passed) > 0)
		sys_pause();
	last = tasks_running() == 2;
	end_passed = (uint32_t)sys_call0(SYS_gettid);
	mach_mutex_exit(&end_lock);
	return last;
}
