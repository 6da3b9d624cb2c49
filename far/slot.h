/* SPDX-License-Identifier: BSD-2-Clause */
/* The slots of a Redis Cluster: each key belongs to a slot, and each slot to a master. */
#ifndef QUIRE_FAR_SLOT_H
#define QUIRE_FAR_SLOT_H

#include <stdint.h>

#define FAR_SLOTS 16384u

/* The slot of the key whose hash tag is that unit's number, in decimal. */
unsigned far_slot_of(uint64_t unit);
#endif
