/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's asynchronous I/O, for the store's own files: contexts and requests. */
#ifndef QUIRE_STORE_POOL_AIO_H
#define QUIRE_STORE_POOL_AIO_H

#include <linux/aio_abi.h>
#include <stdint.h>

#define POOL_AIO_MOST 8u /* requests that are sent together */

void pool_aio_prepare(
    struct iocb *, int write, int fd, void *mem, uint64_t at, uint32_t n, uint64_t data);
/* returns how many requests the kernel took */
uint32_t pool_aio_send(uint64_t aio, struct iocb *, uint32_t n);
#endif
