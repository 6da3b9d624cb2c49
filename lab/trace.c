/* SPDX-License-Identifier: BSD-2-Clause */
/* Traces in memory and in files: see lab.h. Page numbers are made dense by a hash with open addressing. */
#include "lab.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

void trace_init(struct trace *t) { memset(t, 0, sizeof *t); }

void trace_free(struct trace *t)
{
	free(t->t_page);
	free(t->t_write);
	free(t->t_addr);
	free(t->t_hash);
	trace_init(t);
}

static bool grow_array(void **p, size_t n, size_t size)
{
	void *q = reallocarray(*p, n, size);

	if (q != NULL)
		*p = q;
	return q != NULL;
}

static uint32_t *hash_bucket(const struct trace *t, uint64_t page)
{
	uint64_t h = (page ^ page >> 29) * 0xbf58476d1ce4e5b9u;
	uint32_t i = (uint32_t)(h >> 32) & (t->t_hashcap - 1);

	while (t->t_hash[i] != NONE && t->t_addr[t->t_hash[i]] != page)
		i = (i + 1) & (t->t_hashcap - 1);
	return &t->t_hash[i];
}

uint32_t trace_find(const struct trace *t, uint64_t page)
{
	return t->t_hashcap == 0 ? NONE : *hash_bucket(t, page);
}

static bool grow_hash(struct trace *t)
{
	uint32_t cap = t->t_hashcap == 0 ? 1024 : t->t_hashcap * 2;

	if (cap == 0 || !grow_array((void **)&t->t_hash, cap, sizeof *t->t_hash))
		return false;
	t->t_hashcap = cap;
	memset(t->t_hash, 0xff, sizeof *t->t_hash * cap);
	for (uint32_t i = 0; i < t->t_npages; i++)
		*hash_bucket(t, t->t_addr[i]) = i;
	return true;
}

bool trace_add(struct trace *t, uint64_t page, bool write)
{
	uint32_t *b;

	if (t->t_len == t->t_cap) {
		uint64_t cap = t->t_cap == 0 ? 4096 : t->t_cap * 2;

		if (!grow_array((void **)&t->t_page, cap, sizeof *t->t_page) ||
		    !grow_array((void **)&t->t_write, cap, 1))
			return false;
		t->t_cap = cap;
	}
	if (t->t_npages >= t->t_hashcap / 2 && !grow_hash(t))
		return false;
	b = hash_bucket(t, page);
	if (*b == NONE) {
		if (t->t_npages == t->t_addrcap) {
			uint32_t cap = t->t_addrcap == 0 ? 1024 : t->t_addrcap * 2;

			if (!grow_array((void **)&t->t_addr, cap, sizeof *t->t_addr))
				return false;
			t->t_addrcap = cap;
		}
		t->t_addr[t->t_npages] = page;
		*b = t->t_npages++;
	}
	t->t_page[t->t_len] = *b;
	t->t_write[t->t_len++] = write;
	return true;
}

/* ---- files ---- */
static bool read_binary(struct trace *t, FILE *f, char *why, size_t whylen)
{
	uint64_t w[1024];
	size_t got;

	while ((got = fread(w, 1, sizeof w, f)) > 0) {
		if (got % 8 != 0) {
			(void)snprintf(why, whylen,
			    "the file ends within a word, after %" PRIu64
			    " references: it is cut short",
			    t->t_len + got / 8);
			return false;
		}
		for (size_t i = 0; i < got / 8; i++) {
			if (!trace_add(t, w[i] >> 1, (w[i] & 1) != 0)) {
				(void)snprintf(why, whylen, "not enough memory for the trace");
				return false;
			}
		}
	}
	return true;
}

static bool read_line(struct trace *t, char *line, uint64_t number, char *why, size_t whylen)
{
	char *p = line + strspn(line, " \t\r\n"), *end;
	uint64_t page;
	bool write;

	p[strcspn(p, "#\r\n")] = '\0';
	if (*p == '\0')
		return true;
	page = strtoull(p, &end, 0);
	write = end[strspn(end, " \t")] == 'w';
	end += strspn(end, " \t");
	if (*p < '0' || *p > '9' || (*end != '\0' && end[1 + strspn(end + 1, " \t")] != '\0') ||
	    (*end != '\0' && *end != 'w' && *end != 'r')) {
		(void)snprintf(why, whylen,
		    "line %" PRIu64 " is not a page number with r or w: '%.40s'", number, p);
		return false;
	}
	if (!trace_add(t, page, write)) {
		(void)snprintf(why, whylen, "not enough memory for the trace");
		return false;
	}
	return true;
}

static bool read_text(
    struct trace *t, FILE *f, const char *first, size_t nfirst, char *why, size_t whylen)
{
	char line[256];
	uint64_t number = 0;
	size_t n = nfirst;
	int c = 0;

	memcpy(line, first, nfirst);
	for (size_t i = 0; i < nfirst; i++) {
		/* lines that end within the bytes read so far */
		char *nl = memchr(line, '\n', n);

		if (nl == NULL)
			break;
		size_t len = (size_t)(nl - line);
		char one[16];

		memcpy(one, line, len);
		one[len] = '\0';
		if (!read_line(t, one, ++number, why, whylen))
			return false;
		n -= len + 1;
		memmove(line, nl + 1, n);
	}
	while (c != EOF) {
		while ((c = getc(f)) != EOF && c != '\n')
			if (n < sizeof line - 1)
				line[n++] = (char)c;
		line[n] = '\0';
		if (!read_line(t, line, ++number, why, whylen))
			return false;
		n = 0;
	}
	return true;
}

static bool is_text(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != '\n' && p[i] != '\t' && p[i] != '\r' && (p[i] < ' ' || p[i] > '~'))
			return false;
	return true;
}

bool trace_read(struct trace *t, FILE *f, enum trace_format format, char *why, size_t whylen)
{
	char magic[8];
	size_t n;
	bool ok;

	if (format == TRACE_RAW) {
		ok = read_binary(t, f, why, whylen);
	} else {
		n = fread(magic, 1, sizeof magic, f);
		if (n == sizeof magic && memcmp(magic, TRACE_MAGIC, sizeof magic) == 0) {
			ok = read_binary(t, f, why, whylen);
		} else if (is_text(magic, n)) {
			ok = read_text(t, f, magic, n, why, whylen);
		} else {
			(void)snprintf(why, whylen,
			    "neither a trace of Quire nor text: use --raw if it is words without a header");
			ok = false;
		}
	}
	if (ok && ferror(f)) {
		(void)snprintf(why, whylen, "it cannot be read");
		ok = false;
	}
	if (ok && t->t_len == 0) {
		(void)snprintf(why, whylen, "it has no references");
		ok = false;
	}
	return ok;
}

static bool write_reference(FILE *f, uint64_t w, bool text)
{
	if (text)
		return fprintf(f, "%" PRIu64 "%s\n", w >> 1, (w & 1) != 0 ? " w" : "") >= 0;
	return fwrite(&w, 8, 1, f) == 1;
}

bool trace_write(const struct trace *t, FILE *f, bool text)
{
	if (!text && fwrite(TRACE_MAGIC, 1, 8, f) != 8)
		return false;
	for (uint64_t i = 0; i < t->t_len; i++) {
		uint64_t w = t->t_addr[t->t_page[i]] << 1 | t->t_write[i];

		if (!write_reference(f, w, text))
			return false;
	}
	return fflush(f) == 0;
}
