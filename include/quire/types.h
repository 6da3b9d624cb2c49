/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Base types of the virtual memory system, shared by the core, its ports and its embedders.
 * Freestanding: needs only the compiler's own headers.
 */
#ifndef QUIRE_TYPES_H
#define QUIRE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VM_PAGESHIFT 12u
#define VM_PAGESIZE 4096u
#define VM_PAGEMASK ((uint64_t)VM_PAGESIZE - 1)

typedef uint64_t vaddr_t; /* a virtual address of some address space */
typedef uint64_t voff_t;  /* a byte offset in a vnode */
typedef uint32_t pfn_t;   /* a frame number: 0 .. nframes-1 */
#define PFN_INVALID ((pfn_t)0xffffffffu)

static inline uint64_t vm_page_trunc(uint64_t x) { return x & ~VM_PAGEMASK; }
static inline uint64_t vm_page_round(uint64_t x) { return (x + VM_PAGEMASK) & ~VM_PAGEMASK; }
static inline uint64_t vm_btop(uint64_t bytes) { return bytes >> VM_PAGESHIFT; }
static inline uint64_t vm_ptob(uint64_t pages) { return pages << VM_PAGESHIFT; }

/*
 * Every call that can fail returns one of these, never an errno. A port turns fault results into signals:
 * NOMAP = SIGSEGV/MAPERR, PROT = SIGSEGV/ACCERR, IO and EOF = SIGBUS.
 */
enum vm_err {
	VM_OK = 0,
	VM_NOMAP,  /* no segment at that address */
	VM_PROT,   /* the segment's protection forbids it */
	VM_ACCESS, /* more than the segment's maximum protection was asked for */
	VM_NOMEM,  /* no frame or no memory for a structure, after reclaim was tried */
	VM_NOSWAP, /* the swap reservation failed: nothing was changed */
	VM_IO,     /* the backing store failed or lost the page */
	VM_EOF,    /* past the end of the object */
	VM_LOCKED, /* the range is soft-locked or wired */
	VM_INVAL,  /* a bad argument */
	VM_EXIST,  /* another mapping is there already, or another page has the name */
	VM_NOTSUP, /* this driver or machine does not support it */
	VM_LIMIT,  /* a limit of the address space or group was reached */
	VM_RETRY, /* for retries inside the core: state changed while a lock was dropped; the caller
	           * starts again */
};
/* A constant text of a few words; "unknown" for another number. */
const char *vm_err_name(enum vm_err e);

/* Protections; the same bits are a translation's attributes. */
#define PROT_R 1u
#define PROT_W 2u
#define PROT_X 4u

enum fault_type { F_INVAL, F_PROT, F_SOFTLOCK, F_SOFTUNLOCK };
enum seg_rw { S_READ, S_WRITE, S_EXEC, S_OTHER };

struct vm;
struct as;
struct seg;
struct page;
struct vnode;
struct hat;
struct mach;
struct anon_map;

#endif
