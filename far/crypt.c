/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Encryption of what leaves the machine: AES-256-XTS of OpenSSL, one sector of FAR_SECTOR bytes at a time, the sector's
 * number as the tweak (IEEE 1619). The key is made at start, kept in locked memory that no core file has, and wiped at the
 * end: whoever has the disk or the server afterwards has noise. XTS does not prove that nothing was changed; the store's own
 * sums, which stay in this machine's memory, do: what an outsider alters decrypts to noise, and the sum is wrong.
 */
#include "far/far.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define KEY_BYTES 64 /* two AES-256 keys: one for the data, one for the tweak */

struct far_crypt {
	unsigned char key[KEY_BYTES];
	EVP_CIPHER_CTX *seal,
	    *unseal; /* OpenSSL's copies of the key schedule; cleared when they are freed */
};

static void *no(char why[FAR_WHY], const char *what)
{
	(void)snprintf(why, FAR_WHY, "encryption: %s", what);
	return NULL;
}

struct far_crypt *far_crypt_new(char why[FAR_WHY])
{
	struct far_crypt *c =
	    mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (c == MAP_FAILED)
		return no(why, "no memory");
	(void)madvise(c, sizeof *c, MADV_DONTDUMP);
	(void)madvise(c, sizeof *c, MADV_WIPEONFORK);
	if (mlock(c, sizeof *c) != 0) {
		(void)munmap(c, sizeof *c);
		return no(why, "the key's memory cannot be locked (ulimit -l)");
	}
	if (getrandom(c->key, sizeof c->key, 0) != (ssize_t)sizeof c->key) {
		far_crypt_free(c);
		return no(why, "the kernel gives no random numbers");
	}
	c->seal = EVP_CIPHER_CTX_new();
	c->unseal = EVP_CIPHER_CTX_new();
	if (c->seal == NULL || c->unseal == NULL ||
	    EVP_EncryptInit_ex(c->seal, EVP_aes_256_xts(), NULL, c->key, NULL) != 1 ||
	    EVP_DecryptInit_ex(c->unseal, EVP_aes_256_xts(), NULL, c->key, NULL) != 1) {
		far_crypt_free(c);
		return no(why, "OpenSSL has no AES-256-XTS");
	}
	return c;
}

void far_crypt_free(struct far_crypt *c)
{
	if (c == NULL)
		return;
	EVP_CIPHER_CTX_free(c->seal);
	EVP_CIPHER_CTX_free(c->unseal);
	explicit_bzero(c->key, sizeof c->key);
	(void)munmap(c, sizeof *c);
}

static void tweak_of(uint64_t sector, unsigned char iv[16])
{
	memset(iv, 0, 16);
	for (unsigned i = 0; i < 8; i++)
		iv[i] = (unsigned char)(sector >> 8 * i);
}

bool far_seal(struct far_crypt *c, void *buf, uint32_t len, uint64_t at)
{
	unsigned char iv[16], *p = buf;

	for (uint32_t i = 0; i < len; i += FAR_SECTOR) {
		int n = 0;

		tweak_of((at + i) / FAR_SECTOR, iv);
		if (EVP_EncryptInit_ex(c->seal, NULL, NULL, NULL, iv) != 1 ||
		    EVP_EncryptUpdate(c->seal, p + i, &n, p + i, FAR_SECTOR) != 1 ||
		    n != (int)FAR_SECTOR)
			return false;
	}
	return true;
}

bool far_unseal(struct far_crypt *c, void *buf, uint32_t len, uint64_t at)
{
	unsigned char iv[16], *p = buf;

	for (uint32_t i = 0; i < len; i += FAR_SECTOR) {
		int n = 0;

		tweak_of((at + i) / FAR_SECTOR, iv);
		if (EVP_DecryptInit_ex(c->unseal, NULL, NULL, NULL, iv) != 1 ||
		    EVP_DecryptUpdate(c->unseal, p + i, &n, p + i, FAR_SECTOR) != 1 ||
		    n != (int)FAR_SECTOR)
			return false;
	}
	return true;
}
