/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Extended attributes: no file system here has them. The calls answer what those of such a file system do on Linux: programs (ls, cp,
 * tar) ask for access lists and go on without, but report ENOSYS. Arguments are not looked at. Locks: none.
 */
#include "kernel/sys/calls.h"
#include "kernel/proc/proc.h"

#define REFUSE(name)                                                                               \
	int64_t sys_##name(const uint64_t *a)                                                      \
	{                                                                                          \
		(void)a;                                                                           \
		return -EOPNOTSUPP;                                                                \
	}
REFUSE(setxattr)
REFUSE(lsetxattr)
REFUSE(fsetxattr)
REFUSE(getxattr)
REFUSE(lgetxattr)
REFUSE(fgetxattr)
REFUSE(listxattr)
REFUSE(llistxattr)
REFUSE(flistxattr)
REFUSE(removexattr)
REFUSE(lremovexattr)
REFUSE(fremovexattr)
