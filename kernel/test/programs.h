/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by the files of the test program `programs`: checks, and the tests that programs_proc.c has. */
#ifndef QUIRE_KERNEL_PROGRAMS_H
#define QUIRE_KERNEL_PROGRAMS_H

#define PG 4096ul
#define MIB (1ul << 20)

extern int failed_line; /* of the first check of the running test that failed; 0: none */
#define CHECK(e)                                                                                   \
	do {                                                                                       \
		if (!(e) && failed_line == 0)                                                      \
			failed_line = __LINE__;                                                    \
	} while (0)

void vmsplice_moves_pages(void);
void maps_names_the_files(void);
void smaps_counts_what_is_there(void);
void proc_tells_of_memory(void);
void proc_quire_counts(void);
#endif
