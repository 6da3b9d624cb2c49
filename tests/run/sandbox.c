/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reduces a root user's rights to those of a container's default profile:
 *
 *   sandbox eperm|enosys|none [-CALL] ... PROGRAM [ARGUMENT ...]
 *
 * executes the program with Docker's default set of capabilities and a seccomp filter that returns
 * EPERM or ENOSYS for userfaultfd, io_uring_*, process_madvise and pidfd_getfd; with "none" to no
 * call. The calls with the numbers -CALL are forbidden, too. Ends with status 9 if the kernel does
 * not permit this.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* docker.io/engine: oci/caps/defaults.go names the same fourteen. */
static const int kept[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FSETID, CAP_FOWNER, CAP_MKNOD,
	CAP_NET_RAW, CAP_SETGID, CAP_SETUID, CAP_SETFCAP, CAP_SETPCAP, CAP_NET_BIND_SERVICE,
	CAP_SYS_CHROOT, CAP_KILL, CAP_AUDIT_WRITE };
static const unsigned denied[] = { SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter,
	SYS_io_uring_register, SYS_process_madvise, SYS_pidfd_getfd };

static void die(const char *what)
{
	perror(what);
	exit(9);
}

static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { 0 } };
	unsigned long long set = 0;

	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		set |= 1ull << kept[i];
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if ((set >> cap & 1) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 &&
		    errno != EINVAL)
			die("PR_CAPBSET_DROP");
	for (int i = 0; i < 2; i++)
		data[i].effective = data[i].permitted = (unsigned)(set >> 32 * i);
	if (syscall(SYS_capset, &head, data) != 0)
		die("capset");
}

static void install_filter(const unsigned *nr, size_t n, int error)
{
	struct sock_filter code[64] = { BPF_STMT(
	    BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	struct sock_fprog prog = { .filter = code };
	size_t at = 1;

	for (size_t i = 0; i < n; i++) {
		code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr[i], 0, 1);
		code[at++] = (struct sock_filter)BPF_STMT(
		    BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error);
	}
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	prog.len = (unsigned short)at;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
		die("seccomp");
}

int main(int argc, char **argv)
{
	unsigned nr[24];
	size_t n = 0;
	int at = 2;
	const char *mode = argc > 2 ? argv[1] : "";
	int error = strcmp(mode, "enosys") == 0 ? ENOSYS : EPERM;

	if (strcmp(mode, "eperm") == 0 || strcmp(mode, "enosys") == 0)
		for (; n < sizeof denied / sizeof *denied; n++)
			nr[n] = denied[n];
	for (; at < argc && argv[at][0] == '-' && n < 24; at++)
		nr[n++] = (unsigned)strtoul(argv[at] + 1, NULL, 10);
	if (at >= argc)
		return 64;
	if (geteuid() == 0)
		drop_capabilities();
	if (n > 0)
		install_filter(nr, n, error);
	(void)execvp(argv[at], argv + at);
	die(argv[at]);
}
