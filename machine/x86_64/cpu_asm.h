/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers that C and assembly share; cpu.h asserts that they are right. */
#define AP_BASE 0x8000 /* where other processors start: a page below 1 MiB */
#define CPU_SELF 0
#define CPU_KSTACK 8
#define CPU_SCRATCH 16
#define TF_CS 144
#define TRAP_SYSCALL 256
#define KERNEL_CS 8
#define USER_SS 0x1b
#define USER_CS 0x23
