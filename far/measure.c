/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See measure.h. Contents are checked, so an engine that loses or confuses data is found here and
 * not by a program.
 */
#include "far/measure.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SINGLES 200u /* reads of a page, one after another */
/* a pass that took less is repeated: so short a time says little about an engine */
#define PASS_NS 250000000u

struct run {
	struct far_device *d;
	uint32_t under_way, units, wrong;
	int err;
	struct req {
		struct far_io io;
		uint64_t unit;
		uint64_t began;
		bool busy;
	} * req;
	uint32_t depth;
	bool encrypt;
	uint64_t single_ns[SINGLES];
};

/* contents of every sector behind its first word: half of the bytes repeat, as in real memory */
static char pattern[FAR_SECTOR];

static void make_pattern(void)
{
	for (uint32_t i = 0; i < FAR_SECTOR; i += 8) {
		uint64_t x = i % 32 >= 16 ? 7 : i * 0xbf58476d1ce4e5b9u ^ i >> 7;

		memcpy(pattern + i, &x, 8);
	}
}

/*
 * The first word of a sector names its place: cheap to make and to check, compared with the
 * measured work.
 */
static void stamp_sectors(char *buf, uint32_t len, uint64_t at)
{
	for (uint32_t i = 0; i < len; i += FAR_SECTOR) {
		uint64_t here = at + i;

		memcpy(buf + i, &here, 8);
	}
}

static bool is_stamped(const char *buf, uint32_t len, uint64_t at)
{
	bool right = true;

	for (uint32_t i = 0; i < len; i += FAR_SECTOR) {
		uint64_t here = at + i;

		right &= memcmp(buf + i, &here, 8) == 0 &&
		    memcmp(buf + i + FAR_SECTOR - 64, pattern + FAR_SECTOR - 64, 64) == 0;
	}
	return right;
}

static void on_done(struct far_io *io, int err)
{
	struct req *q = (struct req *)io;
	struct run *r = io->arg;

	r->under_way--;
	q->busy = false;
	if (err != 0)
		r->err = err;
	if (err == 0 && io->op == FAR_READ)
		r->wrong += !is_stamped(io->buf, io->len, io->at);
}

static void ask_unit(struct run *r, struct req *q, enum far_op op, uint64_t at, uint32_t len)
{
	void *buf = q->io.buf;

	q->io = (struct far_io){
		.op = op, .at = at, .len = len, .buf = buf, .done = on_done, .arg = r
	};
	if (op == FAR_WRITE) {
		if (r->encrypt) /* the last write encrypted the buffer in place */
			for (uint32_t i = 0; i < len; i += FAR_SECTOR)
				memcpy((char *)buf + i, pattern, FAR_SECTOR);
		stamp_sectors(buf, len, at);
	}
	q->busy = true;
	r->under_way++;
	far_device_submit(r->d, &q->io);
}

/* Does that operation on all units, with `depth` requests under way. Returns the time in ns. */
static uint64_t run_pass(struct run *r, enum far_op op)
{
	uint64_t began = far_now();
	uint32_t next = 0;

	while ((next < r->units || r->under_way > 0) && r->err == 0) {
		for (uint32_t i = 0; i < r->depth && next < r->units; i++)
			if (!r->req[i].busy)
				ask_unit(r, &r->req[i], op, (uint64_t)next++ * FAR_UNIT, FAR_UNIT);
		(void)far_device_wait(r->d, -1, -1);
	}
	return far_now() - began;
}

/* Repeats a pass for at least PASS_NS; returns the average time of a pass in ns. */
static uint64_t run_passes(struct run *r, enum far_op op)
{
	uint64_t took = 0, passes = 0;

	while (took < PASS_NS && r->err == 0) {
		took += run_pass(r, op);
		passes++;
	}
	return passes > 0 ? took / passes : 0;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Returns the median time of reads of one page, one after another, in random order. */
static uint64_t single_reads(struct run *r)
{
	uint64_t rnd = 1;

	for (unsigned i = 0; i < SINGLES && r->err == 0; i++) {
		uint64_t began = far_now();

		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		ask_unit(r, &r->req[0], FAR_READ,
		    (rnd >> 33) % (r->units * (FAR_UNIT / FAR_SECTOR)) * FAR_SECTOR, FAR_SECTOR);
		while (r->under_way > 0)
			(void)far_device_wait(r->d, -1, -1);
		r->single_ns[i] = far_now() - began;
	}
	qsort(r->single_ns, SINGLES, sizeof *r->single_ns, by_value);
	return r->single_ns[SINGLES / 2];
}

static bool make_run(struct run *r, const struct far_measure_plan *p)
{
	make_pattern();
	r->depth = p->depth > 0 ? p->depth : 1;
	r->req = calloc(r->depth, sizeof *r->req);
	for (uint32_t i = 0; r->req != NULL && i < r->depth; i++) {
		if ((r->req[i].io.buf = aligned_alloc(FAR_SECTOR, FAR_UNIT)) == NULL)
			return false;
		for (uint32_t k = 0; k < FAR_UNIT; k += FAR_SECTOR)
			memcpy((char *)r->req[i].io.buf + k, pattern, FAR_SECTOR);
	}
	return r->req != NULL;
}

/*
 * The operations that far_measure() times, in this order: passes over all units, and reads of one
 * page.
 */
enum { NEW, OVER, READ, SINGLE, TIMES };

static int print_result(const struct run *r, const struct far_url *u, const char *why, bool json,
    const uint64_t ns[TIMES])
{
	double mib = (double)r->units * FAR_UNIT / 1048576.0, speed[SINGLE];
	double page_us = (double)ns[SINGLE] / 1000;

	for (unsigned i = 0; i < SINGLE; i++)
		speed[i] = mib * 1e9 / (double)(ns[i] + 1);

	if (r->err != 0 || r->wrong != 0) {
		if (r->wrong != 0)
			why = "it gave back other bytes than were written";
		else if (r->err == -ENOSPC)
			why = "it is full";
		fprintf(stderr, "quire: %s: %s\n", u->text, why);
		return 1;
	}
	if (json)
		printf("{\"url\": \"%s\", \"page_us\": %.1f, \"write_mib_s\": %.1f, "
		       "\"rewrite_mib_s\": %.1f, \"read_mib_s\": %.1f, \"depth\": %u}\n",
		    u->text, page_us, speed[NEW], speed[OVER], speed[READ], r->depth);
	else
		printf(
		    "%s: a page comes back in %.0f us; %u requests of 64 KiB at a time: %.0f MiB/s "
		    "written, %.0f MiB/s written over, %.0f MiB/s read\n",
		    u->text, page_us, r->depth, speed[NEW], speed[OVER], speed[READ]);
	return 0;
}

int far_measure(const struct far_url *u, const struct far_settings *set, bool encrypt,
    const struct far_measure_plan *p, bool json)
{
	struct far_settings s = *set;
	struct run r = { .encrypt = encrypt };
	struct far_crypt *crypt = NULL;
	char why[FAR_WHY] = "";
	const char *last = why;
	uint64_t ns[TIMES] = { 0 };
	int rc = 1;

	if (s.size == 0)
		s.size = (uint64_t)p->mib << 20;
	if ((encrypt && (crypt = far_crypt_new(why)) == NULL) ||
	    (r.d = far_device_open(far_engine(u->scheme), u, &s, crypt, why)) == NULL) {
		fprintf(stderr, "quire: %s: %s\n", u->text, why);
	} else if (!make_run(&r, p)) {
		fprintf(stderr, "quire: no memory\n");
	} else {
		uint64_t size = far_device_size(r.d);

		r.units = (uint32_t)((size < s.size ? size : s.size) / FAR_UNIT);
		ns[NEW] = run_pass(&r, FAR_WRITE);
		ns[OVER] = run_passes(&r, FAR_WRITE);
		ns[READ] = run_passes(&r, FAR_READ);
		ns[SINGLE] = single_reads(&r);
		(void)far_device_away(r.d, &last);
		rc = print_result(&r, u, last, json, ns);
	}
	if (r.d != NULL)
		far_device_close(r.d, true);
	for (uint32_t i = 0; r.req != NULL && i < r.depth; i++)
		free(r.req[i].io.buf);
	free(r.req);
	far_crypt_free(crypt);
	return rc;
}
