/* SPDX-License-Identifier: BSD-2-Clause */
/* See sanitizer.c. */
#ifndef QUIRE_RUN_SANITIZER_H
#define QUIRE_RUN_SANITIZER_H

/* Constructor time, before the process has joined the family. Returns if the program need not be executed once more. */
void sanitizer_start(char **argv, char **envp);
#endif
