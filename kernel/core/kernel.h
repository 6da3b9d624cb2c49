/* SPDX-License-Identifier: BSD-2-Clause */
/* What every part of the kernel uses: memory, strings, errors, the one vm. */
#ifndef QUIRE_KERNEL_H
#define QUIRE_KERNEL_H

#include "kernel/core/arch.h"
#include "kernel/core/thread.h"

#include <quire/as.h>
#include <quire/kseg.h>
#include <quire/vm.h>
#include <quire/vnode.h>

/* Linux's error numbers, which programs see. */
enum {
	EPERM = 1,
	ENOENT = 2,
	ESRCH = 3,
	EINTR = 4,
	EIO = 5,
	ENXIO = 6,
	E2BIG = 7,
	ENOEXEC = 8,
	EBADF = 9,
	ECHILD = 10,
	EAGAIN = 11,
	ENOMEM = 12,
	EACCES = 13,
	EFAULT = 14,
	EBUSY = 16,
	EEXIST = 17,
	EXDEV = 18,
	ENODEV = 19,
	ENOTDIR = 20,
	EISDIR = 21,
	EINVAL = 22,
	ENFILE = 23,
	EMFILE = 24,
	ENOTTY = 25,
	ETXTBSY = 26,
	EFBIG = 27,
	ENOSPC = 28,
	ESPIPE = 29,
	EROFS = 30,
	EMLINK = 31,
	EPIPE = 32,
	ERANGE = 34,
	EDEADLK = 35,
	ENAMETOOLONG = 36,
	ENOLCK = 37,
	ENOSYS = 38,
	ENOTEMPTY = 39,
	ELOOP = 40,
	EOVERFLOW = 75,
	ENOTSOCK = 88,
	EMSGSIZE = 90,
	ENOPROTOOPT = 92,
	EPROTONOSUPPORT = 93,
	ESOCKTNOSUPPORT = 94,
	EOPNOTSUPP = 95,
	EAFNOSUPPORT = 97,
	EADDRINUSE = 98,
	EISCONN = 106,
	ENOTCONN = 107,
	ETIMEDOUT = 110,
	ECONNREFUSED = 111,
	ERESTART =
	    512, /* never seen by programs: the call is made again, or EINTR, as the signal's action says */
};

void *memcpy(void *restrict, const void *restrict, size_t);
void *memmove(void *, const void *, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);
size_t strlen(const char *);
int strcmp(const char *, const char *);
int strncmp(const char *, const char *, size_t);
char *strchr(const char *, int);
size_t strlcpy(char *, const char *, size_t);
int ksnprintf(char *, size_t, const char *, ...) __attribute__((format(printf, 3, 4)));
int kvsnprintf(char *, size_t, const char *, __builtin_va_list);

extern struct vm *the_vm;
extern struct as *the_kas;
void *kalloc(size_t); /* may sleep; NULL: no memory */
void *kzalloc(size_t);
void kfree(void *, size_t);
/* The vm and the kernel's space are made: by the first thread, at the start. Panics if memory is too short for that. */
void memory_init(void);

/* Kernel stacks: memory.c. */
bool stacks_ready(void);
bool stack_alloc(vaddr_t *);
void stack_free(vaddr_t);
/* The stack of a thread that sleeps goes to swap; and comes back, locked. VM_NOMEM, VM_IO: not yet. */
void stack_swapout(vaddr_t);
enum vm_err stack_swapin(vaddr_t);

bool thread_has_signal(
    struct thread *); /* true: a signal is pending that the program does not block */

int err_of(enum vm_err); /* a negative error number for a system call; 0 */

/* A word of the command line: name=value. False: it is not there. */
bool cmdline_get(const char *name, char *value, size_t room);
uint64_t cmdline_number(const char *name, uint64_t otherwise);
uint64_t parse_number(const char *, const char **end);

/* Numbers for placing at random: seeded from the machine, or by seed= for runs that can be repeated. */
uint64_t random_next(void);

/*
 * What threads of the kernel's own do by themselves they do between these two, holding nothing else at the first. Once the system ends
 * work_begin does not return: vm_check wants that nothing moves.
 */
void work_begin(void);
void work_end(void);

/* The system ends: everything is written, vm_check runs, the machine is switched off. */
_Noreturn void kernel_shutdown(int status);
#endif
