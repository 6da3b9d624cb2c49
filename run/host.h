/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the interposition half of the runtime (intercept.c: which calls of the program are ours) and its memory engine
 * (host_quire.c: what they do). Each host_ call is made in a thread of the program, from a patched system-call site; it
 * answers as the system call would: the value, or a negative errno. Nothing here may use errno, malloc or stdio.
 */
#ifndef QUIRE_RUN_HOST_H
#define QUIRE_RUN_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sites_note;

/* Constructor time, one thread. family: FAMILY_ENV's value. 1: the program is hosted; 0: not inside a family, pass everything through. */
int host_init(const char *family);

struct sites_note *host_sites(void); /* of the family; after host_init */
#define HOST_FAMILY 96u
char *host_family(char out
	[HOST_FAMILY]); /* FAMILY_ENV's value for other programs, up to their PID; after host_init */
long host_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
long host_munmap(void *addr, size_t len);
long host_mprotect(void *addr, size_t len, int prot);
long host_madvise(void *addr, size_t len, int advice);
long host_mremap(void *old, size_t oldlen, size_t newlen, int flags, void *newaddr);
long host_brk(void *addr);
long host_mlock(
    long nr, void *addr, size_t len, int flags); /* mlock, mlock2, munlock, munlockall by number */
/* Constructor time: zeroed static data of an object, mapped by the kernel or the loader, becomes ours; if it cannot, it stays theirs. */
void host_take(void *addr, size_t len);
long host_mlockall(int flags); /* -ENOMEM: not all of it can be locked, and nothing is */
long host_mincore(void *addr, size_t len, unsigned char *vec);

/* mseal: the range becomes the kernel's, and sealed. */
long host_seal(void *addr, size_t len, unsigned long flags);
/* shmat with SHM_REMAP of size bytes at a page's address, whatever is there. */
long host_shmat(long id, void *addr, long flags, size_t size);
void host_brk_moved(void); /* the program has moved the break by other means than brk */
/* A call of one or two numbers for which the process may have no thread but the caller. If it has, the kernel says no. */
long host_alone(long nr, long a0, long a1);
bool host_single(void); /* the process has a thread of ours, and but one of the program's */

/* The range becomes the kernel's, with its contents. */
long host_release(void *addr, size_t len);

/* Before a filter of system calls: the process is hosted no longer. -errno: it cannot have all its memory. */
long host_leave(void);
/* The process has given up rights: it moves to another store, or is hosted no longer. hidden: others of its user cannot read its memory. */
void host_move(bool hidden);
bool host_own_process(void); /* false: the child of a vfork, or not hosted */
void host_count(void);       /* the program ends: what it did so far shall be in the report */
/* The kernel writes to the thread's block no more (rseq). False: it may. */
bool host_forget_rseq(void);
bool host_served(void); /* there is a thread of ours */

/* Around a fork-like clone: prepare in the parent; then, in each process first of all, parent (pid or -errno) or child. */
struct fork_words { /* what the kernel reads or writes of the program's memory in the call */
	unsigned n;
	struct fork_range {
		uint64_t a, len;
	} range[4];
};
long host_fork_prepare(const struct fork_words *); /* 0 or -errno: then do not fork */
void host_fork_parent(long pid);
/* shares_files: the child has its parent's table of descriptors, and gets a copy of its own. */
void host_fork_child(bool shares_files);

/* hostfd.c */
/* Moves a descriptor of ours out of the program's way (high number, close-on-exec). Answers the new number. */
int hostfd_guard(int fd);
/* The same, but programs that are executed keep it. */
int hostfd_guard_kept(int fd);
/* Is it one of ours? */
int hostfd_ours(int fd);
/* close_range of the pieces between ours, which are close-on-exec anyway. */
long hostfd_close_range(unsigned first, unsigned last, int flags);
/* In a thread with a table of its own: closes all but ours. */
void hostfd_only_ours(bool one_by_one);
/* In a forked child: forgets those that were closed. */
void hostfd_prune(void);
#endif
