/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef QUIRE_CLI_OFFER_H
#define QUIRE_CLI_OFFER_H
#include <stdbool.h>
#include <stdint.h>

/*
 * Prints a line for each thing of the kernel's that is used if it is there, with what it costs to do without. features: of the
 * fault descriptors that new_fd() makes; it answers -1 if there is none.
 */
void cli_print_offers(uint64_t features, int (*new_fd)(void));
#endif
