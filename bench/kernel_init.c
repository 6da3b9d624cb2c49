/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first program of Debian's kernel in bench/kernel.py: it prepares that machine as Quire's kernel prepares
 * its own.
 *
 * It is /init of an initial file system and gets the path of a shell script as its argument. It loads the modules /1.ko,
 * /2.ko ..., mounts the first disk, swaps to the second, runs the script in the first disk's file system, and ends QEMU
 * by its debug port with the script's exit status.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void end(int status)
{
	sync();
	if (ioperm(0xf4, 4, 1) == 0)
		outl((unsigned)status, 0xf4);
	for (;;)
		pause();
}

static void must(int result, const char *what)
{
	if (result == 0)
		return;
	perror(what);
	end(1);
}

static void load_modules(void)
{
	char path[16];

	for (int i = 1;; i++) {
		int fd;

		snprintf(path, sizeof(path), "/%d.ko", i);
		if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
			return;
		must((int)syscall(SYS_finit_module, fd, "", 0), path);
		close(fd);
		unlink(path);
	}
}

int main(int argc, char **argv)
{
	int status;
	pid_t pid;

	mkdir("/dev", 0755);
	mkdir("/root", 0755);
	must(mount("dev", "/dev", "devtmpfs", 0, ""), "devtmpfs");
	load_modules();
	must(mount("/dev/vda", "/root", "ext4", 0, ""), "the file system");
	must(swapon("/dev/vdb", 0), "the swap disk");
	must(mount("dev", "/root/dev", "devtmpfs", 0, ""), "devtmpfs");
	must(mount("proc", "/root/proc", "proc", 0, ""), "proc");
	must(chroot("/root"), "chroot");
	must(chdir("/"), "chdir");
	if ((pid = fork()) == 0) {
		execl("/bin/sh", "sh", argc > 1 ? argv[1] : "-", (char *)NULL);
		_exit(127);
	}
	must(waitpid(pid, &status, 0) == pid ? 0 : -1, "wait");
	end(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}
