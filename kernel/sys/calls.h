/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one table of system calls: name, number on x86-64, number on riscv64 (the generic ones); -1:
 * that architecture has no such call. Each call is `int64_t sys_NAME(const uint64_t a[6])` and
 * returns a result or a negative error. A number that is not in the table gives ENOSYS and is
 * counted (syscall_report, /proc/quire). docs/kernel.md lists what each call leaves out.
 */
#ifndef QUIRE_KERNEL_CALLS_H
#define QUIRE_KERNEL_CALLS_H

#include <quire/types.h>

/* clang-format off */
#define CALLS(X)                                                                                                       \
	X(read, 0, 63) X(write, 1, 64) X(open, 2, -1) X(close, 3, 57) X(stat, 4, -1) X(fstat, 5, 80) X(lstat, 6, -1)       \
	X(poll, 7, -1) X(lseek, 8, 62) X(mmap, 9, 222) X(mprotect, 10, 226) X(munmap, 11, 215) X(brk, 12, 214)              \
	X(rt_sigaction, 13, 134) X(rt_sigprocmask, 14, 135) X(rt_sigreturn, 15, 139) X(ioctl, 16, 29) X(pread64, 17, 67)    \
	X(pwrite64, 18, 68) X(readv, 19, 65) X(writev, 20, 66) X(access, 21, -1) X(pipe, 22, -1) X(select, 23, -1)          \
	X(sched_yield, 24, 124) X(mremap, 25, 216) X(msync, 26, 227) X(mincore, 27, 232) X(madvise, 28, 233)                \
	X(dup, 32, 23) X(dup2, 33, -1) X(pause, 34, -1) X(nanosleep, 35, 101) X(alarm, 37, -1) X(setitimer, 38, 103)        \
	X(getpid, 39, 172) X(sendfile, 40, 71) X(clone, 56, 220) X(fork, 57, -1) X(vfork, 58, -1) X(execve, 59, 221)        \
	X(exit, 60, 93) X(wait4, 61, 260) X(kill, 62, 129) X(uname, 63, 160) X(fcntl, 72, 25) X(flock, 73, 32)              \
	X(fsync, 74, 82) X(fdatasync, 75, 83) X(truncate, 76, 45) X(ftruncate, 77, 46) X(getdents, 78, -1)                  \
	X(getcwd, 79, 17) X(chdir, 80, 49) X(fchdir, 81, 50) X(rename, 82, -1) X(mkdir, 83, -1) X(rmdir, 84, -1)            \
	X(creat, 85, -1) X(link, 86, -1) X(unlink, 87, -1) X(symlink, 88, -1) X(readlink, 89, -1) X(chmod, 90, -1)          \
	X(fchmod, 91, 52) X(chown, 92, -1) X(fchown, 93, 55) X(lchown, 94, -1) X(umask, 95, 166)                           \
	X(gettimeofday, 96, 169) X(getrlimit, 97, 163) X(getrusage, 98, 165) X(sysinfo, 99, 179) X(times, 100, 153)         \
	X(getuid, 102, 174) X(getgid, 104, 176) X(setuid, 105, 146) X(setgid, 106, 144) X(geteuid, 107, 175)                \
	X(getegid, 108, 177) X(setpgid, 109, 154) X(getppid, 110, 173) X(getpgrp, 111, -1) X(setsid, 112, 157)              \
	X(getgroups, 115, 158) X(setresuid, 117, 147) X(setresgid, 119, 149) X(getpgid, 121, 155) X(getsid, 124, 156)       \
	X(rt_sigpending, 127, 136) X(rt_sigsuspend, 130, 133) X(sigaltstack, 131, 132) X(utime, 132, -1)                    \
	X(mknod, 133, -1) X(statfs, 137, 43) X(fstatfs, 138, 44) X(mlock, 149, 228) X(munlock, 150, 229)                    \
	X(mlockall, 151, 230) X(munlockall, 152, 231) X(prctl, 157, 167) X(arch_prctl, 158, -1) X(setrlimit, 160, 164)      \
	X(sync, 162, 81) X(gettid, 186, 178) X(tkill, 200, 130) X(time, 201, -1) X(futex, 202, 98)                          \
	X(sched_setaffinity, 203, 122) X(sched_getaffinity, 204, 123) X(getdents64, 217, 61) X(set_tid_address, 218, 96)    \
	X(fadvise64, 221, 223) X(clock_gettime, 228, 113) X(clock_getres, 229, 114) X(clock_nanosleep, 230, 115)            \
	X(exit_group, 231, 94) X(tgkill, 234, 131) X(utimes, 235, -1) X(openat, 257, 56) X(mkdirat, 258, 34)                \
	X(mknodat, 259, 33) X(fchownat, 260, 54) X(newfstatat, 262, 79) X(unlinkat, 263, 35) X(renameat, 264, 38)           \
	X(linkat, 265, 37) X(symlinkat, 266, 36) X(readlinkat, 267, 78) X(fchmodat, 268, 53) X(faccessat, 269, 48)          \
	X(pselect6, 270, 72) X(ppoll, 271, 73) X(set_robust_list, 273, 99) X(utimensat, 280, 88) X(fallocate, 285, 47)      \
	X(eventfd2, 290, 19) X(dup3, 292, 24) X(pipe2, 293, 59) X(prlimit64, 302, 261) X(process_vm_readv, 310, 270)        \
	X(process_vm_writev, 311, 271) X(renameat2, 316, 276) X(getrandom, 318, 278) X(memfd_create, 319, 279)              \
	X(execveat, 322, 281) X(mlock2, 325, 284) X(copy_file_range, 326, 285) X(splice, 275, 76) X(tee, 276, 77) X(vmsplice, 278, 75) X(rseq, 334, 293) X(faccessat2, 439, 439)          \
	X(waitid, 247, 95) X(getpriority, 140, 141) X(setpriority, 141, 140) X(sched_setparam, 142, 118)                    \
	X(sched_getparam, 143, 121) X(sched_setscheduler, 144, 119) X(sched_getscheduler, 145, 120)                         \
	X(sched_get_priority_max, 146, 125) X(sched_get_priority_min, 147, 126) X(sched_rr_get_interval, 148, 127)          \
	X(getresuid, 118, 148) X(getresgid, 120, 150) X(setreuid, 113, 145) X(setregid, 114, 143) X(setgroups, 116, 159)    \
	X(getcpu, 309, 168) X(get_robust_list, 274, 100) X(getitimer, 36, 102) X(rt_sigtimedwait, 128, 137)                 \
	X(rt_sigqueueinfo, 129, 138) X(preadv, 295, 69) X(pwritev, 296, 70) X(epoll_create, 213, -1)                        \
	X(epoll_create1, 291, 20) X(epoll_ctl, 233, 21) X(epoll_wait, 232, -1) X(epoll_pwait, 281, 22)                      \
	X(shmget, 29, 194) X(shmat, 30, 196) X(shmctl, 31, 195) X(shmdt, 67, 197) X(close_range, 436, 436)                  \
	X(membarrier, 324, 283) X(personality, 135, 92) X(syncfs, 306, 267) X(sync_file_range, 277, 84)                     \
	X(readahead, 187, 213) X(clone3, 435, 435) X(mseal, 462, 462) X(sethostname, 170, 161) X(statx, 332, 291)                         \
	X(chroot, 161, 51) X(socket, 41, 198) X(socketpair, 53, 199) X(sendto, 44, 206) X(recvfrom, 45, 207)                \
	X(sendmsg, 46, 211) X(recvmsg, 47, 212) X(shutdown, 48, 210) X(getsockname, 51, 204) X(getpeername, 52, 205)        \
	X(setsockopt, 54, 208) X(getsockopt, 55, 209)                                                                       \
	X(timer_create, 222, 107) X(timer_settime, 223, 110) X(timer_gettime, 224, 108) X(timer_getoverrun, 225, 109)         \
	X(timer_delete, 226, 111) X(timerfd_create, 283, 85) X(timerfd_settime, 286, 86) X(timerfd_gettime, 287, 87)          \
	X(inotify_init, 253, -1) X(inotify_init1, 294, 26) X(inotify_add_watch, 254, 27) X(inotify_rm_watch, 255, 28) X(signalfd, 282, -1) X(signalfd4, 289, 74) X(eventfd, 284, -1)                                                         \
	X(connect, 42, 203) X(accept, 43, 202) X(bind, 49, 200) X(listen, 50, 201) X(accept4, 288, 242) X(setxattr, 188, 5) X(lsetxattr, 189, 6) X(fsetxattr, 190, 7) X(getxattr, 191, 8) X(lgetxattr, 192, 9)               \
	X(fgetxattr, 193, 10) X(listxattr, 194, 11) X(llistxattr, 195, 12) X(flistxattr, 196, 13)                              \
	X(removexattr, 197, 14) X(lremovexattr, 198, 15) X(fremovexattr, 199, 16)                                              \
	X(semget, 64, 190) X(semop, 65, 193) X(semctl, 66, 191) X(semtimedop, 220, 192) X(sendmmsg, 307, 269) X(recvmmsg, 299, 243)                        \
	X(msgget, 68, 186) X(msgsnd, 69, 189) X(msgrcv, 70, 188) X(msgctl, 71, 187)                                            \
	X(mq_open, 240, 180) X(mq_unlink, 241, 181) X(mq_timedsend, 242, 182) X(mq_timedreceive, 243, 183)                      \
	X(mq_notify, 244, 184) X(mq_getsetattr, 245, 185)                                                                      \
	X(preadv2, 327, 286) X(pwritev2, 328, 287) X(fchmodat2, 452, 452) X(reboot, 169, 142)                               \
	X(clock_settime, 227, 112) X(settimeofday, 164, 170) X(riscv_flush_icache, -1, 259) X(riscv_hwprobe, -1, 258)
/* clang-format on */

#define DECLARE(name, x86, riscv) int64_t sys_##name(const uint64_t *a);
CALLS(DECLARE)
#undef DECLARE
#endif
