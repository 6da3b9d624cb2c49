/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The number of threads of the process. The kernel also lists its io_uring workers, which count as
 * threads for calls that need a single-threaded process; the end of a program does not wait for
 * workers.
 *
 * The code opens a file: the caller must expect that the descriptor takes one of the program's
 * numbers.
 */
#include "run/tasks.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include "run/text.h"
#include "sys/linux/sys.h"

/* Is that task a worker of io_uring? */
static int is_worker(const char *tid)
{
	char path[64] = "/proc/self/task/", comm[8] = "";
	size_t n = strlen(path);

	if (strlen(tid) > 16)
		return 0;
	(void)strcpy(path + n, tid);
	(void)strcat(path, "/comm");
	long fd = sys_call4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	(void)sys_call3(SYS_read, fd, (long)comm, sizeof comm - 1);
	(void)sys_call1(SYS_close, fd);
	return text_starts(comm, "iou-");
}

unsigned tasks_count(bool workers)
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
			uint16_t len; /* struct linux_dirent64: d_reclen at 16, d_name at 19 */

			memcpy(&len, buf + at + 16, sizeof len);
			n += buf[at + 19] != '.' && (workers || !is_worker(buf + at + 19));
			at += len;
		}
	(void)sys_call1(SYS_close, fd);
	return n;
}
