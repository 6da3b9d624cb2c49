/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A plugin for qemu-user that writes which pages an unmodified program references, as a trace of the lab (lab.h).
 * quire-lab trace runs it.
 *
 *	qemu-x86_64 -plugin quire-trace.so,out=FILE[,recent=K] PROGRAM
 *
 * A reference to one of the K pages referenced last (default 1) is left out, unless it is the first
 * write to that page. This makes files small, and for memories of more than K frames hardly changes
 * what a policy sees (nothing at all for LRU).
 *
 * QEMU's header for plugins is not in every distribution; the few declarations of its interface (version 1) are repeated
 * below, from its documentation. Locks: one mutex, as several threads of the program may run at
 * once.
 */
#include "lab.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
void qemu_plugin_register_vcpu_tb_trans_cb(
    uint64_t id, void (*)(uint64_t id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *,
    void (*)(unsigned cpu, uint32_t info, uint64_t va, void *), int flags, int rw, void *);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*)(uint64_t id, void *), void *);
bool qemu_plugin_mem_is_store(uint32_t info);
int qemu_plugin_install(uint64_t id, const struct qemu_info *, int argc, char **argv);
EXPORT int qemu_plugin_version = 1;

#define READS_AND_WRITES 3
#define RECENT_MAX 64u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *out;
static struct {
	uint64_t page;
	bool written;
} recent[RECENT_MAX]; /* the latest first */
static unsigned nrecent, keep = 1;

/* Is the page among the K recent pages? Moves or puts the page to the front. */
static bool note_recent(uint64_t page, bool store)
{
	bool known = false, written = store;
	unsigned i = 0;

	while (i < nrecent && recent[i].page != page)
		i++;
	if (i < nrecent) {
		known = recent[i].written || !store;
		written |= recent[i].written;
	} else if (nrecent < keep) {
		nrecent++;
	} else {
		i = nrecent - 1;
	}
	memmove(&recent[1], &recent[0], i * sizeof recent[0]);
	recent[0].page = page;
	recent[0].written = written;
	return known;
}

static void on_reference(unsigned cpu, uint32_t info, uint64_t va, void *arg)
{
	bool store = qemu_plugin_mem_is_store(info);
	uint64_t page = va >> VM_PAGESHIFT, word = page << 1 | store;

	pthread_mutex_lock(&lock);
	if (out != NULL && !note_recent(page, store) && fwrite(&word, sizeof word, 1, out) != 1) {
		fprintf(stderr, "quire-trace: the trace cannot be written: it ends here\n");
		out = NULL;
	}
	pthread_mutex_unlock(&lock);
}

static void on_translation(uint64_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);

	for (size_t i = 0; i < n; i++)
		qemu_plugin_register_vcpu_mem_cb(
		    qemu_plugin_tb_get_insn(tb, i), on_reference, 0, READS_AND_WRITES, NULL);
}

static void on_program_exit(uint64_t id, void *arg)
{
	pthread_mutex_lock(&lock);
	if (out != NULL && fclose(out) != 0)
		fprintf(stderr, "quire-trace: the trace cannot be written\n");
	out = NULL;
	pthread_mutex_unlock(&lock);
}

EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv)
{
	const char *name = NULL;

	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], "out=", 4) == 0)
			name = argv[i] + 4;
		else if (strncmp(argv[i], "recent=", 7) == 0)
			keep = (unsigned)strtoul(argv[i] + 7, NULL, 10);
	}
	if (keep < 1 || keep > RECENT_MAX) {
		fprintf(stderr, "quire-trace: recent= takes 1 to %u\n", RECENT_MAX);
		return -1;
	}
	if (name == NULL || (out = fopen(name, "wbe")) == NULL ||
	    fwrite(TRACE_MAGIC, 8, 1, out) != 1) {
		fprintf(
		    stderr, "quire-trace: cannot write %s\n", name != NULL ? name : "without out=");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	qemu_plugin_register_atexit_cb(id, on_program_exit, NULL);
	return 0;
}
