/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sites of a C library that this process does not run: the command notes them in the family's
 * memory before a program searches.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run/sites.h"

/*
 * A mapped file of size bytes at base. The bytes that are read must lie at the offset that equals
 * their address. 0: they do not.
 */
static int library_file(const uint8_t *base, size_t size, struct library *lib)
{
	const Elf64_Ehdr *eh = (const void *)base;
	const Elf64_Phdr *ph = (const void *)(base + eh->e_phoff);
	struct elf_object o = { .base = (uint64_t)base, .phdr = ph, .nphdr = eh->e_phnum };

	if (size < sizeof *eh || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 ||
	    eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_phoff > size ||
	    eh->e_phnum > (size - eh->e_phoff) / sizeof *ph)
		return 0;
	for (unsigned i = 0; i < eh->e_phnum; i++, ph++) {
		if (ph->p_offset > size || ph->p_filesz > size - ph->p_offset)
			return 0;
		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_W) == 0 &&
		    ph->p_vaddr != ph->p_offset)
			return 0;
		if (ph->p_type == PT_DYNAMIC)
			o.dyn = (const void *)(base + ph->p_offset);
	}
	sites_take_object(lib, &o, base);
	return lib->text != NULL;
}

void sites_note_file(const char *path, struct sites_note *note)
{
	uint8_t *site[MAXSITES];
	struct library lib = { 0 };
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *p = fd >= 0 && fstat(fd, &st) == 0
	    ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
	    : MAP_FAILED;

	if (fd >= 0)
		(void)close(fd);
	if (p == MAP_FAILED)
		return;
	if (library_file(p, (size_t)st.st_size, &lib))
		(void)sites_find(&lib, note, site);
	(void)munmap(p, (size_t)st.st_size);
}
