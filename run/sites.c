/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the C library makes the system calls that are ours: `mov $N,%eax; syscall`, seven bytes. A place is left out if some
 * branch nearby leads to its inside. What looks like a branch may be the middle of another instruction: so execve() must not be
 * left out for what stands before it, which is another function's and has no business inside this one, and the most frequent
 * of such middles is known. (Of the 32 of Debian 12's library one is left out: in tcgetattr(), of which nothing is wanted.)
 *
 * Reading a megabyte of code takes longer than all else at the start of a program, and a family's programs have the same
 * library as a rule. So the first notes what it found, by the library's build id, in the family's memory; the others look there
 * whether it is so. Nobody waits: while it is being written, and where the note is of another library, a program looks
 * for itself. What is noted is not believed: the bytes there are compared.
 */
#include "run/sites.h"
#include "run/calls.h"

#include <elf.h>
#include <emmintrin.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/*
 * The function execve in the tables that the dynamic section names: by its GNU hash, as the loader looks it up. It has added its base
 * to their addresses; to those of a file that is only looked at, more is to be added.
 */
static uint8_t *find_execve(const ElfW(Dyn) *dyn, ElfW(Addr) base, ElfW(Addr) more)
{
	static const char name[] = "execve";
	const ElfW(Sym) *sym = NULL;
	const uint32_t *gnu = NULL;
	const char *str = NULL;
	uint32_t hash = 5381;

	for (; dyn->d_tag != DT_NULL; dyn++)
		if (dyn->d_tag == DT_SYMTAB)
			sym = (const ElfW(Sym) *)(dyn->d_un.d_ptr + more);
		else if (dyn->d_tag == DT_STRTAB)
			str = (const char *)(dyn->d_un.d_ptr + more);
		else if (dyn->d_tag == DT_GNU_HASH)
			gnu = (const uint32_t *)(dyn->d_un.d_ptr + more);
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

/* A segment that lies at `at`, of a library at base; more: as for find_execve. */
static void take_segment(
    struct library *lib, const ElfW(Phdr) *ph, const uint8_t *at, ElfW(Addr) base, ElfW(Addr) more)
{
	if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) != 0 && lib->text == NULL) {
		lib->text = (uint8_t *)(uintptr_t)at;
		lib->len = ph->p_memsz;
	} else if (ph->p_type == PT_DYNAMIC) {
		lib->entry = find_execve((const void *)at, base, more);
	} else if (ph->p_type == PT_NOTE) {
		build_id(at, ph->p_filesz, lib->id);
	}
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

		take_segment(lib, ph, (const uint8_t *)(info->dlpi_addr + ph->p_vaddr), info->dlpi_addr, 0);
	}
	return 1;
}

/* The same of a file as it is, size bytes of which are at base. What is read must be where its address says. 0: it is not so. */
static int library_file(const uint8_t *base, size_t size, struct library *lib)
{
	const ElfW(Ehdr) *eh = (const void *)base;
	const ElfW(Phdr) *ph = (const void *)(base + eh->e_phoff);

	if (size < sizeof *eh || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_phoff > size || eh->e_phnum > (size - eh->e_phoff) / sizeof *ph)
		return 0;
	for (unsigned i = 0; i < eh->e_phnum; i++, ph++) {
		if (ph->p_offset > size || ph->p_filesz > size - ph->p_offset)
			return 0;
		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_W) == 0 && ph->p_vaddr != ph->p_offset)
			return 0;
		take_segment(lib, ph, base + ph->p_offset, (ElfW(Addr))base, (ElfW(Addr))base);
	}
	return lib->text != NULL;
}

void sites_note_file(const char *path, struct sites_note *note)
{
	uint8_t *site[MAXSITES];
	struct library lib = { 0 };
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *p =
	    fd >= 0 && fstat(fd, &st) == 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;

	if (fd >= 0)
		(void)close(fd);
	if (p == MAP_FAILED)
		return;
	if (library_file(p, (size_t)st.st_size, &lib))
		(void)sites_find(&lib, note, site);
	(void)munmap(p, (size_t)st.st_size);
}

int sites_library(struct library *lib) { return dl_iterate_phdr(find_libc, lib) != 0 && lib->text != NULL; }

static int is_site(const uint8_t *p)
{
	uint32_t nr;

	memcpy(&nr, p + 1, 4);
	return p[0] == 0xb8 && p[5] == 0x0f && p[6] == 0x05 && calls_at_site(nr);
}

#define NEAR	8192 /* how far from a site a branch to it is looked for: it would be of the same function */
#define CLOSELY 160   /* there short branches reach it */
#define MAXFOUND (2 * MAXSITES)

/* What looks like a site, in order of address. */
struct found {
	const struct library *lib;
	unsigned n;
	uint8_t *at[MAXFOUND];
	bool inside[MAXFOUND]; /* some branch goes there */
};

/* A branch at p to `to`: if that is the inside of the seven bytes of a site not far away, that is none. */
static void branch(struct found *f, const uint8_t *p, const uint8_t *to)
{
	unsigned lo = 0, hi = f->n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (f->at[mid] < to)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo-- == 0 || to >= f->at[lo] + 7 || p < f->at[lo] - NEAR || p >= f->at[lo] + NEAR)
		return;
	if (f->at[lo] != f->lib->entry || p >= f->at[lo] + 7)
		f->inside[lo] = true;
}

/* What reads as a conditional branch is the register and the offset of `mov offset(%reg),%reg`, or of its reverse, of 64 bits. */
static bool is_operand(const uint8_t *p, const uint8_t *text)
{
	return p - text >= 2 && (p[-1] == 0x8b || p[-1] == 0x89) && (p[-2] & 0xf8) == 0x48;
}

/* The short branches around a site. */
static void look_closely(struct found *f, const uint8_t *site)
{
	const uint8_t *text = f->lib->text + 1, *end = f->lib->text + f->lib->len - 32;

	for (const uint8_t *p = site - text > CLOSELY ? site - CLOSELY : text; p < end && p < site + CLOSELY; p++)
		if (*p == 0xeb || ((*p & 0xf0) == 0x70 && !is_operand(p, f->lib->text)))
			branch(f, p, p + 2 + (int8_t)p[1]);
}

/* The long branch whose opcode ends at p, if it goes to where sites from lo to hi lie. */
static void look_at(struct found *f, const uint8_t *p, unsigned lo, unsigned hi)
{
	int32_t rel;

	memcpy(&rel, p + 1, 4);
	const uint8_t *to = p + 5 + rel;
	if (to > f->at[lo] && to < f->at[hi] + 7)
		branch(f, (*p & 0xfe) == 0xe8 ? p : p - 1, to);
}

/* Where among the 16 bytes from p on the last of a long branch's opcode may be: one bit each. */
static unsigned opcodes(const uint8_t *p)
{
	__m128i b = _mm_loadu_si128((const __m128i_u *)p), before = _mm_loadu_si128((const __m128i_u *)(p - 1));
	__m128i call = _mm_cmpeq_epi8(_mm_and_si128(b, _mm_set1_epi8((char)0xfe)), _mm_set1_epi8((char)0xe8));
	__m128i cond =
	    _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(b, _mm_set1_epi8((char)0xf0)), _mm_set1_epi8((char)0x80)),
		_mm_cmpeq_epi8(before, _mm_set1_epi8(0x0f)));

	return (unsigned)_mm_movemask_epi8(_mm_or_si128(call, cond));
}

/* All that is near some site, once, as if code began at every byte of it. */
static void look_around(struct found *f)
{
	const uint8_t *text = f->lib->text + 1, *end = f->lib->text + f->lib->len - 32, *p = text;
	unsigned lo = 0, hi = 0;

	for (; lo < f->n; p += 16) {
		while (lo < f->n && p >= f->at[lo] + NEAR + 1)
			lo++;
		if (lo == f->n || p >= end)
			return;
		if (p + 16 < f->at[lo] - NEAR && f->at[lo] - text > NEAR + 16)
			p = f->at[lo] - NEAR - 16;
		for (hi = hi < lo ? lo : hi; hi + 1 < f->n && p + 16 >= f->at[hi + 1] - NEAR;)
			hi++;
		for (unsigned set = opcodes(p); set != 0; set &= set - 1)
			look_at(f, p + __builtin_ctz(set), lo, hi);
	}
}

static unsigned look(const struct library *lib, uint8_t **site)
{
	uint8_t *end = lib->text + lib->len - 7;
	struct found f = { .lib = lib };
	unsigned n = 0;

	for (uint8_t *p = lib->text; p < end && f.n < MAXFOUND; p++) {
		p = memchr(p, 0xb8, (size_t)(end - p));
		if (p == NULL)
			break;
		if (is_site(p))
			f.at[f.n++] = p;
	}
	look_around(&f);
	for (unsigned i = 0; i < f.n; i++)
		look_closely(&f, f.at[i]);
	for (unsigned i = 0; i < f.n && n < MAXSITES; i++)
		if (!f.inside[i])
			site[n++] = f.at[i];
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
