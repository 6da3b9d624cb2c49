/* SPDX-License-Identifier: BSD-2-Clause */
/* The report at the end of quire run: for people, and for programs. */
#include "cli.h"

#include <sys/wait.h>

#include "store/pool.h"

#define BEYOND                                                                                     \
	64u /* so many pages beyond the budget get no line: the pool takes them before frames make
	     * room */

static double pages_mb(uint64_t pages) { return (double)pages * 4096 / 1e6; }

/* Pages that are mapped as they are read ahead are used without a fault, so their use cannot be counted. */
static void print_foresight(FILE *f, const struct family_counters *c)
{
	unsigned long long used = c->prefetch_used, wasted = c->prefetch_wasted;

	fprintf(f, "  foresight   %llu pages read ahead", (unsigned long long)c->prefetched);
	if (used + wasted != 0)
		fprintf(f, ", %llu of them used, %llu evicted unused", used, wasted);
	fprintf(f, "; %llu refaults\n", (unsigned long long)c->refaults);
}

/* Prints the costs that the kernel alone would not have had: faults, pages moved, the time waited
 * for them and where they went. */
static void print_paging(FILE *f, const struct run_totals *t, const struct pool_stats *ps)
{
	char s1[24], s2[24], s3[24];

	fprintf(f,
	    "  faults      %llu; pages: %llu first touched, %llu from the store, %llu rescued in memory, %llu copied on write\n",
	    (unsigned long long)t->c.faults, (unsigned long long)t->c.faults_zero,
	    (unsigned long long)t->c.faults_swap, (unsigned long long)t->c.faults_rescue,
	    (unsigned long long)t->c.faults_cow);
	fprintf(f, "  paged       %.1f MB in, %.1f MB out, %.1f MB dropped clean\n",
	    pages_mb(t->c.pages_in), pages_mb(t->c.pages_out), pages_mb(t->c.clean_drop));
	if (t->c.prefetched != 0 || t->c.refaults != 0)
		print_foresight(f, &t->c);
	fprintf(f, "  waited      %.2f s for pages, of %.2f s\n", (double)t->c.wait_ns / 1e9,
	    (double)t->wall_ns / 1e9);
	fprintf(f,
	    "  stored      %s of pages at most, in %s of memory and %s of the file; packed %.2fx over the run\n",
	    cli_human(ps->pages * 4096, s1), cli_human(ps->mem_held, s2),
	    cli_human(ps->file_bytes, s3), ps->ratio);
	fprintf(f, "  file        %.1f MB written, %.1f MB read\n", (double)ps->bytes_written / 1e6,
	    (double)ps->bytes_read / 1e6);
}

void cli_report_text(FILE *f, const struct family *fam, const void *pool,
    const struct run_totals *t, uint64_t pool_limit, bool color)
{
	const struct pool_stats *ps = pool;
	const char *b = color ? "\033[1m" : "", *e = color ? "\033[0m" : "";
	char s1[24], s2[24];

	fprintf(f, "%squire: %s needed, %s given%s\n", b, cli_human(t->need_peak * 4096, s1),
	    cli_human(t->budget * 4096, s2), e);
	fprintf(f, "  memory      %s in use at most, of which the pool may take %s\n",
	    cli_human(atomic_load(&fam->fam_charged_peak) * 4096, s1), cli_human(pool_limit, s2));
	if (atomic_load(&t->c.faults) == 0 && atomic_load(&t->c.adopted) == 0) {
		fprintf(f, "  faults      none: %s fit and ran on the kernel's own memory\n",
		    cli_noted(t->unhosted_peak) ? "all that is hosted" : "the program");
	} else {
		print_paging(f, t, ps);
	}
	if (cli_noted(t->unhosted_peak))
		fprintf(f,
		    "  not hosted  %s resident at most, in addition to --memory: see CAVEATS in quire(1)\n",
		    cli_human(t->unhosted_peak * 4096, s1));
	if (atomic_load(&fam->fam_refused) != 0)
		fprintf(f,
		    "  refused     %llu calls: all that memory and swap have room for is promised (raise --swap PATH:SIZE)\n",
		    (unsigned long long)fam->fam_refused);
	if (atomic_load(&fam->fam_tables) != 0)
		fprintf(f,
		    "  refused     %llu calls: no memory for tables, or too many mappings (raise --memory)\n",
		    (unsigned long long)fam->fam_tables);
	if (ps->bytes_far != 0)
		fprintf(f,
		    "  far         %s there at most, %s written and read; %llu segments of 64 KiB moved there from the file\n",
		    cli_human(ps->far_bytes, s1), cli_human(ps->bytes_far, s2),
		    (unsigned long long)ps->sunk);
	if (atomic_load(&fam->fam_full) != 0)
		fprintf(f,
		    "  full        %llu touches of memory that is not reserved in full: SIGBUS (raise --swap PATH:SIZE)\n",
		    (unsigned long long)fam->fam_full);
	if (t->c.io_errors + ps->write_errors != 0 || t->c.lost_pages != 0)
		fprintf(f, "  errors      %llu swap I/O errors, %llu pages lost\n",
		    (unsigned long long)(t->c.io_errors + ps->write_errors),
		    (unsigned long long)t->c.lost_pages);
	if (atomic_load(&fam->fam_beyond) > BEYOND)
		fprintf(f,
		    "  beyond      %s more than --memory at most, taken by pinned memory, the least memory of many processes, a filter of system calls, or the pool\n",
		    cli_human(atomic_load(&fam->fam_beyond) * 4096, s1));
	if (t->turned_away != 0)
		fprintf(f,
		    "  intruders   %llu greetings were turned away: they lacked the token, or named another process's slot\n",
		    (unsigned long long)t->turned_away);
	if (t->left != 0)
		fprintf(f, "  left        %u processes of the program go on under the same limit\n",
		    t->left);
}

void cli_report_json(FILE *f, const struct family *fam, const void *pool,
    const struct run_totals *t, uint64_t pool_limit)
{
	const struct pool_stats *ps = pool;

	fprintf(f,
	    "{\"wall_s\":%.6f,\"budget_bytes\":%llu,\"need_peak_bytes\":%llu,\"charged_peak_bytes\":%llu,\"pool_limit_bytes\":%llu",
	    (double)t->wall_ns / 1e9, (unsigned long long)t->budget * 4096,
	    (unsigned long long)t->need_peak * 4096,
	    (unsigned long long)fam->fam_charged_peak * 4096, (unsigned long long)pool_limit);
	if (WIFEXITED(t->status))
		fprintf(f, ",\"exit_status\":%d", WEXITSTATUS(t->status));
	else
		fprintf(f, ",\"signal\":%d", WTERMSIG(t->status));
#define X(n) fprintf(f, ",\"" #n "\":%llu", (unsigned long long)t->c.n);
	FAMILY_COUNTERS(X)
#undef X
	fprintf(f,
	    ",\"unhosted_peak_bytes\":%llu,\"pool_pages\":%llu,\"refused\":%llu,\"refused_tables\":%llu,\"full\":%llu,\"pool_mem_bytes\":%llu,\"pool_mem_pages\":%llu,\"pool_ratio\":%.3f,\"file_bytes\":%llu,"
	    "\"file_written_bytes\":%llu,\"file_read_bytes\":%llu,\"packed_behind\":%llu,\"young_hits\":%llu,\"dense\":%llu,"
	    "\"pool_target_bytes\":%llu,\"pool_peak_bytes\":%llu,"
	    "\"far_bytes\":%llu,\"far_moved_bytes\":%llu,\"far_sunk\":%llu,"
	    "\"write_errors\":%llu,\"beyond_bytes\":%llu,\"left\":%u,\"turned_away\":%llu}\n",
	    (unsigned long long)t->unhosted_peak * 4096, (unsigned long long)ps->pages,
	    (unsigned long long)fam->fam_refused, (unsigned long long)fam->fam_tables,
	    (unsigned long long)fam->fam_full, (unsigned long long)ps->mem_held,
	    (unsigned long long)ps->mem_pages, ps->ratio, (unsigned long long)ps->file_bytes,
	    (unsigned long long)ps->bytes_written, (unsigned long long)ps->bytes_read,
	    (unsigned long long)ps->packed_behind, (unsigned long long)ps->young_hits,
	    (unsigned long long)ps->dense, (unsigned long long)ps->mem_target,
	    (unsigned long long)ps->mem_most, (unsigned long long)ps->far_bytes,
	    (unsigned long long)ps->bytes_far, (unsigned long long)ps->sunk,
	    (unsigned long long)ps->write_errors, (unsigned long long)fam->fam_beyond * 4096,
	    t->left, (unsigned long long)t->turned_away);
}
