/* SPDX-License-Identifier: BSD-2-Clause */
/* See slot.h. */
#include "far/slot.h"

#include <inttypes.h>
#include <stdio.h>

/* CRC-16/XMODEM, as the cluster specification has it. */
static unsigned crc_of(const char *p)
{
	unsigned crc = 0;

	for (; *p != '\0'; p++) {
		crc ^= (unsigned)(unsigned char)*p << 8;
		for (int i = 0; i < 8; i++)
			crc = (crc & 0x8000u) != 0 ? (crc << 1 ^ 0x1021u) & 0xffffu
						   : crc << 1 & 0xffffu;
	}
	return crc;
}

unsigned far_slot_of(uint64_t unit)
{
	char tag[24];

	(void)snprintf(tag, sizeof tag, "%" PRIu64, unit);
	return crc_of(tag) % FAR_SLOTS;
}
