/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sites at which the C library makes the intercepted system calls: `mov $N,%eax; syscall`,
 * seven bytes, or fourteen where other instructions stand between the two. A site is left out if a branch nearby leads into it. Bytes that look like a branch
 * may be the middle of another instruction. So bytes before the entry of execve() do not count:
 * they belong to another function, which does not branch into this one; and the most frequent such
 * instruction is recognised. (Of the 34 sites of Debian 12's library one is left out: in
 * tcgetattr(), which is not needed.)
 *
 * Searching a megabyte of code takes longer than the rest of a program's start, and the programs of
 * a family usually have the same library. So the first program notes the sites that it found in the
 * family's memory, with the library's build id; other programs use the note. No program waits:
 * while the note is being written, or if the note is of another library, a program searches itself.
 * The note is not trusted: the bytes at each noted site are compared.
 */
#include "run/sites.h"
#include "run/calls.h"

#include <emmintrin.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>

/* The build id among the notes of a segment. */
static void build_id(const uint8_t *p, size_t len, uint8_t *id)
{
	while (len >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr nh;
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

void sites_take_object(struct library *lib, const struct elf_object *o, const uint8_t *image)
{
	for (unsigned i = 0; i < o->nphdr; i++) {
		const Elf64_Phdr *ph = &o->phdr[i];
		const uint8_t *at =
		    image != NULL ? image + ph->p_offset : (const uint8_t *)(o->base + ph->p_vaddr);

		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) != 0 && lib->text == NULL) {
			lib->text = (uint8_t *)(uintptr_t)at;
			lib->len = ph->p_memsz;
		} else if (ph->p_type == PT_NOTE) {
			build_id(at, ph->p_filesz, lib->id);
		}
	}
	lib->entry = elf_symbol(o, "execve");
}

/* distance from the exported function within which the end of a thread is searched */
#define WINDOW 8192

/*
 * The end of a thread is `mov $60,%edx`, and soon after, at the start of a loop, `xor %edi,%edi;
 * mov %edx,%eax; syscall; jmp` back to the xor: the only branch leads to the first byte of the
 * site.
 */
static uint8_t *find_thread_exit(const struct library *lib, uint8_t *near_to)
{
	static const uint8_t number[] = { 0xba, SYS_exit, 0, 0, 0 },
			     loop[] = { 0x31, 0xff, 0x89, 0xd0, 0x0f, 0x05, 0xeb, 0xf8 };
	uint8_t *end = lib->text + lib->len - sizeof loop;

	if (near_to < lib->text || near_to >= end)
		return NULL;
	for (uint8_t *p = near_to - lib->text > WINDOW ? near_to - WINDOW : lib->text + 16;
	     p < end && p < near_to + WINDOW; p++)
		for (unsigned back = sizeof number; back < 16 && memcmp(p, loop, sizeof loop) == 0;
		     back++)
			if (memcmp(p - back, number, sizeof number) == 0)
				return p;
	return NULL;
}

bool sites_is_libc(const char *path)
{
	const char *base = strrchr(path, '/');

	return base != NULL && strncmp(base, "/libc.so", 8) == 0;
}

static int visit_object(const struct elf_object *o, void *arg)
{
	if (!sites_is_libc(o->name))
		return 0;
	struct library *lib = arg;

	sites_take_object(lib, o, NULL);
	lib->exits[0] = find_thread_exit(lib, elf_symbol(o, "__libc_start_main"));
	lib->exits[1] = find_thread_exit(lib, elf_symbol(o, "pthread_create"));
	return 1;
}

int sites_library(struct library *lib)
{
	return elf_each(visit_object, lib) != 0 && lib->text != NULL;
}

/*
 * The length of the site at p; 0: there is none. Two instructions may stand within a site:
 * `cmp %rsi,%r8; cmovbe %r8,%rsi`, in sched_getaffinity() and pthread_getaffinity_np().
 */
static size_t site_length(const uint8_t *p)
{
	static const uint8_t within[SITE_WITHIN] = { 0x49, 0x39, 0xf0, 0x49, 0x0f, 0x46, 0xf0 };
	size_t end = p[5] == 0x0f ? 5 : 5 + SITE_WITHIN;
	uint32_t nr;

	memcpy(&nr, p + 1, 4);
	if (p[0] != 0xb8 || !calls_at_site(nr) ||
	    (end > 5 && memcmp(p + 5, within, SITE_WITHIN) != 0))
		return 0;
	return p[end] == 0x0f && p[end + 1] == 0x05 ? end + 2 : 0;
}

uint8_t *sites_gather(uint8_t *site)
{
	uint8_t number[5];

	if (site_length(site) == SITE)
		return site;
	memcpy(number, site, sizeof number);
	memmove(site, site + sizeof number, SITE_WITHIN);
	memcpy(site + SITE_WITHIN, number, sizeof number);
	return site + SITE_WITHIN;
}

/*
 * distance from a site within which branches to it are searched: such a branch is in the same
 * function
 */
#define NEAR 8192
#define CLOSELY 160 /* distance within which short branches reach the site */
#define MAXFOUND (2 * MAXSITES)

/* The bytes that look like sites, in order of address. */
struct found {
	const struct library *lib;
	unsigned n;
	uint8_t *at[MAXFOUND];
	bool inside[MAXFOUND]; /* a branch leads into the site */
};

/*
 * Handles a branch at p to `to`: a nearby site that contains `to` behind its first byte is marked
 * as left out.
 */
static void note_branch(struct found *f, const uint8_t *p, const uint8_t *to)
{
	unsigned lo = 0, hi = f->n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (f->at[mid] < to)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo-- == 0 || to >= f->at[lo] + site_length(f->at[lo]) || p < f->at[lo] - NEAR ||
	    p >= f->at[lo] + NEAR)
		return;
	if (f->at[lo] != f->lib->entry || p >= f->at[lo] + SITE)
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

	for (const uint8_t *p = site - text > CLOSELY ? site - CLOSELY : text;
	     p < end && p < site + CLOSELY; p++)
		if (*p == 0xeb || ((*p & 0xf0) == 0x70 && !is_operand(p, f->lib->text)))
			note_branch(f, p, p + 2 + (int8_t)p[1]);
}

/*
 * Handles the long branch whose opcode ends at p, if its target lies among the sites from lo to hi.
 */
static void look_at(struct found *f, const uint8_t *p, unsigned lo, unsigned hi)
{
	int32_t rel;

	memcpy(&rel, p + 1, 4);
	const uint8_t *to = p + 5 + rel;
	if (to > f->at[lo] && to < f->at[hi] + SITE_LONGEST)
		note_branch(f, (*p & 0xfe) == 0xe8 ? p : p - 1, to);
}

/*
 * For each of the 16 bytes from p on one bit: may the byte be the last of a long branch's opcode?
 */
static unsigned branch_opcodes(const uint8_t *p)
{
	__m128i b = _mm_loadu_si128((const __m128i_u *)p),
		before = _mm_loadu_si128((const __m128i_u *)(p - 1));
	__m128i call =
	    _mm_cmpeq_epi8(_mm_and_si128(b, _mm_set1_epi8((char)0xfe)), _mm_set1_epi8((char)0xe8));
	__m128i cond = _mm_and_si128(
	    _mm_cmpeq_epi8(_mm_and_si128(b, _mm_set1_epi8((char)0xf0)), _mm_set1_epi8((char)0x80)),
	    _mm_cmpeq_epi8(before, _mm_set1_epi8(0x0f)));

	return (unsigned)_mm_movemask_epi8(_mm_or_si128(call, cond));
}

/* Handles every byte near any site once, as if an instruction began at each byte. */
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
		for (unsigned set = branch_opcodes(p); set != 0; set &= set - 1)
			look_at(f, p + __builtin_ctz(set), lo, hi);
	}
}

static unsigned search_sites(const struct library *lib, uint8_t **site)
{
	uint8_t *end = lib->text + lib->len - SITE_LONGEST;
	struct found f = { .lib = lib };
	unsigned n = 0;

	for (uint8_t *p = lib->text; p < end && f.n < MAXFOUND; p++) {
		p = memchr(p, 0xb8, (size_t)(end - p));
		if (p == NULL)
			break;
		if (site_length(p) != 0)
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

/* 0: there is no note of this library. */
static unsigned take_noted(const struct library *lib, const struct sites_note *note, uint8_t **site)
{
	if (atomic_load(&note->sn_state) != SITES_NOTED ||
	    memcmp(note->sn_id, lib->id, SITES_ID) != 0 || note->sn_len != lib->len ||
	    note->sn_n > MAXSITES)
		return 0;
	for (uint32_t i = 0; i < note->sn_n; i++) {
		if (note->sn_at[i] >= lib->len - SITE_LONGEST ||
		    site_length(lib->text + note->sn_at[i]) == 0)
			return 0;
		site[i] = lib->text + note->sn_at[i];
	}
	return note->sn_n;
}

unsigned sites_find(const struct library *lib, struct sites_note *note, uint8_t **site)
{
	static const uint8_t none[SITES_ID];
	uint32_t empty = SITES_EMPTY;
	unsigned n = take_noted(lib, note, site);

	if (n > 0)
		return n;
	n = search_sites(lib, site);
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
