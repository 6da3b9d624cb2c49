/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel and the loader have put into this process: the auxiliary vector, the loaded objects, their symbols. Nothing
 * here calls the C library, and nothing is bound by a name that the program could define, too: see elf.c.
 */
#ifndef QUIRE_SYS_LINUX_ELF_H
#define QUIRE_SYS_LINUX_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_object {
	uint64_t base;    /* what is added to the addresses in its file */
	const char *name; /* as the loader has it; the program's own is empty */
	const Elf64_Phdr *phdr;
	unsigned nphdr;
	const Elf64_Dyn *dyn; /* its dynamic section; NULL: it has none */
};

/* The entry of that type (AT_...) of the auxiliary vector; 0: there is none. */
uint64_t elf_auxv(uint64_t type);
/* The vector as before Linux 6.4. Bytes, or -errno. */
long elf_read_auxv_file(void *to, uint64_t size);
/* The object whose ELF header lies at that address. False: none does. */
bool elf_at(uint64_t header, struct elf_object *);
/* The address of a defined symbol of the object; NULL: it has none of that name. */
void *elf_symbol(const struct elf_object *, const char *name);
/*
 * Calls visit for each object that the loader has mapped, the program first, until it answers nonzero, and returns that; else 0.
 * No other thread may load or unload one meanwhile.
 */
int elf_each(int (*visit)(const struct elf_object *, void *arg), void *arg);
#endif
