/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Data of the kernel and the loader in this process: the auxiliary vector, the loaded objects,
 * their symbols. No function here calls the C library or binds to a symbol that the program could
 * define, too: see elf.c.
 */
#ifndef QUIRE_SYS_LINUX_ELF_H
#define QUIRE_SYS_LINUX_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_object {
	uint64_t base;    /* difference between addresses in memory and in the object's file */
	const char *name; /* the loader's name for the object; the program's is empty */
	const Elf64_Phdr *phdr;
	unsigned nphdr;
	const Elf64_Dyn *dyn; /* the object's dynamic section; NULL: there is none */
};

/* The entry of that type (AT_...) of the auxiliary vector; 0: there is none. */
uint64_t elf_auxv(uint64_t type);
/* Reads the vector as on kernels before 6.4. Bytes, or -errno. */
long elf_read_auxv_file(void *to, uint64_t size);
/* The object whose ELF header lies at that address. False: none does. */
bool elf_at(uint64_t header, struct elf_object *);
/* The address of a defined symbol of the object; NULL: the object has no symbol of that name. */
void *elf_symbol(const struct elf_object *, const char *name);
/*
 * Calls visit for each object that the loader has mapped, the program first, until visit returns
 * nonzero, and returns that value; else 0. No other thread may load or unload an object meanwhile.
 */
int elf_each(int (*visit)(const struct elf_object *, void *arg), void *arg);
#endif
