/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interface between the two halves of the runtime: interposition (intercept.c: which calls of
 * the program are intercepted) and the memory engine (host_quire.c: what these calls do). Each
 * host_ function is called in a thread of the program, from a patched system-call site, and returns
 * what the system call would: the value, or a negative errno. No function here may use errno,
 * malloc or stdio.
 */
#ifndef QUIRE_RUN_HOST_H
#define QUIRE_RUN_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sites_note;

/*
 * Constructor time, one thread. family: FAMILY_ENV's value. 1: the program is hosted; 0: the
 * process is in no family, and every call goes to the kernel.
 */
int host_init(const char *family);

struct sites_note *host_sites(void); /* the family's note of sites; after host_init */
bool host_device(void); /* has the family a descriptor of /dev/userfaultfd? after host_init */
#define HOST_FAMILY 96u
/* FAMILY_ENV's value for executed programs, up to the PID; after host_init */
char *host_family(char out[HOST_FAMILY]);
/*
 * Before an exec: of the runtime's descriptors that one stays open by which the executed program joins, and no other, whatever
 * the program has set with fcntl for all that it finds.
 */
void host_close_on_exec(void);
long host_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
long host_munmap(void *addr, size_t len);
long host_mprotect(void *addr, size_t len, int prot);
long host_madvise(void *addr, size_t len, int advice);
long host_mremap(void *old, size_t oldlen, size_t newlen, int flags, void *newaddr);
long host_brk(void *addr);
long host_mlock(
    long nr, void *addr, size_t len, int flags); /* mlock, mlock2, munlock, munlockall by number */
/*
 * Constructor time: starts to track zeroed static data of an object, which the kernel or the loader
 * mapped; on failure the data stays the kernel's.
 */
void host_take(void *addr, size_t len);
long host_mlockall(int flags); /* -ENOMEM: not all memory can be locked, and none is locked */
long host_mincore(void *addr, size_t len, unsigned char *vec);

/* mseal: the range becomes the kernel's, and sealed. */
long host_seal(void *addr, size_t len, unsigned long flags);
/* shmat with SHM_REMAP of size bytes at a page's address; replaces existing mappings. */
long host_shmat(long id, void *addr, long flags, size_t size);
void host_brk_moved(void); /* the program has moved the break by other means than brk */
/*
 * Makes a call with one or two numeric arguments that needs a single-threaded process. If the
 * process has several threads, the kernel refuses the call.
 */
long host_alone(long nr, long a0, long a1);
bool host_single(void); /* the process has the service thread and only one thread of the program */

/* The range becomes the kernel's, with its contents. */
long host_release(void *addr, size_t len);

/*
 * Called before the program installs a filter of system calls: ends the hosting of the process.
 * -errno: the process cannot have all its memory resident.
 */
long host_leave(void);
/*
 * Called after the process has given up rights: moves it to another store, or ends its hosting.
 * hidden: other processes of its user cannot read its memory.
 */
void host_move(bool hidden);
bool host_own_process(void); /* false: the child of a vfork, or not hosted */
/* called at the program's end: publishes its counters for the report */
void host_count(void);
/* Makes the kernel stop writing to the thread's block (rseq). False: the kernel may still write. */
bool host_forget_rseq(void);
bool host_served(void); /* the service thread exists */

/* Around a fork-like clone: prepare in the parent; then, in each process first of all, parent (pid or -errno) or child. */
#define FORK_WORDS 4u
#define FORK_WORD_BYTES 128u /* one of them, at most */
struct fork_words { /* what the kernel reads or writes of the program's memory in the call */
	unsigned n;
	struct fork_range {
		uint64_t a, len;
	} range[FORK_WORDS];
};
long host_fork_prepare(const struct fork_words *); /* 0, or -errno: the caller must not fork */
void host_fork_parent(long pid);
void host_fork_child(void);

/* stop.c */
/* Ends the process with 125, after a line on standard error: quire, what, and the number rc. */
_Noreturn void host_stop(const char *what, long rc);

/* hostfd.c */
/* While these are held no descriptor of ours is made, and RLIMIT_NOFILE is what the program knows. */
void hostfd_limit_enter(void);
void hostfd_limit_exit(void);
void hostfd_limit_forked(void); /* in a forked child, alone */
/* The soft limit is about to be raised for a moment; the program has set the limit. */
void hostfd_limit_raised(uint64_t from, uint64_t to);
void hostfd_limit_set(void);
/* In a process made by vfork, before it executes a program: it has its parent's limit, although that was raised when it was made. */
void hostfd_exec(void);
/* The runtime's descriptors are closed by an exec, all but this one. */
void hostfd_close_on_exec(int but);
/*
 * Moves a descriptor of the runtime to a high number that the program does not use, close-on-exec.
 * Returns the new number.
 */
int hostfd_guard(int fd);
/* The same, but the descriptor stays open across execve(). */
int hostfd_guard_kept(int fd);
/*
 * Makes a pair of connected sockets, close-on-exec. 0 or -errno. The kernel gives them the lowest
 * numbers, so they are moved at once to the highest that the program may have: another thread's
 * open() gets another number than natively only if it falls between these few calls. If the highest
 * are in use, they stay where they are. The limit is not raised for them: a process that another
 * thread makes by vfork meanwhile would inherit that.
 */
long hostfd_pair(int s[2]);
/*
 * A descriptor of hostfd_pair for a child that is about to be forked, where it is. In the parent hostfd_unlend closes it after the
 * fork; in the child, which has one thread, hostfd_keep_lent moves it as above, and it is the child's. h_lock W.
 */
void hostfd_lend(int fd);
void hostfd_unlend(void);
int hostfd_keep_lent(void);
/* Is fd a descriptor of the runtime? */
int hostfd_ours(int fd);
/* close_range of the pieces between the runtime's descriptors, which are close-on-exec anyway. */
long hostfd_close_range(unsigned first, unsigned last, int flags);
/* In a thread with its own descriptor table: closes all descriptors but the runtime's. */
void hostfd_only_ours(bool one_by_one);
/* In a forked child: forgets descriptors that were closed. */
void hostfd_prune(void);
#endif
