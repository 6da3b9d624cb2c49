/* SPDX-License-Identifier: BSD-2-Clause */
/* The model and the operations that run beside it: see model_test.c. */
#include "tests/vm/model.h"
#include "tests/vm/script.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

vaddr_t window_base;
volatile uint64_t *progress;

static const uint8_t zeroes[VM_PAGESIZE];

_Noreturn void __attribute__((format(printf, 1, 2))) fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "FAIL at operation %" PRIu64 ": ", *progress);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	_exit(1);
}

uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t draw(struct test *t) { return t->rnd = mix(t->rnd); }
unsigned below(struct test *t, unsigned n) { return (unsigned)((draw(t) >> 20) % n); }
bool chance(struct test *t, unsigned one_in) { return below(t, one_in) == 0; }
vaddr_t va_of(unsigned page) { return BASE + vm_ptob(page); }

/* Failures by a temporary shortage: the operation must have changed nothing. */
bool refused(struct test *t, enum vm_err err)
{
	/* with one translation a frame, two locks of one page exclude each other */
	if (err == VM_RETRY && t->opt->linux_like) {
		t->refused++;
		return true;
	}
	if (err == VM_NOMEM || err == VM_NOSWAP || err == VM_LIMIT ||
	    (t->injecting && err == VM_IO)) {
		t->refused++;
		return true;
	}
	return false;
}

void report(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "check: %s\n", text);
}

static void mpage_rele(struct mpage *p)
{
	if (p != NULL && --p->ref == 0)
		free(p);
}

static struct mpage *mpage_new(const uint8_t *from)
{
	struct mpage *p = malloc(sizeof(*p));

	p->ref = 1;
	p->freed = false;
	memcpy(p->b, from, VM_PAGESIZE);
	return p;
}

void slot_clear(struct slot *s)
{
	mpage_rele(s->priv);
	if (s->obj != NULL && --s->obj->ref == 0) {
		for (unsigned i = 0; i < NPAGES; i++)
			mpage_rele(s->obj->page[i]);
		free(s->obj);
	}
	memset(s, 0, sizeof(*s));
}

static const uint8_t *slot_bytes(struct test *t, const struct slot *s)
{
	if (s->kind == K_SHARED)
		return s->obj->page[s->idx] == NULL ? zeroes : s->obj->page[s->idx]->b;
	if (s->kind == K_SHFILE || (s->kind == K_PRIVFILE && s->priv == NULL))
		return t->file[s->file].b + vm_ptob(s->idx);
	return s->priv == NULL ? zeroes : s->priv->b;
}

static uint8_t *slot_writable(struct test *t, struct slot *s)
{
	struct mpage **pp = s->kind == K_SHARED ? &s->obj->page[s->idx] : &s->priv, *old = *pp;

	if (s->kind == K_SHFILE)
		return t->file[s->file].b + vm_ptob(s->idx);
	if (old == NULL || old->ref > 1) {
		*pp = mpage_new(slot_bytes(t, s));
		(*pp)->freed = old != NULL && old->freed; /* a copy of the contents at that time */
		mpage_rele(old);
	}
	return (*pp)->b;
}

struct mpage *mpage_own(struct test *t, struct slot *s)
{
	(void)slot_writable(t, s);
	return slot_page(s);
}

static enum vm_err slot_expect(struct test *t, const struct slot *s, unsigned prot)
{
	if (s->kind == K_NONE)
		return VM_NOMAP;
	if ((s->prot & prot) != prot)
		return VM_PROT;
	if ((s->kind == K_SHFILE || s->kind == K_PRIVFILE) &&
	    vm_ptob(s->idx) >= t->file[s->file].size && s->priv == NULL)
		return VM_EOF;
	return VM_OK;
}

struct space *pick(struct test *t)
{
	struct space *sp = &t->sp[below(t, NSPACES)];

	return sp->as == NULL ? NULL : sp;
}

void pick_range(struct test *t, unsigned max, unsigned *lo, unsigned *n)
{
	*n = 1 + below(t, max);
	*lo = below(t, NPAGES - *n + 1);
}

bool range_all(const struct space *sp, unsigned lo, unsigned n, bool mapped)
{
	for (unsigned i = lo; i < lo + n; i++)
		if ((sp->slot[i].kind != K_NONE) != mapped)
			return false;
	return true;
}

bool range_pinned(const struct space *sp, unsigned lo, unsigned n)
{
	for (unsigned i = lo; i < lo + n; i++)
		if (sp->slot[i].wired || sp->slot[i].soft)
			return true;
	return false;
}

static bool range_soft(const struct space *sp, unsigned lo, unsigned n)
{
	for (unsigned i = lo; i < lo + n; i++)
		if (sp->slot[i].soft)
			return true;
	return false;
}

/* ---- operations ---- */
static void op_map(struct test *t)
{
	static const unsigned prots[] = { PROT_R | PROT_W, PROT_R | PROT_W, PROT_R | PROT_W, PROT_R,
		0, PROT_R | PROT_X };
	struct space *sp = &t->sp[below(t, NSPACES)];
	enum kind kind = (enum kind)(K_PRIVATE + (below(t, 8) < 4 ? 0 : below(t, 4)));
	struct segvn_args a = { 0 };
	struct mobj *obj = NULL;
	unsigned lo, n, file = below(t, NFILES), foff = below(t, FILE_PAGES / 2);
	enum vm_err err;

	pick_range(t, chance(t, 4) ? 64 : 16, &lo, &n);
	a.sa_prot = prots[below(t, 6)];
	a.sa_maxprot = chance(t, 8) ? a.sa_prot | PROT_R : PROT_R | PROT_W | PROT_X;
	a.sa_flags = (kind >= K_SHARED ? SEGVN_SHARED : 0) | (chance(t, 8) ? SEGVN_NORESERVE : 0);
	a.sa_advice = chance(t, 4) ? ADV_SEQUENTIAL : ADV_NORMAL;
	if (kind == K_PRIVFILE || kind == K_SHFILE) {
		if (foff + n > FILE_PAGES)
			n = FILE_PAGES - foff;
		a.sa_vnode = t->file[file].vp;
		a.sa_off = vm_ptob(foff);
	}
	if (sp->as == NULL) {
		const struct mach_caps *caps = mach_caps(t->mach);

		err = as_alloc(t->vm, caps->mc_user_min, caps->mc_user_max, &sp->as);
		if (err != VM_OK) {
			sp->as = NULL;
			if (!refused(t, err))
				fail("as_alloc: %s", vm_err_name(err));
			return;
		}
	}
	err = as_map(sp->as, va_of(lo), vm_ptob(n), segvn_create, &a);
	if (!range_all(sp, lo, n, false)) {
		if (err != VM_EXIST)
			fail("as_map over a mapping: %s", vm_err_name(err));
		return;
	}
	if (err != VM_OK) {
		if (!refused(t, err))
			fail("as_map: %s", vm_err_name(err));
		return;
	}
	if (kind == K_SHARED) {
		obj = calloc(1, sizeof(*obj));
		obj->ref = n;
	}
	for (unsigned i = 0; i < n; i++)
		sp->slot[lo + i] = (struct slot){ .kind = kind,
			.prot = a.sa_prot,
			.maxprot = a.sa_maxprot,
			.file = file,
			.idx = kind == K_SHARED ? i : foff + i,
			.obj = obj };
}

static void op_unmap(struct test *t)
{
	struct space *sp = pick(t);
	unsigned lo, n;
	enum vm_err err;

	pick_range(t, chance(t, 4) ? 96 : 12, &lo, &n);
	if (sp == NULL)
		return;
	err = as_unmap(sp->as, va_of(lo), vm_ptob(n));
	if (range_soft(sp, lo, n)) {
		if (err != VM_LOCKED && !refused(t, err))
			fail("as_unmap of a soft-locked range: %s", vm_err_name(err));
		return;
	}
	if (err != VM_OK) {
		if (!refused(t, err))
			fail("as_unmap: %s", vm_err_name(err));
		return;
	}
	for (unsigned i = lo; i < lo + n; i++)
		slot_clear(&sp->slot[i]);
}

/* Reads the state of a page from the system after a change that stopped half-way. */
static void resync_prot(struct space *sp, unsigned i)
{
	struct slot *s = &sp->slot[i];

	if (s->kind == K_NONE)
		return;
	s->prot = 0;
	for (unsigned bit = 1; bit <= PROT_X; bit <<= 1)
		if (as_checkprot(sp->as, va_of(i), VM_PAGESIZE, bit) == VM_OK)
			s->prot |= bit;
}

static void op_setprot(struct test *t)
{
	static const unsigned prots[] = { PROT_R | PROT_W, PROT_R, 0, PROT_R | PROT_W | PROT_X };
	struct space *sp = pick(t);
	unsigned lo, n, prot = prots[below(t, 4)], i;
	enum vm_err err, want = VM_OK;

	pick_range(t, 24, &lo, &n);
	if (sp == NULL || range_soft(sp, lo, n))
		return;
	err = as_setprot(sp->as, va_of(lo), vm_ptob(n), prot);
	for (i = lo; i < lo + n && want == VM_OK; i++) {
		const struct slot *s = &sp->slot[i];

		want = s->kind == K_NONE ? VM_NOMAP : prot & ~s->maxprot ? VM_ACCESS : VM_OK;
	}
	if (err == VM_OK && want == VM_OK) {
		for (i = lo; i < lo + n; i++)
			sp->slot[i].prot = prot;
		return;
	}
	if (err == VM_OK || (want == VM_OK && !refused(t, err)) ||
	    (want != VM_OK && err != VM_NOMAP && err != VM_ACCESS && !refused(t, err)))
		fail("as_setprot: %s, expected %s", vm_err_name(err), vm_err_name(want));
	for (i = lo; i < lo + n; i++)
		resync_prot(sp, i);
}

static unsigned pick_len(struct test *t)
{
	return chance(t, 16) ? 1 + below(t, 3 * VM_PAGESIZE) : 1 + below(t, 32);
}

/* A place to access: mostly near what is mapped, so that most accesses get through. */
static vaddr_t pick_place(struct test *t, const struct space *sp)
{
	unsigned page = below(t, NPAGES);

	for (unsigned i = 0; i < 8 && sp->slot[page].kind == K_NONE; i++)
		page = below(t, NPAGES);
	return va_of(page) + (chance(t, 8) ? VM_PAGESIZE - 8 : below(t, VM_PAGESIZE));
}

/* The file's private mappings on a machine that copies on reference may keep an older version. */
static bool loose(const struct test *t, const struct slot *s)
{
	return (t->opt->linux_like || s->maybe) && s->kind == K_PRIVFILE && s->priv == NULL;
}

/*
 * An access or lock that failed for lack of memory may have copied the page already, on which no
 * caller may rely.
 */
static void check_err(
    struct test *t, const char *what, struct space *sp, vaddr_t at, enum vm_err err, unsigned prot)
{
	uint64_t page = (at - BASE) >> VM_PAGESHIFT;
	enum vm_err want =
	    at < BASE || page >= NPAGES ? VM_NOMAP : slot_expect(t, &sp->slot[page], prot);

	if (err == want && err != VM_OK)
		return;
	if (!refused(t, err))
		fail("%s space %td page %" PRIu64 ": %s, expected %s", what, sp - t->sp, page,
		    vm_err_name(err), vm_err_name(want));
	if (page < NPAGES && (prot & PROT_W) != 0)
		sp->slot[page].maybe = true;
}

static uint64_t readable(
    struct test *t, const struct space *sp, vaddr_t va, uint64_t len, unsigned prot)
{
	uint64_t n = 0;

	while (n < len) {
		uint64_t page = (va + n - BASE) >> VM_PAGESHIFT;

		if (page >= NPAGES || slot_expect(t, &sp->slot[page], prot) != VM_OK)
			break;
		n += VM_PAGESIZE - ((va + n) & VM_PAGEMASK);
	}
	return n < len ? n : len;
}

static void compare(
    struct test *t, const struct space *sp, vaddr_t va, const uint8_t *got, uint64_t len)
{
	for (uint64_t n = 0; n < len;) {
		uint64_t page = (va + n - BASE) >> VM_PAGESHIFT, off = (va + n) & VM_PAGEMASK,
			 k = VM_PAGESIZE - off;
		const struct slot *s = &sp->slot[page];

		if (k > len - n)
			k = len - n;
		freed_seen(s->kind == K_NONE ? NULL : slot_page(s), off, got + n, k);
		if (!loose(t, s) && memcmp(slot_bytes(t, s) + off, got + n, k) != 0) {
			uint64_t i = 0;

			while (slot_bytes(t, s)[off + i] == got[n + i])
				i++;
			fail("space %td page %" PRIu64 " (kind %d) offset %" PRIu64
			     ": read %02x, expected %02x",
			    sp - t->sp, page, (int)s->kind, off + i, got[n + i],
			    slot_bytes(t, s)[off + i]);
		}
		n += k;
	}
}

void read_and_compare(struct test *t, struct space *sp, vaddr_t va, uint64_t len)
{
	static uint8_t buf[4 * VM_PAGESIZE];
	uint64_t done = 0, want = readable(t, sp, va, len, PROT_R);
	enum vm_err err = sim_read(t->mach, sp->as, below(t, NCPUS), va, buf, len, &done);

	if (err != VM_OK)
		check_err(t, "read", sp, va + done, err, PROT_R);
	if (done > want)
		fail("read got %" PRIu64 " bytes, expected a fault after %" PRIu64, done, want);
	compare(t, sp, va, buf, done);
}

static void op_read(struct test *t)
{
	struct space *sp = pick(t);

	if (sp != NULL) {
		vaddr_t va = pick_place(t, sp);

		read_and_compare(t, sp, va, pick_len(t));
	}
}

/*
 * For operations that must succeed in the end, as the model would not know the contents otherwise.
 * Memory may be so short that they never succeed; then another space is destroyed, as by an
 * out-of-memory killer.
 */
static void insist(struct test *t, const struct space *sp, const char *what, enum vm_err err)
{
	if (!refused(t, err))
		fail("%s: %s", what, vm_err_name(err));
	if (++t->starved % 50 != 0)
		return;
	for (unsigned k = 0; k < NSPACES; k++) {
		if (t->sp[k].as == NULL || &t->sp[k] == sp)
			continue;
		space_free(&t->sp[k]);
		return;
	}
	if (t->starved > 100000)
		fail("%s: %s, and nobody else is left", what, vm_err_name(err));
}

static void read_back(struct test *t, struct space *sp, unsigned page, uint8_t *buf)
{
	enum vm_err err;

	while ((err = as_copyin(sp->as, va_of(page), buf, VM_PAGESIZE)) != VM_OK) {
		if (err == VM_NOTSUP || err == VM_PROT)
			err = sim_read(t->mach, sp->as, 0, va_of(page), buf, VM_PAGESIZE, NULL);
		if (err == VM_OK)
			return;
		insist(t, sp, "read back", err);
	}
}

/* After a write to a page whose earlier contents the model could not know: learn them. */
static void learn(struct test *t, struct space *sp, unsigned page, bool was_loose)
{
	uint8_t buf[VM_PAGESIZE];

	if (!was_loose)
		return;
	read_back(t, sp, page, buf);
	memcpy(slot_writable(t, &sp->slot[page]), buf, VM_PAGESIZE);
}

static void apply_write(
    struct test *t, struct space *sp, vaddr_t va, const uint8_t *from, uint64_t len)
{
	for (uint64_t n = 0; n < len;) {
		uint64_t page = (va + n - BASE) >> VM_PAGESHIFT, off = (va + n) & VM_PAGEMASK,
			 k = VM_PAGESIZE - off;
		struct slot *s = &sp->slot[page];
		bool was_loose = loose(t, s), freed = slot_page(s) != NULL && slot_page(s)->freed;

		if (k > len - n)
			k = len - n;
		memcpy(slot_writable(t, s) + off, from + n, k);
		if (freed) {
			uint8_t buf[VM_PAGESIZE];

			read_back(t, sp, (unsigned)page, buf);
			if (!freed_written(t, s, off, from + n, k, buf))
				fail("space %td page %" PRIu64
				     ": a freed page that was written is neither old nor zero",
				    sp - t->sp, page);
		}
		learn(t, sp, (unsigned)page, was_loose);
		n += k;
	}
}

static void op_write(struct test *t)
{
	static uint8_t buf[4 * VM_PAGESIZE];
	struct space *sp = pick(t);
	uint64_t len, done = 0, want;
	enum vm_err err;
	vaddr_t va;

	if (sp == NULL)
		return;
	va = pick_place(t, sp);
	len = pick_len(t);
	for (uint64_t i = 0, v = draw(t); i < len;
	     i++, v = v * 6364136223846793005ull + 1442695040888963407ull)
		buf[i] = (uint8_t)(v >> 56);
	want = readable(t, sp, va, len, PROT_W);
	err = sim_write(t->mach, sp->as, below(t, NCPUS), va, buf, len, &done);
	if (err != VM_OK)
		check_err(t, "write", sp, va + done, err, PROT_W);
	if (done > want)
		fail("write put %" PRIu64 " bytes, expected a fault after %" PRIu64
		     "; page %" PRIu64 ", kind %d",
		    done, want, (va + want - BASE) >> VM_PAGESHIFT,
		    (int)sp->slot[(va + want - BASE) >> VM_PAGESHIFT].kind);
	apply_write(t, sp, va, buf, done);
}

static void op_copyin(struct test *t)
{
	struct space *sp = pick(t);
	uint8_t buf[2 * VM_PAGESIZE];
	uint64_t len, want;
	enum vm_err err;
	vaddr_t va;

	if (sp == NULL)
		return;
	va = pick_place(t, sp);
	len = 1 + below(t, VM_PAGESIZE);
	want = readable(t, sp, va, len, PROT_R);
	for (unsigned i = (unsigned)((va - BASE) >> VM_PAGESHIFT);
	     i < NPAGES && va_of(i) < va + len; i++)
		sp->slot[i].maybe = true;
	err = as_copyin(sp->as, va, buf, len);
	if (err == VM_NOTSUP && t->opt->linux_like)
		return; /* needs the direct map */
	if (err == VM_OK && want < len)
		fail("as_copyin went over page %" PRIu64, (va + want - BASE) >> VM_PAGESHIFT);
	if (err == VM_OK)
		compare(t, sp, va, buf, len);
	else if (want == len)
		check_err(t, "copyin", sp, va, err, PROT_R);
	else
		check_err(t, "copyin", sp, va + want, err, PROT_R);
}

static void op_copyout(struct test *t)
{
	struct space *sp = pick(t);
	uint8_t buf[VM_PAGESIZE];
	uint64_t len;
	enum vm_err err;
	vaddr_t va;

	if (sp == NULL)
		return;
	va = pick_place(t, sp);
	len = VM_PAGESIZE - (va & VM_PAGEMASK); /* one page: on failure nothing is written */
	memset(buf, (int)(draw(t) & 0xff), len);
	err = as_copyout(sp->as, buf, va, len);
	if (err == VM_NOTSUP && t->opt->linux_like)
		return;
	if (err == VM_OK && readable(t, sp, va, len, PROT_W) < len)
		fail("as_copyout wrote where it may not");
	if (err == VM_OK)
		apply_write(t, sp, va, buf, len);
	else
		check_err(t, "copyout", sp, va, err, PROT_W);
}

static void fork_slot(struct slot *c, const struct slot *p)
{
	if (p->kind == K_NONE || p->inherit == INHERIT_NONE)
		return;
	*c = *p;
	c->wired = c->soft = false;
	if (p->inherit == INHERIT_ZERO)
		c->priv = NULL;
	if (c->priv != NULL)
		c->priv->ref++;
	if (c->obj != NULL)
		c->obj->ref++;
}

static void op_fork(struct test *t)
{
	struct space *sp = pick(t), *child = &t->sp[below(t, NSPACES)];
	enum vm_err err;

	if (sp == NULL || child->as != NULL)
		return;
	err = as_dup(sp->as, &child->as);
	if (err != VM_OK) {
		child->as = NULL;
		if (!refused(t, err))
			fail("as_dup: %s", vm_err_name(err));
		return;
	}
	for (unsigned i = 0; i < NPAGES; i++)
		fork_slot(&child->slot[i], &sp->slot[i]);
}

static void soft_drop(struct space *sp)
{
	enum vm_err err;

	if (sp->softn == 0)
		return;
	err = as_fault(sp->as, va_of(sp->softlo), vm_ptob(sp->softn), F_SOFTUNLOCK, S_OTHER);
	if (err != VM_OK)
		fail("softunlock: %s", vm_err_name(err));
	for (unsigned i = 0; i < sp->softn; i++)
		sp->slot[sp->softlo + i].soft = false;
	sp->softn = 0;
}

void space_free(struct space *sp)
{
	soft_drop(sp);
	as_free(sp->as);
	for (unsigned i = 0; i < NPAGES; i++)
		slot_clear(&sp->slot[i]);
	sp->as = NULL;
}

static void op_free(struct test *t)
{
	struct space *sp = pick(t);

	if (sp != NULL)
		space_free(sp);
}

static void op_dontneed(struct test *t)
{
	struct space *sp = pick(t);
	unsigned lo, n;
	enum vm_err err;
	bool gap = false;

	pick_range(t, 16, &lo, &n);
	if (sp == NULL || range_pinned(sp, lo, n))
		return;
	err = as_advise(sp->as, va_of(lo), vm_ptob(n), ADV_DONTNEED);
	for (unsigned i = lo; i < lo + n; i++) {
		struct slot *s = &sp->slot[i];

		gap |= s->kind == K_NONE;
		if (s->kind == K_PRIVATE || s->kind == K_PRIVFILE) {
			mpage_rele(s->priv);
			s->priv = NULL;
			s->maybe = false;
		}
	}
	if (err != (gap ? VM_NOMAP : VM_OK))
		fail("ADV_DONTNEED: %s", vm_err_name(err));
}

static void op_advise(struct test *t)
{
	static const enum advice advices[] = { ADV_NORMAL, ADV_RANDOM, ADV_SEQUENTIAL, ADV_WILLNEED,
		ADV_COLD, ADV_PAGEOUT, ADV_PAGEOUT, ADV_POPULATE_READ, ADV_POPULATE_WRITE };
	struct space *sp = pick(t);
	enum advice adv = advices[below(t, sizeof(advices) / sizeof(advices[0]))];
	unsigned lo, n;
	enum vm_err err;

	pick_range(t, 16, &lo, &n);
	if (sp == NULL)
		return;
	/* the operation would fix a version that the model does not know */
	if (adv == ADV_POPULATE_WRITE)
		for (unsigned i = lo; i < lo + n; i++)
			if (loose(t, &sp->slot[i]))
				return;
	err = as_advise(sp->as, va_of(lo), vm_ptob(n), adv);
	if (err != VM_OK && err != VM_NOTSUP && adv != ADV_POPULATE_READ &&
	    adv != ADV_POPULATE_WRITE && (err != VM_NOMAP || range_all(sp, lo, n, true)) &&
	    !refused(t, err))
		fail("as_advise %d: %s", (int)adv, vm_err_name(err));
	if (err == VM_OK && !range_all(sp, lo, n, true))
		fail("as_advise %d over a gap: ok", (int)adv);
	if (adv != ADV_POPULATE_WRITE)
		return;
	for (unsigned i = lo; i < lo + n && err == VM_OK; i++)
		(void)slot_writable(t, &sp->slot[i]); /* private file pages are copied now */
	for (unsigned i = lo; i < lo + n && err != VM_OK; i++) {
		/* its progress is unknown: a write of the present contents settles it */
		struct slot *s = &sp->slot[i];
		uint8_t b;

		if (s->kind != K_PRIVFILE || s->priv != NULL ||
		    slot_expect(t, s, PROT_R | PROT_W) != VM_OK)
			continue;
		b = slot_bytes(t, s)[0];
		while ((err = sim_write(t->mach, sp->as, 0, va_of(i), &b, 1, NULL)) != VM_OK)
			insist(t, sp, "write after populate", err);
		(void)slot_writable(t, s);
		err = VM_NOMEM;
	}
}

static void op_lock(struct test *t)
{
	struct space *sp = pick(t);
	unsigned lo, n, wired = 0;
	enum vm_err err;

	pick_range(t, 6, &lo, &n);
	for (unsigned k = 0; k < NSPACES; k++)
		for (unsigned i = 0; i < NPAGES; i++)
			wired += t->sp[k].slot[i].wired || t->sp[k].slot[i].soft;
	if (sp == NULL || wired + n > t->opt->frames / 8)
		return;
	for (unsigned i = lo; i < lo + n; i++)
		if (loose(t, &sp->slot[i]) || slot_expect(t, &sp->slot[i], PROT_R) != VM_OK)
			return;
	err = as_lock(sp->as, va_of(lo), vm_ptob(n));
	if (err == VM_OK) {
		for (unsigned i = lo; i < lo + n; i++) {
			sp->slot[i].wired = true;
			sp->slot[i].maybe = true;
			if (sp->slot[i].kind == K_PRIVFILE && (sp->slot[i].prot & PROT_W) &&
			    sp->slot[i].priv == NULL) {
				uint8_t b = slot_bytes(
				    t, &sp->slot[i])[0]; /* wiring may have copied it: settle it */

				while ((err = sim_write(
					    t->mach, sp->as, 0, va_of(i), &b, 1, NULL)) != VM_OK)
					insist(t, sp, "write to a wired page", err);
				(void)slot_writable(t, &sp->slot[i]);
			}
		}
		return;
	}
	if (!refused(t, err))
		fail("as_lock: %s", vm_err_name(err));
	for (unsigned i = lo; i < lo + n; i++)
		sp->slot[i].maybe = true;
}

static void op_unlock(struct test *t)
{
	struct space *sp = pick(t);
	unsigned lo, n;
	enum vm_err err;

	pick_range(t, 24, &lo, &n);
	if (sp == NULL || !range_all(sp, lo, n, true))
		return;
	err = as_unlock(sp->as, va_of(lo), vm_ptob(n));
	if (err != VM_OK) {
		if (!refused(t, err))
			fail("as_unlock: %s", vm_err_name(err));
		return;
	}
	for (unsigned i = lo; i < lo + n; i++)
		sp->slot[i].wired = false;
}

static void op_soft(struct test *t)
{
	struct space *sp = pick(t);
	unsigned lo, n, prot = chance(t, 2) ? PROT_W : PROT_R;
	enum vm_err err, want = VM_OK;

	pick_range(t, 4, &lo, &n);
	if (sp == NULL)
		return;
	if (sp->softn != 0) {
		soft_drop(sp);
		return;
	}
	for (unsigned i = lo; i < lo + n && want == VM_OK; i++) {
		const struct slot *s = &sp->slot[i];

		if (loose(t, s) || (s->kind != K_PRIVATE && t->opt->linux_like))
			return;
		want = slot_expect(t, s, prot);
	}
	for (unsigned i = lo; i < lo + n && prot == PROT_R; i++)
		sp->slot[i].maybe = true;
	err =
	    as_fault(sp->as, va_of(lo), vm_ptob(n), F_SOFTLOCK, prot == PROT_W ? S_WRITE : S_READ);
	for (unsigned i = lo; i < lo + n && prot == PROT_W; i++) {
		struct slot *s = &sp->slot[i];
		uint8_t b;

		if (s->kind != K_PRIVFILE || s->priv != NULL ||
		    slot_expect(t, s, PROT_R | PROT_W) != VM_OK)
			continue;
		b = slot_bytes(t, s)[0]; /* copied or not, settle it */
		for (enum vm_err e;
		     (e = sim_write(t->mach, sp->as, 0, va_of(i), &b, 1, NULL)) != VM_OK;)
			if (!refused(t, e))
				fail("write after softlock: %s", vm_err_name(e));
		(void)slot_writable(t, s);
	}
	if (err != VM_OK) {
		if (err != want && !refused(t, err))
			fail("softlock: %s, expected %s", vm_err_name(err), vm_err_name(want));
		return;
	}
	if (want != VM_OK)
		fail("softlock went over a page that gives %s", vm_err_name(want));
	sp->softlo = lo;
	sp->softn = n;
	for (unsigned i = lo; i < lo + n; i++)
		sp->slot[i].soft = true;
}

static void op_swapout(struct test *t)
{
	struct space *sp = pick(t);

	if (sp != NULL)
		(void)as_swapout(sp->as);
}

void check_file_page(struct test *t, const struct file *f, unsigned idx)
{
	uint64_t off = vm_ptob(idx), n = f->size - off;

	if (off >= f->size)
		return;
	if (n > VM_PAGESIZE)
		n = VM_PAGESIZE;
	if (memcmp(f->b + off, (const uint8_t *)sim_disk_data(f->vp) + off, n) != 0)
		fail("file %td page %u: not on disk after sync", f - t->file, idx);
}

static void op_sync(struct test *t)
{
	struct space *sp = pick(t);
	unsigned lo, n, flags = chance(t, 4) ? SYNC_INVAL : chance(t, 4) ? SYNC_ASYNC : 0;
	enum vm_err err;

	pick_range(t, 32, &lo, &n);
	if (sp == NULL || (flags == SYNC_INVAL && range_pinned(sp, lo, n)))
		return;
	err = as_sync(sp->as, va_of(lo), vm_ptob(n), flags);
	if (err == VM_LOCKED && flags == SYNC_INVAL)
		return; /* wired in another space */
	if (err != (range_all(sp, lo, n, true) ? VM_OK : VM_NOMAP) && !refused(t, err))
		fail("as_sync: %s", vm_err_name(err));
	for (unsigned i = lo; i < lo + n && err == VM_OK && flags == 0; i++)
		if (sp->slot[i].kind == K_SHFILE)
			check_file_page(t, &t->file[sp->slot[i].file], sp->slot[i].idx);
}

static void op_incore(struct test *t)
{
	struct space *sp = pick(t);
	uint8_t vec[64];
	unsigned lo, n;
	enum vm_err err;

	pick_range(t, 64, &lo, &n);
	if (sp == NULL)
		return;
	err = as_incore(sp->as, va_of(lo), vm_ptob(n), vec);
	if (err != (range_all(sp, lo, n, true) ? VM_OK : VM_NOMAP))
		fail("as_incore: %s", vm_err_name(err));
	for (unsigned i = 0; i < n && err == VM_OK; i++)
		if ((sp->slot[lo + i].wired || sp->slot[lo + i].soft) && !(vec[i] & INCORE_PRESENT))
			fail("page %u is locked but not in memory", lo + i);
}

static void op_move(struct test *t)
{
	struct space *sp = pick(t), *to = pick(t);
	unsigned lo, n, dst;
	enum vm_err err;

	pick_range(t, 12, &lo, &n);
	dst = below(t, NPAGES - n + 1);
	if (sp == NULL || to == NULL || range_pinned(sp, lo, n) ||
	    (sp == to && dst < lo + n && lo < dst + n))
		return;
	err = as_move(sp->as, va_of(lo), vm_ptob(n), to->as, va_of(dst));
	if (!range_all(to, dst, n, false) || !range_all(sp, lo, n, true)) {
		if (err != VM_EXIST && err != VM_NOMAP && err != VM_NOTSUP && !refused(t, err))
			fail("as_move: %s, expected an error of place", vm_err_name(err));
		return;
	}
	if (err == VM_NOTSUP)
		return;
	if (err != VM_OK) {
		if (!refused(t, err))
			fail("as_move: %s", vm_err_name(err));
		return;
	}
	memcpy(&to->slot[dst], &sp->slot[lo], n * sizeof(struct slot));
	memset(&sp->slot[lo], 0, n * sizeof(struct slot));
}

static void op_inherit(struct test *t)
{
	static const enum inherit kinds[] = { INHERIT_COPY, INHERIT_COPY, INHERIT_NONE,
		INHERIT_ZERO };
	struct space *sp = pick(t);
	enum inherit inh = kinds[below(t, 4)];
	unsigned lo, n;
	enum vm_err err;

	pick_range(t, 12, &lo, &n);
	if (sp == NULL)
		return;
	for (unsigned i = lo; i < lo + n; i++)
		if (sp->slot[i].kind == K_NONE ||
		    (inh == INHERIT_ZERO && sp->slot[i].kind != K_PRIVATE))
			return;
	err = as_inherit(sp->as, va_of(lo), vm_ptob(n), inh);
	if (err != VM_OK) {
		/* by segments: which were done cannot be asked; set back, which needs no more memory than there was */
		if (!refused(t, err))
			fail("as_inherit: %s", vm_err_name(err));
		while ((err = as_inherit(sp->as, va_of(lo), vm_ptob(n), INHERIT_COPY)) != VM_OK)
			insist(t, sp, "as_inherit back", err);
		inh = INHERIT_COPY;
	}
	for (unsigned i = lo; i < lo + n; i++)
		sp->slot[i].inherit = inh;
}

static void op_query(struct test *t)
{
	struct space *sp = pick(t);
	unsigned len = 1 + below(t, 24), mapped = 0, run = 0, i;
	struct as_usage u;
	enum vm_err err;
	vaddr_t at = 0;

	if (sp == NULL)
		return;
	err = as_gap(sp->as, vm_ptob(len), VM_PAGESIZE, va_of(0), va_of(NPAGES), false, &at);
	for (i = 0; i < NPAGES && run < len; i++)
		run = sp->slot[i].kind == K_NONE ? run + 1 : 0;
	if (run == len ? err != VM_OK || at != va_of(i - len) : err != VM_NOMEM)
		fail("as_gap of %u pages: %s at %" PRIx64, len, vm_err_name(err), at);
	for (i = 0; i < NPAGES; i++)
		mapped += sp->slot[i].kind != K_NONE;
	as_usage(sp->as, &u);
	if (u.au_size != vm_ptob(mapped))
		fail("as_usage: %" PRIu64 " bytes, expected %u pages", u.au_size, mapped);
}

static const struct {
	struct script_op op;
	void (*fn)(struct test *);
} ops[] = {
	{ { "read", 60 }, op_read },
	{ { "write", 70 }, op_write },
	{ { "copyin", 6 }, op_copyin },
	{ { "copyout", 6 }, op_copyout },
	{ { "map", 24 }, op_map },
	{ { "unmap", 12 }, op_unmap },
	{ { "setprot", 10 }, op_setprot },
	{ { "fork", 4 }, op_fork },
	{ { "free", 2 }, op_free },
	{ { "dontneed", 6 }, op_dontneed },
	{ { "advfree", 5 }, op_advfree },
	{ { "transfer", 6 }, op_transfer },
	{ { "remap", 4 }, op_remap },
	{ { "truncate", 2 }, op_truncate },
	{ { "advise", 8 }, op_advise },
	{ { "lock", 4 }, op_lock },
	{ { "unlock", 6 }, op_unlock },
	{ { "soft", 6 }, op_soft },
	{ { "swapout", 1 }, op_swapout },
	{ { "sync", 4 }, op_sync },
	{ { "incore", 4 }, op_incore },
	{ { "move", 6 }, op_move },
	{ { "inherit", 4 }, op_inherit },
	{ { "query", 4 }, op_query },
	{ { "shrink", 4 }, op_shrink },
	{ { "swapdev", 5 }, op_swapdev },
	{ { "relocate", 4 }, op_relocate },
	{ { "memory", 1 }, op_memory },
	{ { "promote", 2 }, op_promote },
};
#define NOPS (sizeof(ops) / sizeof(ops[0]))

static size_t op_of(uint64_t word) { return script_draw(word, ops, NOPS, sizeof(ops[0])); }

void op_apply(struct test *t, uint64_t word)
{
	t->rnd = t->word = word;
	ops[op_of(word)].fn(t);
}

const char *op_name(uint64_t word) { return ops[op_of(word)].op.so_name; }
