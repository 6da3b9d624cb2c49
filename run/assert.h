/* SPDX-License-Identifier: BSD-2-Clause */
/* Assertions of the runtime, above all about held locks: checked unless NDEBUG is defined. */
#ifndef QUIRE_RUN_ASSERT_H
#define QUIRE_RUN_ASSERT_H

#include <quire/machine.h>

#ifndef NDEBUG
#define HOST_STR2(x) #x
#define HOST_STR(x) HOST_STR2(x)
#define HOST_ASSERT(e) ((e) ? (void)0 : mach_panic(__FILE__ ":" HOST_STR(__LINE__) ": " #e))
#else
#define HOST_ASSERT(e) ((void)sizeof(e))
#endif
#endif
