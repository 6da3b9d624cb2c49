/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the C library makes the system calls that are ours: `mov $N,%eax; syscall`, seven bytes. A place is left out if some
 * branch nearby leads to its inside. What looks like a branch may be the middle of another instruction: so execve() must not be
 * left out for what stands before it, which is another function's and has no business inside this one.
 *
 * Reading a megabyte of code takes longer than all else at the start of a program, and a family's programs have the same
 * library as a rule. So the first notes what it found, by the library's build id, in the family's memory; the others look there
 * whether it is so. Nobody waits: while it is being written, and where the note is of another library, a program looks
 * for itself. What is noted is not believed: the bytes there are compared.
 */
#include "run/sites.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/syscall.h>

/* The build id among the notes of a segment. */
static void build_id(const uint8_t *p, size_t len, uint8_t *id)
{
	while (len >= sizeof(ElfW(Nhdr))) {
		ElfW(Nhdr) nh;
		size_t name, desc;

		memcpy(&nh, p, sizeof nh);
		name = (nh.n_namesz + 3u) & ~3u;
		desc = (nh.n_descsz + 3u) & ~3u;
		if (sizeof nh + name + desc > len)
			return;
		if (nh.n_type == NT_GNU_BUILD_ID && nh.n_namesz == 4 && nh.n_descsz == SITES_ID) {
			memcpy(id, p + sizeof nh + name, SITES_ID);
			return;
		}
		p += sizeof nh + name + desc;
		len -= sizeof nh + name + desc;
	}
}

/* The function execve in the tables that the dynamic section names: by its GNU hash, as the loader looks it up. */
static uint8_t *find_execve(const ElfW(Dyn) *dyn, ElfW(Addr) base)
{
	static const char name[] = "execve";
	const ElfW(Sym) *sym = NULL;
	const uint32_t *gnu = NULL;
	const char *str = NULL;
	uint32_t hash = 5381;

	for (; dyn->d_tag != DT_NULL; dyn++) /* the loader has added its base to these */
		if (dyn->d_tag == DT_SYMTAB)
			sym = (const ElfW(Sym) *)dyn->d_un.d_ptr;
		else if (dyn->d_tag == DT_STRTAB)
			str = (const char *)dyn->d_un.d_ptr;
		else if (dyn->d_tag == DT_GNU_HASH)
			gnu = (const uint32_t *)dyn->d_un.d_ptr;
	if (sym == NULL || str == NULL || gnu == NULL || (uintptr_t)gnu < base || gnu[0] == 0)
		return NULL;
	for (const char *s = name; *s != '\0'; s++)
		hash = hash * 33 + (uint8_t)*s;
	const uint32_t *bucket = gnu + 4 + gnu[2] * (sizeof(ElfW(Addr)) / 4), *chain = bucket + gnu[0];
	uint32_t i = bucket[hash % gnu[0]], h = 0;

	for (; i >= gnu[1] && (h & 1) == 0; i++) {
		h = chain[i - gnu[1]];
		if ((h | 1) == (hash | 1) && strcmp(str + sym[i].st_name, name) == 0)
			return (uint8_t *)(base + sym[i].st_value);
	}
	return NULL;
}

static int find_libc(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct library *lib = arg;
	const char *base = strrchr(info->dlpi_name, '/');

	(void)size;
	if (base == NULL || strncmp(base, "/libc.so", 8) != 0)
		return 0;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) != 0 && lib->text == NULL) {
			lib->text = (uint8_t *)(info->dlpi_addr + ph->p_vaddr);
			lib->len = ph->p_memsz;
		} else if (ph->p_type == PT_DYNAMIC) {
			lib->entry = find_execve((const ElfW(Dyn) *)(info->dlpi_addr + ph->p_vaddr), info->dlpi_addr);
		} else if (ph->p_type == PT_NOTE) {
			build_id((const uint8_t *)(info->dlpi_addr + ph->p_vaddr), ph->p_memsz, lib->id);
		}
	}
	return 1;
}

int sites_library(struct library *lib) { return dl_iterate_phdr(find_libc, lib) != 0 && lib->text != NULL; }

static int wanted(uint32_t nr)
{
	static const uint16_t ours[] = { SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_brk,
		SYS_clone, SYS_fork, SYS_execve, SYS_execveat, SYS_exit, SYS_mlockall, SYS_mlock, SYS_mlock2,
		SYS_munlock, SYS_mincore, SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_set_robust_list,
		SYS_ioctl };

	for (unsigned i = 0; i < sizeof ours / sizeof *ours; i++)
		if (ours[i] == nr)
			return 1;
	return 0;
}

#define NEAR 32768 /* how far from a site a branch to it is looked for */

/* The branch that some instruction at p would be, if it is one: does it go to the inside of the seven bytes? */
static int leads_into(const uint8_t *p, const uint8_t *site)
{
	const uint8_t *to = NULL;
	int32_t rel;

	if (*p == 0xeb || (*p >= 0x70 && *p <= 0x7f)) {
		to = p + 2 + (int8_t)p[1];
	} else if (*p == 0xe8 || *p == 0xe9) {
		memcpy(&rel, p + 1, 4);
		to = p + 5 + rel;
	} else if (*p == 0x0f && p[1] >= 0x80 && p[1] <= 0x8f) {
		memcpy(&rel, p + 2, 4);
		to = p + 6 + rel;
	}
	return to > site && to < site + 7;
}

/*
 * Could any of the 16 displacements of four bytes that begin at p .. p+15 lead there? A displacement counts from its own end.
 * Four loads of four lanes each, because this looks at a megabyte of code before every hosted program.
 */
static int may_lead(const uint8_t *p, const uint8_t *site)
{
	typedef uint32_t lanes __attribute__((vector_size(16)));
	uint32_t from = (uint32_t)(uintptr_t)(p + 3) - (uint32_t)(uintptr_t)site;
	lanes at = { from, from + 4, from + 8, from + 12 }, hit = { 0 };

	for (unsigned i = 0; i < 4; i++, at += 1) {
		lanes rel;

		memcpy(&rel, p + i, sizeof rel);
		hit |= (lanes)(((rel + at) & ~7u) == 0); /* up to two bytes more than it shall be */
	}
	uint64_t two[2];
	memcpy(two, &hit, sizeof two);
	return (two[0] | two[1]) != 0;
}

/* Does some branch go to the inside of the seven bytes? Looks at every byte as if code began there. */
static int branched_into(const struct library *lib, const uint8_t *site)
{
	const uint8_t *lo = site == lib->entry ? site + 7 : site - lib->text > NEAR ? site - NEAR : lib->text + 1;
	const uint8_t *end = lib->text + lib->len - 32;
	const uint8_t *hi = end - site > NEAR ? site + NEAR : end;

	for (const uint8_t *p = lo; p < hi; p += 16) {
		int closely = p > site - 160 && p < site + 160; /* there short branches reach it */

		if (!closely && !may_lead(p + 1, site))
			continue;
		for (int i = -1; i < 16; i++) /* the displacement is the second or third byte of a branch */
			if (leads_into(p + i, site))
				return 1;
	}
	return 0;
}

static int is_site(const uint8_t *p)
{
	uint32_t nr;

	memcpy(&nr, p + 1, 4);
	return p[0] == 0xb8 && p[5] == 0x0f && p[6] == 0x05 && wanted(nr);
}

static unsigned look(const struct library *lib, uint8_t **site)
{
	uint8_t *end = lib->text + lib->len - 7;
	unsigned n = 0;

	for (uint8_t *p = lib->text; p < end && n < MAXSITES; p++) {
		p = memchr(p, 0xb8, (size_t)(end - p));
		if (p == NULL)
			break;
		if (is_site(p) && !branched_into(lib, p))
			site[n++] = p;
	}
	return n;
}

/* 0: nothing is noted of this library. */
static unsigned noted(const struct library *lib, const struct sites_note *note, uint8_t **site)
{
	if (atomic_load(&note->sn_state) != SITES_NOTED || memcmp(note->sn_id, lib->id, SITES_ID) != 0 ||
	    note->sn_len != lib->len || note->sn_n > MAXSITES)
		return 0;
	for (uint32_t i = 0; i < note->sn_n; i++) {
		if (note->sn_at[i] >= lib->len - 7 || !is_site(lib->text + note->sn_at[i]))
			return 0;
		site[i] = lib->text + note->sn_at[i];
	}
	return note->sn_n;
}

unsigned sites_find(const struct library *lib, struct sites_note *note, uint8_t **site)
{
	static const uint8_t none[SITES_ID];
	uint32_t empty = SITES_EMPTY;
	unsigned n = noted(lib, note, site);

	if (n > 0)
		return n;
	n = look(lib, site);
	if (memcmp(lib->id, none, SITES_ID) == 0 ||
	    !atomic_compare_exchange_strong(&note->sn_state, &empty, SITES_WRITING))
		return n;
	memcpy(note->sn_id, lib->id, SITES_ID);
	note->sn_len = lib->len;
	note->sn_n = n;
	for (unsigned i = 0; i < n; i++)
		note->sn_at[i] = (uint32_t)(site[i] - lib->text);
	atomic_store(&note->sn_state, SITES_NOTED);
	return n;
}
