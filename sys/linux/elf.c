/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The objects of this process, found without the C library.
 *
 * A preloaded library may not call dl_iterate_phdr(), getauxval() or clock_gettime(): each of them
 * is an exported symbol, so the program's function of that name would be called, perhaps before the
 * program is ready for it. The kernel gives the auxiliary vector by a system call since Linux 6.4
 * (PR_GET_AUXV), before by a file, whose descriptor takes a number for a moment; so the vector is
 * read once, when the library starts. The vector has the loader's address; the loader's symbol
 * table has _r_debug, which exists for debuggers and lists all objects.
 *
 * Addresses in a dynamic section are relocated in place by the loader, but not addresses in the
 * kernel's object (vDSO) and in the image of a file. An address below the object's base was not
 * relocated.
 *
 * Left out: objects that are not mapped from their file's beginning (prelinked ones); such objects
 * are skipped.
 */
#include "sys/linux/elf.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"

#define GET_AUXV 0x41555856 /* PR_GET_AUXV */
#define PAGE 4096u

#define VECTOR 64u
static Elf64_auxv_t vector[VECTOR]; /* every thread reads the same value */
static long vector_bytes;           /* 0: not read yet, or not available */

long elf_read_auxv_file(void *to, uint64_t size)
{
	long fd = sys_call4(SYS_openat, AT_FDCWD, (long)"/proc/self/auxv", O_RDONLY | O_CLOEXEC, 0);
	long n = fd < 0 ? fd : sys_call3(SYS_read, fd, (long)to, (long)size);

	if (fd >= 0)
		(void)sys_call1(SYS_close, fd);
	return n;
}

uint64_t elf_auxv(uint64_t type)
{
	if (vector_bytes <= 0)
		vector_bytes = sys_call5(SYS_prctl, GET_AUXV, (long)vector, sizeof vector, 0, 0);
	if (vector_bytes <= 0)
		vector_bytes = elf_read_auxv_file(vector, sizeof vector);
	for (unsigned i = 0; vector_bytes > 0 && i < VECTOR && vector[i].a_type != AT_NULL; i++)
		if (vector[i].a_type == type)
			return vector[i].a_un.a_val;
	return 0;
}

static bool is_mapped(uint64_t addr)
{
	unsigned char in;

	return sys_call3(SYS_mincore, (long)(addr & ~(uint64_t)(PAGE - 1)), PAGE, (long)&in) == 0;
}

/*
 * Finds the dynamic section and the base by the program headers. header: address of the object's
 * first page.
 */
static void take_headers(struct elf_object *o, uint64_t header)
{
	bool based = false;

	o->base = header;
	/* the first load address; of a program at fixed addresses the program's address */
	for (unsigned i = 0; i < o->nphdr && !based; i++)
		if (o->phdr[i].p_type == PT_LOAD) {
			o->base = header - (o->phdr[i].p_vaddr - o->phdr[i].p_offset);
			based = true;
		}
	o->dyn = NULL;
	for (unsigned i = 0; i < o->nphdr; i++)
		if (o->phdr[i].p_type == PT_DYNAMIC)
			o->dyn = (const Elf64_Dyn *)(o->base + o->phdr[i].p_vaddr);
}

bool elf_at(uint64_t header, struct elf_object *o)
{
	const Elf64_Ehdr *eh = (const Elf64_Ehdr *)header;

	if (header == 0 || !is_mapped(header) || eh->e_ident[EI_MAG0] != ELFMAG0 ||
	    eh->e_ident[EI_MAG1] != ELFMAG1 || eh->e_ident[EI_MAG2] != ELFMAG2 ||
	    eh->e_ident[EI_MAG3] != ELFMAG3 || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_phoff + eh->e_phnum * sizeof(Elf64_Phdr) > PAGE)
		return false;
	*o = (struct elf_object){
		.name = "", .phdr = (const Elf64_Phdr *)(header + eh->e_phoff), .nphdr = eh->e_phnum
	};
	take_headers(o, header);
	return true;
}

static bool same_text(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b)
		a++, b++;
	return *a == *b;
}

struct tables {
	const Elf64_Sym *sym;
	const char *str;
	const uint32_t *gnu;
};

static bool find_tables(const struct elf_object *o, struct tables *t)
{
	*t = (struct tables){ 0 };
	for (const Elf64_Dyn *d = o->dyn; d != NULL && d->d_tag != DT_NULL; d++) {
		uint64_t at = d->d_un.d_ptr + (d->d_un.d_ptr < o->base ? o->base : 0);

		if (d->d_tag == DT_SYMTAB)
			t->sym = (const Elf64_Sym *)at;
		else if (d->d_tag == DT_STRTAB)
			t->str = (const char *)at;
		else if (d->d_tag == DT_GNU_HASH)
			t->gnu = (const uint32_t *)at;
	}
	return t->sym != NULL && t->str != NULL && t->gnu != NULL && t->gnu[0] != 0;
}

/* The GNU hash table: buckets, symbols before the first hashed one, words of the bloom filter, its shift; then these tables. */
void *elf_symbol(const struct elf_object *o, const char *name)
{
	struct tables t;
	uint32_t hash = 5381;

	if (!find_tables(o, &t))
		return NULL;
	for (const char *s = name; *s != '\0'; s++)
		hash = hash * 33 + (uint8_t)*s;
	const uint32_t *bucket = t.gnu + 4 + t.gnu[2] * 2, *chain = bucket + t.gnu[0];
	uint32_t i = bucket[hash % t.gnu[0]], h = 0;

	for (; i >= t.gnu[1] && (h & 1) == 0; i++) {
		h = chain[i - t.gnu[1]];
		if ((h | 1) == (hash | 1) && t.sym[i].st_shndx != SHN_UNDEF &&
		    same_text(t.str + t.sym[i].st_name, name))
			return (void *)(o->base + t.sym[i].st_value);
	}
	return NULL;
}

/*
 * Finds the program itself, whose first page need not be at the load address that the loader
 * records.
 */
static bool program_object(struct elf_object *o)
{
	uint64_t phdr = elf_auxv(AT_PHDR);

	return phdr != 0 && elf_at(phdr & ~(uint64_t)(PAGE - 1), o);
}

int elf_each(int (*visit)(const struct elf_object *, void *arg), void *arg)
{
	struct elf_object loader, o;
	uint64_t base = elf_auxv(AT_BASE);
	const struct r_debug *list;
	int r = 0;

	/*
	 * Handles a program that is an argument of the loader: the kernel then has started the
	 * loader.
	 */
	if (base != 0 ? !elf_at(base, &loader) : !program_object(&loader))
		return 0;
	list = elf_symbol(&loader, "_r_debug");
	if (list == NULL)
		return 0;
	for (const struct link_map *m = list->r_map; m != NULL && r == 0; m = m->l_next) {
		if (m == list->r_map && base != 0 ? !program_object(&o) : !elf_at(m->l_addr, &o))
			continue;
		o.name = m->l_name;
		r = visit(&o, arg);
	}
	return r;
}
