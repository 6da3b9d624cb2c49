/* SPDX-License-Identifier: BSD-2-Clause */
/* Declarations for every part of the kernel: memory, strings, errors, the vm. */
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
	/*
	 * never seen by programs: the call is repeated or returns EINTR, depending on the signal's
	 * action
	 */
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
	EDOM = 33,
	ERANGE = 34,
	EDEADLK = 35,
	ENAMETOOLONG = 36,
	ENOLCK = 37,
	ENOSYS = 38,
	ENOTEMPTY = 39,
	ELOOP = 40,
	ENOMSG = 42,
	EIDRM = 43,
	EOVERFLOW = 75,
	ENOTSOCK = 88,
	EDESTADDRREQ = 89,
	EMSGSIZE = 90,
	EPROTOTYPE = 91,
	ENOPROTOOPT = 92,
	EPROTONOSUPPORT = 93,
	ESOCKTNOSUPPORT = 94,
	EOPNOTSUPP = 95,
	EAFNOSUPPORT = 97,
	EADDRINUSE = 98,
	EADDRNOTAVAIL = 99,
	ENETUNREACH = 101,
	ECONNABORTED = 103,
	ECONNRESET = 104,
	ENOBUFS = 105,
	EISCONN = 106,
	ENOTCONN = 107,
	ETOOMANYREFS = 109,
	ETIMEDOUT = 110,
	ECONNREFUSED = 111,
	EINPROGRESS = 115,
	ERESTART = 512,
	ERESTARTNOHAND =
	    514, /* the call is made again unless a handler runs, with SA_RESTART or not */
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
/*
 * Makes the vm and the kernel's space; called by the first thread, at the start. Panics if memory
 * is too small.
 */
void memory_init(void);

/* Kernel stacks: memory.c. */
bool stacks_ready(void);
bool stack_alloc(vaddr_t *);
void stack_free(vaddr_t);
/*
 * Writes the stack of a sleeping thread to swap; and reads the stack back and locks it. VM_NOMEM,
 * VM_IO: the stack could not be read yet.
 */
void stack_swapout(vaddr_t);
enum vm_err stack_swapin(vaddr_t);

bool thread_has_signal(
    struct thread *); /* true: a signal is pending that the program does not block */

int err_of(enum vm_err); /* returns a negative error number for a system call, or 0 */

/* Finds a word name=value of the command line. False: there is none of that name. */
bool cmdline_get(const char *name, char *value, size_t room);
uint64_t cmdline_number(const char *name, uint64_t otherwise);
uint64_t parse_number(const char *, const char **end);

/* Random numbers for placing: seeded by the machine, or by seed= for reproducible runs. */
uint64_t random_next(void);

/*
 * A thread of the kernel brackets its own work by these two, and holds no lock at work_begin. At
 * the system's end work_begin does not return, because vm_check needs a system at rest.
 */
void work_begin(void);
void work_end(void);

/* Ends the system: writes all dirty data, runs vm_check, and switches the machine off. */
_Noreturn void kernel_shutdown(int status);
#endif
