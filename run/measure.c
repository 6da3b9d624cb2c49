/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The exact amount of resident memory of this process that is not hosted: the resident memory by
 * the kernel's count (/proc/self/status), less the present pages of tracked ranges, of the arena,
 * and of the runtime. The supervisor also measures from outside (cli/unhosted.c), but gets only a
 * lower bound, and may miss a short-lived process.
 *
 * Called when the process ends, and once at its start to measure the runtime itself. Opens a file
 * for a moment, so it is never called while threads of the program may use descriptor numbers.
 */
#include "run/engine.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "machine/linux/linux.h"
#include "run/host.h"
#include "run/text.h"
#include "sys/linux/sys.h"

/* The number of KiB behind that word, in pages; 0: the word is not there. */
static uint64_t find_size(const char *text, const char *word)
{
	size_t n = strlen(word);

	while (*text != '\0' && strncmp(text, word, n) != 0)
		text++;
	if (*text == '\0')
		return 0;
	for (text += n; *text == ' ' || *text == '\t';)
		text++;
	return text_number(text) / 4;
}

struct resident {
	uint64_t anon, shmem;
};

static struct resident read_resident(void)
{
	char text[4096];
	struct resident r = { 0 };
	long fd = sys_call4(
	    SYS_openat, AT_FDCWD, (long)"/proc/thread-self/status", O_RDONLY | O_CLOEXEC, 0);
	long n = fd >= 0 ? sys_call3(SYS_read, fd, (long)text, sizeof text - 1) : 0;

	if (fd >= 0)
		(void)sys_call1(SYS_close, fd);
	if (n > 0) {
		text[n] = '\0';
		r.anon = find_size(text, "RssAnon:");
		r.shmem = find_size(text, "RssShmem:");
	}
	return r;
}

/* Pages of the tracked ranges that are the program's in memory, while the kernel serves them. */
static uint64_t count_tracked(struct host *h)
{
	struct piece p;
	uint64_t n = 0;

	for (uint64_t a = 0; host_next_piece(h, a, HOST_MAX, &p); a = p.end)
		n += linux_range_resident(h->h_mach, p.base, vm_btop(p.end - p.base));
	return n;
}

static uint64_t less_or_zero(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

void host_measure_start(struct host *h) { h->h_before = read_resident().anon; }

void host_measure_own(struct host *h)
{
	atomic_store(&h->h_me->fp_own, less_or_zero(read_resident().anon, h->h_before));
}

void host_measure(struct host *h)
{
	struct resident r = read_resident();
	uint64_t ours = vm_btop(vm_page_round(h->h_told.fw_store_size)), hosted, all;
	struct vm_usage u;

	vm_usage(h->h_vm, &u);
	hosted = h->h_managed ? u.vu_frames - u.vu_free : count_tracked(h);
	all = less_or_zero(r.anon, hosted + atomic_load(&h->h_me->fp_own)) +
	    less_or_zero(r.shmem,
		linux_range_resident(h->h_mach, (uint64_t)h->h_stored.f_mem, ours) +
		    vm_btop(vm_page_round(sizeof(struct family))));
	family_raise(&h->h_fam->fam_unhosted_peak, all);
}
