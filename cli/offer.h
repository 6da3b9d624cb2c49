/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef QUIRE_CLI_OFFER_H
#define QUIRE_CLI_OFFER_H
#include <stdbool.h>
#include <stdint.h>

/*
 * Prints a line for each feature of the kernel that is used if it is there, with the cost of doing
 * without. features: of the fault descriptors that new_fd() makes; new_fd() returns -1 if it cannot
 * make one.
 */
void cli_print_offers(uint64_t features, int (*new_fd)(void));
#endif
