/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers that C and assembly share; cpu.h asserts that they are right. */
#define CPU_KSTACK 0
#define CPU_SP 8
#define CPU_T0 16
#define CPU_OVERFLOW 24
#define TF_PC 256
#define TF_STATUS 264
#define TF_CAUSE 272
#define TF_ADDR 280
#define TF_BYTES 288
#define STATUS_SIE 0x2
#define STATUS_SPP 0x100
#define LOG_STACK_BYTES 14
